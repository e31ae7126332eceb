"""What is held in memory gives the results of the store: words, vectors, conditions; after changes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.items import CONTENT_FIELDS
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import Catalog
from coldstart.store.held import WordScores
from coldstart.store.published import Published

DIM, ROWS = 16, 400
WORDS = [
    *("oat", "milk", "carton", "running", "shoes", "men", "women's", "red", "blue", "t-shirt", "size", "2.5"),
    *("café", "mug", "cats", "cat", "the", "don't", "Schuhe"),
]


class Passport:
    dim = DIM

    def to_json(self) -> str:
        return '{"dim": 16, "encoder": "a"}'


def rows_of(numbers: range, seed: int) -> pa.Table:
    """Items with texts of some of `WORDS`, of which a tenth have no vector, and a tenth are copies."""
    random = np.random.default_rng(seed)
    count = len(numbers)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 8))) for _ in numbers]
    texts[0] = "蓝色陶瓷咖啡杯 mug"
    columns: dict[str, Any] = {"item_id": pa.array([f"p{number}" for number in numbers])}
    columns |= {field.name: pa.nulls(count, field.type) for field in CONTENT_FIELDS}
    columns |= {name: pa.nulls(count, pa.string()) for name in ("transcript", "screen_text", "language", "label")}
    flat = pa.array(random.standard_normal(count * DIM).astype(np.float32))
    columns |= {
        "kind": pa.array(["product" if number % 2 else "video" for number in numbers]),
        "title": pa.array(texts),
        "text": pa.array(texts),
        "price": pa.array([float(number) for number in numbers]),
        "duplicate_of": pa.array(["p1" if number % 10 == 2 else None for number in numbers], pa.string()),
        "label_score": pa.nulls(count, pa.float32()),
        "index_key": pa.array([f"{number} of {seed}" for number in numbers]),
        "vector_text": pa.FixedSizeListArray.from_arrays(flat, DIM, mask=pa.array(random.random(count) < 0.1)),
    }
    return pa.table(columns)


@pytest.fixture(scope="module", params=["exact", "IVF_PQ"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Published]:
    """One publication twice: held in memory, and read from the store. Some rows were changed and deleted before."""
    catalog = Catalog(lancedb.connect(str(tmp_path_factory.mktemp("held"))))
    settings = IndexSettings(exact_below=0, index_type=request.param, sample=20, target_recall=0.1)
    catalog.write(rows_of(range(ROWS), 0), {"text": Passport()})
    catalog.publish(catalog.build_indexes(settings))
    kept = rows_of(range(ROWS), 0).slice(20)
    changed = pa.concat_tables([kept.slice(0, kept.num_rows - 30), rows_of(range(ROWS - 30, ROWS + 20), 1)])
    catalog.write(changed, {"text": Passport()})
    catalog.publish(catalog.build_indexes(settings))
    held, stored = catalog.published(), catalog.published()
    assert held is not None and stored is not None and held._indexes["text"].index_type == request.param
    held.load_rows(("title", "kind"))
    held.load_vectors(["text"], 1 << 20)
    assert held._held is not None and held._held.words is not None and set(held._held.spaces) == {"text"}
    return held, stored


CONDITIONS: list[dict[str, Any]] = [{}, {"where": "price < 100"}, {"kind": "video", "copies": True}]


@pytest.mark.slow
@pytest.mark.parametrize("options", CONDITIONS)
def test_words_score_as_in_the_store(both: tuple[Published, Published], options: dict[str, Any]) -> None:
    held, stored = both
    where = stored.condition(**options)
    assert held.condition(**options) == where
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 5))) for _ in range(12)]
    texts += [
        "milk milk oat",
        "unheardof",
        "unheardof milk",
        "咖啡 mug",
        "\ud800 shoe",
        "the",
        "",
        "size-2.5 milk",
        "CATS!",
    ]
    held.prepare_words(texts)
    for text in texts:
        mine, theirs = (one.text_search(text, ROWS, where=where) for one in both)
        assert sorted(mine["item_id"].to_pylist()) == sorted(theirs["item_id"].to_pylist()), text
        scores = dict(zip(theirs["item_id"].to_pylist(), theirs["_score"].to_pylist(), strict=True))
        np.testing.assert_allclose(mine["_score"], [scores[item] for item in mine["item_id"].to_pylist()], rtol=1e-5)
        few = held.text_search(text, 7, where=where)
        assert few.equals(mine.slice(0, 7))
        some = ["p41", "p399", "p3", "p410", "unknown"]
        assert held.word_scores(text, some) == pytest.approx(stored.word_scores(text, some), rel=1e-5)


def test_words_are_asked_for_once_and_dropped_beyond_a_bound() -> None:
    asked: list[str] = []

    def ask(word: str, most: int) -> tuple[Any, Any]:
        asked.append(word)
        return np.arange(most), np.ones(most, np.float32)

    words = WordScores(ask, lambda text: tuple(text.split()), lambda rows: rows, 10, frozenset("abc"), most_bytes=600)
    assert words.of(["z"])[0] is not None and not asked  # in no item
    for text in ("a b", "b a", "c", "b", "a"):
        (found,) = words.of([text])
        assert found is not None
        assert found[0].tolist() == list(range(10)) and found[1].tolist() == [len(text.split())] * 10
    assert asked == ["a", "b", "c", "b", "a"]  # the one not asked for longest goes first
    assert words.bytes <= 600


@pytest.mark.parametrize("options", CONDITIONS)
def test_vectors_are_found_as_in_the_store(both: tuple[Published, Published], options: dict[str, Any]) -> None:
    held, stored = both
    where = stored.condition(**options)
    queries = np.random.default_rng(4).standard_normal((9, DIM)).astype(np.float32)
    for top_k in (1, 10, ROWS):
        mine, theirs = (one.vector_search("text", queries, top_k, where=where) for one in both)
        assert mine.schema == theirs.schema
        assert mine["query_index"].equals(theirs["query_index"])
        np.testing.assert_allclose(mine["_distance"], theirs["_distance"], atol=2e-6)
        assert mine["item_id"].equals(theirs["item_id"])
    alone, together = (held.vector_search("text", some, 10, where=where)["item_id"] for some in (queries[:1], queries))
    assert alone.to_pylist() == together[:10].to_pylist()


def test_equal_vectors_stand_in_order_of_their_ids(tmp_path: Path) -> None:
    rows = rows_of(range(40), 5)
    same = pa.array(np.tile(np.random.default_rng(1).standard_normal(DIM).astype(np.float32), 40))
    column = pa.FixedSizeListArray.from_arrays(same, DIM)
    catalog = Catalog(lancedb.connect(str(tmp_path / "catalog")))
    catalog.write(rows.set_column(rows.column_names.index("vector_text"), "vector_text", column), {"text": Passport()})
    catalog.publish(catalog.build_indexes(IndexSettings()))
    published = catalog.published()
    assert published is not None
    published.load_rows(())
    published.load_vectors(["text"], 1 << 20)
    for count in (1, 33):
        queries = np.random.default_rng(2).standard_normal((count, DIM)).astype(np.float32)
        found = published.vector_search("text", queries, 12)["item_id"].to_pylist()
        assert found[:12] == sorted(f"p{number}" for number in range(40))[:12]
