"""A workspace keeps how its searches weigh spaces, and searches without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalogue import rows, settings, write_manifest

import coldstart
from coldstart.search.calibrate_catalog import FILE, SEARCH
from coldstart.search.search import ALIKE
from coldstart.store import Store


@pytest.mark.slow
def test_a_run_calibrates_once_and_a_damaged_calibration_costs_no_answer(tmp_path: Path) -> None:
    raw = settings(write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 40)))
    opened = coldstart.open(tmp_path / "w", create=True)
    weighed = [note for note in opened.run(raw).stages[-1].notes if note.startswith("searches weigh spaces: ")]
    assert [note.split(": ")[1] for note in weighed] == ["text", "image", "item"]
    assert not [note for note in opened.run(raw).stages[-1].notes if "weigh" in note], "nothing has changed"
    assert opened.search(item="p3", top_k=3).notes == ()

    store = Store(tmp_path / "w")
    store.artifacts.save(SEARCH, "a stranger's", {FILE: b'{"spaces": {}}'}, {})
    hits = coldstart.open(tmp_path / "w").search(item="p3", top_k=3)
    assert len(hits) == 3 and hits.notes[1:] == (ALIKE,)
    assert hits.notes[0].startswith("the calibration of searches cannot be read")
    again = coldstart.open(tmp_path / "w")
    again.run(raw)
    assert again.search(item="p3", top_k=3).notes == ()
