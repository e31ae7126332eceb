"""Match: a video in, products out, each with what it adds and the frame and words that support it.

Up to `EXACT_BELOW` products every one is compared, block by block. Beyond that, each channel's nearest by the index are
candidates, all channels are computed for all candidates, and a sample from all over the catalog gives the average. For
the fusion of channels see `coldstart.search.fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from coldstart.encoders import Vectors
from coldstart.search.channel_weights import ChannelWeights, resolve_weights, weights_to_dict
from coldstart.search.channels import (
    DEPTH,
    Channel,
    Input,
    Moment,
    QuerySide,
    ScoredCandidates,
    VideoQuery,
    catalog_channels,
    score_all,
)
from coldstart.search.fusion import Scores, Weights, take_in_turn
from coldstart.search.match_calibration import MatchCalibration
from coldstart.search.search import DISPLAY
from coldstart.store.published import Published, check_top_k

EXACT_BELOW = 100_000
"""Products up to which every one is compared."""

FRAMES = 3
"""Frames that are named for a match, the best first."""

NEAREST, SPEAKING = 3, 0.1
"""A frame speaks for a product that is among so many of its nearest and has such a share of its vote."""

EVIDENT = 0.2
"""Support from which on words are evidence: a fifth of the way from words that name nothing to a product's own name."""

NOTHING = "nothing of the video speaks for any of the products that it was compared with"
NO_CANDIDATES = "no product meets the conditions, so there is nothing to compare with"
NO_WORDS = "no words of this video stand out: none is nearer to a product than words that name nothing"


@dataclass(frozen=True)
class ChannelScore:
    """Score of a product in one channel.

    Attributes:
        rank: place among the candidates there, from 1: by the votes of frames, or by the cosine of words.
        cosine: to the nearest vector of the video.
        support: what the channel says of it, from 0 to 1: its share of the votes of frames, or how far words stand
            out.
        weight: of the channel.
    """

    rank: int
    cosine: float
    support: float
    weight: float


@dataclass(frozen=True)
class Evidence:
    """Frame or words of the video that support a product.

    Attributes:
        source: `frame`, `picture`, `title`, `speech`, `screen`, or `text` for all that the video's text space reads.
        second: when; None where it has no time.
        text: the words, empty for a frame.
        cosine: to the product's vector, in the channel named.
        seconds: of frames the nearest ones, the best first.
    """

    source: str
    second: float | None
    text: str
    cosine: float
    channel: str
    seconds: Sequence[float] = ()


