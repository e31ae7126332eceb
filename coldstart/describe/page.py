"""Writers of descriptions judged, as one HTML page: how true, how found, and examples to judge by eye.

The page is drawn from the plain record that programs read
(`coldstart.describe.evaluate.report.DescribeReport.to_dict`), has no scripts, fetches nothing, and every text is
escaped: what a model wrote is as little trusted as what a seller wrote. Media are decoded in this process, so give
media that ingest accepted; what cannot be shown says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.pages.charts import dots, interval, number, percent, signed
from coldstart.pages.page import Thumbnails, Tile, card, environment, loader

STAGES = {"written": "as written", "checked": "after the checks"}
ATTRIBUTES = {"precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy where both say"}
MEASURES = {
    "made_up": ("made up", "claims that neither what was shown nor the hidden record bears out"),
    "contradicted": ("contradicted", "claims that the hidden record states otherwise, of those it speaks of"),
    "length": ("words of a summary", "mean"),
    "copied": ("copied", "words in runs of five or more that a shown text has"),
    "distinct_1": ("distinct-1", "different words over all words"),
    "distinct_2": ("distinct-2", "different pairs of words over all pairs"),
}
FEWER = frozenset({"made_up", "contradicted", "copied"})
"""Measures of which less is better."""
UNDECIDED = frozenset({"length"})
QUESTIONS = {"text_to_item": "Text → item", "item_to_item": "Item → item"}
STATUS = {
    "written": "kept whole",
    "cut": "kept in part",
    "fallback": "replaced by a text of the item's own",
    "rejected": "rejected",
}
GIVEN, PLUS = "given", "given + "
SERIES = {"before": "alone", "after": "with what is given"}

_SIDE = 260


def descriptions_page(known: Mapping[str, Any], path: Path, *, limits: Limits | None = None) -> None:
    """Write the report as one file; its folder is made where missing.

    Args:
        known: as `DescribeReport.to_dict` gives it.
        limits: as for ingest; the default lets no web media in.

    Raises:
        OSError: the file cannot be written.
    """
    page = descriptions_html(known, limits=limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def descriptions_html(known: Mapping[str, Any], *, limits: Limits | None = None) -> str:
    """The report as an HTML document; arguments as for `descriptions_page`."""
    templates = environment()
    templates.filters |= {"interval": interval, "number": number, "percent": percent, "signed": signed}
    names = list(known["writers"])
    last = known["differences"][-1] if known["differences"] else None
    return templates.get_template("descriptions.html").render(
        known=known,
        stages=STAGES,
        columns=[(name, stage) for name in names for stage in STAGES],
        change=last,
        tables=[("All attributes", _attribute_rows(known, "all", last)), ("The text", _text_rows(known, last))],
        attributes=[
            {"name": name, "rows": _attribute_rows(known, name, last)}
            for name in next(iter(known["measures"].values()))["checked"]["attributes"]
            if name != "all"
        ],
        chart=_attribute_chart(known, names),
        gains=[_gain(known, question) for question in QUESTIONS if known["gain"][question]],
        ends=_ends(known),
        examples=_examples(known, limits or Limits()),
    )


def _attribute_rows(known: Mapping[str, Any], name: str, last: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row a measure: a cell a writer and stage, and the difference of the last two writers after the checks."""
    return [
        _row(
            title,
            "",
            [of[stage]["attributes"][name][measure] for of in known["measures"].values() for stage in STAGES],
            last and last["measures"]["checked"]["attributes"][name][measure],
        )
        for measure, title in ATTRIBUTES.items()
    ]


