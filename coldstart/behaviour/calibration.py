"""Cold items beside warm ones: what brings the scores of both to one mean and spread, so that neither drowns the other.

Vectors that are guessed from content are shorter than those that a mapper has seen in training, and in one list with
them cold items vanish. What it does not know: whether cold items deserve as much; it matches what is measured on items
held out as if cold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Arrays, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_USERS = 2000  # whose lists are looked at
_MOST = 10.0  # the scale never makes more of a cold vector, nor less than one by this


@dataclass(frozen=True)
class Calibration:
    """A cold item's vector v becomes `scale v + offset`, and `shift` in one more dimension; a warm one's stays.

    To each user all cold items move by one amount, so that the order among them stays.

    Attributes:
        offset: float32 [D]; or [1], a zero, for any number of dimensions.
    """

    scale: float
    shift: float
    offset: Vectors

    @classmethod
    def none(cls) -> Calibration:
        """One that leaves all scores as they are."""
        return cls(1.0, 0.0, np.zeros(1, np.float32))

    def items(self, vectors: Vectors, cold: NDArray[np.bool_]) -> Vectors:
        """float32 [N, D] -> float32 [N, D + 1]; `cold` bool [N]."""
        chosen = np.asarray(cold)[:, None]
        moved = np.where(chosen, np.float32(self.scale) * vectors + self.offset, vectors)
        return np.concatenate([moved, np.where(chosen, self.shift, 0.0)], axis=1).astype(np.float32)

    def users(self, vectors: Vectors) -> Vectors:
        """float32 [B, D] -> float32 [B, D + 1]: 1 in the last dimension; a row of zeros stays one."""
        some = np.any(vectors != 0, axis=1, keepdims=True)
        return np.concatenate([vectors, some], axis=1).astype(np.float32)

    def arrays(self) -> Arrays:
        """All that `restore_calibration` needs."""
        return {"numbers": np.array([self.scale, self.shift], np.float64), "offset": self.offset}


def restore_calibration(arrays: Arrays) -> Calibration:
    """From `arrays()`."""
    scale, shift = np.asarray(arrays["numbers"], np.float64)
    return Calibration(float(scale), float(shift), np.asarray(arrays["offset"], np.float32))


def fit_calibration(
    users: Vectors, items: Vectors, cold: NDArray[np.bool_], liked: csr_matrix | None = None, *, top: int = 20
) -> Calibration:
    """Bring the scores of cold items to the mean, user by user, and to the spread, in the median user, of warm ones.

    Args:
        users: float32 [U, D], who judge; items: float32 [I, D]; cold: bool [I]. Cold are items held out as if so.
        liked: csr [U, I], above 0 where a user turned out to like an item, of both slices alike (both held out by the
            same rule). With it, a further shift brings the share of cold items among the `top` of all to their share
            among what was liked. It looks at up to 2,000 users' scores of all items.

    Returns:
        `Calibration.none()` where a slice has fewer than two items or its scores have no spread.
    """
    cold = np.asarray(cold, bool)
    if min(cold.sum(), (~cold).sum()) < 2 or not len(users):
        return Calibration.none()
    spreads, means = [], []
    for part in (items[cold], items[~cold]):
        means.append(part.mean(axis=0, dtype=np.float64))
        centred = part - means[-1]
        covariance = centred.T @ centred / len(part)
        spreads.append(np.sqrt(np.maximum(np.einsum("ud,de,ue->u", users, covariance, users, optimize=True), 0)))
    some = (spreads[0] > 1e-9) & (spreads[1] > 1e-9)
    if not some.any():
        return Calibration.none()
    scale = float(np.clip(np.median(spreads[1][some] / spreads[0][some]), 1 / _MOST, _MOST))
    offset = (means[1] - scale * means[0]).astype(np.float32)
    found = Calibration(scale, 0.0, offset)
    return found if liked is None else _shifted(found, users, items, cold, liked, top)


def _shifted(
    found: Calibration, users: Vectors, items: Vectors, cold: NDArray[np.bool_], liked: csr_matrix, top: int
) -> Calibration:
    """With the shift at which the share of cold items among the `top` is that among the liked, by bisection."""
    judges = np.flatnonzero((np.diff(liked.tocsr().indptr) > 0) & np.any(users != 0, axis=1))
    judges = (
        judges[np.linspace(0, len(judges) - 1, min(len(judges), _USERS)).astype(np.intp)] if len(judges) else judges
    )
    entries = liked.tocsr()[judges].tocoo()
    rows = entries.col[entries.data > 0]
    if not len(rows):
        return found
    wanted = float(cold[rows].mean())
    scores = found.users(users[judges]) @ found.items(items, cold).T
    own, others = scores[:, cold], scores[:, ~cold]
    top = min(top, scores.shape[1])
    best = -np.sort(-own, axis=1)[:, :top], -np.sort(-others, axis=1)[:, :top]
    reach = float(scores.max() - scores.min()) + 1e-6
    low, high = -reach, reach
    for _ in range(50):
        shift = (low + high) / 2
        if _share(best[0] + shift, best[1], top) < wanted:
            low = shift
        else:
            high = shift
    return Calibration(found.scale, high, found.offset)


def _share(own: NDArray[np.floating], others: NDArray[np.floating], top: int) -> float:
    """Share of `own` among the `top` of both, each given best first."""
    both = np.concatenate([own, others], axis=1)
    first = np.argsort(-both, axis=1, kind="stable")[:, :top]
    return float((first < own.shape[1]).mean())
