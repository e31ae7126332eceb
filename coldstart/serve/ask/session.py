"""Call the tools for one question: a bounded number of times, keeping what was returned for the check of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.serve.tool_results import ToolResult
from coldstart.serve.tools import Tools

MOST_CALLS = 8
CALLED = (
    "about", "search", "list_items", "item", "similar", "match", "recommend", "audience", "status", "explain_item",
    "compare_items", "aggregate", "ledger",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One call of a tool.

    Attributes:
        number: from 1; items: ids that it returned; fault: why it has no answer.
    """

    number: int
    tool: str
    arguments: Mapping[str, Any]
    seconds: float
    items: tuple[str, ...]
    fault: str = ""


class CallsSpentError(ColdstartError):
    """The calls of a question are spent."""


@dataclass
class Session:
    """Calls for one question.

    Attributes:
        fields: item -> field -> its text, as tools returned it in this session.
        numbers: number of a call -> name -> number, of aggregates.
        named: items that the question names.
    """

    tools: Tools
    most_calls: int = MOST_CALLS
    steps: list[Step] = field(default_factory=list)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    numbers: dict[int, dict[str, float]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool and keep what it returned.

        Raises:
            CallsSpentError: as many calls were made as a question may make.
            ColdstartError: the tool refused.
        """
        if len(self.steps) >= self.most_calls:
            raise CallsSpentError(f"{self.most_calls} calls were made: ask for less", kind="usage")
        if tool not in CALLED:
            raise ColdstartError(f"tool {tool[:40]!r}: there are {', '.join(CALLED)}", kind="usage")
        start, number = time.monotonic(), len(self.steps) + 1
        try:
            result: ToolResult = getattr(self.tools, tool)(**arguments)
        except (ColdstartError, TypeError) as error:
            fault = str(error) if isinstance(error, ColdstartError) else f"{tool}: arguments it does not take"
            self.steps.append(Step(number, tool, arguments, time.monotonic() - start, (), fault))
            raise error if isinstance(error, ColdstartError) else ColdstartError(fault, kind="usage") from None
        known = result.model_dump(mode="json")
        items = tuple(dict.fromkeys(self._keep(known)))
        if tool == "aggregate":
            self.numbers[number] = {
                name: value
                for name, value in (
                    ("value", known["value"]),
                    ("items", known["items"]),
                    *((str(one["untrusted_group"]), one["value"]) for one in known["groups"]),
                )
                if isinstance(value, int | float)
            }
        if tool == "match":
            shown = self.fields.setdefault(known["video"], {})
            shown["shows"] = "; ".join(
                f"{one['item_id']} {one['untrusted_title'] or ''} {'' if one['frame_s'] is None else one['frame_s']}"
                for one in known["items"]
            )
        if tool == "audience":
            people = ", ".join(one["user_id"] for one in known["people"])
            self.fields.setdefault(known["item_id"], {})["audience"] = people
        self.steps.append(Step(number, tool, arguments, time.monotonic() - start, items))
        return result

    def _keep(self, value: Any) -> list[str]:
        """Keep the fields of all items in an answer; returns their ids."""
        found: list[str] = []
        if isinstance(value, Mapping):
            item_id = value.get("item_id")
            if isinstance(item_id, str):
                found.append(item_id)
                own = self.fields.setdefault(item_id, {})
                for name, one in value.items():
                    plain = name.removeprefix("untrusted_")
                    if isinstance(one, Mapping):
                        for inner, text in one.items():
                            own.setdefault(inner if plain == "match" else f"{plain}.{inner}", str(text))
                    elif isinstance(one, list):
                        if one and all(isinstance(entry, str) for entry in one):
                            own[plain] = ", ".join(one)
                    elif one is not None and name != "item_id":
                        own[plain] = str(one)
            for one in value.values():
                found += self._keep(one)
        elif isinstance(value, list):
            for one in value:
                found += self._keep(one)
        return found
