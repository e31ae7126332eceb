"""Find a file whose name has the same letters in another Unicode form.

A Mac writes é as e and an accent, most other systems as one letter; both look alike on every screen.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

Listings = dict[str, dict[str, str]]
"""Folder -> its names, composed -> as they are there; fills up as folders are read."""


def is_folder(path: str | Path) -> bool:
    """Tell whether there is a folder at a path; a name that is too long to be one is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def existing_path(path: Path, listings: Listings | None = None) -> Path:
    """Return the path, or the one that differs from it only in the Unicode form of its letters, where that exists.

    Args:
        listings: of the folders that were read before in one pass over many paths.
    """
    if os.path.lexists(path) or str(path).isascii():
        return path
    found = _spelled(path, {} if listings is None else listings)
    return path if found is None else found


def _spelled(path: Path, listings: Listings) -> Path | None:
    if os.path.lexists(path):
        return path
    folder = _spelled(path.parent, listings) if path.parent != path else None
    if folder is None or path.name in ("", ".."):
        return None
    known = listings.get(str(folder))
    if known is None:
        try:
            known = {unicodedata.normalize("NFC", file.name): file.name for file in folder.iterdir()}
        except OSError:
            known = {}
        listings[str(folder)] = known
    name = known.get(unicodedata.normalize("NFC", path.name))
    return None if name is None else folder / name
