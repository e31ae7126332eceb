"""`check` of a workspace: each kind of damage is named with its cost, and dropped without what is right."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from support.catalogue import coldstart

from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.keys import digest
from coldstart.core.stage import LedgerRow
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, LEDGER, PIPELINES, RUNS, Store, check, mending
from coldstart.store.artifacts import ARTIFACTS, FILES
from coldstart.store.catalog import CATALOG, TAG, Catalog
from coldstart.store.layout import CURRENT, LAYOUT
from coldstart.store.publications import PUBLICATIONS

pytestmark = pytest.mark.slow

SPACE = "stage.clip-0123456789ab"
DIM = 8


class Passport:
    dim = DIM

    def to_json(self) -> str:
        return json.dumps({"dim": DIM})


def rows(ids: range) -> pa.Table:
    return pa.table({"item_id": [f"i{n}" for n in ids], "row_key": [digest(n) for n in ids]})


def vectors(count: int) -> pa.Array:
    made = np.random.default_rng(count).normal(size=(count, DIM)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(made.reshape(-1)), DIM)


def serve(store: Store, count: int) -> None:
    ids = range(count)
    columns: dict[str, Any] = rows(ids).to_pydict()
    for field in CONTENT_FIELDS:
        columns[field.name] = pa.nulls(count, field.type)
    for name in ("transcript", "screen_text", "language", "duplicate_of", "label"):
        columns[name] = pa.nulls(count, pa.string())
    columns |= {"label_score": pa.nulls(count, pa.float32()), "text": [f"word{n} shoe" for n in ids]}
    columns |= {"index_key": [digest([n]) for n in ids], "vector_clip": vectors(count)}
    catalog = Catalog(store.db)
    catalog.write(pa.table(columns), {"clip": Passport()})
    catalog.publish(catalog.build_indexes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every kind of table, two fits and two publications."""
    store = Store(tmp_path_factory.mktemp("check") / "w", create=True)
    with store.lock():
        store.merge(ITEMS, rows(range(20)))
        store.merge(ITEMS, rows(range(20, 25)))
        store.merge(SPACE, rows(range(20)).append_column("vector", vectors(20)))
        store.record([LedgerRow("image", f"i{n}", digest(n), "failed", "corrupt_image", "") for n in range(3)])
        store.save_pipeline("starter", {"n": 1})
        store.save_pipeline("starter", {"n": 2})
        store.save_run("image", datetime(2026, 1, 1, tzinfo=UTC), 1.0, {"done": 1})
        store.artifacts.save("align", "old", {"heads": b"1" * 500}, {})
        store.artifacts.save("align", "new", {"heads": b"2" * 500, "before/heads": b"3"}, {})
        serve(store, 20)
        serve(store, 22)
    return Path(store.uri)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    shutil.copytree(whole, tmp_path / "w")
    return Store(tmp_path / "w")


def overwrite(folder: Path, pattern: str, data: bytes | None = None) -> Path:
    """Zero a file of the folder, or give it other bytes; of several the first by name."""
    path = sorted(folder.glob(pattern))[0]
    path.write_bytes(bytes(path.stat().st_size) if data is None else data)
    return path


def found(store: Store) -> list[tuple[str, str]]:
    return [(damage.table, damage.what) for damage in check.find_damage(Store(store.uri))]


def repaired(store: Store) -> list[tuple[str, str]]:
    store = Store(store.uri)
    with store.lock():
        dropped = check.repair(store)  # which looks again
    return [(damage.table, damage.what) for damage in dropped]


def test_a_whole_workspace_has_no_damage_and_a_repair_changes_no_byte_of_its_tables(store: Store) -> None:
    folder = Path(store.uri)
    before = {path: path.read_bytes() for path in folder.rglob("*.lance/**/*") if path.is_file()}
    assert found(store) == []
    assert repaired(store) == []
    assert {path: path.read_bytes() for path in folder.rglob("*.lance/**/*") if path.is_file()} == before


