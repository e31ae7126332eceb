"""Channels between a video and products, the weight of each, and cosines in every channel.

A channel leads from one side of a video (its frames, its text, its lines of speech and text on screen) to one space of
the products, where both have one passport. With pictures and words in one space, frames are compared with the texts of
products as well, and words with their pictures. Cosines are computed over all products, in one pass over the catalog in
blocks for any number of videos, or over the nearest of each channel by index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coldstart.core.vectors import unit
from coldstart.encoders import Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.search.fusion import Scores, Weights, standardise
from coldstart.store.ann import column_of

if TYPE_CHECKING:
    from coldstart.store.published import Published


Input = Literal["image", "text"]
Source = Literal["frame", "picture", "text", "title", "speech", "screen"]

MATCH, FILE = "match", "weights.json"
"""Name of the artifact that keeps fitted weights, and of its file."""

LINES = " lines"
"""Suffix of the name of a space for the lines of a video in it."""

DEFAULT = "default weights by kind of evidence"

ACROSS = 0.5
"""Weight of a kind that compares frames with words, where one that compares like with like has 1: an aligned space
separates names and pictures less well than an encoder of either (LOG.md of 2026-11-22)."""

_LIKE = ("frames→picture", "words→words")


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
    """Sides of one video, with a description of them and notes for a reader."""

    name: str
    sides: Sequence[QuerySide]
    used: Sequence[str]
    notes: Sequence[str]


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


def default_weights(channels: Sequence[Channel]) -> Weights:
    """Weigh kinds of evidence alike, those across modalities by `ACROSS`: float64 [C], of sum 1.

    Frames against words, or words against a picture, are across modalities. The channels of a kind share its weight.
    """
    kinds = [channel.kind for channel in channels]
    weights = np.array([(1.0 if kind in _LIKE else ACROSS) / kinds.count(kind) for kind in kinds])
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class ChannelWeights:
    """Fitted weights of channels. A channel of another passport is another channel."""

    weights: Mapping[tuple[str, str], float]
    """(name of the channel, digest of the passport) -> weight."""

    def to_bytes(self) -> bytes:
        """Serialise as JSON."""
        rows = [{"channel": name, "passport": digest, "weight": w} for (name, digest), w in self.weights.items()]
        return (json.dumps({"version": 1, "channels": rows}, ensure_ascii=False, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChannelWeights:
        """Read what `to_bytes` wrote."""
        rows = json.loads(data)["channels"]
        return cls({(row["channel"], row["passport"]): float(row["weight"]) for row in rows})

    @classmethod
    def of(cls, channels: Sequence[Channel], weights: Weights) -> ChannelWeights:
        """Pair channels with their weights, rounded to six decimals."""
        pairs = zip(channels, weights, strict=True)
        return cls({(channel.name, channel.passport): round(float(weight), 6) for channel, weight in pairs})


def resolve_weights(channels: Sequence[Channel], fitted: ChannelWeights | None) -> tuple[Weights, str, list[str]]:
    """Choose the weights of channels: fitted ones where they fit, else the default.

    A channel that is new since the fit gets the mean of those that were; where none of the fitted
    ones is left, or those that are left weigh nothing, all are weighed as if nothing had been fitted.

    Returns:
        float64 [C] of sum 1, a sentence, further sentences.
    """
    if fitted is None:
        return default_weights(channels), DEFAULT, []
    known = [fitted.weights.get((channel.name, channel.passport)) for channel in channels]
    fitting = [weight for weight in known if weight is not None]
    if not sum(fitting):
        why = "weigh nothing" if fitting else "are of other spaces or other encoders"
        return (
            default_weights(channels),
            DEFAULT,
            [f"the fitted weights {why}: fit them again with `coldstart match --fit`"],
        )
    mean = sum(fitting) / len(fitting)
    weights = np.array([mean if weight is None else weight for weight in known])
    new = [channel.name for channel, weight in zip(channels, known, strict=True) if weight is None]
    notes = [f"{', '.join(new)}: not among the fitted weights, so the mean weight is taken"] if new else []
    return weights / weights.sum(), "fitted weights", notes


def weights_to_dict(channels: Sequence[Channel], weights: Weights) -> list[dict[str, object]]:
    """Convert channels with their weights to JSON-serialisable values."""
    pairs = zip(channels, weights, strict=True)
    return [
        {
            "channel": channel.name,
            "asked": channel.side,
            "space": channel.space,
            "passport": channel.passport,
            "kind": channel.kind,
            "weight": round(float(weight), 6),
        }
        for channel, weight in pairs
    ]


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
    """Candidates of one video with their cosines.

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
        """Standardise the cosines; see `coldstart.search.fusion.standardise`."""
        return standardise(self.cosines, self.reference)


