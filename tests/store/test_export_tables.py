"""What is published comes out as Parquet, JSONL, a Hugging Face dataset or a faiss index, whole or not at all."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_catalog import PASSPORTS, catalog_rows, ids

from coldstart.core.items import CONTENT_FIELDS, Item
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import LedgerRow
from coldstart.errors import ColdstartError
from coldstart.ingest.manifest import Manifest
from coldstart.store import Store, export
from coldstart.store.catalog import Catalog
from coldstart.store.export import ExportRequest

COUNT = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 served items in two spaces; the last is a linked copy; two of them have a label."""
    store = Store(tmp_path_factory.mktemp("export") / "w", create=True)
    copies = [None] * (COUNT - 1) + ["item-00000"]
    labels = ["shoe", "boot", *[None] * (COUNT - 2)]
    attributes = ['{"colour": "blau", "size": 4}', *[None] * (COUNT - 1)]
    given = {"duplicate_of": copies, "label": labels, "attributes": attributes}
    table = catalog_rows(ids(COUNT), **{name: pa.array(own, pa.string()) for name, own in given.items()})
    scores = pa.array([0.1, 0.7, *[None] * (COUNT - 2)], pa.float32())
    table = table.set_column(table.schema.get_field_index("label_score"), "label_score", scores)
    catalog = Catalog(store.db)
    catalog.write(table, PASSPORTS)
    catalog.publish(catalog.build_indexes())
    store.record([LedgerRow("text", "x", "k", "failed", "fetch_failed", "https://a.example/x?token=secret: 404")])
    return store


@pytest.fixture
def write(store: Store, tmp_path: Path) -> Callable[..., list[export.Exported]]:
    def call(what: str, name: str, **options: Any) -> list[export.Exported]:
        published = Catalog(store.db).published()
        assert published is not None
        request = ExportRequest(what, tmp_path / name, **options)
        return export.export(store, lambda: published, request, SilentProgress())

    return call


def test_items_in_parquet_and_in_jsonl_are_manifests(write: Any, tmp_path: Path) -> None:
    (one,) = write("items", "items.parquet")
    table = pq.read_table(tmp_path / "items.parquet")
    assert (one.rows, one.size_bytes) == (COUNT, (tmp_path / "items.parquet").stat().st_size)
    assert set(table["item_id"].to_pylist()) == set(ids(COUNT))
    assert table.schema.field("media").type == pa.list_(pa.struct([("role", pa.string()), ("uri", pa.string())]))
    write("items", "items.jsonl", format="jsonl")
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["item_id"] == "item-00000")
    assert first["attributes"] == {"colour": "blau", "size": 4}
    assert first["media"] == [{"role": "image", "uri": "/media/0.jpg"}]
    assert "creator" not in first


def test_vectors_leave_copies_out_and_keep_their_digits(write: Any, tmp_path: Path) -> None:
    (one,) = write("vectors", "text.parquet", space="text")
    assert (one.rows, one.left_out) == (COUNT - 1, 1)
    table = pq.read_table(tmp_path / "text.parquet")
    assert json.loads(table.schema.metadata[b"passport"]) == {"dim": 16, "encoder": "b"}
    write("vectors", "text.jsonl", space="text", format="jsonl")
    lines = [json.loads(line) for line in (tmp_path / "text.jsonl").read_text().splitlines()]
    in_lines = {line["item_id"]: np.array(line["vector"], np.float32) for line in lines}
    for item, vector in zip(table["item_id"].to_pylist(), table["vector"].to_pylist(), strict=True):
        assert (in_lines[item] == np.array(vector, np.float32)).all()
    assert write("vectors", "image.parquet", space="image")[0].rows == len([i for i in range(COUNT) if i % 5]) - 1


def test_a_condition_and_a_kind_choose_the_items(write: Any, tmp_path: Path) -> None:
    assert write("items", "some.parquet", where="price < 10", kind="video")[0].rows == 4
    assert set(pq.read_table(tmp_path / "some.parquet")["kind"].to_pylist()) == {"video"}


