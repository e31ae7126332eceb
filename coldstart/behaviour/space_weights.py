"""How much each space counts in fusion, and how far it is whitened, found on held-out items: seconds a step.

Judged by a small kernel ridge, which is quick; that what serves it serves other mappers too is an assumption. What no
weight changes is made once: what the matrix says of users, and each space's whitened vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coldstart.behaviour import Vectors
from coldstart.behaviour.content import Content
from coldstart.behaviour.fusion import fit_fusions
from coldstart.behaviour.judging import JUDGE, Fold, bare_problem
from coldstart.behaviour.mappers.kernel import fit_items, read_users

POWERS = (0.0, 0.25, 0.5)
_FACTORS = (0.25, 0.5, 2.0, 4.0)
_ROUNDS = 2
_DIM, _LANDMARKS = 64, 2000
_MOST_ITEMS = 20_000  # that are learnt from


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
    met = np.flatnonzero(np.bincount(fold.train.items, minlength=len(content)))
    fusions = fit_fusions(content, met, weights=weights, powers=powers, labels=labels)
    given = bare_problem(fold.train, content, min_weight)
    people = read_users(given, dim=_DIM)
    users, judged_by = given.matrix[fold.users], min(len(met), _MOST_ITEMS)
    learnt = np.sort(np.random.default_rng(0).permutation(met)[:judged_by])
    known = content.take(np.concatenate([learnt, fold.held]))
    people = replace(people, targets=people.targets[learnt], met=people.met[learnt])

    def score(parts: Mapping[str, Vectors], place: int, chosen: Mapping[str, float]) -> float:
        features = fusions[place].reweighed(chosen).fuse(parts)
        mapper = fit_items(people, features[: len(learnt)], landmarks=_LANDMARKS)
        found = fold.values(mapper.items(features[len(learnt) :]), mapper.users(users))
        return float(np.nanmean(found[JUDGE]))

    parts: Mapping[str, Vectors] = {}
    best, at = -np.inf, 0
    for place, fusion in enumerate(fusions):
        own_parts = fusion.parts(known)
        value = score(own_parts, place, fusion.weights)
        if value > best:
            best, at, parts = value, place, own_parts
    own = _shares(fusions[at].weights)
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
                value = score(parts, at, changed)
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
