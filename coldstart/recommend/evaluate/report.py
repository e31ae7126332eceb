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

from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import MEASURES, bootstrap
from coldstart.metrics.two_way import Resampled, holm, resample, shares_by_item
from coldstart.recommend.evaluate.data import EvaluationData
from coldstart.recommend.evaluate.measures import SHOWN, ListRow, MethodResult, Task
from coldstart.recommend.evaluate.methods import CEILING, LIST_ROWS, ORACLE, REFERENCE, Method
from coldstart.recommend.evaluate.page import SERVED, markdown
from coldstart.recommend.evaluate.robust import PopularityGroup, found_shares, popularity_groups

if TYPE_CHECKING:
    from coldstart.recommend.evaluate import EvaluateSettings

FALLBACKS = (REFERENCE, "content_mean", "category", "popularity", "random")
"""Reference of all comparisons: the first of these that was evaluated."""
COMPARED = ("recall", "ndcg")
_LEAST_GAP = 0.02  # between reference and ceiling, for a share of it to be reported


@dataclass(frozen=True)
class RecommendReport:
    """Report of an evaluation, in plain values.

    Attributes:
        split: `kind`, `part`, `digest`, `settings` and `counts`.
        counts: users with and without lists, candidates and relevant pairs of each set, new items with an audience.
        ks, shown, audience_k: lengths of lists; reference: method of comparison, or None.
        headline: the measures that are compared, `recall@20` and `ndcg@20`.
        methods: method -> `title`, `role`, `seeds`, `fit_s`, `sets` (set -> measure -> value with intervals, spread,
            and, for the headline, `difference` and `gap`; of lists that are ranked `served`, the difference from those
            as served), `rest` (set -> headline measure -> the same without the most liked items), `found` (set -> share
            of the likes of each popularity group that lists hold, with its interval over items), `lists` (set ->
            coverage, …), `audience`, `strata`.
        most_liked: set -> `items`, the most liked ones of its answers, `share` of them in the relevant pairs, `users`
            and `relevant` pairs that remain without them.
        popularity: set -> groups of its liked items by their likes, `least` to `most`, with their numbers of `items`
            and `relevant` pairs; none where there are too few items to judge.
        cold_share: of the relevant pairs of `all`, those of new items; None without that set.
        left_out: method -> reason why it could not be fitted; checked: kinds of leaks that were checked.
        settings: of the evaluation; notes: caveats of the data.
        count_attributes: `attributes` that count interactions, the `gain` that rests on them, and `lines` that say so;
            see `coldstart.recommend.count_attributes`. None where there are none.
    """

    split: Mapping[str, Any]
    counts: Mapping[str, Any]
    ks: Sequence[int]
    shown: int
    audience_k: int
    reference: str | None
    headline: Sequence[str]
    methods: Mapping[str, Mapping[str, Any]]
    most_liked: Mapping[str, Mapping[str, Any]]
    popularity: Mapping[str, Sequence[Mapping[str, Any]]]
    cold_share: float | None
    left_out: Mapping[str, str]
    checked: Sequence[str]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()
    count_attributes: Mapping[str, Any] | None = None

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
    methods_in_order: Sequence[Method | ListRow],
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
    rest = {name: _rest(name, task, results, headline, reference, settings) for name in task.candidates}
    groups = {name: popularity_groups(_likes(task, name)) for name in task.candidates}
    shares = {name: _found(name, own, task, results, k, settings) for name, own in groups.items()}
    methods = {
        one.name: {
            "title": one.title,
            "role": one.role,
            "seeds": settings.seeds if one.is_seeded else 1,
            "fit_s": results[one.name].fit_s,
            "sets": {name: found[one.name] for name, found in sets.items()},
            "rest": {name: found[one.name] for name, found in rest.items()},
            "found": {name: found[one.name] for name, found in shares.items()},
            "lists": results[one.name].lists,
            "audience": _audience(results[one.name]),
            "strata": _strata(results[one.name], data, task, k),
        }
        for one in methods_in_order
    }
    counts = _counts(data, task)
    few = {name for name, of in counts["sets"].items() if of["relevant"] < FEWEST_COMPARED}
    _compare(methods, drawn, measures, reference, headline, few)
    _compare_served(methods, drawn, measures, headline)
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
        {name: _most_liked(name, data, task) for name in task.candidates},
        {name: [_group(one) for one in own] for name, own in groups.items()},
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


