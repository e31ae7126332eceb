"""Calibrate the scores of the spaces of one catalogue, by kind of query, and weigh the spaces by what they tell.

A cosine of one space does not compare with one of another: 0.3 is near between a text and a picture and far between two
texts. So a score is standardised: less the mean of the catalogue for that query, over the deviation of such scores. The
weights are those of a conditional logit (McFadden 1974), none below zero, fitted on queries that are made from the
catalogue's own items: by the sum of the weighted scores, the right item is the likeliest of all. A space that finds
little, or only what another one finds better, weighs nothing.

Plain arrays; knows no tables and no encoders.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.encoders import Vectors
from coldstart.errors import ColdstartError
from coldstart.search.stored_numbers import read_numbers, rounded

QueryKind = Literal["text", "image", "item"]
"""Kind of query; a video is searched for as its frames are, by `image`."""

KINDS: tuple[QueryKind, ...] = ("text", "image", "item")

FEWEST = 30
"""Queries from which on a kind is calibrated."""

WORDS_BESIDE, WORDS_ALONE = 0.08, 0.6
"""Weight of one point of BM25: beside spaces of texts, as a share of their weight; and where there is none. Words and
vectors of the same texts tell much the same, and queries made of an item's own words would weigh words alone."""

PICTURES_BESIDE, PICTURES_WORTH = 0.3, 0.2
"""For a query by text beside spaces of texts: share of what a space of pictures is worth alone that it weighs at least;
and the share of the worth of texts that it needs for it. Of queries made of titles texts find nearly all, so that a fit
leaves nothing to pictures; of what people type they do not."""

WORDS_EXPECTED = 5.0
"""BM25 of a right item, where the words are the only thing that tells."""

MANY, CLEAR, GAIN = 100, 0.03, 0.005
"""Queries from which on a space may be searched alone: if alone it finds right items sooner than every other one, by so
much in mean reciprocal rank, and the others beside it do not add so much."""

PRIOR = 1
"""Queries that the prior of a fit is worth."""

_EXPECTED = 3.0
"""Standardised score of a right item where nothing is calibrated."""
_EXPECTED_LEAST = 0.5
"""Least that right items are taken to have: scores of a space where they are no nearer than others would else be
without bound."""
_RIDGE = 1e-3
"""Weight of the squared weights in a fit: a space that never errs would else weigh without bound."""
_FAINT = 0.05
"""Share of the greatest weight below which a space is not worth its search."""
_LEAST = 1e-6
_LONGEST = 1.01
"""Length that a mean of unit vectors may have, rounding included."""


@dataclass(frozen=True)
class KindCalibration:
    """Calibration of one kind of query.

    Attributes:
        spaces: the order of the rest.
        deviation: of the scores of a query, cosine less the mean, float64 [S], above 0.
        expected: standardised score of the right items on average, float64 [S].
        weights: of the spaces together, in log-odds per deviation, float64 [S], not negative.
        alone: of each space where it is the only one, float64 [S].
        queries: number of queries behind it, 0 for the fallback.
        made_of: what these are, in words.
    """

    spaces: tuple[str, ...]
    deviation: NDArray[np.float64]
    expected: NDArray[np.float64]
    weights: NDArray[np.float64]
    alone: NDArray[np.float64]
    queries: int
    made_of: str

    def places(self, spaces: Sequence[str]) -> list[int]:
        """List the places of spaces in the arrays."""
        return [self.spaces.index(space) for space in spaces]

    def weigh(self, spaces: Sequence[str], *, requested: bool = False) -> NDArray[np.float64]:
        """Weigh some of the spaces, float64 [S], not all zero.

        Args:
            requested: the user has named them, so that each counts for what it finds alone.
        """
        places = self.places(spaces)
        for weights in ([] if requested else [self.weights[places]]) + [self.alone[places]]:
            if weights.any():
                return weights
        return np.ones(len(spaces))


