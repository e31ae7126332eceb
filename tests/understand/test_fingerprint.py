"""Fingerprints of pictures, and the stage that takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from catalogue import write_manifest
from numpy.typing import NDArray
from PIL import Image
from poison import write_video

from coldstart.core import pipeline as pipelines
from coldstart.engine.run import run_pipeline
from coldstart.store import Store
from coldstart.understand.content_box import READ_SIDE
from coldstart.understand.fingerprint import (
    BOXES,
    BYTES,
    MIN_QUALITY,
    SIDE,
    VIEWS,
    Fingerprints,
    compute_fingerprints,
    mirrored,
)
from coldstart.understand.fingerprint_loader import hash_picture


def scene(seed: int, side: int = 384) -> NDArray[np.uint8]:
    """Soft blobs of colour with some sharp edges: uint8 [side, side, 3]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        left, top, width, height = (random.random(4) * side * np.array([0.8, 0.8, 0.3, 0.3])).astype(int).tolist()
        colour = random.integers(0, 256, 3).tolist()
        cv2.rectangle(picture, (left, top), (left + width, top + height), colour, -1)
    return np.asarray(picture, np.uint8)


def squeezed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def prints(*pictures: NDArray[np.uint8]) -> Fingerprints:
    return compute_fingerprints(np.stack([squeezed(picture) for picture in pictures]))


def apart(one: Fingerprints, view: int, other: Fingerprints, other_view: int) -> int:
    return int(np.bitwise_count(one.words[0, view] ^ other.words[0, other_view]).sum())


def test_the_first_view_has_the_signs_of_pdqs_coefficients() -> None:
    pdqhash = pytest.importorskip("pdqhash")  # Facebook's own code, built from source
    for seed in range(8):
        picture = cv2.resize(scene(seed), (64, 64), interpolation=cv2.INTER_AREA)  # where PDQ does not blur
        coefficients, quality = pdqhash.compute_float(picture)
        ours = compute_fingerprints(
            cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[None].astype(np.uint8)
        )
        theirs = np.asarray(coefficients)[::-1].reshape(16, 16) > 0  # its highest frequency comes first
        assert np.count_nonzero(unpacked(ours.words[0, 0]) != theirs) <= 4
        assert ours.quality[0] == pytest.approx(quality, abs=12)


