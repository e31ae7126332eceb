"""Vectors likened to classes in words, the likeness made a probability, and a threshold for those worth believing.

Zero-shot classification with prompt ensembles is CLIP's (Radford et al. 2021, section 3.1.4). A temperature fitted by
likelihood makes the softmax a probability (Guo et al. 2017, "On Calibration of Modern Neural Networks"). Items that
several spaces judge have temperatures of their own: two judges who agree know more than one, and one may know better.
Knows nothing of encoders, items or tables.

How good labels are on items whose class is known: fitted on one half, measured on the other, and turned about.

Knows nothing of encoders, items or tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit

Vectors = NDArray[np.float32]


Flags = NDArray[np.bool_]


Numbers = NDArray[np.int64]


ENOUGH = 30
"""Labelled items that a calibration needs."""


TEMPERATURE = 0.05
"""What cosines are divided by where nothing was fitted; LOG.md has what fits usually find."""


THRESHOLD = 0.8
"""Score that a label needs where nothing was fitted."""


BINS = 15
"""Of the expected calibration error, of equal width, as Guo et al. take them."""


_INVERSE = (0.1, 2000.0)
"""Where the inverse of a temperature is looked for, and how close: in its logarithm."""


_CLOSE = 0.005


_ROUNDS = 4


def ensemble(vectors: Vectors, owners: Numbers, classes: int) -> Vectors:
    """One vector a class: the mean of its prompts' unit vectors, scaled to length one.

    Args:
        vectors: unit vectors of prompts, float32 [P, D].
        owners: number of the class of each prompt, int64 [P]; every class has one at least.
        classes: how many there are.

    Returns:
        float32 [classes, D].
    """
    sums = np.zeros((classes, vectors.shape[1]), np.float32)
    np.add.at(sums, owners, vectors)
    return unit(sums)


@dataclass(frozen=True)
class Calibration:
    """How cosines become probabilities, and which of those are believed.

    Attributes:
        temperatures: numbers of the spaces that an item has, rising -> what the cosines of each are divided by, two
            significant digits; each space alone is there, and those sets of several that were fitted.
        threshold: score that a label needs; None where none reaches the wanted precision.
    """

    temperatures: Mapping[tuple[int, ...], tuple[float, ...]]
    threshold: float | None

    def to_plain(self, spaces: Sequence[str]) -> dict[str, Any]:
        """As JSON-serialisable values, the spaces by their names."""
        fitted = [
            {"spaces": [spaces[place] for place in places], "temperatures": list(values)}
            for places, values in sorted(self.temperatures.items())
        ]
        return {"threshold": self.threshold, "fitted": fitted}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], spaces: Sequence[str]) -> Calibration:
        """What `to_plain` gave."""
        fitted = {tuple(map(spaces.index, one["spaces"])): tuple(one["temperatures"]) for one in plain["fitted"]}
        return cls(fitted, plain["threshold"])

    def logits(self, cosines: Sequence[Vectors], present: Flags) -> Vectors:
        """Sum over the spaces that an item has of their cosines, each over its temperature: float32 [N, C].

        Of a set of spaces that was not fitted it is the mean of what each alone would give.

        Args:
            cosines: of each space, float32 [N, C]; rows of items that the space lacks are zero.
            present: which item each space has, bool [S, N]; every item is in one at least.
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
    """The sets of spaces that items have, each with the items that have just it, bool [N]."""
    codes = (present * (1 << np.arange(len(present)))[:, None]).sum(axis=0)
    for code in np.unique(codes):
        yield tuple(space for space in range(len(present)) if int(code) >> space & 1), codes == code


@dataclass(frozen=True)
class Prediction:
    """What each of N items is most like.

    Attributes:
        best: number of the most likely class, or of the text for what is none of them; `score`: its probability.
        second: number of the class that comes next; `margin`: by how much less likely it is.
    """

    best: Numbers
    score: Vectors
    second: Numbers
    margin: Vectors

    def accepted(self, classes: int, threshold: float | None) -> Flags:
        """Which items get their label: a class, and at or over the threshold."""
        if threshold is None:
            return np.zeros(len(self.best), np.bool_)
        found: Flags = (self.best < classes) & (self.score >= np.float32(threshold))
        return found


def predict(logits: Vectors) -> Prediction:
    """The two most likely columns of each row; float32 [N, C] with C of 2 at least, which is overwritten."""
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
    """Items whose class is known.

    Attributes:
        cosines, present: as for `Calibration.logits`.
        truth: number of each item's class, int64 [N].
        halves: which half of the items each is in, by nothing that has to do with its class, bool [N].
        classes: how many columns are classes; those after them are texts for what is none of them.
    """

    cosines: tuple[Vectors, ...]
    present: Flags
    truth: Numbers
    halves: Flags
    classes: int

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, chosen: Flags | Numbers) -> LabelledScores:
        """Some of the items."""
        cosines = tuple(one[chosen] for one in self.cosines)
        return LabelledScores(cosines, self.present[:, chosen], self.truth[chosen], self.halves[chosen], self.classes)


