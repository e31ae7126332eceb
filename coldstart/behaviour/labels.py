"""What records say of items in plain words, as a block of numbers: kind, category, creator, tags, attributes, price.

A label is one such statement (`category=shoes`, `colour=red`). Numbers are told by the fifth and the twentieth of the
training items that they fall into, so that near numbers share a label. Weights are inverse document frequencies (Spärck
Jones, Journal of Documentation 1972). What an item's arrival says (`created_at`) is left out: no new item arrives in
the past. Walks record by record; some 100,000 a second.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Arrays, Vectors

MOST_LABELS = 2048
"""The most frequent ones are kept."""

_PARTS = (5, 20)  # into which numbers are divided
_FEWEST_NUMBERS = 10  # different ones, so that a number is a quantity and no name


@dataclass(frozen=True)
class Labels:
    """A vocabulary of L labels.

    Attributes:
        words: sorted; weights: float32 [L].
        edges: name of a quantity -> for each of its divisions the inner bounds, ascending.
    """

    words: tuple[str, ...]
    weights: Vectors
    edges: Mapping[str, tuple[tuple[float, ...], ...]]

    def __len__(self) -> int:
        return len(self.words)

    def transform(self, records: Sequence[Mapping[str, Any]]) -> Vectors:
        """float32 [N, L] of unit rows; zero where a record has no label of the vocabulary."""
        places = {word: place for place, word in enumerate(self.words)}
        found = np.zeros((len(records), len(self.words)), np.float32)
        for row, record in enumerate(records):
            known = {places[word] for word in _labels(record, self.edges) if word in places}
            if known:
                chosen = sorted(known)
                values = self.weights[chosen]
                found[row, chosen] = values / np.linalg.norm(values)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore_labels` needs."""
        text = json.dumps({"words": self.words, "edges": self.edges}, ensure_ascii=False)
        vocabulary = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)
        return {"labels.vocabulary": vocabulary, "labels.weights": self.weights}


def fit_labels(records: Sequence[Mapping[str, Any]], *, min_count: int = 3) -> Labels:
    """The labels that at least `min_count` of the records have, at most `MOST_LABELS`; none is no error."""
    numbers: dict[str, list[float]] = {}
    for record in records:
        for name, value in _statements(record):
            if not isinstance(value, str):
                numbers.setdefault(name, []).append(value)
    edges = {name: _edges(values) for name, values in sorted(numbers.items()) if len(values) >= min_count}
    counts = Counter(word for record in records for word in set(_labels(record, edges)))
    often = sorted(((-count, word) for word, count in counts.items() if count >= min_count))[:MOST_LABELS]
    words = tuple(sorted(word for _, word in often))
    of_words = np.array([counts[word] for word in words], np.float64)
    weights = np.log((1 + len(records)) / (1 + of_words)) + 1
    return Labels(words, weights.astype(np.float32), edges)


def restore_labels(arrays: Arrays) -> Labels:
    """From `Labels.arrays`."""
    told = json.loads(arrays["labels.vocabulary"].tobytes().decode(errors="surrogatepass"))
    edges = {name: tuple(tuple(bounds) for bounds in every) for name, every in told["edges"].items()}
    return Labels(tuple(told["words"]), arrays["labels.weights"], edges)


def _labels(record: Mapping[str, Any], edges: Mapping[str, tuple[tuple[float, ...], ...]]) -> Iterator[str]:
    for name, value in _statements(record):
        if isinstance(value, str):
            yield f"{name}={value}"
        else:
            for bounds in edges.get(name, ()):
                part = int(np.searchsorted(bounds, value, side="right"))
                yield f"{name}~{part + 1}/{len(bounds) + 1}"


def _statements(record: Mapping[str, Any]) -> Iterator[tuple[str, str | float]]:
    """Names and values; values are folded texts, or finite numbers."""
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
    """As manifests have them, or the JSON text that tables keep."""
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


def _edges(values: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Bounds by quantiles; of few different numbers each has a part of its own."""
    different = np.unique(np.asarray(values, np.float64))
    if len(different) < _FEWEST_NUMBERS:
        return (tuple(different[1:].tolist()),)
    shares = [np.linspace(0, 1, parts + 1)[1:-1] for parts in _PARTS]
    return tuple(tuple(np.unique(np.quantile(values, share)).tolist()) for share in shares)
