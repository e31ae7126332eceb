"""Check an evaluation for leaks: test data that training data or a fit has seen, which makes its figures worthless.

The data are compared with their split row by row, and the split with its file. What fits read is checked by
`coldstart.recommend.evaluate.fit_check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError, LeakError
from coldstart.recommend.evaluate import splits
from coldstart.recommend.evaluate.data import EvaluationData, distinct_vectors
from coldstart.recommend.evaluate.splits import TEST, VALID

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

KINDS = {
    "test_rows": "rows of the test are among the training rows",
    "valid_rows": "rows of validation are among the training rows",
    "cold_item_in_training": "an item that counts as new has training rows",
    "late_training": "training rows are not before the cut in time",
    "late_history": "a history has rows from after the request",
    "known_answer": "a relevant item is among the items that the user has already met",
    "near_duplicate": "a new item is a near duplicate of a training item",
    "split_changed": "the split's file is not the split that was evaluated",
    "fit_reads_answers": "a fit asks for data of the evaluated part",
    "fit_carries_data": "a fit carries data of its own, which may hold what the test holds",
    "fit_has_state": "a fit answers otherwise in a fresh process that has the training window alone",
    "fit_reads_files": "a fit reads files, connections or processes besides its training window",
    "answers_depend_on_queries": "a model answers a query otherwise when other queries come with it",
    "not_repeatable": "a fit does not give the same result twice, so that its inputs cannot be checked",
    "fit_cannot_be_checked": "a fit cannot be repeated in a fresh process, so that its inputs cannot be checked",
}
"""Kind of leak -> description."""
_SPLIT_ANEW = "split the interactions anew"
NEXT_STEPS = {
    "test_rows": _SPLIT_ANEW,
    "valid_rows": _SPLIT_ANEW,
    "cold_item_in_training": _SPLIT_ANEW,
    "late_training": _SPLIT_ANEW,
    "late_history": _SPLIT_ANEW,
    "known_answer": _SPLIT_ANEW,
    "near_duplicate": "split anew with the same threshold, which leaves near duplicates out",
    "split_changed": "write the split anew, or evaluate the folder's own split",
    "fit_reads_answers": "fit on `training` and `content` of the window alone",
    "fit_carries_data": "give it settings alone; what it knows of items belongs into their content",
    "fit_has_state": "keep nothing between fits, in a module or elsewhere, and read the window alone",
    "fit_reads_files": "put what it reads into the content of items, before the evaluation",
    "answers_depend_on_queries": "answer for each item and each history by itself",
    "not_repeatable": "draw all random numbers from the given seed",
    "fit_cannot_be_checked": "define the fit at the top level of a module that can be imported, with settings as "
    "arguments; or evaluate without the check (`check=False`)",
}
"""Kind of leak -> next step."""
FIT_KINDS = tuple(KINDS)[tuple(KINDS).index("fit_reads_answers") :]
"""Kinds that are looked for by fitting once more."""
_BLOCK = 4096


@dataclass(frozen=True)
class Leak:
    """One leak. `where`: the split, the histories or the method; `detail`: its extent, and the first case."""

    kind: str
    where: str
    detail: str


def leak_error(found: Sequence[Leak]) -> LeakError:
    """Build the error for an evaluation with leaks."""
    listed = "; ".join(
        f"{one.kind} in {one.where}: {KINDS[one.kind]} ({one.detail}): {NEXT_STEPS[one.kind]}" for one in found
    )
    plural = "s" if len(found) > 1 else ""
    return LeakError(f"{len(found)} leak{plural}, so that no figure would be true: {listed}", found)


def check_data(data: EvaluationData, *, threshold: float | None = 0.98, folder: Path | None = None) -> list[Leak]:
    """Check the data that all methods get.

    Args:
        threshold: cosine from which on a new item is a near duplicate; None: not checked.
        folder: where the split was written; None: it was not.
    """
    split, rows = data.split, data.training
    found = []
    for part, kind in ((TEST, "test_rows"), (VALID, "valid_rows")):
        held = np.isin(_keys(rows), _keys(split.rows(part)))
        found += _row_leaks(kind, "training rows", rows, held)
    cold = split.cold("valid") | split.cold("test")
    found += _row_leaks("cold_item_in_training", "training rows", rows, cold[rows.items])
    first = split.request_at("valid")
    if first is not None:
        found += _row_leaks("late_training", "training rows", rows, rows.times >= first)
    before = split.interactions.where(split.known_before(data.part))
    asked_at = split.request_at(data.part)
    if asked_at is not None:
        before = before.where(before.times < asked_at)
    known = before.matrix()
    for name, matrix in (("histories", data.histories), ("what users have met", data.met)):
        found += _pair_leaks("late_history", name, data, _only(matrix, known))
    found += _pair_leaks("known_answer", "histories", data, _both(data.relevant, data.histories))
    found += _pair_leaks("known_answer", "what users have met", data, _both(data.relevant, data.met))
    if threshold is not None:
        found += _near_duplicate_leaks(data, threshold)
    if folder is not None:
        found += _split_file_leaks(data, folder)
    return found


def _keys(rows: Interactions) -> NDArray[Any]:
    """Encode user, item and time of each row as one value."""
    columns = np.stack([rows.users.astype(np.int64), rows.items.astype(np.int64), rows.times], axis=1)
    return np.ascontiguousarray(columns).view(np.dtype((np.void, 24))).ravel()


def _row_leaks(kind: str, where: str, rows: Interactions, chosen: NDArray[np.bool_]) -> list[Leak]:
    places = np.flatnonzero(chosen)
    if not len(places):
        return []
    user, item = rows.user_ids[rows.users[places[0]]], rows.item_ids[rows.items[places[0]]]
    return [Leak(kind, where, f"{len(places)} of {len(rows)} rows, the first of user {user!r} and item {item!r}")]


def _pair_leaks(kind: str, where: str, data: EvaluationData, pairs: csr_matrix) -> list[Leak]:
    users, items = pairs.nonzero()
    if not len(users):
        return []
    rows = data.split.interactions
    named = f"the first of user {rows.user_ids[users[0]]!r} and item {rows.item_ids[items[0]]!r}"
    return [Leak(kind, where, f"{len(users)} entries, {named}")]


def _only(some: csr_matrix, others: csr_matrix) -> csr_matrix:
    return (some - some.multiply(others)).tocsr()


def _both(some: csr_matrix, others: csr_matrix) -> csr_matrix:
    return some.multiply(others).tocsr()


def _near_duplicate_leaks(data: EvaluationData, threshold: float) -> list[Leak]:
    """Compare all cold items with all warm ones exactly, without the screen that excludes them from a split."""
    content, warm = data.content, data.split.warm
    cold = data.cold
    worst: dict[int, tuple[float, int, str]] = {}
    for name in content.blocks:
        places = distinct_vectors(content, name)
        new, known = places[cold[places]], places[warm[places]]
        vectors = unit(np.asarray(content.blocks[name], np.float32))
        for start in range(0, len(new), _BLOCK):
            rows = new[start : start + _BLOCK]
            for left in range(0, len(known), _BLOCK):
                columns = known[left : left + _BLOCK]
                cosines = vectors[rows] @ vectors[columns].T
                best = cosines.argmax(axis=1)
                heights = cosines[np.arange(len(rows)), best]
                for place in np.flatnonzero(heights >= threshold):
                    item = int(rows[place])
                    height = float(heights[place])
                    if height > worst.get(item, (0.0,))[0]:
                        worst[item] = (height, int(columns[best[place]]), name)
    if not worst:
        return []
    item, (height, other, name) = next(iter(worst.items()))
    names = content.item_ids
    detail = f"{len(worst)} items, the first {names[item]!r} and {names[other]!r} with cosine {height:.3f} in {name}"
    return [Leak("near_duplicate", "new items", detail)]


def _split_file_leaks(data: EvaluationData, folder: Path) -> list[Leak]:
    try:
        written = splits.read_split(folder).digest()
    except ColdstartError as error:
        return [Leak("split_changed", str(folder), str(error))]
    if written == data.split.digest():
        return []
    return [Leak("split_changed", str(folder), f"digest {written} is not {data.split.digest()}, which was evaluated")]
