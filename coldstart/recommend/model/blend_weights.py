"""Select the weights of a blend of mappers on held-out items.

Greedily with replacement, averaged over draws of half of the users and half of the items (Caruana et al., ICML 2004):
one greedy pass follows the luck of a few held-out items, and leaves out mappers that would have steadied the blend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.ranking import measure_lists
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.holdout import SELECTION_METRIC, TOP_K

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_DRAWS, _STEPS = 10, 8
_MOST = 1000  # users, and items, of a draw
_LEAST = 0.05  # share below which a mapper is left out

Part = tuple[Mapping[str, tuple[Vectors, Vectors]], "csr_matrix"]
"""Of a fold: label -> vectors of its items [H, D] and users [B, D], scaled as in a blend, and csr [B, H] of likes."""


def select_blend(folds: Sequence[Part], seed: int = 0) -> dict[str, float]:
    """Select shares of the mappers, which add up to 1; one that would get less than a twentieth is left out."""
    labels = list(folds[0][0])
    rng = np.random.default_rng((seed, 11))
    total = dict.fromkeys(labels, 0.0)
    for _ in range(_DRAWS):
        for label, share in _greedy(labels, [_half(vectors, relevant, rng) for vectors, relevant in folds]).items():
            total[label] += share / _DRAWS
    kept = {label: share for label, share in total.items() if share >= min(_LEAST, max(total.values()))}
    whole = sum(kept.values())
    return {label: share / whole for label, share in kept.items()}


def _half(
    vectors: Mapping[str, tuple[Vectors, Vectors]], relevant: csr_matrix, rng: np.random.Generator
) -> tuple[dict[str, Vectors], csr_matrix]:
    """Draw half of the users and items: scores float32 [B, H] by label, and the likes among them."""
    rows, columns = (np.sort(rng.permutation(size)[: min(_MOST, -(-size // 2))]) for size in relevant.shape)
    scores = {label: users[rows] @ items[columns].T for label, (items, users) in vectors.items()}
    return scores, relevant[rows][:, columns]


def _greedy(labels: Sequence[str], halves: Sequence[tuple[Mapping[str, Vectors], csr_matrix]]) -> dict[str, float]:
    """Add one mapper after another, each as often as it helps, from the best one on."""
    sums: list[Vectors | float] = [0.0] * len(halves)
    chosen: list[str] = []
    best = -np.inf
    for _ in range(_STEPS):
        found = {
            label: _ndcg([had + scores[label] for had, (scores, _) in zip(sums, halves, strict=True)], halves)
            for label in labels
        }
        label = max(found, key=found.__getitem__)
        if not found[label] > best:
            break
        best = found[label]
        chosen.append(label)
        sums = [had + scores[label] for had, (scores, _) in zip(sums, halves, strict=True)]
    chosen = chosen or [labels[0]]  # a draw without a like tells nothing
    return {label: chosen.count(label) / len(chosen) for label in dict.fromkeys(chosen)}


def _ndcg(scores: Sequence[NDArray[np.float32]], halves: Sequence[tuple[Mapping[str, Vectors], csr_matrix]]) -> float:
    """Compute the mean ndcg@20 over all users with a like; -inf where there are none."""
    found = []
    for own, (_, relevant) in zip(scores, halves, strict=True):
        lists = np.argsort(-own, axis=1, kind="stable")[:, :TOP_K].astype(np.int64)
        found.append(measure_lists(lists, relevant, [TOP_K])[SELECTION_METRIC])
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else -np.inf
