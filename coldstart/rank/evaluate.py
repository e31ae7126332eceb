"""Evaluate rankers on showings: fit before a cut, judge after it, beside baselines, with a check for leaks.

AUC and ECE are measured over all rows; GAUC is the mean AUC of users with both labels, weighted by their rows (Zhu et
al. 2017, arXiv 1703.02091). Intervals, 95 %, are by bootstrap over users. Rates of judged rows are as of the cut;
counts of actions are as of the row's period, and histories end at the request, as those of fitted rows do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError, LeakError
from coldstart.metrics.intervals import FEWEST_COMPARED, Measure, difference, share
from coldstart.rank.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    log_loss,
    reliability,
    sigmoid,
)
from coldstart.rank.data import RankData
from coldstart.rank.features import FeatureMaker, Rows
from coldstart.rank.fit_stage import VECTOR_DIM, recipe_of
from coldstart.rank.model import Features, RankModel, Recipe, check_classes, periods, time_parts
from coldstart.rank.settings import Settings
from coldstart.rank.whole_history import SIMILAR

Doubles = NDArray[np.float64]
METHODS = ("constant", "item_rate", "logistic", "trees_without_history", "trees", "trees_with_simtier", "attention",
           "both", "long", "trees_and_long")  # fmt: skip
"""Methods in the order of a report; the last two where some history is long, or the settings name them."""
TITLES = {
    "constant": "constant",
    "item_rate": "smoothed rate of the item",
    "logistic": "logistic, no history",
    "trees_without_history": "trees, no history",
    "trees": "trees with history",
    "trees_with_simtier": "trees with history and SimTier",
    "attention": "target attention",
    "both": "mean of both, logits",
    "long": "attention over whole histories",
    "trees_and_long": "mean of trees and that, logits",
}
_OF_HISTORY = (SIMILAR, "same_", "user_met.", "idle_days")
_COMPARED = (
    ("both", "trees_without_history"),
    ("trees", "trees_without_history"),
    ("trees_with_simtier", "trees"),
    ("both", "trees"),
    ("both", "item_rate"),
)
RESAMPLES = 100
"""Resamples of users, of which two or three lie beyond each end of an interval."""
_JUDGED = 0.3
"""Share of rows, the latest, that are judged by default."""


@dataclass(frozen=True)
class RankReport:
    """Evaluation of rankers; `to_dict` is what files hold."""

    known: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return self.known


def evaluate_data(
    data: RankData,
    settings: Settings,
    *,
    cut: int | None = None,
    device: str = "cpu",
    step: Callable[[str], None] = lambda name: None,
) -> RankReport:
    """Evaluate all methods on the showings of a workspace.

    Args:
        cut: second that parts fitted from judged showings; by default the latest 30 % are judged.

    Raises:
        ColdstartError: a part has too few rows or one class; LeakError: a feature knew what came after its row.
    """
    rows = data.rows
    cut = int(np.quantile(rows.times, 1 - _JUDGED)) + 1 if cut is None and len(rows) else cut or 0
    past, judged = rows.where(rows.times < cut), rows.where(rows.times >= cut)
    if len(past) < settings.min_showings or len(judged) < 200:
        raise ColdstartError(
            f"{len(past):,} showings before the cut and {len(judged):,} after it: {settings.min_showings:,} and 200 "
            "are needed; move the cut with --split time:DATE, or ingest more showings"
        )
    events = _judgeable(settings, past, judged)
    past, judged = (replace(one, labels={event: one.labels[event] for event in events}) for one in (past, judged))
    since = int(past.times.min())
    vectors = data.vectors(since, VECTOR_DIM, settings.seed)
    maker = data.maker(past, settings, vectors)
    features, later = maker.make(past), maker.make(judged)
    checked = check_leaks(data, settings, maker, past, features, cut, vectors)
    similar = data.is_similar_read(settings)
    recipe = recipe_of(settings, data, device)
    predictions, about = _predict(maker, past, judged, features, later, recipe, similar, step)
    known: dict[str, Any] = {
        "split": {"kind": "time", "cut": cut, "fitted": len(past), "judged": len(judged)},
        "counts": {
            "users": len(np.unique(judged.users)),
            "items": len(np.unique(judged.items)),
            "cold": int(maker.cold(judged).sum()),
            "features": len(features.names),
        },
        "chosen": about["model"],
        "titles": TITLES,
        "events": {},
        "notes": [f"showings left out: {count:,} with {why}" for why, count in data.left_out.items()],
        "checked": checked,
        "fit": about,
    }
    for event in events:
        known["events"][event] = _judge(event, judged, predictions, maker.cold(judged))
    return RankReport(known)


def _judgeable(settings: Settings, past: Rows, judged: Rows) -> list[str]:
    found, faults = [], []
    for event in past.labels:
        try:
            check_classes(event, past.labels[event])
            check_classes(event, judged.labels[event])
            found.append(event)
        except ColdstartError as fault:
            if settings.events:
                raise
            faults.append(fault)
    if not found:
        raise faults[0] if faults else ColdstartError("no outcome of the showings is 0 or 1: name some with --events")
    return found


def check_leaks(
    data: RankData,
    settings: Settings,
    maker: FeatureMaker,
    past: Rows,
    features: Features,
    cut: int,
    vectors: NDArray[np.float32],
) -> list[str]:
    """Make the features of the latest fitted period again without its outcomes, and compare; returns what was checked.

    Raises:
        LeakError: with the feature.
    """
    if int(past.times.max()) >= cut:
        raise LeakError("a fitted showing does not stand before the cut")
    period = maker.period_of(past.times)
    own = period == period.max()
    flipped = {event: np.where(own, 1 - values, values) for event, values in past.labels.items()}
    # how much a place is looked at is of the whole window, a few numbers of all its rows
    again = data.maker(replace(past, labels=flipped), settings, vectors, maker.bias)
    chosen = np.flatnonzero(own)[:2_000]
    found = again.make(past.where(chosen), sequences=False)
    same = (found.values == features.values[chosen]) | (np.isnan(found.values) & np.isnan(features.values[chosen]))
    if not same.all():
        wrong = [name for name, fine in zip(found.names, same.all(0).tolist(), strict=True) if not fine]
        raise LeakError(f"features {', '.join(wrong)} change with the outcomes of their own period: they would leak")
    return [
        f"features of {len(chosen):,} showings stay as they are when the outcomes of their period are turned round",
        "all fitted showings stand before the cut",
        "histories end strictly before their showings",
    ]


def _predict(
    maker: FeatureMaker,
    past: Rows,
    judged: Rows,
    features: Features,
    later: Features,
    recipe: Recipe,
    similar: bool,
    step: Callable[[str], None],
) -> tuple[dict[str, dict[str, tuple[Doubles, Doubles]]], dict[str, Any]]:
    """Predict the judged rows: method -> event -> p before and after calibration."""
    cold, offsets, cold_later = maker.cold(past), maker.offsets(past), maker.cold(judged)
    parts = time_parts(past.times)
    own_of = [parts == one for one in range(3)]

    def calibration(event: str, middle: Doubles, last: Doubles) -> Calibration:
        two = ({event: middle}, {event: last})
        return fit_calibration(*periods(two, {event: past.labels[event]}, cold, past.users, past.times, parts))

    found: dict[str, dict[str, tuple[Doubles, Doubles]]] = {name: {} for name in METHODS}
    plain, plain_later = features, later
    for prefix in _OF_HISTORY:
        plain, plain_later = plain.without(prefix), plain_later.without(prefix)
    for event, target in past.labels.items():
        mean = float(np.nanmean(target))
        flat = np.full(len(judged), mean)
        found["constant"][event] = flat, flat
        column = features.names.index(f"item.{event}")
        rates, rates_later = (_logit(one.values[:, column].astype(np.float64), mean) for one in (features, later))
        curve = calibration(event, rates[own_of[1]], rates[own_of[2]])
        found["item_rate"][event] = sigmoid(rates_later), curve.apply({event: rates_later}, cold_later)[event]
        fitted = [fit_logistic(plain.values[one], target[one])(plain.values[after])
                  for one, after in ((own_of[0], own_of[1]), (~own_of[2], own_of[2]))]  # fmt: skip
        curve = calibration(event, *fitted)
        own = fit_logistic(plain.values, target)(plain_later.values)
        found["logistic"][event] = sigmoid(own), curve.apply({event: own}, cold_later)[event]
    step("logistic")
    labels, trees_only = past.labels, replace(recipe, models=("trees",))
    bare = RankModel.fit(plain, labels, past.times, cold, trees_only, users=past.users, offsets=offsets)
    _put(found["trees_without_history"], bare.logits(plain_later), bare.calibration, cold_later)
    wide, wide_later = features, later
    if not similar:
        features, later = features.without(SIMILAR), later.without(SIMILAR)
        other = RankModel.fit(wide, labels, past.times, cold, trees_only, users=past.users, offsets=offsets)
        _put(found["trees_with_simtier"], other.logits(wide_later), other.calibration, cold_later)
    step("trees")
    wanted = recipe.models
    if features.sequences is not None:  # kinds over short histories are baselines, whatever the settings name
        recipe = replace(recipe, models=tuple(dict.fromkeys(["trees", "attention", "both", *wanted])), all_kept=True)
    model = RankModel.fit(features, labels, past.times, cold, recipe, users=past.users, offsets=offsets)
    for kind in model.calibrations:
        _put(found[kind], model.logits(later, kind), model.calibrations[kind], cold_later)
    losses = model.report["log_loss"]
    chosen = min((name for name in losses if name in wanted), key=lambda name: losses[name])
    step("both")
    return {name: own for name, own in found.items() if own}, {**model.report, "model": chosen}


def _put(found: dict[str, tuple[Doubles, Doubles]], logits: Mapping[str, Doubles], curves: Any, cold: Any) -> None:
    after = curves.apply(logits, cold)
    for event, own in logits.items():
        found[event] = sigmoid(own), after[event]


def _logit(rates: Doubles, mean: float) -> Doubles:
    filled = np.clip(np.where(np.isnan(rates), mean, rates), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(filled / (1 - filled)), np.float64)


def fit_logistic(
    values: NDArray[np.float32], labels: NDArray[np.float32], penalty: float = 1.0
) -> Callable[..., Doubles]:
    """Fit logistic regression by Newton's method on standardised features: the mean where one is missing, and flags."""
    known = ~np.isnan(labels)
    own, target = values[known].astype(np.float64), labels[known].astype(np.float64)
    there = ~np.isnan(own)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, own, 0).sum(0) / count
    spread = np.maximum(np.sqrt(np.where(there, (own - mean) ** 2, 0).sum(0) / count), 1e-6)

    def design(some: NDArray[np.float32]) -> Doubles:
        gap = np.isnan(some)
        scaled = np.clip((np.where(gap, mean, some) - mean) / spread, -5, 5)
        return np.concatenate([scaled, gap, np.ones((len(some), 1))], 1)

    x = design(values[known])
    weights = np.zeros(x.shape[1])
    ridge = penalty * np.eye(x.shape[1])
    ridge[-1, -1] = 1e-6
    for _ in range(25):
        p = sigmoid(x @ weights)
        change = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, x.T @ (p - target) + ridge @ weights)
        weights -= change
        if np.abs(change).max() < 1e-6:
            break
    return lambda some: np.asarray(design(some) @ weights, np.float64)


