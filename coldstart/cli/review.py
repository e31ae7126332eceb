"""Commands of people who review a workspace: `review list`, `approve`, `reject`, `correct`, `undo` and `log`."""

from __future__ import annotations

import getpass
import json as json_module
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Uri

if TYPE_CHECKING:
    from coldstart.review.decide import DecisionReport
    from coldstart.review.queue import ReviewEntry
    from coldstart.store.decisions import Decision

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Item = Annotated[str, typer.Argument(metavar="ITEM", autocompletion=complete.items, help="Id of an item.")]
Reason = Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with the decision.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Name of the person who decides; by default the login name.")
]
Claim = Annotated[
    str | None,
    typer.Option("--claim", metavar="NAME", help="Claim of the description: an attribute, summary, keyword or query."),
]
Value = Annotated[
    str | None,
    typer.Option(
        "--value", metavar="TEXT", help="Text of the claim, where the item has several of its name: one sentence."
    ),
]


@app.callback()
def review() -> None:
    """Approve, reject or correct items, copies and claims."""


@app.command("list")
def list_queue(
    workspace: Uri = DEFAULT_WORKSPACE,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only failed, filtered, duplicate or claim.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Only what this stage turned away.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="CODE", help="Only this reason, such as too_blurry.")
    ] = None,
    item: Annotated[
        str | None, typer.Option("--item", metavar="ITEM", autocompletion=complete.items, help="Only this item.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, metavar="N", help="Entries at most.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PLACE", help="Place where the page before this one ended.")
    ] = None,
    json: Json = False,
) -> None:
    """List what waits for a decision.

    Items stand where they were turned away first. What was decided on is left out. Claims that were removed from
    descriptions are listed with `--state claim`, those of one item with `--item`.

    \b
    Examples:
      coldstart review list --workspace shop.workspace
      coldstart review list --state claim --limit 20
      coldstart review list --stage understand.quality --reason too_blurry --json
    """
    import coldstart

    page = coldstart.open(workspace).review(state, stage, reason, item, limit, after)
    if json:
        output.as_json(page.to_dict())
        return
    only_items = (state, stage, reason, item) == (None, None, None, None)
    shown = [one for one in page.entries if not only_items or one.state != "claim"]
    rows = [
        (
            one.item_id,
            _clean(one.title),
            one.state if one.claim is None else f"claim {one.claim}",
            one.stage,
            one.words,
            _clean(_detail(one)),
        )
        for one in shown
    ]
    if rows:
        columns = ("item", "title", "state", "stage", "reason", "detail")
        table = dict(zip(columns, zip(*rows, strict=True), strict=True))
        output.table_of(table, "item", ("item", "state"), ("title",), below="detail")
    for note in page.notes:
        output.note(note)
    output.line("waiting: " + ", ".join(f"{count:,} {name}" for name, count in page.counts.items()))
    if only_items and page.counts["claim"]:
        output.note(f"claims: coldstart review list --state claim --workspace {workspace}")
    if page.after is not None and len(shown) == len(page.entries):
        output.note(f"more: --after {shlex.quote(page.after)}")  # ids of strangers stand in it


@app.command("approve")
def approve(
    item: Item,
    reason: Reason,
    workspace: Uri = DEFAULT_WORKSPACE,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Gate that it passes, such as understand.quality.")
    ] = None,
    claim: Claim = None,
    value: Value = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Let an item pass a gate, or a removed claim be served.

    A gate lets it pass as long as the fields that the gate reads stay the same. A copy becomes an item of its own.

    \b
    Examples:
      coldstart review approve clip-7 --stage understand.quality -r "as meant"
      coldstart review approve clip-8 --stage understand.duplicates -r recut
      coldstart review approve sku-1 --claim colour --value Red -r "it is red"
    """
    _decide(workspace, json, item, "approve", reason=reason, by=by, stage=stage, claim=claim, value=value)


@app.command("reject")
def reject(
    item: Item,
    reason: Reason,
    workspace: Uri = DEFAULT_WORKSPACE,
    claim: Claim = None,
    value: Value = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Take an item out, or a claim of its description.

    A rejected item is in no search, list, match, audience or fit.

    \b
    Examples:
      coldstart review reject sku-1 --reason "recalled by its maker"
      coldstart review reject sku-2 --claim colour --value Red -r "it is orange"
      coldstart review reject sku-3 --claim summary --value "A red hat." -r no
    """
    _decide(workspace, json, item, "reject", reason=reason, by=by, claim=claim, value=value)


