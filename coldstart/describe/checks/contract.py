"""What is checked against what, and the verdict: plain data that every check shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coldstart.core.description import FIELDS, Description

TEXTS = ("title", "description", "category", "tags", "creator", "transcript", "screen_text")
"""Texts of an item that may be the ground of a claim, the first that has it named first."""

Status = Literal["written", "cut", "fallback"]
Policy = Callable[[str], Mapping[str, float]]
"""Text -> rule of the safety policy -> its score, 0 to 1."""


@dataclass(frozen=True)
class Sources:
    """What is known of an item besides its description.

    Attributes:
        texts: field of `TEXTS` -> its text; lists joined with commas.
        facts: what the record states: `price` as a number, `brand` or `creator`, `category`, attributes by name.
        seen: visual attribute -> value -> probability that a picture agrees, calibrated.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """What one claim rests on.

    Attributes:
        claim: name of an attribute, or `summary`, `keyword`, `query`.
        value: what is claimed.
        ground: a field of `TEXTS`, `record` or `picture`.
        detail: the words that were found, or the probability.
    """

    claim: str
    value: str
    ground: str
    detail: str


@dataclass(frozen=True)
class Cut:
    """One claim that was taken out.

    Attributes:
        claim: as `Ground.claim`, or `text` where it is the whole answer.
        reason: snake_case word; `detail`: the value and the limit, for a person.
    """

    claim: str
    value: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Rules:
    """What is asked of a description.

    Attributes:
        output: fields that it has, in the prompt's order.
        languages: codes such as `en` that it may be written in; none: any.
        min_seen: probability that a picture must reach to be the ground of a visual attribute.
        max_copy: share of a summary's words that may stand in runs of eight or more words of one source.
        max_unsupported: share of its words, those that only bind left out, that may stand in no source.
        brands, categories: those of the whole catalogue: naming one that no source of the item names is a fault.
        policy: the safety policy, or None; a score of `max_unsafe` or more is a fault.
    """

    output: tuple[str, ...] = FIELDS
    languages: tuple[str, ...] = ("en",)
    min_seen: float = 0.5
    max_copy: float = 0.9
    max_unsupported: float = 0.5
    brands: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    policy: Policy | None = None
    max_unsafe: float = 0.8


@dataclass(frozen=True)
class Checked:
    """The verdict on one description.

    Attributes:
        description: what may be kept: every claim in it has a ground.
        grounds, cut: of each claim why it stays, and why it went, in the order of the description.
        status: `written` where nothing went; `cut` where something did; `fallback` where no sentence of the model and
            no attribute was left, so that the summary is a text of the item itself.
        language: of the summary, as far as it shows (`und` where it does not).
    """

    description: Description
    grounds: tuple[Ground, ...]
    cut: tuple[Cut, ...]
    status: Status
    language: str
