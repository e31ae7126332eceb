"""Report an evaluation: every measure with its intervals, and differences between methods with corrected p-values.

A few hundred new items carry a test, so that resampling users alone makes intervals too narrow: users and items are
both resampled, and the wider interval is shown. Differences are of means, paired, by bootstrap (Efron & Tibshirani
1993), not by rank tests; p-values are corrected for the number of comparisons (Holm).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.intervals import FEWEST_COMPARED, resampled_rows
from coldstart.metrics.ranking import MEASURES, Interval, bootstrap
from coldstart.recommend.evaluate.data import EvaluationData
from coldstart.recommend.evaluate.measures import SHOWN, MethodResult, Task, shares_by_item
from coldstart.recommend.evaluate.methods import CEILING, ORACLE, REFERENCE, Method
from coldstart.recommend.evaluate.page import markdown

if TYPE_CHECKING:
    from coldstart.recommend.evaluate import EvaluateSettings

FALLBACKS = (REFERENCE, "content_mean", "category", "popularity", "random")
"""Reference of all comparisons: the first of these that was evaluated."""
COMPARED = ("recall", "ndcg")
_LEAST_GAP = 0.02  # between reference and ceiling, for a share of it to be reported
Floats = NDArray[np.float64]
_NUMBERS = 1 << 22  # row numbers drawn at a time


@dataclass(frozen=True)
class RecommendReport:
    """Report of an evaluation, in plain values.

    Attributes:
        split: `kind`, `part`, `digest`, `settings` and `counts`.
        counts: users with and without lists, candidates and relevant pairs of each set, new items with an audience.
        ks, shown, audience_k: lengths of lists; reference: method of comparison, or None.
        headline: the measures that are compared, `recall@20` and `ndcg@20`.
        methods: method -> `title`, `role`, `seeds`, `fit_s`, `sets` (set -> measure -> value with intervals, spread,
            and, for the headline, `difference` and `gap`), `lists` (set -> coverage, …), `audience`, `strata`.
        cold_share: of the relevant pairs of `all`, those of new items; None without that set.
        left_out: method -> reason why it could not be fitted; checked: kinds of leaks that were checked.
        settings: of the evaluation; notes: caveats of the data.
    """

    split: Mapping[str, Any]
    counts: Mapping[str, Any]
    ks: Sequence[int]
    shown: int
    audience_k: int
    reference: str | None
    headline: Sequence[str]
    methods: Mapping[str, Mapping[str, Any]]
    cold_share: float | None
    left_out: Mapping[str, str]
    checked: Sequence[str]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        """Format the tables as Markdown, one for each candidate set."""
        return markdown(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values; unknown ones are None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def build_report(
    data: EvaluationData,
    task: Task,
    methods_in_order: Sequence[Method],
    results: Mapping[str, MethodResult],
    left_out: Mapping[str, str],
    checked: Sequence[str],
    settings: EvaluateSettings,
) -> RecommendReport:
    """Build the report of an evaluation from the results of its methods."""
    k = 20 if 20 in settings.ks else settings.ks[0]
    headline = [f"{name}@{k}" for name in COMPARED]
    reference = next((name for name in FALLBACKS if name in results), None)
    measures = [f"{measure}@{k}" for k in settings.ks for measure in MEASURES]
    drawn = {name: _resampled(name, task, results, measures, settings) for name in task.candidates}
    sets = {name: _measures_of_set(name, found, results, measures) for name, found in drawn.items()}
    methods = {
        one.name: {
            "title": one.title,
            "role": one.role,
            "seeds": settings.seeds if one.is_seeded else 1,
            "fit_s": results[one.name].fit_s,
            "sets": {name: found[one.name] for name, found in sets.items()},
            "lists": results[one.name].lists,
            "audience": _audience(results[one.name]),
            "strata": _strata(results[one.name], data, task, k),
        }
        for one in methods_in_order
    }
    counts = _counts(data, task)
    few = {name for name, of in counts["sets"].items() if of["relevant"] < FEWEST_COMPARED}
    _compare(methods, drawn, measures, reference, headline, few)
    share = None
    if "all" in task.candidates:
        wanted = np.asarray(task.relevant.sum(axis=0)).ravel()
        share = float(wanted[data.cold].sum() / wanted.sum())
    split = {
        "kind": data.split.kind,
        "part": data.part,
        "digest": data.split.digest(),
        "settings": dict(data.split.settings),
        "counts": data.split.counts(),
    }
    return RecommendReport(
        split,
        counts,
        settings.ks,
        SHOWN,
        task.audience_k,
        reference,
        headline,
        methods,
        share,
        dict(left_out),
        list(checked),
        asdict(settings),
    )


def _counts(data: EvaluationData, task: Task) -> dict[str, Any]:
    with_answer = np.diff(data.relevant.indptr) > 0
    return {
        "users": len(task.users),
        "users_without_history": int(with_answer.sum()) - len(task.users),
        "audience_items": len(task.audience_items),
        "sets": {
            name: {
                "candidates": int(mask.sum()),
                "relevant": task.relevant_in(name).nnz,
                "users": int((np.diff(task.relevant_in(name).indptr) > 0).sum()),
            }
            for name, mask in task.candidates.items()
        },
    }


def _resampled(
    name: str, task: Task, results: Mapping[str, MethodResult], measures: Sequence[str], settings: EvaluateSettings
) -> Resampled:
    """Resample users and items; columns are every method by every measure, methods first."""
    relevant = task.relevant_in(name)
    kept = np.diff(relevant.indptr) > 0
    values = np.stack([one.values[name][measure][kept] for one in results.values() for measure in measures], axis=1)
    parts = np.stack([one.parts[name][measure] for one in results.values() for measure in measures], axis=1)
    return resample(values, parts, shares_by_item(relevant), draws=settings.draws, seed=settings.seed)


def _measures_of_set(
    name: str, found: Resampled, results: Mapping[str, MethodResult], measures: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> measure -> value, intervals and spread of the seeds."""
    return {
        method: {
            measure: {
                **_interval_dict(found.interval(place * len(measures) + column)),
                "seeds": _spread(one.spread[name][measure]),
            }
            for column, measure in enumerate(measures)
        }
        for place, (method, one) in enumerate(results.items())
    }


