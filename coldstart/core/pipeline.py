"""Read pipeline files: YAML in, frozen settings out. Reports every fault at once. Builds and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from coldstart.core import stage as registry
from coldstart.core import trust
from coldstart.core.attributes import Attribute, Attributes
from coldstart.core.sections import Engine, Media, RayCluster, Section
from coldstart.core.setting_faults import Fault, PipelineError, Places
from coldstart.core.settings import (
    as_mapping,
    data_files,
    expand_user,
    kind_of,
    refuse_remote_manifest,
    show_value,
    suggestion,
    with_absolute_paths,
    with_overrides,
    with_roots,
    with_space,
)
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.yaml_text import YamlError, YamlText, read_yaml
from coldstart.errors import ColdstartError, NotFitted

__all__ = [
    "Engine",
    "Media",
    "Pipeline",
    "PipelineError",
    "RayCluster",
    "Section",
    "StageSpec",
    "check_readable",
    "find",
    "load",
    "load_readable",
]


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
        unresolved: stage -> what is wrong with its settings: it is left out of `stages`. Empty but for one that is read
            to see what a workspace holds.
        places: lines and columns of the settings in the file.
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
    unresolved: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    places: Places = field(default_factory=Places, repr=False, compare=False)

    def of_kind(self, kind: str) -> list[StageSpec]:
        """List the stages of one kind, in their order."""
        return [spec for spec in self.stages if spec.kind == kind]

    def last(self, kind: str, command: str) -> StageSpec:
        """Return the last stage of a kind.

        Args:
            command: that adds one, as the next step.

        Raises:
            NotFitted: there is none.
        """
        stages = self.of_kind(kind)
        if not stages:
            raise NotFitted(f"{self.source} has no stage of kind {kind}: `{command}` adds one")
        return stages[-1]

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
    hint = suggestion(str(name), packaged) or similar_path(path)
    raise ColdstartError(f"no pipeline file {name}{hint}: give a path or one of {', '.join(packaged)}")


def check_readable(name: str | Path) -> None:
    """Refuse a pipeline that is not there or no YAML, before anything else is imported for a run.

    Raises:
        PipelineError: with every fault of the YAML.
        ColdstartError: there is no such file.
    """
    _parse(find(name))


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    manifest: str | Path | None = None,
    media_roots: Iterable[str | Path] = (),
    spaces: Mapping[str, Mapping[str, Any]] | None = None,
    label: str = "pipeline",
) -> Pipeline:
    """Read and check a pipeline.

    Args:
        source: a path, the name of a packaged pipeline, or the settings as plain data.
        overrides: `stage.key=value` or `key=value`, the value in YAML.
        manifest: takes the place of the file's; relative to the working folder.
        media_roots: added to the file's; relative to the working folder.
        spaces: settings of embed stages by name; a stage that is not there is added before the index.
        label: name of plain data in errors.

    Raises:
        PipelineError: with every fault of the file.
        ColdstartError: there is no such file.
    """
    loaded, faults = _load(source, overrides, manifest, media_roots, spaces, label)
    if faults:
        raise PipelineError(loaded.source, faults)
    return loaded


def load_readable(stored: Mapping[str, Any]) -> Pipeline:
    """Read the stored settings of a workspace as far as they can be read.

    A stage whose settings have a fault is left out, and `unresolved` says why; another section with a fault is as if it
    were not there.
    """
    loaded, faults = _load(stored)
    unresolved: dict[str, list[str]] = {}
    for fault in faults:
        unresolved.setdefault(_owner(fault.path), []).append(str(fault))
    return replace(loaded, unresolved={name: "; ".join(own) for name, own in unresolved.items()})


def _owner(path: tuple[str, ...]) -> str:
    """Name the stage that a fault belongs to, or the section."""
    if path[:1] != ("stages",) or len(path) == 1:
        return ".".join(path[:1]) or "pipeline"
    in_group = len(path) > 2 and path[1] in registry.groups() and path[2] in registry.parts(path[1])
    return ".".join(path[1 : 3 if in_group else 2])


def _load(
    source: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    manifest: str | Path | None = None,
    media_roots: Iterable[str | Path] = (),
    spaces: Mapping[str, Mapping[str, Any]] | None = None,
    label: str = "pipeline",
) -> tuple[Pipeline, list[Fault]]:
    text = None
    if isinstance(source, Mapping):
        base, raw = Path.cwd(), dict(source)
    else:
        file = find(source)
        label, base = str(file), file.resolve().parent
        raw, text = _parse(file)
    faults: list[Fault] = []
    given: list[tuple[str, ...]] = []
    if isinstance(raw.get("engine"), str):  # `engine: ray`
        raw = {**raw, "engine": {"name": raw["engine"]}}
    for name, settings in (spaces or {}).items():
        raw = with_space(raw, name, settings)
        given += [("stages", name, key) for key in settings]
    raw = with_overrides(raw, overrides, faults, given)
    for one in (manifest, raw.get("manifest")):
        if isinstance(one, str | Path):
            refuse_remote_manifest(one)
    raw = with_absolute_paths(raw, base, faults)
    if manifest is not None:
        raw = {**raw, "manifest": str(expand_user(manifest).absolute())}
    if roots := [str(expand_user(root).absolute()) for root in media_roots]:
        raw = with_roots(raw, roots)
    known = ("manifest", "max_failed", "media", "engine", "attributes", "stages")
    for key in raw:
        if key not in known:
            faults.append(Fault(f"unknown setting {key!r}{suggestion(str(key), known)}", (str(key),)))
    media = _section(Media, raw.get("media"), ("media",), faults)
    engine = _section(Engine, raw.get("engine"), ("engine",), faults)
    attributes = _attributes(raw.get("attributes"), faults)
    max_failed = raw.get("max_failed", 0.01)
    if isinstance(max_failed, bool) or not isinstance(max_failed, int | float) or not 0 <= max_failed <= 1:
        advice = f"max_failed={show_value(max_failed)}: give a share between 0 and 1"
        faults.append(Fault(advice, ("max_failed",), of_value=True))
        max_failed = 0.01
    stages = tuple(spec for spec in _stages(raw.get("stages"), faults) if spec.settings is not None)
    path = Path(raw["manifest"]) if isinstance(raw.get("manifest"), str) and raw["manifest"] else None
    media, engine = media or Media(), engine or Engine()
    if path is not None:
        media = media.with_folders([trust.manifest_folder(path)])
    places = Places(text, given)
    loaded = Pipeline(label, path, float(max_failed), media, engine, stages, raw, attributes, places=places)
    return loaded, [fault.placed(places) for fault in faults]


def _parse(path: Path) -> tuple[dict[str, Any], YamlText]:
    try:
        text = path.read_text("utf-8-sig")
        parsed = read_yaml(text)
    except UnicodeDecodeError as error:
        raise ColdstartError(f"pipeline {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ColdstartError(f"cannot read pipeline {path}: {error.strerror or error}") from error
    except YamlError as error:
        faults = [Fault(f"not YAML: {what}", place=place) for place, what in error.faults]
        raise PipelineError(str(path), faults) from error
    if not isinstance(parsed.value, dict):
        raise PipelineError(str(path), ["it holds no settings: `stages:` is missing"])
    return parsed.value, parsed


_RESERVED: Mapping[str, Mapping[str, str]] = {
    "full_text": dict.fromkeys(("embed", "behaviour"), "the ranking by words in searches"),
    "labels": dict.fromkeys(("embed", "behaviour"), "the labels of records beside spaces in fits on behaviour"),
    "match": {"any": "the fitted weights of `coldstart match`"},
    "interactions": {"any": "the interactions in `coldstart status`"},
}
"""Name -> kind of a stage that cannot have it, or `any` -> what has that name in results."""


def _stages(raw: Any, faults: list[Fault]) -> list[StageSpec]:
    if not raw:
        faults.append(Fault("`stages:` is missing or empty", ("stages",)))
        return []
    if not isinstance(raw, dict):
        advice = f"stages={show_value(raw)}: give the name of each stage with its settings, such as `ingest: {{}}`"
        faults.append(Fault(advice, ("stages",)))
        return []
    specs: list[StageSpec] = []
    for name, given in raw.items():
        kind, place = kind_of(name, given), ("stages", str(name))
        if not str(name).replace("_", "").isalnum() or not str(name).isascii() or str(name) != str(name).lower():
            faults.append(Fault(f"stage {name!r}: a name is lower-case letters, digits and _", place))
            continue
        if taken := _RESERVED.get(str(name), {}).get(str(kind)) or _RESERVED.get(str(name), {}).get("any"):
            advice = f"that is the name of {taken}: call it something else, such as {name}_1"
            faults.append(Fault(f"stage {name!r}: {advice}", place))
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
            advice = f"unknown kind {kind!r}{suggestion(str(kind), known) or f' (known: {short})'}"
            stated = isinstance(given, dict) and "stage" in given
            faults.append(Fault(f"stage {name!r}: {advice}", (*place, "stage") if stated else place, of_value=stated))
            continue
        specs.append(StageSpec(str(name), str(kind), _section(module.Settings, settings, place, faults)))
    for kind in ("ingest", "index"):
        named = [spec.name for spec in specs if spec.kind == kind]
        if len(named) > 1:
            faults.append(Fault(f"{len(named)} stages of kind {kind!r}: one is allowed", ("stages", named[1])))
    if late := [spec.name for spec in specs[1:] if spec.kind == "ingest"]:
        faults.append(Fault("stage of kind 'ingest' is not the first: put it at the top", ("stages", late[0])))
    return specs


def _parts(name: str, group: str, raw: Any, faults: list[Fault]) -> list[StageSpec]:
    """Read the stages of a group, each named `group.part`, in the group's own order.

    A part that is `false` is left out, and so is one on demand that is not named.
    """
    given = as_mapping(raw)
    parts = registry.parts(group)
    if given is None:
        advice = f"{name}={show_value(raw)}: give settings of its parts, such as `{parts[0]}: {{}}`"
        faults.append(Fault(advice, ("stages", name), of_value=True))
        return []
    for part in given:
        if part not in parts:
            advice = f"{suggestion(str(part), parts)} (known: {', '.join(parts)})"
            faults.append(Fault(f"unknown part {name}.{part}{advice}", ("stages", name, str(part))))
    specs = []
    for part in parts:
        settings = given.get(part, not registry.on_demand(f"{group}.{part}"))
        if settings is False:
            continue
        module = registry.stage_module(f"{group}.{part}")
        section = _section(module.Settings, {} if settings is True else settings, ("stages", name, part), faults)
        specs.append(StageSpec(f"{name}.{part}", f"{group}.{part}", section))
    return specs


def _attributes(raw: Any, faults: list[Fault]) -> Attributes:
    """Read the section `attributes`: category -> name -> its settings."""
    found: dict[str, dict[str, Attribute]] = {}
    before = len(faults)
    for category, named in _pairs(raw, ("attributes",), faults).items():
        place = ("attributes", str(category))
        found[str(category)] = {
            str(name): _section(Attribute, settings, (*place, str(name)), faults)
            for name, settings in _pairs(named, place, faults).items()
        }
    return Attributes({} if len(faults) > before else found)


def _pairs(raw: Any, path: tuple[str, ...], faults: list[Fault]) -> dict[Any, Any]:
    given = as_mapping(raw)
    if given is None:
        advice = "give pairs, such as `default: {colour: {visual: true}}`"
        faults.append(Fault(f"{'.'.join(path)}={show_value(raw)}: {advice}", path, of_value=True))
        return {}
    return given


def _section(model: type[BaseModel], raw: Any, path: tuple[str, ...], faults: list[Fault]) -> Any:
    """Read the settings of one section; None where they have faults, which are added."""
    settings = as_mapping(raw)
    place = ".".join(path[1:] if path[0] == "stages" else path)
    if settings is None:
        advice = f"give settings, such as `{next(iter(model.model_fields))}: value`"
        faults.append(Fault(f"{place}={show_value(raw)}: {advice}", path, of_value=True))
        return None
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        advices: dict[tuple[str, ...], list[str]] = {}
        for entry in error.errors():  # several of one setting, where it may have one of several types
            keys = _keys(entry["loc"], settings, is_missing=entry["type"] == "missing")
            if entry["type"] not in ("extra_forbidden", "missing"):
                advice = _advice(entry["type"], entry["msg"], entry["input"])
                advices.setdefault(keys, []).append(advice)
        for entry in error.errors():
            keys = _keys(entry["loc"], settings, is_missing=entry["type"] == "missing")
            where, own = ".".join((place, *keys)), (*path, *keys)
            if entry["type"] == "extra_forbidden":
                text = f"unknown setting {where}{suggestion(keys[-1], model.model_fields)}"
                faults.append(Fault(text, own))
            elif entry["type"] == "missing":
                faults.append(Fault(f"{where} is missing", own))
            elif keys in advices:
                advice = ", or: ".join(dict.fromkeys(advices.pop(keys)))
                faults.append(Fault(f"{where}={show_value(entry['input'])}: {advice}", own, of_value=True))
        return None


def _keys(loc: tuple[int | str, ...], settings: Any, *, is_missing: bool) -> tuple[str, ...]:
    """Keep the keys of a place; pydantic names the types of a union among them."""
    keys = []
    for part in loc:
        held: Any = dict(enumerate(settings)) if isinstance(settings, list | tuple) else settings
        if isinstance(held, dict) and part in held:
            settings = held[part]
        elif not (is_missing and part is loc[-1]):
            continue
        keys.append(str(part))
    return tuple(keys)


_ADVICE = {
    "tuple_type": "give a list, such as [a, b]",
    "dict_type": "give pairs, such as {a: b}",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "give a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "give a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "give true or false"),
    "string_type": "give a text",
}
"""Advice in terms of YAML where that of pydantic is in terms of Python."""


def _advice(kind: str, message: str, value: Any) -> str:
    """Put what pydantic says of a wrong value into a next step."""
    if kind in _ADVICE:
        return _ADVICE[kind]
    text = message.removeprefix("Value error, ")
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", message)
        return text.replace("Input should be", "give") + suggestion(str(value), names)
    return text.replace("Input should be", "give one that is")


def content_space(pipeline: Pipeline, stage: str, wanted: str | None) -> str:
    """Choose the space of content of a stage.

    Raises:
        ColdstartError: there is none before it, or not the wanted one.
    """
    before = pipeline.earlier(stage) if stage in [spec.name for spec in pipeline.stages] else pipeline.stages
    embedded = [spec for spec in before if spec.kind == "embed"]
    known = [spec.name for spec in embedded]
    if wanted is not None and wanted not in known:
        raise ColdstartError(
            f"{stage}.space={wanted!r}: no space that embeds items has that name before it{suggestion(wanted, known)}; "
            f"there is {', '.join(known) or 'none'}"
        )
    texts = [spec.name for spec in embedded if spec.settings.input == "text"]
    if not known:
        raise ColdstartError(f"{stage} has no content to read: put a stage of kind embed before it")
    return wanted or (texts or known)[0]


def describe_content(pipeline: Pipeline, stage: str, space: str) -> str:
    """Name the space of content that a stage reads, and the other spaces of texts before it that it could."""
    before = pipeline.earlier(stage) if stage in [spec.name for spec in pipeline.stages] else pipeline.stages
    others = [
        spec.name for spec in before if spec.kind == "embed" and spec.settings.input == "text" and spec.name != space
    ]
    return f"{space}; `--set {stage}.space={others[-1]}` reads {others[-1]} in its place" if others else space
