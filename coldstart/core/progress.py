"""Define the progress on which stages and trainings count their work. Knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

Skipped = int | Mapping[str, int]
"""Number of items that were skipped, or reason -> number."""


class Meter(AbstractContextManager["Meter"], Protocol):
    """A counter of one piece of long work, open while that runs."""

    def advance(self, done: int, skipped: Skipped, wait_share: float, /) -> None:
        """Count items that ended.

        Args:
            done: number of items that ended since the last call; skipped: those of them that were skipped.
            wait_share: share of the time in which the model had no data.
        """


class Progress(Protocol):
    """A source of meters."""

    def meter(self, name: str, total: int | None, /) -> Meter:
        """Open a meter of one piece of work; `total` is None where its size is unknown."""


class SilentProgress:
    """Progress that shows nothing."""

    def meter(self, name: str, total: int | None, /) -> Meter:
        """Open a meter that counts nothing."""
        return SilentMeter()


class SilentMeter:
    """A meter that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def advance(self, done: int, skipped: Skipped, wait_share: float, /) -> None:
        """Count nothing."""
