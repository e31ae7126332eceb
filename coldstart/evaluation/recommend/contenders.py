"""Who is compared. The list is data: every mapper of `coldstart.behaviour` stands in it by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coldstart import behaviour
from coldstart.behaviour import Mapper, Vectors
from coldstart.behaviour.choose import ChoiceSettings, choose
from coldstart.behaviour.content import Content
from coldstart.behaviour.fitted import Behaviour
from coldstart.behaviour.fusion import Fusion
from coldstart.errors import ColdstartError
from coldstart.evaluation.recommend import baselines
from coldstart.evaluation.recommend.baselines import Model
from coldstart.evaluation.recommend.data import Data
from coldstart.evaluation.recommend.duplicates import groups_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BASELINE, CLOSED, TRAINED, OURS, CEILING = "baseline", "closed form", "trained", "chosen", "ceiling"
REFERENCE, CHOSEN, ORACLE = "knn", "chosen", "oracle"
"""Content to behaviour by nearest neighbours, which the others are compared with; what `finetune behaviour` would
publish; and the ceiling."""

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
    "popularity": "popularity judged by content",
}
_TRAINED = ("aldi", "clcrec", "contrastive", "dropoutnet")
_NOT_ALONE = ("blend",)
_RENAMED = {"content_popularity": "popularity"}
"""Contender -> mapper, where a baseline has the mapper's name."""


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        role: `baseline`, `closed form`, `trained`, `chosen` or `ceiling`.
        fit: from the evaluation and a seed to a model.
        is_seeded: whether several seeds are fitted and their mean is taken.
        sees_test: whether it may; of the ceiling alone.
    """

    name: str
    title: str
    role: str
    fit: Callable[[Data, int], Model]
    is_seeded: bool = False
    sees_test: bool = False


def named(
    names: Sequence[str] | None = None,
    *,
    mappers: Mapping[str, Mapping[str, Any]] | None = None,
    choice: ChoiceSettings | None = None,
    near: float | None = 0.98,
) -> list[Contender]:
    """Those of the names, in the order of the table; by default all.

    Args:
        mappers: contender -> settings of its mapper.
        choice: how the chosen one is chosen; near: cosine from which on items are held out together for that.

    Raises:
        ColdstartError: there is none of a name.
    """
    every = [*_BASELINES, *_mappers(mappers or {}), _chosen(choice or ChoiceSettings(), near), _ORACLE]
    known = [one.name for one in every]
    for name in names or ():
        if name not in known:
            raise ColdstartError(f"there is no method {name!r}: choose among {', '.join(known)}")
    return [one for one in every if names is None or one.name in names]


@dataclass(frozen=True)
class Mapped:
    """A mapper over fused content; `places`: of the training items among those of the evaluation."""

    fusion: Fusion
    mapper: Mapper
    places: Any

    def items(self, content: Content) -> Vectors:
        return self.mapper.items(self.fusion.transform(content))

    def users(self, histories: csr_matrix) -> Vectors:
        return self.mapper.users(histories[:, self.places])


@dataclass(frozen=True)
class Published:
    """What `finetune behaviour` would publish."""

    behaviour: Behaviour
    places: Any

    def items(self, content: Content) -> Vectors:
        return self.behaviour.items(content)

    def users(self, histories: csr_matrix) -> Vectors:
        return self.behaviour.users(histories[:, self.places])


def _mappers(settings: Mapping[str, Mapping[str, Any]]) -> list[Contender]:
    renamed = {mapper: name for name, mapper in _RENAMED.items()}
    found = []
    for mapper in behaviour.names():
        if mapper in _NOT_ALONE:
            continue
        name, is_trained = renamed.get(mapper, mapper), mapper in _TRAINED
        role = TRAINED if is_trained else CLOSED
        fit = _mapper_fit(mapper, settings.get(name, {}))
        found.append(Contender(name, _TITLES.get(mapper, mapper), role, fit, is_trained))
    order = list(_TITLES)
    rank = {name: place for place, name in enumerate(order)}
    return sorted(found, key=lambda one: rank.get(_RENAMED.get(one.name, one.name), len(rank)))


def _mapper_fit(mapper: str, settings: Mapping[str, Any]) -> Callable[[Data, int], Model]:
    def fit(data: Data, seed: int) -> Model:
        return Mapped(data.fusion, behaviour.fit(mapper, data.problem(seed), seed=seed, **settings), data.warm_places)

    return fit


def _chosen(settings: ChoiceSettings, near: float | None) -> Contender:
    def fit(data: Data, seed: int) -> Model:
        rows, content = data.known()
        own = replace(settings, min_weight=data.min_weight, seed=seed)
        groups = None if near is None else groups_of(content, near)
        return Published(choose(rows, content, own, groups=groups).behaviour, data.warm_places)

    return Contender(CHOSEN, "chosen on held-out training items", OURS, fit)


_BASELINES = (
    Contender("random", "random", BASELINE, baselines.random, is_seeded=True),
    Contender("popularity", "popularity", BASELINE, baselines.popularity, is_seeded=True),
    Contender("recent", "recent popularity", BASELINE, baselines.recent, is_seeded=True),
    Contender("category", "category prefix", BASELINE, baselines.category, is_seeded=True),
    Contender("content_mean", "content, mean of the history", BASELINE, baselines.content_mean),
    Contender("content_top", "content, 3 most alike of the history", BASELINE, baselines.content_top),
    Contender("als", "CF alone", BASELINE, baselines.teacher, is_seeded=True),
)
_ORACLE = Contender(ORACLE, "ceiling: CF with the test rows", CEILING, baselines.oracle, sees_test=True)
