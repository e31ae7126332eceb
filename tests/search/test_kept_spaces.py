"""A space that is served stays searchable after its stage left the pipeline, until `--drop-spaces`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart as cli
from catalogue import write_manifest, write_pipeline

import coldstart


def _settings(manifest: Path, *spaces: str, **index: Any) -> dict[str, Any]:
    text = {"stage": "embed", "encoder": "fake:8", "input": "text"}
    stages = {"ingest": {}, **{space: {**text, "encoder": f"fake:{8 * (1 + len(space))}"} for space in spaces}}
    return {"manifest": str(manifest), "engine": {"workers": 1, "device": "cpu"}, "stages": {**stages, "index": index}}


@pytest.mark.slow
def test_a_dropped_space_is_named_and_kept_until_it_is_told_otherwise(tmp_path: Path) -> None:
    rows = [{"item_id": f"p{n}", "title": f"mug number {n}"} for n in range(6)]
    manifest = write_manifest(tmp_path / "items.jsonl", rows[:4])
    opened = coldstart.open(tmp_path / "w", create=True)
    opened.run(_settings(manifest, "a", "bb"))
    before = {item: vector.tolist() for item, vector in opened.published().vectors("bb", ["p0", "p3"]).items()}

    write_manifest(manifest, rows)
    report = opened.run(_settings(manifest, "a", "ccc"))  # another space comes: all rows are written anew
    assert report.stages[-1].notes[-1] == (
        "bb: kept as it was, since the pipeline no longer makes this space: 4 of 6 items have a vector there, and new "
        f"ones get none; `coldstart run --drop-spaces --workspace {opened.uri}` takes it out"
    )
    assert sorted(opened.published().passports) == ["a", "bb", "ccc"]
    found = {item: vector.tolist() for item, vector in opened.published().vectors("bb", ["p0", "p3", "p5"]).items()}
    assert found == before
    assert {hit.item_id for hit in opened.search(item="p0", spaces=["bb"])} == {"p1", "p2", "p3"}
    again = opened.run()
    assert again.stages[-1].ran.done == 0 and "bb: kept as it was" in again.stages[-1].notes[-1]
    assert [report.balance.pending for report in opened.status()] == [0, 0, 0, 0]

    write_manifest(manifest, [*rows, {"item_id": "p6", "title": "a plate"}])
    opened.run()  # few rows are written
    assert opened.published().count("vector_bb IS NOT NULL") == 4
    dropped = cli("run", "--workspace", tmp_path / "w", "--drop-spaces", "--json")
    assert dropped.returncode == 0 and not any(
        "kept" in note for note in json.loads(dropped.stdout)["stages"][-1]["notes"]
    )
    assert sorted(coldstart.open(tmp_path / "w").published().passports) == ["a", "ccc"]


@pytest.mark.slow
def test_a_list_of_spaces_says_what_goes_into_the_catalog(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "mug"}])
    opened = coldstart.open(tmp_path / "w", create=True)
    opened.run(_settings(manifest, "a", "bb"))
    opened.run(_settings(manifest, "a", spaces=["a"]))
    assert list(opened.published().passports) == ["a"]
    file = write_pipeline(tmp_path / "p.yaml", _settings(manifest, "bb"))
    assert cli("index", "--pipeline", file, "--workspace", tmp_path / "w", "--drop-spaces").returncode == 0
    assert list(coldstart.open(tmp_path / "w").published().passports) == ["bb"]
