from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from poison import noise
from sounds import beep, write_sound

from coldstart.core import pipeline as pipelines
from coldstart.core.stage import Gate, Reject, Row
from coldstart.media import guard
from coldstart.store.freshness import build
from coldstart.understand.quality_measures import frozen_share, loudness_db, measure_quality, sharpness

BLACK = np.zeros((72, 128, 3), np.uint8)
WHITE = np.full_like(BLACK, 255)


def stage(**settings: Any) -> Any:
    raw = {"stages": {"quality": {"stage": "understand.quality", **settings}}, "media": {"roots": [Path.cwd().anchor]}}
    pipeline = pipelines.load(raw)
    return build(pipeline.stages[0], pipeline)


def row_for(path: Path, role: str = "video", **more: Any) -> dict[str, Any]:
    entry = {"role": role, "uri": str(path), "digest": guard.file_sha256(path), "size_bytes": path.stat().st_size}
    return {**entry, "width": 96, "height": 64, "has_audio": False, **more}


def measure(*media: dict[str, Any], **settings: Any) -> Row:
    made = stage(**settings)
    (row,) = made.compute([made.preparer()({"item_id": "v", "media": list(media)})[0]])
    return row


def write(path: Path, pictures: list[np.ndarray], options: dict[str, str] | None = None) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(stream.encode())
    return path


def store(**row: Any) -> Any:
    """A workspace with one item's measures, good ones where none are given."""
    good = {"width": 640, "height": 360, "sharpness": 500.0, "brightness": 0.5, "contrast": 0.2, "black_share": 0.0}
    whole = {"item_id": "v", **good, "frozen_share": 0.0, "has_audio": True, "loudness_db": -20.0, **row}

    def read(table: str, columns: list[str]) -> Any:
        assert table == "stage.quality"
        return SimpleNamespace(to_pylist=lambda: [{name: whole[name] for name in columns}])

    return SimpleNamespace(has=lambda table: True, read=read)


def test_blur_takes_sharpness_away() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    blurred = [picture, *(cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 2, 3))]
    values = [sharpness(cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY)) for copy in blurred]
    assert values == sorted(values, reverse=True)
    assert values[3] < values[0] / 4


def test_black_and_white() -> None:
    seen = measure_quality([BLACK, WHITE])
    assert (seen.black_share, seen.brightness, seen.contrast, seen.sharpness) == (0.5, 0.5, 0.0, 0.0)
    assert measure_quality([BLACK]).sharpness is None
    logo = BLACK.copy()
    logo[:8, :16] = 255  # 1.4 % of the pixels
    assert measure_quality([logo]).black_share == 0.0


def test_sharpness_is_that_of_pictures_that_show_something() -> None:
    picture = noise(128, 72)
    assert measure_quality([BLACK, BLACK, picture]).sharpness == measure_quality([picture]).sharpness


def test_equal_pictures_are_frozen_and_a_slide_show_is_not() -> None:
    slides = [noise(64, 32), noise(64, 40)[:32]]
    assert frozen_share([0.0, 1.0, 2.0, 3.0], [slides[0]] * 4) == 1.0
    assert frozen_share([0.0, 1.0, 2.0, 3.0], [slides[0], slides[0], slides[1], slides[1]]) == pytest.approx(2 / 3)


def test_one_frame_at_two_times_is_no_evidence() -> None:
    picture = noise(64, 32)
    assert frozen_share([0.0, 0.0, 0.0], [picture] * 3) is None
    assert frozen_share([0.0, 0.0, 0.1], [picture, picture, 255 - picture]) == 0.0


def test_levels_of_sound() -> None:
    wave = np.sin(np.arange(16_000) / 5).astype(np.float32)
    assert loudness_db(wave) == pytest.approx(-3.01, abs=0.02)
    assert loudness_db(wave / 10) == pytest.approx(-23.01, abs=0.02)
    assert loudness_db(np.zeros(10, np.float32)) == loudness_db(np.zeros(0, np.float32)) == -120.0


