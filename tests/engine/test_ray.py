"""The Ray engine on a small cluster of this machine: tables as the local engine makes them, deaths, poison."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import SUPPORT
from ray_stages import Recipe, Squares, fill

from coldstart import sample
from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Engine
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import LedgerRow
from coldstart.engine.report import RunReport
from coldstart.engine.run import run_pipeline
from coldstart.engine.work import Scope
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.freshness import Balance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # Ray starts a process for every actor, and each loads Lance
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # of its own settings
]

STAMPS = ("ingested_at", "at", "saved_at", "started_at", "seconds", "report")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of two cores that this process is connected to."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    variables = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_register_timeout_seconds": "600",  # a busy machine
        "RAY_worker_niceness": "0",  # else everything else goes first
        "PYTHONPATH": str(SUPPORT),  # where workers find what the tests run
    }
    size = {"num_cpus": 2, "object_store_memory": 200_000_000, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = ray.init(**size, logging_level=50, log_to_driver=False)
        except Exception as error:  # it waits 30 s for its own processes, whatever else the machine is at
            ray.shutdown()
            pytest.skip(f"Ray does not start on this machine: {error}")
        yield context.address_info["gcs_address"]
        ray.shutdown()


def run_squares(store: Store, stage: Squares, part: int = 4, restarts: int = 1) -> Any:
    from coldstart.engine.ray.cluster import cluster
    from coldstart.engine.ray.run import run_map

    engine = Engine(name="ray", ray={"part": part, "restarts": restarts, "cpus": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with cluster(engine.ray, store):
            return run_map(store, engine, Recipe(store.uri, stage), stage, Scope(), SilentProgress())


def run(store: Store, stages: dict[str, Any], manifest: Path, engine: dict[str, Any]) -> RunReport:
    settings = {"stages": stages, "engine": {"workers": 2, **engine}}
    loaded = pipelines.load(settings, manifest=manifest, media_roots=[sample.path()])
    return run_pipeline(store, loaded)


def contents(store: Store, table: str) -> dict[Any, dict[str, Any]]:
    """Item (of a stage) -> its row, without times and vectors."""
    rows = store.read(table).to_pylist()
    return {
        (row.get("stage"), row["item_id"]): {
            name: value for name, value in row.items() if name not in (*STAMPS, "vector")
        }
        for row in rows
    }


def vectors(store: Store, table: str) -> np.ndarray:
    rows = store.read(table).sort_by("item_id")
    return np.array(rows["vector"].to_pylist(), np.float32) if "vector" in rows.column_names else np.zeros((0, 1))


def assert_equal(local: Store, ray: Store) -> None:
    tables = [name for name in local.tables() if name.startswith("stage.") or name in ("items", "ledger", "catalog")]
    assert [name for name in ray.tables() if name in tables] == tables
    for name in tables:
        assert contents(ray, name) == contents(local, name), name
        assert ray.metadata(name) == local.metadata(name), name
        np.testing.assert_allclose(vectors(ray, name), vectors(local, name), atol=0.02)


def test_the_sample_ends_in_the_same_tables(cluster: str, tmp_path: Path) -> None:
    stages = {
        "ingest": {},
        "quality": {"stage": "understand.quality", "min_side": 190, "min_brightness": 0.65},
        "image": {"stage": "embed", "encoder": "fake"},
        "index": {},
    }
    entries = [json.loads(line) for line in (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()]
    some = [*entries[:12], *entries[-3:], {"item_id": "gone", "title": "gone", "image": "no.jpg"}]
    for entry in some:
        for media in entry.get("media", []):
            media["uri"] = str(sample.path() / media["uri"])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, some)), "utf-8")
    local, ray = Store(tmp_path / "local", create=True), Store(tmp_path / "ray", create=True)
    first = run(local, stages, manifest, {})
    second = run(ray, stages, manifest, {"name": "ray", "ray": {"part": 5}})
    assert [report.balance for report in second.stages] == [report.balance for report in first.stages]
    assert [report.notes for report in second.stages] == [report.notes for report in first.stages]
    assert_equal(local, ray)
    assert 0 < first.stages[2].balance.filtered < len(some) - 1  # the gate is open for some
    again = run(ray, stages, manifest, {"name": "ray"})
    assert [report.ran.done for report in again.stages] == [0] * 4


def test_an_actor_that_is_killed_costs_nothing_and_an_item_that_kills_it_each_time_is_turned_away(
    cluster: str, tmp_path: Path
) -> None:
    import ray

    store = Store(tmp_path / "workspace", create=True)
    words = {1: "kill_once", 4: "kill"}
    fill(store, {f"i{n}": f"{words.get(n, 'make')} {n}" for n in range(8)})
    report = run_squares(store, Squares(deaths=str(tmp_path / "died")), part=2)
    assert (tmp_path / "died").exists()
    assert report.balance == Balance(fresh=7, failed=1, reasons={"worker_died": 1})
    rows = store.read("stage.square").to_pylist()
    assert {row["item_id"]: row["value"] for row in rows} == {f"i{n}": float(n**2) for n in range(8) if n != 4}
    assert len(rows) == 7 and (report.ran.done, report.ran.lost) == (7, 1)
    [verdict] = store.verdicts("square").values()
    detail = "the worker process died each time, 2 times alone with it"
    assert verdict == LedgerRow("square", "i4", verdict.row_key, "failed", "worker_died", detail)
    assert report.notes == ["7 squares"]
    # A record of the deaths, which pytest keeps, must hold no actor: it would hold its cores, and the next task waits.
    while ray.available_resources().get("CPU") != 2:  # until the test's timeout
        time.sleep(0.2)


def test_a_stage_whose_actors_all_die_is_a_fault_of_the_set_up(cluster: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", create=True)
    fill(store, {"i0": "kill 0"})
    with pytest.raises(ColdstartError, match=r"^workers of stage 'square' died 1 times in a row without finishing an "):
        run_squares(store, Squares(deaths=str(tmp_path / "died")), restarts=0)
    assert store.verdicts("square") == {}


def test_a_fault_of_the_program_ends_the_run(cluster: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", create=True)
    fill(store, {f"i{n}": f"{'fault' if n == 6 else 'make'} {n}" for n in range(8)})
    with pytest.raises(ZeroDivisionError, match=r"^a fault$"):
        run_squares(store, Squares())
    assert store.verdicts("square") == {}


def test_planning_ends_where_others_hold_every_core(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    store = Store(tmp_path / "workspace", create=True)
    fill(store, {"i0": "make 0"})
    monkeypatch.setattr("coldstart.engine.ray.plan._CORE_S", 1.0)
    holds = ray.remote(num_cpus=2)(lambda: time.sleep(600)).remote()
    while ray.available_resources().get("CPU"):
        time.sleep(0.1)
    with pytest.raises(
        ColdstartError, match=r"^no core of the Ray cluster came free in 0 minutes, so the tables were "
    ):
        run_squares(store, Squares())
    ray.cancel(holds, force=True)


_DRIVER = """
import sys
from coldstart.store import Store
from coldstart.core.progress import SilentProgress
from coldstart.engine.ray.run import run_map
from coldstart.engine.ray.cluster import cluster
from coldstart.engine.work import Scope
from coldstart.core.pipeline import Engine
from ray_stages import Recipe, Squares
if __name__ == "__main__":
    store = Store(sys.argv[1])
    engine = Engine(name="ray", ray={"address": sys.argv[2], "part": 2, "cpus": 0.5}, commit_rows=2)
    stage = Squares()
    with store.lock(), cluster(engine.ray, store):
        run_map(store, engine, Recipe(store.uri, stage), stage, Scope(), SilentProgress())
"""


def test_a_driver_that_is_killed_leaves_what_it_committed(cluster: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", create=True)
    fill(store, {f"i{n}": f"slow {n}" for n in range(40)})
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    driver = subprocess.Popen([sys.executable, str(script), store.uri, cluster], env=env, stderr=subprocess.PIPE)
    try:
        while store.count("stage.square") < 4:
            assert driver.poll() is None, driver.stderr and driver.stderr.read().decode()
            time.sleep(0.2)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert driver.stderr is not None
        driver.stderr.close()
    before = store.keys("stage.square")
    assert 4 <= len(before) < 40
    with store.lock():
        report = run_squares(store, Squares())
    assert report.balance == Balance(fresh=40)
    assert report.ran.done == 40 - len(before)
    rows = store.read("stage.square").to_pylist()
    assert {row["item_id"]: row["value"] for row in rows} == {f"i{n}": float(n**2) for n in range(40)}
    assert len(rows) == 40
