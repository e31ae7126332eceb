"""MARec over EASE: the autoencoder of items is drawn to what the similarity of content predicts, most for cold items.

Monteil, Vaskovych, Lu, Majumder & van den Hengel, MARec: Metadata Alignment for cold-start Recommendation, RecSys 2024.
With X who liked what, S the similarity of items by content (0 to themselves) and D, which is 1 for an item without
users and falls to 0 at the tenth percentile of popularity, the weights are (X'X + penalty + beta X'X S D)^-1 times
(X'X + beta X'X S D), less what makes their diagonal 0. A new item, added without a user, has the column
beta (…)^-1 X'X s, with s its similarity to the warm items: exactly that of the larger inverse.

Here the similarity is the product of fused features, whose weights of spaces stand for the paper's regression.
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
    """Fit on the items that somebody liked.

    Args:
        seed: nothing is drawn.
        beta: how strongly cold items are drawn to what content predicts.
        penalty: on the squares of the weights.
        percentile: of the items' users, under which a warm item counts as cold in part.
        dim: numbers of a vector at most.
        max_items: above which it is refused: two matrices of items by items are held, n² * 4 bytes each.

    Raises:
        ColdstartError: there is no item with content and a user, or there are too many, or a setting is out of range.
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
    """From `Columns.arrays`."""
    return restore_item_to_item(arrays)
