"""Findings of a safety policy, and how they become one score a rule; scores of pictures by zero-shot classification.

A policy of texts is a class with the methods of `TextPolicy`, such as that of `coldstart.understand.policy`. Pictures
are compared with prompts in a space that holds both, by a softmax over prompts: CLIP's zero-shot classifier, as
open_clip's page "Zero-shot classification" describes it. A score is no probability: how high it must be depends on the
encoder and the pictures. Knows nothing of encoders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SOURCES = ("title", "description", "tags", "transcript", "screen_text")
"""Texts of an item that a policy reads, all alike."""


@dataclass(frozen=True)
class Finding:
    """Sign that a rule is broken.

    Attributes:
        rule: name of the rule.
        score: 0 to 1: how sure the sign alone makes one.
        source: the text it stands in (one of `SOURCES`), or the name of the space whose pictures show it.
        quote: the words of the text as they stand there, or the prompt that the picture resembles.
        start: characters before the quote in its text; None for a picture.
        at_s: seconds from the start of the video, where they are known.
        sign: which sign of the rule it is; one that is met twice counts once.
    """

    rule: str
    score: float
    source: str
    quote: str
    start: int | None = None
    at_s: float | None = None
    sign: str = ""


class TextPolicy(Protocol):
    """Policy for an item's texts."""

    @property
    def name(self) -> str:
        """Name and version, as stated in rows and verdicts."""

    @property
    def digest(self) -> str:
        """Key of all that changes its findings."""

    @property
    def rules(self) -> Sequence[str]:
        """Names of its rules."""

    def find(self, texts: Mapping[str, str], language: str | None = None) -> list[Finding]:
        """Find all signs in the texts of one item, in order of rule, source and place.

        Args:
            texts: source -> text; one without text may be left out.
            language: code of the language that is spoken, such as `en`, where it is known.
        """


def scores(findings: Iterable[Finding]) -> dict[str, float]:
    """Compute rule -> score, the noisy-or 1 − ∏(1 − score) over its distinct signs: several weak signs add up.

    A sign that is met more than once counts once, with its highest score: a title that is spoken and written as well
    is no stronger for it. Rounded to four decimals, so that a threshold of 0.9 meets a score of 0.9.
    """
    best: dict[str, dict[str, float]] = {}
    for finding in findings:
        signs = best.setdefault(finding.rule, {})
        signs[finding.sign] = max(signs.get(finding.sign, 0.0), finding.score)
    return {rule: round(1.0 - prod(1.0 - score for score in signs.values()), 4) for rule, signs in best.items()}


def finding_time_s(found: Finding, evidence: Mapping[str, Any]) -> float | None:
    """Find when the words of a finding begin to be said or shown, in seconds; None if it is not known.

    Args:
        evidence: `timeline`, `transcript` and `screen_text` as `coldstart.understand.timeline` makes them.
    """
    if found.start is None or found.source not in ("transcript", "screen_text"):
        return None
    timeline = evidence.get("timeline") or ()
    if found.source == "screen_text":
        line = evidence["screen_text"][: found.start].count("\n")
        text = evidence["screen_text"].split("\n")[line]
        return next((one["start_s"] for one in timeline if one["source"] == "screen" and one["text"] == text), None)
    end = 0
    for one in timeline:
        if one["source"] == "speech":
            end += len(one["text"].strip()) + 1  # as the transcript is joined
            if found.start < end:
                start_s: float | None = one["start_s"]
                return start_s
    return None


Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class RulePrompts:
    """Prompts of one rule as vectors.

    Attributes:
        texts: the unsafe prompts.
        unsafe: their unit vectors, float32 [U, D].
        safe: those of the safe prompts, float32 [S, D].
    """

    texts: tuple[str, ...]
    unsafe: Vectors
    safe: Vectors


@dataclass(frozen=True)
class PictureScore:
    """Score of the picture or frame that is most like the unsafe prompts.

    Attributes:
        score: 0 to 1, the unsafe prompts' share.
        prompt: the unsafe prompt that it is most like.
        place: its number among the vectors.
    """

    score: float
    prompt: str
    place: int


def score_pictures(vectors: Vectors, prompts: RulePrompts, temperature: float) -> PictureScore:
    """Score pictures against a rule's prompts; the score is that of the most unsafe one.

    Args:
        vectors: unit vectors of one item's frames or pictures, float32 [N, D], N of at least 1.
        prompts: of one rule.
        temperature: what cosines are divided by before the softmax over the U + S prompts.
    """
    logits = vectors @ np.concatenate([prompts.unsafe, prompts.safe]).T / np.float32(temperature)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    unsafe = weights[:, : len(prompts.texts)]
    shares = unsafe.sum(axis=1) / weights.sum(axis=1)
    place = int(shares.argmax())
    return PictureScore(float(shares[place]), prompts.texts[int(unsafe[place].argmax())], place)
