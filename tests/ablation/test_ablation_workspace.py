"""The ladder over a workspace of fake models: where its steps come from, what is missing, the command and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import photo, write_manifest
from typer.testing import CliRunner

import coldstart
from coldstart.ablation import workspace as ladder
from coldstart.ablation.inputs import recorded_costs
from coldstart.ablation.report import Cost
from coldstart.cli import app
from coldstart.engine.local import PassReport
from coldstart.errors import ColdstartError
from coldstart.generators import fake
from coldstart.store import Store
from coldstart.store.freshness import PipelineState

pytestmark = pytest.mark.slow

PROMPT = {"product": "describe_product", "video": "describe_video"}


GENRES = ("horror", "romance", "western", "comedy")
ITEMS, USERS = 96, 60
CHOICE = {"candidates": {"ridge": {"target": "users"}}, "dim": 8, "folds": 1, "weights": {"image": 1.0, "words": 1.0}}
WITHOUT: dict[str, Any] = {"candidates": {}}
"""Leaves the last step out, whose fits take the time."""


def entries(folder: Path) -> list[dict[str, Any]]:
    """Products of four genres: the seller's words tell which, title and picture do not."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        {
            "item_id": f"p{n:02d}",
            "title": f"Article {n * 7919 % 997}",
            "description": f"{GENRES[n % 4]} and again {GENRES[n % 4]}, through and through {GENRES[n % 4]}.",
            "category": GENRES[n % 4],
            "image": photo(folder / f"{n}.jpg", n).name,
        }
        for n in range(ITEMS)
    ]


def settings(folder: Path, **stages: Any) -> dict[str, Any]:
    return {
        "manifest": str(write_manifest(folder / "items.jsonl", entries(folder))),
        "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
        "attributes": {"default": {"genre": {"from": "category", "values": list(GENRES)}}},
        "stages": {
            "ingest": {},
            "image": {"stage": "embed", "encoder": "fake:32", "input": "image"},
            "text": {"stage": "embed", "encoder": "fake:64", "input": "text"},
            **stages,
            "index": {},
        },
    }


def people(path: Path) -> Path:
    """Everybody likes one genre, and meets something else now and then."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp,weight"]
    for user in range(USERS):
        own = [n for n in range(ITEMS) if n % 4 == user % 4]
        for n in [*rng.choice(own, 14, replace=False), *rng.choice(ITEMS, 4, replace=False)]:
            lines.append(f"u{user},p{n:02d},{1_600_000_000 + user * 100 + n},{5 if n % 4 == user % 4 else 2}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def filled(folder: Path, **stages: Any) -> Path:
    """A workspace in which all has run but what is tuned."""
    uri = folder / "shop.workspace"
    opened = coldstart.open(uri, create=True)
    opened.run(settings(folder, **stages), only=["ingest", "image", "text", *(stages.keys() - {"finetune"})])
    opened.ingest_interactions(people(folder / "people.csv"))
    return uri


def evaluated(uri: Path, *, progress: Any = None, **options: Any) -> dict[str, Any]:
    given = {"min_weight": 4.0, "choice": WITHOUT, "resamples": 200, **options}
    pipeline = coldstart.open(uri).pipeline()
    return ladder.evaluate_store(Store(uri), pipeline, progress or Silent(), **given).to_dict()


SEE = {
    "understand": {
        "fingerprint": False,
        "duplicates": False,
        "quality": False,
        "speech": False,
        "safety": False,
        "screen": {"reader": "fake"},
    }
}
DESCRIBE = {"describe": {"grounds": False, "write": {"generator": "fake"}}}


class Silent:
    """Counts what is metered."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}

    def meter(self, stage: str, total: int | None) -> Any:
        from contextlib import contextmanager

        class One:
            def advance(own, done: int, lost: int, wait_share: float) -> None:  # noqa: N805
                self.done[stage] = self.done.get(stage, 0) + done

        @contextmanager
        def opened() -> Iterator[One]:
            self.done.setdefault(stage, 0)
            yield One()

        return opened()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and words; nothing is described."""
    return filled(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def found(plain: Path) -> dict[str, Any]:
    return evaluated(plain, choice=CHOICE)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures are read, and a writer without a fit has described everything."""
    return filled(tmp_path_factory.mktemp("described"), **SEE, **DESCRIBE)


