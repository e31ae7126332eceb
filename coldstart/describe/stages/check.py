"""Run `describe.check`: check descriptions against the sources of their items and cut claims without a ground.

The rest may enter a vector and be shown. Each claim has its ground, each cut one its reason. Another threshold or
policy checks again, and generates nothing again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from coldstart.core.attributes import attribute_fields
from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.reasons import counted
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.describe.attribute_values import PREDICTED, read_predicted
from coldstart.describe.check_context import SPACE_FIELD, CheckContext, build_rules, evidence_spaces, load_check_context
from coldstart.describe.checks.check import check_description
from coldstart.describe.checks.contract import Checked, Rules
from coldstart.describe.prompt_input import RECORD_FIELDS, PromptBuilder
from coldstart.describe.writing import SeenValues, load_prompt_builder, sources_of
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.corrections import CLAIM_DECISIONS, claims_of
from coldstart.understand import policy

_CLAIM = pa.struct([("name", pa.string()), ("value", pa.string()), ("ground", pa.string()), ("detail", pa.string())])
_GROUND = pa.struct([("claim", pa.string()), ("value", pa.string()), ("ground", pa.string()), ("detail", pa.string())])
_CUT = pa.struct([("claim", pa.string()), ("value", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


class Settings(Section):
    """Settings of the checks of descriptions."""

    languages: tuple[str, ...] = ("en",)
    """Codes of the allowed languages; empty: any."""
    max_copy: float = Field(default=Rules.max_copy, gt=0, le=1)
    """Share of a summary that may be copied from one source."""
    min_claimed: float = Field(default=Rules.min_claimed, ge=0, le=1)
    """Least probability of a predicted value that prose may state, though it is not likely enough for plain sentences
    to state it (`describe.grounds.precision`)."""
    max_unsupported: float = Field(default=Rules.max_unsupported, ge=0, le=1)
    """Share of a summary's content words that may stand in no source."""
    policy: str | None = "safety"
    """Policy of texts that are not allowed: a packaged policy's name, or the path of a .yaml file; null: none."""
    max_unsafe: float = Field(default=Rules.max_unsafe, gt=0, le=1)
    """Score of a policy rule from which a text is cut."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> CheckStage:
    """Build the stage over the last `describe.write` before it.

    Raises:
        ColdstartError: no such stage stands before it, or the policy has faults.
    """
    writing = pipeline.before(name, "describe.write")
    if writing is None:
        raise ColdstartError(f"{name}: no stage of kind describe.write stands before it: turn one on")
    return CheckStage(name, settings, pipeline, pipeline.stage(writing))


class CheckStage(MapStageDefaults):
    """Map stage of the checks; see `coldstart.core.stage.MapStage`. `compute` compares texts, on one core."""

    kind = "describe.check"
    version = 4  # grounds that name their sources; quotations by place
    batch_cost = 256.0
    deadline_s = 60.0
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            ("status", pa.string()),
            ("summary", pa.string()),
            ("attributes", pa.list_(_CLAIM)),
            ("keywords", pa.list_(pa.string())),
            ("queries", pa.list_(pa.string())),
            ("language", pa.string()),
            ("grounds", pa.list_(_GROUND)),
            ("cut", pa.list_(_CUT)),
        ]
    )

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, writing: StageSpec) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._pipeline = pipeline
        self._writing = writing
        self._policy = None if settings.policy is None else policy.load(settings.policy)
        evidence, predicted = (pipeline.before(name, kind) for kind in ("understand.evidence", "describe.attributes"))
        screen = pipeline.before(name, "understand.screen") if writing.settings.generator == "sentences" else None
        spaces = () if predicted else evidence_spaces(name, pipeline)
        self.reads = {
            "written": writing.name,
            **({"evidence": evidence} if evidence else {}),
            **({"screen": screen} if screen and evidence else {}),
            **({PREDICTED: predicted} if predicted else {}),
            **{SPACE_FIELD.format(space): space for space in spaces},
        }

    @cached_property
    def _context(self) -> CheckContext:
        return load_check_context(self.name, self._pipeline)

    @cached_property
    def _builder(self) -> PromptBuilder:
        return load_prompt_builder(self._writing, self._pipeline)[1]

    @property
    def item_fields(self) -> Collection[str]:  # type: ignore[override]  # known with the attributes
        """Fields in which a claim may have its ground, and what people decided on claims."""
        return {"kind", *RECORD_FIELDS, *attribute_fields(self._builder.attributes), CLAIM_DECISIONS.name}

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            **self._settings.model_dump(mode="json"),
            "policy": None if self._policy is None else self._policy.digest,
            "attributes": self._builder.attributes.plain(),
            "output": {kind: prompt.output for kind, prompt in self._builder.prompts.items()},
            "seeing": self._context.digest,
        }

    def preparer(self) -> Prepare:
        return load_written

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        seen = self._context.seen_values(batch)
        return [self._check(row, own) for row, own in zip(batch, seen, strict=True)]

    def _check(self, row: Row, seen: SeenValues) -> Row | Reject:
        written = row["written"]
        sources, stated = sources_of(row, self._builder.attributes, seen=seen, templates=self._builder.templates)
        rules = replace(self._rules, output=self._builder.prompts[row["kind"]].output)
        if row.get(CLAIM_DECISIONS.name):
            decided = claims_of(row[CLAIM_DECISIONS.name])
            rules = replace(rules, approved=decided["approved"], rejected=decided["rejected"])
        try:
            checked = check_description(written["text"], written["finish"], stated, sources, rules)
        except Reject as why:
            return why
        return _row(_with_witnesses(checked, row))

    @cached_property
    def _rules(self) -> Rules:
        return build_rules(self._settings, self._context)

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        rows = workspace.read(self.table, ["status", "attributes", "grounds", "cut"])
        statuses, reasons = Counter(rows["status"].to_pylist()), _fields(rows["cut"], "reason")
        summary = (
            f"{len(rows)} items have a description: {statuses['written']} as written, {statuses['cut']} with something "
            f"removed, {statuses['fallback']} by words of their own"
        )
        removed = f" ({counted(dict(reasons.most_common(6)))})" if reasons else ""
        claims = f"statements: {_fields(rows['grounds'], 'claim').total()} kept, {reasons.total()} removed{removed}"
        covered = _fields(rows["attributes"], "name")
        stated = ", ".join(f"{name} of {count / len(rows):.0%}" for name, count in covered.most_common(_MOST_NAMED))
        return [summary, claims, *([f"stated: {stated}"] if stated else [])] if len(rows) else []


_MOST_NAMED = 12


def _fields(lists: pa.ChunkedArray, name: str) -> Counter[str]:
    """Count the values of one field over a column of lists of structs."""
    return Counter(pc.struct_field(pc.list_flatten(lists), name).to_pylist())


def load_written(row: Row) -> tuple[Row, float]:
    """Load the item's row, where a description was written of it."""
    if row["written"] is None:
        raise Reject("nothing_written", "no text was made of it", state="filtered")
    return row, 1.0


def _with_witnesses(checked: Checked, row: Row) -> Checked:
    """Name the witnesses of predicted values beside their probability: `0.97 by image, brand`."""
    by = {(one.name, one.value): ", ".join(one.witnesses) for own in read_predicted(row).values() for one in own}
    grounds = [
        replace(one, detail=f"{one.detail} by {by[one.claim, one.value]}")
        if one.ground == "predicted" and by.get((one.claim, one.value))
        else one
        for one in checked.grounds
    ]
    return replace(checked, grounds=tuple(grounds))


def _row(checked: Checked) -> Row:
    kept = checked.description
    why = {one.claim: one for one in checked.grounds if one.claim in kept.attributes}
    return {
        "status": checked.status,
        "summary": kept.summary or None,
        "attributes": [
            {"name": name, "value": value, "ground": why[name].ground, "detail": why[name].detail}
            for name, value in kept.attributes.items()
        ],
        "keywords": list(kept.keywords),
        "queries": list(kept.queries),
        "language": checked.language,
        "grounds": [asdict(one) for one in checked.grounds],
        "cut": [asdict(one) for one in checked.cut],
    }
