"""Commands that inspect: `status` of a workspace, `check` of a pipeline or of a workspace, `doctor` of this machine."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from coldstart import __version__
from coldstart.cli import complete, output
from coldstart.cli import impressions as impression_lines
from coldstart.cli.interactions import history_line, summary_json, summary_line
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Overrides, Uri
from coldstart.core.device import choose_device, choose_devices, choose_dtype
from coldstart.core.reasons import OF_VIDEOS, plain, remedy
from coldstart.core.settings import suggestion
from coldstart.core.spelling import is_folder
from coldstart.errors import ColdstartError, redact_urls
from coldstart.models import install
from coldstart.models.starter_set import OPTIONAL

if TYPE_CHECKING:
    from coldstart.api.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    for command in (status, check, doctor):
        app.command(command.__name__)(command)


def status(
    workspace: Uri = DEFAULT_WORKSPACE,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help="List what failed, media that cannot be read, copies, and what else is left out."
        ),
    ] = False,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="STAGE", help="With --failed, list every item that has no row in this stage alone."
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="List the folders, hosts and models of its stored settings, and let them count."),
    ] = False,
    impressions: Annotated[
        bool, typer.Option("--impressions", help="Check the propensities of the impressions, by position.")
    ] = False,
    json: Json = False,
) -> None:
    """Count the items in each state, for every stage.

    fresh + new + failed + filtered + duplicate + pending = items. New items are in no fit yet, and scored all the
    same; --json counts them as filtered.

    \b
    Examples:
      coldstart status --workspace shop.workspace
      coldstart status --failed
      coldstart status --failed --stage understand.shots
      coldstart status --failed --json > failed.json
    """
    import coldstart

    if stage is not None and not failed:
        raise ColdstartError("status: --stage goes with --failed")
    opened = coldstart.open(workspace)
    _check_written(opened)
    if trust:
        _trust(opened, json)
    elif impressions:
        _check_impressions(opened, json)
    elif failed:
        _list_failures(opened, stage, json)
    else:
        _report(opened, json)


def _check_impressions(opened: Workspace, json: bool) -> None:
    """Check the propensities of the impressions."""
    checks = opened.propensity_checks()
    if not checks.rows:
        raise ColdstartError(
            f"workspace {opened.uri} has no impressions: `coldstart ingest --impressions FILE` reads some",
            kind="not_ready",
        )
    if json:
        output.as_json({"workspace": opened.uri, **checks.to_dict()})
    else:
        impression_lines.print_checks(checks)


def _trust(opened: Workspace, json: bool) -> None:
    """Let the places of the stored settings count, and list them."""
    found = opened.trust()
    if json:
        output.as_json(
            {"workspace": opened.uri, "settings": [{"setting": name, "value": value} for name, value in found]}
        )
    else:
        output.facts(found)
        output.line(f"workspace {opened.uri}: {len(found)} settings count from now on, as if they were given")


def _list_failures(opened: Workspace, stage: str | None, json: bool) -> None:
    """List the items without a row in a stage, and media that cannot be read of items that have others."""
    rows = opened.failures()
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    if stage is not None and stage not in stages:
        raise ColdstartError(
            f"status --failed: no item is without a row in a stage {stage!r}{suggestion(stage, stages)}: some are in "
            f"{', '.join(stages) or 'none'}"
        )
    rows = [row for row in rows if stage in (None, row["stage"])]
    media = [] if stage is not None else _unread_media(opened)
    if json:
        output.as_json({"workspace": opened.uri, "items": rows, "bad_media": media})
    elif stage is not None:
        output.print_failures(rows)
    elif rows or media:
        output.print_failures([row for row in rows if row["state"] == "failed"])
        if media:
            output.note(f"media that cannot be read: {len(media):,}; their items are made from what else they have")
            shown = [[one["item_id"], f"{one['uri']}: {plain(one['reason'])}: {one['detail']}"] for one in media]
            output.table(("item", "detail"), shown, "item", ("item",), below="detail")
            output.line("")
        _print_left_out(opened, [row for row in rows if row["state"] != "failed"])
    else:
        output.line("none: every item that a stage has done has its row")


def _unread_media(opened: Workspace) -> list[dict[str, Any]]:
    """List media that cannot be read, of items that are made from their other ones."""
    try:
        rows = opened.table("items", ["item_id", "bad_media"], "bad_media IS NOT NULL").to_pylist()
    except ColdstartError:  # no items yet, or those of an earlier version
        return []
    return [
        {"item_id": row["item_id"], **one, "uri": redact_urls(one["uri"]), "detail": redact_urls(one["detail"])}
        for row in rows
        for one in row["bad_media"]
    ]


def _print_left_out(opened: Workspace, rows: Sequence[Mapping[str, Any]]) -> None:
    """List each copy once, and a line for each other reason, with the stage where it holds first."""
    once: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        once.setdefault((row["item_id"], row["reason"]), row)
    copies = [row for row in once.values() if row["state"] == "duplicate"]
    if copies:
        output.note(f"copies: {len(copies):,}; their originals are served")
        output.table(
            ("item", "detail"), [[row["item_id"], row["detail"]] for row in copies], "item", ("item",), below="detail"
        )
        output.line("")
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in once.values():
        if row["state"] != "duplicate":
            by_reason.setdefault((row["reason"], row["stage"]), []).append(row["item_id"])
    products = (
        set(opened.table("items", ["item_id"], "kind = 'product'")["item_id"].to_pylist())
        if any(reason in OF_VIDEOS for reason, _ in by_reason)
        else set()
    )
    for (reason, stage), ids in by_reason.items():
        count = sum(reason not in OF_VIDEOS or item not in products for item in ids)
        if count:
            step = f"; {remedy(reason)}" if remedy(reason) else ""
            many = f"{count:,} item{'s' if count > 1 else ''}"
            output.note(f"{stage}: {many} {plain(reason)} ({reason}){step}; --stage {stage} lists them")


def _report(opened: Workspace, json: bool) -> None:
    """Print the states of all stages, the interactions, what does not resolve, and the next step."""
    interactions, impressions = opened.interaction_summary(), opened.impression_summary()
    from coldstart.store import PIPELINES  # once the workspace is there

    never_ran = not (interactions is None and impressions is None) and PIPELINES not in opened.tables()
    reports = [] if never_ran else opened.status()
    from coldstart.core.language import UNKNOWN, languages_text

    languages = opened.languages()
    decided = opened.decision_counts()
    histories = opened.history_summary()
    if json:
        output.as_json(
            {
                "workspace": opened.uri,
                "size_bytes": opened.size_bytes(),
                "stages": [report.to_dict() for report in reports],
                "interactions": None if interactions is None else summary_json(interactions),
                "histories": None if histories is None else histories.to_dict(),
                "impressions": None if impressions is None else impression_lines.summary_json(impressions),
                "removals": opened.removal_notes(),
                "languages": dict(languages.most_common()),
                "decisions": decided,
            },
            opened.setting_notes(),
        )
        return
    if not never_ran:
        output.print_balance(reports)
        for report in reports:
            if report.fit_in_use:
                for note in report.notes:
                    output.note(f"{report.stage}: {note}")
    if interactions is not None:
        output.note(summary_line(interactions))
    if histories is not None:
        output.note(history_line(histories))
    if impressions is not None:
        for line in impression_lines.summary_lines(impressions):
            output.note(line)
    shares, shown = languages_text(languages), languages.total() - languages[UNKNOWN]
    if "," in shares:
        output.note(f"languages: {shares} of the {shown:,} items whose language shows")
    for note in (*opened.setting_notes(), *opened.removal_notes()):
        output.note(note)
    if any(decided.values()):
        output.note(f"decisions: {', '.join(f'{count:,} {name}' for name, count in decided.items())}")
    output.line(f"workspace {opened.uri}: {output.size(opened.size_bytes())}")
    if any(report.balance.failed for report in reports):
        output.note(f"next: coldstart status --failed --workspace {opened.uri}")
    elif any(report.balance.pending and not report.fit_in_use for report in reports):
        output.note(f"next: coldstart run --workspace {opened.uri}")
    else:
        for report in reports:
            if report.refit_command:
                output.note(f"next, if the fit should know them: {report.refit_command} --workspace {opened.uri}")


def _check_written(workspace: Workspace) -> None:
    """Refuse a folder into which no command has written; raises `ColdstartError`."""

    if not workspace.tables():
        raise ColdstartError(
            f"no workspace at {workspace.uri}, which has no tables: make one with `coldstart run PIPELINE --workspace "
            f"{workspace.uri}`"
        )


def check(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="PIPELINE", autocompletion=complete.pipelines, help="Pipeline file, or the name of a packaged one."
        ),
    ] = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="URI",
            help="Read everything stored in this workspace, and list what is damaged.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Drop what is damaged in the workspace, so that the next run makes it again."),
    ] = False,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Check a pipeline file or a stored workspace.

    Lists all faults at once. Loads no model and runs nothing.

    \b
    Examples:
      coldstart check starter
      coldstart check shop.yaml --set text.encoder=starter-clip --json
      coldstart check --workspace shop.workspace --repair
    """

    if (pipeline is None) == (workspace is None):
        raise ColdstartError("check: give a PIPELINE or --workspace URI")
    if workspace is not None:
        if overrides:
            raise ColdstartError("check: --set goes with a PIPELINE")
        _check_workspace(workspace, repair, json)
        return
    if repair:
        raise ColdstartError("check: --repair goes with --workspace")
    assert pipeline is not None, "it was given"
    _check_pipeline(pipeline, overrides or (), json)


