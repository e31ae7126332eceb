"""Fuse an item's vectors of all spaces into one: each space whitened by its main directions, weighted, concatenated.

Late fusion: the product of two fused vectors is the weighted mean of their cosines in each space, over the spaces that
an item has. Whitening by shrunken principal directions evens out the few directions in which all vectors of an encoder
are alike. All estimates are of the training items alone. `Content` is what is known of items before any interaction:
their vectors in every space, and their records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.recommend.model import Arrays, Vectors
from coldstart.recommend.model.labels import (
    Labels,
    NumberCode,
    Statements,
    fit_fields,
    fit_labels,
    read_statements,
    restore_labels,
    restore_number_code,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Rows: TypeAlias = Union[Vectors, "csr_matrix"]
LABELS = "labels"
"""Name of the block of all labels of the records; `labels.FIELD` is that of one field."""
MOST_FIELDS = 8
"""Most fields of the records that get a block of their own; the rest share one."""
_ROWS = 8192  # in memory at a time
_SHRINKAGE = 1e-3  # of the mean variance, added to each


@dataclass(frozen=True)
class Content:
    """Content of N items.

    Attributes:
        item_ids: distinct ids.
        blocks: space -> vectors float32 [N, D]; a row of zeros where an item has none.
        records: the items' rows, as manifests have them (`title`, `category`, `tags`, `attributes`, …).
    """

    item_ids: tuple[str, ...]
    blocks: Mapping[str, Vectors]
    records: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> Content:
        """Take some items, in that order."""
        chosen = np.asarray(places, np.intp)
        return Content(
            tuple(self.item_ids[place] for place in chosen),
            {name: block[chosen] for name, block in self.blocks.items()},
            tuple(self.records[place] for place in chosen),
        )

    @cached_property
    def statements(self) -> Statements:
        """Statements of the records, read once."""
        return read_statements(self.records)

    def present(self, space: str) -> NDArray[np.bool_]:
        """Tell which items have a vector in a space, bool [N]."""
        found: NDArray[np.bool_] = np.any(self.blocks[space] != 0, axis=1)
        return found


@dataclass(frozen=True)
class Block:
    """Transformation of one space: x -> (x - mean) turn, scaled to length 1; float32 [D] and [D, E]."""

    mean: Vectors
    turn: Vectors

    def __call__(self, vectors: Rows) -> Vectors:
        """Transform vectors, float32 [N, D] or csr -> unit rows float32 [N, E]; zero where the given row is."""
        if isinstance(vectors, np.ndarray):
            turned = (vectors - self.mean) @ self.turn
        else:
            turned = vectors @ self.turn - self.mean @ self.turn
        lengths = np.linalg.norm(turned, axis=1)
        lengths[~_known(vectors) | (lengths == 0)] = np.inf
        return np.asarray(turned / lengths[:, None], np.float32)


@dataclass(frozen=True)
class Fusion:
    """Fitted fusion of spaces.

    Attributes:
        weights: block -> its weight; they add up to 1. Blocks with too little data are left out.
        blocks: block -> its transformation; the same names in the same order.
        spaces: width of every space of the content that it was fitted on, also of those that are left out.
        labels: block -> its code, of the blocks that are made from records.
    """

    weights: Mapping[str, float]
    blocks: Mapping[str, Block]
    spaces: Mapping[str, int]
    labels: Mapping[str, Labels | NumberCode]

    def __len__(self) -> int:
        """Dimensions of a fused vector."""
        return sum(block.turn.shape[1] for block in self.blocks.values())

    def transform(self, content: Content) -> Vectors:
        """Fuse content, float32 [N, F] of unit rows; zero for an item without content.

        Raises:
            ColdstartError: the content is of other spaces, or of vectors of another width.
        """
        widths = {name: block.shape[1] for name, block in content.blocks.items()}
        if widths != dict(self.spaces):
            raise ColdstartError(
                f"these items have vectors of {_listed(widths)}, and behaviour was fitted on {_listed(self.spaces)}: "
                "fit it again, or name the spaces that it was fitted on"
            )
        fused = np.empty((len(content), len(self)), np.float32)
        sources = {name: _source(name, content, self.labels) for name in self.blocks}
        for start in range(0, len(content), _ROWS):
            part = slice(start, start + _ROWS)
            fused[part] = self.fuse({name: block(sources[name][part]) for name, block in self.blocks.items()})
        return fused

    def fuse(self, parts: Mapping[str, Vectors]) -> Vectors:
        """Fuse blocks, each transformed to unit rows float32 [N, E]; see `transform`."""
        fused = np.concatenate([np.float32(self.weights[name] ** 0.5) * parts[name] for name in self.blocks], axis=1)
        lengths = np.linalg.norm(fused, axis=1, keepdims=True)
        fused /= np.where(lengths > 0, lengths, 1)
        return fused

    def reweighed(self, weights: Mapping[str, float]) -> Fusion:
        """Replace the weights of the same blocks, all above 0; nothing is estimated anew."""
        shares = _shares({name: weights[name] for name in self.blocks})
        return replace(self, weights=shares)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_fusion` reads."""
        card = {"weights": dict(self.weights), "spaces": dict(self.spaces)}
        about = np.frombuffer(json.dumps(card).encode(), np.uint8)
        found: dict[str, NDArray[Any]] = {"fusion.about": about}
        for place, block in enumerate(self.blocks.values()):
            found |= {f"fusion.{place}.mean": block.mean, f"fusion.{place}.turn": block.turn}
        for name, code in self.labels.items():
            place = list(self.blocks).index(name)
            found |= {f"fusion.{place}.{key}": value for key, value in code.arrays().items()}
        return found


