"""Of several tracks: the one that players play, or the one that the user names."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from coldstart.media.audio import LoadAudio, load_audio
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadQualitySample, ProbeMedia
from coldstart.media.video import probe_audio, probe_video, sample_frames

LIMITS = Limits()
WHOLE = ImageTransform((1000, 1000), "longest")


def write(
    path: Path,
    sounds: list[tuple[str, float, int]],
    pictures: list[tuple[int, int]] | None = None,
) -> Path:
    """A video of a second.

    Args:
        sounds: language, level of a tone, and disposition of each sound track.
        pictures: width and disposition of each picture track.
    """
    with av.open(path, "w") as container:
        shown: list[Any] = []
        for width, disposition in pictures or [(64, Disposition.default)]:
            stream: Any = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            stream.disposition = disposition
            shown.append(stream)
        heard = []
        for language, level, disposition in sounds:
            voice: Any = container.add_stream("aac", rate=16_000, layout="mono")
            voice.metadata["language"] = language
            voice.disposition = disposition
            heard.append((voice, level))
        for stream in shown:
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, stream.width, 3), np.uint8))
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        for voice, level in heard:
            tone = (level * np.sin(np.arange(16_384) * 0.2)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                part = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
                part.sample_rate, part.pts = 16_000, start
                container.mux(voice.encode(part))
            container.mux(voice.encode())
    return path


def level(path: Path, track: str | int | None = None) -> float:
    return round(float(np.abs(load_audio(path, LIMITS, track=track).samples[4000:12_000]).max()), 1)


PLAIN, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_the_marked_sound_track_is_heard(tmp_path: Path, suffix: str) -> None:
    second = write(tmp_path / f"second.{suffix}", [("deu", 0.0, PLAIN), ("eng", 0.5, DEFAULT), ("fra", 0.2, PLAIN)])
    assert level(second) == 0.5
    assert probe_audio(second, LIMITS).duration_s == pytest.approx(1.0, abs=0.1)


def test_without_a_mark_or_with_several_the_first_is_heard(tmp_path: Path) -> None:
    none = write(tmp_path / "none.mkv", [("deu", 0.2, PLAIN), ("eng", 0.5, PLAIN)])
    both = write(tmp_path / "both.mkv", [("deu", 0.2, DEFAULT), ("eng", 0.5, DEFAULT)])
    assert level(none) == level(both) == 0.2


@pytest.mark.parametrize(
    ("track", "expected"),
    [(None, 0.5), (1, 0.2), (2, 0.5), (3, 0.8), ("deu", 0.2), ("ger", 0.2), ("GER", 0.2), ("fra", 0.8), ("fre", 0.8)],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_sound_track_is_chosen_by_language_or_number(
    tmp_path: Path, suffix: str, track: str | int | None, expected: float
) -> None:
    path = write(tmp_path / f"three.{suffix}", [("deu", 0.2, PLAIN), ("eng", 0.5, DEFAULT), ("fra", 0.8, PLAIN)])
    assert level(path, track) == expected


@pytest.mark.parametrize("track", [4, "spa"])
def test_a_file_without_the_chosen_track_is_heard_as_by_default(tmp_path: Path, track: str | int) -> None:
    path = write(tmp_path / "two.mp4", [("deu", 0.2, PLAIN), ("eng", 0.5, DEFAULT)])
    assert level(path, track) == 0.5


def test_stages_pass_the_choice_on(tmp_path: Path) -> None:
    path = write(tmp_path / "two.mp4", [("deu", 0.2, PLAIN), ("eng", 0.5, DEFAULT)])
    row, _ = ProbeMedia(LIMITS)({"item_id": "a", "record": {}, "media": [{"role": "video", "uri": str(path)}]})
    assert round(float(np.abs(LoadAudio(LIMITS, 9.0, "deu")(row)[0].samples[4000:12_000]).max()), 1) == 0.2
    samples = LoadQualitySample(LIMITS, 4, 1)(row)[0].samples
    assert samples is not None and round(float(np.abs(samples[4000:12_000]).max()), 1) == 0.2


def test_the_marked_picture_track_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "two.mp4", [], [(64, PLAIN), (160, DEFAULT)])
    assert probe_video(path, LIMITS).width == 160
    assert sample_frames(path, LIMITS, WHOLE, 2).images[0].shape == (48, 160, 3)
