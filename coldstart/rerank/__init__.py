"""Rerank the head of a list as a whole: a protocol, and the guard through which every reranker goes.

A reranker gets at most 30 items in base order and gives their places in its own. The answer is checked: the same
items come out as went in, within a deadline, or the base order stands and the fault is counted.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

KINDS = ("none", "mmr", "dpp", "listwise", "llm")
"""Kinds of rerankers."""
MOST_ITEMS = 30
"""Items at the head of a list that are ordered; the others stay below them."""
DEADLINE_MS = 300.0
LIKED = 10
"""Liked titles that a request names, the latest."""
MOST_AT_ONCE = 4
"""Lists that one reranker orders at a time; a further one keeps its base order."""
FAULTS = {
    "late": "took longer than the deadline",
    "busy": "was still at earlier lists",
    "lost": "lost an item",
    "invented": "named a place that there is not",
    "doubled": "named an item twice",
    "no_order": "gave no order",
    "failed": "failed",
}
"""Fault of a reranker -> its meaning."""

LAST_WAIT_S = 20.0
"""Seconds that a program which leaves waits for lists that are late."""

Places = NDArray[np.int64]
_late: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@dataclass(frozen=True)
class RerankRequest:
    """Request of a list, by its user's history.

    Attributes:
        liked: titles of liked items, the latest first; strangers' text.
        seed: of random orders, the same for the same request.
    """

    liked: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class RerankItems:
    """Items of one list, N of them, in base order.

    Attributes:
        item_ids: none twice; titles: strangers' text, "" where there is none.
        vectors: content, float32 [N, D], zero where there is none; by default none.
        creators, categories: numbers, equal where those are, int64 [N]; -1 where there is none.
        features: float32 [N, F], NaN where a value is missing.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    vectors: NDArray[np.float32] | None = None
    creators: Places | None = None
    categories: Places | None = None
    features: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, places: Sequence[int] | Places) -> RerankItems:
        """Take items in another order."""
        order = np.asarray(places, np.int64)
        arrays: dict[str, Any] = {
            name: None if (own := getattr(self, name)) is None else own[order]
            for name in ("vectors", "creators", "categories", "features")
        }
        chosen = order.tolist()
        return RerankItems(
            tuple(self.item_ids[one] for one in chosen), tuple(self.titles[one] for one in chosen), **arrays
        )


class Reranker(Protocol):
    """Reranker of short lists.

    Attributes:
        kind: one of `KINDS`.
        digest: of everything besides its data that changes orders: settings, model, version.
        counts: sums over all lists, such as `tokens` and `parse_failures`.
    """

    kind: str
    digest: str
    counts: Counter[str]

    def order(self, request: RerankRequest, items: RerankItems, scores: NDArray[np.floating[Any]]) -> Sequence[int]:
        """Order the items: their places, best first.

        Args:
            scores: of the base, the higher the better, [N]. The base order is theirs, equal ones by id: the order in
                which items stand must not matter.
        """


@dataclass(frozen=True)
class Reordered:
    """Order of one list.

    Attributes:
        places: of the items that went in, best first, int64 [N].
        fault: why the base order stands, a key of `FAULTS`; None where the reranker's does.
        ms: milliseconds that the caller waited.
    """

    places: Places
    fault: str | None
    ms: float


