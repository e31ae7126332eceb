"""What a judge of an item is asked and answers, and how its findings become one score a rule.

A new judge is a class with `judge`; the one at hand is `coldstart.understand.policy`.

Pictures likened to words in a space that holds both. Knows nothing of encoders; a score is no probability.

The softmax over prompts is CLIP's zero-shot classifier, as open_clip's page "Zero-shot classification" describes it.
How high a score must be to mean something depends on the encoder and the pictures: labelled ones are needed to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SOURCES = ("title", "description", "tags", "transcript", "screen_text")
"""The texts of an item that are judged, all alike."""


@dataclass(frozen=True)
class Finding:
    """One sign that a rule is broken.

    Attributes:
        rule: name of the rule.
        score: 0 to 1: how sure the sign alone makes one.
        source: the text it stands in (one of `SOURCES`), or the name of the space whose pictures show it.
        quote: the words of the text as they stand there, or what the picture was likened to.
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
    """Reads an item's texts."""

    @property
    def name(self) -> str:
        """Name and version, as rows and verdicts state them."""

    @property
    def digest(self) -> str:
        """Key of all that changes its findings."""

    @property
    def rules(self) -> Sequence[str]:
        """The rules that it may find broken."""

    def judge(self, texts: Mapping[str, str], language: str | None = None) -> list[Finding]:
        """All findings in the texts of one item, in order of rule, source and place.

        Args:
            texts: source -> text; one without text may be left out.
            language: code of the language that is spoken, such as `en`, where it is known.
        """


def scores(findings: Iterable[Finding]) -> dict[str, float]:
    """Rule -> its score, the noisy-or 1 − ∏(1 − score) over its distinct signs: several weak signs add up.

    A sign that is met more than once counts once, with its highest score: a title that is spoken and written as well
    is no stronger for it. Rounded to four decimals, so that a threshold of 0.9 meets a score of 0.9.
    """
    best: dict[str, dict[str, float]] = {}
    for finding in findings:
        signs = best.setdefault(finding.rule, {})
        signs[finding.sign] = max(signs.get(finding.sign, 0.0), finding.score)
    return {rule: round(1.0 - prod(1.0 - score for score in signs.values()), 4) for rule, signs in best.items()}


def finding_time_s(found: Finding, evidence: Mapping[str, Any]) -> float | None:
    """When the words of a finding begin to be said or to stand on the screen, in seconds; None where it is not known.

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
    """One rule's prompts as vectors.

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
    """The picture or frame that is most like the unsafe prompts.

    Attributes:
        score: 0 to 1, the unsafe prompts' share.
        prompt: the unsafe prompt that it is most like.
        place: its number among the vectors.
    """

    score: float
    prompt: str
    place: int


def score_pictures(vectors: Vectors, prompts: RulePrompts, temperature: float) -> PictureScore:
    """Score of the most unsafe of some pictures.

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
