"""Render the evaluation of writers as one HTML page: truth, retrieval gain and examples.

The page is drawn from `coldstart.describe.evaluate.report.DescribeReport.to_dict`, has no scripts, fetches nothing, and
escapes every text: neither models nor sellers are trusted. Media are decoded in this process, so pass media that ingest
accepted; media that cannot be shown have a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.pages.charts import dots, interval, number, percent, signed
from coldstart.pages.page import Thumbnails, Tile, card, environment, loader

STAGES = {"written": "as written", "checked": "after the checks"}
ATTRIBUTES = {
    "stated": "stated, of those recorded",
    "accuracy": "right, of those stated and recorded",
    "recall": "stated and right, of those recorded",
    "precision": "right, of all stated",
    "f1": "F1",
}
MEASURES = {
    "made_up": ("made up", "claims that neither the shown fields nor the hidden record support"),
    "wrong": ("wrong", "claims that the hidden record states otherwise, of all claims"),
    "summary": ("with a summary", "items that have one"),
    "sentences": ("sentences of a summary", "mean"),
    "reads": ("reads as sentences", "summaries of sentences with a capital, a full stop and four words or more"),
    "contradicted": ("contradicted", "claims that the hidden record states otherwise, of those it states"),
    "length": ("words of a summary", "mean"),
    "copied": ("copied", "words in runs of five or more that a shown text has"),
    "distinct_1": ("distinct-1", "different words over all words"),
    "distinct_2": ("distinct-2", "different pairs of words over all pairs"),
}
FEWER = frozenset({"made_up", "contradicted", "wrong", "copied"})
"""Measures where less is better."""
UNDECIDED = frozenset({"length", "sentences"})
QUESTIONS = {"text_to_item": "Text → item", "item_to_item": "Item → item"}
STATUS = {
    "written": "kept as written",
    "cut": "some claims removed",
    "fallback": "replaced by a text of the item",
    "rejected": "rejected",
}
GIVEN, PLUS = "given", "given + "
SERIES = {"before": "alone", "after": "with the given fields"}

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
    """Render the report as an HTML document; arguments as for `descriptions_page`."""
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
    """Build a row a measure: a cell a writer and stage, and the difference of the last two writers after the checks."""
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
    rows = [_row("valid JSON", "texts that parse and have the fields", valid, None)]
    for measure, (title, about) in MEASURES.items():
        cells = [of[stage][measure] for of in known["measures"].values() for stage in STAGES]
        change = last and last["measures"]["checked"].get(measure)
        less_is_better = None if measure in UNDECIDED else measure in FEWER
        rows.append(_row(title, about, cells, change, less_is_better=less_is_better))
    return rows


def _row(
    title: str, about: str, cells: list[Any], change: Mapping[str, Any] | None, *, less_is_better: bool | None = False
) -> dict[str, Any]:
    verdict = "" if less_is_better is None else verdict_of(change, less_is_better=less_is_better)
    return {"name": title, "about": about, "cells": cells, "change": change, "verdict": verdict}


def verdict_of(change: Mapping[str, Any] | None, *, less_is_better: bool = False) -> str:
    """Return `better` or `worse` where the interval of a difference excludes zero, else an empty text."""
    if change is None or change["low"] <= 0 <= change["high"]:
        return ""
    return "better" if (change["value"] < 0) == less_is_better else "worse"


def _attribute_chart(known: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Chart F1 of every attribute after the checks, of the last two writers."""
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
    """Label the marks of a chart by the names of their series."""
    marks = []
    for mark in chart["marks"]:
        row, _, figures = mark["text"].rpartition(f" {mark['series']}: ")
        marks.append({**mark, "text": f"{row}, {names[mark['series']]}: {figures}"})
    return {**chart, "marks": marks}


def _gain(known: Mapping[str, Any], question: str) -> dict[str, Any]:
    """Build the contenders of one question, each alone and with the given fields, and their differences."""
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
    """Build the shares of items by the outcome of the checks, for each writer."""
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
    """Build one writer's text of one item: claims that stayed with their grounds, and those that were cut."""
    truths = {(one["name"], one["value"]): one for stage in STAGES for one in own[stage]["claims"]}
    grounds = {(one["claim"], one["value"]): one for one in own["grounds"]}
    kept = own["checked"]["attributes"]
    return {
        **own,
        "title": STATUS[own["status"]],
        "statements": [one for one in own["grounds"] if one["claim"] == "summary"],
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
