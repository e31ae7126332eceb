"""A stream whose frames change their size half way, as of a phone that was turned: every stage takes its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from poison import noise

from coldstart.core.stage import Row
from coldstart.embed.stage import EmbedStage
from coldstart.encoders.fake import Fake
from coldstart.media.image import ImageTransform, at_one_size
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures, LoadQualitySample, Pictures, ProbeMedia
from coldstart.media.video import sample_frames
from coldstart.media.video_loaders import LoadScreenFrames, LoadShotFrames
from coldstart.search.search import Ranker
from coldstart.understand.fingerprint_loader import LoadFingerprints
from coldstart.understand.ocr import TextBox
from coldstart.understand.quality_measures import frozen_share
from coldstart.understand.stages.screen import _frames

LIMITS = Limits()


def half(path: Path, width: int, height: int, first: int) -> bytes:
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        picture = noise(width, height)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 5 * number, axis=1))
            frame.pts = first + number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("turned")
    path = folder / "stream.ts"
    path.write_bytes(half(folder / "a.ts", 128, 96, 0) + half(folder / "b.ts", 96, 128, 20))
    row = {"item_id": "turned", "record": {}, "media": [{"role": "video", "uri": str(path)}]}
    return ProbeMedia(LIMITS)(row)[0]


def shapes(images: Sequence[Any]) -> list[tuple[int, ...]]:
    return sorted({image.shape for image in images})


def test_the_frames_have_two_sizes_and_are_compared_at_one(turned: Row) -> None:
    sample, cost = LoadQualitySample(LIMITS, 4)(turned)
    assert shapes(sample.images) == [(96, 128, 3), (128, 96, 3)]
    assert cost == 16
    assert sample.times_s is not None
    assert frozen_share(sample.times_s, sample.images) == 0.0


def test_a_still_that_changes_its_size_is_frozen() -> None:
    large = np.full((96, 128, 3), 90, np.uint8)
    assert frozen_share([0.0, 1.0, 2.0], [large, large[:48, :64], large]) == 1.0
    assert shapes(at_one_size([large[:48, :64], large])) == [(48, 64, 3)]
    assert at_one_size([large])[0] is large


def test_shots_copies_and_text_on_screen_take_it(turned: Row) -> None:
    shots, _ = LoadShotFrames(LIMITS, 60.0)(turned)
    assert shots.frames.shape == (40, 27, 48, 3)
    fingerprints, _ = LoadFingerprints(LIMITS, 2.0, 60.0, 4)(turned)
    assert len(fingerprints["times_s"]) == 8
    screen, _ = LoadScreenFrames(LIMITS, 640, 2.0, 100, 12.0, 4)(turned)
    assert shapes(screen.images) == [(96, 128, 3), (128, 96, 3)]


def test_text_on_screen_has_the_aspect_of_its_own_frame(turned: Row) -> None:
    screen, _ = LoadScreenFrames(LIMITS, 640, 2.0, 100, 12.0, 4)(turned)
    boxes: list[list[TextBox]] = [[] for _ in screen.images]
    assert [frame.aspect for frame in _frames(screen, boxes)] == [4 / 3] * 4 + [3 / 4] * 4


def test_an_encoder_of_videos_gets_frames_of_one_size(turned: Row) -> None:
    taken: list[tuple[int, ...]] = []

    class VideoEncoder(Fake):
        def encode_videos(self, videos: Sequence[Any]) -> Any:
            taken.extend(video.shape for video in videos)
            return self.encode_images([video[0] for video in videos])

    whole = ImageTransform((64, 64), "longest")
    load = LoadPictures(whole, LIMITS, 8, "uniform", 4)
    pictures, _ = load(turned)
    assert isinstance(pictures, Pictures)
    stage = SimpleNamespace(encoder=VideoEncoder(16), settings=SimpleNamespace(video="native"))
    [row] = EmbedStage._pictures(stage, [pictures])  # type: ignore[arg-type]
    assert taken == [(8, 48, 64, 3)]
    assert len(row["frame_vectors"]) == 8
    ranker = SimpleNamespace(
        _load_pixels=lambda *_: sample_frames(Path(turned["media"][0]["uri"]), LIMITS, whole, 8).images
    )
    encoder = VideoEncoder(16)
    [query] = Ranker._encode_media(ranker, "video", ["stream.ts"], encoder, None)  # type: ignore[arg-type]
    assert taken == [(8, 48, 64, 3)] * 2
    assert isinstance(query, np.ndarray)
