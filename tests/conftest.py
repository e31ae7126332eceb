"""One thread a process, files spread over processes by weight, and processor seconds a test.

`pytest --cpu-times FILE` writes the seconds of each test, its fixtures and the processes that it waited for, so that
what is slow is known on a busy machine too.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Generator
from pathlib import Path

import pytest

# Two test processes share the cores; several threads in each wait for one another. Set before torch and NumPy load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

HEAVIEST = ("demo", "test_ray", "test_speech", "test_towers", "test_devices", "test_align_towers", "test_understand")
"""Groups that start first, so that none is left alone at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-times", metavar="FILE", help="append processor seconds and id of each test to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Make a warning an error where a module of the tests is the place it is said of; see `pyproject.toml`."""
    names = "|".join(sorted({path.stem for path in Path(__file__).parent.rglob("*.py")}))
    config.addinivalue_line("filterwarnings", rf"error:::(\w+\.)*({names})$")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file on one process, where its fixtures and models are made once; files of one `xdist_group` together."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        marker = item.get_closest_marker("xdist_group")
        if marker is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        groups.setdefault(item.path.stem if marker is None else marker.args[0], []).append(item)
    order = [*(name for name in HEAVIEST if name in groups), *(name for name in groups if name not in HEAVIEST)]
    items[:] = [item for name in order for item in groups[name]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    file = item.config.getoption("--cpu-times")
    before = _cpu_s()
    try:
        return (yield)
    finally:
        if file:
            with Path(file).open("a") as lines:
                slow = "slow" if item.get_closest_marker("slow") else "fast"
                lines.write(f"{_cpu_s() - before:.3f}\t{slow}\t{item.nodeid}\n")


def _cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
