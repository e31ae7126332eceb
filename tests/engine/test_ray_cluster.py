"""What is said where a cluster cannot be had, without one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import PipelineError, RayCluster
from coldstart.engine.run import run_pipeline
from coldstart.errors import ColdstartError
from coldstart.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def refusal(store: Store, settings: RayCluster) -> str:
    from coldstart.engine.ray.cluster import cluster

    with pytest.raises(ColdstartError) as caught, cluster(settings, store):
        pass
    return str(caught.value)


def test_without_ray_the_extra_is_named(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        if name.startswith("ray"):
            raise ImportError(f"No module named {name!r}")
        return present(name)

    present = importlib.import_module

    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"item_id": "a", "title": "a"}')
    loaded = pipelines.load({"stages": {"ingest": {}}, "engine": "ray"}, manifest=manifest)
    monkeypatch.setattr("coldstart.engine.run.importlib.import_module", absent)
    with pytest.raises(ColdstartError) as caught:
        run_pipeline(store, loaded, only=[])
    assert str(caught.value) == (
        "`engine: ray` needs Ray (No module named 'ray.data'): pip install '.[ray]' in the clone of coldstart"
    )


def test_an_address_that_answers_not_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

    def fails(**settings: Any) -> None:
        raise ConnectionError(f"{settings['address']} timed out.\nMore of it")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fails)
    assert refusal(store, RayCluster(address="10.0.0.9:6379")) == (
        "engine.ray.address='10.0.0.9:6379': no cluster answers there (10.0.0.9:6379 timed out.): start one with `ray "
        "start --head`, or leave the address out to start one on this machine"
    )
    assert refusal(store, RayCluster()) == (
        "Ray does not start on this machine (local timed out.): is it busy? try again"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"preparers": [2, 4], "computers": [1, 1], "cpus": 2},
            "engine.ray asks for 6 cores at least (2 preparers and 1 computers of 2), the cluster has 4: lower `cpus`",
        ),
        ({"gpus": 1}, "engine.ray asks for 1 GPUs at least, the cluster has 0: lower `gpus`"),
    ],
)
def test_pools_that_cannot_be_placed_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    assert refusal(store, RayCluster.model_validate(settings)) == message


def test_a_pool_is_given_from_least_to_most() -> None:
    with pytest.raises(PipelineError) as caught:
        pipelines.load({"stages": {"label": {}}, "engine": {"name": "ray", "ray": {"computers": [3, 2]}}})
    assert "engine.ray.computers=[3, 2]: give the least, then the most" in str(caught.value)
