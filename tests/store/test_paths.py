"""Workspaces under any path that the file system allows: they are served, and nothing appears beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store, folder
from coldstart.store.catalog import CATALOG, Catalog
from coldstart.store.fragments import commit_fragments, read_rows_at, table_version, write_fragments

NAMES = [
    "jürgen",
    "ju\u0308rgen",
    "100%",
    "100%25",
    "a#b",
    "sold?",
    "a b",
    "\N{LEMON}",
    "a[b]",
    "a\\b",
    "a~*'b",
    "a\nb",
]
NOBODY = 65534
ROWS = pa.table({"item_id": ["a"], "row_key": ["k"]})


def names_in(folder: Path | str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def serve(path: Path) -> None:
    """Write, index by tag, read and tidy up a workspace at a path."""
    with Store(path, create=True).lock():
        pass
    store = Store(path)
    store.merge(ITEMS, ROWS)
    store.append(CATALOG, pa.table({"item_id": ["a"], "index_key": ["k"]}))
    catalog = Catalog(store.db)
    catalog.publish([])
    store.append(CATALOG, pa.table({"item_id": ["b"], "index_key": ["k"]}))
    catalog.publish([])
    catalog.rollback()
    served = Catalog(Store(path).db).published()
    assert served is not None
    assert served.keys() == {"a": "k"}
    assert catalog.cleanup(1, timedelta(0)).bytes_after > 0
    store.maintain(timedelta(0), skip=[CATALOG])
    assert store.keys(ITEMS) == {"a": "k"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_workspace_is_served_under_any_path_and_nothing_appears_beside_it(name: str, tmp_path: Path) -> None:
    serve(tmp_path / name / "w")
    assert names_in(tmp_path) == [name]
    assert names_in(tmp_path / name) == ["w"]


def test_other_processes_reach_its_tables_by_their_true_path(tmp_path: Path) -> None:
    store = Store(tmp_path / "jürgen#", create=True)
    store.append(ITEMS, ROWS)
    where = table_version(store, ITEMS)
    assert where is not None
    assert where.uri == str(tmp_path / "jürgen#" / "items.lance")
    commit_fragments(where, write_fragments(where, pa.table({"item_id": ["b"], "row_key": ["k"]})), [])
    assert store.keys(ITEMS) == {"a": "k", "b": "k"}
    assert read_rows_at(where, [0]) == [{"item_id": "a", "row_key": "k"}]
    assert names_in(tmp_path) == ["jürgen#"]
    store = Store(tmp_path / "sold?", create=True)
    with pytest.raises(ColdstartError) as caught:
        table_version(store, ITEMS)
    assert str(caught.value) == (
        f"workspace {store.uri}: `engine: ray` cannot read a path with a question mark: rename the folder"
    )


def test_a_damaged_table_is_named_by_the_true_path(tmp_path: Path) -> None:
    store = Store(tmp_path / "jürgen", create=True)
    store.append(ITEMS, ROWS)
    for path in (tmp_path / "jürgen" / "items.lance" / "data").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ColdstartError) as caught:
        Store(store.uri).read(ITEMS)
    text = str(caught.value)
    assert text.startswith(
        f"table 'items' of workspace {store.uri} is damaged (Invalid input, file does not appear to be"
    )
    assert text.endswith(f"): `coldstart check --workspace {store.uri} --repair`")


@pytest.mark.slow
def test_without_descriptors_a_link_in_the_temporary_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_DESCRIPTORS", tmp_path / "none")
    monkeypatch.setattr(folder, "_opened", {})
    (tmp_path / "links").mkdir()
    monkeypatch.setattr(folder, "_link_folder", lambda: tmp_path / "links")
    serve(tmp_path / "here" / "jürgen?")
    assert names_in(tmp_path / "here") == ["jürgen?"]
    (tmp_path / "ü").mkdir()
    monkeypatch.setattr(folder, "_link_folder", lambda: tmp_path / "ü")
    with pytest.raises(ColdstartError) as caught:
        Store(tmp_path / "other?", create=True)
    assert str(caught.value) == (
        f"LanceDB cannot open {tmp_path / 'other?'}: choose a path of the letters A to Z, digits, - and _, or set "
        "TMPDIR to such a path"
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs the right to become another user")
def test_the_folder_above_need_not_be_writable(tmp_path: Path) -> None:
    """Publish in `home/jürgen`, a user's own folder in one of root's, as that user."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        own = Path(above) / "jürgen"
        own.mkdir()
        os.chown(own, NOBODY, NOBODY)
        script = (
            f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_paths import Path, serve\n"
            f"serve(Path({str(tmp_path / 'before')!r}))\n"  # what is imported late may be out of that user's reach
            f"os.setuid({NOBODY}); serve(Path({str(own / 'w')!r}))"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
        assert names_in(above) == ["jürgen"]
