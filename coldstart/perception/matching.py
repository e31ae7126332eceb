"""Whether two videos or pictures show the same, and for how long: frames that look alike, on one line through time.

Two frames are alike if some view of one is close to the same view of the other, in bits and in colour (see
`coldstart.perception.fingerprint`). Two videos are alike as far as their like frames lie on one line
`other time = speed * time + offset`; the score is the share of the shorter one that does. It depends on the two
fingerprints alone and is the same both ways. Knows nothing of items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart.perception.fingerprint import MIN_QUALITY, PAIRS, THUMB, VIEWS, Fingerprints, mirrored, spans

SPEEDS = tuple(round(1 + step * sign, 2) for step in (0.0, 0.02, 0.04, 0.05, 0.06, 0.08, 0.1) for sign in (1, -1))[1:]
"""Speeds that are tried, the likeliest first, so that of equals the plainest wins."""

_GRID = 4  # colours are compared on so many cells a side


@dataclass(frozen=True)
class Rule:
    """What counts as the same.

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
    """A video: `times_s` float64 [N], rising, and its N fingerprints; or N pictures without times."""

    times_s: NDArray[np.float64] | None
    prints: Fingerprints


@dataclass(frozen=True)
class Stretch:
    """Seconds of one item, and the seconds of the other that show the same."""

    start_s: float
    end_s: float
    other_start_s: float
    other_end_s: float


@dataclass(frozen=True)
class Match:
    """How alike two items are.

    Attributes:
        score: share of the frames of the shorter item that have their like on the line, 0 to 1.
        mirrored: left and right are swapped between them.
        speed: seconds of the other that pass in one second of the first.
        stretches: what is the same, in order of time.
    """

    score: float
    mirrored: bool
    speed: float
    stretches: tuple[Stretch, ...]


def alike(one: Sequence, other: Sequence, rule: Rule) -> Match:
    """The best line between two items; a score of 0 and no stretches where there is none."""
    swap = _order(one) > _order(other)
    short, long = (other, one) if swap else (one, other)
    found = max((_line(short, long, rule, mirror) for mirror in (False, True)), key=lambda match: match.score)
    return _turned(found) if swap else found


def like_frames(one: Fingerprints, other: Fingerprints, rule: Rule, *, mirror: bool) -> NDArray[np.bool_]:
    """bool [N, M]: which frames of one look like which of the other."""
    words = mirrored(one.words) if mirror else one.words
    thumbs = one.thumbs[:, :, ::-1] if mirror else one.thumbs
    grids = [_grids(thumbs, view) for view in range(len(VIEWS))]
    other_grids = [_grids(other.thumbs, view) for view in range(len(VIEWS))]
    usable = (one.quality >= MIN_QUALITY)[:, None] & (other.quality >= MIN_QUALITY)
    bits, colours = _pace(one), _pace(other)
    max_bits = np.clip(rule.give * np.minimum(bits[0][:, None], colours[0]), rule.max_bits, rule.most_bits)
    max_colour = np.clip(rule.give * np.minimum(bits[1][:, None], colours[1]), rule.max_colour, rule.most_colour)
    found = np.zeros(usable.shape, bool)
    for left, right in PAIRS:
        apart = np.bitwise_count(words[:, None, left] ^ other.words[None, :, right]).sum(axis=-1, dtype=np.int64)
        rows, columns = np.nonzero((apart <= max_bits) & usable & ~found)
        shift = np.abs(grids[left][rows] - other_grids[right][columns]).max(axis=1)
        near = shift <= max_colour[rows, columns]
        found[rows[near], columns[near]] = True
    return found


def _pace(prints: Fingerprints) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """How far each frame is from the frame before or after it, whichever is further: bits, and colour; both [N]."""
    bits = np.bitwise_count(prints.words[1:, 0] ^ prints.words[:-1, 0]).sum(axis=-1, dtype=np.int64)
    grids = _grids(prints.thumbs, 0)
    colour = np.abs(grids[1:] - grids[:-1]).max(axis=1)
    return np.maximum(np.r_[0, bits], np.r_[bits, 0]), np.maximum(np.r_[0, colour], np.r_[colour, 0])


def _grids(thumbs: NDArray[np.uint8], view: int) -> NDArray[np.float32]:
    """Mean colours of a view on a 4 x 4 grid: float32 [N, 48]."""
    rows, columns = _AREAS[view]
    cells: NDArray[np.float32] = rows @ thumbs.transpose(0, 3, 1, 2).astype(np.float32) @ columns.T
    return cells.reshape(len(thumbs), -1)


def _areas(start: float, end: float) -> NDArray[np.float32]:
    """float32 [4, 8]: how much of each pixel of a side lies in each cell of a span of it; rows sum to 1."""
    edges = THUMB * np.linspace(start, end, _GRID + 1)
    pixels = np.arange(THUMB)
    inside = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    weights = np.clip(inside, 0, 1)
    shares: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


_AREAS = [[_areas(*span) for span in spans(*view)] for view in VIEWS]


def _order(item: Sequence) -> tuple[int, bytes, bytes]:
    """A total order of contents, so that a pair is compared in one way only."""
    times = b"" if item.times_s is None else item.times_s.tobytes()
    return len(item.prints.words), times, item.prints.words.tobytes()


def _line(short: Sequence, long: Sequence, rule: Rule, mirror: bool) -> Match:
    like = like_frames(short.prints, long.prints, rule, mirror=mirror)
    usable = max(int((short.prints.quality >= MIN_QUALITY).sum()), (len(like) + 1) // 2)  # black is no evidence
    if short.times_s is None or long.times_s is None:
        return Match(int(like.any(axis=1).sum()) / usable, mirror, 1.0, ())
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
    return Match(share, mirror, speed, _stretches(short, long, matched, speed, offset_s))


def _offset(offsets_s: NDArray[np.float64], rows: NDArray[np.int64], frames: int, slack_s: float) -> float:
    """The offset on which most frames agree within the slack; of equals the one that most pairs hit, then nearest 0."""
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
    """Runs of matched frames; one frame that was missed does not end a run."""
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


def _turned(match: Match) -> Match:
    """The same from the other item's side."""
    stretches = tuple(Stretch(one.other_start_s, one.other_end_s, one.start_s, one.end_s) for one in match.stretches)
    return replace(match, speed=round(1 / match.speed, 4), stretches=stretches)
