"""Define the methods of an evaluation: baselines that every mapper must beat, all mappers, and the ceiling.

A model gives vectors of items and users whose products are scores. Where it knows nothing of an item, as popularity of
any new one, ties are broken at random for each user. Every mapper of `coldstart.recommend.model` is a method without
being listed here. Fits can be pickled: the check for leaks repeats them in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coldstart.core.interactions import Interactions
from coldstart.core.settings import suggestion
from coldstart.core.vectors import spaced, unit
from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.evaluate.data import EvaluationData, TrainingWindow, near_duplicate_groups
from coldstart.recommend.evaluate.splits import PARTS
from coldstart.recommend.evaluate.ties import history_keys, item_keys, random_vectors, with_tie_breaker
from coldstart.recommend.model import Mapper, Vectors
from coldstart.recommend.model.factors import ALPHA, REGULARIZATION, als, als_fold_in
from coldstart.recommend.model.fitted import Behaviour
from coldstart.recommend.model.fusion import Content, Fusion
from coldstart.recommend.model.selection import SelectionSettings, select_model

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RECENT_SHARE = 0.1
"""Last share of the training window whose likes count as recent."""
TOP, LAST = 3, 100
"""Number of most similar items of a history that count, and of its items that are compared."""
_OTHER = 1_000_003  # offset of the seeds of users from those of items
BASELINE, CLOSED, TRAINED, OURS, CEILING = "baseline", "closed form", "trained", "chosen", "ceiling"
LIST_ROWS = ("served", "ranked", "reranked")
"""Rows of lists as `recommend` gives them; the others are compared with the first."""
REFERENCE, CHOSEN, ORACLE = "knn", "chosen", "oracle"
"""Names: nearest neighbours, which the others are compared with; the mapper that `finetune behaviour` would select; and
the ceiling."""
_TITLES = {
    "knn": "content → CF, nearest neighbours",
    "ridge": "content → CF, ridge",
    "kernel": "content → CF, kernel ridge",
    "fease": "FEASE",
    "marec": "MARec",
    "clcrec": "CLCRec",
    "dropoutnet": "DropoutNet",
    "aldi": "ALDI",
    "contrastive": "contrastive pairs",
    "popularity": "popularity predicted from content",
}
_TRAINED = ("aldi", "clcrec", "contrastive", "dropoutnet")
_NOT_ALONE = ("blend",)
_RENAMED = {"content_popularity": "popularity"}
"""Method -> mapper, where a baseline has the mapper's name."""


