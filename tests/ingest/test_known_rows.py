"""Rows of a manifest that are as they were are not checked again, and any other is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from catalogue import photo, write_manifest

import coldstart
from coldstart.api import Workspace
from coldstart.api.review import ReviewMethods
from coldstart.core.items import Item
from coldstart.engine import work
from coldstart.ingest.stage import IngestStage
from coldstart.store import Store
from coldstart.store.known_rows import KNOWN_ROWS, KnownRows


class Shop:
    """Items with photos, ingested in this process; counts the rows that are checked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(work, "_FEW", 2)
        monkeypatch.setattr("coldstart.ingest.stage._STAT_CHUNK", 1)
        monkeypatch.setattr(IngestStage, "isolated", False)
        self.folder = folder
        self.entries: list[dict[str, Any]] = [
            {"item_id": f"p{n}", "title": f"article {n}", "image": photo(folder / f"p{n}.jpg", n).name}
            for n in range(6)
        ]
        self.workspace: Workspace = coldstart.open(folder / "ws", create=True)
        self.store = Store(folder / "ws")
        self._checked: list[str] = []
        parse = Item.parse

        def counted(fields: Any, files: Any = None) -> Item:
            self._checked.append(str(fields.get("item_id")))
            return parse(fields, files)

        monkeypatch.setattr(Item, "parse", counted)

    def run(self) -> tuple[list[str], dict[str, str]]:
        """Return the ids of the rows that were checked after the first few, and item -> key."""
        self._checked.clear()
        manifest = write_manifest(self.folder / "all.jsonl", self.entries)
        self.workspace.run({"manifest": str(manifest), "stages": {"ingest": {}}})
        return self._checked[2:], self.store.keys("items", "source_key")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


@pytest.mark.slow
def test_rows_that_are_as_they_were_are_not_checked_again(shop: Shop) -> None:
    first = shop.run()[1]
    assert shop.run() == ([], first)
    os.utime(shop.folder / "p3.jpg", ns=(1, 1))
    shop.entries[4]["title"] = "renamed"
    checked, keys = shop.run()
    assert checked == ["p3", "p4"]
    assert {item for item in first if keys[item] != first[item]} == {"p3", "p4"}
    assert shop.run() == ([], keys)
    shop.entries += [dict(shop.entries[5])]
    assert shop.run() == (["p5"], keys)
    ledger = shop.store.verdicts("ingest")
    assert {row.reason for row in ledger.values()} == {"duplicate_id"}, "the same id on another line"


@pytest.mark.slow
def test_a_row_is_checked_where_its_item_or_its_file_is_another_one(shop: Shop) -> None:
    keys = shop.run()[1]
    (shop.folder / "p5.jpg").rename(shop.folder / "elsewhere.jpg")
    (shop.folder / "p5.jpg").symlink_to("elsewhere.jpg")
    shop.store.delete("items", ["p3"])  # as a repair does
    checked, again = shop.run()
    assert checked == ["p3", "p5"]
    assert again.keys() == keys.keys()
    assert shop.run()[0] == ["p5"], "where a link leads is looked up every time"
    (shop.folder / "p4.jpg").write_bytes(b"")
    assert shop.run()[0] == ["p4", "p5"]
    assert shop.store.verdicts("ingest")["p4"].reason == "empty_file"


def test_a_row_is_known_for_the_key_that_its_item_had(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    known = KnownRows(store)
    known.add("7", "row", "key")
    known.save()
    known = KnownRows(store)
    assert known.key_of("7", "row") is None, "nothing is loaded yet"
    known.load({"7": "key"})
    assert (known.key_of("7", "row"), known.key_of(7, "row")) == ("key", "key")
    assert known.key_of("7", "another row") is None
    assert known.key_of("7", None) is None
    known.load({"7": "another key"})
    assert known.key_of("7", "row") is None


def test_a_table_of_another_form_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.append(KNOWN_ROWS, pa.table({"item_id": ["a"], "row": ["b"]}))
    known = KnownRows(store)
    known.load({"a": "key"})
    assert known.key_of("a", "b") is None
    known.add("a", "b", "key")
    known.save()
    assert list(store.keys(KNOWN_ROWS, "known")) == ["a"]
    assert store.columns(KNOWN_ROWS) == ["item_id", "known"]


@pytest.mark.slow
def test_an_item_that_was_decided_on_is_read_though_the_decision_was_not_brought_into_effect(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.run()

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ReviewMethods, "_bring_into_effect", kill)
        with pytest.raises(KeyboardInterrupt):
            shop.workspace.decide("p4", "correct", field="title", value="corrected", reason="a typo", by="me")
    assert shop.run()[0] == ["p4"]
    assert shop.store.read("items", ["title"], ids=["p4"]).to_pylist() == [{"title": "corrected"}]


@pytest.mark.parametrize("values", [[1], [["p0"]]], ids=["numbers", "lists"])
def test_a_table_of_known_rows_with_columns_of_other_types_is_made_anew(tmp_path: Path, values: list[Any]) -> None:
    store = Store(tmp_path, create=True)
    store.db.create_table(KNOWN_ROWS, pa.table({"item_id": values, "known": values}))
    known = KnownRows(store)
    known.load({"p0": "key"})
    assert known.key_of("p0", "row") is None
    known.add("p0", "row", "key")
    known.save()
    known.load({"p0": "key"})
    assert known.key_of("p0", "row") == "key"