# -- measures


def user_auc(
    users: NDArray[np.int64], scores: Doubles, labels: NDArray[Any]
) -> tuple[Doubles, Doubles, NDArray[np.int64]]:
    """Compute the AUC of each user with both labels, ties counted half: AUCs, numbers of rows, users."""
    order = np.lexsort((scores, users))
    users, scores, labels = users[order], scores[order], labels[order].astype(np.float64)
    own, first, place, count = np.unique(users, return_index=True, return_inverse=True, return_counts=True)
    new = np.r_[True, (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])]
    tie = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    sizes = np.diff(np.r_[starts, len(users)])
    rank = (starts + (sizes + 1) / 2)[tie] - first[place]
    positive = np.bincount(place, labels)
    negative = count - positive
    both = (positive > 0) & (negative > 0)
    summed = np.bincount(place, rank * labels)
    aucs = (summed - positive * (positive + 1) / 2)[both] / (positive * negative)[both]
    return np.asarray(aucs, np.float64), count[both].astype(np.float64), own[both]


def auc(scores: Doubles, labels: NDArray[Any], weights: Doubles | None = None) -> float:
    """Compute the area under the ROC curve, ties counted half, of rows with weights."""
    order = np.argsort(scores, kind="stable")
    return _weighted_auc(scores[order], labels[order], np.ones(len(order)) if weights is None else weights[order])


