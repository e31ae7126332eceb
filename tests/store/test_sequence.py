"""Settings, fits and runs saved last are found by their number: a clock that goes back changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import coldstart.store
import coldstart.store.artifacts
from coldstart.store import PIPELINES, RUNS, Store
from coldstart.store.artifacts import ARTIFACTS

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class ClockThatGoesBack(datetime):
    """A day less at every reading."""

    readings = 0

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        cls.readings += 1
        return NOW - timedelta(days=cls.readings)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    for module in (coldstart.store, coldstart.store.artifacts):
        monkeypatch.setattr(module, "datetime", ClockThatGoesBack)
    return Store(tmp_path / "w", create=True)


def test_settings_saved_last_are_in_force_whatever_the_clock_says(store: Store) -> None:
    for number in range(3):
        store.save_pipeline("starter", {"number": number})
        assert store.pipeline() == {"number": number}
    store.save_pipeline("starter", {"number": 2})  # as they are: no further row
    rows = store.in_sequence(PIPELINES)
    assert [row["seq"] for row in rows] == [1, 2, 3]
    assert rows[0]["saved_at"] > rows[2]["saved_at"]  # else the test shows nothing


@pytest.mark.slow
def test_the_fit_saved_last_is_the_newest_and_the_first_ones_go(store: Store) -> None:
    for number in range(6):
        store.artifacts.save("align", str(number), {"x": bytes([number])}, {})
        newest = store.artifacts.newest("align")
        assert newest is not None
        assert newest.key == str(number)
    assert [made.key for made in store.artifacts.all("align")] == ["5", "4", "3", "2"]
    again = store.artifacts.save("align", "again", {"x": bytes([3])}, {})
    assert store.artifacts.all("align")[0].digest == again.digest


def test_runs_come_in_the_order_in_which_they_were_saved(store: Store) -> None:
    for number in range(3):
        store.save_run(str(number), NOW - timedelta(days=number), 1.0, {})
    assert [row["stage"] for row in store.in_sequence(RUNS)] == ["0", "1", "2"]


@pytest.mark.slow
def test_rows_of_earlier_releases_come_first_in_their_order(store: Store) -> None:
    saved = pa.schema([("saved_at", pa.timestamp("us", "UTC")), ("name", pa.string()), ("settings", pa.string())])
    for number in range(10):  # more than are left side by side
        row = {"saved_at": NOW - timedelta(days=number), "name": "old", "settings": f'{{"number": {number}}}'}
        store.append(PIPELINES, pa.Table.from_pylist([row], schema=saved))
    store.maintain(timedelta(hours=1))
    assert store.pipeline() == {"number": 9}
    store.save_pipeline("new", {"number": 10})
    store.save_pipeline("new", {"number": 11})
    assert [row["settings"] for row in store.in_sequence(PIPELINES)] == [f'{{"number": {n}}}' for n in range(12)]
    assert store.pipeline() == {"number": 11}

    made = pa.schema(
        [(name, pa.string()) for name in ("digest", "name", "key", "report")] + [("made_at", pa.timestamp("us", "UTC"))]
    )
    for day in (2, 3, 1):
        row = {"digest": "f" * 31 + str(day), "name": "align", "key": str(day), "report": "{}"}
        row["made_at"] = NOW + timedelta(days=day)  # type: ignore[assignment]
        store.append(ARTIFACTS, pa.Table.from_pylist([row], schema=made))
    assert [artifact.key for artifact in store.artifacts.all("align")] == ["3", "2", "1"]
    store.artifacts.save("align", "new", {"x": b""}, {})  # long before, by the clock
    assert [artifact.key for artifact in store.artifacts.all("align")] == ["new", "3", "2", "1"]
