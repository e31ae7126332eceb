"""Contact sheets drawn with Pillow: rows of a query and its hits, or of a match and the frames that support it.

Letters come from DejaVu Sans where matplotlib is installed, else from Pillow's own font; a letter that the font lacks
(Chinese, most emoji) shows as an empty box. The HTML page has no such limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.pages.item import format_time
from coldstart.pages.page import STRIP, SheetRow, Thumbnails, Tile, clean, loader, neighbours_html

MAX_ROWS = 200
"""More make a picture that few programs open."""

_MARGIN, _GAP = 28, 18
_QUERY_WIDTH, _HIT_WIDTH, _PANEL_HEIGHT = 330, 200, 160
_TITLE, _CAPTION = (15, 20, 2), (12, 17, 4)  # points, line height, most lines
_TEXT_HEIGHT = 10 + _TITLE[1] * _TITLE[2] + _CAPTION[1] * _CAPTION[2]
_ROW_HEIGHT = _PANEL_HEIGHT + _TEXT_HEIGHT + 2 * _GAP
_PAPER, _INK, _SOFT, _LINE, _GREY, _FILM, _ACCENT = (
    "#ffffff", "#16181d", "#5c6370", "#e3e5e9", "#eceef1", "#1b1d22", "#2f6fde",
)  # fmt: skip
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


SUFFIXES = (".html", ".png")
_LEAST_SCORE = 0.05  # of a product for which something speaks


def contact_sheet(rows: Sequence[SheetRow], path: Path, *, limits: Limits | None = None) -> None:
    """Draw queries and hits into a PNG file; its folder is made where missing.

    Args:
        limits: as for ingest; the default lets no web media in.

    Raises:
        ColdstartError: more than `MAX_ROWS` rows.
    """
    if len(rows) > MAX_ROWS:
        raise ColdstartError(
            f"{len(rows)} rows are too many for the picture {path}: give at most {MAX_ROWS}, or write an HTML page"
        )
    thumbnails = loader(limits or Limits(), side=2 * _PANEL_HEIGHT)
    columns = max((len(row.hits) for row in rows), default=0)
    width = 2 * _MARGIN + _QUERY_WIDTH + max(columns, 1) * (_HIT_WIDTH + _GAP)
    sheet = Image.new("RGB", (width, 2 * _MARGIN + max(len(rows), 1) * _ROW_HEIGHT - 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if not rows:
        draw.text((_MARGIN, _MARGIN), "No results", fill=_SOFT, font=_font(_TITLE[0]))
    for index, row in enumerate(rows):
        top = _MARGIN + index * _ROW_HEIGHT
        if index:
            draw.line((_MARGIN, top - _GAP, width - _MARGIN, top - _GAP), fill=_LINE)
        left = _MARGIN
        _draw_tile(sheet, row.query, thumbnails(row.query), (left, top), _QUERY_WIDTH)
        left += _QUERY_WIDTH + _GAP
        if not row.hits:
            draw.text((left, top), "No hits", fill=_SOFT, font=_font(_TITLE[0]))
        for place, hit in enumerate(row.hits, start=row.first):
            _draw_tile(sheet, hit, thumbnails(hit), (left, top), _HIT_WIDTH, badge=str(place))
            left += _HIT_WIDTH + _GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG", optimize=True)


def _draw_tile(
    sheet: Image.Image, tile: Tile, thumbnails: Thumbnails, corner: tuple[int, int], width: int, badge: str = ""
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    if tile.kind == "text" and not thumbnails.pictures:
        sheet.paste(_quote(tile.title, width), corner)
        title = ""
    else:
        sheet.paste(_panel(thumbnails, width), corner)
        draw.rectangle((left, top, left + width - 1, top + _PANEL_HEIGHT - 1), outline=_LINE)
        title = tile.title
    if badge:
        font = _font(12, bold=True)
        draw.rectangle((left, top, left + 23, top + 20), fill=_ACCENT)
        draw.text((left + 12, top + 10.5), badge, fill="white", font=font, anchor="mm")
    y = top + _PANEL_HEIGHT + 10
    for text, ink, (points, height, most), bold in (
        (title, _INK, _TITLE, True),
        (tile.caption, _SOFT, _CAPTION, False),
    ):
        font = _font(points, bold)
        for line in _wrap(text, font, width, most):
            draw.text((left, y), line, fill=ink, font=font)
            y += height


def _panel(thumbnails: Thumbnails, width: int) -> Image.Image:
    """Fit a still on paper, frames side by side on black with their times, or the reason on grey."""
    size = (width, _PANEL_HEIGHT)
    pictures = thumbnails.pictures
    if not pictures:
        panel = Image.new("RGB", size, _GREY)
        words = thumbnails.reason.replace("_", " ")
        ImageDraw.Draw(panel).text((width / 2, _PANEL_HEIGHT / 2), words, fill=_SOFT, font=_font(13), anchor="mm")
        return panel
    if pictures[0].time_s is None:
        return ImageOps.pad(pictures[0].image, size, Image.Resampling.LANCZOS, color=_PAPER)
    panel = Image.new("RGB", size, _FILM)
    draw = ImageDraw.Draw(panel)
    frame_size = ((width - 4 * (STRIP + 1)) // STRIP, _PANEL_HEIGHT - 28)
    for index, picture in enumerate(pictures):
        left = 4 + index * (frame_size[0] + 4)
        panel.paste(ImageOps.fit(picture.image, frame_size, Image.Resampling.LANCZOS), (left, 6))
        clock = (left + frame_size[0] / 2, _PANEL_HEIGHT - 11)
        draw.text(clock, picture.clock, fill="#b9bec8", font=_font(11), anchor="mm")
    return panel


def _quote(text: str, width: int) -> Image.Image:
    """Draw a text query large where its picture would be."""
    panel = Image.new("RGB", (width, _PANEL_HEIGHT), _GREY)
    draw, font = ImageDraw.Draw(panel), _font(18, bold=True)
    lines = _wrap(text, font, width - 40, most=5)
    top = (_PANEL_HEIGHT - 26 * len(lines)) / 2
    for index, line in enumerate(lines):
        draw.text((20, top + 26 * index), line, fill=_INK, font=font)
    return panel


def _wrap(text: str, font: Font, width: int, most: int) -> list[str]:
    """Wrap text into lines no wider than `width`, at most `most` of them; the rest ends in an ellipsis."""
    lines: list[str] = []
    for paragraph in clean(text).split("\n"):
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if line and font.getlength(joined) > width:
                lines.append(line)
                joined = word
            line = joined
        if line:
            lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Font, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    line = line.removesuffix(" …")
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def _font(points: int, bold: bool = False) -> Font:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return ImageFont.load_default(points)
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data/fonts/ttf" / name, points)


def match_sheet(
    answer: Mapping[str, Any], media_path: str | None, title: str, path: Path, *, limits: Limits | None = None
) -> None:
    """Write the products matched to a video as a page (.html) or a picture (.png), a row a product.

    Args:
        answer: as `coldstart.search.match.Answer.to_dict` gives it.
        media_path: the video.

    Raises:
        ColdstartError: another suffix, or more rows than a picture takes.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ColdstartError(f"--out {path}: name a file that ends in {' or '.join(SUFFIXES)}")
    rows = [
        SheetRow(_query_tile(found, media_path, title), [_product(found)], place, found["score"] < _LEAST_SCORE)
        for place, found in enumerate(answer["matches"], start=1)
    ]
    if path.suffix.lower() == ".html":
        neighbours_html(rows, path, f"Products in {title}", limits=limits, notes=answer["notes"])
    else:
        contact_sheet(rows, path, limits=limits)


