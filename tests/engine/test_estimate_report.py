"""The estimate that is kept for the run after it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from coldstart.core import pipeline as pipelines
from coldstart.engine.estimate.report import KEEP_S, Asked, Compared, compare, keep

RAW: dict[str, Any] = {"stages": {"text": {"stage": "embed", "encoder": "fake:16", "input": "text"}}}
ESTIMATED = {
    "seconds": 30.0,
    "stages": [
        {"stage": "ingest", "rows": 100, "seconds": 10.0},
        {"stage": "text", "rows": 100, "seconds": 20.0},
        {"stage": "fit", "rows": 100, "seconds": None},
        {"stage": "index", "rows": 0, "seconds": None},
    ],
}
TOOK = {"ingest": (100, 8.0), "text": (97, 25.0), "fit": (97, 7.0), "index": (0, 0.0)}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return Asked(str(tmp_path / "w"), pipelines.load(RAW))


def test_a_run_is_compared_once_with_what_was_told_before(asked: Asked) -> None:
    keep(asked, ESTIMATED)
    found = compare(asked, TOOK, 40.0)
    assert found is not None
    assert found.stages == [Compared("ingest", 10.0, 8.0, 100, 100), Compared("text", 20.0, 25.0, 100, 97)]
    assert (found.estimated_s, found.took_s, found.left_out) == (30.0, 33.0, ["fit"])
    assert found.to_dict()["ratio"] == pytest.approx(30 / 33)
    assert compare(asked, TOOK, 40.0) is None


def test_what_was_asked_otherwise_is_not_compared(asked: Asked) -> None:
    keep(asked, ESTIMATED)
    others = [
        Asked(asked.uri, asked.pipeline, only=("text",)),
        Asked(asked.uri, asked.pipeline, limit=3),
        Asked(asked.uri, asked.pipeline, start="text"),
        Asked(f"{asked.uri}2", asked.pipeline),
        Asked(asked.uri, pipelines.load(RAW, ["text.batch_size=3"])),
    ]
    assert [compare(other, TOOK, 40.0) for other in others] == [None] * 5
    assert compare(asked, TOOK, 40.0) is not None


def test_other_rows_and_old_estimates_are_not_compared(asked: Asked) -> None:
    keep(asked, ESTIMATED)
    assert compare(asked, {**TOOK, "ingest": (120, 8.0)}, 40.0) is None
    keep(asked, ESTIMATED)
    asked.path.write_text(json.dumps({"at": time.time() - KEEP_S - 1, "estimate": ESTIMATED}), "utf-8")
    assert compare(asked, TOOK, 40.0) is None
