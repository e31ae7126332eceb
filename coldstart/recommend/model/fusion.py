"""One vector an item from its vectors in all spaces: each space whitened by its main directions, weighed, side by side.

Late fusion with weights: the product of two fused vectors is the weighted mean of their cosines in each space, over the
spaces that an item has. Whitening by shrunken principal directions evens out the few directions in which all vectors of
an encoder are alike. All that is estimated is of the training items alone.

What is known of items before anybody has met them: their vectors in every space, and their records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Vectors
from coldstart.recommend.model.labels import Labels, Statements, fit_labels, read_statements, restore_labels

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Content:
    """N items.

    Attributes:
        item_ids: without repetition.
        blocks: space -> vectors float32 [N, D]; a row of zeros where an item has none there.
        records: the items' own rows, as manifests have them (`title`, `category`, `tags`, `attributes`, …).
    """

    item_ids: tuple[str, ...]
    blocks: Mapping[str, Vectors]
    records: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> Content:
        """Those items, in that order."""
        chosen = np.asarray(places, np.intp)
        return Content(
            tuple(self.item_ids[place] for place in chosen),
            {name: block[chosen] for name, block in self.blocks.items()},
            tuple(self.records[place] for place in chosen),
        )

    @cached_property
    def said(self) -> Statements:
        """What the records say; they are read once."""
        return read_statements(self.records)

    def present(self, space: str) -> NDArray[np.bool_]:
        """Which items have a vector there, bool [N]."""
        found: NDArray[np.bool_] = np.any(self.blocks[space] != 0, axis=1)
        return found


Rows: TypeAlias = Union[Vectors, "csr_matrix"]


LABELS = "labels"
"""Name of the block that `coldstart.recommend.model.labels` makes."""


_ROWS = 8192  # in memory at a time


_SHRINKAGE = 1e-3  # of the mean variance, added to each


@dataclass(frozen=True)
class Block:
    """x -> (x - mean) turn, then of length 1: float32 [D] and [D, E]."""

    mean: Vectors
    turn: Vectors

    def __call__(self, vectors: Rows) -> Vectors:
        """float32 [N, D], or csr -> unit rows float32 [N, E]; zero where the given row is."""
        if isinstance(vectors, np.ndarray):
            turned = (vectors - self.mean) @ self.turn
        else:
            turned = vectors @ self.turn - self.mean @ self.turn
        lengths = np.linalg.norm(turned, axis=1)
        lengths[~_known(vectors) | (lengths == 0)] = np.inf
        return np.asarray(turned / lengths[:, None], np.float32)


@dataclass(frozen=True)
class Fusion:
    """A fitted fusion.

    Attributes:
        weights: block -> its weight; they add up to 1. Blocks of which too little was known are not among them.
        blocks: block -> its transformation; the same names in the same order.
        spaces: width of every space of the content that it was fitted on, also of those that are left out.
        labels: None: without.
    """

    weights: Mapping[str, float]
    blocks: Mapping[str, Block]
    spaces: Mapping[str, int]
    labels: Labels | None

    def __len__(self) -> int:
        """Numbers of a fused vector."""
        return sum(block.turn.shape[1] for block in self.blocks.values())

    def transform(self, content: Content) -> Vectors:
        """float32 [N, F] of unit rows; zero where nothing is known of an item.

        Raises:
            ColdstartError: the content is of other spaces, or of vectors of another width.
        """
        widths = {name: block.shape[1] for name, block in content.blocks.items()}
        if widths != dict(self.spaces):
            raise ColdstartError(
                f"these items have vectors of {_told(widths)}, and behaviour was fitted on {_told(self.spaces)}: fit "
                "it again, or name the spaces that it was fitted on"
            )
        fused = np.empty((len(content), len(self)), np.float32)
        sources = {name: _source(name, content, self.labels) for name in self.blocks}
        for start in range(0, len(content), _ROWS):
            part = slice(start, start + _ROWS)
            fused[part] = self.fuse({name: block(sources[name][part]) for name, block in self.blocks.items()})
        return fused

    def parts(self, content: Content) -> dict[str, Vectors]:
        """Block -> unit rows float32 [N, E], which no weight changes."""
        return {name: block(_source(name, content, self.labels)) for name, block in self.blocks.items()}

    def fuse(self, parts: Mapping[str, Vectors]) -> Vectors:
        """What `transform` gives, of `parts`."""
        fused = np.concatenate([np.float32(self.weights[name] ** 0.5) * parts[name] for name in self.blocks], axis=1)
        lengths = np.linalg.norm(fused, axis=1, keepdims=True)
        fused /= np.where(lengths > 0, lengths, 1)
        return fused

    def reweighed(self, weights: Mapping[str, float]) -> Fusion:
        """The same with other weights of the same blocks, more than 0; nothing is estimated anew."""
        shares = _shares({name: weights[name] for name in self.blocks})
        return replace(self, weights=shares)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore_fusion` needs."""
        told = {"weights": dict(self.weights), "spaces": dict(self.spaces)}
        about = np.frombuffer(json.dumps(told).encode(), np.uint8)
        found: dict[str, NDArray[Any]] = {"fusion.about": about}
        for place, block in enumerate(self.blocks.values()):
            found |= {f"fusion.{place}.mean": block.mean, f"fusion.{place}.turn": block.turn}
        return found if self.labels is None else found | self.labels.arrays()


