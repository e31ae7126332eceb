"""The estimate that is kept for the run after it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from coldstart.core import pipeline as pipelines
from coldstart.engine.estimate.report import KEEP_S, ComparedTimes, EstimateRequest, compare_estimate, save_estimate

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
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EstimateRequest:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return EstimateRequest(str(tmp_path / "w"), pipelines.load(RAW))


def test_a_run_is_compared_once_with_what_was_told_before(asked: EstimateRequest) -> None:
    save_estimate(asked, ESTIMATED)
    found = compare_estimate(asked, TOOK, 40.0)
    assert found is not None
    assert found.stages == [ComparedTimes("ingest", 10.0, 8.0, 100, 100), ComparedTimes("text", 20.0, 25.0, 100, 97)]
    assert (found.estimated_s, found.took_s, found.left_out) == (30.0, 33.0, ["fit"])
    assert found.to_dict()["ratio"] == pytest.approx(30 / 33)
    assert compare_estimate(asked, TOOK, 40.0) is None


def test_what_was_asked_otherwise_is_not_compared(asked: EstimateRequest) -> None:
    save_estimate(asked, ESTIMATED)
    others = [
        EstimateRequest(asked.uri, asked.pipeline, only=("text",)),
        EstimateRequest(asked.uri, asked.pipeline, limit=3),
        EstimateRequest(asked.uri, asked.pipeline, start="text"),
        EstimateRequest(f"{asked.uri}2", asked.pipeline),
        EstimateRequest(asked.uri, pipelines.load(RAW, ["text.batch_size=3"])),
    ]
    assert [compare_estimate(other, TOOK, 40.0) for other in others] == [None] * 5
    assert compare_estimate(asked, TOOK, 40.0) is not None


def test_other_rows_and_old_estimates_are_not_compared(asked: EstimateRequest) -> None:
    save_estimate(asked, ESTIMATED)
    assert compare_estimate(asked, {**TOOK, "ingest": (120, 8.0)}, 40.0) is None
    save_estimate(asked, ESTIMATED)
    asked.path.write_text(json.dumps({"at": time.time() - KEEP_S - 1, "estimate": ESTIMATED}), "utf-8")
    assert compare_estimate(asked, TOOK, 40.0) is None
