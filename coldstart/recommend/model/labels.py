"""Encode records of items as label vectors: kind, category, creator, tags, attributes and price, without embeddings.

A label is one statement of a record (`category=shoes`, `colour=red`). A number becomes its fifth and its twentieth of
the training items' quantiles, so that near numbers share a label. Weights are inverse document frequencies (Spärck
Jones, Journal of Documentation 1972). `created_at` is left out: no new item is created in the past.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.recommend.model import Arrays, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Places = NDArray[np.int64]
MOST_LABELS = 2048
"""Size of a vocabulary; the most frequent labels are kept."""
_PARTS = (5, 20)  # quantiles of numbers
_FEWEST_NUMBERS = 10  # distinct values from which on quantiles are used


@dataclass(frozen=True)
class Labels:
    """Vocabulary of L labels.

    Attributes:
        words: labels, sorted; weights: float32 [L].
        edges: name of a number -> for each of its divisions the inner bounds, ascending.
    """

    words: tuple[str, ...]
    weights: Vectors
    edges: Mapping[str, tuple[tuple[float, ...], ...]]

    def __len__(self) -> int:
        return len(self.words)

    def transform(self, records: Sequence[Mapping[str, Any]]) -> Vectors:
        """Encode records, float32 [N, L] of unit rows; zero for a record without a label of the vocabulary."""
        return np.asarray(self.rows(read_statements(records)).toarray(), np.float32)

    def rows(self, statements: Statements) -> csr_matrix:
        """Encode statements that are read already, csr float32 [N, L]."""
        from scipy.sparse import csr_matrix

        places = {word: place for place, word in enumerate(self.words)}
        columns = np.array([places.get(word, -1) for word in statements.words], np.int64)
        at, of = statements.word_rows, columns[statements.word_places]
        found = [(at[of >= 0], of[of >= 0])]
        for word, rows in _quantities(statements, self.edges):
            if word in places:
                found.append((rows, np.full(len(rows), places[word])))
        every = tuple(np.concatenate(part) for part in zip(*found, strict=True))
        made = csr_matrix((np.ones(len(every[0]), np.float32), every), shape=(statements.count, len(self.words)))
        made.sum_duplicates()
        made.data = self.weights[made.indices]
        lengths = np.sqrt(np.bincount(_owners(made), np.square(made.data, dtype=np.float64), statements.count))
        made.data /= lengths[_owners(made)].astype(np.float32)
        return made

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_labels` reads."""
        text = json.dumps({"words": self.words, "edges": self.edges}, ensure_ascii=False)
        vocabulary = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)
        return {"labels.vocabulary": vocabulary, "labels.weights": self.weights}


def fit_labels(statements: Statements, places: NDArray[np.intp], *, min_count: int = 3) -> Labels:
    """Fit a vocabulary on the records at `places`, each place once.

    Returns:
        The labels that at least `min_count` of those records have, at most `MOST_LABELS`; an empty one is no error.
    """
    chosen = np.zeros(statements.count, bool)
    chosen[places] = True
    own = statements.only(chosen)
    edges = {}
    for place in sorted(range(len(own.names)), key=own.names.__getitem__):
        values = own.numbers[own.number_names == place]
        if len(values) >= max(1, min_count):
            edges[own.names[place]] = _edges(values)
    counts = Counter(dict(zip(own.words, np.bincount(own.word_places, minlength=len(own.words)).tolist(), strict=True)))
    different: dict[str, set[int]] = {}
    for word, rows in _quantities(own, edges):
        different.setdefault(word, set()).update(rows.tolist())
    counts.update({word: len(rows) for word, rows in different.items()})
    often = sorted(((-count, word) for word, count in counts.items() if count >= max(1, min_count)))[:MOST_LABELS]
    words = tuple(sorted(word for _, word in often))
    of_words = np.array([counts[word] for word in words], np.float64)
    weights = np.log((1 + len(places)) / (1 + of_words)) + 1
    return Labels(words, weights.astype(np.float32), edges)


def restore_labels(arrays: Arrays) -> Labels:
    """Restore a vocabulary from `Labels.arrays`."""
    stored = json.loads(arrays["labels.vocabulary"].tobytes().decode(errors="surrogatepass"))
    edges = {name: tuple(tuple(bounds) for bounds in every) for name, every in stored["edges"].items()}
    return Labels(tuple(stored["words"]), arrays["labels.weights"], edges)


