"""The catalog against a real LanceDB folder; true neighbours come from numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.items import CONTENT_FIELDS
from coldstart.errors import ColdstartError
from coldstart.store import ann, ground_truth, publications
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import SCALAR_INDEXES, Catalog
from coldstart.store.compaction import PARTS
from coldstart.store.published import Published

DIM = 16
QUICK = 30
"""Queries of a recall sample; the default of 200 would make the tests slow, and no more sure."""


@dataclass(frozen=True)
class Passport:
    encoder: str
    dim: int

    def to_json(self) -> str:
        return f'{{"dim": {self.dim}, "encoder": "{self.encoder}"}}'


PASSPORTS = {"image": Passport("a", DIM), "text": Passport("b", DIM)}


def unit(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def column(vectors: np.ndarray, missing: np.ndarray) -> pa.Array:
    flat = pa.array(vectors.reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(missing))


def catalog_rows(ids: list[str], dim: int = DIM, seed: int = 0, **changed: Any) -> pa.Table:
    """Rows for the ids; every third is a video, every fifth has no image vector."""
    count = len(ids)
    values: dict[str, Any] = {
        "kind": ["video" if i % 3 == 0 else "product" for i in range(count)],
        "title": [f"title {i}" for i in range(count)],
        "category": [f"category {i % 10}" for i in range(count)],
        "tags": [["even"] if i % 2 == 0 else ["odd", "tag"] for i in range(count)],
        "price": [float(i) for i in range(count)],
        "media": [[{"role": "image", "uri": f"/media/{i}.jpg"}] for i in range(count)],
    }
    columns: dict[str, Any] = {"item_id": pa.array(ids, pa.string())}
    for field in CONTENT_FIELDS:
        columns[field.name] = pa.array(values.get(field.name, [None] * count), field.type)
    columns["row_key"] = pa.array([f"key {i}" for i in range(count)], pa.string())
    columns["text"] = pa.array([f"word{i} shoe" for i in range(count)], pa.string())
    columns["vector_image"] = column(unit(count, dim, seed), np.arange(count) % 5 == 0)
    columns["vector_text"] = column(unit(count, dim, seed + 1), np.zeros(count, bool))
    for name in ("transcript", "screen_text", "language", "duplicate_of", "label"):
        columns[name] = pa.nulls(count, pa.string())
    columns["label_score"] = pa.nulls(count, pa.float32())
    columns["index_key"] = pa.array([f"index {i}" for i in range(count)], pa.string())
    return pa.table({**columns, **changed})


def ids(count: int) -> list[str]:
    return [f"item-{i:05d}" for i in range(count)]


@pytest.fixture
def catalog(tmp_path: Any) -> Catalog:
    return Catalog(lancedb.connect(str(tmp_path / "workspace")))


def read(catalog: Catalog) -> Published:
    published = catalog.published()
    assert published is not None
    return published


def build_and_publish(catalog: Catalog, settings: IndexSettings | None = None) -> Any:
    return catalog.publish(catalog.build_indexes(settings))


def test_write_merges_only_changed_rows_and_deletes_gone_ones(catalog: Catalog) -> None:
    first = catalog.write(catalog_rows(ids(10)), PASSPORTS)
    assert (first.rows, first.added, first.changed, first.deleted, first.unchanged, first.replaced) == (
        10, 10, 0, 0, 0, True,
    )  # fmt: skip
    keys = [f"index {i}" for i in range(10)]
    keys[3] = "index 3 changed"
    titles = [f"new title {i}" for i in range(10)]
    rows = catalog_rows([*ids(9), "item-new"], index_key=pa.array(keys), title=pa.array(titles))
    second = catalog.write(rows, PASSPORTS)
    assert (second.rows, second.added, second.changed, second.deleted, second.unchanged, second.replaced) == (
        10, 1, 1, 1, 8, False,
    )  # fmt: skip
    table = catalog._db.open_table("catalog")
    titles_now = {row["item_id"]: row["title"] for row in table.to_arrow().select(["item_id", "title"]).to_pylist()}
    expected = {item_id: f"title {i}" for i, item_id in enumerate(ids(9))}
    assert titles_now == {**expected, "item-00003": "new title 3", "item-new": "new title 9"}


def test_many_changed_rows_are_merged_in_parts(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldstart.store.catalog.MERGE_BYTES", 4 * (1024 + 4 * 2 * DIM))
    catalog.write(catalog_rows(ids(10)), PASSPORTS)
    rows = catalog_rows(ids(13), index_key=pa.array([f"index {i} changed" for i in range(13)]))
    report = catalog.write(rows, PASSPORTS)
    assert (report.added, report.changed, report.unchanged) == (3, 10, 0)
    assert len(catalog._db.open_table("catalog").list_versions()) == 1 + 4
    build_and_publish(catalog)
    assert read(catalog).keys() == {item_id: f"index {i} changed" for i, item_id in enumerate(ids(13))}


def test_write_of_the_same_rows_makes_no_version(catalog: Catalog) -> None:
    version = catalog.write(catalog_rows(ids(10)), PASSPORTS).version
    build_and_publish(catalog)
    indexed = catalog._db.open_table("catalog").version
    again = catalog.write(catalog_rows(ids(10)), PASSPORTS)
    assert (again.version, again.unchanged, again.replaced) == (indexed, 10, False)
    catalog.build_indexes()
    assert catalog._db.open_table("catalog").version == indexed > version


@pytest.mark.parametrize("what", ["passport", "column"])
def test_other_passport_or_columns_replace_the_table_and_readers_keep_the_old_one(catalog: Catalog, what: str) -> None:
    catalog.write(catalog_rows(ids(10)), PASSPORTS)
    build_and_publish(catalog)
    reader = read(catalog)
    if what == "passport":
        report = catalog.write(catalog_rows(ids(4)), {**PASSPORTS, "image": Passport("other", DIM)})
    else:
        report = catalog.write(catalog_rows(ids(4)).drop_columns("vector_text"), {"image": PASSPORTS["image"]})
    assert report.replaced and report.rows == 4
    for view in (reader, read(catalog)):
        assert len(view) == 10 and len(view.items(ids(10), ["title"])) == 10
        assert view.passports == {name: passport.to_json() for name, passport in PASSPORTS.items()}
        assert view.vector_search("text", unit(1), 20).num_rows == 10


def test_write_refuses_repeated_ids(catalog: Catalog) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.write(catalog_rows(["a", "b", "a"]), PASSPORTS)
    assert str(error.value) == "catalog: item_id 'a' stands twice (1 such ids); write each once"


def test_write_refuses_wrong_vectors(catalog: Catalog) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.write(catalog_rows(["a"], dim=8), PASSPORTS)
    assert str(error.value) == (
        "space 'image': vectors are fixed_size_list<item: float>[8], its passport says 16 float32 numbers"
    )
    vectors = unit(3)
    vectors[2, 1] = np.nan
    bad = catalog_rows(["a", "b", "c"], vector_image=column(vectors, np.array([True, False, False])))
    with pytest.raises(ColdstartError) as error:
        catalog.write(bad, PASSPORTS)
    assert str(error.value) == "space 'image': the vector of item 'c' is not finite; embed that item again"
    with pytest.raises(ColdstartError) as error:
        catalog.write(catalog_rows(["a"]).drop_columns(["text", "vector_text"]), PASSPORTS)
    assert str(error.value) == "catalog: the rows lack text, vector_text; run the stage that makes them"
    with pytest.raises(ColdstartError) as error:
        catalog.write(
            catalog_rows(["a"], **{"vector_A b": column(unit(1), np.zeros(1, bool))}), {"A b": PASSPORTS["text"]}
        )
    assert str(error.value) == "space 'A b': use lower-case letters, digits and _ so that SQL can name it"


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("index_type", ["auto", "IVF_PQ"])
def test_few_rows_are_searched_exactly(catalog: Catalog, count: int, index_type: Any) -> None:
    catalog.write(catalog_rows(ids(count)), PASSPORTS)
    reports = catalog.build_indexes(IndexSettings(index_type=index_type, sample=QUICK))
    assert [(r.space, r.index_type, r.rows, r.recall, r.ok) for r in reports] == [
        ("image", "exact", count - len(range(0, count, 5)), 1.0, True),
        ("text", "exact", count, 1.0, True),
    ]
    catalog.publish(reports)
    published = read(catalog)
    queries = unit(3, seed=9)
    found = published.vector_search("text", queries, 5)
    similarity = queries @ unit(count, seed=1).T
    for index in range(3):
        order = np.argsort(-similarity[index], kind="stable")[:5]
        mine = found.filter(pa.array(found["query_index"].to_numpy() == index))
        assert mine["item_id"].to_pylist() == [ids(count)[i] for i in order]
        np.testing.assert_allclose(mine["_distance"].to_numpy(), 1 - similarity[index][order], atol=1e-5)
    assert published.text_search("shoe", 100).num_rows == count


def test_a_space_without_any_vector(catalog: Catalog) -> None:
    none = column(unit(300), np.ones(300, bool))
    catalog.write(catalog_rows(ids(300), vector_image=none), PASSPORTS)
    build_and_publish(catalog, IndexSettings(index_type="IVF_RQ", sample=QUICK))
    assert read(catalog).vector_search("image", unit(1), 5).num_rows == 0


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"])
def test_each_index_type_reaches_the_target_with_missing_vectors(catalog: Catalog, index_type: Any) -> None:
    catalog.write(catalog_rows(ids(1500)), PASSPORTS)
    reports = catalog.build_indexes(IndexSettings(index_type=index_type, sample=QUICK))
    assert [(r.space, r.index_type, r.rows) for r in reports] == [
        ("image", index_type, 1200),
        ("text", index_type, 1500),
    ]
    for report in reports:
        assert report.ok and report.recall >= 0.95 and report.recall_filtered and report.recall_filtered >= 0.95
        assert report.effort in ann.EFFORTS
        assert report.filter and report.filter.startswith("category = 'category ")
    catalog.publish(reports)
    found = read(catalog).vector_search("image", unit(50), 1)
    without = {f"item-{i:05d}" for i in range(0, 1500, 5)}
    assert not without & set(found["item_id"].to_pylist())


@pytest.mark.slow
def test_recall_below_target_is_reported_not_hidden(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "EFFORTS", (ann.Effort(1, 1),))
    catalog.write(catalog_rows(ids(1500)), PASSPORTS)
    report = catalog.build_indexes(IndexSettings(index_type="IVF_RQ", target_recall=0.99, sample=QUICK))[1]
    assert not report.ok and report.recall < 0.9 and report.effort == ann.Effort(1, 1)


@pytest.mark.slow
def test_recall_is_that_of_a_plain_loop(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure equals one computed item by item with numpy as the exact search."""
    monkeypatch.setattr(ann, "EFFORTS", (ann.Effort(1, 2),))
    count = 260
    catalog.write(catalog_rows(ids(count)).drop_columns("vector_image"), {"text": PASSPORTS["text"]})
    (report,) = catalog.build_indexes(IndexSettings(index_type="IVF_RQ", sample=count))
    table, vectors = catalog._db.open_table("catalog"), unit(count, seed=1)
    found = ann.nearest(table.to_lance(), "vector_text", vectors, 11, effort=ann.Effort(1, 2)).to_pylist()
    hits = 0
    for i, item_id in enumerate(ids(count)):
        others = [hit["item_id"] for hit in found if hit["query_index"] == i and hit["item_id"] != item_id]
        true = np.argsort(-(vectors @ vectors[i]))[1:11]
        hits += len({ids(count)[j] for j in true} & set(others[:10]))
    assert 0.5 < report.recall < 0.95
    assert report.recall == pytest.approx(hits / (10 * count), abs=0.002)
    assert ann.recall_of_queries(table, report, queries=count).mean() == pytest.approx(report.recall)


