"""Collect descriptions by the writer before and after its fit: the stored ones, and on request new ones by the other.

New descriptions are checked by the pipeline's own rules and stored in a table of the workspace, so that each is
written once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import pyarrow as pa

from coldstart import generators
from coldstart.ablation.inputs import required_costs
from coldstart.ablation.report import Cost
from coldstart.core import prompts
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.progress import Progress
from coldstart.core.stage import Reject, Row
from coldstart.describe.attribute_values import PREDICTED, predicted_row
from coldstart.describe.evaluate.held_out import ADAPTER, ATTRIBUTES, BASE, SENTENCES
from coldstart.describe.evaluate.workspace import load_item_evidence
from coldstart.describe.finetune.fit import requires_fit
from coldstart.describe.finetune.settings import FINETUNE, WRITE
from coldstart.describe.writing import DEFAULT_PROMPTS, Writer, given_fields, load_prompt_builder, load_prompts
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.store import Store
from coldstart.store.fits import WriterConfig, read_writer_config
from coldstart.store.freshness import PipelineState

CHECK = "describe.check"
PREFIX = "evaluate.stages.described-"
_CHUNK = 32
_SCHEMA = pa.schema([("key", pa.string()), ("item_id", pa.string()), ("text", pa.string()), ("seconds", pa.float64())])


@dataclass(frozen=True)
class WriterTexts:
    """Descriptions by one writer.

    Attributes:
        writer: `base` or `adapter`; model: name of the generator.
        texts: item -> checked description as an encoder reads it, empty where nothing is left; without items that were
            not requested.
        needs: names of costs; costs: of descriptions written here.
        shown: fields of the prompt; None: all.
    """

    writer: str
    model: str
    texts: Mapping[str, str]
    needs: frozenset[str]
    costs: tuple[Cost, ...] = ()
    shown: tuple[str, ...] | None = None


def stored_descriptions(store: Store, pipeline: Pipeline, pipeline_state: PipelineState) -> WriterTexts | None:
    """Read the checked descriptions of the pipeline's own writer; None where there are none."""
    checks = pipeline.of_kind(CHECK)
    if not checks:
        return None
    name = checks[-1].name
    state = pipeline_state.of(name)
    if not state.fresh:
        return None
    spec = _write_spec(pipeline, name)
    writing, ask = load_prompt_builder(spec, pipeline)
    rows = store.read(f"stage.{name}", ["item_id", "summary", "attributes", "keywords", "queries"]).to_pylist()
    texts = dict.fromkeys(state.settled, "")
    for row in rows:
        if row["item_id"] in state.fresh:
            values = [claim["value"] for claim in row["attributes"] or ()]
            texts[row["item_id"]] = _text({**row, "attributes": values})
    writer = BASE if writing.adapter is None else ADAPTER
    shown = None if ask.given is None else tuple(sorted(ask.given))
    return WriterTexts(
        writer, spec.settings.generator, texts, required_costs(name, pipeline, pipeline_state), (), shown
    )


def other_writer(store: Store, pipeline: Pipeline, known: str | None) -> tuple[str, Writer, tuple[str, ...] | None]:
    """Load the other writer: its name, the writer, and its prompt's fields.

    It is `base` where the workspace holds descriptions by the adapter, else `adapter`.

    Raises:
        ColdstartError: there is no adapter, or the base generator cannot write before a fit.
    """
    wanted = BASE if known == ADAPTER else ADAPTER
    specs, fits = pipeline.of_kind(WRITE), pipeline.of_kind(FINETUNE)
    if wanted == BASE:
        writing, ask = load_prompt_builder(specs[-1], pipeline)
        if requires_fit(writing.generator):
            raise ColdstartError(f"{writing.generator} writes nothing before it is fitted")
        by_kind, given, settings = ask.prompts, ask.given, specs[-1].settings
    else:
        writing, settings = _finetuned_writer(store, pipeline, fits)
        by_kind = load_prompts(fits[-1].name, writing.prompt or DEFAULT_PROMPTS)
        given = given_fields(fits[-1].name, writing.given)
    generator = generators.load(
        writing.generator,
        device=pipeline.engine.device,
        dtype=pipeline.engine.dtype,
        adapter=None if wanted == BASE else writing.adapter,
        **({} if writing.generator == SENTENCES else settings.options),
    )
    rules = load_item_evidence(store, pipeline, []).rules
    limits = Limits(**pipeline.media.limits())
    writer = Writer(
        generator,
        by_kind,
        writing.attributes,
        rules,
        limits,
        settings.frames,
        settings.pictures,
        {} if wanted == BASE else writing.templates,
    )
    return wanted, writer, None if given is None else tuple(sorted(given))


