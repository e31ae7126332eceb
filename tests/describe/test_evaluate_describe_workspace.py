"""Test the evaluation of writers over a workspace: hidden fields, writers, the command and its page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue import photo, write_manifest
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.errors import ColdstartError
from coldstart.store import Store

COLOURS, TYPES = ("red", "blue", "green", "black"), ("hat", "bag", "belt")
PROMPT = {"product": "describe_product", "video": "describe_video"}


def entries(folder: Path) -> list[dict[str, Any]]:
    """Twelve products, each of a colour and a type; titles name both, the seller's words the colour alone."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [(colour, kind) for colour in COLOURS for kind in TYPES]
    return [
        {
            "item_id": f"{colour}-{kind}",
            "title": f"The {colour} {kind} number {place}",
            "description": f"Something {colour} to wear on most days of the year.",
            "category": kind,
            "creator": "acme",
            "price": 10 + place,
            "attributes": {"colour": colour},
            "image": photo(folder / f"{place}.jpg", place).name,
        }
        for place, (colour, kind) in enumerate(every)
    ]


def settings(folder: Path) -> dict[str, Any]:
    return {
        "manifest": str(write_manifest(folder / "items.jsonl", entries(folder))),
        "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
        "attributes": {"default": {"colour": {"visual": True}, "type": {"from": "category"}}},
        "stages": {
            "ingest": {},
            "text": {"stage": "embed", "encoder": "fake:32", "input": "text"},
            "finetune": {"describe": {"generator": "fake", "min_items": 4}},
            "index": {},
        },
    }


