"""Find fitted encoders and generators by the names that stages give them, and read the items of a fit.

An artifact of a fit holds its items: their keys, their groups and their part of the split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart.core import trust
from coldstart.core.attributes import Attributes
from coldstart.core.pipeline import Pipeline
from coldstart.core.settings import suggestion
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import Store

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact


ENCODER_FITS = ("align.text_image",)
"""Kinds of fit stages that make encoders."""
GENERATOR_FITS = ("finetune.describe",)
"""Kinds of fit stages that make generators."""
HEADS = "heads.json"
"""File of an encoder fit: the encoders under its heads."""
CARD = "card.json"
"""File of a generator fit: the generator it tuned, the fields and prompts it saw, the values of attributes."""
ITEMS_FILE = "items.parquet"
SPLITS = ("train", "valid", "test")


def with_fits(pipeline: Pipeline, workspace: Store) -> Pipeline:
    """Bind a pipeline to the fitted artifacts of a workspace."""

    def fitted(name: str) -> Path | None:
        newest = workspace.artifacts.newest(name)
        return None if newest is None else newest.folder

    return replace(pipeline, fitted=fitted)


def fitted_encoder(name: str, stage: str, pipeline: Pipeline) -> tuple[str, dict[str, str]]:
    """Resolve the encoder name of a stage: `align:NAME` becomes the folder of the newest fit of stage NAME.

    Returns the name to load and further options.

    NAME is the name of a stage, or its part after the group: `align:text_image` is the stage `align.text_image`.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: it is not before the stage that names it.
    """
    prefix, _, wanted = name.partition(":")
    fits = [s.name for s in pipeline.stages if s.kind in ENCODER_FITS]
    named = [fit for fit in fits if wanted in (fit, fit.rpartition(".")[2])]
    if prefix != "align" or not named:
        return name, {}
    if stage in [spec.name for spec in pipeline.earlier(named[0])]:
        raise ColdstartError(f"{stage}.encoder={name!r}: stage {named[0]!r} stands after it; put it before")
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"space {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune align`"
        )
    check_heads(folder, pipeline)
    return f"align:{folder}", {"label": f"align:{named[0]}"}


def check_heads(folder: Path, pipeline: Pipeline) -> None:
    """Refuse heads over an encoder that is a folder or an address which the pipeline itself does not name.

    Raises:
        ColdstartError: with the encoder.
    """
    try:
        towers = json.loads((folder / HEADS).read_bytes())["towers"]
        names = [str(tower["encoder"]) for tower in towers.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # whoever reads them says what is wrong
    _check_named(names, f"the fit in {folder}", pipeline)


def _check_named(names: Iterable[str], owner: str, pipeline: Pipeline) -> None:
    known = trust.values(pipeline.raw, pipeline.distrusted)
    for name in names:
        if name not in known and (trust.is_place(name) or name.endswith(".md")):
            raise ColdstartError(f"{owner} names {name}, which the pipeline does not: fit it again")


@dataclass(frozen=True)
class WriterConfig:
    """Generator of a stage and its prompts.

    Attributes:
        generator: name to load; adapter: folder of the adapter fitted on it, if any.
        attributes: attributes that can be stated, with the values that the fit saw.
        given: fields that the fit had in its prompts; None: no fit states any.
        prompt: kind of item -> the prompt of the fit; None: no fit states any.
        templates: pattern of facts -> sentences with slots that the fit chose.
    """

    generator: str
    adapter: Path | None
    attributes: Attributes
    given: tuple[str, ...] | None = None
    prompt: Mapping[str, str] | None = None
    templates: Mapping[str, str] = field(default_factory=dict)


def find_writer_config(name: str, stage: str, pipeline: Pipeline) -> WriterConfig:
    """Resolve the generator name of a stage: `finetune:NAME` is the newest fit of stage NAME.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: there is no such stage before the one that names it.
    """
    prefix, _, wanted = name.partition(":")
    if prefix != "finetune":
        return WriterConfig(name, None, pipeline.attributes)
    fits = [s.name for s in pipeline.earlier(stage) if s.kind in GENERATOR_FITS]
    named = [fit for fit in fits if wanted in (fit, fit.rpartition(".")[2])]
    if not named:
        known = [f"finetune:{fit.rpartition('.')[2]}" for fit in fits]
        make = "the pipeline makes none: `coldstart finetune describe` adds the stage that does, and fits it"
        raise ColdstartError(
            f"{stage}.generator={name!r}: no such fit stands before it"
            + (f"{suggestion(name, known)}; there is {', '.join(known)}" if known else f"; {make}")
        )
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"stage {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune describe`"
        )
    found = read_writer_config(folder, pipeline.attributes)
    _check_named([found.generator, *(found.prompt or {}).values()], f"the fit in {folder}", pipeline)
    return found


def read_writer_config(folder: Path, attributes: Attributes) -> WriterConfig:
    """Read the generator and prompts of a fit from the card in its folder."""
    card = json.loads((folder / CARD).read_text("utf-8"))
    is_facts = "tuned" in card  # sentences with slots take any value, also one that no training item has
    return WriterConfig(
        card["generator"],
        folder,
        attributes if is_facts else attributes.with_values(card["values"]),
        None if card["given"] is None else tuple(card["given"]),
        card["prompt"],
        card.get("templates") or {},
    )


def items_file(
    item_ids: Sequence[str], keys: Sequence[str], groups: NDArray[np.int64], parts: Mapping[str, NDArray[np.int64]]
) -> bytes:
    """Encode the items of a fit as Parquet; `parts`: places of items by the part of the split."""
    sides = np.empty(len(item_ids), dtype="<U5")
    for name, places in parts.items():
        sides[places] = name
    columns = {"item_id": item_ids, "key": keys, "split": sides.tolist(), "group": groups}
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def read_fit_items(artifact: Artifact) -> dict[str, tuple[str, str]]:
    """Read item -> its key and its part of the split, of a fit."""
    rows = pq.read_table(artifact.folder / ITEMS_FILE, columns=["item_id", "key", "split"])
    items, keys, sides = (column.to_pylist() for column in rows.columns)
    return {item: (key, side) for item, key, side in zip(items, keys, sides, strict=True)}


def read_held_out(artifact: Artifact) -> dict[str, int]:
    """Read item -> its group, of the items that a fit held out for evaluation."""
    rows = pq.read_table(artifact.folder / ITEMS_FILE).to_pylist()
    return {row["item_id"]: int(row.get("group") or 0) for row in rows if row["split"] == "test"}
