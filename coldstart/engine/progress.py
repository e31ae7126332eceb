"""Show progress on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from coldstart.core.progress import Meter, SilentMeter, Skipped
from coldstart.core.reasons import plain

_LINE_EVERY_S = 10.0
_WIDE, _NARROW = 100, 60
"""Columns from which a bar and all words have room, and below which the reasons have none."""
_COUNTED = 0.05
"""Least rate in items a second that is shown: of slower steps the time that is left says more."""
_WORTH_SAYING = 0.05
"""Share of the time without data from which more workers would help."""


class ConsoleProgress:
    """Progress as a bar where stderr is a terminal, else as a line every ten seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def meter(self, stage: str, total: int | None, /) -> Meter:
        """Open a meter that is shown under the name of the stage."""
        return (
            _BarMeter(self._console, stage, total)
            if self._console.is_terminal
            else _LineMeter(self._console, stage, total)
        )


class _CountingMeter(SilentMeter):
    def __init__(self, console: Console, stage: str, total: int | None) -> None:
        self._console, self._stage, self._total = console, stage, total
        self._began = time.monotonic()
        self._done = 0
        self._skipped: Counter[str] = Counter()
        self._wait_share = 0.0

    def _text(self, reasons: int = 2, wait: bool = True) -> str:
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        shown = self._skipped.most_common(reasons)
        skipped = [f"{count:,} {plain(reason)}" for reason, count in shown]
        more = self._skipped.total() - sum(count for _, count in shown)
        skipped += [f"{more:,}{' more' if shown else ''} skipped"] if more else []
        waited = [f"model waited {self._wait_share:.0%}"] if wait and self._wait_share >= _WORTH_SAYING else []
        speed = [f"{rate:,.1f} items/s"] if rate >= _COUNTED else []
        return ", ".join((*speed, *skipped, *waited))

    def advance(self, done: int, skipped: Skipped, wait_share: float, /) -> None:
        self._done += done
        self._skipped.update({"skipped": skipped} if isinstance(skipped, int) else skipped)
        self._skipped = +self._skipped  # without reasons of no item
        self._wait_share = wait_share


class _BarMeter(_CountingMeter):
    def __enter__(self) -> Self:
        wide = self._console.width >= _WIDE
        self._bar = RichProgress(
            TextColumn("{task.description:<10}"),
            *([BarColumn(bar_width=20)] if wide else []),
            MofNCompleteColumn(),
            *([TimeRemainingColumn()] if self._console.width >= _NARROW else []),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._stage, total=self._total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, done: int, skipped: Skipped, wait_share: float, /) -> None:
        super().advance(done, skipped, wait_share)
        width = self._console.width
        text = self._text() if width >= _WIDE else self._text(1 if width >= _NARROW else 0, wait=False)
        self._bar.update(self._task, advance=done, text=text)


class _LineMeter(_CountingMeter):
    def __enter__(self) -> Self:
        self._printed = self._began
        return self

    def advance(self, done: int, skipped: Skipped, wait_share: float, /) -> None:
        super().advance(done, skipped, wait_share)
        now = time.monotonic()
        if now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            left = ""
            if self._total and self._done:
                seconds = (self._total - self._done) * (now - self._began) / self._done
                left = f", {seconds:,.0f} s left"
            total = f"/{self._total}" if self._total else ""
            text = f"{left}, {self._text()}".removesuffix(", ")
            self._console.print(f"{self._stage}: {self._done}{total}{text}", highlight=False, soft_wrap=True)