def _compare(
    methods: Mapping[str, Any],
    drawn: Mapping[str, Resampled],
    measures: Sequence[str],
    reference: str | None,
    headline: Sequence[str],
    few: Collection[str],
) -> None:
    """Add to every headline measure its difference from the reference, and its share of the gap to the ceiling.

    A difference in a set with too `few` relevant pairs has no corrected p, so that nothing marks it.
    """
    if reference is None:
        return
    names = list(methods)
    grid: list[tuple[dict[str, Any], float]] = []
    for name, found in drawn.items():
        for measure in headline:
            columns = {method: names.index(method) * len(measures) + measures.index(measure) for method in names}
            base = columns[reference]
            gap = float(found.value[columns[ORACLE]] - found.value[base]) if ORACLE in columns else math.nan
            for method, own in columns.items():
                cell = methods[method]["sets"][name][measure]
                cell["gap"] = float(found.value[own] - found.value[base]) / gap if gap > _LEAST_GAP else None
                if method == reference:
                    continue
                sure, p_value = found.difference(own, base)
                cell["difference"] = {**_interval_dict(sure), "p": p_value, "p_holm": None}
                if methods[method]["role"] != CEILING and name not in few:
                    grid.append((cell["difference"], p_value))
    for (cell, _), corrected in zip(grid, holm([p_value for _, p_value in grid]), strict=True):
        cell["p_holm"] = corrected


def _interval_dict(found: TwoWayInterval) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "over": found.over,
        "users": [found.users.low, found.users.high],
        "items": [found.items.low, found.items.high],
    }


def _spread(means: Sequence[float]) -> dict[str, float] | None:
    if len(means) < 2:
        return None
    return {"deviation": float(np.std(means, ddof=1)), "least": min(means), "most": max(means), "count": len(means)}


def _audience(results: MethodResult) -> dict[str, float] | None:
    return asdict(bootstrap(results.audience)) if len(results.audience) else None


def _strata(results: MethodResult, data: EvaluationData, task: Task, k: int) -> dict[str, Any]:
    """Stratify recall by the length of the history, and the share of relevant pairs found by spaces of the item."""
    name = next(iter(task.candidates))
    values = results.values[name][f"recall@{k}"]
    lengths = np.diff(task.histories.indptr)
    known = np.isfinite(values)
    bounds = np.unique(np.quantile(lengths[known], [0, 1 / 3, 2 / 3, 1], method="nearest"))
    users = []
    for place, (low, high) in enumerate(itertools.pairwise(bounds)):
        chosen = known & (lengths > low if place else lengths >= low) & (lengths <= high)
        if chosen.any():
            first = int(low) + 1 if place else int(low)
            users.append({"from": first, "to": int(high), "users": int(chosen.sum()),
                          "value": float(values[chosen].mean())})  # fmt: skip
    found = results.parts[name][f"found@{k}"]
    wanted = np.asarray(task.relevant_in(name).sum(axis=0)).ravel()
    items = []
    for space in data.content.blocks:
        present = data.content.present(space)
        for has in (True, False):
            chosen = (present == has) & (wanted > 0)
            if chosen.any():
                items.append({"space": space, "present": has, "items": int(chosen.sum()),
                              "value": float(found[chosen].sum() / wanted[chosen].sum())})  # fmt: skip
    return {"set": name, "measure": f"recall@{k}", "users": users, "items": items}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class TwoWayInterval:
    """Value with intervals over users and over items; `low` and `high` are of the wider, which `over` names."""

    value: float
    users: Interval
    items: Interval

    @property
    def over(self) -> str:
        """Name of the wider interval: `users` or `items`."""
        return "users" if self.users.high - self.users.low >= self.items.high - self.items.low else "items"

    @property
    def low(self) -> float:
        """Lower bound of the wider interval."""
        return self.users.low if self.over == "users" else self.items.low

    @property
    def high(self) -> float:
        """Upper bound of the wider interval."""
        return self.users.high if self.over == "users" else self.items.high


