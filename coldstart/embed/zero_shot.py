"""Zero-shot classification: cosines to classes, calibrated to probabilities, and a threshold by precision.

Prompt ensembles are CLIP's (Radford et al. 2021, section 3.1.4). A temperature fitted by likelihood makes the softmax a
probability (Guo et al. 2017, "On Calibration of Modern Neural Networks"). Items that are in several spaces have
temperatures of their own: two spaces that agree know more than one, and one may know better. Quality is measured on
items whose class is known: fitted on one half, measured on the other, and turned about. Knows nothing of encoders,
items or tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.metrics.intervals import wilson

Vectors = NDArray[np.float32]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

ENOUGH = 30
"""Labelled items that a calibration needs."""

TEMPERATURE = 0.05
"""Divisor of cosines where nothing was fitted; LOG.md has the usual results of fits."""

THRESHOLD = 0.8
"""Score that a label needs where nothing was fitted."""

BINS = 15
"""Bins of the expected calibration error, of equal width, as Guo et al. take them."""

_INVERSE = (0.1, 2000.0)
"""Bounds of the inverse of a temperature."""

_CLOSE = 0.005  # of its logarithm
_ROUNDS = 4


def ensemble(vectors: Vectors, owners: Numbers, classes: int) -> Vectors:
    """Average the unit vectors of each class's prompts, scaled to length one.

    Args:
        vectors: unit vectors of prompts, float32 [P, D].
        owners: number of the class of each prompt, int64 [P]; every class has one at least.
        classes: number of classes.

    Returns:
        float32 [classes, D].
    """
    sums = np.zeros((classes, vectors.shape[1]), np.float32)
    np.add.at(sums, owners, vectors)
    return unit(sums)


@dataclass(frozen=True)
class Calibration:
    """Temperatures that turn cosines into probabilities, and the threshold of a label.

    Attributes:
        temperatures: numbers of the spaces that an item has, rising -> what the cosines of each are divided by, two
            significant digits; each space alone is present, and those sets of several that were fitted.
        threshold: score that a label needs; None where none reaches the target precision.
    """

    temperatures: Mapping[tuple[int, ...], tuple[float, ...]]
    threshold: float | None

    def to_plain(self, spaces: Sequence[str]) -> dict[str, Any]:
        """Convert to JSON-serialisable values, the spaces by their names."""
        fitted = [
            {"spaces": [spaces[place] for place in places], "temperatures": list(values)}
            for places, values in sorted(self.temperatures.items())
        ]
        return {"threshold": self.threshold, "fitted": fitted}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], spaces: Sequence[str]) -> Calibration:
        """Read what `to_plain` returned."""
        fitted = {tuple(map(spaces.index, one["spaces"])): tuple(one["temperatures"]) for one in plain["fitted"]}
        return cls(fitted, plain["threshold"])

    def logits(self, cosines: Sequence[Vectors], present: Flags) -> Vectors:
        """Sum the cosines over the spaces that an item has, each over its temperature: float32 [N, C].

        Of a set of spaces that was not fitted it is the mean of what each alone would give.

        Args:
            cosines: of each space, float32 [N, C]; rows of items that the space lacks are zero.
            present: mask of the items of each space, bool [S, N]; every item is in one at least.
        """
        scales = np.zeros(present.shape, np.float32)
        for spaces, chosen in patterns(present):
            alone = tuple(self.temperatures[(space,)][0] * len(spaces) for space in spaces)
            used = np.array(self.temperatures.get(spaces, alone), np.float32)
            scales[np.ix_(np.array(spaces), np.flatnonzero(chosen))] = (1 / used)[:, None]
        total: Vectors = cosines[0] * scales[0][:, None]
        for one, scale in zip(cosines[1:], scales[1:], strict=True):
            total += one * scale[:, None]
        return total


def patterns(present: Flags) -> Iterator[tuple[tuple[int, ...], Flags]]:
    """List the sets of spaces that items have, each with a mask of the items that have just it, bool [N]."""
    codes = (present * (1 << np.arange(len(present)))[:, None]).sum(axis=0)
    for code in np.unique(codes):
        yield tuple(space for space in range(len(present)) if int(code) >> space & 1), codes == code


@dataclass(frozen=True)
class Prediction:
    """The two most likely classes of N items.

    Attributes:
        best: number of the most likely class, or of the text for what is none of them; `score`: its probability.
        second: number of the class that comes next; `margin`: by how much less likely it is.
    """

    best: Numbers
    score: Vectors
    second: Numbers
    margin: Vectors

    def accepted(self, classes: int, threshold: float | None) -> Flags:
        """Mark the items that get their label: a class, and at or over the threshold."""
        if threshold is None:
            return np.zeros(len(self.best), np.bool_)
        found: Flags = (self.best < classes) & (self.score >= np.float32(threshold))
        return found


def predict(logits: Vectors) -> Prediction:
    """Find the two most likely columns of each row; float32 [N, C] with C of 2 at least, which is overwritten."""
    rows = np.arange(len(logits))
    best = logits.argmax(axis=1)
    logits -= logits[rows, best][:, None]
    shares = np.exp(logits, out=logits)
    score = 1 / shares.sum(axis=1)
    shares[rows, best] = -1
    second = shares.argmax(axis=1)
    return Prediction(best, score, second, score - shares[rows, second] * score)


@dataclass(frozen=True)
class LabelledScores:
    """Cosines of items whose class is known.

    Attributes:
        cosines, present: as for `Calibration.logits`.
        truth: number of each item's class, int64 [N].
        halves: half of the items that each is in, independent of its class, bool [N].
        classes: number of columns that are classes; those after them are texts for what is none of them.
    """

    cosines: tuple[Vectors, ...]
    present: Flags
    truth: Numbers
    halves: Flags
    classes: int

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, chosen: Flags | Numbers) -> LabelledScores:
        """Select items."""
        cosines = tuple(one[chosen] for one in self.cosines)
        return LabelledScores(cosines, self.present[:, chosen], self.truth[chosen], self.halves[chosen], self.classes)


@dataclass(frozen=True)
class LabelTargets:
    """Targets that labels should reach.

    Attributes:
        min_precision: share of them that should be right.
        threshold: score that a label needs, if that is given instead.
        temperature: divisor of cosines where too few items are labelled to fit one.
    """

    min_precision: float
    threshold: float | None = None
    temperature: float = TEMPERATURE


def uncalibrated(spaces: int, targets: LabelTargets) -> Calibration:
    """Return the calibration where too few items are labelled."""
    threshold = THRESHOLD if targets.threshold is None else targets.threshold
    return Calibration({(space,): (targets.temperature,) for space in range(spaces)}, threshold)


def fit(labelled: LabelledScores, targets: LabelTargets, enough: int = ENOUGH) -> Calibration:
    """Fit temperatures by likelihood, then the lowest threshold that reaches the target precision.

    Args:
        enough: items that a space, or a set of several, must have among the labelled ones to be fitted.
    """
    found = dict(uncalibrated(len(labelled.cosines), targets).temperatures)
    for space, present in enumerate(labelled.present):
        if present.sum() >= enough:
            found[(space,)] = _temperatures([labelled.cosines[space][present]], labelled.truth[present])
    for spaces, chosen in patterns(labelled.present):
        if len(spaces) > 1 and chosen.sum() >= enough:
            cosines = [labelled.cosines[space][chosen] for space in spaces]
            found[spaces] = _temperatures(cosines, labelled.truth[chosen])
    if targets.threshold is not None:
        return Calibration(found, targets.threshold)
    predicted = predict(Calibration(found, None).logits(labelled.cosines, labelled.present))
    named, right = predicted.best < labelled.classes, predicted.best == labelled.truth
    return Calibration(found, lowest_threshold(predicted.score[named], right[named], targets.min_precision))


def _temperatures(cosines: Sequence[Vectors], truth: Numbers) -> tuple[float, ...]:
    """Fit temperatures of some spaces under which the true classes are likeliest.

    The loss is convex in their inverses, so that turning to each space in turn leads to the one minimum.
    """
    rows = np.arange(len(truth))
    spreads = [one - one[rows, truth][:, None] for one in cosines]
    inverses = [np.float32(1 / TEMPERATURE / len(spreads))] * len(spreads)
    for _ in range(1 if len(spreads) == 1 else _ROUNDS):
        for place, spread in enumerate(spreads):
            rest = sum(
                (
                    inverse * other
                    for at, (inverse, other) in enumerate(zip(inverses, spreads, strict=True))
                    if at != place
                ),
                start=np.zeros_like(spread),
            )
            inverses[place] = np.float32(likeliest(spread, rest))
    return tuple(float(f"{1 / inverse:.2g}") for inverse in inverses)  # seldom changed by a few more labelled items


def likeliest(spread: Vectors, rest: Vectors) -> float:
    """Find the factor of cosines, less those of the true class, under which the true classes are likeliest.

    Args:
        spread: float32 [N, C], C of 2 at least, zero where the class is the true one.
        rest: what is added to the products, less what is added for the true class, float32 [N, C].

    Each is taken for true by (n + 1) / (n + 2), and the others share the rest, as Platt (1999) smooths the targets of
    his scaling: else a few items that are all right would make every score a one.
    """
    others: int = spread.shape[1] - 1
    each = 1 / (len(spread) + 2) / others
    slope, offset = each * float(spread.sum()) / len(spread), each * float(rest.sum()) / len(spread)

    def loss(log_factor: float) -> float:
        factor = math.exp(log_factor)
        logits = spread * np.float32(factor) + rest
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        np.exp(logits, out=logits)
        return float((top[:, 0] + np.log(logits.sum(axis=1))).mean()) - factor * slope - offset

    low, high = (math.log(bound) for bound in _INVERSE)
    share = (math.sqrt(5) - 1) / 2  # golden sections
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _CLOSE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def lowest_threshold(scores: Vectors, right: Flags, min_precision: float) -> float | None:
    """Find the lowest score at and over which so large a share is right, one more taken for wrong than was.

    The one more keeps a handful of lucky scores from setting it, as conformal risk control does (Angelopoulos et al.
    2022). None where no score reaches it. Rounded down to four decimals.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(right[order])
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]  # equal scores stand or fall together
    reached = np.flatnonzero(last & (hits >= min_precision * (np.arange(len(ranked)) + 2)))
    return math.floor(float(ranked[reached[-1]]) * 10_000) / 10_000 if len(reached) else None


