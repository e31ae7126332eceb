"""Rows of what is fitted on content: alignment and descriptions, by their own evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.evaluate.capability import Context
from coldstart.evaluate.rows import Baseline, Row, exactly, interval_of, judged, not_fitted

DESCRIBED = 30
"""Items that are described at most: the fewest of which one writer is called better."""
_WRITING_S = 2.5  # of processor time an item and writer, SmolLM2 of 135M on two cores


# -- alignment


def align_rows(context: Context) -> list[Row]:
    """Measure text-image retrieval of the last fit as `evaluate align` does."""
    from coldstart.align.evaluate import evaluate_store
    from coldstart.align.settings import KIND

    command = context.command("evaluate align")
    question = "A picture finds its own title among items that no fit has seen, and a title its picture"
    stages = context.pipeline.of_kind(KIND)
    if not stages:
        why = "the pipeline fits no alignment; pipeline `aligned` does"
        return [Row("align", question, why=why, command=context.command("run aligned"))]
    if all(context.store.artifacts.newest(spec.name) is None for spec in stages):
        return [not_fitted("align", question, context.command("finetune align"))]
    report = evaluate_store(context.store, context.pipeline, context.progress)
    found = context.details["align"] = report.to_dict()
    rows = _unseen_rows(found["unseen"], found["note"], command) if found["unseen"] else []
    for side, what, other in (("image_to_text", "picture", found["view"]), ("text_to_image", found["view"], "picture")):
        other, what = other.replace("_", " "), what.replace("_", " ")
        after = found["after"][side]
        value = after["metrics"]["recall_at_1"]
        if found["before"]:
            baseline = Baseline("before the fit", interval_of(found["before"][side]["metrics"]["recall_at_1"]))
            difference = interval_of(found["difference"][side]["recall_at_1"])
        else:
            baseline, difference = Baseline("by chance", exactly(value["chance"])), None
        rows.append(
            judged(
                Row(
                    "align",
                    f"A {what} finds its own {other} among the {after['gallery']:,} held out",
                    f"A {what} finds its own {other} first in",
                    "recall@1",
                    after["queries"],
                    f"{what}s",
                    len(np.unique(getattr(report.after, side).groups)),
                    interval_of(value),
                    baseline,
                    difference,
                    method=found["note"],
                    command=command,
                )
            )
        )
    shot = report.after.zero_shot
    return rows + ([] if shot is None else _zero_shot_rows(found, len(np.unique(shot.groups)), command))


_UNSEEN = {
    "unseen": ("A picture of something new finds its {view} first among the {size:,} of all items", "recall@1", "in"),
    "seen": ("A picture of something known finds its {view} first among the same {size:,}", "recall@1", "in"),
    "harmonic": ("New and known things are found alike, by the harmonic mean of the two", "harmonic mean", "by"),
}
"""Part of `evaluate_unseen` -> question, measure and the word before its value."""


def _unseen_rows(unseen: Mapping[str, Any], note: str, command: str) -> list[Row]:
    """Read rows of pictures as queries for texts among all items, and for other pictures of the same thing."""
    way, size = unseen["directions"]["image_to_text"], unseen["gallery"]["texts"]
    view = unseen["view"].replace("_", " ")
    trained = "; what is known are items that the fit was trained on, since there are no others"
    method = f"{note}{trained}" if unseen["seen_trained_on"] else note
    rows = []
    for part, (question, measure, word) in _UNSEEN.items():
        own, question = way[part], question.format(view=view, size=size)
        if "recall_at_1" not in own["after"]:
            continue
        before = own["before"] and own["before"]["recall_at_1"]
        chance = Baseline("by chance", exactly(1 / size))
        rows.append(
            Row(
                "align",
                question,
                f"{question.partition(' among')[0].partition(', by')[0]} {word}",
                measure,
                own["n"],
                "pictures",
                own["groups"],
                interval_of(own["after"]["recall_at_1"]),
                Baseline("before the fit", interval_of(before)) if before else chance,
                interval_of(own["difference"]["recall_at_1"]) if before else None,
                is_share=part != "harmonic",
                method=method,
                command=command,
                headline=part == "harmonic",
            )
        )
    pictures = (unseen["images"] or {}).get("unseen")
    if pictures:
        rows.append(
            Row(
                "align",
                "A picture of something new finds another picture of it",
                "In the fitted space a picture of something new finds another of it first in",
                "recall@1",
                pictures["n"],
                "pictures",
                pictures["groups"],
                interval_of(pictures["after"]["recall_at_1"]),
                Baseline("by the vectors below the fit", interval_of(pictures["before"]["recall_at_1"])),
                interval_of(pictures["difference"]["recall_at_1"]),
                method=f"among all {unseen['gallery']['pictures']:,} pictures, copies of its own left out; {note}",
                command=command,
            )
        )
    return [judged(row) for row in rows]


def _zero_shot_rows(found: Mapping[str, Any], groups: int, command: str) -> list[Row]:
    classes = found["after"]["zero_shot"]
    return [
        judged(
            Row(
                "align",
                f"A picture is classified by the names of {classes['classes']} categories, without training on them",
                "The fitted space names the category of a picture in",
                "accuracy",
                classes["items"],
                "pictures",
                groups,
                interval_of(classes["accuracy"]),
                Baseline(f"always {classes['majority']['name']!r}", interval_of(classes["majority"])),
                method=found["note"],
                command=command,
            )
        )
    ]


def align_seconds(context: Context) -> float:
    """Estimate an evaluation of alignment: reading vectors, near-duplicates, and bootstraps."""
    from coldstart.align.settings import KIND

    if not context.pipeline.of_kind(KIND):
        return 0.0
    return 5.0 + context.store.count("items") / 500


# -- descriptions


def describe_rows(context: Context) -> list[Row]:
    """Measure descriptions of held-out items as `evaluate describe --limit` does."""
    from coldstart.describe.evaluate.held_out import ADAPTER, find_held_out
    from coldstart.describe.evaluate.workspace import evaluate_store
    from coldstart.describe.finetune.settings import FINETUNE

    question = "A description states attributes that the item's record has and the writer was not given"
    limit = DESCRIBED if context.limit is None else context.limit
    command = context.command(f"evaluate describe --limit {limit}")
    try:
        find_held_out(context.store, context.pipeline)
    except ColdstartError as none:
        fit = context.command("finetune describe")
        if context.pipeline.of_kind(FINETUNE):
            return [not_fitted("describe", question, fit)]
        return [Row("describe", question, why=str(none), command=fit)]
    if context.quick:
        why = "writing takes seconds an item, and --quick leaves it out"
        return [Row("describe", question, verdict="left_out", why=why, command=command)]
    found = evaluate_store(context.store, context.pipeline, context.progress, limit=limit).to_dict()
    context.details["describe"] = found
    measures, items = found["measures"], found["counts"]["items"]
    writer = ADAPTER if ADAPTER in measures else next(iter(measures))
    sample = f"a sample of at most {limit:,} of the items that the fit held out; {items:,} items"
    method = "; ".join(filter(None, (found["note"], sample, found["caveat"])))
    own = measures[writer]
    change = found["differences"][-1] if found["differences"] else None
    rows = []
    accuracy = own["checked"]["attributes"]["all"]["f1"]
    if accuracy is not None:
        before = None if change is None else measures[change["before"]]["checked"]["attributes"]["all"]["f1"]
        paired = change and change["measures"]["checked"]["attributes"]["all"]["f1"]
        rows.append(
            Row(
                "describe",
                question,
                "Hidden attributes are stated, and right, after the checks with",
                "F1",
                items,
                "items",
                found["counts"]["groups"],
                interval_of(accuracy),
                None if before is None else Baseline("the writer before it was tuned", interval_of(before)),
                interval_of(paired) if paired else None,
                is_share=False,
                method=method,
                command=command,
            )
        )
    written, checked = own["written"]["made_up"], own["checked"]["made_up"]
    if written is not None and checked is not None:
        rows.append(
            Row(
                "describe",
                "Claims that nothing supports are removed by the checks",
                "Claims that nothing known of the item supports are, after the checks,",
                "made-up claims",
                items,
                "items",
                found["counts"]["groups"],
                interval_of(checked),
                Baseline("as written", interval_of(written)),
                fewer_is_better=True,
                method=method,
                command=command,
            )
        )
    if not rows:
        why = "no description stated anything that the record could tell right from wrong"
        return [Row("describe", question, why=why, method=method, command=command)]
    return [judged(row) for row in rows]


def describe_seconds(context: Context) -> float:
    """Estimate an evaluation of descriptions: two writers, and loading them."""
    from coldstart.describe.evaluate.held_out import find_held_out

    if context.quick:
        return 0.0
    try:
        split = find_held_out(context.store, context.pipeline).split
    except ColdstartError:
        return 0.0
    held = sum(part == "test" for part, _ in split.values())
    return 10.0 + 2 * _WRITING_S * min(held, DESCRIBED if context.limit is None else context.limit)
