"""A container of a tiny multilingual encoder, in the layout of the real one, with seeded weights."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 2, 64, 24
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁red", "▁dress", "▁query", "▁passage", ":", "é", "s", "▁é", "x"]


def quantise(matrix: np.ndarray) -> bytes:
    """Write a matrix as Q4_0."""
    blocks = matrix.reshape(-1, 32)
    scales = (np.abs(blocks).max(1) / 7).astype(np.float16)
    nibbles = np.clip(np.rint(blocks / scales.astype(np.float32)[:, None]) + 8, 0, 15).astype(np.uint8)
    packed = nibbles[:, :16] | nibbles[:, 16:] << 4
    return b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, packed, strict=True))


def container() -> tuple[bytes, dict[str, int]]:
    """Make the bytes of a container, and the place of some of its numbers."""
    rng = np.random.default_rng(3)
    places = {"settings": 8}
    text = "".join(PIECES).encode()
    offsets = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    scores = np.array([0, 0, 0, 0, *(-1 - place / 8 for place in range(len(PIECES) - 4))], "<f4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, WIDE, len(PIECES) + 2, POSITIONS, 2, 1e-12, 32)
    places["pieces"] = len(head)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    places["offsets"] = len(head)
    head += offsets.tobytes() + scores.tobytes() + text
    characters = struct.pack("<IB", 1, 0) + struct.pack("<IBI", 0xA0, 1, 32) + struct.pack("<IBII", 0xFB01, 2, 102, 105)
    places["characters"] = len(head)
    head += struct.pack("<iI", 3, len(characters)) + characters

    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (len(PIECES) + 2, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,),
    }  # fmt: skip
    for layer in range(LAYERS):
        for name, rows, columns in [(n, HIDDEN, HIDDEN) for n in ("q", "k", "v", "ao")] + [
            ("fi", WIDE, HIDDEN), ("fo", HIDDEN, WIDE),
        ]:  # fmt: skip
            shapes[f"l{layer}.{name}.w"], shapes[f"l{layer}.{name}.b"] = (rows, columns), (rows,)
        for name in ("aln", "oln"):
            shapes[f"l{layer}.{name}.w"] = shapes[f"l{layer}.{name}.b"] = (HIDDEN,)
    packed = {}
    for name, shape in shapes.items():
        numbers = rng.normal(0, 0.3, shape).astype(np.float32) + (".ln.w" in name or "ln.w" in name)
        quantised = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        packed[name] = int(quantised), numbers.size, quantise(numbers) if quantised else numbers.tobytes()
    places["directory"] = len(head)
    place = len(head) + 4 + sum(2 + len(name) + 21 for name in shapes)
    directory, body = struct.pack("<i", len(shapes)), b""
    for name, (kind, count, data) in packed.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        places[f"entry {name}"] = len(head) + len(directory)
        directory += struct.pack("<BIQQ", kind, count, place + len(body), len(data))
        body += data
    return head + directory + body, places


def write(path: Path) -> Path:
    path.write_bytes(container()[0])
    return path
