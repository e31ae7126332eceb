"""describe.check: what a generator wrote is held against all that is known of the item; claims without a ground go.

What is left may enter a vector and be shown. Each claim says what it rests on, and each that went, why. Another
threshold or policy makes these rows anew, and nothing is written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.describe.check_context import SPACE_FIELD, CheckContext, build_rules, evidence_spaces, load_check_context
from coldstart.describe.checks.check import check_description
from coldstart.describe.checks.contract import Checked, Rules
from coldstart.describe.prompt_input import PromptBuilder
from coldstart.describe.writing import SeenValues, load_prompt_builder, sources_of
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.understand import policy

_CLAIM = pa.struct([("name", pa.string()), ("value", pa.string()), ("ground", pa.string()), ("detail", pa.string())])
_GROUND = pa.struct([("claim", pa.string()), ("value", pa.string()), ("ground", pa.string()), ("detail", pa.string())])
_CUT = pa.struct([("claim", pa.string()), ("value", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


class Settings(Section):
    """What a description must be."""

    languages: tuple[str, ...] = ("en",)
    """Codes of the languages that it may be written in; none: any."""
    max_copy: float = Field(default=Rules.max_copy, gt=0, le=1)
    """Share of a summary that may be copied from one source word by word."""
    max_unsupported: float = Field(default=Rules.max_unsupported, ge=0, le=1)
    """Share of a summary's words that may stand in no source."""
    policy: str | None = "safety"
    """Rules for what must not be said: a packaged policy's name, or the path of a .yaml file; null: none."""
    max_unsafe: float = Field(default=Rules.max_unsafe, gt=0, le=1)
    """Score of such a rule from which on a text goes."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> CheckStage:
    """The stage over the last one that writes.

    Raises:
        ColdstartError: nothing writes before it, or the policy has faults.
    """
    writing = pipeline.before(name, "describe.write")
    if writing is None:
        raise ColdstartError(f"{name}: no stage of kind describe.write stands before it: turn one on")
    return CheckStage(name, settings, pipeline, pipeline.stage(writing))


class CheckStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. `compute` holds texts against texts, on one core."""

    kind = "describe.check"
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
        evidence = pipeline.before(name, "understand.evidence")
        self.reads = {
            "written": writing.name,
            **({"evidence": evidence} if evidence else {}),
            **{SPACE_FIELD.format(space): space for space in evidence_spaces(name, pipeline)},
        }

    @cached_property
    def _context(self) -> CheckContext:
        return load_check_context(self.name, self._pipeline)

    @cached_property
    def _ask(self) -> PromptBuilder:
        return load_prompt_builder(self._writing, self._pipeline)[1]

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            **self._settings.model_dump(mode="json"),
            "policy": None if self._policy is None else self._policy.digest,
            "attributes": self._ask.attributes.plain(),
            "output": {kind: prompt.output for kind, prompt in self._ask.prompts.items()},
            "seeing": self._context.digest,
        }

    def preparer(self) -> Prepare:
        return gather

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        seen = self._context.seen_values(batch)
        return [self._check(row, own) for row, own in zip(batch, seen, strict=True)]

    def _check(self, row: Row, seen: SeenValues) -> Row | Reject:
        written = row["written"]
        sources, stated = sources_of(row, self._ask.attributes, seen=seen)
        rules = replace(self._rules, output=self._ask.prompts[row["kind"]].output)
        try:
            checked = check_description(written["text"], written["finish"], stated, sources, rules)
        except Reject as why:
            return why
        return _row(checked)

    @cached_property
    def _rules(self) -> Rules:
        return build_rules(self._settings, self._context)

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        rows = workspace.read(self.table, ["status", "cut"]).to_pylist()
        statuses = Counter(row["status"] for row in rows)
        reasons = Counter(cut["reason"] for row in rows for cut in row["cut"] or ())
        told = f"{statuses['written']} as written, {statuses['cut']} with claims cut, {statuses['fallback']} fell back"
        if not reasons:
            return [told]
        return [told, f"cut: {', '.join(f'{reason} {count}' for reason, count in reasons.most_common(6))}"]


def gather(row: Row) -> tuple[Row, float]:
    """The item's row, where something was written of it."""
    if row["written"] is None:
        raise Reject("nothing_written", "no text was made of it", state="filtered")
    return row, 1.0


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
