"""Rows of an evaluation of all capabilities: one question each, a value, its baseline and a verdict. Knows no items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import Interval

Verdict = Literal["better", "level", "worse", "few", "not_applicable", "not_fitted", "left_out", "failed"]

VERDICTS: Mapping[Verdict, str] = {
    "better": "better than the baseline",
    "level": "level with the baseline",
    "worse": "worse than the baseline",
    "few": "too few to judge",
    "not_applicable": "not applicable",
    "not_fitted": "not fitted",
    "left_out": "left out",
    "failed": "failed with an error",
}
"""Verdict -> words for it."""
JUDGED = frozenset({"better", "level", "worse"})
"""Verdicts that compare a value with its baseline."""


@dataclass(frozen=True)
class Baseline:
    """Baseline of a row: its name in words, and its value; the bounds equal the value where it is known exactly."""

    name: str
    interval: Interval


@dataclass(frozen=True)
class Row:
    """One question to a capability and its answer.

    Attributes:
        capability: name, as `--only` takes it.
        question: in words of a shop, such as `A photo finds its product among all 65`.
        statement: the answer up to its value, such as `Search by photo finds the right product first in`.
        measure: name in the field, such as `recall@1`; is_share: a share of `n`, in percent.
        n: queries, items or claims behind the value; of: noun for them.
        groups: of them that are drawn together, such as the products of pictures; None where each is alone.
        value: with its 95 % interval; None where nothing was measured.
        difference: paired, the value less the baseline; None where the two were not measured on the same.
        verdict: see `VERDICTS`; why: reason for a verdict that compares nothing.
        fewer_is_better: the value counts faults.
        method: how it was measured, and what was held out.
        command: that measures this alone and in detail, or does what is missing.
        headline: stands among the sentences at the top; the first row of a capability does in any case.
    """

    capability: str
    question: str
    statement: str = ""
    measure: str = ""
    n: int = 0
    of: str = "queries"
    groups: int | None = None
    value: Interval | None = None
    baseline: Baseline | None = None
    difference: Interval | None = None
    verdict: Verdict = "not_applicable"
    why: str = ""
    is_share: bool = True
    fewer_is_better: bool = False
    method: str = ""
    command: str = ""
    headline: bool = False

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        words = VERDICTS[self.verdict]
        if self.value is None:
            return f"{self.statement or self.question}: {words}{f': {self.why}' if self.why else ''}"
        value = self._shown(self.value.value)
        value, unit = (f"{value} %", " %") if self.is_share else (f"{self.measure} {value}", "")
        between = f"({self._shown(self.value.low)} to {self._shown(self.value.high)}{unit})"
        other = f"; {self.baseline.name} {self._shown(self.baseline.interval.value)}{unit}" if self.baseline else ""
        has_why = self.verdict == "level" or (self.verdict == "few" and self.groups is not None)
        why = f" ({self.why})" if self.why and has_why else ""
        return f"{self.statement} {value} {between}, n = {self.n:,} {self.of}{other}: {words}{why}"

    def _shown(self, value: float) -> str:
        return percent(value) if self.is_share else f"{value:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values, with the sentence."""
        return {**asdict(self), "sentence": self.sentence}


def percent(share: float) -> str:
    """Format a share in percent, without the sign; with a decimal where rounding would make it none or all."""
    value = 100 * share
    if 0 < value < 0.05:
        return "< 0.1"
    near_end = 0 < value < 1 or 99 < value < 100
    return f"{value:.1f}" if near_end else f"{value:.0f}"


def not_fitted(capability: str, question: str, fit: str) -> Row:
    """Build the row of a capability without a fit; `fit` is the command that makes one."""
    return Row(capability, question, verdict="not_fitted", why=f"`{fit}` fits it", command=fit)


def judged(row: Row) -> Row:
    """Set the verdict of a row that has a value.

    With fewer than `FEWEST_COMPARED`, or of fewer groups, it is too few. A paired difference decides
    where there is one, by its interval; else the two intervals do, which have to be apart: the stricter rule.
    """
    if row.value is None:
        raise ValueError(f"{row.question!r} has no value to judge")
    independent = row.n if row.groups is None else min(row.n, row.groups)
    if independent < FEWEST_COMPARED:
        groups = "" if row.groups is None or row.groups >= row.n else f" of {row.groups:,} groups of items"
        return replace(row, verdict="few", why=f"{row.n:,} {row.of}{groups}, and {FEWEST_COMPARED} are needed")
    if row.difference is not None:
        low, high = row.difference.low, row.difference.high
    elif row.baseline is not None:
        other = row.baseline.interval
        low, high = row.value.low - other.high, row.value.high - other.low
    else:
        low, high = 0.0, 0.0
    if row.fewer_is_better:
        low, high = -high, -low
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "level"
    overlap = verdict == "level" and row.difference is None and row.baseline is not None
    return replace(row, verdict=verdict, why="the two intervals overlap" if overlap else row.why)


def exactly(value: float) -> Interval:
    """Make an interval of a value that is known without sampling, such as chance."""
    return Interval(value, value, value)


def interval_of(found: Mapping[str, Any]) -> Interval:
    """Read an interval of a report in plain values."""
    return Interval(found["value"], found["low"], found["high"])
