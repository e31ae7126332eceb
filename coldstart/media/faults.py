"""Turn what decoders throw on hostile bytes into verdicts on the item.

Decoders throw what they like: `IndexError` while packets are read, `KeyError` in a colour table, assertions. Faults of
the set-up, of the machine, and our own assertions pass through. Workers import this module.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from coldstart.core.extras import missing_extra
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS}
_OURS = "coldstart."


@contextmanager
def decoder_faults() -> Iterator[None]:
    """Raise what a decoder throws in the block as `Reject`.

    Raises:
        Reject: `decoder_fault` with type and place, or `out_of_memory`; a verdict of the block itself as it is.
        ColdstartError, AssertionError, OSError: as `costs_the_run` tells; `MissingExtra` for a library of an extra.
    """
    try:
        yield
    except Reject:
        raise
    except Exception as error:
        if missing := missing_extra(error):
            raise missing from error
        if costs_the_run(error):
            raise
        raise fault_of(error) from error


def costs_the_run(error: BaseException) -> bool:
    """Tell a fault of the set-up, of the machine or of our own reasoning from one that the item's bytes may cause."""
    if isinstance(error, ColdstartError):
        return True
    if isinstance(error, AssertionError):
        return _place(error.__traceback__).startswith(_OURS)
    decoder = type(error).__module__.partition(".")[0] == "av"  # whose errors borrow these numbers
    return isinstance(error, OSError) and error.errno in _MACHINE and not decoder


def fault_of(error: BaseException) -> Reject:
    """Build the verdict on an item by the type and the place of an exception.

    Its message is left out: it may quote an address or its password.
    """
    place, ours = _place(error.__traceback__), _place(error.__traceback__, within=_OURS)
    where = place if ours in ("", place) else f"{place}, called at {ours}"
    reason = "out_of_memory" if isinstance(error, MemoryError) else "decoder_fault"
    return Reject(reason, f"{type(error).__qualname__} at {where}")


def _place(trace: TracebackType | None, within: str = "") -> str:
    """Find the innermost frame, of modules that start with `within`, as module:function:line; "" for none."""
    found = ""
    while trace is not None:
        # frames of compiled modules have a source path, relative to their package, and no name
        module = str(trace.tb_frame.f_globals.get("__name__") or trace.tb_frame.f_code.co_filename)
        if module.startswith(within) and module not in (__name__, "coldstart.engine.worker_process"):
            found = f"{module}:{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
