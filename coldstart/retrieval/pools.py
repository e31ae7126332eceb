"""Pools of candidates: rows of places with what each is worth, joined, capped and put on one scale.

Rows are users; a place of -1 is nothing, and is worth -inf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Places = NDArray[np.int64]
Worth = NDArray[np.float64]

RRF_K = 60


def is_there(queries: Vectors) -> NDArray[np.bool_]:
    """Which interests are any, bool [B, C]; the first always is, so that every user gets a list."""
    found: NDArray[np.bool_] = np.any(queries != 0, axis=2)
    found[:, 0] = True
    return found


def repeated(rows: csr_matrix, times: int) -> csr_matrix:
    return rows if times == 1 else rows[np.repeat(np.arange(rows.shape[0]), times)]


def merged(
    places: Places, scores: NDArray[np.float32], there: NDArray[np.bool_], how: str
) -> tuple[Places, NDArray[np.float64]]:
    """One pool out of those of several interests [B, C, P], each item once: [B, C * P]."""
    count, _, depth = places.shape
    places = np.where(there[:, :, None], places, -1)
    ranks = 1 / (RRF_K + 1 + np.arange(depth))
    worth = np.where(places < 0, -np.inf, scores if how == "max" else np.broadcast_to(ranks, places.shape))
    flat, values = places.reshape(count, -1), worth.reshape(count, -1).astype(np.float64)
    order = np.lexsort((-values, flat), axis=1)
    flat, values = np.take_along_axis(flat, order, 1), np.take_along_axis(values, order, 1)
    first = np.ones(flat.shape, bool)
    first[:, 1:] = flat[:, 1:] != flat[:, :-1]
    if how == "rrf":
        starts = np.flatnonzero(first.ravel())
        totals = np.add.reduceat(np.where(np.isneginf(values), 0, values).ravel(), starts)
        values[first] = totals
    kept = first & (flat >= 0)
    return ordered(np.where(kept, flat, -1), np.where(kept, values, -np.inf))


def ordered(places: Places, worth: NDArray[np.float64]) -> tuple[Places, NDArray[np.float64]]:
    """By falling worth, then place; what is not there at the end."""
    worth = np.where(places < 0, -np.inf, worth)
    order = np.lexsort((places, -worth), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(worth, order, 1)


def occurrence(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same code stand before each in its row; 0 for -1."""
    order = np.argsort(codes, axis=1, kind="stable")
    ranked = np.take_along_axis(codes, order, 1)
    at = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
    first = np.ones(codes.shape, bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    since = at - np.maximum.accumulate(np.where(first, at, 0), axis=1)
    found = np.empty(codes.shape, np.int64)
    np.put_along_axis(found, order, since, 1)
    return np.where(codes < 0, 0, found)


def capped(
    places: Places, worth: NDArray[np.float64], creators: NDArray[np.int64], most: int
) -> tuple[Places, NDArray[np.float64]]:
    """The pool without what goes beyond so many of one creator."""
    if not places.size:
        return places, worth
    codes = np.where(places < 0, -1, creators[places])
    return ordered(np.where(occurrence(codes) < most, places, -1), worth)


def spread(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each row's finite values, [B, 1]; 0 for none."""
    there = np.isfinite(worth)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    mean = np.where(there, worth, 0).sum(axis=1, keepdims=True) / count
    found: NDArray[np.float64] = np.sqrt(np.where(there, (worth - mean) ** 2, 0).sum(axis=1, keepdims=True) / count)
    return found


def between(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row from 0 to 1; -inf stays."""
    there = np.isfinite(worth)
    low = np.where(there, worth, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, worth, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    wide = np.where(np.isfinite(high - low) & (high > low), high - low, 1)
    return np.where(there, (np.where(there, worth, 0) - np.where(np.isfinite(low), low, 0)) / wide, -np.inf)
