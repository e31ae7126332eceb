"""Find a file whose name has the same letters in another Unicode form.

A Mac writes é as e and an accent, most other systems as one letter; both look alike on every screen. For a file that is
not there, a name beside it that is nearly the same is suggested.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Callable
from itertools import islice
from pathlib import Path

_MOST_NAMES = 5000

Listings = dict[str, dict[str, str]]
"""Folder -> its names, composed -> as they are there; fills up as folders are read."""


def is_folder(path: str | Path) -> bool:
    """Tell whether there is a folder at a path; a name that is too long to be one is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def similar_path(path: str | Path, accept: Callable[[Path], bool] | None = None) -> str:
    """Suggest a name in the same folder: ` (did you mean 'items.jsonl'?)`, or "" where none is similar.

    Args:
        accept: tells which files or folders may be meant; all by default.
    """
    path = Path(path)
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES)]
    except (OSError, ValueError):
        return ""
    same = [name for name in names if name.casefold() == path.name.casefold()]
    stem = [name for name in names if Path(name).stem == path.stem]
    alike = {Path(name).stem: name for name in names if Path(name).suffix == path.suffix}
    close = [*same, *stem, *(alike[one] for one in difflib.get_close_matches(path.stem, alike, n=1, cutoff=0.7))]
    if accept is not None:
        close = [name for name in close if accept(path.parent / name)]
    return f" (did you mean {str(path.parent / close[0]) if path.parent != Path() else close[0]!r}?)" if close else ""


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
