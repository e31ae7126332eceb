"""The version of a workspace's layout: recorded by its first writer, carried over, refused where it is a later one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from coldstart import __version__
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.layout import CURRENT, LAYOUT


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
