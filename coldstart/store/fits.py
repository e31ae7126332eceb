"""Where stages find what earlier stages of their pipeline have fitted, and searches the encoder of stored vectors.

The items that a fit had, kept with it: their keys, and the part of the split that each fell on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart.core.attributes import Attributes
from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import Store

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact


ENCODER_FITS = ("align.text_image",)
"""Kinds of fit stages that make encoders."""


GENERATOR_FITS = ("finetune.describe",)
"""Kinds of fit stages that make generators."""


CARD = "card.json"
"""What such a fit says of itself: the generator that it tuned, and the values that attributes were seen to have."""


def with_fits(pipeline: Pipeline, workspace: Store) -> Pipeline:
    """The pipeline over a workspace, whose fitted artifacts its stages may use."""

    def fitted(name: str) -> Path | None:
        newest = workspace.artifacts.newest(name)
        return None if newest is None else newest.folder

    return replace(pipeline, fitted=fitted)


def fitted_encoder(name: str, stage: str, pipeline: Pipeline) -> tuple[str, dict[str, str]]:
    """What to load for the encoder of a stage: `align:NAME` becomes the folder of what the fit stage NAME made last.

    NAME is the name of a stage, or its part after the group: `align:text_image` is the stage `align.text_image`.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: it stands after the one that asks.
    """
    prefix, _, asked = name.partition(":")
    named = [s.name for s in pipeline.stages if s.kind in ENCODER_FITS and asked in (s.name, s.name.rpartition(".")[2])]
    if prefix != "align" or not named:
        return name, {}
    if stage in [spec.name for spec in pipeline.earlier(named[0])]:
        raise ColdstartError(f"{stage}.encoder={name!r}: stage {named[0]!r} stands after it; put it before")
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"space {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune align`"
        )
    return f"align:{folder}", {"label": f"align:{named[0]}"}


@dataclass(frozen=True)
class WriterConfig:
    """Who writes for a stage, and how it is asked.

    Attributes:
        generator: what to load; adapter: folder of what was fitted on it, if anything was.
        attributes: what can be stated, with the values that the fit saw.
        given: fields that the fit showed; None: no fit says.
        prompt: kind of item -> the prompt that the fit learnt; None: no fit says.
    """

    generator: str
    adapter: Path | None
    attributes: Attributes
    given: tuple[str, ...] | None = None
    prompt: Mapping[str, str] | None = None


def find_writer_config(name: str, stage: str, pipeline: Pipeline) -> WriterConfig:
    """What stands behind the generator of a stage: `finetune:NAME` is what the fit stage NAME tuned last.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: there is no such stage before the one that asks.
    """
    prefix, _, asked = name.partition(":")
    if prefix != "finetune":
        return WriterConfig(name, None, pipeline.attributes)
    before = pipeline.earlier(stage)
    named = [s.name for s in before if s.kind in GENERATOR_FITS and asked in (s.name, s.name.rpartition(".")[2])]
    if not named:
        known = [f"finetune:{s.name.rpartition('.')[2]}" for s in before if s.kind in GENERATOR_FITS]
        raise ColdstartError(
            f"{stage}.generator={name!r}: no such fit stands before it; there is {', '.join(known) or 'none'}"
        )
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"stage {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune describe`"
        )
    return read_writer_config(folder, pipeline.attributes)


def read_writer_config(folder: Path, attributes: Attributes) -> WriterConfig:
    """What a folder of a fit says of itself."""
    card = json.loads((folder / CARD).read_text("utf-8"))
    return WriterConfig(
        card["generator"], folder, attributes.with_values(card["values"]), tuple(card["given"]), card["prompt"]
    )


ITEMS_FILE = "items.parquet"


def items_file(
    item_ids: Sequence[str], keys: Sequence[str], groups: NDArray[np.int64], parts: Mapping[str, NDArray[np.int64]]
) -> bytes:
    """The content of the file; `parts`: places of items by the part of the split."""
    sides = np.empty(len(item_ids), dtype="<U5")
    for name, places in parts.items():
        sides[places] = name
    columns = {"item_id": item_ids, "key": keys, "split": sides.tolist(), "group": groups}
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def read_fit_items(made: Artifact) -> dict[str, tuple[str, str]]:
    """item -> its key and its part of the split, of what was fitted."""
    rows = pq.read_table(made.folder / ITEMS_FILE, columns=["item_id", "key", "split"])
    items, keys, sides = (column.to_pylist() for column in rows.columns)
    return {item: (key, side) for item, key, side in zip(items, keys, sides, strict=True)}


SPLITS = ("train", "valid", "test")
