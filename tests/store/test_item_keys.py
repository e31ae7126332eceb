"""Keys of item fields; a workspace of layout version 1 keeps its keys while the fields are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coldstart.core.item_fields import field_digests
from coldstart.ingest.stage import SCHEMA
from coldstart.store import ITEMS, Store
from coldstart.store.item_keys import CARRIED, carry_over, copy_items

FIELDS = (None, ("title",), ("media.image",), ("attributes.colour",), ("title", "price"), ())


def rows(**changes: Any) -> pa.Table:
    """Items a, b and c; `changes` are of b."""
    items = []
    for name in "abc":
        media = [{"role": "image", "uri": f"/{name}.jpg", "digest": f"digest {name}", "size_bytes": 9}]
        item = {"title": f"title {name}", "price": 1.0, "attributes": '{"colour": "red", "ean": "1"}', "media": media}
        own = changes if name == "b" else {}
        key = f"record {name} {sorted(own.items())}" if own else f"record {name}"
        items.append({"item_id": name, **item, **own, "row_key": key})
    return pa.Table.from_pylist(items, schema=SCHEMA)


def keys(store: Store) -> list[dict[str, str]]:
    return [store.item_keys(fields) for fields in FIELDS]


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A workspace of layout version 1."""
    store = Store(tmp_path / "old", create=True)
    store.merge(ITEMS, rows())
    assert store.layout_version() == 1
    return store


def test_keys_of_a_new_workspace_are_digests_of_the_fields(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    with store.lock():
        carry_over(store)
        assert keys(store) == [{}] * len(FIELDS)
        store.merge(ITEMS, rows())
    assert store.layout_version() == 2 and CARRIED not in store.tables()
    assert store.item_keys(None) == {name: f"record {name}" for name in "abc"}
    for fields in FIELDS[1:]:
        assert store.item_keys(fields) == dict(zip("abc", field_digests(rows(), fields or ()), strict=True))


def test_a_workspace_of_version_1_keeps_its_keys_before_and_after_it_is_carried_over(old: Store) -> None:
    assert keys(old) == [{name: f"record {name}" for name in "abc"}] * len(FIELDS)
    carry_over(old)
    assert old.layout_version() == 2
    assert keys(old) == [{name: f"record {name}" for name in "abc"}] * len(FIELDS)


@pytest.mark.slow
def test_a_change_after_that_changes_the_keys_of_what_it_touches(old: Store) -> None:
    carry_over(old)
    old.merge(ITEMS, rows(title="new", attributes='{"colour": "red"}'))
    record, title, media, colour, priced, nothing = (found["b"] for found in keys(old))
    assert media == colour == nothing == "record b"
    assert title == field_digests(rows(title="new"), ["title"])[1]
    assert priced == field_digests(rows(title="new"), ["title", "price"])[1]
    assert record.startswith("record b [(")
    assert [found["a"] for found in keys(old)] == ["record a"] * len(FIELDS)

    old.merge(ITEMS, rows(price=2.0))
    assert [found["b"] for found in keys(old)][1:4] == ["record b"] * 3  # the title is what it was
    old.delete(ITEMS, ["b"])
    old.merge(ITEMS, pa.Table.from_pylist([{"item_id": "d", "title": "d", "row_key": "record d"}], schema=SCHEMA))
    assert old.item_keys(["title"]) == {
        **{name: f"record {name}" for name in "ac"},
        "d": field_digests(pa.table({"title": ["d"]}), ["title"])[0],
    }


@pytest.mark.parametrize("place", ["create_table", "set_layout_version"])
def test_carrying_over_may_be_cut_short_and_is_made_good(
    old: Store, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    before = keys(old)

    class Killed(BaseException):
        pass

    def killed(*arguments: Any, **options: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(old if place == "set_layout_version" else type(old.db), place, killed)
        with pytest.raises(Killed):
            carry_over(old)
    assert old.layout_version() == 1 and keys(old) == before
    old.merge(ITEMS, rows(title="changed by the release before"))
    carry_over(old)
    assert old.item_keys(["price", "title"])["b"].startswith("record b [(")
    assert "changed by the release before" in old.read(CARRIED, ["title"])["title"].to_pylist()
    carry_over(old)
    assert old.count(CARRIED) == 3


@pytest.mark.slow
@pytest.mark.parametrize("carried", [True, False])
def test_copied_items_have_the_same_keys(old: Store, tmp_path: Path, carried: bool) -> None:
    if carried:
        carry_over(old)
        old.merge(ITEMS, rows(title="new"))
    other = Store(tmp_path / "other", create=True)
    other.set_layout_version()
    copy_items(old, other, ["b", "c"])
    for fields in FIELDS:
        assert other.item_keys(fields) == {name: old.item_keys(fields)[name] for name in "bc"}
