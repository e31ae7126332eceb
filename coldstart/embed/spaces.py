"""Vectors that items have in a space, and those that they would have without their category. Makes no row.

Stages are taken as built: `coldstart.embed.stage` has what is said of them here.

Where the vectors of an encoder that a fit has changed are found again: in the spaces that are made with it.

Vectors of texts that a fit learns from, kept in the workspace, so that each text is encoded once.
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
from coldstart.core.stage import Reject, Row
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import Standing
from coldstart.store.sql import one_of

Vectors = NDArray[np.float32]


KINDS = ("embed", "behaviour")
"""Kinds of stages whose rows are vectors of a space."""


_MANY = 8
"""Reading a whole table is quicker than asking for more than one in so many of its rows."""


def table_of(space: str, passport: Passport) -> str:
    """The table of a space: one a passport, so that vectors of two encoders never meet and going back costs nothing."""
    return f"stage.{space}-{passport.digest}"


def spaces_of(pipeline: Pipeline) -> list[StageSpec]:
    """The stages that make the spaces of a pipeline, in its order."""
    return [spec for spec in pipeline.stages if spec.kind in KINDS]


def vectors_of(store: Store, stage: Any, items: Sequence[str]) -> Vectors:
    """Stored vectors of items in their order, zero where one has none in the space: float32 [N, D]."""
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


def reads_category(stage: Any, standing: Standing) -> bool:
    """Whether the vectors of items that have a category say so in words."""
    if stage.settings.over is not None:
        return reads_category(standing.stage(stage.settings.over), standing)
    return stage.settings.input == "text" and "category" in stage.preparer().prompt.inputs


def without_category(store: Store, standing: Standing, stage: Any, items: Sequence[str]) -> dict[str, Vectors]:
    """Item -> its vector in a space as it would be if the item had no category, float32 [D]; made now, and not kept.

    Items that have nothing else to say there have none.
    """
    rows = {row["item_id"]: {**row, "category": None} for row in store.read(ITEMS, ids=items).to_pylist()}
    return {item: row["vector"] for item, row in _compute_changed(store, standing, stage, rows).items()}


def _compute_changed(store: Store, standing: Standing, stage: Any, rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows of a space over changed items, without those that it turns away."""
    fed = {item: dict(row) for item, row in rows.items()}
    for field, name in stage.reads.items():
        source: Any = standing.stage(name)
        if name == stage.settings.over:
            read = _compute_changed(store, standing, source, rows)
        else:
            fresh = [item for item in rows if item in standing.of(name).fresh]
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
    """The encoders that stand for what a fit stage makes."""
    return {f"align:{stage}", f"align:{stage.rpartition('.')[2]}"}


def picture_space(store: Store, pipeline: Pipeline, stage: str, passport: Passport) -> tuple[Any, frozenset[str]]:
    """The space of pictures with most fresh rows of what a stage has fitted last, as an embed stage, and their items.

    Args:
        passport: of what was fitted.

    Raises:
        ColdstartError: the pipeline has no such space, or nothing fresh stands in it.
    """
    standing = Standing(store, pipeline)
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
    spaces: list[Any] = [standing.stage(name) for name in named]
    found = [(space, standing.of(space.name).fresh) for space in spaces if space.passport == passport]
    space, fresh = max(found, key=lambda one: len(one[1]), default=(None, frozenset()))
    if not fresh:
        raise ColdstartError(
            f"{stage} has changed the encoder of pictures, and {', '.join(named)} holds no vectors by it yet: run "
            f"`coldstart run --workspace {store.uri}`"
        )
    return space, fresh


_COMMIT = 4096


_BATCH = 256


_DROP = 500


def drop_tables(store: Store, prefix: str, keep: str) -> None:
    """Empty the tables of a prefix, but for one: those of encoders that nothing asks any more."""
    for table in store.tables():
        if table.startswith(prefix) and table != keep:
            store.drop(table, "text_key IS NOT NULL")


class TextCache:
    """Text -> its vector as a document by one encoder, rounded to float16.

    Args:
        table: the workspace table, one an owner and a passport.
    """

    def __init__(self, store: Store, table: str, encoder: Encoder) -> None:
        self._store = store
        self._table = table
        self._encoder = encoder
        self._dim = encoder.passport("text").dim

    def vectors(self, texts: Sequence[str], meter: Meter) -> NDArray[np.float16]:
        """Unit vectors [N, D] of texts, each different; those not known yet are encoded and kept.

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
        """Drop all but these."""
        unused = sorted(self._known().keys() - {digest(text) for text in texts})
        for start in range(0, len(unused), _DROP):
            self._store.drop(self._table, one_of("text_key", unused[start : start + _DROP]))

    def _known(self) -> dict[str, int]:
        """Key of a text -> its row."""
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
    """The encoder that made the vectors of a space; if none has that passport any more, the one of its name, whose
    queries a search refuses.

    Raises:
        ColdstartError: its weights are not on this machine, or what it was fitted by is no longer kept.
    """
    specs = pipeline.of_kind("embed")
    random = any(spec.settings.allow_random_weights for spec in specs)
    engine = {"device": pipeline.engine.device, "dtype": pipeline.engine.dtype}
    prefix, _, name = passport.encoder.partition(":")
    if prefix == "align":
        for made in workspace.artifacts.all(name):
            folder = f"align:{made.folder}"
            encoder = encoders.load(folder, **engine, allow_random_weights=random, label=passport.encoder)
            if encoder.passport("image") == passport:
                return encoder
        raise ColdstartError(
            f"vectors of {passport.encoder} ({passport.digest}) were made by a fit that is no longer kept: run "
            f"`coldstart run --workspace {workspace.uri}` to make them with the one that is"
        )
    for spec in specs:
        if spec.settings.encoder.startswith("align:"):
            continue  # it stands for a fit of its own, looked for above
        encoder = encoders.load(
            spec.settings.encoder, **engine, allow_random_weights=spec.settings.allow_random_weights
        )
        if spec.settings.input in encoder.modalities and encoder.passport(spec.settings.input) == passport:
            return encoder
    return encoders.load(passport.encoder)
