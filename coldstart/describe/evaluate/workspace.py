"""Evaluate the writers of a workspace, base and last fit, on items that the fit held out; compare their texts.

Each item is treated as cold: some of its fields are shown, and its hidden fields are the truth. Checks use the rules of
the workspace's `describe.check` and the visual evidence of its `describe.grounds`. Stores nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coldstart import generators
from coldstart.core.attributes import Attribute, Attributes, recorded_values
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import Reject, Row
from coldstart.describe.attribute_values import PREDICTED, Predicted, predicted_row
from coldstart.describe.check_context import (
    EVIDENCE_KIND,
    CheckContext,
    pipeline_rules,
    read_check_context,
    stated_values,
)
from coldstart.describe.checks import Rules
from coldstart.describe.evaluate.held_out import ATTRIBUTES, HeldOutItems, find_held_out, stored_texts
from coldstart.describe.evaluate.report import (
    DescribeReport,
    Distractor,
    choose_query,
    evaluate_writers,
    likeness_key,
    query_text,
)
from coldstart.describe.evaluate.retrieval_gain import evaluation_encoder, given_text
from coldstart.describe.evaluate.truth import EvaluatedItem
from coldstart.describe.finetune.dataset import item_rows
from coldstart.describe.finetune.fit import requires_fit
from coldstart.describe.finetune.settings import WRITE
from coldstart.describe.prompt_input import target_description
from coldstart.describe.writing import (
    SeenValues,
    Writer,
    given_fields,
    load_prompt_builder,
    sources_of,
)
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError
from coldstart.generators import Generation
from coldstart.media.limits import Limits
from coldstart.store import Store
from coldstart.store.fits import SPLITS, read_fit_items
from coldstart.store.freshness import PipelineState

GALLERIES = ("held-out", "all")


_NOTES = {
    "test": "held out: no fit has seen these items, nor others of their groups",
    "valid": "not held out: the fit was stopped by these items",
    "train": "not held out: the fit was trained on these items",
}


_FITTED_ON = (
    "the models of attributes were fitted on the records of {} of these items, so that the checks look better "
    "here than on new ones"
)


_CHUNK = 64


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Progress,
    *,
    split: str = "test",
    limit: int | None = None,
    given: Collection[str] | None = None,
    writers: Sequence[str] | None = None,
    gallery: str = "held-out",
    seed: int = 0,
) -> DescribeReport:
    """Evaluate writers on one part of the split of the last fit of a writer, or of the models of attributes.

    A text that the workspace stores is evaluated where it was written by the same writer in the same view; the checks
    of the view are computed, since those of stored rows may take hidden fields as grounds.

    Args:
        progress: see `coldstart.core.progress`.
        split: `test`, `valid` or `train`; limit: at most so many of its items, drawn at random.
        given: shown fields; by default those of the fit.
        writers: `base`, `adapter` and names of generators, at least one; by default see `find_held_out`.
        gallery: `held-out`, or `all` to search among all other items of the workspace as well, indexed with all of
            their own texts.
        seed: of the draw and the bootstrap.

    Raises:
        ColdstartError: nothing is held out, there is no such split, gallery, field or generator, no item of the split
            is in the workspace any more, or nothing of them is hidden.
    """
    for name, value, known in (("split", split, SPLITS), ("gallery", gallery, GALLERIES)):
        if value not in known:
            raise ColdstartError(f"there is no {name} {value!r}: choose one of {', '.join(known)}")
    held = find_held_out(store, pipeline)
    shown = given_fields("evaluate", held.given if given is None else given)
    pipeline_state = PipelineState(store, pipeline)
    every = item_rows(store, pipeline, held.stage, pipeline_state)
    items = sorted(item for item, (part, _) in held.split.items() if part == split and item in every)
    if not items:
        raise ColdstartError(f"no item of split {split} of {held.stage} is in workspace {store.uri}: fit anew")
    if limit is not None and limit < len(items):
        items = sorted(random.Random(seed).sample(items, limit))
    rows = [every[item] for item in items]
    against = load_item_evidence(store, pipeline, rows, shown)
    seen = against.seen
    if pipeline.of_kind(ATTRIBUTES):  # predicted from the fields of the view, not from all as those of the stage
        rows = [{**row, PREDICTED: predicted_row(against.predicted.get(row["item_id"], {}))} for row in rows]
    attributes = held.known_attributes(every)
    evaluated, about, texts = {}, {}, {}
    for name in writers or held.writers:
        writer = held.writer(name, pipeline, against.rules)
        stored = stored_texts(store, pipeline, pipeline_state, writer, rows, shown)
        evaluated[name] = _evaluate_writer(writer, rows, held, attributes, shown, seen, stored, progress, name)
        about[name] = writer.generator.name
        texts[name] = {"stored": len(stored), "written": len(rows) - len(stored)}
    first = next(iter(evaluated.values()))
    if not any(one.truth or one.hidden for one in first):
        raise ColdstartError(
            f"all that is known of the items is shown (given: {', '.join(sorted(shown or ())) or 'all'}), so that "
            "nothing is hidden to evaluate by: name fewer fields with --given"
        )
    encoder, _ = evaluation_encoder(pipeline)
    query = choose_query(first)
    others = [row for item, row in every.items() if item not in set(items)] if gallery == "all" else []
    found = evaluate_writers(
        evaluated,
        [
            target_description(row, one.attributes, shown or (), prose=query != "description")
            for row, one in zip(rows, first, strict=True)
        ],
        encoder.encode_documents,
        encoder.encode_queries,
        writers=about,
        texts=texts,
        split=split,
        note=_NOTES[split],
        caveat=_FITTED_ON.format(against.fitted) if any(seen.values()) and against.fitted else "",
        given=None if shown is None else sorted(shown),
        distractors=[_distractor(row, attributes, shown, query) for row in others],
        min_seen=against.rules.min_seen,
        seed=seed,
    )
    return found.with_items(
        {item: {"title": every[item]["title"], "kind": every[item]["kind"], "uri": _picture(every[item])}
         for item in found.example_ids()}
    )  # fmt: skip


def _evaluate_writer(
    writer: Writer,
    rows: Sequence[Row],
    held: HeldOutItems,
    known: Attributes,
    given: Collection[str] | None,
    seen: Mapping[str, SeenValues],
    stored: Mapping[str, Generation],
    progress: Progress,
    name: str,
) -> list[EvaluatedItem]:
    found = []
    with progress.meter(f"{held.stage}: {name} writes", len(rows)) as meter:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            new = [row for row in chunk if row["item_id"] not in stored]
            anew = dict(zip((row["item_id"] for row in new), writer.write(new, given), strict=True))
            written = [stored.get(row["item_id"]) or anew[row["item_id"]] for row in chunk]
            checked = writer.check(chunk, written, given, seen)
            for row, text, verdict in zip(chunk, written, checked, strict=True):
                sources, stated = sources_of(row, known, given, seen.get(row["item_id"]))
                found.append(
                    EvaluatedItem(
                        row["item_id"],
                        stated,
                        _hidden_truth(row, stated, given),
                        _hidden_texts(row, given),
                        sources,
                        None if isinstance(text, Reject) else text.text,
                        verdict,
                        held.split[row["item_id"]][1],
                        writer.prompts[row["kind"]].output,
                    )
                )
            meter.advance(len(chunk), Counter(one.reason for one in written if isinstance(one, Reject)), 0.0)
    return found


def _hidden_truth(
    row: Mapping[str, Any], stated: Mapping[str, Attribute], given: Collection[str] | None
) -> dict[str, str]:
    """Return the recorded attributes that no shown field holds."""

    def is_shown(attribute: Attribute) -> bool:
        source = attribute.source or "attributes."
        return given is None or ("facts" if source.startswith("attributes.") else source) in given

    return {name: value for name, value in recorded_values(row, stated).items() if not is_shown(stated[name])}


def _hidden_texts(row: Mapping[str, Any], given: Collection[str] | None) -> dict[str, str]:
    fields = {name: row.get(name) for name in ("title", "description", "category", "creator", "price")}
    fields["tags"] = ", ".join(row.get("tags") or ())
    return {
        name: str(value)
        for name, value in fields.items()
        if given is not None and name not in given and value not in (None, "")
    }


def _distractor(
    row: Mapping[str, Any], attributes: Attributes, given: Collection[str] | None, query: str
) -> Distractor:
    sources, stated = sources_of(row, attributes)
    hidden, texts = _hidden_truth(row, stated, given), _hidden_texts(row, given)
    own = EvaluatedItem(row["item_id"], stated, hidden, texts, sources, None, Reject("not_judged"))
    return Distractor(given_text(sources), query_text(own, query), likeness_key(own))


def _picture(row: Mapping[str, Any]) -> str | None:
    return next((one["uri"] for one in row["media"] or () if one["role"] in ("image", "video")), None)


@dataclass(frozen=True)
class ItemEvidence:
    """Rules of the checks and predicted attributes of some items.

    Attributes:
        predicted: item -> its values, predicted from the fields of the view.
        fitted: number of items that `describe.grounds` was fitted on, whose predictions are better than those of new
            items.
    """

    rules: Rules = field(default_factory=Rules)
    predicted: Mapping[str, Predicted] = field(default_factory=dict)
    fitted: int = 0

    @property
    def seen(self) -> dict[str, SeenValues]:
        """Values that may be stated: item -> attribute -> value -> probability."""
        return {item: stated_values(values) for item, values in self.predicted.items()}


def load_item_evidence(
    store: Store, pipeline: Pipeline, rows: Sequence[Row], given: Collection[str] | None = None
) -> ItemEvidence:
    """Load rules, and predict the attributes of these items in a view; default rules and no values where the pipeline
    has no such stages.

    Raises:
        ColdstartError: the policy of the checks has faults.
    """
    grounds = next((spec.name for spec in reversed(pipeline.of_kind(EVIDENCE_KIND))), None)
    made = None if grounds is None else store.artifacts.newest(grounds)
    if made is None:
        return ItemEvidence(pipeline_rules(pipeline, CheckContext()))
    context = read_check_context(made.folder)
    assert context.evidence is not None, "it was read"
    items = [row["item_id"] for row in rows]
    pipeline_state = PipelineState(store, pipeline)
    vectors = {space: vectors_of(store, pipeline_state.stage(space), items) for space in context.evidence.spaces}
    predicted = context.evidence.predict(rows, vectors, pipeline.attributes, given)
    sides = read_fit_items(made)
    fitted = sum(sides.get(item, ("", ""))[1] == "judged" for item in items)
    return ItemEvidence(pipeline_rules(pipeline, context), dict(zip(items, predicted, strict=True)), fitted)


def compare_fit(store: Store, pipeline: Pipeline, limit: int) -> list[dict[str, Any]]:
    """Compare base and fit on the first items: `item_id`, `title`, `written`, writer -> `text`, `kept` and `cut` of it.

    Raises:
        ColdstartError: the pipeline describes nothing, or its generator is not fitted.
    """
    specs = pipeline.of_kind(WRITE)
    if not specs:
        raise ColdstartError(f"{pipeline.source} describes nothing: it has no stage of kind {WRITE}")
    spec = specs[-1]
    writing, ask = load_prompt_builder(spec, pipeline)
    if writing.adapter is None:
        raise ColdstartError(
            f"{spec.name}.generator={spec.settings.generator!r} is not fitted, so there is no fit to "
            "compare: run `coldstart finetune describe`, then name `--generator finetune:describe`"
        )
    rows = list(item_rows(store, pipeline, spec.name, PipelineState(store, pipeline)).values())[:limit]
    written: dict[str, list[Any]] = {}
    engine = pipeline.engine
    for name, adapter in ((writing.generator, None), (spec.settings.generator, writing.adapter)):
        if adapter is None and requires_fit(writing.generator):
            continue
        writer = Writer(
            generators.load(
                writing.generator, device=engine.device, dtype=engine.dtype, adapter=adapter, **spec.settings.options
            ),
            ask.prompts,
            ask.attributes,
            pipeline_rules(pipeline),
            Limits(**pipeline.media.limits()),
            spec.settings.frames,
            spec.settings.pictures,
        )
        texts = writer.write(rows, ask.given)
        written[name] = [_text_and_checks(*pair) for pair in zip(texts, writer.check(rows, texts), strict=True)]
    return [
        {
            "item_id": row["item_id"],
            "title": row["title"],
            "written": {name: sides[place] for name, sides in written.items()},
        }
        for place, row in enumerate(rows)
    ]


def _text_and_checks(generation: Any, checked: Any) -> dict[str, Any]:
    text = str(generation) if isinstance(generation, Reject) else generation.text
    if isinstance(checked, Reject):
        return {"text": text, "kept": "", "cut": [{"claim": "all", "value": "", "reason": checked.reason}]}
    kept = checked.description
    cut = [{"claim": one.claim, "value": one.value, "reason": one.reason} for one in checked.cut]
    return {"text": text, "kept": kept.dumps(), "cut": cut}
