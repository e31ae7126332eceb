"""Draws of items, and their decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coldstart
from coldstart.align.towers.data import (
    Draw,
    Example,
    ImageRef,
    PairDataset,
    RandomCrop,
    collate,
    epoch_plan,
    read_examples,
    share,
    write_examples,
)
from coldstart.media import guard
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.video import frames_at, sample_frames

TRANSFORM = ImageTransform((32, 48), "squash")
TEXTS = [("never", 0.0), ("rare", 1.0), ("often", 3.0)]


def drawn(examples: list[Example], *, frames: int = 4, augment: bool = False, seed: int = 0) -> PairDataset:
    return PairDataset(examples, TRANSFORM, Limits(), frames=frames, augment=augment, seed=seed)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((240, 160)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.fixture
def video() -> Path:
    return sorted((Path(coldstart.__file__).parent / "sample" / "videos").glob("*.mp4"))[0]


@pytest.mark.slow
def test_texts_are_drawn_by_weight_and_a_draw_is_always_the_same(picture: Path) -> None:
    data = drawn([Example("a", 0, "train", [ImageRef(str(picture))], TEXTS)])
    texts = [data[Draw(0, epoch)][2] for epoch in range(200)]
    assert texts.count("never") == 0
    assert 0.65 < texts.count("often") / 200 < 0.85
    assert texts == [data[Draw(0, epoch)][2] for epoch in range(200)]
    other = drawn([Example("a", 0, "train", [ImageRef(str(picture))], TEXTS)], seed=1)
    assert texts != [other[Draw(0, epoch)][2] for epoch in range(200)]
    _, image, text = data[Draw(0, None)]
    assert text == "often"
    np.testing.assert_array_equal(image, load_image(picture, Limits(), TRANSFORM))


@pytest.mark.slow
def test_frames_of_a_video(video: Path) -> None:
    spread = sample_frames(video, Limits(), TRANSFORM, count=4).images
    middle = sample_frames(video, Limits(), TRANSFORM, count=1).images[0]
    data = drawn([Example("v", 0, "train", [ImageRef(str(video), "video")], [("x", 1.0)])])
    np.testing.assert_array_equal(data[Draw(0, None)][1], middle)
    seen = set()
    for epoch in range(12):
        frame = data[Draw(0, epoch)][1]
        seen.add(next(number for number, one in enumerate(spread) if np.array_equal(one, frame)))
    assert len(seen) > 1
    timed = drawn([Example("v", 0, "train", [ImageRef(str(video), "video", time_s=1.0)], [("x", 1.0)])])
    np.testing.assert_array_equal(timed[Draw(0, 3)][1], frames_at(video, Limits(), TRANSFORM, [1.0]).images[0])


def test_media_that_changed_since_ingest_or_lead_nowhere_are_named(picture: Path) -> None:
    look = ImageRef(str(picture), digest=guard.file_sha256(picture), size_bytes=picture.stat().st_size)
    changed, gone = replace(look, digest="0" * 64), ImageRef(str(picture.with_name("gone.png")))
    examples = [Example(name, 7, "train", [one], [("x", 1.0)]) for name, one in
                (("good", look), ("changed", changed), ("gone", gone))]  # fmt: skip
    data = drawn(examples)
    batch = collate([data[Draw(place, 0)] for place in range(3)], {0: 7, 1: 7, 2: 7})
    assert batch.skipped == {
        "changed": f"media_changed: {picture}: other bytes than at ingest; run ingest again",
        "gone": f"not_found: {picture.with_name('gone.png')}: No such file or directory",
    }
    assert (batch.texts, batch.groups.tolist(), batch.places) == (["x"], [7], [0])
    assert batch.pixels(slice(0, 1))[0].shape == (32, 48, 3)


def test_random_crops_keep_the_size_and_stay_inside(picture: Path) -> None:
    random = np.random.default_rng(1)
    plain = load_image(picture, Limits(), TRANSFORM)
    made = [RandomCrop.drawn(TRANSFORM, random) for _ in range(50)]
    for crop in made:
        left, top, width, height = crop.box
        assert min(left, top) >= 0
        assert max(left + width, top + height) <= 1
        assert 0.5 < width * height <= 1
        assert load_image(picture, Limits(), crop).shape == plain.shape
    assert 10 < sum(crop.mirrored for crop in made) < 40
    whole = RandomCrop(TRANSFORM.size, "squash")
    np.testing.assert_array_equal(load_image(picture, Limits(), whole), plain)
    np.testing.assert_array_equal(load_image(picture, Limits(), replace(whole, mirrored=True)), plain[:, ::-1])
    half = load_image(picture, Limits(), replace(whole, box=(0.5, 0.0, 0.5, 1.0)))
    with Image.open(picture) as image:
        expected = np.asarray(image.crop((120, 0, 240, 160)).resize((48, 32), Image.Resampling.BICUBIC), np.int16)
    assert np.abs(half.astype(np.int16) - expected).mean() < 3


def test_every_place_is_drawn_once_an_epoch_in_batches_of_even_size() -> None:
    plan = epoch_plan(range(5, 105), epoch=3, seed=0, batch_size=40)
    assert [len(batch) for batch in plan] == [34, 33, 33]
    assert sorted(draw.place for batch in plan for draw in batch) == list(range(5, 105))
    assert plan == epoch_plan(range(5, 105), epoch=3, seed=0, batch_size=40)
    assert plan != epoch_plan(range(5, 105), epoch=4, seed=0, batch_size=40)
    parts = [share(plan[0], rank, 4) for rank in range(4)]
    assert [len(part) for part in parts] == [9, 9, 9, 7]
    assert [draw for part in parts for draw in part] == plan[0]
    assert share([Draw(0, None)], 1, 2) == []


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    examples = [
        Example(
            "a", 0, "train", [ImageRef("p.png"), ImageRef("v.mp4", "video", 1.5, "d", 3)], [("größe ✓\u2028x", 0.5)]
        ),
        Example("b", 1, "valid", [ImageRef("q.png")], [("x", 1.0), ("y", 2.0)]),
    ]
    write_examples(tmp_path / "pairs.jsonl", examples)
    assert read_examples(tmp_path / "pairs.jsonl") == examples
