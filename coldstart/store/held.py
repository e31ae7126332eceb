"""Hold a published catalog in memory for a process that answers many searches: columns, unit vectors, scores of words.

Results are those of the store, up to rounding. Where a space has an index, the store gives the candidates, and their
distances are computed here: to read a few hundred vectors from disk takes the store longer than all the rest.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.store.ground_truth import Vectors
from coldstart.store.held_vectors import HeldVectors, in_batches, rank_rows

Places = NDArray[np.signedinteger[Any]]
Scores = NDArray[np.float32]

WORD_BYTES = 128 << 20
"""Scores of words that are held: 8 bytes for each item that has a word, of the words that were asked for last."""

_CONDITIONS = 16
"""Conditions of which it is held which items meet them, a byte an item."""
_ENTRY_BYTES = 200
_BLOCK = 1024
_VOCABULARY_CHARACTERS = 20_000_000
"""Characters of all items up to which their words are listed: some three seconds."""
_PIECES = 1 << 14
_PARAMETERS = (
    "base_tokenizer", "language", "max_token_length", "lower_case", "stem", "remove_stop_words", "custom_stop_words",
    "ascii_folding", "split_identifiers", "split_on_numerics", "preserve_original", "index_operators",
)  # fmt: skip
"""Parameters of an index of words by which texts are cut into tokens."""


class HeldItems:
    """Items of one published version in memory; safe to use from many threads.

    Attributes:
        places: item_id -> place, by which the arrays go.
        spaces: space -> its vectors; filled by `Published.load_vectors` and `Published.load_graph`.
        words: None where the index of words is of an unknown make.

    Args:
        dataset: the version, as Lance has it.
        rows: columns of all items, with `item_id` and `_rowid`.
    """

    def __init__(self, dataset: Any, rows: pa.Table) -> None:
        self._dataset = dataset
        row_ids = rows["_rowid"].to_numpy()
        self._by_row_id = np.argsort(row_ids)
        self._row_ids = row_ids[self._by_row_id]
        self._rows = rows.drop_columns(["_rowid"]).combine_chunks()
        self._ids = rows["item_id"].combine_chunks()
        self.places: dict[str, int] = {item_id: place for place, item_id in enumerate(self._ids.to_pylist())}
        self._rank = np.empty(len(rows), np.int64)
        self._rank[pc.sort_indices(self._ids).to_numpy()] = np.arange(len(rows))
        self.spaces: dict[str, HeldVectors] = {}
        self._lock = threading.Lock()
        self._meeting: OrderedDict[str, NDArray[np.bool_]] = OrderedDict()
        self.words = WordScores.of_index(dataset, partial(_places_of, self._by_row_id, self._row_ids), len(rows))

    def __len__(self) -> int:
        return len(self._rank)

    def places_of(self, row_ids: NDArray[Any]) -> Places:
        """Find the places of rows of the store."""
        return _places_of(self._by_row_id, self._row_ids, row_ids)

    def ids(self, places: Places) -> pa.Array:
        """List the ids of places."""
        return self._ids.take(pa.array(places))

    def read(self, item_ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]] | None:
        """Read item_id -> the wanted columns, for ids that are there; None where some column is not held."""
        if not set(columns) <= set(self._rows.column_names):
            return None
        places = [self.places[item_id] for item_id in item_ids if item_id in self.places]
        held = self._rows.select(list(dict.fromkeys(["item_id", *columns]))).take(pa.array(places, pa.int64()))
        return {row.pop("item_id"): row for row in held.to_pylist()}

    def vectors(self, space: str, item_ids: Sequence[str]) -> Vectors:
        """Read the unit vectors of items, float32 `[N, D]` in their order; NaN for one that is unknown or has none."""
        at = np.array([self.places.get(item_id, -1) for item_id in item_ids], np.intp)
        own = self.spaces[space].at(at)
        own[at < 0] = np.nan
        return own

    def meeting(self, where: str) -> NDArray[np.bool_]:
        """Find the items that meet an SQL condition, bool `[N]`."""
        with self._lock:
            if where in self._meeting:
                self._meeting.move_to_end(where)
                return self._meeting[where]
        rows = self._dataset.scanner(columns=[], filter=where, with_row_id=True).to_table()
        meets = np.zeros(len(self), bool)
        meets[self.places_of(rows["_rowid"].to_numpy())] = True
        with self._lock:
            self._meeting[where] = meets
            while len(self._meeting) > _CONDITIONS:
                self._meeting.popitem(last=False)
        return meets

    def nearest(self, space: str, queries: Vectors, top_k: int, where: str | None, *, exact: bool) -> pa.Table:
        """Find the nearest of each query in memory; `query_index`, `item_id`, `_distance` as `vector_search` has them.

        Args:
            exact: compare all items; without it, by the graph where there is one.
        """
        held = self.spaces[space]
        meeting = None if where is None else self.meeting(where)
        return self._ranked(held, queries, held.nearest(queries, top_k, where, meeting, exact=exact), top_k)

    def ranked(self, space: str, queries: Vectors, candidates: Sequence[Places], top_k: int) -> pa.Table:
        """Rank the candidates of each query, which have vectors, by distance, then item_id; the best `top_k`."""
        held = self.spaces[space]
        return self._ranked(held, queries, [held.rows_of(own) for own in candidates], top_k)

    def _ranked(self, held: HeldVectors, queries: Vectors, candidates: Sequence[Places], top_k: int) -> pa.Table:
        queries = unit(np.asarray(queries, np.float32))
        counts, chosen, nearest = [0], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for some, rows in in_batches(candidates, queries.shape[1]):
            order_of = self._rank[held.place_of[rows]]
            best, distances = rank_rows(held.units, queries[some], rows, order_of, top_k)
            counts += [best.shape[1]] * len(best)
            chosen.append(held.place_of[best].reshape(-1))
            nearest.append(distances.reshape(-1))
        numbers = np.repeat(np.arange(len(queries), dtype=np.int32), counts[1:])
        columns = [pa.array(numbers), self.ids(np.concatenate(chosen)), pa.array(np.concatenate(nearest), pa.float32())]
        return pa.table(columns, ["query_index", "item_id", "_distance"])

    def best_words(self, found: tuple[Places, Scores], top_k: int, where: str | None) -> pa.Table:
        """Rank the items that have some of the words, by falling score, then item_id."""
        places, scores = found
        if where is not None:
            meets = self.meeting(where)[places]
            places, scores = places[meets], scores[meets]
        if len(scores) > top_k:
            best = scores >= np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
            places, scores = places[best], scores[best]
        order = np.lexsort((self._rank[places], -scores))[:top_k]
        return pa.table([self.ids(places[order]), pa.array(scores[order])], ["item_id", "_score"])

    def word_scores(self, found: tuple[Places, Scores], item_ids: Sequence[str]) -> dict[str, float]:
        """Look up the scores of items; those that have none of the words are left out."""
        places, scores = found
        known = [item_id for item_id in item_ids if item_id in self.places]
        wanted = np.array([self.places[item_id] for item_id in known], np.int64)
        at = np.minimum(np.searchsorted(places, wanted), max(0, len(places) - 1))
        has = places[at] == wanted if len(places) else np.zeros(len(wanted), bool)
        return {known[place]: float(scores[at[place]]) for place in np.flatnonzero(has)}


class WordScores:
    """BM25 of single words over all items, as the store computes it, kept for the words that were asked for last.

    The score of a text is the sum of those of its words. A text whose words the store cuts in other places than
    between letters or spaces, such as Chinese, is left to the store.

    Args:
        ask: (word, most rows) -> row ids and scores, from the store.
        tokenize: the tokens that the store makes of a text.
        places_of: row ids -> places.
        count: items of the catalogue.
        vocabulary: tokens of all items: others are not asked for; None where it is not known.
    """

    def __init__(
        self,
        ask: Callable[[str, int], tuple[NDArray[Any], NDArray[Any]]],
        tokenize: Callable[[str], tuple[str, ...]],
        places_of: Callable[[NDArray[Any]], Places],
        count: int,
        vocabulary: frozenset[str] | None = None,
        most_bytes: int = WORD_BYTES,
    ) -> None:
        self._ask, self._tokenize, self._places_of = ask, tokenize, places_of
        self._count, self._vocabulary, self._most_bytes = count, vocabulary, most_bytes
        self._tokens_of_piece = lru_cache(_PIECES)(tokenize)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Places, Scores]] = OrderedDict()
        self.bytes = 0

    @classmethod
    def of_index(cls, dataset: Any, places_of: Callable[[NDArray[Any]], Places], count: int) -> WordScores | None:
        """Create the scores over the index of a catalogue; None where its tokens cannot be made outside the store."""
        import lance
        from lance.query import MatchQuery

        if not hasattr(lance, "tokenize"):  # not every version that may be installed has it
            return None
        try:
            stats = dataset.stats.index_stats("text_idx")
            parameters = [index["params"] for index in stats["indices"]]
            options = {name: value for name, value in parameters[0].items() if name in _PARAMETERS}
            usable = all(own == parameters[0] for own in parameters) and not stats["num_unindexed_rows"]
            lance.tokenize("word", **options)
        except (KeyError, IndexError, TypeError, ValueError, OSError, RuntimeError):
            return None

        def ask(word: str, most: int) -> tuple[NDArray[Any], NDArray[Any]]:
            query = MatchQuery(word, "text")
            found = dataset.scanner(["_rowid", "_score"], full_text_query=query, limit=most).to_table()
            return found["_rowid"].to_numpy(), found["_score"].to_numpy()

        def tokenize(text: str) -> tuple[str, ...]:
            return tuple(token.text for token in lance.tokenize(text, **options))

        return cls(ask, tokenize, places_of, count, _vocabulary(dataset, tokenize)) if usable else None

    def of(self, texts: Sequence[str]) -> list[tuple[Places, Scores] | None]:
        """Score all items that have a word of each text: places, rising, and BM25; None for a text that is left to the
        store."""
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
        plans = [self._pieces(text) for text in texts]
        held = self._words({token: piece for plan in plans if plan is not None for token, piece in plan})
        counts = [None if plan is None else Counter(token for token, _ in plan) for plan in plans]
        return [
            None if own is None else self._sum([(held[token], times) for token, times in own.items()]) for own in counts
        ]

    def _pieces(self, text: str) -> list[tuple[str, str]] | None:
        """Cut a text into pieces of one token each: (token, piece); None where that gives other tokens than the whole
        text does."""
        wanted = self._tokenize(text)
        for pieces in (re.findall(r"[^\W_]+", text), text.split()):
            made = [(tokens, piece) for piece in pieces if (tokens := self._tokens_of_piece(piece))]
            if tuple(token for tokens, _ in made for token in tokens) == wanted and len(made) == len(wanted):
                return [(tokens[0], piece) for tokens, piece in made]
        return None

    def _words(self, wanted: Mapping[str, str]) -> dict[str, tuple[Places, Scores]]:
        """Read the scores of tokens, given with a piece of text that is cut into that token."""
        with self._lock:
            found = {token: self._known[token] for token in wanted if token in self._known}
            for token in found:
                self._known.move_to_end(token)
        for token, piece in wanted.items():
            if token in found:
                continue
            if self._vocabulary is not None and token not in self._vocabulary:
                found[token] = _NONE
                continue
            row_ids, scores = self._ask(piece, self._count)
            places = self._places_of(row_ids)
            order = np.argsort(places)
            found[token] = own = places[order].astype(np.int32), scores[order].astype(np.float32)
            with self._lock:
                if token not in self._known:
                    self._known[token] = own
                    self.bytes += _size(own)
                while self.bytes > self._most_bytes and self._known:
                    self.bytes -= _size(self._known.popitem(last=False)[1])
        return found

    def _sum(self, parts: Sequence[tuple[tuple[Places, Scores], int]]) -> tuple[Places, Scores]:
        """Add up the scores of words, each times as often as the text has it."""
        total = sum(len(places) for (places, _), _ in parts)
        if not total:
            return _NONE
        if total > self._count // 4:
            dense = np.zeros(self._count, np.float32)
            for (places, scores), times in parts:
                dense[places] += times * scores
            places = np.flatnonzero(dense)
            return places, dense[places]
        places, inverse = np.unique(np.concatenate([own for (own, _), _ in parts]), return_inverse=True)
        sums = np.bincount(inverse, np.concatenate([times * own for (_, own), times in parts]))
        return places.astype(np.int64), sums.astype(np.float32)


_NONE: tuple[Places, Scores] = (np.empty(0, np.int64), np.empty(0, np.float32))


def _places_of(by_row_id: Places, sorted_row_ids: NDArray[Any], row_ids: NDArray[Any]) -> Places:
    return np.asarray(by_row_id[np.searchsorted(sorted_row_ids, row_ids)])


def _vocabulary(dataset: Any, tokenize: Callable[[str], tuple[str, ...]]) -> frozenset[str] | None:
    """List the tokens of all items; None where their texts are so long that it would take seconds."""
    found: set[str] = set()
    left = _VOCABULARY_CHARACTERS
    for block in dataset.scanner(["text"], batch_size=_BLOCK).to_batches():
        texts = [text for text in block["text"].to_pylist() if text]
        left -= sum(map(len, texts))
        if left < 0:
            return None
        found.update(tokenize("\n".join(texts)))  # many at once take a tenth of the time; other threads wait for it
    return frozenset(found)


def _size(entry: Iterable[NDArray[Any]]) -> int:
    return _ENTRY_BYTES + sum(array.nbytes for array in entry)
