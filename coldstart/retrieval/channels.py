"""Channels: the ways in which a video and a product can be compared, and how much each of them weighs.

A channel leads from one side of a video (its frames, its text, its lines of speech and text on screen) to one space of
the products, where both have one passport. With pictures and words in one space, frames are compared with what a
product is called as well, and words with its picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from coldstart.encoders import Passport, Vectors
from coldstart.retrieval.fusion import Weights

Input = Literal["image", "text"]
Source = Literal["frame", "picture", "text", "title", "speech", "screen"]

MATCH, FILE = "match", "weights.json"
"""Name of the artifact that keeps fitted weights, and of its file."""

LINES = " lines"
"""What the name of a space gets for the lines of a video in it."""

DEFAULT = "default weights by kind of evidence"

ACROSS = 0.5
"""Weight of a kind that compares frames with words, where one that compares like with like has 1: an aligned space
knows names and looks less well than an encoder knows either (LOG.md of 2026-11-22)."""


_LIKE = ("frames→picture", "words→words")


@dataclass(frozen=True)
class Moment:
    """What one vector of a video stands for.

    Attributes:
        source: `text` is all that its text space reads of it.
        second: when it is seen, said or written; None where it has no time.
        text: the words, empty for a frame or picture.
    """

    source: Source
    second: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Asked:
    """One side of a video.

    Attributes:
        name: the space, with `LINES` behind it where these are single lines.
        passport: digest of the passport of the vectors.
        way: `image` for frames and pictures, `text` for words.
        vectors: unit vectors, float32 [T, D], of which the nearest counts.
        moments: what each of them stands for, [T].
    """

    name: str
    passport: str
    way: Input
    vectors: Vectors
    moments: Sequence[Moment]


@dataclass(frozen=True)
class Question:
    """The sides of one video, what they are made of in words, and what a person should know besides."""

    name: str
    asked: Sequence[Asked]
    used: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Channel:
    """From a side of a video to a space of the products.

    Attributes:
        asked: name of the side, see `Asked`.
        space: the products' space.
        passport: digest of the passport of both.
        kind: kind of evidence, such as `frames→words`.
    """

    asked: str
    space: str
    passport: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.asked}→{self.space}"


def channels_of(asked: Iterable[Asked], spaces: Mapping[str, Passport], inputs: Mapping[str, Input]) -> list[Channel]:
    """All channels between some sides and the spaces of a catalog, each once, in a fixed order.

    Args:
        inputs: what each space holds vectors of.
    """
    sides = {(side.name, side.passport, side.way) for side in asked}
    from_, to = {"image": "frames", "text": "words"}, {"image": "picture", "text": "words"}
    found = [
        Channel(name, space, passport, f"{from_[way]}→{to[inputs[space]]}")
        for name, passport, way in sides
        for space in spaces
        if space in inputs and spaces[space].digest == passport
    ]
    return sorted(found, key=lambda channel: (channel.kind, channel.asked, channel.space))


def default_weights(channels: Sequence[Channel]) -> Weights:
    """The same weight for every kind of evidence, and `ACROSS` of it for frames against words or words against a
    picture, shared by the channels of the kind: float64 [C], of sum 1."""
    kinds = [channel.kind for channel in channels]
    weights = np.array([(1.0 if kind in _LIKE else ACROSS) / kinds.count(kind) for kind in kinds])
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class Learnt:
    """Fitted weights, of the channels that were there. One of another passport is another channel."""

    weights: Mapping[tuple[str, str], float]
    """(name of the channel, digest of the passport) -> weight."""

    def to_bytes(self) -> bytes:
        rows = [{"channel": name, "passport": digest, "weight": w} for (name, digest), w in self.weights.items()]
        return (json.dumps({"version": 1, "channels": rows}, ensure_ascii=False, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Learnt:
        rows = json.loads(data)["channels"]
        return cls({(row["channel"], row["passport"]): float(row["weight"]) for row in rows})

    @classmethod
    def of(cls, channels: Sequence[Channel], weights: Weights) -> Learnt:
        pairs = zip(channels, weights, strict=True)
        return cls({(channel.name, channel.passport): round(float(weight), 6) for channel, weight in pairs})


def weigh(channels: Sequence[Channel], learnt: Learnt | None) -> tuple[Weights, str, list[str]]:
    """Weights of channels, where they are from, and what a person should know of them.

    A channel that was not there when weights were fitted gets the mean of those that were; where none of the fitted
    ones is left, or those that are left weigh nothing, all are weighed as if nothing had been fitted.

    Returns:
        float64 [C] of sum 1, a sentence, further sentences.
    """
    if learnt is None:
        return default_weights(channels), DEFAULT, []
    known = [learnt.weights.get((channel.name, channel.passport)) for channel in channels]
    fitted = [weight for weight in known if weight is not None]
    if not sum(fitted):
        why = "weigh nothing" if fitted else "are of other spaces or other encoders"
        return (
            default_weights(channels),
            DEFAULT,
            [f"the fitted weights {why}: fit them again with `coldstart match --fit`"],
        )
    mean = sum(fitted) / len(fitted)
    weights = np.array([mean if weight is None else weight for weight in known])
    new = [channel.name for channel, weight in zip(channels, known, strict=True) if weight is None]
    notes = [f"{', '.join(new)}: not among the fitted weights, so the mean weight is taken"] if new else []
    return weights / weights.sum(), "fitted weights", notes


def described(channels: Sequence[Channel], weights: Weights) -> list[dict[str, object]]:
    """The channels with their weights, as JSON-serialisable values."""
    pairs = zip(channels, weights, strict=True)
    return [{"channel": channel.name, **asdict(channel), "weight": round(float(w), 6)} for channel, w in pairs]
