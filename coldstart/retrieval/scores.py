"""Cosines of videos and products in every channel, over all products or over those that the indexes find.

All products: one pass over the catalog in blocks, for any number of videos. By index: the nearest of each channel are
candidates, and all channels are computed for all candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.encoders import Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.retrieval.channels import Asked, Channel, Input, channels_of
from coldstart.retrieval.fusion import Scores, standardise
from coldstart.workspace.ann import column_of

if TYPE_CHECKING:
    from coldstart.workspace.published import Published

DEPTH = 200
"""Nearest of each channel that become candidates where the indexes are asked."""

REFERENCE = 4096
"""Products from all over the catalog that say what is average then."""


def reachable(catalog: Published, asked: Iterable[Asked], inputs: Mapping[str, Input]) -> list[Channel]:
    """The channels between these sides and the catalog.

    Raises:
        ColdstartError: there is none.
    """
    sides = list(asked)
    spaces = {space: Passport.from_json(text) for space, text in catalog.passports.items()}
    found = channels_of(sides, spaces, inputs)
    if not found:
        ours = ", ".join(sorted({f"{side.name} ({side.passport})" for side in sides})) or "nothing"
        theirs = ", ".join(f"{name} ({passport.digest})" for name, passport in spaces.items() if name in inputs)
        raise ColdstartError(
            f"nothing of the video can be compared with products: it has {ours}, the catalog {theirs or 'no space'}; "
            "vectors meet where their passports are equal: run the pipeline again"
        )
    return found


@dataclass(frozen=True)
class Scored:
    """Candidates of one video.

    Attributes:
        item_ids: theirs, sorted.
        cosines: float32 [C, N], NaN where a channel is missing.
        reference: float32 [C, M] of products from all over the catalog, where the candidates are chosen for being near
            and so say nothing of what is average; None where they are all.
    """

    item_ids: Sequence[str]
    cosines: Scores
    reference: Scores | None = None

    def standardised(self) -> Scores:
        """See `coldstart.retrieval.fusion.standardise`."""
        return standardise(self.cosines, self.reference)


def score_all(
    catalog: Published,
    asked: Sequence[Sequence[Asked]],
    channels: Sequence[Channel],
    condition: str | None,
    *,
    exact: bool,
) -> list[Scored]:
    """Cosines of the nearest vectors of each video to the products that meet a condition, in every channel.

    Args:
        asked: the sides of each video.
        exact: compare all products, in one pass over the catalog for all videos; else those that the index finds.
    """
    if exact:
        return _exact(catalog, asked, channels, condition)
    spaces = sorted({channel.space for channel in channels})
    blocks = list(catalog.spread([column_of(space) for space in spaces], REFERENCE, where=condition))
    background = {
        space: np.concatenate([_dense(block[column_of(space)]) for block in blocks]) for space in spaces if blocks
    }
    return [_from_index(catalog, sides, channels, condition, background) for sides in asked]


def _exact(
    catalog: Published, asked: Sequence[Sequence[Asked]], channels: Sequence[Channel], condition: str | None
) -> list[Scored]:
    spaces = sorted({channel.space for channel in channels})
    item_ids: list[str] = []
    parts: list[list[Scores]] = [[] for _ in asked]
    for block in catalog.blocks([column_of(space) for space in spaces], where=condition):
        item_ids += block["item_id"].to_pylist()
        vectors = {space: _dense(block[column_of(space)]) for space in spaces}
        for place, sides in enumerate(asked):
            parts[place].append(_cosines(sides, channels, vectors))
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[place] for place in order]
    none = np.empty((len(channels), 0), np.float32)
    return [Scored(ids, np.concatenate([none, *own], axis=1)[:, order]) for own in parts]


def _from_index(
    catalog: Published,
    sides: Sequence[Asked],
    channels: Sequence[Channel],
    condition: str | None,
    background: Mapping[str, Vectors],
) -> Scored:
    of = {side.name: side for side in sides}
    candidates: set[str] = set()
    for channel in channels:
        if channel.asked in of:
            found = catalog.vector_search(channel.space, of[channel.asked].vectors, DEPTH, where=condition)
            nearest: dict[str, float] = {}
            for item_id, distance in zip(found["item_id"].to_pylist(), found["_distance"].to_pylist(), strict=True):
                nearest[item_id] = min(distance, nearest.get(item_id, np.inf))
            candidates.update(sorted(nearest, key=lambda item: (nearest[item], item))[:DEPTH])
    ids = sorted(candidates)
    stored = {space: catalog.vectors(space, ids) for space in {channel.space for channel in channels}}
    own = {space: _stacked(vectors, ids) for space, vectors in stored.items()}
    return Scored(ids, _cosines(sides, channels, own), _cosines(sides, channels, background) if background else None)


def _cosines(sides: Sequence[Asked], channels: Sequence[Channel], vectors: Mapping[str, Vectors]) -> Scores:
    """The best of a side's vectors for each product: float32 [C, N]. Vectors of products are [N, D], NaN for none."""
    of = {side.name: side for side in sides}
    count = len(next(iter(vectors.values())))
    out = np.full((len(channels), count), np.nan, np.float32)
    for place, channel in enumerate(channels):
        if channel.asked in of and count:
            out[place] = (vectors[channel.space] @ of[channel.asked].vectors.T).max(1)
    return out


def _dense(column: Any) -> Vectors:
    """Unit vectors float32 [N, D] of a column of fixed-size lists; rows of NaN where it is null."""
    out = np.full((len(column), column.type.list_size), np.nan, np.float32)
    there = np.asarray(column.is_valid())
    out[there] = np.asarray(column.drop_null().flatten(), np.float32).reshape(-1, column.type.list_size)
    return unit(out)


def _stacked(vectors: Mapping[str, Vectors], ids: Sequence[str]) -> Vectors:
    dim = len(next(iter(vectors.values()))) if vectors else 1
    missing = np.full(dim, np.nan, np.float32)
    return unit(np.array([vectors.get(item_id, missing) for item_id in ids], np.float32).reshape(len(ids), dim))


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one, float32 [N, D]."""
    rows: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return rows
