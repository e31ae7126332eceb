"""Test the evaluation on items that the models of attributes hold out: its view, and texts that are stored already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalogue import photo, write_manifest

import coldstart
from coldstart.core import pipeline as pipelines
from coldstart.describe.attribute_values import read_predicted
from coldstart.describe.evaluate.held_out import find_held_out
from coldstart.describe.evaluate.workspace import load_item_evidence
from coldstart.describe.finetune.dataset import item_rows
from coldstart.generators.fake import Fake
from coldstart.store import Store
from coldstart.store.freshness import PipelineState

COLOURS, TYPES = ["red", "blue", "green", "black"], ["hat", "bag", "belt"]


def entries(folder: Path) -> list[dict[str, Any]]:
    """Ninety-six products whose titles alone name the colour; brands make one type each."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        {
            "item_id": f"p{place:02}",
            "title": f"Thing {place} in {COLOURS[place % 4]}",
            "category": TYPES[place % 3],
            "creator": f"{TYPES[place % 3]} makers",
            "attributes": {"colour": COLOURS[place % 4]},
            "image": photo(folder / f"{place}.jpg", place).name,
        }
        for place in range(96)
    ]


def settings(folder: Path, **write: Any) -> dict[str, Any]:
    return {
        "manifest": str(folder / "items.jsonl"),
        "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
        "attributes": {"default": {"colour": {"values": COLOURS}, "type": {"from": "category", "values": TYPES}}},
        "stages": {
            "ingest": {},
            "text": {"stage": "embed", "encoder": "fake:32", "input": "text"},
            "describe": {
                "grounds": {"min_items": 20, "test_share": 0.3, "sellers": "together", "given": ["creator"]},
                "attributes": {},
                "write": {"generator": "fake", "given": ["creator"], **write},
                "check": {},
            },
            "index": {},
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_manifest(folder / "items.jsonl", entries(folder))
    coldstart.open(folder / "shop.workspace", create=True).run(settings(folder))
    return folder


def evaluated(folder: Path, **options: Any) -> dict[str, Any]:
    return coldstart.open(folder / "shop.workspace").evaluate_describe(**options).to_dict()


@pytest.mark.slow
def test_without_a_fit_of_a_writer_the_pipelines_own_writer_is_evaluated(folder: Path) -> None:
    found = evaluated(folder)
    assert (found["split"], found["held_out"], found["given"]) == ("test", True, ["creator"])
    assert found["writers"] == {"fake": "fake"} and found["caveat"] == ""
    assert 15 < found["counts"]["items"] < 45
    own = found["measures"]["fake"]["checked"]["attributes"]
    assert own["type"]["recall"]["value"] == 1.0  # the brand knows it
    assert own["colour"]["stated"]["value"] == 0.0  # only titles name it


@pytest.mark.slow
def test_texts_of_the_same_view_are_not_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = evaluated(folder)["counts"]["items"]
    answered: list[int] = []
    generate = Fake.generate
    monkeypatch.setattr(
        Fake, "generate", lambda own, asked, how: answered.append(len(asked)) or generate(own, asked, how)
    )
    same = evaluated(folder)
    assert same["texts"] == {"fake": {"stored": items, "written": 0}} and not answered
    other = evaluated(folder, given=["creator", "tags", "title"])
    assert other["texts"] == {"fake": {"stored": 0, "written": items}} and sum(answered) == items
    assert other["measures"]["fake"]["checked"]["attributes"]["colour"]["recall"]["value"] == 1.0
    one_by_one = evaluated(folder, writers=["sentences"])
    assert one_by_one["texts"] == {"sentences": {"stored": 0, "written": items}}


@pytest.mark.slow
def test_a_hidden_title_is_hidden_from_the_models_of_attributes(folder: Path) -> None:
    store = Store(folder / "shop.workspace")
    pipeline = coldstart.open(folder / "shop.workspace").pipeline()
    held = find_held_out(store, pipeline)
    items = sorted(item for item, (part, _) in held.split.items() if part == "test")
    rows = item_rows(store, pipeline, held.stage, PipelineState(store, pipeline))

    def colours(given: list[str] | None) -> list[str]:
        found = load_item_evidence(store, pipeline, [rows[item] for item in items], given).seen
        return [value for item in items for value in found[item].get("colour", {})]

    assert colours(None) == [COLOURS[int(item[1:]) % 4] for item in items]
    assert colours(["creator"]) == []
    stored = {
        row["item_id"]: read_predicted({"predicted": row})
        for row in store.read("stage.describe.attributes").to_pylist()
    }
    assert not any(one.stated for item in items for one in stored[item].get("colour", ()))


@pytest.mark.slow
def test_a_writer_that_reads_titles_gets_facts_from_them(folder: Path, tmp_path: Path) -> None:
    from coldstart.store.fits import with_fits
    from coldstart.store.freshness import build

    def fields(**write: Any) -> set[str]:
        store = Store(folder / "shop.workspace")
        pipeline = with_fits(pipelines.load(settings(folder, **write)), store)
        return set(build(pipeline.stage("describe.attributes"), pipeline).item_fields)

    assert fields() == {"kind", "creator"}
    assert fields(given=None) == {"kind", "category", "creator", "title", "description"}


@pytest.mark.slow
def test_writers_of_an_evaluation_by_stages_get_the_facts_of_their_view(folder: Path) -> None:
    from coldstart.ablation.descriptions import write_descriptions
    from coldstart.core.progress import SilentProgress

    store = Store(folder / "shop.workspace")
    pipeline = coldstart.open(folder / "shop.workspace").pipeline()
    held = find_held_out(store, pipeline)
    rows = list(item_rows(store, pipeline, held.stage, PipelineState(store, pipeline)).values())[:3]
    writer = held.writer("sentences", pipeline, load_item_evidence(store, pipeline, []).rules)
    for given, words in ((["creator"], "hat"), (["creator", "title"], "red")):
        texts = write_descriptions(store, pipeline, "base", writer, given, rows, None, SilentProgress()).texts
        assert words in texts["p00"], texts["p00"]