@dataclass(frozen=True)
class Statements:
    """Statements of N records, read once.

    Attributes:
        count: N.
        words: distinct labels, in the order of their first records; word_rows, word_places: int64 [W]: record and
            label; each pair once.
        names: names of numbers; number_rows, number_names: int64 [Q], and numbers: float64 [Q], finite.
    """

    count: int
    words: tuple[str, ...]
    word_rows: Places
    word_places: Places
    names: tuple[str, ...]
    number_rows: Places
    number_names: Places
    numbers: NDArray[np.float64]

    def only(self, chosen: NDArray[np.bool_]) -> Statements:
        """Restrict to some records, bool [N]; record numbers stay."""
        words, numbers = chosen[self.word_rows], chosen[self.number_rows]
        return replace(
            self,
            word_rows=self.word_rows[words],
            word_places=self.word_places[words],
            number_rows=self.number_rows[numbers],
            number_names=self.number_names[numbers],
            numbers=self.numbers[numbers],
        )


def read_statements(records: Sequence[Mapping[str, Any]]) -> Statements:
    """Read the statements of records."""
    words: dict[str, int] = {}
    names: dict[str, int] = {}
    word_rows, word_places, number_rows, number_names = array("q"), array("q"), array("q"), array("q")
    numbers = array("d")
    for row, record in enumerate(records):
        own = set()
        for name, value in _statements(record):
            if isinstance(value, str):
                own.add(words.setdefault(f"{name}={value}", len(words)))
            else:
                number_rows.append(row)
                number_names.append(names.setdefault(name, len(names)))
                numbers.append(value)
        word_places.extend(own)
        word_rows.extend([row] * len(own))
    whole = [np.array(part, np.int64) for part in (word_rows, word_places, number_rows, number_names)]
    return Statements(
        len(records), tuple(words), whole[0], whole[1], tuple(names), whole[2], whole[3], np.array(numbers, np.float64)
    )


def _quantities(
    statements: Statements, edges: Mapping[str, tuple[tuple[float, ...], ...]]
) -> Iterator[tuple[str, Places]]:
    """Generate the labels of numbers, each with the records that have it."""
    for place, name in enumerate(statements.names):
        own = statements.number_names == place
        rows, values = statements.number_rows[own], statements.numbers[own]
        for bounds in edges.get(name, ()):
            parts = np.searchsorted(bounds, values, side="right")
            for part in np.unique(parts):
                yield f"{name}~{part + 1}/{len(bounds) + 1}", rows[parts == part]


def _owners(rows: csr_matrix) -> Places:
    """List the row of each entry."""
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))


def _statements(record: Mapping[str, Any]) -> Iterator[tuple[str, str | float]]:
    """Generate names and values of a record; values are case-folded texts or finite numbers."""
    for name in ("kind", "creator", "price"):
        yield from _values(name, record.get(name))
    yield from _values("tag", record.get("tags"))
    category = record.get("category")
    if isinstance(category, str):
        parts = [_folded(part) for part in category.replace(" > ", "/").split("/")]
        parts = [part for part in parts if part]
        for end in range(1, len(parts) + 1):
            yield "category", "/".join(parts[:end])
    for name, value in _attributes(record.get("attributes")).items():
        yield from _values(f"attributes.{_folded(str(name))}", value)


def _attributes(value: Any) -> Mapping[str, Any]:
    """Read attributes of a manifest, or the JSON text of a table."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _values(name: str, value: Any) -> Iterator[tuple[str, str | float]]:
    if isinstance(value, bool | np.bool_):
        yield name, str(bool(value)).lower()
    elif isinstance(value, str):
        if folded := _folded(value):
            yield name, folded
    elif isinstance(value, int | float | np.number):
        if np.isfinite(float(value)):
            yield name, float(value)
    elif isinstance(value, Sequence | np.ndarray):
        for one in value:
            if isinstance(one, str) and (folded := _folded(one)):
                yield name, folded


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _edges(values: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Compute quantile bounds; of few distinct numbers each gets a part of its own."""
    different = np.unique(values)
    if len(different) < _FEWEST_NUMBERS:
        return (tuple(different[1:].tolist()),)
    shares = [np.linspace(0, 1, parts + 1)[1:-1] for parts in _PARTS]
    return tuple(tuple(np.unique(np.quantile(values, share)).tolist()) for share in shares)
