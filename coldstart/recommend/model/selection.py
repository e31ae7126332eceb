"""Select the mapper of a behaviour fit: candidates are fitted on some items and evaluated on others held out.

Weights and whitening of the blocks of content are selected on other held-out items than the mapper and the blend, so
that a mapper that they suit does not look better than it is. The metrics are still those of the best of a few;
`coldstart evaluate recommend` measures without that bias. What is tried is bounded by
a budget of estimated processor seconds (`cost`), which follow from sizes alone: the same data and seed give the same
fit, however busy the machine is. The winner is fitted again on all items; a trained one for the number of epochs that
was best in the mean of the folds, and so without holding out items of its own. Folds are fitted side by side, and the
final fit beside its rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.metrics.two_way import list_intervals
from coldstart.recommend import model
from coldstart.recommend.model import RECIPE, Mapper, Problem, Vectors, cost
from coldstart.recommend.model.blend_weights import select_blend
from coldstart.recommend.model.calibration import Calibration, fit_calibration
from coldstart.recommend.model.deltas import bounded_deltas
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.fitted import Behaviour
from coldstart.recommend.model.fusion import Content, Fusion, fit_blocks
from coldstart.recommend.model.holdout import METRICS, SELECTION_METRIC, Fold, Lists, folds, problem_without_features
from coldstart.recommend.model.mappers.blend import blend_of
from coldstart.recommend.model.rehearsal import FoldFit, Rehearsal, Trial, paired_scores, rehearse
from coldstart.recommend.model.space_weights import MOST_ITEMS, SpaceWeights, select_space_weights
from coldstart.recommend.model.threads import side_by_side

Candidate = Mapping[str, Any]
CANDIDATES: Mapping[str, Candidate] = {"kernel": {}, "knn": {}, "contrastive": {}, "dropoutnet": {"distil": True}}
"""In the order in which the budget takes them."""
BUDGET_S = 600.0
BLEND = "blend"
_DIMS = 128  # directions of a block
_SEARCH_SHARE = 0.4  # of the budget, for the weights of blocks
_SEARCH_FOLDS = 3  # at most, beside those of the candidates
_MOST_TRIALS = 1000


@dataclass(frozen=True)
class SelectionSettings:
    """Settings of model selection.

    Attributes:
        candidates: label -> settings of a mapper; `mapper` names it where the label does not, and a list of values
            stands for one candidate each.
        blend: also try a weighted sum of the candidates.
        weights: block -> its weight in fusion: a space, `labels` for all labels or `labels.FIELD` for those of a field;
            None: every space and every field, selected on the held-out items.
        power: strength of whitening of all blocks, 0 (none) to 0.5; None: that of each, selected on the held-out items.
        labels: use category, tags and attributes, too.
        teacher: `als`, `bpr` or `pure_svd`; dim: dimensions of its vectors.
        warm_min: users from which on an item is warm.
        min_weight: least weight of a row that counts as a like; None: above 0.
        valid_share: share of the groups of items with interactions that a fold holds out; folds: number of folds that
            candidates are evaluated on, each with other items. Of what is left up to three folds select the weights.
        max_delta: largest correction of a warm item's vector, as a share of its length.
        calibrate: bring the scores of cold items to the mean and spread of warm ones, and their share of lists to that
            of the likes to come, as a rehearsal has it.
        budget_s: most processor seconds, as `cost` estimates them: of the weights' trials, and of the candidates in
            their order, those that do not fit left out; where none fits, the cheapest. A rehearsal of the selected ones
            comes on top, with two fits where the candidates have one a fold and one of all items.
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
    budget_s: float = BUDGET_S


@dataclass(frozen=True)
class Selection:
    """Selected and fitted behaviour; `report`: candidates and their metrics, as JSON values."""

    behaviour: Behaviour
    report: Mapping[str, Any]


