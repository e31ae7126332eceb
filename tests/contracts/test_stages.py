"""What every map stage promises. A new one joins by one line in `CASES`; a test finds those that did not."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import behaviour_fit
import numpy as np
import pyarrow as pa
import pytest
from catalogue import rows, settings, write_manifest
from poison import write_video
from sounds import beep, write_sound
from spoken import SENTENCES, say

from coldstart.core import pipeline as pipelines
from coldstart.core import stage as registry
from coldstart.core.item_fields import select_fields
from coldstart.core.keys import digest
from coldstart.core.stage import CatalogStage, MapStage, Reject, Row, SourceStage
from coldstart.engine.run import build
from coldstart.errors import ColdstartError
from coldstart.models import install

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ingest": ("ingest", {}),
    "behaviour": ("behaviour", {}),
    "describe.attributes": ("describe.attributes", {}),
    "describe.write": ("describe.write", {"generator": "fake"}),
    "describe.check": ("describe.check", {}),
    "understand.evidence": ("understand.evidence", {}),
    "understand.fingerprint": ("understand.fingerprint", {"pictures": 2}),
    "embed image": ("embed", {"encoder": "fake:24", "input": "image", "frames": 3}),
    "embed text": ("embed", {"encoder": "fake:24", "input": "text"}),
    "embed image, starter": ("embed", {"encoder": "starter", "input": "image", "frames": 2}),
    "embed text, starter": ("embed", {"encoder": "starter", "input": "text"}),
    "understand.safety": ("understand.safety", {}),
    "understand.screen": ("understand.screen", {"reader": "fake"}),
    "understand.screen, starter": ("understand.screen", {"reader": "starter"}),
    "understand.quality": ("understand.quality", {}),
    "understand.shots": ("understand.shots", {}),
    "understand.speech": ("understand.speech", {"model": "fake"}),
    "understand.speech, starter": ("understand.speech", {"model": "starter"}),
}
BEFORE = {
    "behaviour": {
        "words": {"stage": "embed", "encoder": "fake:24", "input": "text"},
        "liking": {"stage": "align.behaviour"},
    },
    "describe.check": {"writing": {"stage": "describe.write", "generator": "fake"}},
    "understand.evidence": {"heard": {"stage": "understand.speech", "model": "fake"}},
}
"""Stages that a kind cannot stand without."""
WHOLE = {
    "align.behaviour",
    "align.sids",
    "align.text_image",
    "describe.grounds",
    "finetune.describe",
    "finetune.rank",
    "finetune.recall",
    "finetune.rerank",
    "finetune.union",
    "index",
    "label",
    "sids",
    "understand.duplicates",
}
HEAVY = ("torch", "pyarrow", "lancedb", "lance", "transformers")


@dataclass(frozen=True)
class Case:
    """One stage over a small catalogue."""

    kind: str
    settings: Mapping[str, Any]
    manifest: Path

    def stage(self, engine: Mapping[str, Any] | None = None, **changes: Any) -> MapStage:
        """The stage, built anew from plain settings."""
        stages = {"ingest": {}} if self.kind == "ingest" else {"the_stage": {"stage": self.kind, **self.settings}}
        name = next(iter(stages))
        stages[name] |= changes
        stages = {**BEFORE.get(self.kind, {}), **stages}
        raw = {**settings(self.manifest), "engine": {"device": "cpu", "dtype": "float32", **(engine or {})}}
        raw["attributes"] = {"default": {"colour": {}}}
        pipeline = pipelines.load({**raw, "stages": stages})
        if self.kind == "behaviour":
            words: Any = build(pipeline.stages[0], pipeline)
            pipeline = replace(pipeline, fitted=lambda name: behaviour_fit.folder("words", words.passport.digest))
        stage = build(pipeline.stages[-1], pipeline)
        assert isinstance(stage, MapStage)
        return stage

    def rows(self) -> list[Row]:
        """The rows that the stage reads; ingest brings its own."""
        own = Case("ingest", {}, self.manifest).stage()
        assert isinstance(own, SourceStage)
        given = [work.row for work in own.entries()]
        assert not any(isinstance(row, Reject) for row in given)
        if self.kind == "ingest":
            return given  # type: ignore[return-value]
        prepare = own.preparer()
        made = own.compute([prepare(row)[0] for row in given])  # type: ignore[arg-type]
        # as they come from the store, where each medium has every field
        table = pa.Table.from_pylist([{"source_key": "", **row} for row in made], schema=own.schema)  # type: ignore[dict-item]
        return [row for row in self._with_what_it_reads(table.to_pylist()) if self._takes(row)]

    def _with_what_it_reads(self, rows: list[Row]) -> list[Row]:
        """Rows of earlier stages under their fields; None of items that those turn away."""
        for field, name in self.stage().reads.items():
            earlier = BEFORE[self.kind][name]
            own = Case(earlier["stage"], {k: v for k, v in earlier.items() if k != "stage"}, self.manifest)
            stage = own.stage()
            read = own.rows()
            made = stage.compute([stage.preparer()(row)[0] for row in read])
            found = dict(zip([row["item_id"] for row in read], made, strict=True))
            for row in rows:
                row[field] = found.get(row["item_id"])
        return rows

    def _takes(self, row: Row) -> bool:
        """Whether the item has such media as the stage is about."""
        try:
            self.stage().preparer()(row)
        except Reject as reject:
            assert reject.state == "filtered"
            return False
        return True

    def samples(self, stage: MapStage) -> list[Any]:
        prepare = stage.preparer()
        return [prepare(row)[0] for row in self.rows()]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract")
    entries = rows(folder, 9)
    entries[0]["description"] = "A hat of wool that keeps the head warm on cold days."  # one that can be described
    entries[2]["images"] = [entries[3]["image"], entries[4]["image"]]
    write_video(folder / "clip.mp4", 1.0)
    entries.insert(4, {"item_id": "clip", "title": "a clip", "video": "clip.mp4", "image": "p0.jpg"})
    for place, (sentence, _) in enumerate(SENTENCES[:2]):
        write_sound(folder / f"said{place}.wav", say(sentence))
        entries[place]["audio"] = f"said{place}.wav"
    write_sound(folder / "beep.mkv", beep(1.0, 0.2), pictures_s=1.0)
    entries.append({"item_id": "beep", "title": "a beep", "video": "beep.mkv"})
    return write_manifest(folder / "items.jsonl", entries)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * ("starter" in name)) for name in CASES])
def case(request: pytest.FixtureRequest, manifest: Path) -> Case:
    kind, own = CASES[request.param]
    if own.get("encoder") == "starter":
        try:
            install.starter_folder(own["input"])
        except ColdstartError as error:
            pytest.skip(str(error))
    if own.get("model") == "starter":
        try:
            install.starter_folder("speech")
        except ColdstartError as error:
            pytest.skip(str(error))
    return Case(kind, own, manifest)


def test_every_kind_is_held_to_this_contract(manifest: Path) -> None:
    assert {kind for kind, _ in CASES.values()} | WHOLE == set(registry.kinds())
    pipeline = pipelines.load(settings(manifest))
    for spec in pipeline.stages:
        assert isinstance(build(spec, pipeline), CatalogStage) == (spec.kind in WHOLE)


@pytest.mark.slow
def test_the_fingerprint_follows_from_the_settings(case: Case) -> None:
    first, second = case.stage().fingerprint(), case.stage().fingerprint()
    assert first == second
    assert digest(first) == digest(second)


@pytest.mark.slow
def test_the_machine_is_no_part_of_the_fingerprint(case: Case) -> None:
    plain = digest(case.stage().fingerprint())
    assert digest(case.stage({"workers": 7, "commit_rows": 3, "commit_s": 1.0}).fingerprint()) == plain
    assert digest(case.stage({"device": "auto"}).fingerprint()) == plain
    assert digest(case.stage({"dtype": "bfloat16"}).fingerprint()) == plain
    if case.kind == "embed":
        assert digest(case.stage(batch_size=3).fingerprint()) == plain


PICTURES = {"media.image", "media.video"}
RECORD = {"kind", "title", "description", "category", "tags", "creator", "price"}
READ = {
    "behaviour": RECORD - {"title", "description"} | {"attributes"},
    "describe.attributes": {"kind", "category", "creator", "title", "description"},
    "describe.write": RECORD | PICTURES | {"attributes.colour"},  # `fake` takes pictures
    "describe.check": RECORD | {"attributes.colour", "claim_decisions"},
    "embed image": PICTURES,
    "embed text": {"title", "description", "category", "tags"},
    "understand.evidence": set(),
    "understand.fingerprint": PICTURES,
    "understand.quality": PICTURES,
    "understand.safety": {"title", "description", "tags"},
    "understand.screen": PICTURES,
    "understand.shots": {"media.video"},
    "understand.speech": {"media.audio", "media.video"},
}


def test_the_fields_of_an_item_that_each_stage_reads(manifest: Path) -> None:
    found = {name: Case(*CASES[name], manifest).stage().item_fields for name in READ}
    assert {name: set(fields or ()) for name, fields in found.items()} == READ
    assert {CASES[name][0] for name in READ} | WHOLE | {"ingest"} == set(registry.kinds())


def test_a_stage_reads_no_field_of_an_item_that_its_keys_do_not_rest_on(case: Case) -> None:
    """The engine hands out these fields alone; a stage that would read another one makes other rows here, or fails."""
    stage = case.stage()
    fields = stage.item_fields
    if fields is None:
        assert case.kind == "ingest"  # its keys rest on the entry of the manifest
        return
    prepare, rows = stage.preparer(), case.rows()
    assert rows
    narrow = [{**select_fields(row, fields), **{name: row[name] for name in stage.reads}} for row in rows]
    whole = stage.compute([prepare(row)[0] for row in rows])
    for ours, theirs in zip(stage.compute([prepare(row)[0] for row in narrow]), whole, strict=True):
        assert_same(ours, theirs)


def test_key_column_and_id_are_in_the_schema(case: Case) -> None:
    stage = case.stage()
    assert {"item_id", stage.key_column} <= set(stage.schema.names)
    assert stage.version >= 1 and stage.batch_cost > 0 and stage.deadline_s > 0


def test_the_preparer_travels(case: Case) -> None:
    prepare = case.stage().preparer()
    again = pickle.loads(pickle.dumps(prepare))
    assert again == prepare
    for row in case.rows():
        (ours, cost), (theirs, same_cost) = prepare(row), again(row)
        assert cost == same_cost > 0
        assert_same(ours, theirs)


@pytest.mark.slow
def test_a_worker_imports_nothing_heavy(case: Case) -> None:
    stage = case.stage()
    script = (
        "import pickle, sys\n"
        "prepare, row = pickle.load(sys.stdin.buffer)\n"
        "prepare(row)\n"
        f"print(*sorted(set({HEAVY!r}) & sys.modules.keys()))\n"
    )
    payload = pickle.dumps((stage.preparer(), case.rows()[0]))
    done = subprocess.run([sys.executable, "-c", script], input=payload, capture_output=True, timeout=60, check=True)
    heavy = done.stdout.decode().split()
    assert "torch" not in heavy
    assert heavy == [] or not stage.isolated


def test_results_come_in_order_whatever_the_batch(case: Case) -> None:
    stage = case.stage()
    samples = case.samples(stage)
    one_by_one = [row for sample in samples for row in stage.compute([sample])]
    sevens = [row for start in range(0, len(samples), 7) for row in stage.compute(samples[start : start + 7])]
    backwards = stage.compute(samples[::-1])[::-1]
    assert len(one_by_one) == len(sevens) == len(backwards) == len(samples)
    for first, second, third in zip(one_by_one, sevens, backwards, strict=True):
        assert_same(first, second)
        assert_same(first, third)
    assert stage.compute([]) == []


@pytest.mark.slow
def test_rows_fit_the_schema(case: Case) -> None:
    stage = case.stage()
    items = case.rows()
    made = [
        {**row, "item_id": item["item_id"], stage.key_column: "key"}  # type: ignore[dict-item]
        for item, row in zip(items, stage.compute(case.samples(stage)), strict=True)
        if not isinstance(row, Reject)
    ]
    assert made
    items = [item for item in items if item["item_id"] in {row["item_id"] for row in made}]
    for row in made:
        assert row.keys() == set(stage.schema.names)
    table = pa.Table.from_pylist(made, schema=stage.schema)
    assert table["item_id"].to_pylist() == [item["item_id"] for item in items]
    for column in ("vector", "title"):
        if column in table.column_names:
            for stored, row in zip(table[column].to_pylist(), made, strict=True):
                assert_same(stored, row[column])


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal but for rounding, and for the time at which a row was made."""
    if isinstance(ours, Mapping):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"ingested_at"}:
            assert_same(ours[name], theirs[name])
    elif hasattr(ours, "__dataclass_fields__") or isinstance(ours, Reject):
        assert type(ours) is type(theirs)
        assert_same(vars(ours), vars(theirs))
    elif isinstance(ours, list | tuple | np.ndarray) and len(ours) and not isinstance(ours[0], str | bytes | Mapping):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=2e-4)  # half floats among them
    else:
        assert ours == theirs
