"""Weights of the channels of a match: by what they are worth without known pairs, or fitted on such."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.search.channels import LINES, Channel
from coldstart.search.fusion import Weights
from coldstart.search.match_calibration import MatchCalibration, worth_of

MATCH, FILE = "match", "weights.json"
"""Name of the artifact that keeps fitted weights, and of its file."""

DEFAULT = "default weights"

ACROSS = 0.5
"""Weight of frames against words, and of words against a picture, where like against like has 1: an aligned space
separates names and pictures less well than an encoder of either (LOG.md of 2026-11-22), and what is new least."""

SPOKEN = 0.4
"""Weight of the lines of speech, text on screen and title, where all frames have 1."""

WHOLE = 0.1
"""Weight of all that a text space reads of a video, in one vector."""

RECIPE = 2
"""Version of what weights mean; fits of version 1 weighed standardised cosines."""


def default_weights(channels: Sequence[Channel], calibration: MatchCalibration) -> Weights:
    """Weigh channels by what they are worth without known pairs: float64 [C], of sum 1.

    Frames together have 1. Spaces of pictures share it by the queries made of the catalogue, see
    `MatchCalibration.misses`; frames against words count by `ACROSS` of it. Words have `SPOKEN` and `WHOLE`, and count
    for a video only as far as they stand out from words that name nothing.
    """
    weights = np.zeros(len(channels))
    for place, channel in enumerate(channels):
        way, _, found = channel.kind.partition("→")
        if way == "frames":
            worth = worth_of(calibration.misses.get(channel.side, 1.0))
            weights[place] = worth * (1.0 if found == "picture" else ACROSS)
    if weights.any():
        weights /= weights.sum()
    for place, channel in enumerate(channels):
        way, _, found = channel.kind.partition("→")
        if way == "words":
            lines = channel.side.endswith(LINES)
            alike = [other for other in channels if other.kind == channel.kind and other.side.endswith(LINES) == lines]
            share = (SPOKEN if lines else WHOLE) / len(alike)
            weights[place] = share * (1.0 if found == "words" else ACROSS)
    return np.asarray(weights / weights.sum())


def describe_default(channels: Sequence[Channel], calibration: MatchCalibration) -> str:
    """Describe where default weights are from, in words."""
    parts = []
    if any(channel.kind.startswith("frames") for channel in channels):
        made = f"pictures by {calibration.queries} queries made of the catalogue's products"
        on = "its videos" if calibration.views == "videos" else "one another"
        parts.append(f"{made} and {on}" if calibration.queries else "pictures alike")
    if any(channel.kind.startswith("words") for channel in channels):
        parts.append("words as far as they stand out from words that name nothing")
    return f"{DEFAULT}: {'; '.join(parts)}"


@dataclass(frozen=True)
class ChannelWeights:
    """Fitted weights of channels. A channel of another passport is another channel."""

    weights: Mapping[tuple[str, str], float]
    """(name of the channel, digest of the passport) -> weight."""
    recipe: int = RECIPE
    """Version of what the weights mean."""

    def to_bytes(self) -> bytes:
        """Serialise as JSON."""
        rows = [{"channel": name, "passport": digest, "weight": w} for (name, digest), w in self.weights.items()]
        return (json.dumps({"version": self.recipe, "channels": rows}, ensure_ascii=False, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChannelWeights:
        """Read what `to_bytes` wrote.

        Raises:
            ColdstartError: these are no weights; the bytes may come from a stranger's workspace.
        """
        try:
            found = json.loads(data)
            weights = {(str(row["channel"]), str(row["passport"])): float(row["weight"]) for row in found["channels"]}
            if not all(0 <= weight < float("inf") for weight in weights.values()):
                raise ValueError("a weight is no number from 0")
            return cls(weights, int(found["version"]))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ColdstartError(
                f"the fitted weights of match cannot be read ({error}): fit them again with `coldstart match --fit`"
            ) from error

    @classmethod
    def of(cls, channels: Sequence[Channel], weights: Weights) -> ChannelWeights:
        """Pair channels with their weights, rounded to six decimals."""
        pairs = zip(channels, weights, strict=True)
        return cls({(channel.name, channel.passport): round(float(weight), 6) for channel, weight in pairs})


def resolve_weights(
    channels: Sequence[Channel], fitted: ChannelWeights | None, calibration: MatchCalibration
) -> tuple[Weights, str, list[str]]:
    """Choose the weights of channels: fitted ones where they fit, else the default.

    A channel that is new since the fit gets the mean of those that were; where none of the fitted
    ones is left, or those that are left weigh nothing, all are weighed as if nothing had been fitted.

    Returns:
        float64 [C] of sum 1, a sentence, further sentences.
    """
    default, origin = default_weights(channels, calibration), describe_default(channels, calibration)
    if fitted is None:
        return default, origin, []
    known = [fitted.weights.get((channel.name, channel.passport)) for channel in channels]
    fitting = [weight for weight in known if weight is not None]
    if not sum(fitting):
        why = "weigh nothing" if fitting else "are of other spaces or other encoders"
        return default, origin, [f"the fitted weights {why}: fit them again with `coldstart match --fit`"]
    mean = sum(fitting) / len(fitting)
    weights = np.array([mean if weight is None else weight for weight in known])
    new = [channel.name for channel, weight in zip(channels, known, strict=True) if weight is None]
    notes = [f"{', '.join(new)}: not among the fitted weights, so the mean weight is taken"] if new else []
    if fitted.recipe < RECIPE:
        notes.append("the weights were fitted by an earlier recipe; `coldstart match --fit` fits by the new one")
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