def fit_fusion(
    content: Content,
    places: NDArray[np.intp],
    *,
    weights: Mapping[str, float] | None = None,
    dims: int = 256,
    power: float = 0.25,
    labels: bool = True,
) -> Fusion:
    """Fit a fusion on the items at `places` alone.

    Args:
        weights: block -> 0 or more; by default equal. A block that is not named, or of weight 0, is left out.
        dims: of each block at most this many directions, the widest.
        power: strength of whitening: 0: none; 0.5: every direction gets the same variance.
        labels: use the labels of records as a block named `labels`; where a weight is of the block of one field, such
            as `labels.category`, each field is a block.

    Raises:
        ColdstartError: a weight is of no block or below 0, or a space is named `labels`.
        NothingToLearn: no block has two different vectors among the items.
    """
    return fit_blocks(content, places, weights=weights, dims=dims, labels=labels).fusion(power)


@dataclass(frozen=True)
class FittedBlocks:
    """Blocks with their main directions, before they are whitened.

    Attributes:
        weights: block -> its weight as it was given; directions: the same blocks.
        spaces, labels: as in `Fusion`.
    """

    weights: Mapping[str, float]
    directions: Mapping[str, _Directions]
    spaces: Mapping[str, int]
    labels: Mapping[str, Labels | NumberCode]

    def fusion(self, power: float | Mapping[str, float], weights: Mapping[str, float] | None = None) -> Fusion:
        """Whiten each block by a power, one for all or block -> power, and weigh the blocks.

        Args:
            weights: block -> its weight; blocks that are not named, or of weight 0, are left out. None: as given.
        """
        chosen = {name: weight for name, weight in (weights or self.weights).items() if weight and name in self.weights}
        powers = power if isinstance(power, Mapping) else dict.fromkeys(chosen, power)
        return Fusion(
            _shares(chosen),
            {name: self.directions[name].block(powers[name]) for name in chosen},
            self.spaces,
            {name: code for name, code in self.labels.items() if name in chosen},
        )

    def source(self, name: str, content: Content) -> Rows:
        """Return the vectors of a block as they are before its transformation, [N, D]."""
        return _source(name, content, self.labels)


def fit_blocks(
    content: Content,
    places: NDArray[np.intp],
    *,
    weights: Mapping[str, float] | None = None,
    dims: int = 256,
    labels: bool = True,
    fields: bool = False,
) -> FittedBlocks:
    """Fit the blocks on the items at `places` alone; arguments as for `fit_fusion`.

    Args:
        fields: give each field of the records a block `labels.FIELD`, where no weight is of the block `labels`; so does
            a weight of such a block.
    """
    if labels and LABELS in content.blocks:
        raise ColdstartError(
            f"space {LABELS!r} has the name of the labels of records: rename it, or fit without labels"
        )
    codes: dict[str, Labels | NumberCode] = {}
    fields = fields or any(name.startswith(f"{LABELS}.") for name in weights or ())
    if labels and fields and (weights is None or LABELS not in weights):
        found = fit_fields(content.statements, places, most=MOST_FIELDS)
        codes = {f"{LABELS}.{name}": code for name, code in found.items()}
    elif labels and (weights is None or weights.get(LABELS)):
        codes = {LABELS: fit_labels(content.statements, places)}
    names = [*content.blocks, *codes]
    requested = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
    named = [*names, *([LABELS] if labels and not codes else [])]  # records may state nothing, or labels weigh 0
    for name, weight in requested.items():
        if name not in named:
            raise ColdstartError(f"weight of {name!r}: there is {', '.join(named)}")
        if not (0 <= weight < float("inf")):
            raise ColdstartError(f"weight of {name!r}: {weight:g}, where 0 or more was expected")
    directions = {
        name: _directions(_source(name, content, codes)[places], dims) for name in names if requested.get(name)
    }
    known = {name: own for name, own in directions.items() if own is not None}
    if not known:
        raise NothingToLearn(
            f"of {len(places)} training items no two have different vectors in any of {', '.join(named)}: embed them, "
            "or give another space a weight"
        )
    widths = {name: block.shape[1] for name, block in content.blocks.items()}
    return FittedBlocks(
        {name: requested[name] for name in known},
        known,
        widths,
        {name: code for name, code in codes.items() if name in known},
    )


