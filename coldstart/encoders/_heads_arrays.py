"""Apply heads with NumPy alone, for queries: a few vectors at a time; `coldstart.encoders._heads` has the formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.encoders._heads_file import WEIGHTS, HeadShape, read_heads_file

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
            active = _softmax(hidden) if self.shape.activation == "softmax" else _gelu(hidden)
            out = out + active @ self.weights["outer.weight"].T
        return unit(np.asarray(out, np.float32))


def load_arrays(folder: Path) -> dict[Literal["image", "text"], HeadArrays]:
    """Load the heads of both sides; none where NumPy has not their number format, or the weights are not as stated."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    shapes = read_heads_file(folder).shapes
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, KeyError, TypeError):
        return {}
    found: dict[Literal["image", "text"], HeadArrays] = {}
    sides: tuple[Literal["image", "text"], ...] = ("image", "text")
    for side in sides:
        weights = {
            name.removeprefix(f"{side}."): np.asarray(tensor, np.float32)
            for name, tensor in tensors.items()
            if name.startswith(f"{side}.")
        }
        if {name: array.shape for name, array in weights.items()} != _expected(shapes[side]):
            return {}
        found[side] = HeadArrays(shapes[side], weights)
    return found


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


def _softmax(rows: Matrix) -> Matrix:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _gelu(rows: Matrix) -> Matrix:
    return np.asarray(0.5 * rows * (1 + _erf(rows * math.sqrt(0.5)).astype(np.float32)), np.float32)
