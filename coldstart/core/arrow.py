"""Import PyArrow without pandas, where a process only reads.

PyArrow imports pandas, if it is installed, as it makes its first array, so that it knows data frames when it meets
them; that takes longer than PyArrow itself. A process in which it did not find pandas makes no data frames of tables
and takes none; pandas itself can be imported as before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_wanted = False


def leave_pandas_out() -> None:
    """Let `import_arrow` leave pandas out in this process; for the command line, which has no data frames."""
    global _wanted
    _wanted = True


def import_arrow() -> None:
    """Import PyArrow, without pandas where `leave_pandas_out` was called and neither has been imported yet."""
    if not _wanted or "pandas" in sys.modules or "pyarrow" in sys.modules:
        return
    hidden = _HiddenPandas()
    sys.meta_path.insert(0, hidden)
    try:
        import pyarrow.dataset  # noqa: F401  (makes the first array)
    finally:
        sys.meta_path.remove(hidden)


class _HiddenPandas(MetaPathFinder, Loader):
    """Finder whose pandas cannot be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def exec_module(self, module: ModuleType) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
