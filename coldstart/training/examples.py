"""What a language model learns from: one prompt and the text that should follow it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One item seen once, with what a cold item would have in its prompt.

    Attributes:
        item_id: the item; one item may stand in several examples, with other fields dropped.
        system, prompt: as a `Request` would have them.
        completion: what should be written; the loss is on this alone.
    """

    item_id: str
    system: str
    prompt: str
    completion: str
