"""Fit MARec over EASE: an item autoencoder regularised towards content similarity, most for cold items.

Monteil, Vaskovych, Lu, Majumder & van den Hengel, MARec: Metadata Alignment for cold-start Recommendation, RecSys 2024.
With X the likes, S the content similarity of items (0 to themselves) and D, which is 1 for an item without users and
falls to 0 at the tenth percentile of popularity, the weights are (X'X + penalty + beta X'X S D)^-1 times
(X'X + beta X'X S D), less the term that makes their diagonal 0. A new item, added without a user, has the column
beta (...)^-1 X'X s, with s its similarity to the warm items: exactly that of the larger inverse. Here similarity is the
product of fused features, whose weights of spaces replace the paper's regression.
"""

from __future__ import annotations

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, trainable_items
from coldstart.recommend.model.linear import MAX_ITEMS, ItemToItem, cooccurrence, reduce_rank, restore_item_to_item


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    beta: float = 1.0,
    penalty: float = 300.0,
    percentile: float = 10.0,
    dim: int = 512,
    max_items: int = MAX_ITEMS,
) -> ItemToItem:
    """Fit on the items with a like.

    Args:
        seed: unused; nothing is drawn.
        beta: strength of the regularisation towards content similarity.
        penalty: ridge penalty of the weights.
        percentile: percentile of the items' user counts below which a warm item counts as partly cold.
        dim: most dimensions of a vector.
        max_items: most items; two matrices of items by items are held, n² * 4 bytes each.

    Raises:
        ColdstartError: no item has both content and a user, there are too many items, or a setting is out of range.
    """
    from scipy.linalg import lu_factor, lu_solve

    if not (beta > 0 and penalty > 0 and 0 <= percentile <= 100 and dim > 0):
        raise ColdstartError(
            f"marec: beta {beta:g}, penalty {penalty:g} and dim {dim} have to be above 0, and percentile "
            f"{percentile:g} from 0 to 100"
        )
    trainable_items("marec", problem)
    matrix = (problem.matrix > 0).astype(np.float32)
    users = matrix.getnnz(axis=0)
    warm = np.flatnonzero(users)
    features = problem.features[warm]
    gram = cooccurrence("marec", matrix[:, warm].tocsr(), max_items)
    seen = gram @ features.astype(gram.dtype)
    bar = max(np.percentile(users[warm], percentile), 1.0)
    coldness = np.clip((bar - users[warm]) / bar, 0, None)
    cold = np.flatnonzero(coldness)
    alike = features @ features[cold].T
    alike[cold, np.arange(len(cold))] = 0
    drawn = (gram @ alike.astype(gram.dtype)) * (beta * coldness[cold]).astype(gram.dtype)
    gram[:, cold] += drawn
    gram[np.diag_indices(len(warm))] += penalty
    factor = lu_factor(gram, overwrite_a=True, check_finite=False)
    weights = np.zeros((matrix.shape[1], features.shape[1]))
    weights[warm] = lu_solve(factor, (beta * seen).astype(gram.dtype), check_finite=False)
    return reduce_rank(weights, matrix, dim)


def restore(arrays: Arrays) -> ItemToItem:
    """Restore a mapper from its arrays."""
    return restore_item_to_item(arrays)
