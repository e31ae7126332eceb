"""Items and search results for display in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from coldstart.media.limits import Limits
from coldstart.search.search import Hit

if TYPE_CHECKING:
    import pandas as pd

    from coldstart.pages import Tile


NO_MEDIA = Limits(roots=())


class ItemView:
    """One item, its columns as attributes; in a notebook it shows as a card with its picture.

    Attributes:
        fields: all columns of its row of the `items` table.

    Args:
        limits: where its media may be read from; None: from nowhere.
    """

    def __init__(self, fields: Mapping[str, Any], limits: Limits | None = None) -> None:
        self.fields = dict(fields)
        self._limits = limits or NO_MEDIA

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})  # a copy is asked for its methods before it has any
        if name not in fields:
            raise AttributeError(f"an item has no field {name!r}: it has {', '.join(fields)}")
        return fields[name]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.item_id!r}: {self.title}>"

    @property
    def uri(self) -> str | None:
        """First picture or video of the item."""
        return next((entry["uri"] for entry in self.media or [] if entry["role"] in ("image", "video")), None)

    def tile(self, caption: str = "") -> Tile:
        """Create a tile of the item for a contact sheet or page; a video as a strip of its frames."""
        from coldstart.pages import Tile

        return Tile(
            self.title or self.item_id, self.uri, self.kind, caption or self.category or "", limits=self._limits
        )

    def _repr_html_(self) -> str:
        from coldstart.pages import tile_html

        facts = {
            "item": self.item_id,
            "category": self.category,
            "price": self.price,
            "tags": ", ".join(self.tags or []),
            "description": self.description,
        }
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(str(value))}</td></tr>"
            for name, value in facts.items()
            if value not in (None, "")
        )
        return f"<div style='display:flex;gap:1em'>{tile_html(self.tile())}<table>{rows}</table></div>"


class Hits(list[Hit]):
    """List of search results, best first; in a notebook they show as a row of pictures.

    Attributes:
        notes: remarks on the answer, such as why nothing was found, a line each.

    Args:
        limits: where media may be read from; None: from nowhere.
    """

    def __init__(self, hits: Iterable[Hit] = (), limits: Limits | None = None, notes: Iterable[str] = ()) -> None:
        super().__init__(hits)
        self.notes = tuple(notes)
        self._limits = limits or NO_MEDIA

    def to_pandas(self) -> pd.DataFrame:
        """Convert to a data frame: one row a hit, the rank in each space as a column of its own."""
        import pandas as pd

        rows = [{**asdict(hit), **{f"rank_{name}": rank for name, rank in hit.ranks.items()}} for hit in self]
        return pd.DataFrame(rows).drop(columns=["ranks", "distances"], errors="ignore")

    def _repr_html_(self) -> str:
        from coldstart.pages import Tile, tile_html

        tiles = [
            tile_html(Tile(hit.title or hit.item_id, hit.uri, hit.kind or "", f"{hit.score:.2f}", limits=self._limits))
            for hit in self
        ]
        return f"<div style='display:flex;flex-wrap:wrap;gap:1em'>{''.join(tiles)}</div>"
