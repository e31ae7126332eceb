"""Graphs in memory find what an exact search finds, follow publications, and trust no file; truth comes from numpy."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.items import CONTENT_FIELDS
from coldstart.store import graph_file, held_vectors
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import Catalog
from coldstart.store.graph_file import Links, load_links, save_links
from coldstart.store.memory_graph import MemoryGraph
from coldstart.store.published import Published

DIM, ROWS = 16, 1500
SETTINGS = IndexSettings(exact_below=0, index_type="IVF_PQ", sample=20, target_recall=0.1)


class Passport:
    dim = DIM

    def to_json(self) -> str:
        return '{"dim": 16, "encoder": "a"}'


def rows_of(numbers: list[int], seed: int = 0) -> pa.Table:
    """Items whose vectors follow from number and seed; a tenth have none, a tenth are copies, 3 and 5 are alike."""
    count = len(numbers)
    vectors = np.stack([np.random.default_rng([number, seed]).standard_normal(DIM) for number in numbers])
    if {3, 5} <= {*numbers}:
        vectors[numbers.index(5)] = vectors[numbers.index(3)]
    columns: dict[str, Any] = {"item_id": pa.array([f"p{number:04d}" for number in numbers])}
    columns |= {field.name: pa.nulls(count, field.type) for field in CONTENT_FIELDS}
    columns |= {name: pa.nulls(count, pa.string()) for name in ("transcript", "screen_text", "language", "label")}
    missing = pa.array([number % 10 == 9 for number in numbers])
    columns |= {
        "kind": pa.array(["product" if number % 2 else "video" for number in numbers]),
        "text": pa.array([f"word{number}" for number in numbers]),
        "price": pa.array([float(number) for number in numbers]),
        "duplicate_of": pa.array(["p0001" if number % 10 == 2 else None for number in numbers], pa.string()),
        "label_score": pa.nulls(count, pa.float32()),
        "index_key": pa.array([f"{number} of {seed}" for number in numbers]),
        "vector_text": pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.astype(np.float32).reshape(-1)), DIM, mask=missing
        ),
    }
    return pa.table(columns)


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of graphs that is not this user's."""
    folder = tmp_path / "graphs"
    monkeypatch.setattr(graph_file, "graph_folder", lambda: folder)
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(lancedb.connect(str(tmp_path / "workspace")))
    publish(catalog, rows_of([*range(ROWS)]))
    return catalog


def publish(catalog: Catalog, rows: pa.Table) -> None:
    catalog.write(rows, {"text": Passport()})
    catalog.publish(catalog.build_indexes(SETTINGS))


def in_memory(catalog: Catalog, **options: Any) -> tuple[Published, Any]:
    published = catalog.published()
    assert published is not None
    published.load_rows(("kind", "title"))
    return published, published.load_graph("text", **options)


def queries(count: int = 40) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, DIM)).astype(np.float32)


CONDITIONS: list[dict[str, Any]] = [{"copies": True}, {}, {"where": "price < 100"}, {"kind": "video"}]