def restore_fusion(arrays: Arrays) -> Fusion:
    """Restore a fusion from `Fusion.arrays`, also one of an earlier version, whose labels were one block."""
    card = json.loads(arrays["fusion.about"].tobytes())
    blocks: dict[str, Block] = {}
    labels: dict[str, Labels | NumberCode] = {}
    for place, name in enumerate(card["weights"]):
        blocks[name] = Block(arrays[f"fusion.{place}.mean"], arrays[f"fusion.{place}.turn"])
        start = f"fusion.{place}."
        own = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
        if name == LABELS and "labels.vocabulary" in arrays:
            own = dict(arrays)
        if "labels.vocabulary" in own:
            labels[name] = restore_labels(own)
        elif "number.knots" in own:
            labels[name] = restore_number_code(own)
    return Fusion(card["weights"], blocks, card["spaces"], labels)


def _source(name: str, content: Content, labels: Mapping[str, Labels | NumberCode]) -> Rows:
    """Return the vectors of a block, [N, D]."""
    return labels[name].rows(content.statements) if name in labels else content.blocks[name]


def _known(rows: Rows) -> NDArray[np.bool_]:
    """Tell which rows are not zero."""
    found: NDArray[np.bool_] = np.any(rows != 0, axis=1) if isinstance(rows, np.ndarray) else np.diff(rows.indptr) > 0
    return found


@dataclass(frozen=True)
class _Directions:
    """Main directions of a block, the widest first: mean float32 [D], directions and shrunken variances float64."""

    mean: Vectors
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]

    def block(self, power: float) -> Block:
        return Block(self.mean, np.ascontiguousarray(self.directions * self.variances**-power, np.float32))


def _directions(vectors: Rows, dims: int) -> _Directions | None:
    """Estimate main directions from the rows that are not zero; None where they do not differ."""
    from scipy.linalg import eigh

    rows = vectors[np.flatnonzero(_known(vectors))]
    count, width = rows.shape
    if count < 2 or width == 0:
        return None
    mean = (np.asarray(rows.sum(axis=0, dtype=np.float64)).ravel() / count).astype(np.float32)
    kept = min(dims, width, count - 1)
    if isinstance(rows, np.ndarray) and count < width:
        # products of rows have the same spectrum as the covariance, and are fewer
        centred = rows.astype(np.float64) - mean
        products = centred @ centred.T / count
        total = np.trace(products)
        variances, found = eigh(products, subset_by_index=[count - kept, count - 1], check_finite=False)
        directions = centred.T @ found
        directions /= np.maximum(np.linalg.norm(directions, axis=0), np.finfo(np.float64).tiny)
    else:
        covariance = _covariance(rows, mean)
        total = np.trace(covariance)
        variances, directions = eigh(covariance, subset_by_index=[width - kept, width - 1], check_finite=False)
    variances, directions = variances[::-1], directions[:, ::-1]
    if variances[0] <= 1e-10 * (np.square(mean.astype(np.float64)).sum() + np.finfo(np.float64).tiny):
        return None
    real = variances > 1e-7 * max(variances[0], np.finfo(np.float64).tiny)
    variances, directions = variances[real], directions[:, real]
    widest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[widest, np.arange(len(variances))])  # fixes the arbitrary sign
    return _Directions(mean, directions, variances + _SHRINKAGE * total / width)


def _covariance(rows: Rows, mean: Vectors) -> NDArray[np.float64]:
    """Compute the covariance around a mean, float64 [D, D]."""
    count, width = rows.shape
    if not isinstance(rows, np.ndarray):
        wide, middle = rows.astype(np.float64), mean.astype(np.float64)
        found: NDArray[np.float64] = (wide.T @ wide).toarray() / count - np.outer(middle, middle)
        return found
    found = np.zeros((width, width))
    for start in range(0, count, _ROWS):
        centred = rows[start : start + _ROWS] - mean
        found += centred.T @ centred
    found /= count
    return found


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _listed(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "no space"