def _weighted_auc(scores: Doubles, labels: NDArray[Any], weights: Doubles) -> float:
    """AUC of rows in order of score."""
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    positive = np.add.reduceat(weights * (labels > 0), starts)
    negative = np.add.reduceat(weights * (labels <= 0), starts)
    below = np.cumsum(negative) - negative
    total = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / total) if total else float("nan")


def _judge(
    event: str, judged: Rows, predictions: Mapping[str, Mapping[str, tuple[Doubles, Doubles]]], cold: NDArray[np.bool_]
) -> dict[str, Any]:
    """Measure every method on one event."""
    there = ~np.isnan(judged.labels[event])
    labels, users = judged.labels[event][there].astype(np.float64), judged.users[there]
    numbers = np.unique(users, return_inverse=True)[1]
    drawn = np.random.default_rng(0).multinomial(
        int(numbers.max()) + 1, np.full(int(numbers.max()) + 1, 1 / (int(numbers.max()) + 1)), size=RESAMPLES
    )
    methods: dict[str, Any] = {}
    by_user: dict[str, tuple[Doubles, Doubles]] = {}
    for name, own in predictions.items():
        raw, p = (one[there] for one in own[event])
        aucs, rows, _ = user_auc(users, p, labels)
        by_user[name] = aucs * rows, rows
        losses = -(labels * np.log(np.clip(p, 1e-6, 1)) + (1 - labels) * np.log1p(-np.clip(p, 0, 1 - 1e-6)))
        order = np.argsort(p, kind="stable")
        ranked, wanted, of = p[order], labels[order], numbers[order]
        draws = [_weighted_auc(ranked, wanted, one[of].astype(np.float64)) for one in drawn]
        constant = float(np.ptp(p)) < 1e-12
        methods[name] = {
            "auc": _measured(0.5 if constant else auc(p, labels), [0.5] if constant else draws, len(labels)),
            "gauc": _dict(share(by_user[name][0], rows)),
            "log_loss": _measured(float(losses.mean()), _resampled(losses, numbers, drawn), len(labels)),
            "ece": _measured(
                expected_calibration_error(p, labels),
                [expected_calibration_error(p, labels, one[numbers]) for one in drawn],
                len(p),
            ),
            "ece_before": expected_calibration_error(raw, labels),
            "log_loss_before": log_loss(raw, labels),
            "reliability": reliability(p, labels),
        }
    compared = {}
    for name, than in _COMPARED:
        if name in by_user and than in by_user:
            compared[f"{name} less {than}"] = _dict(difference(by_user[than], by_user[name]))
    users_with_both = len(next(iter(by_user.values()))[0])
    rate = float(labels.mean())
    slices = {}
    for name, chosen in (("warm", ~cold[there]), ("cold", cold[there])):
        if chosen.sum() >= FEWEST_COMPARED and 0 < labels[chosen].sum() < chosen.sum():
            slices[name] = {
                method: {
                    "auc": auc(own[event][1][there][chosen], labels[chosen]),
                    "ece": expected_calibration_error(own[event][1][there][chosen], labels[chosen]),
                }
                for method, own in predictions.items()
            } | {"rows": int(chosen.sum())}
    return {
        "rows": len(labels), "rate": rate, "users": users_with_both, "methods": methods, "compared": compared,
        "slices": slices,
    }  # fmt: skip


def _resampled(values: Doubles, numbers: NDArray[Any], drawn: NDArray[Any]) -> list[float]:
    """Mean over rows in each resample of users."""
    sums, rows = np.bincount(numbers, values), np.bincount(numbers)
    return [float(one) for one in (drawn @ sums) / (drawn @ rows)]


def _measured(value: float, draws: list[float], n: int) -> dict[str, Any]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high), "n": n}


def _dict(measure: Measure | None) -> dict[str, Any] | None:
    return None if measure is None else asdict(measure)
