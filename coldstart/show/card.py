"""One tile as a piece of HTML, for notebooks."""

from __future__ import annotations

from jinja2 import Environment, StrictUndefined

from coldstart.media.limits import Limits
from coldstart.show.page import card
from coldstart.show.tiles import Tile, loader

_SIDE = 160
_CARD = """<div style="width:{{ side }}px">
{%- for picture in card.pictures %}<img src="{{ picture.source }}" style="width:{{ 100 // card.pictures | length }}%"
 alt="{{ card.title }}">{% else %}<div style="padding:1em;background:#8884">{{ card.reason }}</div>{% endfor %}
<div><b>{{ card.title }}</b></div>{% for line in card.lines %}<div><small>{{ line }}</small></div>{% endfor %}</div>"""


def tile_html(tile: Tile) -> str:
    """The tile as self-contained HTML, every text escaped."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_CARD)
    return template.render(card=card(tile, loader(Limits(), _SIDE)(tile)), side=_SIDE)
