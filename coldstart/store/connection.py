"""Connect to LanceDB without the client of its servers, which takes half of its import and which folders never use."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lancedb

_REST_CLIENT = "lance_namespace_urllib3_client"
"""Package whose modules of data classes LanceDB imports, and whose clients its `__init__` imports beside them."""


def connect(uri: str) -> lancedb.DBConnection:
    """Connect to a database; every read sees what was written before it.

    Raises:
        ValueError: LanceDB takes no such URI.
    """
    defer_package(_REST_CLIENT)
    import lancedb

    return lancedb.connect(uri, read_consistency_interval=timedelta(0))


def defer_package(name: str) -> None:
    """Let a package's `__init__` run when a name of it is first used that no import of its modules has brought."""
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        if package.__dict__.pop("__getattr__", None) is not None:
            loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package
