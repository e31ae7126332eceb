"""Hold out items as cold, stop training by them, and evaluate mappers on them.

Whole groups are held out before anything is fitted: their rows leave the matrix, the teacher, the popularity and the
statistics of fusion. They are drawn from all items with an interaction, not from popular ones alone, since new items
are not all popular; and each user's list is over all held-out items, so that it is the real task in small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.metrics.ranking import measure_lists
from coldstart.metrics.splits import split_draws
from coldstart.recommend.model import Mapper, Problem, Teacher, Tried, Vectors
from coldstart.recommend.model.fusion import Content, Fusion, fit_fusion
from coldstart.recommend.model.scoring import top_k
from coldstart.recommend.model.threads import stop_if_cancelled

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

M = TypeVar("M", bound=Mapper)
M_co = TypeVar("M_co", bound=Mapper, covariant=True)
_USERS = 2000  # of a validation set at most
_TOP = 20
TOP_K = 20
METRICS = (f"recall@{TOP_K}", f"ndcg@{TOP_K}")
SELECTION_METRIC = METRICS[1]
_MOST_USERS = 20_000
Values = Mapping[str, NDArray[np.float64]]
Lists = NDArray[np.int64]


class Learner(Protocol[M_co]):
    """Training in progress."""

    def epoch(self) -> float:
        """Train one more epoch; returns the mean loss."""
        ...

    def mapper(self) -> M_co:
        """Return the current mapper; later epochs do not change it."""
        ...


@dataclass(frozen=True)
class ValidationSet:
    """Held-out items, and users with likes among them and among the others.

    Attributes:
        items: places of the held-out items, ascending.
        histories: csr [B, I]: likes of the users among the other items.
        relevant: csr [B, H]: their likes among the held-out items.
        features: float32 [H, F], of the held-out items.
    """

    items: NDArray[np.intp]
    histories: csr_matrix
    relevant: csr_matrix
    features: NDArray[np.float32]

    def ndcg(self, mapper: Mapper) -> float:
        """Compute the mean ndcg@20 over users when all held-out items are ranked for each."""
        scores = mapper.users(self.histories) @ mapper.items(self.features).T
        lists = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
        return float(measure_lists(lists.astype(np.int64), self.relevant, [_TOP])[f"ndcg@{_TOP}"].mean())


def hold_out(problem: Problem, share: float, seed: int) -> tuple[Problem, ValidationSet] | None:
    """Hold out a random share of the items with an interaction, liked or not; None where no user can evaluate them.

    The remaining problem has no entry of theirs, and their rows of the teacher's items are zero. The teacher's users
    were fitted with them, so fits that stop early compute users from the remaining histories.
    """
    rng = np.random.default_rng((seed, 7))
    met = np.bincount(problem.exposed.indices, minlength=problem.exposed.shape[1]) > 0
    can = np.flatnonzero(met & np.any(problem.features != 0, axis=1))
    count = round(share * len(can))
    if count < 2 or len(can) - count < 2:
        return None
    held = np.sort(rng.permutation(can)[:count])
    out = np.zeros(len(met), bool)
    out[held] = True
    items = np.where(out[:, None], np.float32(0), problem.teacher.items)
    rest = replace(
        problem,
        matrix=_without(problem.matrix, out),
        exposed=_without(problem.exposed, out),
        teacher=Teacher(problem.teacher.users, items),
    )
    relevant = problem.matrix.tocsc()[:, held].tocsr()
    users = np.flatnonzero((np.diff(rest.matrix.indptr) > 0) & (np.asarray((relevant > 0).sum(axis=1)).ravel() > 0))
    if not len(users):
        return None
    users = np.sort(rng.permutation(users)[:_USERS])
    return rest, ValidationSet(held, rest.matrix[users], relevant[users], problem.features[held])


@dataclass(frozen=True)
class Trained(Generic[M]):
    """Result of a training.

    Attributes:
        mapper: mapper of the best epoch; fitted on all items with `refit`.
        epoch: the best epoch; 0 is the start.
        ndcg: on held-out items, before the first epoch and after each; empty where no item could be held out.
        validated, validation: mapper with the best ndcg, fitted without the held-out items; and those items.
    """

    mapper: M
    epoch: int
    ndcg: tuple[float, ...] = ()
    validated: M | None = None
    validation: ValidationSet | None = None

    @property
    def tried(self) -> Tried:
        """Epochs with their ndcg; empty where no item could be held out."""
        return {"epochs": dict(enumerate(self.ndcg))} if self.ndcg else {}


def train(
    start: Callable[[Problem], Learner[M]],
    problem: Problem,
    *,
    epochs: int,
    patience: int,
    valid_share: float,
    refit: bool,
    seed: int,
) -> Trained[M]:
    """Train until ndcg on held-out items has not improved for `patience` epochs, and return the best mapper.

    Args:
        start: begins a training; called again with `refit`.
        valid_share: share of the items with an interaction that is held out; with 0, or too few items, all epochs are
            trained.
        refit: train again on all items, for the best number of epochs.
    """
    halves = hold_out(problem, valid_share, seed) if valid_share else None
    with _one_thread():
        if halves is None:
            return Trained(_trained(start(problem), epochs), epochs)
        return _train_with_early_stopping(start, problem, *halves, epochs=epochs, patience=patience, refit=refit)


def _train_with_early_stopping(
    start: Callable[[Problem], Learner[M]],
    problem: Problem,
    rest: Problem,
    validation: ValidationSet,
    *,
    epochs: int,
    patience: int,
    refit: bool,
) -> Trained[M]:
    learner = start(rest)
    best = learner.mapper()
    ndcg = [validation.ndcg(best)]
    at = 0
    while len(ndcg) <= epochs and len(ndcg) - 1 - at < patience:
        stop_if_cancelled()
        learner.epoch()
        now = learner.mapper()
        ndcg.append(validation.ndcg(now))
        if ndcg[-1] > ndcg[at]:
            best, at = now, len(ndcg) - 1
    mapper = _trained(start(problem), at) if refit else best
    return Trained(mapper, at, tuple(ndcg), best, validation)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: steps are so small that threads mostly wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trained(learner: Learner[M], epochs: int) -> M:
    for _ in range(epochs):
        stop_if_cancelled()
        learner.epoch()
    return learner.mapper()


def _without(matrix: csr_matrix, out: NDArray[np.bool_]) -> csr_matrix:
    found = matrix.tocsr().copy()
    found.data = np.where(out[found.indices], 0, found.data).astype(np.float32)
    found.eliminate_zeros()
    return found


@dataclass(frozen=True)
class Fold:
    """One fold of held-out items.

    Attributes:
        train: rows over all items, without those of the held-out ones.
        held: places of the held-out items, [H]; users: places of the users with lists, [B].
        relevant: csr [B, H]: 1 where a user liked a held-out item.
    """

    train: Interactions
    held: NDArray[np.intp]
    users: NDArray[np.intp]
    relevant: csr_matrix

    def lists(self, items: Vectors, users: Vectors) -> Lists:
        """Rank the held-out items for every user by vectors of items [H, D] and users [B, D]: int64 [B, 20]."""
        return top_k(users, items, TOP_K)[0]

    def values(self, lists: Lists) -> Values:
        """Evaluate lists of the held-out items: metrics of every list, float64 [B] each."""
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
    """Split the items with a row into folds by group; each fold holds out another part of them.

    The draw of a group decides, whatever other groups there are; with so few that a fold holds out fewer than two items
    by it, groups are taken in the order of their draws, the same number of them for each fold and two or more.

    Args:
        interactions: all rows; liked: those that count as likes.
        groups: int64 [I]; share: share of the groups that a fold holds out.

    Raises:
        NothingToLearn: a fold holds out fewer than two items, or no user likes one of them and another item.
        ColdstartError: the folds are more than all items.
    """
    if not 0 < share * count <= 1:
        raise ColdstartError(f"{count} folds of {share:g} of the items each are more than all items: lower one of them")
    drawn = split_draws(groups, interactions.item_ids, seed)
    matrix = liked.matrix()
    met = interactions.counts() > 0
    order = np.unique(drawn[met])
    few = np.bincount((drawn[met] / share).astype(np.intp), minlength=count)[:count].min() < 2
    if few and len(order) >= 2 * count + 2:
        drawn, share = np.searchsorted(order, drawn) / len(order), max(share, 2 / len(order))
    for fold in range(count):
        hidden = met & (drawn >= fold * share) & (drawn < (fold + 1) * share)
        held = np.flatnonzero(hidden)
        relevant, rest = matrix[:, held], matrix[:, np.flatnonzero(~hidden)]
        users = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(rest.indptr) > 0))
        if len(held) < 2 or not len(users):
            alike = "" if len(order) == met.sum() else f" ({len(order)} that differ in content)"
            raise NothingToLearn(
                f"of {int(met.sum())} items with an interaction{alike} {len(held)} can be held out, liked by "
                f"{len(users)} users who like another item: too few; bring more with `coldstart ingest --interactions "
                "FILE`"
            )
        if len(users) > _MOST_USERS:
            users = np.sort(np.random.default_rng(seed).choice(users, _MOST_USERS, replace=False))
        yield Fold(interactions.where(~hidden[interactions.items]), held, users, relevant[users])


def build_problem(
    train: Interactions,
    content: Content,
    *,
    min_weight: float | None,
    weights: Mapping[str, float] | None,
    labels: bool,
    power: float = 0.25,
    teacher: Teacher | None = None,
) -> tuple[Problem, Fusion]:
    """Build the problem of training rows over all items; fusion is fitted on the items that have a row.

    Without a teacher its vectors are zero, which mappers onto users do not read.
    """
    met = np.flatnonzero(np.bincount(train.items, minlength=len(content)))
    fusion = fit_fusion(content, met, weights=weights, power=power, labels=labels)
    made = problem_without_features(train, content, min_weight)
    return replace(made, features=fusion.transform(content), teacher=teacher or made.teacher), fusion


def problem_without_features(train: Interactions, content: Content, min_weight: float | None) -> Problem:
    """Build a problem whose features and teacher are zeros of one dimension."""
    matrix, exposed = train.positive(min_weight).matrix(), train.matrix()
    users, items = (np.zeros((count, 1), np.float32) for count in matrix.shape)
    categories = tuple(record.get("category") for record in content.records)
    return Problem(matrix, items, Teacher(users, items), categories, exposed)
