"""Measures of a space of pictures and texts, over plain arrays: retrieval both ways, zero-shot classes, and its shape.

What belongs to the same item is right, and so is what belongs to an item of the same group: two products with one
title, or one picture under two ids, cannot be distinguished and do not count as wrong. Intervals are at 95 % by
bootstrap over items, those of a group drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.metrics import ranking
from coldstart.metrics.ranking import Interval, Vectors

RECALLS = (1, 5, 10)
_FEW = 20_000  # queries up to which 2000 resamples take seconds; with more, intervals are narrow and 500 do
_UNIFORM = 4096  # rows for uniformity, which is quadratic in them
_BUCKETS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10_000)


@dataclass(frozen=True)
class ClassVectors:
    """Classes for zero-shot classification of pictures.

    Attributes:
        names: of the C classes.
        vectors: unit vectors of the names in the space [C, D].
        items: the right class of each item, int [I]; -1 where it has none of them.
    """

    names: Sequence[str]
    vectors: Vectors
    items: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Direction:
    """Retrieval measures from one side of a space to the other.

    Attributes:
        queries: rows of the side, int [Q]: those with a right answer in the gallery.
        unanswered: number of rows without one.
        ranks: of the best right answer, int [Q], from 1.
        groups: of the queries' items, int [Q].
        gallery: number of rows to choose from.
        chance: `recall_at_K` -> what a shuffled gallery gives.
        metrics: `recall_at_1`, `_5`, `_10`, `median_rank` and `mrr`.
    """

    queries: NDArray[np.intp]
    unanswered: int
    ranks: NDArray[np.int64]
    groups: NDArray[np.int64]
    gallery: int
    chance: Mapping[str, float]
    metrics: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        return {
            "queries": len(self.queries),
            "unanswered": self.unanswered,
            "gallery": self.gallery,
            "metrics": {
                name: {**vars(interval), "chance": self.chance.get(name)} for name, interval in self.metrics.items()
            },
            "ranks": self._histogram(),
        }

    def _histogram(self) -> list[dict[str, int]]:
        """Count queries by rank, in buckets up to the size of the gallery."""
        edges = [edge for edge in _BUCKETS if edge < self.gallery] + [self.gallery]
        firsts = [1, *(edge + 1 for edge in edges[:-1])]
        return [
            {"first": first, "last": last, "queries": int(((self.ranks >= first) & (self.ranks <= last)).sum())}
            for first, last in zip(firsts, edges, strict=True)
        ]


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification of pictures by the names of classes.

    Attributes:
        names: of the classes; confusion: items by right and found class, int [C, C].
        right: whether each item was right, bool [I']; groups: of those items.
        majority: share of the most frequent class: what always saying it would get.
    """

    names: Sequence[str]
    confusion: NDArray[np.int64]
    right: NDArray[np.bool_]
    groups: NDArray[np.int64]
    accuracy: Interval
    majority: Interval

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        sizes = self.confusion.sum(1)
        shown = [place for place in range(len(self.names)) if sizes[place]]
        return {
            "items": int(sizes.sum()),
            "classes": len(self.names),
            "accuracy": {**vars(self.accuracy), "chance": 1 / len(self.names)},
            "majority": {**vars(self.majority), "name": self.names[int(sizes.argmax())]},
            "balanced_accuracy": float(np.mean([self.confusion[place, place] / sizes[place] for place in shown])),
            "per_class": [
                {
                    "name": self.names[place],
                    "items": int(sizes[place]),
                    "accuracy": float(self.confusion[place, place] / sizes[place]),
                    "found": {
                        self.names[other]: int(self.confusion[place, other])
                        for other in np.argsort(-self.confusion[place], kind="stable")
                        if self.confusion[place, other]
                    },
                }
                for place in sorted(shown, key=lambda place: -sizes[place])
            ],
        }


