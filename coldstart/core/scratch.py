"""Make folders for the files of one step, and sweep those that killed processes left.

Each holds a lock file, which the system frees with its process: so a sweep tells what is left from what is in use, in
whichever process, and needs no clock for it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"
_NAME = re.compile(r"coldstart-(estimate|export|fit|media|run)-[a-z0-9_]{8}|\.[0-9a-f]{32}\.[a-z0-9_.]+")
"""Names of such folders; the second, and those without a lock file, are of coldstart 0.1."""
_YOUNG_S = 60.0
"""A folder this young may not have its lock yet."""
_UNLOCKED_S = 86_400.0
"""Age at which one without a lock file counts as left."""


@contextmanager
def scratch_folder(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder, and delete it at the end.

    Args:
        kind: `estimate`, `export`, `fit`, `media` or `run`.
        parent: where to make it, by default among temporary files.
    """
    from filelock import FileLock  # here, because it imports asyncio and `--help` should stay quick

    made = Path(tempfile.mkdtemp(prefix=f"coldstart-{kind}-", dir=parent))
    try:
        with FileLock(made / _LOCK):
            inner = made / "files"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sweep(parent: Path | None = None) -> int:
    """Delete the folders in `parent`, by default among temporary files, whose process is gone; returns how many."""
    from filelock import FileLock, Timeout

    swept = 0
    with suppress(OSError):
        for entry in os.scandir(parent or tempfile.gettempdir()):
            if not _NAME.fullmatch(entry.name):
                continue
            with suppress(OSError, Timeout):
                found = entry.stat(follow_symlinks=False)
                age_s = time.time() - found.st_mtime
                own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
                if not (own and entry.is_dir(follow_symlinks=False) and age_s > _YOUNG_S):
                    continue
                lock = Path(entry.path, _LOCK)
                if lock.is_file():
                    with FileLock(lock).acquire(timeout=0):
                        shutil.rmtree(entry.path, ignore_errors=True)
                elif age_s > _UNLOCKED_S:
                    shutil.rmtree(entry.path, ignore_errors=True)
                swept += not os.path.lexists(entry.path)
    return swept
