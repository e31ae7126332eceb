"""HTML page of an evaluation of alignment: measures before and after, and examples right and wrong.

The page is drawn from the plain record that programs read (`coldstart.align.evaluate.AlignReport.to_dict`), has no
scripts, fetches nothing, and every text is escaped. Media are decoded in this process, so give media that ingest
accepted; what cannot be shown has a reason in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.charts import bars, dots, interval, number, percent, signed
from coldstart.pages.page import Thumbnails, Tile, card, environment, loader

DIRECTIONS = {"image_to_text": "Picture → text", "text_to_image": "Text → picture"}
MEASURES = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "mrr": "MRR",
    "median_rank": "median rank",
}
SHAPES = {
    "modality_gap": (
        "modality gap",
        "distance of the two sides' centres, 0 to 2: less mixes pictures and texts better",
    ),
    "effective_rank_image": ("effective rank, pictures", "directions that the vectors use: few is a collapsed space"),
    "effective_rank_text": ("effective rank, texts", "the same of texts"),
    "alignment": ("alignment", "mean squared distance of the two of a pair: less is closer"),
    "uniformity_image": ("uniformity, pictures", "less is more evenly spread"),
    "uniformity_text": ("uniformity, texts", "less is more evenly spread"),
    "dim": ("dimensions", "numbers in a vector"),
}
KINDS = {"worst": "Worst", "random": "At random", "best": "Best"}

UNSEEN_PARTS = {
    "seen": "seen",
    "unseen": "unseen, among all",
    "alone": "unseen, among themselves",
    "harmonic": "harmonic mean with seen",
    "drawn": "unseen, first result is seen",
}

MATRIX = 12
"""Most classes for which confusions are shown as a matrix."""

_SIDE = 200
_CLASSES = 60


def alignment_page(known: Mapping[str, Any], path: Path, *, limits: Limits | None = None) -> None:
    """Write the report as one HTML file; its folder is created where missing.

    Args:
        known: as `AlignReport.to_dict` gives it.
        limits: as for ingest; the default lets no web media in.

    Raises:
        OSError: the file cannot be written.
    """
    page = alignment_html(known, limits=limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def alignment_html(known: Mapping[str, Any], *, limits: Limits | None = None) -> str:
    """Render the report as an HTML document; arguments as for `alignment_page`."""
    templates = environment()
    templates.filters |= {
        "interval": interval,
        "number": number,
        "percent": percent,
        "signed": signed,
    }
    before, after = known["before"], known["after"]
    return templates.get_template("alignment.html").render(
        known=known,
        directions=DIRECTIONS,
        tables=[
            {
                "name": name,
                "rows": _rows(known, side),
                "size": after[side]["gallery"],
                "queries": after[side]["queries"],
            }
            for side, name in DIRECTIONS.items()
        ],
        chart=dots(
            [
                (
                    name,
                    [
                        (MEASURES[measure], {key: report[side]["metrics"][measure] for key, report in _reports(known)})
                        for measure in ("recall_at_1", "recall_at_5", "recall_at_10")
                    ],
                )
                for side, name in DIRECTIONS.items()
            ]
        ),
        ranks=[
            (name, bars(after[side]["ranks"], before and before[side]["ranks"])) for side, name in DIRECTIONS.items()
        ],
        shapes=[
            {"name": SHAPES[name][0], "about": SHAPES[name][1], "after": value,
             "before": before["shape"].get(name) if before else None}
            for name, value in after["shape"].items()
        ],
        zero_shot=_zero_shot(known),
        unseen=unseen_rows(known["unseen"]),
        unseen_note=unseen_note(known["unseen"]),
        views=_views(known),
        sheets=_sheets(known, limits or Limits()),
    )  # fmt: skip


def _reports(known: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, known[key]) for key in ("before", "after") if known[key] is not None]


def _rows(known: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    rows = []
    for measure, name in MEASURES.items():
        after = known["after"][side]["metrics"][measure]
        before = known["before"][side]["metrics"][measure] if known["before"] else None
        change = known["difference"][side][measure] if known["difference"] else None
        rows.append(
            {
                "name": name,
                "after": after,
                "before": before,
                "change": change,
                "verdict": _verdict(change, known["after"][side]["queries"], less_is_better=measure == "median_rank"),
                "chance": after["chance"],
                "is_rank": measure == "median_rank",
            }
        )
    return rows


def _count_queries(known: Mapping[str, Any]) -> int:
    """Return the number of items that were searched for."""
    return int(known["counts"]["asked"])


def _verdict(change: Mapping[str, float] | None, items: int, *, less_is_better: bool = False) -> str:
    """Return `better` or `worse` where the interval of a difference leaves zero out and the items are not too few, else
    nothing."""
    if change is None or items < FEWEST_COMPARED or change["low"] <= 0 <= change["high"]:
        return ""
    return "better" if (change["value"] < 0) == less_is_better else "worse"


def unseen_rows(unseen: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Build a row for each direction and part of seen and unseen groups, and of classes that were held out whole.

    Each has `direction`, `part`, `n`, `groups`; `before`, `after` and `change` of R@1 (of a share where `part` is one),
    `before_10` and `after_10` of R@10; and `verdict`: `better`, `worse`, `too few to judge` or nothing.
    """
    if unseen is None:
        return []
    parts = [
        (name, label, unseen["directions"][side][part])
        for side, name in DIRECTIONS.items()
        for part, label in UNSEEN_PARTS.items()
    ]
    parts += [
        (name, f"new {field.removeprefix('attributes.').replace('_', ' ')}: {label.removeprefix('unseen, ')}", found)
        for field, held in unseen["classes"].items()
        for side, name in DIRECTIONS.items()
        for part, label in UNSEEN_PARTS.items()
        if part != "seen"
        for found in (held["directions"][side][part],)
    ]
    parts += [("Picture → picture", label, found) for label, found in (unseen["images"] or {}).items()]
    return [
        _unseen_row(direction, part, found, int(unseen["fewest"])) for direction, part, found in parts if found["after"]
    ]


