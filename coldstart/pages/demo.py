"""Page of the demo: products in videos, words with their moments, copies, descriptions, recommendations, with pictures.

Drawn from plain data; media are decoded in this process. A part without rows is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.pages.item import film_strip
from coldstart.pages.page import Tile, card, environment, loader

_SIDE = 240


def demo_page(known: Mapping[str, Any], path: Path, *, limits: Limits | None = None) -> None:
    """Write the page as one file; its folder is made where missing.

    Args:
        known: `items`, `products`, `videos`, `took`, `recall`, … of the whole, and the rows of each part; an item is
            a mapping with `title`, `uri`, `kind`, and for a video `seconds`, the moments to show.
        limits: as for ingest.
    """
    page = demo_html(known, limits=limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def demo_html(known: Mapping[str, Any], *, limits: Limits | None = None) -> str:
    """Render the page as an HTML document; arguments as for `demo_page`."""
    pictures = _Pictures(limits or Limits())
    return (
        environment()
        .get_template("demo.html")
        .render(
            title="What coldstart finds in a sample catalogue",
            known=known,
            found=[
                {
                    **row,
                    "products": [
                        {
                            **product,
                            "frame": pictures.one({**row, "seconds": product["seconds"]}),
                            "photo": pictures.one(product),
                        }
                        for product in row["products"]
                    ],
                }
                for row in known["found"]
            ],
            words=[{**row, "frame": pictures.one(row)} for row in known["words"]],
            copies=[
                {**row, "here": pictures.of(row["copy"]), "there": pictures.of(row["of"])} for row in known["copies"]
            ],
            described=[{**row, "picture": pictures.one(row)} for row in known["described"]],
            liked=[{**row, "picture": pictures.one(row)} for row in known["liked"]],
            recommended=[{**row, "picture": pictures.one(row)} for row in known["recommended"]],
        )
    )


class _Pictures:
    """Load small pictures of items, of videos at their `seconds`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._load = loader(limits, _SIDE)

    def of(self, item: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        if item["kind"] == "video":
            video = {"role": "video", "uri": item["uri"], "duration_s": None}
            found: Sequence[dict[str, Any]] = film_strip([video], item["seconds"], self._limits, _SIDE)["pictures"]
            return found
        tile = Tile("", item["uri"], item["kind"], "")
        shown: Sequence[dict[str, Any]] = card(tile, self._load(tile))["pictures"]
        return shown

    def one(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return next(iter(self.of(item)), {"source": "", "clock": ""})
