"""One fit of a writer: items in, an adapter with its card out. Knows no table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart import generators
from coldstart.attributes import Attributes, truth
from coldstart.checks import Rules
from coldstart.description import parse
from coldstart.fitted import CARD
from coldstart.generators import Generation, Generator
from coldstart.keys import digest
from coldstart.learning.describe_card import model_card
from coldstart.learning.describe_settings import Settings
from coldstart.learning.described_items import values_seen
from coldstart.learning.describing import Writer
from coldstart.learning.lessons import lessons
from coldstart.learning.split_file import ITEMS_FILE, items_file
from coldstart.media.limits import Limits
from coldstart.pipeline import Pipeline
from coldstart.prompts import Prompt
from coldstart.stage import Reject, Row
from coldstart.training.examples import Example

Trainer = Callable[[Sequence[Example], Sequence[Example], Attributes], tuple[dict[str, bytes], dict[str, Any]]]


@dataclass(frozen=True)
class DescribeFit:
    """One fit.

    Attributes:
        name: of the stage.
        generator: as it is before the fit.
        prompts: kind of item -> prompt; given: fields that a cold item may have.
        folder: where a killed fit goes on from.
        progress: as stages take it.
    """

    name: str
    settings: Settings
    pipeline: Pipeline
    generator: Generator
    prompts: Mapping[str, Prompt]
    given: frozenset[str]
    folder: Path
    progress: Any

    def fit(
        self, rows: Sequence[Row], keys: Sequence[str], groups: NDArray[np.int64], earlier: Path | None
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Train on the `train` part, stop by `valid`, and look at some of `test`, before and after.

        Args:
            rows: of the items, evidence in them; keys: of what is learnt from each; groups: int64 `[I]`.
            earlier: the fit that preferences go on from.

        Returns:
            The files of the artifact, and what its report says: `summary` is one line.
        """
        from coldstart.training.groups import split

        ids = [row["item_id"] for row in rows]
        shares = {"test": self.settings.test_share, "valid": self.settings.valid_share}
        shares["train"] = 1 - sum(shares.values())
        parts = split(groups, ids, shares, self.settings.seed)
        learnt_from = self._some(parts["train"])
        train, valid, test = ([rows[place] for place in places] for places in (learnt_from, parts["valid"], parts["test"]))
        values = values_seen(train, self.pipeline.attributes)
        attributes = self.pipeline.attributes.with_values(values)
        lesson = {
            "prompts": self.prompts,
            "attributes": attributes,
            "given": self.given,
            "drop": self.settings.drop,
            "seed": self.settings.seed,
            "prose": self.settings.summary == "description",
        }
        examples = lessons(train, self.generator, views=self.settings.views, **lesson)
        checked = lessons(valid, self.generator, views=1, **lesson)
        trained, about = self._train(examples, checked, {row["item_id"]: row for row in (*train, *valid)}, earlier)
        card = {
            "generator": self.settings.generator,
            "base": self.generator.passport().digest,
            "prompt": dict(self.settings.prompt),
            "prompts": {kind: prompt.digest for kind, prompt in self.prompts.items()},
            "given": sorted(self.given),
            "values": values,
            "data": digest(list(keys)),
            "items": {part: len(places) for part, places in {**parts, "train": learnt_from}.items()},
            "lessons": len(examples),
            "method": self.settings.method,
            **about,
        }
        files = {**trained, ITEMS_FILE: items_file(ids, keys, groups, parts)}
        files[CARD] = _json(card)
        judged = self._judged(test[: self.settings.judged], files, attributes)
        card |= judged
        files[CARD] = _json(card)
        files["MODEL_CARD.md"] = model_card(self.name, card).encode()
        return files, {**card, "summary": _summary(card)}

    def _some(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        most = self.settings.max_items
        if most is None or len(places) <= most:
            return places
        return np.sort(np.random.default_rng(self.settings.seed).choice(places, most, replace=False))
