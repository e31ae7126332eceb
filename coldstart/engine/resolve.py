"""Resolve the settings of a pipeline: find the encoders, generators, prompts, files and stages that they name.

Builds every stage and loads no weights. A run resolves all of its settings before it stores any, so that a typo leaves
a workspace as it was; a workspace whose stored settings no longer resolve is read without the stages that have a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from coldstart.core.pipeline import Pipeline, PipelineError, StageSpec
from coldstart.core.setting_faults import Fault
from coldstart.core.stage import Resolves, is_map, is_source
from coldstart.errors import ColdstartError, MissingModel, NotFitted
from coldstart.store import Store
from coldstart.store.freshness import build


def setup_faults(pipeline: Pipeline) -> list[Fault]:
    """List faults that would stop a run before its first item, such as weights not on this machine."""
    found: list[Fault] = []
    for spec in pipeline.stages:
        if spec.kind == "ingest" and pipeline.manifest is None:
            continue  # it may still be given on the command line
        error = _resolve(spec, pipeline)
        if error is None and spec.kind == "ingest":
            error = _open_source(spec, pipeline)
        if error is not None:
            _add(found, _fault(spec, error, pipeline), error)
    return found


def _add(faults: list[Fault], fault: Fault, error: ColdstartError) -> None:
    """Add a fault, unless it is that of an earlier stage, which a later one that builds it meets again."""
    if not any(str(error) in earlier for earlier in faults):
        faults.append(fault)


def check_settings(workspace: Store, pipeline: Pipeline, chosen: Collection[StageSpec]) -> None:
    """Refuse settings that do not resolve, before a run stores them or does anything.

    All are resolved where they differ from the stored ones, else those of the chosen stages. Models that are not on
    this machine yet matter to the chosen stages alone.

    Raises:
        ColdstartError: the manifest cannot be read, and the stored settings name another.
        PipelineError: with every fault of the stages.
    """
    saved = None
    with suppress(ColdstartError):  # settings that cannot be read are replaced
        saved = workspace.pipeline()
    faults: list[Fault] = []
    for spec in pipeline.stages:
        if spec not in chosen and saved == pipeline.raw:
            continue
        error = _resolve(spec, pipeline)
        if error is not None and (spec in chosen or not isinstance(error, MissingModel)):
            _add(faults, _fault(spec, error, pipeline), error)
    if len(faults) == 1 and faults[0].place is None:  # of no file, such as one of the command line
        raise ColdstartError(str(faults[0]))
    if faults:
        raise PipelineError(pipeline.source, faults)
    if (saved or {}).get("manifest") != pipeline.raw.get("manifest"):
        for spec in pipeline.of_kind("ingest"):
            if (error := _open_source(spec, pipeline)) is not None:
                raise error


def readable(pipeline: Pipeline) -> Pipeline:
    """Leave the stages out whose settings do not resolve, and name them in `unresolved`, to read what is there."""
    while True:
        for spec in pipeline.stages:
            if (error := _resolve(spec, pipeline)) is not None:
                break
        else:
            return pipeline
        rest = tuple(one for one in pipeline.stages if one.name != spec.name)
        pipeline = replace(pipeline, stages=rest, unresolved={**pipeline.unresolved, spec.name: str(error)})


def _resolve(spec: StageSpec, pipeline: Pipeline) -> ColdstartError | None:
    """Build a stage and find what it names; returns the fault, None also for a fit that is still to come."""
    try:
        stage = build(spec, pipeline)
        if is_map(stage):
            stage.fingerprint()
        elif isinstance(stage, Resolves):
            stage.resolve()
    except NotFitted:
        return None
    except ColdstartError as error:
        return error
    return None


def _open_source(spec: StageSpec, pipeline: Pipeline) -> ColdstartError | None:
    try:
        stage = build(spec, pipeline)
        if is_source(stage):
            stage.check_source()
    except ColdstartError as error:
        return error
    return None


def _fault(spec: StageSpec, error: ColdstartError, pipeline: Pipeline) -> Fault:
    """Describe a fault of a stage with the setting that names what is not found."""
    text, path = str(error), ("stages", *spec.name.split("."))
    key = next((keys for keys, value in _texts(spec.settings.model_dump()) if _is_named(value, text)), ())
    named = text.startswith((f"{spec.name}:", f"{spec.name}.", f"stage {spec.name!r}", f"space {spec.name!r}"))
    return Fault(text if named else f"{spec.name}: {text}", (*path, *key), of_value=bool(key)).placed(pipeline.places)


def _is_named(value: str, text: str) -> bool:
    return repr(value) in text or (len(value) > 3 and f" {value}" in text)


def _texts(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the texts of settings with the keys that lead to them."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield from _texts(inner, (*keys, str(key)))
