"""The pictures of one item as a strip: frames of its video at chosen times, else its own pictures.

Media are decoded in this process, so give media that ingest accepted. What cannot be shown says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from coldstart.media import guard
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.video import frames_at
from coldstart.show.lanes import clock
from coldstart.show.page import card
from coldstart.show.tiles import Picture, Thumbnails, Tile, loader
from coldstart.stage import Reject

FRAMES = 32
"""Frames of a video, or pictures of a product, in one strip."""

_SAMPLED = 8  # frames of a video whose shots are not known


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
    order = sorted(range(len(times_s)), key=lambda index: times_s[index])
    try:
        with guard.local_path(entry["uri"], limits) as path:
            transform = ImageTransform((side, side), "longest")
            found = frames_at(path, limits, transform, [times_s[index] for index in order])
    except Reject as reject:
        return {"pictures": [], "reason": reject.reason.replace("_", " ")}
    except OSError as error:
        return {"pictures": [], "reason": error.strerror or type(error).__name__}
    shown = card(Tile("", None, "video", ""), Thumbnails([Picture(Image.fromarray(pixels)) for pixels in found.images]))
    pictures = [{**one, "clock": clock(time_s)} for one, time_s in zip(shown["pictures"], found.times_s, strict=True)]
    return {"pictures": [pictures[order.index(place)] for place in range(len(order))], "reason": ""}