@dataclass(frozen=True)
class LabelTargets:
    """What labels are to be like.

    Attributes:
        min_precision: share of them that should be right.
        threshold: score that a label needs, if that is given instead.
        temperature: what cosines are divided by where too few items are labelled to fit one.
    """

    min_precision: float
    threshold: float | None = None
    temperature: float = TEMPERATURE


def uncalibrated(spaces: int, wanted: LabelTargets) -> Calibration:
    """What holds where too few items are labelled."""
    threshold = THRESHOLD if wanted.threshold is None else wanted.threshold
    return Calibration({(space,): (wanted.temperature,) for space in range(spaces)}, threshold)


def fit(labelled: LabelledScores, wanted: LabelTargets, enough: int = ENOUGH) -> Calibration:
    """Temperatures by likelihood, then the lowest threshold that reaches the wanted precision.

    Args:
        enough: items that a space, or a set of several, must have among the labelled ones to be fitted.
    """
    found = dict(uncalibrated(len(labelled.cosines), wanted).temperatures)
    for space, present in enumerate(labelled.present):
        if present.sum() >= enough:
            found[(space,)] = _temperatures([labelled.cosines[space][present]], labelled.truth[present])
    for spaces, chosen in patterns(labelled.present):
        if len(spaces) > 1 and chosen.sum() >= enough:
            cosines = [labelled.cosines[space][chosen] for space in spaces]
            found[spaces] = _temperatures(cosines, labelled.truth[chosen])
    if wanted.threshold is not None:
        return Calibration(found, wanted.threshold)
    judged = predict(Calibration(found, None).logits(labelled.cosines, labelled.present))
    named, right = judged.best < labelled.classes, judged.best == labelled.truth
    return Calibration(found, lowest_threshold(judged.score[named], right[named], wanted.min_precision))


def _temperatures(cosines: Sequence[Vectors], truth: Numbers) -> tuple[float, ...]:
    """Temperatures of some spaces under which the true classes are likeliest.

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
    """The factor of cosines, less those of the true class, under which the true classes are likeliest.

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
    """The lowest score at and over which so large a share is right, one more taken for wrong than was.

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
    """Of labels on items that their calibration never saw. Intervals are Wilson's, at 95 %.

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
        said = f"accuracy {self.accuracy:.2f} [{low:.2f}, {high:.2f}]"
        if self.precision is None or self.precision_interval is None:
            said += ", no score was precise enough for a label"
        else:
            low, high = self.precision_interval
            said += (
                f"; {self.coverage:.0%} get a label, of which {self.precision:.2f} [{low:.2f}, {high:.2f}] are right"
            )
        return f"{said}; calibration error {self.ece_before:.2f} before, {self.ece_after:.2f} after"


def calibrate(labelled: LabelledScores, wanted: LabelTargets) -> tuple[Calibration, Quality | None]:
    """The calibration that all labelled items give, and what one that half of them gives is worth on the other half.

    With fewer than `ENOUGH` items nothing is fitted, and nothing said of its quality.
    """
    spaces = len(labelled.cosines)
    if len(labelled) < ENOUGH:
        return uncalibrated(spaces, wanted), None
    judged, believed = [], []
    for half in (False, True):
        found = fit(labelled.take(labelled.halves == half), wanted, ENOUGH // 3)
        rest = labelled.take(labelled.halves != half)
        judged.append((rest.truth, _predicted(rest, found), _predicted(rest, uncalibrated(spaces, wanted))))
        believed.append(judged[-1][1].accepted(labelled.classes, found.threshold))
    return fit(labelled, wanted), _quality(judged, np.concatenate(believed))


def _predicted(labelled: LabelledScores, calibration: Calibration) -> Prediction:
    return predict(calibration.logits(labelled.cosines, labelled.present))


def _quality(judged: list[tuple[NDArray[np.int64], Prediction, Prediction]], believed: NDArray[np.bool_]) -> Quality:
    right = np.concatenate([truth == after.best for truth, after, _ in judged])
    right_before = np.concatenate([truth == before.best for truth, _, before in judged])
    hits, labels, count = int((right & believed).sum()), int(believed.sum()), len(right)
    return Quality(
        labelled=count,
        accuracy=float(right.mean()),
        accuracy_interval=wilson(int(right.sum()), count),
        coverage=labels / count,
        precision=hits / labels if labels else None,
        precision_interval=wilson(hits, labels) if labels else None,
        ece_before=calibration_error(np.concatenate([before.score for _, _, before in judged]), right_before),
        ece_after=calibration_error(np.concatenate([after.score for _, after, _ in judged]), right),
    )


def calibration_error(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean over all items of how far the score and the share of right ones in its bin
    are apart. Scores float32 [N] in 0 to 1.
    """
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=scores - right, minlength=BINS)
    return float(np.abs(gaps).sum() / max(len(scores), 1))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of Wilson (1927) around a share, at 95 %."""
    z = 1.959964
    centre, scale = (hits + z * z / 2) / (count + z * z), count + z * z
    half = z / scale * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
