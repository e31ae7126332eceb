"""What a file is, by its first bytes; names and extensions are not asked.

It tells a damaged picture from something that never was one, and gives the ledger a word for it. It knows the common
formats only and says None for the rest.
"""

from __future__ import annotations

from pathlib import Path

IMAGE_FORMATS = ("jpeg", "png", "gif", "webp", "bmp", "tiff", "jpeg2000", "avif")
VIDEO_FORMATS = ("mp4", "matroska", "avi", "flv", "asf", "mpeg-ps", "gif")

_HEAD_BYTES = 512
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg2000"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    (4, b"ftyphei", "heic"),
    (4, b"ftypmif1", "heic"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mp4"),
    (4, b"mdat", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"\x00\x00\x01\xba", "mpeg-ps"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"fLaC", "flac"),
    (8, b"WAVE", "wav"),
    (0, b"BM", "bmp"),
    (0, b"%PDF", "pdf"),
    (0, b"PK\x03\x04", "zip"),
)


def sniff(path: Path) -> str | None:
    """Name the format of a file: `jpeg`, `mp4`, `svg`, `text` and so on, or None for bytes it does not know."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for offset, magic, name in _SIGNATURES:
        if head.startswith(magic, offset):
            return name
    return _text_format(head)


def _text_format(head: bytes) -> str | None:
    if not head or b"\x00" in head:
        return None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD_BYTES or error.start < len(head) - 3:  # a character may be cut at the end of the head
            return None
        text = head[: error.start].decode("utf-8")
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html"
    return "svg" if "<svg" in start else "text"
