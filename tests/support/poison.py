"""Media that must cost one item and no more: each file or address with the reason that it is turned away for."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

_VIDEO_SUFFIXES = (".mp4", ".m4a")


def make_poison(folder: Path) -> dict[str, str]:
    """Write the poison set into `folder` (and one file beside it, which a link leads to).

    Returns:
        Media reference (a file name in `folder`, or a URL) -> expected `Reject.reason`, of whichever step first sees
        it: resolve, probe or decode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = jpeg(320, 240)
    outside = folder.parent / f"{folder.name}-outside.jpg"
    outside.write_bytes(picture)
    moov_last = write_video(folder / "cut_moov_last.mp4", 4).read_bytes()
    moov_first = write_video(folder / "cut_moov_first.mp4", 4, faststart=True).read_bytes()
    files = {
        "truncated.jpg": (picture[: len(picture) // 2], "corrupt_image"),
        "empty.jpg": (b"", "empty_file"),
        "text.jpg": (b"Not a picture at all.\n" * 20, "unsupported_media"),
        "bomb.png": (bomb_png(), "too_many_pixels"),
        "cut_moov_last.mp4": (moov_last[: len(moov_last) // 2], "corrupt_video"),
        "cut_moov_first.mp4": (moov_first[: len(moov_first) // 2], "corrupt_video"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "unsupported_media"),
        "drawing_as.png": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_media"),
        "one_pixel.png": (png(1, 1), "too_small"),
        "sound.mp4": (sound(), "no_video_stream"),
        "sound.m4a": (sound(), "no_video_stream"),
        "empty.mp4": (b"", "empty_file"),
        "text.mp4": (b"Not a video at all.\n" * 20, "unsupported_media"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "link.jpg").symlink_to(outside)
    return {name: reason for name, (_, reason) in files.items()} | {
        "pipe.jpg": "not_a_file",
        "pipe.mp4": "not_a_file",
        "link.jpg": "outside_media_roots",
        f"../{outside.name}": "outside_media_roots",
        "missing.jpg": "not_found",
        "http://127.0.0.1/x.jpg": "private_address",
        "http://169.254.169.254/latest/meta-data/x.jpg": "private_address",
        "http://[::ffff:10.0.0.1]/x.jpg": "private_address",
        "https://unnamed-host.example/x.jpg": "host_not_allowed",
        "simplecache::file:///etc/hostname": "scheme_not_allowed",
    }


def role(reference: str) -> str:
    """`video` or `image`, by the name's ending."""
    return "video" if reference.endswith(_VIDEO_SUFFIXES) else "image"


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(width, height)).save(file, "JPEG", quality=90)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(width, height)).save(file, "PNG")
    return file.getvalue()


def noise(width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3], coarse enough to survive compression."""
    rng = np.random.default_rng(width * 7919 + height)
    coarse = rng.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def bomb_png(side: int = 50_000) -> bytes:
    """A few hundred bytes that state side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_video(path: Path, seconds: float, *, faststart: bool = False, width: int = 160, height: int = 120) -> Path:
    """An H.264 mp4 of moving noise at 25 frames per second, a key frame each second."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(path, "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 25
        backdrop = noise(width * 2, height)
        for i in range(round(seconds * 25)):
            shift = i * 3 % width
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(backdrop[:, shift : shift + width]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(seconds: float = 1.0) -> bytes:
    """An AAC sound file in an mp4 container, without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        wave = np.sin(np.arange(round(16_000 * seconds)) * 0.17).astype(np.float32)
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
