"""Commands that do the work: run, ingest, understand, embed, index, retry."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import ingest as interaction_files
from coldstart.cli import output
from coldstart.cli import output as report
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Limit, Manifest, MediaRoots, Overrides, PipelineName, Uri

if TYPE_CHECKING:
    from coldstart.ingest.load_interactions import InteractionReport

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, from a probe; write nothing.")]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="MACHINE",
        help="With --dry-run, for another machine too: h100x8, a100x1, l40s, cpu16, key=value,… or a YAML file.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    for command in (run, ingest, understand, embed, index, retry):
        app.command(command.__name__)(command)


def run(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="PIPELINE", help="Pipeline file, or the name of a packaged one such as `demo`."),
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    manifest: Manifest = None,
    media_root: MediaRoots = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STAGE", help="Only this stage; repeatable.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Begin with this stage.")] = None,
    dry_run: DryRun = False,
    on: On = None,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run a pipeline: every stage does what is stale and skips the rest.

    Example: coldstart run starter --workspace shop.workspace --manifest items.jsonl
    """
    run_and_report(
        workspace,
        json,
        dry_run,
        {"source": pipeline, "manifest": manifest, "media_roots": media_root or (), "overrides": overrides or ()},
        {"only": only or (), "start": start},
        {"limit": limit},
        on=on,
    )


def ingest(
    manifest: Annotated[
        str | None, typer.Argument(metavar="MANIFEST", help="JSONL, CSV or Parquet file, or a folder of media.")
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    interactions: interaction_files.InteractionFile = None,
    columns: interaction_files.Columns = None,
    event_weights: interaction_files.EventWeights = None,
    time_unit: interaction_files.TimeUnit = "auto",
    pipeline: PipelineName = None,
    media_root: MediaRoots = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Read a manifest, interactions or both: check all rows, add what is new, renew what changed.

    Example: coldstart ingest items.jsonl --interactions clicks.csv --workspace shop.workspace
    """
    from coldstart.errors import ColdstartError

    if manifest is None and interactions is None:
        raise ColdstartError("nothing to ingest: give a MANIFEST, --interactions FILE, or both")
    if interactions is None and (columns or event_weights or time_unit != "auto"):
        raise ColdstartError("--columns, --event-weights and --time-unit are of --interactions FILE: give that too")
    if interactions is not None and dry_run:
        raise ColdstartError("--dry-run is of the manifest: leave --interactions out")

    def take() -> InteractionReport:
        assert interactions is not None
        return interaction_files.take(workspace, interactions, columns, event_weights, time_unit)

    if manifest is None:
        taken = take()
        if json:
            output.as_json({"interactions": taken.to_dict()})
        else:
            interaction_files.show(taken)
        interaction_files.leave_where_too_many_failed(taken)
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


def understand(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="NAME", help="Only this part, such as `speech`; repeatable."),
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Watch, listen to and read every new item: copies, quality, shots, speech, text on screen, safety.

    Example: coldstart understand --workspace shop.workspace --part speech --part evidence
    """
    run_and_report(
        workspace,
        json,
        dry_run,
        {"source": pipeline, "overrides": overrides or ()},
        {"only": [f"understand.{name}" for name in part or ()] or ["understand"]},
        {"limit": limit},
    )


def embed(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", metavar="NAME", help="Only this space of the pipeline; repeatable.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", metavar="NAME", help="Use this encoder for the one --space; makes the space if it is new."
        ),
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="image|text", help="What the new --space reads.")
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Embed every item that has no fresh vector, in each space.

    Example: coldstart embed --space clip --encoder open_clip:ViT-B-32/laion2b_s34b_b79k
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
        {"limit": limit},
    )


def index(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Serve the publication before the current one.")] = False,
    history: Annotated[bool, typer.Option("--history", help="List the publications that are kept.")] = False,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Join items and vectors into the catalog, build its indexes, measure their recall, publish.

    Example: coldstart index --workspace shop.workspace --rollback
    """
    import coldstart

    if rollback or history:
        opened = coldstart.open(workspace)
        back = opened.rollback() if rollback else None
        publications = [_publication(entry) for entry in opened.publications()]
        if json:
            output.as_json(publications)
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
    run_and_report(workspace, json, False, {"source": pipeline, "overrides": overrides or ()}, {"only": ["index"]}, {})


def retry(
    workspace: Uri = DEFAULT_WORKSPACE,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STAGE", help="Only this stage; repeatable.")
    ] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Try the failed items again, and only those; then do what became possible.

    Example: coldstart retry --workspace shop.workspace
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
    """Run stages, print what became of their items, and leave with 1 where too many failed.

    Args:
        settings: as `Workspace.pipeline` takes them; choice: `only` and `start`; options: of the run besides.
        beside: reads interactions after the run.
        on: another machine that a dry run tells the time of.

    Raises:
        ColdstartError: `on` without a dry run.
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError

    if on is not None and not dry_run:
        raise ColdstartError(f"--on {on} is of an estimate: add --dry-run")

    with tempfile.TemporaryDirectory() as empty:  # neither a dry run nor a faulty pipeline makes a workspace
        workspace = coldstart.open(uri if "://" in uri or Path(uri).is_dir() else empty)
        pipeline = workspace.pipeline(**settings)
        if dry_run:
            limit = options.get("limit")
            report.estimate(workspace.estimate(pipeline, **choice, limit=limit, on=on, uri=uri), json)
            return
    done = coldstart.open(uri, create=True).run(pipeline, progress=ConsoleProgress(), **choice, **options)
    taken = None if beside is None else beside()
    if json:
        output.as_json(done.to_dict() | ({} if taken is None else {"interactions": taken.to_dict()}))
    else:
        report.run(done)
        if taken is not None:
            interaction_files.show(taken)
    if done.over_budget:
        over = [
            f"{stage.stage} {stage.balance.failed_share:.1%}"
            for stage in done.stages
            if stage.stage in done.over_budget
        ]
        typer.echo(
            f"error: more failed than max_failed {pipeline.max_failed:.1%} allows: {', '.join(over)}; "
            f"see `coldstart status --failed --workspace {uri}`",
            err=True,
        )
        raise typer.Exit(1)
    if taken is not None:
        interaction_files.leave_where_too_many_failed(taken)


def _publication(publication: Any) -> dict[str, Any]:
    return {
        "tag": publication.tag,
        "version": publication.version,
        "published_at": publication.published_at.isoformat(),
        "rows": publication.rows,
        "spaces": sorted(publication.passports),
    }
