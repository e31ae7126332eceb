"""What a long history says: what counts how much, which interests it holds, and which of it a new item is like.

Plain vectors in, plain numbers out. A history must end before the request: what came later is not to be known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]
Places = NDArray[np.intp]

_ROUNDS = 20


def decayed(weights: Floats, ages_s: NDArray[Any], half_life_s: float | None) -> NDArray[np.float32]:
    """Weights halved with every half-life of age; as they are where there is none. An age below 0 counts as 0.

    Raises:
        ValueError: a half-life that is not above 0.
    """
    if half_life_s is None:
        return np.asarray(weights, np.float32)
    if half_life_s <= 0:
        raise ValueError(f"a half-life of {half_life_s:g} s: give one above 0")
    aged = np.exp2(-np.maximum(np.asarray(ages_s, np.float64), 0) / half_life_s)
    return np.asarray(weights * aged, np.float32)


def interests(
    vectors: Vectors, weights: Floats, ages_s: NDArray[Any], *, count: int, half_life_s: float | None
) -> tuple[Vectors, NDArray[np.float32]]:
    """Up to `count` vectors that stand for a history, each one of its own, and their shares of its decayed weight.

    Medoids and not means: between two interests lies nothing that anybody asked for (Pal et al., PinnerSage, KDD 2020).

    Args:
        vectors: [H, D]; weights: [H], at least 0; ages_s: [H] seconds before the request.

    Returns:
        float32 [C, D], by falling share; float32 [C], of sum 1. C is less than `count` where the history has fewer
        different vectors, 0 for an empty one.
    """
    places, owners = medoids(vectors, decayed(weights, ages_s, half_life_s), count)
    counted = decayed(weights, ages_s, half_life_s)
    shares = np.bincount(owners, counted, minlength=len(places))
    shares = shares / max(shares.sum(), np.finfo(np.float64).tiny)
    order = np.argsort(-shares, kind="stable")
    return np.asarray(vectors[places][order], np.float32), shares[order].astype(np.float32)


def medoids(vectors: Vectors, weights: Floats, count: int) -> tuple[Places, Places]:
    """k-medoids by cosine: greedy seeds (the BUILD of Kaufman and Rousseeuw's PAM, 1990), then alternating rounds.

    Memory is H x H: meant for the last few hundred of a history, not for a catalogue.

    Returns:
        Places of the medoids [C], and for each of the history the number of its medoid [H].
    """
    if not len(vectors) or count < 1:
        return np.empty(0, np.intp), np.zeros(len(vectors), np.intp)
    rows = unit(vectors)
    far = np.clip(1 - rows @ rows.T, 0, 2).astype(np.float64)
    np.fill_diagonal(far, 0)
    mass = np.asarray(weights, np.float64)
    chosen = [int((far @ mass).argmin())]
    nearest = far[chosen[0]].copy()
    while len(chosen) < min(count, len(rows)):
        gain = np.maximum(nearest - far, 0) @ mass
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 1e-9 * max(mass.sum(), 1e-30):
            break
        chosen.append(best)
        nearest = np.minimum(nearest, far[best])
    places = np.array(chosen, np.intp)
    for _ in range(_ROUNDS):
        owners = far[places].argmin(axis=0)
        moved = places.copy()
        for number in range(len(places)):
            own = np.flatnonzero(owners == number)
            if len(own):
                moved[number] = own[(far[np.ix_(own, own)] @ mass[own]).argmin()]
        if (moved == places).all():
            break
        places = moved
    return places, far[places].argmin(axis=0)


def most_alike(target: Vectors, history: Vectors, k: int) -> tuple[Places, NDArray[np.float32]]:
    """Places in a history [H, D] of the k most like a target [D], and their cosines; equal ones by place."""
    if not len(history):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    cosines = unit(history) @ unit(target[None])[0]
    order = np.argsort(-cosines, kind="stable")[:k]
    return order, cosines[order]


def sim_tier(targets: Vectors, history: Vectors, bins: int = 20) -> NDArray[np.float32]:
    """How many of a history are how like a target: counts of cosines in equal bins from -1 to 1 (SimTier, CIKM 2024).

    Args:
        targets: [N, D]; history: [H, D].

    Returns:
        float32 [N, bins]; a row sums to H.
    """
    cosines = unit(targets) @ unit(history).T
    tiers = np.clip(((cosines + 1) / 2 * bins).astype(np.int64), 0, bins - 1)
    flat = tiers + bins * np.arange(len(targets))[:, None]
    return np.bincount(flat.ravel(), minlength=bins * len(targets)).reshape(len(targets), bins).astype(np.float32)


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1, or zero where they were."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
