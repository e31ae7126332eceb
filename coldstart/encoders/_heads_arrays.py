"""Apply heads with NumPy alone, for queries: a few vectors at a time; `coldstart.encoders._heads` has the formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.encoders._heads_file import SIDES, WEIGHTS, HeadShape, read_heads_file, scales

Matrix = NDArray[np.float32]

_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True)
class HeadArrays:
    """Head `W x + V s(U x + c) + b`: shape and weights by their names, float32."""

    shape: HeadShape
    weights: Mapping[str, Matrix]

    def project(self, vectors: NDArray[np.floating[Any]]) -> Matrix:
        """Map unit rows `[N, inputs]` to unit rows, float32 `[N, outputs]`."""
        rows = np.ascontiguousarray(vectors, np.float32)
        out = np.broadcast_to(self.weights["bias"], (len(rows), self.shape.outputs))
        if self.shape.direct:
            out = out + rows @ self.weights["direct.weight"].T
        if self.shape.hidden:
            hidden = rows @ self.weights["inner.weight"].T + self.weights["inner.bias"]
            out = out + _active(hidden, self.shape.activation) @ self.weights["outer.weight"].T
        return unit(np.asarray(out, np.float32))


@dataclass(frozen=True)
class JoinedArrays:
    """Some heads of one side, and the length of the part of each in a vector."""

    heads: Sequence[HeadArrays]
    lengths: Sequence[float]

    def project(self, vectors: NDArray[np.floating[Any]]) -> Matrix:
        """Map unit rows `[N, inputs]` to unit rows, as `HeadArrays.project`."""
        parts = zip(self.heads, self.lengths, strict=True)
        return unit(np.concatenate([head.project(vectors) * np.float32(length) for head, length in parts], axis=1))


def load_arrays(folder: Path) -> dict[Literal["image", "text"], HeadArrays | JoinedArrays]:
    """Load the heads of both sides; none where NumPy has not their number format, or the weights are not as stated."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = read_heads_file(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, KeyError, TypeError):
        return {}
    found: dict[str, HeadArrays | JoinedArrays] = {}
    for side in SIDES:
        heads = []
        for number, shape in enumerate(config.shapes[side]):
            prefix = f"{side}.heads.{number}." if config.weights else f"{side}."
            weights = {
                name.removeprefix(prefix): np.asarray(tensor, np.float32)
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            if {name: array.shape for name, array in weights.items()} != _expected(shape):
                return {}
            heads.append(HeadArrays(shape, weights))
        found[side] = JoinedArrays(heads, scales(config.weights)) if config.weights else heads[0]
    return cast(dict[Literal["image", "text"], HeadArrays | JoinedArrays], found)


def _expected(shape: HeadShape) -> dict[str, tuple[int, ...]]:
    """Name the weights of a head of a shape, with theirs."""
    expected: dict[str, tuple[int, ...]] = {"bias": (shape.outputs,)}
    if shape.direct:
        expected["direct.weight"] = (shape.outputs, shape.inputs)
    if shape.hidden:
        expected |= {
            "inner.weight": (shape.hidden, shape.inputs),
            "inner.bias": (shape.hidden,),
            "outer.weight": (shape.outputs, shape.hidden),
        }
    return expected


def _active(hidden: Matrix, activation: str) -> Matrix:
    if activation == "softmax":
        return _softmax(hidden)
    return np.exp(np.minimum(hidden, 0)) if activation == "exp" else _gelu(hidden)


def _softmax(rows: Matrix) -> Matrix:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _gelu(rows: Matrix) -> Matrix:
    return np.asarray(0.5 * rows * (1 + _erf(rows * math.sqrt(0.5)).astype(np.float32)), np.float32)
