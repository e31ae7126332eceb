"""Delete files that came with items of a workspace and that no item names any more."""

from __future__ import annotations

import os
from pathlib import Path

from coldstart.core.trust import uploads_folder
from coldstart.store import ITEMS, Store


def sweep_uploads(store: Store) -> int:
    """Delete the uploaded files of items that were removed or changed; the caller holds the lock. Returns how many.

    A file is known by its name and folder: items of a workspace that was moved name the place where it was.
    """
    folders = [] if store.folder is None else uploads_folder(str(store.folder))
    if not folders or not Path(folders[0]).is_dir():
        return 0
    named = set[tuple[str, ...]]()
    for batch in store.batches(ITEMS, ["media"]):
        for media in batch.column("media").to_pylist():
            named.update(Path(entry["uri"]).parts[-2:] for entry in media or ())
    deleted = 0
    for parent, _, files in os.walk(folders[0]):
        for file in files:
            path = Path(parent, file)
            if path.parts[-2:] not in named:
                path.unlink(missing_ok=True)
                deleted += 1
    return deleted