@dataclass
class Guard:
    """Guard of a reranker; see the module. Threads may share one.

    Attributes:
        deadline_ms: milliseconds for a list, unless a call names its own; None: no deadline, and no thread.
        faults: fault -> lists that it befell; lists: number of all.
    """

    reranker: Reranker
    deadline_ms: float | None = DEADLINE_MS
    faults: Counter[str] = field(default_factory=Counter)
    lists: int = 0
    _working: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(
        self,
        request: RerankRequest,
        items: RerankItems,
        scores: NDArray[np.floating[Any]],
        *,
        deadline_ms: float | None = None,
    ) -> Reordered:
        """Order the first 30 items; the others, and repetitions of an item, stay below them in base order.

        Args:
            deadline_ms: of this list; None: that of the guard.
        """
        began = time.perf_counter()
        limit = self.deadline_ms if deadline_ms is None else deadline_ms
        first, rest = _head(items.item_ids)
        found: Any = list(range(len(first)))
        fault: str | None = None
        if len(first) >= 2:
            found, fault = self._ask(request, items.take(first), np.asarray(scores)[first], limit)
        with self._lock:
            self.lists += 1
            if fault is not None:
                self.faults[fault] += 1
        if fault is not None:
            places = np.arange(len(items))
        else:
            places = np.array([*(first[place] for place in found), *rest], np.int64)
        return Reordered(places, fault, 1000 * (time.perf_counter() - began))

    def _ask(
        self, request: RerankRequest, items: RerankItems, scores: Any, deadline_ms: float | None
    ) -> tuple[Any, str | None]:
        if deadline_ms is None:
            return _answer(self.reranker, request, items, scores)
        answers: list[tuple[Any, str | None]] = []
        work = threading.Thread(
            target=lambda: answers.append(_answer(self.reranker, request, items, scores)), name="rerank", daemon=True
        )
        with self._lock:
            self._working = [one for one in self._working if one.is_alive()]
            if len(self._working) >= MOST_AT_ONCE:
                return None, "busy"  # or threads would pile up behind those that hang
            self._working.append(work)
            work.start()
        work.join(deadline_ms / 1000)
        if answers:
            return answers[0]
        _late.add(work)
        return None, "late"


def end_late(seconds: float = LAST_WAIT_S) -> None:
    """Wait for lists that are late: the interpreter aborts where it ends a thread within native code."""
    until = time.monotonic() + seconds
    for work in list(_late):
        work.join(max(0.0, until - time.monotonic()))


atexit.register(end_late)


def _answer(reranker: Reranker, request: RerankRequest, items: RerankItems, scores: Any) -> tuple[Any, str | None]:
    """Ask for an order; it is read here, within the deadline, and once."""
    try:
        order = reranker.order(request, items, scores)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever it is, a panic of native code too: a list must come out
        return None, "failed"
    return read_order(order, len(items))


def read_order(order: Any, count: int) -> tuple[list[int], str | None]:
    """Read an order of `count` items: plain places, and what is wrong with them, a key of `FAULTS`, or None."""
    try:
        if len(order) > 1000 * MOST_ITEMS:
            return [], "no_order"
        places = list(islice(order, 1000 * MOST_ITEMS))
        if any(isinstance(one, bool | np.bool_) or not isinstance(one, int | np.integer) for one in places):
            return [], "no_order"
        known = [int(one) for one in places]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return [], "no_order"  # a stranger's object may do anything when it is read
    if any(not 0 <= one < count for one in known):
        return known, "invented"
    if len(set(known)) < len(known):
        return known, "doubled"
    return known, "lost" if len(known) < count else None


def _head(item_ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """Split places: the first of each item among the head of the list, and the rest."""
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for place, item in enumerate(item_ids):
        (rest if item in seen or len(first) >= MOST_ITEMS else first).append(place)
        seen.add(item)
    return first, rest


def base_order(item_ids: Sequence[str], scores: NDArray[np.floating[Any]]) -> Places:
    """Order places by score, the highest first, equal ones by id."""
    return np.lexsort((np.asarray(item_ids), -np.asarray(scores, np.float64)))


def ranks_of(order: Sequence[int] | Places) -> NDArray[np.float64]:
    """Compute the rank of each place in an order, from 1, float64 [N]."""
    found = np.empty(len(order))
    found[np.asarray(order, np.int64)] = np.arange(1, len(order) + 1)
    return found


def kendall_tau(first: Sequence[int] | Places, second: Sequence[int] | Places) -> float:
    """Compute Kendall's tau of two orders of the same places, from -1 to 1; 1 for fewer than two."""
    if len(first) < 2:
        return 1.0
    one, other = ranks_of(first), ranks_of(second)
    pairs = np.triu_indices(len(first), 1)
    agree = np.sign(one[:, None] - one)[pairs] * np.sign(other[:, None] - other)[pairs]
    return float(agree.mean())


def codes_of(names: Sequence[object]) -> Places:
    """Number names by first appearance, int64; -1 for none."""
    known: dict[str, int] = {}
    return np.array([-1 if name is None else known.setdefault(str(name), len(known)) for name in names], np.int64)
