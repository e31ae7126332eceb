"""Trained heads, heads by regression and a shift of known texts in one space, weighted by what they find of the new.

The weights are chosen inside the training part: a fifth of the groups are held out whole, and of the others a fifth of
their pictures where they have several; both are ranked in one gallery, and the harmonic mean of their reciprocal ranks
decides (Xian et al. 2017), averaged over the ways from picture to text and from text to picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.align.head_math import Pairs
from coldstart.align.measures import harmonic_mean
from coldstart.align.regression import GAMMAS, ClassNames, fit_regression, known_heads, sampled
from coldstart.encoders._heads import Heads, JoinedHeads
from coldstart.metrics.intervals import FEWEST_COMPARED

FOLDS = 2
HELD_OUT = 5
"""One of so many groups is held out whole, and one of so many pictures of the others."""
EPOCHS = 20
"""Epochs of the inner fits."""
MOST_ROWS = 16_384
"""Pictures, and texts, of the inner fits, a sample by groups: the weights of a space need no more."""
TRAINED = (1.0, 0.7, 0.5, 0.3, 0.0)
SHIFTS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3)
"""Weights that are tried: of trained heads against regression, and of the shift of known texts against both."""
KEPT = 0.95
"""Least share of the best mean reciprocal rank of seen groups that chosen weights keep."""

_QUERIES = 1024
_TIE = 1e-6
_FEWEST_GROUPS = 5

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Weights of the heads of a space.

    Attributes:
        trained: of the trained heads; the regression has the rest, up to 1. shift: of known texts, beside these.
        gamma: sharpness of the kernels of the regression.
    """

    trained: float
    shift: float
    gamma: float


USUAL = Weights(trained=0.3, shift=0.04, gamma=GAMMAS[1])
"""Weights where there are too few groups to choose by."""


@dataclass(frozen=True)
class Score:
    """Mean reciprocal ranks of queries of seen and unseen groups: of pictures among texts, of texts among pictures.

    NaN where there are no such queries, or too few texts.
    """

    picture_seen: float
    picture_unseen: float
    text_seen: float
    text_unseen: float


@dataclass(frozen=True)
class Choice:
    """Chosen weights, and by what: reciprocal ranks of held-out pictures and texts of `seen` and of `unseen` groups."""

    weights: Weights
    found: dict[str, Any]


def choose_weights(
    pairs: Pairs, classes: ClassNames | None, train: Callable[[Pairs], Heads], *, dim: int, seed: int
) -> Choice:
    """Choose weights by fits on parts of the pairs.

    Args:
        train: fits trained heads on a part of the pairs.
    """
    pairs = sampled(pairs, MOST_ROWS, MOST_ROWS, seed)
    _, groups = np.unique(pairs.groups, return_inverse=True)
    count = int(groups.max()) + 1
    if count < _FEWEST_GROUPS:
        return Choice(USUAL, {"groups": count, "reason": "too few groups to choose by"})
    random = np.random.default_rng([seed, 7])
    order, places = random.permutation(count), random.permutation(len(pairs.images))
    folds = [_Fold.of(pairs, groups, order % HELD_OUT == fold, places % HELD_OUT == fold) for fold in range(FOLDS)]
    scored: dict[Weights, list[Score]] = {}
    for fold in folds:
        trained = fold.sims(train(fold.train))
        with_shift = fold.seen.sum() >= FEWEST_COMPARED  # without seen queries, any shift looks like a gain
        with_texts = len(fold.text_groups) >= FEWEST_COMPARED
        for gamma in GAMMAS:
            regression = fold.sims(fit_regression(fold.train, classes, gamma=gamma, dim=dim, seed=seed))
            for share in TRAINED:
                both = [share * one + (1 - share) * other for one, other in zip(trained, regression, strict=True)]
                by_text = fold.text_ranks(both[1]) if with_texts else (np.nan, np.nan)
                for shift in SHIFTS if with_shift else (0.0,):  # that of a text is the same for all pictures
                    found_by = Score(*fold.picture_ranks(both[0], shift), *by_text)
                    scored.setdefault(Weights(share, shift, gamma), []).append(found_by)
    whole = {weights: values for weights, values in scored.items() if len(values) == FOLDS}
    best = _best(whole)
    plain = Weights(1.0, 0.0, GAMMAS[0])
    found = {
        "groups": count,
        "queries": {"seen": sum(int(f.seen.sum()) for f in folds), "unseen": sum(int((~f.seen).sum()) for f in folds)},
        **{name: _mean(whole[weights]) for name, weights in (("chosen", best), ("trained_alone", plain))},
    }
    return Choice(best, found)


def join(trained: Heads, regression: Heads, known: Heads, weights: Weights) -> JoinedHeads:
    """Join heads by weights; those of weight zero are left out."""
    rest = 1 / (1 + weights.shift)
    parts = [
        (trained, weights.trained * rest),
        (regression, (1 - weights.trained) * rest),
        (known, weights.shift * rest),
    ]
    kept = [(heads, weight) for heads, weight in parts if weight > 0]
    return JoinedHeads([heads for heads, _ in kept], tuple(weight for _, weight in kept))


def fit_joined(
    pairs: Pairs, trained: Heads, classes: ClassNames | None, weights: Weights, *, dim: int, seed: int
) -> JoinedHeads:
    """Fit the regression on all pairs and join it to trained heads."""
    regression = fit_regression(pairs, classes, gamma=weights.gamma, dim=dim, seed=seed)
    return join(trained, regression, known_heads(pairs, pairs.images.shape[1], seed), weights)


