"""Read settings as plain data before they are checked: overrides of the command line, absolute paths.

A value that is no mapping where one is due stays as it is, for `coldstart.core.pipeline` to report. Packaged pipeline,
prompt and policy files lie beside the package in a checkout, and inside it in a wheel.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.core.setting_faults import Fault
from coldstart.core.yaml_text import parse_yaml
from coldstart.errors import ColdstartError, redact_urls


def with_overrides(
    raw: dict[str, Any], overrides: Iterable[str], faults: list[Fault], places: list[tuple[str, ...]]
) -> dict[str, Any]:
    """Apply overrides `stage.key=value`, `stage.part.key=value` or `key=value`; adds faults to the list, and to the
    other the settings that are given."""
    given = raw.get("stages")
    stages = dict(given) if isinstance(given, dict) else {}
    raw = {**raw, "stages": stages} if isinstance(given, dict) else dict(raw)
    for override in overrides:
        place, equals, text = override.partition("=")
        section, dot, key = place.strip().partition(".")
        if not equals or not section or (dot and not key):
            faults.append(Fault(f"--set {override}: give stage.key=value"))
            continue
        try:
            value = parse_yaml(text)
        except ValueError as error:
            faults.append(Fault(f"--set {override}: {error}"))
            continue
        if not dot and section in stages:
            faults.append(Fault(f"--set {override}: {section!r} is a stage: give {section}.key=value"))
        elif not dot:
            raw[section] = value
            places.append((section,))
        elif section not in (*stages, "media", "engine"):
            known = ("media", "engine", *map(str, stages))
            hint = suggestion(section, known) or f": there is {', '.join(known)}"
            faults.append(Fault(f"--set {override}: no stage {section!r}{hint}"))
        else:
            home = stages if section in stages else raw
            home[section] = _with(home.get(section), key.split("."), value)
            places.append((*(("stages",) if section in stages else ()), section, *key.split(".")))
    return raw


def _with(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Change one setting, perhaps of a part of a group; a value that is no mapping stays, to be reported."""
    given = {} if isinstance(settings, bool) else as_mapping(settings)  # a part that is merely on or off
    if given is None:
        return settings
    return {**given, path[0]: value if len(path) == 1 else _with(given.get(path[0]), path[1:], value)}


def with_space(raw: dict[str, Any], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Change an embed stage, or add it before the index."""
    return with_stage(raw, name, "embed", settings)


def with_stage(raw: dict[str, Any], name: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Change a stage, or add one of the kind before the index."""
    stages = as_mapping(raw.get("stages"))
    if stages is None:
        return raw
    if name in stages:
        if (given := as_mapping(stages[name])) is None:
            return raw
        return {**raw, "stages": {**stages, name: {**given, **settings}}}
    after = {key: given for key, given in stages.items() if kind_of(key, given) == "index"}
    before = {key: given for key, given in stages.items() if key not in after}
    return {**raw, "stages": {**before, name: {"stage": kind, **settings}, **after}}


def kind_of(name: Any, settings: Any) -> Any:
    """Return the kind of a stage: the stated one, else its name."""
    return settings.get("stage", name) if isinstance(settings, dict) else name


def with_roots(raw: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    """Add folders that media may come from."""
    media = as_mapping(raw.get("media"))
    if media is None or not isinstance(given := media.get("roots", []), list | tuple):
        return raw
    return {**raw, "media": {**media, "roots": [*given, *roots]}}


def as_mapping(value: Any) -> dict[Any, Any] | None:
    """Return settings as a mapping, empty for no value; None for a value that is no mapping."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def with_absolute_paths(raw: dict[str, Any], base: Path, faults: list[Fault]) -> dict[str, Any]:
    """Make the paths of the file independent of the working folder; `package:` means inside this package."""
    given = raw.get("manifest")
    if isinstance(given, str) and given:
        raw = {**raw, "manifest": _located(given, base)}
    elif given not in (None, ""):
        faults.append(Fault(f"manifest={show_value(given)}: give a path", ("manifest",), of_value=True))
    media = raw.get("media")
    if isinstance(media, dict) and isinstance(media.get("roots"), list | tuple):
        roots = [str(base / expand_user(root)) if isinstance(root, str) else root for root in media["roots"]]
        raw = {**raw, "media": {**media, "roots": roots}}
    stages = raw.get("stages")
    if isinstance(stages, dict):
        raw = {**raw, "stages": {name: _with_paths(settings, base) for name, settings in stages.items()}}
    return raw


_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|(?:https?|ftps?|s3|gs):")
"""Beginning of a URL, also where a path made one slash of two; a drive of Windows has one letter."""


def refuse_remote_manifest(manifest: str | Path) -> None:
    """Refuse a manifest that is a URL; raises `ColdstartError`."""
    if _REMOTE.match(str(manifest).strip()):
        raise ColdstartError(
            f"manifest {redact_urls(str(manifest))}: manifests are read from files: fetch it first, then give its path"
        )


_FILES = {"prompt": ".md", "product": ".md", "video": ".md", "policy": ".yaml", "classes": ""}
"""Settings that name a file: a path if it ends so, else the name of a packaged one."""


def _located(given: str, base: Path) -> str:
    inside = given.removeprefix("package:")
    return str(PACKAGE / inside if inside != given else base / expand_user(given))


def _with_paths(settings: Any, base: Path) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {
        name: _located(value, base)
        if isinstance(value, str) and value.endswith(_FILES.get(name, "\n"))
        else _with_paths(value, base)
        for name, value in settings.items()
    }


def expand_user(path: str | Path) -> Path:
    """Resolve `~` in a path, where it can be."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the ~name of nobody: reported as a path that is not there
        return Path(path)


def show_value(value: Any) -> str:
    """Format a value for an error, in 60 characters at most."""
    text = redact_urls(repr(value))  # before the cut, behind which the end of a password may lie
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is meant: the same but for case and marks, alike, or one that its words begin or end."""
    names, own = sorted(known), _words(name)
    length = len(own)
    same = [one for one in names if "".join(_words(one)) == "".join(own)]
    longer = [one for one in names if len("".join(own)) > 1 and own in (_words(one)[:length], _words(one)[-length:])]
    alike, similar = (difflib.get_close_matches(name, names, n=1, cutoff=cutoff) for cutoff in (0.8, 0.6))
    return next((found[0] for found in (same, alike, longer, similar) if len(found) == 1), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest a known name: ` (did you mean 'x'?)`, or "" where none is similar."""
    close = nearest(name, known)
    return f" (did you mean {close!r}?)" if close else ""


def nearest_or(name: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest a known name at the end of a message: `did you mean 'x'?`, or another hint where none is similar."""
    close = nearest(name, known)
    return f"did you mean {close!r}?" if close else otherwise


PACKAGE = Path(__file__).parent.parent


def data_folder(name: str) -> Path:
    """Return the folder `pipelines`, `prompts` or `policies`."""
    installed = PACKAGE / "_files" / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def data_files(name: str, pattern: str) -> dict[str, Path]:
    """List the files of such a folder: file stem -> path, sorted by name."""
    return {path.stem: path for path in sorted(data_folder(name).glob(pattern))}
