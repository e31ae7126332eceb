"""Load pictures, frames and media headers of one item in a worker process.

`LoadPictures` feeds encoders, generators and safety checks, the quality loader measures of quality, `ProbeMedia` the
ingest stage: headers, digests, and with them the item's row key. Workers import this module: it needs neither torch
nor Arrow nor the store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import item_key
from coldstart.core.stage import Reject, Row
from coldstart.errors import redact_urls
from coldstart.media import guard
from coldstart.media.audio import load_audio
from coldstart.media.guard import open_medium, visual_media
from coldstart.media.image import ImageTransform, load_image, probe_image
from coldstart.media.limits import Limits
from coldstart.media.video import frames_at, probe_audio, probe_video, sample_frames

FRAMES = 16

LONGEST = 256

HEARD_S = 20.0

QUALITY_TRANSFORM = ImageTransform((LONGEST, LONGEST), "longest")
"""Way in which pictures and frames are read for measures of quality."""


@dataclass(frozen=True)
class QualitySample:
    """Some pictures of one item.

    Attributes:
        width, height: pixels as shown of the video, or of the largest of the pictures.
        images: uint8 [H, W, 3] each, at most `LONGEST` pixels long.
        times_s: when each begins, for a video.
        has_audio: whether the video has sound; None for pictures.
        samples: float32 [N], the first `HEARD_S` seconds of the video's sound, where it can be decoded.
    """

    width: int
    height: int
    images: list[NDArray[np.uint8]]
    times_s: list[float] | None
    has_audio: bool | None
    samples: NDArray[np.float32] | None


@dataclass(frozen=True)
class LoadQualitySample:
    """Decode frames of the first video of an item, or its pictures; the cost is their number.

    `sound_track` is the language or number of the sound stream, as `coldstart.media.container.sound_track` chooses it.
    """

    limits: Limits
    pictures: int
    sound_track: str | int | None = None

    def __call__(self, row: Row) -> tuple[QualitySample, float]:
        media = visual_media(row, self.pictures)
        glimpse = self._video(media[0]) if media[0]["role"] == "video" else self._pictures(media)
        return glimpse, float(len(glimpse.images))

    def _video(self, entry: Mapping[str, Any]) -> QualitySample:
        with open_medium(entry, self.limits) as path:
            frames = sample_frames(path, self.limits, QUALITY_TRANSFORM, FRAMES)
            return self.video_sample(entry, path, frames.images, frames.times_s)

    def video_sample(
        self, entry: Mapping[str, Any], path: Path, images: list[NDArray[np.uint8]], times_s: list[float]
    ) -> QualitySample:
        """Add the sound of a video to its frames."""
        samples = None
        if entry["has_audio"]:
            try:
                samples = load_audio(path, self.limits, max_s=HEARD_S, track=self.sound_track).samples
            except Reject:  # its pictures can be judged all the same; understand.speech will say what is wrong
                samples = None
        return QualitySample(entry["width"], entry["height"], images, times_s, entry["has_audio"], samples)

    def _pictures(self, entries: Sequence[Mapping[str, Any]]) -> QualitySample:
        images = []
        for entry in entries:
            with open_medium(entry, self.limits) as path:
                images.append(load_image(path, self.limits, QUALITY_TRANSFORM))
        largest = max(entries, key=lambda entry: int(entry["width"]) * int(entry["height"]))
        return QualitySample(largest["width"], largest["height"], images, None, None, None)


@dataclass(frozen=True)
class Pictures:
    """Images of one item, uint8 [H, W, 3] each, and for frames of a video the second at which each begins."""

    images: list[NDArray[np.uint8]]
    times_s: list[float] | None


def spread_times(times_s: Sequence[float], count: int) -> list[float]:
    """Choose at most `count` of the times, spread evenly over their places, the first and last among them."""
    if len(times_s) <= count:
        return list(times_s)
    return [times_s[round(place)] for place in np.linspace(0, len(times_s) - 1, count)]


@dataclass(frozen=True)
class LoadPictures:
    """Load the pictures of an item, or frames of its first video; the cost is their number.

    `shots` takes the frames that stand for the shots in `row["shots"]`, spread evenly over them where there are more
    than `frames`; a video whose shots are not known is sampled as by `uniform`.
    """

    transform: ImageTransform
    limits: Limits
    frames: int
    frame_policy: Literal["uniform", "keyframe", "shots"]
    pictures: int

    def __call__(self, row: Row) -> tuple[Pictures, float]:
        media = visual_media(row, self.pictures)
        if media[0]["role"] == "video":
            pictures = self._frames(media[0], (row.get("shots") or {}).get("frame_times_s"))
        else:
            pictures = Pictures([self._image(entry) for entry in media], None)
        return pictures, float(len(pictures.images))

    def _frames(self, entry: Mapping[str, Any], shots_s: Sequence[float] | None) -> Pictures:
        with open_medium(entry, self.limits) as path:
            if self.frame_policy == "shots" and shots_s:
                found = frames_at(path, self.limits, self.transform, spread_times(shots_s, self.frames))
            else:
                policy = "uniform" if self.frame_policy == "shots" else self.frame_policy
                found = sample_frames(path, self.limits, self.transform, count=self.frames, policy=policy)
            return Pictures(found.images, found.times_s)

    def _image(self, entry: Mapping[str, Any]) -> NDArray[np.uint8]:
        with open_medium(entry, self.limits) as path:
            return load_image(path, self.limits, self.transform)


@dataclass(frozen=True)
class ProbeMedia:
    """Read the header of every medium of one item, digest its bytes and compute the item's row key.

    Of several pictures each is decoded, too, small: one that cannot be costs itself, and not every later stage of the
    item. Media that cannot be read are listed under `bad_media`, after those that the row names there already.
    """

    limits: Limits

    def harmless(self, row: Row) -> bool:
        """Return True for an item without media, of which nothing is decoded."""
        return not row["media"]

    def __call__(self, row: Row) -> tuple[Row, float]:
        if "row_key" in row:  # made of a stored row, whose media were read then
            return row, 1.0
        roles = [entry["role"] for entry in row["media"]]
        decode = roles.count("image") > 1 and "video" not in roles
        found, bad = [], list(row.get("bad_media") or ())
        faults = [(entry["role"], Reject(entry["reason"], entry["detail"])) for entry in bad]
        for entry in row["media"]:
            try:
                found.append(self._probe(entry["role"], entry["uri"], decode))
            except Reject as reject:
                if reject.reason in TRANSIENT:
                    raise
                bad.append(bad_medium(entry["role"], entry["uri"], reject))
                faults.append((entry["role"], reject))
        decoded = any(entry["role"] == "image" and not fault for entry, fault in found)  # else its text is left to it
        media = [entry for entry, fault in found if not (fault and decoded)]
        bad += [bad_medium(entry["role"], entry["uri"], fault) for entry, fault in found if fault and decoded]
        check_remaining([entry["role"] for entry in media], faults)
        row_key = item_key(row["record"], media)
        fields = {name: value for name, value in row.items() if name != "record"}
        return {**fields, "media": media, "bad_media": bad or None, "row_key": row_key}, 1.0

    def _probe(self, role: str, uri: str, decode: bool) -> tuple[dict[str, Any], Reject | None]:
        fault = None
        with guard.local_path(uri, self.limits) as path:
            known = _PROBES[role](path, self.limits)
            if decode and role == "image":
                try:
                    load_image(path, self.limits, _TINY)
                except Reject as reject:
                    fault = reject
            probed = {
                "role": role,
                "uri": uri,
                "digest": guard.file_sha256(path),
                "size_bytes": path.stat().st_size,
                **known,
            }
        return probed, fault


_TINY = ImageTransform((16, 16), "squash", "nearest")
TRANSIENT = frozenset({"fetch_failed", "media_changed"})
"""Reasons of a medium that may be gone in the next run: they cost the item, which is then tried again."""
_SUBSTITUTES = {"video": {"video"}, "image": {"image", "video"}, "audio": {"audio", "image", "video"}}


def bad_medium(role: str, uri: str, reject: Reject) -> dict[str, str]:
    """Build the entry of `bad_media` for a medium that cannot be read, without secrets of URLs."""
    return {"role": role, "uri": redact_urls(uri), "reason": reject.reason, "detail": reject.detail}


def check_remaining(roles: Collection[str], faults: Sequence[tuple[str, Reject]]) -> None:
    """Check that an item can do without its bad media: without a picture where another one or a video is left, without
    a video where another one is, without sound where anything is.

    Args:
        roles: of the media that can be read.
        faults: role of each other one, and why it cannot.

    Raises:
        Reject: that of the first medium that it cannot do without.
    """
    for role, reject in faults:
        if _SUBSTITUTES[role].isdisjoint(roles):
            raise reject


def _image(path: Path, limits: Limits) -> dict[str, Any]:
    info = probe_image(path, limits)
    return {"width": info.width, "height": info.height}


def _video(path: Path, limits: Limits) -> dict[str, Any]:
    info = probe_video(path, limits)
    return {
        "width": info.width,
        "height": info.height,
        "duration_s": info.duration_s,
        "fps": info.fps,
        "has_audio": info.has_audio,
    }


def _audio(path: Path, limits: Limits) -> dict[str, Any]:
    return {"duration_s": probe_audio(path, limits).duration_s, "has_audio": True}


_PROBES = {"image": _image, "video": _video, "audio": _audio}
