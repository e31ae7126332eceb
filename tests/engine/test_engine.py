"""The local engine over a stage made for the test, in a real workspace."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from paths import SUPPORT
from preparers import NeedsMissingModule, act
from rich.console import Console

from coldstart.core.pipeline import Engine
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import LedgerRow, MapStage, MapStageDefaults, Reject, Row, Work
from coldstart.engine import progress as progress_module
from coldstart.engine import work as writer_module
from coldstart.engine import worker_process
from coldstart.engine import workers as workers_module
from coldstart.engine.local import PassReport, run_map
from coldstart.engine.progress import ConsoleProgress
from coldstart.engine.work import Scope, Writer
from coldstart.engine.worker_process import WorkerProcess
from coldstart.errors import ColdstartError
from coldstart.store import Store

Compute = Callable[[Sequence[Any]], list[Row | Reject]]


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which the engine knows by name alone."""


class Stage(MapStageDefaults):
    """Squares numbers; `batches` keeps what each call of `compute` got."""

    name = "square"
    kind = "square"
    table = "stage.square"
    schema = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("value", pa.float64())])

    def __init__(
        self,
        *,
        batch_cost: float = 4,
        isolated: bool = False,
        deadline_s: float = 30,
        prepare: Any = act,
        compute: Compute | None = None,
    ) -> None:
        self.batch_cost = batch_cost
        self.isolated = isolated
        self.deadline_s = deadline_s
        self.batches: list[list[Any]] = []
        self._prepare = prepare
        self._compute = compute or (lambda batch: [{"value": value**2} for value in batch])

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def preparer(self) -> Any:
        return self._prepare

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        self.batches.append(list(batch))
        return self._compute(batch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def work(count: int, acts: dict[int, str] | None = None, cost: float = 1.0) -> list[Work]:
    acts = acts or {}
    return [Work(f"i{n}", f"k{n}", {"value": float(n), "cost": cost, "act": acts.get(n)}) for n in range(count)]


def go(store: Store, stage: MapStage, todo: Iterable[Work], **engine: Any) -> PassReport:
    settings = Engine(**{"workers": 2, "commit_rows": 1000, "commit_s": 1000.0, **engine})
    return run_map(store, stage, todo, None, settings, SilentProgress())


def values(store: Store) -> dict[str, float]:
    if not store.has(Stage.table):
        return {}
    rows = store.read(Stage.table)
    return dict(zip(rows["item_id"].to_pylist(), rows["value"].to_pylist(), strict=True))


def verdicts(store: Store) -> dict[str, tuple[str, str]]:
    return {item: (row.reason, row.detail) for item, row in store.ledger("square").get("square", {}).items()}


def squares(numbers: Iterable[int]) -> dict[str, float]:
    return {f"i{n}": float(n**2) for n in numbers}


def test_the_stage_of_these_tests_is_a_map_stage() -> None:
    assert isinstance(Stage(), MapStage)


def test_rows_carry_the_key_they_were_made_under(store: Store) -> None:
    ran = go(store, Stage(), work(10))
    assert values(store) == squares(range(10))
    assert store.keys(Stage.table) == {f"i{n}": f"k{n}" for n in range(10)}
    assert (ran.done, ran.lost, ran.commits, ran.cost) == (10, 0, 1, 10.0)


def test_batches_fill_up_to_the_budget_of_cost(store: Store) -> None:
    stage = Stage(batch_cost=8)
    costs = [1, 1, 6, 5, 3, 20, 1, 1]
    todo = [Work(f"i{n}", f"k{n}", {"value": float(n), "cost": float(cost)}) for n, cost in enumerate(costs)]
    ran = go(store, stage, todo)
    assert stage.batches == [[0, 1, 2], [3, 4], [5], [6, 7]]
    assert ran.cost == sum(costs)


def test_nothing_to_do_computes_nothing(store: Store) -> None:
    stage = Stage()
    assert go(store, stage, []).commits == 0
    assert stage.batches == []


def test_an_item_turned_away_beforehand_gets_its_ledger_row(store: Store) -> None:
    todo = [*work(2), Work("bad", "kb", Reject("not_found", "bad.jpg"))]
    ran = go(store, Stage(isolated=True), todo)
    assert values(store) == squares(range(2))
    assert verdicts(store) == {"bad": ("not_found", "bad.jpg")}
    assert (ran.done, ran.lost) == (2, 1)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_reject_in_prepare_costs_one_item(store: Store, isolated: bool) -> None:
    ran = go(store, Stage(isolated=isolated), work(9, {4: "reject"}))
    assert values(store) == squares(n for n in range(9) if n != 4)
    assert verdicts(store) == {"i4": ("too_small", "1 x 1")}
    assert store.ledger("square")["square"]["i4"] == LedgerRow("square", "i4", "k4", "failed", "too_small", "1 x 1")
    assert (ran.done, ran.lost) == (8, 1)


def test_a_reject_from_compute_costs_one_item(store: Store) -> None:
    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        return [Reject("bad_vector", "nan") if value == 3 else {"value": value**2} for value in batch]

    ran = go(store, Stage(compute=compute), work(6))
    assert values(store) == squares([0, 1, 2, 4, 5])
    assert verdicts(store) == {"i3": ("bad_vector", "nan")}
    assert (ran.done, ran.lost) == (5, 1)


@pytest.mark.parametrize("shortage", [OutOfMemoryError, MemoryError])
def test_a_batch_that_runs_out_of_memory_is_halved_in_order(store: Store, shortage: type[Exception]) -> None:
    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        if len(batch) > 3 or 11 in batch:
            raise shortage("CUDA out of memory.\nTried to allocate 1 GiB")
        return [{"value": value**2} for value in batch]

    stage = Stage(batch_cost=8, compute=compute)
    go(store, stage, work(16))
    assert stage.batches[:4] == [list(range(8)), [0, 1, 2, 3], [0, 1], [2, 3]]
    assert values(store) == squares(n for n in range(16) if n != 11)
    assert verdicts(store) == {"i11": ("out_of_memory", "CUDA out of memory.")}


def test_after_a_shortage_batches_stay_small(store: Store) -> None:
    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        if len(batch) > 4:
            raise MemoryError
        return [{"value": value**2} for value in batch]

    stage = Stage(batch_cost=8, compute=compute)
    go(store, stage, work(24))
    assert [len(batch) for batch in stage.batches] == [8, 4, 4, 4, 4, 4, 4]


def test_the_message_of_the_cpu_allocator_is_a_shortage_too(store: Store) -> None:
    message = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"

    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        raise RuntimeError(message)

    go(store, Stage(compute=compute), work(1))
    assert verdicts(store) == {"i0": ("out_of_memory", message)}


def test_a_wrong_number_of_results_is_raised(store: Store) -> None:
    with pytest.raises(ValueError, match=r"^stage 'square' gave 3 results for 4 samples$"):
        go(store, Stage(compute=lambda batch: [{"value": 0.0}] * 3), work(4))


def test_a_fault_of_the_program_in_prepare_is_raised_and_finished_rows_stay(store: Store) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^a bug$"):
        go(store, Stage(batch_cost=2), work(40, {30: "bug"}))
    assert squares(range(20)).items() <= values(store).items()
    assert verdicts(store) == {}


def test_what_a_decoder_throws_in_a_worker_costs_its_item_after_a_second_try(store: Store, tmp_path: Path) -> None:
    todo = work(8, {1: "bug", 3: "panic", 4: "bug once", 6: "assert"})
    todo[4].row["once"] = str(tmp_path / "tried")  # type: ignore[index]
    ran = go(store, Stage(isolated=True), todo)
    assert verdicts(store) == {
        "i1": ("decoder_fault", f"ZeroDivisionError at preparers:act:{line_of('a bug')}"),
        "i3": ("decoder_fault", f"SystemExit at preparers:act:{line_of('a panic')}"),
        "i6": ("decoder_fault", f"AssertionError at preparers:act:{line_of('an assertion of a library')}"),
    }
    assert values(store) == squares([0, 2, 4, 5, 7])
    assert (ran.done, ran.lost) == (5, 3)


def line_of(message: str) -> int:
    """Line of `preparers.py` that raises with this message."""
    lines = (SUPPORT / "preparers.py").read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if f'"{message}"' in line)


