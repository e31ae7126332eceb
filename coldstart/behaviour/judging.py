"""Items held out as if nobody had met them, and how well mappers find who liked them.

Held out are whole groups, drawn before anything is fitted: their rows go out of the matrix, the teacher, the popularity
and the statistics of fusion. They are drawn from all items that anybody met, not from the much-liked ones alone, since
new items are not all of those; and each user's list is over all held-out items, so that it is the real task in small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Problem, Teacher, Vectors
from coldstart.behaviour.content import Content
from coldstart.behaviour.fusion import Fusion, fit_fusion
from coldstart.behaviour.scoring import top_k
from coldstart.errors import ColdstartError
from coldstart.interactions import Interactions
from coldstart.ranking_measures import measure_lists
from coldstart.training.groups import lots

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TOP_K = 20
METRICS = (f"recall@{TOP_K}", f"ndcg@{TOP_K}")
JUDGE = METRICS[1]
_MOST_USERS = 20_000

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Fold:
    """One holding out.

    Attributes:
        train: rows over all items, without those of the held-out ones.
        held: places of the held-out items, [H]; users: places of the users that are judged, [B].
        relevant: csr [B, H]: 1 where a user liked a held-out item.
    """

    train: Interactions
    held: NDArray[np.intp]
    users: NDArray[np.intp]
    relevant: csr_matrix

    def values(self, items: Vectors, users: Vectors) -> Values:
        """Metrics of every user's list, float64 [B] each: by vectors of the held-out items [H, D] and users [B, D]."""
        lists, _ = top_k(users, items, TOP_K)
        found = measure_lists(lists, self.relevant, [TOP_K])
        return {metric: found[metric] for metric in METRICS}


def folds(
    interactions: Interactions,
    liked: Interactions,
    groups: NDArray[np.int64],
    *,
    count: int,
    share: float,
    seed: int,
) -> Iterator[Fold]:
    """Items that have a row, by group; each fold holds out another part of them.

    Args:
        interactions: all rows; liked: those that speak for their item.
        groups: int64 [I]; share: of the groups that a fold holds out.

    Raises:
        ColdstartError: a fold holds out fewer than two items, or nobody who liked them has liked another.
    """
    if not 0 < share * count <= 1:
        raise ColdstartError(f"{count} folds of {share:g} of the items each are more than all items: lower one of them")
    drawn = lots(groups, interactions.item_ids, seed)
    matrix = liked.matrix()
    met = interactions.counts() > 0
    for fold in range(count):
        hidden = met & (drawn >= fold * share) & (drawn < (fold + 1) * share)
        held = np.flatnonzero(hidden)
        relevant, rest = matrix[:, held], matrix[:, np.flatnonzero(~hidden)]
        users = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(rest.indptr) > 0))
        if len(held) < 2 or not len(users):
            raise ColdstartError(
                f"of {int(met.sum())} items that anybody met {len(held)} can be held out to judge by, liked by "
                f"{len(users)} users who like another: too few; bring more with `coldstart ingest --interactions FILE`"
            )
        if len(users) > _MOST_USERS:
            users = np.sort(np.random.default_rng(seed).choice(users, _MOST_USERS, replace=False))
        yield Fold(interactions.where(~hidden[interactions.items]), held, users, relevant[users])


def problem(
    train: Interactions,
    content: Content,
    *,
    min_weight: float | None,
    weights: Mapping[str, float] | None,
    labels: bool,
    power: float = 0.25,
    teacher: Teacher | None = None,
) -> tuple[Problem, Fusion]:
    """What mappers learn from training rows over all items; the statistics of fusion are of items that have a row.

    Without a teacher its vectors are zero, which mappers onto users do not read.
    """
    met = np.flatnonzero(np.bincount(train.items, minlength=len(content)))
    fusion = fit_fusion(content, met, weights=weights, power=power, labels=labels)
    made = bare_problem(train, content, min_weight)
    return replace(made, features=fusion.transform(content), teacher=teacher or made.teacher), fusion


def bare_problem(train: Interactions, content: Content, min_weight: float | None) -> Problem:
    """The same without features and teacher: zeros of one number each."""
    matrix, exposed = train.positive(min_weight).matrix(), train.matrix()
    users, items = (np.zeros((count, 1), np.float32) for count in matrix.shape)
    categories = tuple(record.get("category") for record in content.records)
    return Problem(matrix, items, Teacher(users, items), categories, exposed)
