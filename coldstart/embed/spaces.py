"""Vectors of the spaces of a workspace: their tables and encoders, and a cache of the vectors of texts.

Stages are taken as built; see `coldstart.embed.stage`. Vectors that items would have without their category are
computed and not stored. Each text that a fit trains on is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart import encoders
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.progress import Meter
from coldstart.core.stage import SPACES, Reject, Row
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.fits import check_heads
from coldstart.store.freshness import PipelineState
from coldstart.store.sql import one_of

Vectors = NDArray[np.float32]

_MANY = 8
"""Share of a table's rows, one in so many, above which reading it whole is quicker than looking rows up."""

_LOADED_BY_NAME = ("fake", "starter", "starter-clip")
"""Encoders whose names hold no folder and no name of a hub."""

_VARIANTS = {"starter": ("starter:levels",)}
"""Further names of such an encoder."""

MULTILINGUAL = "starter:multilingual-e5-small"
"""Encoder in passports of `starter:multilingual`, whose weights are an optional pull."""

_COMMIT = 4096
_BATCH = 256
_DROP = 500


def table_of(space: str, passport: Passport) -> str:
    """Name the table of a space.

    One a passport, so that vectors of two encoders never meet and going back costs nothing.
    """
    return f"stage.{space}-{passport.digest}"


def spaces_of(pipeline: Pipeline) -> list[StageSpec]:
    """List the stages that make the spaces of a pipeline, in its order."""
    return [spec for spec in pipeline.stages if spec.kind in SPACES]


def vectors_of(store: Store, stage: Any, items: Sequence[str]) -> Vectors:
    """Read the vectors of items in their order, zero where one has none in the space: float32 [N, D]."""
    found = np.zeros((len(items), stage.passport.dim), np.float32)
    if not items or not store.has(stage.table):
        return found
    places = {item: place for place, item in enumerate(items)}
    ids = None if len(items) * _MANY > store.count(stage.table) else list(items)
    rows = store.read(stage.table, ["item_id", "vector"], ids=ids)
    chosen = np.array([places.get(item, -1) for item in rows["item_id"].to_pylist()], np.int64)
    start = 0
    for chunk in rows["vector"].chunks:
        values = chunk.flatten().to_numpy().reshape(len(chunk), -1)
        own = chosen[start : start + len(chunk)]
        found[own[own >= 0]] = values[own >= 0]
        start += len(chunk)
    return found


def reads_category(stage: Any, pipeline_state: PipelineState) -> bool:
    """Tell whether the text behind the vectors of items includes their category."""
    if stage.settings.over is not None:
        return reads_category(pipeline_state.stage(stage.settings.over), pipeline_state)
    return stage.settings.input == "text" and "category" in stage.preparer().prompt.inputs


def without_category(
    store: Store, pipeline_state: PipelineState, stage: Any, items: Sequence[str]
) -> dict[str, Vectors]:
    """Compute the vectors that items would have without their category: item -> float32 [D].

    Nothing is stored. Items that have no other input in the space are left out.

    Items that have nothing else to say there have none.
    """
    rows = {row["item_id"]: {**row, "category": None} for row in store.read(ITEMS, ids=items).to_pylist()}
    return {item: row["vector"] for item, row in _compute_changed(store, pipeline_state, stage, rows).items()}


def _compute_changed(
    store: Store, pipeline_state: PipelineState, stage: Any, rows: Mapping[str, Row]
) -> dict[str, Row]:
    """Compute rows of a space over changed items, without those that it turns away."""
    fed = {item: dict(row) for item, row in rows.items()}
    for field, name in stage.reads.items():
        source: Any = pipeline_state.stage(name)
        if name == stage.settings.over:
            read = _compute_changed(store, pipeline_state, source, rows)
        else:
            fresh = [item for item in rows if item in pipeline_state.of(name).fresh]
            read = {row["item_id"]: row for row in store.read(source.table, ids=fresh).to_pylist()} if fresh else {}
        for item, row in fed.items():
            row[field] = read.get(item)
    prepare, ready = stage.preparer(), {}
    for item, row in fed.items():
        with suppress(Reject):
            ready[item] = prepare(row)[0]
    made = stage.compute(list(ready.values())) if ready else []
    return {item: row for item, row in zip(ready, made, strict=True) if not isinstance(row, Reject)}


def encoders_of(stage: str) -> set[str]:
    """Return the encoder names that stand for the result of a fit stage."""
    return {f"align:{stage}", f"align:{stage.rpartition('.')[2]}"}


def picture_space(store: Store, pipeline: Pipeline, stage: str, passport: Passport) -> tuple[Any, frozenset[str]]:
    """Find the space of pictures with most fresh rows of the last fit of a stage, as an embed stage, and those items.

    Args:
        passport: of what was fitted.

    Raises:
        ColdstartError: the pipeline has no such space, or nothing fresh stands in it.
    """
    pipeline_state = PipelineState(store, pipeline)
    named = [
        spec.name
        for spec in pipeline.of_kind("embed")
        if spec.settings.input == "image" and spec.settings.encoder in encoders_of(stage)
    ]
    if not named:
        short = stage.rpartition(".")[2]
        raise ColdstartError(
            f"{stage} has changed the encoder of pictures, and no space is made with it: `coldstart embed --workspace "
            f"{store.uri} --space aligned --encoder align:{short}` makes one"
        )
    spaces: list[Any] = [pipeline_state.stage(name) for name in named]
    found = [(space, pipeline_state.of(space.name).fresh) for space in spaces if space.passport == passport]
    space, fresh = max(found, key=lambda one: len(one[1]), default=(None, frozenset()))
    if not fresh:
        raise ColdstartError(
            f"{stage} has changed the encoder of pictures, and {', '.join(named)} holds no vectors by it yet: run "
            f"`coldstart run --workspace {store.uri}`"
        )
    return space, fresh


