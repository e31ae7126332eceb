"""Decode frames of a video at chosen times, and read its header.

Times are presentation times in seconds from the start of the video stream, by the stream's own clock and never by a
frame count, so variable frame rates are right. Frames are reached by seeking: the cost follows the number of frames
and the spacing of key frames, not the length of the video. GIF, which has no seek points, is decoded through. Frames
are scaled, turned upright and made square as a viewer sees them; high dynamic range is tone-mapped
(`coldstart.media.hdr`). Matrix and range of colours are those that the file states; unlabelled colours are read as
BT.601, as FFmpeg does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from coldstart.core.extras import lazy_module
from coldstart.core.stage import Reject
from coldstart.media.container import Video, check_duration, open_container, open_video, sound_track
from coldstart.media.hdr import HLG, PQ, tone_map
from coldstart.media.image import ImageTransform
from coldstart.media.length import presentation_ticks, stream_length
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels

av = lazy_module("av")

SAME_S = 1e-3  # times closer than this are one: containers round to milliseconds

_DENSE_S = 1.0  # where key frames are unknown, times closer than this are reached by decoding on

_LEAD_S = 0.5  # all frames are decoded from so long before a time: most that are on screen then began since

_BACKTRACK_S = (0.0, 1.0, 10.0, math.inf)  # how much earlier to seek while what is found still lies too late


@dataclass(frozen=True)
class VideoInfo:
    """Header of a video.

    Attributes:
        duration_s: length of the video stream in seconds.
        width, height: pixels as shown, after rotation and with pixels made square.
        fps: average frames per second, None where the container states none.
        codec: FFmpeg's name, such as `h264`.
        has_audio: whether there is a sound stream.
        rotation_deg: how far the stored frames are turned counter-clockwise to be shown: 0, 90, 180 or 270.
    """

    duration_s: float
    width: int
    height: int
    fps: float | None
    codec: str
    has_audio: bool
    rotation_deg: int


@dataclass(frozen=True)
class Frames:
    """Sampled frames in order of time: `times_s` in seconds, and as many `images`, each uint8 [H, W, 3]."""

    times_s: list[float]
    images: list[Pixels]


def probe_video(path: Path, limits: Limits) -> VideoInfo:
    """Read a video's header and decode its first frame.

    Raises:
        Reject: `empty_file`, `too_many_bytes`, `unsupported_media`, `no_video_stream`, `corrupt_video`,
            `too_many_pixels`, `too_small`, `too_long`.
    """
    with open_video(path, limits) as video:
        first = next(video.decoded(), None)
        if first is None:
            raise Reject("corrupt_video", "not one frame can be decoded")
        width, height = shown_size(first, video.pixel_aspect)
        rate = video.stream.average_rate
        return VideoInfo(
            duration_s=video.duration_s,
            width=width,
            height=height,
            fps=float(rate) if rate else None,
            codec=str(video.stream.codec_context.name),
            has_audio=bool(video.container.streams.audio),
            rotation_deg=round(first.rotation / 90) * 90 % 360,
        )


@dataclass(frozen=True)
class AudioInfo:
    """Header of a sound file: its length in seconds and FFmpeg's name of its codec."""

    duration_s: float
    codec: str


def probe_audio(path: Path, limits: Limits) -> AudioInfo:
    """Read the header of a sound file, or of a video's sound.

    Raises:
        Reject: `empty_file`, `too_many_bytes`, `unsupported_media` (also where there is no sound), `corrupt_video`,
            `too_long`.
    """
    with open_container(path, limits) as container:
        stream = sound_track(container)
        if stream is None:
            raise Reject("unsupported_media", f"{container.format.name} without sound")
        if stream.codec_context is None:
            raise Reject("unsupported_media", f"{container.format.name} with sound in an unknown codec")
        length_s = stream_length(path, container, stream) or 0.0
        check_duration(length_s, limits)
        return AudioInfo(length_s, str(stream.codec_context.name))


def sample_frames(
    path: Path,
    limits: Limits,
    transform: ImageTransform,
    count: int = 8,
    policy: Literal["uniform", "keyframe"] = "uniform",
    threads: int = 1,
) -> Frames:
    """Decode a few frames spread evenly over a video, each as shown and through `transform`.

    Args:
        count: the video is cut into this many equal spans, and the middle of each is asked for.
        policy: `uniform` takes the frame on screen at each middle, `count` in all (one that is on screen at two of
            them comes twice); `keyframe` takes the key frames nearest to the middles, each once, so `count` at most,
            and decodes nothing else.
        threads: codec threads; 1 because many videos are decoded side by side.

    Raises:
        Reject: as `probe_video`; a video whose end is missing is `corrupt_video`.
    """
    with open_video(path, limits, threads) as video:
        pick = _key_frames if policy == "keyframe" and video.seekable else _frames_on_screen
        frames = pick(video, middles(video.duration_s, count), transform)
        if frames is None:  # it ends before the header says so: cut off, or merely shorter than its sound
            frames = pick(video, middles(video.real_duration(), count), transform)
        if not frames or not frames.images:
            raise Reject("corrupt_video", f"no frames can be decoded along its {video.duration_s:.1f} s")
        return frames


