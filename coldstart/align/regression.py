"""Kernel ridge regression of pictures on texts, as heads: words are mapped to where their pictures would lie.

Trained heads draw what is new to the texts that they know, since their loss separates these alone. The other way
round, from texts to pictures, a new text lands between those that are like it, and pictures keep their own geometry, so
that pictures of new products find each other, too (Zhang et al. 2017, "Learning a deep embedding model for zero-shot
learning"). Pictures are whitened by what differs among pictures of one text. Where the picture encoder has a
classifier, the names of its classes are further texts: a row of a linear classifier times the covariance points to
where its class lies (Fisher's discriminant). All of it is closed form: no epochs, no learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.align.head_math import Pairs
from coldstart.encoders._heads import Heads, HeadShape

Matrix = NDArray[np.float64]

MOST_PICTURES, MOST_TEXTS = 20_000, 4_096
"""Pictures and texts of a regression at most: of more, a sample by groups. The time grows with the cube of texts."""
GAMMAS = (4.0, 12.0)
"""Sharpness of kernels `exp(gamma (cosine - 1))` that a fit chooses from: wide ones where titles are many and alike."""
RIDGE, SHRINKAGE = 0.3, 0.1
"""Ridge of the regression; share of the mean variance in the covariance by which pictures are whitened."""
CLASS_WEIGHT = 0.1
"""Weight of the name of a class against that of a text with pictures."""
KNOWN_GAMMA = 60.0
"""Sharpness of the kernel that recognises known texts: a cosine of 0.95 counts as a twentieth of the same text."""

_LEAST = 1e-2  # of the mean deviation: what varies less is taken to vary so much


@dataclass(frozen=True)
class ClassNames:
    """Classes that an image encoder was trained on.

    Attributes:
        texts: float32 `[C, Dt]` of length one: their names by the text encoder.
        rows: float32 `[C, K]`: rows of the classifier over the first K numbers of a picture's vector.
    """

    texts: NDArray[np.float32]
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class _Means:
    """Pictures by group: vectors float64 `[N, D]`, group of each, mean of each group, weight of each picture."""

    vectors: Matrix
    groups: NDArray[np.int64]
    means: Matrix
    weights: NDArray[np.float64]


def sampled(pairs: Pairs, most_pictures: int, most_texts: int, seed: int) -> Pairs:
    """Select items of as many groups, in random order, as stay within the numbers of pictures and texts."""
    pictures = np.bincount(pairs.image_items[pairs.image_items >= 0], minlength=len(pairs))
    texts = np.bincount(pairs.text_items[pairs.text_items >= 0], minlength=len(pairs))
    if pictures.sum() <= most_pictures and texts.sum() <= most_texts:
        return pairs
    _, groups = np.unique(pairs.groups, return_inverse=True)
    order = np.argsort(np.random.default_rng(seed).permutation(groups.max() + 1)[groups], kind="stable")
    kept = (np.cumsum(pictures[order]) <= most_pictures) & (np.cumsum(texts[order]) <= most_texts)
    kept[:2] = True
    return pairs.take(np.sort(order[kept]))


def fit_regression(pairs: Pairs, classes: ClassNames | None, *, gamma: float, dim: int, seed: int) -> Heads:
    """Fit heads on pairs: the picture's linear, the text's a sum of kernels around the texts of the pairs.

    Args:
        classes: of the image encoder, None where they are not known.
        gamma: sharpness of the kernels, as of `GAMMAS`.
        dim: numbers of the space, at most; fewer where there are fewer pictures.
    """
    pairs = _sampled_texts(pairs, seed)
    rows = pairs.image_rows().order
    raw = pairs.images[rows].astype(np.float32)
    _, groups = np.unique(pairs.groups, return_inverse=True)
    mean, deviation = raw.mean(0), raw.std(0)
    deviation = np.maximum(deviation, _LEAST * deviation.mean() or 1.0) * np.float32(np.sqrt(raw.shape[1]))
    scaled = (raw - mean) / deviation
    ways = _main_directions(scaled, dim, seed)
    pictures = _by_group((scaled @ ways).astype(np.float64), groups[pairs.image_items[rows]])
    middle = pictures.means.mean(0)

    texts, owners, weights = _texts(pairs, groups)
    goals = pictures.means[owners] - middle
    if classes is not None:
        named = _class_means(pictures, middle, raw[:, : classes.rows.shape[1]], classes.rows)
        texts = np.concatenate([texts, classes.texts.astype(np.float64)])
        goals = np.concatenate([goals, named])
        weights = np.concatenate([weights, np.full(len(named), CLASS_WEIGHT)])
    inverse = np.linalg.inv(np.exp(gamma * (texts @ texts.T - 1)) + RIDGE * np.diag(1 / weights))
    factors = inverse @ goals
    first = np.unique(owners, return_index=True)[1]
    left_out = factors[first] / np.diag(inverse)[first, None]  # goal less what the other texts predict
    whiten = _whitening(pictures, left_out)

    heads = Heads(HeadShape(raw.shape[1], whiten.shape[0]), _kernels(texts, whiten.shape[0]))
    assert heads.image.direct is not None and heads.text.inner is not None and heads.text.outer is not None
    linear = whiten @ (ways.T / deviation)
    values: list[tuple[torch.Tensor, Matrix]] = [
        (heads.image.direct.weight, linear),
        (heads.image.bias, -linear @ mean - whiten @ middle),
        (heads.text.inner.weight, gamma * texts),
        (heads.text.inner.bias, np.full(len(texts), -gamma)),
        (heads.text.outer.weight, whiten @ factors.T),
    ]
    return _filled(heads, values)


def known_heads(pairs: Pairs, inputs: int, seed: int) -> Heads:
    """Make heads whose cosine is -1 for a text that the pairs hold and any picture, and 0 for a new text.

    Joined to other heads with a small weight, they take back the advantage of known texts over new ones, which is
    called calibrated stacking (Chao et al. 2016); the order of pictures for one text does not change.

    Args:
        inputs: numbers of a picture's vector.
    """
    texts, _, _ = _texts(_sampled_texts(pairs, seed), pairs.groups)
    texts = np.unique(texts.round(4), axis=0)
    heads = Heads(HeadShape(inputs, 2), _kernels(texts, 2))
    assert heads.image.direct is not None and heads.text.inner is not None and heads.text.outer is not None
    values: list[tuple[torch.Tensor, Matrix]] = [
        (heads.image.direct.weight, np.zeros((2, inputs))),
        (heads.image.bias, np.array([1.0, 0.0])),
        (heads.text.inner.weight, KNOWN_GAMMA * texts),
        (heads.text.inner.bias, np.full(len(texts), -KNOWN_GAMMA)),
        (heads.text.outer.weight, np.full((2, len(texts)), -1.0)),
        (heads.text.bias, np.array([0.0, 1.0])),
    ]
    return _filled(heads, values)


def _sampled_texts(pairs: Pairs, seed: int) -> Pairs:
    return sampled(pairs, MOST_PICTURES, MOST_TEXTS, seed)


def _kernels(texts: Matrix, outputs: int) -> HeadShape:
    return HeadShape(texts.shape[1], outputs, len(texts), "exp", direct=False)


def _filled(heads: Heads, values: list[tuple[torch.Tensor, Matrix]]) -> Heads:
    heads.requires_grad_(False)
    for weight, value in values:
        weight.copy_(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))
    return heads.eval()


def _texts(pairs: Pairs, groups: NDArray[Any]) -> tuple[Matrix, NDArray[np.int64], NDArray[np.float64]]:
    """List the texts of a weight above 0, equal ones of a group once, with the group and the weight of each.

    Of a group, the heaviest comes first.
    """
    rows = np.flatnonzero((pairs.text_items >= 0) & (pairs.text_weights > 0))
    owners = groups[pairs.text_items[rows]]
    vectors = pairs.texts[rows].astype(np.float64)
    numbers = np.unique(vectors.round(3), axis=0, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((-pairs.text_weights[rows], owners))
    _, first = np.unique(np.stack([owners[order], numbers[order]]), axis=1, return_index=True)
    chosen = order[np.sort(first)]
    return vectors[chosen], owners[chosen], pairs.text_weights[rows][chosen].astype(np.float64)


def _main_directions(scaled: NDArray[np.float32], dim: int, seed: int) -> NDArray[np.float32]:
    """Compute the directions `[D, K]` in which most of the pictures differ."""
    most = min(dim, scaled.shape[1], max(1, len(scaled) - 1))
    if scaled.shape[1] <= most:
        return np.eye(scaled.shape[1], dtype=np.float32)
    from sklearn.utils.extmath import randomized_svd

    _, _, ways = randomized_svd(scaled, most, n_iter=2, random_state=seed)
    return np.asarray(ways.T, np.float32)


def _by_group(vectors: Matrix, groups: NDArray[np.int64]) -> _Means:
    counts = np.bincount(groups).astype(np.float64)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, groups, vectors)
    return _Means(vectors, groups, means / counts[:, None], 1 / counts[groups] / len(counts))


def _class_means(pictures: _Means, middle: Matrix, features: NDArray[np.float32], rows: NDArray[np.float32]) -> Matrix:
    """Estimate where pictures of the classes lie, less the middle, at half the length of the mean of a group."""
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    covariance = (pictures.vectors - middle).T @ ((features - features.mean(0)) * pictures.weights[:, None])
    named = (covariance @ (rows - rows.mean(0)).T).T
    typical = np.median(np.linalg.norm(pictures.means - middle, axis=1))
    return np.asarray(named * (0.5 * typical / max(np.median(np.linalg.norm(named, axis=1)), 1e-12)), np.float64)


def _whitening(pictures: _Means, left_out: Matrix) -> Matrix:
    """Compute the map after which what no text predicts of a picture has the same spread in all directions.

    That is the spread within groups, and, by their numbers, the error for a group whose text is left out.
    """
    within = pictures.vectors - pictures.means[pictures.groups]
    spread = within.T @ (within * pictures.weights[:, None])
    inner, outer = len(within) - len(pictures.means), len(left_out)
    spread = (inner * spread + left_out.T @ left_out) / (inner + outer)
    size = len(spread)
    spread = (1 - SHRINKAGE) * spread + (SHRINKAGE * np.trace(spread) / size + 1e-9) * np.eye(size)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(spread)))
