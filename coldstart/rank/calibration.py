"""Calibrate logits to probabilities, and measure how far probabilities are from shares.

Platt's sigmoid ("Probabilistic Outputs for Support Vector Machines", 1999: two numbers, with its targets that keep away
from 0 and 1) or, from 5,000 rows on, isotonic regression; by event, and apart for warm and cold items.

The model that is used is not the one whose errors are known: it was fitted on those rows too. So logits are of two
periods, each of a model fitted on all that came before it. A calibration of the first has to lower the log loss of the
second, with an interval above zero; otherwise the logits stay as they are. One that held is fitted on both.

The shape is calibrated, but not the level: the logits are first moved to the mean rate of their period. The share of
positives moves from day to day more than a few days can tell, and the model that is used has the level of all its days.

An interval of a probability is of the mean outcome of showings with that prediction on a day to come. Its width is of
two parts, on the scale of logits: the error of a line through these rows, with users as clusters (sandwich estimator,
Liang and Zeger, Biometrika 1986), and how far the level of days that a model was not fitted on stood from its own,
which is taken to be drawn about 0 with an unknown spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ISOTONIC_ROWS = 5_000
"""Rows from which on a slice is calibrated by isotonic regression."""
FEWEST_ROWS = 200
"""Rows below which a slice takes the calibration of all rows, and all rows take none."""
FEWEST_POSITIVE = 20
BINS = 15
SLICES = ("warm", "cold")
_EPSILON = 1e-6
_WIDE = 1.96
"""Standard errors of a 95 % interval."""

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """One calibration: a line through knots (logit, probability), rising; or sigmoid(a logit + b).

    Attributes:
        error: variances of slope and level of a line through the calibrated logits, and their covariance between them:
            (slope, covariance, level); the level's holds how days move.
        days: days on which the level was judged; moved: root mean square of their levels, in logits.
    """

    rows: int
    positive: int
    knots: tuple[list[float], list[float]] | None = None
    platt: tuple[float, float] | None = None
    error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    days: int = 0
    moved: float = 0.0

    @property
    def method(self) -> str:
        return "isotonic" if self.knots is not None else "as it is" if self.platt == (1.0, 0.0) else "platt"

    def apply(self, logits: Doubles) -> Doubles:
        if self.knots is not None:
            return np.asarray(np.interp(logits, *self.knots), np.float64)
        assert self.platt is not None
        return sigmoid(self.platt[0] * logits + self.platt[1])

    def interval(self, p: Doubles) -> tuple[Doubles, Doubles]:
        """Compute the ends of the 95 % intervals of calibrated probabilities, float64 [N] each."""
        slope, both, level = self.error
        x = _logits(p)
        wide = _WIDE * np.sqrt(np.maximum(slope * x**2 + 2 * both * x + level, 0))
        return sigmoid(x - wide), sigmoid(x + wide)

    def with_moves(self, days: int, moved: float) -> Curve:
        """Add how the level moves from day to day to its error: with the quantile of Student's t for so few days."""
        from scipy.special import stdtrit

        slope, both, level = self.error
        wide = float(stdtrit(days, 0.975)) / _WIDE if days else 0.0
        return replace(self, error=(slope, both, level + (wide * moved) ** 2), days=days, moved=moved)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """Curves by event and slice, `warm`, `cold` or `all`; an event without one keeps its sigmoid, uncalibrated."""

    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)

    def calibrated(self, event: str) -> bool:
        return bool(self.curves.get(event))

    def apply(self, logits: Mapping[str, Doubles], cold: Flags) -> dict[str, Doubles]:
        """Turn logits into probabilities, float64 [N] an event."""
        found: dict[str, Doubles] = {}
        for event, own in logits.items():
            curves, values = self.curves.get(event, {}), sigmoid(own)
            for name, chosen in zip(SLICES, (~cold, cold), strict=True):
                curve = curves.get(name, curves.get("all"))
                if curve is not None and chosen.any():
                    values[chosen] = curve.apply(own[chosen])
            found[event] = np.clip(values, _EPSILON, 1 - _EPSILON)
        return found

    def interval(self, event: str, p: Doubles, cold: Flags) -> tuple[Doubles, Doubles] | None:
        """Compute the ends of 95 % intervals of an event's probabilities, float64 [N] each; None without a curve."""
        curves = self.curves.get(event)
        if not curves:
            return None
        low, high = p.copy(), p.copy()
        for name, chosen in zip(SLICES, (~cold, cold), strict=True):
            curve = curves.get(name, curves.get("all"))
            if curve is not None and chosen.any():
                low[chosen], high[chosen] = curve.interval(p[chosen])
        return low, high

    def about(self) -> dict[str, Any]:
        """Event -> slice -> method, rows, positive rows, days that its level was judged on, and how far it moved."""
        return {
            event: {
                name: {"method": curve.method, "rows": curve.rows, "positive": curve.positive, "days": curve.days,
                       "moved": curve.moved}
                for name, curve in curves.items()
            }
            for event, curves in self.curves.items()
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {event: {name: curve.to_dict() for name, curve in own.items()} for event, own in self.curves.items()}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        return cls({str(event): {str(name): _curve(one) for name, one in own.items()} for event, own in known.items()})


def _curve(known: Mapping[str, Any]) -> Curve:
    counts = {name: int(known[name]) for name in ("rows", "positive", "days")}
    slope, both, level = (float(one) for one in known["error"])
    moved = float(known["moved"])
    if not np.isfinite([slope, both, level, moved]).all() or slope < 0 or level < 0:
        raise ValueError("the error of a calibration is no number, or below 0")
    own: dict[str, Any] = {**counts, "error": (slope, both, level), "moved": moved}
    if known["knots"] is not None:
        x, y = (np.asarray(one, np.float64) for one in known["knots"])
        fine = x.ndim == y.ndim == 1 and len(x) == len(y) > 0 and np.isfinite([x, y]).all()
        if not fine or not ((np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()) or y[0] < 0 or y[-1] > 1:
            raise ValueError("the knots of a calibration do not rise from 0 to 1")
        return Curve(knots=(x.tolist(), y.tolist()), **own)
    a, b = (float(one) for one in known["platt"])
    if not np.isfinite([a, b]).all():
        raise ValueError("a calibration has no numbers")
    return Curve(platt=(a, b), **own)


@dataclass(frozen=True)
class Period:
    """Rows of a stretch of time, with logits of a model that was fitted on what came before them.

    Attributes:
        logits: event -> float64 [N]; labels: event -> 0, 1 or NaN, [N].
        cold: rows of items without interactions; users: rows that an interval takes together, int64 [N].
        days: of each row, int64 [N].
    """

    logits: Mapping[str, Doubles]
    labels: Mapping[str, Any]
    cold: Flags
    users: NDArray[np.int64]
    days: NDArray[np.int64]


def fit_calibration(earlier: Period, later: Period) -> Calibration:
    """Fit the calibration of each event where one of the earlier period holds in the later one.

    It is meant for logits of a model whose mean is right on its window, as that of one fitted by log loss is.
    """
    found: dict[str, dict[str, Curve]] = {}
    for event in earlier.logits:
        curves, moved = {}, []
        for period in (earlier, later):
            target = np.asarray(period.labels[event], np.float64)
            known = ~np.isnan(target)
            shift = _level(period.logits[event][known], float(target[known].mean())) if known.any() else 0.0
            moved.append((period.logits[event] + shift, target, period.users, known, period.cold))
        for name in ("all", *SLICES):
            parts = []
            for logits, target, users, known, cold in moved:
                chosen = known & {"all": known, "warm": ~cold, "cold": cold}[name]
                parts.append((logits[chosen], target[chosen], users[chosen]))
            fewest = min(min(own.sum(), len(own) - own.sum()) for _, own, _ in parts)
            if sum(len(own) for _, own, _ in parts) >= FEWEST_ROWS and fewest >= FEWEST_POSITIVE:
                curves[name] = _with_error(_held_curve(*parts), *parts)
        if curves:
            days, level = _moves(event, (earlier, later))
            found[event] = {name: one.with_moves(days, level) for name, one in curves.items()}
    return Calibration(found)


_Part = tuple[Doubles, Doubles, NDArray[np.int64]]


def _held_curve(earlier: _Part, later: _Part) -> Curve:
    """Fit on both periods what, fitted on the earlier one, gained most on the later one; the logits as they are where
    no gain has an interval above zero."""
    best, kept = 0.0, None
    for isotonic in (False, True):
        if isotonic and len(earlier[0]) < ISOTONIC_ROWS:
            continue
        tried = fit_curve(earlier[0], earlier[1], isotonic=isotonic)
        gain, low = _gain(tried, *later)
        if low > 0 and gain > best:
            best, kept = gain, isotonic
    logits, target = (np.concatenate(both) for both in zip(earlier[:2], later[:2], strict=True))
    if kept is None:
        return Curve(len(target), int(target.sum()), platt=(1.0, 0.0))
    return fit_curve(logits, target, isotonic=kept)


def _with_error(curve: Curve, earlier: _Part, later: _Part) -> Curve:
    """Estimate the error of a line through the calibrated logits, with users as clusters."""
    logits, target, users = (np.concatenate(both) for both in zip(earlier, later, strict=True))
    x = _logits(curve.apply(logits))
    a, b = _platt(x, target)
    p = sigmoid(a * x + b)
    design = np.stack([x, np.ones(len(x))], 1)
    inverse = np.linalg.pinv((design * (p * (1 - p))[:, None]).T @ design)
    own = np.unique(users, return_inverse=True)[1]
    slopes = np.stack([np.bincount(own, column * (p - target)) for column in design.T], 1)
    error = inverse @ (slopes.T @ slopes) @ inverse
    return replace(curve, error=(float(error[0, 0]), float(error[0, 1]), float(error[1, 1])))


def _moves(event: str, periods: Sequence[Period]) -> tuple[int, float]:
    """Count the days with enough rows, and compute the root mean square of their levels, by rows, in logits.

    It is 0 for fewer than two days, which tell nothing of others.
    """
    squares, rows = [], []
    for period in periods:
        target = np.asarray(period.labels[event], np.float64)
        known = ~np.isnan(target)
        for day in np.unique(period.days[known]):
            own = known & (period.days == day)
            rate = float(target[own].mean())
            if own.sum() >= FEWEST_ROWS and min(rate, 1 - rate) * own.sum() >= FEWEST_POSITIVE:
                squares.append(_level(period.logits[event][own], rate) ** 2)
                rows.append(int(own.sum()))
    if len(squares) < 2:
        return len(squares), 0.0
    return len(squares), float(np.sqrt(np.average(squares, weights=rows)))


def _gain(curve: Curve, logits: Doubles, target: Doubles, users: NDArray[np.int64]) -> tuple[float, float]:
    """Mean log loss that a calibration saves, and the lower end of its 95 % interval over users, by linearisation."""
    before, after = (_losses(p, target) for p in (sigmoid(logits), curve.apply(logits)))
    own = np.unique(users, return_inverse=True)[1]
    sums, rows = np.bincount(own, before - after), np.bincount(own)
    gain = float(sums.sum() / rows.sum())
    return gain, gain - _WIDE * float(np.sqrt(((sums - gain * rows) ** 2).sum())) / float(rows.sum())


def _level(logits: Doubles, rate: float) -> float:
    """Find what to add to logits so that their mean probability is a rate."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logits + middle).mean() < rate else (low, middle)
    return low


def fit_curve(logits: Doubles, target: Doubles, *, isotonic: bool) -> Curve:
    """Fit one calibration: isotonic, or Platt's."""
    rows, positive = len(target), int(target.sum())
    if not isotonic:
        return Curve(rows, positive, platt=_platt(logits, target))
    from scipy.optimize import isotonic_regression

    order = np.argsort(logits, kind="stable")
    fitted = isotonic_regression(target[order])
    starts = _wide_blocks(np.asarray(fitted.blocks), max(50, rows // 100))
    at, values = (np.add.reduceat(one[order], starts[:-1]) / np.diff(starts) for one in (logits, target))  # block means
    values = np.maximum.accumulate(values)
    return Curve(rows, positive, knots=(at.tolist(), np.clip(values, 0, 1).tolist()))


def _wide_blocks(starts: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Join blocks until each has so many rows: a few rows of one kind at an end would say that all are."""
    kept = [0]
    for start in starts[1:-1].tolist():
        if start - kept[-1] >= least and starts[-1] - start >= least:
            kept.append(start)
    return np.array([*kept, starts[-1]], np.int64)


def _platt(logits: Doubles, target: Doubles) -> tuple[float, float]:
    """Fit sigmoid(a x + b) by Newton's method on Platt's targets; a is at least 0."""
    positive = target.sum()
    wanted = np.where(target > 0, (positive + 1) / (positive + 2), 1 / (len(target) - positive + 2))
    design = np.stack([logits, np.ones(len(logits))], 1)
    found = np.array([1.0, 0.0])
    for _ in range(50):
        p = sigmoid(design @ found)
        slope = design.T @ (p - wanted)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        found -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    if found[0] <= 0:  # the order of the model is worth nothing on these rows: the mean rate for all
        rate = wanted.mean()
        return 0.0, float(np.log(rate / (1 - rate)))
    return float(found[0]), float(found[1])


def sigmoid(logits: Doubles) -> Doubles:
    """Compute 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64))), np.float64)


def _logits(p: Doubles) -> Doubles:
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(p) - np.log1p(-p), np.float64)


