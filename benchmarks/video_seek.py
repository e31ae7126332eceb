"""8 frames of a long video: seeking against decoding everything, and against a shorter video.

    python -m benchmarks.video_seek [--short]

Makes a 10-minute and a 1-minute 640 x 360 H.264 video (25 frames a second, a key frame every 250) under `.bench/`, then
times, interleaved in three rounds on one codec thread, `sample_frames` with both policies and the plain way: decode
every frame and keep 8. Prints JSON; ratios are of medians. `--short` takes 1 minute and 10 seconds instead.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.report import CACHE, Row
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.video import sample_frames

FPS, WIDTH, HEIGHT, GOP = 25, 640, 360, 250
TRANSFORM = ImageTransform((224, 224), "shortest")
COUNT, ROUNDS = 8, 3


def make_video(seconds: int) -> Path:
    """A moving test pattern: drifting gradients, a running block, and noise that keeps the coder busy."""
    path = CACHE / f"pattern_{seconds}s_{WIDTH}x{HEIGHT}_gop{GOP}.mp4"
    if path.exists():
        return path
    CACHE.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    grain = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH), dtype=np.uint8)
    options = {"preset": "ultrafast", "crf": "28", "sc_threshold": "0"}
    with av.open(partial, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = GOP
        for i in range(seconds * FPS):
            pixels = np.stack([x + 2 * i, y + i, x + y + 3 * i], axis=2).astype(np.uint8)
            pixels[..., 1] ^= np.roll(grain, i, axis=1)
            left = i * 5 % (WIDTH - 60)
            pixels[150:210, left : left + 60] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return partial.rename(path)


def decode_all(path: Path) -> list[np.ndarray]:
    """The plain way: every frame is decoded, the frames on screen at the 8 middles are converted and kept."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        duration = float(stream.duration * stream.time_base)
        wanted = [int(duration * (i + 0.5) / COUNT * FPS) for i in range(COUNT)]
        kept = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(container.decode(stream)) if i in wanted]
    return [TRANSFORM.apply(Image.fromarray(pixels)) for pixels in kept]


def run(short: bool = False) -> dict[str, Any]:
    """Median seconds of each way and their ratios; how far the pixels of the two ways lie apart."""
    long, brief = (60, 10) if short else (600, 60)
    paths = {seconds: make_video(seconds) for seconds in (long, brief)}
    limits = Limits()
    ways: dict[str, Callable[[], Any]] = {
        "uniform": lambda: sample_frames(paths[long], limits, TRANSFORM, COUNT),
        "keyframe": lambda: sample_frames(paths[long], limits, TRANSFORM, COUNT, policy="keyframe"),
        "uniform_brief": lambda: sample_frames(paths[brief], limits, TRANSFORM, COUNT),
        "decode_all": lambda: decode_all(paths[long]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    apart = [
        float(np.abs(ours.astype(int) - plain).mean())
        for ours, plain in zip(ways["uniform"]().images, ways["decode_all"](), strict=True)
    ]
    return {
        "video_s": long,
        "brief_s": brief,
        **{f"{name}_s": round(seconds, 4) for name, seconds in median.items()},
        "decode_all_over_uniform": round(median["decode_all"] / median["uniform"], 1),
        "decode_all_over_keyframe": round(median["decode_all"] / median["keyframe"], 1),
        "uniform_long_over_brief": round(median["uniform"] / median["uniform_brief"], 2),
        "mean_difference_of_255": round(max(apart), 2),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = f"8 frames of {result['video_s']} s, 640 x 360, H.264, a key frame every 10 s"
    brief = f"8 frames of {result['video_s']} s over those of {result['brief_s']} s"
    return [
        Row("full decoding over uniform frames by seeking", setting, f"{result['decode_all_over_uniform']}", ""),
        Row("full decoding over nearest key frames", setting, f"{result['decode_all_over_keyframe']}", ""),
        Row("cost of a long video over a short one", brief, f"{result['uniform_long_over_brief']}", "", "about 1"),
    ]


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
