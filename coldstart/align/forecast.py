"""Forecast of the time that a fit of heads takes on a whole catalogue, from a few of its items."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from coldstart.align import join_heads, train_heads
from coldstart.align.settings import HeadTraining
from coldstart.core.device import choose_device
from coldstart.core.scratch import scratch_folder

if TYPE_CHECKING:
    from coldstart.align.dataset import Features
    from coldstart.align.head_math import Pairs

_MOST = 20_000
"""Pairs that an epoch is tried on; one over more is taken to grow with them."""
_TRIED = 4
USUAL = 0.6
"""Share of the epochs allowed that a fit which stops early usually comes to."""


@dataclass(frozen=True)
class TimedFeatures:
    """Features of the probed items, and the seconds that they took.

    Attributes:
        load_s: to load the encoder of words; text_s: to encode the texts of one item; rest_s: for all else.
    """

    features: Features
    load_s: float
    text_s: float
    rest_s: float


def time_features(load: Callable[[], object], features: Callable[[], Features]) -> TimedFeatures:
    """Read features twice and time it: the second time all texts are known.

    Args:
        load: brings in the encoder of words.
    """
    times = [time.perf_counter()]
    load()
    times.append(time.perf_counter())
    features()
    times.append(time.perf_counter())
    found = features()
    times.append(time.perf_counter())
    load_s, first_s, again_s = np.diff(times).tolist()
    return TimedFeatures(found, load_s, max(first_s - again_s, 0.0) / len(found.item_ids), again_s)


def epoch_s(pairs: Pairs, held_out: Pairs | None, rows: int, training: HeadTraining, device: str) -> float:
    """Time one epoch over so many items, in seconds.

    Args:
        pairs: of some items, repeated until there are enough; held_out: what the fit is stopped by.
    """
    few = training.model_copy(update={"epochs": _TRIED, "patience": 0})
    many = repeated(pairs, max(min(rows, _MOST) // len(pairs), 1))
    heads = train_heads.new_heads(few, many.images.shape[1], many.texts.shape[1])
    ends = [time.perf_counter()]
    with scratch_folder("fit") as folder:
        train_heads.fit(
            many,
            held_out,
            heads,
            few,
            device=choose_device(device),
            checkpoint=folder / "checkpoint",
            progress=lambda _: ends.append(time.perf_counter()),
        )
    return float(median(np.diff(ends)[1:])) * rows / len(many)


def repeated(pairs: Pairs, times: int) -> Pairs:
    """Repeat pairs, each time as other items of other groups."""
    items, groups = len(pairs), int(pairs.groups.max()) + 1
    offsets = range(times)
    return replace(
        pairs,
        images=np.tile(pairs.images, (times, 1)),
        image_items=np.concatenate([pairs.image_items + items * turn for turn in offsets]),
        texts=np.tile(pairs.texts, (times, 1)),
        text_items=np.concatenate([pairs.text_items + items * turn for turn in offsets]),
        text_weights=np.tile(pairs.text_weights, times),
        groups=np.concatenate([pairs.groups + groups * turn for turn in offsets]),
        image_weights=None if pairs.image_weights is None else np.tile(pairs.image_weights, times),
    )


def epochs(training: HeadTraining, rows: int) -> tuple[float, float, float]:
    """Return the epochs of a fit on so many items, with those of its inner fits: at least, usually, at most."""
    inner = 0.0
    if training.regression:
        inner = join_heads.FOLDS * min(training.epochs, join_heads.EPOCHS) * min(1, join_heads.MOST_ROWS / max(rows, 1))
    least = min(training.patience + 1, training.epochs) if training.patience else training.epochs
    usual = max(round(USUAL * training.epochs), least)
    return least + inner, usual + inner, training.epochs + inner
