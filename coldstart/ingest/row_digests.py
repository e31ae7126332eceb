"""Digest manifest rows with the state of their files, so that a row that was read before is known again.

A row has a digest where all of its files are plain ones on this machine: one that names an address, holds bytes or
lacks a file is read in every run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from coldstart.core.items import SHORT_FORMS
from coldstart.core.keys import digest
from coldstart.ingest.manifest import ManifestEntry

_VERSION = 1
"""Raised by hand when a row is checked by other rules."""
_MEDIA = ("media", *SHORT_FORMS)


class RowDigests:
    """Digests of manifest rows and of the state of their files.

    Args:
        stage: key of the stage that reads them; base: folder of the manifest; roots: further folders of media.
    """

    def __init__(self, stage: str, base: Path, roots: Sequence[Path]) -> None:
        self._start = [stage, _VERSION, version_of("coldstart-multimodal")]
        self._base = str(base)
        self._allowed = [os.path.realpath(folder) for folder in (base, *roots)]
        self._folders: dict[str, str | None] = {}

    def of_entry(self, entry: ManifestEntry) -> str | None:
        """Compute the digest of a row; None where it cannot be read, or its files cannot be told by looking at them."""
        if entry.fault:
            return None
        fields = entry.fields
        files: list[Any] = []
        for name in _MEDIA:
            value = fields.get(name)
            for entry in value if isinstance(value, list | tuple) else [] if value is None else [value]:
                uri = entry.get("uri") if isinstance(entry, Mapping) else entry
                found = self._file(uri) if isinstance(uri, str) and uri else None
                if found is None:
                    return None
                files.append(found)
        try:
            return digest([self._start, fields, files])
        except (TypeError, ValueError):  # bytes, times, numbers that are none: of Parquet
            return None

    def _file(self, uri: str) -> list[Any] | None:
        """Find the real path of a plain file that may be read, its size and its time of change."""
        if "://" in uri or "\0" in uri:
            return None
        folder, name = os.path.split(os.path.join(self._base, uri))  # noqa: PTH118  (of each of 200,000 rows)
        if folder not in self._folders:
            real = os.path.realpath(folder)
            inside = any(Path(real).is_relative_to(allowed) for allowed in self._allowed)
            self._folders[folder] = real if inside else None
        place = self._folders[folder]
        if place is None or name in ("", ".", ".."):
            return None
        path = f"{place}/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        return [path, status.st_size, status.st_mtime_ns]
