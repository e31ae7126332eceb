"""Repeat fits in a fresh process that has nothing but the training window, and answer queries there.

Run by `coldstart.recommend.evaluate.fit_check`, which sends pickles through a pipe and reads what comes back. All
methods are fitted, one after the other and each from bytes of its own, before any query arrives. Files that are opened
meanwhile, connections and processes are recorded by an audit hook (PEP 578); a library that opens files outside of
Python is not seen by it, so that the import of a reader of that kind is recorded instead.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib")
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random")
_SYSTEM = ("/proc/", "/sys/", "/etc/", "/usr/", "/lib/", "/lib64/", "/System/", "/Library/", *_DEVICES)
_PACKAGES = ("site-packages", "dist-packages")
_OTHER_READS = {
    "socket.connect": "connected to {1}",
    "socket.getaddrinfo": "looked up {0}",
    "subprocess.Popen": "started {0}",
    "os.system": "started {0}",
    "os.posix_spawn": "started {0}",
    "os.exec": "started {0}",
    "sqlite3.connect": "opened {0}",
}
_TABLES = (
    "pyarrow.parquet",
    "pyarrow.dataset",
    "pyarrow.csv",
    "pyarrow.feather",
    "lance",
    "lancedb",
    "polars",
    "duckdb",
)
_UNSEEN = frozenset((*_TABLES, "multiprocessing.shared_memory"))
_LINKERS = ("ldconfig", "gcc", "cc", "ld", "objdump")  # by which ctypes finds libraries
_MOST_READS = 20  # that are kept of a method


@dataclass(frozen=True)
class Queries:
    """Queries to a model: N items by content, and histories csr [B, I] over all items of the evaluation."""

    content: Content
    histories: csr_matrix


def answer(model: Any, queries: Queries) -> Vectors:
    """Score the items of queries for their histories, float32 [B, N]."""
    items = model.items(queries.content)
    block: Callable[..., Any] | None = getattr(model, "scores", None)
    found = model.users(queries.histories) @ items.T if block is None else block(items, queries.histories)
    return np.asarray(found, np.float32)


@dataclass
class FreshFit:
    """Result of one method in a fresh process.

    Attributes:
        scores: answers to the queries, see `answer`; None where it failed.
        fault: exception of the fit or of an answer; unpickled: whether the method was restored before it.
        refused: names of data of the evaluated part that the fit asked for; reads: what was opened meanwhile.
    """

    scores: Vectors | None = None
    fault: str | None = None
    unpickled: bool = False
    refused: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)


@dataclass
class ReadRecorder:
    """Audit hook that records reads in the list that is in use: files other than code and the system's own."""

    reads: list[str] | None = None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Record an event."""
        if self.reads is None or len(self.reads) >= _MOST_READS:
            return
        found = None
        if event == "open":
            found = _opened(*args)
        elif event == "import":
            if args[0] in _UNSEEN:
                found = f"loaded {args[0]}, whose reads are not seen"
        elif event in _OTHER_READS and not (event == "subprocess.Popen" and _is_linker(args[0])):
            found = _OTHER_READS[event].format(*args, "", "")
        if found and found not in self.reads:
            self.reads.append(found)


def _is_linker(program: Any) -> bool:
    return isinstance(program, str | bytes | os.PathLike) and Path(os.fsdecode(program)).name in _LINKERS


def _opened(path: Any, mode: Any, flags: Any) -> str | None:
    """Describe the opening of a file for reading; None for code, the system's files, and new or emptied ones."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None  # a descriptor, which was opened before
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_TRUNC | os.O_EXCL):
        return None
    whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (follows no link, opens nothing)
    own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
    if whole.endswith(_CODE) or ".so." in whole or not set(_PACKAGES).isdisjoint(Path(whole).parts):
        return None
    if whole.startswith((*_SYSTEM, *(f"{one}{os.sep}" for one in own))):
        return None
    return f"opened {whole}"


def main() -> None:
    """Fit the methods that arrive, then answer the queries that arrive."""
    source, sink = _pipes()
    window, seed, fits = pickle.load(source)
    recorder = ReadRecorder()
    sys.addaudithook(recorder)
    models: dict[str, Any] = {}
    results: dict[str, FreshFit] = {}
    for name, packed in fits.items():
        results[name] = FreshFit()
        with _recorded(recorder, results[name]):
            fit = pickle.loads(packed)
            results[name].unpickled = True
            models[name] = fit(window, seed)
        results[name].refused = sorted(window.refused)
        window.refused.clear()
        _send(sink, name)
    queries: Queries = pickle.load(source)
    for name, model in models.items():
        with _recorded(recorder, results[name]):
            results[name].scores = answer(model, queries)
    _send(sink, results)


@contextlib.contextmanager
def _recorded(recorder: ReadRecorder, result: FreshFit) -> Any:
    recorder.reads = result.reads
    try:
        yield
    except Exception as error:
        result.fault = f"{type(error).__name__}: {error}"
    finally:
        recorder.reads = None


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take over standard input and output, so that a fit neither reads nor writes there."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return source, sink


def _send(sink: BinaryIO, value: str | Mapping[str, FreshFit]) -> None:
    pickle.dump(value, sink, protocol=5)
    sink.flush()
