"""Queries and what they found, as a picture (`contact_sheet`) or a page (`neighbours_html`) to look at.

`tile_html` is a single item for a notebook. All take plain data and know nothing of workspaces or searches. Media are
decoded in this process, so give media that ingest accepted. A medium that cannot be shown leaves a grey tile with the
reason.
"""

from coldstart.show.card import tile_html
from coldstart.show.page import neighbours_html
from coldstart.show.sheet import contact_sheet
from coldstart.show.tiles import SheetRow, Tile

__all__ = ["SheetRow", "Tile", "contact_sheet", "neighbours_html", "tile_html"]
