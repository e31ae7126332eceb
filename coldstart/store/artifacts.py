"""Save and read artifacts of fit stages: files in the workspace's database, written to a folder on first use.

An artifact is a name, the key of what it was fitted on, and some files; its digest is over name and files. Of each name
the newest counts, and a few earlier ones stay, since published vectors may have been made by them.

A row may come from a stranger's workspace. So a folder is used only while its files give the digest that it is named
by, files are written nowhere but below it, and what a row says of them counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldstart.core import scratch
from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.store.sql import equals, one_of

if TYPE_CHECKING:
    from coldstart.store import Store


ARTIFACTS = "artifacts"
FILES = "artifact_files"
FITTED = "fitted"
"""Folder of the cache of fits that holds one folder an artifact, named by its digest."""
KEEP = 4
"""Artifacts of one name that stay: the newest, and those that the publications kept by default may rest on."""

_DIGEST = re.compile(r"[0-9a-f]{32}")
_NAME_BYTES = 255
_NO_TIME = datetime.fromtimestamp(0, UTC)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

_SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("name", pa.string()),
        ("key", pa.string()),
        ("made_at", pa.timestamp("us", "UTC")),
        ("report", pa.string()),
        ("seq", pa.int64()),
    ]
)
"""`seq` counts up with each save of the workspace and tells which is the newest; `made_at` is for people."""

_FILES_SCHEMA = pa.schema([("digest", pa.string()), ("path", pa.string()), ("data", pa.large_binary())])


@dataclass(frozen=True)
class Artifact:
    """One fit: its files and its report.

    Attributes:
        name: the stage that made it, or its purpose.
        key: key of the data and settings that it was fitted on.
        digest: 32 hex digits over its files.
        report: figures of the fit, as JSON values.
    """

    name: str
    key: str
    digest: str
    made_at: datetime
    report: Mapping[str, Any]
    _store: Store = field(repr=False, compare=False)

    def files(self) -> dict[str, bytes]:
        """Read the content of every file by its path, and check it against the digest.

        Raises:
            ColdstartError: the files are not those of the digest, or a path leads out of the artifact's folder.
        """
        rows = self._store.read(FILES, ["path", "data"], where=equals("digest", self.digest))
        found: dict[str, bytes] = {
            str(path): bytes(data) for path, data in zip(*(column.to_pylist() for column in rows.columns), strict=True)
        }
        if fault := path_fault(found):
            raise ColdstartError(f"artifact {self.name!r} of workspace {self._store.uri}: {fault}")
        if (
            digest_of(self.name, {path: hashlib.sha256(data).hexdigest() for path, data in found.items()})
            != self.digest
        ):
            raise ColdstartError(
                f"artifact {self.name!r} of workspace {self._store.uri} is damaged: its files are not those of digest "
                f"{self.digest!r}: `coldstart check --workspace {self._store.uri} --repair`"
            )
        return found

    @property
    def folder(self) -> Path:
        """Folder on this machine that holds the files; written on first use, and anew where its files changed since.

        Raises:
            ColdstartError: as `files`.
        """
        if not _DIGEST.fullmatch(self.digest):
            raise ColdstartError(
                f"artifact {self.name!r} of workspace {self._store.uri} is damaged: {self.digest!r} is no digest: "
                f"`coldstart check --workspace {self._store.uri} --repair`"
            )
        target = self._store.cache / FITTED / self.digest
        if self._is_whole(target):
            return target
        files = self.files()
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.sweep(target.parent)
        with scratch.scratch_folder("fit", target.parent) as folder:
            draft = folder / "draft"
            for path, data in files.items():
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                (draft / path).write_bytes(data)
            try:
                if target.is_symlink() or target.exists():  # a folder cannot replace one that is not empty
                    target.replace(folder / "old")
                draft.rename(target)
            except OSError:
                if not self._is_whole(target):  # else another process was quicker
                    raise
        return target

    def _is_whole(self, folder: Path) -> bool:
        """Tell whether a folder holds just the files of the digest, and no link."""
        if folder.is_symlink() or not folder.is_dir():
            return False
        sums = {}
        with suppress(OSError):
            for path in folder.rglob("*"):
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    return False
                if path.is_file():
                    sums[path.relative_to(folder).as_posix()] = install.file_digest(path)
            return digest_of(self.name, sums) == self.digest
        return False


def digest_of(name: str, sums: Mapping[str, str]) -> str:
    """Compute the digest of an artifact from its name and the SHA-256 (hex) of each file by its path."""
    return hashlib.sha256(json.dumps([name, dict(sums)], sort_keys=True).encode()).hexdigest()[:32]


def path_fault(paths: Iterable[str]) -> str | None:
    """Find a path that is no plain file below one folder on every system, and say what is wrong with it.

    Turned away are absolute paths, `..`, drive letters, backslashes, control characters, names that Windows reserves or
    cuts, and two paths that a file system without case takes for one, or where one is a folder of the other.
    """
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in path or ":" in path:
            return f"{path!r} leads out of its folder"
        if any(
            not part.isprintable() or part[-1] in ". " or len(part.encode()) > _NAME_BYTES or _RESERVED.fullmatch(part)
            for part in parts
        ):
            return f"{path!r} is no name of a file"
        seen[path.casefold()] = path
    if len(seen) < len(list(paths)):
        return "two of its paths differ in case alone"
    for path in seen:
        for folder in PurePosixPath(path).parents:
            if str(folder) in seen:
                return f"{seen[str(folder)]!r} is a file and a folder"
    return None


class Artifacts:
    """The tables `artifacts` and `artifact_files` of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self, name: str | None = None) -> list[Artifact]:
        """List the stored artifacts, newest first."""
        if not self._store.has(ARTIFACTS):
            return []
        where = None if name is None else equals("name", name)
        rows = sorted(self._store.read(ARTIFACTS, where=where).to_pylist(), key=_age, reverse=True)
        return [self.parse(row) for row in rows]

    def parse(self, row: Mapping[str, Any]) -> Artifact:
        """Read an artifact from its row.

        Raises:
            ColdstartError: it is none.
        """
        texts = [row.get(column) for column in ("digest", "name", "key", "report")]
        with suppress(TypeError, ValueError, RecursionError):
            report = json.loads(texts[3])  # type: ignore[arg-type]
            if all(isinstance(text, str) for text in texts) and isinstance(report, dict):
                digest, name, key = map(str, texts[:3])
                return Artifact(name, key, digest, row.get("made_at") or _NO_TIME, report, _store=self._store)
        raise ColdstartError(
            f"table {ARTIFACTS!r} of workspace {self._store.uri} is damaged (the row of {row.get('name')!r} cannot be "
            f"read): `coldstart check --workspace {self._store.uri} --repair`"
        )

    def newest(self, name: str) -> Artifact | None:
        """Return the newest artifact of a name, which is the one in force."""
        return next(iter(self.all(name)), None)

    def save(self, name: str, key: str, files: Mapping[str, bytes], report: Mapping[str, Any]) -> Artifact:
        """Save a new artifact and drop the oldest of its name; one of the same files becomes the newest again.

        Its files are written first: a kill in between leaves files that nothing names, and the next `save` drops them.

        Raises:
            ColdstartError: a path leads out of the artifact's folder.
        """
        if fault := path_fault(files):
            raise ColdstartError(f"artifact {name!r}: {fault}")
        digest = digest_of(name, {path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        rows = [{"digest": digest, "path": path, "data": data} for path, data in files.items()]
        self._store.merge(FILES, pa.Table.from_pylist(rows, schema=_FILES_SCHEMA), on=("digest", "path"))
        row: dict[str, Any] = {"digest": digest, "name": name, "key": key, "made_at": datetime.now(UTC)}
        row["seq"] = self._store.next_in_sequence(ARTIFACTS)
        row["report"] = json.dumps(report, ensure_ascii=False, allow_nan=False)
        self._store.merge(ARTIFACTS, pa.Table.from_pylist([row], schema=_SCHEMA), on=("digest",))
        self._prune(name)
        saved = self.newest(name)
        assert saved is not None, "it was written above"
        return saved

    def _prune(self, name: str) -> None:
        old = [artifact.digest for artifact in self.all(name)[KEEP:]]
        if old:
            self._store.drop(ARTIFACTS, one_of("digest", old))
        named = {artifact.digest for artifact in self.all()}
        unnamed = set(self._store.read(FILES, ["digest"])["digest"].to_pylist()) - named
        if unnamed:
            self._store.drop(FILES, one_of("digest", sorted(unnamed)))


def _age(row: Mapping[str, Any]) -> tuple[int, str, str]:
    """Return what rises from older to newer: the sequence number; among rows from before there were any, the time."""
    return row.get("seq") or 0, str(row.get("made_at")), str(row.get("digest"))


def read_files(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
