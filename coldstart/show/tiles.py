"""What a sheet or a page is made of, and the small pictures on it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from coldstart.media import guard
from coldstart.media.image import ImageTransform, Pixels, load_image
from coldstart.media.limits import Limits
from coldstart.media.sniff import IMAGE_FORMATS, sniff
from coldstart.media.video import sample_frames
from coldstart.stage import Reject

STRIP = 3
"""Frames that stand for a video."""

# A multiple of the usual 8 frames a video, in such a way that the middle of each eighth is among them.
_CANDIDATES = 24


@dataclass(frozen=True)
class Tile:
    """One query or one hit.

    Attributes:
        title: what it is called; of a text query the text.
        media_path: its picture or video, as `guard.resolve` returned it; None where it has none.
        kind: `product`, `video`, `image` or `text`.
        caption: lines below the title, such as the score and the rank in each space.
        seconds: which moments of a video to show, at most `STRIP`; empty for `STRIP` spread over it.
    """

    title: str
    media_path: str | None
    kind: str
    caption: str
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class SheetRow:
    """A query and what it found, the best first; `first` is the place that the first of them is marked with."""

    query: Tile
    hits: list[Tile]
    first: int = 1


@dataclass(frozen=True)
class Picture:
    """A small picture; `time_s` is the second of the video it is from, None for a still."""

    image: Image.Image
    time_s: float | None = None

    @property
    def clock(self) -> str:
        """The time as `m:ss`, empty for a still."""
        return "" if self.time_s is None else f"{int(self.time_s) // 60}:{int(self.time_s) % 60:02d}"


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of a tile, or the reason why there are none."""

    pictures: list[Picture]
    reason: str = ""


def loader(limits: Limits, side: int) -> Callable[[Tile], Thumbnails]:
    """A function from tile to thumbnails of at most `side` pixels that decodes each medium once."""

    @functools.cache
    def load(media_path: str, kind: str, seconds: tuple[float, ...]) -> Thumbnails:
        transform = ImageTransform((side, side), "longest")
        try:
            with guard.local_path(media_path, limits) as path:
                found = sniff(path)
                if found in IMAGE_FORMATS and not (found == "gif" and kind == "video"):
                    return Thumbnails([Picture(Image.fromarray(load_image(path, limits, transform)))])
                frames = sample_frames(path, limits, transform, count=_CANDIDATES if seconds else STRIP)
        except Reject as reject:
            return Thumbnails([], reject.reason)
        except OSError as error:
            return Thumbnails([], error.strerror or type(error).__name__)
        return Thumbnails(_nearest(list(zip(frames.times_s, frames.images, strict=True)), seconds[:STRIP]))

    def thumbnails(tile: Tile) -> Thumbnails:
        if tile.media_path is None:
            return Thumbnails([], "no media")
        return load(tile.media_path, tile.kind, tuple(tile.seconds))

    return thumbnails


def clean(text: str) -> str:
    """Text that any font and encoder takes: no control characters, no lone surrogates, lines kept."""
    lines = text.encode("utf-8", "replace").decode().splitlines()
    return "\n".join("".join(c if c.isprintable() or c == "\u200d" else " " for c in line).strip() for line in lines)


def _nearest(frames: list[tuple[float, Pixels]], seconds: tuple[float, ...]) -> list[Picture]:
    if seconds:
        frames = [min(frames, key=lambda frame: abs(frame[0] - wanted)) for wanted in seconds]
    return [Picture(Image.fromarray(pixels), time_s) for time_s, pixels in frames]
