"""Select the mapper of a behaviour fit: candidates are fitted on some items and evaluated on others held out.

Weights and whitening of the spaces, the mapper and the blend are all selected on the same held-out items, so that their
metrics are optimistic; `coldstart evaluate recommend` measures without that bias. Weights of spaces are scored by a
small kernel ridge, which is quick, on the assumption that they suit other mappers too. The winner is fitted again on
all items.
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
from coldstart.recommend.model.calibration import Calibration, PairedScores, Scored, fit_calibration
from coldstart.recommend.model.deltas import bounded_deltas
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.fitted import Behaviour
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
from coldstart.recommend.model.mappers.blend import blend_of
from coldstart.recommend.model.mappers.kernel import fit_items, fit_user_targets

Candidate = Mapping[str, Any]
CANDIDATES: Mapping[str, Candidate] = {"knn": {}, "kernel": {}, "clcrec": {}, "contrastive": {}}
BLEND = "blend"
_BLEND_STEPS = 12
POWERS = (0.0, 0.25, 0.5)
_FACTORS = (0.25, 0.5, 2.0, 4.0)
_ROUNDS = 2
_DIM, _LANDMARKS = 64, 2000
_MOST_ITEMS = 20_000  # of a fit that scores weights
_CALIBRATED = 2000  # users of a fold whose scores calibrate


@dataclass(frozen=True)
class SelectionSettings:
    """Settings of model selection.

    Attributes:
        candidates: label -> settings of a mapper; `mapper` names it where the label does not, and a list of values
            stands for one candidate each.
        blend: also try a weighted sum of the candidates.
        weights: space -> its weight in fusion; None: selected on the held-out items.
        power: strength of whitening, 0 (none) to 0.5; None: selected on the held-out items.
        labels: use category, tags and attributes as a space of their own.
        teacher: `als`, `bpr` or `pure_svd`; dim: dimensions of its vectors.
        warm_min: users from which on an item is warm.
        min_weight: least weight of a row that counts as a like; None: above 0.
        valid_share: share of the groups of items with interactions that a fold holds out; folds: number of folds, each
            with other items.
        max_delta: largest correction of a warm item's vector, as a share of its length.
        calibrate: bring the scores of cold items to the mean and spread of warm ones.
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
    """Selected and fitted behaviour; `report`: candidates and their metrics, as JSON values."""

    behaviour: Behaviour
    report: Mapping[str, Any]


@dataclass(frozen=True)
class _FoldResult:
    """Results of one fold: its problem, and per candidate the mapper with its name, its metrics, and its vectors of the
    held-out items and the fold's users, scaled as in a blend."""

    fold: Fold
    problem: Problem
    mappers: Mapping[str, tuple[str, Mapper]]
    values: Mapping[str, Values]
    vectors: Mapping[str, tuple[Vectors, Vectors]]

    def mapper(self, label: str, parts: Mapping[str, float]) -> Mapper:
        """Return the fitted candidate of a label; for the blend of candidates by `parts`, label -> weight, that."""
        if label != BLEND or label in self.mappers:
            return self.mappers[label][1]
        return blend_of([(*self.mappers[label], weight) for label, weight in parts.items()], self.problem.features)


def count_steps(settings: SelectionSettings) -> int:
    """Count the calls of `step` by `select_model`."""
    return len(_expanded(settings.candidates)) * settings.folds + 2


