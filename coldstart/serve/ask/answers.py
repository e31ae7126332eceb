"""Answers to questions: sentences, each with the fields that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coldstart.serve.ask.session import Step

NOTHING = "the catalogue does not say"


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
        refused: nothing in the catalogue answers it; why: the reason, in words.
        cut: sentences that were removed, with the reason.
        steps: calls of tools; tokens: read and written by a model.
    """

    question: str
    generator: str
    intent: str = ""
    sentences: list[Sentence] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    value: float | None = None
    refused: bool = False
    why: str = ""
    cut: list[tuple[str, str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The answer as lines, a sentence each."""
        return NOTHING if self.refused else "\n".join(map(str, self.sentences))

    def to_dict(self) -> dict[str, Any]:
        """Write the answer as plain values."""
        return {
            "question": self.question,
            "generator": self.generator,
            "intent": self.intent,
            "answer": NOTHING if self.refused else "\n".join(one.text for one in self.sentences),
            "sentences": [{"text": one.text, "cites": [_plain(cite) for cite in one.cites]} for one in self.sentences],
            "items": self.items,
            "value": self.value,
            "refused": self.refused,
            "why": self.why,
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
