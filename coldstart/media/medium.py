"""One medium of an item, opened as ingest saw it. Workers import this module: it needs neither torch nor Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coldstart.media import guard
from coldstart.media.limits import Limits
from coldstart.stage import Reject, Row


@contextmanager
def open_medium(entry: Mapping[str, Any], limits: Limits) -> Iterator[Path]:
    """A local file with the bytes that ingest saw, for the length of the block: the row key stands for no others.

    Of a picture the digest is compared; of a video or sound the size must do, since reading all of it costs its length.

    Args:
        entry: a medium of an item's row: `role`, `uri`, `digest`, `size_bytes`.

    Raises:
        Reject: `media_changed`, and as `coldstart.media.guard.local_path`.
    """
    with guard.local_path(entry["uri"], limits) as path:
        size_bytes = path.stat().st_size
        if size_bytes != entry["size_bytes"]:
            found = f"{size_bytes} bytes, {entry['size_bytes']} at ingest"
            raise Reject("media_changed", f"{entry['uri']}: {found}; run ingest again")
        if entry["role"] == "image" and guard.digest(path) != entry["digest"]:
            raise Reject("media_changed", f"{entry['uri']}: other bytes than at ingest; run ingest again")
        yield path


def seen(row: Row, pictures: int) -> Sequence[Mapping[str, Any]]:
    """What stands for how an item looks: its first video alone, or else its pictures, `pictures` of them at most.

    Raises:
        Reject: `no_media` (filtered) where it has neither.
    """
    found = of_role(row, "video")[:1] or of_role(row, "image")[:pictures]
    if not found:
        raise Reject("no_media", "no image or video", state="filtered")
    return found


def of_role(row: Row, role: str) -> Sequence[Mapping[str, Any]]:
    """The media of an item with a role (`image`, `video`, `audio`), in the order of its manifest."""
    return [entry for entry in row["media"] or [] if entry["role"] == role]
