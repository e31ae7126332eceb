"""Check an evaluation for leaks: test data that training data or a fit has seen, which makes its figures worthless.

The data are compared with their split row by row, and the split with its file. And each method is fitted once more
after rows and items that no fit may see were changed at random: a model whose answers to the same queries differ by one
bit has read them, wherever it stores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend.evaluate import splits
from coldstart.recommend.evaluate.data import EvaluationData, distinct_vectors, perturb
from coldstart.recommend.evaluate.methods import Method, Model
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
    "fit_reads_test_rows": "a fit changes with the test rows",
    "fit_reads_valid_rows": "a fit changes with the rows of validation",
    "fit_reads_new_items": "a fit changes with the content of items that count as new",
    "not_repeatable": "a fit does not give the same result twice, so that its inputs cannot be checked",
}
"""Kind of leak -> description."""
_CHANGES = {
    "test": "fit_reads_test_rows",
    "valid": "fit_reads_valid_rows",
    "content": "fit_reads_new_items",
}
_BLOCK = 4096
_COMPARED_USERS = 1000  # whose vectors are compared


@dataclass(frozen=True)
class Leak:
    """One leak. `where`: the split, the histories or the method; `detail`: its extent, and the first case."""

    kind: str
    where: str
    detail: str


class LeakError(ColdstartError):
    """Error for an evaluation with leaks; `leaks` lists them."""

    def __init__(self, found: Sequence[Leak]) -> None:
        listed = "; ".join(f"{one.kind} in {one.where}: {KINDS[one.kind]} ({one.detail})" for one in found)
        super().__init__(f"{len(found)} leak{'s' if len(found) > 1 else ''}, so that no figure would be true: {listed}")
        self.leaks = tuple(found)


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


def check_method(method: Method, data: EvaluationData, model: Model, *, seed: int = 0) -> list[Leak]:
    """Check what a method's fit reads: one more fit, and several more to name a leak.

    Args:
        model: its fit on `data` with that seed.
    """
    if method.sees_test:
        return []
    own = _answers_digest(model, data)

    def differs(what: str) -> bool:
        return _answers_digest(method.fit(perturb(data, what), seed), data) != own

    if not differs(" ".join(_CHANGES)):
        return []
    if _answers_digest(method.fit(perturb(data, ""), seed), data) != own:
        return [Leak("not_repeatable", method.name, f"seed {seed} fitted twice gave two models")]
    read = [what for what in _CHANGES if differs(what)] or list(_CHANGES)
    return [
        Leak(_CHANGES[what], method.name, f"seed {seed} answered otherwise when they were changed") for what in read
    ]


def _answers_digest(model: Model, data: EvaluationData) -> str:
    """Digest a model's answers for all items and some users of the unchanged evaluation."""
    users = data.query_users()
    histories = data.histories[users[:: max(1, len(users) // _COMPARED_USERS)]]
    items = model.items(data.content)
    block: Any = getattr(model, "scores", None)
    answers = [items, model.users(histories)] if block is None else [items, block(items, histories[:_COMPARED_USERS])]
    found = blake2b(digest_size=16)
    for array in answers:
        found.update(np.ascontiguousarray(array, np.float32).data)
    return found.hexdigest()


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
