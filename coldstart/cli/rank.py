"""`coldstart rank`, `coldstart finetune rank`, `coldstart evaluate rank`: rank showings by what users will do."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Overrides, PipelineName, Uri
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.rank.service import RankedItem

_PAGE, _RECORD, _TABLE = "rank.html", "rank.json", "rank.md"
_Events = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="A,B=2",
        help="Outcomes of showings, perhaps with weights in the score; by default all that are 0 or 1.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add `coldstart rank`."""
    app.command("rank")(rank)


def register_fit(app: typer.Typer) -> None:
    """Add the command to `coldstart finetune`."""
    app.command("rank")(finetune_rank)


def register_evaluation(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("rank")(evaluate_rank)


def finetune_rank(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    events: _Events = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Model: trees, attention, both, long, trees_and_long, or auto, what had the smallest log loss on the "
            "latest showings.",
        ),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit rankers on interactions and logged showings.

    From interactions it learns which candidates of several channels users take (`recommend --rank`); from 2,000
    showings or more the probability of each outcome, calibrated on the latest showings. Fits again only if items,
    showings or interactions came, changed or went since the last fit. Adds the stages `finetune.union` and
    `finetune.rank` to a pipeline without them.

    \b
    Examples:
      coldstart finetune rank --workspace shop.workspace
      coldstart finetune rank --events click,long_view=2,like --model both
      coldstart finetune rank --set rank.surface=home --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    done = opened.finetune_rank(
        source=pipeline, events=_weights(events), model=model, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        fits = {stage.stage: opened.fit_report(stage.stage) for stage in done.stages}
        output.as_json({**done.to_dict(), "fits": fits})
    else:
        output.print_run(done)


def rank(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    user: Annotated[str, typer.Option("--user", metavar="ID", help="User to rank for.")] = "",
    items: Annotated[
        Path | None,
        typer.Option("--items", metavar="FILE", help="File with an item id a line; - reads standard input."),
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option("--item", metavar="ID", help="Item to rank; may be given several times.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Time of the request, as 2022-05-01T12:00Z, in UTC if it has no zone; by default now.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Rank items for a user by the probability of each outcome.

    Reads the fit of `coldstart finetune rank`; a probability has its 95 % interval. What the user did at or after the
    time of the request is left out. An outcome with too few showings to calibrate has a score in place of a
    probability, and no interval.

    \b
    Examples:
      coldstart rank --user u17 --items candidates.txt
      coldstart rank --user u17 --item v1 --item v2 --json
      coldstart rank --user u17 --items - --at 2022-05-01T12:00Z
    """
    import coldstart

    if not user:
        raise typer.BadParameter("give the user to rank for", param_hint="--user")
    wanted = [*_read_ids(items), *(item or ())]
    found = coldstart.open(workspace).rank(user, wanted, at=_time(at), pipeline=pipeline)
    if json:
        output.as_json(found.to_dict())
        return
    events = list(found.calibrated)
    rows = [
        [one.rank or "", one.item_id, one.state, *(_chance(one, event) for event in events),
         "" if one.score is None else f"{one.score:.4f}"]
        for one in found.items
    ]  # fmt: skip
    names = [f"p({event})" if found.calibrated[event] else f"score of {event}" for event in events]
    output.table(["rank", "item", "state", *names, "score"], rows, "item", whole=("item",))
    if not found.known_user:
        output.note(f"user {user!r} has no history and was shown nothing: ranked by the items alone")
    if found.dropped:
        output.note(f"{found.dropped:,} actions are not before the request, and were left out")


def _chance(item: RankedItem, event: str) -> str:
    """Write a probability with its interval, or a score alone."""
    if event not in item.p:
        return ""
    ends = item.interval.get(event)
    return f"{item.p[event]:.4f}" + ("" if ends is None else f" ({ends[0]:.3f}–{ends[1]:.3f})")


def evaluate_rank(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option("--split", metavar="KIND", help="Judge the latest 30 % (time), or from a date on (time:DATE)."),
    ] = "time",
    events: Annotated[
        str | None,
        typer.Option("--events", metavar="A,B", help="Outcomes to judge; by default those of the pipeline."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=f"Folder for {_PAGE}, {_RECORD} and {_TABLE}; by default only the page, in this folder.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure rankings of showings and their probabilities.

    Fits the ranker and baselines on the showings before a cut and judges those after it: AUC, GAUC, log loss, and the
    calibration error with its curve. A leak fails the run. With --json files are written only if --out names a folder.

    \b
    Examples:
      coldstart evaluate rank --workspace shop.workspace --out rank
      coldstart evaluate rank --split time:2022-05-01 --events long_view
      coldstart evaluate rank --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.rank.report import COLUMNS, heading, lines_of, markdown, rank_html, rows_of

    output.check_folder(out)
    opened = coldstart.open(workspace)
    found = opened.evaluate_rank(
        opened.pipeline(pipeline), split=split, events=output.names(events), progress=ConsoleProgress()
    )
    known: Mapping[str, Any] = found.to_dict()
    if not json:
        for event in known["events"]:
            output.line(f"\n{heading(known, event)}")
            output.table(COLUMNS, rows_of(known, event), "method", whole=COLUMNS[1:3], spare=COLUMNS[:2:-1])
        for line in lines_of(known):
            output.note(line)
    output.write_report(out, "rank", known, rank_html, lambda: markdown(known), json_on_stdout=json)


def _weights(events: str | None) -> dict[str, float] | None:
    """Read `click,long_view=2`: event -> weight."""
    found = {}
    for one in output.names(events) or ():
        name, is_weighted, weight = one.partition("=")
        try:
            found[name.strip()] = float(weight) if is_weighted else 1.0
        except ValueError:
            raise typer.BadParameter(f"{weight!r} is no number", param_hint="--events") from None
    return found or None


def _read_ids(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ColdstartError(f"--items {path}: {error}: give a text file with an item id a line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _time(text: str | None) -> Any:
    if text is None:
        return None
    from datetime import datetime

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: write 2022-05-01T12:00Z", param_hint="--at") from None
