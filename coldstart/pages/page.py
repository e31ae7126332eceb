"""Tiles with small pictures, as HTML: a single tile for notebooks, or a page of queries and hits.

A page is one file without scripts that fetches nothing. Every text is escaped and cleaned of what no reader sees;
templates are strict about names.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from coldstart.core.stage import Reject
from coldstart.media import guard
from coldstart.media.guard import IMAGE_FORMATS, sniff_format
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels
from coldstart.media.video import sample_frames

STRIP = 3
"""Frames that stand for a video."""

# A multiple of the usual 8 frames a video, in such a way that the middle of each eighth is among them.
_CANDIDATES = 24


_CARD_SIDE = 160

_CARD = """<div style="width:{{ side }}px">
{%- for picture in card.pictures %}<img src="{{ picture.source }}" style="width:{{ 100 // card.pictures | length }}%"
 alt="{{ card.title }}">{% else %}<div style="padding:1em;background:#8884">{{ card.reason }}</div>{% endfor %}
<div><b>{{ card.title }}</b></div>{% for line in card.lines %}<div><small>{{ line }}</small></div>{% endfor %}</div>"""
_SIDE = 300


@dataclass(frozen=True)
class Tile:
    """One query or one hit.

    Attributes:
        title: what it is called; of a text query the text.
        media_path: its picture or video, as `guard.resolve` returned it; None where it has none.
        kind: `product`, `video`, `image` or `text`.
        caption: lines below the title, such as the score and the rank in each space.
        seconds: which moments of a video to show, at most `STRIP`; empty for `STRIP` spread over it.
        limits: where its medium may be read from; None: as the page's.
    """

    title: str
    media_path: str | None
    kind: str
    caption: str
    seconds: list[float] = field(default_factory=list)
    limits: Limits | None = None


@dataclass(frozen=True)
class SheetRow:
    """One query and its hits, the best first.

    Attributes:
        first: number that the first of them is marked with.
        is_faint: next to nothing speaks for the hit.
    """

    query: Tile
    hits: list[Tile]
    first: int = 1
    is_faint: bool = False


@dataclass(frozen=True)
class Picture:
    """Small picture; `time_s` is the second of the video it is from, None for a still."""

    image: Image.Image
    time_s: float | None = None

    @property
    def clock(self) -> str:
        """Time as `m:ss`, empty for a still."""
        return "" if self.time_s is None else f"{int(self.time_s) // 60}:{int(self.time_s) % 60:02d}"


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of a tile, or the reason why there are none."""

    pictures: list[Picture]
    reason: str = ""


def loader(limits: Limits, side: int) -> Callable[[Tile], Thumbnails]:
    """Create a function from tile to thumbnails of at most `side` pixels that decodes each medium once."""

    @functools.cache
    def load(media_path: str, kind: str, seconds: tuple[float, ...], limits: Limits) -> Thumbnails:
        transform = ImageTransform((side, side), "longest")
        try:
            with guard.local_path(media_path, limits) as path:
                found = sniff_format(path)
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
        return load(tile.media_path, tile.kind, tuple(tile.seconds), tile.limits or limits)

    return thumbnails


def clean(text: str) -> str:
    """Clean text for any font and encoder: no control characters, no lone surrogates, lines kept."""
    lines = text.encode("utf-8", "replace").decode().splitlines()
    return "\n".join("".join(c if c.isprintable() or c == "\u200d" else " " for c in line).strip() for line in lines)


def _nearest(frames: list[tuple[float, Pixels]], seconds: tuple[float, ...]) -> list[Picture]:
    if seconds:
        frames = [min(frames, key=lambda frame: abs(frame[0] - wanted)) for wanted in seconds]
    return [Picture(Image.fromarray(pixels), time_s) for time_s, pixels in frames]


def tile_html(tile: Tile) -> str:
    """Render the tile as self-contained HTML, every text escaped."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_CARD)
    return template.render(card=card(tile, loader(Limits(), _CARD_SIDE)(tile)), side=_CARD_SIDE)


def neighbours_html(
    rows: Sequence[SheetRow], path: Path, title: str, *, limits: Limits | None = None, notes: Sequence[str] = ()
) -> None:
    """Write queries and hits as a page for any browser, light or dark; its folder is made where missing.

    Args:
        limits: as for ingest; the default lets no web media in.
        notes: sentences below the title.
    """
    thumbnails = loader(limits or Limits(), _SIDE)
    shown = [
        {
            "query": card(row.query, thumbnails(row.query)),
            "hits": [card(hit, thumbnails(hit)) for hit in row.hits],
            "first": row.first,
            "single": len(row.hits) == 1,
            "is_faint": row.is_faint,
        }
        for row in rows
    ]
    page = (
        environment()
        .get_template("page.html")
        .render(title=clean(title), rows=shown, notes=[clean(note) for note in notes])
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def card(tile: Tile, thumbnails: Thumbnails) -> dict[str, Any]:
    """Prepare a tile for a template: cleaned texts, not yet escaped, and pictures as data URIs."""
    return {
        "title": clean(tile.title),
        "kind": clean(tile.kind),
        "lines": clean(tile.caption).splitlines(),
        "reason": thumbnails.reason.replace("_", " "),
        "pictures": [{"source": _data_uri(picture.image), "clock": picture.clock} for picture in thumbnails.pictures],
    }


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def environment() -> Environment:
    """Create the environment of the package's templates; None prints as nothing."""
    return Environment(
        loader=PackageLoader("coldstart.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_cleaned,
    )


def _cleaned(value: Any) -> Any:
    """Clean every text that a template prints."""
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
