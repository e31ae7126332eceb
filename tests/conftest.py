"""One thread a process, files spread over processes by weight, and processor seconds a test.

`pytest --cpu-times FILE` writes the seconds of each test, its fixtures and the processes that it waited for, so that
what is slow is known on a busy machine too.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Generator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
import typer.testing

# Two test processes share the cores; several threads in each wait for one another. Set before torch and NumPy load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

TOGETHER = dict.fromkeys(("test_wheel", "test_main_road", "test_match_sample", "test_notebooks", "test_readme"), "demo")
"""Test file -> group of files that share a session's fixture, and so a process."""

HEAVIEST = (
    *("demo", "test_ray", "test_align_towers", "test_speech", "test_towers", "test_devices", "test_crash"),
    *("test_understand", "test_lora", "test_behaviour_stage", "test_explorer_page", "test_grounds_stage", "test_trust"),
    *("test_jobs_survive_kills", "test_model_folders", "test_hostile_media"),
)
"""Groups that start first, so that none is left alone at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-times", metavar="FILE", help="append processor seconds and id of each test to this file")


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Keep the state folder and the terminal of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for name in ("COLUMNS", "LINES", "NO_COLOR"):  # pytest-xdist sets the first for its processes
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_command_tree() -> Generator[None]:
    """Build the commands once a process of the tests: Typer makes all of them anew for each call, 80 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        patch.setattr(typer.testing, "_get_command", typer.main.get_command)
        yield


@pytest.fixture(scope="session", autouse=True)
def shapes_of_json() -> Generator[None]:
    """Check the shape of all that commands print with `--json` in the process of the tests."""
    if find_spec("shapes_of") is None:  # a test runs this file alone, without the helpers beside it
        yield
        return
    from shapes_of import checking

    from coldstart.cli import output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "as_json", checking(output.as_json))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Make a warning an error where a module of the tests is the place it is said of; see `pyproject.toml`."""
    names = "|".join(sorted({path.stem for path in Path(__file__).parent.rglob("*.py")}))
    config.addinivalue_line("filterwarnings", rf"error:::(\w+\.)*({names})$")


def group_of(file: str) -> str:
    """Name the group of a test file: its own, or that of the files that share a fixture with it."""
    stem = Path(file).stem
    return TOGETHER.get(stem, stem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the heaviest groups first, and each group in one piece."""
    groups: dict[str, list[pytest.Item]] = {name: [] for name in HEAVIEST}
    for item in items:
        groups.setdefault(group_of(item.path.name), []).append(item)
    items[:] = [item for group in groups.values() for item in group]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each process of `-n` whole groups, so that their fixtures and models are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # it would start groups of many tests first, not heavy ones
    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    file = item.config.getoption("--cpu-times")
    before = _cpu_s()
    try:
        return (yield)
    finally:
        if torch := sys.modules.get("torch"):  # some benchmark sets two, and all later tests would wait for each other
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        if file:
            with Path(file).open("a") as lines:
                slow = "slow" if item.get_closest_marker("slow") else "fast"
                lines.write(f"{_cpu_s() - before:.3f}\t{slow}\t{item.nodeid}\n")


def _cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