@dataclass(frozen=True)
class _FoldResult:
    """Results of one fold: its problem, and per candidate the mapper with its name, its lists, and its vectors of the
    held-out items and the fold's users, scaled as in a blend."""

    fold: Fold
    problem: Problem
    mappers: Mapping[str, tuple[str, Mapper]]
    lists: Mapping[str, Lists]
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
    counting = Lock()

    def count() -> None:
        with counting:
            step()

    expanded = _expanded(settings.candidates)
    liked = interactions.positive(settings.min_weight)
    warm = liked.counts() >= settings.warm_min
    own = np.arange(len(content)) if groups is None else groups
    held_out, searched = _folds(interactions, liked, own, settings)
    size = _size(interactions, liked, content)
    affordable, spent = _affordable(expanded, size, settings)
    trial_s = cost.trial_seconds(size, len(content.blocks) + 3, len(searched), MOST_ITEMS)
    trials = max(1, min(_MOST_TRIALS, int(_SEARCH_SHARE * settings.budget_s / trial_s)))
    spaces = _space_weights(searched, content, settings, affordable, trials)
    spent += spaces.trials * trial_s
    candidates = {label: _tuned(label, given, spaces) for label, given in affordable.items()}
    step()
    with side_by_side(len(held_out)) as fits:
        tried: list[_FoldResult] = fits(
            [partial(_fit_candidates, fold, content, candidates, spaces, settings, count) for fold in held_out]
        )
    for _ in range(len(held_out) * (len(expanded) - len(candidates))):
        step()
    lists = {label: [one.lists[label] for one in tried] for label in candidates}
    scores = {label: _mean_ndcg(held_out, found) for label, found in lists.items()}
    parts = {}
    if settings.blend and len(candidates) > 1:
        parts = select_blend([(one.vectors, one.fold.relevant) for one in tried], settings.seed)
    if len(parts) > 1:
        lists[BLEND] = _blend_lists(tried, parts)
        scores[BLEND] = _mean_ndcg(held_out, lists[BLEND])
    best = max(scores, key=scores.__getitem__)
    trained = {
        label: model.as_selected(given, [one.mappers[label][1] for one in tried])
        for label, given in candidates.items()
        if label in (parts if best == BLEND else (best,))
    }
    chosen = _candidate_settings(best, {**candidates, **trained}, parts)
    fitted = [FoldFit(one.problem, one.mapper(best, parts), one.fold.held) for one in tried]

    fit_rows = partial(_fit_rows, best, chosen, content=content, spaces=spaces, settings=settings)

    def fit_trial(rows: Interactions) -> Trial:
        return fit_rows(rows).trial

    def rehearsed() -> Rehearsal:
        if not settings.calibrate:
            return Rehearsal()
        return rehearse(interactions, fitted, fit_trial, min_weight=settings.min_weight, seed=settings.seed)

    final: _RowsFit
    rehearsal: Rehearsal
    with side_by_side(2) as both:
        final, rehearsal = both([partial(fit_rows, interactions), rehearsed])
    calibration = Calibration.none()
    if settings.calibrate:
        calibration = fit_calibration([paired_scores(one, final.trial) for one in fitted], rehearsal.factor)
    step()
    report = {
        "chosen": best,
        "parts": parts if best == BLEND else {best: 1.0},
        "candidates": {label: _intervals(held_out, found) for label, found in lists.items()},
        "judged": {
            "folds": len(held_out),
            "users": sum(len(fold.users) for fold in held_out),
            "items": sum(len(fold.held) for fold in held_out),
        },
        "calibration": {"basis": "final", "scale": calibration.scale, "rehearsal": rehearsal.to_dict()}
        if settings.calibrate
        else None,
        "recipe": RECIPE,
        "trained": {label: {"epochs": own["epochs"]} for label, own in trained.items() if own != candidates[label]},
        "weights": dict(final.fusion.weights),
        "powers": {name: spaces.powers[name] for name in final.fusion.weights},
        "kernel": dict(spaces.kernel),
        "budget": {
            "seconds": settings.budget_s,
            "estimated": round(spent, 1),
            "trials": spaces.trials,
            "left_out": [label for label in expanded if label not in candidates],
        },
        "items": len(content),
        "warm": int(warm.sum()),
        "users": len(np.unique(liked.users)),
        "rows": len(liked),
        "settings": asdict(settings),
        "seconds": round(monotonic() - started, 1),
    }
    behaviour = Behaviour(
        final.name, content.item_ids, warm, final.fusion, final.trial.mapper, final.deltas, calibration, report
    )
    return Selection(behaviour, report)


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


def _size(interactions: Interactions, liked: Interactions, content: Content) -> cost.Size:
    widths = [min(_DIMS, block.shape[1]) for block in content.blocks.values()]
    met = int((interactions.counts() > 0).sum())
    return cost.Size(met, len(np.unique(liked.users)), len(liked), sum(widths) + _DIMS)


def _affordable(
    candidates: Mapping[str, Candidate], size: cost.Size, settings: SelectionSettings
) -> tuple[dict[str, Candidate], float]:
    """Take candidates in their order as long as their fits, one a fold and one of all items, are within the budget.

    Returns:
        them, and the estimated seconds of their fits.
    """
    left = settings.budget_s * (1 - _SEARCH_SHARE)
    needed = {
        label: cost.candidate_seconds(str(given["mapper"]), given, size, settings.folds)
        for label, given in candidates.items()
    }
    chosen: list[str] = []
    for label, seconds in needed.items():
        if sum(needed[one] for one in chosen) + seconds <= left:
            chosen.append(label)
    chosen = chosen or [min(needed, key=needed.__getitem__)]
    return {label: candidates[label] for label in chosen}, sum(needed[label] for label in chosen)


