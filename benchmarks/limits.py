"""What the machine can do at best, to be measured in the same rounds as what is held to it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int, int]
"""How many products of this shape, rows, inner numbers, columns."""


def gemm_seconds(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> float:
    """Seconds of these products of `(rows, inner)` with `(columns, inner)` weights, each with weights of its own.

    Weights differ as in a model, so that none is hot in the cache; all shapes run once before they are timed.
    """
    import torch

    total = 0.0
    with torch.inference_mode():
        for count, rows, inner, columns in shapes:
            left = torch.randn(rows, inner, dtype=dtype, device=device)
            weights = [torch.randn(columns, inner, dtype=dtype, device=device) for _ in range(count)]
            for timed in (False, True):
                _wait(device)
                began = time.perf_counter()
                for weight in weights:
                    torch.nn.functional.linear(left, weight)
                _wait(device)
                total += timed * (time.perf_counter() - began)
    return total


def gemm_rate(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of these products: two for each number of `rows x inner x columns`."""
    operations = sum(2.0 * count * rows * inner * columns for count, rows, inner, columns in shapes)
    return operations / gemm_seconds(shapes, dtype, device)


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rate(size_bytes: int = 1 << 28, rounds: int = 3) -> float:
    """Bytes a second that one thread copies within memory at best: each is read once and written once."""
    source = np.ones(size_bytes, np.uint8)
    target = np.empty_like(source)
    best = 0.0
    for turn in range(rounds + 1):
        began = time.perf_counter()
        np.copyto(target, source)
        if turn:  # the first touches the pages
            best = max(best, size_bytes / (time.perf_counter() - began))
    return best


def disk_rate(folder: Path, size_bytes: int = 1 << 28) -> tuple[float, float]:
    """Bytes a second written to a file in `folder` and made durable, and read again by one thread in pieces of 4 MiB.

    The file is dropped from the page cache before it is read, where the system takes that hint; elsewhere the second
    figure is that of the cache.
    """
    path, piece = folder / "disk_rate.bin", os.urandom(1 << 22)
    pieces = max(size_bytes // len(piece), 1)
    try:
        began = time.perf_counter()
        with path.open("wb", buffering=0) as out:
            for _ in range(pieces):
                out.write(piece)
            os.fsync(out.fileno())
        written = time.perf_counter() - began
        with path.open("rb", buffering=0) as back:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(back.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            buffer = bytearray(len(piece))
            while back.readinto(buffer):
                pass
            read = time.perf_counter() - began
    finally:
        path.unlink(missing_ok=True)
    return pieces * len(piece) / written, pieces * len(piece) / read
