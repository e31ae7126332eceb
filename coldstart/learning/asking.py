"""Items as a writer is asked about them. Workers import this module: it needs neither torch nor Arrow nor the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.attributes import Attribute, Attributes
from coldstart.learning.view import shown
from coldstart.media.pictures import LoadPictures
from coldstart.prompts import Prompt
from coldstart.stage import Reject, Row


@dataclass(frozen=True)
class Asked:
    """One item as a writer is asked about it.

    Attributes:
        prompt: the file that turns it into a message.
        values: what the prompt reads, uncut.
        stated: the attributes that the answer may state.
        images: uint8 `[H, W, 3]` arrays, where the generator takes pictures.
    """

    prompt: Prompt
    values: Mapping[str, Any]
    stated: Mapping[str, Attribute]
    images: tuple[NDArray[np.uint8], ...] = ()


@dataclass(frozen=True)
class Ask:
    """Turns an item's row into `Asked`. Picklable, for workers.

    Attributes:
        by_kind: `product` or `video` -> its prompt.
        given: fields that are shown; None shows all.
    """

    by_kind: Mapping[str, Prompt]
    attributes: Attributes
    given: frozenset[str] | None = None

    def __call__(self, row: Mapping[str, Any], images: Sequence[NDArray[np.uint8]] = ()) -> Asked:
        values, stated = shown(row, self.attributes, self.given)
        hidden = self.given is not None and "picture" not in self.given
        return Asked(self.by_kind[row["kind"]], values, stated, () if hidden else tuple(images))


@dataclass(frozen=True)
class Gather:
    """What is asked of one item, its pictures decoded where the generator looks at them; its cost is one request."""

    ask: Ask
    look: LoadPictures | None

    def __call__(self, row: Row) -> tuple[Asked, float]:
        images: list[NDArray[np.uint8]] = []
        if self.look is not None:
            try:
                images = self.look(row)[0].images
            except Reject as why:
                if why.reason != "no_media":  # of those that have none, words are all there is
                    raise
        asked = self.ask(row, images)
        if not images and not any(asked.values[name] for name in asked.prompt.inputs if name != "wanted"):
            raise Reject("nothing_to_go_on", f"none of {', '.join(asked.prompt.inputs)} is given", state="filtered")
        return asked, 1.0
