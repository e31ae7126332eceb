"""Vectors of length one, by which a dot product is a cosine, and even samples of rows. Needs numpy alone."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating[Any])


def unit(vectors: NDArray[Float]) -> NDArray[Float]:
    """Scale vectors to length one.

    Args:
        vectors: floats [..., D], of any finite length.

    Returns:
        The same shape, dtype and order; a vector of zeros stays zeros, and one with a NaN becomes NaN throughout.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), vectors.dtype)


def spaced(places: NDArray[Any], most: int) -> NDArray[Any]:
    """Take at most so many entries of an array [N, ...], evenly spaced, the first and the last among them."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).astype(np.intp)]
