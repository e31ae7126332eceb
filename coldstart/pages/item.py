"""HTML page of one item: its frames, a timeline drawn to scale, and the report on it, every text escaped.

The page is drawn from the same plain record that programs read (`coldstart.search.item_report.Dossier.to_dict`), has no
scripts and fetches nothing. Media are decoded in this process, so give media that ingest accepted; a medium that cannot
be shown has a reason in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from coldstart.core.stage import Reject
from coldstart.errors import redact_urls
from coldstart.media import guard
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.video import frames_at
from coldstart.pages.page import Picture, Thumbnails, Tile, card, environment, loader

LINKS = 12
"""Copies that are shown with pictures; further ones by name alone."""

_SIDE = 240
_SHARES = ("brightness",)  # measures from 0 to 1 besides those called `…_share`

FRAMES = 32
"""Frames of a video, or pictures of a product, in one strip."""
_SAMPLED = 8  # frames of a video whose shots are not known

MOST_ROWS = 4
"""Rows of one lane; what overlaps more than that is counted, and stands in the table."""
_PX_PER_S = 24.0  # at which a phrase of a few seconds has room for its first words
_MIN_PX = 560.0
_TICK_PX = 72.0
_OVERVIEW_FROM_S = 60.0  # longer timelines are wider than a screen
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_NAMES = {"shot": "shots", "speech": "speech", "screen": "text on screen", "unread": "text not read"}


def item_page(known: Mapping[str, Any], path: Path, *, limits: Limits | None = None) -> None:
    """Write the page of an item as one file; its folder is created where missing.

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
    """Render the page of an item as an HTML document; arguments as for `item_page`."""
    templates = environment()
    templates.filters |= {"clock": format_time, "span": format_span, "share": _share}
    limits = limits or Limits()
    item = known["item"]
    return templates.get_template("item.html").render(
        known=known,
        title=item.get("title") or known["item_id"],
        kind=item.get("kind"),
        description=item.get("description"),
        facts=facts_of(known),
        film=film_strip(item.get("media") or (), known["frame_times_s"], limits, _SIDE),
        lanes=timeline_lanes(known["timeline"], known["dropped"], known["duration_s"]),
        measures=_measures(known["quality"]),
        original=_links([known["duplicate_of"]] if known["duplicate_of"] else [], known, limits),
        copies=_links(known["copies"][:LINKS], known, limits),
        further=[link["item_id"] for link in known["copies"][LINKS:]],
        linked=link_note(known),
        stages=stage_rows(known["stages"]),
        decisions=[{**one, "what": decision_text(one)} for one in known.get("decisions") or ()],
    )


def decision_text(one: Mapping[str, Any]) -> str:
    """Say in a few words what a person decided, by the fields of a decision."""
    kind, _, name = one["subject"].partition(":")
    if kind == "claim":
        return f"{one['action']} the claim {name}: {one['value']}"
    if kind == "field":
        before, value = (
            text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
            for text in (one["before"], one["value"])
        )
        return f"{one['action']} {name}: {before} -> {value}"
    return f"{one['action']} at {name}" if kind == "stage" else f"{one['action']} the item"


def link_note(known: Mapping[str, Any]) -> str:
    """Say how searches treat a copy; empty for an item that is searched by itself."""
    if not known["duplicate_of"] or not any(stage["state"] == "duplicate" for stage in known["stages"]):
        return ""
    if any(stage["kind"] == "index" and stage["state"] == "duplicate" for stage in known["stages"]):
        return "It is not served: the policy of copies is drop."
    return (
        "A search shows its original in its place, and does not look at its own title and texts; "
        "`coldstart search --copies` does."
    )


