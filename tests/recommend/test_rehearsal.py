"""A launch that is rehearsed: hidden items get the share of places that they have of the likes to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.core.interactions import Interactions
from coldstart.recommend.model import Problem, Teacher
from coldstart.recommend.model.rehearsal import FoldFit, Rehearsal, Trial, latest_rows, rehearse

USERS, ITEMS, DIM = 300, 240, 6
INFLATED = 1.6


@dataclass(frozen=True)
class _Known:
    """A mapper that knows users by their place; items as they are."""

    people: NDArray[np.float32]

    def users(self, histories: csr_matrix) -> NDArray[np.float32]:
        return self.people[np.asarray(histories[:, -USERS:].argmax(axis=1)).ravel()]

    def items(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return features

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {}


def _world(seed: int = 0) -> tuple[Interactions, NDArray[np.float32], NDArray[np.float32]]:
    """Likes drawn by taste, at all times; each user also has an item of their own, by which the mapper knows them."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(USERS, DIM)).astype(np.float32)
    items = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    scores = people @ items.T + rng.gumbel(size=(USERS, ITEMS))
    liked = np.argsort(-scores, axis=1)[:, :30]
    users = np.concatenate([np.repeat(np.arange(USERS), 30), np.arange(USERS)])
    places = np.concatenate([liked.ravel(), ITEMS + np.arange(USERS)])
    times = np.concatenate([rng.permutation(30 * USERS) + 1, np.zeros(USERS, np.int64)])
    names = [f"i{place:04d}" for place in range(ITEMS + USERS)]
    rows = Interactions(
        tuple(f"u{place}" for place in range(USERS)),
        tuple(names),
        users.astype(np.int32),
        places.astype(np.int32),
        times.astype(np.int64),
        np.ones(len(users), np.float32),
    )
    own = np.concatenate([items, np.full((USERS, DIM), 1e-3, np.float32)])
    return rows, people, own


def _rehearsed(inflated: float, folds: int = 2) -> Rehearsal:
    """The folds' mapper knows all items as they are; the one of the rehearsal inflates those without a row."""
    rows, people, items = _world()

    def problem(own: Interactions) -> Problem:
        nothing = Teacher(np.zeros((USERS, 1), np.float32), np.zeros((len(items), 1), np.float32))
        return Problem(own.matrix(), items, nothing, (None,) * len(items), own.matrix())

    def fit(own: Interactions) -> Trial:
        new = own.counts() == 0
        return Trial(problem(own), _Known(people), np.where(new[:, None], inflated * items, items).astype(np.float32))

    parts = [np.arange(place, ITEMS, 4) for place in range(folds)]
    fitted = [FoldFit(problem(rows.where(~np.isin(rows.items, held))), _Known(people), held) for held in parts]
    return rehearse(rows, fitted, fit)


@pytest.mark.slow
def test_hidden_items_get_the_share_of_places_that_they_have_of_the_likes_to_come() -> None:
    plain, inflated = _rehearsed(1.0), _rehearsed(INFLATED)
    assert plain.deserved == inflated.deserved == pytest.approx(0.25, abs=0.03)
    assert plain.factor == pytest.approx(1, abs=0.1)
    assert inflated.before is not None and inflated.deserved is not None
    assert inflated.before > inflated.deserved + 0.1
    assert inflated.after == pytest.approx(inflated.deserved, abs=0.005)
    assert inflated.factor == pytest.approx(1 / INFLATED, rel=0.15)


def test_with_too_little_to_judge_nothing_changes() -> None:
    assert _rehearsed(INFLATED, folds=1) == Rehearsal()
    assert Rehearsal().factor == 1


def test_the_future_is_each_users_latest_rows() -> None:
    rows = _world()[0]
    later = latest_rows(rows, 0.2)
    assert np.bincount(rows.users[later], minlength=USERS).tolist() == [6] * USERS  # of 31
    for user in range(3):
        own = rows.users == user
        assert rows.times[own & later].min() > rows.times[own & ~later].max()
    one = rows.where(rows.times == 0)
    assert not latest_rows(one, 0.2).any()  # a single row of each user
