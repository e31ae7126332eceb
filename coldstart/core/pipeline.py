"""Read pipeline files: YAML in, frozen settings out. Reports every fault at once. Builds and runs nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from coldstart.core import stage as registry
from coldstart.core import trust
from coldstart.core.attributes import Attribute, Attributes
from coldstart.core.settings import (
    as_mapping,
    data_files,
    expand_user,
    kind_of,
    parse_yaml,
    refuse_remote_manifest,
    show_value,
    suggestion,
    with_absolute_paths,
    with_overrides,
    with_roots,
    with_space,
)
from coldstart.core.spelling import existing_path
from coldstart.errors import ColdstartError


class PipelineError(ColdstartError):
    """A pipeline file with faults; `faults` lists them all, one line each."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        super().__init__(f"{source}: {count}: " + "; ".join(faults))


class Section(BaseModel):
    """Settings that refuse unknown names and do not change after they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Media(Section):
    """Settings of media: allowed sources and limits. `None` keeps the default of `coldstart.media.guard.Limits`."""

    roots: tuple[str, ...] = ()
    """Folders besides the manifest's own from which media may come; relative to the pipeline file."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that http(s) media may come from; none by default."""
    allowed_buckets: tuple[str, ...] = ()
    """Buckets that media may come from, such as `s3://photos`; none by default. They are read with this machine's
    credentials."""
    allowed_schemes: tuple[str, ...] = ()
    """Schemes of fsspec that media may come from, whatever the bucket or host; none by default."""
    max_image_bytes: int | None = Field(default=None, gt=0)
    """Bytes of a picture's file, at most."""
    max_video_bytes: int | None = Field(default=None, gt=0)
    """Bytes of a file of video or sound, at most."""
    max_pixels: int | None = Field(default=None, gt=0)
    """Width times height of a picture or a frame, at most."""
    min_side: int | None = Field(default=None, gt=0)
    """Least pixels of a picture's shorter side."""
    max_duration_s: float | None = Field(default=None, gt=0)
    """Seconds of a video, at most; a longer one is turned away."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Processor seconds one item may take before its worker is stopped; by the clock it may take ten times as long."""
    _folders: tuple[str, ...] | None = PrivateAttr(default=None)

    def with_folders(self, folders: Iterable[str]) -> Media:
        """Return the same settings with further folders that media may be read from."""
        media = self.model_copy()
        media._folders = tuple(dict.fromkeys((*(self._folders or ()), *folders)))
        return media

    def limits(self) -> dict[str, Any]:
        """Return the limits that the file states, by the names of `coldstart.media.guard.Limits`.

        `roots` are all folders that media may be read from, that of the manifest among them; None for settings that
        belong to no workspace and name none.
        """
        named = None if self._folders is None and not self.roots else (*self.roots, *(self._folders or ()))
        return {**self.model_dump(exclude_none=True), "roots": named}


class RayCluster(Section):
    """Settings of `engine: ray`; sizes are (least, most), between which Ray scales by the load."""

    address: str | None = None
    """A running cluster: `auto`, `HOST:PORT` or `ray://HOST:10001`; None starts one on this machine."""
    preparers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 8)
    """Actors that read and decode media."""
    computers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 8)
    """Actors that hold a model."""

    @field_validator("preparers", "computers")
    @classmethod
    def _ascending(cls, sizes: tuple[int, int]) -> tuple[int, int]:
        if sizes[0] > sizes[1]:
            raise ValueError("give the least, then the most")
        return sizes

    cpus: float = Field(default=1.0, gt=0)
    """Cores that Ray sets aside for each actor: threads of one that computes, worker processes of one that prepares."""
    gpus: float | None = Field(default=None, ge=0)
    """Share of a GPU for each actor that holds a model; None: one where the cluster has any, else none."""
    part: int = Field(default=128, ge=1)
    """Items of one part, which is done again as a whole where its actor dies."""
    restarts: int = Field(default=3, ge=0)
    """Number of times that a part whose actor died is done again, before its items are done one by one."""


WORKER_MEMORY_BYTES = 2 * 2**30
"""Enough for the largest picture and for video of eight thousand lines, within the default limits."""


