"""How much each space counts in fusion, found on held-out items by a ridge onto users: seconds a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coldstart import behaviour
from coldstart.behaviour.content import Content
from coldstart.behaviour.judging import JUDGE, Fold, problem

_FACTORS = (0.25, 0.5, 2.0, 4.0)
_ROUNDS = 2


def space_weights(fold: Fold, content: Content, *, min_weight: float | None, labels: bool) -> dict[str, float]:
    """Coordinate search from equal weights; they add up to 1."""

    given, fusion = problem(fold.train, content, min_weight=min_weight, weights=None, labels=labels)

    def score(weights: Mapping[str, float]) -> float:
        features = fusion.reweighed(weights).transform(content)
        mapper = behaviour.fit("ridge", replace(given, features=features), target="users")
        found = fold.values(mapper.items(features[fold.held]), mapper.users(given.matrix[fold.users]))
        return float(np.nanmean(found[JUDGE]))

    weights = _shares(fusion.weights)
    if len(weights) < 2:
        return weights
    best = score(weights)
    tried = {tuple(weights.values())}
    for _ in range(_ROUNDS):
        before = best
        for name in weights:
            for factor in _FACTORS:
                changed = _shares({**weights, name: weights[name] * factor})
                key = tuple(round(weight, 6) for weight in changed.values())
                if key in tried:
                    continue
                tried.add(key)
                value = score(changed)
                if value > best:
                    best, weights = value, changed
        if best <= before:
            break
    return weights


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
