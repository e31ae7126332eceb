"""Copies of a video as they come back to a platform: encoded anew, smaller, cut, mirrored, captioned, sped up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_CLOCK = Fraction(1, 90_000)


@dataclass(frozen=True)
class Change:
    """How a copy differs from its source.

    Attributes:
        crf: x264's quality, 23 good and 38 poor.
        scale: factor of width and height.
        crop: share of width and of height that is lost, half of it at each side.
        mirror: left and right are swapped.
        caption: share of the height that a bar with words covers at the bottom; `banner`: that one adds above.
        gain: factor of all levels, clipped at 255.
        turn: degrees that the picture is turned by, with black corners.
        bars: shares of height and of width that black bars add on each side; `border`: that a grey edge adds all round.
        inset: share of width and height that the picture keeps in the middle of another, which is grey noise.
        speed: 1.05 is 5 % faster.
        part: share of the source at which the copy starts, and ends.
    """

    crf: int = 26
    scale: float = 1.0
    crop: float = 0.0
    mirror: bool = False
    caption: float = 0.0
    banner: float = 0.0
    gain: float = 1.0
    turn: float = 0.0
    bars: tuple[float, float] = (0.0, 0.0)
    border: float = 0.0
    inset: float = 1.0
    speed: float = 1.0
    part: tuple[float, float] = (0.0, 1.0)

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One frame of the copy from one of the source, uint8 [H, W, 3]; both sides come out even."""
        height, width = pixels.shape[:2]
        top, left = round(height * self.crop / 2), round(width * self.crop / 2)
        pixels = pixels[top : height - top, left : width - left]
        if self.mirror:
            pixels = pixels[:, ::-1]
        height, width = pixels.shape[:2]
        size = (max(2, round(width * self.scale / 2) * 2), max(2, round(height * self.scale / 2) * 2))
        pixels = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        height, width = pixels.shape[:2]
        if self.caption:
            pixels[height - round(height * self.caption) :] = bar(width, round(height * self.caption))
        if self.banner:
            pixels = np.concatenate([bar(width, round(height * self.banner / 2) * 2), pixels])
        return self._framed(np.clip(pixels * np.float32(self.gain), 0, 255).astype(np.uint8))

    def _framed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture, and put it into bars, an edge or another picture."""
        height, width = pixels.shape[:2]
        found: Any = pixels
        if self.turn:
            found = cv2.warpAffine(
                found, cv2.getRotationMatrix2D((width / 2, height / 2), self.turn, 1), (width, height)
            )
        if self.inset < 1:
            small = cv2.resize(
                found, (round(width * self.inset), round(height * self.inset)), interpolation=cv2.INTER_AREA
            )
            noise = np.random.default_rng(0).integers(60, 200, (9, 9, 1), dtype=np.uint8).repeat(3, axis=2)
            found = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
            top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
            found[top : top + small.shape[0], left : left + small.shape[1]] = small
        down, across = (round(side * share / 2) * 2 for side, share in zip((height, width), self.bars, strict=True))
        found = cv2.copyMakeBorder(found, down, down, across, across, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        edge = round(height * self.border / 2) * 2
        found = cv2.copyMakeBorder(found, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(200, 200, 200))
        return np.asarray(found, np.uint8)


CHANGES: Mapping[str, Change] = {
    "encoded well": Change(crf=20),
    "encoded poorly": Change(crf=38),
    "half size": Change(scale=0.5),
    "cropped 10 %": Change(crop=0.1),
    "mirrored": Change(mirror=True),
    "caption bar": Change(caption=0.15),
    "5 % faster": Change(speed=1.05),
    "first half": Change(part=(0.0, 0.5)),
    "half, cropped, captioned": Change(crf=32, scale=0.5, crop=0.1, caption=0.15),
    "mirrored, 8 % slower": Change(mirror=True, speed=0.92),
    "middle, cropped 5 %": Change(part=(0.27, 0.77), crop=0.05),
    "bar added above": Change(banner=0.12),
    "15 % brighter": Change(gain=1.15),
    "15 % darker": Change(gain=0.85),
    "cropped 15 %": Change(crop=0.15),
    "turned 3 degrees": Change(turn=3.0),
    "letterbox": Change(bars=(0.17, 0.0)),
    "pillarbox": Change(bars=(0.0, 0.17)),
    "border": Change(border=0.08),
    "picture in picture": Change(inset=0.6),
}
"""The copies that recall is measured on."""

UNSEEN = (
    "bar added above",
    "cropped 15 %",
    "turned 3 degrees",
    "picture in picture",
)
"""Those that no view is made for: local features find them, of pictures and of videos that begin where theirs does."""

BORDERED = ("letterbox", "pillarbox", "border")
"""Those that are found by what their border encloses."""


def bar(width: int, height: int) -> NDArray[np.uint8]:
    """A white bar with black words, uint8 [height, width, 3]."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    place = (width // 20, max(1, height * 2 // 3))
    cv2.putText(
        pixels, "WAIT FOR IT ...", place, cv2.FONT_HERSHEY_SIMPLEX, height / 45, (0, 0, 0), max(1, height // 15)
    )
    return pixels


def write_copies(
    source: Path, targets: Mapping[Path, Change], max_s: float = math.inf, max_rate: float = math.inf
) -> None:
    """Write several copies of a video's first `max_s` seconds in one pass over it, as H.264 without sound.

    Args:
        max_rate: frames a second that are kept, at most; fewer are encoded sooner.
    """
    with ExitStack() as stack:
        given = stack.enter_context(av.open(source))
        stream = given.streams.video[0]
        length_s = min(_length_s(source), max_s)
        writers = [
            _Writer(stack.enter_context(av.open(path, "w")), change, length_s) for path, change in targets.items()
        ]
        start_s, due_s = None, 0.0
        for frame in given.decode(stream):
            start_s = frame.time if start_s is None else start_s
            if frame.time - start_s > length_s:
                break
            if frame.time - start_s < due_s:
                continue
            due_s = frame.time - start_s + 1 / max_rate - 1e-3
            pixels = frame.to_ndarray(format="rgb24")
            for writer in writers:
                writer.add(pixels, frame.time - start_s, min(max_rate, float(stream.average_rate or 25)))
        for writer in writers:
            writer.finish()


def _length_s(source: Path) -> float:
    with av.open(source) as container:
        stream = container.streams.video[0]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None]
    return max(times) - min(times) if times else 0.0


