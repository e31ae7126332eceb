"""One item as a prompt shows it to a generator, and the tokens that each part takes: for people who write prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldstart.attributes import Attributes
from coldstart.fenced import data
from coldstart.learning.view import shown
from coldstart.prompts import Prompt


@dataclass(frozen=True)
class Input:
    """One input that is not empty.

    Attributes:
        tokens: that it has; `read`: that are left of it in the text; `budget`: that may be, or None.
    """

    tokens: int
    read: int
    budget: int | None


@dataclass(frozen=True)
class Rendered:
    """What is sent.

    Attributes:
        system, text: the two messages.
        system_tokens, text_tokens: tokens of each by itself, no chat template around it.
        inputs: name -> what is read of it.
    """

    system: str
    text: str
    system_tokens: int
    text_tokens: int
    inputs: Mapping[str, Input]


def rendered(
    prompt: Prompt,
    row: Mapping[str, Any],
    attributes: Attributes,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
) -> Rendered:
    """The messages about one item.

    Args:
        row: the item with what was found in its media under `evidence`, and what was written of it under `described`.
        attributes: what the pipeline asks descriptions to state.
        count_tokens: as the generator counts that will read it.
    """
    values, _ = shown(row, attributes)
    values |= _described(row.get("described") or {})
    read = prompt.fit([values], count_tokens)[0] if prompt.output else values
    text = prompt.render(read)
    whole, part = (
        {name: data(given.get(name)) for name in prompt.inputs if name != "wanted"} for given in (values, read)
    )
    names = [name for name, one in whole.items() if one]
    sizes = list(count_tokens(["", prompt.system, text, *(w[name] for name in names for w in (whole, part))]))
    empty, system, message, *own = sizes
    pairs = zip(names, own[::2], own[1::2], strict=True)
    return Rendered(
        prompt.system,
        text,
        system - empty,
        message - empty,
        {name: Input(had - empty, has - empty, prompt.budgets.get(name)) for name, had, has in pairs},
    )


def _described(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was written of the item and checked, as prompts of encoders read it."""
    values = [claim["value"] for claim in row.get("attributes") or ()]
    return {"attributes": values, **{name: row.get(name) for name in ("summary", "keywords", "queries")}}
