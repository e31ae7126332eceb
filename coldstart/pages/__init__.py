"""Contact sheets and HTML pages of queries and their results.

`tile_html` is a single item for a notebook. All take plain data and know nothing of workspaces or searches. Media are
decoded in this process, so give media that ingest accepted. A medium that cannot be shown leaves a grey tile with the
reason.
"""

from coldstart.pages.page import SheetRow, Tile, neighbours_html, tile_html
from coldstart.pages.sheet import contact_sheet

__all__ = ["SheetRow", "Tile", "contact_sheet", "neighbours_html", "tile_html"]
