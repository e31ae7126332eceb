"""Fit FEASE: the linear autoencoder EASE with features of items as further rows, in closed form.

EASE: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019. With features: Cui, Zhang & Lee, FEASE,
arXiv 2504.02288, 2025. R'R + beta F F' + penalty is inverted over the items with a like. A new item, added with its
features and without a user, has the column beta (...)^-1 F f: exactly that of the larger inverse.
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
    beta: float = 100.0,
    penalty: float = 3000.0,
    dim: int = 512,
    max_items: int = MAX_ITEMS,
) -> ItemToItem:
    """Fit on the items with a like.

    Args:
        seed: unused; nothing is drawn.
        beta: weight of the features, in users.
        penalty: ridge penalty of the weights.
        dim: most dimensions of a vector.
        max_items: most items; their matrix takes n² * 4 bytes.

    Raises:
        ColdstartError: no item has both content and a user, there are too many items, or a setting is out of range.
    """
    from scipy.linalg import cho_factor, cho_solve

    if not (beta > 0 and penalty > 0 and dim > 0):
        raise ColdstartError(f"fease: beta {beta:g}, penalty {penalty:g} and dim {dim} have to be above 0")
    trainable_items("fease", problem)
    matrix = (problem.matrix > 0).astype(np.float32)
    warm = np.flatnonzero(matrix.getnnz(axis=0))
    features = problem.features[warm]
    gram = cooccurrence("fease", matrix[:, warm].tocsr(), max_items)
    gram += beta * (features @ features.T)
    gram[np.diag_indices(len(warm))] += penalty
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    weights = np.zeros((matrix.shape[1], features.shape[1]))
    weights[warm] = cho_solve(factor, (beta * features).astype(gram.dtype), check_finite=False)
    return reduce_rank(weights, matrix, dim)


def restore(arrays: Arrays) -> ItemToItem:
    """Restore a mapper from its arrays."""
    return restore_item_to_item(arrays)
