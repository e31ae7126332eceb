"""Made videos for benchmarks of decoding: one moving scene in four codecs, two sizes, two spacings of key frames.

Kept under `.bench/`; made when first asked for, which takes a minute or two for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from benchmarks.report import CACHE

FPS = 25
ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "28", "sc_threshold": "0"}),
    "hevc": ("libx265", {"preset": "ultrafast", "crf": "30", "x265-params": "log-level=none:scenecut=0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "36", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "12", "crf": "45", "svtav1-params": "scd=0"}),
}


@dataclass(frozen=True)
class Made:
    """One made video: `codec` of `ENCODERS`, pixels, length, and seconds from one key frame to the next."""

    codec: str
    width: int
    height: int
    seconds: int
    key_s: int

    @property
    def name(self) -> str:
        return f"{self.codec}_{self.width}x{self.height}_{self.seconds}s_key{self.key_s}s"


def make(video: Made) -> Path:
    """The file of a made video."""
    path = CACHE / f"made_{video.name}.mp4"
    if path.exists():
        return path
    CACHE.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    encoder, options = ENCODERS[video.codec]
    scene = _scene(video)
    with av.open(partial, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.codec_context.gop_size = video.key_s * FPS
        for i in range(video.seconds * FPS):
            frame = av.VideoFrame.from_ndarray(_at(scene, video, i), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return partial.rename(path)


def _scene(video: Made) -> list[np.ndarray]:
    """Brightness and two colours of a scene larger than the picture: gradients, bars and grain, uint8 [H, W] each."""
    height, width = video.height * 2, video.width * 2
    y, x = np.mgrid[:height, :width].astype(np.float32)
    random = np.random.default_rng(0)
    bars = 40 * (np.sin(x / 17) * np.sin(y / 23) > 0.4)
    luma = 60 + 80 * x / width + 40 * y / height + bars + random.normal(0, 6, (height, width))
    blue, red = 128 + 60 * np.sin(x[::2, ::2] / 90), 128 + 60 * np.cos(y[::2, ::2] / 70)
    return [np.clip(plane, 16, 235).astype(np.uint8) for plane in (luma, blue, red)]


def _at(scene: list[np.ndarray], video: Made, place: int) -> np.ndarray:
    """Frame `place`: the camera drifts over the scene and a white block runs through; uint8 [1.5 H, W], YUV 4:2:0."""
    width, height = video.width, video.height
    left = 2 * int((0.5 + 0.5 * np.sin(place / 60)) * width // 2)
    top = 2 * int((0.5 + 0.5 * np.sin(place / 83)) * height // 2)
    luma = scene[0][top : top + height, left : left + width].copy()
    run = place * 5 % (width - 60)
    luma[height // 3 : height // 2, run : run + 60] = 235
    colours = [plane[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2] for plane in scene[1:]]
    return np.concatenate([luma.ravel(), *[plane.ravel() for plane in colours]]).reshape(height * 3 // 2, width)