@pytest.mark.slow
def test_new_rows_are_folded_into_a_kept_index(catalog: Catalog) -> None:
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK)
    catalog.write(catalog_rows(ids(600)), PASSPORTS)
    build_and_publish(catalog, settings)
    rows = pa.concat_tables([catalog_rows(ids(600)), catalog_rows([f"new-{i}" for i in range(50)], seed=5)])
    assert catalog.write(rows, PASSPORTS).added == 50
    reports = catalog.build_indexes(settings)
    assert [(r.rows, r.build_s, r.ok) for r in reports] == [(520, 0.0, True), (650, 0.0, True)]
    table = catalog._db.open_table("catalog")
    assert {index.name: index.num_unindexed_rows for index in table.list_indices()} == {
        **{f"{name}_idx": 0 for name in (*SCALAR_INDEXES, "text")},
        "vector_image_idx": 0,
        "vector_text_idx": 0,
    }  # fmt: skip
    assert len(read(catalog)) == 600, "not published yet"
    assert len(read(catalog).keys()) == 600
    catalog.publish(reports)
    found = read(catalog).vector_search("text", unit(50, seed=6)[7:8], 1)
    assert found["item_id"].to_pylist() == ["new-7"]


@pytest.mark.slow
def test_many_small_writes_end_like_one_large_one_and_in_few_parts(catalog: Catalog, tmp_path: Any) -> None:
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK)
    whole = catalog_rows(ids(600))
    for count in range(360, 601, 20):
        catalog.write(whole.slice(0, count), PASSPORTS)
        reports = catalog.build_indexes(settings)
        assert all(report.ok for report in reports)
        assert all((report.build_s > 0) == (count == 360) for report in reports), "trained once, folded in after"
        catalog.publish(reports)
        catalog.cleanup(older_than=timedelta(0))
    table = catalog._db.open_table("catalog")
    dataset = table.to_lance()
    assert len(dataset.get_fragments()) <= PARTS
    for index in table.list_indices():
        stats = dataset.stats.index_stats(index.name)
        assert stats["num_unindexed_rows"] == 0
        assert len(stats["num_indexed_rows_per_delta"]) <= PARTS + 1
    assert len(table.list_versions()) < 20
    once = Catalog(lancedb.connect(str(tmp_path / "once")))
    once.write(whole, PASSPORTS)
    build_and_publish(once, settings)
    ours, theirs = read(catalog), read(once)
    assert ours.keys() == theirs.keys()
    columns = ["title", "price", "tags", "vector_image", "vector_text"]
    assert ours.items(ids(600), columns) == theirs.items(ids(600), columns)
    for where in (None, "price > 590", "kind = 'video'", "array_has_any(tags, ['tag'])"):
        assert ours.count(where) == theirs.count(where)
    queries, vectors = unit(20, seed=7), np.asarray(whole["vector_text"].to_pylist(), np.float32)
    nearest = {ids(600)[place] for place in np.argsort(-(queries @ vectors.T), axis=1)[:, :10].ravel()}
    for published in (ours, theirs):
        found = set(published.vector_search("text", queries, 10)["item_id"].to_pylist())
        assert len(found & nearest) > 0.8 * len(nearest), "an index that is not exact finds nearly all of them"
    for word in ("word599", "word360", "word12"):
        assert ours.text_search(word, 3)["item_id"].to_pylist() == theirs.text_search(word, 3)["item_id"].to_pylist()