def test_rows_that_cannot_be_read_go_and_all_others_stay(store: Store) -> None:
    folder = Path(store.uri)
    (broken,) = [path for path in (folder / "items.lance" / "data").iterdir() if path.read_bytes().count(b"i21")]
    broken.write_bytes(bytes(broken.stat().st_size))
    with pytest.raises(ColdstartError) as caught:
        store.keys(ITEMS)
    text = str(caught.value)
    assert text.startswith(
        f"table 'items' of workspace {store.uri} is damaged (Invalid input, file does not appear to be "
    )
    assert text.endswith(f"): `coldstart check --workspace {store.uri} --repair`")
    assert found(store) == [(ITEMS, "5 of 25 rows cannot be read")]
    assert repaired(store) == [(ITEMS, "5 of 25 rows cannot be read")]
    assert store.keys(ITEMS) == {f"i{n}": digest(n) for n in range(20)}
    assert store.count(SPACE) == 20


BAD_ROWS: list[tuple[str, dict[str, Any], str]] = [
    (ITEMS, {"item_id": ["x"], "row_key": ["no key"]}, "1 rows have no row_key of 32 hex digits"),
    (ITEMS, {"item_id": ["x"], "row_key": pa.array([None], pa.string())}, "1 rows have no row_key of 32 hex digits"),
    (ITEMS, {"item_id": pa.array([None], pa.string()), "row_key": [digest(0)]}, "1 rows have no id"),
    (PIPELINES, {"settings": ["[1]"], "name": ["x"]}, "1 rows are no JSON objects"),
    (PIPELINES, {"settings": pa.array([None], pa.string()), "name": ["x"]}, "1 rows are no JSON objects"),
    (RUNS, {"report": ["{"], "stage": ["x"]}, "1 rows are no JSON objects"),
    (LEDGER, {"stage": ["image"], "item_id": ["x"], "row_key": ["f" * 31]}, "1 rows have no row_key of 32 hex digits"),
]


@pytest.mark.parametrize(("table", "row", "what"), BAD_ROWS)
def test_a_row_that_cannot_be_right_goes_alone(table: str, row: dict[str, Any], what: str, store: Store) -> None:
    before = sorted(map(str, store.read(table).to_pylist()))
    store.append(table, pa.table(row))
    assert repaired(store) == [(table, what)]
    assert sorted(map(str, store.read(table).to_pylist())) == before


def test_rows_of_copies_have_a_second_key_or_none(store: Store) -> None:
    keys = [digest(0), f"{digest(0)}-{digest(1)}", ""]
    store.append("stage.understand.duplicates", pa.table({"item_id": ["a", "b", "c"], "row_key": keys}))
    assert found(store) == []


@pytest.mark.parametrize("fault", [[np.nan, *[0.0] * 7], [np.inf, *[0.0] * 7], [0.0] * 8, [2.0, *[0.0] * 7]])
def test_a_vector_that_no_stage_writes_goes_alone(fault: list[float], store: Store) -> None:
    flat = pa.array(np.array(fault, np.float32))
    row = rows(range(99, 100)).append_column("vector", pa.FixedSizeListArray.from_arrays(flat, DIM))
    lance.write_dataset(row, str(Path(store.uri) / f"{SPACE}.lance"), mode="append")  # LanceDB itself refuses NaN
    assert repaired(store) == [(SPACE, "1 rows have a faulty vector")]
    assert sorted(store.keys(SPACE)) == sorted(f"i{n}" for n in range(20))


def test_equal_rows_go_together_since_neither_is_known_to_be_right(store: Store) -> None:
    store.append(ITEMS, rows(range(2)))
    assert repaired(store) == [(ITEMS, "4 rows stand more than once")]
    assert sorted(store.keys(ITEMS)) == sorted(f"i{n}" for n in range(2, 25))


def test_vectors_of_another_width_than_their_passport_are_a_table_that_goes(store: Store) -> None:
    table = rows(range(1)).append_column("vector", vectors(1))
    store.append("stage.other-0123456789ab", table.replace_schema_metadata({"passport": '{"dim": 9}'}))
    what = f"holds vectors of {DIM} numbers, its passport says 9"
    assert repaired(store) == [("stage.other-0123456789ab", what)]
    assert not store.has("stage.other-0123456789ab")


