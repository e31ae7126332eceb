"""Sound and video files with chosen sound in them, written with PyAV."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def beep(seconds: float, at_s: float, rate: int = 16_000, pitch: float = 1000.0) -> np.ndarray:
    """float32 [N]: silence, and a tone of 0.2 s that begins at `at_s`."""
    time_s = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * time_s) * (time_s >= at_s) * (time_s < at_s + 0.2)).astype(np.float32)


def onset_s(samples: np.ndarray, rate: int = 16_000) -> float:
    """Where the first loud sample stands, in seconds."""
    return float(np.flatnonzero(np.abs(samples) > 0.1)[0] / rate)


def write_sound(
    path: Path,
    samples: np.ndarray,
    *,
    rate: int = 16_000,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    pictures_s: float = 0.0,
    fps: int = 10,
    offset_s: float = 0.0,
    gap: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
    subtitle: bool = False,
) -> Path:
    """A file with one sound stream; its container follows from the name.

    Args:
        samples: float32 [N], the same for each channel.
        pictures_s: length of a black video of `fps` frames a second beside it; 0 for none.
        offset_s: when the sound begins on the clock of the pictures.
        gap: (when, how long): from then on, sound comes later by so much.
        subtitle: whether a stream of subtitles, with one line, stands beside it.
    """
    with av.open(path, "w", options=options or {}) as container:
        pictures: Any = container.add_stream("libx264", rate=fps, options={"bf": "0"}) if pictures_s else None
        if pictures:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout=layout)
        if subtitle:
            srt = io.BytesIO(b"1\n00:00:00,500 --> 00:00:01,500\nWhat a bargain\n")
            with av.open(srt, format="srt") as source:
                lines = [packet for packet in source.demux() if packet.size]
                stream = container.add_stream_from_template(source.streams[0])
                for line in lines:
                    line.stream = stream
                    container.mux(line)
        for _ in range(round(pictures_s * fps)):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        if pictures:
            container.mux(pictures.encode())
        if not len(samples):
            return path
        form = sound.codec_context.format.name
        channels = len(sound.codec_context.layout.channels)
        converter = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=sound.frame_size or 1024)
        whole = av.AudioFrame.from_ndarray(np.tile(samples, (channels, 1)), format="fltp", layout=layout)
        whole.sample_rate = rate
        done = 0
        for frame in [*converter.resample(whole), *converter.resample(None)]:
            late_s = offset_s + (gap[1] if gap and done / rate >= gap[0] else 0.0)
            frame.pts, frame.time_base = done + round(late_s * rate), Fraction(1, rate)
            done += frame.samples
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def write_long(path: Path, hours: float) -> Path:
    """A black video with a beep every ten seconds; the same packets again and again, so that it is made at once."""
    piece = write_sound(
        path.with_name("piece.mkv"), beep(10.0, 1.0, 8000), rate=8000, codec="aac", pictures_s=10.0, fps=1
    )
    with av.open(piece) as source:
        packets = [packet for packet in source.demux() if packet.size and 0 <= packet.pts * packet.time_base < 10]
        with av.open(path, "w") as container:
            streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
            for turn in range(round(hours * 360)):
                for packet in packets:
                    late = round(10 * turn / packet.time_base)
                    copy = av.Packet(bytes(packet))
                    copy.stream, copy.time_base = streams[packet.stream_index], packet.time_base
                    copy.pts, copy.dts, copy.duration = packet.pts + late, packet.pts + late, packet.duration
                    copy.is_keyframe = packet.is_keyframe
                    container.mux(copy)
    return path
