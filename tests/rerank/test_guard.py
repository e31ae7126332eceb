"""Guard of rerankers: the same items come out as went in, whatever a reranker answers; faults are counted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from coldstart.rerank import KINDS, MOST_AT_ONCE, Guard, RerankItems, RerankRequest, kendall_tau, read_order
from coldstart.rerank.diverse import Diverse, Unchanged


def items(count: int, repeated: int = 0) -> RerankItems:
    ids = [f"i{place}" for place in range(count)] + [f"i{place}" for place in range(repeated)]
    return RerankItems(tuple(ids), ("",) * len(ids))


class Scripted:
    """Reranker that gives what it is told to."""

    kind, digest = "llm", "none"

    def __init__(self, answer: Any) -> None:
        self.answer, self.counts = answer, Counter[str]()

    def order(self, request: RerankRequest, items: RerankItems, scores: Any) -> Any:
        return self.answer(len(items)) if callable(self.answer) else self.answer


def reordered(answer: Any, given: RerankItems) -> Any:
    return Guard(Scripted(answer), None).order(RerankRequest(), given, -np.arange(len(given), dtype=float))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([2, 1, 0], None),
        (np.array([2, 1, 0]), None),
        ([2, 1], "lost"),
        ([], "lost"),
        ([2, 1, 0, 0], "doubled"),
        ([3, 1, 0], "invented"),
        ([-1, 1, 0], "invented"),
        ([2.0, 1.0, 0.0], "no_order"),
        ([True, 0, 2], "no_order"),
        ("210", "no_order"),
        (None, "no_order"),
        (7, "no_order"),
        ([None] * 3, "no_order"),
    ],
)
def test_an_answer_that_is_no_order_leaves_the_base_and_is_counted(answer: Any, fault: str | None) -> None:
    assert read_order(answer, 3)[1] == fault
    guard = Guard(Scripted(answer), None)
    found = guard.order(RerankRequest(), items(3), -np.arange(3.0))
    assert found.places.tolist() == ([2, 1, 0] if fault is None else [0, 1, 2])
    assert (found.fault, dict(guard.faults), guard.lists) == (fault, {fault: 1} if fault else {}, 1)


def test_no_item_is_lost_doubled_or_invented_by_a_reranker_that_breaks_all_rules() -> None:
    rng = np.random.default_rng(0)

    def answer(count: int) -> Any:
        right = rng.permutation(count).tolist()
        return [right, right[:-1], [*right, 0], [*right[:-1], count], [0] * count, "x", None, 1 / 3, {}][
            int(rng.integers(9))
        ]

    guard = Guard(Scripted(answer), None)
    for number in range(1000):
        count = int(rng.integers(0, 41))
        ids = tuple(f"i{one}" for one in rng.integers(0, 60, size=count))
        found = guard.order(RerankRequest((), number), RerankItems(ids, ids), -np.arange(count, dtype=float))
        assert sorted(found.places.tolist()) == list(range(count))
    assert set(guard.faults) == {"lost", "doubled", "invented", "no_order"}


def test_items_beyond_thirty_and_repetitions_stay_below_and_one_item_asks_nobody() -> None:
    def turned(count: int) -> list[int]:
        return list(range(count))[::-1]

    assert reordered(turned, items(3, repeated=2)).places.tolist() == [2, 1, 0, 3, 4]
    assert reordered(turned, items(33)).places.tolist() == [*range(29, -1, -1), 30, 31, 32]
    for few in (0, 1):
        assert reordered("garbage", items(few)).places.tolist() == list(range(few))


def test_a_reranker_that_fails_or_hangs_leaves_the_base_within_the_deadline_and_threads_do_not_pile_up() -> None:
    free = threading.Event()

    def hang(count: int) -> list[int]:
        free.wait(30)
        return list(range(count))

    guard = Guard(Scripted(hang), 1.0)
    found = [guard.order(RerankRequest(), items(3), -np.arange(3.0)) for _ in range(MOST_AT_ONCE + 2)]
    free.set()
    assert [one.fault for one in found] == ["late"] * MOST_AT_ONCE + ["busy"] * 2
    assert all(one.places.tolist() == [0, 1, 2] for one in found)
    assert reordered(lambda count: [][0], items(3)).fault == "failed"


def test_lists_that_share_a_guard_have_deadlines_of_their_own() -> None:
    begun, free = threading.Event(), threading.Event()

    def wait(count: int) -> list[int]:
        begun.set()
        free.wait(30)
        return list(range(count))[::-1]

    guard, found = Guard(Scripted(wait), 30_000.0), list[Any]()
    given = RerankRequest(), items(3), -np.arange(3.0)
    patient = threading.Thread(target=lambda: found.append(guard.order(*given, deadline_ms=30_000.0)))
    patient.start()
    assert begun.wait(30)
    assert guard.order(*given, deadline_ms=1.0).fault == "late"
    free.set()
    patient.join(30)
    assert found[0].fault is None and found[0].places.tolist() == [2, 1, 0]
    assert (dict(guard.faults), guard.lists) == ({"late": 1}, 2)


def test_a_program_that_leaves_waits_for_late_lists_so_that_native_code_does_not_abort_it() -> None:
    program = """
