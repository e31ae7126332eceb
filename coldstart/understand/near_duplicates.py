"""Match near-duplicate videos and pictures by their fingerprints.

Two frames are alike if some view of one is close to the same view of the other, in bits and in colour (see
`coldstart.understand.fingerprint`). Two videos match as far as their like frames lie on one line
`other time = speed * time + offset`; the score is the share of the shorter one that does. It depends on the two
fingerprints alone and is the same both ways. What borders enclose is compared apart from the whole pictures, and the
better of the two counts. Knows neither tables nor policies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.understand.candidates import CANDIDATE_RULES, CandidateRule
from coldstart.understand.fingerprint import (
    BOX_PAIRS,
    BOXES,
    MIN_QUALITY,
    PAIRS,
    THUMB,
    VIEWS,
    Fingerprints,
    mirrored,
    span_shares,
    view_spans,
)

SPEEDS = tuple(round(1 + step * sign, 2) for step in (0.0, 0.02, 0.04, 0.05, 0.06, 0.08, 0.1) for sign in (1, -1))[1:]
"""Speeds that are tried, the likeliest first, so that the most likely of equals wins."""

_GRID = 4  # colours are compared on so many cells a side

_GAINS = tuple(1 + step / 40 for step in range(1, 9))  # to 1.2: a picture made 15 % brighter or darker, and some more

_BRIGHTENED_COLOUR = 9.0  # levels after a gain: fewer than without, or a lighter product of the same shape is alike


@dataclass(frozen=True)
class MatchRule:
    """Thresholds of a match.

    Attributes:
        max_bits: of the 256 bits of a view, so many may differ between two like frames.
        max_colour: levels of 255 by which the mean colour of no cell of a 4 x 4 grid may differ.
        give: a frame that is seen between two of the other's differs from both; where both videos move, this share of
            the way that the slower one makes from frame to frame is allowed, up to `most_bits` and `most_colour`.
        slack_s: seconds by which two like frames may miss the line.
    """

    max_bits: int = 20
    max_colour: float = 24.0
    give: float = 0.8
    most_bits: int = 72
    most_colour: float = 96.0
    slack_s: float = 0.5


@dataclass(frozen=True)
class Sequence:
    """Frames of a video, `times_s` float64 [N], rising, and their N fingerprints; or N pictures without times."""

    times_s: NDArray[np.float64] | None
    prints: Fingerprints


@dataclass(frozen=True)
class Stretch:
    """Span of one item in seconds, and the span of the other that shows the same."""

    start_s: float
    end_s: float
    other_start_s: float
    other_end_s: float


@dataclass(frozen=True)
class Match:
    """Result of a comparison of two items.

    Attributes:
        score: share of the frames of the shorter item that have their like on the line, 0 to 1.
        mirrored: left and right are swapped between them.
        speed: seconds of the other that pass in one second of the first.
        stretches: what is the same, in order of time.
        found_by: `border` where what a border encloses has more in common than the whole pictures have.
    """

    score: float
    mirrored: bool
    speed: float
    stretches: tuple[Stretch, ...]
    found_by: Literal["whole", "border", "details"] = "whole"


def match_items(one: Sequence, other: Sequence, rule: MatchRule) -> Match:
    """Find the best line between two items; a score of 0 and no stretches if there is none."""
    swap = _order(one) > _order(other)
    short, long = (other, one) if swap else (one, other)
    borders = (False, True) if one.prints.boxed.any() or other.prints.boxed.any() else (False,)
    tried = [(border, mirror) for border in borders for mirror in (False, True)]
    found = max((_line(short, long, rule, *views) for views in tried), key=lambda match: match.score)
    return _swapped(found) if swap else found


def similar_frames(
    one: Fingerprints, other: Fingerprints, rule: MatchRule, *, mirror: bool, borders: bool = False
) -> NDArray[np.bool_]:
    """Compare all frames of two items: bool [N, M], True for pairs that look alike.

    Args:
        borders: compare what borders enclose, in place of the whole pictures.
    """
    words = mirrored(one.words) if mirror else one.words
    grids, other_grids = _all_grids(one, mirror=mirror), _all_grids(other, mirror=False)
    usable = (one.quality >= MIN_QUALITY)[:, None] & (other.quality >= MIN_QUALITY)
    (bits, colour), (others, other_colour) = (_frame_change(each, borders=borders) for each in (one, other))
    max_bits = np.clip(rule.give * np.minimum(bits[:, None], others), rule.max_bits, rule.most_bits)
    max_colour = np.clip(rule.give * np.minimum(colour[:, None], other_colour), rule.max_colour, rule.most_colour)
    found = np.zeros(usable.shape, bool)
    for left, right in BOX_PAIRS if borders else PAIRS:
        apart = np.bitwise_count(words[:, None, left] ^ other.words[None, :, right]).sum(axis=-1, dtype=np.int64)
        rows, columns = np.nonzero((apart <= max_bits) & usable & ~found)
        near = _like_colours(grids[left][rows], other_grids[right][columns], max_colour[rows, columns])
        found[rows[near], columns[near]] = True
    return found


def _like_colours(
    one: NDArray[np.float32], other: NDArray[np.float32], max_colour: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Compare the mean colours of K pairs of pictures, as they are and with the darker one made brighter: bool [K]."""
    near: NDArray[np.bool_] = np.abs(one - other).max(axis=1) <= max_colour
    left = np.flatnonzero(~near)
    first, second = one[left], other[left]
    most = np.minimum(max_colour[left], _BRIGHTENED_COLOUR)
    for gain in _GAINS:
        for darker, brighter in ((first, second), (second, first)):
            near[left] |= np.abs(np.minimum(gain * darker, 255) - brighter).max(axis=1) <= most
    return near