def _text_rows(known: Mapping[str, Any], last: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    valid = [of["valid"] if stage == "written" else None for of in known["measures"].values() for stage in STAGES]
    rows = [_row("JSON as asked for", "texts that parse and have the fields", valid, None)]
    for measure, (title, about) in MEASURES.items():
        cells = [of[stage][measure] for of in known["measures"].values() for stage in STAGES]
        change = last and last["measures"]["checked"].get(measure)
        verdict_of = None if measure in UNDECIDED else measure in FEWER
        rows.append(_row(title, about, cells, change, less_is_better=verdict_of))
    return rows


def _row(
    title: str, about: str, cells: list[Any], change: Mapping[str, Any] | None, *, less_is_better: bool | None = False
) -> dict[str, Any]:
    verdict = "" if less_is_better is None else verdict_of(change, less_is_better=less_is_better)
    return {"name": title, "about": about, "cells": cells, "change": change, "verdict": verdict}


def verdict_of(change: Mapping[str, Any] | None, *, less_is_better: bool = False) -> str:
    """`better` or `worse` where the interval of a difference leaves zero out, else nothing."""
    if change is None or change["low"] <= 0 <= change["high"]:
        return ""
    return "better" if (change["value"] < 0) == less_is_better else "worse"


def _attribute_chart(known: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """F1 of every attribute after the checks: the last writer, and the one before it."""
    series = dict(zip(("after", "before"), reversed(names[-2:]), strict=False))
    every = next(iter(known["measures"].values()))["checked"]["attributes"]
    rows = [
        (
            "all together" if name == "all" else name,
            {
                key: found
                for key, writer in series.items()
                if (found := known["measures"][writer]["checked"]["attributes"][name]["f1"])
            },
        )
        for name in every
    ]
    chart = dots([("F1 after the checks", [row for row in rows if row[1]])])
    return {**_with_series(chart, series), "series": {"before": "", **series}}


def _with_series(chart: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same chart, its marks told by what their series stand for."""
    marks = []
    for mark in chart["marks"]:
        row, _, figures = mark["text"].rpartition(f" {mark['series']}: ")
        marks.append({**mark, "text": f"{row}, {names[mark['series']]}: {figures}"})
    return {**chart, "marks": marks}


def _gain(known: Mapping[str, Any], question: str) -> dict[str, Any]:
    """The contenders of one question: each alone and with what is given, and how they differ."""
    found = known["gain"][question]
    contenders = found["contenders"]
    names = [name for name in contenders if not name.startswith(PLUS)]
    rows = [
        {
            "name": name,
            "alone": contenders[name],
            "both": None if name == GIVEN else contenders.get(PLUS + name),
        }
        for name in names
    ]
    chart = dots(
        [
            (
                f"R@{k}",
                [
                    (
                        row["name"],
                        {
                            key: cell[f"recall_at_{k}"]
                            for key, cell in (
                                ("before", None if row["name"] == GIVEN else row["alone"]),
                                ("after", row["alone"] if row["name"] == GIVEN else row["both"]),
                            )
                            if cell
                        },
                    )
                    for row in rows
                ],
            )
            for k in (1, 10)
        ]
    )
    differences = [
        {**one, "verdicts": {k: verdict_of(one[f"recall_at_{k}"]) for k in (1, 10)}} for one in found["differences"]
    ]
    return {
        "name": QUESTIONS[question],
        "key": question,
        "found": found,
        "rows": rows,
        "chart": _with_series(chart, SERIES),
        "differences": differences,
    }


def _ends(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of the texts of each writer: shares of items."""
    return [
        {
            "name": name,
            "status": [(title, of["status"][key]) for key, title in STATUS.items()],
            "reasons": [
                (kind, reason.replace("_", " "), share)
                for kind in ("cut", "rejected")
                for reason, share in sorted(of[kind].items(), key=lambda one: -one[1]["value"])
            ],
        }
        for name, of in known["measures"].items()
    ]


def _examples(known: Mapping[str, Any], limits: Limits) -> list[dict[str, Any]]:
    load = loader(limits, _SIDE)
    found = []
    for example in known["examples"]:
        item = known["items"].get(example["item_id"], {})
        tile = Tile(item.get("title") or example["item_id"], item.get("uri"), item.get("kind") or "", "")
        thumbnails = load(tile)
        middle = thumbnails.pictures[len(thumbnails.pictures) // 2 :][:1]
        drawn = card(tile, Thumbnails(middle, thumbnails.reason))
        found.append(
            {
                **example,
                "picture": drawn["pictures"][0]["source"] if drawn["pictures"] else None,
                "reason": drawn["reason"],
                "writers": [{"name": name, **_writer(own)} for name, own in example["writers"].items()],
            }
        )
    return found


def _writer(own: Mapping[str, Any]) -> dict[str, Any]:
    """What one writer wrote of one item: claims that were kept with their grounds, and those that were cut."""
    truths = {(one["name"], one["value"]): one for stage in STAGES for one in own[stage]["claims"]}
    grounds = {(one["claim"], one["value"]): one for one in own["grounds"]}
    kept = own["checked"]["attributes"]
    return {
        **own,
        "title": STATUS[own["status"]],
        "kept": [
            {
                "name": name,
                "value": value,
                "truth": truths.get((name, value), {}).get("truth", "open"),
                "ground": grounds.get((name, value), {}).get("ground") or "",
                "detail": grounds.get((name, value), {}).get("detail") or "",
            }
            for name, value in kept.items()
        ],
        "gone": [
            {**cut, "reason": cut["reason"].replace("_", " "),
             "truth": truths.get((cut["claim"], cut["value"]), {}).get("truth", "open")}
            for cut in own["cut"]
        ],
    }  # fmt: skip
