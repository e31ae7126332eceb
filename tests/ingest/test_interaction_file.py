"""Files of interactions: columns, formats, units, and a reason for every row that is turned away."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart.core.items import Item
from coldstart.errors import ColdstartError
from coldstart.ingest import csv_table, parquet_table, table
from coldstart.ingest.columns import detect_time_unit, parse_numbers, parse_texts, parse_times
from coldstart.ingest.files import KNOWN
from coldstart.ingest.interaction_file import InteractionFile

NOW_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
START = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


def write(folder: Path, text: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def opened(path: Path, **options: Any) -> InteractionFile:
    return InteractionFile(path, now_us=NOW_US, **options)


def read(path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    blocks = list(opened(path, **options))
    rejected = [tuple(row.values()) for block in blocks for row in block.rejected.to_pylist()]
    return [row for block in blocks for row in block.rows.to_pylist()], rejected


def fault(path: Path, **options: Any) -> str:
    with pytest.raises(ColdstartError) as caught:
        read(path, **options)
    return str(caught.value)


# -- columns


def test_plain_names_are_recognised(tmp_path: Path) -> None:
    file = opened(write(tmp_path, "userId,movieId,rating,timestamp,fold\n1,7,4.5,1577934245,warm\n"))
    assert file.columns == {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "weight": "rating"}
    assert file.guessed == {"user_id": "userId", "item_id": "movieId", "weight": "rating"}
    (block,) = file
    assert block.rows.to_pylist() == [{"user_id": "1", "item_id": "7", "timestamp": START, "event": "", "weight": 4.5}]
    assert file.time_unit == "s"


def test_columns_can_be_named_and_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,rating,user\na,b,3,c\n")
    rows, _ = read(path, columns={"user_id": "who", "item_id": "what", "weight": ""})
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    assert rows == [{"user_id": "a", "item_id": "b", "timestamp": zero, "event": "", "weight": 1.0}]


def test_a_name_of_ours_wins_over_one_that_may_mean_it(tmp_path: Path) -> None:
    file = opened(write(tmp_path, "user_id,uid,item_id,asin\na,b,c,d\n"))
    assert file.columns == {"user_id": "user_id", "item_id": "item_id"}
    assert file.guessed == {}


def test_columns_at_fault_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "who,movieId,productId\na,b,c\n")
    assert fault(path) == f"{path}: item_id may be movieId or productId; say which with --columns item_id=movieId"
    assert fault(path, columns={"item_id": "movieId"}) == (
        f"{path}: no column is known as user_id; it has who, movieId, productId; name one with --columns user_id=COLUMN"
    )
    assert fault(path, columns={"user_id": "whom"}) == (
        f"--columns user_id=whom: {path} has no such column; did you mean 'who'?"
    )
    assert fault(path, columns={"user": "who"}) == "--columns user=who: no field 'user'; did you mean 'user_id'?"
    assert fault(path, columns={"user_id": "", "item_id": "movieId"}) == (
        f"{path}: no column is known as user_id; it has who, movieId, productId; name one with --columns user_id=COLUMN"
    )
    twice = write(tmp_path, "user,item,user\na,b,c\n", "twice.csv")
    assert fault(twice, columns={"user_id": "user"}) == f"header of {twice}: column 'user' stands twice: rename one"
    assert fault(path, columns={"user_id": "who", "item_id": "movieId"}, event_weights={"click": 1}) == (
        f"--event-weights: {path} has no column of events; name it with --columns event=COLUMN"
    )


def test_files_at_fault_are_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "none.csv") == f"no file of interactions at {tmp_path / 'none.csv'}: give {KNOWN}"
    path = write(tmp_path, "x", "log.xlsx")
    assert fault(path) == f"{path}: not a readable workbook: Cannot detect file format"
    path = write(tmp_path, "")
    assert fault(path) == f"{path} has no rows: give one interaction a row"
    path = write(tmp_path, "user,item\n")
    assert fault(path) == f"{path} has no rows: give one interaction a row"
    path = write(tmp_path, b"user,\xfftem\n")
    assert fault(path) == f"header of {path}: column 2 is not UTF-8: save the file as UTF-8"
    path = write(tmp_path, "[1]\nuser\n", "log.jsonl")
    assert fault(path) == f"{path} has no rows: give one interaction a row"
    path = write(tmp_path, "not parquet", "log.parquet")
    assert fault(path).startswith(f"{path} is not a readable Parquet file: ")
    path = write(tmp_path, "user,item\na,b\n")
    assert fault(path, time_unit="h") == "--time-unit h: give s, ms, us, iso or auto"


# -- formats


ROWS = [
    {"user": "ann", "item": "a, b", "ts": "2020-01-02T03:04:05Z", "rating": 2},
    {"user": 7, "item": "\U0001f34b", "ts": "2020-01-02 04:04:05.000+01:00", "rating": -1.5},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "user": str(row["user"])} for row in ROWS]), path)
    elif kind == "jsonl":
        path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in ROWS), "utf-8")
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(f'"{value}"' for value in row.values()) for row in [dict.fromkeys(ROWS[0]), *ROWS]]
        path.write_text("\n".join([mark.join(ROWS[0]), *lines[1:]]) + "\n", "utf-8")
    rows, rejected = read(path)
    assert rejected == []
    assert rows == [
        {"user_id": "ann", "item_id": "a, b", "timestamp": START, "event": "", "weight": 2.0},
        {"user_id": "7", "item_id": "\U0001f34b", "timestamp": START, "event": "", "weight": -1.5},
    ]


def test_ids_of_parquet_are_text_whatever_they_were(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    columns = {
        "user": pa.array([1.0, None, 3.0]),
        "item": pa.array(["a", "b", "a"]).dictionary_encode(),
        "time": pa.array([date(2020, 1, 2)] * 3),
    }
    pq.write_table(pa.table(columns), path)
    rows, rejected = read(path)
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("1", "a"), ("3", "a")]
    assert rows[0]["timestamp"] == datetime(2020, 1, 2, tzinfo=UTC)
    assert rejected == [(2, "no_user", "")]
    pq.write_table(pa.table({"user": [[1]], "item": ["a"]}), path)
    assert fault(path) == "a column of list<element: int64> is no text: name another with --columns"
    for type_ in (pa.time64("us"), pa.duration("s")):
        pq.write_table(pa.table({"user": ["u"], "item": ["a"], "time": pa.array([1], type_)}), path)
        assert fault(path).endswith("has no dates: name another with --columns")


@pytest.mark.parametrize(
    ("type_", "late"), [(pa.timestamp("s"), 2**62), (pa.timestamp("ms", "UTC"), 2**61), (pa.date32(), 2**31 - 1)]
)
def test_times_that_do_not_fit_are_no_times(type_: pa.DataType, late: int) -> None:
    integers = pa.int32() if type_ == pa.date32() else pa.int64()
    micros, bad = parse_times(pa.array([1, late, None], integers).cast(type_), "iso")
    assert bad.tolist() == [False, True, True]
    assert micros[0] > 0


def test_delimiters_packing_and_utf16_are_recognised(tmp_path: Path) -> None:
    text = "user;item;ts\nänn;a,b;2020-01-02 03:04:05\n"
    expected = [{"user_id": "änn", "item_id": "a,b", "timestamp": START, "event": "", "weight": 1.0}]
    assert read(write(tmp_path, text))[0] == expected
    assert read(write(tmp_path, text.replace(";", "\t"), "log.txt"))[0] == expected
    assert read(write(tmp_path, text.encode("utf-16"), "log.csv"))[0] == expected
    assert read(write(tmp_path, gzip.compress(text.encode()), "log.csv.gz"))[0] == expected
    row = json.dumps({"user": "änn", "item": "a,b", "ts": "2020-01-02T03:04:05Z"})
    assert read(write(tmp_path, f"[{row}]", "log.json"))[0] == expected
    assert read(write(tmp_path, gzip.compress(f"{row}\n".encode()), "log.jsonl.gz"))[0] == expected


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"user,item\n" + b"".join(b"u%d,i%d\n" % (n, n * n) for n in range(50_000)))
    path = write(tmp_path, whole[:-5000], "log.csv.gz")
    assert fault(path) == (
        f"{path} is not a whole gzip file: Compressed file ended before the end-of-stream marker was reached"
    )
    path = write(tmp_path, b"user,item\na,b\n", "plain.csv.gz")
    assert [row["item_id"] for row in read(path)[0]] == ["b"]


IDS = [1.0, 2.0, None]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "decimal"])
def test_whole_numbers_are_ids_without_decimals_in_every_file(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        path = write(tmp_path, "user,item\n1.0,a\n2.0,a\n,a\n")
    elif kind == "jsonl":
        path = write(tmp_path, "\n".join(json.dumps({"user": one, "item": "a"}) for one in IDS), "log.jsonl")
    else:
        path = tmp_path / "log.parquet"
        user = pa.array(IDS, pa.float64())
        user = user.cast(pa.decimal128(10, 2)) if kind == "decimal" else user
        pq.write_table(pa.table({"user": user, "item": ["a"] * 3}), path)
    rows, rejected = read(path)
    assert [row["user_id"] for row in rows] == ["1", "2"]
    assert rejected == [(3, "no_user", "")]


def test_other_texts_keep_their_decimals(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, "user,item\n1.0,a\n1.5,a\n"))
    assert [row["user_id"] for row in rows] == ["1.0", "1.5"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_ids_that_lost_their_digits_are_turned_away(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{kind}"
    if kind == "csv":
        path.write_text("user,item\n4.00638E+12,a\n9007199254740993,a\n", "utf-8")
    elif kind == "jsonl":
        path.write_text('{"user": 1e17, "item": "a"}\n{"user": 9007199254740993, "item": "a"}\n', "utf-8")
    else:
        pq.write_table(pa.table({"user": [1e17, 2.0], "item": ["a", "a"]}), path)
    rows, rejected = read(path)
    assert [row["user_id"] for row in rows] == ["2" if kind == "parquet" else "9007199254740993"]
    assert [(row, reason) for row, reason, _ in rejected] == [(1, "bad_id")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_nobody_is_no_user(tmp_path: Path, kind: str) -> None:
    users = ["NULL", "nan", "None", r"\N", "", "N/A", "NA", "u"]
    path = tmp_path / f"log.{kind}"
    if kind == "csv":
        path.write_text(
            "".join(f"{user},i,1\n" for user in ["user", *users]).replace(",i,1", ",item,rating", 1), "utf-8"
        )
    elif kind == "jsonl":
        lines = [
            json.dumps({"user": user, "item": "i", "rating": float("nan")}) for user in [*users, None, float("nan")]
        ]
        path.write_text("\n".join(lines), "utf-8")
    else:
        pq.write_table(pa.table({"user": users, "item": ["i"] * 8, "rating": [float("nan")] * 8}), path)
    rows, rejected = read(path)
    assert [(row["user_id"], row["weight"]) for row in rows] == [("u", 1.0)]
    assert {reason for _, reason, _ in rejected} == {"no_user"}
    assert len(rejected) == (9 if kind == "jsonl" else 7)


def test_a_lone_surrogate_is_no_text(tmp_path: Path) -> None:
    path = write(
        tmp_path, '{"user": "a\\ud800", "item": "i"}\n{"user": "b", "item": "i", "other": "\\ud800"}\n', "log.jsonl"
    )
    rows, rejected = read(path)
    assert [row["user_id"] for row in rows] == ["b"]
    assert rejected == [(1, "unreadable", "'user' is no Unicode text: it holds a lone surrogate")]


# -- rows that are turned away


def test_every_bad_row_has_a_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        b"user,item,time,event,rating\n"
        b"a,x,1577934245,click,1\n"
        b" ,x,1577934245,click,1\n"
        b"a,,1577934245,click,1\n"
        b"\n"
        b"a,x,soon,click,1\n"
        b"a,x,-5,click,1\n"
        b"a,x,1893456000,click,1\n"
        b"a,x,1577934245,frob,1\n"
        b"a,x,1577934245,,1\n"
        b"a,x,1577934245,rate,much\n"
        b"a,x\n"
        b"a,\xff,1577934245,click,1\n"
        b'a,"x\ny",1577934245,click,1\n'
        b"a," + b"x" * 1025 + b",1577934245,click,1\n"
        b" a , y ,1577934246,rate,\n"
        b"b,x,1577934245,rate,inf\n",
    )
    rows, rejected = read(path, event_weights={"click": 0.5, "rate": None})
    assert [(row["user_id"], row["item_id"], row["weight"]) for row in rows] == [("a", "x", 0.5), ("a", "y", 1.0)]
    assert rejected == [
        (2, "no_user", ""),
        (3, "no_item", ""),
        (4, "bad_time", "soon"),
        (5, "bad_time", "-5"),
        (6, "future_time", "1893456000"),
        (7, "unknown_event", "frob"),
        (8, "unknown_event", ""),
        (9, "bad_weight", "much"),
        (10, "bad_time", ""),
        (11, "unreadable", "not UTF-8"),
        (12, "bad_id", "a, x\ny"),
        (13, "bad_id", "a, " + "x" * 197),
        (15, "bad_weight", "inf"),
    ]


def test_a_row_that_is_neither_whole_nor_utf8_costs_that_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, b"user,item\na,x\n\xfcb\nc\xfc,x\nd,\xc3\xbc\ne\n" + "f,\U0010ffff\n".encode())
    rows, rejected = read(path)
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("a", "x"), ("d", "ü")]
    assert rejected == [
        (2, "unreadable", "not UTF-8"),
        (3, "unreadable", "not UTF-8"),
        (5, "no_item", ""),
        (6, "unreadable", "not UTF-8"),
    ]
    assert capfd.readouterr().err == ""


def test_lines_of_json_that_are_none_are_told(tmp_path: Path) -> None:
    good = '{"user": "a", "item": "x"}', '{"user": 5.0, "item": 6}'
    bad = '{"user": "a"', "[1]", '{"item": "x"}', '{"user": true, "item": ["x"]}', ""
    rows, rejected = read(write(tmp_path, "\n".join([good[0], *bad, good[1]]), "log.jsonl"))
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("a", "x"), ("5", "6")]
    assert rejected == [
        (2, "unreadable", "not JSON: Expecting ',' delimiter at column 13"),
        (3, "unreadable", "not a JSON object but list"),
        (4, "no_user", ""),
        (5, "no_user", ""),
    ]


def test_rows_are_numbered_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(parquet_table, "BLOCK_ROWS", 300)
    monkeypatch.setattr(table, "BLOCK_LINES", 300)
    lost = set(range(7, 3000, 100))
    lines = [f"u{row}" if row in lost else f"u{row},i{row}" for row in range(1, 3001)]
    blocks = list(opened(write(tmp_path, "\n".join(["user,item", *lines, "u"]))))
    assert len(blocks) > 3
    assert [row for block in blocks for row in block.rejected["row"].to_pylist()] == [*sorted(lost), 3001]
    assert sum(block.rows.num_rows for block in blocks) == 3000 - len(lost)
    users = ["" if row in lost else f"u{row}" for row in range(1, 3001)]
    path = write(tmp_path, "".join(f'{{"user": "{user}", "item": "i"}}\n' for user in users), "log.jsonl")
    assert [row for row, _, _ in read(path)[1]] == sorted(lost)
    pq.write_table(pa.table({"user": users, "item": ["i"] * 3000}), tmp_path / "log.parquet")
    assert [row for row, _, _ in read(tmp_path / "log.parquet")[1]] == sorted(lost)


def test_a_file_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": [str(n) for n in range(5000)], "item": ["i"] * 5000}), path)
    whole = bytearray(path.read_bytes())
    whole[100:400] = bytes(300)
    path.write_bytes(whole)
    assert fault(path).startswith(f"cannot read {path} further: ")


# -- values


def test_units_are_told_by_size() -> None:
    stamp = int(START.timestamp())
    for unit, factor in (("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)):
        for values in (pa.array([stamp * factor] * 3), pa.array([str(stamp * factor), "x", None])):
            assert detect_time_unit(values) == unit
            micros, bad = parse_times(values, unit)
            assert micros[0] == stamp * 10**6
            assert not bad[0]
    assert detect_time_unit(pa.array(["2020-01-02", "5", "x"])) == "iso"
    assert detect_time_unit(pa.array([START])) == "iso"


def test_iso_times_are_pythons() -> None:
    """Against datetime.fromisoformat, UTC where no zone is given."""
    written = [
        "2020-01-02",
        "2020-01-02 03:04:05.123456789",
        "2020-01-02T03:04:05",
        "2020-01-02 03:04:05.5",
        "2020-01-02T03:04:05+02:00",
        "2020-01-02T03:04Z",
    ]
    expected = []
    for text in written:
        one = datetime.fromisoformat(text)
        expected.append(int((one if one.tzinfo else one.replace(tzinfo=UTC)).timestamp() * 1e6))
    micros, bad = parse_times(pa.array(written), "iso")
    assert micros.tolist() == expected
    assert not bad.any()
    micros, bad = parse_times(pa.array([*written, "2020-13-01", None, "1969-01-01", "5"]), "iso")
    assert micros[:6].tolist() == expected
    assert bad.tolist() == [False] * 6 + [True] * 4


@pytest.mark.parametrize(
    "texts",
    [
        ["20200102", "20200103"],
        ["2020-01-02 00:00:00 UTC", "2020-01-03 00:00:00 UTC"],
        ["2020-01-02 00:00:00+00", "2020-01-03 00:00:00 +0000"],
        ["2020-01-02T00:00:00 GMT", "20200103T000000Z"],
        ["20200102000000", "20200103000000"],
    ],
)
def test_times_are_read_as_in_manifests(tmp_path: Path, texts: list[str]) -> None:
    path = write(tmp_path, "user,item,time\n" + "".join(f"u,i,{text}\n" for text in texts))
    rows, rejected = read(path)
    assert rejected == []
    assert [row["timestamp"] for row in rows] == [datetime(2020, 1, day, tzinfo=UTC) for day in (2, 3)]
    assert [Item.parse({"item_id": "a", "created_at": text}).created_at for text in texts] == [
        row["timestamp"] for row in rows
    ]
    if texts[0].isdigit():
        pq.write_table(
            pa.table({"user": ["u"] * 2, "item": ["i"] * 2, "time": [*map(int, texts)]}), tmp_path / "l.parquet"
        )
        assert read(tmp_path / "l.parquet")[0] == rows


def test_a_file_whose_times_all_lie_in_1970_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,time\nu,i,45413\nu,i,45414\n")
    assert fault(path) == (
        f"all times of {path} lie in 1970, such as 45413: no seconds since 1970; if it is the day of a spreadsheet, "
        "write 2024-05-01; if they are right, give --time-unit s"
    )
    assert len(read(path, time_unit="s")[0]) == 2
    path = write(tmp_path, "user,item,time\nu,i,1577934245\n")
    assert fault(path, time_unit="ms") == (
        f"with --time-unit ms all times of {path} lie in 1970, such as 1577934245; by their size they are in s: give "
        "--time-unit s"
    )
    path = write(tmp_path, "user,item,time\nu,i,1970-01-01 00:00:01.577934\n")
    assert fault(path) == (
        f"all times of {path} lie in 1970, such as 1970-01-01 00:00:01.577934: they were made of numbers in another "
        "unit; if they are right, give --time-unit iso"
    )
    assert len(read(path, time_unit="iso")[0]) == 1


def test_a_doubtful_time_among_good_ones_is_turned_away(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,time\nu,i,1577934245\nu,i,45413\nu,i,20240105\nu,i,1577934246\n")
    rows, rejected = read(path)
    assert len(rows) == 2
    assert rejected == [(2, "bad_time", "45413"), (3, "bad_time", "20240105")]


def test_weights_with_a_decimal_comma_are_numbers() -> None:
    found, missing = parse_numbers(pa.array(["4,5", "nan", "NULL", "x", "1,234"]))
    np.testing.assert_array_equal(found, [4.5, np.nan, np.nan, np.nan, np.nan])
    assert missing.tolist() == [False, True, True, False, False]


def test_numbers_are_pythons() -> None:
    """Against float()."""
    written = ["1", " -2.5 ", "+3e2", ".5", "7."]
    found, missing = parse_numbers(pa.array([*written, "x", "", None, "1_0"]))
    np.testing.assert_array_equal(found[:5], [float(text) for text in written])
    assert np.isnan(found[5:]).all()
    assert missing.tolist() == [False] * 6 + [True, True, False]


def test_bytes_that_are_no_text_are_marked() -> None:
    found, broken = parse_texts(pa.array([b"a ", b"\xff", b"", None]))
    assert found.to_pylist() == ["a", None, None, None]
    assert broken.tolist() == [False, True, False, False]


def test_a_line_longer_than_a_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 2**12)
    path = write(tmp_path, f"user_id,item_id,timestamp\nu,{'a' * 2**16},1700000000\nu,b,1700000000\n")
    with pytest.raises(ColdstartError) as caught:
        list(opened(path))
    assert str(caught.value).startswith(f"cannot read {path}")
    assert str(caught.value).endswith(": a line is too long: shorten it, or end each line")


# -- as shops write them


def test_columns_are_known_in_the_languages_of_the_field(tmp_path: Path) -> None:
    for header, known in (
        ("Kunde;Artikelnummer;Bestelldatum", ("Kunde", "Artikelnummer", "Bestelldatum")),
        ("utilisateur;référence;date", ("utilisateur", "référence", "date")),
        ("id;customer_email;sku;ordered_at", ("customer_email", "sku", "ordered_at")),
        ("用户ID;商品编号;时间", ("用户ID", "商品编号", "时间")),
    ):
        file = opened(write(tmp_path, f"{header}\na;b;c;d\n"))
        assert file.columns == dict(zip(("user_id", "item_id", "timestamp"), known, strict=True))
    assert "weight" not in opened(write(tmp_path, "user,item,note\na,b,nice\n")).columns


@pytest.mark.parametrize(
    ("first", "second", "form"),
    [
        ("24.12.2024 13:30", "01.02.2024 10:00", "%d.%m.%Y %H:%M"),
        ("24/12/2024", "01/02/2024", "%d/%m/%Y"),
        ("12/24/2024 01:30 PM", "02/01/2024 10:00 AM", "%m/%d/%Y %I:%M %p"),
        ("Tue, 24 Dec 2024 13:30:00 +0100", "Thu, 01 Feb 2024 10:00:00 +0000", "RFC 822"),
    ],
)
def test_dates_as_shops_write_them_are_times(tmp_path: Path, first: str, second: str, form: str) -> None:
    file = opened(write(tmp_path, f'user;item;time\na;x;"{first}"\n' + f'b;y;"{second}"\n' * 4 + "c;z;soon\n"))
    (block,) = file
    assert file.time_unit == form
    assert [row["timestamp"].date().isoformat() for row in block.rows.to_pylist()] == [
        "2024-12-24",
        *["2024-02-01"] * 4,
    ]
    assert [row["reason"] for row in block.rejected.to_pylist()] == ["bad_time"]


def test_days_and_months_that_may_change_places_are_turned_away(tmp_path: Path) -> None:
    _, rejected = read(write(tmp_path, "user,item,time\na,x,03/04/2024\n"))
    assert rejected == [(1, "bad_time", "03/04/2024")]


def test_a_workbook_of_interactions_is_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["Kunde", "SKU", "Datum"], ["a", "007", datetime(2024, 1, 5, 12, 30)], [7, 8, datetime(2024, 1, 6)]):
        book.active.append(row)  # type: ignore[union-attr]
    book.save(tmp_path / "log.xlsx")
    rows, rejected = read(tmp_path / "log.xlsx")
    assert [(row["user_id"], row["item_id"], row["timestamp"].isoformat()) for row in rows] == [
        ("a", "007", "2024-01-05T12:30:00+00:00"),
        ("7", "8", "2024-01-06T00:00:00+00:00"),
    ]
    assert rejected == []


def test_what_was_decided_about_a_file_is_told(tmp_path: Path) -> None:
    file = opened(write(tmp_path, "Kunde;Artikel\nM\xfcller;7\n".encode("cp1252")))
    assert file.notes == [
        "not UTF-8: read as Windows-1252 (Western), such as 'Müller'",
        "its columns are parted by semicolons",
    ]
