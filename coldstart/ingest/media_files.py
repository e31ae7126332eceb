"""Find the files that a manifest's media references name: other spellings, Windows paths, pictures inside the manifest.

Checks no permission: `coldstart.media.guard` does that with what is found here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from coldstart.core.items import EXTENSIONS, SHORT_FORMS
from coldstart.core.spelling import Listings, existing_path
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits

_LONGEST_GIF = 64 * 2**20
_MEDIA_FIELDS = frozenset(("media", *SHORT_FORMS))


class LocalMedia:
    """Media files below the folder of a manifest; see `coldstart.core.items.MediaFiles`."""

    def __init__(self, base: Path, roots: Sequence[Path] = ()) -> None:
        self._base = base
        self._readable = [Path(os.path.realpath(folder)) for folder in (base, *roots)]
        self._listings: Listings = {}

    def find(self, uri: str) -> str | None:
        """Find a path, its other Unicode form, or with / for the backslashes of Windows, whichever exists first."""
        if "://" in uri or "\0" in uri:
            return None
        for spelling in dict.fromkeys((uri, uri.replace("\\", "/"))):
            found = existing_path(self._base / spelling, self._listings)
            if os.path.lexists(found):
                return spelling if found == self._base / spelling else str(found)
        return None

    def is_still(self, uri: str) -> bool:
        """Tell whether a local GIF has one frame; False for what is no such file, or lies where nothing may be read."""
        if "://" in uri:
            return False
        try:
            path = Path(os.path.realpath(self._base / uri))
            if not any(path.is_relative_to(folder) for folder in self._readable) or not path.is_file():
                return False
            with path.open("rb") as file:  # no pipe, which would wait for ever
                return count_frames(file, up_to=2) == 1
        except (OSError, ValueError):
            return False


def count_frames(file: BinaryIO, up_to: int) -> int:
    """Count the frames of a GIF, at most `up_to`, by its blocks alone; 0 for what is no GIF.

    Reads no more than 64 MB and decodes nothing.
    """
    head = file.read(13)
    if len(head) < 13 or head[:6] not in (b"GIF87a", b"GIF89a"):
        return 0
    _skip_colours(file, head[10])
    frames = 0
    while frames < up_to and file.tell() < _LONGEST_GIF:
        mark = file.read(1)
        if mark == b"\x2c":
            frames += 1
            place = file.read(9)
            if len(place) < 9:
                break
            _skip_colours(file, place[8])
            file.seek(1, os.SEEK_CUR)
        elif mark == b"\x21":
            file.seek(1, os.SEEK_CUR)
        else:
            break
        while (size := file.read(1)) not in (b"", b"\0") and file.tell() < _LONGEST_GIF:
            file.seek(size[0], os.SEEK_CUR)
    return frames


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


class EmbeddedMedia:
    """Pictures, videos and sounds that stand as bytes in a manifest, written as files beside it.

    The folder is `NAME.media` for a manifest `NAME.parquet`, where it lies where the manifest's media may lie and stays
    when a workspace moves, or `folder`. A file is named by its digest and written once.
    """

    def __init__(self, manifest: Path, limits: Limits, folder: Path | None = None) -> None:
        self._folder = folder or manifest.parent / f"{manifest.name.partition('.')[0] or manifest.name}.media"
        self._limits = limits

    def save(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Replace bytes in the media fields, alone or as `{bytes, path}`, by the paths of files.

        Raises:
            ValueError: more bytes than a medium may have.
            ColdstartError: the files cannot be written.
        """
        saved = dict(fields)
        for name in _MEDIA_FIELDS & fields.keys():
            value = fields[name]
            if isinstance(value, list | tuple):
                saved[name] = [self._saved(name, entry) for entry in value]
            elif isinstance(value, bytes | Mapping):
                saved[name] = self._saved(name, value)
        return saved

    def _saved(self, field: str, value: Any) -> Any:
        if isinstance(value, bytes):
            value = {"bytes": value}
        if not isinstance(value, Mapping) or not {"bytes", "path"} & value.keys():
            return value
        content, named = value.get("bytes"), value.get("path")
        rest = {key: entry for key, entry in value.items() if key not in ("bytes", "path")}
        if content is None:
            return {**rest, "uri": named} if named else rest or None
        if not isinstance(content, bytes):
            raise ValueError(f"{field}: bytes are due, not {type(content).__name__}")
        limit = self._limits.max_image_bytes if field.startswith("image") else self._limits.max_video_bytes
        if len(content) > limit:
            raise ValueError(f"{field}: {len(content)} bytes, more than {limit}")
        role = EXTENSIONS.get(Path(str(named or "")).suffix.lower().lstrip("."))
        return {**({"role": role} if role and field == "media" else {}), **rest, "uri": str(self._write(content))}

    def _write(self, content: bytes) -> Path:
        """Write a file named by its digest, unless it is there."""
        path = self._folder / hashlib.sha256(content).hexdigest()
        try:
            if not path.exists():
                if self._folder.is_symlink():  # of a stranger, perhaps: nothing is written where it leads
                    raise OSError("it is a link")
                self._folder.mkdir(exist_ok=True, parents=True)
                partial = path.with_name(f".{path.name}.{os.getpid()}")
                partial.unlink(missing_ok=True)
                with partial.open("xb") as file:
                    file.write(content)
                partial.replace(path)
        except OSError as error:
            raise ColdstartError(
                f"cannot write the media that stand in the manifest to {self._folder}: {error.strerror or error}; "
                "copy the manifest to a folder with room where you may write"
            ) from error
        return path
