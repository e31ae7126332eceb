"""Report an ablation as plain records and as a Markdown table: what each step finds, adds and costs.

A gain is over the step before it that was evaluated. Its p-value is corrected for all gains of its column (Holm).
Seconds are those that a step needs beyond the step before: of its items' rows, for all items evaluated, and of fits,
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from coldstart.ablation.steps import LadderSettings, MissingStep, SplitResult, Step
from coldstart.metrics.ranking import bootstrap
from coldstart.metrics.two_way import Resampled, TwoWayInterval, holm, resample

_THOUSAND = 1000.0
_COLUMNS = ("lists", "aligned")


@dataclass(frozen=True)
class Estimate:
    """Value with its 95 % interval over `users` or over `items`, whichever is wider."""

    value: float
    low: float
    high: float
    over: str


@dataclass(frozen=True)
class Gain(Estimate):
    """Paired difference; `p` two-sided, and corrected for all gains of its column (`holm`)."""

    p: float
    holm: float


@dataclass(frozen=True)
class Cost:
    """Cost of one piece of work.

    Attributes:
        per_item_s: compute seconds an item; None where unknown.
        once_s: seconds of a fit, whatever the number of items.
        known_by: source of the figures, in words.
    """

    name: str
    per_item_s: float | None = 0.0
    once_s: float = 0.0
    known_by: str = ""


@dataclass(frozen=True)
class StepResult:
    """Result of one evaluated step.

    Attributes:
        recall: recall of lists by content alone (of the last step: by the selected mapper); ndcg: of the same lists.
        aligned: recall of a ridge on the same content; of the last step its own.
        before: step that gains are over; None for the first.
        covered: share of the items that have what the step adds.
        seconds: for all items evaluated, beyond the step before; once_s: of them fits; None where unknown.
        per_thousand_s: for a thousand further items, without fits.
        total_s: of the step and all that it depends on.
        gain_per_thousand_s: gain in recall per thousand seconds; None without a gain or where unknown.
    """

    name: str
    about: str
    blocks: tuple[str, ...]
    recall: Estimate
    ndcg: Mapping[str, float]
    aligned: Estimate
    before: str | None = None
    gain: Gain | None = None
    aligned_gain: Gain | None = None
    covered: float = 1.0
    seconds: float | None = None
    once_s: float = 0.0
    per_thousand_s: float | None = None
    total_s: float | None = None
    gain_per_thousand_s: float | None = None


@dataclass(frozen=True)
class LadderReport:
    """Report of an ablation.

    Attributes:
        order: names of all steps, evaluated or missing.
        caveats: limits of the figures, a sentence each.
        about: splits and settings, as JSON values.
    """

    order: tuple[str, ...]
    steps: tuple[StepResult, ...]
    missing: tuple[MissingStep, ...]
    costs: tuple[Cost, ...]
    counts: Mapping[str, int]
    k: int
    labels: bool
    chosen: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def build_report(
    splits: Sequence[SplitResult],
    steps: Sequence[Step],
    settings: LadderSettings,
    *,
    missing: Sequence[MissingStep] = (),
    costs: Mapping[str, Cost] | None = None,
    covered: Mapping[str, float] | None = None,
    catalogue: int = 0,
    order: Sequence[str] = (),
    caveats: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LadderReport:
    """Build the report of several splits: lists of one user, and items new in several splits, are resampled together.

    Args:
        splits: over the same users and items, one at least.
        missing: steps without data; those that could not be fitted are added.
        costs: name -> cost, for `Step.needs`; a fit of behaviour is added as measured.
        covered: step -> share of the items that have what it adds.
        catalogue: items that seconds are for.
        order: names of all steps; by default of those given.
    """
    unfit = {one.name: one for result in splits for one in result.missing}
    done = [step for step in steps if step.name not in unfit]
    every = {one.name: one for one in (*missing, *unfit.values())}
    known = dict(costs or {})
    for step in done:
        if step.is_behaviour:
            fits = [result.lists[step.name].fit_s for result in splits]
            known_by = "measured" if len(fits) == 1 else f"measured, mean of {len(fits)} fits"
            known[step.name] = Cost(step.name, 0.0, float(np.mean(fits)), known_by)
    drawn = _resampled_recall(splits, [step.name for step in done], settings.k, resamples, seed)
    gains = {column: _gains(drawn, len(done), column) for column in _COLUMNS}
    found: list[StepResult] = []
    for place, step in enumerate(done):
        before = done[place - 1] if place else None
        own = StepResult(
            step.name,
            step.about,
            step.blocks,
            _estimate(drawn.interval(place)),
            asdict(bootstrap(np.concatenate([result.lists[step.name].ndcg for result in splits]), seed=seed)),
            _estimate(drawn.interval(len(done) + place)),
            covered=(covered or {}).get(step.name, 1.0),
        )
        if before is not None:
            plain, aligned = (gains[column][place - 1] for column in _COLUMNS)
            own = replace(own, before=before.name, gain=plain, aligned_gain=aligned)
        found.append(_with_seconds(own, step, before, known, catalogue))
    users = np.concatenate([result.users for result in splits])
    counts = {
        "users": len(np.unique(users)),
        "lists": len(users),
        "new_items": sum(result.items for result in splits),
        "training_items": splits[0].training,
        "catalogue": catalogue,
        "splits": len(splits),
    }
    names = tuple(order) or tuple(step.name for step in steps)
    return LadderReport(
        names,
        tuple(found),
        tuple(every[name] for name in dict.fromkeys((*names, *every)) if name in every),
        tuple(known.values()),
        counts,
        settings.k,
        settings.labels,
        tuple(result.chosen for result in splits if result.chosen is not None),
        tuple(caveats),
        about or {},
    )


def _resampled_recall(
    splits: Sequence[SplitResult], names: Sequence[str], k: int, resamples: int, seed: int
) -> Resampled:
    """Resample recall of every step by content, then of every step aligned: one column each.

    A user's recall is the mean over its lists, one a split; an item's part is its contribution to those means.
    """
    from scipy.sparse import diags

    users = np.concatenate([result.users for result in splits])
    _, own, lists = np.unique(users, return_inverse=True, return_counts=True)
    starts = np.cumsum([0, *(len(result.users) for result in splits)])
    columns = [(column, name) for column in _COLUMNS for name in names]
    values = np.zeros((len(lists), len(columns)))
    parts = np.zeros((splits[0].relevant.shape[1], len(columns)))
    shares = np.zeros(len(parts))
    for result, start, stop in zip(splits, starts[:-1], starts[1:], strict=True):
        mine = own[start:stop]
        wanted = np.diff(result.relevant.indptr)
        weights = 1 / lists[mine]
        right = (result.relevant > 0).astype(np.float64)
        shares += np.asarray((diags(weights / wanted) @ right).sum(axis=0)).ravel()
        for place, (column, name) in enumerate(columns):
            adds = diags(weights / np.minimum(wanted, k)) @ getattr(result, column)[name].hits.astype(np.float64)
            parts[:, place] += np.asarray(adds.sum(axis=0)).ravel()
            np.add.at(values[:, place], mine, np.asarray(adds.sum(axis=1)).ravel())
    return resample(values, parts, shares, draws=resamples, seed=seed)


def _gains(drawn: Resampled, steps: int, column: str) -> list[Gain]:
    """Compute the gain of every step but the first over the one before it."""
    first = steps * _COLUMNS.index(column)
    found = [drawn.difference(first + place, first + place - 1) for place in range(1, steps)]
    corrected = holm([p for _, p in found])
    return [
        Gain(one.value, one.low, one.high, one.over, p, raised)
        for (one, p), raised in zip(found, corrected, strict=True)
    ]


def _estimate(found: TwoWayInterval) -> Estimate:
    return Estimate(found.value, found.low, found.high, found.over)


def _with_seconds(
    found: StepResult, step: Step, before: Step | None, costs: Mapping[str, Cost], items: int
) -> StepResult:
    added = [costs[name] for name in sorted(step.needs - (before.needs if before else frozenset())) if name in costs]
    if step.is_behaviour:
        added.append(costs[step.name])
    whole = [costs[name] for name in sorted(step.needs) if name in costs]
    whole += [costs[step.name]] if step.is_behaviour else []
    per_item, once = _per_item(added), sum(one.once_s for one in added)
    every = _per_item(whole)
    spent = None if per_item is None else per_item * items + once
    gained = None if found.gain is None or found.gain.value <= 0 or not spent else found.gain.value / spent * _THOUSAND
    return replace(
        found,
        seconds=spent,
        once_s=once,
        per_thousand_s=None if per_item is None else per_item * _THOUSAND,
        total_s=None if every is None else every * items + sum(one.once_s for one in whole),
        gain_per_thousand_s=gained,
    )


def _per_item(costs: Sequence[Cost]) -> float | None:
    found = [one.per_item_s for one in costs]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def markdown(known: Mapping[str, Any]) -> str:
    """Format the table of `LadderReport.to_dict`, a line each step; missing steps with their reason."""
    by_name = {one["name"]: one for one in known["steps"]}
    reasons = {one["name"]: one["reason"] for one in known["missing"]}
    k = known["k"]
    lines = [
        f"| step | recall@{k} | gain | p (Holm) | aligned recall@{k} | aligned gain | p (Holm) | seconds "
        "| per 1,000 items | gain per 1,000 s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in known["order"]:
        if name in reasons:
            lines.append(f"| {_plain(name)} | not evaluated: {_plain(reasons[name])} |" + " |" * 8)
            continue
        one = by_name[name]
        cells = [
            _plain(name),
            _value(one["recall"]),
            _signed(one["gain"]),
            _p(one["gain"]),
            _value(one["aligned"]),
            _signed(one["aligned_gain"]),
            _p(one["aligned_gain"]),
            seconds(one["seconds"]),
            seconds(one["per_thousand_s"]),
            "" if one["gain_per_thousand_s"] is None else f"{one['gain_per_thousand_s']:.3g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def seconds(value: float | None) -> str:
    """Format seconds with significant digits; a question mark where unknown."""
    if value is None:
        return "?"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _value(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _signed(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def _p(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else ("< 0.01" if found["holm"] < 0.01 else f"{found['holm']:.2f}")


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