class Model(Protocol):
    """Fitted model of a method. Histories are over all items of the evaluation, in its order."""

    def items(self, content: Content) -> Vectors:
        """Map items to vectors, float32 [N, D] in order, by content and, where the model knows it, by item id."""
        ...

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors, csr [B, I] -> float32 [B, D]; a new user needs no fit."""
        ...


@dataclass(frozen=True)
class VectorsByName:
    """Model with one vector per known item id, zero for others, and random tie-breaking.

    Attributes:
        vectors: float32 [names, D].
        fold: from histories csr [B, I] to float32 [B, D].
    """

    names: Mapping[str, int]
    vectors: Vectors
    fold: Any
    seed: int

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        places = np.array([self.names.get(name, -1) for name in content.item_ids], np.intp)
        found = np.where(places[:, None] >= 0, self.vectors[places], 0)
        return with_tie_breaker(found, self.seed, item_keys(content.item_ids))

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        return with_tie_breaker(self.fold(histories), self.seed + _OTHER, history_keys(histories))


@dataclass(frozen=True)
class RandomModel:
    """Model that ranks items at random, in another order for every user."""

    seed: int

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        return random_vectors(self.seed, item_keys(content.item_ids))

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        return random_vectors(self.seed + _OTHER, history_keys(histories))


def fit_random(window: TrainingWindow, seed: int) -> Model:
    """Fit random order."""
    return RandomModel(seed)


def fit_popularity(window: TrainingWindow, seed: int) -> Model:
    """Fit popularity: the number of likes in the training window, 0 for a new item."""
    return _popularity_model(window.training.positive(window.min_weight), seed)


def fit_recent(window: TrainingWindow, seed: int) -> Model:
    """Fit popularity in the last tenth of the training window.

    Raises:
        ColdstartError: all rows are of one time.
    """
    rows = window.training.positive(window.min_weight)
    first, last = int(rows.times.min()), int(rows.times.max())
    if first == last:
        raise ColdstartError("the training rows have no times that differ")
    return _popularity_model(rows.where(rows.times >= last - RECENT_SHARE * (last - first)), seed)


def _popularity_model(rows: Interactions, seed: int) -> Model:
    counts = np.log1p(rows.counts()).astype(np.float32)
    return VectorsByName(_names(rows.item_ids), counts[:, None], _activity, seed)


def _activity(histories: csr_matrix) -> Vectors:
    """Represent users by their activity, so that all users rank items alike."""
    found: Vectors = np.log1p(np.diff(histories.indptr)).astype(np.float32)[:, None]
    return found


@dataclass(frozen=True)
class CategoryModel:
    """Model that scores an item by its category's share of the history, at every level of `a > b > c`.

    Attributes:
        names: prefix -> its column; owners: csr [I, prefixes]: which prefixes each training item has.
    """

    names: Mapping[tuple[str, ...], int]
    owners: csr_matrix
    seed: int

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        found = _prefixes(content.records, self.names).toarray()
        return with_tie_breaker(found, self.seed, item_keys(content.item_ids))

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        lengths = np.maximum(np.diff(histories.indptr), 1)[:, None]
        shares = (histories @ self.owners).toarray() / lengths
        return with_tie_breaker(shares, self.seed + _OTHER, history_keys(histories))


def fit_category(window: TrainingWindow, seed: int) -> Model:
    """Fit category shares. Holds users x categories numbers: for some thousand categories.

    Raises:
        ColdstartError: no training item has a category.
    """
    known = sorted({prefix for record in window.content.records for prefix in _levels(record)})
    if not known:
        raise ColdstartError("no training item has a category")
    names = {prefix: column for column, prefix in enumerate(known)}
    records: list[Mapping[str, Any]] = [{}] * len(window.item_ids)
    for place, record in zip(window.places, window.content.records, strict=True):
        records[place] = record
    owners = _prefixes(records, names)
    return CategoryModel(names, owners, seed)


@dataclass(frozen=True)
class ContentMean:
    """Model of the cosine between an item's content and the history's mean; `known` float32 [I, F], zero if cold."""

    fusion: Fusion
    known: Vectors

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        return self.fusion.transform(content)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        return unit(np.asarray(histories @ self.known, np.float32))


def fit_content_mean(window: TrainingWindow, seed: int) -> Model:
    """Fit the cosine to the mean of a history."""
    return ContentMean(*_content(window))


@dataclass(frozen=True)
class ContentTop(ContentMean):
    """Model of the mean cosine to the `TOP` most similar items of a history; no product, so it scores in blocks."""

    def scores(self, items: Vectors, histories: csr_matrix) -> Vectors:
        """Score items float32 [N, F], float32 [B, N]; of a longer history `LAST` items, evenly spaced, count."""
        out = np.zeros((histories.shape[0], len(items)), np.float32)
        for row in range(histories.shape[0]):
            own = spaced(histories.indices[histories.indptr[row] : histories.indptr[row + 1]], LAST)
            if len(own):
                cosines = self.known[own] @ items.T
                kept = min(TOP, len(own))
                out[row] = np.partition(cosines, len(own) - kept, axis=0)[len(own) - kept :].mean(axis=0)
        return out


def fit_content_top(window: TrainingWindow, seed: int) -> Model:
    """Fit the cosine to the most similar items of a history. One step a user: for some ten thousand users."""
    return ContentTop(*_content(window))


def fit_als(window: TrainingWindow, seed: int) -> Model:
    """Fit collaborative filtering alone, which has no vector for a new item."""
    return _fit_als_model(window, window.training, seed)


def fit_oracle(data: EvaluationData, seed: int) -> Model:
    """Fit the ceiling: collaborative filtering that has seen the test rows, with users by their histories alone."""
    evaluated = data.split.row_part == PARTS[data.part]
    rows = data.split.interactions.where(evaluated | (data.split.row_part == 0))
    return _fit_als_model(data.window, rows, seed)


def _fit_als_model(window: TrainingWindow, rows: Interactions, seed: int) -> Model:
    found = als(rows.positive(window.min_weight).matrix(), dim=window.dim, seed=seed)

    def fold(histories: csr_matrix) -> Vectors:
        return als_fold_in(found.items, histories, ALPHA, REGULARIZATION)

    return VectorsByName(_names(rows.item_ids), found.items, fold, seed)


def _content(window: TrainingWindow) -> tuple[Fusion, Vectors]:
    """Fuse content as for mappers, fitted on the training items."""
    vectors = window.fusion.transform(window.content)
    known = np.zeros((len(window.item_ids), vectors.shape[1]), np.float32)
    known[window.places] = vectors
    return window.fusion, known


def _names(item_ids: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(item_ids)}


def _levels(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    words = str(record.get("category") or "").replace("/", ">").split(">")
    parts = [word.strip().casefold() for word in words if word.strip()]
    return [tuple(parts[: end + 1]) for end in range(len(parts))]


def _prefixes(records: Sequence[Mapping[str, Any]], names: Mapping[tuple[str, ...], int]) -> csr_matrix:
    """Encode category prefixes, csr float32 [N, prefixes]: 1 for each known prefix of an item's category."""
    from scipy.sparse import csr_matrix

    pairs = [(row, names[level]) for row, record in enumerate(records) for level in _levels(record) if level in names]
    rows, columns = np.array(pairs, np.intp).reshape(-1, 2).T
    return csr_matrix((np.ones(len(pairs), np.float32), (rows, columns)), shape=(len(records), len(names)))


