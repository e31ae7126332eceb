"""How much each space counts in fusion, and how far it is whitened, found on held-out items: seconds a step.

Judged by a small kernel ridge, which is quick; that what serves it serves other mappers too is an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coldstart import behaviour
from coldstart.behaviour.content import Content
from coldstart.behaviour.judging import JUDGE, Fold, problem

POWERS = (0.0, 0.25, 0.5)
_FACTORS = (0.25, 0.5, 2.0, 4.0)
_ROUNDS = 2
_JUDGED_BY = {"dim": 64, "landmarks": 2000}


@dataclass(frozen=True)
class Found:
    """`weights` of the spaces, which add up to 1, and the `power` of whitening."""

    weights: Mapping[str, float]
    power: float


def space_weights(
    fold: Fold,
    content: Content,
    *,
    min_weight: float | None,
    labels: bool,
    weights: Mapping[str, float] | None = None,
    powers: Sequence[float] = POWERS,
) -> Found:
    """The power that serves best with the weights given, or equal ones; then, where none are, a coordinate search."""
    start = [
        problem(fold.train, content, min_weight=min_weight, weights=weights, labels=labels, power=power)
        for power in powers
    ]

    def score(place: int, chosen: Mapping[str, float]) -> float:
        given, fusion = start[place]
        features = fusion.reweighed(chosen).transform(content)
        mapper = behaviour.fit("kernel", replace(given, features=features), **_JUDGED_BY)
        found = fold.values(mapper.items(features[fold.held]), mapper.users(given.matrix[fold.users]))
        return float(np.nanmean(found[JUDGE]))

    scores = [score(place, fusion.weights) for place, (_, fusion) in enumerate(start)]
    at = int(np.argmax(scores))
    best, own = scores[at], _shares(start[at][1].weights)
    if weights is not None or len(own) < 2:
        return Found(own, powers[at])
    tried = {_key(own)}
    for _ in range(_ROUNDS):
        before = best
        for name in own:
            for factor in _FACTORS:
                changed = _shares({**own, name: own[name] * factor})
                if _key(changed) in tried:
                    continue
                tried.add(_key(changed))
                value = score(at, changed)
                if value > best:
                    best, own = value, changed
        if best <= before:
            break
    return Found(own, powers[at])


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _key(weights: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(round(weight, 6) for weight in weights.values())