def stage_rows(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the states of the stages for a table; a verdict that holds for later stages too is stated once."""
    stated: dict[tuple[str, str], str] = {}
    rows = []
    for stage in stages:
        parts = [stage["detail"]]
        if stage["reason"] and stage["detail"]:
            first = stated.setdefault((stage["reason"], stage["detail"]), stage["stage"])
            parts = [stage["detail"] if first == stage["stage"] else f"as in {first}"]
        if stage["keeps_out"]:
            name, _, why = stage["keeps_out"].partition(": ")
            stated.setdefault((name, why), stage["stage"])
            parts.append(f"turns it away from later stages: {stage['keeps_out']}")
        if stage["has_row"] and stage["state"] != "fresh":
            parts.append("its row of before is shown")
        rows.append({**stage, "detail": "; ".join(part for part in parts if part)})
    return rows


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def facts_of(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List facts from the manifest, the media and the coverage, as names and texts; absent ones are left out."""
    item = known["item"]
    spoken, certain = known["spoken_language"], known["spoken_language_confidence"]
    names = ("category", "price", "creator", "created_at", "language")
    facts = [(name.replace("_", " "), item.get(name)) for name in names]
    facts.append(("tags", ", ".join(item.get("tags") or ())))
    facts.append(("spoken language", f"{spoken} ({_share(certain)})" if spoken and certain is not None else spoken))
    facts += [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in (item.get("attributes") or {}).items()
    ]
    facts.append(("analysed", ", ".join(_amount(name, value) for name, value in known["coverage"].items())))
    facts += [(entry["role"], _medium(entry)) for entry in item.get("media") or ()]
    facts += [
        (f"{entry['role']} left out", redact_urls(f"{entry['uri']} ({entry['reason']}: {entry['detail']})"))
        for entry in item.get("bad_media") or ()
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _amount(name: str, value: float) -> str:
    """Format `watched_s` 12.5 as `12.5 s watched`, `frames_read` 9 as `frames read 9`."""
    stem = name.removesuffix("_s")
    return f"{stem.replace('_', ' ')} {value:g}" if stem == name else f"{value:.1f} s {stem}"


def _medium(entry: Mapping[str, Any]) -> str:
    parts = [
        f"{entry['width']} × {entry['height']}" if entry.get("width") else None,
        format_time(entry["duration_s"]) if entry.get("duration_s") else None,
        f"{entry['fps']:.4g} fps" if entry.get("fps") else None,
        "sound" if entry.get("has_audio") else None,
        redact_urls(str(entry["uri"])),
    ]
    return ", ".join(part for part in parts if part)


def _measures(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List name, value as text, and for a share its percentage."""
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
    """Add to each link pictures of both sides, of videos at moments that match."""
    own = next((entry for entry in known["item"].get("media") or () if entry["role"] in ("image", "video")), None)
    shown = []
    for link in links:
        moments = _moments(link["matches"])
        here = film_strip([own] if own else [], [here_s for here_s, _ in moments], limits, _SIDE)
        there = film_strip(
            [link["medium"]] if link["medium"] else [], [there_s for _, there_s in moments], limits, _SIDE
        )
        name = link["title"] or link["item_id"]
        shown.append({**link, "sides": [{**here, "name": "this item"}, {**there, "name": name}]})
    return shown


def _moments(matches: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    """List up to three pairs of matching seconds: along a single match, else the middles of the first."""
    places = (1 / 6, 1 / 2, 5 / 6) if len(matches) == 1 else (1 / 2,)
    return [
        (
            match["start_s"] + place * (match["end_s"] - match["start_s"]),
            match["other_start_s"] + place * (match["other_end_s"] - match["other_start_s"]),
        )
        for match in matches[:3]
        for place in places
    ]


def film_strip(
    media: Sequence[Mapping[str, Any]], times_s: Sequence[float], limits: Limits, side: int
) -> dict[str, Any]:
    """Load the frames or pictures of the strip.

    Args:
        media: of the item's row, as ingest wrote them.
        times_s: seconds of the first video to show; empty for frames spread over its length.
        side: the longer side of a picture in pixels, at most.

    Returns:
        `pictures`, each with a `source` (a data URI) and its `clock` (empty for a still); `reason` why some or all are
        missing, empty where none is; `is_video`.
    """
    video = next((entry for entry in media if entry["role"] == "video"), None)
    if video is not None:
        return {**_video(video, times_s, limits, side), "is_video": True}
    load = loader(limits, side)
    pictures: list[dict[str, Any]] = []
    reasons: list[str] = []
    for entry in [entry for entry in media if entry["role"] == "image"][:FRAMES]:
        tile = Tile("", entry["uri"], "product", "")
        shown = card(tile, load(tile))
        pictures += shown["pictures"]
        reasons += [shown["reason"]] if shown["reason"] else []
    reason = ", ".join(reasons) or ("" if pictures else "no picture or video")
    return {"pictures": pictures, "reason": reason, "is_video": False}


def _video(entry: Mapping[str, Any], times_s: Sequence[float], limits: Limits, side: int) -> dict[str, Any]:
    if not times_s:
        length_s = entry.get("duration_s") or 0.0
        times_s = [length_s * (index + 0.5) / _SAMPLED for index in range(_SAMPLED if length_s else 1)]
    times_s = times_s[:: -(-len(times_s) // FRAMES)]
    order = sorted(range(len(times_s)), key=lambda index: times_s[index])
    try:
        with guard.local_path(entry["uri"], limits) as path:
            transform = ImageTransform((side, side), "longest")
            found = frames_at(path, limits, transform, [times_s[index] for index in order])
    except Reject as reject:
        return {"pictures": [], "reason": reject.reason.replace("_", " ")}
    except OSError as error:
        return {"pictures": [], "reason": error.strerror or type(error).__name__}
    shown = card(Tile("", None, "video", ""), Thumbnails([Picture(Image.fromarray(pixels)) for pixels in found.images]))
    pictures = [
        {**one, "clock": format_time(time_s)} for one, time_s in zip(shown["pictures"], found.times_s, strict=True)
    ]
    return {"pictures": [pictures[order.index(place)] for place in range(len(order))], "reason": ""}


def format_time(seconds: float | None) -> str:
    """Format seconds as `m:ss.s`, from an hour on `h:mm:ss.s`; empty for None."""
    if seconds is None:
        return ""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def format_span(entry: Mapping[str, Any]) -> str:
    """Format the time of an entry with `start_s` and `end_s`; empty where it has none, as text of a picture."""
    if entry["start_s"] is None:
        return ""
    return f"{format_time(entry['start_s'])}–{format_time(entry['end_s'])}"


def timeline_lanes(
    timeline: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]], duration_s: float | None
) -> dict[str, Any] | None:
    """Lay out a timeline as lanes to scale; None where no entry has a time.

    Args:
        timeline: entries with `start_s`, `end_s`, `source` and `text`; `dropped`: speech that was discarded.
        duration_s: length of the medium; entries that end later make it longer.

    Returns:
        `lanes` (name, rows of blocks, how many more there are), `ticks` and the ticks of an `overview` (None for a
        short timeline); `width_px`, the least at which words have room. Places and widths are percentages.
    """
    timed: list[Mapping[str, Any]] = [entry for entry in timeline if entry["start_s"] is not None]
    unsaid: list[Mapping[str, Any]] = [
        {**entry, "source": "dropped"} for entry in dropped if entry["start_s"] is not None
    ]
    ends = [entry["end_s"] for entry in (*timed, *unsaid) if entry["end_s"] is not None]
    length_s = max([duration_s or 0.0, *ends], default=0.0)
    if not (timed or unsaid) or length_s <= 0:
        return None
    lanes = []
    for source, name in _NAMES.items():
        own = [entry for entry in timed if entry["source"] == source]
        entries = own + unsaid if source == "speech" else own
        if entries:
            rows, more = _pack(entries)
            lanes.append({"name": name, "rows": [[_block(one, length_s) for one in row] for row in rows], "more": more})
    width_px = max(_MIN_PX, _PX_PER_S * length_s)
    is_long = length_s > _OVERVIEW_FROM_S
    return {
        "lanes": lanes,
        "ticks": _ticks(length_s, width_px),
        "overview": _ticks(length_s, _MIN_PX) if is_long else None,
        "width_px": round(width_px),
        "length": format_time(length_s),
    }


def _pack(entries: Sequence[Mapping[str, Any]]) -> tuple[list[list[Mapping[str, Any]]], int]:
    """Pack entries into rows in which none overlaps another, each in the first row with room."""
    rows: list[list[Mapping[str, Any]]] = []
    more = 0
    for entry in sorted(entries, key=lambda one: (one["start_s"], _end(one))):
        row = next((row for row in rows if _end(row[-1]) <= entry["start_s"] + 1e-6), None)
        if row is not None:
            row.append(entry)
        elif len(rows) < MOST_ROWS:
            rows.append([entry])
        else:
            more += 1
    return rows, more


def _block(entry: Mapping[str, Any], length_s: float) -> dict[str, Any]:
    start_s = min(max(entry["start_s"], 0.0), length_s)
    words = f"{entry['text']} ({entry['reason']})" if entry["source"] == "dropped" else entry["text"]
    return {
        "source": entry["source"],
        "text": words,
        "when": format_span(entry),
        "left": round(100 * start_s / length_s, 4),
        "width": round(100 * max(_end(entry) - start_s, 0.0) / length_s, 4),
    }


def _end(entry: Mapping[str, Any]) -> float:
    return float(entry["start_s"] if entry["end_s"] is None else entry["end_s"])


def _ticks(length_s: float, width_px: float) -> list[dict[str, Any]]:
    """List marks at round times, far enough apart for their labels, and none where its label would not fit."""
    least_s = _TICK_PX * length_s / width_px
    step_s = next((step for step in _STEPS_S if step >= least_s), _STEPS_S[-1])
    count = int((length_s - least_s / 2) / step_s) + 1
    return [
        {"left": round(100 * index * step_s / length_s, 4), "label": _short(index * step_s)} for index in range(count)
    ]


def _short(seconds: float) -> str:
    return format_time(seconds).removesuffix(".0")
