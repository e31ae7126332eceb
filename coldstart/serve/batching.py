"""Answer the questions of concurrent requests together, where one call answers several sooner than one by one.

Requests come in threads of their own. The first that finds no batch of its key under way answers all questions of that
key that wait by then; the others wait for their answers, and one that came meanwhile answers the next batch. Nobody
waits for a batch to fill: while one is computed, the next one gathers. Keys do not wait for each other, so that a
costly filter delays those alone who use it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 32
"""Questions in one batch."""


class _Question(Generic[Q, A]):
    """Question that waits.

    Attributes:
        turn: held until the answer is there, or until its own thread is to answer the next batch.
        answer: None until it is there.
    """

    def __init__(self, content: Q) -> None:
        self.content = content
        self.turn = threading.Lock()
        self.turn.acquire()
        self.answer: list[A | Exception] | None = None


class Batcher(Generic[Q, A]):
    """Joins questions that have the same key.

    Args:
        answer: (key, questions) -> one answer or exception for each, in their order. One that raises fails them all.
    """

    def __init__(self, answer: Callable[[Hashable, Sequence[Q]], Sequence[A | Exception]]) -> None:
        self._answer = answer
        self._gate = threading.Lock()
        self._waiting: dict[Hashable, list[_Question[Q, A]]] = {}
        """Questions that wait, by key; a key is there while a batch of it is under way."""
        self.batches = self.questions = 0

    @property
    def waiting(self) -> int:
        """Number of questions that wait for a batch."""
        with self._gate:
            return sum(map(len, self._waiting.values()))

    def ask(self, key: Hashable, question: Q) -> A:
        """Answer a question, together with others of its key that wait."""
        own: _Question[Q, A] = _Question(question)
        with self._gate:
            first = key not in self._waiting
            self._waiting.setdefault(key, []).append(own)
        if not first:
            own.turn.acquire()
        if own.answer is None:
            self._answer_waiting(key)
        assert own.answer is not None, "the batch that a thread answers begins with its own question"
        (answer,) = own.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer_waiting(self, key: Hashable) -> None:
        with self._gate:
            waiting = self._waiting[key]
            taken, self._waiting[key] = waiting[:MOST], waiting[MOST:]
            self.batches, self.questions = self.batches + 1, self.questions + len(taken)
        answers: Sequence[A | Exception] = [RuntimeError("the batch was given up")] * len(taken)
        try:
            answers = self._answer(key, [one.content for one in taken])
            if len(answers) != len(taken):
                raise RuntimeError(f"{len(taken)} questions got {len(answers)} answers")
        except Exception as error:
            answers = [error] * len(taken)
        finally:
            with self._gate:
                following = self._waiting[key][:1]
                if not following:
                    del self._waiting[key]
            for one in following:  # it answers the next batch
                one.turn.release()
            for one, answer in zip(taken, answers, strict=True):
                one.answer = [answer]
                one.turn.release()
