"""What a model sees of an item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from poison import write_video

from coldstart.core.stage import Reject, Row
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures, ProbeMedia, spread_times

LOAD = LoadPictures(ImageTransform((16, 16), "squash"), Limits(), frames=4, frame_policy="uniform", pictures=2)


def item(*paths: Path) -> Row:
    media = [{"role": "image", "uri": str(path)} for path in paths]
    return ProbeMedia(Limits())({"item_id": "a", "record": {}, "media": media})[0]


def draw(path: Path, grey: int) -> Path:
    Image.new("RGB", (32, 32), (grey, grey, grey)).save(path)
    return path


def test_pictures_come_in_order_and_not_more_than_asked(tmp_path: Path) -> None:
    row = item(*(draw(tmp_path / f"{grey}.bmp", grey) for grey in (10, 20, 30)))
    pictures, cost = LOAD(row)
    assert cost == 2.0
    assert pictures.times_s is None
    assert [int(np.unique(image).item()) for image in pictures.images] == [10, 20]


@pytest.mark.parametrize("grey", [11, 12])
def test_bytes_that_ingest_did_not_see_are_refused(tmp_path: Path, grey: int) -> None:
    row = item(draw(tmp_path / "a.bmp", 10))
    draw(tmp_path / "a.bmp", grey)  # the same size: only the digest tells
    with pytest.raises(Reject) as refused:
        LOAD(row)
    assert refused.value.reason == "media_changed"
    assert refused.value.detail == f"{tmp_path / 'a.bmp'}: other bytes than at ingest; run ingest again"


def test_an_item_without_pictures_is_filtered() -> None:
    with pytest.raises(Reject) as refused:
        LOAD({"item_id": "a", "media": []})
    assert (refused.value.reason, refused.value.state) == ("no_media", "filtered")


def test_one_frame_a_shot_at_the_seconds_that_stand_for_them(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 4.0)
    row = ProbeMedia(Limits())({"item_id": "a", "record": {}, "media": [{"role": "video", "uri": str(clip)}]})[0]
    load = replace(LOAD, frame_policy="shots")
    times_s = [0.5, 2.0, 3.2]
    pictures, cost = load({**row, "shots": {"frame_times_s": times_s}})
    assert cost == 3.0
    assert pictures.times_s == pytest.approx(times_s, abs=0.05)
    many, _ = load({**row, "shots": {"frame_times_s": [0.1 * n for n in range(30)]}})
    assert many.times_s == pytest.approx([0.0, 1.0, 1.9, 2.9], abs=0.05)
    for unknown in (None, {"frame_times_s": []}):
        assert load({**row, "shots": unknown})[0].times_s == LOAD(row)[0].times_s


def test_spread_keeps_the_ends() -> None:
    assert spread_times([1.0, 2.0], 4) == [1.0, 2.0]
    assert spread_times([0.0, 1.0, 2.0, 3.0, 4.0], 3) == [0.0, 2.0, 4.0]
    assert spread_times([0.0, 1.0, 2.0], 1) == [0.0]
