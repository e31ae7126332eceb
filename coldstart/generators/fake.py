"""`fake`: descriptions found by search, for tests of everything around a generator. No model, no torch.

A request bound to a description's schema is answered with the first listed value of each attribute that stands in the
prompt; an attribute without a list, and one whose values are not there, is left out. The summary is a sentence of what
was found. A free request gets the first words of its prompt back. It knows no grammar, and reads nothing of a picture.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.core.description import MAX_LISTED, Description, sentence
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling
from coldstart.media.image import ImageTransform

CONTEXT = 2048
FREE_WORDS = 8
"""Words that a free answer has."""


class Fake:
    """Generator for tests; see `Generator`. A token is a word. `calls` counts batches, `items` requests."""

    name = "fake"
    image_transform = ImageTransform(size=(32, 32), resize="squash", interpolation="bilinear")
    context_tokens = CONTEXT

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.items: Counter[str] = Counter()

    def passport(self) -> GeneratorPassport:
        return GeneratorPassport("fake", "none", "", "1")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        self.calls["generate"] += 1
        self.items["generate"] += len(requests)
        return [self._answer(request, sampling) for request in requests]

    def _answer(self, request: Request, sampling: Sampling) -> Generation | Reject:
        read = sum(self.count_tokens([request.system, request.prompt]))
        if read + sampling.max_new_tokens > CONTEXT:
            return Reject(
                "prompt_too_long",
                f"{read} tokens and {sampling.max_new_tokens} to write are over the context of {CONTEXT}",
            )
        words = _write(request).split(" ")
        kept = words[: sampling.max_new_tokens]
        return Generation(" ".join(kept), "stop" if len(kept) == len(words) else "length", read, len(kept))


def _write(request: Request) -> str:
    if request.schema is None:
        return " ".join(request.prompt.split()[:FREE_WORDS])
    fields: Mapping[str, Any] = request.schema["properties"]
    folded = request.prompt.casefold()
    found: dict[str, str] = {}
    for name, about in fields.get("attributes", {}).get("properties", {}).items():
        value = next((one for one in about.get("enum", ()) if _stands(one.casefold(), folded)), None)
        if value is not None:
            found[name] = value
    words = tuple(dict.fromkeys(found.values()))[:MAX_LISTED]
    summary = sentence(found) or "Nothing is known."
    return Description(summary, found, words, (" ".join(words),) if words else ()).dumps(tuple(fields))


def _stands(value: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def build(rest: str, *, device: str, dtype: str, adapter: Path | None) -> Fake:
    """Build the generator. Device and dtype have no effect.

    Raises:
        ColdstartError: it has a rest, or an adapter.
    """
    if rest:
        raise ColdstartError(f"generator 'fake:{rest}' is unknown: write fake")
    if adapter is not None:
        raise ColdstartError(f"generator 'fake' takes no adapter: {adapter}")
    return Fake()