def select_model(
    interactions: Interactions,
    content: Content,
    settings: SelectionSettings | None = None,
    *,
    groups: NDArray[np.int64] | None = None,
    step: Callable[[], None] = lambda: None,
) -> Selection:
    """Fit and evaluate every candidate, then fit the best on all items.

    Args:
        interactions: rows of the training window, over `content.item_ids`.
        groups: of the items, int64 [I]; items of one group are held out together. None: each item alone.
        step: called after the weights of spaces, after each candidate of each fold, and at the end.

    Raises:
        ColdstartError: too few items to hold any out, or an unknown candidate.
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
    fit_problem, fusion = _problem(interactions, content, spaces, settings)
    name, mapper = _fit(best, _candidate_settings(best, candidates, parts), fit_problem, settings.seed)
    deltas = _deltas(mapper, fit_problem, warm, settings)
    vectors = mapper.items(fit_problem.features) + deltas
    calibration = Calibration.none()
    if settings.calibrate:
        paired = [_paired(one, one.mapper(best, parts), mapper, vectors) for one in tried]
        calibration = fit_calibration(paired)
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
        "calibration": {"basis": "final", "scale": calibration.scale} if settings.calibrate else None,
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
    """Expand candidates: one for every combination of listed values."""
    if not candidates:
        raise ColdstartError(f"no candidate mappers: name one or more of {', '.join(model.names())}")
    found: dict[str, Candidate] = {}
    for label, given in candidates.items():
        name = given.get("mapper", label)
        if name not in model.names():
            raise ColdstartError(f"candidate {label!r}: no mapper {name!r}; choose among {', '.join(model.names())}")
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


def _fit(label: str, given: Candidate, fit_problem: Problem, seed: int) -> tuple[str, Mapper]:
    name = str(given.get("mapper", label))
    settings = {key: value for key, value in given.items() if key != "mapper"}
    return name, model.fit(name, fit_problem, seed=seed, **settings)


def _fit_candidates(
    fold: Fold,
    content: Content,
    candidates: Mapping[str, Candidate],
    spaces: SpaceWeights,
    settings: SelectionSettings,
    step: Callable[[], None],
) -> _FoldResult:
    fit_problem, _ = _problem(fold.train, content, spaces, settings)
    mappers, values, vectors = {}, {}, {}
    for label, given in candidates.items():
        mappers[label] = _fit(label, given, fit_problem, settings.seed)
        mapper = mappers[label][1]
        values[label] = fold.values(
            mapper.items(fit_problem.features[fold.held]), mapper.users(fit_problem.matrix[fold.users])
        )
        if settings.blend:
            alone = blend_of([(*mappers[label], 1.0)], fit_problem.features)
            vectors[label] = alone.items(fit_problem.features[fold.held]), alone.users(fit_problem.matrix[fold.users])
        step()
    return _FoldResult(fold, fit_problem, mappers, values, vectors)


def _concatenated(parts: Sequence[Values]) -> Values:
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


def _mean_ndcg(values: Values) -> float:
    return float(np.nanmean(values[SELECTION_METRIC]))


def _intervals(values: Values) -> dict[str, dict[str, float]]:
    return {metric: asdict(bootstrap(found[np.isfinite(found)])) for metric, found in values.items()}


def _blend(tried: Sequence[_FoldResult], scores: Mapping[str, float]) -> dict[str, float]:
    """Select blend weights greedily with replacement (Caruana et al., ICML 2004), from the best candidate on."""
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


def _deltas(mapper: Mapper, fit_problem: Problem, warm: NDArray[np.bool_], settings: SelectionSettings) -> Vectors:
    vectors = mapper.items(fit_problem.features)
    deltas = bounded_deltas(vectors, mapper.users(fit_problem.matrix), fit_problem.matrix, max_delta=settings.max_delta)
    deltas[~warm] = 0
    return deltas


def _paired(tried: _FoldResult, fold_mapper: Mapper, final_mapper: Mapper, final_items: Vectors) -> PairedScores:
    """Score the fold's items for its users by the fold's mapper and by the final one.

    Args:
        final_items: float32 [I, D]: final vectors of all items.
    """
    fit_problem, held = tried.problem, tried.fold.held
    known = np.flatnonzero(np.any(fit_problem.features != 0, axis=1))
    trained = np.intersect1d(np.unique(fit_problem.matrix.indices), known)
    held = np.intersect1d(held, known)
    people = np.flatnonzero(np.diff(fit_problem.matrix.indptr))
    people = people[np.linspace(0, len(people) - 1, min(len(people), _CALIBRATED)).astype(np.intp)]
    histories, fold_items = fit_problem.matrix[people], fold_mapper.items(fit_problem.features)
    return PairedScores(
        Scored(fold_mapper.users(histories), fold_items[held], fold_items[trained]),
        Scored(final_mapper.users(histories), final_items[held], final_items[trained]),
    )


@dataclass(frozen=True)
class SpaceWeights:
    """Weights of the spaces, which add up to 1, and the `power` of whitening."""

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
    """Select the power of whitening with the given or equal weights; then, without given ones, search the weights."""
    met = np.flatnonzero(np.bincount(fold.train.items, minlength=len(content)))
    fusions = fit_fusions(content, met, weights=weights, powers=powers, labels=labels)
    given = problem_without_features(fold.train, content, min_weight)
    user_targets = fit_user_targets(given, dim=_DIM)
    users, most_items = given.matrix[fold.users], min(len(met), _MOST_ITEMS)
    fitted_items = np.sort(np.random.default_rng(0).permutation(met)[:most_items])
    known = content.take(np.concatenate([fitted_items, fold.held]))
    user_targets = replace(user_targets, targets=user_targets.targets[fitted_items], met=user_targets.met[fitted_items])

    def score(parts: Mapping[str, Vectors], place: int, chosen: Mapping[str, float]) -> float:
        features = fusions[place].reweighed(chosen).fuse(parts)
        mapper = fit_items(user_targets, features[: len(fitted_items)], landmarks=_LANDMARKS)
        found = fold.values(mapper.items(features[len(fitted_items) :]), mapper.users(users))
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