@dataclass(frozen=True)
class SpaceReport:
    """Measures of one space, as `evaluate_space` computes them.

    Attributes:
        shape: `modality_gap`, `effective_rank_image` and `_text`, `alignment`, `uniformity_image` and `_text`, `dim`.
        zero_shot: None where no classes were given, or no item has one.
    """

    image_to_text: Direction
    text_to_image: Direction
    shape: Mapping[str, float]
    zero_shot: ZeroShot | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        return {
            "image_to_text": self.image_to_text.to_dict(),
            "text_to_image": self.text_to_image.to_dict(),
            "shape": dict(self.shape),
            "zero_shot": None if self.zero_shot is None else self.zero_shot.to_dict(),
        }


def evaluate_space(
    images: Vectors,
    image_items: NDArray[np.integer[Any]],
    texts: Vectors,
    text_items: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    *,
    classes: ClassVectors | None = None,
    seed: int = 0,
) -> SpaceReport:
    """Measure retrieval of texts by every picture and of pictures by every text.

    Args:
        images: unit vectors [N, D]; image_items: the item of each, 0 to I - 1.
        texts: unit vectors [M, D]; text_items: the item of each.
        groups: of each item [I]; a negative one is a group of its own.
        classes: for zero-shot classification of the items' pictures.

    Raises:
        ValueError: no picture has a right text.
    """
    own = np.where(groups >= 0, groups, -1 - np.arange(len(groups))).astype(np.int64)
    to_text = _rank_side(images, own[image_items], texts, own[text_items], seed)
    to_image = _rank_side(texts, own[text_items], images, own[image_items], seed)
    pooled, seen = pool(images, image_items, len(groups))
    words, read = pool(texts, text_items, len(groups))
    rng = np.random.default_rng(seed)
    shape = {
        "modality_gap": ranking.modality_gap(images, texts),
        "effective_rank_image": ranking.effective_rank(images),
        "effective_rank_text": ranking.effective_rank(texts),
        "dim": float(images.shape[1]),
    }
    if (seen & read).any():
        shape["alignment"] = ranking.alignment(pooled[seen & read], words[seen & read])
    for name, side in (("image", images), ("text", texts)):
        if len(side) > 1:
            drawn = side if len(side) <= _UNIFORM else side[rng.choice(len(side), _UNIFORM, replace=False)]
            shape[f"uniformity_{name}"] = ranking.uniformity(drawn)
    zero_shot = None
    if classes is not None and (seen & (classes.items >= 0)).any():
        zero_shot = _classify(pooled, np.flatnonzero(seen & (classes.items >= 0)), own, classes, seed)
    return SpaceReport(to_text, to_image, shape, zero_shot)