def _check_pipeline(pipeline: str, overrides: Sequence[str], json: bool) -> None:
    from coldstart.core.pipeline import PipelineError, load

    try:
        loaded = load(pipeline, overrides)
        from coldstart.engine.resolve import setup_faults  # the store, which a fault of YAML needs not wait for

        found = setup_faults(loaded)
    except PipelineError as error:
        found = error.faults
    result = {"pipeline": pipeline, "faults": [fault.to_dict() for fault in found]}
    if found:
        if not json:
            for fault in found:
                output.line(f"- {fault.shown()}")
        many = f"{len(found)} fault{'s' if len(found) > 1 else ''}"
        raise ColdstartError(f"{pipeline} has {many}: mend and check again", kind="settings", result=result)
    if json:
        output.as_json(result)
    else:
        output.note(
            f"{pipeline}: no faults in {len(loaded.stages)} stages: {', '.join(spec.name for spec in loaded.stages)}"
        )


def _check_workspace(workspace: str, repair: bool, json: bool) -> None:
    """List the damages of a workspace with the cost of each; exit with 1 where some are left."""
    import coldstart

    opened = coldstart.open(workspace)
    _check_written(opened)
    found = opened.check(repair=repair)
    damages = [{"table": damage.table, "damage": damage.what, "cost": damage.cost} for damage in found]
    result = {"workspace": workspace, "repaired": repair, "damages": damages}
    if not json:
        for damage in found:
            output.line(f"- {'dropped: ' if repair else ''}{damage.table}: {damage.what}; {damage.cost}")
    many = f"{len(found)} damage{'s' if len(found) != 1 else ''}"
    if found and not repair:
        raise ColdstartError(
            f"workspace {workspace} has {many}: `coldstart check --workspace {workspace} --repair` drops them, and the "
            "next run makes again what was dropped",
            kind="damaged",
            result=result,
        )
    if json:
        output.as_json(result)
    else:
        tables = f"{len(opened.tables())} tables, {output.size(opened.size_bytes())}"
        output.line(f"workspace {workspace}: " + (f"{many} dropped; run again" if found else f"no damage in {tables}"))


