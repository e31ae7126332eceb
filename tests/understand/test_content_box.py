"""The box that a plain border encloses: where it is found, and where there is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_fingerprint import scene

from coldstart.understand.content_box import READ_SIDE, border_widths, find_box


def read(picture: NDArray[np.uint8], quality: int = 60) -> NDArray[np.uint8]:
    """The picture as a JPEG, squeezed: uint8 [1, S, S, 3]."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    again = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.resize(again, (READ_SIDE, READ_SIDE), interpolation=cv2.INTER_AREA), np.uint8)[None]


def edged(picture: NDArray[np.uint8], down: int, across: int, level: int) -> NDArray[np.uint8]:
    found = cv2.copyMakeBorder(picture, down, down, across, across, cv2.BORDER_CONSTANT, value=(level, level, 90))
    return np.asarray(found, np.uint8)


@pytest.mark.parametrize(("down", "across"), [(67, 0), (0, 67), (31, 31), (9, 9)])
@pytest.mark.parametrize("level", [0, 200, 255])
def test_borders_of_any_colour_are_found_to_half_a_hundredth(down: int, across: int, level: int) -> None:
    for quality in (90, 40):
        box = find_box(border_widths(read(edged(scene(4), down, across, level), quality)))
        assert box is not None
        for (start, end), width in zip(box, (down, across), strict=True):
            share = width / (384 + 2 * width)
            assert (start, end) == pytest.approx((share, 1 - share), abs=0.006)


def test_a_soft_edge_is_found_at_its_middle() -> None:
    box = find_box(border_widths(read(np.asarray(cv2.GaussianBlur(edged(scene(4), 67, 0, 0), (0, 0), 3), np.uint8))))
    assert box is not None and box[0] == pytest.approx((67 / 518, 451 / 518), abs=0.008)


def test_a_picture_without_a_border_or_of_one_colour_has_no_box() -> None:
    assert find_box(border_widths(read(scene(4)))) is None
    assert find_box(border_widths(read(np.full((90, 90, 3), 40, np.uint8)))) is None
    assert find_box(border_widths(read(edged(scene(4)[:60, :60], 200, 200, 0)))) is None  # hardly a picture
    assert find_box(np.zeros((0, 4))) is None


def test_frames_of_a_video_have_one_box_that_dark_and_black_ones_leave_as_it_is() -> None:
    shown = border_widths(read(edged(scene(4), 67, 0, 0)))
    dark = np.array([[0.4, 0.4, 0.2, 0.2]])
    black = border_widths(np.zeros((3, READ_SIDE, READ_SIDE, 3), np.uint8))
    assert (black == 1).all()
    assert find_box(np.concatenate([black, dark, shown, shown, dark, shown])) == find_box(shown)
    title = np.zeros((1, 4))  # words in the bar, in a few frames
    assert find_box(np.concatenate([title, *[shown] * 12])) == find_box(shown)
    assert find_box(np.concatenate([title, *[shown] * 4])) is None
