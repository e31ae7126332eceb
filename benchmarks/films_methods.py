"""How films are ranked for people in the benchmark of recommendation: a part of the films, and a function a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.films_data import LIKED
from coldstart.core.interactions import Interactions
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend import model
from coldstart.recommend.model import Mapper, Problem
from coldstart.recommend.model.factors import als
from coldstart.recommend.model.fusion import Content, Fusion, fit_fusion
from coldstart.recommend.model.mappers.blend import blend_of

Scores = NDArray[np.floating[Any]]
Weights = Mapping[str, float]
Measures = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Way:
    """A mapper, its settings, and how contents are fused for it: weights, and how far each is whitened, by default
    0.5."""

    mapper: str
    settings: Mapping[str, Any]
    weights: Weights
    powers: Mapping[str, float] = field(default_factory=dict)


class Part:
    """Films to learn from and new ones, with the likes of each. All that is fitted is fitted on the former alone."""

    def __init__(self, every: Content, met: Interactions, learnt: NDArray[np.intp], new: NDArray[np.intp]) -> None:
        liked = met.positive(LIKED).matrix()
        self.content, self.learnt, self.new = every, learnt, new
        self.matrix, self.exposed = liked[:, learnt].tocsr(), met.matrix()[:, learnt].tocsr()
        self.wanted = liked[:, new].tocsr()
        self._kinds = tuple(every.records[place]["category"] for place in learnt)
        self._teacher = als(self.matrix, dim=64)
        self._fusions: dict[float, Fusion] = {}
        self._fitted: dict[str, tuple[Mapper, NDArray[np.float32]]] = {}

    def features(self, weights: Weights, powers: Mapping[str, float] | None = None) -> NDArray[np.float32]:
        """Of all films, float32 [films, F]: contents side by side, each of the length of the root of its weight."""
        powers, found = powers or {}, []
        for power in sorted({powers.get(name, 0.5) for name in weights}):
            own = {name: weight for name, weight in weights.items() if powers.get(name, 0.5) == power}
            if power not in self._fusions:
                self._fusions[power] = fit_fusion(self.content, self.learnt, dims=128, power=power, labels=False)
            fitted = self._fusions[power]
            kept = Fusion(own, {name: fitted.blocks[name] for name in own}, fitted.spaces, {}).reweighed(own)
            found.append(np.float32(sum(own.values()) ** 0.5) * kept.transform(self.content))
        whole = np.float32(sum(weights.values()) ** 0.5)
        return np.asarray(np.concatenate(found, axis=1) / whole, np.float32)

    def fitted(self, way: Way, seed: int = 0) -> tuple[Mapper, NDArray[np.float32]]:
        """The mapper, fitted once, and the features that it sees."""
        key = f"{way} {seed}"
        if key not in self._fitted:
            features = self.features(way.weights, way.powers)
            problem = Problem(self.matrix, features[self.learnt], self._teacher, self._kinds, self.exposed)
            self._fitted[key] = model.fit(way.mapper, problem, seed=seed, **way.settings), features
        return self._fitted[key]


Method = Callable[[Part], Scores]


def mapped(way: Way) -> Method:
    def scores(part: Part) -> Scores:
        mapper, features = part.fitted(way)
        found: Scores = mapper.users(part.matrix) @ mapper.items(features[part.new]).T
        return found

    return scores


def blended(ways: Sequence[tuple[Way, float]]) -> Method:
    """Each mapper's scores brought to one spread for each person, as `mappers.blend` does, and added by weight."""

    def scores(part: Part) -> Scores:
        found = np.zeros(part.wanted.shape)
        for way, weight in ways:
            mapper, features = part.fitted(way)
            one = blend_of([(way.mapper, mapper, weight)], features[part.learnt])
            found += one.users(part.matrix) @ one.items(features[part.new]).T
        return found

    return scores


def alike(weights: Weights) -> Method:
    """By the sum of cosines to what a person likes."""

    def scores(part: Part) -> Scores:
        features = part.features(weights)
        return np.asarray(part.matrix @ (features[part.learnt] @ features[part.new].T))

    return scores


def by_chance(part: Part) -> Scores:
    return np.asarray(np.random.default_rng(0).random(part.wanted.shape))


def by_popularity(part: Part) -> Scores:
    """By the likes of the test itself."""
    return np.tile(np.asarray(part.wanted.sum(axis=0)).ravel(), (part.wanted.shape[0], 1))


def lists_of(scores: Scores) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :20].astype(np.int64)


def measured(scores: Scores, part: Part) -> Measures:
    """Of each person with a like."""
    found = measure_lists(lists_of(scores), part.wanted, k=[20])
    some = ~np.isnan(found["recall@20"])
    return {name: values[some] for name, values in found.items()}


def parts(every: Content, met: Interactions, warm: NDArray[np.intp], count: int) -> list[Part]:
    """A fifth held out at a time, drawn at random as the new films were; `count` of the five."""
    drawn = np.array_split(np.random.default_rng(0).permutation(warm), 5)[:count]
    return [Part(every, met, np.setdiff1d(warm, new), np.sort(new)) for new in drawn]
