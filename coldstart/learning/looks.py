"""Pictures of items as a space looked at them, and their vectors by another encoder. Decodes in worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.media.limits import Limits
from coldstart.media.medium import seen
from coldstart.training.towers_data import Draw, Drawn, Example, Look, batches
from coldstart.workspace import ITEMS, Store

if TYPE_CHECKING:
    from coldstart.encoders import Encoder


def looks_of(store: Store, table: str, pictures: int, items: Sequence[str]) -> dict[str, list[Look]]:
    """Item -> its pictures; or the frames of its video at the times that a space stored, the middle one first.

    Args:
        table: of an image space with fresh rows of all the items; pictures: at most so many of an item, as there.
    """
    wanted = set(items)
    rows = store.read(table, ["item_id", "frame_times_s"])
    times = dict(zip(rows["item_id"].to_pylist(), rows["frame_times_s"].to_pylist(), strict=True))
    found = {}
    for row in store.read(ITEMS, ["item_id", "media"]).to_pylist():
        if row["item_id"] not in wanted:
            continue
        media = seen(row, pictures)
        if media[0]["role"] == "video":
            found[row["item_id"]] = [_look(media[0], time_s) for time_s in _middle_first(times[row["item_id"]])]
        else:
            found[row["item_id"]] = [_look(entry, None) for entry in media]
    return found


def _look(entry: Mapping[str, Any], time_s: float | None) -> Look:
    return Look(entry["uri"], entry["role"], time_s, entry["digest"], entry["size_bytes"])


def _middle_first(times_s: Sequence[float]) -> list[float]:
    """The middle frame stands for a video where one alone is measured."""
    middle = len(times_s) // 2
    return [times_s[middle], *times_s[:middle], *times_s[middle + 1 :]]


@dataclass(frozen=True)
class Seen:
    """Unit vectors float32 [N, D] of pictures, and the place of each one's item; those that cannot be read are left
    out."""

    vectors: NDArray[np.float32]
    items: NDArray[np.int64]


def encode_looks(
    encoder: Encoder, looks: Sequence[Sequence[Look]], limits: Limits, *, batch: int, workers: int, meter: Any
) -> Seen:
    """Vectors of pictures.

    Args:
        looks: of each item.
        batch: pictures that the encoder takes at once; workers: processes that decode, 0: this one.
        meter: counts pictures.
    """
    assert encoder.image_transform is not None, "an encoder that takes images states how it wants them"
    examples = [Example("", place, "valid", [look], [("", 1.0)]) for place, own in enumerate(looks) for look in own]
    data = Drawn(examples, encoder.image_transform, limits, frames=1, augment=False, seed=0)
    plan = [[Draw(at, None) for at in range(start, len(examples))[:batch]] for start in range(0, len(examples), batch)]
    vectors = [np.zeros((0, encoder.passport("image").dim), np.float32)]
    owners = [np.zeros(0, np.int64)]
    for draws, found in zip(plan, batches(data, examples, plan, workers), strict=True):
        if found.places:
            vectors.append(encoder.encode_images(found.pixels(slice(None))))
            owners.append(found.groups.numpy())
        meter.advance(len(draws), len(draws) - len(found.places), 0.0)
    return Seen(np.concatenate(vectors), np.concatenate(owners))