@pytest.mark.slow
@pytest.mark.parametrize("scanned", [20_000, 20])
def test_a_graph_finds_what_the_store_finds_exactly(
    catalog: Catalog, graphs: Path, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr(held_vectors, "SCANNED", scanned)
    published, report = in_memory(catalog)
    stored = catalog.published()
    assert stored is not None and published.has_graph("text") and report.made == "built" and report.recall >= 0.97
    for options in CONDITIONS:
        where = published.condition(**options)
        assert where == stored.condition(**options)
        for top_k in (1, 10, 300, ROWS):
            truth = stored.vector_search("text", queries(), top_k, where=where, exact=True)
            exact = published.vector_search("text", queries(), top_k, where=where, exact=True)
            assert exact["query_index"].equals(truth["query_index"])
            apart = np.array(exact["item_id"].to_pylist()) != np.array(truth["item_id"].to_pylist())
            assert apart.mean() < (0.005 if top_k > 10 else 1e-9)  # neighbours that are a rounding apart
            np.testing.assert_allclose(exact["_distance"], truth["_distance"], atol=2e-6)
            found = published.vector_search("text", queries(), top_k, where=where)
            assert found.schema == truth.schema and len(found) == len(truth)
            pairs = [
                set(zip(t["query_index"].to_pylist(), t["item_id"].to_pylist(), strict=True)) for t in (found, truth)
            ]
            assert len(pairs[0] & pairs[1]) >= 0.97 * len(truth)
    alone = published.vector_search("text", queries()[3:4], 10)
    together = published.vector_search("text", queries(), 10)
    assert together.slice(30, 10)["item_id"].equals(alone["item_id"])
    assert together.slice(30, 10)["_distance"].equals(alone["_distance"])
    assert published.vector_search("text", rows_vector(3), 2)["item_id"].to_pylist() == ["p0003", "p0005"]  # a tie


def rows_vector(number: int) -> np.ndarray:
    return np.random.default_rng([number, 0]).standard_normal((1, DIM)).astype(np.float32)


@pytest.mark.slow
def test_a_graph_follows_publications_and_never_finds_what_is_gone(catalog: Catalog, graphs: Path) -> None:
    in_memory(catalog)
    (path,) = graphs.iterdir()
    numbers = [number for number in range(ROWS + 60) if not 100 <= number < 150]
    rows = pa.concat_tables([rows_of(numbers[:-80]), rows_of(numbers[-80:], seed=1)])  # 50 gone, 20 changed, 60 new
    publish(catalog, rows)
    assert in_memory(catalog, build=False, most_added=0.01)[1].made == "none"
    published, report = in_memory(catalog, build=False)
    assert (report.made, report.added) == ("opened", 72)  # of 80, eight have no vector
    assert report.recall >= 0.97
    all_found = published.vector_search("text", queries(), ROWS + 60)
    assert len(all_found) == 40 * sum(number % 10 != 9 for number in numbers)
    gone = {f"p{number:04d}" for number in range(100, 150)}
    assert not gone & {*published.vector_search("text", rows_vector(120), 50)["item_id"].to_pylist()}
    truth = published.vector_search("text", queries(), 10, exact=True)
    found = published.vector_search("text", queries(), 10)
    np.testing.assert_allclose(found["_distance"], truth["_distance"], atol=1e-4)
    catalog.remove(["p0001"], SETTINGS)
    removed, _ = in_memory(catalog, build=False)
    assert (
        removed.has_graph("text") and removed.vector_search("text", rows_vector(1), 1)["item_id"][0].as_py() != "p0001"
    )
    catalog.write(rows_of([*range(40)]), {"text": Passport()})
    catalog.publish(catalog.build_indexes(replace(SETTINGS, index_type="IVF_PQ")))
    few, none = in_memory(catalog, build=False)
    assert few.indexed_spaces == [] or none.made == "none"
    assert path.exists()


@pytest.mark.slow
def test_a_graph_of_another_workspace_or_a_damaged_file_is_not_used(catalog: Catalog, graphs: Path) -> None:
    _, first = in_memory(catalog)
    (path,) = graphs.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    links = load_links(path)
    assert links is not None and links.fault() is None and len(links.keys) == first.rows
    for content in (b"", b"{}", path.read_bytes()[:-9], b"\x00" * 4096):
        path.write_bytes(content)
        published, report = in_memory(catalog, build=False)
        assert report.made == "none" and not published.has_graph("text")
    save_links(path, replace(links, neighbors=np.full_like(links.neighbors, -1)))  # no fault, and leads nowhere
    published, report = in_memory(catalog, build=False)
    assert report.made == "none"
    published, report = in_memory(catalog)
    assert report.made == "built" and published.has_graph("text")
    assert in_memory(catalog, stopped=lambda: True)[1] is None


def test_links_that_would_lead_outside_are_refused() -> None:
    graph = MemoryGraph(DIM, 900)
    graph.add(queries(900) / np.linalg.norm(queries(900), axis=1, keepdims=True))
    links = graph.links(np.arange(900, dtype=np.uint64))
    assert links.fault() is None
    low, high = int(np.flatnonzero(links.levels == 1)[0]), int(np.flatnonzero(links.levels == 2)[0])
    upper = int(links.offsets[high]) + 2 * graph_file.LINKS

    def changed(place: int, value: int) -> Links:
        neighbors = links.neighbors.copy()
        neighbors[place] = value
        return replace(links, neighbors=neighbors)

    levels = links.levels.copy()
    levels[low] = 90
    faults = {
        "a link leads to no row": changed(0, 900),
        "a link leads to a row that is not on its level": changed(upper, low),
        "it has too few links, or too many": replace(links, neighbors=links.neighbors[:-1]),
        "a row is on no level, or on too many": replace(links, levels=levels),
        "searches would not begin at the highest level": replace(links, entry=low),
        "it has no rows, or no row to begin at": replace(links, entry=-1),
    }
    assert {changed.fault() for changed in faults.values()} == set(faults)
    for expected, wrong in faults.items():
        assert wrong.fault() == expected


def test_files_used_longest_ago_are_deleted(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.arange(1, dtype=np.int32)
    links = Links(one.astype(np.uint64), one + 1, np.full(2 * graph_file.LINKS, -1, np.int32), 0)
    paths = [graphs / f"{name}.safetensors" for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        assert save_links(path, links)
        os.utime(path, (1000 - age, 1000 - age))  # b before a, c before b
    (graphs / "new.part").touch()
    (graphs / "old.part").touch()
    os.utime(graphs / "old.part", (1000, 1000))
    assert load_links(paths[2]) is not None  # c is used
    monkeypatch.setattr(graph_file, "KEPT_BYTES", 3 * paths[0].stat().st_size)
    assert save_links(paths[3], links)
    assert {path.name for path in graphs.iterdir()} == {"a.safetensors", "c.safetensors", "d.safetensors", "new.part"}
    monkeypatch.setattr(graph_file, "KEPT_BYTES", 1)
    assert save_links(paths[0], links)
    assert {path.name for path in graphs.iterdir()} == {"a.safetensors", "new.part"}


def test_an_id_that_is_given_twice_has_its_vector_twice(catalog: Catalog) -> None:
    published = catalog.published()
    assert published is not None
    ids = ["p0003", "p0001", "p0003", "nobody", "p0003"]
    found = published.unit_vectors(["text"], ids)["text"]
    expected = np.concatenate([rows_vector(3), rows_vector(1), rows_vector(3), rows_vector(3)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found[[0, 1, 2, 4]], expected, atol=1e-6)
    assert np.isnan(found[3]).all()


def test_a_condition_is_checked_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    published = catalog.published()
    assert published is not None
    parsed: list[str] = []
    from coldstart.store import conditions

    whole = conditions.parse_condition

    def parse(where: str, schema: pa.Schema) -> conditions.Condition:
        parsed.append(where)
        return whole(where, schema)

    monkeypatch.setattr(conditions, "parse_condition", parse)
    first = published.condition(where="price < 7", kind="video")
    assert published.condition(where="price < 7", kind="video") == first
    assert published.condition(where="price < 7") != first
    assert parsed == ["price < 7"]
