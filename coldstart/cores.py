"""The cores of this machine, shared out among processes that compute at once, so that none is asked of twice.

What it does not know: a quota of processor time (of a container, say), which leaves all cores in sight.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_NODES = Path("/sys/devices/system/node")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Share:
    """What one process may use.

    Attributes:
        threads: that it computes with.
        cores: numbers of those that it stays on; empty: any. Memory is nearest to the cores of its own node, so a
            process keeps to whole nodes; within a node the system balances better than a fixed place would.
    """

    threads: int
    cores: tuple[int, ...] = ()


def available() -> list[int]:
    """Numbers of the cores that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def threads() -> int:
    """How many threads this process may compute with: what `OMP_NUM_THREADS` says, as torch has it too, or one a core.
    For libraries that do not ask that variable."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else len(available())


def nodes(folder: Path = _NODES) -> list[list[int]]:
    """The cores of `available`, NUMA node by node (on most machines: socket by socket); one node where the system does
    not say."""
    usable = available()
    found = []
    for path in sorted(folder.glob("node[0-9]*/cpulist"), key=lambda path: int(path.parent.name.removeprefix("node"))):
        if own := [core for core in _parse(path.read_text()) if core in usable]:
            found.append(own)
    return found if sum(map(len, found)) == len(usable) else [usable]


def shares(count: int, of: list[list[int]] | None = None) -> list[Share]:
    """Equal shares for `count` processes, in the order of the nodes (`nodes()` by default)."""
    of = of or nodes()
    line = [(core, node) for node, cores in enumerate(of) for core in cores]
    found = []
    for place in range(count):
        own = line[place * len(line) // count : (place + 1) * len(line) // count] or [line[place % len(line)]]
        touched = {node for _, node in own}
        stays = () if len(of) == 1 else tuple(core for core, node in line if node in touched)
        found.append(Share(len(own), stays))
    return found


def settle(share: Share) -> None:
    """Hold this process, and those that it starts, to its share. Best before numpy and torch are loaded: they count
    cores when they are."""
    os.environ.update(dict.fromkeys(_THREADS, str(share.threads)))
    if share.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(share.threads)  # what a script of the user's has loaded already
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(share.threads)


def _parse(text: str) -> list[int]:
    """`0-3,8-11` as numbers."""
    cores: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores
