"""Rows of what is read from media: near copies, labels by picture, speech and text on screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from coldstart.core import class_file
from coldstart.core.item_fields import read_attributes
from coldstart.embed.class_scores import ClassScorer, LabelFit, text_spaces
from coldstart.embed.zero_shot import ENOUGH, LabelTargets
from coldstart.errors import ColdstartError
from coldstart.evaluate.capability import Context
from coldstart.evaluate.rows import Baseline, Row, exactly, judged
from coldstart.metrics import ranking
from coldstart.metrics.intervals import wilson
from coldstart.metrics.ranking import Interval
from coldstart.store import ITEMS

COPIES = 240
"""Copies that are made of the catalogue's pictures at most: some twenty of each change."""
LABELLED = 500
"""Items with a category whose labels are measured at most, where the pipeline has no stage that labels."""
_COPY_S = 0.06  # of processor time to make and search one copy
_WORDS_S = 0.01  # to encode one text anew


def share_of(right: int, count: int) -> Interval:
    """Compute a share with Wilson's interval, which is wide where none or all are right."""
    return Interval(right / count, *wilson(right, count))


# -- near copies


def copy_rows(context: Context) -> list[Row]:
    """Measure how many made copies of the catalogue's own pictures are linked to their originals."""
    from coldstart.understand.made_copies import CHANGES, measure_made_copies

    question = "A copy of a picture is found, though it was changed and encoded anew"
    command = context.command("run")
    specs = context.pipeline.of_kind("understand.duplicates")
    if not specs:
        why = "the pipeline looks for no copies; a group `understand: {duplicates: {}}` does"
        return [Row("copies", question, why=why, command=command)]
    stage: Any = context.state.stage(specs[-1].name)
    if not stage.picture_originals(context.store):
        why = "no item is compared by pictures" if context.store.has(stage.table) else f"`{command}` looks for copies"
        return [Row("copies", question, why=why, command=command)]
    most = context.sample(COPIES)
    with context.progress.meter("evaluate: made copies", None) as meter:
        made = measure_made_copies(
            context.store, stage, context.limits, most=most, step=lambda: meter.advance(1, 0, 0.0)
        )
    known, right, linked = made.known, made.right[made.known], made.linked
    if not known.any():
        why = f"none of the pictures could be read: {made.unreadable} unreadable"
        return [Row("copies", question, why=why, command=command)]
    by_change = ", ".join(f"{change} {_found(made, change)}" for change in CHANGES if change in made.changes)
    unreadable = f"; {made.unreadable} pictures could not be read" if made.unreadable else ""
    method = (
        f"copies made of the catalogue's own pictures, half of them without their original to be compared with, and "
        f"nothing stated of them; found by change: {by_change}{unreadable}"
    )
    rows = [
        Row(
            "copies",
            question,
            "A changed copy of a picture is linked to its original in",
            "recall",
            int(known.sum()),
            "copies",
            None,
            share_of(int(right.sum()), len(right)),
            Baseline("equal files alone", exactly(0.0)),
            ranking.paired(np.zeros(len(right)), right),
            method=method,
            command=command,
        )
    ]
    if linked.any():
        rows.append(
            Row(
                "copies",
                "A link from a copy is to its original, also where the original is not there",
                "Of the links that are made, right are",
                "precision",
                int(linked.sum()),
                "links",
                None,
                share_of(int(made.right.sum()), int(linked.sum())),
                Baseline("linking every picture, at best", share_of(int(known.sum()), len(known))),
                method=method,
                command=command,
            )
        )
    return [judged(row) for row in rows]


def _found(made: Any, change: str) -> str:
    own = np.array([name == change for name in made.changes]) & made.known
    return f"{int(made.right[own].sum())} of {int(own.sum())}"


def copy_seconds(context: Context) -> float:
    """Estimate the making and the search of copies."""
    if not context.pipeline.of_kind("understand.duplicates"):
        return 0.0
    return _COPY_S * min(context.sample(COPIES), context.store.count(ITEMS))


# -- labels


def label_rows(context: Context) -> list[Row]:
    """Measure zero-shot labels on items that have a category."""
    question = "An item's category is named by its pictures and texts, without training on it"
    command = context.command("label --classes FILE")
    specs = context.pipeline.of_kind("label")
    if specs:
        stage: Any = context.state.stage(specs[-1].name)
        fit, truth = stage.measure(context.store, context.state)
        names = stage.classes.names
        method = f"labels of stage {stage.name}, each half of the items with a category by thresholds of the other"
    else:
        found = _by_categories(context)
        if isinstance(found, str):
            return [Row("labels", question, why=found, command=command)]
        fit, truth, names, spaces = found
        method = (
            f"category names as classes, in {', '.join(spaces)}; each half of the items by thresholds of the other, "
            "texts without their category"
        )
    if fit.quality is None:
        row = Row("labels", question, n=len(truth), of="items", command=command, method=method)
        why = f"{len(truth):,} items have a category among the classes, and {ENOUGH} are needed"
        return [replace(row, verdict="few", why=why)]
    number, most = Counter(truth.values()).most_common(1)[0]
    quality, majority = fit.quality, Baseline(f"always {names[number]!r}", share_of(most, len(truth)))
    right = Row(
        "labels",
        question,
        "The likeliest category is the item's own in",
        "accuracy",
        quality.labelled,
        "items",
        None,
        Interval(quality.accuracy, *quality.accuracy_interval),
        majority,
        method=method,
        command=command,
    )
    rows = [right]
    if quality.precision is not None and quality.precision_interval is not None:
        count = round(quality.coverage * quality.labelled)
        sure = replace(
            right,
            question="A label that is sure enough to be given is right",
            statement="Of the labels that are sure enough to be given, right are",
            measure="precision",
            n=count,
            of="labels",
            value=Interval(quality.precision, *quality.precision_interval),
            method=f"{method}; {quality.coverage:.0%} of the items get a label",
        )
        rows.append(sure)
    return [judged(row) for row in rows]


