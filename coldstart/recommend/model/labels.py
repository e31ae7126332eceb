"""Encode records of items as label vectors: kind, category, creator, tags, attributes and price, without embeddings.

A label is one statement of a record (`category=shoes`, `colour=red`). In a vocabulary of several fields a number
becomes its fifth and its twentieth of the training items' quantiles, so that near numbers share a label; `NumberCode`
is the smooth code of one number alone. Weights are inverse document frequencies (Spärck Jones, Journal of Documentation
1972). `created_at` is left out: no new item is created in the past.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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
REST = "others"
"""Name for the fields that share a vocabulary."""
_KNOTS = 101  # quantiles of a smooth number
_CENTRES, _WIDTH = 24, 0.1  # of its code, in shares of the training items


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


@dataclass(frozen=True)
class NumberCode:
    """Smooth code of one number by its rank: near values have like codes, and neither unit nor skew matters.

    Attributes:
        name: name of the number; knots: quantiles of the training items' values, float64 [Q], ascending.
    """

    name: str
    knots: NDArray[np.float64]

    def rows(self, statements: Statements) -> Vectors:
        """Encode statements, float32 [N, 24]: Gaussians of the rank around even centres; zero without the number."""
        found = np.zeros((statements.count, _CENTRES), np.float32)
        if self.name not in statements.names:
            return found
        own = statements.number_names == statements.names.index(self.name)
        sides = [np.searchsorted(self.knots, statements.numbers[own], side=side) for side in ("left", "right")]
        ranks = (sides[0] + sides[1]) / (2 * len(self.knots))
        found[statements.number_rows[own]] = np.exp(
            -(((ranks[:, None] - np.linspace(0, 1, _CENTRES)) / _WIDTH) ** 2) / 2
        )
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_number_code` reads."""
        return {"number.name": np.frombuffer(json.dumps(self.name).encode(), np.uint8), "number.knots": self.knots}


def restore_number_code(arrays: Arrays) -> NumberCode:
    """Restore a smooth code from `NumberCode.arrays`."""
    return NumberCode(json.loads(arrays["number.name"].tobytes()), arrays["number.knots"])


def fit_fields(statements: Statements, places: NDArray[np.intp], *, most: int) -> dict[str, Labels | NumberCode]:
    """Fit each field of the records at `places` apart, the most often given ones first: field -> its code.

    A number of many values gets a smooth code, every other field a vocabulary. Fields beyond `most`, and those of a
    single value, share one vocabulary under the name `REST`; one that says the same of every record is left out.
    """
    chosen = np.zeros(statements.count, bool)
    chosen[places] = True
    own = statements.only(chosen)
    fields, field_of = np.unique([word.partition("=")[0] for word in own.words] or [""], return_inverse=True)
    used = np.unique(own.word_places)
    words = np.bincount(field_of[used], minlength=len(fields))
    pairs = np.unique(field_of[own.word_places] * own.count + own.word_rows)
    rows = np.bincount(pairs // max(own.count, 1), minlength=len(fields))
    given = {str(fields[place]): int(rows[place]) for place in np.flatnonzero(words)}
    single = {str(fields[place]) for place in np.flatnonzero(words == 1)}
    partial = [name for name in sorted(single) if given[name] < len(places)]  # having it or not says something
    numbers: dict[str, NDArray[np.float64]] = {}
    for place, name in enumerate(own.names):
        values = own.numbers[own.number_names == place]
        if len(np.unique(values)) > 1:
            given[name] = given.get(name, 0) + len(values)
            numbers[name] = values
    varied = set(given) - single | set(numbers)
    smooth = {name for name, values in numbers.items() if len(np.unique(values)) >= _FEWEST_NUMBERS} - set(
        fields[np.flatnonzero(words)].tolist()
    )
    ordered = sorted(varied, key=lambda name: (-given[name], name))
    found: dict[str, Labels | NumberCode] = {}
    for name in ordered[:most]:
        if name in smooth:
            found[name] = NumberCode(name, np.quantile(numbers[name], np.linspace(0, 1, _KNOTS)))
        else:
            found[name] = fit_labels(statements.named({name}), places)
    if rest := {*ordered[most:], *(name for name in partial if name not in numbers)}:
        found[REST] = fit_labels(statements.named(rest), places)
    return found


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

    def named(self, names: Collection[str]) -> Statements:
        """Restrict to the statements of some fields; records and places stay."""
        fields = np.array([word.partition("=")[0] in names for word in self.words], bool)
        known = np.array([name in names for name in self.names], bool)
        words, numbers = fields[self.word_places], known[self.number_names]
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
