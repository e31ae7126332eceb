"""Channels between a video and products, and what the video says of products in every channel.

A channel leads from one side of a video (its frames, its text, its lines of speech and text on screen) to one space of
the products, where both have one passport. With pictures and words in one space, frames are compared with the texts of
products as well, and words with their pictures. Cosines are computed over all products, in one pass over the catalog in
blocks for any number of videos, or over the nearest of each channel by index. Frames and pictures are compared less the
mean of their kind, see `coldstart.search.match_calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from coldstart.core.vectors import unit
from coldstart.encoders import Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.search.fusion import (
    ChannelVotes,
    Scores,
    Votes,
    share_votes,
    standardise,
    support_of_words,
)
from coldstart.search.match_calibration import MatchCalibration
from coldstart.store.ann import column_of, unit_rows

if TYPE_CHECKING:
    from coldstart.store.published import Published


Input = Literal["image", "text"]
Source = Literal["frame", "picture", "text", "title", "speech", "screen"]

LINES = " lines"
"""Suffix of the name of a space for the lines of a video in it."""

DEPTH = 200
"""Nearest of each channel that become candidates where the indexes are searched."""

REFERENCE = 4096
"""Products from all over the catalog that give the average then."""


@dataclass(frozen=True)
class Moment:
    """Source of one vector of a video: a frame, or words with their time.

    Attributes:
        source: `text` is all that its text space reads of it.
        second: its time in the video; None where it has no time.
        text: the words, empty for a frame or picture.
    """

    source: Source
    second: float | None = None
    text: str = ""


@dataclass(frozen=True)
class QuerySide:
    """One side of a video: its vectors in one space.

    Attributes:
        name: the space, with `LINES` behind it where these are single lines.
        passport: digest of the passport of the vectors.
        way: `image` for frames and pictures, `text` for words.
        vectors: unit vectors, float32 [T, D], of which the nearest counts.
        moments: the source of each of them, [T].
    """

    name: str
    passport: str
    way: Input
    vectors: Vectors
    moments: Sequence[Moment]


@dataclass(frozen=True)
class VideoQuery:
    """Sides of one video, with a description of them and notes for a reader.

    Attributes:
        counted: it is a video of the catalogue, and so is among those whose mean is subtracted.
    """

    name: str
    sides: Sequence[QuerySide]
    used: Sequence[str]
    notes: Sequence[str]
    counted: bool = False


@dataclass(frozen=True)
class Channel:
    """One comparison: from a side of a video to a space of the products.

    Attributes:
        side: name of the side, see `QuerySide`.
        space: the products' space.
        passport: digest of the passport of both.
        kind: kind of evidence, such as `frames→words`.
    """

    side: str
    space: str
    passport: str
    kind: str

    @property
    def name(self) -> str:
        """Name of the channel: `side→space`."""
        return f"{self.side}→{self.space}"


def channels_of(
    sides: Iterable[QuerySide], spaces: Mapping[str, Passport], inputs: Mapping[str, Input]
) -> list[Channel]:
    """List all channels between some sides and the spaces of a catalog, each once, in a fixed order.

    Args:
        inputs: what each space holds vectors of.
    """
    distinct = {(side.name, side.passport, side.way) for side in sides}
    from_, to = {"image": "frames", "text": "words"}, {"image": "picture", "text": "words"}
    found = [
        Channel(name, space, passport, f"{from_[way]}→{to[inputs[space]]}")
        for name, passport, way in distinct
        for space in spaces
        if space in inputs and spaces[space].digest == passport
    ]
    return sorted(found, key=lambda channel: (channel.kind, channel.side, channel.space))


def catalog_channels(catalog: Published, sides: Iterable[QuerySide], inputs: Mapping[str, Input]) -> list[Channel]:
    """List the channels between these sides and the catalog.

    Raises:
        ColdstartError: there is none.
    """
    sides = list(sides)
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
class ScoredCandidates:
    """Candidates of one video with what it says of them.

    Attributes:
        item_ids: theirs, sorted.
        cosines: float32 [C, N], of the nearest vector of the side; NaN where a channel is missing.
        votes: of each channel.
    """

    item_ids: Sequence[str]
    cosines: Scores
    votes: Votes


@dataclass(frozen=True)
class _Measured:
    """Cosines of one video to some products: of the nearest [C, N]; of each frame less the means, and of each line of
    words, [T, N] by the place of the channel."""

    nearest: Scores
    rows: Mapping[int, Scores]

    @classmethod
    def joined(cls, parts: Sequence[_Measured], channels: int, order: Sequence[int]) -> _Measured:
        """Join blocks of products, and put them in order."""
        none = np.empty((channels, 0), np.float32)
        nearest = np.concatenate([none, *(part.nearest for part in parts)], axis=1)[:, order]
        rows = parts[0].rows if parts else {}
        return cls(nearest, {row: np.concatenate([part.rows[row] for part in parts], axis=1)[:, order] for row in rows})


def score_all(
    catalog: Published,
    queries: Sequence[VideoQuery],
    channels: Sequence[Channel],
    calibration: MatchCalibration,
    condition: str | None,
    *,
    exact: bool,
) -> list[ScoredCandidates]:
    """Compare each video with the products that meet a condition, in every channel.

    Args:
        exact: compare all products, in one pass over the catalog for all videos; else those that the index finds.
    """
    centred = [_centred_frames(query, channels, calibration) for query in queries]
    if exact:
        return _exact(catalog, queries, centred, channels, calibration, condition)
    spaces = sorted({channel.space for channel in channels})
    blocks = list(catalog.spread([column_of(space) for space in spaces], REFERENCE, where=condition))
    background = {
        space: np.concatenate([unit_rows(block[column_of(space)]) for block in blocks]) for space in spaces if blocks
    }
    return [
        _from_index(catalog, query, frames, channels, calibration, condition, background)
        for query, frames in zip(queries, centred, strict=True)
    ]


def _exact(
    catalog: Published,
    queries: Sequence[VideoQuery],
    centred: Sequence[Mapping[int, Vectors]],
    channels: Sequence[Channel],
    calibration: MatchCalibration,
    condition: str | None,
) -> list[ScoredCandidates]:
    spaces = sorted({channel.space for channel in channels})
    item_ids: list[str] = []
    parts: list[list[_Measured]] = [[] for _ in queries]
    for block in catalog.blocks([column_of(space) for space in spaces], where=condition):
        item_ids += block["item_id"].to_pylist()
        vectors = {space: unit_rows(block[column_of(space)]) for space in spaces}
        less = _less_means(vectors, calibration)
        for place, (query, frames) in enumerate(zip(queries, centred, strict=True)):
            parts[place].append(_measure(query.sides, frames, channels, vectors, less))
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[place] for place in order]
    found = []
    for place in range(len(queries)):
        measured = _Measured.joined(parts[place], len(channels), order)
        parts[place] = []
        found.append(_judged(ids, channels, calibration, measured, measured))
    return found


def _from_index(
    catalog: Published,
    query: VideoQuery,
    frames: Mapping[int, Vectors],
    channels: Sequence[Channel],
    calibration: MatchCalibration,
    condition: str | None,
    background: Mapping[str, Vectors],
) -> ScoredCandidates:
    of = {side.name: side for side in query.sides}
    candidates: set[str] = set()
    for channel in channels:
        if channel.side in of:
            found = catalog.vector_search(channel.space, of[channel.side].vectors, DEPTH, where=condition)
            nearest: dict[str, float] = {}
            for item_id, distance in zip(found["item_id"].to_pylist(), found["_distance"].to_pylist(), strict=True):
                nearest[item_id] = min(distance, nearest.get(item_id, np.inf))
            candidates.update(sorted(nearest, key=lambda item: (nearest[item], item))[:DEPTH])
    ids = sorted(candidates)
    own = catalog.unit_vectors(sorted({channel.space for channel in channels}), ids)
    measured = _measure(query.sides, frames, channels, own, _less_means(own, calibration))
    others = measured
    if background:
        others = _measure(query.sides, frames, channels, background, _less_means(background, calibration))
    return _judged(ids, channels, calibration, measured, others)


def _centred_frames(
    query: VideoQuery, channels: Sequence[Channel], calibration: MatchCalibration
) -> dict[int, Vectors]:
    """Subtract the mean of the videos from the frames of each channel, by its place."""
    of = {side.name: side for side in query.sides}
    found = {}
    for place, channel in enumerate(channels):
        side = of.get(channel.side)
        if side is None or side.way != "image" or not {side.name, channel.space} <= calibration.products.keys():
            continue
        own = unit(side.vectors.mean(0, keepdims=True))[0] if query.counted else None
        found[place] = unit(side.vectors - calibration.mean_of_views(side.name, own))
    return found


def _less_means(vectors: Mapping[str, Vectors], calibration: MatchCalibration) -> dict[str, Vectors]:
    return {
        space: unit(own - calibration.products[space])
        for space, own in vectors.items()
        if space in calibration.products
    }


def _measure(
    sides: Sequence[QuerySide],
    frames: Mapping[int, Vectors],
    channels: Sequence[Channel],
    vectors: Mapping[str, Vectors],
    less: Mapping[str, Vectors],
) -> _Measured:
    """Compute the cosines of one video to products, whose vectors are [N, D], NaN for none."""
    of = {side.name: side for side in sides}
    count = len(next(iter(vectors.values())))
    nearest = np.full((len(channels), count), np.nan, np.float32)
    rows = {place: own @ less[channels[place].space].T for place, own in frames.items()}
    for place, channel in enumerate(channels):
        if channel.side in of:
            cosines = of[channel.side].vectors @ vectors[channel.space].T
            nearest[place] = cosines.max(0)
            if channel.kind.startswith("words"):
                rows[place] = cosines
    return _Measured(nearest, rows)


def _judged(
    ids: Sequence[str],
    channels: Sequence[Channel],
    calibration: MatchCalibration,
    measured: _Measured,
    others: _Measured,
) -> ScoredCandidates:
    """Turn cosines into votes.

    Args:
        others: of products from all over the catalog, by which the cosines of frames are standardised.
    """
    votes: list[ChannelVotes | None] = []
    for place, channel in enumerate(channels):
        if place not in measured.rows:
            votes.append(None)
        elif channel.kind.startswith("frames"):
            own = standardise(measured.rows[place], others.rows[place])
            votes.append(ChannelVotes(share_votes(own), in_turn=True))
        elif channel.space in calibration.bounds:
            support = support_of_words(measured.rows[place], *calibration.bounds[channel.space])
            votes.append(ChannelVotes(support[None], in_turn=False))
        else:
            votes.append(None)
    return ScoredCandidates(ids, measured.nearest, votes)
