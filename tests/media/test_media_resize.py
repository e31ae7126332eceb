import numpy as np
import pytest
from PIL import Image
from poison import noise

from coldstart.media import resize
from coldstart.media.resize import RESAMPLE, resize_rgb

SIZES = [(640, 480), (171, 256), (33, 517), (224, 100)]
WHOLE_AND_PARTS = [(0.0, 0.0, 1.0, 1.0), (0.125, 0.0, 0.875, 1.0), (0.031, 0.2, 0.97, 0.713)]
"""Boxes, as shares of width and height."""


def pictures(size: tuple[int, int]) -> list[Image.Image]:
    """Make noise, which no photograph is as sharp as, and a smooth picture."""
    smooth = Image.fromarray(noise(7, 5)).resize(size, Image.Resampling.BICUBIC)
    return [Image.fromarray(noise(*size)), smooth]


@pytest.mark.skipif(resize.fast is None, reason="no build of cykooz_resizer for this machine")
@pytest.mark.parametrize("shares", WHOLE_AND_PARTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_pillow(
    size: tuple[int, int], shares: tuple[float, ...], interpolation: resize.Interpolation
) -> None:
    width, height = size
    box = (shares[0] * width, shares[1] * height, shares[2] * width, shares[3] * height)
    for image in pictures(size):
        for target in ((224, 224), (100, 31), (500, 700)):
            ours = resize_rgb(image, target, box, interpolation)
            theirs = np.asarray(image.resize(target, RESAMPLE[interpolation], box=box))
            apart = np.abs(ours.astype(int) - theirs)
            assert ours.shape == theirs.shape and ours.flags.writeable
            assert apart.max() <= 2, (target, apart.max())
            assert (apart > 1).mean() < 1e-3 and (apart > 0).mean() < 0.02, target


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_pillow_resizes_where_nothing_faster_is_installed(
    interpolation: resize.Interpolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resize, "fast", None)
    image, box = Image.fromarray(noise(64, 48)), (3.0, 0.0, 60.5, 48.0)
    expected = np.asarray(image.resize((20, 30), RESAMPLE[interpolation], box=box))
    np.testing.assert_array_equal(resize_rgb(image, (20, 30), box, interpolation), expected)


def test_nearest_is_exactly_that_of_pillow() -> None:
    image = Image.fromarray(noise(64, 48))
    expected = np.asarray(image.resize((20, 30), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_rgb(image, (20, 30), (0, 0, 64, 48), "nearest"), expected)