def test_a_fit_whose_files_are_not_those_of_its_digest_goes_with_them(store: Store) -> None:
    old, new = (made for made in reversed(store.artifacts.all("align")))
    row = pa.table({"digest": [new.digest], "path": ["heads"], "data": pa.array([b"evil"], pa.large_binary())})
    store.merge(FILES, row, on=("digest", "path"))
    what = f"fit 'align' does not have the files of its digest {new.digest}"
    assert found(store) == [(ARTIFACTS, what)]
    assert repaired(store) == [(ARTIFACTS, what)]
    assert [made.key for made in store.artifacts.all()] == ["old"]
    assert store.read(FILES, ["digest"])["digest"].to_pylist() == [old.digest]


def test_an_index_that_cannot_be_read_is_dropped_and_the_publication_before_is_served(store: Store) -> None:
    folder = Path(store.uri) / "catalog.lance"
    table = store.db.open_table(CATALOG)
    (index,) = [one for one in table.to_lance().describe_indices() if one.name == "text_idx"]
    overwrite(folder, f"_indices/{index.segments[-1].uuid}/part_0_docs.lance")
    dropped = repaired(store)
    version = table.tags.list()["pub-000002"]["version"] if "pub-000002" in table.tags.list() else None
    assert version is None
    assert (CATALOG, "index 'text_idx' cannot be read") in dropped
    assert any(what.endswith("whose index 'text_idx' cannot be read") for name, what in dropped if name == PUBLICATIONS)
    served = Catalog(Store(store.uri).db).published()
    assert served is None or served.publication.number == 1
    serve(store, 22)  # the next run makes all of it again
    served = Catalog(Store(store.uri).db).published()
    assert served is not None
    assert served.text_search("shoe", 5).num_rows == 5


def test_a_damaged_tag_serves_the_newest_publication_that_is_whole(store: Store) -> None:
    overwrite(Path(store.uri), f"catalog.lance/_refs/tags/{TAG}.json")
    with pytest.raises(ColdstartError) as caught:
        Catalog(store.db).published()
    assert str(caught.value) == (
        f"table 'catalog' of workspace {store.uri} is damaged (expected value at line 1 column 1): "
        f"`coldstart check --workspace {store.uri} --repair`"
    )
    assert repaired(store) == [(PUBLICATIONS, "the tags cannot be read (expected value at line 1 column 1)")]
    served = Catalog(store.db).published()
    assert served is not None
    assert (served.publication.number, len(served)) == (2, 22)


def test_a_publication_that_cannot_be_parsed_goes_and_the_one_before_is_served(store: Store) -> None:
    store.db.open_table(PUBLICATIONS).update(where="number = 2", values={"passports": "no JSON"})
    assert repaired(store) == [(PUBLICATIONS, "publication 2 cannot be read")]
    served = Catalog(store.db).published()
    assert served is not None
    assert (served.publication.number, len(served)) == (1, 20)
    assert sorted(store.db.open_table(CATALOG).tags.list()) == ["pub-000001", TAG]


def damage_newest_manifest(folder: Path) -> None:
    overwrite(folder, "pipelines.lance/_versions/*.manifest", b"")
    (folder / "pipelines.lance" / "_versions" / "latest_version_hint.json").unlink(missing_ok=True)


def damage_earlier_manifest(folder: Path) -> None:
    sorted((folder / "pipelines.lance" / "_versions").glob("*.manifest"))[-1].write_bytes(b"")


def leave_half_made(folder: Path) -> None:
    shutil.rmtree(folder / "runs.lance" / "_versions")


def damage_layout(folder: Path) -> None:
    overwrite(folder, "layout.lance/data/*")


