"""Mend a JPEG file that lacks its end mark alone.

Viewers show such a file whole; Pillow refuses it, as it refuses one that lacks rows, which viewers fill with grey. The
two are told apart by decoding: where every pixel is there, what follows the data changes none.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from random import Random

from PIL import Image

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FIRST = (0b00010101, 0b01101010, 0b10010101, 0b11101010)  # of noise: every pair of bits that may come next
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_SCAN, _END_OF_IMAGE, _RESTART = 0xDA, 0xD9, 0xD0
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels


def with_end_mark(content: bytes) -> bytes | None:
    """Return the content of a JPEG file with the end mark that it lacks; None where it lacks more, or is no JPEG."""
    content = content.removesuffix(b"\xff")
    if not content.startswith(_START) or content.endswith(_END) or not _has_all_scans(content):
        return None
    whole: Image.Image | None = None
    for following in (b"", *(_noise(first, _next_restart(content)) for first in _FIRST)):
        with Image.open(io.BytesIO(content + following + _END), formats=["JPEG"]) as image:
            try:
                image.load()
            except OSError:
                return None
            if whole is not None and image.tobytes() != whole.tobytes():
                return None
            whole = whole or image.copy()
    return content + _END


def _noise(first: int, restart: int) -> bytes:
    """Return what a decoder that still wants data would take for some: bytes, and restart marks from that number on."""
    random = Random(first)
    pieces = (
        bytes(random.choices(range(255), k=16)) + bytes((0xFF, _RESTART + (restart + place) % 8)) for place in range(16)
    )
    return bytes((first,)) + b"".join(pieces)


def _next_restart(content: bytes) -> int:
    last = max((content.rfind(bytes((0xFF, _RESTART + number))), number) for number in range(8))
    return (last[1] + 1) % 8 if last[0] >= 0 else 0


def _has_all_scans(content: bytes) -> bool:
    """Tell whether the scans of a file, as far as they have begun, hold every bit of every coefficient."""
    missing: dict[int, set[int]] = {}
    for marker, body in _segments(content):
        if marker in _FRAMES:
            if len(body) < 6:
                return False
            components = [body[6 + 3 * place] for place in range(body[5]) if 6 + 3 * place < len(body)]
            missing = {component: set(range(_COEFFICIENTS)) for component in components}
        if marker == _SCAN:
            count = body[0]
            if len(body) < 4 + 2 * count:
                return False
            first, last, bits = body[1 + 2 * count : 4 + 2 * count]
            if not bits & 0x0F:  # the lower half counts the bits that are still to come
                for place in range(count):
                    missing.get(body[1 + 2 * place], set()).difference_update(range(first, last + 1))
    return bool(missing) and not any(missing.values())


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the body of each segment, without the data that follows those of scans."""
    place = 2
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        marker = content[place + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # within the data of a scan, or without a body
            place += 1 if marker == 0xFF else 2
            continue
        if marker == _END_OF_IMAGE:
            return
        length = int.from_bytes(content[place + 2 : place + 4])
        if length < 3 or place + 2 + length > len(content):
            return
        yield marker, content[place + 4 : place + 2 + length]
        place += 2 + length
