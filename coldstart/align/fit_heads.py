"""Heads fitted over frozen towers: stored vectors of pictures and texts in, two small maps out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldstart.align import train_heads
from coldstart.align.base_encoders import FitResult, pairs_of
from coldstart.align.dataset import Features
from coldstart.align.head_math import recall_of
from coldstart.align.settings import HeadTraining
from coldstart.core.device import choose_device
from coldstart.core.progress import Progress
from coldstart.encoders._heads import AlignedHeads
from coldstart.encoders._heads_file import Tower


def fit_heads(
    features: Features,
    parts: Mapping[str, NDArray[np.int64]],
    *,
    towers: Mapping[str, Tower],
    start: AlignedHeads | None,
    weights: Mapping[str, float],
    training: HeadTraining,
    device: str,
    checkpoint: Path,
    name: str,
    progress: Progress,
) -> FitResult:
    """Train heads on the `train` part, stop by `valid`, and evaluate on `test`.

    Args:
        parts: places of items by the part of the split.
        start: the heads to start from; None for random ones.
        weights: of a text by its view.
        checkpoint: file that a killed fit goes on from.
        name: of the stage; progress: as stages take it.

    Raises:
        ColdstartError: as `coldstart.align.train_heads.fit`.
    """
    pairs = pairs_of(features, weights)
    train, valid, test = (pairs.take(parts[part]) for part in ("train", "valid", "test"))
    chosen = choose_device(device)
    heads = (
        train_heads.new_heads(training, pairs.images.shape[1], pairs.texts.shape[1]) if start is None else start.heads
    )
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
    recall = {"after": recall_of(fitted.heads.to(chosen), test, chosen) if len(test) else None}
    if start is not None and len(test):
        recall["before"] = recall_of(heads.to(chosen), test, chosen)
    return FitResult(
        aligned=AlignedHeads(towers, fitted.heads.cpu()),
        before=None if start is None else AlignedHeads(towers, heads.cpu()),
        recall=recall,
        about={
            "training": training.model_dump(),
            "best_epoch": fitted.best_epoch,
            "epochs": len(fitted.history),
        },
        report={"seconds": fitted.seconds, "history": [asdict(epoch) for epoch in fitted.history]},
        scratch=checkpoint,
    )