@pytest.mark.slow
def test_recall_is_measured_with_what_was_known_and_what_came(catalog: Catalog, monkeypatch: Any) -> None:
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK)
    catalog.write(catalog_rows(ids(400)), PASSPORTS)
    catalog.build_indexes(settings)
    asked: list[int] = []
    found = ground_truth.find_neighbours

    def counted(table: Any, column: str, names: Any, *args: Any) -> Any:
        asked.append(len(names))
        return found(table, column, names, *args)

    monkeypatch.setattr(ground_truth, "find_neighbours", counted)
    catalog.write(catalog_rows(ids(420)), PASSPORTS)
    kept = catalog.build_indexes(settings)
    assert sum(asked) < QUICK / 2, "only those that took a place in the sample"
    asked.clear()
    catalog._db.open_table("catalog").add(catalog_rows(["by hand"]).cast(catalog._db.open_table("catalog").schema))
    fresh = catalog.build_indexes(settings)
    assert asked == [QUICK, QUICK], "something else wrote in between: nothing is known for certain"
    for ours, theirs in zip(kept, fresh, strict=True):
        assert ours.recall == pytest.approx(theirs.recall, abs=0.1)


@pytest.mark.slow
def test_recall_stands_while_few_rows_changed_and_is_then_confirmed_by_few_queries(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann, "FEW_QUERIES", 20)
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK, target_recall=0.5)
    searched: list[int] = []
    search = ann.RecallProbe.distances

    def counted(probe: Any, effort: Any, where: Any, places: Any = None) -> Any:
        searched.append(QUICK if places is None else len(places))
        return search(probe, effort, where, places)

    def build(count: int, few: int | None) -> Any:
        catalog.write(catalog_rows(ids(count)), PASSPORTS)
        reports = catalog.build_indexes(settings, few_changed=few)
        catalog.publish(reports)
        return reports[0]

    first = build(500, None)
    monkeypatch.setattr(ann.RecallProbe, "distances", counted)
    kept = build(503, 3)
    assert searched == []
    assert (kept.recall, kept.unmeasured, kept.queries) == (first.recall, 3, QUICK)
    confirmed = build(506, 3)
    assert searched == [20, 20, 20, 20], "of two spaces, without and with a filter"
    assert (confirmed.unmeasured, confirmed.queries, confirmed.effort) == (0, QUICK, first.effort)
    searched.clear()
    catalog.write(catalog_rows(ids(509)), PASSPORTS)  # by a run that was killed before it published
    build(512, 3)
    assert set(searched) == {QUICK}, "rows that no publication has: all of the sample"
    searched.clear()
    monkeypatch.setattr(ann, "TOLERANCE", -1.0)  # nothing is found
    assert build(520, 8).build_s > 0
    assert searched[:2] == [20, QUICK], "few queries did not show it, and all of them neither"


