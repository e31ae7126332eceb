"""Search by words in languages that put no spaces between them, beside those that do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import FTS

from coldstart.store import compaction, word_search
from coldstart.store.word_search import build_word_indexes, word_query

CHINESE = ("蓝色陶瓷咖啡杯", "不锈钢保温杯", "红色女士跑步鞋", "男士休闲运动鞋透气", "有机绿茶250克", "牛肉干麻辣味")
JAPANESE = (
    "青いコーヒーカップ",
    "レディースランニングシューズ",
    "スマホケース透明",
    "京都の抹茶アイス",
    "東京の地図",
    "犬のおもちゃ",
)
THAI = ("แก้วกาแฟเซรามิกสีฟ้า", "รองเท้าวิ่งผู้หญิง", "อาหารแมวคุณภาพดี")
SPACED = (
    "Red running shoes for men, size 7",
    "The men's T-shirt in black",
    "Schöne Laufschuhe für Damen",
    "Crème brûlée",
    "iPhone15 case, pack of 2",
    "Красные кроссовки",
    "한국어 커피 머그컵",
)


def table_of(folder: Path, titles: Sequence[str], index: FTS | None = None) -> Any:
    """A table with the two columns that are searched; `index` as an earlier version built it."""
    rows = pa.table({"item_id": list(titles), "title": list(titles), "text": list(titles)})
    table = lancedb.connect(str(folder)).create_table("catalog", rows)
    if index is not None:
        table.create_index("text", config=index)
    build_word_indexes(table)
    return table


def found(table: Any, text: str) -> list[str]:
    by_characters = any(index.name == word_search.CHARACTER_INDEX for index in table.list_indices())
    words = word_query(text, by_characters=by_characters)
    rows = table.to_lance().scanner(["item_id", "_score"], full_text_query=words, limit=20).to_table()
    rows = rows.sort_by([("_score", "descending")])
    return list(rows["item_id"].to_pylist())


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return table_of(tmp_path_factory.mktemp("every"), (*CHINESE, *JAPANESE, *THAI, *SPACED))


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("咖啡", ("蓝色陶瓷咖啡杯",)),  # inside a word of the dictionary
        ("杯", ("蓝色陶瓷咖啡杯", "不锈钢保温杯")),
        ("鞋", ("红色女士跑步鞋", "男士休闲运动鞋透气")),
        ("跑步鞋", ("红色女士跑步鞋",)),
        ("绿茶", ("有机绿茶250克",)),
        ("牛肉", ("牛肉干麻辣味",)),
        ("コーヒー", ("青いコーヒーカップ",)),
        ("シューズ", ("レディースランニングシューズ",)),
        ("ケース", ("スマホケース透明",)),
        ("京都", ("京都の抹茶アイス",)),
        ("東京", ("東京の地図",)),
        ("犬", ("犬のおもちゃ",)),
        ("กาแฟ", ("แก้วกาแฟเซรามิกสีฟ้า",)),
        ("แมว", ("อาหารแมวคุณภาพดี",)),
    ],
)
def test_a_word_inside_a_title_without_spaces_is_found(every: Any, text: str, titles: tuple[str, ...]) -> None:
    assert set(found(every, text)[: len(titles)]) == set(titles)


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("run", SPACED[:1]),
        ("runs shoe", SPACED[:1]),
        ("men", SPACED[:2]),
        ("7", SPACED[:1]),
        ("t-shirt", SPACED[1:2]),
        ("laufschuh", SPACED[2:3]),
        ("schone damen", SPACED[2:3]),
        ("creme brulee", SPACED[3:4]),
        ("iphone15 2", SPACED[4:5]),
        ("кроссовки", SPACED[5:6]),
        ("커피", SPACED[6:7]),
        ("the in of for", ()),
    ],
)
def test_other_languages_are_searched_as_before(every: Any, tmp_path: Path, text: str, titles: tuple[str, ...]) -> None:
    assert sorted(found(every, text)) == sorted(titles)
    table = pa.table({"item_id": SPACED, "text": SPACED})
    before = lancedb.connect(str(tmp_path)).create_table("before", table)
    before.create_index("text", config=FTS())
    words = word_query(text, by_characters=False)
    rows = before.to_lance().scanner(["item_id", "_score"], full_text_query=words, limit=20).to_table()
    assert sorted(rows["item_id"].to_pylist()) == sorted(titles)


def test_words_and_characters_of_one_query_weigh_alike(every: Any) -> None:
    assert set(found(every, "コーヒー shoes")) == {JAPANESE[0], SPACED[0]}
    assert found(every, "红色跑步鞋")[0] == CHINESE[2], "the characters of a title in another order"
    assert found(every, "咖啡" * 20)[:1] == [], "a sentence is searched by its words"


def test_an_index_of_an_earlier_version_is_built_anew_once(tmp_path: Path) -> None:
    table = table_of(tmp_path, (*JAPANESE, *SPACED), FTS())
    assert found(table, "アイス") == [JAPANESE[3]]
    version = table.version
    build_word_indexes(table)
    assert table.version == version


def test_only_titles_in_chinese_and_japanese_cost_a_second_index(tmp_path: Path) -> None:
    assert [index.name for index in table_of(tmp_path, (*THAI, *SPACED)).list_indices()] == ["text_idx"]


def test_new_rows_are_folded_into_both_indexes(tmp_path: Path) -> None:
    table = table_of(tmp_path, CHINESE)
    table.add(pa.table({"item_id": ["new"], "title": ["陶瓷茶杯"], "text": ["陶瓷茶杯"]}))
    compaction.fold_indexes(table.to_lance())
    table.checkout_latest()
    build_word_indexes(table)
    assert {index.name: index.num_unindexed_rows for index in table.list_indices()} == {"text_idx": 0, "title_idx": 0}
    assert set(found(table, "杯")) == {CHINESE[0], CHINESE[1], "new"}
