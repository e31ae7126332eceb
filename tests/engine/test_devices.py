"""Several devices of one machine: a process each, one that commits, and what happens when one of them dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from catalogue import coldstart, contents, rows, settings, states, write_manifest, write_pipeline
from paths import SUPPORT
from spread_stages import Builder, Squares, Threads

from coldstart.core import pipeline as pipelines
from coldstart.core.device import (
    CoreShare,
    available_cores,
    choose_devices,
    numa_nodes,
    share_cores,
    thread_count,
    visible_cuda,
)
from coldstart.core.pipeline import Engine
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import Reject, Work
from coldstart.engine import devices
from coldstart.engine.device_process import DeviceSlot
from coldstart.engine.devices import OnDevices
from coldstart.engine.local import PassReport, run_map
from coldstart.engine.run import build, run_pipeline
from coldstart.errors import ColdstartError
from coldstart.store import Store

TWO = (DeviceSlot("cpu:0", "cpu", CoreShare(1)), DeviceSlot("cpu:1", "cpu", CoreShare(1)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def work(count: int) -> list[Work]:
    return [Work(f"i{n}", f"k{n}", {"value": float(n)}) for n in range(count)]


def go(store: Store, todo: list[Work], does: dict[float, str] | None = None, **stage: Any) -> PassReport:
    made = {"does": does or {}, **stage}
    return run_map(
        store,
        Squares(**made),
        todo,
        len(todo),
        Engine(workers=2, dtype="float32", commit_rows=1000, commit_s=1000.0),
        SilentProgress(),
        OnDevices(Builder(made), TWO),
    )


def table(store: Store, column: str = "value") -> dict[str, Any]:
    read = store.read(Squares.table)
    return dict(zip(read["item_id"].to_pylist(), read[column].to_pylist(), strict=True))


def verdicts(store: Store) -> dict[str, tuple[str, str]]:
    return {item: (row.reason, row.detail) for item, row in store.ledger("square").get("square", {}).items()}


def squares(count: int, but: set[int] = frozenset()) -> dict[str, float]:  # type: ignore[assignment]
    return {f"i{n}": float(n**2) for n in range(count) if n not in but}


@pytest.mark.slow
@pytest.mark.parametrize("isolated", [False, True])
def test_two_processes_make_every_row_once_under_its_own_key(store: Store, tmp_path: Path, isolated: bool) -> None:
    todo = [*work(120), Work("bad", "kb", Reject("not_found", "bad.jpg"))]
    does = {0.0: "wait", 50.0: "reject", 119.0: "call"}  # so that both have to come to work
    ran = go(store, todo, does, isolated=isolated, mark=str(tmp_path / "mark"))
    assert table(store) == squares(120, {50})
    assert store.keys(Squares.table) == {f"i{n}": f"k{n}" for n in range(120) if n != 50}
    assert verdicts(store) == {"bad": ("not_found", "bad.jpg"), "i50": ("bad_vector", "nan")}
    assert (ran.done, ran.lost, ran.cost) == (119, 2, 120.0)
    assert len(set(table(store, "where").values())) == 2
    assert 0 < ran.compute_s <= ran.seconds and 0 < ran.start_s <= ran.wait_s <= ran.seconds


@pytest.mark.slow
def test_nothing_to_do_ends(store: Store) -> None:
    assert go(store, []).done == 0


@pytest.mark.slow
def test_a_process_that_is_killed_once_loses_no_item(store: Store, tmp_path: Path) -> None:
    ran = go(store, work(90), {40.0: "once"}, mark=str(tmp_path / "mark"))
    assert table(store) == squares(90)
    assert (ran.done, ran.lost) == (90, 0)


@pytest.mark.slow
def test_a_process_killed_from_outside_loses_no_item(store: Store) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 200
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            with suppress(psutil.NoSuchProcess):
                working = [child for child in psutil.Process().children() if child.children()]  # it has workers
                if len(working) == 2:
                    time.sleep(1.0)
                    os.kill(working[0].pid, signal.SIGKILL)
                    killed.append(working[0].pid)

    thread = threading.Thread(target=kill)
    thread.start()
    ran = go(store, work(300), pause_s=0.04, isolated=True)
    thread.join()
    assert killed
    assert table(store) == squares(300)
    assert (ran.done, ran.lost) == (300, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "cause"),
    [("die", "it ended with exit code -9"), ("cuda", "CUDA error: device-side assert triggered")],
)
def test_an_item_that_kills_its_process_again_and_again_is_turned_away(store: Store, does: str, cause: str) -> None:
    ran = go(store, work(60), {21.0: does})
    assert table(store) == squares(60, {21})
    assert set(verdicts(store)) == {"i21"}
    reason, detail = verdicts(store)["i21"]
    assert reason == "device_process_died"
    assert re.fullmatch(rf"the process of cpu:\d died whenever it worked on it: {cause}", detail)
    assert (ran.done, ran.lost) == (59, 1)


@pytest.mark.slow
def test_processes_that_die_one_after_another_give_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_MOST_DEATHS", 2)
    with pytest.raises(ColdstartError) as caught:
        go(store, work(40), dict.fromkeys(map(float, range(40)), "die"))
    assert re.fullmatch(
        r"the process of cpu:\d died 2 times without making a row \(it ended with exit code -9\): is there memory for "
        r"its model\? see `coldstart doctor`, and try `--set engine.devices=1`",
        str(caught.value),
    )


@pytest.mark.slow
def test_processes_that_never_start_give_one_line(store: Store) -> None:
    with pytest.raises(ColdstartError) as caught:
        go(store, work(40), {-1.0: "no build"})
    assert re.fullmatch(
        r"no process starts for cpu:\d \(it ended with exit code 9\): in a script of your own, run the pipeline under "
        r'`if __name__ == "__main__":`; otherwise see `coldstart doctor`',
        str(caught.value),
    )


@pytest.mark.slow
def test_a_fault_of_the_set_up_is_raised_as_itself(store: Store) -> None:
    with pytest.raises(ColdstartError, match=r"^weights of X are not here: run `coldstart models pull`$") as caught:
        go(store, work(40), {3.0: "set-up"})
    assert not hasattr(caught.value, "__notes__")
    assert verdicts(store) == {}


@pytest.mark.slow
def test_a_fault_of_the_program_is_raised_with_its_trace_and_finished_rows_stay(store: Store) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^a bug") as caught:  # its notes follow
        go(store, work(200), {150.0: "bug"})
    assert "spread_stages.py" in caught.value.__notes__[0]
    stored = table(store)
    assert len(stored) >= 40  # batches that another process held are lost, however far it was
    assert stored.items() <= squares(200).items()
    assert verdicts(store) == {}


@pytest.mark.slow
def test_an_exception_that_crosses_no_border_is_told_in_words(store: Store) -> None:
    with pytest.raises(RuntimeError, match=r"^NeedsTwoError: this and that$"):
        go(store, work(20), {3.0: "two"})


@pytest.mark.slow
def test_no_process_is_left_and_none_asks_for_more_than_its_share(store: Store) -> None:
    before = set(psutil.Process().children(recursive=True))
    produce = OnDevices(Threads(), TWO)
    engine = Engine(workers=5, dtype="float32")
    run_map(store, Squares({}), work(40), 40, engine, SilentProgress(), produce)
    assert set(table(store).values()) == {1.0}
    assert set(table(store, "where").values()) == {"[1] 2"}
    started = set(psutil.Process().children(recursive=True)) - before
    assert [process for process in started if "spawn_main" in " ".join(process.cmdline())] == []


@pytest.mark.slow
def test_when_the_parent_is_killed_its_processes_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(SUPPORT)]!r}\n"
        'if __name__ == "__main__":\n'
        "    from pathlib import Path\n"
        "    from test_devices import go, work\n"
        "    from coldstart.store import Store\n"
        "    print('begins', flush=True)\n"
        "    go(Store(Path(sys.argv[1]), create=True), work(5000), pause_s=0.1, isolated=True)\n"
    )
    with subprocess.Popen([sys.executable, script, tmp_path / "w"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"begins\n"
        deadline = time.monotonic() + 200
        family: set[psutil.Process] = set()
        while time.monotonic() < deadline and len(family) < 5:  # two processes, a worker each, a tracker of semaphores
            time.sleep(0.2)
            family = set(psutil.Process(parent.pid).children(recursive=True))
        assert len(family) >= 5
        parent.kill()
    assert psutil.wait_procs(family, timeout=60)[1] == []


# -- the pipeline


def ends_alike(tmp_path: Path, one: dict[str, Any], count: int) -> None:
    """The pipeline over one process and over two, killed in the middle: the same tables."""
    single, double = tmp_path / "one", tmp_path / "two"
    run_pipeline(Store(single, create=True), pipelines.load(one))
    two = {**one, "engine": {**one["engine"], "device": "cpu", "devices": 2}}
    report = run_pipeline(Store(double, create=True), pipelines.load(two))
    assert states(report.stages)["image"] == (count, 0, 0, 0, 0)
    assert contents(single) == contents(double)


@pytest.mark.slow
def test_one_and_two_processes_make_equal_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_LARGE_BATCH", 4)
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 40))
    ends_alike(tmp_path, settings(manifest, dtype="float32"), 40)


@pytest.mark.slow
def test_the_starter_encoder_makes_equal_rows_in_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_LARGE_BATCH", 4)  # else so few items are not spread over processes
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 20))
    one = settings(manifest, dtype="float32")
    one["stages"]["image"]["encoder"] = "starter"
    found = {}
    for devices_ in (1, 2):
        store = Store(tmp_path / str(devices_), create=True)
        run = {**one, "engine": {**one["engine"], "device": "cpu", "devices": devices_}}
        loaded = pipelines.load(run)
        spread = devices.device_producer(store, loaded, build(loaded.stage("image"), loaded), 20)  # type: ignore[arg-type]
        assert (spread is not None) == (devices_ == 2)
        run_pipeline(store, loaded)
        found[devices_] = contents(tmp_path / str(devices_))
    assert found[1].keys() == found[2].keys()
    for name, made in found[1].items():
        for left, right in zip(made, found[2][name], strict=True):
            assert left.keys() == right.keys()
            for key, value in left.items():
                assert right[key] == (pytest.approx(value, abs=2e-3) if "vector" in key and value else value)


@pytest.mark.slow
def test_a_run_over_two_processes_that_is_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 600))
    one = settings(manifest, dtype="float32", commit_rows=50)
    two = {**one, "engine": {**one["engine"], "device": "cpu", "devices": 2}}
    path = write_pipeline(tmp_path / "two.yaml", two)
    workspace = tmp_path / "killed"
    command = [sys.executable, "-c", "from coldstart.cli import main; main()", "run", path, "--workspace", workspace]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        if any(workspace.glob("stage.image*/_versions/*")):
            process.kill()
    assert process.wait() == -signal.SIGKILL
    again = coldstart("run", path, "--workspace", workspace)
    assert again.returncode == 0, again.stderr
    run_pipeline(Store(tmp_path / "whole", create=True), pipelines.load(one))
    assert contents(workspace) == contents(tmp_path / "whole")


def test_small_stages_and_those_without_a_device_stay_here(store: Store, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 2))
    loaded = pipelines.load(settings(manifest, device="cpu", devices=2))
    built = {spec.name: build(spec, loaded) for spec in loaded.stages}
    assert devices.device_producer(store, loaded, built["image"], 255) is None  # type: ignore[arg-type]
    assert devices.device_producer(store, loaded, built["image"], 256) is not None  # type: ignore[arg-type]
    assert devices.device_producer(store, loaded, built["ingest"], None) is None  # type: ignore[arg-type]
    single = pipelines.load(settings(manifest, device="cpu"))
    assert devices.device_producer(store, single, built["image"], 10**6) is None  # type: ignore[arg-type]


# -- which devices


def test_devices_of_the_processor_are_so_many_or_a_node_each() -> None:
    cores = len(available_cores())
    assert choose_devices("cpu", cores) == [f"cpu:{number}" for number in range(cores)]
    assert choose_devices("cpu", "all") == [f"cpu:{number}" for number in range(len(numa_nodes()))]
    assert choose_devices("cpu", 1) == ["cpu"]
    with pytest.raises(ColdstartError) as caught:
        choose_devices("cpu", cores + 1)
    assert str(caught.value) == (
        f"devices: {cores + 1} are not here: this machine has {cores} cores, and a process needs one; use devices: all"
    )


def test_named_devices_that_are_not_here_are_refused() -> None:
    with pytest.raises(ColdstartError, match=r"^device 'cuda:7' is not here: torch sees \d+ CUDA devices"):
        choose_devices("auto", ("cuda:7",))


def test_a_process_sees_its_own_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_cuda(3) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-8f2c")
    assert [visible_cuda(0), visible_cuda(1)] == ["4", "GPU-8f2c"]


def test_cores_are_shared_out_by_node() -> None:
    assert share_cores(2, [[0, 1]]) == [CoreShare(1), CoreShare(1)]
    assert share_cores(2, [[0, 1, 4, 5], [2, 3, 6, 7]]) == [CoreShare(4, (0, 1, 4, 5)), CoreShare(4, (2, 3, 6, 7))]
    assert share_cores(3, [[0, 1], [2, 3]]) == [CoreShare(1, (0, 1)), CoreShare(1, (0, 1)), CoreShare(2, (2, 3))]
    assert share_cores(3, [[0, 1]]) == [CoreShare(1), CoreShare(1), CoreShare(1)]


def test_threads_are_the_share_or_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert thread_count() == len(available_cores())


def test_nodes_are_read_from_the_system(tmp_path: Path) -> None:
    assert numa_nodes(tmp_path) == [available_cores()]
    for number, cores in enumerate([f"0-{max(available_cores())}", "4000-4003,4010"]):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(cores + "\n")
    assert numa_nodes(tmp_path) == [available_cores()]


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        ({"devices": 0}, "engine.devices=0: give all, a number from 1, or a list such as [cuda:0, cuda:1]"),
        ({"devices": True}, "engine.devices=True: give all, a number from 1, or a list such as [cuda:0, cuda:1]"),
        ({"devices": "two"}, "engine.devices='two': give all, a number from 1, or a list such as [cuda:0, cuda:1]"),
        (
            {"devices": ["cuda:0", "mps"]},
            "engine.devices=['cuda:0', 'mps']: give all, a number from 1, or a list such as [cuda:0, cuda:1]",
        ),
        (
            {"devices": ["cuda:0", "cuda:0"]},
            "engine.devices=['cuda:0', 'cuda:0']: give all, a number from 1, or a list such as [cuda:0, cuda:1]",
        ),
        (
            {"device": "cpu", "devices": ["cuda:0", "cuda:1"]},
            "engine.devices=['cuda:0', 'cuda:1']: they are not of device cpu; leave device out",
        ),
        (
            {"device": "mps", "devices": 2},
            "engine.devices=2: device mps is one; give a kind of which there are several, as in device: cuda",
        ),
        (
            {"device": "cuda:1", "devices": 2},
            "engine.devices=2: device cuda:1 is one; give a kind of which there are several, as in device: cuda",
        ),
    ],
)
def test_settings_that_name_no_devices_are_refused(engine: dict[str, Any], fault: str) -> None:
    with pytest.raises(pipelines.PipelineError) as caught:
        pipelines.load({"engine": engine, "stages": {"index": {}}})
    assert caught.value.faults == [fault]


def test_devices_may_be_all_so_many_or_named() -> None:
    for given, read in (("all", "all"), (3, 3), (["cuda:0", "cuda:1"], ("cuda:0", "cuda:1"))):
        loaded = pipelines.load({"engine": {"devices": given}, "stages": {"index": {}}})
        assert loaded.engine.devices == read