def evidence_text(evidence: Mapping[str, Any] | None) -> str:
    """Format the words that support a product, with their source and time."""
    if evidence is None:
        return ""
    place = (
        evidence["source"] if evidence["second"] is None else f"{evidence['source']} {format_time(evidence['second'])}"
    )
    return f"“{evidence['text']}” ({place})" if evidence["text"] else place


def _query_tile(found: Mapping[str, Any], media_path: str | None, title: str) -> Tile:
    """Build a tile of the video's nearest frames to this product, and the words."""
    frame, words = found["frame"], found["words"]
    lines = []
    if frame is not None:
        lines.append(f"most alike: {_when(frame)}")
    if words is not None:
        lines.append(evidence_text(words))
    return Tile(title, media_path, "video", "\n".join(lines), list(frame["seconds"]) if frame else [])


def _when(frame: Mapping[str, Any]) -> str:
    return "its picture" if frame["second"] is None else f"frame at {format_time(frame['second'])}"


def _product(found: Mapping[str, Any]) -> Tile:
    """Build a tile of a product and its score."""
    price = f"price {found['price']:.2f}" if found.get("price") is not None else ""
    faint = "next to nothing in the video speaks for it" if found["score"] < _LEAST_SCORE else ""
    caption = "\n".join(part for part in (price, f"score {found['score']:.2f}", faint) if part)
    return Tile(found["title"] or found["item_id"], found["uri"], found["kind"] or "product", caption)
