"""Readers of video side by side: ours, bare PyAV, decord, torchcodec and OpenCV, one a process, on one codec thread.

A question: `path`, `times_s` (rising; None for all frames) and, where the pixels are to be looked at, `keep`: a file
for them. The answer: `seconds`, `frames`. Frames come as uint8 [H, W, 3] RGB arrays at full size, whatever the reader.
Every reader opens the file anew for each question, as a worker does for each item.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.answer import Answer, Turn, serve, versions

Read = Callable[[str, Sequence[float] | None], Iterator[Any]]
_SAME_S = 1e-3


def coldstart() -> Read:
    from coldstart.media.image import ImageTransform
    from coldstart.media.limits import Limits
    from coldstart.media.video import frames_at
    from coldstart.media.video_loaders import walk_frames

    limits, whole = Limits(), ImageTransform((4096, 4096), "longest")

    def read(path: str, times_s: Sequence[float] | None) -> Iterator[Any]:
        if times_s is None:
            return (pixels for _, pixels in walk_frames(Path(path), limits, whole))
        return iter(frames_at(Path(path), limits, whole, times_s).images)

    return read


def pyav() -> Read:
    """By hand, the plain way: seek to each time and decode on until it is reached."""
    import av

    def read(path: str, times_s: Sequence[float] | None) -> Iterator[Any]:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if times_s is None:
                for frame in container.decode(stream):
                    yield frame.to_ndarray(format="rgb24")
                return
            start = stream.start_time or 0
            for time_s in times_s:
                target = start + round(time_s / stream.time_base)
                container.seek(target, stream=stream)
                shown = None
                for frame in container.decode(stream):
                    if frame.pts > target and shown is not None:
                        break
                    shown = frame
                assert shown is not None
                yield shown.to_ndarray(format="rgb24")

    return read


def decord() -> Read:
    from decord import VideoReader, cpu  # type: ignore[import-not-found]

    def read(path: str, times_s: Sequence[float] | None) -> Iterator[Any]:
        video = VideoReader(path, ctx=cpu(0), num_threads=1)
        if times_s is None:
            for place in range(len(video)):
                yield video[place].asnumpy()
            return
        begins = video.get_frame_timestamp(range(len(video)))[:, 0]
        chosen = np.searchsorted(begins - begins[0], np.asarray(times_s) + _SAME_S, side="right") - 1
        yield from video.get_batch(chosen.tolist()).asnumpy()

    return read


def torchcodec(mode: str = "approximate") -> Read:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    def read(path: str, times_s: Sequence[float] | None) -> Iterator[Any]:
        video = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
        if times_s is None:
            for frame in video:
                yield frame.numpy()
            return
        first = video.metadata.begin_stream_seconds or 0.0
        yield from video.get_frames_played_at([first + time_s for time_s in times_s]).data.numpy()

    return read


def opencv() -> Read:
    """By frame numbers at the stated rate, which is all that it can be asked for."""
    import cv2

    cv2.setNumThreads(1)

    def read(path: str, times_s: Sequence[float] | None) -> Iterator[Any]:
        video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not video.isOpened():
            raise OSError(f"cannot open {path}")
        if times_s is None:
            while (got := video.read())[0]:
                yield cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB)
            return
        rate = video.get(cv2.CAP_PROP_FPS)
        for time_s in times_s:
            video.set(cv2.CAP_PROP_POS_FRAMES, int(time_s * rate + _SAME_S))
            good, pixels = video.read()
            if not good:
                raise OSError(f"no frame at {time_s:.2f} s")
            yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    return read


READERS: dict[str, Callable[[], Read]] = {
    "coldstart": coldstart,
    "pyav": pyav,
    "decord": decord,
    "torchcodec": torchcodec,
    "torchcodec_exact": lambda: torchcodec("exact"),
    "opencv": opencv,
}


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    read = READERS[job["reader"]]()

    def turn(question: dict[str, Any]) -> Answer:
        kept: list[Any] = []
        began = time.perf_counter()
        count = 0
        try:
            for pixels in read(question["path"], question["times_s"]):
                count += 1
                if question.get("keep"):
                    kept.append(np.array(pixels))
        except Exception as error:  # what a reader cannot read is a result
            return {"seconds": 0.0, "frames": count, "failed": f"{type(error).__name__}: {error}"[:200]}
        seconds = time.perf_counter() - began
        if kept:
            np.save(question["keep"], np.stack(kept))
        return {"seconds": seconds, "frames": count}

    return {"versions": versions("av", "decord", "torchcodec", "opencv-python-headless", "torch")}, turn


if __name__ == "__main__":
    serve(start)
