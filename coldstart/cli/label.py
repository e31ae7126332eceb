"""`coldstart label`: assign classes to items without a category."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Overrides, PipelineName, Uri

if TYPE_CHECKING:
    from coldstart.api import Workspace
    from coldstart.core.pipeline import Pipeline


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("label")(label)


def label(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="The classes: .yaml, .csv, or a text file, one class a line."),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space", metavar="NAME", autocompletion=complete.spaces, help="Compare in this space only; repeatable."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="SCORE", help="Least score of a label, instead of the calibrated one."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option("--precision", metavar="SHARE", help="Share of the labels that should be correct."),
    ] = None,
    every: Annotated[
        bool | None, typer.Option("--all/--missing", help="Label all items, or only those without a category.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Label items with classes by zero-shot classification.

    An item gets the class whose name is nearest to its vectors; items near no class stay unknown.

    \b
    Examples:
      coldstart label --classes classes.yaml --workspace shop.workspace
      coldstart label --classes classes.txt --precision 0.95
      coldstart label --all --space clip --threshold 0.3
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    given = {
        "classes": None if classes is None else str(classes.expanduser().absolute()),
        "spaces": space or None,
        "threshold": threshold,
        "min_precision": precision,
        "only_missing": None if every is None else not every,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if precision is not None and threshold is None:
        changes["threshold"] = None  # one of an earlier call would leave the precision without effect
    name, loaded = _with_label(opened, pipeline, changes, overrides or [])
    stages = [name, *(spec.name for spec in loaded.of_kind("index"))]
    done = opened.run(loaded, only=stages, progress=ConsoleProgress())
    counts = _counts(opened, name)
    if json:
        unknown = next((items for label, items, _ in counts if label is None), 0)
        labels = [{"label": label, "items": items, "mean_score": mean} for label, items, mean in counts if label]
        fitted = _fitted(opened, name)
        output.as_json({"labels": labels, "unknown": unknown, **fitted, "run": done.to_dict()})
        return
    rows = [["(unknown)" if label is None else label, items, round(mean, 2)] for label, items, mean in counts]
    if rows:
        output.table(("label", "items", "mean score"), rows)
    output.print_run(done)


def _with_label(
    opened: Workspace, source: str | None, changes: dict[str, Any], overrides: list[str]
) -> tuple[str, Pipeline]:
    """Name of the label stage, and the pipeline with that stage changed or added."""
    from coldstart.core.settings import with_stage
    from coldstart.errors import ColdstartError

    before = opened.pipeline(source)
    present = [spec.name for spec in before.of_kind("label")]
    if not present and "classes" not in changes:
        raise ColdstartError("the pipeline labels nothing yet: give --classes FILE, one class a line or a .yaml")
    name = present[-1] if present else "label"
    return name, opened.pipeline(with_stage(dict(before.raw), name, "label", changes), overrides=overrides)


def _counts(opened: Workspace, name: str) -> list[tuple[str | None, int, float]]:
    """Label, number of items and mean score; the most frequent first, the items without a label last."""
    table = f"stage.{name}"
    if table not in opened.tables():
        return []
    groups = (
        opened.table(table, ["label", "score"]).group_by("label").aggregate([("score", "count"), ("score", "mean")])
    )
    rows = [(row["label"], row["score_count"], row["score_mean"]) for row in groups.to_pylist()]
    return sorted(rows, key=lambda row: (row[0] is None, -row[1], row[0]))


def _fitted(opened: Workspace, name: str) -> dict[str, Any]:
    """Calibration of the scores, and its quality."""
    report = opened.fit_report(name)
    return {key: report[key] for key in ("calibration", "quality") if key in report}
