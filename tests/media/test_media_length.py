"""The length of a video: by its frames where the header counts from another start or in another unit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sounds import beep, write_sound

from coldstart.core.stage import Reject
from coldstart.media.audio import load_audio
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.video import probe_audio, probe_video, sample_frames

LIMITS = Limits()
SMALL = ImageTransform((32, 48), "squash", "nearest")
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "wmv": "wmv2",
    "avi": "mpeg4",
    "flv": "flv",
    "ts": "mpeg2video",
    "mpg": "mpeg2video",
    "ogv": "libvpx",
}


def write(path: Path, *, late_s: float = 0.0, seconds: float = 4.0, fragments: bool = False) -> Path:
    """A clip of ten frames a second, whose first is stamped `late_s`; each has the grey level of its number times 5."""
    options = {"movflags": "frag_keyframe+empty_moov"} if fragments else {}
    rate = 25 if path.suffix in (".mpg", ".ts") else 10
    with av.open(path, "w", options=options) as container:
        stream: Any = container.add_stream(CODECS[path.suffix[1:]], rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.gop_size = 5
        stream.bit_rate = 500_000
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), number * 50 // rate, np.uint8))
            frame.pts, frame.time_base = number + round(late_s * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def check_whole(path: Path, seconds: float = 4.0) -> None:
    assert probe_video(path, LIMITS).duration_s == pytest.approx(seconds, abs=0.25)
    frames = sample_frames(path, LIMITS, SMALL, 4)
    assert frames.times_s == pytest.approx([seconds * (i + 0.5) / 4 for i in range(4)], abs=0.16)
    levels = [float(image.mean()) for image in frames.images]
    assert levels == pytest.approx([time_s * 50 for time_s in frames.times_s], abs=4)


@pytest.mark.parametrize(
    "suffix", [suffix for suffix in CODECS if suffix != "avi"]
)  # an AVI has no clock to start late
def test_a_clock_that_starts_late_makes_no_video_longer(tmp_path: Path, suffix: str) -> None:
    check_whole(write(tmp_path / f"late.{suffix}", late_s=3.0))


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_late_clock_is_told_in_a_file_with_bytes_after_its_end(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"late.{suffix}", late_s=3.0)
    path.write_bytes(path.read_bytes() + bytes(16))
    check_whole(path)


def test_sound_alone_whose_clock_starts_late(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "late.mka", beep(2.0, 1.0), offset_s=5.0)
    assert probe_audio(path, LIMITS).duration_s == pytest.approx(2.0, abs=0.01)
    audio = load_audio(path, LIMITS)
    assert (audio.duration_s, audio.start_s) == (pytest.approx(2.0, abs=0.01), pytest.approx(0.0, abs=0.01))


def _box(name: bytes, value: int) -> Callable[[bytearray], None]:
    """Set the length in every `mdhd` or `mvhd` of version 0."""

    def change(content: bytearray) -> None:
        place = content.index(name)
        content[place + 20 : place + 24] = struct.pack(">I", value)

    return change


def _matroska(value: float) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        place = content.index(b"\x44\x89\x88")
        content[place + 3 : place + 11] = struct.pack(">d", value)

    return change


def _avi(value: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        for name, offset in ((b"avih", 24), (b"strh", 40)):
            place = content.index(name) + offset
            content[place : place + 4] = struct.pack("<I", value)

    return change


def _flv(value: float) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        place = content.index(b"duration") + 9
        content[place : place + 8] = struct.pack(">d", value)

    return change


def _wmv(value_s: float) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        place = content.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
        preroll_ms = struct.unpack_from("<Q", content, place + 80)[0]
        struct.pack_into("<Q", content, place + 64, int(value_s * 1e7) + preroll_ms * 10_000)

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((f"track-{value}.mp4", _box(b"mdhd", value)) for value in (0, 700, 2**32 - 1)),
        *((f"file-{value}.mp4", _box(b"mvhd", value)) for value in (0, 70, 10**9)),
        *((f"fragments-{value}.mp4", _box(b"mdhd", value)) for value in (700, 10**9)),
        *((f"header-{value:g}.mkv", _matroska(value)) for value in (0.0, -5.0, 70.0, 60_000.0, 1e15, float("nan"))),
        ("header.webm", _matroska(70.0)),
        *((f"header-{value}.avi", _avi(value)) for value in (0, 1, 6000)),
        *((f"header-{value:g}.flv", _flv(value)) for value in (0.0, -4.0, 0.07, 600.0)),
        *((f"header-{value:g}.wmv", _wmv(value)) for value in (0.0, 0.07, 600.0)),
    ],
)
def test_frames_come_from_all_along_a_video_whose_header_is_wrong(
    tmp_path: Path, name: str, change: Callable[[bytearray], None]
) -> None:
    path = write(tmp_path / name, fragments=name.startswith("fragments"))
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    check_whole(path)


@pytest.mark.parametrize("late_s", [0.0, 3.0])
@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi", "flv"])
def test_a_file_that_was_cut_is_told_from_a_wrong_header(tmp_path: Path, suffix: str, late_s: float) -> None:
    path = write(tmp_path / f"cut.{suffix}", late_s=late_s)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Reject) as caught:
        sample_frames(path, LIMITS, SMALL, 4)
    assert caught.value.reason == "corrupt_video"


def test_a_length_over_the_limit_is_that_of_the_packets(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv")
    content = bytearray(path.read_bytes())
    _matroska(20_000_000.0)(content)  # five and a half hours
    path.write_bytes(content)
    check_whole(path)
    path.write_bytes(content[:-10])
    with pytest.raises(Reject) as caught:
        probe_video(path, LIMITS)
    assert str(caught.value) == "too_long: 20000 s; the limit is 14400 s"
