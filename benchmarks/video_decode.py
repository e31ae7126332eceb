"""Claim: frames of a video come as fast as from decord, torchcodec or OpenCV, and each is the one shown at its time.

    python -m benchmarks video_decode [--full]

Every reader in a process of its own, one codec thread each, RGB frames at full size; the file is opened anew each time.
Three tasks a video: 8 frames at the middles of equal spans, one frame a second, all frames. Videos: a moving pattern in
H.264, HEVC, VP9 and AV1 with a key frame every 10 s and every second (20 s of 640 x 360; at full size 8 s of
1920 x 1080 too), the sample's videos, and at full size real clips of `COLDSTART_DATA`. Readers take turns.
`right` counts frames of the 8 that are the one shown at that time by the stream's own clock: nearer to it, in pixels,
than to its neighbours, by bare decoding of the whole video; `apart` is the mean absolute difference from it, of 255.
The short form takes key frames every 10 s, one sample video in twelve, and one round.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.peers.process import PEERS, Peer, PeerFailed, PeerMissing
from benchmarks.report import Row, against
from benchmarks.video_clips import ENCODERS, Made, make
from coldstart import sample

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
READERS = {"coldstart": None, "pyav": None, "decord": "video", "torchcodec": "video", "opencv": None}
COUNT, MOST_AT_ONE_FPS = 8, 60
TASKS = {"eight": "8 frames", "one_fps": "a frame a second", "all": "all frames"}
_NEAR = 3  # frames on either side that a wrong one is looked for among
_LIMIT_PIXELS = 1 << 20  # larger frames are compared on every second row and column


def videos(short: bool) -> dict[str, list[Path]]:
    """The files of each group."""
    spacings = (10,) if short else (10, 1)
    seconds = 20
    found = {
        f"made 640 x 360, key frame every {key_s} s": [
            make(Made(codec, 640, 360, seconds, key_s)) for codec in ENCODERS
        ]
        for key_s in spacings
    }
    ours = sorted((sample.path() / "videos").iterdir())
    found["sample"] = ours[::12] if short else ours[::3]
    if not short:
        for key_s in spacings:
            name = f"made 1920 x 1080, key frame every {key_s} s"
            found[name] = [make(Made(codec, 1920, 1080, 8, key_s)) for codec in ENCODERS]
        clips = DATA / "videos_real" / "videos"
        if clips.is_dir():
            found["real clips"] = sorted(clips.iterdir())[::5]
    return found


def reference(path: Path, times_s: list[float] | None) -> tuple[list[float], list[np.ndarray], list[int]]:
    """Times of all frames, and for each asked time the frames around the one that is shown and its place in them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = stream.start_time or 0
        stamps = [float((frame.pts - start) * stream.time_base) for frame in container.decode(stream)]
    if times_s is None:
        return stamps, [], []
    shown = (np.searchsorted(stamps, np.asarray(times_s) + 1e-3, side="right") - 1).tolist()
    wanted = {near for place in shown for near in range(place - _NEAR, place + _NEAR + 1)}
    with av.open(str(path)) as container:
        kept = {
            place: _thin(frame.to_ndarray(format="rgb24"))
            for place, frame in enumerate(container.decode(video=0))
            if place in wanted
        }
    around, own = [], []
    for place in shown:
        near = [at for at in range(place - _NEAR, place + _NEAR + 1) if at in kept]
        around.append(np.stack([kept[at] for at in near]))
        own.append(near.index(place))
    return stamps, around, own


def compare(path: Path, asked: list[float], frames: np.ndarray) -> dict[str, Any]:
    """How many frames are the right ones, and how far their pixels lie apart from bare decoding."""
    _, around, own = reference(path, asked)
    right, apart = 0, []
    for pixels, near, place in zip(frames, around, own, strict=True):
        gaps = [float(np.abs(_thin(pixels).astype(np.int16) - other).mean()) for other in near]
        apart.append(gaps[place])
        right += gaps[place] <= min(gaps) + 0.05  # frames that are all alike are all right
    return {"right": right, "apart": statistics.mean(apart)}


def _thin(pixels: np.ndarray) -> np.ndarray:
    return pixels[::2, ::2] if pixels.shape[0] * pixels.shape[1] > _LIMIT_PIXELS else pixels


