"""The pictures of one item as a strip: frames of its video at chosen times, else its own pictures.

What can be shown is shown: a time at which no frame can be decoded is left out, a picture that cannot be read says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from coldstart.media import guard
from coldstart.media.container import Video, open_video
from coldstart.media.frame import frame_pixels
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.show.lanes import clock
from coldstart.show.page import card
from coldstart.show.tiles import Picture, Thumbnails, Tile, loader
from coldstart.stage import Reject

FRAMES = 32
"""Frames of a video, or pictures of a product, in one strip."""

_SAMPLED = 8  # frames of a video whose shots are not known
_SAME_S = 1e-3  # containers round times to milliseconds
_NEAR_S = 2.0  # so far ahead decoding on is cheaper than seeking


def film(media: Sequence[Mapping[str, Any]], times_s: Sequence[float], limits: Limits, side: int) -> dict[str, Any]:
    """What a template needs of the strip.

    Args:
        media: of the item's row, as ingest wrote them.
        times_s: seconds of the first video to show; empty for frames spread over its length.
        side: the longer side of a picture in pixels, at most.

    Returns:
        `pictures`, each with a `source` (a data URI) and its `clock` (empty for a still); `reason` why some or all are
        missing, empty where none is; `is_video`.
    """
    video = next((entry for entry in media if entry["role"] == "video"), None)
    if video is not None:
        return {**_video(video, times_s, limits, side), "is_video": True}
    load = loader(limits, side)
    pictures: list[dict[str, Any]] = []
    reasons: list[str] = []
    for entry in [entry for entry in media if entry["role"] == "image"][:FRAMES]:
        tile = Tile("", entry["uri"], "product", "")
        shown = card(tile, load(tile))
        pictures += shown["pictures"]
        reasons += [shown["reason"]] if shown["reason"] else []
    reason = ", ".join(reasons) or ("" if pictures else "no picture or video")
    return {"pictures": pictures, "reason": reason, "is_video": False}


def _video(entry: Mapping[str, Any], times_s: Sequence[float], limits: Limits, side: int) -> dict[str, Any]:
    if not times_s:
        length_s = entry.get("duration_s") or 0.0
        times_s = [length_s * (index + 0.5) / _SAMPLED for index in range(_SAMPLED if length_s else 1)]
    times_s = times_s[:: -(-len(times_s) // FRAMES)]
    transform = ImageTransform((side, side), "longest")
    try:
        with guard.local_path(entry["uri"], limits) as path:
            found = list(_frames(path, limits, transform, times_s))
    except Reject as reject:
        return {"pictures": [], "reason": reject.reason.replace("_", " ")}
    except OSError as error:
        return {"pictures": [], "reason": error.strerror or type(error).__name__}
    shown = card(Tile("", None, "video", ""), Thumbnails([picture for _, picture in found]))["pictures"]
    pictures = [{**one, "clock": clock(time_s)} for one, (time_s, _) in zip(shown, found, strict=True)]
    return {"pictures": pictures, "reason": "" if pictures else "no frame can be decoded"}


def _frames(
    path: Path, limits: Limits, transform: ImageTransform, times_s: Sequence[float]
) -> Iterator[tuple[float, Picture]]:
    """The frame on screen at each time, with its own time."""
    with open_video(path, limits) as video:
        for frame in _on_screen(video, times_s):
            pixels = frame_pixels(frame, video.pixel_aspect, transform)
            yield video.seconds(frame), Picture(Image.fromarray(pixels))


def _on_screen(video: Video, times_s: Sequence[float]) -> Iterator[Any]:
    frames = video.decoded()
    shown: Any = None  # the last frame that started
    ahead: Any = None  # decoded, starts later
    for time_s in times_s:
        at_s = video.seconds(shown) if shown else 0.0
        if video.seekable and not 0 <= time_s - at_s <= _NEAR_S:
            video.seek(video.ticks(time_s))
            frames, shown, ahead = video.decoded(), None, None
        while frame := ahead or next(frames, None):
            if video.seconds(frame) > time_s + _SAME_S and shown is not None:
                ahead = frame
                break
            shown, ahead = frame, None
        if shown is not None:
            yield shown
