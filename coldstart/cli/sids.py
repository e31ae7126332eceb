"""`coldstart sids`: print semantic IDs, the tree of their codes and their health; write them as a table or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Uri

if TYPE_CHECKING:
    from coldstart.api.workspace import Workspace
    from coldstart.semantic_ids.health import Health

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("sids")(sids)


def sids(
    item: Annotated[
        str | None, typer.Argument(metavar="ITEM", autocompletion=complete.items, help="Id of an item.")
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="12-7", help="List the items whose ID begins with these codes.")
    ] = None,
    health: Annotated[
        bool, typer.Option("--health", help="Measure uniqueness, reach of new items, churn and agreement.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a page with the tree of codes; with --health its card too."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write all IDs as .csv, .tsv, .jsonl, .json or .parquet."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="DIGITS", help="Read this version; by default the one that is served."),
    ] = None,
    json: Json = False,
) -> None:
    """Show semantic IDs: of an item, by prefix, or their health.

    Without an item or an option: the versions that are stored, and the commonest first codes.

    \b
    Examples:
      coldstart sids sku-9 --workspace shop.workspace
      coldstart sids --prefix 12-7
      coldstart sids --health --out sids.html
    """
    import coldstart
    from coldstart.errors import ColdstartError

    if sum((item is not None, prefix is not None, health, export is not None)) > 1:
        raise ColdstartError("ITEM, --prefix, --health and --export exclude each other: give one of them")
    if out is not None and (item is not None or prefix is not None or export is not None):
        raise ColdstartError("--out is for the page of all codes, alone or with --health: leave out the other")
    output.check_page(out)
    opened = coldstart.open(workspace)
    if export is not None:
        rows = opened.export_sids(export, version)
        if json:
            output.as_json({"out": str(export), "rows": rows})
        else:
            output.line(f"{rows:,} semantic IDs: {export}")
    elif item is not None or prefix is not None:
        _list_items(opened, item, prefix, version, json)
    else:
        _show_all(opened, health, out, version, json)


def _list_items(opened: Workspace, item: str | None, prefix: str | None, version: str | None, json: bool) -> None:
    rows = opened.sids(item, prefix=prefix, version=version).to_pylist()
    beside = []
    if item is not None:  # those that share all codes but the last
        above = rows[0]["codes"][:-1]
        beside = [one for one in opened.sids(prefix=above, version=version).to_pylist() if one["item_id"] != item]
    if json:
        output.as_json({"items": rows, "beside": beside})
        return
    if not rows:
        output.note(f"no item's ID begins with {prefix}")
        return
    shown = [*rows, *beside][:_SHOWN] if item is not None else rows
    if item is not None:
        output.note(f"{item}: {rows[0]['sid']}; {len(beside):,} other items share all codes but the last")
    _print_rows(shown)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    values: dict[str, list[Any]] = {
        "sid": [row["sid"] for row in rows],
        "title": [row["title"] or row["item_id"] for row in rows],
        "category": [row["category"] for row in rows],
        "item": [row["item_id"] for row in rows],
    }
    output.table_of(values, main="title", whole=("sid", "item"), spare=("category",))


def _show_all(opened: Workspace, health: bool, out: Path | None, version: str | None, json: bool) -> None:
    card = opened.sid_health(version) if health else None
    if out is not None:
        with output.writing(out):
            opened.sid_page(out, card, version)
    versions = opened.sid_versions()
    if json:
        page = None if out is None else str(out)
        if card is not None:
            output.as_json({**card.to_dict(), "versions": versions, "page": page})
        else:
            codes = [_branch(one) for one in opened.sid_branches((), version)]
            output.as_json({"versions": versions, "first": codes, "page": page})
        return
    if card is not None:
        _print_health(card)
    else:
        _print_versions(versions)
        first = opened.sid_branches((), version)
        rows = [[str(one.prefix[0]), one.items, one.children] for one in first[:_SHOWN]]
        output.table(["first code", "items", "next codes"], rows)
        if len(first) > _SHOWN:
            output.note(f"{len(first) - _SHOWN:,} more first codes; `coldstart sids --out sids.html` shows all")
    if out is not None:
        output.line(f"page: {out}")


def _branch(one: Any) -> dict[str, Any]:
    return {"prefix": list(one.prefix), "items": one.items, "children": one.children}


def _print_versions(versions: Sequence[Mapping[str, Any]]) -> None:
    served = next((place for place, one in enumerate(versions) if one["served"]), len(versions))
    for place, one in enumerate(versions):
        sizes = " x ".join(map(str, one["sizes"] or ()))
        state = (
            "served" if place == served else "stored" if place > served else "served from the next `coldstart index`"
        )
        output.note(
            f"version {one['version']} ({state}): {one['method']} {sizes} of space {one['space']}, collisions "
            f"{one['collisions']}, {one['made_at'][:16]}"
        )


def _print_health(card: Health) -> None:
    output.facts(
        [
            ("version", f"{card.version}: {card.method} of space {card.space}, collisions {card.rule}"),
            ("items", f"{card.items:,}"),
            ("unique IDs", f"{card.unique_share:.1%}; {card.nearest_unique_share:.1%} before collisions are resolved"),
            (
                "items that share one",
                f"{card.colliding_share:.1%}; {card.nearest_colliding_share:.1%} before, at most "
                f"{card.nearest_largest_bucket:,} of one ID",
            ),
        ]
    )
    reached = {one.level: one.measure for one in card.reach}
    rows = []
    for place, level in enumerate(card.levels, 1):
        reach, moved = reached.get(place), card.churn.refit if card.churn else ()
        rows.append([
            place,
            f"{level.perplexity:.0f} of {level.codes}",
            level.largest,
            None if level.variance_left is None else f"{level.variance_left:.0%}",
            f"{level.prefixes:,}",
            None if reach is None else f"{reach.value:.2f} ({reach.low:.2f}–{reach.high:.2f})",
            *([f"{moved[place - 1]:.0%}"] if moved else []),
        ])  # fmt: skip
    columns = ["level", "perplexity", "largest", "variance left", "prefixes", "new items in reach"]
    columns += ["moved by a refit"] if card.churn and card.churn.refit else []
    output.table(columns, rows, whole=("perplexity", "new items in reach"))
    if card.reach:
        from coldstart.semantic_ids.page import new_items_text

        output.note(
            f"in reach: of {new_items_text(card)} held-out new items, those whose prefix an item of the fit has, "
            "with 95 % intervals"
        )
    if card.churn:
        refit = (
            "by a new fit that begins with the last codebooks those of the last column, " if card.churn.refit else ""
        )
        output.note(
            f"when these come, {card.churn.moved:,} of {card.churn.items:,} old items move; {refit}by one that begins "
            f"anew {card.churn.fresh:.0%} at level 1"
        )
    if card.emitted is not None:
        output.note(f"new items in any list of 50 by the sequence model: {card.emitted:.0%}, as its fit measured")
    if card.agreement:
        from coldstart.semantic_ids.page import agreement_cells, agreement_note

        columns, cells = agreement_cells(card.agreement)
        output.table(columns, cells, whole=columns[1:])
        output.note(agreement_note(card))
    for text in card.warnings:
        output.note(f"warning: {text}")
