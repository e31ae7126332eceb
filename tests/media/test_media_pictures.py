"""What a model sees of an item."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from poison import noise, write_video

from coldstart.core.stage import Reject, Row
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures, ProbeMedia, bad_medium, check_remaining, spread_times

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


def probe(*media: tuple[str, Path], bad: list[dict[str, str]] | None = None) -> Row:
    entries = [{"role": role, "uri": str(path)} for role, path in media]
    row = {"item_id": "a", "record": {"title": "t"}, "media": entries}
    return ProbeMedia(Limits())(row if bad is None else {**row, "bad_media": bad})[0]


def cut(path: Path) -> Path:
    """A photo of which the lower half is missing; its header is whole."""
    Image.fromarray(noise(96, 80)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    return path


def test_an_item_survives_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    good = [draw(tmp_path / f"{grey}.png", grey) for grey in (10, 20)]
    text = tmp_path / "text.jpg"
    text.write_bytes(b"no picture")
    missing = {"role": "image", "uri": "gone.jpg", "reason": "not_found", "detail": "gone.jpg"}
    row = probe(
        *(("image", path) for path in (good[0], cut(tmp_path / "cut.jpg"), text, good[1])),
        bad=[missing],
    )
    assert [entry["uri"] for entry in row["media"]] == [str(path) for path in good]
    assert [(entry["uri"], entry["reason"]) for entry in row["bad_media"]] == [
        ("gone.jpg", "not_found"),
        (str(text), "unsupported_media"),
        (str(tmp_path / "cut.jpg"), "corrupt_image"),
    ]
    assert row["bad_media"][1]["detail"] == "not an image: looks like text"
    assert LOAD(row)[1] == 2.0
    without = probe(*(("image", path) for path in good))
    assert row["row_key"] == without["row_key"]  # the item is made from the same media
    assert without["bad_media"] is None


def test_an_item_fails_where_no_picture_is_left(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_bytes(b"no picture")
    missing = {"role": "image", "uri": "gone.jpg", "reason": "not_found", "detail": "gone.jpg"}
    for bad, reason in ((None, "unsupported_media"), ([missing], "not_found")):
        with pytest.raises(Reject) as caught:
            probe(("image", text), ("image", text), bad=bad)
        assert caught.value.reason == reason


def test_where_no_picture_can_be_decoded_the_item_keeps_them_for_its_text(tmp_path: Path) -> None:
    row = probe(*(("image", cut(tmp_path / name)) for name in ("a.jpg", "b.jpg")))
    assert len(row["media"]) == 2 and row["bad_media"] is None
    with pytest.raises(Reject, match="corrupt_image"):
        LOAD(row)


@pytest.mark.parametrize(
    ("roles", "bad", "survives"),
    [
        (["image"], "image", True),
        (["video"], "image", True),
        (["audio"], "image", False),
        (["image"], "video", False),  # a video item is not its cover
        (["video"], "video", True),
        (["image"], "audio", True),
        (["video"], "audio", True),
        ([], "audio", False),
    ],
)
def test_media_without_which_an_item_can_do(roles: list[str], bad: str, survives: bool) -> None:
    fault = bad, Reject("corrupt_image", "half of it")
    if survives:
        check_remaining(roles, [fault])
    else:
        with pytest.raises(Reject, match="corrupt_image: half of it"):
            check_remaining(roles, [fault])


def test_a_medium_that_may_come_back_costs_the_item_this_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(uri: str, limits: Limits) -> AbstractContextManager[Path]:
        if uri.endswith("b.png"):
            raise Reject("fetch_failed", f"{uri}: HTTP status 503")
        return nullcontext(Path(uri))

    monkeypatch.setattr("coldstart.media.guard.local_path", fetch)
    with pytest.raises(Reject, match="fetch_failed"):
        probe(("image", draw(tmp_path / "a.png", 1)), ("image", tmp_path / "b.png"))


def test_what_an_item_does_without_is_named_without_secrets() -> None:
    uri = "https://me:word@host.example/a.jpg?signature=abc"
    entry = bad_medium("image", uri, Reject("not_found", f"{uri}: HTTP status 404"))
    assert entry["uri"] == "https://***@host.example/a.jpg?signature=***"
    assert entry["detail"] == "https://***@host.example/a.jpg?signature=***: HTTP status 404"
