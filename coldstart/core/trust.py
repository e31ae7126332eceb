"""Tell which settings name a place: a folder, a file, a host, a bucket, an endpoint, a model of a hub, a variable with
a key.

A workspace is data, and its stored settings may come from a stranger: names of stages and of packaged models, numbers
and texts of them count, places do not, unless this user has given the same ones for this workspace before. What was
given is remembered in the user's own folder, never in the workspace.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import platformdirs

from coldstart.core.settings import PACKAGE, data_folder
from coldstart.core.spelling import existing_path

Place = tuple[str, str]
"""Dotted name of a setting, and its value."""

MEDIA = ("manifest", "media.roots", "media.allowed_hosts", "media.allowed_schemes", "media.allowed_buckets")
"""Settings of where media may come from."""
MARK = ".coldstart.id"
"""File in a workspace's folder by which a copy of it is known."""
UPLOADS = "uploads"
"""Folder in a workspace with the files that came with its items."""
_UPLOADED = re.compile(rf"[/\\]{UPLOADS}[/\\]([0-9a-f]{{2}})[/\\](\1[0-9a-f]{{62}}\.\w{{1,8}})$")
_ALWAYS = ("key_env", "adapter", "address")
"""Settings that name a place whatever they hold."""
_PATHS = ("start", "detection", "recognition", "classes")
"""Settings that may name a folder or file without a prefix."""
_OWN_MODELS = ("align", "colours", "fake", "finetune", "sentences", "starter", "starter-clip", "starter-vlm")
"""Models of this package and of the workspace's fits: the name makes this machine ask no host and no hub."""
_HUB_MODELS = ("hf", "open-clip", "openai", "sentence-transformers", "vllm")
"""Encoders and generators whose name is one of a hub, or holds an address."""
_FILES = (".md", ".yaml", ".yml", ".txt", ".csv", ".json", ".onnx")


def places(settings: Mapping[str, Any]) -> list[Place]:
    """List the places that the settings of a pipeline name, in their order."""
    found: list[Place] = []
    for name, value in _leaves({key: settings.get(key) for key in ("manifest", "media", "engine")}):
        if name in MEDIA or (name.rpartition(".")[2] in _ALWAYS) or is_place(value):
            found.append((name, value))
    return found + [(name, value) for name, value in _leaves(settings.get("stages") or {}) if _named(name, value)]


def stage_of(name: str, stages: Iterable[str]) -> str | None:
    """Find the stage that a dotted setting is of; the longest name counts, None for a setting of no stage."""
    own = [stage for stage in stages if name == stage or name.startswith(f"{stage}.")]
    return max(own, key=len, default=None)


def values(settings: Mapping[str, Any], without: Iterable[str] = ()) -> frozenset[str]:
    """Collect the texts of the settings of stages, those of some stages left out."""
    found = _leaves(settings.get("stages") or {})
    return frozenset(value for name, value in found if stage_of(name, without) is None)


def is_place(value: str) -> bool:
    """Tell whether a setting's text names a place: a URL, a path, or a model of a hub, which may be a folder here.

    Files of this package are none.
    """
    rest = value.partition(":")[2]
    if "://" in value or "local-dir:" in value or (rest and _library(value) in _HUB_MODELS):
        return True
    for text in filter(None, (value, rest)):
        if _is_path(text):
            return not _packaged(text)
    return bool(rest) and any(_exists(text) for text in (rest, rest.partition("/")[2]))


def _named(name: str, value: str) -> bool:
    key = name.rpartition(".")[2]
    if key in _ALWAYS:
        return True
    if key in ("encoder", "generator") and _library(value) not in _OWN_MODELS:
        return True  # one of another package among them, which may ask whom it likes
    if key == "model" and value not in _OWN_MODELS:
        return True  # a name of the hub, such as large-v3
    if _packaged(value):
        return False
    return is_place(value) or (key in _PATHS and _exists(value)) or value.lower().endswith(_FILES)


def _library(name: str) -> str:
    return name.partition(":")[0].strip().lower().replace("_", "-")


def _is_path(text: str) -> bool:
    whole = PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or text.startswith(("~", "\\"))
    return bool(whole) or ".." in text.replace("\\", "/").split("/") or text.startswith(("./", ".\\"))