def test_measures_of_videos(tmp_path: Path) -> None:
    backdrop = noise(192, 64)
    moving = write(tmp_path / "moving.mp4", [backdrop[:, i : i + 96] for i in range(40)])
    row = measure(row_for(moving))
    assert (row["width"], row["height"], row["has_audio"], row["loudness_db"]) == (96, 64, False, None)
    assert (row["black_share"], row["frozen_share"]) == (0.0, 0.0)
    still = measure(row_for(write(tmp_path / "still.mp4", [backdrop[:, :96]] * 40)))
    assert still["frozen_share"] == 1.0
    assert still["sharpness"] == pytest.approx(row["sharpness"], rel=0.5)
    black = measure(row_for(write(tmp_path / "black.mp4", [np.zeros((64, 96, 3), np.uint8)] * 40)))
    assert (black["black_share"], black["frozen_share"], black["sharpness"]) == (1.0, 1.0, None)
    slides = [backdrop[:, 48 * (i // 10) : 48 * (i // 10) + 48] for i in range(40)]
    shown = measure(row_for(write(tmp_path / "slides.mp4", slides)))
    assert 0.5 < shown["frozen_share"] < 0.9


def test_measures_of_sound(tmp_path: Path) -> None:
    row = measure(row_for(write_sound(tmp_path / "loud.mkv", beep(1.0, 0.2), pictures_s=1.0), has_audio=True))
    assert row["has_audio"] is True
    assert -60 < row["loudness_db"] < 0


def test_measures_of_pictures(tmp_path: Path) -> None:
    entries = []
    for name, shape in (("small.png", (64, 32)), ("large.png", (300, 200))):
        cv2.imwrite(str(tmp_path / name), noise(*shape))
        entries.append(row_for(tmp_path / name, "image", width=shape[0], height=shape[1], has_audio=None))
    row = measure(*entries)
    assert (row["width"], row["height"], row["frozen_share"], row["has_audio"]) == (300, 200, None, None)
    assert measure(*entries, pictures=1)["width"] == 64
    assert row["sharpness"] > 0


def test_items_without_media_are_filtered() -> None:
    with pytest.raises(Reject) as caught:
        stage().preparer()({"item_id": "t", "media": []})
    assert (caught.value.reason, caught.value.detail, caught.value.state) == (
        "no_media",
        "no image or video",
        "filtered",
    )


@pytest.mark.parametrize(
    ("settings", "row", "reason", "detail"),
    [
        ({"min_side": 360}, {"height": 200}, "low_resolution", "shorter side 200, {asks} at least 360"),
        ({"min_sharpness": 40}, {"sharpness": 12.08}, "too_blurry", "sharpness 12.08, {asks} at least 40"),
        ({"min_brightness": 0.1}, {"brightness": 0.05}, "too_dark", "brightness 0.05, {asks} at least 0.1"),
        ({"max_brightness": 0.9}, {"brightness": 0.95}, "too_bright", "brightness 0.95, {asks} at most 0.9"),
        ({"min_contrast": 0.1}, {"contrast": 0.01}, "low_contrast", "contrast 0.01, {asks} at least 0.1"),
        ({}, {"black_share": 1.0}, "black", "share of black frames 1, {asks} at most 0.99"),
        (
            {"max_frozen_share": 0.99},
            {"frozen_share": 1.0},
            "frozen",
            "share of frames equal to the one before 1, {asks} at most 0.99",
        ),
        ({"need_audio": True}, {"has_audio": False}, "no_audio", "the video has no sound, {asks} some"),
        ({"min_loudness_db": -60}, {"loudness_db": -120.0}, "silent", "loudness in dB -120, {asks} at least -60"),
    ],
)
def test_the_gate_says_what_is_missed(settings: Any, row: Any, reason: str, detail: str) -> None:
    verdict = stage(**settings).blocked(store(**row))["v"]
    wanted = detail.format(asks="the pipeline asks for")
    assert (verdict.reason, verdict.detail, verdict.state) == (reason, wanted, "filtered")
    assert stage(**settings).blocked(store()) == {}
    assert stage(max_black_share=None, max_frozen_share=None).blocked(store(**row)) == {}


def test_what_has_no_meaning_closes_nothing() -> None:
    strict = stage(min_sharpness=40, max_frozen_share=0.0, need_audio=True, min_loudness_db=-60.0)
    assert strict.blocked(store(sharpness=None, frozen_share=None, has_audio=None, loudness_db=None)) == {}


def test_thresholds_judge_and_do_not_measure() -> None:
    assert isinstance(stage(), Gate)
    assert stage(min_sharpness=40, need_audio=True).fingerprint() == stage().fingerprint()
    assert stage(pictures=2).fingerprint() != stage().fingerprint()
    assert stage().blocked(SimpleNamespace(has=lambda table: False)) == {}


def test_the_sound_track_is_part_of_the_key_only_where_one_is_chosen() -> None:
    plain = stage().fingerprint()
    assert "sound_track" not in plain
    assert stage(sound_track="deu").fingerprint() == {**plain, "sound_track": "deu"}
    assert stage(sound_track=2).preparer().load.sound_track == 2