class Engine(Section):
    """Settings of the engine; none changes results. `engine: ray` is short for `engine: {name: ray}`."""

    name: Literal["local", "ray"] = "local"
    """`local`: this machine. `ray`: actors of a Ray cluster, or of one that is started here (extra `ray`)."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes that read and decode media; on Ray, `ray.preparers` actors with `ray.cpus` each take their place."""
    worker_memory_bytes: int = Field(default=WORKER_MEMORY_BYTES, ge=2**28)
    """Memory at which one of these processes is stopped: a decompression bomb costs its item, not the machine."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    devices: Annotated[int, Field(ge=1)] | Literal["all"] | tuple[str, ...] = 1
    """Devices that compute at once, a process each: so many of the kind of `device`, all that there are, or those
    named, such as `[cuda:0, cuda:3]`. With `device: cpu`, so many processes that share out the cores."""

    @field_validator("devices", mode="before")
    @classmethod
    def _countable(cls, given: Any, others: ValidationInfo) -> Any:
        device = others.data.get("device", "auto")
        if given == "all" or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
            if given not in (1, "all") and (device == "mps" or ":" in device):
                raise ValueError(f"device {device} is one; give a kind of which there are several, as in device: cuda")
            return given
        named = isinstance(given, list | tuple) and all(
            isinstance(name, str) and re.fullmatch(r"cuda:\d+", name) for name in given
        )
        if not named or not given or len(set(given)) < len(given):
            raise ValueError("give all, a number from 1, or a list such as [cuda:0, cuda:1]")
        if device not in ("auto", "cuda"):
            raise ValueError(f"they are not of device {device}; leave device out")
        return given

    ray: RayCluster = Field(default_factory=RayCluster)
    """Settings of `name: ray`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the models; `auto` measures what the device does well."""
    commit_rows: int = Field(default=1000, ge=1)
    """Rows are written as soon as there are so many."""
    commit_s: float = Field(default=10.0, gt=0)
    """Rows are written after so many seconds, even where there are fewer than `commit_rows`."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: its name in the file, its kind, and its settings (the kind's own `Settings`)."""

    name: str
    kind: str
    settings: Any

    @property
    def names(self) -> frozenset[str]:
        """Names by which commands select it: its name, its kind, and the group it is part of."""
        return frozenset({self.name, self.kind, self.name.partition(".")[0], self.kind.partition(".")[0]})