def unpacked(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    bits = np.unpackbits(words.astype("<u8").view(np.uint8).reshape(4, 8), axis=1).astype(bool)
    return bits.reshape(2, 2, 8, 8).swapaxes(1, 2).reshape(16, 16)


def test_a_mirrored_picture_has_the_mirrored_bits() -> None:
    picture = squeezed(scene(1))
    plain, turned = (
        compute_fingerprints(picture[None]),
        compute_fingerprints(np.ascontiguousarray(picture[None, :, ::-1])),
    )
    np.testing.assert_array_equal(mirrored(plain.words), turned.words)
    np.testing.assert_array_equal(mirrored(turned.words), plain.words)
    np.testing.assert_array_equal(plain.thumbs[:, :, ::-1], turned.thumbs)


def test_a_view_is_the_fingerprint_of_what_it_keeps() -> None:
    picture = scene(2, 400)
    whole = prints(picture)
    for crop in (0.05, 0.1):
        edge = round(400 * crop / 2)
        cut = prints(picture[edge : 400 - edge, edge : 400 - edge])
        assert apart(cut, VIEWS.index((0.0, (0.0, 0.0))), whole, VIEWS.index((crop, (0.0, 0.0)))) <= 6
        assert apart(cut, 0, whole, 0) > 20
    above = prints(picture[: round(400 * 0.82)])
    assert apart(above, 0, whole, VIEWS.index((0.0, (0.0, 0.18)))) <= 6
    below = prints(picture[round(400 * 0.18) :])
    assert apart(below, 0, whole, VIEWS.index((0.0, (0.18, 0.0)))) <= 6


def test_brightness_and_contrast_change_few_bits_and_another_picture_half_of_them() -> None:
    picture = scene(3)
    duller = np.rint(picture * 0.7 + 30).astype(np.uint8)
    assert apart(prints(picture), 0, prints(duller), 0) <= 4
    assert apart(prints(picture), 0, prints(scene(4)), 0) > 90


@pytest.mark.parametrize("level", [0, 128, 255])
def test_one_colour_has_no_quality(level: int) -> None:
    flat = np.full((1, SIDE, SIDE, 3), level, np.uint8)
    noisy = np.clip(flat + np.random.default_rng(0).integers(-2, 3, flat.shape), 0, 255).astype(np.uint8)
    assert compute_fingerprints(flat).quality[0] == 0.0
    assert compute_fingerprints(noisy).quality[0] < MIN_QUALITY
    assert prints(scene(5)).quality[0] > 50


def framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture between black bars, as it is read."""
    bars = np.zeros((64, picture.shape[1], 3), np.uint8)
    whole = np.concatenate([bars, picture, bars])
    return np.asarray(cv2.resize(whole, (READ_SIDE, READ_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def test_what_a_border_encloses_is_hashed_as_the_picture_without_it() -> None:
    plain, letterboxed = prints(scene(3)), hash_picture(framed(scene(3)))
    assert not plain.boxed.any() and letterboxed.boxed.all()
    np.testing.assert_array_equal(plain.words[:, len(VIEWS) :], plain.words[:, BOXES])
    for box, view in enumerate(BOXES, len(VIEWS)):
        assert apart(letterboxed, box, plain, view) <= 6 < 60 < apart(letterboxed, view, plain, view)
    assert np.abs(letterboxed.box_thumbs.astype(int) - plain.thumbs).max() <= 12
    again = Fingerprints.from_bytes(letterboxed.to_bytes(), letterboxed.quality.tolist(), letterboxed.boxes_to_bytes())
    np.testing.assert_array_equal(again.words, letterboxed.words)
    np.testing.assert_array_equal(again.box_thumbs, letterboxed.box_thumbs)
    assert plain.boxes_to_bytes() == [b""]
    assert not Fingerprints.from_bytes(letterboxed.to_bytes(), [50.0]).boxed.any()  # a row of the first version


def test_a_border_around_one_colour_encloses_nothing() -> None:
    assert not hash_picture(framed(np.full((384, 384, 3), 90, np.uint8))).boxed.any()


def test_bytes_and_back() -> None:
    made = prints(scene(6), scene(7))
    texts = made.to_bytes()
    assert [len(text) for text in texts] == [BYTES, BYTES]
    again = Fingerprints.from_bytes(texts, made.quality.tolist())
    np.testing.assert_array_equal(again.words, made.words)
    np.testing.assert_array_equal(again.thumbs, made.thumbs)
    np.testing.assert_array_equal(again.quality, made.quality)
    assert again.words.dtype == np.uint64 and again.thumbs.dtype == np.uint8 and again.quality.dtype == np.float32
    none = Fingerprints.from_bytes([], [])
    assert none.words.shape == (0, len(VIEWS) + len(BOXES), 4)


@pytest.mark.slow
def test_rows_of_videos_pictures_and_neither(tmp_path: Path) -> None:
    Image.fromarray(scene(8)).save(tmp_path / "a.jpg")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "b.png")
    write_video(tmp_path / "v.mp4", 1.0)
    entries: list[dict[str, Any]] = [
        {"item_id": "pictures", "images": ["a.jpg", "b.png", "a.jpg"]},
        {"item_id": "video", "video": "v.mp4", "image": "a.jpg"},
        {"item_id": "words", "title": "nothing to see"},
    ]
    stages = {"ingest": {}, "prints": {"stage": "understand.fingerprint", "fps": 5, "max_s": 0.7, "pictures": 2}}
    raw = {"manifest": str(write_manifest(tmp_path / "items.jsonl", entries)), "engine": {"workers": 1}}
    store = Store(tmp_path / "ws", create=True)
    report = run_pipeline(store, pipelines.load({**raw, "stages": stages})).stages[-1]
    assert (report.balance.fresh, report.balance.filtered) == (2, 1)
    assert {item: (row.state, row.reason) for item, row in store.verdicts("prints").items()} == {
        "words": ("filtered", "no_media")
    }
    rows = {row["item_id"]: row for row in store.read("stage.prints").to_pylist()}
    assert rows["pictures"]["media"] == "image" and rows["pictures"]["times_s"] is None
    assert [len(text) for text in rows["pictures"]["hashes"]] == [BYTES, BYTES]
    assert rows["pictures"]["quality"][0] > 50 and rows["pictures"]["quality"][1] == 0.0
    assert len(rows["pictures"]["screen"]) == len(VIEWS) * 32  # the white one is not looked for
    assert rows["video"]["media"] == "video"
    assert rows["video"]["times_s"] == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=0.021)