def test_what_the_seller_wrote_gains_and_a_title_without_sense_does_not(found: dict[str, Any]) -> None:
    steps = {one["name"]: one for one in found["steps"]}
    assert list(steps) == ["pictures", "title", "words", "behaviour"]
    assert steps["title"]["gain"]["low"] <= 0
    assert steps["words"]["gain"]["low"] > 0
    assert steps["words"]["gain"]["holm"] < 0.05
    assert steps["words"]["blocks"] == ("image", "words")
    assert found["counts"]["catalogue"] == ITEMS
    assert 0.9 * USERS < found["counts"]["users"] <= USERS
    assert found["about"]["split"] == "items"
    assert found["chosen"] == ("ridge",)


def test_what_is_missing_is_named_with_what_would_help(found: dict[str, Any]) -> None:
    why = "nothing is described: `coldstart describe` writes, `coldstart finetune describe` tunes the writer"
    assert {one["name"]: one["reason"] for one in found["missing"]} == {
        "evidence": "the pipeline has no stage of kind understand.evidence",
        "base": why,
        "adapter": why,
    }


def test_seconds_are_those_that_runs_recorded_and_those_that_encoding_takes(plain: Path, found: dict[str, Any]) -> None:
    costs = {one["name"]: one for one in found["costs"]}
    runs = Store(plain).read("runs").to_pylist()
    (image,) = [json.loads(row["report"])["ran"] for row in runs if row["stage"] == "image"]
    assert costs["image"]["per_item_s"] == pytest.approx(image["seconds"] / ITEMS)
    assert costs["image"]["known_by"] == f"recorded, {ITEMS} items"
    assert costs["encoding texts of words"]["known_by"] == "timed on 64 texts"
    assert costs["encoding texts of words"]["per_item_s"] > 0
    assert costs["behaviour"]["once_s"] > 0


def test_items_turned_away_are_part_of_what_a_run_did(tmp_path: Path) -> None:
    given, items = settings(tmp_path), entries(tmp_path)[:10]
    write_manifest(tmp_path / "items.jsonl", items)
    opened = coldstart.open(tmp_path / "w", create=True)
    opened.run(given, only=["ingest"])
    for item in items[:4]:
        (tmp_path / item["image"]).write_bytes(b"no picture")
    ran = opened.run(only=["image"]).stages[-1].ran
    assert (ran.done, ran.lost) == (6, 4)
    store = Store(tmp_path / "w")

    def cost() -> Cost:
        return recorded_costs(["image"], store, PipelineState(store, opened.pipeline()))["image"]

    assert cost().per_item_s == pytest.approx(ran.seconds / 10)
    assert cost().known_by == "recorded, 10 items"
    for done, lost, seconds in ((4, 1, 20.0), (2, 1, 4.0)):  # the newest comes last
        store.save_run("image", datetime.now(UTC), seconds, {"ran": asdict(PassReport(done, lost, seconds))})
    assert (cost().per_item_s, cost().known_by) == (pytest.approx((20 + 4) / 8), "recorded, 8 items")


def test_texts_are_encoded_once(plain: Path, found: dict[str, Any]) -> None:
    again = Silent()
    evaluated(plain, progress=again)
    assert again.done == {
        "evaluate stages: texts of title": 0,
        "evaluate stages: texts of words": 0,
        "evaluate stages: steps": 4,
    }


def test_items_that_are_named_are_those_held_out_and_other_seeds_hold_out_others(plain: Path) -> None:
    named = [f"p{n:02d}" for n in range(24)]
    found = evaluated(plain, held_out=named)
    assert (found["about"]["split"], found["counts"]["new_items"], found["counts"]["splits"]) == ("given", 24, 1)
    several = evaluated(plain, seeds=2)
    assert several["counts"]["splits"] == 2
    assert several["counts"]["lists"] > several["counts"]["users"]
    assert len(set(several["about"]["splits"])) == 2


def test_with_labels_every_step_knows_the_category(plain: Path, found: dict[str, Any]) -> None:
    labelled = evaluated(plain, labels=True)
    assert labelled["caveats"][0] == "every step also has the items' category, tags and attributes"
    assert labelled["steps"][0]["recall"]["value"] > found["steps"][0]["recall"]["value"] + 0.1