def _folds(
    interactions: Interactions, liked: Interactions, groups: NDArray[np.int64], settings: SelectionSettings
) -> tuple[list[Fold], list[Fold]]:
    """Hold out items for the candidates, and others for the weights; the same where there are too few items for both.

    Raises:
        ColdstartError: as `holdout.folds`.
    """
    count, share = settings.folds, settings.valid_share
    more = min(_SEARCH_FOLDS, int(1 / share + 1e-9) - count)
    if more > 0:
        try:
            every = list(folds(interactions, liked, groups, count=count + more, share=share, seed=settings.seed))
            return every[:count], every[count:]
        except NothingToLearn:
            pass
    held_out = list(folds(interactions, liked, groups, count=count, share=share, seed=settings.seed))
    return held_out, held_out


def _tuned(label: str, given: Candidate, spaces: SpaceWeights) -> Candidate:
    """Fill in the kernel settings that were selected with the weights, where the candidate states none."""
    return {**spaces.kernel, **given} if given.get("mapper", label) == "kernel" else given


def _problem(
    train: Interactions, content: Content, spaces: SpaceWeights, settings: SelectionSettings
) -> tuple[Problem, Fusion]:
    made = problem_without_features(train, content, settings.min_weight)
    met = np.flatnonzero(np.bincount(train.items, minlength=len(content)))
    fitted = fit_blocks(content, met, weights=settings.weights, dims=_DIMS, labels=settings.labels, fields=True)
    fusion = fitted.fusion(spaces.powers, spaces.weights)
    teacher = fit_teacher(settings.teacher, made.matrix, dim=settings.dim, seed=settings.seed)
    return replace(made, features=fusion.transform(content), teacher=teacher), fusion


def _space_weights(
    searched: Sequence[Fold],
    content: Content,
    settings: SelectionSettings,
    candidates: Mapping[str, Candidate],
    trials: int,
) -> SpaceWeights:
    """Select what the settings leave open; nothing is tried where that is nothing."""
    tune = any(given["mapper"] == "kernel" for given in candidates.values())
    if settings.weights is not None and settings.power is not None and not tune:
        total = sum(settings.weights.values())
        chosen = {name: weight / total for name, weight in settings.weights.items() if weight}
        return SpaceWeights(chosen, dict.fromkeys(chosen, settings.power))
    return select_space_weights(
        searched,
        content,
        min_weight=settings.min_weight,
        labels=settings.labels,
        dims=_DIMS,
        weights=settings.weights,
        power=settings.power,
        tune=tune,
        trials=trials,
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
    mappers, lists, vectors = {}, {}, {}
    for label, given in candidates.items():
        mappers[label] = _fit(label, given, fit_problem, settings.seed)
        mapper = mappers[label][1]
        lists[label] = fold.lists(
            mapper.items(fit_problem.features[fold.held]), mapper.users(fit_problem.matrix[fold.users])
        )
        if settings.blend:
            alone = blend_of([(*mappers[label], 1.0)], fit_problem.features)
            vectors[label] = alone.items(fit_problem.features[fold.held]), alone.users(fit_problem.matrix[fold.users])
        step()
    return _FoldResult(fold, fit_problem, mappers, lists, vectors)


def _mean_ndcg(held_out: Sequence[Fold], lists: Sequence[Lists]) -> float:
    found = [fold.values(own)[SELECTION_METRIC] for fold, own in zip(held_out, lists, strict=True)]
    return float(np.nanmean(np.concatenate(found)))


def _intervals(held_out: Sequence[Fold], lists: Sequence[Lists]) -> dict[str, Any]:
    pairs = [(own, fold.relevant) for fold, own in zip(held_out, lists, strict=True)]
    return {metric: found.to_dict() for metric, found in list_intervals(pairs, METRICS).items()}


def _blend_lists(tried: Sequence[_FoldResult], parts: Mapping[str, float]) -> list[Lists]:
    found = []
    for one in tried:
        items = np.concatenate([weight * one.vectors[label][0] for label, weight in parts.items()], axis=1)
        users = np.concatenate([one.vectors[label][1] for label in parts], axis=1)
        found.append(one.fold.lists(items, users))
    return found


@dataclass(frozen=True)
class _RowsFit:
    """A candidate fitted on some rows: name of its mapper, fusion of the content, and corrections of warm items."""

    name: str
    trial: Trial
    fusion: Fusion
    deltas: Vectors


def _fit_rows(
    label: str,
    given: Candidate,
    rows: Interactions,
    *,
    content: Content,
    spaces: SpaceWeights,
    settings: SelectionSettings,
) -> _RowsFit:
    """Fit a candidate on some rows, with vectors as lists are made with."""
    fit_problem, fusion = _problem(rows, content, spaces, settings)
    name, mapper = _fit(label, given, fit_problem, settings.seed)
    vectors, users = mapper.items(fit_problem.features), mapper.users(fit_problem.matrix)
    deltas = bounded_deltas(vectors, users, fit_problem.matrix, max_delta=settings.max_delta)
    deltas[rows.positive(settings.min_weight).counts() < settings.warm_min] = 0
    return _RowsFit(name, Trial(fit_problem, mapper, vectors + deltas), fusion, deltas)
