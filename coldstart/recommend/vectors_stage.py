"""Fill the behaviour space of a pipeline with item vectors from the fit of `align.behaviour`.

An item's vector comes from its content; a warm item's is corrected by its own interactions. Rows are unit vectors, so
that neighbours are found as in any space; `norm` keeps the original length, since products of full vectors with user
vectors are scores. A new fit makes all rows anew. Texts and images cannot be encoded into this space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import suggestion
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.embed.spaces import table_of
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError, NotFitted, NothingToLearn
from coldstart.recommend.inputs import FIT, FIT_FILE, LABEL_FIELDS, load_fit, record_of
from coldstart.recommend.model.fusion import Content
from coldstart.store import Store
from coldstart.store.freshness import build as build_stage

_FIELD = "vectors of "


class Settings(Section):
    """Settings of a behaviour space."""

    fit: str | None = None
    """Name of an earlier stage of kind `align.behaviour`; by default the last one."""
    batch_size: int = Field(default=1024, ge=1)
    """Items mapped in one batch; no result depends on it."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> BehaviourStage:
    """Build the stage over an earlier fit.

    Raises:
        ColdstartError: there is no earlier fit, or none of that name.
    """
    fits = {spec.name: spec for spec in pipeline.earlier(name) if spec.kind == FIT}
    wanted = settings.fit or next(reversed(fits), None)
    if wanted is None:
        raise ColdstartError(f"{name}: no stage of kind {FIT} stands before it: add `align: {{behaviour: {{}}}}`")
    if wanted not in fits:
        raise ColdstartError(
            f"{name}.fit={wanted!r}: no stage of kind {FIT} has that name before it{suggestion(wanted, fits)}; "
            f"there is {', '.join(fits) or 'none'}"
        )
    return BehaviourStage(name, settings, pipeline, build_stage(fits[wanted], pipeline))


class BehaviourStage(MapStageDefaults):
    """Map stage of the space; see `coldstart.core.stage.MapStage`."""

    kind = "behaviour"
    item_fields = LABEL_FIELDS
    deadline_s = 60.0

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, fit: Any) -> None:
        self.name = name
        self.settings = settings
        self.batch_cost = float(settings.batch_size)
        self.reads = {f"{_FIELD}{space}": space for space in fit.spaces}
        self._pipeline = pipeline
        self._fit = fit

    @cached_property
    def _fit_card(self) -> tuple[Path, Mapping[str, Any]]:
        """Folder of the fit, and the content of its `FIT_FILE`.

        Raises:
            NothingToLearn: nothing is fitted yet, or the fit is on vectors of other encoders than the pipeline's.
        """
        folder = self._pipeline.fitted(self._fit.name)
        waits = f"space {self.name!r} waits for stage {self._fit.name!r}, which "
        if folder is None:
            raise NothingToLearn(f"{waits}has fitted nothing: run `coldstart finetune behaviour`")
        card = json.loads((folder / FIT_FILE).read_text("utf-8"))
        try:
            now = {space: stage.passport.digest for space, stage in self._fit.spaces.items()}
        except NotFitted as waiting:
            raise NothingToLearn(str(waiting)) from None
        if card["spaces"] != now:
            raise NothingToLearn(
                f"{waits}was fitted on other vectors than those of {', '.join(now)}: run `coldstart finetune behaviour`"
            )
        return folder, card

    @cached_property
    def passport(self) -> Passport:
        """Passport of the space: the fit's artifact, its content spaces and its dimension."""
        folder, card = self._fit_card
        spaces = ", ".join(card["spaces"])
        return Passport(f"behaviour:{self._fit.name}", f"sha256:{folder.name}", f"content: {spaces}", card["dim"])

    @property
    def table(self) -> str:
        """Name of the table of the space."""
        return table_of(self.name, self.passport)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the table: item_id, row_key, vector, norm, warm."""
        fields = [
            pa.field("item_id", pa.string()),
            pa.field("row_key", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), self.passport.dim)),
            pa.field("norm", pa.float32()),
            pa.field("warm", pa.bool_()),
        ]
        return pa.schema(fields, metadata={"passport": self.passport.to_json()})

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what enters the row key: the fit."""
        return {"fit": self._fit_card[0].name}

    def preparer(self) -> Prepare:
        """Return the function that prepares one item on a worker."""
        return ReadContent(tuple(self._fit.spaces))

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        """Map a batch of items to rows; a `Reject` for an item without usable content."""
        if not batch:
            return []
        fitted, card = load_fit(self._fit_card[0]), self._fit_card[1]
        widths = fitted.fusion.spaces
        blocks = {space: _block([one["vectors"][space] for one in batch], widths[space]) for space in card["spaces"]}
        records = tuple(one["record"] for one in batch)
        content = Content(tuple(record["item_id"] for record in records), blocks, records)
        vectors = fitted.items(content)
        norms = np.linalg.norm(vectors, axis=1)
        unit = vectors / np.maximum(norms, np.float32(1e-12))[:, None]
        warm = fitted.is_warm(content.item_ids)
        return [self._row(vector, norm, is_warm) for vector, norm, is_warm in zip(unit, norms, warm, strict=True)]

    def _row(self, vector: Any, norm: Any, warm: Any) -> Row | Reject:
        if not np.isfinite(norm):
            return Reject("bad_vector", "not a finite number")
        if norm == 0:
            spaces = ", ".join(self._fit.spaces)
            return Reject("no_content", f"none of {spaces} has a vector of it, and its record says nothing", "filtered")
        return {"vector": vector, "norm": float(norm), "warm": bool(warm)}

    def notes(self, workspace: Store) -> list[str]:
        """Count warm and cold items of the space."""
        if not workspace.has(self.table):
            return []
        warm = workspace.read(self.table, ["warm"])["warm"]
        count = pc.sum(warm).as_py() or 0
        return [f"{count} items by their content and their own interactions, {len(warm) - count} by content alone"]


def _block(vectors: Sequence[Any], dim: int) -> Any:
    """Stack vectors into rows, float32 [B, dim]; zeros where one is None.

    Its width is that of the fit: none of the batch may have a vector to take it from.
    """
    block = np.zeros((len(vectors), dim), np.float32)
    for row, vector in zip(block, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return block


@dataclass(frozen=True)
class ReadContent:
    """Preparer of one item: its record and its content vectors; the cost is that of one item."""

    spaces: tuple[str, ...]

    def __call__(self, row: Row) -> tuple[Row, float]:
        vectors = {space: (row.get(f"{_FIELD}{space}") or {}).get("vector") for space in self.spaces}
        own = {name: value for name, value in row.items() if not name.startswith(_FIELD)}
        return {"record": record_of(own), "vectors": vectors}, 1.0