def test_evidence_and_descriptions_are_steps_of_their_own(described: Path) -> None:
    found = evaluated(described)
    steps = {one["name"]: one for one in found["steps"]}
    assert list(steps) == ["pictures", "title", "words", "evidence", "base"]
    assert 0.5 < steps["evidence"]["covered"] <= 1
    assert steps["base"]["covered"] == 1.0
    assert steps["base"]["about"] == "and what fake wrote of it"
    assert "fake (base) was shown all that is known" in found["caveats"]
    costs = {one["name"] for one in found["costs"]}
    assert {"understand.screen", "understand.evidence", "describe.write", "describe.check"} <= costs
    missing, behaviour = found["missing"]
    assert (missing["name"], behaviour["name"]) == ("adapter", "behaviour")
    assert missing["reason"].startswith(
        f"the adapter has written nothing here: `--write all` lets it, {ITEMS} items, about "
    )
    assert missing["reason"].endswith(" s at the pace of base")


def test_without_a_fit_the_adapter_cannot_write(described: Path) -> None:
    assert evaluated(described, write="all")["missing"][0] == {
        "name": "adapter",
        "reason": "no writer is tuned: run `coldstart finetune describe`",
    }


def test_the_other_writer_writes_on_request_of_so_many_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = filled(tmp_path, finetune={"describe": {"generator": "fake", "min_items": 4}}, **DESCRIBE)
    card = {"generator": "fake", "values": {"default": {"genre": list(GENRES)}}, "given": ["title"], "prompt": PROMPT}
    made = {"card.json": json.dumps(card).encode()}
    Store(uri).artifacts.save("finetune.describe", "key", made, {"settings": "s", "summary": "made by hand"})
    reasons = {one["name"]: one["reason"] for one in evaluated(uri, write=8)["missing"]}
    assert reasons["adapter"] == f"generator 'fake' takes no adapter: {newest(uri)}"
    monkeypatch.setattr(fake, "build", lambda rest, *, device, dtype, adapter: fake.Fake())
    meters = Silent()
    found = evaluated(uri, write=8, progress=meters)
    assert meters.done["evaluate stages: adapter writes"] == 8
    steps = {one["name"]: one for one in found["steps"]}
    assert steps["base"]["covered"] == steps["adapter"]["covered"] == pytest.approx(8 / ITEMS)
    assert steps["adapter"]["before"] == "base"
    assert [one for one in found["caveats"] if one.startswith("descriptions are of")] == [
        "descriptions are of 8 of 96 items; the others have the text of the step before, so that gains look smaller "
        "than they are where all are described"
    ]
    assert "fake (adapter) was shown title" in found["caveats"]
    again = Silent()
    evaluated(uri, write=8, progress=again)
    assert again.done["evaluate stages: adapter writes"] == 0


def newest(uri: Path) -> Path:
    made = Store(uri).artifacts.newest("finetune.describe")
    assert made is not None
    return made.folder


def test_without_interactions_the_error_names_the_next_step(tmp_path: Path) -> None:
    uri = tmp_path / "shop.workspace"
    coldstart.open(uri, create=True).run(settings(tmp_path), only=["ingest"])
    with pytest.raises(ColdstartError) as caught:
        evaluated(uri)
    assert str(caught.value) == (
        f"workspace {uri} has no interactions: run `coldstart ingest --workspace {uri} --interactions FILE`"
    )


def test_the_command_prints_the_table_and_writes_three_files(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart.recommend.model.selection.CANDIDATES", {})
    arguments = ["evaluate", "stages", "-w", str(plain), "--min-weight", "4", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f" users evaluated, 23 items held out as new of {ITEMS}, recall@20 among the new ones" in done.output
    assert "not evaluated: evidence: the pipeline has no stage of kind understand.evidence" in done.output
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["stages.html", "stages.json", "stages.md"]
    assert json.loads((folder / "stages.json").read_text("utf-8"))["k"] == 20
    assert (folder / "stages.md").read_text("utf-8").startswith("| step | recall@20 | gain |")
    assert "<title>Evaluation of stages</title>" in (folder / "stages.html").read_text("utf-8")


def test_a_number_to_write_must_be_one(plain: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "stages", "-w", str(plain), "--write", "some"])
    assert done.exit_code == 2
    assert "--write some: give a number of items, at least 1, or all" in " ".join(done.output.split())
