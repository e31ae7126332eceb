"""How good a space of pictures and texts is, over plain arrays: retrieval both ways, classes by name, and its shape.

What belongs to the same item is right, and so is what belongs to an item of the same group: two products with one
title, or one picture under two ids, cannot be told apart and are not held against a space. Intervals are at 95 % by
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
_UNIFORM = 4096  # rows that uniformity, which is quadratic in them, looks at
_BUCKETS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10_000)


@dataclass(frozen=True)
class Classes:
    """Classes that pictures are told apart by, by their names alone.

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
    """Queries of one side to a gallery of the other.

    Attributes:
        queries: rows of the side that were asked, int [Q]: those with a right answer in the gallery.
        unanswered: how many rows have none and were not asked.
        ranks: of the best right answer, int [Q], from 1.
        groups: of the queries' items, int [Q].
        gallery: how many rows there are to choose from.
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
        """How many queries have a rank `first` to `last`, up to the size of the gallery."""
        edges = [edge for edge in _BUCKETS if edge < self.gallery] + [self.gallery]
        firsts = [1, *(edge + 1 for edge in edges[:-1])]
        return [
            {"first": first, "last": last, "queries": int(((self.ranks >= first) & (self.ranks <= last)).sum())}
            for first, last in zip(firsts, edges, strict=True)
        ]


@dataclass(frozen=True)
class ZeroShot:
    """Pictures told apart by the names of classes.

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
    """What `evaluate` found.

    Attributes:
        shape: `modality_gap`, `effective_rank_image` and `_text`, `alignment`, `uniformity_image` and `_text`, `dim`.
        zero_shot: None where no classes were given, or no item has one.
    """

    image_to_text: Direction
    text_to_image: Direction
    shape: Mapping[str, float]
    zero_shot: ZeroShot | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {
            "image_to_text": self.image_to_text.to_dict(),
            "text_to_image": self.text_to_image.to_dict(),
            "shape": dict(self.shape),
            "zero_shot": None if self.zero_shot is None else self.zero_shot.to_dict(),
        }


def evaluate(
    images: Vectors,
    image_items: NDArray[np.integer[Any]],
    texts: Vectors,
    text_items: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    *,
    classes: Classes | None = None,
    seed: int = 0,
) -> SpaceReport:
    """Ask every picture for its texts and every text for its pictures.

    Args:
        images: unit vectors [N, D]; image_items: the item of each, 0 to I - 1.
        texts: unit vectors [M, D]; text_items: the item of each.
        groups: of each item [I]; a negative one is a group of its own.
        classes: given, items' pictures are told apart by them too.

    Raises:
        ValueError: no picture has a right text.
    """
    own = np.where(groups >= 0, groups, -1 - np.arange(len(groups))).astype(np.int64)
    to_text = _ask(images, own[image_items], texts, own[text_items], seed)
    to_image = _ask(texts, own[text_items], images, own[image_items], seed)
    looks, seen = pool(images, image_items, len(groups))
    words, read = pool(texts, text_items, len(groups))
    rng = np.random.default_rng(seed)
    shape = {
        "modality_gap": ranking.modality_gap(images, texts),
        "effective_rank_image": ranking.effective_rank(images),
        "effective_rank_text": ranking.effective_rank(texts),
        "dim": float(images.shape[1]),
    }
    if (seen & read).any():
        shape["alignment"] = ranking.alignment(looks[seen & read], words[seen & read])
    for name, side in (("image", images), ("text", texts)):
        if len(side) > 1:
            drawn = side if len(side) <= _UNIFORM else side[rng.choice(len(side), _UNIFORM, replace=False)]
            shape[f"uniformity_{name}"] = ranking.uniformity(drawn)
    zero_shot = None
    if classes is not None and (seen & (classes.items >= 0)).any():
        zero_shot = _classify(looks, np.flatnonzero(seen & (classes.items >= 0)), own, classes, seed)
    return SpaceReport(to_text, to_image, shape, zero_shot)


def pool(
    vectors: Vectors, items: NDArray[np.integer[Any]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The mean vector of each item, scaled to length one, float32 [count, D], zeros for items without vectors; and
    which have any, bool [count]."""
    sums = np.zeros((count, vectors.shape[1]), np.float32)
    np.add.at(sums, items, np.asarray(vectors, np.float32))
    has = np.bincount(items, minlength=count) > 0
    return unit(sums), has


def _ask(
    queries: Vectors, query_groups: NDArray[np.int64], gallery: Vectors, gallery_groups: NDArray[np.int64], seed: int
) -> Direction:
    right = ranking.right_places(query_groups.tolist(), gallery_groups.tolist())
    asked = np.asarray([place for place, answers in enumerate(right) if len(answers)], np.intp)
    if not len(asked):
        raise ValueError("no picture has a right text among those given")
    answers = [right[place] for place in asked]
    ranks = ranking.ranks(queries[asked], gallery, answers)
    counts = [len(own) for own in answers]
    groups = query_groups[asked]
    found = {f"recall_at_{k}": interval(ranks <= k, groups, seed) for k in RECALLS}
    found["median_rank"] = interval(ranks, groups, seed, np.median)
    found["mrr"] = interval(1 / ranks, groups, seed)
    chance = {f"recall_at_{k}": ranking.chance_recall_at_k(counts, len(gallery), k) for k in RECALLS}
    return Direction(asked, len(queries) - len(asked), ranks, groups, len(gallery), chance, found)


def _classify(
    looks: Vectors, chosen: NDArray[np.intp], groups: NDArray[np.int64], classes: Classes, seed: int
) -> ZeroShot:
    wanted = classes.items[chosen]
    found = (looks[chosen] @ np.asarray(classes.vectors, np.float32).T).argmax(1)
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


def compare(before: SpaceReport, after: SpaceReport, *, seed: int = 0) -> dict[str, Any]:
    """What changed: `image_to_text` and `text_to_image` hold paired differences of every metric, `zero_shot` that of
    the accuracy (None where there is none), `shape` plain differences.

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
    """`metrics.bootstrap` over the groups."""
    return ranking.bootstrap(values, statistic, groups=_several(groups), resamples=_resamples(values), seed=seed)


def difference(
    before: NDArray[Any],
    after: NDArray[Any],
    groups: NDArray[np.int64],
    seed: int,
    statistic: ranking.Statistic = np.mean,
) -> Interval:
    """`metrics.paired` over the groups."""
    resamples = _resamples(after)
    return ranking.paired(before, after, statistic, groups=_several(groups), resamples=resamples, seed=seed)


def _several(groups: NDArray[np.int64]) -> list[int] | None:
    """The groups where some hold several rows; drawing single rows is quicker and the same where none does."""
    return None if len(np.unique(groups)) == len(groups) else groups.tolist()


def _resamples(values: NDArray[Any]) -> int:
    return 2000 if len(values) <= _FEW else 500