def fitted(store: Store, *, generator: str = "fake") -> None:
    """An artifact as a fit leaves it, of nothing that was learnt but the values seen."""
    items = [f"{colour}-{kind}" for colour in COLOURS for kind in TYPES]
    table = pa.table(
        {
            "item_id": [*items, "gone"],
            "key": ["k"] * 13,
            "split": [*(["test"] * 6), *(["valid"] * 3), *(["train"] * 3), "train"],
            "group": [*range(12), 12],
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    values = {"default": {"colour": list(COLOURS), "type": list(TYPES)}}
    card = {"generator": generator, "values": values, "given": ["title"], "prompt": PROMPT}
    store.artifacts.save(
        "finetune.describe",
        "key",
        {"items.parquet": out.getvalue(), "card.json": json.dumps(card).encode()},
        {"settings": "s", "summary": "made by hand"},
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    workspace = coldstart.open(folder / "shop.workspace", create=True)
    workspace.run(settings(folder), only=["ingest"])
    fitted(Store(folder / "shop.workspace"))
    return folder / "shop.workspace"


def evaluated(uri: Path, **options: Any) -> dict[str, Any]:
    return coldstart.open(uri).evaluate_describe(writers=["base", "fake"], **options).to_dict()


def message(uri: Path, **options: Any) -> str:
    with pytest.raises(ColdstartError) as caught:
        coldstart.open(uri).evaluate_describe(**{"writers": ["base"], **options})
    return str(caught.value)


@pytest.mark.slow
def test_what_the_title_says_is_found_and_the_rest_is_the_truth(uri: Path) -> None:
    found = evaluated(uri)
    assert (found["split"], found["held_out"], found["given"]) == ("test", True, ["title"])
    assert found["note"] == "held out: no fit has seen these items, nor others of their groups"
    assert found["counts"] == {"items": 6, "groups": 6, "attributes": 12, "distractors": 0}
    assert found["writers"] == {"base": "fake", "fake": "fake"}
    own = found["measures"]["base"]
    assert own["valid"]["value"] == 1.0
    assert own["written"]["attributes"]["all"]["f1"]["value"] == 1.0  # the titles name colour and type
    assert own["checked"]["attributes"]["all"]["f1"]["value"] == 1.0
    assert own["checked"]["made_up"]["value"] == 0.0
    (change,) = found["differences"]
    assert (change["before"], change["after"]) == ("base", "fake")
    assert change["measures"]["checked"]["attributes"]["all"]["f1"]["value"] == 0.0


@pytest.mark.slow
def test_the_hidden_description_asks_where_the_title_is_shown(uri: Path) -> None:
    found = evaluated(uri)
    assert found["query"] == "description"
    gain = found["gain"]["text_to_item"]
    assert (gain["queries"], gain["gallery"]) == (6, 6)
    assert list(gain["contenders"])[:6] == ["given", "template", "base", "base unchecked", "fake", "fake unchecked"]
    assert ("given", "given + truth") in [(one["before"], one["after"]) for one in gain["differences"]]
    assert found["gain"]["item_to_item"] is None  # no two are of one colour and one type


def test_the_title_asks_where_it_is_hidden_and_what_is_shown_is_no_truth(uri: Path) -> None:
    found = evaluated(uri, given=["category", "creator"])
    assert found["query"] == "title"
    assert found["counts"]["attributes"] == 6  # the type stands in the category, which is shown
    example = found["examples"][0]
    assert set(example["given"]) == {"category", "creator", "type"}  # the type is read from the category
    assert set(example["hidden"]) == {"title", "description", "price"}
    assert list(example["truth"]) == ["colour"]
    assert found["gain"]["item_to_item"]["queries"] == 6  # three hats, bags and belts of each of two colours
    own = found["measures"]["base"]["written"]["attributes"]
    assert own["colour"]["recall"]["value"] == 0.0
    assert own["type"]["recall"] is None


def test_all_items_may_stand_in_the_index(uri: Path) -> None:
    found = evaluated(uri, gallery="all", limit=4)
    assert found["counts"] == {"items": 4, "groups": 4, "attributes": 8, "distractors": 8}
    gain = found["gain"]["text_to_item"]
    assert (gain["queries"], gain["gallery"]) == (4, 12)
    assert gain["contenders"]["truth"]["indexed"] == 12


def test_a_training_split_is_marked(uri: Path) -> None:
    found = evaluated(uri, split="valid")
    assert (found["held_out"], found["counts"]["items"]) == (False, 3)
    assert found["note"] == "not held out: the fit was stopped by these items"


def test_two_runs_agree(uri: Path) -> None:
    assert evaluated(uri) == evaluated(uri)


@pytest.mark.slow
def test_faults_name_the_value_and_the_next_step(uri: Path, tmp_path: Path) -> None:
    assert message(uri, split="dev") == "there is no split 'dev': choose one of train, valid, test"
    assert message(uri, gallery="some") == "there is no gallery 'some': choose one of held-out, all"
    assert message(uri, given=["titel"]) == (
        "evaluate.given='titel': it is none of title, description, category, tags, creator, transcript, screen_text, "
        "price, facts, picture"
    )
    everything = ["title", "description", "category", "tags", "creator", "price", "facts"]
    assert message(uri, given=everything) == (
        "all that is known of the items is shown (given: category, creator, description, facts, price, tags, title), "
        "so that nothing is hidden to evaluate by: name fewer fields with --given"
    )
    fresh = tmp_path / "fresh.workspace"
    coldstart.open(fresh, create=True).run(settings(tmp_path), only=["ingest"])
    assert message(fresh) == (
        f"no items are held out in workspace {fresh}: run a pipeline with describe.grounds.test_share, such as "
        f"product, or `coldstart finetune describe --workspace {fresh}`"
    )


def test_the_command_prints_the_measures_and_writes_the_page(uri: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "descriptions.html"
    arguments = ["evaluate", "describe", "-w", str(uri), "--generator", "base", "--limit", "5", "--out", str(page)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (
        "test: 5 items, given title; held out: no fit has seen these items, nor others of their groups" in done.output
    )
    assert (  # a list of two words is no summary: a plain sentence of the facts stands in
        "base: 0% kept as written, 100% some claims removed, 0% replaced by a text of the item, 0% rejected, "
        "0.0% of 10 true claims removed by the checks"
    ) in done.output
    assert "Text → item: 5 queries among 5 items, queried by the hidden description" in done.output
    assert f"page: {page}" in done.output
    assert "<title>Evaluation of descriptions</title>" in page.read_text("utf-8")


def test_as_json_it_is_the_report_alone(uri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "describe", "-w", str(uri), "--generator", "base", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["measures"]["base"]["items"] == 6
    assert list(tmp_path.iterdir()) == []
