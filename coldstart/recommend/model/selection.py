"""Which mapper to trust: each fitted on some items and judged on others held out; the best is fitted on all.

The choice itself (weights of spaces, the best mapper, the blend) is learnt on the same held-out items: figures there
are the best of several looks, and no promise. `coldstart evaluate recommend` makes those.

How much each space counts in fusion, and how far it is whitened, found on held-out items: seconds a step.

Judged by a small kernel ridge, which is quick; that what serves it serves other mappers too is an assumption. What no
weight changes is made once: what the matrix says of users, and each space's whitened vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import bootstrap
from coldstart.recommend import model
from coldstart.recommend.model import Mapper, Problem, Vectors
from coldstart.recommend.model.deltas import bounded_deltas
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.fitted import Behaviour, Calibration, fit_calibration
from coldstart.recommend.model.fusion import Content, Fusion, fit_fusions
from coldstart.recommend.model.holdout import (
    METRICS,
    SELECTION_METRIC,
    Fold,
    Values,
    build_problem,
    folds,
    problem_without_features,
)
from coldstart.recommend.model.mappers.blend import Blend, blend_of
from coldstart.recommend.model.mappers.kernel import fit_items, fit_user_targets

Candidate = Mapping[str, Any]


CANDIDATES: Mapping[str, Candidate] = {"knn": {}, "kernel": {}, "clcrec": {}, "contrastive": {}}


BLEND = "blend"


_BLEND_STEPS = 12


@dataclass(frozen=True)
class SelectionSettings:
    """What is tried, and how it is judged.

    Attributes:
        candidates: label -> settings of a mapper; `mapper` names it where the label does not, and a list of values
            stands for one candidate each.
        blend: whether a weighted sum of candidates may win too.
        weights: space -> its weight in fusion; None: found on the held-out items.
        power: how far spaces are whitened, 0 (not) to 0.5; None: found on the held-out items.
        labels: whether category, tags and attributes count as a space of their own.
        teacher: `als`, `bpr` or `pure_svd`; dim: numbers of its vectors.
        warm_min: users that an item needs to be warm.
        min_weight: rows of at least this weight speak for their item; None: above 0.
        valid_share: of the groups of items that anybody met, held out; folds: how often that is done, on others each.
        max_delta: how far, as a share of its length, a warm item's vector may go from what its content says.
        calibrate: bring cold items' scores to the warm ones' mean and spread.
    """

    candidates: Mapping[str, Candidate] = field(default_factory=lambda: CANDIDATES)
    blend: bool = True
    weights: Mapping[str, float] | None = None
    power: float | None = None
    labels: bool = True
    teacher: str = "als"
    dim: int = 64
    warm_min: int = 5
    min_weight: float | None = None
    valid_share: float = 0.2
    folds: int = 2
    max_delta: float = 0.3
    calibrate: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """`report`: what was tried and what it gave, as JSON gives it."""

    behaviour: Behaviour
    report: Mapping[str, Any]


@dataclass(frozen=True)
class _FoldResult:
    """Of one fold: its problem, and of each candidate the mapper's name, the mapper, its metrics, and as a blend of
    one the vectors of the held-out items and of the users that are judged."""

    fold: Fold
    problem: Problem
    mappers: Mapping[str, tuple[str, Mapper]]
    values: Mapping[str, Values]
    vectors: Mapping[str, tuple[Vectors, Vectors]]

    def blend(self, parts: Mapping[str, float]) -> Blend:
        return blend_of([(*self.mappers[label], weight) for label, weight in parts.items()], self.problem.features)


def count_steps(settings: SelectionSettings) -> int:
    """How often `choose` calls its `step`."""
    return len(_expanded(settings.candidates)) * settings.folds + 2


def select_model(
    interactions: Interactions,
    content: Content,
    settings: SelectionSettings | None = None,
    *,
    groups: NDArray[np.int64] | None = None,
    step: Callable[[], None] = lambda: None,
) -> Selection:
    """Fit and judge every candidate, then fit the best on all there is.

    Args:
        interactions: rows of the training window, over `content.item_ids`.
        groups: of the items, int64 [I]; those of one group are held out together. None: each is alone.
        step: called after the weights, after each candidate of each fold, and at the end.

    Raises:
        ColdstartError: too few items to hold any out, or a candidate that does not exist.
    """
    settings = settings or SelectionSettings()
    if interactions.item_ids != content.item_ids:
        raise ValueError("interactions and content are not over the same items, in the same order")
    started = monotonic()
    candidates = _expanded(settings.candidates)
    liked = interactions.positive(settings.min_weight)
    warm = liked.counts() >= settings.warm_min
    own = np.arange(len(content)) if groups is None else groups
    count, share = settings.folds, settings.valid_share
    held_out = list(folds(interactions, liked, own, count=count, share=share, seed=settings.seed))
    spaces = _space_weights(held_out[0], content, settings)
    step()
    tried = [_fit_candidates(fold, content, candidates, spaces, settings, step) for fold in held_out]
    values = {label: _concatenated([one.values[label] for one in tried]) for label in candidates}
    parts = _blend(tried, {label: _mean_ndcg(found) for label, found in values.items()}) if settings.blend else {}
    if len(parts) > 1:
        values[BLEND] = _blend_values(tried, parts)
    best = max(values, key=lambda label: _mean_ndcg(values[label]))
    made, fusion = _problem(interactions, content, spaces, settings)
    name, mapper = _fit(best, _candidate_settings(best, candidates, parts), made, settings.seed)
    deltas = _deltas(mapper, made, warm, settings)
    calibration = _calibration(tried[0], best, parts) if settings.calibrate else Calibration.none()
    step()
    report = {
        "chosen": best,
        "parts": parts if best == BLEND else {best: 1.0},
        "candidates": {label: _intervals(found) for label, found in values.items()},
        "judged": {
            "folds": len(held_out),
            "users": sum(len(fold.users) for fold in held_out),
            "items": sum(len(fold.held) for fold in held_out),
        },
        "weights": dict(fusion.weights),
        "power": spaces.power,
        "items": len(content),
        "warm": int(warm.sum()),
        "users": len(np.unique(liked.users)),
        "rows": len(liked),
        "settings": asdict(settings),
        "seconds": round(monotonic() - started, 1),
    }
    return Selection(Behaviour(name, content.item_ids, warm, fusion, mapper, deltas, calibration, report), report)


def _expanded(candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """One candidate for every combination of listed values."""
    if not candidates:
        raise ColdstartError(f"no candidates to choose from: name one or more of {', '.join(model.names())}")
    found: dict[str, Candidate] = {}
    for label, given in candidates.items():
        name = given.get("mapper", label)
        if name not in model.names():
            raise ColdstartError(f"candidate {label!r}: no mapper {name!r}; there is {', '.join(model.names())}")
        listed = {key: value for key, value in given.items() if isinstance(value, list | tuple)}
        for values in product(*listed.values()):
            chosen = dict(zip(listed, values, strict=True))
            suffix = ", ".join(f"{key}={value}" for key, value in chosen.items())
            found[f"{label} ({suffix})" if suffix else label] = {"mapper": name, **given, **chosen}
    return found


def _candidate_settings(label: str, candidates: Mapping[str, Candidate], parts: Mapping[str, float]) -> Candidate:
    if label != BLEND or BLEND in candidates:
        return candidates[label]
    return {"mapper": BLEND, "parts": {one: {**candidates[one], "weight": weight} for one, weight in parts.items()}}


def _problem(
    train: Interactions, content: Content, spaces: SpaceWeights, settings: SelectionSettings
) -> tuple[Problem, Fusion]:
    matrix = train.positive(settings.min_weight).matrix()
    teacher = fit_teacher(settings.teacher, matrix, dim=settings.dim, seed=settings.seed)
    return build_problem(
        train,
        content,
        min_weight=settings.min_weight,
        weights=spaces.weights,
        labels=settings.labels,
        power=spaces.power,
        teacher=teacher,
    )


def _space_weights(fold: Fold, content: Content, settings: SelectionSettings) -> SpaceWeights:
    if settings.weights is not None and settings.power is not None:
        return SpaceWeights(settings.weights, settings.power)
    return fit_space_weights(
        fold,
        content,
        min_weight=settings.min_weight,
        labels=settings.labels,
        weights=settings.weights,
        powers=POWERS if settings.power is None else (settings.power,),
    )


def _fit(label: str, given: Candidate, made: Problem, seed: int) -> tuple[str, Mapper]:
    name = str(given.get("mapper", label))
    settings = {key: value for key, value in given.items() if key != "mapper"}
    return name, model.fit(name, made, seed=seed, **settings)


def _fit_candidates(
    fold: Fold,
    content: Content,
    candidates: Mapping[str, Candidate],
    spaces: SpaceWeights,
    settings: SelectionSettings,
    step: Callable[[], None],
) -> _FoldResult:
    made, _ = _problem(fold.train, content, spaces, settings)
    mappers, values, vectors = {}, {}, {}
    for label, given in candidates.items():
        mappers[label] = _fit(label, given, made, settings.seed)
        mapper = mappers[label][1]
        values[label] = fold.values(mapper.items(made.features[fold.held]), mapper.users(made.matrix[fold.users]))
        if settings.blend:
            alone = blend_of([(*mappers[label], 1.0)], made.features)
            vectors[label] = alone.items(made.features[fold.held]), alone.users(made.matrix[fold.users])
        step()
    return _FoldResult(fold, made, mappers, values, vectors)


def _concatenated(parts: Sequence[Values]) -> Values:
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


def _mean_ndcg(values: Values) -> float:
    return float(np.nanmean(values[SELECTION_METRIC]))


def _intervals(values: Values) -> dict[str, dict[str, float]]:
    return {metric: asdict(bootstrap(found[np.isfinite(found)])) for metric, found in values.items()}


def _blend(tried: Sequence[_FoldResult], scores: Mapping[str, float]) -> dict[str, float]:
    """Weights by greedy selection with replacement (Caruana et al., ICML 2004), from the best candidate alone."""
    chosen = [max(scores, key=scores.__getitem__)]
    best = scores[chosen[0]]
    for _ in range(_BLEND_STEPS):
        found = {label: _mean_ndcg(_blend_values(tried, _shares([*chosen, label]))) for label in scores}
        label = max(found, key=found.__getitem__)
        if found[label] <= best:
            break
        best = found[label]
        chosen.append(label)
    return _shares(chosen)


def _shares(chosen: Sequence[str]) -> dict[str, float]:
    return {label: chosen.count(label) / len(chosen) for label in dict.fromkeys(chosen)}


def _blend_values(tried: Sequence[_FoldResult], parts: Mapping[str, float]) -> Values:
    found = []
    for one in tried:
        items = np.concatenate([weight * one.vectors[label][0] for label, weight in parts.items()], axis=1)
        users = np.concatenate([one.vectors[label][1] for label in parts], axis=1)
        found.append(one.fold.values(items, users))
    return _concatenated(found)


def _deltas(mapper: Mapper, made: Problem, warm: NDArray[np.bool_], settings: SelectionSettings) -> Vectors:
    vectors = mapper.items(made.features)
    deltas = bounded_deltas(vectors, mapper.users(made.matrix), made.matrix, max_delta=settings.max_delta)
    deltas[~warm] = 0
    return deltas


def _calibration(tried: _FoldResult, best: str, parts: Mapping[str, float]) -> Calibration:
    """On one fold, where the held-out items are the cold ones and what became of them is known."""
    fold, made = tried.fold, tried.problem
    mapper = tried.blend(parts) if best == BLEND and BLEND not in tried.mappers else tried.mappers[best][1]
    cold = np.zeros(len(made.features), bool)
    cold[fold.held] = True
    kept = np.flatnonzero(cold | (np.diff(made.matrix.tocsc().indptr) > 0))
    users = mapper.users(made.matrix[fold.users])
    return fit_calibration(users, mapper.items(made.features[kept]), cold[kept])


POWERS = (0.0, 0.25, 0.5)


_FACTORS = (0.25, 0.5, 2.0, 4.0)


_ROUNDS = 2


_DIM, _LANDMARKS = 64, 2000


_MOST_ITEMS = 20_000  # that are learnt from


@dataclass(frozen=True)
class SpaceWeights:
    """`weights` of the spaces, which add up to 1, and the `power` of whitening."""

    weights: Mapping[str, float]
    power: float


def fit_space_weights(
    fold: Fold,
    content: Content,
    *,
    min_weight: float | None,
    labels: bool,
    weights: Mapping[str, float] | None = None,
    powers: Sequence[float] = POWERS,
) -> SpaceWeights:
    """The power that serves best with the weights given, or equal ones; then, where none are, a coordinate search."""
    met = np.flatnonzero(np.bincount(fold.train.items, minlength=len(content)))
    fusions = fit_fusions(content, met, weights=weights, powers=powers, labels=labels)
    given = problem_without_features(fold.train, content, min_weight)
    people = fit_user_targets(given, dim=_DIM)
    users, judged_by = given.matrix[fold.users], min(len(met), _MOST_ITEMS)
    learnt = np.sort(np.random.default_rng(0).permutation(met)[:judged_by])
    known = content.take(np.concatenate([learnt, fold.held]))
    people = replace(people, targets=people.targets[learnt], met=people.met[learnt])

    def score(parts: Mapping[str, Vectors], place: int, chosen: Mapping[str, float]) -> float:
        features = fusions[place].reweighed(chosen).fuse(parts)
        mapper = fit_items(people, features[: len(learnt)], landmarks=_LANDMARKS)
        found = fold.values(mapper.items(features[len(learnt) :]), mapper.users(users))
        return float(np.nanmean(found[SELECTION_METRIC]))

    parts: Mapping[str, Vectors] = {}
    best, at = -np.inf, 0
    for place, fusion in enumerate(fusions):
        own_parts = fusion.parts(known)
        value = score(own_parts, place, fusion.weights)
        if value > best:
            best, at, parts = value, place, own_parts
    own = _normalised(fusions[at].weights)
    if weights is not None or len(own) < 2:
        return SpaceWeights(own, powers[at])
    tried = {_key(own)}
    for _ in range(_ROUNDS):
        before = best
        for name in own:
            for factor in _FACTORS:
                changed = _normalised({**own, name: own[name] * factor})
                if _key(changed) in tried:
                    continue
                tried.add(_key(changed))
                value = score(parts, at, changed)
                if value > best:
                    best, own = value, changed
        if best <= before:
            break
    return SpaceWeights(own, powers[at])


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _key(weights: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(round(weight, 6) for weight in weights.values())
