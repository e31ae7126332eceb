"""Define what crosses to other processes: the factory of a stage, and errors that come back. Imports little."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

from coldstart.errors import ColdstartError


class StageFactory(Protocol):
    """Picklable factory that builds a stage anew, as `Recipe` does."""

    def build(self, **engine: Any) -> Any: ...


def picklable_error(error: Exception) -> Exception:
    """Return the exception itself where it can be pickled, else one with its message."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # an exception may ask for arguments that it does not keep
        pass
    if isinstance(error, ColdstartError):
        return ColdstartError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
