"""Heads fitted over frozen towers: stored vectors of pictures and texts in, small maps out.

Heads are trained, fitted by regression from texts to pictures, and joined by weights that find both known and new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldstart.align import join_heads, train_heads
from coldstart.align.base_encoders import FitResult, pairs_of
from coldstart.align.dataset import Features
from coldstart.align.head_math import Pairs, recall_of
from coldstart.align.regression import ClassNames
from coldstart.align.settings import HeadTraining
from coldstart.core.device import choose_device
from coldstart.core.progress import Progress
from coldstart.encoders._heads import AlignedHeads, Heads, JoinedHeads
from coldstart.encoders._heads_file import Tower


def fit_heads(
    features: Features,
    parts: Mapping[str, NDArray[np.int64]],
    *,
    towers: Mapping[str, Tower],
    start: AlignedHeads | None,
    weights: Mapping[str, float],
    training: HeadTraining,
    classes: Callable[[], ClassNames | None],
    device: str,
    checkpoint: Path,
    name: str,
    progress: Progress,
) -> FitResult:
    """Train heads on the `train` part, stop by `valid`, and evaluate on `test`.

    The regression beside them is fitted on `train` and `valid`.

    Args:
        parts: places of items by the part of the split.
        start: the heads to start from; None for random ones.
        weights: of a text by its view.
        classes: reads those of the image encoder; called where a regression is fitted.
        checkpoint: file that a killed fit goes on from.
        name: of the stage; progress: as stages take it.

    Raises:
        ColdstartError: as `coldstart.align.train_heads.fit`.
    """
    pairs = pairs_of(features, weights)
    train, valid, test = (pairs.take(parts[part]) for part in ("train", "valid", "test"))
    chosen = choose_device(device)
    heads = train_heads.new_heads(training, pairs.images.shape[1], pairs.texts.shape[1])
    if start is not None:
        assert isinstance(start.heads, Heads), "`starting_heads` gives one head a side"
        heads = start.heads
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with progress.meter(f"{name}: epochs", training.epochs) as meter:
        fitted = train_heads.fit(
            train,
            valid if len(valid) else None,
            heads,
            training,
            device=chosen,
            checkpoint=checkpoint,
            progress=lambda epoch: meter.advance(1, 0, 0.0),
        )
    trained = fitted.heads.cpu()
    aligned: Heads | JoinedHeads = trained
    joined: dict[str, object] = {}
    if training.regression:
        names = classes()

        def short(part: Pairs) -> Heads:
            few = training.model_copy(update={"epochs": min(training.epochs, join_heads.EPOCHS), "patience": 0})
            return train_heads.fit(part, None, heads, few, device=chosen).heads.cpu()

        with progress.meter(f"{name}: weights of what is new", None):
            choice = join_heads.choose_weights(train, names, short, dim=training.dim, seed=training.seed)
            known = pairs.take(np.concatenate([parts["train"], parts["valid"]]))  # there is nothing to stop by
            aligned = join_heads.fit_joined(known, trained, names, choice.weights, dim=training.dim, seed=training.seed)
        joined = {"joined": {**asdict(choice.weights), **choice.found}}
    recall = {"after": recall_of(aligned.to(chosen), test, chosen) if len(test) else None}
    if start is not None and len(test):
        recall["before"] = recall_of(heads.to(chosen), test, chosen)
    return FitResult(
        aligned=AlignedHeads(towers, aligned.cpu()),
        before=None if start is None else AlignedHeads(towers, heads.cpu()),
        recall=recall,
        about={
            "training": training.model_dump(),
            "best_epoch": fitted.best_epoch,
            "epochs": len(fitted.history),
            **joined,
        },
        report={"seconds": fitted.seconds, "history": [asdict(epoch) for epoch in fitted.history]},
        scratch=checkpoint,
    )
