"""Match: a video in, products out, each with its score and the frame and words that support it.

Up to `EXACT_BELOW` products every one is compared, block by block. Beyond that, each channel's nearest by the index are
candidates, all channels are computed for all candidates, and a sample from all over the catalog gives the average. For
the fusion of channels see `coldstart.search.fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.encoders import Vectors
from coldstart.search.channels import (
    DEPTH,
    Channel,
    ChannelWeights,
    Input,
    Moment,
    QuerySide,
    ScoredCandidates,
    VideoQuery,
    catalog_channels,
    resolve_weights,
    score_all,
    weights_to_dict,
)
from coldstart.search.fusion import Scores, Weights, combine
from coldstart.search.search import DISPLAY
from coldstart.store.published import Published, check_top_k

EXACT_BELOW = 100_000
"""Products up to which every one is compared."""

FRAMES = 3
"""Frames that are named for a match, the nearest first."""


@dataclass(frozen=True)
class ChannelScore:
    """Score of a product in one channel.

    Attributes:
        rank: place among the candidates there, from 1.
        cosine: to the nearest vector of the video.
        standardised: the cosine in deviations above the mean of the candidates.
        weight: share of the product's score.
    """

    rank: int
    cosine: float
    standardised: float
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
        score: weighted mean of its standardised cosines, over the channels that it has.
        uri: its first media file.
        frame, words: the best evidence of each sort; None where nothing of the sort is nearer to it than to the
            candidates on average.
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
    *,
    fitted_weights: ChannelWeights | None = None,
    kind: str | None = "product",
    where: str | None = None,
    exclude: Iterable[str] = (),
    copies: bool = False,
    top_k: int = 5,
    exact_below: int = EXACT_BELOW,
) -> Answer:
    """Match a video to products.

    Args:
        query: the sides of the video.
        inputs: what each space of the catalog holds vectors of; a space that is left out is not compared.
        fitted_weights: by default kinds of evidence weigh by `default_weights`.
        kind, where, exclude, copies: as for `coldstart.search.search.search_many`.
        exact_below: see `EXACT_BELOW`.

    Raises:
        ColdstartError: no side of the video shares a passport with a space of the catalog, or a faulty condition.
    """
    check_top_k(top_k)
    sides = query.sides
    channels = catalog_channels(catalog, sides, inputs)
    condition = catalog.condition(where=where, kind=kind, exclude=exclude, copies=copies)
    exact = catalog.count(condition) <= exact_below
    scored = score_all(catalog, [sides], channels, condition, exact=exact)[0]
    weights, origin, remarks = resolve_weights(channels, fitted_weights)
    standardised = scored.standardised()
    score = combine(standardised, weights)
    order = sorted(
        np.flatnonzero(np.isfinite(score)).tolist(), key=lambda place: (-score[place], scored.item_ids[place])
    )
    best = order[:top_k]
    matches = _matches(catalog, sides, channels, weights, scored, standardised, score, best)
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


def _matches(
    catalog: Published,
    sides: Sequence[QuerySide],
    channels: Sequence[Channel],
    weights: Weights,
    scored: ScoredCandidates,
    standardised: Scores,
    score: Scores,
    best: Sequence[int],
) -> list[Match]:
    ids = [scored.item_ids[place] for place in best]
    shown, copies = catalog.items(ids, DISPLAY), catalog.copies(ids)
    vectors = {space: catalog.vectors(space, ids) for space in {channel.space for channel in channels}}
    by_name = {side.name: side for side in sides}
    found = []
    for place, item_id in zip(best, ids, strict=True):
        own = np.flatnonzero(np.isfinite(scored.cosines[:, place])).tolist()
        total = float(weights[own].sum())
        readings, evidence = {}, []
        for row in own:
            channel, cosine = channels[row], float(scored.cosines[row, place])
            rank = 1 + int(np.count_nonzero(scored.cosines[row] > scored.cosines[row, place]))
            share = float(weights[row]) / total
            value = float(standardised[row, place])
            readings[channel.name] = ChannelScore(rank, cosine, value, share)
            product = unit(vectors[channel.space][item_id][None])[0]
            if value > 0:
                evidence.append((share * value, _evidence(by_name[channel.side], channel, product)))
        kind, title, category, price, media = (shown[item_id][column] for column in DISPLAY)
        found.append(
            Match(
                item_id, float(score[place]), kind, title, category, price, media[0]["uri"] if media else None,
                _strongest(evidence, ("frame", "picture")),
                _strongest(evidence, ("title", "speech", "screen")) or _strongest(evidence, ("text",)),
                readings, copies.get(item_id, ()),
            )
        )  # fmt: skip
    return found


def _evidence(side: QuerySide, channel: Channel, product: Vectors) -> Evidence:
    cosines: NDArray[np.float32] = side.vectors @ product
    nearest = np.argsort(-cosines, kind="stable")
    moment: Moment = side.moments[nearest[0]]
    seconds = [side.moments[place].second for place in nearest[:FRAMES]] if moment.source == "frame" else []
    known = [second for second in seconds if second is not None]
    return Evidence(moment.source, moment.second, moment.text, float(cosines[nearest[0]]), channel.name, known)


def _strongest(evidence: Sequence[tuple[float, Evidence]], sources: Sequence[str]) -> Evidence | None:
    """Return the evidence of the channel that adds most to the score."""
    fitting = [(gain, one) for gain, one in evidence if one.source in sources]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
