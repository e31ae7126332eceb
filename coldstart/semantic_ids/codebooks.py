"""Codebooks of semantic IDs: a projection of vectors and a codebook a level, the same form for all methods.

Codes follow from a vector and these arrays alone. In `residual` codebooks each level codes what the levels before it
left over; in `parallel` ones each codes its own part of the projected vector. An artifact may be a stranger's, so that
sizes and numbers are checked when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.semantic_ids.kmeans import Clusters, Codes, Vectors, blocks, nearest, squared_distances

ARRAYS, CARD = "codebooks.safetensors", "codebooks.json"
MOST_LEVELS, MOST_CODES, MOST_DIM, MOST_LAYERS, MOST_BYTES = 12, 65_536, 16_384, 8, 1 << 30
Form = Literal["residual", "parallel"]
Activation = Literal["none", "relu", "normal"]


@dataclass(frozen=True)
class Layer:
    """Affine map and what follows it: x @ weight + bias, float32 [D, E] and [E]; `normal` is the normal distribution
    function, which spreads a Gaussian evenly over 0 to 1."""

    weight: Vectors
    bias: Vectors
    then: Activation = "none"

    def __call__(self, vectors: Vectors) -> Vectors:
        found: Vectors = vectors @ self.weight + self.bias
        if self.then == "relu":
            np.maximum(found, 0, out=found)
        if self.then == "normal":
            from scipy.special import ndtr

            return np.asarray(ndtr(found), np.float32)
        return found


@dataclass(frozen=True)
class Codebooks:
    """Fitted codebooks.

    Attributes:
        method: as the settings name it.
        dim: numbers of a vector that they take.
        layers: maps that project a vector, in turn; none: it is coded as it is.
        levels: a codebook a level, the first first.
    """

    method: str
    form: Form
    dim: int
    layers: tuple[Layer, ...]
    levels: tuple[Clusters, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return tuple(len(level.centres) for level in self.levels)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum([level.centres.shape[1] for level in self.levels]).tolist()]

    def project(self, vectors: Vectors) -> Vectors:
        """Project vectors into the space that is coded: float32 [N, dim] -> [N, E]."""
        found = np.ascontiguousarray(vectors, np.float32)
        if not self.layers:
            return found
        parts = []
        for rows in blocks(len(found), max(layer.weight.shape[1] for layer in self.layers)):
            part = found[rows]
            for layer in self.layers:
                part = layer(part)
            parts.append(part)
        return np.concatenate(parts) if parts else np.empty((0, self.layers[-1].weight.shape[1]), np.float32)

    def left_over(self, projected: Vectors, codes: Codes, level: int) -> Vectors:
        """Return what a level codes of projected vectors, given the codes before it: [N, E], int [N, >= level]."""
        if self.form == "parallel":
            return np.ascontiguousarray(projected[:, self._starts[level] : self._starts[level + 1]])
        found = projected.copy() if level else projected
        for own, clusters in zip(codes.T[:level], self.levels, strict=False):
            found -= clusters.centres[own]
        return found

    def costs(self, projected: Vectors, codes: Codes, level: int) -> Vectors:
        """Compute distance plus price of each code of a level, given the codes before it: float32 [N, K]."""
        clusters = self.levels[level]
        return squared_distances(self.left_over(projected, codes, level), clusters.centres) + clusters.prices

    def encode(self, projected: Vectors) -> tuple[Codes, Vectors]:
        """Find the nearest code of each level: int32 [N, L]; and the squared distance left after each, float32 [N, L].

        Args:
            projected: as `project` gives them.
        """
        codes = np.zeros((len(projected), len(self.levels)), np.int32)
        left = np.zeros((len(projected), len(self.levels)), np.float32)
        for rows in blocks(len(projected), projected.shape[1] if projected.ndim == 2 else 1):
            rest = projected[rows]
            for level, clusters in enumerate(self.levels):
                part = self.left_over(rest, codes[rows], level) if self.form == "parallel" else rest
                codes[rows, level], left[rows, level] = nearest(part, clusters)
                if self.form == "residual":
                    rest = rest - clusters.centres[codes[rows, level]]
        if self.form == "parallel":
            whole = self._spread_by_part(projected)
            left = np.cumsum(left, 1) + (whole.sum(1, keepdims=True) - np.cumsum(whole, 1))
        return codes, left

    def _spread_by_part(self, projected: Vectors) -> Vectors:
        """Compute the squared distance of each part from the centre of its codebook: float32 [N, L]."""
        found = np.zeros((len(projected), len(self.levels)), np.float32)
        for level, clusters in enumerate(self.levels):
            part = projected[:, self._starts[level] : self._starts[level + 1]]
            found[:, level] = squared_distances(part, clusters.centres.mean(0, keepdims=True))[:, 0]
        return found

    def to_files(self, about: Mapping[str, Any]) -> dict[str, bytes]:
        """Serialise: file name -> content, as `load_codebooks` reads them; `about` goes into the card."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {}
        for place, layer in enumerate(self.layers):
            arrays |= {f"layer{place}.weight": layer.weight, f"layer{place}.bias": layer.bias}
        for place, level in enumerate(self.levels):
            arrays |= {f"level{place}.centres": level.centres, f"level{place}.prices": level.prices}
        card = {
            **about,
            "method": self.method,
            "form": self.form,
            "dim": self.dim,
            "sizes": list(self.sizes),
            "layers": [layer.then for layer in self.layers],
        }
        found = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        return {ARRAYS: save(found), CARD: json.dumps(card, sort_keys=True).encode()}