@dataclass(frozen=True)
class Match:
    """One matched product.

    Attributes:
        score: what it adds to those before it, from 1, where all that the video says is of it, down to 0.
        uri: its first media file.
        frame, words: the best evidence of each sort; None where no frame speaks for it, or no words stand out.
        channels: name -> the product there; a channel that it lacks is left out.
        copies: items that are linked to it as its copies, and so are not found beside it.
    """

    item_id: str
    score: float
    kind: str | None
    title: str | None
    category: str | None
    price: float | None
    uri: str | None
    frame: Evidence | None
    words: Evidence | None
    channels: Mapping[str, ChannelScore]
    copies: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """Products matched to one video.

    Attributes:
        asked: the item's id, or the file.
        used: parts of the video that were compared, in words.
        matches: the best first.
        channels: each with `weight`; weights: where the weights are from.
        candidates: number of products that were scored; exact: whether these are all that meet the conditions.
        notes: further notes for a reader.
    """

    asked: str
    used: Sequence[str]
    matches: Sequence[Match]
    channels: Sequence[Mapping[str, Any]]
    weights: str
    candidates: int
    exact: bool
    notes: Sequence[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        return asdict(self)

    @property
    def compared(self) -> str:
        """Number of products that were scored, in words."""
        if self.exact:
            return f"all {self.candidates:,} that meet the conditions, each compared"
        return f"{self.candidates:,} from the index, the {DEPTH} nearest of each channel; all channels of each compared"


def match(
    catalog: Published,
    query: VideoQuery,
    inputs: Mapping[str, Input],
    calibration: MatchCalibration,
    *,
    fitted_weights: ChannelWeights | None = None,
    kind: str | None = "product",
    where: str | None = None,
    exclude: Iterable[str] = (),
    copies: bool = False,
    top_k: int = 5,
    exact: bool = False,
    exact_below: int = EXACT_BELOW,
) -> Answer:
    """Match a video to products.

    Args:
        query: the sides of the video.
        inputs: what each space of the catalog holds vectors of; a space that is left out is not compared.
        calibration: of this catalog, see `coldstart.search.match_calibration`.
        fitted_weights: by default channels weigh by `coldstart.search.channel_weights.default_weights`.
        kind, where, exclude, copies: as for `coldstart.search.search.search_many`.
        exact: compare all products, however many there are.
        exact_below: see `EXACT_BELOW`.

    Raises:
        ColdstartError: no side of the video shares a passport with a space of the catalog, or a faulty condition.
    """
    check_top_k(top_k)
    sides = query.sides
    channels = catalog_channels(catalog, sides, inputs)
    condition = catalog.condition(where=where, kind=kind, exclude=exclude, copies=copies)
    exact = exact or catalog.count(condition) <= exact_below
    scored = score_all(catalog, [query], channels, calibration, condition, exact=exact)[0]
    weights, origin, remarks = resolve_weights(channels, fitted_weights, calibration)
    best, gains = take_in_turn(scored.votes, weights, top_k)
    matches = _matches(catalog, sides, channels, weights, scored, best, gains)
    if _without_words(channels, scored):
        remarks = [*remarks, NO_WORDS]
    if not matches:
        remarks = [*remarks, NOTHING if scored.item_ids else NO_CANDIDATES]
    return Answer(
        asked=query.name,
        used=list(query.used),
        matches=matches,
        channels=weights_to_dict(channels, weights),
        weights=origin,
        candidates=len(scored.item_ids),
        exact=exact,
        notes=[*query.notes, *remarks],
    )


def _without_words(channels: Sequence[Channel], scored: ScoredCandidates) -> bool:
    """Tell whether the video has words of which none stands out."""
    said = [
        own
        for channel, own in zip(channels, scored.votes, strict=True)
        if own is not None and channel.kind.startswith("words")
    ]
    return bool(said) and all(float(own.values.max(initial=0)) < EVIDENT for own in said)


def _matches(
    catalog: Published,
    sides: Sequence[QuerySide],
    channels: Sequence[Channel],
    weights: Weights,
    scored: ScoredCandidates,
    best: Sequence[int],
    gains: Sequence[float],
) -> list[Match]:
    ids = [scored.item_ids[place] for place in best]
    shown, copies = catalog.items(ids, DISPLAY), catalog.copies(ids)
    vectors = catalog.unit_vectors(sorted({channel.space for channel in channels}), ids)
    by_name = {side.name: side for side in sides}
    found = []
    for row, (place, item_id) in enumerate(zip(best, ids, strict=True)):
        readings, frames, words = {}, [], []
        for number, channel in enumerate(channels):
            cosine, votes = scored.cosines[number, place], scored.votes[number]
            if votes is None or not np.isfinite(cosine):
                continue
            values = votes.values.mean(0) if votes.in_turn else scored.cosines[number]
            rank = 1 + int(np.count_nonzero(values > values[place]))
            support = float(votes.values[:, place].mean())
            weight = float(weights[number])
            readings[channel.name] = ChannelScore(rank, float(cosine), support, weight)
            side, product = by_name[channel.side], vectors[channel.space][row]
            if not votes.in_turn:
                if support >= EVIDENT:
                    words.append((weight * support, _words(side, channel, product)))
            elif speaking := _speaking(votes.values, place):
                own = float(votes.values[speaking, place].sum())
                frames.append((weight * own / len(votes.values), _frame(side, channel, product, speaking)))
        kind, title, category, price, media = (shown[item_id][column] for column in DISPLAY)
        found.append(
            Match(
                item_id, gains[row], kind, title, category, price, media[0]["uri"] if media else None,
                _strongest(frames, ("frame", "picture")),
                _strongest(words, ("title", "speech", "screen")) or _strongest(words, ("text",)),
                readings, copies.get(item_id, ()),
            )
        )  # fmt: skip
    return found


def _speaking(votes: Scores, place: int) -> list[int]:
    """List the frames that have a product among their nearest, the one that speaks for it most first."""
    own = votes[:, place]
    ahead = (votes > own[:, None]).sum(1)
    return [row for row in np.argsort(-own, kind="stable").tolist() if own[row] >= SPEAKING and ahead[row] < NEAREST]


def _frame(side: QuerySide, channel: Channel, product: Vectors, speaking: Sequence[int]) -> Evidence:
    first: Moment = side.moments[speaking[0]]
    cosine = float(side.vectors[speaking[0]] @ product)
    seconds = [side.moments[row].second for row in speaking[:FRAMES]]
    known = [second for second in seconds if second is not None]
    return Evidence(first.source, first.second, first.text, cosine, channel.name, known)


def _words(side: QuerySide, channel: Channel, product: Vectors) -> Evidence:
    cosines = side.vectors @ product
    nearest = int(np.argmax(cosines))
    moment: Moment = side.moments[nearest]
    return Evidence(moment.source, moment.second, moment.text, float(cosines[nearest]), channel.name)


def _strongest(evidence: Sequence[tuple[float, Evidence]], sources: Sequence[str]) -> Evidence | None:
    """Return the evidence of the channel that adds most to the score."""
    fitting = [(gain, one) for gain, one in evidence if one.source in sources]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
