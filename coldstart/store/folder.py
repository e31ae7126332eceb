"""Check the folder of a workspace before anything in it is opened, and name it so that LanceDB takes it as it is.

A workspace may come from a stranger: a link in it would let tables be read, written or cleaned up elsewhere.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from coldstart.errors import ColdstartError

TABLE_SUFFIX = ".lance"
OWN_PREFIX = ".coldstart."
"""Start of the names of files beside the tables: the lock and its writer."""

_DIRECTORY = "__manifest"
"""Directory of tables that LanceDB reads where there is one: it maps their names to places."""
_PLAIN = re.compile(r"[A-Za-z0-9/._ -]*")
_DESCRIPTORS = Path("/proc/self/fd")
_opened: dict[tuple[int, int], str] = {}


def check_folder(folder: Path) -> None:
    """Refuse a workspace in which a table, or a file of one, is a link or no plain file.

    Files that are not the workspace's own (manifests, pictures) may be anything.

    Raises:
        ColdstartError: there is one; it is named.
    """
    if os.path.lexists(folder / _DIRECTORY):
        raise ColdstartError(
            f"workspace {folder} cannot be trusted: {_DIRECTORY} could name tables elsewhere, and coldstart makes "
            "none; remove it"
        )
    with os.scandir(folder) as entries:
        waiting = [entry for entry in entries if entry.name.endswith(TABLE_SUFFIX) or entry.name.startswith(OWN_PREFIX)]
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            try:
                with os.scandir(entry) as below:
                    waiting += below
            except (FileNotFoundError, PermissionError):  # upkeep removes files; what cannot be listed is told by reads
                continue
        elif not entry.is_file(follow_symlinks=False) and (entry.is_symlink() or os.path.lexists(entry)):
            what = "a link" if entry.is_symlink() else "no plain file"
            raise ColdstartError(
                f"workspace {folder} cannot be trusted: {Path(entry.path).relative_to(folder)} is {what}, which could "
                "stand for files elsewhere; put a copy of the files in its place, or remove it"
            )


def native_path(folder: Path) -> str:
    """Name an existing folder by a path that LanceDB reads as it is.

    LanceDB takes a path for a URL here and there: it cuts one at `?`, and makes an empty folder beside one with other
    marks or with letters outside ASCII, under the encoded name. Such a folder is named by a descriptor that stays open
    as long as the process, or where the system has none, by a link in a temporary folder.

    Raises:
        OSError: the folder cannot be opened.
        ColdstartError: the system has no descriptors, and its temporary folder is such a folder too.
    """
    if _PLAIN.fullmatch(str(folder)) or os.name == "nt":
        return str(folder)
    found = folder.stat()
    place = (found.st_dev, found.st_ino)
    if place not in _opened:
        if _DESCRIPTORS.is_dir():
            _opened[place] = str(_DESCRIPTORS / str(os.open(folder, os.O_RDONLY | os.O_DIRECTORY)))
        else:
            link = _link_folder() / str(len(_opened))
            if not _PLAIN.fullmatch(str(link)):
                raise ColdstartError(
                    f"LanceDB cannot open {folder}: choose a path of the letters A to Z, digits, - and _, or set "
                    "TMPDIR to such a path"
                )
            link.symlink_to(folder)
            _opened[place] = str(link)
    return _opened[place]


@cache
def _link_folder() -> Path:
    made = tempfile.mkdtemp(prefix="coldstart-links-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)