def _frame_change(prints: Fingerprints, *, borders: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Measure how far each frame is from its further neighbour in time: bits, and colour; both [N]."""
    words = prints.words[:, len(VIEWS) if borders else 0]
    bits = np.bitwise_count(words[1:] ^ words[:-1]).sum(axis=-1, dtype=np.int64)
    grids = _grids(prints.box_thumbs if borders else prints.thumbs, 0)
    colour = np.abs(grids[1:] - grids[:-1]).max(axis=1)
    return np.maximum(np.r_[0, bits], np.r_[bits, 0]), np.maximum(np.r_[0, colour], np.r_[colour, 0])


def _all_grids(prints: Fingerprints, *, mirror: bool) -> list[NDArray[np.float32]]:
    """Compute `_grids` of all views, those of what a border encloses as well, in the order of the words."""
    turn = slice(None, None, -1 if mirror else 1)
    grids = [_grids(prints.thumbs[:, :, turn], view) for view in range(len(VIEWS))]
    return grids + [_grids(prints.box_thumbs[:, :, turn], view) for view in BOXES]


def _grids(thumbs: NDArray[np.uint8], view: int) -> NDArray[np.float32]:
    """Compute mean colours of a view on a 4 x 4 grid: float32 [N, 48]."""
    rows, columns = _AREAS[view]
    cells: NDArray[np.float32] = rows @ thumbs.transpose(0, 3, 1, 2).astype(np.float32) @ columns.T
    return cells.reshape(len(thumbs), -1)


_AREAS = [[span_shares(*span, THUMB, _GRID) for span in view_spans(*view)] for view in VIEWS]


def _order(item: Sequence) -> tuple[int, bytes, bytes]:
    """Return a sort key over contents, so that a pair is compared in one way only."""
    times = b"" if item.times_s is None else item.times_s.tobytes()
    return len(item.prints.words), times, item.prints.words.tobytes()


def _line(short: Sequence, long: Sequence, rule: MatchRule, borders: bool, mirror: bool) -> Match:
    like = similar_frames(short.prints, long.prints, rule, mirror=mirror, borders=borders)
    found_by: Literal["whole", "border"] = "border" if borders else "whole"
    usable = max(int((short.prints.quality >= MIN_QUALITY).sum()), (len(like) + 1) // 2)  # black is no evidence
    if short.times_s is None or long.times_s is None:
        return Match(int(like.any(axis=1).sum()) / usable, mirror, 1.0, (), found_by)
    rows, columns = np.nonzero(like)
    from_s, to_s = short.times_s[rows], long.times_s[columns]
    best: tuple[int, float] = 0, 0.0
    found = 1.0, 0.0, rows[:0]
    for speed in SPEEDS:
        offsets_s = to_s - speed * from_s
        offset_s = _offset(offsets_s, rows, len(like), rule.slack_s)
        misses_s = np.abs(offsets_s - offset_s)
        matched = np.unique(rows[misses_s <= rule.slack_s])
        nearest_s = np.full(len(like), np.inf)
        np.minimum.at(nearest_s, rows, misses_s)
        judged = len(matched), -round(float(nearest_s[matched].sum()), 6)  # within the slack many speeds would do
        if judged > best:
            best, found = judged, (speed, offset_s, matched)
    speed, offset_s, matched = found
    share = min(1.0, len(matched) / usable)
    return Match(share, mirror, speed, _stretches(short, long, matched, speed, offset_s), found_by)


def _offset(offsets_s: NDArray[np.float64], rows: NDArray[np.int64], frames: int, slack_s: float) -> float:
    """Find the offset on which most frames agree within the slack; of equals that of most pairs, then nearest 0."""
    if not len(rows):
        return 0.0
    step_s = slack_s / 2
    bins = np.rint(offsets_s / step_s).astype(np.int64)
    low = int(bins.min())
    votes = np.zeros((int(bins.max()) - low + 5, frames), bool)
    for shift in range(5):  # two steps to either side are the slack
        votes[bins - low + shift, rows] = True
    counts = votes.sum(axis=1)[2:-2]
    hits = np.bincount(bins - low, minlength=len(counts))
    places = np.arange(len(counts)) + low
    return float(places[np.lexsort((np.abs(places), -hits, -counts))[0]]) * step_s


def _stretches(
    short: Sequence, long: Sequence, matched: NDArray[np.int64], speed: float, offset_s: float
) -> tuple[Stretch, ...]:
    """Join matched frames to runs; one missed frame does not end a run."""
    assert short.times_s is not None and long.times_s is not None
    if not len(matched):
        return ()
    ends = np.nonzero(np.diff(matched) > 2)[0]
    firsts, lasts = matched[np.r_[0, ends + 1]], matched[np.r_[ends, len(matched) - 1]]
    limit_s = float(long.times_s[-1]) + _spacing_s(long)
    found = []
    for start_s, end_s in zip(short.times_s[firsts], short.times_s[lasts] + _spacing_s(short), strict=True):
        others = np.clip(speed * np.array([start_s, end_s]) + offset_s, 0.0, limit_s)
        found.append(Stretch(*(round(float(second), 3) for second in (start_s, end_s, *others))))
    return tuple(found)


def _spacing_s(item: Sequence) -> float:
    assert item.times_s is not None
    return float(np.median(np.diff(item.times_s))) if len(item.times_s) > 1 else 0.0


def _swapped(match: Match) -> Match:
    """Swap the two items of a match."""
    stretches = tuple(Stretch(one.other_start_s, one.other_end_s, one.start_s, one.end_s) for one in match.stretches)
    return replace(match, speed=round(1 / match.speed, 4), stretches=stretches)


@dataclass(frozen=True)
class DuplicateRules:
    """Thresholds by which an item is a copy: see `MatchRule`; `min_share` is the least score.

    One picture is less evidence than many frames in order, so `picture_bits` is less than a video's `max_bits`.
    """

    min_share: float = 0.6
    max_bits: int = 20
    picture_bits: int = 12
    max_colour: float = 24.0

    def rule(self, media: str) -> MatchRule:
        """Return the thresholds for frames of videos, or for pictures."""
        return MatchRule(max_bits=self.max_bits if media == "video" else self.picture_bits, max_colour=self.max_colour)

    def candidate_rule(self, media: str) -> CandidateRule:
        """Return the rule for candidates; of pictures only those that `rule` may match."""
        if media == "video":
            return CANDIDATE_RULES[media]
        return replace(CANDIDATE_RULES[media], low_bits=self.picture_bits, max_bits=self.picture_bits)
