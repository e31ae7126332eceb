"""Read GGUF files: their metadata, and their tensors as float32. Covers the types of the starter language model only.

Layout: the GGUF specification (version 3) of ggml; blocks of `Q4_1` and `Q8_0` as in ggml's `ggml-common.h`. Written
anew because the library's reader takes many seconds over a vocabulary, and transformers calls it three times.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

_MAGIC, _VERSION = b"GGUF", 3
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_BLOCK = 32
_TYPES: dict[int, tuple[int, int]] = {0: (1, 4), 1: (1, 2), 3: (_BLOCK, 20), 8: (_BLOCK, 34)}
"""Type -> numbers in a block, bytes of a block: F32, F16, Q4_1, Q8_0."""


@dataclass(frozen=True)
class GgufFile:
    """Header of an open GGUF file, its tensors mapped from disk.

    Attributes:
        metadata: key -> number, text, or a list of these.
        places: tensor -> (shape, outermost first; type; offset in bytes from `data`).
        data: uint8 [bytes], mapped from the file.
    """

    path: Path
    metadata: Mapping[str, Any]
    places: Mapping[str, tuple[tuple[int, ...], int, int]]
    data: NDArray[np.uint8]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Read one tensor, de-quantised, in its own shape.

        Raises:
            KeyError: there is none of that name.
            ColdstartError: it is of a type that this does not read, or ends behind the file.
        """
        shape, kind, offset = self.places[name]
        if kind not in _TYPES:
            raise ColdstartError(f"{self.path}: tensor {name} is of GGUF type {kind}, which is not read")
        numbers, size = _TYPES[kind]
        count = math.prod(shape) // numbers
        if offset + count * size > len(self.data):
            raise ColdstartError(f"{self.path}: tensor {name} would end behind the file")
        raw = self.data[offset : offset + count * size].reshape(count, size)
        if kind == 0:
            flat = raw.view(np.float32)
        elif kind == 1:
            flat = raw.view(np.float16).astype(np.float32)
        elif kind == 8:
            flat = raw[:, 2:].view(np.int8).astype(np.float32)
            flat *= raw[:, :2].copy().view(np.float16).astype(np.float32)
        else:
            flat = np.empty((count, _BLOCK), np.float32)
            flat[:, : _BLOCK // 2] = raw[:, 4:] & 15
            flat[:, _BLOCK // 2 :] = raw[:, 4:] >> 4
            scale, least = raw[:, :4].copy().view(np.float16).astype(np.float32).T
            flat *= scale[:, None]
            flat += least[:, None]
        return flat.reshape(shape)


def read_gguf(path: Path) -> GgufFile:
    """Open a file and read its header.

    Raises:
        ColdstartError: it is no GGUF file of version 3, or ends too early.
        OSError: it cannot be read.
    """
    data = np.memmap(path, np.uint8, "r")
    cursor = _Cursor(data.data)
    try:
        if cursor.take(4) != _MAGIC or cursor.number("I") != _VERSION:
            raise ColdstartError(f"{path} is no GGUF file of version {_VERSION}")
        tensors, keys = cursor.number("Q"), cursor.number("Q")
        metadata = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(keys)}
        places = {}
        for _ in range(tensors):
            name = cursor.text()
            shape = tuple(cursor.number("Q") for _ in range(cursor.number("I")))[::-1]
            places[name] = (shape, cursor.number("I"), cursor.number("Q"))
        step = int(metadata.get("general.alignment", 32))
        start = -(-cursor.place // step) * step
    except (struct.error, KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ColdstartError(f"{path} is damaged at byte {cursor.place}: {error}") from error
    return GgufFile(path, metadata, places, np.asarray(data[start:]))


class _Cursor:
    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.place = 0

    def take(self, size: int) -> bytes:
        if self.place + size > len(self.view):
            raise struct.error(f"{size} bytes wanted, {len(self.view) - self.place} left")
        self.place += size
        return self.view[self.place - size : self.place].tobytes()

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(_SCALARS[kind])
