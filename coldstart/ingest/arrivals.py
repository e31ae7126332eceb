"""Read items that arrive one by one, as rows in memory: the source stage of a pipeline for a batch of them.

A row is one of a manifest under our names of fields, checked and located as `ingest` does; a file that came with it is
named by a name that means nothing on this machine, and is kept under the digest of its bytes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from coldstart.core.items import EXTENSIONS, SHORT_FORMS, Item
from coldstart.core.keys import stage_key
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import Reject, Work
from coldstart.errors import ColdstartError
from coldstart.ingest import manifest
from coldstart.ingest.stage import IngestStage, Settings
from coldstart.media import guard
from coldstart.media.limits import Limits
from coldstart.store.known_rows import KnownRows

_SUFFIXES = {
    "jpeg": "jpg",
    "png": "png",
    "gif": "gif",
    "webp": "webp",
    "tiff": "tif",
    "bmp": "bmp",
    "jpeg2000": "jp2",
    "avif": "avif",
    "heic": "heic",
    "mp4": "mp4",
    "matroska": "mkv",
    "avi": "avi",
    "flv": "flv",
    "asf": "wmv",
    "mpeg-ps": "mpg",
    "ogg": "ogg",
    "mp3": "mp3",
    "flac": "flac",
    "wav": "wav",
}
"""Format by the first bytes of a file -> the end of its name; one that only a decoder knows is kept as `.bin`."""
_NO_MEDIA = ("html", "svg", "text", "pdf", "zip")
_CONTAINERS = ("mp4", "matroska", "asf", "ogg")
"""Formats of video and of sound alike: the name that was given tells them apart."""


class UploadedFiles:
    """Files that came with a batch of items, kept in the folder `uploads` of a workspace.

    Args:
        folder: that folder; made when the first file is kept.
        files: the name by which rows refer to a file -> the file on this machine. A name is never part of a path.
        limits: bytes that a picture and any other medium may have.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], limits: Limits) -> None:
        self._folder = folder
        self._files = files
        self._limits = limits
        self._kept: dict[str, Path | Reject] = {}

    def place(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Reject]]:
        """Replace the names of files in the media of a row by their places.

        Returns:
            the row, and the files that are no media: name -> why.

        Raises:
            ColdstartError: a file cannot be read, or not be kept here.
        """
        placed, refused = dict(row), dict[str, Reject]()
        for field in ("media", *SHORT_FORMS):
            if self._files and field in placed:
                placed[field] = self._placed(placed[field], refused)
        return placed, refused

    def _placed(self, value: Any, refused: dict[str, Reject]) -> Any:
        if isinstance(value, list | tuple):
            return [self._placed(one, refused) for one in value]
        if isinstance(value, Mapping):
            if not isinstance(value.get("uri"), str) or value["uri"] not in self._files:
                return value
            found = self._placed(value["uri"], refused)
            return {**found, **value, "uri": found["uri"]} if isinstance(found, dict) else {**value, "uri": found}
        if not isinstance(value, str) or value not in self._files:
            return value
        if value not in self._kept:
            self._kept[value] = self._keep(value)
        kept = self._kept[value]
        if isinstance(kept, Reject):
            refused[value] = kept
            return {"uri": value, "role": _role_of(value) or "image"}
        role = _role_of(value) if kept.suffix.lstrip(".") in (_SUFFIXES[one] for one in _CONTAINERS) else None
        role = role or (None if kept.suffix != ".bin" else _role_of(value) or "video")
        return str(kept) if role is None else {"uri": str(kept), "role": role}

    def _keep(self, name: str) -> Path | Reject:
        """Copy a file under the digest of its bytes, unless it is there."""
        source = self._files[name]
        try:
            found = guard.sniff_format(source)
            if found in _NO_MEDIA:
                return Reject("unsupported_media", f"{name[:200]!r} is {found}, and no picture, video or sound")
            size_bytes, limit = source.stat().st_size, self._limits.max_video_bytes
            if found in guard.IMAGE_FORMATS and found not in guard.VIDEO_FORMATS:
                limit = self._limits.max_image_bytes
            if not size_bytes:
                return Reject("empty_file", f"{name[:200]!r}: 0 bytes")
            if size_bytes > limit:
                return Reject("too_many_bytes", f"{name[:200]!r}: {size_bytes} bytes, more than {limit}")
            digest = guard.file_sha256(source)
            target = self._folder / digest[:2] / f"{digest}.{_SUFFIXES.get(found or '', 'bin')}"
            if not target.exists():
                self._copy(source, target)
        except OSError as error:
            raise ColdstartError(
                f"cannot keep the file {name[:200]!r} in {self._folder}: {error.strerror or error}; free some space, "
                "or make the folder one that can be written"
            ) from error
        return target

    def _copy(self, source: Path, target: Path) -> None:
        for folder in (self._folder, target.parent):
            if folder.is_symlink():  # of a stranger, perhaps: nothing is written where it leads
                raise OSError(f"{folder} is a link")
            folder.mkdir(exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        with source.open("rb") as content, partial.open("xb") as file:  # new, so that it follows no link
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)


