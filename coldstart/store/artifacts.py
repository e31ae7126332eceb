"""Save and read artifacts of fit stages: files in the workspace's database, written to a folder on first use.

An artifact is a name, the key of what it was fitted on, and some files; its digest is over the files. Of each name the
newest counts, and a few earlier ones stay, since published vectors may have been made by them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.store.sql import equals, one_of

if TYPE_CHECKING:
    from coldstart.store import Store


ARTIFACTS = "artifacts"
FILES = "artifact_files"
KEEP = 4
"""Artifacts of one name that stay: the newest, and those that the publications kept by default may rest on."""


_SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("name", pa.string()),
        ("key", pa.string()),
        ("made_at", pa.timestamp("us", "UTC")),
        ("report", pa.string()),
    ]
)


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
        """Read the content of every file by its path."""
        rows = self._store.read(FILES, ["path", "data"], where=equals("digest", self.digest))
        return dict(zip(rows["path"].to_pylist(), rows["data"].to_pylist(), strict=True))

    @property
    def folder(self) -> Path:
        """Folder on this machine that holds the files; written on first use, and never changed."""
        target = install.weights_dir() / "fitted" / self.digest
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{self.digest}.", dir=target.parent))
            try:
                for path, data in self.files().items():
                    (draft / path).parent.mkdir(parents=True, exist_ok=True)
                    (draft / path).write_bytes(data)
                draft.rename(target)
            except OSError:
                shutil.rmtree(draft, ignore_errors=True)
                if not target.is_dir():  # else another process was quicker
                    raise
        return target


class Artifacts:
    """The tables `artifacts` and `artifact_files` of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self, name: str | None = None) -> list[Artifact]:
        """List the stored artifacts, newest first."""
        if not self._store.has(ARTIFACTS):
            return []
        rows = self._store.read(ARTIFACTS, where=None if name is None else equals("name", name)).to_pylist()
        rows.sort(key=lambda row: row["made_at"], reverse=True)
        return [Artifact(**{**row, "report": json.loads(row["report"])}, _store=self._store) for row in rows]

    def newest(self, name: str) -> Artifact | None:
        """Return the newest artifact of a name, which is the one in force."""
        return next(iter(self.all(name)), None)

    def save(self, name: str, key: str, files: Mapping[str, bytes], report: Mapping[str, Any]) -> Artifact:
        """Save a new artifact and drop the oldest of its name; one of the same files becomes the newest again.

        Its files are written first: a kill in between leaves files that nothing names, and the next `save` drops them.

        Raises:
            ColdstartError: a path leads out of the artifact's folder.
        """
        for path in files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ColdstartError(f"artifact {name!r}: {path!r} leads out of its folder")
        sums = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        digest = hashlib.sha256(json.dumps([name, sums], sort_keys=True).encode()).hexdigest()[:32]
        rows = [{"digest": digest, "path": path, "data": data} for path, data in files.items()]
        self._store.merge(FILES, pa.Table.from_pylist(rows, schema=_FILES_SCHEMA), on=("digest", "path"))
        row = {"digest": digest, "name": name, "key": key, "made_at": datetime.now(UTC)}
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


def read_files(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
