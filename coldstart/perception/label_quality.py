"""How good labels are on items whose class is known: fitted on one half, measured on the other, and turned about.

Knows nothing of encoders, items or tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.perception.labels import BINS, ENOUGH, Calibration, Judgement, Labelled, Wanted, fit, judge, uncalibrated


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


def calibrate(labelled: Labelled, wanted: Wanted) -> tuple[Calibration, Quality | None]:
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
        judged.append((rest.truth, _judged(rest, found), _judged(rest, uncalibrated(spaces, wanted))))
        believed.append(judged[-1][1].believed(labelled.classes, found.threshold))
    return fit(labelled, wanted), _quality(judged, np.concatenate(believed))


def _judged(labelled: Labelled, calibration: Calibration) -> Judgement:
    return judge(calibration.logits(labelled.cosines, labelled.present))


def _quality(judged: list[tuple[NDArray[np.int64], Judgement, Judgement]], believed: NDArray[np.bool_]) -> Quality:
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
