import io
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from poison import bomb_png, jpeg, noise

from coldstart.core.stage import Reject
from coldstart.media.image import ImageInfo, ImageTransform, load_image, probe_image
from coldstart.media.limits import Limits
from coldstart.media.resize import Box, Interpolation, Pixels, resize_rgb

LIMITS = Limits()
WHOLE = ImageTransform((10_000, 10_000), "longest")


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def resizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Record the size of each picture that is resized, and the size that it gets."""
    seen: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def spy(image: Image.Image, size: tuple[int, int], box: Box, interpolation: Interpolation) -> Pixels:
        seen.append((image.size, size))
        return resize_rgb(image, size, box, interpolation)

    monkeypatch.setattr("coldstart.media.image.resize_rgb", spy)
    return seen


def reason(path: Path, limits: Limits = LIMITS) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        probe_image(path, limits)
        load_image(path, limits, WHOLE)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    "transform, size, resized",
    [
        (ImageTransform((224, 224), "shortest"), (640, 480), (298, 224)),
        (ImageTransform((224, 224), "shortest"), (480, 640), (224, 298)),
        (ImageTransform((224, 224), "shortest"), (100, 90), (248, 224)),
        (ImageTransform((260, 260), "shortest", crop_pct=0.89), (640, 480), (389, 292)),
        (ImageTransform((100, 50), "shortest"), (200, 200), (100, 100)),
        (ImageTransform((384, 256), "squash"), (640, 480), (256, 384)),
        (ImageTransform((512, 512), "longest"), (1024, 100), (512, 50)),
        (ImageTransform((512, 512), "longest"), (100, 80), (100, 80)),
        (ImageTransform((512, 512), "longest"), (5000, 1), (512, 1)),
    ],
)
def test_size_before_the_crop(transform: ImageTransform, size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert transform.resized(*size) == resized
    assert transform.resized(*resized) == resized


@pytest.mark.parametrize("size", [(640, 480), (333, 517), (225, 224), (100, 61)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_shortest_equals_torchvision(size: tuple[int, int], interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(noise(*size))
    mode = transforms.InterpolationMode(interpolation)
    reference = transforms.Compose([transforms.Resize(224, interpolation=mode), transforms.CenterCrop(224)])
    ours = ImageTransform((224, 224), "shortest", interpolation).apply(image)  # type: ignore[arg-type]
    assert ours.dtype == np.uint8
    apart = np.abs(ours.astype(int) - np.asarray(reference(image)))
    assert apart.max() <= 1 and (apart > 0).mean() < 5e-3  # Pillow rounds a box's edges to float32


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (640, 480), (171, 256)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.89])
def test_columns_that_the_crop_drops_are_not_resized(
    size: tuple[int, int], crop_pct: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = resizes(monkeypatch)
    image = Image.fromarray(noise(*size))
    transform = ImageTransform((224, 224), "shortest", crop_pct=crop_pct)
    whole = image.resize(transform.resized(*size), Image.Resampling.BICUBIC)
    left, top = round((whole.width - 224) / 2), round((whole.height - 224) / 2)
    cut = np.asarray(whole.crop((left, top, left + 224, top + 224))).astype(int)
    apart = np.abs(transform.apply(image) - cut)
    assert [width for _, (width, _) in seen] == [224]
    assert apart.max() <= 2 and (apart > 0).mean() < 0.01


def test_squash_equals_pillow() -> None:
    image = Image.fromarray(noise(300, 200))
    ours = ImageTransform((64, 96), "squash").apply(image).astype(int)
    apart = np.abs(ours - np.asarray(image.resize((96, 64), Image.Resampling.BICUBIC)))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


def test_long_strip_does_not_grow_without_bound() -> None:
    strip = Image.new("RGB", (8, 400_000), "red")
    assert ImageTransform((224, 224), "shortest").apply(strip).shape == (224, 224, 3)


def test_transform_and_limits_pickle() -> None:
    for value in (WHOLE, LIMITS):
        assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_equals_pillow(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(noise(64, 48))
    path = save(tmp_path / "photo.png", stored, exif=exif)
    with Image.open(path) as image:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(load_image(path, LIMITS, WHOLE), upright)
    info = probe_image(path, LIMITS)
    assert (info.height, info.width) == upright.shape[:2]


def test_damaged_exif_costs_only_the_orientation(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.jpg", Image.fromarray(noise(64, 48)), exif=b"Exif\x00\x00garbage")
    assert load_image(path, LIMITS, WHOLE).shape == (48, 64, 3)


def test_palette_with_a_transparent_colour_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 16, 8))
    pixels = load_image(save(tmp_path / "icon.png", image, transparency=0), LIMITS, WHOLE)
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[15, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode, value", [("RGBA", (255, 0, 0, 127)), ("LA", (0, 127))])
def test_half_transparent_on_white(tmp_path: Path, mode: str, value: tuple[int, ...]) -> None:
    pixels = load_image(save(tmp_path / "icon.png", Image.new(mode, (16, 16), value)), LIMITS, WHOLE)
    assert pixels[3, 3].tolist() == ([255, 128, 128] if mode == "RGBA" else [128, 128, 128])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "print.jpg", Image.new("CMYK", (32, 32), (0, 255, 255, 0)), quality=95)
    assert np.abs(load_image(path, LIMITS, WHOLE)[5, 5].astype(int) - [255, 0, 0]).max() <= 3


def test_sixteen_bits_keep_their_scale(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 16).astype(np.uint16).reshape(16, 64)
    for name in ("scan.png", "scan.tif"):
        pixels = load_image(save(tmp_path / name, Image.fromarray(ramp)), LIMITS, WHOLE)
        np.testing.assert_array_equal(pixels[..., 0], np.round(ramp / 257).astype(np.uint8))


def test_bilevel_and_grey(tmp_path: Path) -> None:
    assert load_image(save(tmp_path / "fax.png", Image.new("1", (9, 9), 1)), LIMITS, WHOLE)[0, 0].tolist() == [255] * 3
    assert load_image(save(tmp_path / "grey.png", Image.new("L", (9, 9), 77)), LIMITS, WHOLE)[0, 0].tolist() == [77] * 3


def test_floating_point_pixels_are_turned_away(tmp_path: Path) -> None:
    path = save(tmp_path / "depth.tif", Image.new("F", (9, 9), 0.5))
    assert reason(path) == ("unsupported_media", "pixel mode F")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animated_files_give_their_first_frame(tmp_path: Path, format: str) -> None:
    frames = [Image.new("RGB", (32, 24), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    path = tmp_path / "anim"
    frames[0].save(path, format, save_all=True, append_images=frames[1:], **options)
    assert probe_image(path, LIMITS) == ImageInfo(32, 24, format, 3)
    assert load_image(path, LIMITS, WHOLE)[0, 0].tolist() == [255, 0, 0]


def test_content_decides_the_type(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(jpeg(64, 48))
    assert probe_image(path, LIMITS) == ImageInfo(64, 48, "JPEG", 1)


@pytest.mark.parametrize("size", [(1600, 1200), (1201, 1777), (900, 899), (640, 480)])
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_shrink_on_load_stays_close_to_full_decoding(tmp_path: Path, size: tuple[int, int], resize: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "photo.jpg", Image.fromarray(noise(*size)), quality=95, exif=exif)
    transform = ImageTransform((224, 224), resize)  # type: ignore[arg-type]
    shrunk, full = (load_image(path, LIMITS, transform, shrink=shrink).astype(int) for shrink in (True, False))
    assert shrunk.shape == full.shape
    assert np.abs(shrunk - full).mean() < 2.0  # of 255, on detail far harsher than photographs have


def test_shrink_never_goes_below_twice_the_wanted_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = resizes(monkeypatch)
    path = save(tmp_path / "photo.jpg", Image.fromarray(noise(1800, 1000)))
    for side in (60, 100, 240, 260, 600):
        load_image(path, LIMITS, ImageTransform((side, side), "shortest"))
    assert [stored for stored, _ in seen] == [(225, 125), (450, 250), (900, 500), (1800, 1000), (1800, 1000)]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_truncated_images_are_rejected(tmp_path: Path, format: str, keep: float) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(320, 240)).save(file, format)
    path = tmp_path / "photo"
    path.write_bytes(file.getvalue()[: int(len(file.getvalue()) * keep)])
    assert reason(path)[0] == "corrupt_image"


def test_reasons_and_details(tmp_path: Path) -> None:
    cases: list[tuple[bytes, Limits, tuple[str, str]]] = [
        (b"", LIMITS, ("empty_file", "0 bytes")),
        (b"hello " * 9, LIMITS, ("unsupported_media", "not an image: looks like text")),
        (b"<?xml?><svg/>", LIMITS, ("unsupported_media", "not an image: looks like svg")),
        (b"%PDF-1.7 ", LIMITS, ("unsupported_media", "not an image: looks like pdf")),
        (bytes(range(256)), LIMITS, ("unsupported_media", "not an image: looks like unknown bytes")),
        (b"\xff\xd8\xff\xe0", LIMITS, ("corrupt_image", "broken jpeg header")),
        (
            jpeg(32, 24),
            Limits(max_image_bytes=100),
            ("too_many_bytes", f"{len(jpeg(32, 24))} bytes; the limit for images is 100"),
        ),
        (jpeg(32, 24), Limits(max_pixels=767), ("too_many_pixels", "32 x 24 pixels; the limit is 767")),
        (jpeg(32, 7), LIMITS, ("too_small", "32 x 7 pixels; the shorter side must be at least 8")),
        (bomb_png(10_000), LIMITS, ("too_many_pixels", "10000 x 10000 pixels; the limit is 64000000")),
    ]
    for content, limits, expected in cases:
        path = tmp_path / "photo.jpg"
        path.write_bytes(content)
        assert reason(path, limits) == expected


def test_bomb_is_refused_by_its_header_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_png())
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    assert reason(path)[0] == "too_many_pixels"
    assert before == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


def test_bytes_changed_inside_never_raise_anything_but_reject(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "photo"
    verdicts = set()
    for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"):
        file = io.BytesIO()
        Image.fromarray(noise(48, 40)).save(file, format)
        for _ in range(25):
            content = bytearray(file.getvalue())
            for place in rng.integers(0, len(content), 5):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                load_image(path, LIMITS, WHOLE)
            except Reject as reject:
                verdicts.add(reject.reason)
    assert {"corrupt_image"} <= verdicts <= {"corrupt_image", "unsupported_media", "too_many_pixels", "too_small"}


@pytest.mark.slow
def test_text_chunk_bomb_in_a_png(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"note\x00\x00" + zlib.compress(bytes(80_000_000), 9))
    body = chunk(b"IDAT", zlib.compress(bytes(17 * 16))) + chunk(b"IEND", b"")
    path = tmp_path / "note.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + text + body)
    assert reason(path)[0] == "corrupt_image"
