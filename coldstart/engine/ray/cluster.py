"""Start or join the Ray cluster of a run, check that it reaches the workspace, and leave it as it was."""

from __future__ import annotations

import logging
import math
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import ray
from ray.data import DataContext
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldstart.core.pipeline import RayCluster
from coldstart.errors import ColdstartError
from coldstart.store import Store

_PROBE_S = 120.0


@contextmanager
def cluster(settings: RayCluster, workspace: Store) -> Iterator[None]:
    """Connect to the cluster of `settings`, or use the connection that this process has already.

    Raises:
        ColdstartError: the address answers not; a worker does not see the workspace; there are too few cores.
    """
    own = not ray.is_initialized()
    if own:
        _connect(settings)
    try:
        _check_size(settings)
        if settings.address is not None:
            _check_nodes(workspace)
        with _without_bars(), _without_tracebacks():
            yield
    finally:
        if own:
            ray.shutdown()


def _connect(settings: RayCluster) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers without a GPU see none
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is ours to show
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if settings.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing but this process can reach it
        quiet |= {"num_cpus": max(os.cpu_count() or 1, math.ceil(2 * settings.cpus)), "include_dashboard": False}
    try:
        with _starting():
            ray.init(address=settings.address or "local", **quiet)
    except Exception as error:  # of many kinds, the bare one among them
        reason = str(error).partition("\n")[0]
        if settings.address is None:
            raise ColdstartError(f"Ray does not start on this machine ({reason}): is it busy? try again") from error
        raise ColdstartError(
            f"engine.ray.address={settings.address!r}: no cluster answers there ({reason}): start one with `ray start "
            "--head`, or leave the address out to start one on this machine"
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Turn off the progress bars of Ray Data."""
    context = DataContext.get_current()
    shown = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = shown


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Turn the traceback of each death that Ray Data logs into text.

    A handler may keep its records. Their frames refer to the actors, which would hold their cores until the record is
    dropped, while the next tasks wait for these cores.
    """
    logger = logging.getLogger("ray.data._internal.execution.streaming_executor_state")
    logger.addFilter(_traceback_as_text)
    try:
        yield
    finally:
        logger.removeFilter(_traceback_as_text)


def _traceback_as_text(record: logging.LogRecord) -> bool:
    if record.exc_info:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
    return True


@contextmanager
def _starting() -> Iterator[None]:
    """Silence Lance's warning of forks: Ray's fork only starts another program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fetch(ref: Any) -> Any:
    """Get a result of Ray, and raise the worker's own exception in the place of Ray's wrapper."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, Exception):
            raise cause from error
        raise


def task(function: Callable[..., Any]) -> Any:
    """Wrap `ray.remote`, which has no types."""
    return ray.remote(function)


def has_gpus() -> bool:
    return bool(ray.cluster_resources().get("GPU"))


def _check_size(settings: RayCluster) -> None:
    """Check that the pools of actors fit the cluster, since Ray would wait for ever."""
    cores = ray.cluster_resources().get("CPU", 0)
    needed = (settings.preparers[0] + settings.computers[0]) * settings.cpus
    if needed > cores:
        raise ColdstartError(
            f"engine.ray asks for {needed:g} cores at least ({settings.preparers[0]} preparers and "
            f"{settings.computers[0]} computers of {settings.cpus:g}), the cluster has {cores:g}: lower `cpus`"
        )
    gpus, there = (settings.gpus or 0) * settings.computers[0], ray.cluster_resources().get("GPU", 0)
    if gpus > there:
        raise ColdstartError(f"engine.ray asks for {gpus:g} GPUs at least, the cluster has {there:g}: lower `gpus`")


def _check_nodes(workspace: Store) -> None:
    """Check that every node has this version and opens this workspace, not another folder of the same name."""
    where = workspace.uri if workspace.folder is None else str(workspace.folder)
    token = None
    if workspace.folder is not None:
        token = workspace.folder / f".coldstart.{uuid.uuid4().hex}"
        token.touch()
    try:
        for node in ray.nodes():
            if not node["Alive"] or not node["Resources"].get("CPU"):
                continue
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            probe = _probe.options(scheduling_strategy=strategy, num_cpus=0)
            fault = ray.get(probe.remote(where, token and str(token)), timeout=_PROBE_S)
            if fault:
                raise ColdstartError(f"Ray node {node['NodeManagerHostname']}: {fault}")
    finally:
        if token is not None:
            token.unlink(missing_ok=True)


@task
def _probe(where: str, token: str | None, driver: str = version("coldstart-multimodal")) -> str | None:
    """Find the fault of this node."""
    if (own := version("coldstart-multimodal")) != driver:
        return f"it has coldstart {own}, the driver {driver}: install the same"
    if token is not None and not os.path.exists(token):  # noqa: PTH110  (the path is of another machine)
        return (
            f"it does not see workspace {where}: keep it on a disk that all nodes mount at the same path, or in an "
            "object store such as s3://BUCKET/PATH"
        )
    try:
        Store(where).tables()
    except Exception as error:
        return f"it cannot open workspace {where}: {error}"
    return None