def score_all(
    catalog: Published,
    queries: Sequence[Sequence[QuerySide]],
    channels: Sequence[Channel],
    condition: str | None,
    *,
    exact: bool,
) -> list[ScoredCandidates]:
    """Compute the cosines of each video to the products that meet a condition, in every channel.

    Of a side with several vectors the nearest counts.

    Args:
        queries: the sides of each video.
        exact: compare all products, in one pass over the catalog for all videos; else those that the index finds.
    """
    if exact:
        return _exact(catalog, queries, channels, condition)
    spaces = sorted({channel.space for channel in channels})
    blocks = list(catalog.spread([column_of(space) for space in spaces], REFERENCE, where=condition))
    background = {
        space: np.concatenate([_dense(block[column_of(space)]) for block in blocks]) for space in spaces if blocks
    }
    return [_from_index(catalog, sides, channels, condition, background) for sides in queries]


def _exact(
    catalog: Published, queries: Sequence[Sequence[QuerySide]], channels: Sequence[Channel], condition: str | None
) -> list[ScoredCandidates]:
    spaces = sorted({channel.space for channel in channels})
    item_ids: list[str] = []
    parts: list[list[Scores]] = [[] for _ in queries]
    for block in catalog.blocks([column_of(space) for space in spaces], where=condition):
        item_ids += block["item_id"].to_pylist()
        vectors = {space: _dense(block[column_of(space)]) for space in spaces}
        for place, sides in enumerate(queries):
            parts[place].append(_cosines(sides, channels, vectors))
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[place] for place in order]
    none = np.empty((len(channels), 0), np.float32)
    return [ScoredCandidates(ids, np.concatenate([none, *own], axis=1)[:, order]) for own in parts]


def _from_index(
    catalog: Published,
    sides: Sequence[QuerySide],
    channels: Sequence[Channel],
    condition: str | None,
    background: Mapping[str, Vectors],
) -> ScoredCandidates:
    of = {side.name: side for side in sides}
    candidates: set[str] = set()
    for channel in channels:
        if channel.side in of:
            found = catalog.vector_search(channel.space, of[channel.side].vectors, DEPTH, where=condition)
            nearest: dict[str, float] = {}
            for item_id, distance in zip(found["item_id"].to_pylist(), found["_distance"].to_pylist(), strict=True):
                nearest[item_id] = min(distance, nearest.get(item_id, np.inf))
            candidates.update(sorted(nearest, key=lambda item: (nearest[item], item))[:DEPTH])
    ids = sorted(candidates)
    stored = {space: catalog.vectors(space, ids) for space in {channel.space for channel in channels}}
    own = {space: _stacked(vectors, ids) for space, vectors in stored.items()}
    return ScoredCandidates(
        ids, _cosines(sides, channels, own), _cosines(sides, channels, background) if background else None
    )


def _cosines(sides: Sequence[QuerySide], channels: Sequence[Channel], vectors: Mapping[str, Vectors]) -> Scores:
    """Compute the best cosine of a side's vectors to each product: float32 [C, N].

    Vectors of products are [N, D], NaN for none.
    """
    of = {side.name: side for side in sides}
    count = len(next(iter(vectors.values())))
    out = np.full((len(channels), count), np.nan, np.float32)
    for place, channel in enumerate(channels):
        if channel.side in of and count:
            out[place] = (vectors[channel.space] @ of[channel.side].vectors.T).max(1)
    return out


def _dense(column: Any) -> Vectors:
    """Convert a column of fixed-size lists to unit vectors float32 [N, D]; rows of NaN where it is null."""
    out = np.full((len(column), column.type.list_size), np.nan, np.float32)
    present = np.asarray(column.is_valid())
    out[present] = np.asarray(column.drop_null().flatten(), np.float32).reshape(-1, column.type.list_size)
    return unit(out)


def _stacked(vectors: Mapping[str, Vectors], ids: Sequence[str]) -> Vectors:
    dim = len(next(iter(vectors.values()))) if vectors else 1
    missing = np.full(dim, np.nan, np.float32)
    return unit(np.array([vectors.get(item_id, missing) for item_id in ids], np.float32).reshape(len(ids), dim))