@dataclass(frozen=True)
class Method:
    """One method of an evaluation: a row of its tables.

    Attributes:
        role: `baseline`, `closed form`, `trained`, `chosen` or `ceiling`.
        fit: fits a model from the training window and a seed; the ceiling from all data. For the check for leaks it
            can be pickled: a function at the top level of a module, or an object of a class there.
        is_seeded: fit several seeds and average them.
        sees_test: may read test rows; true of the ceiling alone.
    """

    name: str
    title: str
    role: str
    fit: Callable[[Any, int], Model]
    is_seeded: bool = False
    sees_test: bool = False

    def fit_on(self, data: EvaluationData, seed: int) -> Model:
        """Fit on what the method may see of an evaluation."""
        return self.fit(data if self.sees_test else data.window, seed)


def select_methods(
    names: Sequence[str] | None = None,
    *,
    mappers: Mapping[str, Mapping[str, Any]] | None = None,
    choice: SelectionSettings | None = None,
    near: float | None = 0.98,
) -> list[Method]:
    """Select methods by name, in the order of the tables; by default all.

    Args:
        mappers: method -> settings of its mapper.
        choice: settings of the selected mapper; near: cosine from which on items are held out together for it.

    Raises:
        ColdstartError: there is no such method.
    """
    every = [*_BASELINES, *_mappers(mappers or {}), _chosen(choice or SelectionSettings(), near), _ORACLE]
    known = [*(one.name for one in every), *LIST_ROWS]
    for name in names or ():
        if name not in known:
            raise ColdstartError(
                f"there is no method {name!r}{suggestion(name, known)}: choose among {', '.join(known)}"
            )
    return [one for one in every if names is None or one.name in names]


@dataclass(frozen=True)
class MapperModel:
    """Model of a mapper over fused content; `places`: of the training items among those of the evaluation."""

    fusion: Fusion
    mapper: Mapper
    places: Any

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        return self.mapper.items(self.fusion.transform(content))

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        return self.mapper.users(histories[:, self.places])


@dataclass(frozen=True)
class SelectedModel:
    """Model that `finetune behaviour` would select."""

    behaviour: Behaviour
    places: Any

    def items(self, content: Content) -> Vectors:
        """Map items to vectors; see `Model.items`."""
        return self.behaviour.items(content)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Model.users`."""
        return self.behaviour.users(histories[:, self.places])


def _mappers(settings: Mapping[str, Mapping[str, Any]]) -> list[Method]:
    renamed = {mapper: name for name, mapper in _RENAMED.items()}
    found = []
    for mapper in model.names():
        if mapper in _NOT_ALONE:
            continue
        name, is_trained = renamed.get(mapper, mapper), mapper in _TRAINED
        role = TRAINED if is_trained else CLOSED
        fit = MapperFit(mapper, settings.get(name, {}))
        found.append(Method(name, _TITLES.get(mapper, mapper), role, fit, is_trained))
    order = list(_TITLES)
    rank = {name: place for place, name in enumerate(order)}
    return sorted(found, key=lambda one: rank.get(_RENAMED.get(one.name, one.name), len(rank)))


@dataclass(frozen=True)
class MapperFit:
    """Fit of a mapper by its name and settings."""

    mapper: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, window: TrainingWindow, seed: int) -> Model:
        """Fit the mapper."""
        mapper = model.fit(self.mapper, window.problem(seed), seed=seed, **self.settings)
        return MapperModel(window.fusion, mapper, window.places)


def fit_chosen(window: TrainingWindow, seed: int, settings: SelectionSettings, near: float | None) -> Model:
    """Fit the model that `finetune behaviour` would select."""
    rows, content = window.training_data()
    own = replace(settings, min_weight=window.min_weight, seed=seed)
    groups = None if near is None else near_duplicate_groups(content, near)
    return SelectedModel(select_model(rows, content, own, groups=groups).behaviour, window.places)


def _chosen(settings: SelectionSettings, near: float | None) -> Method:
    return Method(CHOSEN, "chosen on held-out training items", OURS, partial(fit_chosen, settings=settings, near=near))


_BASELINES = (
    Method("random", "random", BASELINE, fit_random, is_seeded=True),
    Method("popularity", "popularity", BASELINE, fit_popularity, is_seeded=True),
    Method("recent", "recent popularity", BASELINE, fit_recent, is_seeded=True),
    Method("category", "category prefix", BASELINE, fit_category, is_seeded=True),
    Method("content_mean", "content, mean of the history", BASELINE, fit_content_mean),
    Method("content_top", "content, 3 most alike of the history", BASELINE, fit_content_top),
    Method("als", "CF alone", BASELINE, fit_als, is_seeded=True),
)


_ORACLE = Method(ORACLE, "ceiling: CF with the test rows", CEILING, fit_oracle, sees_test=True)
