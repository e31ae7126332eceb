"""Queries of an evaluation of alignment: rows of a split, their vectors in an aligned space, and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coldstart.align.measures import ClassVectors, SpaceReport, evaluate_space, pool
from coldstart.core.class_file import plain
from coldstart.metrics.ranking import TIE, Places, Vectors
from coldstart.store.fits import SPLITS

if TYPE_CHECKING:
    from coldstart.encoders._heads import AlignedHeads


SEEN = "seen"
"""Name for items of trained groups that show other pictures than those that the fit was trained on."""

PARTS = (*SPLITS, SEEN)

NEW = "new"
"""Name for items that are in no split: they came after the fit."""


_TRIED = 2048  # queries of rank 1 of which those with the widest margin are taken


class FeatureArrays(Protocol):
    """Vectors of the frozen encoders under the heads, as `align.text_image` reads them.

    Attributes:
        item_ids: of the I items; split: `train`, `valid`, `test` or `seen` of each, anything else where it came after
            the fit.
        groups: int [I]; items of one group cannot be distinguished (one product, title or picture).
        images: unit vectors [N, Di]; image_items: the place of each one's item.
        texts: unit vectors [M, Dt]; text_items: the place of each one's item; text_views: `title`, `description`, …
    """

    @property
    def item_ids(self) -> Sequence[str]: ...
    @property
    def split(self) -> Sequence[str]: ...
    @property
    def groups(self) -> NDArray[Any]: ...
    @property
    def images(self) -> NDArray[Any]: ...
    @property
    def image_items(self) -> NDArray[Any]: ...
    @property
    def texts(self) -> NDArray[Any]: ...
    @property
    def text_items(self) -> NDArray[Any]: ...
    @property
    def text_views(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class ClassTexts:
    """Prompts of classes as the frozen text encoder reads them, and the class of each item.

    Attributes:
        names: of the C classes; case and spaces do not part them.
        vectors: unit vectors [P, Dt] of prompts for them; classes: the class of each prompt, int [P], each class with
            at least one. Their mean in the space stands for the class.
        labels: the class of each item of the features by name; None, or a name that is none of these, is left out.
    """

    names: Sequence[str]
    vectors: Vectors
    classes: NDArray[np.integer[Any]]
    labels: Sequence[str | None]


def count_splits(features: FeatureArrays) -> dict[str, int]:
    """Count the items of the workspace by split, with new ones apart."""
    return dict(Counter(name if name in PARTS else NEW for name in features.split))


def query_items(features: FeatureArrays, split: str) -> tuple[NDArray[np.bool_], int]:
    """Select the items of a split as queries, bool [I], and count new items that are left out.

    A new item is left out where the fit has seen an item of its group.
    """
    own = np.asarray([name if name in PARTS else NEW for name in features.split])
    groups = np.asarray(features.groups)
    if split != "test":
        return own == split, 0
    seen = np.isin(groups, groups[np.isin(own, ("train", "valid", SEEN))]) & (groups >= 0)
    known = (own == NEW) & seen
    return (own == "test") | ((own == NEW) & ~seen), int(known.sum())


def distinct_texts(
    features: FeatureArrays, rows: NDArray[np.intp], groups: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Select the first row of each text of a group, with the group: forty photographs of a product have one title.

    Args:
        rows: of texts; groups: int [I], of the items.
    """
    first: dict[tuple[int, bytes], int] = {}
    for row, group in zip(rows.tolist(), groups[np.asarray(features.text_items)[rows]].tolist(), strict=True):
        first.setdefault((group, np.asarray(features.texts[row]).tobytes()), row)
    return np.array(list(first.values()), np.intp), np.array([group for group, _ in first], np.int64)


@dataclass(frozen=True)
class QueryVectors:
    """Vectors of the items and texts of a split, in the space."""

    images: NDArray[np.float32]
    image_items: NDArray[np.intp]
    words: NDArray[np.float32]
    word_items: NDArray[np.intp]


