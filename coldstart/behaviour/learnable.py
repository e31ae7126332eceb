"""Which items of a problem teach a mapper something: those with content and with a user who liked them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Problem
from coldstart.errors import ColdstartError


def learnable(name: str, problem: Problem) -> NDArray[np.int64]:
    """How many users liked each item, int64 [I]; 0 also where nothing is known of it.

    Raises:
        ColdstartError: all are 0; the mapper of that `name` cannot learn.
    """
    likes = problem.matrix.indices[problem.matrix.data > 0]
    users = np.bincount(likes, minlength=problem.matrix.shape[1])
    users[~np.any(problem.features != 0, axis=1)] = 0
    if not users.any():
        raise ColdstartError(
            f"{name}: of {len(users)} items none has both a vector of its content and a user who liked it: embed the "
            "items of the interactions"
        )
    return users.astype(np.int64)


def confidence(users: NDArray[np.int64], kappa: float) -> NDArray[np.float64]:
    """n / (n + kappa) of each item, float64 [I]; 0 where n is."""
    found: NDArray[np.float64] = np.divide(users, users + kappa, out=np.zeros(len(users)), where=users > 0)
    return found