@dataclass(frozen=True)
class _Fold:
    """Part of the pairs to fit on, and held-out pictures to rank with the heaviest text of each group, both ways.

    Attributes:
        pictures: rows of `pairs` that are held out; groups: of each; seen: bool, whether the fit knows the group.
        texts: a row of each group; known: bool, whether the fit knows it.
        others: rows of pictures that the fit knows, which stand among the held-out ones; other_groups: of each.
    """

    pairs: Pairs
    train: Pairs
    pictures: NDArray[np.int64]
    groups: NDArray[np.int64]
    seen: NDArray[np.bool_]
    texts: NDArray[np.int64]
    known: NDArray[np.bool_]
    others: NDArray[np.int64]
    other_groups: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Pairs, groups: NDArray[np.int64], held: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> _Fold:
        """Hold out groups whole, and drawn pictures of others but for the first of each item and group."""
        owned = pairs.image_items >= 0
        own = np.where(owned, groups[pairs.image_items], -1)
        is_unseen = owned & held[own]
        rows = np.flatnonzero(owned & ~held[own] & ~drawn)  # pictures that stay
        stays = np.bincount(own[rows], minlength=len(held)) > 0
        is_seen = owned & ~held[own] & drawn & stays[own]
        image_items = pairs.image_items.copy()
        image_items[is_seen | is_unseen] = -1
        has_picture = np.bincount(image_items[image_items >= 0], minlength=len(pairs)) > 0
        kept = np.flatnonzero(has_picture)
        renumbered = np.full(len(pairs) + 1, -1, np.int64)
        renumbered[kept] = np.arange(len(kept))
        train = replace(pairs.take(kept), image_items=renumbered[image_items])
        heaviest = pairs.text_rows().heaviest()
        first = np.unique(groups, return_index=True)[1]
        queries = np.concatenate([_some(is_seen), _some(is_unseen)])
        others = rows[:: -(-len(rows) // (2 * _QUERIES)) or 1]
        return cls(
            pairs, train, queries, own[queries], ~held[own[queries]], heaviest[first], ~held, others, own[others]
        )

    def sims(self, heads: Heads) -> tuple[Matrix, Matrix]:
        """Compute cosines of held-out pictures with texts `[Q, G]`, and of their texts with pictures `[T, Q + O]`."""
        texts = heads.text.project(self.pairs.texts[self.texts])
        pictures = heads.image.project(self.pairs.images[np.concatenate([self.pictures, self.others])])
        held_out = pictures[: len(self.pictures)]
        return np.asarray(held_out @ texts.T, np.float32), np.asarray(texts[self.text_groups] @ pictures.T, np.float32)

    @property
    def text_groups(self) -> NDArray[np.int64]:
        """Groups of the held-out pictures, once each, int64 [T]."""
        return np.unique(self.groups)

    def picture_ranks(self, sims: Matrix, shift: float) -> tuple[float, float]:
        """Compute the mean reciprocal ranks of seen and unseen pictures, with known texts shifted down."""
        shifted = sims - np.float32(shift) * self.known
        right = shifted[np.arange(len(sims)), self.groups][:, None]
        return _by_side(np.maximum((shifted >= right - _TIE).sum(1), 1), self.seen)

    def text_ranks(self, sims: Matrix) -> tuple[float, float]:
        """Compute the mean reciprocal ranks of texts of seen and unseen groups, by their nearest held-out picture.

        Pictures of a group that the fit knows are no candidates for its own text.
        """
        queries = self.text_groups
        is_right = self.groups[None] == queries[:, None]
        held_out, others = sims[:, : len(self.pictures)], sims[:, len(self.pictures) :]
        right = np.where(is_right, held_out, -2).max(1, keepdims=True)
        wrong = ((held_out >= right - _TIE) & ~is_right).sum(1)
        wrong += ((others >= right - _TIE) & (self.other_groups[None] != queries[:, None])).sum(1)
        return _by_side(wrong + 1, self.known[queries])


def _best(scored: Mapping[Weights, Sequence[Score]]) -> Weights:
    """Choose the highest harmonic mean among weights that keep `KEPT` of the best rank of seen pictures."""
    means = {weights: float(np.mean([one.picture_seen for one in values])) for weights, values in scored.items()}
    least = KEPT * max(means.values())
    kept = [weights for weights, seen in means.items() if not seen < least]  # none is seen: NaN keeps all
    return max(kept, key=lambda weights: _mean(scored[weights])["harmonic"] or 0.0)


def _some(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.flatnonzero(chosen)
    return rows[:: -(-len(rows) // _QUERIES) or 1]


def _by_side(ranks: NDArray[Any], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Compute the mean reciprocal ranks of seen and of unseen queries, NaN where there are none."""
    seen_ranks, unseen_ranks = 1 / ranks[seen], 1 / ranks[~seen]
    return (
        float(seen_ranks.mean()) if len(seen_ranks) else float("nan"),
        float(unseen_ranks.mean()) if len(unseen_ranks) else float("nan"),
    )


def _mean(values: Sequence[Score]) -> dict[str, float | None]:
    """Average scores over folds.

    `harmonic` is the mean over both ways, of those with unseen queries; of the unseen alone where no query is seen.
    """
    means = {name: float(np.mean([getattr(one, name) for one in values])) for name in vars(values[0])}
    ways = [
        unseen if np.isnan(seen) else float(harmonic_mean(seen, unseen))
        for seen, unseen in (
            (means["picture_seen"], means["picture_unseen"]),
            (means["text_seen"], means["text_unseen"]),
        )
        if not np.isnan(unseen)
    ]
    known = {name: None if np.isnan(value) else value for name, value in means.items()}
    return {**known, "harmonic": float(np.mean(ways)) if ways else None}
