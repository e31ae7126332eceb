"""What trainings on single likes share: users by their histories, batches of likes, and a start by least squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Problem, Vectors
from coldstart.behaviour.learnable import confidence, learnable
from coldstart.behaviour.teachers import Folding, fit_folding

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """`users` int64 [B]; `items` int64 [B], one that each likes; `others` int64 [n]: drawn evenly from all that anybody
    met; `liked` bool [B, n]: which of these each user likes."""

    users: Places
    items: Places
    others: Places
    liked: NDArray[np.bool_]


class Likes:
    """Users, items and their likes, of a problem."""

    def __init__(self, name: str, problem: Problem, seed: int) -> None:
        """`name`: of the mapper, for what it cannot learn from."""
        self.counts = learnable(name, problem)
        self.matrix = problem.matrix.tocsr()
        self.features = np.ascontiguousarray(problem.features, np.float32)
        self.folding: Folding = fit_folding(problem.teacher, self.matrix)
        folded, items = self.folding.users(self.matrix), problem.teacher.items
        typical = float(np.sqrt(np.mean((folded[folded.any(axis=1)] ** 2).sum(axis=1)) or 1.0))
        self.scale = 1 / typical
        """What folded users are multiplied by, so that they are of about unit length; items are divided by it."""
        self.users, self.items = folded * np.float32(self.scale), items * np.float32(typical)
        users = np.repeat(np.arange(self.matrix.shape[0]), np.diff(self.matrix.indptr))
        kept = (self.matrix.data > 0) & (self.counts[self.matrix.indices] > 0)
        self._likes = np.stack([users[kept], self.matrix.indices[kept]], axis=1).astype(np.int64)
        met = np.bincount(problem.exposed.indices, minlength=self.matrix.shape[1]) > 0
        self._met = np.flatnonzero(met & np.any(self.features != 0, axis=1))
        self.random = np.random.default_rng(seed)

    def draws(self, size: int, others: int, most: int) -> Iterator[Draw]:
        """Each like once, at most `most` of them, in another order each time; `size` a batch, at most an eighth."""
        likes = self.random.permutation(self._likes)[:most]
        size = max(1, min(size, -(-len(likes) // 8)))
        for start in range(0, len(likes), size):
            users, items = likes[start : start + size].T
            drawn = self.random.choice(self._met, others)
            wanted, places = np.unique(drawn, return_inverse=True)
            liked = (self.matrix[users][:, wanted].toarray() > 0)[:, places]
            yield Draw(users, items, drawn, liked)

    def content_start(self, kappa: float = 10.0) -> Vectors:
        """Ridge of the teacher's items on content, the more users an item has the more it counts: float32 [F, D]."""
        weights = confidence(self.counts, kappa)[:, None]
        rows = self.features.astype(np.float64)
        gram = (weights * rows).T @ rows
        gram[np.diag_indices_from(gram)] += max(np.trace(gram) / len(gram), 1e-12)
        found: Vectors = np.linalg.solve(gram, (weights * rows).T @ self.items).astype(np.float32)
        return found