def test_the_place_of_a_fault_names_our_call_and_no_message(store: Store) -> None:
    go(store, Stage(isolated=True), work(1, {0: "nested"}))
    [(reason, detail)] = verdicts(store).values()
    assert reason == "decoder_fault"
    place = f"preparers:decode:{line_of('https://user:password@host/')}"
    assert re.sub(r"\d+$", "N", detail) == f"ValueError at {place}, called at coldstart.media.image:load_image:N"


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        ("set-up", ColdstartError, "install what is missing"),
        ("disk full", OSError, "[Errno 28] No space left on device"),
        ("own assertion", AssertionError, "impossible"),
        ("unpicklable", TypeError, "cannot pickle"),
    ],
)
def test_faults_of_the_set_up_and_our_own_assertions_cost_the_run(
    store: Store, act: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        go(store, Stage(isolated=True), work(3, {1: act}))
    assert verdicts(store) == {}


def test_a_fault_of_the_program_in_compute_is_raised_and_finished_rows_stay(store: Store) -> None:
    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        return [{"value": 1 / (value - 9)} for value in batch]

    with pytest.raises(ZeroDivisionError):
        go(store, Stage(compute=compute), work(20))
    assert set(values(store)) == {f"i{n}" for n in range(8)}
    assert verdicts(store) == {}


@pytest.mark.slow
def test_one_bad_item_among_workers_costs_that_item(store: Store) -> None:
    acts = {2: "hang", 5: "exit", 8: "segfault", 11: "reject"}
    ran = go(store, Stage(isolated=True, deadline_s=0.25), work(16, acts))
    assert verdicts(store) == {
        "i2": ("decode_timeout", "took more than 2.5 s"),
        "i5": ("decoder_fault", "the worker process died (exit code 3)"),
        "i8": ("decoder_fault", "the worker process died (exit code -11, Segmentation fault)"),
        "i11": ("too_small", "1 x 1"),
    }
    assert values(store) == squares(n for n in range(16) if n not in acts)
    assert (ran.done, ran.lost) == (12, 4)


@pytest.mark.slow
def test_the_deadline_counts_processor_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_WALL_PER_DEADLINE", 1000.0)
    go(store, Stage(isolated=True, deadline_s=0.2), work(4, {1: "spin", 2: "slow"}))
    assert verdicts(store) == {"i1": ("decode_timeout", "took more than 0.2 s of processor time")}
    assert values(store) == squares([0, 2, 3]), "half a second of waiting is no processor time"


@pytest.mark.slow
def test_an_item_that_takes_too_much_memory_costs_itself(store: Store) -> None:
    go(store, Stage(isolated=True), work(6, {1: "hog", 3: "no memory"}), worker_memory_bytes=2**28)
    found = verdicts(store)
    assert values(store) == squares([0, 2, 4, 5])
    line = line_of("no memory") + 1
    assert found["i3"] == ("out_of_memory", f"MemoryError at preparers:act:{line}")
    reason, detail = found["i1"]
    assert (reason, re.sub(r"\d{9,} bytes", "N bytes", detail)) == (
        "out_of_memory",
        "its worker grew to N bytes; the limit is 268435456 (engine.worker_memory_bytes)",
    )


@pytest.mark.slow
def test_a_worker_that_keeps_much_memory_is_replaced_before_the_next_item(store: Store) -> None:
    go(store, Stage(isolated=True), work(3, {0: "keep"}), workers=1, worker_memory_bytes=2**29)
    assert values(store) == squares(range(3))
    todo = work(8, dict.fromkeys(range(8), "keep"))
    go(store, Stage(isolated=True), todo, workers=1, worker_memory_bytes=2**29)
    assert values(store) == squares(range(8)), "what others left behind turns no item away"


def test_a_slow_item_holds_up_no_other(store: Store) -> None:
    stage = Stage(isolated=True, batch_cost=4)
    go(store, stage, work(12, {0: "slow"}))
    assert values(store) == squares(range(12))
    assert 0 not in stage.batches[0]


def test_workers_that_cannot_load_the_preparer_give_one_line(store: Store) -> None:
    with pytest.raises(ColdstartError) as caught:
        go(store, Stage(isolated=True, prepare=NeedsMissingModule()), work(3))
    message = str(caught.value)
    assert message.startswith("no worker process starts (")
    assert message.endswith('under `if __name__ == "__main__":`; otherwise see `coldstart doctor`')
    assert values(store) == {} and verdicts(store) == {}


@pytest.mark.slow
def test_a_script_without_a_main_guard_gives_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(SUPPORT)]!r}\n"
        "from pathlib import Path\n"
        "from test_engine import Stage, go, work\n"
        "from coldstart.errors import ColdstartError\n"
        "from coldstart.store import Store\n"
        "try:\n"
        "    go(Store(Path(sys.argv[1]), create=True), Stage(isolated=True), work(3), workers=1)\n"
        "except ColdstartError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path / "workspace"], capture_output=True, text=True, timeout=100, check=False
    )
    assert 'run the pipeline under `if __name__ == "__main__":`' in done.stdout
    assert len(done.stdout.splitlines()) == 1


