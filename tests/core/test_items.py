"""Manifest rows as items: what is accepted, how it is kept, and the line that names each fault."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.core.items import CONTENT_FIELDS, EXTENSIONS, FIELD_NAMES, Item, Media
from coldstart.core.keys import digest
from coldstart.core.values import ROUNDED, is_missing

LONG = "x" * 1025


def parse(**fields: Any) -> Item:
    return Item.parse({"item_id": "a", **fields})


def fault(**fields: Any) -> str:
    with pytest.raises(ValueError) as caught:
        Item.parse({"item_id": "a", **fields})
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item_id": None}, "item_id is missing"),
        ({"item_id": " \t"}, "item_id is missing"),
        ({"item_id": True}, "item_id=True: Input should be a valid string"),
        ({"item_id": ["a"]}, "item_id=['a']: Input should be a valid string"),
        ({"item_id": float("nan")}, "item_id is missing"),
        ({"item_id": "NULL"}, "item_id is missing"),
        (
            {"item_id": 1e16},
            "item_id=1e+16: a number that has lost its last digits: write ids as text or as whole numbers",
        ),
        ({"item_id": LONG}, f"item_id='{'x' * 56}...: String should have at most 1024 characters"),
        ({"title": ["x"]}, "title=['x']: Input should be a valid string"),
        ({"kind": "movie"}, "kind='movie': Input should be 'video' or 'product'"),
        (
            {"created_at": "yesterday"},
            "created_at='yesterday': Input should be a valid datetime or date, input is too short",
        ),
        (
            {"created_at": "2024-02-30"},
            "created_at='2024-02-30': Input should be a valid datetime or date, day value is outside expected range",
        ),
        (
            {"created_at": "0001-01-01T00:00:00+14:00"},
            "created_at='0001-01-01T00:00:00+14:00': in UTC it is not between the years 1 and 9999",
        ),
        ({"price": -1}, "price=-1: Input should be greater than or equal to 0"),
        ({"price": "inf"}, "price='inf': Input should be a finite number"),
        ({"price": "from 12"}, "price='from 12': not a price: write 19.99, or 19.99 EUR"),
        ({"price": "1.299 EUR"}, "price='1.299 EUR': 1299 or 1.299? write 1299.00, or 1.2990"),
        ({"price": "-5 EUR"}, "price=-5.0: Input should be greater than or equal to 0"),
        (
            {"created_at": 45413},
            "created_at=45413: no seconds since 1970; if it is the day of a spreadsheet, write 2024-05-01",
        ),
        ({"tags": 5}, "tags=5: give a list, or one text with , or | between the tags"),
        ({"tags": {"a": 1}}, "tags={'a': 1}: give a list, or one text with , or | between the tags"),
        ({"attributes": [1]}, "attributes=[1]: not a JSON object"),
        ({"attributes": "[1]"}, "attributes='[1]': not a JSON object"),
        ({"attributes": "[" * 100_000}, f"attributes='{'[' * 56}...: nested too deeply"),
        (
            {"attributes": "{a"},
            "attributes='{a': not a JSON object: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ({"media": 5}, "media.0=5: give a URI, or an object with uri and role"),
        ({"media": [5]}, "media.0=5: give a URI, or an object with uri and role"),
        ({"media": [{"uri": 5, "role": "image"}]}, "media.0.uri=5: Input should be a valid string"),
        ({"media": [{"role": "image"}]}, "media.0.uri is missing"),
        (
            {"media": [{"uri": "x.jpg", "alt": "z"}]},
            "unknown field media.0.alt='z': an entry of media has uri and role",
        ),
        ({"media": ["x"]}, "media.0='x': no role given and none known for 'x': state role image, video or audio"),
        ({"media": ["http://[::1/x.jpg"]}, "media.0='http://[::1/x.jpg': Invalid IPv6 URL"),
        (
            {"media": [{"uri": "x.jpg", "role": "pic"}]},
            "media.0.role='pic': Input should be 'image', 'video' or 'audio'",
        ),
        ({"image": 5}, "media.0.uri=5: Input should be a valid string"),
        ({"titel": "x"}, "unknown field titel='x': did you mean 'title'?"),
        ({"sku": "x"}, "unknown field sku='x': move it into attributes, or `map` the columns you want"),
        ({"title": "a\ud800"}, "'title' is no Unicode text: it holds a lone surrogate, '\\ud800'"),
        (
            {"attributes": {"a\udfff": 1}},
            "'attributes' is no Unicode text: it holds a lone surrogate, '\\udfff'",
        ),
    ],
)
def test_a_fault_is_one_line_with_field_and_value(fields: dict[str, Any], message: str) -> None:
    assert fault(**fields) == message


def test_all_faults_of_a_row_are_named() -> None:
    assert fault(item_id="", price=-1, created_at="x") == (
        "item_id is missing; created_at='x': Input should be a valid datetime or date, input is too short; "
        "price=-1: Input should be greater than or equal to 0"
    )


@pytest.mark.slow
def test_nesting_that_json_cannot_write_is_a_fault() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert fault(attributes={"x": deep}).startswith("attributes is no JSON value: maximum recursion depth exceeded")


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [(5, "5"), (5.0, "5"), (Decimal("7.00"), "7"), (1.5, "1.5"), (2**60 + 1, str(2**60 + 1)), (" a ", "a")],
)
def test_ids_are_text_without_spaces_around(given_id: Any, kept: str) -> None:
    assert parse(item_id=given_id).item_id == kept


def _is_id(text: str) -> bool:
    return not is_missing(text) and not re.match(ROUNDED, text.strip())


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(_is_id))
def test_ids_may_be_any_unicode_text(item_id: str) -> None:
    item = parse(item_id=item_id)
    assert item.item_id.strip() == item_id.strip()
    assert item.row()["item_id"] == item.item_id


def test_blank_text_is_absent() -> None:
    item = parse(title="  ", description="", category="\t", image=" ", tags=" ", created_at="", price="")
    assert (item.title, item.description, item.category, item.tags) == (None, None, None, ())
    assert (item.created_at, item.price, item.media) == (None, None, ())
    assert item.record() == parse().record()


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ("a, b,,c", ("a", "b", "c")),
        ("a|b,c| d", ("a", "b,c", "d")),
        (["x", " y ", "", None], ("x", "y")),
        (("x", 1), ("x", "1")),
        ([], ()),
        ('["a, b", "c"]', ("a, b", "c")),
        ("['a', 'b']", ("a", "b")),
        ("[a, b]", ("[a", "b]")),
    ],
)
def test_tags_come_as_a_list_or_one_text(tags: Any, kept: tuple[str, ...]) -> None:
    assert parse(tags=tags).tags == kept


@pytest.mark.parametrize(
    ("created_at", "kept"),
    [
        ("2024-02-03", datetime(2024, 2, 3, tzinfo=UTC)),
        ("2024-02-03T10:00:00+02:00", datetime(2024, 2, 3, 8, tzinfo=UTC)),
        (datetime(2024, 2, 3, 10), datetime(2024, 2, 3, 10, tzinfo=UTC)),
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (20240105, datetime(2024, 1, 5, tzinfo=UTC)),
        ("2019-10-01 00:00:00 UTC", datetime(2019, 10, 1, tzinfo=UTC)),
    ],
)
def test_times_are_kept_in_utc(created_at: Any, kept: datetime) -> None:
    assert parse(created_at=created_at).created_at == kept


@pytest.mark.parametrize("price", [1.5, "1.5", Decimal("1.50")])
def test_prices_are_numbers_or_their_text(price: Any) -> None:
    assert parse(price=price).price == 1.5


@pytest.mark.parametrize("missing", [float("nan"), None, "NaN", "NULL", "None", r"\N", "N/A", "NA", "  "])
def test_a_missing_value_is_absent(missing: Any) -> None:
    item = parse(price=missing, created_at=missing, kind=missing)
    assert item == parse()


@pytest.mark.parametrize("missing", [float("nan"), "NULL", r"\N", "nan"])
def test_missing_words_are_absent(missing: Any) -> None:
    fields = ("title", "description", "category", "creator", "tags", "attributes", "images", "video")
    assert parse(**dict.fromkeys(fields, missing)) == parse()


def test_texts_that_are_bytes_are_read() -> None:
    fields = {"item_id": b"7", "title": "ü".encode(), "price": b"1,50", "created_at": b"20240105", "kind": b"NULL"}
    assert Item.parse(fields) == parse(item_id="7", title="ü", price=1.5, created_at="2024-01-05")
    assert fault(title=b"\xff").startswith("title=b'\\xff': Input should be a valid string")


def test_words_that_may_be_meant_stay() -> None:
    assert (parse(title="None").title, parse(creator="NA").creator) == ("None", "NA")


@pytest.mark.parametrize(
    ("price", "attributes", "kept"),
    [
        ("19,99 EUR", None, {"currency": "EUR"}),
        ("$12", {"colour": "red"}, {"colour": "red", "currency": "$"}),
        ("12 €", '{"size": 3}', {"size": 3, "currency": "EUR"}),
        ("12 EUR", {"currency": "CHF"}, {"currency": "CHF"}),
        ("12,90", None, {}),
    ],
)
def test_a_currency_becomes_an_attribute(price: str, attributes: Any, kept: dict[str, Any]) -> None:
    assert parse(price=price, attributes=attributes).attributes == kept


def test_attributes_become_plain_json() -> None:
    item = parse(
        attributes={
            "nan": float("nan"),
            "money": Decimal("1.50"),
            "day": datetime(2020, 1, 1),
            "bytes": b"\xff",
            5: ["x", (1, 2)],
        }
    )
    text = item.row()["attributes"]
    assert json.loads(text) == {
        "nan": None,
        "money": "1.50",
        "day": "2020-01-01T00:00:00",
        "bytes": "_w==",
        "5": ["x", [1, 2]],
    }
    assert "NaN" not in text
    assert parse(attributes='{"a": {"b": 1}}').attributes == {"a": {"b": 1}}
    assert fault(attributes={"x": object}) == (
        "attributes={'x': <class 'object'>}: not a JSON object: Unable to serialize unknown type: <class 'type'>"
    )


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        ({"media": "x.jpg"}, [("x.jpg", "image")]),
        ({"media": {"uri": "x.mp4"}}, [("x.mp4", "video")]),
        ({"media": ["x.JPG", "y.mp4", None, ""]}, [("x.JPG", "image"), ("y.mp4", "video")]),
        ({"media": [{"uri": "x.gif", "role": None}]}, [("x.gif", "video")]),
        ({"media": [{"uri": "x.bin", "role": "audio"}]}, [("x.bin", "audio")]),
        (
            {"media": ["https://shop.example/a/x.png?size=2#top"]},
            [("https://shop.example/a/x.png?size=2#top", "image")],
        ),
        ({"image": "x"}, [("x", "image")]),
        ({"image": {"uri": "x"}}, [("x", "image")]),
        ({"images": ["x", None, "y"], "audio": "z"}, [("x", "image"), ("y", "image"), ("z", "audio")]),
        ({"videos": ["x"], "media": ["y.png"]}, [("y.png", "image"), ("x", "video")]),
        ({"images": []}, []),
    ],
)
def test_media_come_as_text_object_list_or_short_form(fields: dict[str, Any], media: list[tuple[str, str]]) -> None:
    assert [(entry.uri, entry.role) for entry in parse(**fields).media] == media


def test_roles_are_known_for_every_listed_extension() -> None:
    for extension, role in EXTENSIONS.items():
        assert Media.model_validate(f"folder.x/name.{extension.upper()}").role == role


class Files:
    """Media files of a test: what exists, and which GIFs are pictures."""

    def find(self, uri: str) -> str | None:
        known = {"a.jpg": "a.jpg", "a,b.jpg": "a,b.jpg", "still.gif": "still.gif", r"d\a.jpg": "d/a.jpg"}
        return known.get(uri)

    def is_still(self, uri: str) -> bool:
        return uri == "still.gif"


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        ({"images": "a.jpg|b.jpg"}, [("a.jpg", "image"), ("b.jpg", "image")]),
        ({"images": "a.jpg, b.jpg"}, [("a.jpg", "image"), ("b.jpg", "image")]),
        ({"images": "a,b.jpg"}, [("a,b.jpg", "image")]),
        ({"media": '["a.jpg", "b.mp4"]'}, [("a.jpg", "image"), ("b.mp4", "video")]),
        ({"media": "['a.jpg', 'b.jpg']"}, [("a.jpg", "image"), ("b.jpg", "image")]),
        ({"media": "a.jpg\nb.mp4"}, [("a.jpg", "image"), ("b.mp4", "video")]),
        ({"image": "https://x.example/w_1,h_2/a.jpg"}, [("https://x.example/w_1,h_2/a.jpg", "image")]),
        (
            {"images": "https://x.example/a,1.jpg, https://x.example/b.jpg"},
            [("https://x.example/a,1.jpg", "image"), ("https://x.example/b.jpg", "image")],
        ),
        ({"images": ["a.jpg|b.jpg"]}, [("a.jpg|b.jpg", "image")]),
        ({"media": r"d\a.jpg"}, [("d/a.jpg", "image")]),
        ({"media": "still.gif"}, [("still.gif", "image")]),
        ({"media": "moving.gif"}, [("moving.gif", "video")]),
        ({"video": "still.gif"}, [("still.gif", "video")]),
    ],
)
def test_media_are_the_files_that_exist(fields: dict[str, Any], media: list[tuple[str, str]]) -> None:
    found = Item.parse({"item_id": "a", **fields}, Files())
    assert [(entry.uri, entry.role) for entry in found.media] == media


def test_kind_follows_the_media_where_none_is_given() -> None:
    assert parse(video="x").kind == "video"
    assert parse(image="x").kind == "product"
    assert parse().kind == "product"
    assert parse(video="x", kind="Product").kind == "product"


def test_a_row_fits_the_arrow_columns() -> None:
    item = parse(
        title="Soap",
        tags="a,b",
        created_at="2024-02-03",
        price=2,
        attributes={"colour": "red"},
        creator=7,
        image="x.jpg",
    )
    columns = [column for column in CONTENT_FIELDS if column.name != "media"]
    table = pa.Table.from_pylist([item.row()], schema=pa.schema([("item_id", pa.string()), *columns]))
    assert table.to_pylist() == [
        {
            "item_id": "a",
            "kind": "product",
            "title": "Soap",
            "description": None,
            "category": None,
            "tags": ["a", "b"],
            "creator": "7",
            "created_at": datetime(2024, 2, 3, tzinfo=UTC),
            "price": 2.0,
            "attributes": '{"colour": "red"}',
        }
    ]
    assert {*item.row(), "media"} == set(Item.model_fields)
    assert set(FIELD_NAMES) - set(Item.model_fields) == {"image", "images", "video", "videos", "audio"}


def test_the_record_holds_all_but_id_and_media() -> None:
    one = parse(title="Soap", price=2, attributes={"b": 1, "a": 2})
    assert (
        one.record()
        == Item.parse({"item_id": "z", "title": "Soap", "price": 2.0, "attributes": {"a": 2, "b": 1}}).record()
    )
    assert digest(one.record()) != digest(parse(title="Soap", price=3, attributes={"b": 1, "a": 2}).record())
    assert set(one.record()) == set(Item.model_fields) - {"item_id", "media"}


def test_plain_fields_are_parsed_as_the_validators_do() -> None:
    at = datetime(2024, 1, 5, 10, 0, 0, 5, UTC)
    rows: list[dict[str, Any]] = [
        {"item_id": " a ", "title": " Größe ", "description": "NULL", "category": "", "creator": "None"},
        {"item_id": "b", "price": 3.5, "created_at": at, "tags": [" x ", "y"], "kind": None},
        {"item_id": "c", "attributes": {"a": "1", "b": ["x", "ü"], "n": 3, "t": True, "e": None, "s": " x "}},
        {"item_id": "NA"},
        {"item_id": "1e+5", "title": "x"},
        {"item_id": "d", "price": -1.0},
        {"item_id": "e", "price": float("nan")},
        {"item_id": "f", "attributes": {" a ": 1, "x": {"y": 1.5}}},
        {"item_id": "g", "tags": ["", "z"]},
        {"item_id": "h", "title": 5, "price": 3},
        {"item_id": "i\n", "title": "x"},
        {"item_id": "j", "title": "\ud800"},
        {"item_id": "k", "image": "a.jpg"},
        {"item_id": "x" * 1025},
    ]
    fast = 0
    for row in rows:
        try:
            slow: Any = Item.model_validate(row)
        except ValueError:
            slow = None
        try:
            parsed: Any = Item.parse(row)
        except ValueError:
            parsed = None
        if slow is None or "\ud800" in str(row):
            assert parsed is None
            continue
        assert (parsed, parsed.record(), parsed.row()) == (slow, slow.record(), slow.row())
        whole = slow.model_dump(mode="json", exclude={"item_id", "media"})
        assert json.dumps(parsed.record(), sort_keys=True) == json.dumps(whole, sort_keys=True)
        fast += 1
    assert fast == 9