@pytest.mark.parametrize(
    ("spoil", "table", "check_after"),
    [
        (damage_newest_manifest, PIPELINES, lambda store: store.pipeline() == {"n": 1}),
        (damage_earlier_manifest, PIPELINES, lambda store: store.pipeline() == {"n": 2}),
        (leave_half_made, RUNS, lambda store: not store.has(RUNS)),
        (damage_layout, LAYOUT, lambda store: store.layout_version() == CURRENT),
    ],
)
def test_the_frame_of_a_table_goes_back_as_little_as_it_must(
    spoil: Callable[[Path], None], table: str, check_after: Callable[[Store], bool], store: Store
) -> None:
    spoil(Path(store.uri))
    assert {name for name, _ in repaired(store)} == {table}
    assert check_after(Store(store.uri))
    assert store.count(ITEMS) == 25


def test_after_a_repair_nothing_that_was_spoilt_at_random_is_left(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.lance/**/*") if path.is_file())
    for number in range(6):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        path = folder / chance.choice(files)
        data = bytearray(path.read_bytes())
        match chance.choice(("flip", "cut", "zero", "gone")):
            case "flip":
                for _ in range(3):
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                path.write_bytes(data)
            case "cut":
                path.write_bytes(data[: chance.randrange(len(data))])
            case "zero":
                path.write_bytes(bytes(len(data)))
            case _:
                path.unlink()
        repaired(Store(folder))
        again = Store(folder)
        again.keys(ITEMS)
        again.pipeline()
        again.artifacts.all()
        Catalog(again.db).published()
        again.maintain(skip=[CATALOG])


def test_the_command_lists_damages_with_their_cost_and_drops_them_when_asked_to(store: Store) -> None:
    uri = store.uri
    whole = coldstart("check", "--workspace", uri)
    assert whole.returncode == 0
    assert whole.stdout.startswith(f"workspace {uri}: no damage in 10 tables, ")
    store.append(PIPELINES, pa.table({"settings": ["no JSON"], "name": ["x"]}))
    store.append(ITEMS, rows(range(1)))
    result = coldstart("check", "--workspace", uri)
    damages = [
        "items: 2 rows stand more than once; the next run reads them from the manifest anew",
        "pipelines: 1 rows are no JSON objects; name the pipeline in the next run, unless earlier settings serve",
    ]
    assert result.stdout.splitlines() == [f"- {damage}" for damage in damages]
    assert result.returncode == 1
    assert result.stderr == (
        f"error: workspace {uri} has 2 damages: `coldstart check --workspace {uri} --repair` drops them, and the next "
        "run makes again what was dropped\n"
    )
    listed = json.loads(coldstart("check", "--workspace", uri, "--json").stdout)
    assert listed["damages"][1] == {
        "table": "pipelines",
        "damage": "1 rows are no JSON objects",
        "cost": "name the pipeline in the next run, unless earlier settings serve",
    }
    mended = coldstart("check", "--workspace", uri, "--repair")
    assert mended.returncode == 0
    assert mended.stdout.splitlines() == [
        *(f"- dropped: {damage}" for damage in damages),
        f"workspace {uri}: 2 damages dropped; run again",
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((), "check: give a PIPELINE or --workspace URI"),
        (("starter", "--workspace", "w"), "check: give a PIPELINE or --workspace URI"),
        (("starter", "--repair"), "check: --repair goes with --workspace"),
        (("--workspace", "w", "--set", "a.b=c"), "check: --set goes with a PIPELINE"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], fault: str) -> None:
    assert coldstart("check", *arguments).stderr == f"error: {fault}\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(24, "Too many open files"),
        PermissionError(13, "Permission denied"),
        RuntimeError("lance error: LanceError(IO): Permission denied (os error 13)"),
    ],
)
def test_a_repair_removes_nothing_because_of_a_fault_of_the_machine(
    error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = sorted(Path(store.uri).rglob("*.manifest"))
    table = store.db.open_table(ITEMS)

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(mending.tables, "open_table", refuse)
    monkeypatch.setattr(mending.lance, "dataset", refuse)
    for repair in (lambda: mending.open_again(store, ITEMS), lambda: mending.drop_versions(store, table)):
        with pytest.raises(type(error)):
            repair()
    assert sorted(Path(store.uri).rglob("*.manifest")) == manifests
