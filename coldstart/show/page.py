"""Queries and hits as HTML: one file without scripts that fetches nothing, every text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from coldstart.media.limits import Limits
from coldstart.show.templates import environment
from coldstart.show.tiles import SheetRow, Thumbnails, Tile, clean, loader

_SIDE = 300


def neighbours_html(rows: Sequence[SheetRow], path: Path, title: str, *, limits: Limits | None = None) -> None:
    """Write queries and hits as a page for any browser, light or dark; its folder is made where missing.

    Args:
        limits: as for ingest; the default lets no web media in.
    """
    thumbnails = loader(limits or Limits(), _SIDE)
    shown = [
        {
            "query": card(row.query, thumbnails(row.query)),
            "hits": [card(hit, thumbnails(hit)) for hit in row.hits],
            "first": row.first,
        }
        for row in rows
    ]
    page = environment().get_template("page.html").render(title=clean(title), rows=shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def card(tile: Tile, thumbnails: Thumbnails) -> dict[str, Any]:
    """What a template needs of a tile: cleaned texts, not yet escaped, and pictures as data URIs."""
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
