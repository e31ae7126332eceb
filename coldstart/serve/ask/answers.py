"""Answers to questions, and the calls of tools for each: a bounded number, whose results the check reads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coldstart.errors import ColdstartError
from coldstart.serve.tool_results import ToolResult
from coldstart.serve.tools import Tools

NOTHING = "the catalogue does not say"
KINDS = (
    "which items meet conditions", "how many, how many different, average, total, by group",
    "cheapest, dearest, newest, oldest",
    "compare two items", "a field of an item", "shown, said or written in a video", "similar items", "copies",
    "who should see an item", "what a user should see, or who liked an item", "why an item is not served",
)  # fmt: skip
"""Kinds of questions that the router knows."""
NOT_UNDERSTOOD = f"I do not know this kind of question. I know: {'; '.join(KINDS)}."

MOST_CALLS = 8
CALLED = (
    "about", "search", "list_items", "item", "similar", "match", "recommend", "audience", "status", "explain_item",
    "compare_items", "aggregate", "ledger", "copies",
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
                    *((str(one["untrusted_group"]), one["value"]) for one in known["groups"]),
                    ("value", known["value"]),  # after a group that is called so
                    ("items", known["items"]),
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


@dataclass(frozen=True)
class Cite:
    """Ground of a sentence: a field of an item, or a number of a call of `aggregate`."""

    field: str
    item: str | None = None
    call: int | None = None

    def __str__(self) -> str:
        return f"[{self.item}#{self.field}]" if self.item is not None else f"[call {self.call}#{self.field}]"


@dataclass(frozen=True)
class Sentence:
    """Sentence of an answer."""

    text: str
    cites: tuple[Cite, ...]

    def __str__(self) -> str:
        return f"{self.text} {' '.join(map(str, self.cites))}"


@dataclass
class Answer:
    """Answer to one question.

    Attributes:
        intent: what the question was taken for; empty where a model planned.
        items: ids that the answer names, in its order; value: its number, if it is one.
        users: ids of users that it names.
        outcome: `answered`; `none`: the catalogue has nothing that answers it; `not_understood`: it was not read.
        why: the reason of the last two, in words; notes: what the answer leaves out, a line each.
        cut: sentences that were removed, with the reason.
        steps: calls of tools; tokens: read and written by a model.
    """

    question: str
    generator: str
    intent: str = ""
    sentences: list[Sentence] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    value: float | None = None
    users: list[str] = field(default_factory=list)
    outcome: Literal["answered", "none", "not_understood"] = "answered"
    why: str = ""
    notes: list[str] = field(default_factory=list)
    cut: list[tuple[str, str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def refused(self) -> bool:
        """Nothing was answered."""
        return self.outcome != "answered"

    @property
    def text(self) -> str:
        """The answer as lines, a sentence each with its cites."""
        return self._refusal() if self.refused else "\n".join(map(str, self.sentences))

    def _refusal(self) -> str:
        if self.outcome == "none":
            return f"{NOTHING}: {self.why}" if self.why else NOTHING
        return self.why or NOT_UNDERSTOOD

    def to_dict(self) -> dict[str, Any]:
        """Write the answer as plain values."""
        return {
            "question": self.question,
            "generator": self.generator,
            "intent": self.intent,
            "outcome": self.outcome,
            "answer": self._refusal() if self.refused else "\n".join(one.text for one in self.sentences),
            "sentences": [{"text": one.text, "cites": [_plain(cite) for cite in one.cites]} for one in self.sentences],
            "items": self.items,
            "users": self.users,
            "value": self.value,
            "refused": self.refused,
            "why": self.why,
            "notes": self.notes,
            "cut": [{"text": text, "reason": reason} for text, reason in self.cut],
            "steps": [_step(one) for one in self.steps],
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }


def _plain(cite: Cite) -> Mapping[str, Any]:
    return {"item_id": cite.item, "call": cite.call, "field": cite.field}


def _step(step: Step) -> Mapping[str, Any]:
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in step.arguments.items()}
    return {
        "call": step.number,
        "tool": step.tool,
        "arguments": given,
        "seconds": round(step.seconds, 3),
        "items": list(step.items),
        "fault": step.fault,
    }
