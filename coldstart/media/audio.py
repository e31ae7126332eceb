"""Decode the sound of a video or sound file into one array of samples, on the time axis of the pictures.

Channels are mixed down by FFmpeg's weights divided by their sum, so that one sound has one loudness in mono, stereo and
5.1, and nothing is cut off at full scale; faster-whisper's own decoder gives the same samples to 16 bits.
Sound is decoded from its start and no further than requested, whatever length the header states. Gaps in the stream's
clock become silence, so that a sample's index stays its time; a clock that runs backwards is ignored. Knows nothing of
speech. Workers import this module: it needs neither torch nor Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.extras import lazy_module
from coldstart.core.stage import Reject, Row
from coldstart.media.container import check_duration, open_container, picture_track, sound_track
from coldstart.media.guard import media_of_role, open_medium
from coldstart.media.length import stream_length
from coldstart.media.limits import Limits

av = lazy_module("av")

Samples = NDArray[np.float32]

_GAP_S = 0.05  # containers round to milliseconds, and resampling delays sound by some samples: less is no gap


@dataclass(frozen=True)
class Audio:
    """Sound from its start, up to the requested length.

    Attributes:
        samples: float32 [N], mono, in [-1, 1].
        sample_rate: samples a second.
        start_s: time of the first sample in seconds from the first frame of the pictures; negative where the sound
            begins earlier, 0 where there are no pictures.
        duration_s: length of the sound by `coldstart.media.length.stream_length`, or that of the samples where no
            header states it.
    """

    samples: Samples
    sample_rate: int
    start_s: float
    duration_s: float

    @property
    def heard_s(self) -> float:
        """Length of the decoded samples in seconds."""
        return len(self.samples) / self.sample_rate


def load_audio(
    path: Path,
    limits: Limits,
    *,
    sample_rate: int = 16_000,
    max_s: float = 600.0,
    track: str | int | None = None,
) -> Audio:
    """Decode one sound stream of a file, mixed down to one channel.

    Args:
        max_s: sound after so many seconds of it is not read.
        track: language or number of the stream, as `coldstart.media.container.sound_track` chooses it.

    Raises:
        Reject: as `coldstart.media.video.probe_audio`, but `no_sound` (filtered) where there is no sound stream, or
            one without a single packet, and `corrupt_audio` where not one frame can be decoded.
    """
    with open_container(path, limits) as container:
        stream = sound_track(container, track)
        if stream is None:
            kinds = ", ".join(stream.type for stream in container.streams) or "no streams"
            raise Reject("no_sound", f"{container.format.name} with {kinds}", state="filtered")
        if stream.codec_context is None:
            raise Reject("unsupported_media", f"{container.format.name} with sound in an unknown codec")
        stated_s = stream_length(path, container, stream) or 0.0
        check_duration(stated_s, limits)
        stream.codec_context.thread_count = 1  # many files are decoded side by side
        line = _Line(sample_rate, round(max_s * sample_rate))
        source = _Frames(container, stream)
        for frame in source:
            if not line.add(frame):
                break
        samples = line.joined()
        if line.start_s is None:
            if not source.packets:
                raise Reject("no_sound", f"{container.format.name} whose sound stream is empty", state="filtered")
            raise Reject("corrupt_audio", f"not one frame of {source.packets} packets can be decoded")
        clock = picture_track(container) or stream
        start_s = line.start_s - float((clock.start_time or 0) * clock.time_base)
        return Audio(samples, sample_rate, start_s, stated_s or len(samples) / sample_rate)


@dataclass(frozen=True)
class LoadAudio:
    """Load the sound of an item's first video that has some, else of its first sound file; the cost is its seconds.

    `track` is that of `load_audio`.
    """

    limits: Limits
    max_s: float
    track: str | int | None = None

    def __call__(self, row: Row) -> tuple[Audio, float]:
        media = [entry for entry in media_of_role(row, "video") if entry["has_audio"] is not False]
        last: Reject | None = None
        for entry in (*media, *media_of_role(row, "audio")[:1]):
            try:
                with open_medium(entry, self.limits) as path:
                    audio = load_audio(path, self.limits, max_s=self.max_s, track=self.track)
            except Reject as reject:
                if reject.reason != "no_sound":
                    raise
                last = reject
            else:
                return audio, max(audio.heard_s, 1.0)
        raise last or Reject("no_sound", "no sound file, and no video with sound", state="filtered")


class _Frames:
    """Decoded frames of a stream in order, up to the last packet that can be read; `packets` counts those."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.packets = 0

    def __iter__(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                self.packets += packet.size > 0  # the last, empty one tells the decoder that none follow
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    continue
        except (av.error.InvalidDataError, av.error.PermissionError):
            return  # the file stops within a packet


class _MonoResampler:
    """Resampler of frames of one form to one channel; `av.AudioResampler` would add stereo up to 1.41 of full scale."""

    def __init__(self, frame: Any, sample_rate: int) -> None:
        self._graph = import_module("av.filter").Graph()
        source = self._graph.add(
            "abuffer",
            sample_rate=str(frame.sample_rate),
            sample_fmt=frame.format.name,
            channel_layout=frame.layout.name,
            time_base=f"1/{frame.sample_rate}",
        )
        mixed = self._graph.add("aresample", osr=str(sample_rate), ochl="mono", osf="flt", rematrix_maxval="1")
        sink = self._graph.add("abuffersink")
        source.link_to(mixed)
        mixed.link_to(sink)
        self._graph.configure()

    def resample(self, frame: Any) -> Iterator[Samples]:
        """Yield the samples that are ready, float32 [N] each, after a frame, or after None, which ends the sound."""
        self._graph.push(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield self._graph.pull().to_ndarray()[0]


class _Line:
    """Accumulator of frames as one row of samples, `limit` at most."""

    def __init__(self, sample_rate: int, limit: int) -> None:
        self.start_s: float | None = None
        self._rate, self._limit = sample_rate, limit
        self._parts: list[Samples] = []
        self._count = 0  # samples in the parts
        self._mix: _MonoResampler | None = None
        self._form: tuple[Any, ...] = ()
        self._due_s = 0.0  # where the next frame should start on the stream's clock

    def add(self, frame: Any) -> bool:
        """Append a frame; return False once the row is full."""
        if not frame.samples or not frame.sample_rate:
            return True
        time_s = self._due_s if frame.pts is None else float(frame.pts * frame.time_base)
        if self.start_s is None:
            self.start_s = self._due_s = time_s
        form = frame.format.name, frame.layout.name, frame.sample_rate
        gap_s = time_s - self._due_s
        mix = self._mix
        if mix is None or form != self._form or gap_s > _GAP_S:
            self._finish()
            self._form = form
            self._mix = mix = _MonoResampler(frame, self._rate)
            missing = round((time_s - self.start_s) * self._rate) - self._count
            if gap_s > _GAP_S and missing > 0:
                self._append(np.zeros(min(missing, self._limit - self._count), np.float32))
        self._due_s = max(time_s, self._due_s) + frame.samples / frame.sample_rate
        frame.pts = None  # the line keeps its own time: the resampler would stretch sound to fit a damaged clock
        for samples in mix.resample(frame):
            self._append(samples)
        return self._count < self._limit

    def joined(self) -> Samples:
        """Return all samples, float32 [N]; NaN becomes silence."""
        self._finish()
        samples = np.concatenate([np.zeros(0, np.float32), *self._parts])
        clean: Samples = np.clip(np.nan_to_num(samples, posinf=0.0, neginf=0.0), -1.0, 1.0)
        return clean

    def _finish(self) -> None:
        if self._mix is not None:
            for samples in self._mix.resample(None):  # what it holds back
                self._append(samples)
            self._mix = None

    def _append(self, samples: Samples) -> None:
        kept = samples[: max(self._limit - self._count, 0)]
        self._parts.append(kept)
        self._count += len(kept)
