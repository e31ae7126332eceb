"""Define the plain data of the checks: sources and rules in, grounds, cuts and verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coldstart.core.description import FIELDS, Description

TEXTS = ("title", "description", "category", "tags", "creator", "transcript", "screen_text")
"""Text fields of an item that may support a claim, in the order in which they are searched."""

REVIEW = "review"
"""Ground of a claim that a person approved."""
APPROVED = "approved by a person"
REJECTION = "rejected_by_review", "a person rejected it"
"""Fault of a claim that a person rejected."""

Status = Literal["written", "cut", "fallback"]
Policy = Callable[[str], Mapping[str, float]]
"""Text -> rule of the safety policy -> its score, 0 to 1."""


@dataclass(frozen=True)
class Sources:
    """Sources of an item besides its description.

    Attributes:
        texts: field of `TEXTS` -> its text; lists joined with commas.
        facts: of the record: `price` as a number, `brand` or `creator`, `category`, attributes by name.
        seen: attribute -> value -> calibrated probability that it is true, of values that may be stated as facts.
        likely: the same of all values that were predicted.
        kind: `product` or `video`; evidence: transcript, screen text and timeline of its media, for quotations.
        templates: see `coldstart.describe.sentences.plain_sentences`.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    likely: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kind: str = "product"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """Support of one claim.

    Attributes:
        claim: name of an attribute, or `summary`, `keyword`, `query`.
        value: claimed value.
        ground: a field of `TEXTS`, `record`, `predicted` (see `coldstart.describe.attribute_model`), `facts` for a
            sentence that the facts of the item make by fixed rules, or `review` for a claim that a person approved.
        detail: the matching words, or the probability.
    """

    claim: str
    value: str
    ground: str
    detail: str


@dataclass(frozen=True)
class Cut:
    """Claim that was cut.

    Attributes:
        claim: as `Ground.claim`, or `text` for the whole answer.
        reason: snake_case word; `detail`: value and limit, for people.
    """

    claim: str
    value: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Rules:
    """Rules of the checks.

    Attributes:
        output: fields of the description, in the prompt's order.
        languages: allowed codes such as `en`; empty: any.
        min_seen: least probability of a predicted fact (`Sources.seen`) that supports a claim.
        min_claimed: least probability of any other predicted value (`Sources.likely`) that supports one.
        max_copy: share of a summary's words that may stand in runs of eight or more words of one source.
        max_unsupported: share of a sentence's content words that may stand in no source.
        brands, categories: those of the whole catalogue: naming one that no source of the item names is a fault.
        policy: the safety policy, or None; a score of `max_unsafe` or more is a fault.
        approved, rejected: claims that people decided on, (name, text): an attribute's value, or a sentence of the
            summary, a keyword or a query as it was written. Approved ones stay without another ground, and an approved
            attribute counts though it is not claimed.
    """

    output: tuple[str, ...] = FIELDS
    languages: tuple[str, ...] = ("en",)
    min_seen: float = 0.5
    min_claimed: float = 0.5
    max_copy: float = 0.9
    max_unsupported: float = 0.25
    brands: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    policy: Policy | None = None
    max_unsafe: float = 0.8
    approved: frozenset[tuple[str, str]] = frozenset()
    rejected: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Checked:
    """Verdict on one description.

    Attributes:
        description: with supported claims alone.
        grounds, cut: claims that stay, and claims that were cut, in the order of the description.
        status: `written` where nothing was cut; `cut` where something was; `fallback` where no sentence of the model
            and no fact was left, so that the summary is the seller's own first sentence.
        language: of the summary, as far as it shows (`und` where it does not).
    """

    description: Description
    grounds: tuple[Ground, ...]
    cut: tuple[Cut, ...]
    status: Status
    language: str
