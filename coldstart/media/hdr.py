"""Tone-map frames and pictures of high dynamic range, PQ or HLG, to the RGB that an ordinary screen shows.

Without it they are washed out. Sources: ITU-R BT.2100-2 for both curves, and HLG as a screen of 1000 cd/m² shows
it; BT.2408-7 for reference white at 203 cd/m²; BT.2390-11, section 5.4.1, for the curve that bends what is brighter
into the range below; BT.2087-0 for the primaries. That curve is laid over the brightest channel of each pixel, which
keeps its hue, and starts from the brightest of the frame itself, so that a frame that is nowhere brighter than white
keeps its values. Dolby Vision without a PQ or HLG base is not known. Workers import this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PQ, HLG = 16, 18
"""Curves that `tone_map` takes, by their codes in ITU-T H.273, which are those of FFmpeg, HEIF and AVIF."""

Light = npt.NDArray[np.float32]
"""float32 [H, W, 3], linear RGB in cd/m²."""

_WHITE, _HLG_PEAK, _PQ_PEAK = 203.0, 1000.0, 10_000.0  # cd/m²
_BRIGHTEST = 99.9  # percentile of a frame: single bright pixels do not darken the rest
_DISPLAY_GAMMA = 2.4  # BT.1886
_LUMA_2020 = np.array((0.2627, 0.6780, 0.0593), np.float32)
_TO_709 = {  # by the codes of ITU-T H.273; 9 is BT.2020
    12: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),  # P3
    1: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
_TO_709_FROM_2020 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))


def tone_map(pixels: npt.NDArray[np.uint16], curve: int, primaries: int) -> npt.NDArray[np.uint8]:
    """Convert R'G'B' of high dynamic range, uint16 [H, W, 3], to uint8 [H, W, 3].

    Args:
        curve: `PQ` or `HLG`.
        primaries: code in ITU-T H.273; unknown ones are taken for those of BT.2020.
    """
    light = _hlg_light(pixels) if curve == HLG else _PQ_LIGHT[pixels]
    brightest = light.max(axis=2)
    peak = float(np.percentile(brightest, _BRIGHTEST))
    if peak > _WHITE:
        light *= (_compress_highlights(brightest, peak) / np.maximum(brightest, 1e-6))[..., None]
    matrix = np.array(_TO_709.get(primaries, _TO_709_FROM_2020), np.float32)
    shown = np.clip(light @ matrix.T / _WHITE, 0.0, 1.0) ** np.float32(1 / _DISPLAY_GAMMA)
    pixels_8bit: npt.NDArray[np.uint8] = np.round(shown * 255).astype(np.uint8)
    return pixels_8bit


def _compress_highlights(light: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Compress light of up to `peak` cd/m² to white and below, by the curve of BT.2390 for two blacks of zero."""
    top, white = _pq_code(np.array((peak, _WHITE)))
    highest = white / top
    knee = 1.5 * highest - 0.5
    codes = np.linspace(0.0, 1.0, 1024)
    t = np.maximum(codes - knee, 0.0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * highest
    bent = np.where(codes < knee, codes, spline)
    shown: npt.NDArray[np.float32] = np.interp(light, _pq_light(codes * top), _pq_light(bent * top)).astype(np.float32)
    return shown


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(code: npt.NDArray[Any]) -> npt.NDArray[Any]:
    power = code ** (1 / _M2)
    return _PQ_PEAK * (np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _pq_code(light: npt.NDArray[Any]) -> npt.NDArray[Any]:
    power = (light / _PQ_PEAK) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * np.log(4 * _A)


def _hlg_light(pixels: npt.NDArray[np.uint16]) -> Light:
    scene = _HLG_SCENE[pixels]
    luminance = np.maximum(scene @ _LUMA_2020, 1e-6)
    light: Light = scene * (_HLG_PEAK * luminance**0.2)[..., None]  # the system gamma of 1.2 for this peak
    return light


_CODES = np.linspace(0.0, 1.0, 2**16)
_PQ_LIGHT = _pq_light(_CODES).astype(np.float32)
_HLG_SCENE = np.where(_CODES <= 0.5, _CODES**2 / 3, (np.exp((_CODES - _C) / _A) + _B) / 12).astype(np.float32)
