"""JPEG files that end early: read where every pixel is there, refused where rows are missing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from poison import noise

from coldstart.core.stage import Reject
from coldstart.media.image import ImageTransform, load_image, probe_image
from coldstart.media.jpeg import with_end_mark
from coldstart.media.limits import Limits

LIMITS = Limits()
WHOLE = ImageTransform((10_000, 10_000), "longest")
KINDS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0, "quality": 95},
    "restarts": {"restart_marker_blocks": 2},
    "progressive with restarts": {"progressive": True, "restart_marker_blocks": 2},
}


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_without_the_end_mark_all_pixels_are_read(tmp_path: Path, kind: str, missing: int) -> None:
    content = encoded(Image.fromarray(noise(90, 70)), **KINDS[kind])
    path = tmp_path / "photo.jpg"
    path.write_bytes(content[:-missing])
    assert probe_image(path, LIMITS).width == 90
    np.testing.assert_array_equal(load_image(path, LIMITS, WHOLE), pixels(content))
    small = ImageTransform((20, 20), "squash")
    path.write_bytes(content)
    whole = load_image(path, LIMITS, small)
    path.write_bytes(content[:-missing])
    np.testing.assert_array_equal(load_image(path, LIMITS, small), whole)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_without_the_end_mark_in_other_colours(mode: str) -> None:
    content = encoded(Image.fromarray(noise(33, 17)).convert(mode))
    assert with_end_mark(content[:-2]) == content


@pytest.mark.parametrize("kind", KINDS)
def test_where_pixels_are_missing_it_is_refused(tmp_path: Path, kind: str) -> None:
    content = encoded(Image.fromarray(noise(60, 50)), **KINDS[kind])
    cuts = [*range(3, 12), *range(12, len(content) - 30, len(content) // 25)]
    assert [cut for cut in cuts if with_end_mark(content[:-cut]) is not None] == []
    path = tmp_path / "photo.jpg"
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(Reject) as caught:
        load_image(path, LIMITS, WHOLE)
    assert caught.value.reason == "corrupt_image"
    assert caught.value.detail.startswith("OSError: image file is truncated (")


def test_a_whole_file_and_another_format_are_left_alone() -> None:
    content = encoded(Image.fromarray(noise(20, 20)))
    assert with_end_mark(content) is None
    file = io.BytesIO()
    Image.fromarray(noise(20, 20)).save(file, "PNG")
    assert with_end_mark(file.getvalue()[:-2]) is None
    assert with_end_mark(b"\xff\xd8") is with_end_mark(b"") is None
    assert with_end_mark(b"\xff\xd8\xff\xc0\x00\x03\x08") is None  # a frame without components


@pytest.mark.parametrize(("format", "mark"), [("PNG", 12), ("GIF", 1)])
def test_other_formats_are_read_without_their_end_mark(tmp_path: Path, format: str, mark: int) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(40, 30)).save(file, format)
    path = tmp_path / "picture"
    path.write_bytes(file.getvalue())
    whole = load_image(path, LIMITS, WHOLE)
    path.write_bytes(file.getvalue()[:-mark])
    np.testing.assert_array_equal(load_image(path, LIMITS, WHOLE), whole)
