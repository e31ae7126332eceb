"""`sentences`: plain sentences of an item's facts by fixed rules. No model, no torch; the same text every time.

The request has the description that the rules make (`coldstart.describe.sentences`); this answers with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling
from coldstart.media.image import ImageTransform

VERSION = 3
"""Version of the rules, raised when sentences change."""


class Sentences:
    """Generator by fixed rules; see `Generator`. A token is a word; prompts are not read."""

    name = "sentences"
    image_transform: ImageTransform | None = None
    context_tokens: int | None = None

    def passport(self) -> GeneratorPassport:
        return GeneratorPassport("sentences", "none", "", f"rules {VERSION}")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Generation | Reject:
        if not request.plain:
            why = "a title alone makes no sentence: neither category, brand, price nor an attribute is given"
            return Reject("nothing_to_go_on", why, state="filtered")
        return Generation(request.plain, "stop", 0, len(request.plain.split()))


def build(rest: str, *, device: str, dtype: str, adapter: Path | None) -> Sentences:
    """Build the generator; sentences that a fit chose come with the requests, so `adapter` is not read.

    Raises:
        ColdstartError: it has a rest.
    """
    if rest:
        raise ColdstartError(f"generator 'sentences:{rest}' is unknown: write sentences")
    return Sentences()
