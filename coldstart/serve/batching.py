"""Answer the questions of concurrent requests together, where one call answers several sooner than one by one.

Requests come in threads of their own. The first that finds no batch of its key under way answers all questions of that
key that wait by then; the others wait for their answers. Nobody waits for a batch to fill: while one is computed, the
next one gathers. Keys do not wait for each other, so that a costly filter delays those alone who use it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 32
"""Questions in one batch."""


@dataclass
class _Line(Generic[Q, A]):
    """Questions of one key that wait, and the lock of whoever answers them."""

    busy: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[tuple[Q, Future[A]]] = field(default_factory=list)
    threads: int = 0


class Batcher(Generic[Q, A]):
    """Joins questions that have the same key.

    Args:
        answer: (key, questions) -> one answer or exception for each, in their order. One that raises fails them all.
    """

    def __init__(self, answer: Callable[[Hashable, Sequence[Q]], Sequence[A | Exception]]) -> None:
        self._answer = answer
        self._gate = threading.Lock()
        self._lines: dict[Hashable, _Line[Q, A]] = {}
        self.batches = self.questions = 0

    @property
    def waiting(self) -> int:
        """Number of questions that wait for a batch."""
        with self._gate:
            return sum(len(line.waiting) for line in self._lines.values())

    def ask(self, key: Hashable, question: Q) -> A:
        """Answer a question, together with others of its key that wait."""
        future: Future[A] = Future()
        with self._gate:
            line = self._lines.setdefault(key, _Line())
            line.threads += 1
            line.waiting.append((question, future))
        try:
            while not future.done():
                with line.busy:  # whoever holds it answers for all; the rest find their answers there
                    if not future.done():
                        self._answer_waiting(key, line)
        finally:
            with self._gate:
                line.threads -= 1
                if not line.threads:
                    del self._lines[key]
        return future.result()

    def _answer_waiting(self, key: Hashable, line: _Line[Q, A]) -> None:
        with self._gate:
            taken, line.waiting = line.waiting[:MOST], line.waiting[MOST:]
            self.batches, self.questions = self.batches + 1, self.questions + len(taken)
        try:
            answers = self._answer(key, [question for question, _ in taken])
        except Exception as error:
            answers = [error] * len(taken)
        for (_, future), answer in zip(taken, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