@app.command("correct")
def correct(
    item: Item,
    field: Annotated[
        str,
        typer.Argument(
            metavar="FIELD", help="Field: title, description, category, creator, tags, price or attributes.NAME."
        ),
    ],
    value: Annotated[
        str,
        typer.Argument(metavar="VALUE", help='New value; of tags and attributes JSON counts, such as ["new","sale"].'),
    ],
    reason: Reason,
    workspace: Uri = DEFAULT_WORKSPACE,
    by: By = None,
    json: Json = False,
) -> None:
    """Correct a field of an item's record.

    It has that value whatever its manifest says; `null` empties it.

    \b
    Examples:
      coldstart review correct sku-1 title "Oat drink 1 l" --reason misspelt
      coldstart review correct sku-1 attributes.colour Orange -r "in the picture"
      coldstart review correct sku-1 tags '["vegan", "drink"]' -r wrong --by ana
    """
    _decide(workspace, json, item, "correct", reason=reason, by=by, field=field, value=_parsed(field, value))


@app.command("undo")
def undo(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="Id of a decision, as `review log` lists it.")],
    reason: Reason,
    workspace: Uri = DEFAULT_WORKSPACE,
    by: By = None,
    json: Json = False,
) -> None:
    """Undo a decision; it stays in the log.

    \b
    Examples:
      coldstart review undo 2b8ec7cf26d222f8 --reason "the wrong item"
      coldstart review undo 2b8ec7cf26d222f8 --reason mistaken --by ana
      coldstart review undo 2b8ec7cf26d222f8 --reason mistaken --json
    """
    import coldstart

    report = coldstart.open(workspace).undo_decision(decision, reason=reason, by=by or _login_name())
    _print(report, json, "undone")


@app.command("log")
def log(
    workspace: Uri = DEFAULT_WORKSPACE,
    item: Annotated[
        str | None, typer.Option("--item", metavar="ITEM", autocompletion=complete.items, help="Only of this item.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, metavar="N", help="Decisions at most.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="DECISION", help="Last decision of the page before this one.")
    ] = None,
    json: Json = False,
) -> None:
    """List decisions, the newest first.

    Those that were undone stand among them.

    \b
    Examples:
      coldstart review log --workspace shop.workspace
      coldstart review log --item sku-1
      coldstart review log --limit 500 --json > decisions.json
    """
    import coldstart
    from coldstart.pages.item import decision_text

    page = coldstart.open(workspace).decisions(item, limit, after)
    if json:
        output.as_json(page.to_dict())
        return
    rows = [
        (one.decision_id, f"{one.at:%Y-%m-%d %H:%M}", one.item_id, _clean(decision_text(one.to_dict())), _clean(one.by),
         _clean(one.reason), _state(one))
        for one in page.decisions
    ]  # fmt: skip
    if not rows:
        output.line("no decisions")
        return
    columns = ("decision", "at", "item", "what", "by", "reason", "state")
    table = dict(zip(columns, zip(*rows, strict=True), strict=True))
    output.table_of(table, "decision", ("decision", "item", "state"), ("at",), below="reason")
    if page.after is not None:
        output.note(f"more: --after {shlex.quote(page.after)}")


def _detail(one: ReviewEntry) -> str:
    if one.value is not None:
        return f'"{one.value}": {one.detail}'
    return f"copy {one.detail}" if one.original else one.detail


def _state(one: Decision) -> str:
    if one.undone_at is not None:
        return f"undone by {one.undone_by}"
    return "in force" if one.in_force else "replaced by a later one"


def _decide(workspace: str, json: bool, item: str, action: str, *, by: str | None, **parts: Any) -> None:
    import coldstart

    report = coldstart.open(workspace).decide(item, action, by=by or _login_name(), **parts)
    _print(report, json, "decided")


def _print(report: DecisionReport, json: bool, done: str) -> None:
    """Print the decision, and the state of its item."""
    if json:
        output.as_json(report.to_dict())
        return
    from coldstart.pages.item import decision_text

    one, outcome = report.decision, report.outcome
    decided = _clean(decision_text(one.to_dict()))
    output.line(f"{done}: {decided} ({one.item_id}, decision {one.decision_id}, by {_clean(one.by)})")
    if outcome is not None:
        why = f": {outcome.reason} at {outcome.stage}, {_clean(outcome.detail)}" if outcome.reason else ""
        output.note(f"{one.item_id} is {outcome.state} now{why}")
    if report.publication is not None:
        output.line(f"published {report.publication}")


def _parsed(field: str, value: str) -> Any:
    """Read a value: `null` empties a field; JSON counts for tags and attributes, any other text is a text."""
    if value == "null":
        return None
    if field != "tags" and not field.startswith("attributes."):
        return value
    try:
        return json_module.loads(value)
    except (ValueError, RecursionError):
        return value


def _login_name() -> str:
    from coldstart.errors import ColdstartError

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ColdstartError("review: this account has no name: give one with --by", kind="usage") from error


def _clean(text: str | None) -> str | None:
    """Text of an item or a person without control characters, which would steer the terminal."""
    from coldstart.pages.page import clean

    return None if text is None else clean(text)
