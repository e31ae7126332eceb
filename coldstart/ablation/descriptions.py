"""Descriptions by the writer before and after its fit: those that the workspace holds, and on request the other's.

What is written here is checked by the pipeline's own rules, kept in a table of the workspace, and written once.
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
from coldstart.describe.evaluate.workspace import evidence
from coldstart.describe.finetune.fit import needs_a_fit
from coldstart.describe.finetune.settings import FINETUNE, WRITE
from coldstart.describe.writing import DEFAULT_PROMPTS, Writer, load_prompt_builder, given_fields, load_prompts
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.store import Store
from coldstart.store.fits import Writing, writing_in
from coldstart.store.freshness import Standing

BASE, ADAPTER = "base", "adapter"
CHECK = "describe.check"
PREFIX = "evaluate.stages.described-"
_CHUNK = 32
_SCHEMA = pa.schema([("key", pa.string()), ("item_id", pa.string()), ("text", pa.string()), ("seconds", pa.float64())])


@dataclass(frozen=True)
class WriterTexts:
    """What one writer wrote.

    Attributes:
        writer: `base` or `adapter`; model: its name.
        texts: item -> what the checks left, as an encoder reads it, empty where that is nothing; items that it was not
            asked about are not there.
        needs: names of costs; costs: of what was written here.
        shown: fields that it was shown; None: all.
    """

    writer: str
    model: str
    texts: Mapping[str, str]
    needs: frozenset[str]
    costs: tuple[Cost, ...] = ()
    shown: tuple[str, ...] | None = None


def stored_descriptions(store: Store, pipeline: Pipeline, pipeline_state: Standing) -> WriterTexts | None:
    """What the pipeline's own writer wrote and its last checks left; None where it describes nothing."""
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
    return WriterTexts(writer, spec.settings.generator, texts, required_costs(name, pipeline, pipeline_state), (), shown)


def other_writer(store: Store, pipeline: Pipeline, known: str | None) -> tuple[str, Writer, tuple[str, ...] | None]:
    """Its name, who writes, and what it is shown: `base` where the workspace holds the adapter's, else the adapter.

    Raises:
        ColdstartError: nothing is tuned, so that there is no adapter; or the base cannot write before its fit.
    """
    wanted = BASE if known == ADAPTER else ADAPTER
    specs, fits = pipeline.of_kind(WRITE), pipeline.of_kind(FINETUNE)
    if wanted == BASE:
        writing, ask = load_prompt_builder(specs[-1], pipeline)
        if needs_a_fit(writing.generator):
            raise ColdstartError(f"{writing.generator} writes nothing before it is fitted")
        by_kind, given, settings = ask.by_kind, ask.given, specs[-1].settings
    else:
        writing, settings = _finetuned_writer(store, pipeline, fits)
        by_kind = load_prompts(fits[-1].name, writing.prompt or DEFAULT_PROMPTS)
        given = given_fields(fits[-1].name, writing.given)
    generator = generators.load(
        writing.generator,
        device=pipeline.engine.device,
        dtype=pipeline.engine.dtype,
        adapter=None if wanted == BASE else writing.adapter,
        **settings.options,
    )
    rules = evidence(store, pipeline, []).rules
    limits = Limits(**pipeline.media.limits())
    writer = Writer(generator, by_kind, writing.attributes, rules, limits, settings.frames, settings.pictures)
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
    """What a writer writes of so many of these items, drawn at random; what it wrote of one before stands.

    Args:
        rows: of items, with their evidence; count: None for all.
    """
    if count is not None and count < len(rows):
        rows = random.Random(0).sample(sorted(rows, key=lambda row: str(row["item_id"])), count)
    passport = asdict(writer.generator.passport())
    asked = {kind: prompt.digest for kind, prompt in writer.prompts.items()}
    table = (
        f"{PREFIX}{digest([passport, asked, None if given is None else list(given), writer.attributes.plain()])[:12]}"
    )
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
    seen = evidence(store, pipeline, [row["item_id"] for row in rows]).seen
    written = writer.write(rows, given)
    checked = writer.check(rows, written, None, seen)  # as the stage does: grounds are all that is known
    each = (monotonic() - started) / len(rows)
    found = []
    for row, one in zip(rows, checked, strict=True):
        told = None if isinstance(one, Reject) else one.description
        text = "" if told is None else _text({**asdict(told), "attributes": list(told.attributes.values())})
        found.append({"key": keys[row["item_id"]], "item_id": row["item_id"], "text": text, "seconds": each})
    return found


def _finetuned_writer(store: Store, pipeline: Pipeline, fits: Sequence[StageSpec]) -> tuple[Writing, Any]:
    made = store.artifacts.newest(fits[-1].name) if fits else None
    if made is None:
        raise ColdstartError("no writer is tuned: run `coldstart finetune describe`")
    return writing_in(made.folder, pipeline.attributes), fits[-1].settings


def _write_spec(pipeline: Pipeline, check: str) -> StageSpec:
    name = pipeline.before(check, WRITE)
    assert name is not None, "a check stands after what it checks"
    return pipeline.stage(name)


def _text(told: Mapping[str, Any]) -> str:
    return prompts.load("described").render(told)
