"""`coldstart remove`: take items, or all that is stored of a user, out of a workspace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Kind, Uri, Where

if TYPE_CHECKING:
    from coldstart.store.removal import Removal

_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("remove")(remove)


def remove(
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM…", help="Ids of items.", autocompletion=complete.items)
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", "-m", metavar="FILE", help="Remove the items that this file names.")
    ] = None,
    where: Where = None,
    kind: Kind = None,
    interactions: Annotated[
        bool, typer.Option("--interactions", help="Remove the interactions with the items and their impressions, too.")
    ] = False,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="ID", help="Erase the interactions and impressions of this user; repeatable."),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option("--users", metavar="FILE", help="Erase those of the users in a CSV, JSONL, Parquet or text file."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let removed items or users come back with the next run or ingest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go; remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove items from a workspace, or erase a user.

    Items go from every table, index and earlier publication; a run whose manifest still names one turns it away. Of a
    user, all interactions and impressions go from every file of the workspace, and later logs are read without that
    user.

    \b
    Examples:
      coldstart remove sku-1 sku-2 --workspace shop.workspace
      coldstart remove --where "category = 'Discontinued'" --dry-run
      coldstart remove --user u17 --yes
    """
    import coldstart
    from coldstart.errors import ColdstartError

    of_items = bool(items) or any(value is not None for value in (manifest, where, kind))
    of_users = bool(user) or users is not None
    if of_items == of_users:
        raise ColdstartError(
            "remove: give items (ITEM, --manifest, --where, --kind) or users (--user, --users), one of both"
        )
    if of_users and interactions:
        raise ColdstartError("remove: --interactions goes with items; of a user the interactions always go")
    opened = coldstart.open(workspace)
    if undo:
        if where is not None or kind is not None:
            raise ColdstartError("remove --undo: name the items or a --manifest of them, or users")
        _undo(opened, list(items or ()), manifest, _users(user, users), json)
        return
    call: Any = opened.remove if of_items else opened.remove_users
    arguments = list(items or ()) if of_items else _users(user, users)
    options: dict[str, Any] = (
        {"manifest": manifest, "where": where, "kind": kind, "interactions": interactions} if of_items else {}
    )
    if not (yes or dry_run):
        if json or not sys.stdin.isatty():
            raise ColdstartError("remove: there is no terminal to ask on: look with --dry-run, then give --yes")
        preview = call(arguments, dry_run=True, **options)
        _print(preview, workspace)
        if not preview.removed:
            return
        typer.confirm("remove this for good?", abort=True)
    report = call(arguments, dry_run=dry_run, **options)
    if json:
        output.as_json(report.to_dict())
    else:
        _print(report, workspace)
        if dry_run:
            output.line("dry run: nothing was removed")


def _users(user: list[str] | None, users: Path | None) -> list[str]:
    """Collect the users that the options name."""
    named = list(user or ())
    if users is not None:
        from coldstart.recommend.batch import read_user_ids

        named += read_user_ids(users)
    return named


def _undo(opened: Any, items: list[str], manifest: Path | None, users: list[str], json: bool) -> None:
    back = opened.undo_removal(items, manifest=manifest, users=users)
    if json:
        output.as_json({"back": back})
    else:
        output.line(f"{_named(back)} may come back: with the next `coldstart {'ingest' if users else 'run'}`")


def _named(ids: Any) -> str:
    listed = list(ids)
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _print(report: Removal, workspace: str) -> None:
    """Print the rows by table, what stays, and what to do next."""
    from coldstart.store.removal import counted

    would = "would go" if report.dry_run else "removed"
    if report.rows:
        output.table(("table", f"rows {would}"), [list(entry) for entry in report.rows.items()])
    many = counted(report.removed, report.what)
    sizes = "" if report.dry_run else f"; disk {output.size(report.bytes_before)} -> {output.size(report.bytes_after)}"
    if report.removed:
        output.line(f"{many} {would}{sizes}")
    if report.resumed:
        output.line(f"{report.resumed:,} of them from a removal that was interrupted")
    if report.already:
        output.line(f"removed before: {_named(report.already)}")
    if report.unknown:
        output.line(f"not in the workspace: {_named(report.unknown)}")
    if report.what == "item":
        _print_item_notes(report, workspace)
    elif report.as_creator:
        named = counted(report.as_creator, "item")
        output.line(
            f"{named} with such a creator stay: `coldstart remove --where \"creator = 'ID'\"` removes what is of ID"
        )
    for fit in report.fits:
        output.line(str(fit))


def _print_item_notes(report: Removal, workspace: str) -> None:
    from coldstart.store.removal import counted

    if report.copies:
        copies = "a linked copy" if len(report.copies) == 1 else f"{len(report.copies):,} linked copies"
        output.line(
            f"not served until `coldstart run --workspace {workspace}` matches them anew: {copies}, "
            f"{_named(report.copies)}"
        )
    if report.interactions_kept:
        kept = counted(report.interactions_kept, "interaction")
        output.line(f"{kept} with them stay as histories of users: --interactions removes them")
    if report.impressions_kept:
        kept = counted(report.impressions_kept, "impression")
        output.line(f"{kept} of them stay as what users were shown: --interactions removes them")
    if report.publication and not report.dry_run:
        dropped = f"; no rollback to {counted(report.publications_dropped, 'publication')} that held them"
        output.line(f"served: {report.publication}{dropped if report.publications_dropped else ''}")
