"""`coldstart show`: print all that is known of one item, and write it as an HTML card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Uri

_LONGEST_NAME = 100  # bytes; file systems take 255


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("show")(show)


def show(
    item: Annotated[str, typer.Argument(metavar="ITEM", autocompletion=complete.items, help="Id of an item.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Path of the HTML card; by default ITEM.html in this folder."),
    ] = None,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write the HTML card, or only print.")] = True,
    json: Json = False,
) -> None:
    """Show all that is known of one item.

    Its timeline, copies, safety, quality and state in every stage; the HTML card has its description, too. With
    --json a card is written only if --out names a file.

    \b
    Examples:
      coldstart show clip-7 --workspace clips.workspace
      coldstart show clip-7 --out clip-7-card.html
      coldstart show sku-1 --no-html
    """
    import coldstart
    from coldstart.errors import ColdstartError
    from coldstart.pages.item import item_page

    if out is not None and not html:
        raise ColdstartError(f"--out {out} and --no-html exclude each other: give one of them")
    output.check_page(out)
    opened = coldstart.open(workspace)
    known = opened.dossier(item).to_dict()
    if not json:
        _print(known)
    if html and (out is not None or not json):
        path = out or Path(file_name(item))
        with output.writing(path):
            item_page(known, path, limits=opened.media_limits())
        if not json and (note := opened.trust_note()):
            output.note(f"note: {note}")
        if not json:
            output.line(f"card: {path}")
    if json:
        output.as_json(known)


def file_name(item_id: str) -> str:
    """Name the card of an item so that any file system takes it; different ids get different names."""
    safe = re.sub(r"[^\w.-]+", "_", item_id, flags=re.ASCII).lstrip(".-")[:_LONGEST_NAME]
    if safe != item_id:
        safe = f"{safe}-{sha256(item_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")
    return f"{safe}.html"


def _print(known: Mapping[str, Any]) -> None:
    from coldstart.core.reasons import plain
    from coldstart.pages.item import decision_text, facts_of, format_span, format_time, link_note, stage_rows

    item = known["item"]
    output.note(" · ".join(str(part) for part in (known["item_id"], item.get("kind"), item.get("title")) if part))
    facts = [*facts_of(known), ("description", item.get("description"))]
    if known["described"]:
        facts.append(("described as", known["described"]["summary"]))
    if known["safety"] and not known["safety"].get("findings"):
        facts.append(("safety", f"nothing found by policy {known['safety'].get('policy')}"))
    if known["quality"]:
        measures = (f"{name} {_value(value)}" for name, value in known["quality"].items())
        facts.append(("quality", ", ".join(measures)))
    if not known["timeline"] and item.get("kind") == "video":
        facts.append(("timeline", "nothing is known of its shots, speech or text on screen; see the stages"))
    output.facts([(name, _clean(value)) for name, value in facts if value])
    if known["timeline"]:
        output.line("\ntimeline")
        output.facts([(_when(entry), _clean(entry["text"])) for entry in known["timeline"]])
    for entry in known["dropped"]:
        output.note(f"left out: {format_span(entry)} {_clean(entry['text'])}: {plain(entry['reason'])}")
    described = known["described"] or {}
    _section("statements", ("statement", "evidence", "words"), [
        (ground["value"], ground["ground"].replace("_", " "), ground["detail"])
        for ground in described.get("grounds") or ()
        if ground["claim"] == "summary"
    ])  # fmt: skip
    _section("claims", ("claim", "value", "evidence", "words"), [
        (claim["name"], claim["value"], claim["ground"].replace("_", " "), claim["detail"])
        for claim in described.get("attributes") or ()
    ])  # fmt: skip
    _section("removed claims", ("claim", "value", "reason", "detail"), [
        (claim["claim"], claim["value"], plain(claim["reason"]).removeprefix("that "), claim["detail"])
        for claim in described.get("cut") or ()
    ], whole=("reason",))  # fmt: skip
    links = [("copy of", known["duplicate_of"])] if known["duplicate_of"] else []
    links += [("original of", link) for link in known["copies"]]
    _section("duplicates", ("title", "link", "item", "score", "changes", "speed", "the same"), [
        (
            link["title"],
            how,
            link["item_id"],
            _share(link["score"]),
            link["changes"] or None,
            link["speed"],
            "; ".join(
                f"{format_span(match)} at {format_time(match['other_start_s'])}–{format_time(match['other_end_s'])}"
                for match in link["matches"]
            ),
        )
        for how, link in links
    ], whole=("item",))  # fmt: skip
    if note := link_note(known):
        output.note(note)
    _section("safety", ("rule", "score", "source", "quote", "time"), [
        (entry["rule"], _share(entry["score"]), entry["source"], entry["quote"], format_time(entry["at_s"]))
        for entry in known["safety"].get("findings") or ()
    ])  # fmt: skip
    _section("decisions", ("decision", "what", "by", "reason"), [
        (one["decision_id"], decision_text(one), one["by"], one["reason"]) for one in known["decisions"]
    ], whole=("decision",))  # fmt: skip
    _section("stages", ("stage", "state", "reason", "detail"), [
        (stage["stage"], stage["state"], plain(stage["reason"]) if stage["reason"] else None, stage["detail"] or None)
        for stage in stage_rows(known["stages"])
    ], whole=("stage", "state"))  # fmt: skip


def _when(entry: Mapping[str, Any]) -> str:
    from coldstart.pages.item import format_span

    sure = "" if entry["confidence"] is None else f" {entry['confidence']:.2f}"
    return f"{format_span(entry)} {entry['source']}{sure}"


def _section(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], whole: Sequence[str] = ()) -> None:
    """Print a table under its name, without columns of no value; nothing if it has no rows."""
    if rows:
        output.line(f"\n{name}")
        cells = [[_clean(cell) for cell in row] for row in rows]
        output.table_of(dict(zip(columns, zip(*cells, strict=True), strict=True)), columns[0], whole, below="detail")


def _clean(cell: Any) -> Any:
    """Text of an item without control characters, which would steer the terminal."""
    from coldstart.pages.page import clean

    return clean(cell) if isinstance(cell, str) else cell


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