def frames_at(
    path: Path, limits: Limits, transform: ImageTransform, times_s: Sequence[float], threads: int = 1
) -> Frames:
    """Decode the frames on screen at given times, each as shown and through `transform`.

    Args:
        times_s: at least one, in rising order; before the first frame that one is taken, past the end the last.
        threads: codec threads; 1 because many videos are decoded side by side.

    Returns:
        One frame a time, with the times at which the frames begin; one that is on screen at two of them comes twice.

    Raises:
        ValueError: the times do not rise, or there are none.
        Reject: as `probe_video`; a video whose end is missing is `corrupt_video`.
    """
    if not times_s or list(times_s) != sorted(times_s):
        raise ValueError(f"times must be given in rising order, got {list(times_s)}")
    with open_video(path, limits, threads) as video:
        frames = _frames_on_screen(video, times_s, transform)
        if frames is None:
            last_s = max(0.0, video.real_duration() - SAME_S)
            frames = _frames_on_screen(video, [min(time_s, last_s) for time_s in times_s], transform)
        if frames is None:
            raise Reject("corrupt_video", f"no frame can be decoded at {times_s[-1]:.1f} s")
        return frames


class _FrameClock:
    """Cursor over a video for rising times; decodes on where that is cheaper than seeking."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._frames = video.decoded()
        self._shown: Any = None  # the last frame that started
        self._ahead: Any = None  # decoded, starts later
        self._gap_s = _DENSE_S

    def at(self, time_s: float) -> Any:
        """Return the last frame that starts at or before `time_s`, else the first frame; None past the video's end."""
        self._video.needed_s, ahead = time_s - _LEAD_S, self._ahead
        if self._worth_seeking(time_s):
            self._find(time_s)
        else:
            self._advance(time_s)
        still = ahead is not None and self._ahead is ahead  # the frame after the one that is shown has not come yet
        if not still and (self._shown is None or self._video.seconds(self._shown) < self._video.needed_s):
            self._video.needed_s = None  # it began long before, or one that began since was passed over
            self._find(time_s)
        if self._ahead is None and not self._lasts_until(time_s):
            return None
        return self._shown or self._ahead

    def _worth_seeking(self, time_s: float) -> bool:
        here = self._shown or self._ahead
        if here is None or not self._video.seekable:
            return bool(self._video.seekable)
        index, target = self._video.stream.index_entries, self._video.ticks(time_s)
        if len(index) and index[len(index) - 1].timestamp >= target:
            key = index.search_timestamp(target, backward=True)
            return bool(key >= 0 and index[key].timestamp > presentation_ticks(here))
        return time_s - self._video.seconds(here) > self._gap_s

    def _find(self, time_s: float) -> None:
        left = self._video.seconds(self._shown) if self._shown else -math.inf
        for back_s in _BACKTRACK_S:
            start_s = max(time_s - back_s, 0.0)
            self._video.seek(self._video.ticks(start_s))
            self._frames, self._shown = self._video.decoded(), None
            self._ahead = next(self._frames, None)
            if self._ahead and self._video.seconds(self._ahead) <= left:
                self._gap_s = time_s - left  # no key frame on the way here: they are at least that far apart
            self._advance(time_s)
            if self._shown or start_s == 0:
                return

    def _advance(self, time_s: float) -> None:
        while frame := self._ahead or next(self._frames, None):
            if self._video.seconds(frame) > time_s + SAME_S:
                self._ahead = frame
                return
            self._shown, self._ahead = frame, None

    def _lasts_until(self, time_s: float) -> bool:
        if self._shown is None:
            return False
        return time_s <= self._video.seconds(self._shown) + frame_lasts_s(self._video, self._shown) + SAME_S


def frame_lasts_s(video: Video, frame: Any) -> float:
    """Return how long a frame is shown in seconds: by its own statement, else by the mean rate; 0 where neither is."""
    rate = video.stream.average_rate
    return float(frame.duration * video.stream.time_base) or (1 / float(rate) if rate else 0.0)


def _frames_on_screen(video: Video, times_s: Sequence[float], transform: ImageTransform) -> Frames | None:
    """Decode one frame a time; None where the video ends before the last of them."""
    screen, frames, last = _FrameClock(video), Frames([], []), None
    for time_s in times_s:
        frame = screen.at(time_s)
        if frame is None:
            return None
        same = last is not None and presentation_ticks(frame) == presentation_ticks(
            last
        )  # it may have been decoded twice
        frames.times_s.append(video.seconds(frame))
        frames.images.append(frames.images[-1] if same else frame_pixels(frame, video.pixel_aspect, transform))
        last = frame
    return frames