def _rest(
    name: str,
    task: Task,
    results: Mapping[str, MethodResult],
    headline: Sequence[str],
    reference: str | None,
    settings: EvaluateSettings,
) -> dict[str, dict[str, Any]]:
    """Method -> headline measure -> value and intervals without the most liked items, and the difference."""
    relevant = task.remaining_in(name)
    kept = np.diff(relevant.indptr) > 0
    if not kept.any():
        return {method: {} for method in results}
    columns = [(one, measure) for one in results.values() for measure in headline]
    values = np.stack([one.rest_values[name][measure][kept] for one, measure in columns], axis=1)
    parts = np.stack([one.rest_parts[name][measure] for one, measure in columns], axis=1)
    drawn = resample(values, parts, shares_by_item(relevant), draws=settings.draws, seed=settings.seed)
    names = list(results)
    found: dict[str, dict[str, Any]] = {}
    for place, method in enumerate(names):
        found[method] = {}
        for at, measure in enumerate(headline):
            column = place * len(headline) + at
            found[method][measure] = drawn.interval(column).to_dict()
            if reference is not None and method != reference:
                base = names.index(reference) * len(headline) + at
                found[method][measure]["difference"] = drawn.difference(column, base)[0].to_dict()
    return found


def _most_liked(name: str, data: EvaluationData, task: Task) -> dict[str, Any]:
    rest, whole = task.remaining_in(name), task.relevant_in(name).nnz
    return {
        "items": [data.content.item_ids[place] for place in task.most_liked[name]],
        "share": 1 - rest.nnz / whole,
        "users": int((np.diff(rest.indptr) > 0).sum()),
        "relevant": rest.nnz,
    }


def _likes(task: Task, name: str) -> NDArray[np.int64]:
    """Count the relevant pairs of each item in a candidate set, int64 [I]."""
    return np.asarray(np.diff(task.relevant_in(name).tocsc().indptr), np.int64)


def _found(
    name: str,
    groups: Sequence[PopularityGroup],
    task: Task,
    results: Mapping[str, MethodResult],
    k: int,
    settings: EvaluateSettings,
) -> dict[str, list[dict[str, float]]]:
    """Method -> share of the likes of each popularity group that the first `k` places hold."""
    found = [one.parts[name][f"found@{k}"] for one in results.values()]
    shares = found_shares(found, groups, _likes(task, name), draws=settings.draws, seed=settings.seed)
    return {method: [asdict(one) for one in own] for method, own in zip(results, shares, strict=True)}


def _group(group: PopularityGroup) -> dict[str, int]:
    return {"least": group.least, "most": group.most, "items": len(group.places), "relevant": group.likes}


def _measures_of_set(
    name: str, found: Resampled, results: Mapping[str, MethodResult], measures: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> measure -> value, intervals and spread of the seeds."""
    return {
        method: {
            measure: {
                **found.interval(place * len(measures) + column).to_dict(),
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
                cell["difference"] = {**sure.to_dict(), "p": p_value, "p_holm": None}
                if methods[method]["role"] not in (CEILING, SERVED) and name not in few:
                    grid.append((cell["difference"], p_value))
    for (cell, _), corrected in zip(grid, holm([p_value for _, p_value in grid]), strict=True):
        cell["p_holm"] = corrected


def _compare_served(
    methods: Mapping[str, Any], drawn: Mapping[str, Resampled], measures: Sequence[str], headline: Sequence[str]
) -> None:
    """Add to every headline measure of a row of lists its difference from the list as served: `served`."""
    names, first = list(methods), LIST_ROWS[0]
    if first not in methods:
        return
    for name, found in drawn.items():
        for measure in headline:
            columns = {method: names.index(method) * len(measures) + measures.index(measure) for method in names}
            for method in LIST_ROWS[1:]:
                if method in methods:
                    sure, _ = found.difference(columns[method], columns[first])
                    methods[method]["sets"][name][measure]["served"] = sure.to_dict()


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