def fit_fusion(
    content: Content,
    places: NDArray[np.intp],
    *,
    weights: Mapping[str, float] | None = None,
    dims: int = 256,
    power: float = 0.25,
    labels: bool = True,
) -> Fusion:
    """Fit on the items at `places`; no other has a part in any number.

    Args:
        weights: block -> 0 or more; by default all count alike. One that is not named, or of weight 0, is left out.
        dims: of each block at most this many directions, the widest.
        power: how far directions are evened out: 0: not at all; 0.5: each as wide as all others.
        labels: whether what records say is a block too, under the name `labels`.

    Raises:
        ColdstartError: a weight is of no block or under 0, a space is called `labels` itself, or no block has vectors
            of two of the items that differ.
    """
    return fit_fusions(content, places, weights=weights, dims=dims, powers=(power,), labels=labels)[0]


def fit_fusions(
    content: Content,
    places: NDArray[np.intp],
    *,
    weights: Mapping[str, float] | None = None,
    dims: int = 256,
    powers: Sequence[float],
    labels: bool = True,
) -> list[Fusion]:
    """The same once for each power; directions are found once for all."""
    if labels and LABELS in content.blocks:
        raise ColdstartError(f"space {LABELS!r} has the name of what records say: rename it, or fit without labels")
    names = [*content.blocks, *([LABELS] if labels else [])]
    asked = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
    for name, weight in asked.items():
        if name not in names:
            raise ColdstartError(f"weight of {name!r}: there is {', '.join(names)}")
        if not (0 <= weight < float("inf")):
            raise ColdstartError(f"weight of {name!r}: {weight:g}, where 0 or more was expected")
    vocabulary = fit_labels(content.said, places) if asked.get(LABELS) else None
    found = {name: _directions(_source(name, content, vocabulary)[places], dims) for name in names if asked.get(name)}
    known = {name: directions for name, directions in found.items() if directions is not None}
    if not known:
        raise ColdstartError(
            f"of {len(places)} training items no two have different vectors in any of {', '.join(names)}: embed them, "
            "or give another space a weight"
        )
    widths = {name: block.shape[1] for name, block in content.blocks.items()}
    kept = vocabulary if LABELS in known else None
    shares = _shares({name: asked[name] for name in known})
    return [
        Fusion(shares, {name: directions.block(power) for name, directions in known.items()}, widths, kept)
        for power in powers
    ]


def restore_fusion(arrays: Arrays) -> Fusion:
    """From `Fusion.arrays`."""
    told = json.loads(arrays["fusion.about"].tobytes())
    blocks = {
        name: Block(arrays[f"fusion.{place}.mean"], arrays[f"fusion.{place}.turn"])
        for place, name in enumerate(told["weights"])
    }
    labels = restore_labels(arrays) if "labels.vocabulary" in arrays else None
    return Fusion(told["weights"], blocks, told["spaces"], labels)


def _source(name: str, content: Content, labels: Labels | None) -> Rows:
    """Vectors of that block, [N, D]."""
    return content.blocks[name] if name != LABELS or labels is None else labels.rows(content.said)


def _known(rows: Rows) -> NDArray[np.bool_]:
    """Which rows are not zero."""
    found: NDArray[np.bool_] = np.any(rows != 0, axis=1) if isinstance(rows, np.ndarray) else np.diff(rows.indptr) > 0
    return found


@dataclass(frozen=True)
class _Directions:
    """Of a block, the widest first: float32 [D] mean, [D, E] directions, and their shrunken variances float64 [E]."""

    mean: Vectors
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]

    def block(self, power: float) -> Block:
        return Block(self.mean, np.ascontiguousarray(self.directions * self.variances**-power, np.float32))


def _directions(vectors: Rows, dims: int) -> _Directions | None:
    """Of the rows that are not zero; None where they do not differ."""
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
    directions = directions * np.sign(directions[widest, np.arange(len(variances))])  # either sign would do
    return _Directions(mean, directions, variances + _SHRINKAGE * total / width)


def _covariance(rows: Rows, mean: Vectors) -> NDArray[np.float64]:
    """float64 [D, D]."""
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


def _told(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "no space"
