"""One item as an HTML card: its frames, a timeline drawn to scale, and all that is known of it, every text escaped.

The page is drawn from the same plain record that programs read (`coldstart.dossier.Dossier.to_dict`), has no scripts
and fetches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.show.film import film
from coldstart.show.lanes import clock, draw, span
from coldstart.show.templates import environment

LINKS = 12
"""Copies that are shown with pictures; further ones by name alone."""

_SIDE = 240
_SHARES = ("brightness",)  # measures from 0 to 1 besides those called `…_share`


def item_page(known: Mapping[str, Any], path: Path, *, limits: Limits | None = None) -> None:
    """Write the card of an item as one file; its folder is made where missing.

    Args:
        known: as `Dossier.to_dict` gives it.
        limits: as for ingest; the default lets no web media in.

    Raises:
        OSError: the file cannot be written.
    """
    page = item_html(known, limits=limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def item_html(known: Mapping[str, Any], *, limits: Limits | None = None) -> str:
    """The card of an item as an HTML document; arguments as for `item_page`."""
    templates = environment()
    templates.filters |= {"clock": clock, "span": span, "share": _share}
    limits = limits or Limits()
    item = known["item"]
    return templates.get_template("item.html").render(
        known=known,
        title=item.get("title") or known["item_id"],
        kind=item.get("kind"),
        description=item.get("description"),
        facts=facts_of(known),
        film=film(item.get("media") or (), known["frame_times_s"], limits, _SIDE),
        lanes=draw(known["timeline"], known["dropped"], known["duration_s"]),
        measures=_measures(known["quality"]),
        original=_links([known["duplicate_of"]] if known["duplicate_of"] else [], known, limits),
        copies=_links(known["copies"][:LINKS], known, limits),
        further=[link["item_id"] for link in known["copies"][LINKS:]],
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def facts_of(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the manifest, the media and the coverage say, as names and texts; what is absent is left out."""
    item = known["item"]
    language, certain = known["language"], known["language_confidence"]
    facts = [(name.replace("_", " "), item.get(name)) for name in ("category", "price", "creator", "created_at")]
    facts.append(("tags", ", ".join(item.get("tags") or ())))
    facts.append(("language", f"{language} ({_share(certain)})" if language and certain is not None else language))
    facts += [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in (item.get("attributes") or {}).items()
    ]
    facts.append(("looked at", ", ".join(_amount(name, value) for name, value in known["coverage"].items())))
    facts += [(entry["role"], _medium(entry)) for entry in item.get("media") or ()]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _amount(name: str, value: float) -> str:
    """`watched_s` 12.5 as `12.5 s watched`, `frames_read` 9 as `frames read 9`."""
    stem = name.removesuffix("_s")
    return f"{stem.replace('_', ' ')} {value:g}" if stem == name else f"{value:.1f} s {stem}"


def _medium(entry: Mapping[str, Any]) -> str:
    parts = [
        f"{entry['width']} × {entry['height']}" if entry.get("width") else None,
        clock(entry["duration_s"]) if entry.get("duration_s") else None,
        f"{entry['fps']:.4g} fps" if entry.get("fps") else None,
        "sound" if entry.get("has_audio") else None,
        str(entry["uri"]),
    ]
    return ", ".join(part for part in parts if part)


def _measures(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, value as text, and for a share its percentage."""
    measures = []
    for name, value in quality.items():
        shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        is_share = isinstance(value, float) and 0 <= value <= 1 and (name.endswith("_share") or name in _SHARES)
        measures.append(
            {
                "name": name.replace("_", " "),
                "value": f"{shown:.4g}" if isinstance(shown, float) else str(shown),
                "percent": round(100 * value, 2) if is_share else None,
            }
        )
    return measures


def _links(links: Sequence[Mapping[str, Any]], known: Mapping[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Each link with pictures of both sides, of videos at moments that match."""
    own = next((entry for entry in known["item"].get("media") or () if entry["role"] in ("image", "video")), None)
    shown = []
    for link in links:
        moments = _moments(link["matches"])
        here = film([own] if own else [], [here_s for here_s, _ in moments], limits, _SIDE)
        there = film([link["medium"]] if link["medium"] else [], [there_s for _, there_s in moments], limits, _SIDE)
        name = link["title"] or link["item_id"]
        shown.append({**link, "sides": [{**here, "name": "this item"}, {**there, "name": name}]})
    return shown


def _moments(matches: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    """Up to three pairs of matching seconds, here and there: along a single match, else the middles of the first."""
    places = (1 / 6, 1 / 2, 5 / 6) if len(matches) == 1 else (1 / 2,)
    return [
        (
            match["start_s"] + place * (match["end_s"] - match["start_s"]),
            match["other_start_s"] + place * (match["other_end_s"] - match["other_start_s"]),
        )
        for match in matches[:3]
        for place in places
    ]