@dataclass(frozen=True)
class Quality:
    """Quality of labels on items that their calibration never saw. Intervals are Wilson's, at 95 %.

    Attributes:
        labelled: items that were measured.
        accuracy: share whose most likely class is right, whatever its score; with its `accuracy_interval`.
        coverage: share that gets a label.
        precision: share of the labels that is right, None where there is none; with its `precision_interval`.
        ece_before, ece_after: expected calibration error with the temperature of `uncalibrated` and the fitted one.
    """

    labelled: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    coverage: float
    precision: float | None
    precision_interval: tuple[float, float] | None
    ece_before: float
    ece_after: float

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        text = f"accuracy {self.accuracy:.2f} [{low:.2f}, {high:.2f}]"
        if self.precision is None or self.precision_interval is None:
            text += ", no score was precise enough for a label"
        else:
            low, high = self.precision_interval
            text += (
                f"; {self.coverage:.0%} get a label, of which {self.precision:.2f} [{low:.2f}, {high:.2f}] are right"
            )
        return f"{text}; calibration error {self.ece_before:.2f} before, {self.ece_after:.2f} after"


def calibrate(labelled: LabelledScores, targets: LabelTargets) -> tuple[Calibration, Quality | None]:
    """Fit a calibration on all labelled items, and evaluate each half by a fit on the other half.

    With fewer than `ENOUGH` items nothing is fitted or evaluated.

    With fewer than `ENOUGH` items nothing is fitted, and nothing said of its quality.
    """
    spaces = len(labelled.cosines)
    if len(labelled) < ENOUGH:
        return uncalibrated(spaces, targets), None
    predicted, accepted = [], []
    for half in (False, True):
        found = fit(labelled.take(labelled.halves == half), targets, ENOUGH // 3)
        rest = labelled.take(labelled.halves != half)
        predicted.append((rest.truth, _predicted(rest, found), _predicted(rest, uncalibrated(spaces, targets))))
        accepted.append(predicted[-1][1].accepted(labelled.classes, found.threshold))
    return fit(labelled, targets), _quality(predicted, np.concatenate(accepted))


def _predicted(labelled: LabelledScores, calibration: Calibration) -> Prediction:
    return predict(calibration.logits(labelled.cosines, labelled.present))


def _quality(predicted: list[tuple[NDArray[np.int64], Prediction, Prediction]], accepted: NDArray[np.bool_]) -> Quality:
    right = np.concatenate([truth == after.best for truth, after, _ in predicted])
    right_before = np.concatenate([truth == before.best for truth, _, before in predicted])
    hits, labels, count = int((right & accepted).sum()), int(accepted.sum()), len(right)
    return Quality(
        labelled=count,
        accuracy=float(right.mean()),
        accuracy_interval=wilson(int(right.sum()), count),
        coverage=labels / count,
        precision=hits / labels if labels else None,
        precision_interval=wilson(hits, labels) if labels else None,
        ece_before=calibration_error(np.concatenate([before.score for _, _, before in predicted]), right_before),
        ece_after=calibration_error(np.concatenate([after.score for _, after, _ in predicted]), right),
    )


def calibration_error(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error of scores float32 [N] in 0 to 1.

    It is the mean over all items of the difference between the score and the share of right ones in its bin.
    """
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=scores - right, minlength=BINS)
    return float(np.abs(gaps).sum() / max(len(scores), 1))