@pytest.mark.slow
def test_an_index_that_its_table_outgrew_is_trained_anew(catalog: Catalog) -> None:
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK)
    catalog.write(catalog_rows(ids(320)), PASSPORTS)
    catalog.build_indexes(settings)
    catalog.write(catalog_rows(ids(600)), PASSPORTS)
    assert [report.build_s for report in catalog.build_indexes(settings)] == [0.0, 0.0]
    catalog.write(catalog_rows(ids(700)), PASSPORTS)
    assert all(report.build_s > 0 for report in catalog.build_indexes(settings))


@pytest.mark.slow
def test_an_index_whose_recall_fell_is_trained_anew(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = IndexSettings(index_type="IVF_RQ", sample=QUICK)
    catalog.write(catalog_rows(ids(600)), PASSPORTS)
    catalog.build_indexes(settings)
    answers = iter([False, True] * 2)
    tune = ann.RecallProbe.tune
    monkeypatch.setattr(ann.RecallProbe, "tune", lambda probe, _=None: replace(tune(probe), ok=next(answers)))
    assert all(report.build_s > 0 and report.ok for report in catalog.build_indexes(settings))


def test_an_index_is_dropped_where_exact_search_is_right(catalog: Catalog) -> None:
    catalog.write(catalog_rows(ids(300)), PASSPORTS)
    catalog.build_indexes(IndexSettings(index_type="IVF_RQ", sample=QUICK))
    reports = catalog.build_indexes()
    assert [report.index_type for report in reports] == ["exact", "exact"]
    assert "vector_text_idx" not in {i.name for i in catalog._db.open_table("catalog").list_indices()}


def test_choice_of_index() -> None:
    settings = IndexSettings(exact_below=1000)
    assert ann.choose_effort(999, 384, settings) == "exact"
    assert ann.choose_effort(1000, 384, settings) == "IVF_RQ"
    assert ann.choose_effort(1000, 100, settings) == "IVF_HNSW_SQ"
    with pytest.raises(ColdstartError) as error:
        IndexSettings(index_type="HNSW")  # type: ignore[arg-type]
    assert str(error.value) == ("index_type 'HNSW' is unknown: choose auto, exact or IVF_RQ, IVF_PQ, IVF_HNSW_SQ")


@pytest.fixture(scope="module", params=["exact", "IVF_RQ"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """800 items, by exact search and by an index."""
    catalog = Catalog(lancedb.connect(str(tmp_path_factory.mktemp("large"))))
    catalog.write(catalog_rows(ids(800)), PASSPORTS)
    build_and_publish(catalog, IndexSettings(index_type=request.param, sample=QUICK))
    return read(catalog)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ("kind = 'video' AND price > 700", lambda i: i % 3 == 0 and i > 700),
        ("price < 25", lambda i: i < 25),
        ("array_has_any(tags, ['tag']) AND category IN ('category 1', 'category 3')", lambda i: i % 10 in (1, 3)),
        ("item_id = 'item-00007'", lambda i: i == 7),
        ("price < 0", lambda i: False),
    ],
)
def test_a_filtered_search_for_k_returns_k_where_k_exist(large: Published, where: str, rule: Any) -> None:
    matching = [i for i in range(800) if rule(i) and i % 5]
    vectors, queries = unit(800), unit(4, seed=3)
    found = large.vector_search("image", queries, 50, where=where)
    for index in range(4):
        mine = set(found.filter(pa.array(found["query_index"].to_numpy() == index))["item_id"].to_pylist())
        assert len(mine) == min(50, len(matching))
        best = sorted(matching, key=lambda i: -float(queries[index] @ vectors[i]))[:50]
        assert len(mine & {ids(800)[i] for i in best}) >= 0.9 * len(best)


@pytest.mark.slow
def test_an_index_that_finds_too_few_is_bypassed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.write(catalog_rows(ids(600)), PASSPORTS)
    build_and_publish(catalog, IndexSettings(index_type="IVF_RQ", sample=QUICK))
    published, whole = read(catalog), ann.nearest
    expected = published.vector_search("text", unit(270, seed=3), 3)

    def lossy(*args: Any, effort: Any, **kwargs: Any) -> pa.Table:
        found = whole(*args, effort=effort, **kwargs)
        return found if effort is None else found.filter(pa.array(found["query_index"].to_numpy() % 7 != 2))

    monkeypatch.setattr(ann, "nearest", lossy)
    found = published.vector_search("text", unit(270, seed=3), 3)
    assert found["query_index"].to_pylist() == expected["query_index"].to_pylist()
    assert found.num_rows == 810


def test_queries_of_another_length_and_unknown_spaces_are_refused(catalog: Catalog) -> None:
    catalog.write(catalog_rows(ids(5)), PASSPORTS)
    build_and_publish(catalog)
    published = read(catalog)
    with pytest.raises(ColdstartError) as error:
        published.vector_search("text", unit(2, dim=8), 3)
    assert str(error.value) == ("query of 8 numbers for space 'text' of 16: encode it with the encoder of that space")
    with pytest.raises(ColdstartError) as error:
        published.vector_search("audio", unit(1), 3)
    assert str(error.value) == "space 'audio' is not in the published catalog: it has image, text"
    with pytest.raises(ColdstartError) as error:
        published.vector_search("text", unit(1), 0)
    assert str(error.value) == "top_k 0: ask for 1 or more"


def test_ids_of_any_text_pass_through_conditions(catalog: Catalog) -> None:
    odd = ["o'brien\"", "\\'; DROP", "🙂 emoji", "line\nbreak", "%_", " ", "back\\", "' OR '1'='1"]
    catalog.write(catalog_rows(odd), PASSPORTS)
    build_and_publish(catalog)
    published = read(catalog)
    assert set(published.items(odd, ["title"])) == set(odd)
    for item_id in odd:
        assert published.items([item_id], ["title"]) == {item_id: {"title": f"title {odd.index(item_id)}"}}
        where = published.condition(where="price >= 0", exclude=[item_id])
        assert set(published.vector_search("text", unit(1), 10, where=where)["item_id"].to_pylist()) == set(odd) - {
            item_id
        }
    assert set(published.vectors("image", odd)) == set(odd) - {odd[0], odd[5]}
    assert catalog.write(catalog_rows(odd[:1]), PASSPORTS).deleted == len(odd) - 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", '"', "shoe AND (", "text:shoe OR *", "+word1 -shoe", "🙂", "'; DROP TABLE catalog", "\x00"),
        *("\ud800 shoe", "the", "shoe " * 5000, "[[{{", "word9~2", "\\"),
    ],
)
def test_user_text_is_never_a_query_language(catalog: Catalog, text: str) -> None:
    catalog.write(catalog_rows(ids(5)), PASSPORTS)
    build_and_publish(catalog)
    found = read(catalog).text_search(text, 10, where="price < 100")
    assert found.num_rows == (5 if "shoe" in text else 0)


