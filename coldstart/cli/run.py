"""Commands that run stages: run, ingest, understand, embed, index, retry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli import impressions as impression_lines
from coldstart.cli.impressions import ImpressionFile, OutcomeFile, Signals
from coldstart.cli.interactions import (
    Columns,
    EventWeights,
    InteractionFile,
    TimeUnit,
    ingest_file,
    over_budget_fault,
    print_report,
)
from coldstart.cli.output import (
    DEFAULT_WORKSPACE,
    Items,
    Json,
    Limit,
    Manifest,
    MediaRoots,
    Overrides,
    PipelineName,
    Uri,
    Where,
)
from coldstart.core.sanitize import without_controls

if TYPE_CHECKING:
    from coldstart.engine.report import RunReport
    from coldstart.ingest.load_interactions import InteractionReport

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate rows, time, memory and disk from a probe; write nothing.")
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="MACHINE",
        help="With --dry-run, estimate for this machine too: h100x8, a100x1, l40s, cpu16, key=value,…, a YAML file.",
    ),
]


DropSpaces = Annotated[
    bool,
    typer.Option("--drop-spaces", help="Take spaces out of the catalog that the pipeline no longer makes."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    for command in (run, ingest, understand, embed, index, retry):
        app.command(command.__name__)(command)


def run(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="PIPELINE",
            autocompletion=complete.pipelines,
            help="Pipeline file, or the name of a packaged one, such as starter; by default as in the last run.",
        ),
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    manifest: Manifest = None,
    media_root: MediaRoots = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STAGE", autocompletion=complete.stages, help="Only this stage; repeatable."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            autocompletion=complete.stages,
            help="Begin with this stage, skip those before it.",
        ),
    ] = None,
    dry_run: DryRun = False,
    on: On = None,
    limit: Limit = None,
    items: Items = None,
    where: Where = None,
    drop_spaces: DropSpaces = False,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run a pipeline: each stage does what is stale, skips the rest.

    \b
    Examples:
      coldstart run starter --workspace shop.workspace --manifest items.jsonl
      coldstart run starter --manifest items.jsonl --dry-run --on h100x8
      coldstart run --workspace shop.workspace --only image --limit 100
    """
    run_and_report(
        workspace,
        json,
        dry_run,
        {"source": pipeline, "manifest": manifest, "media_roots": media_root or (), "overrides": overrides or ()},
        {"only": only or (), "start": start},
        {"limit": limit, "items": output.item_ids(items), "where": where, "drop_spaces": drop_spaces},
        on=on,
    )


