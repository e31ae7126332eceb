"""Keep the links of an HNSW graph on disk: numbers of rows alone, no vector, no id, no text.

Source of the method: Malkov and Yashunin 2016, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs"; the arrays are laid out as faiss has them.

A file is data, whoever wrote it: every link is checked before a search follows one (`Links.fault`), and distances are
always of the vectors of the publication that is searched, so that a wrong graph can find less and never something else.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from coldstart.core.keys import digest

LINKS = 32
"""Links of a row on a level above the lowest, where it has twice as many."""
_LEVELS = 6
"""Levels at most: a row in 32 of a level is on the next. Of a seventh, faiss reads outside of its tables."""
_FORMAT = "hnsw 1"
_SUFFIX, _PARTIAL = ".safetensors", ".part"
_MOST_BYTES = 2**31
"""Bytes of a file that is read at most: seven million rows."""
KEPT_BYTES = 2**32
"""Bytes of all files together: beyond them, those that were used longest ago are deleted."""
_PARTIAL_S = 86_400
"""Age in seconds after which a file that was not written to its end is deleted."""


@dataclass(frozen=True)
class Links:
    """Links of an HNSW graph over `N` numbered rows.

    Attributes:
        keys: uint64 `[N]`, what each row was: of its item and the key of its content.
        levels: int32 `[N]`, levels that a row is on, 1 or more.
        neighbors: int32, the links of all rows one after another, lowest level first; -1 for none.
        entry: row at which searches begin.
    """

    keys: NDArray[np.uint64]
    levels: NDArray[np.int32]
    neighbors: NDArray[np.int32]
    entry: int

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """Places in `neighbors` at which the links of each row begin, and the end, uint64 `[N + 1]`."""
        ends = np.cumsum(LINKS * (1 + self.levels.astype(np.int64)))
        return np.concatenate([[0], ends]).astype(np.uint64)

    def fault(self) -> str | None:
        """Find what would let a search read outside of the arrays; None where nothing would."""
        count = len(self.keys)
        if count == 0 or self.levels.shape != (count,) or not 0 <= self.entry < count:
            return "it has no rows, or no row to begin at"
        if self.levels.min() < 1 or self.levels.max() > _LEVELS:
            return "a row is on no level, or on too many"
        if self.levels[self.entry] != self.levels.max():
            return "searches would not begin at the highest level"
        offsets = self.offsets.astype(np.int64)
        if self.neighbors.shape != (offsets[-1],):
            return "it has too few links, or too many"
        if self.neighbors.min() < -1 or self.neighbors.max() >= count:
            return "a link leads to no row"
        upper = np.flatnonzero(self.levels > 1)
        for level in range(1, int(self.levels.max())):
            upper = upper[self.levels[upper] > level]
            begin = offsets[upper] + LINKS * (1 + level)
            linked = self.neighbors[begin[:, None] + np.arange(LINKS)]
            if (self.levels[linked[linked >= 0]] <= level).any():
                return "a link leads to a row that is not on its level"
        return None


def graph_path(uri: str, space: str, passport: str) -> Path:
    """Name the file of a space of a workspace in the cache folder of this user."""
    where = uri if "://" in uri else str(Path(uri).resolve())
    return graph_folder() / f"{digest([_FORMAT, where, space, passport])}{_SUFFIX}"


def graph_folder() -> Path:
    """Name the folder of all graphs of this user."""
    return platformdirs.user_cache_path("coldstart", appauthor=False) / "graphs"


def save_links(path: Path, links: Links) -> bool:
    """Write the links whole or not at all, and delete files beyond `KEPT_BYTES`; tells whether they are written."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {"keys": links.keys, "levels": links.levels.astype(np.uint8), "neighbors": links.neighbors}
    arrays["entry"] = np.array([links.entry], np.int64)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=_PARTIAL)
        os.close(handle)
        try:
            save_file(arrays, name, {"format": _FORMAT})
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError):  # a full disk is the second
        return False
    with contextlib.suppress(OSError):
        _prune(path)
    return True


def _prune(newest: Path) -> None:
    """Delete files of graphs, those first that were used longest ago, until `KEPT_BYTES` are left; never the newest
    one. Files that nobody will write to their end go, too."""
    left, now = KEPT_BYTES, time.time()
    for path, used_s, size in sorted(_files(newest.parent), key=lambda one: (one[0] != newest, -one[1])):
        if path.suffix == _PARTIAL:
            is_over = now - used_s > _PARTIAL_S
        else:
            left -= size
            is_over = left < 0 and path != newest
        if is_over:
            with contextlib.suppress(OSError):
                path.unlink()


def _files(folder: Path) -> list[tuple[Path, float, int]]:
    """List files of graphs: path, seconds since 1970 of the last use, bytes."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process deleted it
            if path.suffix in (_SUFFIX, _PARTIAL):
                known = path.stat()
                found.append((path, known.st_mtime, known.st_size))
    return found


def load_links(path: Path) -> Links | None:
    """Read links that were saved, and note that they were used; None where there are none that can be used."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    kinds = {"keys": np.uint64, "levels": np.uint8, "neighbors": np.int32, "entry": np.int64}
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        arrays: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError):
        return None
    if {name: array.dtype.type for name, array in arrays.items()} != kinds or any(a.ndim != 1 for a in arrays.values()):
        return None
    if len(arrays["entry"]) != 1:
        return None
    links = Links(arrays["keys"], arrays["levels"].astype(np.int32), arrays["neighbors"], int(arrays["entry"][0]))
    if links.fault():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return links
