"""Shot detectors against known cuts, and what blur does to the measure of sharpness.

    python -m benchmarks.shots [--short]

Three kinds of truth: the sample's videos, whose shots fade in for a quarter of a second; real clips of one shot each,
joined by hard cuts at random (other pieces than those that thresholds were chosen on); and the same real clips whole,
in which every cut is false. Real clips come from `COLDSTART_DATA`; without them only the sample is measured. A cut
counts where it lies within 0.25 s of a true one. `--short` takes a sixth of the
real clips, and one video of each kind for the network.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.report import Row
from coldstart import sample
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.loaders import LONGEST
from coldstart.media.video import sample_frames
from coldstart.media.video_loaders import MAX_FPS, ShotFrames, walk_frames
from coldstart.understand.quality_measures import measure_quality
from coldstart.understand.shot_detectors import SceneDetect, TransNet
from coldstart.understand.shots import ShotDetector, end_of

BOUND_S = 0.25
SMALL = ImageTransform((27, 48), "squash", "bilinear")
CUT = ("cc_test", "lf_2", "msvd_0lh", "msvd_j2Dhf", "v2d_test", "intel_car")
"""Real clips with cuts of their own, seen by eye."""
SIGMAS = (0, 1, 2, 4)
Film = tuple[ShotFrames, list[float]]


def watch(path: Path) -> ShotFrames:
    times_s, frames = zip(*walk_frames(path, Limits(), SMALL, fps=MAX_FPS), strict=True)
    return ShotFrames(np.array(times_s), np.stack(frames))


def sample_films() -> Iterator[Film]:
    folder = Path(sample.__file__).parent
    for line in (folder / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        path = folder / "videos" / f"{truth['item_id']}.mp4"
        if path.exists():
            yield watch(path), [shot["start_s"] for shot in truth["shots"]][1:]


def real_clips(short: bool) -> list[Path]:
    """Real clips of one shot each."""
    folder = Path(os.environ.get("COLDSTART_DATA", "../shared/data")) / "videos_real" / "videos"
    paths = sorted(path for path in folder.glob("*") if not path.name.startswith(CUT))
    return paths[::6] if short else paths


def joined(clips: Sequence[ShotFrames], count: int, seed: int = 1) -> Iterator[Film]:
    """Films of ten pieces of 0.8 to 3 s, no two neighbours from one clip."""
    choice = random.Random(seed)
    for _ in range(count):
        times, frames, cuts, now_s, last = [], [], [], 0.0, None
        for _ in range(10):
            clip = choice.choice([clip for clip in clips if clip is not last])
            last, length_s = clip, choice.uniform(0.8, 3.0)
            start_s = choice.uniform(0, max(0.0, float(clip.times_s[-1]) - length_s))
            piece = (clip.times_s >= start_s) & (clip.times_s < start_s + length_s)
            if piece.sum() < 5:
                continue
            own = clip.times_s[piece]
            cuts += [now_s] if now_s else []
            times.append(own - own[0] + now_s)
            frames.append(clip.frames[piece])
            now_s += end_of(own - own[0])
        yield ShotFrames(np.concatenate(times), np.concatenate(frames)), cuts


def score(detector: ShotDetector, films: Sequence[Film]) -> dict[str, float]:
    """Cuts found, true and rightly found, and the milliseconds for a second of video."""
    found = true = hits = 0
    video_s = taken_s = 0.0
    for watched, cuts in films:
        start = time.perf_counter()
        shots = detector.detect(watched.times_s, watched.frames)
        taken_s += time.perf_counter() - start
        video_s += end_of(watched.times_s)
        left = [shot.start_s for shot in shots][1:]
        found, true = found + len(left), true + len(cuts)
        for cut in cuts:
            near = [time_s for time_s in left if abs(time_s - cut) <= BOUND_S + 1e-3]
            if near:
                left.remove(min(near, key=lambda time_s: abs(time_s - cut)))
                hits += 1
    return {
        "found": found,
        "true": true,
        "hits": hits,
        "video_s": round(video_s),
        "ms_per_s": round(1000 * taken_s / video_s, 2),
    }


def blur(paths: Sequence[Path]) -> dict[str, list[float]]:
    """Sigma of a Gaussian blur at full size -> 5th, 25th, 50th, 75th and 95th percentile of sharpness over clips."""
    full, small = ImageTransform((4096, 4096), "longest"), ImageTransform((LONGEST, LONGEST), "longest")
    values: dict[int, list[float]] = {sigma: [] for sigma in SIGMAS}
    for path in paths:
        frames = sample_frames(path, Limits(), full, 4).images
        for sigma in SIGMAS:
            copies = [cv2.GaussianBlur(frame, (0, 0), sigma) if sigma else frame for frame in frames]
            sharp = measure_quality([small.apply(Image.fromarray(copy)) for copy in copies]).sharpness
            values[sigma] += [] if sharp is None else [sharp]
    return {str(sigma): np.percentile(own, [5, 25, 50, 75, 95]).round(0).tolist() for sigma, own in values.items()}


def run(short: bool = False) -> dict[str, Any]:
    """Scores of each detector on each kind of truth, and percentiles of sharpness."""
    cv2.setNumThreads(1)
    films = {"fades of the sample": list(sample_films())}
    paths = real_clips(short)
    if paths:
        clips = [watch(path) for path in paths]
        clips = [clip for clip in clips if len(clip.times_s) >= 10]
        films["joined real clips"] = list(joined(clips, 4 if short else 12))
        films["real clips of one shot"] = [(clip, []) for clip in clips]
    network = {kind: own[:1] if short else own[::3] for kind, own in films.items()}
    return {
        "scenedetect": {kind: score(SceneDetect(), own) for kind, own in films.items()},
        "transnetv2": {kind: score(TransNet("cpu"), own) for kind, own in network.items()},
        "sharpness": blur(paths) if paths else {},
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for name in ("scenedetect", "transnetv2"):
        for kind, own in result[name].items():
            setting = f"{own['true']} true cuts in {own['video_s']} s"
            figure = f"{own['hits']} of {own['true']} found, {own['found'] - own['hits']} false"
            lines.append(Row(f"shots by {name}: {kind}", setting, figure, f"{own['ms_per_s']} ms a second of video"))
    for sigma, (low, _, middle, _, high) in result["sharpness"].items():
        figure, spread = f"{middle:.0f}", f"{low:.0f} to {high:.0f}"
        lines.append(Row(f"sharpness after a blur of sigma {sigma}", "real clips, median; 5 to 95 %", figure, spread))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
