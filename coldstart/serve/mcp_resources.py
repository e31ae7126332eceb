"""Resources and prompts of the Model Context Protocol: items and reports to read, and questions to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from coldstart.core.error_fields import error_fields
from coldstart.errors import ColdstartError
from coldstart.serve import tool_results
from coldstart.serve.bounded import MOST_BYTES, shorten, shrink, without_places
from coldstart.serve.mcp_tools import DATA
from coldstart.serve.tool_parts import MOST_PAGE
from coldstart.serve.tools import PARTS, Tools

DEADLINE_S = 10.0
"""Seconds of a call, and of reading a resource."""
REPORTS = {
    "about": "Items, fields with frequent values, and spaces",
    "status": "Items in each state, stage by stage",
    "impressions": "Showings that were logged, by outcome",
    "runs": "The last runs of stages",
    "publications": "Published versions that are stored",
    "ledger": "Items that were turned away, with reasons",
}
"""Name of a report -> what it holds."""


def add_resources(server: MCPServer[Any], tools: Tools) -> None:
    """Add each item, and each report by its name."""

    async def read(work: Callable[[], tool_results.ToolResult]) -> str:
        try:
            with anyio.fail_after(DEADLINE_S):
                result = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            raise ResourceError(f"no answer within {DEADLINE_S:g} s") from None
        except ColdstartError as error:
            fields = error_fields(error)
            made = ResourceNotFoundError if fields["kind"] == "not_found" else ResourceError
            raise made(fault_text(fields)) from None
        return result.model_dump_json()

    @server.resource(
        "coldstart://item/{item_id}", mime_type="application/json", description="One item with its claims." + DATA
    )
    async def item(item_id: str) -> str:
        return await read(partial(tools.item, item_id, PARTS, MOST_BYTES))

    def add(name: str) -> None:
        @server.resource(
            f"coldstart://report/{name}",
            name=name,
            mime_type="application/json",
            description=f"{REPORTS[name]}.{DATA}",
        )
        async def report() -> str:
            return await read(partial(_report, tools, name))

    for name in REPORTS:  # each is listed, so that hosts can offer it
        add(name)


class _Rows(tool_results.ToolResult):
    """Rows of a report."""

    rows: list[dict[str, Any]]


def _report(tools: Tools, name: str) -> tool_results.ToolResult:
    if name in ("about", "status", "impressions"):
        work: Callable[[int], tool_results.ToolResult] = getattr(tools, name)
        return work(MOST_BYTES)
    if name == "ledger":
        return tools.ledger(limit=MOST_PAGE, max_bytes=MOST_BYTES)
    if name == "publications":
        found = tools.catalogue.publications()
        rows = [one.model_dump(mode="json") for one in found.publications]
        return shrink(_Rows(publication=found.publication, rows=rows), MOST_BYTES)
    if name == "runs":
        made = tools.catalogue.runs()
        plain = [
            {"stage": one.stage, "started_at": one.started_at, "seconds": one.seconds, **_numbers(one.report)}
            for one in made.runs
        ]
        return shrink(_Rows(publication=made.publication, rows=plain), MOST_BYTES)
    raise ColdstartError(f"report {name[:60]!r}: there are {', '.join(REPORTS)}", kind="not_found")


def _numbers(report: dict[str, Any]) -> dict[str, Any]:
    """Keep the counts of a run's report; its texts may name files."""
    return {name: value for name, value in report.items() if isinstance(value, int | float)}


def add_prompts(server: MCPServer[Any], tools: Tools) -> None:
    """Add questions to begin with."""

    @server.prompt(description="Find items, and say why each fits.")
    def find(what: str) -> str:
        return (
            f"Find items of the catalogue for: {shorten(what)}\nCall about, then search or list_items with conditions "
            "over its fields. Name each item by its item_id and the field that shows that it fits. If none fits, say "
            "so."
        )

    @server.prompt(description="Compare two items.")
    def compare(first: str, second: str) -> str:
        return f"Compare the items {shorten(first)} and {shorten(second)} by compare_items. List what differs."

    @server.prompt(description="Tell why an item is missing or failed.")
    def explain_failure(item_id: str) -> str:
        return (
            f"Call explain_item for {shorten(item_id)}. Say which stages it did not pass, why, and the next step of "
            "each."
        )

    @server.prompt(description="Summarise the catalogue in numbers.")
    def overview() -> str:
        return (
            "Call about and status, then aggregate for counts and prices by category. Summarise in ten lines, every "
            "number from an answer."
        )

    @server.prompt(description="List what is new, and who should see it.")
    def new_items(since: str = "yesterday") -> str:
        seen = " and call audience for each" if tools.users else ""
        return f"List items created since {shorten(since)} by list_items with order_by created_at{seen}, by item_id."


def fault_text(fields: dict[str, str | None]) -> str:
    """Write a fault as JSON, without places of this machine and without saying anything twice."""
    kept = {name: value and shorten(without_places(value), 1000) for name, value in fields.items() if value}
    said = kept.get("message") or ""
    kept = {name: value for name, value in kept.items() if name in ("kind", "message") or str(value) not in said}
    return json.dumps({"error": kept}, ensure_ascii=False)
