"""Run `describe.attributes`: predict the attributes of each item, with calibrated probabilities.

By the models of `describe.grounds`: from pictures, brand, title and texts, never from what the record states of the
attribute. `describe.write` puts stated values into words, and `describe.check` takes them as evidence. Fields that a
writer after it may not read (`given`) are hidden from the models, too: they would reach its texts as facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.describe.attribute_values import predicted_row
from coldstart.describe.check_context import SPACE_FIELD, CheckContext, evidence_spaces, load_check_context
from coldstart.describe.writing import given_fields
from coldstart.store import Store

_VALUE = pa.struct(
    [
        ("name", pa.string()),
        ("value", pa.string()),
        ("probability", pa.float32()),
        ("stated", pa.bool_()),
        ("witnesses", pa.list_(pa.string())),
    ]
)


class Settings(Section):
    """Settings of the prediction of attributes; those of its models are in `describe.grounds`."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> AttributesStage:
    """Build the stage over the last `describe.grounds` before it; without one it predicts nothing."""
    return AttributesStage(name, pipeline)


class AttributesStage(MapStageDefaults):
    """Map stage of predicted attributes; see `coldstart.core.stage.MapStage`. `compute` runs on one core."""

    kind = "describe.attributes"
    batch_cost = 512.0
    deadline_s = 60.0
    schema = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("values", pa.list_(_VALUE))])

    def __init__(self, name: str, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._pipeline = pipeline
        evidence = pipeline.before(name, "understand.evidence")
        self.reads = {
            **({"evidence": evidence} if evidence else {}),
            **{SPACE_FIELD.format(space): space for space in evidence_spaces(name, pipeline)},
        }

    @cached_property
    def _context(self) -> CheckContext:
        return load_check_context(self.name, self._pipeline)

    @property
    def item_fields(self) -> Collection[str]:  # type: ignore[override]
        """Fields that the models read, and the category, which has attributes of its own."""
        fields = {"category", "creator", "title", "description"}
        return {"kind", *(fields if self._given is None else fields & self._given)}

    @cached_property
    def _given(self) -> frozenset[str] | None:
        """Fields of the view: those that the next `describe.write` is set to read, else all."""
        later = self._pipeline.stages[len(self._pipeline.earlier(self.name)) :]
        writing = next((spec for spec in later if spec.kind == "describe.write"), None)
        return None if writing is None else given_fields(writing.name, writing.settings.given)

    def fingerprint(self) -> Mapping[str, Any]:
        shown = {} if self._given is None else {"given": sorted(self._given)}
        return {"models": self._context.digest, "attributes": self._pipeline.attributes.plain(), **shown}

    def preparer(self) -> Prepare:
        return load_item

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        found = self._context.predict(batch, self._pipeline.attributes, self._given)
        return [predicted_row(predicted) for predicted in found]

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        rows = workspace.read(self.table, ["values"]).to_pylist()
        stated = Counter(one["name"] for row in rows for one in row["values"] if one["stated"])
        return [", ".join(f"{name} stated of {count} of {len(rows)}" for name, count in stated.items())] if rows else []


def load_item(row: Row) -> tuple[Row, float]:
    """Load the item's row."""
    return row, 1.0
