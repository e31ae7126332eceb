"""Vectors of texts that a fit learns from, kept in the workspace, so that each text is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.keys import digest
from coldstart.workspace import Store
from coldstart.workspace.sql import one_of

if TYPE_CHECKING:
    from coldstart.encoders import Encoder

_COMMIT = 4096
_BATCH = 256
_DROP = 500


def forget(store: Store, prefix: str, keep: str) -> None:
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

    def vectors(self, texts: Sequence[str], meter: Any) -> NDArray[np.float16]:
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

    def _encode(self, entries: Sequence[tuple[str, str]], meter: Any) -> None:
        parts = []
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            parts.append(self._encoder.encode_documents([text for _, text in batch]).astype(np.float16))
            meter.advance(len(batch), 0, 0.0)
        flat = pa.array(np.concatenate(parts).reshape(-1), pa.float16())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self._dim)
        keys = pa.array([key for key, _ in entries], pa.string())
        self._store.merge(self._table, pa.table({"text_key": keys, "vector": vectors}), on=("text_key",))
