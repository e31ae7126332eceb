"""Which device and number format a model runs in: asked for by name, or chosen by measurement.

Importing this module does not import torch. What it cannot know: whether a model stays accurate in a narrow
format; each encoder's tests show that.
"""

from __future__ import annotations

import re
import time
from functools import cache
from typing import TYPE_CHECKING

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    import torch

DEVICES = "auto, cpu, cuda, cuda:N or mps"
DTYPES = ("auto", "float32", "bfloat16", "float16")
MIN_SPEEDUP = 1.3  # a narrow format must earn its rounding


def check_names(device: str, dtype: str) -> None:
    """Raise `ColdstartError` for a device or dtype word that no machine knows. Needs no torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ColdstartError(f"device {device!r} is unknown: use {DEVICES}")
    if dtype not in DTYPES:
        raise ColdstartError(f"dtype {dtype!r} is unknown: use {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


def choose_device(device: str = "auto") -> torch.device:
    """The named device, or for `auto` the first of CUDA, MPS and CPU that this machine has.

    On CUDA, float32 matrix products are allowed to use TF32 from here on.

    Raises:
        ColdstartError: the word is unknown, or this machine has no such device.
    """
    import torch

    check_names(device, "auto")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        if (chosen.index or 0) >= count:
            raise ColdstartError(f"device {device!r} is not here: torch sees {count} CUDA devices; use device: auto")
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    if chosen.type == "mps" and not mps:
        raise ColdstartError("device 'mps' is not here: it needs a Mac with Apple silicon; use device: auto")
    return chosen


def choose_dtype(device: torch.device, dtype: str = "auto") -> torch.dtype:
    """The number format for weights and activations on `device`.

    `auto` takes bfloat16 on CUDA from compute capability 8; elsewhere it times a small matrix product (tens
    of milliseconds, once a process) and takes bfloat16 (CPU) or float16 (MPS) where that is at least 1.3
    times as fast as float32, and float32 otherwise.
    """
    import torch

    check_names("auto", dtype)
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if capable else torch.float16
    narrow = torch.float16 if device.type == "mps" else torch.bfloat16
    return narrow if speedup(device.type, narrow) >= MIN_SPEEDUP else torch.float32


@cache
def speedup(device_type: str, dtype: torch.dtype) -> float:
    """How many times as fast as float32 a linear layer of a small transformer runs in `dtype`; measured
    once.
    """
    import torch

    best = {torch.float32: float("inf"), dtype: float("inf")}
    layers = {
        kind: (
            torch.ones(256, 768, dtype=kind, device=device_type),
            torch.ones(1536, 768, dtype=kind, device=device_type),
        )
        for kind in best
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other drown the difference
    try:
        with torch.inference_mode():
            for _ in range(12):  # interleaved, and the best of each: a disturbed round does not count
                for kind, (rows, weight) in layers.items():
                    start = time.perf_counter()
                    torch.nn.functional.linear(rows, weight)
                    if device_type == "mps":
                        torch.mps.synchronize()
                    best[kind] = min(best[kind], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[dtype]
