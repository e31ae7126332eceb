"""Colours of frames: high dynamic range is brought to that of an ordinary screen; stated matrix and range are kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from coldstart.media.hdr import HLG, PQ, _hlg_light, _pq_code, _pq_light, tone_map
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.video import sample_frames

WHOLE = ImageTransform((10_000, 10_000), "longest")
PATCH = 16
COLOURS = np.array(
    [
        *((0, 0, 0), (64, 64, 64), (128, 128, 128), (192, 192, 192), (255, 255, 255), (255, 0, 0)),
        *((0, 255, 0), (0, 0, 255), (200, 120, 80), (80, 120, 200), (255, 255, 0), (0, 128, 128)),
    ],
    np.uint8,
).reshape(3, 4, 3)
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087-0
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # BT.709, BT.601, BT.2020: weights of red and blue
BT709, BT2020 = 1, 9


def write(
    path: Path, signal: np.ndarray, matrix: int, *, full: bool = False, curve: int = 1, primaries: int = 1
) -> Path:
    """A lossless clip of 0.3 s with patches of R'G'B' `signal` [H, W, 3], 0 to 1, in ten bits."""
    red, blue = LUMA[matrix]
    luma = signal @ np.array((red, 1 - red - blue, blue))
    planes = (luma, (signal[..., 2] - luma) / (2 - 2 * blue), (signal[..., 0] - luma) / (2 - 2 * red))
    coded = [
        np.round(plane * (1023 if full else 876 if place == 0 else 896) + (512 if place else 0 if full else 64))
        for place, plane in enumerate(planes)
    ]
    sized = [np.kron(plane.clip(0, 1023).astype(np.uint16), np.ones((PATCH, PATCH), np.uint16)) for plane in coded]
    height, width = sized[0].shape
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p10le"
        marks = {
            "colorspace": matrix,
            "color_range": 2 if full else 1,
            "color_trc": curve,
            "color_primaries": primaries,
        }
        for name, value in marks.items():
            setattr(stream.codec_context, name, value)
        for number in range(3):
            frame = av.VideoFrame(width, height, "yuv444p10le")
            for plane, values in zip(frame.planes, sized, strict=True):
                row = np.zeros((height, plane.line_size // 2), np.uint16)
                row[:, :width] = values
                plane.update(row.tobytes())
            for name, value in marks.items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def patches(image: np.ndarray) -> np.ndarray:
    return image[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].astype(int)


def shown(path: Path) -> np.ndarray:
    return patches(sample_frames(path, Limits(), WHOLE, 1).images[0])


def coded_hdr(light: np.ndarray, curve: int) -> np.ndarray:
    """The signal of linear BT.2020 light in cd/m², by BT.2100-2: PQ, or HLG for a screen of 1000 cd/m²."""
    if curve == PQ:
        return _pq_code(light)
    luminance = np.maximum(light @ np.array((0.2627, 0.6780, 0.0593)) / 1000, 1e-9)
    scene = light / 1000 * (luminance ** (1 / 1.2 - 1))[..., None]
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


@pytest.mark.parametrize("curve", [PQ, HLG])
def test_ordinary_colours_in_a_clip_of_high_dynamic_range_keep_their_values(tmp_path: Path, curve: int) -> None:
    """White lies at 203 cd/m² (BT.2408): what was graded for an ordinary screen comes back, where it was washed out."""
    light = (COLOURS / 255) ** 2.4 @ TO_2020.T * 203
    path = write(tmp_path / "hdr.mkv", coded_hdr(light, curve), 9, curve=curve, primaries=BT2020)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        assert frame.color_trc == curve
        washed = np.abs(patches(frame.to_ndarray(format="rgb24")) - COLOURS).mean()
    mapped = np.abs(shown(path) - COLOURS).mean()
    assert washed > 35
    assert mapped < 4  # most of it in channels that are all but black


def test_highlights_are_bent_below_white_and_keep_their_order(tmp_path: Path) -> None:
    levels = np.array([[10, 50, 100, 203, 400, 1000]], float)
    path = write(
        tmp_path / "bright.mkv",
        coded_hdr(np.repeat(levels[..., None], 3, 2), PQ),
        9,
        curve=PQ,
        primaries=BT2020,
    )
    grey = shown(path)[0, :, 1]
    plain = 255 * (levels[0] / 203) ** (1 / 2.4)
    assert grey[:2] == pytest.approx(plain[:2], abs=1.5)  # below the knee nothing changes
    assert list(grey) == sorted(set(grey))
    assert 205 < grey[3] < 245 and grey[5] == pytest.approx(255, abs=1)


def test_bright_colours_keep_their_hue() -> None:
    light = np.zeros((8, 8, 3))
    light[:] = (1000, 500, 250)
    code = np.round(_pq_code(light) * 65535).astype(np.uint16)
    linear = (tone_map(code, PQ, BT709)[0, 0] / 255) ** 2.4
    assert linear / linear[0] == pytest.approx([1, 0.5, 0.25], abs=0.01)


def test_curves_equal_the_recommendations() -> None:
    """BT.2408-7, table 1: reference white, 203 cd/m², is 58 % of PQ and 75 % of HLG; BT.2100-2: PQ ends at 10,000."""
    assert _pq_code(np.array([203.0, 1000.0, 10_000.0])) == pytest.approx([0.5807, 0.7518, 1.0], abs=1e-4)
    assert _pq_light(np.array([0.0, 0.5081, 1.0])) == pytest.approx([0.0, 100.0, 10_000.0], rel=1e-3)
    grey = np.array([0.0, 0.75, 1.0])[:, None, None] * np.full((1, 1, 3), 65535)
    assert _hlg_light(np.round(grey).astype(np.uint16))[:, 0, 1] == pytest.approx([0.0, 203, 1000], abs=1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_matrix_and_range_are_those_that_the_file_states(tmp_path: Path, matrix: int, full: bool) -> None:
    path = write(tmp_path / "sdr.mkv", COLOURS / 255, matrix, full=full)
    assert np.abs(shown(path) - COLOURS).max() <= 2


@pytest.mark.parametrize("curve", [PQ, HLG])
def test_a_heic_of_high_dynamic_range_is_tone_mapped(tmp_path: Path, curve: int) -> None:
    signal = coded_hdr((COLOURS / 255) ** 2.4 @ TO_2020.T * 203, curve)
    codes = np.kron(np.round(signal * 65535).astype(np.uint16), np.ones((PATCH, PATCH, 1), np.uint16))
    path = tmp_path / "photo.heic"
    picture = pillow_heif.from_bytes("RGB;16", (codes.shape[1], codes.shape[0]), codes.tobytes())
    marks = {"color_primaries": BT2020, "matrix_coefficients": 9, "full_range_flag": 1}
    picture.save(path, quality=-1, chroma=444, transfer_characteristics=curve, **marks)
    found = patches(load_image(path, Limits(), WHOLE))
    assert np.abs(found - COLOURS).mean() < 8  # of the curve, eight bits are left by the reader
    assert np.abs(patches(codes / 257) - COLOURS).mean() > 35


def test_an_avif_says_by_its_box_of_colours_whether_it_is_of_high_dynamic_range(tmp_path: Path) -> None:
    path = tmp_path / "photo.avif"
    Image.new("RGB", (64, 48), (100, 100, 100)).save(path, quality=100)
    plain = path.read_bytes()
    assert load_image(path, Limits(), WHOLE)[5, 5] == pytest.approx([100] * 3, abs=2)
    place = plain.index(b"colrnclx") + 8
    marked = plain[:place] + bytes((0, BT2020, 0, PQ)) + plain[place + 4 :]
    path.write_bytes(marked)
    light = float(_pq_light(np.array(100 / 255)))
    assert load_image(path, Limits(), WHOLE)[5, 5] == pytest.approx([255 * (light / 203) ** (1 / 2.4)] * 3, abs=3)
    path.write_bytes(marked + plain[place - 8 : place + 4])  # a second picture, that is not
    assert load_image(path, Limits(), WHOLE)[5, 5] == pytest.approx([100] * 3, abs=2)