import time

import numpy as np
from coldstart.rerank import Guard, RerankItems, RerankRequest

class Slow:
    kind, digest = "llm", "none"
    def order(self, request, items, scores):
        time.sleep(0.2)
        print("ended", flush=True)
        return [0, 1]

late = Guard(Slow(), 1.0).order(RerankRequest(), RerankItems(("a", "b"), ("", "")), np.zeros(2))
print(late.fault, flush=True)
"""
    left = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (left.returncode, left.stdout.split()) == (0, ["late", "ended"]), left.stderr


class OnceOnly:
    """Order that reads otherwise the second time."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        self.reads += 1
        return iter([2, 1, 0] if self.reads == 1 else [1, 1, 7])


class Panic(BaseException):
    """Panic of native code, as those of Rust come to Python."""


@pytest.mark.parametrize("deadline_ms", [None, 10_000.0])
def test_an_order_is_read_once_and_whatever_is_raised_leaves_the_base(deadline_ms: float | None) -> None:
    def raising(count: int) -> Any:
        raise Panic

    given = items(3), -np.arange(3.0)
    found = Guard(Scripted(lambda _: OnceOnly()), deadline_ms).order(RerankRequest(), *given)
    assert (found.places.tolist(), found.fault) == ([2, 1, 0], None)
    found = Guard(Scripted(raising), deadline_ms).order(RerankRequest(), *given)
    assert (found.places.tolist(), found.fault) == ([0, 1, 2], "failed")


def test_mmr_and_dpp_put_different_items_first_and_nothing_depends_on_the_order_given() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [1, 0.02]], np.float32)
    ids = ("a", "b", "c", "d")
    scores = np.array([4.0, 3.0, 2.0, 2.0])
    for kind in KINDS[1:3]:
        own = Diverse(kind, 0.7)
        given = RerankItems(ids, ids, vectors)
        assert [ids[place] for place in own.order(RerankRequest(), given, scores)][:2] == ["a", "c"]
        mixed = np.array([3, 1, 0, 2])
        other = own.order(RerankRequest(), given.take(mixed), scores[mixed])
        assert [ids[mixed[place]] for place in other] == [
            ids[place] for place in own.order(RerankRequest(), given, scores)
        ]
        assert Diverse(kind, 0.0).order(RerankRequest(), given, scores) == [0, 1, 2, 3]
    assert Unchanged().order(RerankRequest(), items(3), np.array([1.0, 3.0, 3.0])) == [1, 2, 0]


def test_tau_is_one_for_the_same_order_and_minus_one_for_the_other_way_round() -> None:
    assert kendall_tau([0, 1, 2], [0, 1, 2]) == 1
    assert kendall_tau([0, 1, 2], [2, 1, 0]) == -1
    assert kendall_tau([0], [0]) == 1
