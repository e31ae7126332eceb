"""Indexes and queries of the search by words.

Words of a text are found by the Unicode rules and dictionaries of ICU, so that Chinese, Japanese and Thai, which put
no spaces between words, are split too; English ones are reduced to their stems. A dictionary keeps compounds whole: of
`咖啡杯` (coffee mug) it makes one word, which `咖啡` (coffee) does not equal. So where titles have Chinese
characters or kana, an index of single characters is built over the titles as well: a title that has all characters of
such a run in the query is found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from coldstart.store.sql import quote

if TYPE_CHECKING:
    from lance.query import FullTextQuery

CHARACTER_INDEX = "title_idx"
MOST_CHARACTERS = 16
"""Characters of a run that are looked up one by one; a longer one is a sentence, whose words are."""

_UNSPACED = (
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Pattern of a Chinese character or kana."""

_STOP_WORDS = (
    "a about after again against ain all am an and are aren as at be been being below between both but by can "
    "couldn d did didn do doesn doing don down each few for from further had hadn has hasn have haven having he her "
    "here hers herself him himself his how i if in into is isn it its itself just ll m ma me mightn more most mustn "
    "my myself needn no nor not now o of off on or other our ours out over own re s same shan she should shouldn so "
    "some such t than that the their theirs them then there these they this those through to too under until up ve "
    "was wasn we were weren what when where which while who whom will with won wouldn y you your yours yourself"
)
"""English words that say nothing. The list that the store takes for ICU's words is of many languages at once, and has
`men`, letters and digits, which are sizes of shoes and shirts."""


def build_word_indexes(table: Any) -> None:
    """Build the indexes that are missing, or that an earlier version built by other rules."""
    from lancedb.index import FTS

    present = {index.name: index for index in table.list_indices()}
    words = FTS(base_tokenizer="icu/split", custom_stop_words=_STOP_WORDS.split())
    details = getattr(present.get("text_idx"), "index_details", None) or {}
    if details.get("base_tokenizer") != words.base_tokenizer:
        table.create_index("text", config=words, replace=True)
    has_characters = f"regexp_like(title, {quote(_UNSPACED)})"
    if CHARACTER_INDEX not in present and _any(table, has_characters):
        characters = FTS(
            base_tokenizer="ngram", ngram_min_length=1, ngram_max_length=1, stem=False, remove_stop_words=False
        )
        table.create_index("title", config=characters)


def word_query(text: str, *, by_characters: bool) -> FullTextQuery:
    """Build the query for items that have any of the words of a text.

    Args:
        by_characters: also find titles with all characters of a run of Chinese characters or kana.
    """
    from lance.query import BooleanQuery, MatchQuery, Occur

    words = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot cross into the store
    parts: list[FullTextQuery] = [MatchQuery(words, "text")]
    for run in re.findall(f"{_UNSPACED}+", words) if by_characters else ():
        characters = list(dict.fromkeys(run))
        if len(run) <= MOST_CHARACTERS:  # together they weigh as one word
            one_by_one = [MatchQuery(one, "title", boost=1 / len(characters)) for one in characters]
            parts.append(BooleanQuery([(Occur.MUST, part) for part in one_by_one]))
    return parts[0] if len(parts) == 1 else BooleanQuery([(Occur.SHOULD, part) for part in parts])


def has_characters(text: str) -> bool:
    """Tell whether a text has Chinese characters or kana."""
    return re.search(_UNSPACED, text) is not None


def _any(table: Any, condition: str) -> bool:
    return bool(table.search().where(condition).select(["item_id"]).limit(1).to_arrow().num_rows)