def _by_categories(context: Context) -> tuple[LabelFit, Mapping[str, int], tuple[str, ...], list[str]] | str:
    """Measure labels by the names of the categories; a reason where that cannot be done.

    Left out are spaces that a fit of this catalogue made, or that hold descriptions: both may know the categories.
    """
    table = context.store.read(ITEMS, ["item_id", "category"])
    categories = dict(zip(table["item_id"].to_pylist(), table["category"].to_pylist(), strict=True))
    classes = class_file.of_categories(categories.values())
    if classes is None:
        return "the items have fewer than two categories"
    numbers = {class_file.plain(name): number for number, name in enumerate(classes.names)}
    embeds = {
        spec.name: spec
        for spec in context.pipeline.of_kind("embed")
        if spec.settings.input == "image" and not spec.settings.encoder.startswith("align:")
    }
    try:
        spaces = text_spaces("labels", None, embeds, context.pipeline)
    except ColdstartError:
        return "no space holds pictures and words together before any fit on this catalogue, as that of starter-clip"
    states = {space: context.state.of(space) for space in spaces}
    made = {
        item: own
        for item, category in categories.items()
        if category and (own := {name: one.expected[item] for name, one in states.items() if item in one.fresh})
    }
    scorer = ClassScorer("labels", "", classes, spaces, LabelTargets(0.9))
    truth = {item: numbers[class_file.plain(categories[item] or "")] for item in made}
    known = scorer.known(truth, made)
    few = replace(known, truth=dict(list(known.truth.items())[: context.sample(LABELLED)]))
    vectors = scorer.class_vectors(context.store)
    return scorer.measure(context.store, context.state, few, vectors), few.truth, classes.names, list(spaces)


def label_seconds(context: Context) -> float:
    """Estimate the measurement of labels: names and their templates, and texts without a category."""
    if not context.pipeline.of_kind("embed"):
        return 0.0
    return 3.0 + _WORDS_S * min(context.sample(LABELLED), context.store.count(ITEMS))


# -- words of media


def speech_rows(context: Context) -> list[Row]:
    """Measure speech against transcripts that items state."""
    return _word_rows(context, "speech", "understand.speech", "transcript", "spoken")


def screen_rows(context: Context) -> list[Row]:
    """Measure text on screen against texts that items state."""
    return _word_rows(context, "screen", "understand.screen", "screen_text", "shown on screen")


def _word_rows(context: Context, name: str, kind: str, field: str, what: str) -> list[Row]:
    question = f"Words that are {what} are read from the media"
    command = context.command("show ITEM")
    stages, evidence = context.pipeline.of_kind(kind), context.pipeline.of_kind("understand.evidence")
    if not stages or not evidence:
        return [Row(name, question, why=f"the pipeline has no stage of kind {kind}", command=context.command("run"))]
    rows = context.store.read(ITEMS, ["item_id", "title", "description", "attributes"]).to_pylist()
    truth = {row["item_id"]: str(read_attributes(row["attributes"]).get(field) or "") for row in rows}
    truth = {item: text for item, text in truth.items() if text.strip()}
    if not truth:
        why = f"no truth to compare with: no item states an attribute {field!r}"
        return [Row(name, question, why=why, command=command)]
    stage: Any = context.state.stage(evidence[-1].name)
    found = {}
    if context.store.has(stage.table):
        made = context.store.read(stage.table, ["item_id", field], ids=sorted(truth)).to_pylist()
        found = {row["item_id"]: row[field] or "" for row in made}
    if not found:
        return [
            Row(name, question, why="none of the items with a stated text was read", command=context.command("run"))
        ]
    known = {row["item_id"]: f"{row['title'] or ''} {row['description'] or ''}" for row in rows}
    read = np.array([_shared(truth[item], text) for item, text in found.items()])
    stated = np.array([_shared(truth[item], known[item]) for item in found])
    return [
        judged(
            Row(
                name,
                question,
                f"Of the different words {what}, the media's own reading has",
                "recall of words",
                len(found),
                "items",
                None,
                ranking.bootstrap(read),
                Baseline("title and description have", ranking.bootstrap(stated)),
                ranking.paired(stated, read),
                method=f"words of attribute {field!r}, as the items state it",
                command=command,
            )
        )
    ]


def _shared(truth: str, text: str) -> float:
    """Compute the share of the different words of a true text that another has."""
    wanted, has = ({word.strip(".,;:!?\"'()").casefold() for word in one.split()} - {""} for one in (truth, text))
    return len(wanted & has) / max(1, len(wanted))


def word_seconds(context: Context) -> float:
    """Estimate a comparison of words, which are stored."""
    return 0.5
