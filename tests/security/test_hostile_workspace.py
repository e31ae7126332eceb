"""A stranger's workspace: it writes nothing outside the cache, poisons no other, and reads nothing elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pytest

from coldstart.cli import output
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store, check
from coldstart.store.artifacts import ARTIFACTS, FILES, digest_of
from coldstart.store.catalog import CATALOG, Catalog

ROWS = pa.table({"item_id": ["a"], "row_key": ["k"]})


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def plant(folder: Path, files: dict[str, bytes], digest: str | None = None, name: str = "align") -> Store:
    """A workspace with an artifact as a stranger writes it: any paths, any digest; by default that of its files."""
    if digest is None:
        digest = digest_of(name, {path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
    db = lancedb.connect(str(folder))
    rows = [{"digest": digest, "path": path, "data": data} for path, data in files.items()]
    schema = pa.schema([("digest", pa.string()), ("path", pa.string()), ("data", pa.large_binary())])
    db.create_table(FILES, pa.Table.from_pylist(rows, schema=schema))
    row = {"digest": digest, "name": name, "key": "k", "made_at": datetime(2026, 1, 1, tzinfo=UTC), "report": "{}"}
    db.create_table(ARTIFACTS, [row])
    return Store(folder)


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("../../out", "'../../out' leads out of its folder"),
        ("/etc/out", "'/etc/out' leads out of its folder"),
        ("a/../../out", "'a/../../out' leads out of its folder"),
        ("./out", "'./out' leads out of its folder"),
        ("a//out", "'a//out' leads out of its folder"),
        ("", "'' leads out of its folder"),
        ("a/", "'a/' leads out of its folder"),
        ("C:out", "'C:out' leads out of its folder"),
        ("..\\out", "'..\\\\out' leads out of its folder"),
        ("a\0b", "'a\\x00b' is no name of a file"),
        ("a\nb", "'a\\nb' is no name of a file"),
        ("nul", "'nul' is no name of a file"),
        ("a/COM1.txt", "'a/COM1.txt' is no name of a file"),
        ("heads.json.", "'heads.json.' is no name of a file"),
        ("heads.json ", "'heads.json ' is no name of a file"),
        ("x" * 256, f"{'x' * 256!r} is no name of a file"),
    ],
)
def test_a_path_that_a_row_names_is_checked_before_anything_is_written(
    path: str, fault: str, tmp_path: Path, models: Path
) -> None:
    store = plant(tmp_path / "w", {"heads.json": b"{}", path: b"evil"})
    before = everything_below(tmp_path)
    artifact = store.artifacts.newest("align")
    assert artifact is not None
    for look in (lambda: artifact.folder, artifact.files):
        with pytest.raises(ColdstartError) as caught:
            look()
        assert str(caught.value) == f"artifact 'align' of workspace {store.uri}: {fault}"
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"a": b"", "A": b""}, "two of its paths differ in case alone"),
        ({"a": b"", "a/b": b""}, "'a' is a file and a folder"),
    ],
)
def test_paths_that_stand_in_each_others_way_are_refused(
    files: dict[str, bytes], fault: str, tmp_path: Path, models: Path
) -> None:
    artifact = plant(tmp_path / "w", files).artifacts.newest("align")
    assert artifact is not None
    with pytest.raises(ColdstartError) as caught:
        artifact.files()
    assert str(caught.value).endswith(f": {fault}")


@pytest.mark.parametrize("digest", ["../../out", "/etc/out", "A" * 32, "f" * 31, "f" * 33, ".", ""])
def test_a_digest_that_is_none_names_no_folder(digest: str, tmp_path: Path, models: Path) -> None:
    store = plant(tmp_path / "w", {"heads.json": b"{}"}, digest)
    artifact = store.artifacts.newest("align")
    assert artifact is not None
    with pytest.raises(ColdstartError) as caught:
        _ = artifact.folder
    assert str(caught.value) == (
        f"artifact 'align' of workspace {store.uri} is damaged: {digest!r} is no digest: "
        f"`coldstart check --workspace {store.uri} --repair`"
    )
    assert not models.exists()


def test_one_workspace_cannot_put_its_files_in_the_place_of_anothers_fit(tmp_path: Path, models: Path) -> None:
    honest = Store(tmp_path / "honest", create=True)
    saved = honest.artifacts.save("align", "k", {"heads.json": b"mine"}, {})
    stranger = plant(tmp_path / "w", {"heads.json": b"evil"}, saved.digest).artifacts.newest("align")
    assert stranger is not None
    with pytest.raises(ColdstartError) as caught:  # looked at first, before the honest one is in the cache
        _ = stranger.folder
    assert str(caught.value) == (
        f"artifact 'align' of workspace {tmp_path / 'w'} is damaged: its files are not those of digest "
        f"{saved.digest!r}: `coldstart check --workspace {tmp_path / 'w'} --repair`"
    )
    assert (saved.folder / "heads.json").read_bytes() == b"mine"


def test_what_lies_in_the_cache_counts_only_while_its_files_give_its_name(tmp_path: Path, models: Path) -> None:
    saved = Store(tmp_path / "honest", create=True).artifacts.save("align", "k", {"a/heads.json": b"mine"}, {})
    place = models / "fitted" / saved.digest

    def spoil(name: str) -> None:
        if name == "no files":
            (place / "a" / "heads.json").unlink()
        elif name == "other bytes":
            (place / "a" / "heads.json").write_bytes(b"evil")
        elif name == "one more":
            (place / "auto_map.py").write_bytes(b"evil")
        elif name == "a link for a file":
            (tmp_path / "mine").write_bytes(b"mine")
            (place / "a" / "heads.json").unlink()
            (place / "a" / "heads.json").symlink_to(tmp_path / "mine")
        elif name == "a link for the folder":
            place.rename(tmp_path / "elsewhere")
            place.symlink_to(tmp_path / "elsewhere")
        elif name == "a file":
            place.rename(tmp_path / "gone")
            place.write_bytes(b"")

    for name in ("no files", "other bytes", "one more", "a link for a file", "a link for the folder", "a file"):
        assert saved.folder == place
        spoil(name)
        assert saved.folder == place
        assert [(path.name, path.is_symlink()) for path in place.rglob("*")] == [("a", False), ("heads.json", False)]
        assert (place / "a" / "heads.json").read_bytes() == b"mine"
        assert [path.name for path in place.parent.iterdir()] == [saved.digest]  # no draft is left
    assert (tmp_path / "elsewhere" / "a" / "heads.json").read_bytes() == b"mine"  # the link went, not what it named


@pytest.mark.parametrize("report", ["[]", "no JSON", "[" * 100_000, None])
def test_a_row_that_is_no_artifact_is_one_line(report: Any, tmp_path: Path, models: Path) -> None:
    db = lancedb.connect(str(tmp_path / "w"))
    row = {"digest": "f" * 32, "name": "align", "key": "k", "made_at": datetime(2026, 1, 1, tzinfo=UTC)}
    schema = pa.schema([("digest", pa.string()), ("name", pa.string()), ("key", pa.string()), ("report", pa.string())])
    db.create_table(ARTIFACTS, pa.Table.from_pylist([row | {"report": report}], schema=schema))
    with pytest.raises(ColdstartError) as caught:
        Store(tmp_path / "w").artifacts.newest("align")
    assert str(caught.value) == (
        f"table 'artifacts' of workspace {tmp_path / 'w'} is damaged (the row of 'align' cannot be read): "
        f"`coldstart check --workspace {tmp_path / 'w'} --repair`"
    )


# -- links in the folder


@pytest.mark.parametrize("place", ["items.lance", "items.lance/data", "items.lance/_versions/x", ".coldstart.writer"])
@pytest.mark.parametrize("kind", ["a link", "no plain file"])
def test_a_link_or_pipe_among_its_files_is_refused(place: str, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine").write_bytes(b"mine")
    path = tmp_path / "w" / place
    path.parent.mkdir(parents=True)
    if kind == "a link":
        path.symlink_to(victim / "mine" if place.startswith(".") else victim)
    else:
        os.mkfifo(path)
    with pytest.raises(ColdstartError) as caught:
        Store(tmp_path / "w", create=True)
    assert str(caught.value) == (
        f"workspace {tmp_path / 'w'} cannot be trusted: {place} is {kind}, which could stand for files elsewhere; "
        "put a copy of the files in its place, or remove it"
    )
    assert (victim / "mine").read_bytes() == b"mine"


def test_a_directory_of_tables_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w" / "__manifest").mkdir(parents=True)
    with pytest.raises(ColdstartError) as caught:
        Store(tmp_path / "w", create=True)
    assert str(caught.value) == (
        f"workspace {tmp_path / 'w'} cannot be trusted: __manifest could name tables elsewhere, and coldstart makes "
        "none; remove it"
    )


def test_files_that_are_not_of_the_workspace_may_be_links_and_so_may_its_folder(tmp_path: Path) -> None:
    Store(tmp_path / "w", create=True).append(ITEMS, ROWS)
    (tmp_path / "w" / "photos").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "w")
    assert Store(tmp_path / "link").count(ITEMS) == 1


@pytest.mark.parametrize("start", ["file://", "FILE://", "file://localhost", "file-object-store://", "file+uring://"])
def test_the_url_of_a_folder_is_checked_like_its_path(start: str, tmp_path: Path) -> None:
    folder = tmp_path / "a shop"
    Store(folder, create=True).append(ITEMS, ROWS)
    store = Store(f"{start}{folder}".replace(" ", "%20"))
    assert (store.uri, store.folder, store.count(ITEMS)) == (str(folder), folder, 1)
    assert store.size_bytes() == Store(folder).size_bytes() > 0
    (folder / "ledger.lance").symlink_to(tmp_path)
    with pytest.raises(ColdstartError, match=r"a shop cannot be trusted: ledger.lance is a link"):
        Store(f"{start}{folder}", create=True)


def test_a_path_is_none_the_less_checked_where_it_looks_like_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:/b").mkdir(parents=True)
    Path("a:/b/items.lance").symlink_to(tmp_path)
    for uri in ("a://b", f"{tmp_path}/a://b"):
        with pytest.raises(ColdstartError, match=r"/a:/b cannot be trusted: items.lance is a link"):
            Store(uri)


@pytest.mark.parametrize("uri", ["file://", "file://w", "file://host/w"])
def test_the_url_of_no_folder_here_is_one_line(uri: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        Store(uri, create=True)
    assert str(caught.value) == f"workspace {uri} is no whole path: write file:///FOLDER, or the folder itself"


# -- rows from elsewhere


def test_a_table_that_takes_rows_from_another_workspace_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "mine", create=True).append(ITEMS, ROWS)
    mine = lance.dataset(str(tmp_path / "mine" / "items.lance"))
    (tmp_path / "w").mkdir()
    mine.shallow_clone(str(tmp_path / "w" / "items.lance"), mine.version)
    store = Store(tmp_path / "w")
    for look in (lambda: store.read(ITEMS), lambda: store.has(ITEMS), lambda: store.append(ITEMS, ROWS)):
        with pytest.raises(ColdstartError) as caught:
            look()
        assert str(caught.value) == (
            f"table 'items' of workspace {tmp_path / 'w'} takes rows from '{tmp_path / 'mine' / 'items.lance'}': "
            "a workspace holds its own rows; ask whoever made it for a full copy"
        )


def test_a_published_version_that_takes_rows_from_elsewhere_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "mine", create=True).append(ITEMS, ROWS)
    mine = lance.dataset(str(tmp_path / "mine" / "items.lance"))
    (tmp_path / "w").mkdir()
    mine.shallow_clone(str(tmp_path / "w" / "catalog.lance"), mine.version)
    db = lancedb.connect(str(tmp_path / "w"))
    table = db.open_table(CATALOG)
    table.tags.create("published", table.version)
    publication = {"number": 1, "version": table.version, "published_at": datetime(2026, 1, 1, tzinfo=UTC), "rows": 1}
    db.create_table("publications", [publication | {"previous": 1, "passports": "{}", "indexes": "[]"}])
    lance.write_dataset(ROWS, str(tmp_path / "w" / "catalog.lance"), mode="overwrite")  # the newest has its own rows
    with pytest.raises(
        ColdstartError, match=r"^table 'catalog' of workspace \S+ takes rows from '\S+mine/items.lance': "
    ):
        Catalog(Store(tmp_path / "w").db).published()


@pytest.mark.parametrize(
    "passports",
    [
        json.dumps({"clip IS NULL OR vector_clip": "{}"}),
        json.dumps({"clip": 1}),
        json.dumps({"clip": "[]"}),
        "[]",
        "null",
        json.dumps({"clip": "{}"}),  # of which no index is
        "[" * 100_000,
    ],
)
def test_a_publication_with_another_kind_of_space_is_one_line(passports: str, tmp_path: Path) -> None:
    db = lancedb.connect(str(tmp_path / "w"))
    publication = {"number": 1, "version": 1, "published_at": datetime(2026, 1, 1, tzinfo=UTC), "rows": 1}
    db.create_table("publications", [publication | {"previous": 1, "passports": passports, "indexes": "[]"}])
    with pytest.raises(ColdstartError) as caught:
        Catalog(db).publications()
    assert str(caught.value) == (
        f"table 'publications' of workspace {tmp_path / 'w'} is damaged (publication 1 cannot be read): "
        f"`coldstart check --workspace {tmp_path / 'w'} --repair`"
    )


def test_a_publication_of_a_space_that_the_catalog_lacks_is_one_line_and_goes_by_a_repair(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    with store.lock():
        table = store.db.create_table(CATALOG, pa.table({"item_id": ["a"], "index_key": ["f" * 32]}))
        table.tags.create("published", table.version)
        index = {"space": "clip", "index_type": "exact", "rows": 1, "dim": 1, "build_s": 0.0, "effort": None}
        index |= {"recall": 1.0, "recall_filtered": None, "filter": None, "ok": True}
        row = {"number": 1, "version": table.version, "published_at": datetime(2026, 1, 1, tzinfo=UTC), "rows": 1}
        row |= {"previous": 1, "passports": json.dumps({"clip": "{}"}), "indexes": json.dumps([index])}
        store.db.create_table("publications", [row])
        fault = "names a space 'clip', of which the catalog has no vectors"
        with pytest.raises(
            ColdstartError, match=f"'publications' .* is damaged .publication 1 {fault}.: `coldstart check"
        ):
            Catalog(store.db).published()
        dropped = check.repair(store)
    assert [(damage.table, damage.what) for damage in dropped] == [("publications", f"publication 1 {fault}")]
    assert Catalog(store.db).published() is None


@pytest.mark.parametrize("indexes", ["[1]", "[{}]", "null", "x", '[{"space": []}]', "[" * 100_000])
def test_a_publication_with_other_indexes_is_one_line_and_goes_by_a_repair(indexes: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    publication = {"number": 1, "version": 1, "published_at": datetime(2026, 1, 1, tzinfo=UTC), "rows": 1}
    store.db.create_table("publications", [publication | {"previous": 1, "passports": "{}", "indexes": indexes}])
    with pytest.raises(ColdstartError, match=r" \(publication 1 cannot be read\): `coldstart check .* --repair`$"):
        Catalog(store.db).publications()
    with store.lock():
        dropped = check.repair(store)
    assert [(damage.table, damage.what) for damage in dropped] == [("publications", "publication 1 cannot be read")]
    assert Catalog(store.db).publications() == []


PASSPORT = {"encoder": "x", "weights": "w", "preprocess": "p", "dim": 1, "metric": "cosine"}


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{", '{"encoder": "x"}', '{"import os": 1}', "[" * 100_000),
        *(json.dumps(PASSPORT | other) for other in ({"encoder": 5}, {"dim": "x"}, {"dim": True}, {"metric": None})),
    ],
)
def test_a_passport_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        Passport.from_json(text)
    assert str(caught.value) == f"{text[:80]!r} is no passport of a space: make the space anew"


@pytest.mark.parametrize(
    ("table", "rows", "fault"),
    [
        ("items", {"x": [1]}, "it has no column 'item_id'"),
        ("items", {"item_id": [1], "row_key": ["k"]}, "its column 'item_id' is of type int64"),
        ("stage.x", {"x": [1]}, "it has no column 'item_id'"),
        ("ledger", {"item_id": ["a"], "row_key": ["k"]}, "it has no column 'stage'"),
        ("runs", {"x": [1]}, "it has no column 'stage'"),
        ("pipelines", {"settings": [1]}, "its column 'settings' is of type int64"),
        ("artifacts", {"x": [1]}, "it has no column 'digest'"),
        ("artifact_files", {"digest": ["d"], "path": ["p"], "data": ["x"]}, "its column 'data' is of type string"),
        ("publications", {"x": [1]}, "it has no column 'number'"),
        ("interactions", {"x": [1]}, "it has no column 'row_key'"),
        ("interactions", {"row_key": ["k"]}, "its column 'row_key' is of type string"),
        ("impressions", {"row_key": [1]}, "it has no column 'position'"),
        ("impressions_early", {"row_key": [1], "user_id": [1]}, "its column 'user_id' is of type int64"),
        ("catalog", {"x": [1]}, "it has no column 'item_id'"),
    ],
)
def test_a_table_with_other_columns_is_one_line_and_goes_by_a_repair(
    table: str, rows: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    lancedb.connect(str(tmp_path / "w")).create_table(table, pa.table(rows))
    store = Store(tmp_path / "w")
    with pytest.raises(ColdstartError) as caught:
        store.read(table)
    assert str(caught.value) == (
        f"table {table!r} of workspace {tmp_path / 'w'} is damaged ({fault}): "
        f"`coldstart check --workspace {tmp_path / 'w'} --repair`"
    )
    assert pickle.loads(pickle.dumps(caught.value)).reason == fault  # workers raise it too
    with store.lock():
        dropped = check.repair(store)
    assert [(damage.table, damage.what) for damage in dropped] == [(table, f"cannot be opened ({fault})")]
    assert not store.has(table)


def test_a_repair_goes_back_to_the_version_with_the_right_columns(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    with store.lock():
        store.append(ITEMS, ROWS)
        store.db.create_table(ITEMS, pa.table({"x": [1]}), mode="overwrite")
        check.repair(store)
    assert store.has(ITEMS)


# -- what is printed


def test_texts_of_a_workspace_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2Jb\x9b3Jc\x07d\u202ee\tf\ng\u3000h"
    output.line(text)
    assert capsys.readouterr().out == "a [2Jb 3Jc d e\tf\ng\u3000h\n"
    for printed in (output.as_json, output.as_json_line):
        printed({"folder": text, "models": [], "graphs": [], "notes": []})
        out = capsys.readouterr().out
        assert json.loads(out)["folder"] == text
        assert not set(out) & set("\x1b\x9b\x07\u202e")
