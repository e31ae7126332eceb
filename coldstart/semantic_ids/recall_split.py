"""Split histories for an evaluation of recall: by each user's last item, by time, or with items held out as new.

A user is asked for one item, the target; everything that fits and lists read lies before it. Plain arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha1
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError, LeakError
from coldstart.semantic_ids.recall_stage import histories_of

KINDS = "last-out, time, cold:0.1"
TIME_SHARE = 0.8
"""Share of the rows before the cut of a split by time."""


@dataclass(frozen=True)
class RecallSplit:
    """Split of the histories over N items.

    Attributes:
        train: histories that fits read, of all users; histories: of the judged users, as lists read them.
        users: names of the judged; targets: place of the right item of each, int64 [U].
        is_new: items that no training row has, bool [N]; held_out: those held out by hash, bool [N].
        cut: seconds of a split by time, else None.
    """

    kind: str
    item_ids: tuple[str, ...]
    train: list[NDArray[np.int64]]
    histories: list[NDArray[np.int64]]
    users: tuple[str, ...]
    targets: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    cut: int | None

    def digest(self) -> str:
        """Digest the split: equal if and only if items, histories and targets are."""
        found = blake2b(repr((self.kind, self.item_ids, self.users, self.cut)).encode(), digest_size=8)
        for array in (*self.train, *self.histories, self.targets, self.held_out):
            found.update(np.ascontiguousarray(array).tobytes() + b"|")
        return found.hexdigest()


def is_cold(item: str, share: float) -> bool:
    """Draw a share of the items by a hash of their ids; of 0.1 those whose hash is 0 modulo 10."""
    return int(sha1(f"cold:{item}".encode()).hexdigest(), 16) % round(1 / share) == 0


def parse_kind(kind: str) -> tuple[str, float]:
    """Read a split: its name, and the share of items held out.

    Raises:
        ColdstartError: it is unknown, or the share is none of 1/2, 1/3, ….
    """
    name, _, given = kind.partition(":")
    if name in ("last-out", "time") and not given:
        return name, 0.0
    try:
        share = float(given or 0.1)
    except ValueError:
        share = 0.0
    if name != "cold" or not 0.001 <= share <= 0.5:
        raise ColdstartError(f"split {kind[:80]!r}: use {KINDS}, with a share of items from 0.001 to 0.5")
    return "cold", share


def split_histories(rows: Interactions, kind: str, most_users: int | None = None) -> RecallSplit:
    """Split liked rows.

    Args:
        kind: `last-out`: the target is the last item of a user, everyone's rows before theirs are read; `time`: it is
            the first one after 0.8 of the rows have passed, and nobody's later rows are read; `cold:SHARE`: as
            last-out, and rows of items held out by a hash are read by nothing.
        most_users: judge so many, drawn by a hash of their ids.

    Raises:
        ColdstartError: the kind is unknown, or nobody is left to judge.
        LeakError: the split leaks.
    """
    name, share = parse_kind(kind)
    count = len(rows.item_ids)
    held_out = np.array([bool(share) and is_cold(item, share) for item in rows.item_ids], bool)
    cut = None
    if name == "time":
        cut = int(np.sort(rows.times)[min(len(rows) - 1, int(TIME_SHARE * len(rows)))]) if len(rows) else 0
    order = np.lexsort((rows.items, rows.times, rows.users))
    starts = np.flatnonzero(np.diff(rows.users[order], prepend=-1))
    train, histories, users, targets, judged = [], [], [], [], []
    for own in np.split(order, starts[1:]):
        if not len(own):
            continue
        if name == "time":
            assert cut is not None
            before, after = own[rows.times[own] < cut], own[rows.times[own] >= cut]
            met = set(rows.items[before].tolist())
            later = [row for row in after.tolist() if int(rows.items[row]) not in met]
            target = later[0] if later else None
        else:
            whole = _each_once(rows, own)
            target = int(whole[-1]) if len(whole) >= 3 else None
            before = whole if target is None else whole[:-1]
        history = histories_of(rows.where(before))
        known = history[0][~held_out[history[0]]] if history else np.empty(0, np.int64)
        if len(known):
            train.append(known)
        if target is not None and len(known):
            histories.append(known)
            users.append(rows.user_ids[rows.users[own[0]]])
            targets.append(int(rows.items[target]))
            judged.append(target)
    if most_users is not None and len(users) > most_users:
        drawn = sorted(range(len(users)), key=lambda place: sha1(f"judged:{users[place]}".encode()).digest())
        kept = sorted(drawn[:most_users])
        histories, users = [histories[place] for place in kept], [users[place] for place in kept]
        targets = [targets[place] for place in kept]
        judged = [judged[place] for place in kept]
    if not targets:
        raise ColdstartError(f"split {kind}: no user has a history and a next item to ask for: bring more interactions")
    is_new = np.ones(count, bool)
    for own in train:
        is_new[own] = False
    found = RecallSplit(kind, rows.item_ids, train, histories, tuple(users), np.array(targets), is_new, held_out, cut)
    check_leaks(found, rows, judged)
    return found


def _each_once(rows: Interactions, own: NDArray[np.intp]) -> NDArray[np.intp]:
    """Keep the latest row of each item, in order."""
    latest: dict[int, int] = {}
    for row in own.tolist():
        latest.pop(int(rows.items[row]), None)
        latest[int(rows.items[row])] = row
    return np.array(list(latest.values()), np.intp)


def check_leaks(split: RecallSplit, rows: Interactions, targets: Sequence[int]) -> list[str]:
    """Check a split against the rows it was made of, by another way than it was made.

    Returns:
        what was checked, a line each.

    Raises:
        LeakError: with the first user or item that leaks.
    """
    times: dict[tuple[int, int], int] = {}
    for user, item, time in zip(rows.users.tolist(), rows.items.tolist(), rows.times.tolist(), strict=True):
        times[user, item] = min(time, times.get((user, item), time))
    for history, row, name in zip(split.histories, targets, split.users, strict=True):
        user, item, at = int(rows.users[row]), int(rows.items[row]), int(rows.times[row])
        if item in history:
            raise LeakError(
                f"split {split.kind}: the history of user {name!r} holds the target {rows.item_ids[item]!r}"
            )
        late = [place for place in history.tolist() if times[user, place] > at]
        if late:
            raise LeakError(
                f"split {split.kind}: the history of user {name!r} holds {rows.item_ids[late[0]]!r}, met later"
            )
        if split.cut is not None and any(times[user, place] >= split.cut for place in history.tolist()):
            raise LeakError(f"split {split.kind}: the history of user {name!r} goes on after the cut")
    read = np.unique(np.concatenate([np.empty(0, np.int64), *split.train]))
    if split.held_out[read].any():
        item = rows.item_ids[int(read[split.held_out[read]][0])]
        raise LeakError(f"split {split.kind}: training reads rows of {item!r}, which is held out")
    return list(checks_of(split))


def checks_of(split: RecallSplit) -> tuple[str, ...]:
    """List what `check_leaks` and the evaluation check."""
    return (
        "no history holds its target",
        "every item of a history was met before the target",
        *(("no history goes on after the cut",) if split.cut is not None else ()),
        *(("no training row is of an item held out",) if split.held_out.any() else ()),
        "codebooks are fitted on items of training rows alone",
    )


def as_counts(split: RecallSplit) -> dict[str, Any]:
    """Count users, items and targets of each side."""
    new = split.is_new[split.targets]
    return {
        "users": len(split.targets),
        "items": len(split.item_ids),
        "new_items": int(split.is_new.sum()),
        "train_rows": int(sum(map(len, split.train))),
        "warm": int((~new).sum()),
        "new": int(new.sum()),
    }