def run(short: bool = False) -> dict[str, Any]:
    """Of each video and reader: seconds of each task, rounds in order, and whether its frames are right."""
    rounds = 1 if short else 2
    found: dict[str, Any] = {"rounds": rounds, "missing": {}, "videos": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        readers: dict[str, Peer] = {}
        for name, environment in READERS.items():
            libraries = {"LD_LIBRARY_PATH": str(PEERS / "video" / "ffmpeg")} if name == "torchcodec" else {}
            job = {"reader": name}
            module = "benchmarks.peers.video_runner"
            try:
                peer = Peer(module, job, environment=environment, threads=1, limit_s=300, variables=libraries)
                readers[name] = stack.enter_context(peer)
            except (PeerMissing, PeerFailed) as reason:
                found["missing"][name] = str(reason)
        found["versions"] = {name: peer.about["versions"] for name, peer in readers.items()}
        for group, paths in videos(short).items():
            for path in paths:
                found["videos"].append({"group": group, **_video(path, readers, rounds, folder)})
    return found


def _video(path: Path, readers: dict[str, Peer], rounds: int, folder: Path) -> dict[str, Any]:
    stamps, _, _ = reference(path, None)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context.name
    duration_s = stamps[-1] + (stamps[-1] / max(len(stamps) - 1, 1))
    eight = [duration_s * (i + 0.5) / COUNT for i in range(COUNT)]
    tasks: dict[str, list[float] | None] = {
        "eight": eight,
        "one_fps": [i + 0.5 for i in range(min(MOST_AT_ONE_FPS, int(duration_s)))],
        "all": None,
    }
    results: dict[str, Any] = {}
    for name, peer in readers.items():  # the first opening also warms the file up
        keep = folder / f"{name}.npy"
        answer = peer.ask(path=str(path), times_s=eight, keep=str(keep))
        if "failed" in answer:
            results[name] = {"failed": answer["failed"]}
        elif answer["frames"] != COUNT:
            results[name] = {"failed": f"{answer['frames']} frames for {COUNT} times"}
        else:
            results[name] = {"seconds": {task: [] for task in tasks}, **compare(path, eight, np.load(keep))}
    for _ in range(rounds):
        for task, times_s in tasks.items():
            for name, peer in readers.items():
                if "failed" in results[name] or times_s == []:
                    continue
                answer = peer.ask(path=str(path), times_s=times_s)
                if "failed" in answer:
                    results[name] = {"failed": f"{TASKS[task]}: {answer['failed']}"}
                else:
                    results[name]["seconds"][task].append(answer["seconds"])
    return {"file": path.name, "codec": codec, "frames": len(stamps), "duration_s": duration_s, "readers": results}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    groups = list(dict.fromkeys(video["group"] for video in result["videos"]))
    for group in groups:
        held = [video for video in result["videos"] if video["group"] == group]
        for task, told in TASKS.items():
            for name in READERS:
                if name == "coldstart":
                    found += _own(held, group, task, told)
                    continue
                both = [
                    (video["readers"][name]["seconds"][task], video["readers"]["coldstart"]["seconds"][task])
                    for video in held
                    if all("seconds" in video["readers"].get(one, {}) for one in (name, "coldstart"))
                ]
                theirs = [statistics.median(taken) for taken, _ in both if taken]
                ours = [statistics.median(taken) for _, taken in both if taken]
                if theirs:
                    of = f"{group}: {len(theirs)} of {len(held)} videos that it reads"
                    found.append(against("peer", f"{told}: time of {name} over ours", of, theirs, ours))
    found += _right(result)
    found += [Row(f"{name} beside ours", "video", reason, "") for name, reason in result["missing"].items()]
    return found


def _own(held: list[dict[str, Any]], group: str, task: str, told: str) -> list[Row]:
    read = [video for video in held if video["readers"]["coldstart"].get("seconds", {}).get(task)]
    if not read:
        return []
    taken = [statistics.median(video["readers"]["coldstart"]["seconds"][task]) for video in read]
    if task == "all":
        rates = [video["frames"] / seconds for video, seconds in zip(read, taken, strict=True)]
        return [Row(f"{told}: frames a second", group, f"{statistics.median(rates):.0f}", _span(rates))]
    scaled = [1000 * seconds for seconds in taken]
    return [Row(f"{told}: milliseconds", group, f"{statistics.median(scaled):.0f}", _span(scaled))]


def _span(values: list[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"


def _right(result: dict[str, Any]) -> list[Row]:
    found = []
    for name in READERS:
        held = [video["readers"][name] for video in result["videos"] if name in video["readers"]]
        read = [one for one in held if "failed" not in one]
        if not read:
            continue
        right, asked = sum(one["right"] for one in read), COUNT * len(read)
        apart = statistics.median(one["apart"] for one in read)
        told = f"pixels {apart:.2f} of 255 apart; {len(read)} of {len(held)} videos read"
        found.append(Row(f"{name}: the frame shown at that time", f"{asked} frames", f"{right / asked:.3f}", told))
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=True), indent=2))
