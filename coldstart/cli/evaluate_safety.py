"""`coldstart evaluate safety`: measure how often the safety policy closes harmless items, and finds unsafe ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Uri


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("safety")(safety)


def safety(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="CSV or JSON Lines of item_id and label, safe or unsafe."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure false alarms and recall of the safety policy.

    Counts by the stored rows which harmless items it closes, by pictures and in all. Items are harmless or unsafe as
    --labels says, else as their records do (adult: no). Without unsafe items recall is not measured.

    \b
    Examples:
      coldstart evaluate safety --workspace shop.workspace
      coldstart evaluate safety --labels reviewed.csv
      coldstart evaluate safety --labels reviewed.csv --json
    """
    import coldstart

    opened = coldstart.open(workspace)
    found = opened.evaluate_safety(opened.pipeline(pipeline), labels=labels).to_dict()
    if json:
        output.as_json(found)
    else:
        _print(found)


_NO_PICTURES = (
    "no picture is scored (`coldstart models pull safety-pictures`, then a run with --set "
    "understand.safety.classifier=auto)"
)


def _print(found: Mapping[str, Any]) -> None:
    from coldstart.metrics.intervals import FEWEST_COMPARED

    pictures = f"pictures by {found['classifier']}" if found["classifier"] else _NO_PICTURES
    output.note(f"policy {found['policy']}; {pictures}")
    rows = [
        ("false alarms by pictures", "harmless items with scored pictures", found["picture_alarms"]),
        ("false alarms in all", "harmless items", found["alarms"]),
        ("recall by pictures", "unsafe items with scored pictures", found["picture_recall"]),
        ("recall in all", "unsafe items", found["recall"]),
        ("closed without a label", "items", found["unlabelled"]),
    ]
    output.table(
        ("measure", "closed", "of", "share", "95 % interval"),
        [
            (name, f"{one['closed']:,}", f"{one['n']:,} {items}", _percent(one["value"]), _bounds(one))
            for name, items, one in rows
            if one["n"]
        ],
        "of",
    )
    if 0 < found["alarms"]["n"] < FEWEST_COMPARED:
        output.note(f"{found['alarms']['n']} items are too few to judge: {FEWEST_COMPARED} are needed")
    missing = [
        what
        for what, measure in (
            ("false alarms: no item is known to be harmless", "alarms"),
            ("recall: none to be unsafe", "recall"),
        )
        if not found[measure]["n"]
    ]
    if missing:
        output.note(f"not measured: {'; '.join(missing)}. State adult: no or yes in the records, or give --labels FILE")
    for item, why in found["wrong"].items():
        output.note(f"harmless and closed: {item}: {why}")


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _bounds(one: Mapping[str, Any]) -> str:
    return f"{100 * one['low']:.2f} to {100 * one['high']:.2f} %"
