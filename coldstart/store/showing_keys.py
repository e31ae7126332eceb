"""Identify showings by 64 bits of a hash, and look for many of them among many more.

A showing is the same if request and item are. Where a log names no requests, user, item, time, surface and position
tell it apart, and of rows that are alike in all of them the first, second, … of a file. Knows no tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.store.interactions import hashed, mixed

_MARKS = 1 << 24
_REQUESTS, _SHOWINGS = np.uint64(0x5D), np.uint64(0x1F)

Keys = NDArray[np.int64]


def row_keys(batch: pa.RecordBatch) -> Keys:
    """Hash the identity of each showing to 64 bits, int64 [N]; the same on every machine."""
    requests, items = hashed(batch.column("request_id")), hashed(batch.column("item_id"))
    named = mixed(mixed(_REQUESTS + requests) + items)
    if batch.column("request_id").null_count:
        parts = [
            microseconds(batch.column("timestamp")).view(np.uint64),
            hashed(batch.column("user_id")),
            items,
            hashed(batch.column("surface")),
            batch.column("position").cast(pa.int64()).fill_null(-1).to_numpy().view(np.uint64),
        ]
        own = np.full(batch.num_rows, _SHOWINGS)
        for part in parts:
            own = mixed(own + part)
        absent = batch.column("request_id").is_null().to_numpy(zero_copy_only=False)
        named = np.where(absent, own, named)
    return named.view(np.int64)


class RequestUsers:
    """User of each request of one file, 16 bytes a request, in sorted runs as `KnownKeys` has them."""

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]] = []

    def differ(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Tell which rows are of another user than the first row of their request, bool [N]; later rows are told so."""
        found = np.zeros(batch.num_rows, bool)
        named = np.flatnonzero(batch.column("request_id").is_valid().to_numpy(zero_copy_only=False))
        if not len(named):
            return found
        rows = batch if len(named) == batch.num_rows else batch.take(pa.array(named))
        requests, users = hashed(rows.column("request_id")), hashed(rows.column("user_id"))
        first = np.flatnonzero(np.r_[True, requests[1:] != requests[:-1]])  # a log has a request's rows together
        own, places, inverse = np.unique(requests[first], return_index=True, return_inverse=True)
        owners = users[first[places]]
        is_new = np.ones(len(own), bool)
        for keys, theirs in self._runs:
            at = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
            there = keys[at] == own
            owners[there] = theirs[at[there]]
            is_new &= ~there
        self._add(own[is_new], owners[is_new])
        found[named] = users != owners[inverse][np.cumsum(np.r_[False, requests[1:] != requests[:-1]])]
        return found

    def _add(self, keys: NDArray[np.uint64], owners: NDArray[np.uint64]) -> None:
        while self._runs and len(self._runs[-1][0]) <= len(keys):
            before = self._runs.pop()
            keys, owners = np.concatenate([before[0], keys]), np.concatenate([before[1], owners])
            order = np.argsort(keys, kind="stable")  # of two sorted runs this is one merge
            keys, owners = keys[order], owners[order]
        if len(keys):
            self._runs.append((keys, owners))


class KnownKeys:
    """Keys of stored rows: sorted runs, of which each is longer than all after it together."""

    def __init__(self, keys: Keys) -> None:
        self._runs = [keys] if len(keys) else []

    def contains(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell which keys, sorted, are known: bool [N]."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            found |= places_among(run, keys)[1]
        return found

    def add(self, keys: Keys) -> None:
        """Add keys that are not known, sorted."""
        while self._runs and len(self._runs[-1]) <= len(keys):
            keys = np.concatenate([self._runs.pop(), keys])
            keys.sort(kind="stable")  # of two sorted runs this is one merge
        self._runs.append(keys)


class WantedKeys:
    """Keys to look for among many more: most of those are told by their last bits alone."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._marks = np.zeros(_MARKS, bool)
        self._marks[keys & (_MARKS - 1)] = True

    def find(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find which keys are wanted: their places, and those among the wanted ones, which are sorted."""
        hits = np.flatnonzero(self._marks[keys & (_MARKS - 1)])
        places, there = places_among(self._keys, keys[hits])
        return hits[there], places[there]


class Occurrences:
    """Rows of one file that name no request, told apart where they are alike: by how many came before."""

    def __init__(self) -> None:
        self._met = KnownKeys(np.empty(0, np.int64))
        self._often, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)  # of keys that came more than once

    def told_apart(self, keys: Keys, requests: pa.Array) -> tuple[Keys, int]:
        """Number the rows without a request that are alike; returns the keys, and how many had come before."""
        if not requests.null_count:
            return keys, 0
        open_rows = np.flatnonzero(requests.is_null().to_numpy(zero_copy_only=False))
        own, inverse, counts = np.unique(keys[open_rows], return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        within = np.empty(len(order), np.int64)
        within[order] = ranks_in_runs(counts)
        there = self._met.contains(own)
        places, often = places_among(self._often, own)
        before = there.astype(np.int64)
        before[often] = self._counts[places[often]]
        self._met.add(own[~there])
        again = before + counts > 1
        others = np.ones(len(self._often), bool)
        others[places[often]] = False
        merged = np.concatenate([self._often[others], own[again]])
        sorting = np.argsort(merged, kind="stable")
        self._counts = np.concatenate([self._counts[others], (before + counts)[again]])[sorting]
        self._often = merged[sorting]
        number = (before[inverse] + within).view(np.uint64)
        found, rows = keys.copy(), open_rows[number > 0]
        found[rows] = mixed(keys[rows].view(np.uint64) + mixed(number[number > 0])).view(np.int64)
        return found, len(rows)


def places_among(among: Keys, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Find the place of each key among sorted ones, and which are there."""
    if not len(among):
        return np.zeros(len(keys), np.intp), np.zeros(len(keys), bool)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return places, among[places] == keys


def ranks_in_runs(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count from 0 within runs of these lengths: [2, 3] -> 0, 1, 0, 1, 2."""
    ends = np.cumsum(counts)
    found: NDArray[np.intp] = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return found


def microseconds(column: Any) -> Keys:
    """Convert times to microseconds, int64 [N]; those that are missing are later than any other."""
    found: Keys = column.cast(pa.int64()).fill_null(np.iinfo(np.int64).max).to_numpy()
    return found
