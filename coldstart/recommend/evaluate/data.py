"""Build the data of one evaluation from a split and the items' content. Plain arrays, no files.

A method's fit gets its `TrainingWindow` alone: training rows, and the content of training items. Only the ceiling gets
all of it. New items that are near duplicates of training items leave the test: they would be found by copying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.metrics.splits import group_items, near_pairs
from coldstart.recommend.evaluate.splits import PARTS, TRAIN, NothingToEvaluate, Split, exclude_items
from coldstart.recommend.model import Problem
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.fusion import Content, Fusion, fit_fusion

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Mask = NDArray[np.bool_]
REASON = "near_duplicates"
COMMON = 10
"""Most items that share one vector to the bit; a vector of more items is a placeholder."""


ANSWERS = ("relevant", "met", "histories", "split", "part")
"""Names of what an evaluation has and a training window lacks."""


class HeldOutError(AttributeError):
    """Error for a fit that asks its training window for data of the evaluated part."""


@dataclass(frozen=True)
class TrainingWindow:
    """All that a fit gets: U users, I items of the evaluation by name, and W training items with rows and content.

    Attributes:
        item_ids: names of all items of the evaluation, in the order of histories; of new items nothing else is here.
        places: places of the training items among them, ascending [W].
        training: rows over all those names; only training items have some.
        content: of the training items, in the order of `places`.
        min_weight: least weight of a row that counts as a like; None: above 0.
        teacher: collaborative filtering that mappers are fitted to; dim: dimensions of its vectors.
        fusing: settings of `fit_fusion`, the same for all methods that read content.
        refused: names of data of the evaluated part that a fit has asked for in vain.
    """

    item_ids: tuple[str, ...]
    places: NDArray[np.intp]
    training: Interactions
    content: Content
    min_weight: float | None = None
    teacher: str = "als"
    dim: int = 64
    fusing: Mapping[str, Any] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set, repr=False, compare=False)
    _made: dict[int, Problem] = field(default_factory=dict, repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        """Refuse what only the evaluation has, and remember that it was asked for."""
        if name in ANSWERS:
            self.refused.add(name)
            raise HeldOutError(f"a training window has no {name!r}: it is data of the evaluated part")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def training_data(self) -> tuple[Interactions, Content]:
        """Return training rows over the training items alone, and their content."""
        return self.training.over(self.content.item_ids), self.content

    def problem(self, seed: int) -> Problem:
        """Build the problem of mappers, with fusion and teacher fitted on the training items; once a seed."""
        if seed not in self._made:
            rows, content = self.training_data()
            matrix = rows.positive(self.min_weight).matrix()
            teacher = fit_teacher(self.teacher, matrix, dim=self.dim, seed=seed)
            categories = tuple(record.get("category") for record in content.records)
            features = self.fusion.transform(content)
            self._made[seed] = Problem(matrix, features, teacher, categories, rows.matrix())
        return self._made[seed]

    @cached_property
    def fusion(self) -> Fusion:
        """Fusion of all spaces, fitted on the training items."""
        return fit_fusion(self.content, np.arange(len(self.content)), **self.fusing)

    def fresh(self) -> TrainingWindow:
        """Copy the window without what fits have made of it."""
        return replace(self, refused=set(), _made={})


@dataclass(frozen=True)
class EvaluationData:
    """Data of one evaluation: U users and I items, those of the split.

    Attributes:
        part: evaluated part, `valid` or `test`.
        training: rows that fits may see.
        histories: csr float32 [U, I]: 1 for warm items that the user liked before the request.
        met: csr float32 [U, I]: 1 for items that the user met before the request; not recommended again.
        relevant: csr float32 [U, I]: 1 for candidates that the user liked in the evaluated part and had not met.
        min_weight, teacher, dim, fusing: see `TrainingWindow`.
    """

    split: Split
    content: Content
    part: str
    training: Interactions
    histories: csr_matrix
    met: csr_matrix
    relevant: csr_matrix
    min_weight: float | None = None
    teacher: str = "als"
    dim: int = 64
    fusing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cold(self) -> Mask:
        """New items of the evaluated part, bool [I]."""
        return self.split.cold(self.part)

    @property
    def warm_places(self) -> NDArray[np.intp]:
        """Places of the training items, in order: W of them."""
        return np.flatnonzero(self.split.warm)

    @cached_property
    def window(self) -> TrainingWindow:
        """Training window: all that fits get."""
        places = self.warm_places
        return TrainingWindow(
            self.content.item_ids,
            places,
            self.training,
            self.content.take(places),
            self.min_weight,
            self.teacher,
            self.dim,
            self.fusing,
        )

    def candidates(self) -> dict[str, Mask]:
        """Build the candidate sets in which some list has a relevant item: `cold`, `warm` and `all`, bool [I] each."""
        sets = {"cold": self.cold, "warm": self.split.warm, "all": self.cold | self.split.warm}
        wanted = np.asarray(self.relevant[self.query_users()].sum(axis=0)).ravel() > 0
        found = {name: mask for name, mask in sets.items() if (wanted & mask).any()}
        if set(found) == {"cold", "all"}:
            del found["all"]  # no warm item is relevant: in a list it could only be wrong
        return found

    def query_users(self) -> NDArray[np.intp]:
        """Find the users with a list: those with a relevant candidate and a history."""
        return np.flatnonzero((np.diff(self.relevant.indptr) > 0) & (np.diff(self.histories.indptr) > 0))


def build_data(
    split: Split,
    content: Content,
    part: str = "test",
    *,
    min_weight: float | None = None,
    teacher: str = "als",
    dim: int = 64,
    fusing: Mapping[str, Any] | None = None,
) -> EvaluationData:
    """Build the data of one part of a split.

    Raises:
        ColdstartError: there is no such part, or no user with both a history and a relevant item.
        ValueError: content is not over the split's items, in the same order.
    """
    if part not in PARTS:
        raise ColdstartError(f"there is no part {part!r} to evaluate: choose one of {', '.join(PARTS)}")
    rows = split.interactions
    if rows.item_ids != content.item_ids:
        raise ValueError("split and content are not over the same items, in the same order")
    before = rows.where(split.known_before(part))
    met = before.matrix()
    warm = before.positive(min_weight)
    histories = warm.where(split.warm[warm.items]).matrix()
    liked = split.rows(PARTS[part]).positive(min_weight)
    liked = liked.where((split.cold(part) | split.warm)[liked.items])
    relevant = _without_entries(liked.matrix(), met)
    found = EvaluationData(
        split, content, part, split.rows(TRAIN), histories, met, relevant, min_weight, teacher, dim, fusing or {}
    )
    if not len(found.query_users()):
        raise NothingToEvaluate(
            f"no user can be evaluated in part {part} of split {split.kind}: {len(liked)} rows there are likes of "
            "candidates, and none of them is of a user with a history; give more interactions, or a lower --min-weight"
        )
    return found


def _without_entries(some: csr_matrix, others: csr_matrix) -> csr_matrix:
    """Remove from `some` the entries of `others`."""
    found = (some - some.multiply(others)).tocsr()
    found.eliminate_zeros()
    return found


def near_duplicate_pairs(content: Content, threshold: float = 0.98) -> NDArray[np.int64]:
    """Find pairs of items with a cosine of `threshold` or more in some space, int64 [P, 2]; lower place first."""
    found = [np.empty((0, 2), np.int64)]
    for name in content.blocks:
        places = distinct_vectors(content, name)
        if len(places) > 1:
            vectors = unit(content.blocks[name][places].astype(np.float32))
            found.append(places[near_pairs(vectors, threshold)])
    return np.unique(np.concatenate(found), axis=0)


def distinct_vectors(content: Content, space: str) -> NDArray[np.intp]:
    """Find the items with a vector of their own in a space, neither missing nor a placeholder: places."""
    places = np.flatnonzero(content.present(space))
    rows = np.ascontiguousarray(content.blocks[space][places])
    if not len(rows):
        return places
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return places[counts[inverse.ravel()] <= COMMON]


def near_duplicate_groups(content: Content, threshold: float = 0.98) -> NDArray[np.int64]:
    """Group items linked by near duplicates, int64 [N]: a group falls on one side of a split by item."""
    return group_items([()] * len(content), near_duplicate_pairs(content, threshold))


def exclude_near_duplicates(split: Split, content: Content, threshold: float = 0.98) -> Split:
    """Exclude cold items that are near duplicates of warm ones; content is over the split's items.

    Raises:
        ColdstartError: no cold item is left.
    """
    pairs = near_duplicate_pairs(content, threshold)
    cold = split.cold("valid") | split.cold("test")
    first, second = pairs.T
    chosen = np.zeros(len(content), bool)
    chosen[first[cold[first] & split.warm[second]]] = True
    chosen[second[cold[second] & split.warm[first]]] = True
    return exclude_items(split, chosen, REASON)