class SplitRows:
    """Rows of chosen items."""

    def __init__(self, features: FeatureArrays, chosen: NDArray[np.bool_]) -> None:
        self._features = features
        self._chosen = chosen
        self._images = np.flatnonzero(chosen[features.image_items])
        self._texts = np.flatnonzero(chosen[features.text_items])
        self._views = np.asarray(features.text_views, dtype=np.str_)
        self._sizes = Counter(self._views[self._texts].tolist())

    @property
    def views(self) -> list[str]:
        """Kinds of texts that the items have, in alphabetical order."""
        return sorted(self._sizes)

    def default_view(self) -> str:
        """Return `title`, or where no item has one, the most frequent kind of text."""
        return "title" if "title" in self._sizes or not self._sizes else self._sizes.most_common(1)[0][0]

    def evaluate(
        self, aligned: AlignedHeads, view: str, classes: ClassTexts | None, seed: int
    ) -> tuple[SpaceReport, QueryVectors]:
        """Evaluate the items in the space of some heads, by their texts of one view."""
        features = self._features
        pictures = aligned.heads.image.project(features.images[self._images])
        pooled, has = pool(pictures, features.image_items[self._images], len(features.item_ids))
        image_items = np.flatnonzero(has)
        groups = np.asarray(features.groups)
        own = np.where(groups >= 0, groups, -1 - np.arange(len(groups)))
        text_rows, _ = distinct_texts(features, self._of(view), own)
        words = aligned.heads.text.project(features.texts[text_rows])
        vectors = QueryVectors(pooled[image_items], image_items, words, np.asarray(features.text_items)[text_rows])
        named = None if classes is None else self._named(aligned, classes)
        report = evaluate_space(
            vectors.images, vectors.image_items, vectors.words, vectors.word_items, groups, classes=named, seed=seed
        )
        return report, vectors

    def has(self, view: str) -> bool:
        """Tell whether some item has a picture and such a text."""
        features = self._features
        texts = np.asarray(features.text_items)[self._of(view)]
        return bool(np.isin(features.image_items[self._images], texts).any())

    def counts(self, view: str) -> dict[str, int]:
        """Count items as `AlignReport.counts` states them."""
        features = self._features
        pictured = np.unique(features.image_items[self._images])
        texts = np.unique(np.asarray(features.text_items)[self._of(view)])
        both = np.intersect1d(pictured, texts)
        groups = Counter(np.asarray(features.groups)[both].tolist())
        return {
            "chosen": int(self._chosen.sum()),
            "asked": len(both),
            "without_text": int(self._chosen.sum()) - len(texts),
            "without_image": int(self._chosen.sum()) - len(pictured),
            "groups": sum(count if group < 0 else 1 for group, count in groups.items()),
            "shared": sum(count for group, count in groups.items() if group >= 0 and count > 1),
        }

    def _of(self, view: str) -> NDArray[np.intp]:
        rows: NDArray[np.intp] = self._texts[self._views[self._texts] == view]
        return rows

    def _named(self, aligned: AlignedHeads, classes: ClassTexts) -> ClassVectors:
        words = aligned.heads.text.project(classes.vectors)
        vectors, _ = pool(words, classes.classes, len(classes.names))
        places = {plain(name): place for place, name in enumerate(classes.names)}
        of_item = [places.get(plain(label or ""), -1) for label in classes.labels]
        return ClassVectors(classes.names, vectors, np.where(self._chosen, np.asarray(of_item), -1))


@dataclass(frozen=True)
class ExampleHit:
    """One result: its place in the gallery, its cosine to the query, and whether it is right."""

    place: int
    score: float
    right: bool


@dataclass(frozen=True)
class ExampleQuery:
    """One query with its first results.

    Attributes:
        query: its place among the queries.
        rank: of its best right answer; answer: that answer.
        hits: the first of the gallery, best first.
    """

    query: int
    rank: int
    answer: ExampleHit
    hits: Sequence[ExampleHit]


def select_examples(
    queries: Vectors,
    gallery: Vectors,
    right: Places,
    ranks: NDArray[np.int64],
    *,
    count: int = 6,
    hits: int = 5,
    seed: int = 0,
) -> dict[str, list[ExampleQuery]]:
    """Select `worst`, `random` and `best` queries, at most `count` of each.

    The best are those of rank 1 whose right answer is furthest ahead of the first wrong one; the worst those of the
    highest rank; the random ones are drawn from all, so some of them may be among the others.

    Args:
        queries: unit vectors [Q, D]; gallery: unit vectors [G, D].
        right: places of the right answers of each query; ranks: as `coldstart.metrics.ranking.ranks` returns them.
    """
    rng = np.random.default_rng(seed)
    first = np.flatnonzero(ranks == 1)
    if len(first) > _TRIED:
        first = np.sort(rng.choice(first, _TRIED, replace=False))
    margins = [_margin(queries[place] @ gallery.T, right[place]) for place in first.tolist()]
    worst = [int(place) for place in np.argsort(-ranks, kind="stable")[:count] if ranks[place] > 1]
    random = np.sort(rng.choice(len(ranks), min(count, len(ranks)), replace=False)).tolist()
    best = [int(first[place]) for place in np.argsort(-np.asarray(margins), kind="stable")[:count]]
    return {
        name: [_sheet(place, queries, gallery, right[place], int(ranks[place]), hits) for place in chosen]
        for name, chosen in (("worst", worst), ("random", random), ("best", best))
    }


def _margin(scores: NDArray[np.float32], right: NDArray[np.intp]) -> float:
    ahead = scores[right].max()
    wrong = np.delete(scores, right)
    return float(ahead - wrong.max()) if len(wrong) else float(ahead)


def _sheet(
    place: int, queries: Vectors, gallery: Vectors, right: NDArray[np.intp], rank: int, hits: int
) -> ExampleQuery:
    scores = np.asarray(queries[place], np.float32) @ np.asarray(gallery, np.float32).T
    own = set(right.tolist())

    def hit(found: int) -> ExampleHit:
        return ExampleHit(found, float(scores[found]), found in own)

    behind = np.zeros(len(scores), np.float32)
    behind[right] = TIE  # ties count against, here as in the rank
    order = np.argsort(behind - scores, kind="stable")[:hits]
    return ExampleQuery(place, rank, hit(int(right[scores[right].argmax()])), [hit(int(found)) for found in order])
