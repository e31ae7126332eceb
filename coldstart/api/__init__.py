"""The Python interface: `coldstart.open` and `coldstart.Workspace`.

Notebooks and services call it, and every command of the command line is a shell over it. One file a family of
methods: `work` (run, fit, inspect), `search` (find items), `recommend` (lists and audiences), `evaluate` (measure).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.core.arrow import import_arrow
from coldstart.core.uris import find_folder, plain_uri
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.api.workspace import Workspace

__all__ = ["Workspace", "open"]


def open(uri: str | Path, *, create: bool = False, index: str = "disk") -> Workspace:
    """Open a workspace.

    Args:
        uri: a folder, or any URI LanceDB takes.
        create: create it where it is missing.
        index: `memory`: hold the catalogue in memory, with an HNSW graph for each space that has an index, which the
            first search makes or opens; `disk`: read it from the workspace.

    Raises:
        ColdstartError: there is no workspace at `uri`, nothing is kept there, or no such `index`.
    """
    if str(uri).lower().startswith("memory:"):
        raise ColdstartError(f"workspace {uri}: nothing is kept in memory: name a folder")
    find_folder(plain_uri(str(uri)), create=create)  # before the store and Arrow are imported
    import_arrow()
    from coldstart.api.workspace import Workspace
    from coldstart.store import Store

    return Workspace(Store(uri, create=create), index)


def __getattr__(name: str) -> Any:
    if name != "Workspace":
        raise AttributeError(f"module 'coldstart.api' has no attribute {name!r}")
    from coldstart.api.workspace import Workspace

    return Workspace
