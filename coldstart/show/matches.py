"""The answer of a match as a page or a picture: each product beside the frames of the video that speak for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.show.lanes import clock
from coldstart.show.page import neighbours_html
from coldstart.show.sheet import contact_sheet
from coldstart.show.tiles import SheetRow, Tile

SUFFIXES = (".html", ".png")


def match_sheet(
    answer: Mapping[str, Any], media_path: str | None, title: str, path: Path, *, limits: Limits | None = None
) -> None:
    """Write a page (.html) or a picture (.png), a row a product.

    Args:
        answer: as `coldstart.retrieval.match.Answer.to_dict` gives it.
        media_path: the video.

    Raises:
        ColdstartError: another suffix, or more rows than a picture takes.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ColdstartError(f"--out {path}: name a file that ends in {' or '.join(SUFFIXES)}")
    rows = [
        SheetRow(_asked(found, media_path, title), [_product(found)], first=place)
        for place, found in enumerate(answer["matches"], start=1)
    ]
    if path.suffix.lower() == ".html":
        neighbours_html(rows, path, f"Products in {title}", limits=limits)
    else:
        contact_sheet(rows, path, limits=limits)


def said(evidence: Mapping[str, Any] | None) -> str:
    """Words that speak for a product, with where and when they stand."""
    if evidence is None:
        return ""
    place = evidence["source"] if evidence["second"] is None else f"{evidence['source']} {clock(evidence['second'])}"
    return f"“{evidence['text']}” ({place})" if evidence["text"] else place


def _asked(found: Mapping[str, Any], media_path: str | None, title: str) -> Tile:
    """The video's nearest frames to this product, and the words."""
    frame, words = found["frame"], found["words"]
    lines = []
    if frame is not None:
        lines.append(f"{_when(frame)}, cosine {frame['cosine']:.2f} ({frame['channel']})")
    if words is not None:
        lines.append(f"{said(words)}, cosine {words['cosine']:.2f} ({words['channel']})")
    return Tile(title, media_path, "video", "\n".join(lines), list(frame["seconds"]) if frame else [])


def _when(frame: Mapping[str, Any]) -> str:
    return "its picture" if frame["second"] is None else f"frame at {clock(frame['second'])}"


def _product(found: Mapping[str, Any]) -> Tile:
    places = ", ".join(f"{name} {reading['rank']}" for name, reading in found["channels"].items())
    caption = f"score {found['score']:.2f}\nplaces: {places}"
    return Tile(found["title"] or found["item_id"], found["uri"], found["kind"] or "product", caption)
