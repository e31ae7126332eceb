"""Files of impressions and of later outcomes: columns, outcomes, and a reason for every row that is turned away."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart.errors import ColdstartError
from coldstart.ingest import impression_file
from coldstart.ingest.impression_file import ImpressionFile

NOW_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
HEAD = "user_id,item_id,timestamp,position,surface,propensity,request_id"


def write(folder: Path, text: str, name: str = "shown.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def opened(path: Path, **options: Any) -> ImpressionFile:
    return ImpressionFile(path, now_us=NOW_US, **options)


def read(path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    blocks = list(opened(path, **options))
    rejected = [tuple(row.values()) for block in blocks for row in block.rejected.to_pylist()]
    return [row for block in blocks for row in block.rows.to_pylist()], rejected


def fault(path: Path, **options: Any) -> str:
    with pytest.raises(ColdstartError) as caught:
        read(path, **options)
    return str(caught.value)


def test_columns_are_recognised_and_those_that_are_not_read_are_told(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "userId,videoId,ts,rank,placement,pscore,requestId,isClick,dwell_ms,liked,hidden,tag\n"
        "u,i,1577934245,3,home,0.25,r,1,1500,yes,,x\n",
    )
    file = opened(path)
    assert file.columns == {
        "user_id": "userId",
        "item_id": "videoId",
        "timestamp": "ts",
        "position": "rank",
        "surface": "placement",
        "propensity": "pscore",
        "request_id": "requestId",
    }
    assert file.signals == {"click": "isClick", "dwell_s": "dwell_ms", "like": "liked", "hide": "hidden"}
    assert file.notes == [
        "dwell_s: dwell_ms is in milliseconds",
        "columns that are not read: tag; --signals NAME=COLUMN keeps one as an outcome",
    ]
    (block,) = file
    assert block.rows.to_pylist() == [
        {
            "user_id": "u",
            "item_id": "i",
            "timestamp": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
            "position": 3,
            "surface": "home",
            "propensity": 0.25,
            "request_id": "r",
            "outcome_at": None,
            "click": 1.0,
            "dwell_s": 1.5,
            "like": 1.0,
            "hide": None,
        }
    ]
    assert file.time_unit == "s"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_bad_row_has_its_number_and_a_reason_in_every_format(tmp_path: Path, suffix: str) -> None:
    good = {"user_id": "u", "item_id": "i", "timestamp": "2024-01-01", "position": 1, "propensity": 0.5, "click": 1}
    rows: list[dict[str, Any]] = [
        good | other
        for other in (
            {},
            {"user_id": None},
            {"item_id": ""},
            {"timestamp": None},
            {"timestamp": "2027-01-01"},
            {"position": -1.0},
            {"position": 1.5},
            {"propensity": 0.0},
            {"propensity": 1.01},
            {"propensity": float("nan")},
            {"propensity": -0.5},
            {"propensity": None, "position": None, "click": None},
            {"click": float("inf")},
        )
    ]
    path = tmp_path / f"shown.{suffix}"
    if suffix == "parquet":
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in good}
        columns["position"] = pa.array(columns["position"], pa.float64())
        columns["propensity"] = pa.array(columns["propensity"], pa.float64(), from_pandas=False)
        columns["click"] = pa.array(columns["click"], pa.float64())
        pq.write_table(pa.table(columns), path)
    elif suffix == "jsonl":
        write(tmp_path, "\n".join(map(json.dumps, rows)), path.name)
    else:
        cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
        write(tmp_path, "\n".join(map(",".join, [list(good), *cells])), path.name)
    kept, rejected = read(path)
    assert len(kept) == 2
    assert kept[1]["propensity"] is kept[1]["position"] is kept[1]["click"] is None
    assert [(row, reason) for row, reason, _ in rejected] == [
        (2, "no_user"),
        (3, "no_item"),
        (4, "bad_time"),
        (5, "future_time"),
        (6, "bad_position"),
        (7, "bad_position"),
        (8, "bad_propensity"),
        (9, "bad_propensity"),
        (10, "bad_propensity"),
        (11, "bad_propensity"),
        (13, "bad_outcome"),
    ]
    assert rejected[8][2].lower() == "nan", "the value at fault is named"


def test_outcomes_are_numbers_truths_and_their_words(tmp_path: Path) -> None:
    head = "user_id,item_id,timestamp,click,follow,dwell_s\n"
    path = write(
        tmp_path,
        head + "u,a,2024-01-01,true,No,3\nu,b,2024-01-01,,y,-1\nu,c,2024-01-01,maybe,,\nu,d,2024-01-01,NaN,,\n",
    )
    kept, rejected = read(path, signals={"follow": ""})
    assert [(row["item_id"], row["click"], row["follow"], row["dwell_s"]) for row in kept] == [
        ("a", 1.0, 0.0, 3.0),
        ("d", None, None, None),
    ]
    assert rejected == [(2, "bad_outcome", "dwell_s -1"), (3, "bad_outcome", "click maybe")]
    rows = [
        {"user_id": "u", "item_id": "i", "timestamp": "2024-01-01", "click": click} for click in (True, False, None)
    ]
    lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "truths.jsonl")
    assert [row["click"] for row in read(lines)[0]] == [1.0, 0.0, None]


def test_later_outcomes_are_columns_or_events(tmp_path: Path) -> None:
    events = write(
        tmp_path,
        "request_id,item_id,event,value,timestamp\nr,i,Add to cart,,2024-01-01\nr,i,dwell_s,2.5,\nr,,click,,\n"
        ",i,click,,\nr,i,?,,\nr,i,,,\nr,i,click,much,\nr,i,click,,soon\n",
        "events.csv",
    )
    kept, rejected = read(events, later=True)
    assert [(row["add_to_cart"], row["dwell_s"], row["outcome_at"] is None) for row in kept] == [
        (1.0, None, False),
        (None, 2.5, True),
    ]
    assert [(row, reason) for row, reason, _ in rejected] == [
        (3, "no_item"),
        (4, "no_request"),
        (5, "bad_event"),
        (6, "bad_event"),
        (7, "bad_outcome"),
        (8, "bad_time"),
    ]
    wide = write(tmp_path, "request_id,item_id,click\nr,i,0\n", "wide.csv")
    assert read(wide, later=True)[0][0]["click"] == 0


def test_events_beyond_the_most_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impression_file, "MOST_SIGNALS", 2)
    monkeypatch.setattr(impression_file, "_AT_ONCE", 2)
    path = write(tmp_path, "request_id,item_id,event\n" + "".join(f"r,i,{name}\n" for name in "abcab"))
    kept, rejected = read(path, later=True)
    assert len(kept) == 4
    assert rejected == [(3, "bad_event", "c")]


def test_rows_keep_their_numbers_from_block_to_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impression_file, "_AT_ONCE", 3)
    path = write(
        tmp_path, "user_id,item_id,timestamp\n" + "".join(f"{'u' if n % 4 else ''},i,{n + 1}\n" for n in range(10))
    )
    blocks = list(opened(path, time_unit="s"))
    assert [block.numbers.tolist() for block in blocks] == [[2, 3], [4, 6], [7, 8], [10]]
    assert [row for block in blocks for row in block.rejected["row"].to_pylist()] == [1, 5, 9]


def test_faults_of_a_file_name_the_next_step(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEAD},a,b\nu,i,2024-01-01,,,,,1,1\n")
    assert fault(path, signals={"Click!": "a"}) == (
        "--signals Click!: an outcome is named by small letters, digits and _, and not as another field"
    )
    assert "not as another field" in fault(path, signals={"propensity": "a"})
    assert fault(path, signals={"click": "aa"}).startswith(f"--signals click=aa: {path} has no such column; ")
    assert fault(path, columns={"usr": "a"}).startswith("--columns usr=a: no field 'usr'; did you mean 'user_id'?")
    assert fault(tmp_path / "none.csv").startswith(f"no file of impressions at {tmp_path / 'none.csv'}")
    assert fault(write(tmp_path, "request_id,item_id,x\n", "o.csv"), later=True).endswith(
        "name a column of some with --signals NAME=COLUMN, or one of events with --columns event=COLUMN"
    )
    doubt = write(tmp_path, "user_id,item_id,timestamp,clicks,clicked\nu,i,2024-01-01,1,1\n", "d.csv")
    assert fault(doubt) == f"{doubt}: click may be clicks or clicked; say which with --signals click=clicks"
    assert fault(write(tmp_path, "user_id,item_id\nu,i\n", "t.csv")).endswith("--columns timestamp=COLUMN")


def test_a_nan_in_a_column_of_numbers_is_no_missing_propensity(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": ["u"] * 3,
            "item_id": ["a", "b", "c"],
            "timestamp": ["2024-01-01"] * 3,
            "propensity": pa.array([np.float32("nan"), None, np.float32(1)], pa.float32(), from_pandas=False),
        }
    )
    pq.write_table(table, tmp_path / "shown.parquet")
    kept, rejected = read(tmp_path / "shown.parquet")
    assert [row["propensity"] for row in kept] == [None, 1.0]
    assert rejected == [(1, "bad_propensity", "nan")]