def _unseen_row(direction: str, part: str, found: Mapping[str, Any], fewest: int) -> dict[str, Any]:
    measure = "share" if "share" in found["after"] else "recall_at_1"
    sides = {name: found[name] or {} for name in ("before", "after", "difference")}
    change = sides["difference"].get(measure)
    verdict = _verdict(change, found["n"], less_is_better=measure == "share")
    return {
        "direction": direction,
        "part": part,
        "n": found["n"],
        "groups": found["groups"],
        "before": sides["before"].get(measure),
        "after": sides["after"][measure],
        "change": change,
        "before_10": sides["before"].get("recall_at_10"),
        "after_10": sides["after"].get("recall_at_10"),
        "verdict": "too few to judge" if found["n"] < fewest else verdict,
    }


def unseen_note(unseen: Mapping[str, Any] | None) -> str:
    """State how seen and unseen queries were measured; empty without them."""
    if unseen is None:
        return ""
    seen = (
        "the items that the fit was trained on, as there are too few others of their groups"
        if unseen["seen_trained_on"]
        else "items of trained groups that the fit was not trained on"
    )
    held = "; ".join(
        f"new {field.removeprefix('attributes.').replace('_', ' ')}: {', '.join(own['values'][:12])}"
        + (f" and {len(own['values']) - 12} more" if len(own["values"]) > 12 else "")
        for field, own in unseen["classes"].items()
    )
    gallery = unseen["gallery"]
    return (
        f"among all: {gallery['pictures']:,} pictures, {gallery['texts']:,} different texts by {unseen['view']}; seen: "
        f"{seen}" + (f"; {held}" if held else "")
    )


def _zero_shot(known: Mapping[str, Any]) -> dict[str, Any] | None:
    found = known["after"]["zero_shot"]
    if found is None:
        return None
    before = known["before"] and known["before"]["zero_shot"]
    change = known["difference"] and known["difference"]["zero_shot"]
    names = [one["name"] for one in found["per_class"]]
    columns = names + sorted({name for one in found["per_class"] for name in one["found"]} - set(names))
    matrix = [
        {
            "name": one["name"],
            "cells": [
                {"count": one["found"].get(name, 0), "share": one["found"].get(name, 0) / one["items"],
                 "right": name == one["name"]}
                for name in columns
            ],
        }
        for one in found["per_class"]
    ]  # fmt: skip
    return {
        "after": found,
        "before": before,
        "change": change,
        "verdict": _verdict(change, _count_queries(known)),
        "classes": [
            {**one, "mistakes": [(name, count) for name, count in one["found"].items() if name != one["name"]][:3]}
            for one in found["per_class"][:_CLASSES]
        ],
        "more": max(0, len(found["per_class"]) - _CLASSES),
        "columns": columns,
        "matrix": matrix if len(columns) <= MATRIX else None,
    }


def _views(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a row for each view and direction: the recalls."""
    return [
        {
            "view": view.replace("_", " "),
            "direction": name,
            "queries": reports["after"][side]["queries"],
            "cells": [
                {key: reports[key][side]["metrics"][measure] for key in reports}
                for measure in ("recall_at_1", "recall_at_10")
            ],
        }
        for view, reports in known["views"].items()
        for side, name in DIRECTIONS.items()
    ]


def _sheets(known: Mapping[str, Any], limits: Limits) -> list[dict[str, Any]]:
    load = loader(limits, _SIDE)
    tiles: dict[str, dict[str, Any]] = {}

    def tile(item_id: str) -> dict[str, Any]:
        if item_id not in tiles:
            item = known["items"].get(item_id, {})
            words = item.get(known["view"]) or item.get("title") or item_id
            shown = Tile(words, item.get("uri"), item.get("kind") or "", "")
            thumbnails = load(shown)
            middle = thumbnails.pictures[len(thumbnails.pictures) // 2 :][:1]
            drawn = card(shown, Thumbnails(middle, thumbnails.reason))
            picture = drawn["pictures"][0]["source"] if drawn["pictures"] else None
            tiles[item_id] = {"id": item_id, "words": words, "picture": picture, "reason": drawn["reason"]}
        return tiles[item_id]

    def sheet(one: Mapping[str, Any]) -> dict[str, Any]:
        hits = [{**hit, **tile(hit["item_id"])} for hit in one["hits"]]
        is_listed = any(hit["right"] for hit in hits)
        answer = None if is_listed else {**one["answer"], **tile(one["answer"]["item_id"])}
        return {"query": tile(one["item_id"]), "rank": one["rank"], "hits": hits, "answer": answer}

    return [
        {
            "side": side,
            "name": name,
            "kinds": [
                (title, [sheet(one) for one in known["sheets"][side][kind]])
                for kind, title in KINDS.items()
                if known["sheets"][side][kind]
            ],
        }
        for side, name in DIRECTIONS.items()
    ]