class _Writer:
    """One copy; frames outside its part are left out."""

    def __init__(self, container: Any, change: Change, length_s: float) -> None:
        self._container, self._change = container, change
        self._from_s, self._to_s = (share * length_s for share in change.part)
        self._stream: Any = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], time_s: float, rate: float) -> None:
        pts = round((time_s - self._from_s) / self._change.speed / _CLOCK)
        if not self._from_s <= time_s <= self._to_s or pts <= self._last:  # some files step back in time
            return
        self._last = pts
        pixels = self._change.picture(pixels)
        if self._stream is None:
            options = {"preset": "ultrafast", "crf": str(self._change.crf)}
            self._stream = self._container.add_stream("libx264", rate=round(rate) or 25, options=options)
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = _CLOCK
            self._stream.codec_context.thread_count = 1
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = pts, _CLOCK
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())


def write_film(path: Path, seed: int, seconds: float = 4.0, rate: int = 12, side: int = 160) -> Path:
    """A camera that drifts over a made picture and cuts to another each second: H.264, side x side pixels."""
    random = np.random.default_rng(seed)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "20"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(round(seconds * rate)):
            if number % rate == 0:
                coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                wide = cv2.resize(coarse, (2 * side, 2 * side), interpolation=cv2.INTER_CUBIC)
            left = number % rate * 4
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[left : left + side, left : left + side]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_still(path: Path, picture: NDArray[np.uint8], seconds: float = 4.0, rate: int = 8, crf: int = 20) -> Path:
    """One picture all along: H.264, without sound."""
    height, width = picture.shape[:2]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(round(seconds * rate)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path
