"""Text on the screen of the sample videos: characters read right, lines that are not there, time.

    python -m benchmarks.screen_text [--short]

Reads all sample videos (`--short`: six) with the packaged reader at the stage's own settings. Accuracy is 1 minus the
character error rate of the line that matches a burnt-in caption best and overlaps it in time; the texts in
`truth.jsonl` are the reference. Lines besides the captions are counted on their own: the photos show packages
and price tags, which are read rightly or wrongly but are there; where `NO_WRITING` names a video, someone looked at its
frames and found no text, so that each of its lines is false. Then, interleaved: a made still video (a photo with a
caption that changes twice) and a moving one, with and without leaving out the frames in which nothing has changed.
Prints JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import jiwer
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.report import CACHE, Row, ratio
from coldstart import sample
from coldstart.core import pipeline as pipelines
from coldstart.media.video_loaders import LoadScreenFrames, ScreenFrames
from coldstart.understand.stages.screen import ScreenStage, Settings

NO_WRITING = ("clip-02", "clip-05", "clip-06", "clip-07", "clip-15", "clip-29", "clip-30", "clip-31")
SHORT = ("clip-01", "clip-03", "clip-05", "clip-15", "clip-19", "clip-29")
ROUNDS = 3
STILL_S, FPS = 24, 15
PRICES = ("Today only 23.90 kr", "Today only 27.90 kr", "Sold out")


def make_still() -> Path:
    """A photo of the sample with a caption below it, three texts of eight seconds each: 720 x 400, H.264."""
    path = CACHE / "still_captions.mp4"
    if path.exists():
        return path
    CACHE.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    photo = Image.open(sample.path() / "images" / "08_Lemon.jpg").convert("RGB").resize((720, 400))
    with av.open(partial, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 720, 400, "yuv420p"
        for text in PRICES:
            picture = photo.copy()
            draw = ImageDraw.Draw(picture)
            draw.rectangle((180, 320, 560, 370), fill="#101418")
            draw.text((200, 330), text, fill="white", font=ImageFont.load_default(28))
            for _ in range(STILL_S // len(PRICES) * FPS):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture))))
        container.mux(stream.encode())
    return partial.rename(path)


def match(caption: dict[str, Any], lines: Sequence[dict[str, Any]]) -> tuple[float, dict[str, Any]] | None:
    """The line that reads most like a caption, of those on the screen with it, and how much."""
    beside = [line for line in lines if line["start_s"] < caption["end_s"] and line["end_s"] > caption["start_s"]]
    scored = [(1 - jiwer.cer(caption["text"], line["text"]), line) for line in beside]
    return max(scored, key=lambda pair: pair[0], default=None)


def _row(stage: ScreenStage, screen: ScreenFrames) -> dict[str, Any]:
    (row,) = stage.compute([screen])
    assert isinstance(row, dict)
    return row


def run(short: bool = False) -> dict[str, Any]:
    """Counts over the sample videos, and seconds with and without leaving frames out."""
    pipeline = pipelines.load({"stages": {"screen": {"stage": "understand.screen"}}})
    stage = ScreenStage("screen", Settings(), pipeline)
    load = stage.preparer()
    assert isinstance(load, LoadScreenFrames)
    truth = [json.loads(line) for line in (sample.path() / "truth.jsonl").read_text("utf-8").splitlines()]
    paths = {path.stem: path for path in (sample.path() / "videos").iterdir()}
    stage.compute([load.frames(make_still())])  # weights
    scores, off_s, others, false, decode_s, read_s, frames, video_s = [], [], 0, [], 0.0, 0.0, 0, 0.0
    for entry in truth:
        if short and entry["item_id"] not in SHORT:
            continue
        start = time.perf_counter()
        screen = load.frames(paths[entry["item_id"]])
        middle = time.perf_counter()
        row = _row(stage, screen)
        decode_s, read_s = decode_s + middle - start, read_s + time.perf_counter() - middle
        frames, video_s = frames + row["frames_read"], video_s + (screen.end_s or 0.0)
        used = []
        for caption in entry["captions"]:
            found = match(caption, row["lines"])
            scores.append(found[0] if found else 0.0)
            if found:
                used.append(id(found[1]))
                off_s += [abs(found[1][edge] - caption[edge]) for edge in ("start_s", "end_s")]
        rest = [line["text"] for line in row["lines"] if id(line) not in used]
        others += len(rest)
        if entry["item_id"] in NO_WRITING:
            false += rest
    return {
        "captions": len(scores),
        "captions_exact": sum(score == 1 for score in scores),
        "character_accuracy": round(statistics.mean(scores), 4),
        "worst_edge_s": round(max(off_s), 3),
        "other_lines": others,
        "videos_without_writing": sum(not short or name in SHORT for name in NO_WRITING),
        "false_lines": false,
        "frames": frames,
        "frames_per_s": round(frames / read_s, 2),
        "video_s_per_s": round(video_s / (decode_s + read_s), 2),
        "decode_share": round(decode_s / (decode_s + read_s), 3),
        **_skipping(stage, load, {"still": make_still(), "moving": paths["clip-19"]}, 1 if short else ROUNDS),
    }


def _skipping(stage: ScreenStage, load: LoadScreenFrames, paths: dict[str, Path], rounds: int) -> dict[str, Any]:
    every = replace(load, still=0.0)
    times: dict[str, list[float]] = {f"{name}_{way}": [] for name in paths for way in ("skipping", "all")}
    texts: dict[str, Any] = {}
    for _ in range(rounds):
        for name, path in paths.items():
            for way, chosen in (("skipping", load), ("all", every)):
                start = time.perf_counter()
                row = _row(stage, chosen.frames(path))
                times[f"{name}_{way}"].append(time.perf_counter() - start)
                texts[f"{name}_{way}_frames"] = row["frames_read"]
                texts[f"{name}_{way}_lines"] = [(line["text"], line["start_s"], line["end_s"]) for line in row["lines"]]
    return {
        **{f"{name}_s": [round(value, 3) for value in taken] for name, taken in times.items()},
        **{name: value for name, value in texts.items() if name.endswith("frames")},
        "same_lines": all(texts[f"{name}_skipping_lines"] == texts[f"{name}_all_lines"] for name in paths),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    sample_videos = "sample videos, 2 frames a second"
    exact = f"{result['captions_exact']} of {result['captions']} exact"
    false = f"{len(result['false_lines'])} in {result['videos_without_writing']} videos"
    speed = f"{sample_videos}, {result['frames']} frames, two threads"
    saved = ratio(result["still_all_s"], result["still_skipping_s"])
    return [
        Row("characters of burnt-in captions read right", sample_videos, f"{result['character_accuracy']}", exact),
        Row(
            "start and end of a caption, worst",
            sample_videos,
            f"{result['worst_edge_s']} s off",
            "",
            "at most 0.5 (one step)",
        ),
        Row("lines read where nothing is written", sample_videos, false, ", ".join(result["false_lines"]), "at most 0"),
        Row("frames read a second", speed, f"{result['frames_per_s']}", ""),
        Row("video seconds a second, decoding included", speed, f"{result['video_s_per_s']}", ""),
        Row("every frame read over changed frames alone", "a still photo with three captions, 24 s", *saved),
    ]


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
