"""Track lines of text through the frames of a video, each with a start and an end.

A line is followed from frame to frame by its place and its words. The same text that comes back later is a second line.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coldstart.understand.ocr import Box, TextBox, TextRules, WordGroup, join_words, letters, similarity

_REACH = 4.0  # between two frames a text moves by at most this many of its heights
_BRIDGE = 1  # frames in which a line may go unseen
_SAME_PLACE, _SAME_WORDS = 0.3, 0.5
_MOVED_WORDS = 0.8  # a text that has left its place must be read as nearly the same
_SURE = 0.9  # mean confidence from which two readings that differ are two texts
_STEADY = 2  # sightings that such a reading takes
_SLIP_S = 0.1  # a place that is read in one frame and unread in the next is one text


@dataclass(frozen=True, eq=False)
class Frame:
    """Texts of one sampled frame of a video.

    Attributes:
        time_s: when it starts to be shown; `until_s`: when the next sampled frame does.
        aspect: its width over its height.
        boxes: the texts in it.
        fresh: whether it was read; else the texts are those of the equal frame before it.
    """

    time_s: float
    until_s: float
    aspect: float
    boxes: Sequence[TextBox]
    fresh: bool = True


@dataclass(frozen=True)
class ScreenLine:
    """One line of text on the screen.

    Attributes:
        start_s: time of the first frame that shows it; None in a picture.
        end_s: time at which the first sampled frame without it starts: the last frame that shows it plus one sampling
            step. None in a picture.
        text: the reading that most confidence speaks for; `confidence`: the mean over the readings.
        box: where it stood when that reading was surest.
        frames: how many readings it rests on.
    """

    start_s: float | None
    end_s: float | None
    text: str
    confidence: float
    box: Box
    frames: int


@dataclass(frozen=True)
class UnreadLine:
    """One line on the screen in a script that the reader cannot write; the fields are those of `ScreenLine`.

    Attributes:
        script: its name, such as `Arabic`.
    """

    start_s: float | None
    end_s: float | None
    script: str
    box: Box
    frames: int


def picture_lines(boxes: Sequence[TextBox], aspect: float, rules: TextRules) -> list[ScreenLine]:
    """Build the lines of one picture, from its top to its bottom.

    Args:
        aspect: width of the picture over its height.
    """
    found = join_words(boxes, aspect, rules)
    return [
        ScreenLine(None, None, word.text, word.confidence, _shares(word.box, aspect), 1)
        for word in sorted(found, key=lambda word: (word.box[1], word.box[0]))
        if word.confidence >= rules.single_confidence
    ]


def picture_texts(
    boxes: Sequence[TextBox], aspect: float, rules: TextRules
) -> tuple[list[ScreenLine], list[UnreadLine]]:
    """Build the lines of one picture as `picture_lines`, and those that could not be read."""
    read, unread = _parted(boxes)
    return picture_lines(read, aspect, rules), _unread(picture_lines(unread, aspect, _lenient(rules)))


def track_texts(frames: Sequence[Frame], rules: TextRules) -> tuple[list[ScreenLine], list[UnreadLine]]:
    """Follow the lines of a video as `track`, and those that could not be read.

    Where one place is read in some frames and unread in others, it is what most frames say.
    """
    parted = [(frame, *_parted(frame.boxes)) for frame in frames]
    lines = track([replace(frame, boxes=read) for frame, read, _ in parted], rules)
    unread = _unread(track([replace(frame, boxes=away) for frame, _, away in parted], _lenient(rules)))
    pairs = [(line, other) for line in lines for other in unread if _same_text(line, other)]
    junk = {id(line) for line, other in pairs if other.frames >= line.frames}
    slips = {id(other) for line, other in pairs if other.frames < line.frames}
    return [one for one in lines if id(one) not in junk], [one for one in unread if id(one) not in slips]


def _parted(boxes: Sequence[TextBox]) -> tuple[list[TextBox], list[TextBox]]:
    """Part read texts from unread ones, which are followed by the names of their scripts in place of words."""
    read = [box for box in boxes if not box.script]
    return read, [replace(box, text=box.script) for box in boxes if box.script]


def _lenient(rules: TextRules) -> TextRules:
    return replace(rules, min_confidence=0.0, single_confidence=0.0)


def _unread(lines: Sequence[ScreenLine]) -> list[UnreadLine]:
    """Convert lines whose words are names of scripts, of which the commonest is theirs."""
    named = [(line, Counter(line.text.split()).most_common(1)[0][0]) for line in lines]
    return [UnreadLine(line.start_s, line.end_s, script, line.box, line.frames) for line, script in named]


def _same_text(line: ScreenLine, other: UnreadLine) -> bool:
    """Tell whether two lines of a video stand in one place at one time."""
    assert line.start_s is not None and line.end_s is not None and other.start_s is not None and other.end_s is not None
    at_once = min(line.end_s, other.end_s + _SLIP_S) > max(line.start_s, other.start_s - _SLIP_S)
    return at_once and _overlap(line.box, other.box) >= _SAME_PLACE


def track(frames: Sequence[Frame], rules: TextRules) -> list[ScreenLine]:
    """Follow the lines of text through the frames of one video, in order of time.

    A line goes on where a text stands in its place (intersection over union of their boxes) and reads much alike, or
    stands near its last place and reads the same; it may go unseen in one frame. Where both readings are sure and
    steady, a change of words in one place (a price, say) starts a new line.

    Returns:
        The lines by start, then from top to bottom.
    """
    open_tracks: list[_Track] = []
    closed: list[_Track] = []
    for index, frame in enumerate(frames):
        words = join_words(frame.boxes, frame.aspect, rules)
        for followed, word in _matched(open_tracks, words):
            followed.seen.append((index, word))
            words.remove(word)
        over = [followed for followed in open_tracks if followed.last < index and _is_over(followed, index, words)]
        closed += over
        open_tracks = [followed for followed in open_tracks if followed not in over]
        open_tracks += [_Track([(index, word)]) for word in words]
    lines = [
        line
        for followed in [*closed, *open_tracks]
        for run in _runs(followed.seen)
        if (line := _line(run, frames, rules)) is not None
    ]
    return sorted(lines, key=lambda line: (line.start_s or 0.0, line.box[1], line.box[0]))


@dataclass(eq=False)
class _Track:
    """Sightings at one place: (index of the frame, words), the oldest first."""

    seen: list[tuple[int, WordGroup]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.seen[-1][0]


def _is_over(followed: _Track, index: int, others: Sequence[WordGroup]) -> bool:
    """Tell whether a line has been missing for too long, or a certain reading has taken its place."""
    place = followed.seen[-1][1].box
    taken = any(word.confidence >= _SURE and _overlap(place, word.box) >= _SAME_PLACE for word in others)
    return taken or index - followed.last > _BRIDGE


def _matched(tracks: Sequence[_Track], words: Sequence[WordGroup]) -> list[tuple[_Track, WordGroup]]:
    """Assign texts to tracks: the likeliest pairs first, each once."""
    pairs = [
        (likeness, line, word) for line in tracks for word in words if (likeness := _likeness(line.seen[-1][1], word))
    ]
    pairs.sort(key=lambda pair: -pair[0])
    chosen: list[tuple[_Track, WordGroup]] = []
    for _, line, word in pairs:
        if not any(line is taken or word is used for taken, used in chosen):
            chosen.append((line, word))
    return chosen


def _likeness(before: WordGroup, word: WordGroup) -> float:
    """Score how likely two texts of neighbouring frames are one line; 0 if they are not."""
    place = _overlap(before.box, word.box)
    if place < _SAME_PLACE and _distance(before.box, word.box) > _REACH * max(before.height, word.height):
        return 0.0
    words = similarity(before.text, word.text)
    return place + words if words >= (_SAME_WORDS if place >= _SAME_PLACE else _MOVED_WORDS) else 0.0


def _runs(seen: Sequence[tuple[int, WordGroup]]) -> list[list[tuple[int, WordGroup]]]:
    """Split the sightings at one place wherever one certain and steady text gives way to another."""
    blocks = [list(block) for _, block in itertools.groupby(seen, key=lambda entry: letters(entry[1].text))]
    runs: list[list[tuple[int, WordGroup]]] = []
    text, doubtful = "", list[tuple[int, WordGroup]]()
    for block in blocks:
        found = block[0][1].text
        if len(block) < _STEADY or _mean_confidence(block) < _SURE:
            doubtful += block
            continue
        if runs and letters(found) == letters(text):
            runs[-1] += [*doubtful, *block]
        elif not runs:
            runs.append([*doubtful, *block])
        else:
            ahead = [similarity(word.text, found) > similarity(word.text, text) for _, word in doubtful]
            cut = ahead.index(True) if True in ahead else len(doubtful)
            runs[-1] += doubtful[:cut]
            runs.append([*doubtful[cut:], *block])
        text, doubtful = found, []
    if runs:
        runs[-1] += doubtful
    return runs or [doubtful]


def _line(run: Sequence[tuple[int, WordGroup]], frames: Sequence[Frame], rules: TextRules) -> ScreenLine | None:
    """Decide the text of a run of sightings; None if it is too doubtful."""
    readings = [(index, word) for index, word in run if frames[index].fresh] or list(run[:1])
    confidence = _mean_confidence(readings)
    if confidence < (rules.single_confidence if len(run) == 1 else rules.min_confidence):
        return None
    votes: dict[str, float] = {}
    for _, word in run:
        votes[word.text] = votes.get(word.text, 0.0) + word.confidence
    text = max(votes, key=lambda text: votes[text])
    index, best = max((entry for entry in run if entry[1].text == text), key=lambda entry: entry[1].confidence)
    box = _shares(best.box, frames[index].aspect)
    return ScreenLine(frames[run[0][0]].time_s, frames[run[-1][0]].until_s, text, confidence, box, len(readings))


def _mean_confidence(seen: Sequence[tuple[int, WordGroup]]) -> float:
    return sum(word.confidence for _, word in seen) / len(seen)


def _shares(box: Box, aspect: float) -> Box:
    """Convert a box from units of the picture's height to shares of its sides."""
    left, top, right, bottom = np.clip(np.array(box) / [aspect, 1, aspect, 1], 0, 1)
    return float(left), float(top), float(right), float(bottom)


def _overlap(one: Box, other: Box) -> float:
    """Compute intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (_area(one) + _area(other) - width * height)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _distance(one: Box, other: Box) -> float:
    """Compute how far the middle of a box has moved."""
    return math.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2
