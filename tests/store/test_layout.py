"""The version of a workspace's layout: recorded by its first writer, carried over, refused where it is a later one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from coldstart import __version__
from coldstart.core.items import Item
from coldstart.errors import ColdstartError
from coldstart.ingest.stage import SCHEMA
from coldstart.store import ITEMS, Store
from coldstart.store.conditions import parse_condition
from coldstart.store.layout import CURRENT, LAYOUT, add_language


def test_a_new_workspace_has_the_current_layout_and_an_old_one_is_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    assert store.layout_version() == CURRENT
    with store.lock():
        pass
    assert store.read(LAYOUT).to_pylist() == [{"version": CURRENT, "release": __version__}]
    old = Store(tmp_path / "old", create=True)
    old.append(ITEMS, pa.table({"item_id": ["a"], "row_key": ["k"]}))
    with old.lock():
        assert old.layout_version() == 1  # until the run that carries it over says so
        old.set_layout_version()
    assert Store(old.uri).layout_version() == CURRENT


def test_a_workspace_of_a_later_release_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    rows = pa.table({"version": pa.array([CURRENT + 1]), "release": ["9.1"]})
    store.append(LAYOUT, rows)
    with pytest.raises(ColdstartError) as caught:
        Store(store.uri)
    assert str(caught.value) == (
        f"workspace {store.uri} was made by coldstart '9.1'; this is coldstart {__version__}: "
        "update it by `git pull` and `pip install .` in its clone"
    )


def test_items_of_an_earlier_release_get_their_language_and_no_other_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    fields = {"a": "Rote Schuhe für Damen", "b": "Avocado", "c": "Red shoes for women"}
    items = [Item.parse({"item_id": key, "title": title}) for key, title in fields.items()]
    schema = SCHEMA.remove(SCHEMA.get_field_index("language"))
    rows = [{**item.row(), "row_key": item.item_id, "source_key": item.item_id} for item in items]
    store.append(ITEMS, pa.Table.from_pylist(rows, schema=schema))

    def found(condition: str) -> list[str]:
        opened = Store(store.uri)
        where = parse_condition(condition, opened.read(ITEMS, where="false").schema).sql
        return opened.read(ITEMS, ["item_id"], where=where)["item_id"].to_pylist()

    keys = store.item_keys({"title", "attributes"})
    assert (found("language = 'de'"), found("language IS NULL")) == ([], ["a", "b", "c"])  # as if it were null
    assert found("language IN ('de') OR title = 'Avocado'") == ["b"]
    for _ in range(2):  # the second time does nothing
        add_language(Store(store.uri), ITEMS)
    assert (found("language = 'de'"), found("language IS NULL")) == (["a"], ["b"])
    assert Store(store.uri).item_keys({"title", "attributes"}) == keys
    assert Store(store.uri).keys(ITEMS, "source_key") == {"a": "a", "b": "b", "c": "c"}
    add_language(store, "stage.none")  # there is no such table