def log_loss(p: Doubles, target: Any) -> float:
    """Mean log loss over the rows with a label."""
    own = np.asarray(target, np.float64)
    known = ~np.isnan(own)
    return float(_losses(p[known], own[known]).mean())


def _losses(p: Doubles, target: Doubles) -> Doubles:
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(-(target * np.log(p) + (1 - target) * np.log1p(-p)), np.float64)


def reliability(p: Doubles, target: Doubles) -> list[dict[str, Any]]:
    """Mean probability and share of positives of each of 15 equal intervals of p that has rows."""
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    sums, hits = (np.bincount(place, own, minlength=BINS) for own in (p, target))
    return [
        {"rows": int(rows[one]), "predicted": float(sums[one] / rows[one]), "observed": float(hits[one] / rows[one])}
        for one in np.flatnonzero(rows)
    ]


def expected_calibration_error(p: Doubles, target: Doubles, weights: NDArray[Any] | None = None) -> float:
    """Mean over rows, perhaps with weights [N], of |share - mean probability| of their bin, of 15 equal ones."""
    own = np.ones(len(p)) if weights is None else weights
    gaps = np.bincount(np.minimum((p * BINS).astype(np.int64), BINS - 1), own * (target - p), minlength=BINS)
    return float(np.abs(gaps).sum() / own.sum())