def pool(
    vectors: Vectors, items: NDArray[np.integer[Any]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average the vectors of each item, scaled to length one.

    Returns float32 [count, D], zeros for items without vectors; and a mask bool [count] of items with any.
    """
    sums = np.zeros((count, vectors.shape[1]), np.float32)
    np.add.at(sums, items, np.asarray(vectors, np.float32))
    has = np.bincount(items, minlength=count) > 0
    return unit(sums), has


def _rank_side(
    queries: Vectors, query_groups: NDArray[np.int64], gallery: Vectors, gallery_groups: NDArray[np.int64], seed: int
) -> Direction:
    right = ranking.right_places(query_groups.tolist(), gallery_groups.tolist())
    answered = np.asarray([place for place, answers in enumerate(right) if len(answers)], np.intp)
    if not len(answered):
        raise ValueError("no picture has a right text among those given")
    answers = [right[place] for place in answered]
    ranks = ranking.ranks(queries[answered], gallery, answers)
    counts = [len(own) for own in answers]
    groups = query_groups[answered]
    found = {f"recall_at_{k}": interval(ranks <= k, groups, seed) for k in RECALLS}
    found["median_rank"] = interval(ranks, groups, seed, np.median)
    found["mrr"] = interval(1 / ranks, groups, seed)
    chance = {f"recall_at_{k}": ranking.chance_recall_at_k(counts, len(gallery), k) for k in RECALLS}
    return Direction(answered, len(queries) - len(answered), ranks, groups, len(gallery), chance, found)


def _classify(
    pooled: Vectors, chosen: NDArray[np.intp], groups: NDArray[np.int64], classes: ClassVectors, seed: int
) -> ZeroShot:
    wanted = classes.items[chosen]
    found = (pooled[chosen] @ np.asarray(classes.vectors, np.float32).T).argmax(1)
    confusion = np.zeros((len(classes.names), len(classes.names)), np.int64)
    np.add.at(confusion, (wanted, found), 1)
    most = int(confusion.sum(1).argmax())
    own = groups[chosen]
    return ZeroShot(
        classes.names,
        confusion,
        found == wanted,
        own,
        interval(found == wanted, own, seed),
        interval(wanted == most, own, seed),
    )


@dataclass(frozen=True)
class SeenUnseen:
    """Ranks of queries from one side of a space to the other, apart for what a fit has seen and what not.

    Attributes:
        seen: of the S queries of seen groups, among all, from 1; seen_rows: their places among the queries.
        unseen: of the U queries of unseen groups, among all; unseen_rows: their places.
        alone: of the same U queries among the unseen part of the gallery alone.
        drawn: bool [U]: what stands first among all is of a seen group.
        gallery: rows to choose from; unseen_gallery: those of them that are of unseen groups.
    """

    seen: NDArray[np.int64]
    seen_rows: NDArray[np.intp]
    unseen: NDArray[np.int64]
    unseen_rows: NDArray[np.intp]
    alone: NDArray[np.int64]
    drawn: NDArray[np.bool_]
    gallery: int
    unseen_gallery: int

    def harmonic(self, measure: str = "recall_at_1") -> float:
        """Compute the harmonic mean of a measure (`mrr`, `recall_at_K`) of seen and of unseen queries, both among all.

        0 where either has no queries.
        """
        if not len(self.seen) or not len(self.unseen):
            return 0.0
        seen, unseen = (float(np.mean(values_of(measure, ranks))) for ranks in (self.seen, self.unseen))
        return float(harmonic_mean(seen, unseen))


def rank_seen_unseen(
    queries: Vectors,
    query_groups: NDArray[np.integer[Any]],
    gallery: Vectors,
    gallery_groups: NDArray[np.integer[Any]],
    unseen: NDArray[np.bool_],
    *,
    trained: NDArray[np.bool_] | None = None,
) -> SeenUnseen:
    """Rank the right answers of seen and of unseen groups in one gallery of both, as a search meets them.

    As in generalised zero-shot learning (Xian et al. 2017, "Zero-shot learning: the good, the bad and the ugly"): among
    the unseen alone, a space need not tell what it knows from what is new. Ties count against a query.

    Args:
        queries: unit vectors [Q, D]; query_groups: int [Q] from 0. Those without a right answer are left out.
        gallery: unit vectors [N, D]; gallery_groups: int [N] from 0.
        unseen: bool, by group number: the fit has seen nothing of it.
        trained: bool [N]: rows of the gallery that the fit was trained on. Where the group of a query has other rows,
            these are neither right nor wrong for it, so that trained pairs do not count.
    """
    query_groups, gallery_groups = np.asarray(query_groups), np.asarray(gallery_groups)
    right = ranking.right_places(query_groups.tolist(), gallery_groups.tolist())
    ignored = [np.empty(0, np.intp)] * len(right)
    if trained is not None:
        for place, answers in enumerate(right):
            fresh = answers[~trained[answers]]
            if 0 < len(fresh) < len(answers):
                right[place], ignored[place] = fresh, answers[trained[answers]]
    answered = np.array([len(answers) > 0 for answers in right], bool)
    is_new = unseen[query_groups]
    rows = {new: np.flatnonzero(answered & (is_new == new)) for new in (False, True)}

    def ranks(chosen: NDArray[np.intp], among: NDArray[np.intp]) -> NDArray[np.int64]:
        numbers = np.full(len(gallery), -1, np.intp)
        numbers[among] = np.arange(len(among))
        own = ([numbers[answers[place]] for place in chosen] for answers in (right, ignored))
        wanted, left_out = ([places[places >= 0] for places in part] for part in own)
        return ranking.ranks(queries[chosen], gallery[among], wanted, ignored=left_out)

    every, new = np.arange(len(gallery)), np.flatnonzero(unseen[gallery_groups])
    alone = ranks(rows[True], new)
    among_all = ranks(rows[True], every)
    first = np.empty(len(rows[True]), np.intp)
    for start in range(0, len(first), 1024):
        first[start : start + 1024] = (queries[rows[True][start : start + 1024]] @ gallery.T).argmax(1)
    drawn = ~unseen[gallery_groups[first]]
    return SeenUnseen(
        ranks(rows[False], every), rows[False], among_all, rows[True], alone, drawn, len(gallery), len(new)
    )


def values_of(measure: str, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Convert ranks to the values of `mrr` or `recall_at_K`, one a query."""
    if measure == "mrr":
        return 1.0 / ranks
    return (ranks <= int(measure.rpartition("_")[2])).astype(np.float64)


def harmonic_mean(one: Any, other: Any) -> Any:
    """Compute the harmonic mean of two shares or of two arrays of them; 0 where both are."""
    total = np.add(one, other, dtype=np.float64)
    return np.divide(2 * np.multiply(one, other), total, out=np.zeros_like(total), where=total > 0)


def compare(before: SpaceReport, after: SpaceReport, *, seed: int = 0) -> dict[str, Any]:
    """Compute differences between two reports of the same queries.

    `image_to_text` and `text_to_image` hold paired differences of every metric, `zero_shot` that of the accuracy (None
    where there is none), `shape` plain differences.

    Raises:
        ValueError: the two are not of the same queries.
    """
    changed: dict[str, Any] = {}
    for side in ("image_to_text", "text_to_image"):
        old, new = getattr(before, side), getattr(after, side)
        if not np.array_equal(old.queries, new.queries) or old.gallery != new.gallery:
            raise ValueError(f"{side}: the reports are of different queries or galleries")
        pairs = {f"recall_at_{k}": (old.ranks <= k, new.ranks <= k) for k in RECALLS}
        pairs["mrr"] = (1 / old.ranks, 1 / new.ranks)
        changed[side] = {name: difference(*pair, new.groups, seed) for name, pair in pairs.items()}
        changed[side]["median_rank"] = difference(old.ranks, new.ranks, new.groups, seed, np.median)
    one, other = before.zero_shot, after.zero_shot
    changed["zero_shot"] = (
        None if one is None or other is None else difference(one.right, other.right, other.groups, seed)
    )
    changed["shape"] = {name: after.shape[name] - old for name, old in before.shape.items() if name in after.shape}
    return changed


def interval(
    values: NDArray[Any], groups: NDArray[np.int64], seed: int, statistic: ranking.Statistic = np.mean
) -> Interval:
    """Bootstrap a statistic over groups; see `coldstart.metrics.ranking.bootstrap`."""
    return ranking.bootstrap(values, statistic, groups=_several(groups), resamples=_resamples(values), seed=seed)


def difference(
    before: NDArray[Any],
    after: NDArray[Any],
    groups: NDArray[np.int64],
    seed: int,
    statistic: ranking.Statistic = np.mean,
) -> Interval:
    """Bootstrap a paired difference over groups; see `coldstart.metrics.ranking.paired`."""
    resamples = _resamples(after)
    return ranking.paired(before, after, statistic, groups=_several(groups), resamples=resamples, seed=seed)


def _several(groups: NDArray[np.int64]) -> list[int] | None:
    """Return the groups where some hold several rows, else None: drawing single rows is quicker and the same."""
    return None if len(np.unique(groups)) == len(groups) else groups.tolist()


def _resamples(values: NDArray[Any]) -> int:
    return 2000 if len(values) <= _FEW else 500