def _key_frames(video: Video, times_s: Sequence[float], transform: ImageTransform) -> Frames | None:
    """Decode the distinct key frames nearest to the times, in order; None if the video ends before the last time."""
    if not _reaches(video, times_s[-1]):
        return None
    found: dict[int, tuple[float, Pixels]] = {}
    for time_s in times_s:
        packet = _nearest_key(video, video.ticks(time_s))
        if packet is None or packet.pts in found:
            continue
        video.stream.codec_context.flush_buffers()
        try:
            # A decoder holds frames back to sort them among later ones; None tells it that none follow.
            frames = [*packet.decode(), *video.stream.codec_context.decode(None)]
        except av.error.FFmpegError:
            continue
        for frame in frames[:1]:
            found[packet.pts] = video.seconds(frame), frame_pixels(frame, video.pixel_aspect, transform)
    shown = sorted(found.values(), key=lambda pair: pair[0])
    return Frames([time_s for time_s, _ in shown], [image for _, image in shown])


def _nearest_key(video: Video, target: int) -> Any:
    """Find the packet of the key frame nearest to a time, by seeking back and forth from there."""
    keys = []
    for backward in (True, False):
        video.seek(target, backward=backward)
        keys.append(_next_key(video))
    if keys == [None, None]:
        video.seek(video.ticks(0.0))
        return _next_key(video)
    return min(filter(None, keys), key=lambda packet: abs(packet.pts - target))


def _next_key(video: Video) -> Any:
    return next((packet for packet in video.packets() if packet.is_keyframe and packet.pts is not None), None)


def _reaches(video: Video, time_s: float) -> bool:
    """Tell whether packets go on until a time; reads them from the seek point before it."""
    target = video.ticks(time_s)
    video.seek(target)
    return any(packet.pts is not None and packet.pts + (packet.duration or 0) >= target for packet in video.packets())


def middles(duration_s: float, count: int) -> list[float]:
    """Compute the middles of `count` equal spans of a video, in seconds."""
    return [duration_s * (i + 0.5) / count for i in range(count)]


_SCALERS = {"bicubic": "BICUBIC", "bilinear": "BILINEAR", "nearest": "POINT"}


# Scaling in libswscale is several times faster than in Pillow. With these flags its pixels differ from an exact
# conversion at full size and Pillow's bicubic by 0.3 of 255 levels on average; without them by 1.7.
@cache
def _interpolation(name: str) -> Any:
    """Flags of libswscale for one of `_SCALERS`."""
    flags = import_module("av.video.reformatter").Interpolation
    return flags[_SCALERS[name]] | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP


class _Scaler(threading.local):
    """Scaler of the frames of one thread: tables of weights that are made for one size serve all frames of a video,
    where `frame.reformat` would make them anew for each, at 0.2 to 0.3 ms."""

    def __init__(self) -> None:
        self.reformat = import_module("av.video.reformatter").VideoReformatter().reformat


_scaler = cache(_Scaler)
"""The scaler, made when the first frame comes."""


_Matrix = tuple[int, int, int, int]
"""(a, b, c, d) of x' = ax + cy, y' = bx + dy, y downwards: what the container asks players to do with a frame."""


def shown_size(frame: Any, pixel_aspect: float) -> tuple[int, int]:
    """Compute (width, height) of a frame with its pixels made square and turned upright."""
    return _turned_size(frame, pixel_aspect, _display_matrix(frame))


def _turned_size(frame: Any, pixel_aspect: float, matrix: _Matrix) -> tuple[int, int]:
    width = max(1, round(frame.width * pixel_aspect))
    return (frame.height, width) if _is_sideways(matrix) else (width, frame.height)


def frame_pixels(frame: Any, pixel_aspect: float, transform: ImageTransform) -> Pixels:
    """Convert a decoded frame to RGB, scaled, turned upright and through the transform: uint8 [H, W, 3]."""
    matrix = _display_matrix(frame)
    shown = _turned_size(frame, pixel_aspect, matrix)
    size = transform.resized(*shown)
    if size[0] > shown[0] or size[1] > shown[1]:  # enlarging is left to the transform, which bounds extreme strips
        size = shown
    width, height = size[::-1] if _is_sideways(matrix) else size
    interpolation = _interpolation(transform.interpolation)
    if frame.color_trc in (PQ, HLG):
        deep = _scaler().reformat(frame, width, height, "rgb48le", interpolation=interpolation, threads=1)
        pixels = tone_map(deep.to_ndarray(), frame.color_trc, frame.color_primaries)  # uint16
    else:
        mode = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
        scaled = _scaler().reformat(frame, width, height, mode, interpolation=interpolation, threads=1)
        pixels = scaled.to_ndarray()  # of these formats it is uint8
    upright = _upright(pixels, matrix)
    if upright.shape[2] == 3 and transform.resize != "shortest" and transform.resized(*size) == size:
        return upright  # nothing is left to resize, cut or blend
    return transform.apply(Image.fromarray(upright))


def _display_matrix(frame: Any) -> _Matrix:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def _is_sideways(matrix: _Matrix) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(pixels: Pixels, matrix: _Matrix) -> Pixels:
    """Turn and mirror [H, W, C] as the matrix says, to the nearest quarter turn."""
    a, b, c, d = matrix
    x, y = a, d
    if _is_sideways(matrix):
        pixels, x, y = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1])