def test_text_search_ranks_by_score_then_id(catalog: Catalog) -> None:
    catalog.write(catalog_rows(ids(6)), PASSPORTS)
    build_and_publish(catalog)
    found = read(catalog).text_search("word3 SHOES", 10)
    assert found["item_id"].to_pylist() == ["item-00003", *(i for i in ids(6) if i != "item-00003")]


def test_readers_see_only_what_is_published(catalog: Catalog) -> None:
    assert catalog.published() is None
    catalog.write(catalog_rows(ids(5)), PASSPORTS)
    assert catalog.published() is None
    first = build_and_publish(catalog)
    assert (first.number, first.tag, first.previous, first.rows) == (1, "pub-000001", None, 5)
    catalog.write(catalog_rows(ids(7)), PASSPORTS)
    assert len(read(catalog).items(ids(7), ["title"])) == 5
    second = build_and_publish(catalog)
    assert (second.number, second.previous, second.rows) == (2, 1, 7)
    assert len(read(catalog).items(ids(7), ["title"])) == 7
    assert catalog.publications() == [second, first]
    assert build_and_publish(catalog).number == 2, "nothing changed, so the same publication"
    assert read(catalog).publication.number == 2


@pytest.mark.slow
def test_rollback_returns_to_what_was_current_before(catalog: Catalog) -> None:
    catalog.write(catalog_rows(ids(1)), PASSPORTS)
    with pytest.raises(ColdstartError) as error:
        catalog.rollback()
    assert str(error.value) == "rollback: nothing is published; run `coldstart index`"
    for count in (1, 2):
        catalog.write(catalog_rows(ids(count)), PASSPORTS)
        build_and_publish(catalog)
    assert catalog.rollback().number == 1
    assert len(read(catalog)) == 1
    with pytest.raises(ColdstartError) as error:
        catalog.rollback()
    assert str(error.value) == "rollback: no publication is kept from before pub-000001; it stays published"
    catalog.write(catalog_rows(ids(3)), PASSPORTS)
    third = build_and_publish(catalog)
    assert (third.number, third.previous) == (3, 1), "the publication that was rolled back is skipped"
    assert catalog.rollback().number == 1


