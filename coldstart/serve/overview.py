"""Overviews of a published catalogue: its counts, and two coordinates an item for a map. Each is made once and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.store.ann import column_of
from coldstart.store.published import COPY_OF, MOST_HELD, Published

MOST_POINTS = 20_000
"""Points of a map; of more items those at even distances over the catalogue."""
MOST_CATEGORIES = 200
"""Categories of a map."""
MOST_NAMES = 20
"""Categories or languages that are counted by name; the others together."""
OTHER = "(other)"
_COUNTED = ("kind", "category", "language", "title", "description", "media", "created_at", COPY_OF)


@dataclass(frozen=True)
class Places:
    """Places of items on a map.

    Attributes:
        item_ids, kinds, categories: of each point; points: float64 [N, 2], within -1 and 1, on one scale.
        total: items with a vector in the space; explained: share of the variance that each coordinate has.
    """

    item_ids: Sequence[str]
    kinds: Sequence[str | None]
    categories: Sequence[str | None]
    points: NDArray[np.float64]
    total: int
    explained: Sequence[float]


def place_items(published: Published, space: str) -> Places:
    """Place the items of a space by its first two principal components.

    Principal components, because they are the same on every machine, cost no package and a second for a large
    catalogue, and a distance on the map is never longer than that in the space.
    """
    column = column_of(space)
    having = f"{column} IS NOT NULL"
    total = published.count(having)
    columns = ["kind", "category"]
    few = total <= MOST_HELD  # then their vectors are most likely in memory, and small columns are read in no time
    blocks = published.blocks(columns, where=having) if few else published.spread(columns, MOST_POINTS, where=having)
    batches = [block.select(["item_id", *columns]) for block in blocks]
    if not batches:
        return Places([], [], [], np.empty((0, 2)), total, [])
    rows = pa.Table.from_batches(batches)
    rows = rows.take(pa.array(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).astype(int))))
    vectors = published.unit_vectors([space], rows["item_id"].to_pylist())[space]
    finite = np.isfinite(vectors).all(axis=1)
    rows, vectors = rows.filter(pa.array(finite)), vectors[finite]
    if not len(vectors):
        return Places([], [], [], np.empty((0, 2)), total, [])
    points, explained = principal_points(vectors)
    ids, kinds, categories = (rows[name].to_pylist() for name in ("item_id", "kind", "category"))
    return Places(ids, kinds, categories, points, total, explained)


def principal_points(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[float]]:
    """Project vectors [N, D] onto their first two principal components, scaled into -1 to 1: float64 [N, 2].

    Returns:
        the points, and the share of the variance that each coordinate has.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # the same on every machine
    points = np.zeros((len(vectors), 2))
    points[:, : axes.shape[1]] = centred @ (axes * signs)
    whole = float(variances.sum())
    shares = [float(max(0.0, one)) / whole if whole > 0 else 0.0 for one in variances[::-1][:2]]
    return points / max(np.abs(points).max(), 1e-12), [*shares, 0.0][:2]


def count_catalogue(published: Published) -> dict[str, Any]:
    """Count the items of a publication by kind, category and language, and those that lack something."""
    return _counts(_read(published))


def count_weeks(published: Published, most: int) -> list[dict[str, Any]]:
    """Count the items of a publication as `count_catalogue` does, by the ISO week of their creation, oldest first.

    Args:
        most: weeks, the last ones.
    """
    rows = _read(published)
    if "created_at" not in rows.column_names:
        return []
    days = pc.cast(pc.floor_temporal(rows["created_at"], unit="week"), pa.date32())
    found = []
    for day in sorted(one for one in pc.unique(days).to_pylist() if one is not None)[-most:]:
        year, week, _ = day.isocalendar()
        own = _counts(rows.filter(pc.equal(days, pa.scalar(day, pa.date32()))))
        found.append({"name": f"{year}-W{week:02d}", "at": _midnight(day), **own})
    return found


def _midnight(day: date) -> str:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat(timespec="seconds")


def _read(published: Published) -> pa.Table:
    """Read what is counted, one small row an item: of texts and media only whether there are any."""
    columns = [name for name in _COUNTED if name in published.schema.names]
    batches = []
    for block in published.blocks(columns):
        rows: dict[str, Any] = {
            name: block[name] for name in ("kind", "category", "language", "created_at") if name in columns
        }
        empty = pa.array([False] * block.num_rows)
        text = empty
        for name in ("title", "description"):
            if name in columns:
                length = pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(block[name], "")))
                text = pc.or_(text, pc.greater(length, 0))
        media = (
            pc.fill_null(pc.greater(pc.list_value_length(block["media"]), 0), False) if "media" in columns else empty
        )
        copy = pc.is_valid(block[COPY_OF]) if COPY_OF in columns else empty
        rows |= {"has_text": text, "has_media": media, "is_copy": copy}
        batches.append(pa.RecordBatch.from_pydict(rows))
    return pa.Table.from_batches(batches) if batches else pa.table({"kind": pa.array([], pa.string())})


def _counts(rows: pa.Table) -> dict[str, Any]:
    def named(column: str, none: str | None) -> dict[str, int]:
        if column not in rows.column_names:
            return {}
        counted: Counter[str] = Counter()
        for one in pc.value_counts(rows[column]).to_pylist():
            if name := one["values"] or none:
                counted[name] += one["counts"]
        most: dict[str, int] = dict(counted.most_common(MOST_NAMES))
        if rest := counted.total() - sum(most.values()):
            most[OTHER] = rest
        return most

    def count(column: str) -> int:
        return (pc.sum(rows[column]).as_py() or 0) if column in rows.column_names else 0

    return {
        "items": rows.num_rows,
        "kinds": named("kind", None),
        "categories": named("category", None),
        "languages": named("language", "und"),
        "without_text": rows.num_rows - count("has_text"),
        "without_media": rows.num_rows - count("has_media"),
        "copies": count("is_copy"),
    }
