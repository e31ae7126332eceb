"""`coldstart ingest --impressions` and `--outcomes`, and what `status` and `export` say of them, as typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from paths import DATA
from test_cli_interactions import fault, typed

import coldstart
from coldstart.core.reasons import remedy

KUAIRAND = DATA.parent / "interactions" / "kuairand_pure"
SHOWN = (
    "user_id,item_id,timestamp,position,propensity,request_id,clicked,note\n"
    "ann,a,2024-01-01T10:00:00Z,1,0.5,r1,1,x\nann,b,2024-01-01T10:00:00Z,2,1,r1,,x\nbob,a,2024-01-02T10:00:00Z,1,,r2,0,x\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "shown.csv").write_text(SHOWN, "utf-8")
    (tmp_path / "later.csv").write_text("request_id,item_id,event\nr1,b,like\nr9,b,like\n", "utf-8")
    return tmp_path


@pytest.mark.slow
def test_files_are_read_and_the_status_counts(log: Path) -> None:
    uri = str(log / "w")
    code, out, _ = typed("ingest", "--impressions", str(log / "shown.csv"), "-w", uri)
    assert code == 0
    left, columns, counts, unknown = out.splitlines()
    assert unknown == "2 of 2 items are not in the catalogue; their 3 rows are stored"
    assert left.endswith("shown.csv: columns that are not read: note; --signals NAME=COLUMN keeps one as an outcome")
    assert columns == (
        "columns user_id=user_id, item_id=item_id, timestamp=timestamp, position=position, propensity=propensity, "
        "request_id=request_id, click=clicked; recognised by name: click; times in iso"
    )
    assert counts.endswith(
        ": 3 added, 0 with new outcomes of a stored impression, 0 that add nothing, 0 rejected; the table has 3"
    )
    message = fault("ingest", "--outcomes", str(log / "later.csv"), "-w", uri)
    assert message.startswith("50.0% of the rows of ")
    assert message.endswith("in the table impressions_rejected: mend them and ingest the file again")
    code, out, _ = typed("status", "-w", uri)
    assert out.splitlines()[:2] == [
        "impressions: 3 on 2 days in 2 requests, of 2 items, 0 of them in the catalogue, to 2 users; 2024-01-01 10:00 "
        "to 2024-01-02 10:00 UTC; 1 rows rejected",
        "outcomes: 0 impressions (0.0%) state none; above 0 where stated: click 50.00%, like 100.00%; propensity known "
        "of 66.7%",
    ]
    _, out, _ = typed("status", "-w", uri, "--json")
    assert json.loads(out)["impressions"]["signals"]["like"] == {"stated": 1, "above_zero": 1}


def test_times_of_shops_are_recognised_where_they_mean_one_thing(log: Path) -> None:
    for name, days, added in (("plain", ("25/11/2025", "26/11/2025"), 2), ("either", ("05/11/2025", "06/11/2025"), 0)):
        rows = "".join(f"u,i{place},{day} 10:00\n" for place, day in enumerate(days))
        (log / f"{name}.csv").write_text(f"user_id,item_id,shown_at\n{rows}", "utf-8")
        report = coldstart.open(log / name, create=True).ingest_impressions(log / f"{name}.csv")
        assert (report.added, report.guessed) == (added, {"timestamp": "shown_at"})
    assert "since 05/11 has two meanings" in remedy("bad_time")


@pytest.mark.slow
def test_propensities_are_checked_by_position(log: Path) -> None:
    uri = str(log / "w")
    typed("ingest", "--impressions", str(log / "shown.csv"), "-w", uri)
    _, out, _ = typed("status", "--impressions", "-w", uri)
    assert "propensity known of 2 of 3 impressions, of 2 of 2 items" in out
    _, out, _ = typed("status", "--impressions", "-w", uri, "--json")
    found = json.loads(out)
    assert [(slot["position"], slot["rows"], slot["covered"]) for slot in found["slots"]] == [(1, 1, 1.0), (2, 1, 0.5)]
    (log / "plain.csv").write_text("user_id,item_id,timestamp\nu,i,2024-01-01\n", "utf-8")
    typed("ingest", "--impressions", str(log / "plain.csv"), "-w", str(log / "plain"))
    _, out, _ = typed("status", "--impressions", "-w", str(log / "plain"))
    assert out.startswith("none of 1 impressions states a propensity")
    (log / "clicks.csv").write_text("user_id,item_id\nu,i\n", "utf-8")
    typed("ingest", "--interactions", str(log / "clicks.csv"), "-w", str(log / "clicks"))
    assert "has no impressions" in fault("status", "--impressions", "-w", str(log / "clicks"))


@pytest.mark.slow
def test_what_is_exported_is_read_again(log: Path) -> None:
    uri = str(log / "w")
    _, out, _ = typed("ingest", "--impressions", str(log / "shown.csv"), "-w", uri, "--json")
    done = json.loads(out)["impressions"]
    assert (done["rows"], done["added"], done["signals"]) == (3, 3, {"click": "clicked"})
    for name in ("out.parquet", "out.jsonl"):
        typed("export", "impressions", "--out", str(log / name), "-w", uri)
        again = coldstart.open(log / name[4:], create=True).ingest_impressions(log / name)
        assert (again.added, again.repeated, again.rejected, again.guessed) == (3, 0, {}, {})
        assert coldstart.open(uri).ingest_impressions(log / name).repeated == 3
    assert fault("export", "impressions", "--out", str(log / "x.jsonl"), "-w", str(log / "none")).startswith(
        "no workspace"
    )
    coldstart.open(log / "empty", create=True)
    assert "has no impressions" in fault(
        "export", "impressions", "--out", str(log / "x.jsonl"), "-w", str(log / "empty")
    )


@pytest.mark.slow
def test_what_does_not_go_together_is_refused(log: Path) -> None:
    shown, uri = str(log / "shown.csv"), str(log / "w")
    assert fault("ingest", "--impressions", shown, "--interactions", shown, "-w", uri) == (
        "--interactions and --impressions: read one log a command, since --columns are of one"
    )
    assert fault("ingest", "--impressions", shown, "--dry-run", "-w", uri) == (
        "--dry-run estimates the manifest only: leave --impressions out"
    )
    assert fault("ingest", "m.jsonl", "--outcomes", shown, "-w", uri) == (
        "--outcomes: read the MANIFEST by a command of its own"
    )
    assert fault("ingest", "--impressions", shown, "--event-weights", "a=1", "-w", uri).startswith(
        "--event-weights needs"
    )
    assert fault("ingest", "--interactions", shown, "--signals", "a", "-w", uri).startswith("--signals needs")
    assert fault("ingest", "--outcomes", str(log / "no.csv"), "-w", uri).startswith("no file of outcomes at")
    assert not Path(uri).exists()


def test_outcomes_are_matched_with_the_interactions_of_the_workspace(log: Path) -> None:
    workspace = coldstart.open(log / "w", create=True)
    workspace.ingest_impressions(log / "shown.csv")
    workspace.add_interactions(
        [{"user_id": "ann", "item_id": "b", "timestamp": "2024-01-01T10:20:00Z", "event": "like"}]
    )
    assert np.nansum(workspace.impressions().signal("like")) == 1
    assert "like" not in workspace.impressions(window_s=60).signals or not np.nansum(
        workspace.impressions(window_s=60).signal("like")
    )


@pytest.mark.slow
@pytest.mark.skipif(not KUAIRAND.is_dir(), reason=f"no KuaiRand at {KUAIRAND} (set COLDSTART_DATA)")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_real_exposures_come_back_with_equal_counts_by_day_and_outcome(tmp_path: Path, suffix: str) -> None:
    names = ("click", "like", "follow", "comment", "forward", "hate")
    signals = {"long_view": "long_view", "dwell_s": "play_time_ms", **{name: f"is_{name}" for name in names}}
    kept = ["user_id", "video_id", "time_ms", "tab", *signals.values()]
    given = pa.concat_tables([pq.read_table(KUAIRAND / f"{part}.parquet", columns=kept) for part in ("val", "test")])
    path = tmp_path / f"shown.{suffix}"
    if suffix == "csv":
        pa.csv.write_csv(given, path)
    else:
        pq.write_table(given, path)
    workspace = coldstart.open(tmp_path / "w", create=True)
    options: dict[str, Any] = {"columns": {"timestamp": "time_ms", "surface": "tab"}, "signals": signals}
    report = workspace.ingest_impressions(path, **options)
    assert (report.rows, report.added, report.rejected) == (202_274, 202_274, {})
    assert (report.time_unit, report.columns["item_id"]) == ("ms", "video_id")
    found = workspace.impressions()
    days = found.times // 86_400_000_000
    expected_days = given["time_ms"].to_numpy() // 86_400_000
    assert dict(zip(*np.unique(days, return_counts=True), strict=True)) == dict(
        zip(*np.unique(expected_days, return_counts=True), strict=True)
    )
    for name, column in signals.items():
        scale = 1000 if name == "dwell_s" else 1
        for day in np.unique(days):
            own = given[column].to_numpy()[expected_days == day]
            values = found.signal(name)[days == day]
            assert not np.isnan(values).any()
            assert (values > 0).sum() == (own > 0).sum()
            assert values.astype(np.float64).sum() == pytest.approx(own.sum() / scale, rel=1e-6)
    tabs = pc.value_counts(given["tab"].cast(pa.string()))
    assert {found.surface_ids[place]: count for place, count in enumerate(np.bincount(found.surfaces))} == dict(
        zip(tabs.field("values").to_pylist(), tabs.field("counts").to_pylist(), strict=True)
    )
    assert workspace.ingest_impressions(path, **options).repeated == 202_274


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_lists_are_logged_with_their_time(tmp_path: Path, suffix: str) -> None:
    from coldstart.recommend.batch import write_log

    log = tmp_path / f"log{suffix}"
    write_log(log, "u1", [("p1", 1, 0.5)])
    assert "u1" in log.read_text("utf-8") and str(datetime.now(UTC).year) in log.read_text("utf-8")