def _role_of(name: str) -> str | None:
    return EXTENSIONS.get(PurePosixPath(name.replace("\\", "/")).suffix.lower().lstrip("."))


class ArrivalStage(IngestStage):
    """Source stage of rows in memory, in the place of a pipeline's `ingest`; see `IngestStage`.

    Row keys are those of the same rows in a manifest, so that a row that is given again is fresh. Relative paths count
    from the manifest's folder on, and without a manifest from the workspace's folder of uploads.

    Args:
        rows: as a manifest has them, under our names of fields, each with the files that came with it.
        folder: the workspace's folder of uploads.

    Attributes:
        ids: the id of each row, None for one that has none.
        faults: place of a row that is left out -> why: without an id of its own.
    """

    def __init__(
        self, name: str, pipeline: Pipeline, rows: Sequence[tuple[Mapping[str, Any], UploadedFiles]], folder: Path
    ) -> None:
        base = folder if pipeline.manifest is None else manifest.base_folder(pipeline.manifest)
        own = replace(pipeline, manifest=base / "rows")
        super().__init__(name, Settings(media_folder=str(folder)), own)
        self._base = base
        self._roots = [*self._roots, folder]
        self._refused: dict[str, dict[str, Reject]] = {}
        self.ids: list[str | None] = []
        self.faults: dict[int, Reject] = {}
        self._parsed: list[tuple[str, Item | Reject]] = []
        seen = dict[str, int]()
        for place, (row, uploads) in enumerate(rows):
            item_id, item, refused = self._checked(row, uploads)
            if item_id is None:
                assert isinstance(item, Reject)
                self.faults[place] = item
            elif item_id in seen:
                self.faults[place] = Reject("duplicate_id", f"item_id {item_id!r} stands twice among these rows")
            else:
                self._parsed.append((item_id, item))
                self._refused[item_id] = refused
            seen.setdefault(item_id or "", place)
            self.ids.append(item_id)

    def _checked(
        self, row: Mapping[str, Any], uploads: UploadedFiles
    ) -> tuple[str | None, Item | Reject, dict[str, Reject]]:
        """Check the fields of a row; its id is None where it has none of its own."""
        given = row.get("item_id") if isinstance(row, Mapping) else None
        usable = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
        named = usable if usable and usable.isprintable() and len(usable) <= 1024 else None
        if not isinstance(row, Mapping):
            return None, Reject("bad_row", f"a row is an object of fields, not {type(row).__name__}"), {}
        if any(not isinstance(key, str) for key in row):
            return named, Reject("bad_row", "names of fields are texts"), {}
        placed, refused = uploads.place(row)
        try:
            item = Item.parse(self._embedded.save(placed), self._files)
        except ValueError as error:
            return named, Reject("bad_row", str(error)), {}
        if not (item.media or item.title or item.description):
            return item.item_id, Reject("bad_row", "neither media nor text"), {}
        return item.item_id, item, refused

    def entries_but(self, known: KnownRows | None) -> Iterator[Work]:
        """Yield `entries`: all rows are checked."""
        return self.entries()

    def entries(self) -> Iterator[Work]:
        """Yield one `Work` for each row with an id of its own, in order; rows at fault carry their verdict."""
        key = stage_key(self.kind, self.version, self.fingerprint())
        known: dict[str, str] = {}
        for row in self._parsed:
            yield self._locate(row, key, known)

    def _resolve(self, item_id: str, uri: str, known: dict[str, str]) -> str:
        if uri in self._refused.get(item_id, {}):
            raise self._refused[item_id][uri]
        return super()._resolve(item_id, uri, known)

    def check_source(self) -> None:
        """Check nothing: the rows are there."""

    def forgotten(self, item_ids: Any) -> list[str]:
        return []

    def notes(self, workspace: Any) -> list[str]:
        return []