def ingest(
    manifest: Annotated[
        str | None, typer.Argument(metavar="MANIFEST", help="JSON, CSV, TSV or Parquet file, or a folder of media.")
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    interactions: InteractionFile = None,
    impressions: ImpressionFile = None,
    outcomes: OutcomeFile = None,
    columns: Columns = None,
    event_weights: EventWeights = None,
    signals: Signals = None,
    time_unit: TimeUnit = "auto",
    pipeline: PipelineName = None,
    media_root: MediaRoots = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Read a manifest, or a log, into the workspace.

    Checks all rows, adds new ones, updates changed ones. A log is of interactions, which may come with a manifest, of
    impressions, or of their outcomes.

    \b
    Examples:
      coldstart ingest items.jsonl --workspace shop.workspace
      coldstart ingest photos --media-root /data/videos
      coldstart ingest --interactions clicks.csv --event-weights click=1,like=3
      coldstart ingest --impressions shown.parquet --signals follow=is_follow
    """
    from coldstart.errors import ColdstartError

    logs = {"--interactions": interactions, "--impressions": impressions, "--outcomes": outcomes}
    given = [option for option, path in logs.items() if path is not None]
    if manifest is None and not given:
        raise ColdstartError(
            "nothing to ingest: give a MANIFEST, or a log: --interactions, --impressions or --outcomes FILE"
        )
    if len(given) > 1:
        raise ColdstartError(f"{' and '.join(given)}: read one log a command, since --columns are of one")
    if not given and (columns or time_unit != "auto"):
        raise ColdstartError("--columns and --time-unit are of a log: give --interactions FILE, or another, too")
    if event_weights and interactions is None:
        raise ColdstartError("--event-weights needs --interactions FILE: give that too")
    if signals and impressions is None and outcomes is None:
        raise ColdstartError("--signals needs --impressions FILE or --outcomes FILE: give one too")
    if given and dry_run:
        raise ColdstartError(f"--dry-run estimates the manifest only: leave {given[0]} out")
    if impressions is not None or outcomes is not None:
        if manifest is not None:
            raise ColdstartError(f"{given[0]}: read the MANIFEST by a command of its own")
        _ingest_impressions(workspace, impressions, outcomes, columns, signals, time_unit, json)
        return

    def take() -> InteractionReport:
        assert interactions is not None
        return ingest_file(workspace, interactions, columns, event_weights, time_unit)

    if manifest is None:
        taken = take()
        if not json:
            print_report(taken)
        if fault := over_budget_fault(taken):
            raise fault
        if json:
            output.as_json({"interactions": taken.to_dict()})
        return
    run_and_report(
        workspace,
        json,
        dry_run,
        {"source": pipeline, "manifest": manifest, "media_roots": media_root or (), "overrides": overrides or ()},
        {"only": ["ingest"]},
        {"limit": limit},
        beside=None if interactions is None else take,
    )


def _ingest_impressions(
    workspace: str,
    shown: Path | None,
    outcomes: Path | None,
    columns: str | None,
    signals: str | None,
    time_unit: str,
    json: bool,
) -> None:
    """Read a log of impressions, or of outcomes, and print what came of its rows."""
    path = shown or outcomes
    assert path is not None, "one was given"
    taken = impression_lines.ingest_file(workspace, path, shown is None, columns, signals, time_unit)
    if not json:
        impression_lines.print_report(taken)
    if fault := impression_lines.over_budget_fault(taken):
        raise fault
    if json:
        output.as_json({"impressions": taken.to_dict()})


def understand(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="NAME", help="Only this part, such as speech; repeatable."),
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    items: Items = None,
    where: Where = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Analyse the media of every new item.

    Finds copies, quality, shots, speech, text on screen and unsafe content.

    \b
    Examples:
      coldstart understand --workspace clips.workspace --pipeline video
      coldstart understand --part speech --part evidence --limit 20
      coldstart understand --set understand.speech.model=large-v3 --dry-run
    """
    run_and_report(
        workspace,
        json,
        dry_run,
        {"source": pipeline, "overrides": overrides or ()},
        {"only": [f"understand.{name}" for name in part or ()] or ["understand"]},
        {"limit": limit, "items": output.item_ids(items), "where": where},
    )


def embed(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="NAME",
            autocompletion=complete.spaces,
            help="Only this space of the pipeline; repeatable.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            autocompletion=complete.encoders,
            help="Use this encoder for the one --space; adds the space if it is new.",
        ),
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="image|text", help="Input of the new --space: pictures or text.")
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    items: Items = None,
    where: Where = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Embed every item that has no fresh vector, in each space.

    \b
    Examples:
      coldstart embed --workspace shop.workspace
      coldstart embed --space clip --encoder open_clip:ViT-B-32/laion2b_s34b_b79k
      coldstart embed --space titles --encoder starter --input text
    """
    from coldstart.errors import ColdstartError

    changes = {key: value for key, value in (("encoder", encoder), ("input", input)) if value is not None}
    if changes and len(space or ()) != 1:
        raise ColdstartError(f"--{' and --'.join(changes)} need one --space NAME to apply to")
    run_and_report(
        workspace,
        json,
        dry_run,
        {
            "source": pipeline,
            "overrides": overrides or (),
            "spaces": {space[0]: changes} if space and changes else {},
        },
        {"only": space or ["embed"]},
        {"limit": limit, "items": output.item_ids(items), "where": where},
    )


def index(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Serve the publication before the current one.")] = False,
    history: Annotated[bool, typer.Option("--history", help="List the stored publications.")] = False,
    drop_spaces: DropSpaces = False,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Build and publish the catalog that search serves.

    Joins items and vectors, builds the indexes and measures their recall.

    \b
    Examples:
      coldstart index --workspace shop.workspace
      coldstart index --history
      coldstart index --rollback
    """
    import coldstart

    if rollback or history:
        opened = coldstart.open(workspace)
        back = opened.rollback() if rollback else None
        publications = [_publication(entry) for entry in opened.publications()]
        if json:
            output.as_json({"publications": publications} | ({} if back is None else {"published": back.tag}))
            return
        if back is not None:
            output.line(
                f"published {back.tag} again: {back.rows} items, first published {back.published_at:%Y-%m-%d %H:%M} UTC"
            )
            return
        columns = ("publication", "published", "items", "spaces")
        output.table(
            columns, [[p["tag"], p["published_at"][:16], p["rows"], ", ".join(p["spaces"])] for p in publications]
        )
        return
    settings = {"source": pipeline, "overrides": overrides or ()}
    run_and_report(workspace, json, False, settings, {"only": ["index"]}, {"drop_spaces": drop_spaces})


def retry(
    workspace: Uri = DEFAULT_WORKSPACE,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STAGE", autocompletion=complete.stages, help="Only this stage; repeatable."),
    ] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Retry the failed items, and only those.

    Later stages then do what became possible.

    \b
    Examples:
      coldstart retry --workspace shop.workspace
      coldstart retry --only image --limit 100
      coldstart retry --only understand.speech --json
    """
    run_and_report(workspace, json, False, {}, {"only": only or ()}, {"limit": limit, "retry": ["failed"]})


def run_and_report(
    uri: str,
    json: bool,
    dry_run: bool,
    settings: dict[str, Any],
    choice: dict[str, Any],
    options: dict[str, Any],
    beside: Callable[[], InteractionReport] | None = None,
    on: str | None = None,
) -> None:
    """Run stages, print the states of their items, and exit with 1 if too many failed.

    Args:
        settings: as `Workspace.pipeline` takes them; choice: `only` and `start`; options: of the run besides.
        beside: reads interactions after the run.
        on: another machine that a dry run estimates for.

    Raises:
        ColdstartError: `on` without a dry run.
    """
    if isinstance(settings.get("source"), str):
        from coldstart.core.pipeline import check_readable

        check_readable(settings["source"])
    import coldstart
    from coldstart.core.scratch import scratch_folder
    from coldstart.core.spelling import is_folder
    from coldstart.core.uris import plain_uri
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError

    if on is not None and not dry_run:
        raise ColdstartError(f"--on {on} needs an estimate: add --dry-run")

    uri = plain_uri(uri)
    with scratch_folder("run") as empty:  # neither a dry run nor a faulty pipeline creates a workspace
        there = "://" in uri or is_folder(uri)
        workspace = coldstart.open(uri if there else empty)
        pipeline = workspace.pipeline(**settings)
        if dry_run:
            scope: dict[str, Any] = {name: options.get(name) for name in ("limit", "items", "where")}
            output.print_estimate(workspace.estimate(pipeline, **choice, **scope, on=on, uri=uri), json)
            return
        if not there:
            workspace.check_run(pipeline, **choice)
    done = coldstart.open(uri, create=True).run(pipeline, progress=ConsoleProgress(), **choice, **options)
    taken = None if beside is None else beside()
    found = done.to_dict() | ({} if taken is None else {"interactions": taken.to_dict()})
    if not json:
        output.print_run(done)
        if taken is not None:
            print_report(taken)
    if done.over_budget:
        message = _over_budget(done, pipeline.max_failed)
        losses = [f"  {stage}: {loss}" for stage, losses in done.losses.items() for loss in losses]
        see = f"see all of them: coldstart status --failed --workspace {uri}"
        typer.echo(without_controls("\n".join((f"error: {message}", *losses, see))), err=True)
        if json:
            output.as_json(found | {"error": output.failed(message, see)})
        raise typer.Exit(1)
    if fault := over_budget_fault(taken):
        raise ColdstartError(str(fault), kind="failed", result=found)
    if json:
        output.as_json(found)


def _over_budget(done: RunReport, max_failed: float) -> str:
    """Describe the stages of which too many items failed."""
    over = [
        f"{stage.stage} {stage.balance.failed_share:.1%}"
        + "".join(f" ({count} items failed in one place: {place})" for place, count in stage.fault_places.items())
        for stage in done.stages
        if stage.stage in done.over_budget
    ]
    stopped = f", so the run stopped after {done.stopped_after}" if done.stopped_after else ""
    return f"more failed than max_failed {max_failed:.1%} allows{stopped}: {', '.join(over)}"


def _publication(publication: Any) -> dict[str, Any]:
    return {
        "tag": publication.tag,
        "version": publication.version,
        "published_at": publication.published_at.isoformat(),
        "rows": publication.rows,
        "spaces": sorted(publication.passports),
    }
