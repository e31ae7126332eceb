"""Batches: questions that wait are answered together, each by its own answer."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from coldstart.serve.batching import MOST, Batcher


def test_questions_that_wait_are_answered_in_one_batch_of_their_key() -> None:
    first, go_on, seen = threading.Event(), threading.Event(), threading.Event()
    sizes: list[tuple[Hashable, int]] = []

    def answer(key: Hashable, questions: Sequence[int]) -> list[int | Exception]:
        sizes.append((key, len(questions)))
        if len(sizes) == 1:
            first.set()
            go_on.wait(60)
        if len(sizes) == 3:
            assert seen.wait(60), "an answer is there while the next batch is under way"
        return [question * 10 for question in questions]

    batcher: Batcher[int, int] = Batcher(answer)
    with ThreadPoolExecutor(60) as pool:
        one = pool.submit(batcher.ask, "a", 0)
        first.wait(60)
        assert batcher.ask("b", 7) == 70  # another key does not wait for it
        others = {number: pool.submit(batcher.ask, "a", number) for number in range(1, 31)}
        while batcher.waiting < 30:
            pass
        go_on.set()
        assert one.result(60) == 0
        seen.set()
        assert {number: future.result(60) for number, future in others.items()} == {n: n * 10 for n in range(1, 31)}
    assert sizes == [("a", 1), ("b", 1), ("a", 30)]
    assert (batcher.batches, batcher.questions) == (3, 32)


def test_a_batch_has_a_bound() -> None:
    sizes = []

    def answer(_: Hashable, questions: Sequence[int]) -> list[int | Exception]:
        sizes.append(len(questions))
        return list(questions)

    batcher: Batcher[int, int] = Batcher(answer)
    with ThreadPoolExecutor(3 * MOST) as pool:
        assert list(pool.map(lambda number: batcher.ask("a", number), range(3 * MOST))) == list(range(3 * MOST))
    assert max(sizes) <= MOST
    assert sum(sizes) == 3 * MOST


def test_one_faulty_question_costs_its_own_answer_alone() -> None:
    def answer(_: Hashable, questions: Sequence[int]) -> list[int | Exception]:
        return [ValueError("odd") if question % 2 else question for question in questions]

    batcher: Batcher[int, int] = Batcher(answer)
    assert batcher.ask("a", 2) == 2
    with pytest.raises(ValueError, match="odd"):
        batcher.ask("a", 3)


def test_a_failure_of_all_reaches_whoever_asked() -> None:
    def answer(_: Hashable, questions: Sequence[int]) -> list[int | Exception]:
        raise RuntimeError("down")

    batcher: Batcher[int, int] = Batcher(answer)
    for _ in range(2):  # the next question is not kept waiting
        with pytest.raises(RuntimeError, match="down"):
            batcher.ask("a", 1)
