"""Choose the device and number format of a model, and share the cores of this machine among processes.

Imports no torch until a device is chosen. Does not know whether a model stays accurate in a narrow format (each
encoder's tests show that), nor a quota of processor time (of a container, say), which leaves all cores visible.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    import torch


DEVICES = "auto, cpu, cuda, cuda:N or mps"
DTYPES = ("auto", "float32", "bfloat16", "float16")
MIN_SPEEDUP = 1.3  # a narrow format must earn its rounding


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_names(device: str, dtype: str) -> None:
    """Check the names of a device and a dtype, without torch; raise `ColdstartError` for an unknown one."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ColdstartError(f"device {device!r} is unknown: use {DEVICES}")
    if dtype not in DTYPES:
        raise ColdstartError(f"dtype {dtype!r} is unknown: use {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


def choose_device(device: str = "auto") -> torch.device:
    """Choose the named device, or for `auto` the first of CUDA, MPS and CPU that this machine has.

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


def surely_cpu(device: str = "auto") -> bool:
    """Tell without torch whether `choose_device` takes the CPU; False where a driver or a Mac leaves it open."""
    if device != "auto":
        return device == "cpu"
    drivers = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # CUDA, CUDA in a container or WSL, ROCm
    return sys.platform == "linux" and not any(Path(driver).exists() for driver in drivers)


def choose_devices(device: str = "auto", devices: int | Literal["all"] | Sequence[str] = "all") -> list[str]:
    """Choose the devices that compute at once, a process each; those of one CPU are named `cpu:0`, `cpu:1`, ….

    Args:
        device: the kind (`choose_device`), where `devices` names none.
        devices: so many; or all: every CUDA device, a process for every NUMA node of a CPU, the one MPS device; or
            their names.

    Raises:
        ColdstartError: this machine has not so many, or none of that name.
    """
    import torch

    if not isinstance(devices, int | str):
        return [str(choose_device(name)) for name in devices]
    chosen = choose_device(device)
    if chosen.index is not None or devices == 1:
        if devices not in (1, "all"):
            raise ColdstartError(f"devices: {devices} with device {device!r}: name the kind alone, as in device: cuda")
        return [str(chosen)]
    present = {"cuda": torch.cuda.device_count(), "cpu": len(available_cores())}.get(chosen.type, 1)
    count = (len(numa_nodes()) if chosen.type == "cpu" else present) if devices == "all" else devices
    if count > present:
        what = (
            f"{present} cores, and a process needs one" if chosen.type == "cpu" else f"{present} {chosen.type} devices"
        )
        raise ColdstartError(f"devices: {count} are not here: this machine has {what}; use devices: all")
    return [f"{chosen.type}:{number}" for number in range(count)] if chosen.type != "mps" else ["mps"]


def visible_cuda(index: int) -> str:
    """Return the `CUDA_VISIBLE_DEVICES` of a process that is to see one device alone, given that of this process."""
    shown = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return shown[index] if index < len(shown) else str(index)


def pin_near_device(physical: str) -> None:
    """Pin this process to the cores nearest to a CUDA device, on a machine with several NUMA nodes.

    By accelerate, which asks the driver. Its process groups are of no use here: their ranks end together, and one
    that died could not be replaced.

    Args:
        physical: the device's number on the whole machine; another kind of name has no effect.
    """
    if len(numa_nodes()) < 2 or not physical.isdecimal():
        return
    from accelerate.utils import set_numa_affinity

    allowed = set(available_cores())
    try:
        set_numa_affinity(int(physical))
    except Exception:  # no library to ask, an old driver, a container that hides it: speed alone is at stake
        return
    if near := allowed & set(available_cores()):
        os.sched_setaffinity(0, near)
    else:
        os.sched_setaffinity(0, allowed)


def choose_dtype(device: torch.device, dtype: str = "auto") -> torch.dtype:
    """Choose the number format of weights and activations on `device`.

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
    """Measure, once, the speed of a small linear layer in `dtype` relative to float32."""
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


def product_rate(device: torch.device, dtype: torch.dtype, rounds: int = 6) -> float:
    """Measure operations a second of matrix products of a vision transformer (N x 768 x 3,072) on all cores.

    Returns the median of `rounds`.
    """
    import torch

    count = 800 if device.type == "cpu" else 12_800  # a GPU is not filled by less
    rows = torch.ones(count, 768, dtype=dtype, device=device)
    weight = torch.ones(3072, 768, dtype=dtype, device=device)
    took = []
    with torch.inference_mode():
        for _ in range(1 + rounds):
            start = time.perf_counter()
            for _ in range(2):
                torch.nn.functional.linear(rows, weight)
            if device.type != "cpu":
                torch.empty(1, device=device).add_(1).item()  # waits until all is done
            took.append(time.perf_counter() - start)
    return 2 * 2 * count * 768 * 3072 / statistics.median(took[1:])


_NODES = Path("/sys/devices/system/node")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class CoreShare:
    """Threads and cores of one process.

    Attributes:
        threads: number of threads that it computes with.
        cores: numbers of the cores that it stays on; empty: any. Memory is nearest to the cores of its own node, so a
            process keeps to whole nodes; within a node the system balances better than a fixed place would.
    """

    threads: int
    cores: tuple[int, ...] = ()


def available_cores() -> list[int]:
    """List the numbers of the cores that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thread_count() -> int:
    """Return the number of threads of this process: `OMP_NUM_THREADS`, as torch reads it too, or one a core.

    For libraries that do not read that variable.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(available_cores())


def numa_nodes(folder: Path = _NODES) -> list[list[int]]:
    """List the available cores by NUMA node (on most machines: by socket); one node where the system states none."""
    usable = available_cores()
    found = []
    for path in sorted(folder.glob("node[0-9]*/cpulist"), key=lambda path: int(path.parent.name.removeprefix("node"))):
        if own := [core for core in _parse(path.read_text()) if core in usable]:
            found.append(own)
    return found if sum(map(len, found)) == len(usable) else [usable]


def share_cores(count: int, of: list[list[int]] | None = None) -> list[CoreShare]:
    """Divide the cores into equal shares for `count` processes, in the order of the nodes (`numa_nodes()`)."""
    of = of or numa_nodes()
    line = [(core, node) for node, cores in enumerate(of) for core in cores]
    found = []
    for place in range(count):
        own = line[place * len(line) // count : (place + 1) * len(line) // count] or [line[place % len(line)]]
        touched = {node for _, node in own}
        stays = () if len(of) == 1 else tuple(core for core, node in line if node in touched)
        found.append(CoreShare(len(own), stays))
    return found


def apply_share(share: CoreShare) -> None:
    """Limit this process, and those that it starts, to its share of the cores.

    Best before numpy and torch are imported: they count cores at that time.
    """
    os.environ.update(dict.fromkeys(_THREADS, str(share.threads)))
    if share.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(share.threads)  # what a script of the user's has loaded already
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(share.threads)


def _parse(text: str) -> list[int]:
    """Parse `0-3,8-11` as numbers."""
    cores: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores
