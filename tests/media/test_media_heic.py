"""HEIC and AVIF: read upright, the primary picture of several, within the limits."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from pillow_heif.constants import HeifCompressionFormat
from pillow_heif.misc import CtxEncode
from poison import noise

from coldstart.core.stage import Reject
from coldstart.media.guard import sniff_format
from coldstart.media.image import ImageInfo, ImageTransform, load_image, probe_image
from coldstart.media.limits import Limits

LIMITS = Limits()
WHOLE = ImageTransform((10_000, 10_000), "longest")
UPRIGHT = {  # what viewers do with a picture of each EXIF orientation
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


def write_heic(path: Path, pixels: np.ndarray, orientation: int = 1) -> Path:
    """A HEIC file whose boxes `irot` and `imir` turn it, and whose EXIF says the same, as phones write them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoder = CtxEncode(HeifCompressionFormat.HEVC, quality=95)
    height, width = pixels.shape[:2]
    encoder.add_image(
        (width, height), "RGB", pixels.tobytes(), image_orientation=orientation, exif=exif.tobytes(), stride=0
    )
    encoder.save(str(path))
    return path


def of_size(content: bytes, width: int, height: int) -> bytes:
    """The file with another size in each of its headers (boxes `ispe`)."""
    head, *rest = content.split(b"ispe\0\0\0\0")
    return head + b"".join(b"ispe\0\0\0\0" + struct.pack(">II", width, height) + part[8:] for part in rest)


def reason(path: Path, limits: Limits = LIMITS) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        probe_image(path, limits)
        load_image(path, limits, WHOLE)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photo_is_turned_upright_once(tmp_path: Path, orientation: int) -> None:
    stored = noise(64, 48)
    path = write_heic(tmp_path / "IMG_1.HEIC", stored, orientation)
    wanted = UPRIGHT[orientation](stored)
    assert probe_image(path, LIMITS) == ImageInfo(wanted.shape[1], wanted.shape[0], "HEIF", 1)
    found = load_image(path, LIMITS, WHOLE)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 8


def test_the_primary_picture_of_several(tmp_path: Path) -> None:
    file = pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red"))
    file.add_from_pillow(Image.new("RGB", (96, 80), "blue"))
    file.add_from_pillow(Image.new("RGB", (32, 40), "lime"))
    path = tmp_path / "several.heic"
    file.save(path, primary_index=1)
    assert probe_image(path, LIMITS) == ImageInfo(96, 80, "HEIF", 3)
    image = load_image(path, LIMITS, WHOLE)
    assert image.shape == (80, 96, 3)
    assert image[5, 5] == pytest.approx([0, 0, 255], abs=4)


def test_a_preview_does_not_stand_for_the_photo(tmp_path: Path) -> None:
    file = pillow_heif.from_pillow(Image.fromarray(noise(160, 120)))
    path = tmp_path / "photo.heic"
    file.save(path, quality=90)
    small = ImageTransform((32, 32), "squash")
    np.testing.assert_array_equal(load_image(path, LIMITS, small), load_image(path, LIMITS, small, shrink=False))


@pytest.mark.parametrize("side", [9000, 20_000, 2**31 - 1])
def test_a_coded_size_over_the_limit_is_refused_before_decoding(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_heic(tmp_path / "photo.heic", noise(64, 48)).read_bytes()
    (tmp_path / "bomb.heic").write_bytes(of_size(content, side, side))
    shown = load_image(tmp_path / "photo.heic", LIMITS, WHOLE)
    assert shown.shape == (48, 64, 3)  # cropped from the 64 x 64 that are coded, and so is the large one
    monkeypatch.setattr(Image.OPEN["HEIF"][0], "load", lambda self: pytest.fail("it was decoded"))
    assert reason(tmp_path / "bomb.heic") == (
        "too_many_pixels",
        f"{side} x {side} pixels coded; the limit is 64000000",
    )


def test_reasons(tmp_path: Path) -> None:
    whole = write_heic(tmp_path / "photo.heic", noise(64, 48))
    content = whole.read_bytes()
    small = Limits(max_pixels=64 * 48 - 1)
    assert reason(whole, small) == ("too_many_pixels", "64 x 48 pixels; the limit is 3071")
    path = tmp_path / "broken.heic"
    path.write_bytes(content[:100])
    assert reason(path) == ("corrupt_image", "broken heic header")
    path.write_bytes(content[:24] + bytes(500))
    assert reason(path) == ("corrupt_image", "broken heic header")
    path.write_bytes(of_size(content, 32, 32))
    assert reason(path)[0] == "corrupt_image"


def test_bytes_changed_inside_never_raise_anything_but_reject(tmp_path: Path) -> None:
    content = write_heic(tmp_path / "photo.heic", noise(48, 40)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "changed.heic"
    verdicts = set()
    for _ in range(40):
        changed = bytearray(content)
        for place in rng.integers(0, len(changed), 5):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            load_image(path, LIMITS, WHOLE)
        except Reject as reject:
            verdicts.add(reject.reason)
    assert {"corrupt_image"} <= verdicts <= {"corrupt_image", "unsupported_media", "too_many_pixels", "too_small"}


def test_the_brands_tell_heic_from_avif(tmp_path: Path) -> None:
    heic = write_heic(tmp_path / "photo.heic", noise(64, 48))
    avif = tmp_path / "photo.avif"
    Image.fromarray(noise(64, 48)).save(avif)
    for path, known, format in ((heic, "heic", "HEIF"), (avif, "avif", "AVIF")):
        assert sniff_format(path) == known
        content = path.read_bytes()
        path.write_bytes(content[:8] + b"mif1" + content[12:])  # a brand for pictures of any codec
        assert sniff_format(path) == known
        assert probe_image(path, LIMITS) == ImageInfo(64, 48, format, 1)
        assert load_image(path, LIMITS, WHOLE).shape == (48, 64, 3)


@pytest.mark.slow
def test_the_reader_is_imported_for_the_first_heic_alone(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(noise(64, 48)).save(photo)
    heic = write_heic(tmp_path / "photo.heic", noise(64, 48))
    script = (
        "import sys; from pathlib import Path; from coldstart.media.image import probe_image, Limits\n"
        f"probe_image(Path({str(photo)!r}), Limits()); before = 'pillow_heif' in sys.modules\n"
        f"probe_image(Path({str(heic)!r}), Limits()); print(before, 'pillow_heif' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
