"""One vector an item from its vectors in all spaces: each space whitened by its main directions, weighed, side by side.

Late fusion with weights: the product of two fused vectors is the weighted mean of their cosines in each space, over the
spaces that an item has. Whitening by shrunken principal directions evens out the few directions in which all vectors of
an encoder are alike. All that is estimated is of the training items alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Arrays, Vectors
from coldstart.behaviour.content import Content
from coldstart.behaviour.labels import Labels, fit_labels, restore_labels
from coldstart.errors import ColdstartError

LABELS = "labels"
"""Name of the block that `coldstart.behaviour.labels` makes."""

_ROWS = 8192  # in memory at a time
_SHRINKAGE = 1e-3  # of the mean variance, added to each


@dataclass(frozen=True)
class Block:
    """x -> (x - mean) turn, then of length 1: float32 [D] and [D, E]."""

    mean: Vectors
    turn: Vectors

    def __call__(self, vectors: Vectors) -> Vectors:
        """float32 [N, D] -> unit rows float32 [N, E]; zero where the given row is."""
        turned = (vectors - self.mean) @ self.turn
        lengths = np.linalg.norm(turned, axis=1)
        lengths[~np.any(vectors != 0, axis=1) | (lengths == 0)] = np.inf
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
        for start in range(0, len(content), _ROWS):
            part, at = slice(start, start + _ROWS), 0
            for name, block in self.blocks.items():
                end = at + block.turn.shape[1]
                vectors = _reader(name, content, self.labels)(part)
                fused[part, at:end] = np.float32(self.weights[name] ** 0.5) * block(vectors)
                at = end
            lengths = np.linalg.norm(fused[part], axis=1, keepdims=True)
            fused[part] /= np.where(lengths > 0, lengths, 1)
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
    power: float = 0.5,
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
    if labels and LABELS in content.blocks:
        raise ColdstartError(f"space {LABELS!r} has the name of what records say: rename it, or fit without labels")
    names = [*content.blocks, *([LABELS] if labels else [])]
    asked = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
    for name, weight in asked.items():
        if name not in names:
            raise ColdstartError(f"weight of {name!r}: there is {', '.join(names)}")
        if not (0 <= weight < float("inf")):
            raise ColdstartError(f"weight of {name!r}: {weight:g}, where 0 or more was expected")
    vocabulary = fit_labels([content.records[place] for place in places]) if asked.get(LABELS) else None
    blocks: dict[str, Block] = {}
    for name in names:
        if asked.get(name):
            read = _reader(name, content, vocabulary)
            block = _fit_block(lambda part, read=read: read(places[part]), len(places), dims, power)  # type: ignore[misc]
            if block is not None:
                blocks[name] = block
    if not blocks:
        raise ColdstartError(
            f"of {len(places)} training items no two have different vectors in any of {', '.join(names)}: embed them, "
            "or give another space a weight"
        )
    widths = {name: block.shape[1] for name, block in content.blocks.items()}
    kept = vocabulary if LABELS in blocks else None
    return Fusion(_shares({name: asked[name] for name in blocks}), blocks, widths, kept)


def restore_fusion(arrays: Arrays) -> Fusion:
    """From `Fusion.arrays`."""
    told = json.loads(arrays["fusion.about"].tobytes())
    blocks = {
        name: Block(arrays[f"fusion.{place}.mean"], arrays[f"fusion.{place}.turn"])
        for place, name in enumerate(told["weights"])
    }
    labels = restore_labels(arrays) if "labels.vocabulary" in arrays else None
    return Fusion(told["weights"], blocks, told["spaces"], labels)


def _reader(name: str, content: Content, labels: Labels | None) -> Callable[[Any], Vectors]:
    """Vectors of that block by a slice or by places."""
    if name != LABELS or labels is None:
        return lambda part: content.blocks[name][part]

    def read(part: Any) -> Vectors:
        chosen = np.arange(len(content))[part]
        return labels.transform([content.records[place] for place in chosen])

    return read


def _fit_block(read: Callable[[slice], Vectors], count: int, dims: int, power: float) -> Block | None:
    """Two passes over the rows that are not zero: mean, then covariance; None where they do not differ."""
    from scipy.linalg import eigh

    def parts() -> Any:
        for start in range(0, count, _ROWS):
            vectors = read(slice(start, min(start + _ROWS, count)))
            yield vectors[np.any(vectors != 0, axis=1)]

    rows, width = 0, read(slice(0, 0)).shape[1]
    total = np.zeros(width)
    for vectors in parts():
        rows, total = rows + len(vectors), total + vectors.sum(axis=0, dtype=np.float64)
    if rows < 2 or width == 0:
        return None
    mean = (total / rows).astype(np.float32)
    covariance = np.zeros((width, width))
    for vectors in parts():
        centred = vectors - mean
        covariance += centred.T @ centred
    covariance /= rows
    kept = min(dims, width, rows - 1)
    variances, directions = eigh(covariance, subset_by_index=[width - kept, width - 1])
    variances, directions = variances[::-1], directions[:, ::-1]
    real = variances > 1e-7 * max(variances[0], np.finfo(np.float64).tiny)
    if variances[0] <= 1e-10 * (np.square(mean.astype(np.float64)).sum() + np.finfo(np.float64).tiny):
        return None
    variances, directions = variances[real], directions[:, real]
    widest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[widest, np.arange(len(variances))])  # either sign would do
    shrunken = variances + _SHRINKAGE * np.trace(covariance) / width
    return Block(mean, np.ascontiguousarray(directions * shrunken**-power, np.float32))


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _told(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "no space"
