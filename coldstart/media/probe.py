"""What ingest learns of an item's media in a worker: headers, digests, and with them the item's row key.

Workers import this module: it needs neither torch nor Arrow nor the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldstart.keys import digest
from coldstart.media import guard
from coldstart.media.image import probe_image
from coldstart.media.limits import Limits
from coldstart.media.video import probe_audio, probe_video
from coldstart.stage import Row


@dataclass(frozen=True)
class Probe:
    """Reads the header of every medium of one item, digests its bytes and computes the item's row key."""

    limits: Limits

    def __call__(self, row: Row) -> tuple[Row, float]:
        media = [self._probe(entry["role"], entry["uri"]) for entry in row["media"]]
        row_key = digest([row["record"], [(entry["role"], entry["digest"]) for entry in media]])
        fields = {name: value for name, value in row.items() if name != "record"}
        return {**fields, "media": media, "row_key": row_key}, 1.0

    def _probe(self, role: str, uri: str) -> dict[str, Any]:
        with guard.local_path(uri, self.limits) as path:
            known = _PROBES[role](path, self.limits)
            return {"role": role, "uri": uri, "digest": guard.digest(path), "size_bytes": path.stat().st_size, **known}


def _image(path: Path, limits: Limits) -> dict[str, Any]:
    info = probe_image(path, limits)
    return {"width": info.width, "height": info.height}


def _video(path: Path, limits: Limits) -> dict[str, Any]:
    info = probe_video(path, limits)
    return {
        "width": info.width,
        "height": info.height,
        "duration_s": info.duration_s,
        "fps": info.fps,
        "has_audio": info.has_audio,
    }


def _audio(path: Path, limits: Limits) -> dict[str, Any]:
    return {"duration_s": probe_audio(path, limits).duration_s, "has_audio": True}


_PROBES = {"image": _image, "video": _video, "audio": _audio}
