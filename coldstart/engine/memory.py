"""The most memory that this process and its workers hold while something runs."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, Self

import psutil

_EVERY_S = 0.05


class Memory:
    """Watches within its `with` block.

    Attributes:
        peak: bytes of this process and all its children together, at most.
        worker: of the largest child alone.
        gpu: bytes that torch held on the current CUDA device at most; None where there is none in use.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0
        self.worker = 0
        self.gpu: int | None = None

    def __enter__(self) -> Self:
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if cuda := _cuda():
            self.gpu = int(cuda.max_memory_allocated()) or None

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        own = self._process.memory_info().rss
        children = []
        for child in self._process.children(recursive=True):
            try:
                children.append(child.memory_info().rss)
            except psutil.NoSuchProcess:  # it ended meanwhile
                continue
        self.peak = max(self.peak, own + sum(children))
        self.worker = max(self.worker, *children, 0) if children else self.worker


def _cuda() -> Any:
    """torch's view of CUDA where a model has loaded torch and a device is there; the engine itself needs none."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