def _nothing(name: str) -> Path | None:
    """Find no fit: a pipeline without a workspace has none."""
    return None


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline.

    Attributes:
        source: the file's name, or what was given instead of one.
        manifest: path of the manifest, where the file names one.
        max_failed: share of items that may fail in a stage before a run exits with 1.
        raw: the settings as plain data, overrides applied and paths absolute, as a workspace stores them.
        attributes: attributes that descriptions state, by category.
        fitted: name of a fit stage -> folder of its newest artifact in the workspace at hand, None without one; a
            pipeline without a workspace has none.
        distrusted: stage -> why it must not be built: its stored settings name a place that nobody gave now.
    """

    source: str
    manifest: Path | None
    max_failed: float
    media: Media
    engine: Engine
    stages: tuple[StageSpec, ...]
    raw: Mapping[str, Any]
    attributes: Attributes = field(default_factory=Attributes)
    fitted: Callable[[str], Path | None] = field(default=_nothing, repr=False, compare=False)
    distrusted: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def of_kind(self, kind: str) -> list[StageSpec]:
        """List the stages of one kind, in their order."""
        return [spec for spec in self.stages if spec.kind == kind]

    def stage(self, name: str) -> StageSpec:
        """Return the stage of this name.

        Raises:
            KeyError: there is none.
        """
        return self.stages[self._place(name)]

    def earlier(self, name: str) -> tuple[StageSpec, ...]:
        """Return the stages before the stage of this name, in their order.

        Raises:
            KeyError: there is no stage of this name.
        """
        return self.stages[: self._place(name)]

    def before(self, name: str, kind: str) -> str | None:
        """Find the name of the last stage of a kind before the stage `name`."""
        return next((spec.name for spec in reversed(self.earlier(name)) if spec.kind == kind), None)

    def _place(self, name: str) -> int:
        for place, spec in enumerate(self.stages):
            if spec.name == name:
                return place
        raise KeyError(name)


def find(name: str | Path) -> Path:
    """Find a pipeline file by its path, or by the name of a packaged one.

    Raises:
        ColdstartError: there is neither.
    """
    path = existing_path(Path(name))
    if path.is_file():
        return path
    packaged = data_files("pipelines", "*.yaml")
    if str(name) in packaged:
        return packaged[str(name)]
    hint = suggestion(str(name), packaged)
    raise ColdstartError(f"no pipeline file {name}{hint}: give a path or one of {', '.join(packaged)}")


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    manifest: str | Path | None = None,
    media_roots: Iterable[str | Path] = (),
    spaces: Mapping[str, Mapping[str, Any]] | None = None,
) -> Pipeline:
    """Read and check a pipeline.

    Args:
        source: a path, the name of a packaged pipeline, or the settings as plain data.
        overrides: `stage.key=value` or `key=value`, the value in YAML.
        manifest: takes the place of the file's; relative to the working folder.
        media_roots: added to the file's; relative to the working folder.
        spaces: settings of embed stages by name; a stage that is not there is added before the index.

    Raises:
        PipelineError: with every fault of the file.
        ColdstartError: there is no such file.
    """
    if isinstance(source, Mapping):
        label, base, raw = "pipeline", Path.cwd(), dict(source)
    else:
        file = find(source)
        label, base = str(file), file.resolve().parent
        raw = _parse(file)
    faults: list[str] = []
    if isinstance(raw.get("engine"), str):  # `engine: ray`
        raw = {**raw, "engine": {"name": raw["engine"]}}
    for name, settings in (spaces or {}).items():
        raw = with_space(raw, name, settings)
    raw = with_overrides(raw, overrides, faults)
    for given in (manifest, raw.get("manifest")):
        if isinstance(given, str | Path):
            refuse_remote_manifest(given)
    raw = with_absolute_paths(raw, base, faults)
    if manifest is not None:
        raw = {**raw, "manifest": str(expand_user(manifest).absolute())}
    if roots := [str(expand_user(root).absolute()) for root in media_roots]:
        raw = with_roots(raw, roots)
    known = ("manifest", "max_failed", "media", "engine", "attributes", "stages")
    for key in raw:
        if key not in known:
            faults.append(f"unknown setting {key!r}{suggestion(str(key), known)}")
    media = _section(Media, raw.get("media"), "media", faults)
    engine = _section(Engine, raw.get("engine"), "engine", faults)
    attributes = _attributes(raw.get("attributes"), faults)
    max_failed = raw.get("max_failed", 0.01)
    if isinstance(max_failed, bool) or not isinstance(max_failed, int | float) or not 0 <= max_failed <= 1:
        faults.append(f"max_failed={max_failed!r}: give a share between 0 and 1")
    stages = _stages(raw.get("stages"), faults)
    if faults:
        raise PipelineError(label, faults)
    path = Path(raw["manifest"]) if raw.get("manifest") else None
    if path is not None:
        media = media.with_folders([trust.manifest_folder(path)])
    return Pipeline(label, path, float(max_failed), media, engine, tuple(stages), raw, attributes)


def _parse(path: Path) -> dict[str, Any]:
    try:
        raw = parse_yaml(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ColdstartError(f"pipeline {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ColdstartError(f"cannot read pipeline {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise PipelineError(str(path), [str(error)]) from error
    if not isinstance(raw, dict):
        raise PipelineError(str(path), ["it holds no settings: `stages:` is missing"])
    return raw


_RESERVED: Mapping[str, Mapping[str, str]] = {
    "full_text": dict.fromkeys(("embed", "behaviour"), "the ranking by words in searches"),
    "labels": dict.fromkeys(("embed", "behaviour"), "the labels of records beside spaces in fits on behaviour"),
    "match": {"any": "the fitted weights of `coldstart match`"},
    "interactions": {"any": "the interactions in `coldstart status`"},
}
"""Name -> kind of a stage that cannot have it, or `any` -> what has that name in results."""


def _stages(raw: Any, faults: list[str]) -> list[StageSpec]:
    if not raw:
        faults.append("`stages:` is missing or empty")
        return []
    if not isinstance(raw, dict):
        faults.append(
            f"stages={show_value(raw)}: give the name of each stage with its settings, such as `ingest: {{}}`"
        )
        return []
    specs: list[StageSpec] = []
    for name, given in raw.items():
        kind = kind_of(name, given)
        if not str(name).replace("_", "").isalnum() or not str(name).isascii() or str(name) != str(name).lower():
            faults.append(f"stage {name!r}: a name is lower-case letters, digits and _")
            continue
        if taken := _RESERVED.get(str(name), {}).get(str(kind)) or _RESERVED.get(str(name), {}).get("any"):
            faults.append(f"stage {name!r}: that is the name of {taken}: call it something else, such as {name}_1")
            continue
        settings = {key: value for key, value in given.items() if key != "stage"} if isinstance(given, dict) else given
        if str(kind) in registry.groups():
            specs += _parts(str(name), str(kind), settings, faults)
            continue
        try:
            module = registry.stage_module(str(kind))
        except KeyError:
            known = [*registry.groups(), *registry.kinds()]
            short = ", ".join(sorted(one for one in known if "." not in one))
            faults.append(f"stage {name!r}: unknown kind {kind!r}{suggestion(str(kind), known)} (known: {short})")
            continue
        specs.append(StageSpec(str(name), str(kind), _section(module.Settings, settings, str(name), faults)))
    kinds = [spec.kind for spec in specs]
    for kind in ("ingest", "index"):
        if kinds.count(kind) > 1:
            faults.append(f"{kinds.count(kind)} stages of kind {kind!r}: one is allowed")
    if "ingest" in kinds[1:]:
        faults.append("stage of kind 'ingest' is not the first: put it at the top")
    return specs


def _parts(name: str, group: str, raw: Any, faults: list[str]) -> list[StageSpec]:
    """Read the stages of a group, each named `group.part`, in the group's own order.

    A part that is `false` is left out, and so is one on demand that is not named.
    """
    given = as_mapping(raw)
    parts = registry.parts(group)
    if given is None:
        faults.append(f"{name}={show_value(raw)}: give settings of its parts, such as `{parts[0]}: {{}}`")
        return []
    for part in given:
        if part not in parts:
            faults.append(f"unknown part {name}.{part}{suggestion(str(part), parts)} (known: {', '.join(parts)})")
    specs = []
    for part in parts:
        settings = given.get(part, not registry.on_demand(f"{group}.{part}"))
        if settings is False:
            continue
        module, place = registry.stage_module(f"{group}.{part}"), f"{name}.{part}"
        section = _section(module.Settings, {} if settings is True else settings, place, faults)
        specs.append(StageSpec(place, f"{group}.{part}", section))
    return specs


def _attributes(raw: Any, faults: list[str]) -> Attributes:
    """Read the section `attributes`: category -> name -> its settings."""
    found: dict[str, dict[str, Attribute]] = {}
    for category, named in _pairs(raw, "attributes", faults).items():
        place = f"attributes.{category}"
        found[str(category)] = {
            str(name): _section(Attribute, settings, f"{place}.{name}", faults)
            for name, settings in _pairs(named, place, faults).items()
        }
    return Attributes({} if faults else found)


def _pairs(raw: Any, place: str, faults: list[str]) -> dict[Any, Any]:
    given = as_mapping(raw)
    if given is None:
        faults.append(f"{place}={show_value(raw)}: give pairs, such as `default: {{colour: {{visual: true}}}}`")
        return {}
    return given


def _section(model: type[BaseModel], raw: Any, place: str, faults: list[str]) -> Any:
    settings = as_mapping(raw)
    if settings is None:
        faults.append(f"{place}={show_value(raw)}: give settings, such as `{next(iter(model.model_fields))}: value`")
        return None
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        for entry in error.errors():
            where = ".".join([place, *(str(part) for part in entry["loc"])])
            if entry["type"] == "extra_forbidden":
                faults.append(f"unknown setting {where}{suggestion(str(entry['loc'][-1]), model.model_fields)}")
            elif entry["type"] == "missing":
                faults.append(f"{where} is missing")
            else:
                advice = _ADVICE.get(entry["type"], entry["msg"].removeprefix("Value error, "))
                faults.append(f"{where}={show_value(entry['input'])}: {advice}")
        return None


_ADVICE = {"tuple_type": "give a list, such as [a, b]", "dict_type": "give pairs, such as {a: b}"}
"""Advice in terms of YAML where that of pydantic is in terms of Python."""
