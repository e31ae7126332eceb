"""Items that a writer can learn from: their rows, what of them is told, and which of them belong together.

Lessons: an item as a cold one would come, and what is known of it, as prompt and completion.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.core.attributes import Attributes, recorded_values
from coldstart.core.keys import chain
from coldstart.core.pipeline import Pipeline
from coldstart.core.prompts import Prompt
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.core.vectors import unit
from coldstart.describe.finetune.training import Example
from coldstart.describe.prompt_input import TEXT_FIELDS, PromptBuilder, target_description
from coldstart.describe.writing import build_requests
from coldstart.embed.item_texts import PairTexts
from coldstart.embed.spaces import vectors_of
from coldstart.generators import Generator
from coldstart.metrics.splits import group_items, near_pairs
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState

MAX_VALUES = 500
"""An attribute that was seen to have more values than this stays open."""


@dataclass(frozen=True)
class FitItems:
    """Item -> the key of what is learnt from it, the verdict on every other, and the rows with their evidence."""

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    rows: Mapping[str, Row]


def fit_items(
    store: Store, pipeline: Pipeline, stage: str, key: str, given: frozenset[str], *, space: str | None
) -> FitItems:
    """What a fit would learn from now.

    Args:
        key: of the fit's settings.
        given: the fields that a cold item may have; what is told besides them is what is learnt.
        space: an embed stage whose failures leave items out, since their pictures cannot be read.
    """
    standing = PipelineState(store, pipeline)
    rows = item_rows(store, pipeline, stage, standing)
    closed = standing.closed(stage)
    evidence = pipeline.before(stage, "understand.evidence")
    heard = standing.of(evidence) if evidence else None
    looked = standing.of(space).settled if space else {}
    keys: dict[str, str] = {}
    verdicts: dict[str, LedgerRow] = {}
    for item, own in store.keys(ITEMS).items():
        row_key = chain(key, f"{own}\n{heard.key_of(item) if heard else ''}")
        if item in closed:
            why = closed[item]
        elif item in looked:
            why = Reject("no_picture", f"{space}: {looked[item].reason}", "filtered")
        elif not target_description(rows[item], pipeline.attributes.of(rows[item]["category"]), given):
            why = Reject("nothing_told", "its record states no attribute and has no description", "filtered")
        else:
            keys[item] = row_key
            continue
        verdicts[item] = LedgerRow(stage, item, chain(row_key, str(why)), why.state, why.reason, why.detail)
    return FitItems(keys, verdicts, rows)


def item_rows(store: Store, pipeline: Pipeline, stage: str, standing: PipelineState) -> dict[str, Row]:
    """Every item's row, with what was found in its media under `evidence`."""
    if not store.has(ITEMS):
        return {}
    evidence = pipeline.before(stage, "understand.evidence")
    heard: dict[str, Row] = {}
    if evidence and (fresh := standing.of(evidence).fresh):
        found = store.read(f"stage.{evidence}", ["item_id", "transcript", "screen_text"]).to_pylist()
        heard = {row["item_id"]: row for row in found if row["item_id"] in fresh}
    return {row["item_id"]: {**row, "evidence": heard.get(row["item_id"])} for row in store.read(ITEMS).to_pylist()}


def split_groups(
    store: Store,
    pipeline: Pipeline,
    stage: str,
    items: Sequence[str],
    *,
    group_by: Sequence[str],
    space: str | None,
    threshold: float | None,
) -> NDArray[np.int64]:
    """The group of each item, int64 `[I]`: items that share a field of `group_by` or a medium, and near copies.

    Args:
        space: an embed stage of pictures, whose vectors of cosine `threshold` or more join items.
    """
    words = PairTexts(stage, {"title": 1.0}, group_by, pipeline)
    keys = words.group_keys(store, items)
    if space is None or threshold is None:
        return group_items(keys)
    vectors = vectors_of(store, PipelineState(store, pipeline).stage(space), items)
    seen = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    return group_items(keys, seen[near_pairs(unit(vectors[seen]), threshold)] if len(seen) else ())


def observed_values(rows: Sequence[Row], attributes: Attributes) -> dict[str, dict[str, list[str]]]:
    """Category -> attribute -> the values that records state, the most frequent first, where none are listed."""
    counts: dict[str, dict[str, Counter[str]]] = {category: {} for category in attributes.root}
    for category, named in attributes.root.items():
        for row in rows:
            if attributes.of(row["category"]) is named or category == "default":
                for name, value in recorded_values(row, named).items():
                    counts[category].setdefault(name, Counter())[value] += 1
    return {
        category: {
            name: [value for value, _ in found.most_common()] for name, found in own.items() if len(found) <= MAX_VALUES
        }
        for category, own in counts.items()
    }


def build_sft_examples(
    rows: Sequence[Row],
    generator: Generator,
    *,
    prompts: Mapping[str, Prompt],
    attributes: Attributes,
    given: frozenset[str],
    drop: Mapping[str, float],
    views: int,
    seed: int,
    prose: bool,
) -> list[Example]:
    """`views` lessons an item, in the order of the rows: the first shows all of `given`, each further one leaves fields
    out at random, so that a writer learns to do without. A view that shows nothing more than one before it is left
    out, and so is one without words where the generator has no eyes.

    Args:
        drop: field -> how often it is left out of a further view.
        seed: of the draws, which depend on it, the item and the view alone.
        prose: whether an item's own description may be what the summary should say.
    """
    sighted = generator.image_transform is not None and "picture" in given
    asked, completions, items = [], [], []
    for row in rows:
        done = set()
        for view in range(views):
            draw = random.Random(f"{seed} {row['item_id']} {view}")
            kept = frozenset(name for name in sorted(given) if view == 0 or draw.random() >= drop.get(name, 0.0))
            one = PromptBuilder(prompts, attributes, kept)(row)
            told = tuple(sorted(name for name in TEXT_FIELDS if one.values[name]))
            if told in done or not (told or sighted):
                continue
            done.add(told)
            asked.append(one)
            completions.append(target_description(row, one.stated, given, prose=prose).dumps(one.prompt.output))
            items.append(row["item_id"])
    return [
        Example(item, request.system, request.prompt, completion)
        for item, request, completion in zip(items, build_requests(asked, generator), completions, strict=True)
    ]
