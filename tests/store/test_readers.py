"""Tables as Lance alone reads them, held against LanceDB."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from coldstart.store import Store
from coldstart.store.readers import FolderReader, FolderTable

ROWS = pa.table(
    {
        "item_id": [f"i{n}" for n in range(9)],
        "row_key": [str(n % 3) for n in range(9)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(18, dtype=np.float32)), 2),
    }
).replace_schema_metadata({"passport": "p"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "w", create=True)
    made.append("items", ROWS)
    made.append("items", ROWS.slice(0, 2))
    return made


def reader(store: Store) -> FolderReader:
    return FolderReader(str(store.folder), lambda: store.db)


@pytest.mark.parametrize(
    "asked",
    [
        lambda query: query.to_arrow(),
        lambda query: query.select(["row_key", "item_id"]).where("row_key = '1'").to_arrow(),
        lambda query: query.limit(3).to_arrow(),
        lambda query: query.limit(None).select(["item_id"]).with_row_id(True).to_arrow(),
        lambda query: query.where("row_key = '0'").select(["_rowid"]).to_arrow(timeout=timedelta(seconds=60)),
        lambda query: pa.Table.from_batches(query.select(["item_id"]).to_batches(batch_size=4)),
    ],
)
def test_a_scan_reads_what_lancedb_reads(store: Store, asked: Any) -> None:
    assert asked(reader(store).open_table("items").search()) == asked(store.db.open_table("items").search())


def test_a_table_shows_what_lancedb_shows(store: Store) -> None:
    ours, theirs = reader(store).open_table("items"), store.db.open_table("items")
    assert ours.schema.equals(theirs.schema, check_metadata=True)
    assert (ours.name, ours.version, ours.count_rows()) == (theirs.name, theirs.version, theirs.count_rows())
    assert ours.count_rows("row_key = '2'") == theirs.count_rows("row_key = '2'")
    assert reader(store).table_names() == store.tables()
    theirs.tags.create("first", 2)
    assert ours.tags.list()["first"]["version"] == 2


def test_a_version_is_checked_out_and_kept_where_lancedb_goes_on(store: Store) -> None:
    ours = reader(store).open_table("items")
    ours.checkout(2)
    assert ours.count_rows() == 9
    nearest = ours.search([0.0, 1.0], vector_column_name="vector").limit(1).to_arrow()
    assert nearest["item_id"].to_pylist() == ["i0"] and ours.count_rows() == 9


def test_what_is_no_table_is_told_as_by_lancedb(store: Store) -> None:
    for name, said in (("none", "was not found"), ("../items", "Invalid table name")):
        with pytest.raises(ValueError, match=said):
            reader(store).open_table(name)


def test_a_store_reads_by_lance_until_it_writes(tmp_path: Path, store: Store) -> None:
    again = Store(store.uri)
    assert isinstance(again._find("items"), FolderTable)
    with again.lock():
        assert not isinstance(again._find("items"), FolderTable)
        again.append("items", ROWS.slice(0, 1))
        assert again.count("items") == 12


def loaded(code: str, *names: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted({set(names)!r} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_reading_imports_no_lancedb_and_lancedb_not_the_client_of_its_servers(store: Store) -> None:
    code = (
        "from coldstart.store import Store\n"
        f"store = Store({store.uri!r})\n"
        "assert store.read('items').num_rows == 11 and store.count('items') == 11 and store.tables() == ['items']\n"
    )
    client = "lance_namespace_urllib3_client"
    assert loaded(code, "lancedb", "lance_namespace") == []
    code += "store.db.open_table('items')\n"
    assert loaded(code, "lancedb", f"{client}.api") == ["lancedb"]
    code += f"import {client}\nassert {client}.DataApi.__module__ == '{client}.api.data_api'\n"
    assert loaded(code, f"{client}.api") == [f"{client}.api"]


@pytest.mark.slow
def test_arrow_is_imported_without_pandas_where_that_is_wanted() -> None:
    code = "from coldstart.core.arrow import import_arrow, leave_pandas_out\n"
    assert loaded(f"{code}import_arrow()", "pyarrow") == []
    code += "leave_pandas_out()\nimport_arrow()\nimport pyarrow as pa\nassert pa.array([1]).to_pylist() == [1]\n"
    assert loaded(code, "pandas", "pyarrow") == ["pyarrow"]
    assert loaded(f"{code}import pandas\npandas.DataFrame({{'a': [1]}})", "pandas") == ["pandas"]
