"""`starter-vlm` tuned on a catalogue: picture features once, then projector and LoRA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import choose_device, choose_dtype
from coldstart.core.pipeline import Engine
from coldstart.core.stage import Reject
from coldstart.describe.finetune.training import Example, LoadItemPictures, VlmSettings
from coldstart.errors import ColdstartError

CHECKPOINT = "vision.safetensors"


def fit_vlm(
    generator: Any,
    examples: Sequence[Example],
    valid: Sequence[Example],
    pictures: LoadItemPictures,
    settings: VlmSettings,
    *,
    seed: int,
    engine: Engine,
    folder: Path,
    meter: Callable[[str, int], Any],
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Train `starter-vlm`; return files of the fit and entries of its card.

    Args:
        generator: `starter-vlm`, unfitted; pictures: loads the pictures of an item.
        folder: state from which a killed training resumes.
        meter: makes a progress meter of a name and a total.

    Raises:
        ColdstartError: no item to learn from has a picture that can be read.
    """
    from coldstart.describe.finetune import vlm
    from coldstart.generators import _smollm2

    items = list(dict.fromkeys(one.item_id for one in (*examples, *valid)))
    features, place = _picture_features(generator, items, pictures, meter)
    train, held = ([one for one in part if one.item_id in place] for part in (examples, valid))
    if not train:
        raise ColdstartError(
            "no training item has a picture that can be read, and starter-vlm is trained on pictures alone"
        )
    device = choose_device(engine.device)
    folder.mkdir(parents=True, exist_ok=True)
    result = vlm.train_vlm(
        features,
        [place[one.item_id] for one in train],
        train,
        [place[one.item_id] for one in held],
        held,
        settings,
        seed=seed,
        model=_smollm2.load_model(device, choose_dtype(device, engine.dtype)),
        tokenizer=_smollm2.load_tokenizer(),
        checkpoint=folder / CHECKPOINT,
        meter=meter,
    )
    losses = [epoch.valid_loss for epoch in result.history if epoch.valid_loss is not None]
    return result.files(), {
        "training": settings.model_dump(),
        "seconds": result.seconds,
        "tokens": sum(epoch.tokens for epoch in result.history),
        "best_epoch": result.best_epoch,
        "without_picture": len(items) - len(place),
        "valid_loss": {"before": losses[0], "after": min(losses)} if losses else None,
        "history": [vars(epoch) for epoch in result.history],
    }


def _picture_features(
    generator: Any, items: Sequence[str], load_pictures: LoadItemPictures, meter: Callable[[str, int], Any]
) -> tuple[NDArray[np.float16], dict[str, int]]:
    """Compute features of items' pictures, and the row of each item that has some."""
    place: dict[str, int] = {}

    def pictures() -> Any:
        with meter("pictures", len(items)) as counts:
            for item in items:
                try:
                    images = load_pictures(item)
                except Reject as reject:
                    counts.advance(1, {reject.reason: 1}, 0.0)
                    continue
                place[item] = len(place)
                counts.advance(1, 0, 0.0)
                yield images

    return generator.visual_features(pictures()), place
