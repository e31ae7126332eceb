"""Fields of an item that a stage reads: what is selected, and what their digest covers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from coldstart.core.item_fields import PICTURES, columns_of, field_digests, read_object, select_fields
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.keys import digest

SCHEMA = pa.schema([pa.field("item_id", pa.string()), *CONTENT_FIELDS])
HAT: dict[str, Any] = {
    "item_id": "hat",
    "kind": "product",
    "title": "Blue hat",
    "tags": ["warm"],
    "created_at": datetime(2026, 1, 2, tzinfo=UTC),
    "price": 5.0,
    "attributes": '{"colour": "blue", "ean": "123"}',
    "media": [
        {"role": "image", "uri": "/a/1.jpg", "digest": "d1", "width": 30},
        {"role": "audio", "uri": "/a/2.mp3", "digest": "d2", "duration_s": 2.0},
    ],
}
EMPTY: dict[str, Any] = {"item_id": "empty", "title": None, "tags": [], "media": None, "attributes": None}


def digests(*fields: str, **changes: Any) -> list[str]:
    rows = [{**HAT, **changes}, EMPTY, HAT]
    return field_digests(pa.concat_tables([pa.Table.from_pylist([row], schema=SCHEMA) for row in rows]), fields)


def test_a_digest_is_that_of_the_fields_that_are_there() -> None:
    assert digests("title", "price", "description", "tags") == [
        *(digest({"price": 5.0, "tags": ["warm"], "title": "Blue hat"}), digest({})),
        digest({"price": 5.0, "tags": ["warm"], "title": "Blue hat"}),
    ]
    assert digests("attributes.colour", "attributes.size")[0] == digest({"attributes.colour": "blue"})
    assert digests("media")[0] == digest({"media": "image d1 audio d2"})
    assert digests(*PICTURES)[0] == digest({"media.image": "d1"})
    assert digests("created_at")[0] == digest({"created_at": "2026-01-02T00:00:00+00:00"})
    assert digests() == [digest({})] * 3
    many = pa.Table.from_pylist([EMPTY, HAT, {**HAT, "media": HAT["media"][:1] * 2}, {**HAT, "media": []}], SCHEMA)
    for start in range(4):
        pictures = [None, "d1", "d1 d1", None][start:]
        expected = [digest({"media.image": own} if own else {}) for own in pictures]
        assert field_digests(many.slice(start), ["media.image", "media.video"]) == expected
    assert field_digests(pa.table({"item_id": ["old"]}), ["title", "media.image"]) == [digest({})]


@pytest.mark.parametrize(
    ("fields", "changes", "same"),
    [
        (["title"], {"price": 6.0}, True),
        (["title"], {"title": "Red hat"}, False),
        (["attributes.colour"], {"attributes": '{"colour": "blue"}'}, True),
        (["attributes.colour"], {"attributes": '{"colour": "red", "ean": "123"}'}, False),
        (["attributes"], {"attributes": '{"colour": "blue"}'}, False),
        (PICTURES, {"media": [{"role": "image", "uri": "/b/9.jpg", "digest": "d1", "width": 31}]}, True),
        (PICTURES, {"media": [{"role": "image", "uri": "/a/1.jpg", "digest": "d9"}]}, False),
        (["media"], {"media": [{"role": "image", "uri": "/a/1.jpg", "digest": "d1"}]}, False),
    ],
)
def test_only_a_change_of_these_fields_changes_the_digest(
    fields: list[str], changes: dict[str, Any], same: bool
) -> None:
    changed, _, plain = digests(*fields, **changes)
    assert (changed == plain) == same


def test_a_row_is_cut_to_the_fields() -> None:
    assert select_fields(HAT, ["title", "attributes.colour", "media.audio"]) == {
        "item_id": "hat",
        "title": "Blue hat",
        "attributes": '{"colour": "blue"}',
        "media": [HAT["media"][1]],
    }
    assert select_fields(HAT, ["attributes", "media"]) == {
        name: HAT[name] for name in ("item_id", "attributes", "media")
    }
    assert select_fields(HAT, ()) == {"item_id": "hat"}
    assert select_fields(EMPTY, ["attributes.colour", "media.image", "creator"]) == {
        "item_id": "empty",
        "attributes": "{}",
        "media": [],
    }
    assert columns_of(["media.image", "media.video", "attributes.a", "title"]) == ["attributes", "media", "title"]


def test_half_a_character_that_json_spells_is_read_as_a_question_mark() -> None:
    assert read_object(r'{"a": "\ud800x", "b\uDFFF": ["\ud83d\ude00"]}') == {"a": "?x", "b?": ["😀"]}