def lose_items(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let processes die before they get an item, so many times in a row."""
    prepare = WorkerProcess.prepare
    left = count(times, -1)

    def lose(self: WorkerProcess, *task: Any) -> Any:
        if next(left) <= 0:
            return prepare(self, *task)
        self.kill()
        return None

    monkeypatch.setattr(WorkerProcess, "prepare", lose)


@pytest.mark.slow
def test_a_process_that_dies_between_two_items_is_replaced_and_loses_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_items(monkeypatch, 3)
    ran = go(store, Stage(isolated=True), work(12, {3: "reject"}), workers=1)
    assert values(store) == squares(n for n in range(12) if n != 3)
    assert (ran.done, ran.lost) == (11, 1)


@pytest.mark.slow
def test_workers_that_never_live_give_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_items(monkeypatch, 9)
    with pytest.raises(ColdstartError) as caught:
        go(store, Stage(isolated=True), work(3), workers=1)
    assert str(caught.value) == (
        "worker processes died 6 times before they got an item: is there memory for 1 of them? "
        "see `coldstart doctor`, and try `--set engine.workers=1`"
    )
    assert values(store) == {} and verdicts(store) == {}


def test_kept_workers_serve_the_next_stage_and_stop_at_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[WorkerProcess] = []
    start = WorkerProcess.__init__

    def counted(self: WorkerProcess, *settings: Any) -> None:
        started.append(self)
        start(self, *settings)

    monkeypatch.setattr(WorkerProcess, "__init__", counted)
    with workers_module.reuse_workers():
        go(store, Stage(isolated=True), work(3), workers=1)
        go(store, Stage(isolated=True), work(6), workers=1)
        with pytest.raises(RuntimeError, match="a fault"):
            go(store, Stage(isolated=True, compute=_fault), work(9), workers=1)
        assert len(started) == 1
        go(store, Stage(isolated=True), work(9), workers=1)
        assert len(started) == 2  # what a fault left in the air is not the next stage's
    assert values(store) == squares(range(9))
    assert not any(process.usable for process in started)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(SUPPORT)]!r}\n"
        "from test_engine import Stage, work\n"
        "from coldstart.engine.workers import prepare_isolated\n"
        "if __name__ == '__main__':\n"
        "    for _ in prepare_isolated(Stage(isolated=True), work(2, {1: 'hang'}), 1, lambda: 2):\n"
        "        print('ready', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children()
        parent.kill()
    assert len(children) == 2, "the worker, and the tracker of multiprocessing"
    assert psutil.wait_procs(children, timeout=60)[1] == []


def _fault(batch: Sequence[Any]) -> list[Any]:
    raise RuntimeError("a fault")


@pytest.mark.parametrize("isolated", [False, True])
def test_prefetch_is_bounded(store: Store, isolated: bool) -> None:
    budget, cost, workers = 10.0, 2.0, 2
    taken = computed = most = 0

    def source() -> Iterator[Work]:
        nonlocal taken
        for entry in work(200, cost=cost):
            taken += 1
            yield entry

    def compute(batch: Sequence[float]) -> list[Row | Reject]:
        nonlocal computed, most
        most = max(most, taken - computed)
        computed += len(batch)
        return [{"value": value**2} for value in batch]

    stage = Stage(batch_cost=budget, isolated=isolated, compute=compute)
    go(store, stage, source(), workers=workers)
    assert computed == 200
    in_batch, ahead = budget / cost, 2 * budget  # until the first item is seen, its cost is taken to be one
    assert most <= in_batch + (ahead if isolated else 0)


# -- commits


def test_commits_come_every_so_many_rows(store: Store) -> None:
    ran = go(store, Stage(batch_cost=1), work(25), commit_rows=10)
    assert ran.commits == 3
    assert values(store) == squares(range(25))


def test_verdicts_count_towards_a_commit(store: Store) -> None:
    ran = go(store, Stage(batch_cost=1), work(20, dict.fromkeys(range(0, 20, 2), "reject")), commit_rows=10)
    assert ran.commits == 2


def test_commits_come_every_so_many_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(writer_module, "time", types.SimpleNamespace(monotonic=lambda: now))
    writer = Writer(store, Stage(), commit_rows=1000, commit_s=10.0)
    for second in range(1, 36):
        now = float(second)
        writer.add(Work(f"i{second}", "k", {}), {"value": 1.0})
    assert writer.commits == 3
    assert len(values(store)) == 30


def test_a_failure_takes_the_place_of_an_old_row_and_the_other_way_round(store: Store) -> None:
    go(store, Stage(), work(4, {3: "reject"}))
    assert set(values(store)) == {"i0", "i1", "i2"} and set(verdicts(store)) == {"i3"}
    go(store, Stage(), work(4, {0: "reject"}))
    assert set(values(store)) == {"i1", "i2", "i3"} and set(verdicts(store)) == {"i0"}


def test_a_failure_takes_the_place_of_a_row_of_the_same_run(store: Store) -> None:
    stage = Stage()
    with Writer(store, stage, commit_rows=1, commit_s=1000) as writer:
        writer.add(Work("i0", "k0", {}), {"value": 1.0})
        writer.add(Work("i0", "k1", {}), Reject("bad_vector"))
        writer.add(Work("i0", "k2", {}), {"value": 2.0})
    assert values(store) == {"i0": 2.0} and verdicts(store) == {}


def test_limit_and_retry_choose_in_table_order() -> None:
    stale = ["a", "b", "c", "d"]
    assert Scope(limit=2).choose(stale) == ["a", "b"]
    assert Scope(limit=0).choose(stale) == []
    assert Scope(among=frozenset("dbx"), limit=1).choose(stale) == ["b"]
    assert Scope().choose(stale) == stale


# -- progress


def feed(console: Console, monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    now = 100.0
    monkeypatch.setattr(progress_module, "time", types.SimpleNamespace(monotonic=lambda: now))
    with ConsoleProgress(console).meter("image", total) as meter:
        for done, lost in ((10, 0), (20, {"no_sound": 2}), (30, 1)):
            now += 6.0
            meter.advance(done, lost, 0.25)


@pytest.mark.parametrize(
    ("total", "line"),
    [
        (100, "image: 30/100, 28 s left, 2.5 items/s, 2 without sound, model waited 25%\n"),
        (None, "image: 30, 2.5 items/s, 2 without sound, model waited 25%\n"),
    ],
)
def test_away_from_a_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, total: int | None, line: str
) -> None:
    out = io.StringIO()
    feed(Console(file=out, width=40), monkeypatch, total)
    assert out.getvalue() == line  # in a file of logs a line is one line, whatever the width


def test_slow_steps_have_no_rate_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress_module, "time", types.SimpleNamespace(monotonic=lambda: now))
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=80)).meter("rank: models", 4) as meter:
        now += 76.0
        meter.advance(1, 0, 0.0)
    assert out.getvalue() == "rank: models: 1/4, 228 s left\n"


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    feed(Console(file=out, width=200, force_terminal=True, color_system=None), monkeypatch, 100)
    last = out.getvalue().rpartition("\r")[2]
    for part in ("image", "60/100", f"{60 / 18:,.1f} items/s, 2 without sound, 1 skipped, model waited 25%"):
        assert part in last
    assert math.isclose(60 / 18, 3.333, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("width", "words"), [(80, "3.3 items/s, 2 without sound, 1 more skipped"), (40, "3.3 items/s, 3 skipped")]
)
def test_a_narrow_terminal_has_room_for_what_matters(monkeypatch: pytest.MonkeyPatch, width: int, words: str) -> None:
    out = io.StringIO()
    feed(Console(file=out, width=width, force_terminal=True, color_system=None), monkeypatch, 100)
    assert words in out.getvalue().rpartition("\r")[2]
