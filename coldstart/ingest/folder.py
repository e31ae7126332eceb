"""List the media of a folder; what is passed over is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldstart.core.items import EXTENSIONS
from coldstart.errors import ColdstartError

UNREAD = frozenset(
    {
        *("svg", "psd", "ai", "eps", "xcf", "jxl", "tga", "exr", "ppm", "pgm", "pbm", "ico"),
        *("cr2", "cr3", "nef", "arw", "dng", "orf", "rw2", "raf", "pef", "srw"),
        *("swf", "rm", "rmvb", "mxf", "dv"),
    }
)
"""Extensions of pictures and videos that coldstart does not read."""

_OF_SYSTEMS = frozenset(
    {
        *("__macosx", "icon\r", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
_NAMED = 5


@dataclass(frozen=True)
class FolderListing:
    """Files of a folder and the folders in it.

    Attributes:
        media: pictures and videos, those of unread formats among them, sorted by their path in the folder.
        passed_over: what was not listed, and how often: `hidden`, `linked folders`, `unreadable folders`, or `.EXT`.
    """

    media: Sequence[Path]
    passed_over: Counter[str]

    def note(self) -> str:
        """Describe in one line what was passed over; "" where nothing was."""
        kinds = self.passed_over.most_common()
        shown = [f"{count} {kind}" for kind, count in kinds[:_NAMED]]
        rest = sum(count for _, count in kinds[_NAMED:])
        return f"not listed: {', '.join([*shown, *([f'{rest} others'] if rest else [])])}" if kinds else ""


def list_folder(path: Path) -> FolderListing:
    """List the media of a folder. What is hidden, what systems leave behind and tables of a workspace are no media."""
    found: list[Path] = []
    passed_over = Counter[str]()

    def unreadable(error: OSError) -> None:
        passed_over["unreadable folders"] += 1

    for folder, folders, names in os.walk(path, onerror=unreadable):
        own = [name for name in folders if not _is_hidden(name)]
        passed_over["hidden"] += len(folders) - len(own)
        linked = [name for name in own if Path(folder, name).is_symlink()]
        passed_over["linked folders"] += len(linked)
        folders[:] = sorted(set(own) - set(linked))
        for name in names:
            extension = Path(name).suffix.lower().lstrip(".")
            if _is_hidden(name):
                passed_over["hidden"] += 1
            elif EXTENSIONS.get(extension) in ("image", "video") or extension in UNREAD:
                found.append(Path(folder, name))
            else:
                passed_over[f".{extension}" if extension else "without extension"] += 1
    return FolderListing(sorted(found, key=lambda file: file.relative_to(path).as_posix()), +passed_over)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.endswith(".lance") or name.lower() in _OF_SYSTEMS


def read_folder(path: Path) -> list[dict[str, Any]]:
    """Read a folder as rows of a manifest: an item a file, its path as id and its name as title.

    Raises:
        ColdstartError: there are no media.
    """
    listing = list_folder(path)
    if not listing.media:
        note = listing.note()
        raise ColdstartError(
            f"no image or video file in {path}{f' ({note})' if note else ''}: "
            "give a folder of media, or a manifest of their paths"
        )
    rows = []
    for file in listing.media:
        name = file.relative_to(path).as_posix()
        title = " ".join(file.stem.replace("_", " ").replace("-", " ").split())
        role = {"role": "image"} if file.suffix.lower().lstrip(".") in UNREAD else {}  # for an item to be turned away
        rows.append({"item_id": name, "title": title, "media": [{"uri": name, **role}]})
    return rows
