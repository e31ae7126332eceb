"""Commands that say how things stand: status, check, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from coldstart.cli import interactions as interaction_files
from coldstart.cli import output, report
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, Overrides, Uri


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    for command in (status, check, doctor):
        app.command(command.__name__)(command)


def status(
    workspace: Uri = DEFAULT_WORKSPACE,
    failed: Annotated[bool, typer.Option("--failed", help="List every item that did not make it, and why.")] = False,
    json: Json = False,
) -> None:
    """Say where every item is: fresh + failed + filtered + duplicate + pending = items, for each stage."""
    import coldstart
    from coldstart.workspace import PIPELINES

    opened = coldstart.open(workspace)
    if failed:
        rows = opened.failures()
        if json:
            output.as_json(rows)
        else:
            columns = ("stage", "item", "state", "reason", "detail")
            output.table(
                columns, [[row["stage"], row["item_id"], row["state"], row["reason"], row["detail"]] for row in rows]
            )
        return
    interactions = opened.interaction_summary()
    alone = interactions is not None and PIPELINES not in opened.tables()
    reports = [] if alone else opened.status()
    if json:
        more = [] if interactions is None else [interaction_files.standing_json(interactions)]
        output.as_json([*(report.to_dict() for report in reports), *more])
        return
    if not alone:
        report.balance(reports)
    if interactions is not None:
        output.line(interaction_files.standing(interactions))
    output.line(f"workspace {opened.uri}: {output.size(opened.size_bytes())}")


def check(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Pipeline file, or the name of a packaged one.")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Check a pipeline file and list all its faults at once; builds and runs nothing."""
    from coldstart import pipeline as pipelines
    from coldstart.engine.run import faults
    from coldstart.errors import ColdstartError

    try:
        loaded = pipelines.load(pipeline, overrides or ())
        found = faults(loaded)
    except pipelines.PipelineError as error:
        found = error.faults
    if json:
        output.as_json({"pipeline": pipeline, "faults": found})
    else:
        for fault in found:
            output.line(f"- {fault}")
    if found:
        raise ColdstartError(f"{pipeline} has {len(found)} fault{'s' if len(found) > 1 else ''}: mend and check again")
    if not json:
        output.line(
            f"{pipeline}: no faults in {len(loaded.stages)} stages: {', '.join(spec.name for spec in loaded.stages)}"
        )


def doctor(workspace: Uri = DEFAULT_WORKSPACE, json: Json = False) -> None:
    """Say what this machine has: device, number formats, versions, models, disk."""
    from coldstart.doctor import examine

    facts = examine(workspace)
    if json:
        output.as_json(facts)
    else:
        output.table(("what", "found"), list(facts.items()))