def write_descriptions(
    store: Store,
    pipeline: Pipeline,
    name: str,
    writer: Writer,
    given: Sequence[str] | None,
    rows: Sequence[Row],
    count: int | None,
    progress: Progress,
) -> WriterTexts:
    """Describe so many items, drawn at random; descriptions written before are reused.

    Args:
        rows: rows of items, with their evidence; count: None for all.
    """
    if count is not None and count < len(rows):
        rows = random.Random(0).sample(sorted(rows, key=lambda row: str(row["item_id"])), count)
    passport = asdict(writer.generator.passport())
    prompts_digests = {kind: prompt.digest for kind, prompt in writer.prompts.items()}
    fields = None if given is None else list(given)
    made_of = [passport, prompts_digests, fields, writer.attributes.plain()]
    if writer.templates:
        made_of.append(dict(writer.templates))
    table = f"{PREFIX}{digest(made_of)[:12]}"
    keys = {row["item_id"]: digest([row["row_key"], row.get("evidence")]) for row in rows}
    known = {row["key"]: row for row in store.read(table).to_pylist()} if store.has(table) else {}
    new = [row for row in rows if keys[row["item_id"]] not in known]
    with progress.meter(f"evaluate stages: {name} writes", len(new)) as meter:
        for start in range(0, len(new), _CHUNK):
            made = _write_and_check(store, pipeline, writer, given, new[start : start + _CHUNK], keys)
            store.merge(table, pa.Table.from_pylist(made, schema=_SCHEMA), on=("key",))
            known |= {row["key"]: row for row in made}
            meter.advance(len(made), 0, 0.0)
    own = {row["item_id"]: known[keys[row["item_id"]]] for row in rows}
    seconds = sum(row["seconds"] for row in own.values()) / max(len(own), 1)
    cost = Cost(f"{name} writes and is checked", seconds, 0.0, f"measured on {len(own):,} items")
    fits = {spec.name for spec in pipeline.of_kind(FINETUNE)} if name == ADAPTER else set()
    texts = {item: row["text"] for item, row in own.items()}
    needs = frozenset({cost.name, *fits})
    return WriterTexts(name, writer.generator.name, texts, needs, (cost,), None if given is None else tuple(given))


def _write_and_check(
    store: Store,
    pipeline: Pipeline,
    writer: Writer,
    given: Sequence[str] | None,
    rows: Sequence[Row],
    keys: Mapping[str, str],
) -> list[dict[str, Any]]:
    started = monotonic()
    predicts = bool(pipeline.of_kind(ATTRIBUTES))  # then, as in the stages, from the fields of the prompt
    evidence = load_item_evidence(store, pipeline, rows, given if predicts else None)
    seen = evidence.seen
    if predicts:
        rows = [{**row, PREDICTED: predicted_row(evidence.predicted.get(row["item_id"], {}))} for row in rows]
    written = writer.write(rows, given)
    checked = writer.check(rows, written, None, seen)  # as the stage does: grounds are all that is known
    each = (monotonic() - started) / len(rows)
    found = []
    for row, one in zip(rows, checked, strict=True):
        described = None if isinstance(one, Reject) else one.description
        fields = {} if described is None else asdict(described)
        text = _text({**fields, "attributes": list(described.attributes.values())}) if described else ""
        found.append({"key": keys[row["item_id"]], "item_id": row["item_id"], "text": text, "seconds": each})
    return found


def _finetuned_writer(store: Store, pipeline: Pipeline, fits: Sequence[StageSpec]) -> tuple[WriterConfig, Any]:
    made = store.artifacts.newest(fits[-1].name) if fits else None
    if made is None:
        raise ColdstartError("no writer is tuned: run `coldstart finetune describe`")
    return read_writer_config(made.folder, pipeline.attributes), fits[-1].settings


def _write_spec(pipeline: Pipeline, check: str) -> StageSpec:
    name = pipeline.before(check, WRITE)
    assert name is not None, "a check stands after what it checks"
    return pipeline.stage(name)


def _text(description: Mapping[str, Any]) -> str:
    return prompts.load("described").render(description)