def test_descriptions_have_the_items_of_which_anything_is_known(write: Any, tmp_path: Path) -> None:
    assert write("descriptions", "d.jsonl", format="jsonl")[0].rows == 2
    line = json.loads((tmp_path / "d.jsonl").read_text().splitlines()[0])
    assert line == {"item_id": "item-00000", "title": "title 0", "label": "shoe", "label_score": 0.1}
    with pytest.raises(ColdstartError, match="no served item has a description"):
        write("descriptions", "none.jsonl", format="jsonl", where="price > 30")


def test_the_ledger_is_written_without_secrets(write: Any, tmp_path: Path) -> None:
    assert write("ledger", "l.jsonl", format="jsonl")[0].rows == 1
    assert "fetch_failed" in (tmp_path / "l.jsonl").read_text()
    assert "secret" not in (tmp_path / "l.jsonl").read_text()


def test_all_is_a_folder_with_a_record_of_what_it_holds(write: Any, tmp_path: Path) -> None:
    found = write("all", "all")
    names = ["items", "vectors-image", "vectors-text", "descriptions", "ledger"]
    assert [Path(one.out).name for one in found] == [f"{name}.parquet" for name in names]
    assert {path.name for path in (tmp_path / "all").iterdir()} == {*(f"{n}.parquet" for n in names), "export.yaml"}
    about = yaml.safe_load((tmp_path / "all" / "export.yaml").read_text())
    assert about["rows"]["vectors of text"] == COUNT - 1
    assert about["passports"]["text"] == {"dim": 16, "encoder": "b"}
    assert [one.what for one in write("all", "videos", kind="video", space="text")] == [
        "items",
        "vectors of text",
        "descriptions",
    ]