def test_a_crash_while_publishing_leaves_readers_at_the_former_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.write(catalog_rows(ids(1)), PASSPORTS)
    build_and_publish(catalog)
    catalog.write(catalog_rows(ids(2)), PASSPORTS)
    reports = catalog.build_indexes()
    monkeypatch.setattr(publications, "record_publication", _crash)
    with pytest.raises(KeyboardInterrupt):
        catalog.publish(reports)
    assert len(read(catalog)) == 1
    monkeypatch.undo()
    assert catalog.publish(reports).number == 2
    assert len(read(catalog)) == 2


def _crash(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_cleanup_drops_versions_and_keeps_publications(catalog: Catalog) -> None:
    for count in range(300, 306):
        catalog.write(catalog_rows(ids(count), seed=count), {**PASSPORTS, "text": Passport(str(count), DIM)})
        build_and_publish(catalog, IndexSettings(index_type="IVF_RQ", sample=QUICK))
    reader = read(catalog)
    report = catalog.cleanup(keep_publications=2, older_than=timedelta(0))
    assert report.publications_removed == 4 and report.versions_removed > 4
    assert report.bytes_after < 0.6 * report.bytes_before
    assert [p.number for p in catalog.publications()] == [6, 5]
    assert set(catalog._db.open_table("catalog").tags.list()) == {"pub-000005", "pub-000006", "published"}
    assert reader.vector_search("text", unit(1), 400).num_rows == 305
    assert catalog.rollback().number == 5
    assert read(catalog).vector_search("text", unit(1), 400).num_rows == 304
    assert catalog.cleanup().publications_removed == 0
    for count in (310, 311):
        catalog.write(catalog_rows(ids(count), seed=count), PASSPORTS)
        build_and_publish(catalog)
    assert catalog.cleanup(keep_publications=1, older_than=timedelta(0)).publications_removed == 2
    assert [p.number for p in catalog.publications()] == [8, 7], "the one to roll back to stays"


def test_a_catalog_without_labels_is_built_and_read_as_before(catalog: Catalog) -> None:
    """As earlier versions wrote it; the next write with labels replaces the table."""
    rows = catalog_rows(ids(6))
    catalog.write(rows.drop_columns(["label", "label_score"]), PASSPORTS)
    build_and_publish(catalog)
    before = read(catalog)
    assert len(before.text_search("shoe", 10)) == 6
    with pytest.raises(ColdstartError, match="label"):
        before.condition(where="label = 'Fruit'")
    labels = pa.array(["Fruit", None, "Milk", None, "Fruit", None], pa.string())
    place = rows.schema.get_field_index("label")
    assert catalog.write(rows.set_column(place, "label", labels), PASSPORTS).replaced
    build_and_publish(catalog)
    found = read(catalog).text_search("shoe", 10, where=read(catalog).condition(where="label = 'Fruit'"))
    assert sorted(found["item_id"].to_pylist()) == ["item-00000", "item-00004"]
    assert len(before.text_search("shoe", 10)) == 6