def load_card(folder: Path) -> dict[str, Any]:
    """Read the card of codebooks: method, sizes and what the fit said of them.

    Raises:
        ColdstartError: it is missing or broken.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        if not isinstance(card, dict) or not isinstance(card["sizes"], list):
            raise TypeError("no card")
        return card
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from None


def load_codebooks(folder: Path) -> Codebooks:
    """Load codebooks from the folder of their artifact.

    Raises:
        ColdstartError: a file is missing, broken, too large, or its arrays do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card = load_card(folder)
    try:
        path = folder / ARRAYS
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes, and the most is {MOST_BYTES:,}")
        return check_codebooks(_restored(card, load_file(path)))
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(folder, error) from None


def _restored(card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Codebooks:
    then = card["layers"]
    if len(then) > MOST_LAYERS or any(one not in ("none", "relu", "normal") for one in then):
        raise ValueError(f"layers={str(then)[:80]}")
    if not 1 <= len(card["sizes"]) <= MOST_LEVELS:
        raise ValueError(f"{len(card['sizes'])} levels, and the most is {MOST_LEVELS}")
    layers = tuple(
        Layer(arrays[f"layer{place}.weight"], arrays[f"layer{place}.bias"], one) for place, one in enumerate(then)
    )
    levels = tuple(
        Clusters(arrays[f"level{place}.centres"], arrays[f"level{place}.prices"]) for place in range(len(card["sizes"]))
    )
    return Codebooks(str(card["method"]), card["form"], int(card["dim"]), layers, levels)


def check_codebooks(found: Codebooks) -> Codebooks:
    """Check that sizes are within bounds, that arrays fit together and that all numbers are finite.

    Raises:
        ValueError: they are not.
    """
    if found.form not in ("residual", "parallel"):
        raise ValueError(f"form={str(found.form)[:40]!r}")
    width = found.dim
    if not 1 <= width <= MOST_DIM:
        raise ValueError(f"{width} dimensions")
    for layer in found.layers:
        if layer.weight.ndim != 2 or layer.weight.shape[0] != width or layer.weight.shape[1] > MOST_DIM:
            raise ValueError(f"a layer of shape {layer.weight.shape} after {width} dimensions")
        width = layer.weight.shape[1]
        if layer.bias.shape != (width,):
            raise ValueError(f"a bias of shape {layer.bias.shape} in a layer of {width}")
    for level in found.levels:
        if level.centres.ndim != 2 or not 1 <= len(level.centres) <= MOST_CODES or not level.centres.shape[1]:
            raise ValueError(f"a codebook of shape {level.centres.shape}")
        if level.prices.shape != (len(level.centres),):
            raise ValueError(f"prices of shape {level.prices.shape} in a codebook of {len(level.centres)}")
    widths = [level.centres.shape[1] for level in found.levels]
    if (sum(widths) if found.form == "parallel" else widths[0]) != width or (
        found.form == "residual" and len(set(widths)) > 1
    ):
        raise ValueError(f"codebooks of {widths} dimensions on vectors of {width}")
    arrays = [part for layer in found.layers for part in (layer.weight, layer.bias)]
    arrays += [part for level in found.levels for part in (level.centres, level.prices)]
    if any(part.dtype != np.float32 or not np.isfinite(part).all() for part in arrays):
        raise ValueError("an array with numbers that are not finite float32")
    return found


def _damaged(folder: Path, error: BaseException) -> ColdstartError:
    return ColdstartError(f"{folder} holds no codebooks of semantic IDs ({error}): run `coldstart finetune sids`")


def without_prices(found: Codebooks) -> Codebooks:
    """Set all prices to zero: codes by distance alone."""
    levels = tuple(replace(level, prices=np.zeros_like(level.prices)) for level in found.levels)
    return replace(found, levels=levels)