@pytest.mark.slow
def test_a_dataset_loads_with_its_types(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(export, "_SHARD_ROWS", 25)
    monkeypatch.setattr(export, "_BLOCK", 20)
    from datasets import get_dataset_config_names, load_dataset

    write("items", "items", format="huggingface")
    shards = sorted(path.name for path in (tmp_path / "items" / "data").iterdir())
    assert shards == [f"items-{number:05}-of-00003.parquet" for number in range(3)]
    items = load_dataset(str(tmp_path / "items"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(items) == COUNT
    assert str(items.features["created_at"].dtype) == "timestamp[us, tz=UTC]"
    assert items[0]["media"] == [{"role": "image", "uri": "/media/0.jpg"}]
    assert items[0]["tags"] == ["even"]
    write("all", "all", format="huggingface")
    names = get_dataset_config_names(str(tmp_path / "all"))
    assert set(names) == {"items", "vectors-image", "vectors-text", "descriptions", "ledger"}
    vectors = load_dataset(str(tmp_path / "all"), "vectors-text", split="train", cache_dir=str(tmp_path / "cache"))
    assert vectors.features["vector"].length == 16
    assert vectors.features["vector"].feature.dtype == "float32"


@pytest.mark.parametrize("flat_up_to", [export.FLAT_UP_TO, 10])
def test_a_faiss_index_finds_what_the_exact_search_finds(
    write: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat_up_to: int
) -> None:
    import faiss

    monkeypatch.setattr(export, "FLAT_UP_TO", flat_up_to)
    monkeypatch.setattr(export, "_BLOCK", 13)
    write("vectors", "text", format="faiss", space="text")
    index = faiss.read_index(str(tmp_path / "text" / "index.faiss"))
    places = pq.read_table(tmp_path / "text" / "ids.parquet")
    assert places["place"].to_pylist() == list(range(COUNT - 1))
    about = json.loads((tmp_path / "text" / "passport.json").read_text())
    assert (about["index"], about["rows"]) == ("IndexFlatIP" if flat_up_to > COUNT else "IndexHNSWFlat", COUNT - 1)
    published = Catalog(store.db).published()
    assert published is not None
    queries = np.random.default_rng(3).standard_normal((8, 16), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    expected = published.vector_search("text", queries, 5, where=published.condition())
    scores, found = index.search(queries, 5)
    ours = np.array(places["item_id"].to_pylist(), object)[found]
    assert ours.ravel().tolist() == expected["item_id"].to_pylist()
    assert np.allclose(1 - scores.ravel(), expected["_distance"].to_numpy(), atol=1e-5)


def test_without_faiss_the_extra_is_named(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ColdstartError, match=r"faiss is not installed.*\[faiss\]"):
        write("vectors", "text", format="faiss", space="text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "options", "fault"),
    [
        ("itmes", {}, "export what 'itmes' (did you mean 'items'?): give one of items, vectors"),
        ("items", {"format": "csv"}, "export --format 'csv': give one of parquet, jsonl, huggingface, faiss"),
        ("items", {"format": "faiss"}, "an index holds vectors: `coldstart export vectors --format faiss`"),
        ("items", {"space": "text"}, "only vectors are of a space"),
        ("ledger", {"kind": "video"}, "the ledger is of others"),
        ("vectors", {}, "choose a space with --space: image, text"),
        ("vectors", {"space": "txt"}, "no space 'txt' (did you mean 'text'?): the catalog has image, text"),
    ],
)
def test_faults_of_a_request_are_named_before_anything_is_written(
    write: Any, tmp_path: Path, what: str, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ColdstartError) as caught:
        write(what, "out", **options)
    assert fault in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_replaced_only_where_that_is_wanted(write: Any, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("mine")
    with pytest.raises(ColdstartError, match=r"exists: name another, or replace it with --overwrite"):
        write("items", "items.jsonl", format="jsonl")
    assert (tmp_path / "items.jsonl").read_text() == "mine"
    write("items", "items.jsonl", format="jsonl", overwrite=True)
    assert (tmp_path / "items.jsonl").read_text() != "mine"


def test_a_folder_that_no_export_wrote_is_never_replaced(write: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(ColdstartError, match="no folder that `coldstart export` wrote, and stays"):
        write("all", "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ColdstartError, match="no folder that"):
        write("all", "link", overwrite=True)
    write("all", "empty/deep")
    write("all", "empty/deep", overwrite=True)
    assert (tmp_path / "empty" / "deep" / "export.yaml").is_file()


def test_files_that_no_export_wrote_are_never_lost(write: Any, store: Store, tmp_path: Path) -> None:
    write("items", "out", format="huggingface")
    for name in ("README.md", "data/mine.csv"):
        before = (tmp_path / "out" / name).read_text() if name == "README.md" else None
        (tmp_path / "out" / name).write_text("license: mine")
        with pytest.raises(ColdstartError, match=f"holds {name}, which no export wrote or which was changed since"):
            write("items", "out", format="huggingface", overwrite=True)
        assert (tmp_path / "out" / name).read_text() == "license: mine"
        (tmp_path / "out" / name).unlink() if before is None else (tmp_path / "out" / name).write_text(before)
    write("items", "out", format="huggingface", overwrite=True)
    assert store.folder is not None
    with pytest.raises(ColdstartError, match="lies in the workspace: name a place outside it"):
        write("items", store.folder / "items.jsonl", format="jsonl")


def test_an_export_that_breaks_off_leaves_nothing(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(export, "_json_lines", full)
    with pytest.raises(ColdstartError, match=r"cannot write .*: Permission denied; name another place with --out"):
        write("items", "items.jsonl", format="jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["items.jsonl", "items.parquet", "dataset"])
def test_exported_items_are_read_as_the_same_items(write: Any, store: Store, tmp_path: Path, name: str) -> None:
    write("items", name, format={"dataset": "huggingface"}.get(name, Path(name).suffix[1:]))
    read = [Item.parse(entry.fields) for entry in Manifest(tmp_path / name).entries()]
    ours = {item.item_id: {**item.row(), "media": [(one.role, one.uri) for one in item.media]} for item in read}
    served = store.db.open_table("catalog").to_arrow().select(["item_id", *(field.name for field in CONTENT_FIELDS)])
    theirs = {
        row["item_id"]: {
            **row,
            "media": [(one["role"], one["uri"]) for one in row["media"]],
            "attributes": row["attributes"] or "{}",
        }
        for row in served.to_pylist()
    }
    assert ours == theirs
    assert ours["item-00000"]["attributes"] == '{"colour": "blau", "size": 4}'


def test_a_folder_stays_if_the_new_one_cannot_take_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    out.mkdir()
    (out / export.RECORD).write_text("old")

    def refuse_draft(path: Path, target: Path) -> Path:
        if path.name == "draft":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_draft)
    no_room = "No space left on device; name another place with --out"
    with pytest.raises(ColdstartError, match=no_room), export._whole_folder(out, overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / export.RECORD).read_text() == "old"
