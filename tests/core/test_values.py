"""Values of tables: what is missing, and how ids, times and prices are read, whatever the file."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.core.prices import parse_price
from coldstart.core.values import (
    are_whole_floats,
    is_missing,
    parse_id,
    parse_list,
    parse_time,
    split_media,
    split_tags,
)


def fault(parse: Any, value: Any) -> str:
    with pytest.raises(ValueError) as caught:
        parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    "value", ["", " ", "NULL", "null", "NaN", "None", r"\N", "N/A", "NA", "<NA>", float("nan"), None]
)
def test_what_databases_write_for_nothing_is_missing(value: Any) -> None:
    assert is_missing(value)
    assert parse_id(value) is None


@pytest.mark.parametrize("value", ["na", "nana", "nullable", 0, 0.0, "0", False])
def test_other_values_are_there(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (101.0, "101"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (2**63 + 1, "9223372036854775809"),
        (Decimal("7.00"), "7"),
        (Decimal("7.50"), "7.50"),
        ("101.0", "101.0"),
        ("007", "007"),
        ("1e3", "1e3"),
    ],
)
def test_ids_are_texts(value: Any, text: str) -> None:
    assert parse_id(value) == text


@pytest.mark.parametrize("value", [float(2**53), 1e300, "4.00638E+12", "1e+16", Decimal("1E+50")])
def test_an_id_without_its_last_digits_is_refused(value: Any) -> None:
    assert fault(parse_id, value) == "a number that has lost its last digits: write ids as text or as whole numbers"


@pytest.mark.parametrize(
    ("values", "whole"),
    [(["1.0", " 22.0 ", "", "nan"], True), (["1.0", "2"], False), (["1.5"], False), ([], False), ([None, 3], False)],
)
def test_a_column_of_whole_floats_is_recognised(values: list[Any], whole: bool) -> None:
    assert are_whole_floats(values) is whole


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (20240105, datetime(2024, 1, 5)),
        ("20240105", datetime(2024, 1, 5)),
        (20240105.0, datetime(2024, 1, 5)),
        (20240105123456, datetime(2024, 1, 5, 12, 34, 56)),
        ("20240105T123456Z", datetime(2024, 1, 5, 12, 34, 56)),
        ("2019-10-01 00:00:00 UTC", datetime(2019, 10, 1)),
        ("2019-10-01T00:00 gmt", datetime(2019, 10, 1)),
        ("2019-10-01 00:00:00 +0000 UTC", datetime(2019, 10, 1)),
        ("2024-05-01 12:00:00+00", datetime(2024, 5, 1, 12)),
        ("2024-05-01 12:00:00.25 +02:00", datetime(2024, 5, 1, 10, 0, 0, 250_000)),
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20)),
        (1_700_000_000_000, datetime(2023, 11, 14, 22, 13, 20)),
        ("1700000000000000", datetime(2023, 11, 14, 22, 13, 20)),
        (1_700_000_000_000_000_000, datetime(2023, 11, 14, 22, 13, 20)),
        (Decimal("1700000000.5"), datetime(2023, 11, 14, 22, 13, 20, 500_000)),
        (0, datetime(1970, 1, 1)),
        (-86_400, datetime(1969, 12, 31)),
    ],
)
def test_times_are_read_in_utc(value: Any, time: datetime) -> None:
    assert parse_time(value) == time.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (45413, "no seconds since 1970; if it is the day of a spreadsheet, write 2024-05-01"),
        ("45413.5", "no seconds since 1970; if it is the day of a spreadsheet, write 2024-05-01"),
        (2024, "a year alone: write 2024-01-01"),
        ("202405", "a month alone: write 2024-05-01"),
        (20241305, "no date: month 13, day 05"),
        (17, "no seconds since 1970: write ISO 8601, such as 2024-01-05"),
        ("UTC", "Input should be a valid datetime or date, input is too short"),
        (True, "Input should be a valid datetime"),
        (float("inf"), "Input should be a valid datetime, dates after 9999 are not supported as unix timestamps"),
        ("9" * 5000, "Input should be a valid datetime, dates after 9999 are not supported as unix timestamps"),
    ],
)
def test_doubtful_times_are_refused(value: Any, message: str) -> None:
    assert fault(parse_time, value) == message


def test_lists_are_read_as_json_or_python_write_them() -> None:
    assert parse_list(' ["a", "b"] ') == ["a", "b"]
    assert parse_list("['a', 'b']") == ["a", "b"]
    assert parse_list(r"['a\d', 1]") == [r"a\d", 1]
    assert [parse_list(text) for text in ("[a]", "a", "{}", "[" * 90_000 + "]" * 90_000)] == [None] * 4


@settings(max_examples=50)
@given(st.text(alphabet="0123456789.,' -+€$EURkr:TZUTC/[]{}\"\\nNaN\u00a0٣½", max_size=30))
def test_any_text_is_a_value_or_a_fault(text: str) -> None:
    for parse in (parse_id, parse_time, parse_price):
        with suppress(ValueError):
            parse(text)
    assert isinstance(split_tags(text), list) and isinstance(split_media(text, lambda uri: False), list)
