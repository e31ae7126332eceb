"""Answer the questions of concurrent requests together, where one call answers several sooner than one by one.

Requests come in threads of their own. The first that finds no batch under way answers all questions that wait by then;
the others wait for their answers. Nobody waits for a batch to fill: while one is computed, the next one gathers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 32
"""Questions in one batch."""


class Batcher(Generic[Q, A]):
    """Joins questions that have the same key.

    Args:
        answer: (key, questions) -> one answer or exception for each, in their order. One that raises fails them all.
    """

    def __init__(self, answer: Callable[[Hashable, Sequence[Q]], Sequence[A | Exception]]) -> None:
        self._answer = answer
        self._gate = threading.Lock()
        self._busy = threading.Lock()
        self._waiting: list[tuple[Hashable, Q, Future[A]]] = []
        self.batches = self.questions = 0

    @property
    def waiting(self) -> int:
        """Number of questions that wait for a batch."""
        return len(self._waiting)

    def ask(self, key: Hashable, question: Q) -> A:
        """Answer a question, together with others of its key that wait."""
        future: Future[A] = Future()
        with self._gate:
            self._waiting.append((key, question, future))
        while not future.done():
            with self._busy:  # whoever holds it answers for all; the rest find their answers there
                if not future.done():
                    self._answer_waiting()
        return future.result()

    def _answer_waiting(self) -> None:
        with self._gate:
            key = self._waiting[0][0]
            taken = [entry for entry in self._waiting if entry[0] == key][:MOST]
            chosen = {id(future) for *_, future in taken}
            self._waiting = [entry for entry in self._waiting if id(entry[2]) not in chosen]
            self.batches, self.questions = self.batches + 1, self.questions + len(taken)
        try:
            answers = self._answer(key, [question for _, question, _ in taken])
        except Exception as error:
            answers = [error] * len(taken)
        for (*_, future), answer in zip(taken, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
