"""Move pixels to the device, encode texts in groups of like length, and bring unit vectors back; for torch encoders.

`keep_freed_memory` keeps memory between batches: glibc gives large blocks back to the system as soon as they are free.
On a CPU a model's activations are such blocks, and the pages that the next layer then touches for the first time cost
more than all that is not a matrix product.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from coldstart.core.device import choose_device, choose_dtype
from coldstart.encoders import Pixels, Vectors

if TYPE_CHECKING:
    import torch

    from coldstart.media.image import ImageTransform


Stats = tuple[float, float, float]


def describe_transform(transform: ImageTransform | None) -> str:
    """Describe a transform in one line for a passport; it changes if and only if the pixels for an encoder do."""
    if transform is None:
        return "no pictures"
    height, width = transform.size
    crop = f" crop {transform.crop_pct:g}" if transform.resize == "shortest" else ""
    return f"{transform.resize} {height}x{width} {transform.interpolation}{crop}"


def to_pixel_values(
    images: Sequence[Pixels], mean: Stats, std: Stats, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Normalise pictures of one size, uint8 `[H, W, 3]` RGB, to `pixel_values` `[B, 3, H, W]` on the device.

    The bytes are copied as uint8, a quarter of float32, and normalised in float32 on the device. The result
    is laid out channels-last, the order in which the pictures came, so no transpose is paid for.
    """
    import torch

    # for a GPU, stacked where the copy to it starts from: one pass over the bytes fewer, and no wait for the copy
    pinned = device.type == "cuda"
    batch = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=pinned)
    np.stack(images, out=batch.numpy())
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)
    return batch.to(device, non_blocking=pinned).float().mul_(scale).sub_(shift).to(dtype).permute(0, 3, 1, 2)


def to_unit_vectors(rows: torch.Tensor) -> Vectors:
    """Convert `[B, D]` of any float type on any device to float32 rows of length one in memory."""
    import torch

    vectors: Vectors = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return vectors


def encode_by_length(
    lengths: Sequence[int],
    dim: int,
    encode: Callable[[list[int]], Vectors],
    *,
    slack: float = 1.25,
    room: float = 8,
) -> Vectors:
    """Encode texts in groups of like length, so that little is spent on padding.

    Args:
        lengths: tokens of each text.
        dim: numbers in a vector.
        encode: takes indices of one group, gives their vectors `[len(group), dim]`.
        slack, room: a group's longest text has at most `slack * shortest + room` tokens.

    Returns:
        float32 `[len(lengths), dim]`, in the order of `lengths`.
    """
    vectors = np.zeros((len(lengths), dim), dtype=np.float32)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    while order:
        limit = slack * lengths[order[0]] + room
        group = [i for i in order if lengths[i] <= limit]
        vectors[group] = encode(group)
        order = order[len(group) :]
    return vectors


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


_KEPT_BYTES = 512 << 20


_LARGEST_BYTES = 256 << 20


class OnDevice:
    """Device and number format of an encoder that computes by torch, chosen when they are first needed.

    The encoder sets `_device` and `_dtype`, the names that it was built with.
    """

    _device: str
    _dtype: str

    @cached_property
    def device(self) -> torch.device:
        device = choose_device(self._device)
        if device.type == "cpu":
            keep_freed_memory()
        return device

    @cached_property
    def dtype(self) -> torch.dtype:
        return choose_dtype(self.device, self._dtype)


@cache
def keep_freed_memory() -> bool:
    """Keep up to 512 MiB of freed memory in this process, in blocks of up to 256 MiB, from here on; once a process.

    Returns:
        Whether its C library is one that can be told so: glibc. Elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(tell(_MMAP_THRESHOLD, _LARGEST_BYTES)) and bool(tell(_TRIM_THRESHOLD, _KEPT_BYTES))