def doctor(workspace: Uri = DEFAULT_WORKSPACE, json: Json = False) -> None:
    """Report this machine: device, versions, models, disk.

    Of a workspace, the languages of its items, and the encoder that finds them.

    \b
    Examples:
      coldstart doctor
      coldstart doctor --workspace /data/shop.workspace
      coldstart doctor --json > machine.json
    """
    facts = examine(workspace)
    if json:
        output.as_json(facts)
    else:
        output.facts(list(facts.items()))


_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "sentence-transformers",
    "timm",
    "lancedb",
    "av",
)


def examine(workspace: str) -> dict[str, Any]:
    """Collect properties of this machine by name, as text; measures the device for a moment."""
    import torch

    device = choose_device()
    folder = Path(workspace) if "://" not in workspace else Path.cwd()
    while not is_folder(folder):
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    optional = [row for row in install.model_rows(table=OPTIONAL) if row.state != "missing"]
    states = {row.name: row.state for row in [*install.model_rows(), *optional]}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "coldstart": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": f"{device} ({name})",
        "devices": f"{', '.join(choose_devices())} (with engine.devices: all)",
        "number format": f"{choose_dtype(device)} (chosen by measurement)".replace("torch.", ""),
        "processor cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "memory": f"{psutil.virtual_memory().available / 1e9:.1f} of {psutil.virtual_memory().total / 1e9:.1f} GB free",
        "disk": f"{free / 1e9:.1f} GB free in {folder.resolve()}",
        "models": f"{install.weights_dir()}: " + ", ".join(f"{model} {state}" for model, state in states.items()),
        **_languages(workspace),
        **{package: version(package) for package in _PACKAGES},
    }


def _languages(workspace: str) -> dict[str, str]:
    """Describe the languages of a workspace's items, with the encoder to choose; nothing where there is none."""
    import coldstart
    from coldstart.core.language import languages_text

    if "://" not in workspace and not is_folder(workspace):
        return {}
    try:
        opened = coldstart.open(workspace)
        advice = opened.encoder_advice()
        found = advice or languages_text(opened.languages()) or "none shows in the titles"
    except ColdstartError as error:
        found = f"not known: {error}"
    return {"languages of the items": found}
