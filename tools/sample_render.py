"""Pictures and sound for tools/make_sample.py: a moving camera over photos, captions, speech, small H.264 files."""

from __future__ import annotations

import io
import random
import subprocess
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FPS = 15
FADE_S = 0.25
SAMPLE_RATE = 22050
SPEECH_START_S = 0.4
# One thread and no AVX-512: threads split the work by machine, and the AVX-512 code of x264 165 gives other bytes from
# run to run.
X264 = {"crf": "30", "preset": "slower", "threads": "1", "x264-params": "asm=avx2"}


@dataclass(frozen=True)
class View:
    """One photo on screen from `start_s` to `end_s` with a caption layer; `seed` settles how the camera moves."""

    photo: Path
    start_s: float
    end_s: float
    caption: Image.Image
    seed: str


def caption_layer(size: tuple[int, int], text: str, style: str) -> Image.Image:
    """A transparent layer: `bar` is white on dark near the bottom, `tag` dark on yellow in the upper left corner."""
    layer = Image.new("RGBA", size)
    if not text:
        return layer
    width, height = size
    points = 21 if style == "bar" else 28
    face = _font(points)
    while face.getlength(text) > width - 52:
        points -= 1
        face = _font(points)
    box_width, box_height = face.getlength(text) + 28, points + 18
    left, top = ((width - box_width) / 2, height * 0.93 - box_height) if style == "bar" else (14, 14)
    fill, ink = ((12, 14, 20, 175), "white") if style == "bar" else ((255, 214, 10, 240), "#1a1a1a")
    draw = ImageDraw.Draw(layer)
    draw.rounded_rectangle((left, top, left + box_width, top + box_height), radius=9, fill=fill)
    draw.text((left + box_width / 2, top + box_height / 2), text, fill=ink, font=face, anchor="mm")
    return layer


def _font(points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf", points)


class _Camera:
    """A slow pan and zoom over one photo. The crop moves by fractions of a pixel, so nothing jumps."""

    def __init__(self, view: View, size: tuple[int, int]) -> None:
        rng = random.Random(view.seed)
        self.view = view
        self.photo = Image.open(view.photo).convert("RGB")
        self.size = size
        zooms = [1.02, rng.uniform(1.12, 1.22)]
        rng.shuffle(zooms)
        self.zooms = zooms
        self.places = [(rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)) for _ in range(2)]
        self.picture_size = size if size[1] <= 1.4 * size[0] else (size[0], round(size[0] * 7 / 6))
        self.backdrop = self._cover(size).filter(ImageFilter.GaussianBlur(14)).point(lambda value: value * 0.6)

    def _cover(self, size: tuple[int, int], zoom: float = 1.0, place: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
        width, height = self.photo.size
        scale = min(width / size[0], height / size[1]) / zoom
        box_width, box_height = size[0] * scale, size[1] * scale
        left, top = place[0] * (width - box_width), place[1] * (height - box_height)
        box = (max(left, 0), max(top, 0), min(left + box_width, width), min(top + box_height, height))
        return self.photo.resize(size, Image.Resampling.BICUBIC, box=box)

    def frame(self, time_s: float) -> Image.Image:
        progress = (time_s - self.view.start_s) / (self.view.end_s - self.view.start_s + FADE_S)
        (x0, y0), (x1, y1) = self.places
        zoom = self.zooms[0] + progress * (self.zooms[1] - self.zooms[0])
        picture = self._cover(self.picture_size, zoom, (x0 + progress * (x1 - x0), y0 + progress * (y1 - y0)))
        frame = self.backdrop.copy()
        frame.paste(picture, (0, (self.size[1] - self.picture_size[1]) // 2))
        frame.paste(self.view.caption, mask=self.view.caption)
        return frame


def film_frames(views: Sequence[View], size: tuple[int, int]) -> Iterator[Image.Image]:
    """The frames of a film, `FPS` a second; each view fades into the next during the first `FADE_S` of that."""
    cameras = [_Camera(view, size) for view in views]
    current = 0
    for index in range(round(views[-1].end_s * FPS)):
        time_s = index / FPS
        while time_s >= views[current].end_s:
            current += 1
        frame = cameras[current].frame(time_s)
        shown_s = time_s - views[current].start_s
        if current and shown_s < FADE_S:
            frame = Image.blend(cameras[current - 1].frame(time_s), frame, shown_s / FADE_S)
        yield frame


def speak(text: str, voice: str, speed: int, duration_s: float) -> npt.NDArray[np.int16]:
    """A spoken sentence as int16 mono [duration_s * SAMPLE_RATE], peak at 70 %, silence around it.

    Raises:
        ValueError: the sentence is longer than the film.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        spoken = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float32)
    start, track = round(SPEECH_START_S * SAMPLE_RATE), np.zeros(round(duration_s * SAMPLE_RATE), np.int16)
    if start + len(spoken) > len(track):
        raise ValueError(f"{len(spoken) / SAMPLE_RATE:.1f} s of speech in a film of {duration_s:.1f} s: {text}")
    track[start : start + len(spoken)] = spoken * (0.7 * 32767 / np.abs(spoken).max())
    return track


def write_mp4(path: Path, frames: Iterator[Image.Image], fps: int, sound: npt.NDArray[np.int16] | None = None) -> None:
    """Write frames of one even size as H.264 yuv420p, with `sound` (int16 mono at SAMPLE_RATE) as AAC."""
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        first = next(frames)
        video = container.add_stream("libx264", rate=fps, options=X264)
        video.width, video.height, video.pix_fmt = *first.size, "yuv420p"
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            audio.bit_rate = 32_000
        for image in (first, *frames):
            container.mux(video.encode(av.VideoFrame.from_image(image)))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            block = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
            block.sample_rate = SAMPLE_RATE
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))


def clip_frames(path: Path, start_s: float, end_s: float, fps: int, width: int) -> Iterator[Image.Image]:
    """Frames of a video between two times, thinned to `fps` and made `width` wide (height even)."""
    wanted_s = start_s
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.time is None or frame.time < wanted_s:
                continue
            if frame.time >= end_s:
                return
            wanted_s += 1 / fps
            image: Image.Image = frame.to_image()
            yield image.resize((width, 2 * round(image.height * width / image.width / 2)), Image.Resampling.LANCZOS)


def write_gif(path: Path, frames: Iterator[Image.Image], fps: int) -> None:
    """Write frames as a looping GIF of 64 colours."""
    first, *rest = [frame.quantize(64, dither=Image.Dither.NONE) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=1000 // fps, loop=0, optimize=True)