def _packaged(text: str) -> bool:
    if text.startswith("package:"):  # a whole path behind it would replace the package's
        return Path(os.path.normpath(PACKAGE / text.removeprefix("package:"))).is_relative_to(PACKAGE)
    folders = (PACKAGE, *(data_folder(name) for name in ("pipelines", "prompts", "policies")))
    return _is_path(text) and any(Path(os.path.normpath(text)).is_relative_to(folder) for folder in folders)


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):
        return True


def _leaves(value: Any, name: str = "") -> Iterator[Place]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, name)
    elif isinstance(value, str) and value:
        yield name, value


# -- what this user gave before


def remembered(workspace: str) -> frozenset[Place]:
    """Read the places that this user has given for a workspace on this machine, here or where it was copied from."""
    return frozenset().union(*(_read(name) for name in _identities(workspace)))


def remember(workspace: str, given: Iterable[Place]) -> None:
    """Add places to those that this user has given for a workspace; where the folder cannot be written, nothing is."""
    given = set(given)
    if not given or given <= remembered(workspace):
        return
    with suppress(OSError):
        _mark(workspace)
        for name in _identities(workspace):
            path = _record(name)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            record = {"workspace": name, "places": sorted(_read(name) | given)}
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.write_text(json.dumps(record, indent=2), "ascii")  # a name may be no UTF-8
            draft.chmod(0o600)
            draft.replace(path)


def _identities(workspace: str) -> list[str]:
    """Name a workspace by its place and, for a folder, by the mark in it, which a copy has too."""
    if "://" in workspace:
        return [workspace]
    names = [os.path.realpath(workspace)]
    with suppress(OSError, ValueError):
        mark = Path(workspace, MARK).read_bytes()[:100].decode("ascii")
        if re.fullmatch(r"[0-9a-f]{32}", mark):
            names.append(f"mark {mark}")
    return names


def _mark(workspace: str) -> None:
    """Write a mark that nobody can guess into the folder of a workspace, unless it has one."""
    if "://" not in workspace and Path(workspace).is_dir() and len(_identities(workspace)) == 1:
        Path(workspace, MARK).write_text(secrets.token_hex(16), "ascii")


def _read(name: str) -> frozenset[Place]:
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or a record that cannot be read
        record = json.loads(_record(name).read_bytes())
        if record["workspace"] == name:
            return frozenset((str(setting), str(value)) for setting, value in record["places"])
    return frozenset()


def _record(name: str) -> Path:
    file = f"{sha256(os.fsencode(name)).hexdigest()[:32]}.json"
    return platformdirs.user_state_path("coldstart", appauthor=False) / "workspaces" / file


def media_folders(given: Iterable[Place]) -> list[str]:
    """List the folders that media may come from: of the manifest, and the roots."""
    return [
        manifest_folder(value) if name == "manifest" else str(existing_path(Path(value)))
        for name, value in given
        if name in ("manifest", "media.roots")
    ]


def uploads_folder(workspace: str) -> list[str]:
    """List the folder of a workspace's own uploads, from which its media may come; none where it is a link.

    The link of a stranger's workspace could lead to any folder of this machine.
    """
    if "://" in workspace:
        return []
    own = str(Path(os.path.realpath(workspace), UPLOADS))
    return [own] if os.path.realpath(own) == own else []


def own_upload(path: str, roots: Iterable[str | Path] | None) -> str:
    """Find an uploaded file in the present folder of its workspace; any other path is returned as it is.

    Items name uploaded files by the place where the workspace was when they came; it may have been moved or copied.

    Args:
        roots: folders that media may come from, that of the workspace's uploads among them.
    """
    found = _UPLOADED.search(path)
    if found is not None:
        for root in roots or ():
            if Path(root).name == UPLOADS and (place := Path(os.path.realpath(root), found[1], found[2])).is_file():
                return str(place)
    return path


def manifest_folder(manifest: str | Path) -> str:
    """Return the folder that a manifest's media lie in."""
    path = existing_path(Path(manifest))
    with suppress(OSError):
        if path.is_dir():
            return str(path)
    return str(path.parent)