def drop_tables(store: Store, prefix: str, keep: str) -> None:
    """Empty the tables of a prefix, but for one: those of encoders that are no longer used."""
    for table in store.tables():
        if table.startswith(prefix) and table != keep:
            store.drop(table, "text_key IS NOT NULL")


class TextCache:
    """Cache of the vectors of texts as documents by one encoder, rounded to float16.

    Args:
        table: the workspace table, one an owner and a passport.
    """

    def __init__(self, store: Store, table: str, encoder: Encoder) -> None:
        self._store = store
        self._table = table
        self._encoder = encoder
        self._dim = encoder.passport("text").dim

    def vectors(self, texts: Sequence[str], meter: Meter) -> NDArray[np.float16]:
        """Look up or encode texts, each different: unit vectors [N, D]. New ones are stored.

        Args:
            meter: counts the texts that are encoded.
        """
        keys = [digest(text) for text in texts]
        places = self._known()
        new = [(key, text) for key, text in zip(keys, texts, strict=True) if key not in places]
        for start in range(0, len(new), _COMMIT):
            self._encode(new[start : start + _COMMIT], meter)
        if new:
            places = self._known()
        if not texts:
            return np.empty((0, self._dim), np.float16)
        table = self._store.read(self._table, ["vector"])
        every = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, self._dim)
        return np.asarray(every[[places[key] for key in keys]], np.float16)

    def keep(self, texts: Sequence[str]) -> None:
        """Drop all texts but these."""
        unused = sorted(self._known().keys() - {digest(text) for text in texts})
        for start in range(0, len(unused), _DROP):
            self._store.drop(self._table, one_of("text_key", unused[start : start + _DROP]))

    def _known(self) -> dict[str, int]:
        """Map the key of a text to its row."""
        if not self._store.has(self._table):
            return {}
        keys = self._store.read(self._table, ["text_key"])["text_key"].to_pylist()
        return {key: row for row, key in enumerate(keys)}

    def _encode(self, entries: Sequence[tuple[str, str]], meter: Meter) -> None:
        parts = []
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            parts.append(self._encoder.encode_documents([text for _, text in batch]).astype(np.float16))
            meter.advance(len(batch), 0, 0.0)
        flat = pa.array(np.concatenate(parts).reshape(-1), pa.float16())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self._dim)
        keys = pa.array([key for key, _ in entries], pa.string())
        self._store.merge(self._table, pa.table({"text_key": keys, "vector": vectors}), on=("text_key",))


def encoder_of(passport: Passport, pipeline: Pipeline, workspace: Store) -> Encoder:
    """Load the encoder that made the vectors of a space.

    If none has that passport any more, it is the packaged one of its name, whose queries a search refuses. A passport
    may come from a stranger: a name in it makes this machine read no folder and ask no hub.

    Raises:
        ColdstartError: its weights are not on this machine, the fit that made it is no longer stored, or no stage names
            it any more.
    """
    specs = pipeline.of_kind("embed")
    random = any(spec.settings.allow_random_weights for spec in specs)
    engine = {"device": pipeline.engine.device, "dtype": pipeline.engine.dtype}
    prefix, _, name = passport.encoder.partition(":")
    if prefix == "align":
        for made in workspace.artifacts.all(name):
            check_heads(made.folder, pipeline)
            folder = f"align:{made.folder}"
            encoder = encoders.load(folder, **engine, allow_random_weights=random, label=passport.encoder)
            if encoder.passport("image") == passport:
                return encoder
        raise ColdstartError(
            f"vectors of {passport.encoder} ({passport.digest}) were made by a fit that is no longer stored: run "
            f"`coldstart run --workspace {workspace.uri}` to make them with the one that is"
        )
    faults = [f"{name}: {why}" for name, why in (*pipeline.distrusted.items(), *pipeline.unresolved.items())]
    for spec in specs:
        if spec.settings.encoder.startswith("align:") or spec.name in pipeline.distrusted:
            continue  # the first stands for a fit of its own, looked for above
        try:
            encoder = encoders.load(
                spec.settings.encoder, **engine, allow_random_weights=spec.settings.allow_random_weights
            )
            if spec.settings.input in encoder.modalities and encoder.passport(spec.settings.input) == passport:
                return encoder
        except ColdstartError as error:  # the encoder of another space may be missing
            faults.append(f"{spec.name}: {error}")
    if passport.encoder == MULTILINGUAL:
        return encoders.load("starter:multilingual", device=pipeline.engine.device, dtype=pipeline.engine.dtype)
    if prefix in _LOADED_BY_NAME:
        named = [
            encoders.load(one) for one in (passport.encoder if prefix == "fake" else prefix, *_VARIANTS.get(prefix, ()))
        ]
        fitting = (one for one in named if any(one.passport(way) == passport for way in one.modalities))
        return next(fitting, named[0])
    remake = f"run `coldstart run --workspace {workspace.uri}` to make them with the one that a stage names"
    raise ColdstartError(
        f"vectors of {passport.encoder} ({passport.digest}) are by an encoder that no stage names: "
        f"{'; '.join(faults) or remake}"
    )
