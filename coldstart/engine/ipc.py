"""What crosses to other processes: how a stage is built there, and the faults that come back. Loads little."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

from coldstart.errors import ColdstartError


class StageFactory(Protocol):
    """What builds the stage anew, as `Recipe` does; picklable."""

    def build(self, **engine: Any) -> Any: ...


def picklable_error(error: Exception) -> Exception:
    """The exception itself where it crosses to another process whole, else one of its words."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # an exception may ask for arguments that it does not keep
        pass
    if isinstance(error, ColdstartError):
        return ColdstartError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