@dataclass(frozen=True)
class Resampled:
    """Means of M columns, and of every resample: value float64 [M], by_users and by_items float64 [draws, M]."""

    value: Floats
    by_users: Floats
    by_items: Floats

    def interval(self, column: int, level: float = 0.95) -> TwoWayInterval:
        """Compute the intervals of a column. A resample of items is a ratio and is cut at 1."""
        items = np.minimum(self.by_items[:, column], 1)
        return self._sure(self.value[column], self.by_users[:, column], items, level)

    def difference(self, column: int, reference: int, level: float = 0.95) -> tuple[TwoWayInterval, float]:
        """Compute column less reference with its intervals, and the greater of its two-sided p-values.

        p is by the normal distribution of the difference over the deviation of its resamples: counting resamples beyond
        zero cannot give less than 1 / draws, too coarse for a correction over a long table.
        """
        users = self.by_users[:, column] - self.by_users[:, reference]
        items = self.by_items[:, column] - self.by_items[:, reference]
        value = float(self.value[column] - self.value[reference])
        return self._sure(value, users, items, level), max(_p_value(value, users), _p_value(value, items))

    @staticmethod
    def _sure(value: float, users: Floats, items: Floats, level: float) -> TwoWayInterval:
        bounds = [(1 - level) / 2, (1 + level) / 2]
        own = [Interval(float(value), *map(float, np.quantile(draws, bounds))) for draws in (users, items)]
        return TwoWayInterval(float(value), *own)


def resample(values: Floats, parts: Floats, shares: Floats, *, draws: int = 2000, seed: int = 0) -> Resampled:
    """Resample users, and items, with replacement; the same resamples for all columns, so that columns compare.

    Lists are fixed: an item drawn twice contributes twice. A resample of items is the ratio of their contributions to
    their shares.

    Args:
        values: [U, M], a user's measure by each column; finite.
        parts: [I, M], contribution of each item to the sum of a column; shares: [I], share of each item in the users.

    Raises:
        ValueError: there are no users, or no item has a share.
    """
    if not len(values) or not shares.sum() > 0:
        raise ValueError("there is nothing to resample")
    kept = shares > 0
    parts, shares = parts[kept], shares[kept]
    rng = np.random.default_rng(seed)
    by_users = _resampled_sums(values, draws, rng) / len(values)
    both = _resampled_sums(np.concatenate([parts, shares[:, None]], axis=1), draws, rng)
    by_items = both[:, :-1] / both[:, -1:] * (shares.sum() / len(values))
    return Resampled(values.mean(axis=0), by_users, by_items)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (Scandinavian J. of Statistics, 1979)."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, np.float64)[order] * (len(order) - np.arange(len(order)))
    found = np.empty(len(order))
    found[order] = np.minimum(np.maximum.accumulate(raised), 1) if len(order) else raised
    return [float(value) for value in found]


def _resampled_sums(rows: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sum rows [N, M] over resamples of as many, [draws, M]."""
    count = len(rows)
    out = np.empty((draws, rows.shape[1]))
    for part, drawn in resampled_rows(count, draws, rng, block=_NUMBERS):
        size = len(drawn)
        places = drawn + count * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        out[part] = counts.astype(np.float64) @ rows
    return out


def _p_value(value: float, draws: Floats) -> float:
    """Compute a two-sided p-value; 1 for no difference, 1 / draws where all resamples are equal."""
    deviation = float(draws.std())
    if deviation <= 1e-12:
        return 1.0 if abs(value) <= 1e-12 else 1 / len(draws)
    return math.erfc(abs(value) / deviation / math.sqrt(2))