@dataclass(frozen=True)
class Calibration:
    """Calibration of a catalogue.

    Attributes:
        passports: space -> digest of its passport; a space made anew is no longer calibrated.
        means: space -> mean of the unit vectors of the catalogue, float32 [D].
        kinds: those kinds of query for which there were enough queries.
    """

    passports: Mapping[str, str]
    means: Mapping[str, Vectors]
    kinds: Mapping[QueryKind, KindCalibration]

    def to_bytes(self) -> bytes:
        """Serialise as JSON."""
        kinds = {
            name: {
                "spaces": list(kind.spaces),
                "deviation": rounded(kind.deviation),
                "expected": rounded(kind.expected),
                "weights": rounded(kind.weights),
                "alone": rounded(kind.alone),
                "queries": kind.queries,
                "made_of": kind.made_of,
            }
            for name, kind in self.kinds.items()
        }
        spaces = {
            name: {"passport": digest, "mean": rounded(self.means[name])} for name, digest in self.passports.items()
        }
        return (json.dumps({"version": 1, "spaces": spaces, "kinds": kinds}) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """Read what `to_bytes` wrote.

        Raises:
            ColdstartError: it is no calibration; the bytes may come from a stranger's workspace.
        """
        try:
            found = json.loads(data)
            spaces = {str(name): row for name, row in found["spaces"].items()}
            means = {name: read_numbers(row["mean"]).astype(np.float32) for name, row in spaces.items()}
            if any(float(np.linalg.norm(mean)) > _LONGEST for mean in means.values()):
                raise ValueError("a mean of unit vectors is longer than they are")
            return cls(
                {name: str(row["passport"]) for name, row in spaces.items()},
                means,
                {name: _read_kind(found["kinds"][name], spaces) for name in KINDS if name in found["kinds"]},
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ColdstartError(
                f"the calibration of searches cannot be read ({error}): `coldstart index` makes it anew"
            ) from error


@dataclass(frozen=True)
class PseudoQueries:
    """Queries that are made from items of the catalogue, of one kind.

    Attributes:
        vectors: space -> float32 [Q, D], NaN where a query has none.
        right: bool [Q, N]: the items that are right for it.
        out: bool [Q, N]: items that do not count, such as its own.
        made_of: what they are, in words.
    """

    vectors: Mapping[str, Vectors]
    right: NDArray[np.bool_]
    out: NDArray[np.bool_]
    made_of: str


def catalogue_means(background: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Average the unit vectors of each space, float32 [D]; zero where there is none.

    Args:
        background: space -> unit vectors float32 [N, D], NaN where an item has none.
    """
    found = {}
    for space, vectors in background.items():
        present = vectors[np.isfinite(vectors).all(1)]
        mean = present.mean(0, dtype=np.float64) if len(present) else np.zeros(vectors.shape[1])
        found[space] = mean.astype(np.float32)
    return found


def fit_kind(
    queries: PseudoQueries,
    background: Mapping[str, Vectors],
    means: Mapping[str, Vectors],
    apart: Collection[str] = (),
    trusted: Collection[str] | None = None,
) -> KindCalibration | None:
    """Calibrate one kind of query; None where there are fewer than `FEWEST` queries, or no space.

    Args:
        background: space -> unit vectors float32 [N, D] of items from all over the catalogue, NaN for none.
        means: as `catalogue_means` gives them.
        apart: spaces that are searched by name only, and so weigh nothing beside the others.
        trusted: spaces that weigh by what they are worth alone where queries do not tell, and the others nothing; by
            default all.
    """
    spaces = tuple(sorted(queries.vectors))
    tells = (queries.right & ~queries.out).any(1) & (~queries.right & ~queries.out).any(1)  # else any order is right
    usable = np.flatnonzero(tells)
    if len(usable) < FEWEST or not spaces:
        return None
    other = ~queries.right[usable] & ~queries.out[usable]
    right = queries.right[usable] & ~queries.out[usable]
    scores, deviation, expected = [], [], []
    for space in spaces:
        own = centred(queries.vectors[space][usable], background[space], means[space])
        present = np.isfinite(own)
        others = own[present & other]
        spread = float(np.sqrt(np.square(others, dtype=np.float64).mean())) if len(others) else 0.0
        deviation.append(max(spread, _LEAST))
        standardised = own / deviation[-1]
        scores.append(standardised)
        found = (present & right).any(1)
        sums = np.where(present & right, standardised, 0).sum(1)[found] / (present & right).sum(1)[found]
        expected.append(float(sums.mean()) if found.any() else 0.0)
    stacked = np.stack(scores)
    counted = right | other
    alone = np.array(
        [fit_weights(stacked[place : place + 1], right, counted, np.ones(1))[0] for place in range(len(spaces))]
    )
    weights = np.zeros(len(spaces))
    together = [place for place, space in enumerate(spaces) if space not in apart] or list(range(len(spaces)))
    prior = np.array([alone[place] * (trusted is None or spaces[place] in trusted) for place in together])
    prior = prior / prior.max() if prior.any() else np.ones(len(prior))
    weights[together] = fit_weights(stacked[together], right, counted, prior)
    if trusted is not None:
        weights = np.maximum(weights, _beside(spaces, alone, trusted, apart))
    elif len(usable) >= MANY:
        weights = _best_alone(stacked, weights, right, counted)
    return KindCalibration(
        spaces,
        np.asarray(deviation),
        np.asarray(expected),
        weights,
        alone,
        len(usable),
        queries.made_of,
    )


def _best_alone(
    standardised: NDArray[np.float32],
    weights: NDArray[np.float64],
    right: NDArray[np.bool_],
    counted: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Keep a space alone that is clearly the best, where others beside it do not help; else the weights as they are.

    Where none is clearly the best, several together are the safer choice: real queries differ from items.
    """
    scores = np.nan_to_num(standardised)
    places = np.flatnonzero(weights)
    if not len(places):  # no space finds anything
        return weights
    alone = [_mean_reciprocal_rank(scores[place], right, counted) for place in places]
    best = places[int(np.argmax(alone))]
    if len(alone) < 2 or max(alone) - sorted(alone)[-2] < CLEAR:
        return weights
    together = _mean_reciprocal_rank(np.tensordot(weights.astype(np.float32), scores, 1), right, counted)
    if together >= max(alone) + GAIN:
        return weights
    return np.where(np.arange(len(weights)) == best, weights, 0.0)


def _mean_reciprocal_rank(scores: NDArray[np.float32], right: NDArray[np.bool_], counted: NDArray[np.bool_]) -> float:
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    ranks = 1 + (counted & ~right & (scores >= best)).sum(1)
    return float((1 / ranks).mean())


def _beside(
    spaces: Sequence[str], alone: NDArray[np.float64], trusted: Collection[str], apart: Collection[str]
) -> NDArray[np.float64]:
    """Compute the least weights of the spaces of pictures beside spaces of texts: float64 [S]."""
    texts = max((worth for space, worth in zip(spaces, alone, strict=True) if space in trusted), default=0.0)
    return np.array(
        [
            PICTURES_BESIDE * worth
            if space not in trusted and space not in apart and worth > PICTURES_WORTH * texts > 0
            else 0.0
            for space, worth in zip(spaces, alone, strict=True)
        ]
    )


def fit_weights(
    standardised: NDArray[np.float32],
    right: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fit the weights by which right items are likeliest among those that count, float64 [S], not negative.

    They are drawn towards the best multiple of the prior, as if by `PRIOR` further queries: of few queries, spaces that
    find about as much differ by chance.

    Args:
        standardised: [S, Q, N]; NaN, for an item that lacks a space, counts as 0, the average.
        right, counted: bool [Q, N]; of each query one or more are right.
        prior: [S], such as what each space is worth alone, not negative.
    """
    from scipy.optimize import minimize

    scores = np.nan_to_num(standardised)
    masks = [np.where(mask, np.float32(0), np.float32(-np.inf)) for mask in (counted, right)]
    pull = PRIOR / scores.shape[1]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = np.tensordot(weights.astype(np.float32), scores, 1)
        (all_shares, all_logs), (shares, logs) = (_softmax(total + mask) for mask in masks)
        value = float((all_logs - logs).mean()) + _RIDGE * float(weights @ weights)
        slope = np.einsum("sqn,qn->s", scores, all_shares - shares) / len(total)
        return value, slope + 2 * _RIDGE * weights

    def along(size: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = loss(size[0] * prior)
        return value, np.array([slope @ prior])

    centre = minimize(along, np.ones(1), jac=True, bounds=[(0, None)], method="L-BFGS-B").x[0] * prior

    def drawn(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = loss(weights)
        off = weights - centre
        return value + pull * float(off @ off), slope + 2 * pull * off

    found = minimize(drawn, centre, jac=True, bounds=[(0, None)] * len(prior), method="L-BFGS-B").x
    return np.where(found > _FAINT * found.max(initial=0), found, 0.0)


def _softmax(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute shares and the logarithm of their sum, row by row: [Q, N] and [Q]."""
    top = values.max(1, keepdims=True)
    parts = np.exp(values - top)
    sums = parts.sum(1, keepdims=True)
    return parts / sums, (top + np.log(sums))[:, 0]


def fallback(deviation: Mapping[str, float]) -> KindCalibration:
    """Weigh all spaces alike, for a catalogue or a kind of query that is not calibrated."""
    spaces = tuple(sorted(deviation))
    ones = np.ones(len(spaces))
    values = np.array([max(deviation[space], _LEAST) for space in spaces])
    return KindCalibration(spaces, values, _EXPECTED * ones, ones, ones, 0, "")


def centred(queries: Vectors, items: Vectors, mean: Vectors) -> NDArray[np.float32]:
    """Compute cosines less the mean of the catalogue for each query: float32 [Q, N], NaN where one has no vector."""
    return np.asarray(queries @ items.T - (queries @ mean)[:, None], np.float32)


def fuse_scores(
    standardised: NDArray[np.floating[Any]],
    words: NDArray[np.floating[Any]] | None,
    weights: NDArray[np.float64],
    expected: NDArray[np.float64],
    *,
    texts: float,
) -> NDArray[np.float64]:
    """Fuse scores: 0 for an item that is as near as the catalogue on average, 1 for one as near as right items were.

    An item that lacks a space is scored by what right items have in the others.

    Args:
        standardised: [S, N], NaN where an item lacks a space.
        words: BM25 of each item, [N], 0 where no word matches; None without a search by words.
        weights, expected: [S].
        texts: weight of the spaces that compare texts with texts.

    Returns:
        float64 [N].
    """
    present = np.isfinite(standardised)
    reach = weights * np.maximum(expected, _EXPECTED_LEAST)
    whole = float(reach.sum())
    own = reach @ present
    total = np.zeros(standardised.shape[1])
    if len(weights):
        sums = weights @ np.where(present, standardised, 0)
        total = np.where(own > 0, sums / np.maximum(own, _LEAST), 0.0)
    if words is None:
        return total
    point = WORDS_BESIDE * texts if texts else WORDS_ALONE
    if whole <= 0:
        return np.asarray(words, np.float64) / WORDS_EXPECTED
    return np.asarray(total + point * np.asarray(words, np.float64) / whole)


def _read_kind(row: Mapping[str, Any], spaces: Mapping[str, Any]) -> KindCalibration:
    names = tuple(map(str, row["spaces"]))
    count = len(names)
    if not count or len(set(names)) < count or not spaces.keys() >= set(names):
        raise ValueError("its kinds name other spaces")
    deviation = read_numbers(row["deviation"], count)
    weights, alone = read_numbers(row["weights"], count), read_numbers(row["alone"], count)
    if deviation.min() < _LEAST or min(weights.min(), alone.min()) < 0:
        raise ValueError("a deviation or a weight is out of bounds")
    return KindCalibration(
        names, deviation, read_numbers(row["expected"], count), weights, alone, int(row["queries"]), str(row["made_of"])
    )
