"""Collect items for the fit of a writer, and build prompt/completion pairs.

A prompt shows fields that a cold item would have; the completion states what the record holds besides them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldstart.core.attributes import Attributes, attribute_fields, recorded_values
from coldstart.core.item_fields import MEDIA
from coldstart.core.keys import chain
from coldstart.core.pipeline import Pipeline
from coldstart.core.prompts import Prompt
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.describe.finetune.training import Example
from coldstart.describe.prompt_input import RECORD_FIELDS, TEXT_FIELDS, PromptBuilder, target_description
from coldstart.describe.writing import build_requests
from coldstart.generators import Generator
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState

MAX_VALUES = 500
"""Most values of an attribute that are listed; with more it stays open."""


@dataclass(frozen=True)
class FitItems:
    """Items of a fit: item -> key, ledger rows of the items left out, and rows with their evidence."""

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    rows: Mapping[str, Row]


def fit_items(
    store: Store,
    pipeline: Pipeline,
    stage: str,
    key: str,
    given: frozenset[str],
    *,
    group_by: Sequence[str],
    space: str | None,
) -> FitItems:
    """Collect the items that a fit can use now.

    Args:
        key: of the fit's settings.
        given: fields that a cold item may have; the record's other fields are what completions state.
        group_by: fields whose equal values put items on one side of the split.
        space: an embed stage whose failures leave items out, since their pictures cannot be read.
    """
    pipeline_state = PipelineState(store, pipeline)
    rows = item_rows(store, pipeline, stage, pipeline_state)
    blocked = pipeline_state.blocked(stage)
    evidence = pipeline.before(stage, "understand.evidence")
    evidence_state = pipeline_state.of(evidence) if evidence else None
    unreadable = pipeline_state.of(space).settled if space else {}
    keys: dict[str, str] = {}
    verdicts: dict[str, LedgerRow] = {}
    fields = {"kind", *RECORD_FIELDS, *attribute_fields(pipeline.attributes), *MEDIA, *group_by}
    for item, own in pipeline_state.item_keys(fields if "price" in given else fields - {"price"}).items():
        row_key = chain(key, f"{own}\n{evidence_state.key_of(item) if evidence_state else ''}")
        if item in blocked:
            why = blocked[item]
        elif item in unreadable:
            why = Reject("no_picture", f"{space}: {unreadable[item].reason}", "filtered")
        elif not target_description(rows[item], pipeline.attributes.of(rows[item]["category"]), given):
            why = Reject("nothing_told", "its record states no attribute and has no description", "filtered")
        else:
            keys[item] = row_key
            continue
        verdicts[item] = LedgerRow(stage, item, chain(row_key, str(why)), why.state, why.reason, why.detail)
    return FitItems(keys, verdicts, rows)


def item_rows(store: Store, pipeline: Pipeline, stage: str, pipeline_state: PipelineState) -> dict[str, Row]:
    """Read the row of every item, with transcript and screen text under `evidence`."""
    if not store.has(ITEMS):
        return {}
    evidence = pipeline.before(stage, "understand.evidence")
    heard: dict[str, Row] = {}
    if evidence and (fresh := pipeline_state.of(evidence).fresh):
        found = store.read(f"stage.{evidence}", ["item_id", "transcript", "screen_text"]).to_pylist()
        heard = {row["item_id"]: row for row in found if row["item_id"] in fresh}
    return {row["item_id"]: {**row, "evidence": heard.get(row["item_id"])} for row in store.read(ITEMS).to_pylist()}


def observed_values(rows: Sequence[Row], attributes: Attributes) -> dict[str, dict[str, list[str]]]:
    """Collect values that records state: category -> attribute -> values, the most frequent first."""
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
    """Build prompt/completion pairs, up to `views` an item, in the order of the rows.

    The first view shows all of `given`, each further one drops fields at random (field dropout). Left out are views
    with the text fields of an earlier one, and views without text where the generator takes no pictures.

    Args:
        drop: field -> probability that a further view drops it.
        seed: of the draws, which depend on it, the item and the view alone.
        prose: use an item's own description as the summary where it is hidden.
    """
    takes_pictures = generator.image_transform is not None and "picture" in given
    inputs, completions, items = [], [], []
    for row in rows:
        seen = set()
        for view in range(views):
            draw = random.Random(f"{seed} {row['item_id']} {view}")
            shown = frozenset(name for name in sorted(given) if view == 0 or draw.random() >= drop.get(name, 0.0))
            one = PromptBuilder(prompts, attributes, shown)(row)
            fields = tuple(sorted(name for name in TEXT_FIELDS if one.values[name]))
            if fields in seen or not (fields or takes_pictures):
                continue
            seen.add(fields)
            inputs.append(one)
            completions.append(target_description(row, one.stated, given, prose=prose).dumps(one.prompt.output))
            items.append(row["item_id"])
    return [
        Example(item, request.system, request.prompt, completion)
        for item, request, completion in zip(items, build_requests(inputs, generator), completions, strict=True)
    ]
