"""Flip bytes of small media files and take each through the stages, in worker processes.

    python tools/fuzz_media.py [--variants 300] [--seed 7] [--formats jpeg,mp4] [--keep FOLDER] [--json FILE]

Files of twelve formats are made with Pillow and PyAV, damaged by a seeded generator (flipped, cut, doubled and zeroed
bytes; of PNG with sums that fit again), and taken through every stage that decodes media: prepared and computed. Each
stage gives a row or a `Reject`; anything else is a fault, and ends the script with 1: another exception, a row that its
table does not take, a `Reject` that names a line of this package. A crash of a library costs its file, and is counted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import struct
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pillow_heif
import pyarrow as pa
from PIL import Image

from coldstart.core.pipeline import load
from coldstart.core.stage import MapStage, Reject, Row, Work
from coldstart.engine.workers import prepare_isolated
from coldstart.media.limits import Limits
from coldstart.media.loaders import ProbeMedia
from coldstart.store.freshness import build

PIPELINE: dict[str, Any] = {
    "media": {"deadline_s": 10.0},
    "stages": {
        "ingest": {},
        "fingerprint": {"stage": "understand.fingerprint"},
        "quality": {"stage": "understand.quality"},
        "shots": {"stage": "understand.shots", "detector": "scenedetect"},
        "speech": {"stage": "understand.speech", "model": "fake"},
        "screen": {"stage": "understand.screen", "reader": "fake"},
        "frames": {"stage": "embed", "encoder": "fake:8", "input": "image"},
        "keyframes": {"stage": "embed", "encoder": "fake:8", "input": "image", "frame_policy": "keyframe"},
    },
}
"""Every stage that decodes media, with detectors that need no weights."""
SEEING, HEARING = ("fingerprint", "quality", "screen", "frames"), ("speech",)
STAGES = {"image": SEEING, "audio": HEARING, "video": (*SEEING, "keyframes", "shots", *HEARING)}
"""Role of a medium -> the stages that read it after ingest."""
FORMATS = ("jpeg", "png", "webp", "gif", "mp4", "mkv", "webm", "ts", "flv", "avi", "wav", "mp3")
RARER = ("heic", "avif", "tiff", "bmp", "jp2", "flac", "ogg")
"""Formats that are tried where `--formats` names them."""
_STREAMS = {  # container, picture codec, sound codec
    "mp4": ("mp4", "libx264", "aac"),
    "mkv": ("matroska", "libx264", "flac"),
    "webm": ("webm", "libvpx", "libopus"),
    "ts": ("mpegts", "mpeg2video", "mp2"),
    "flv": ("flv", "flv", "libmp3lame"),
    "avi": ("avi", "mpeg4", "pcm_s16le"),
    "wav": ("wav", None, "pcm_s16le"),
    "mp3": ("mp3", None, "libmp3lame"),
    "flac": ("flac", None, "flac"),
    "ogg": ("ogg", None, "libopus"),
}
_PICTURES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "heic": "HEIF",
    "avif": "AVIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "jp2": "JPEG2000",
}  # Pillow's names


def role(name: str) -> str:
    """Tell the role of a medium by its format."""
    if name in _PICTURES:
        return "image"
    return "video" if name == "gif" or _STREAMS[name][1] else "audio"


def make_seed(name: str) -> bytes:
    """Make a small valid file of a format: a picture of 48 x 32, or a second of moving pictures and a tone."""
    pixels = np.add.outer(np.arange(32) * 5, np.arange(48) * 3).astype(np.uint8)
    frames = [np.dstack([np.roll(pixels, 4 * n, axis=1), pixels, 255 - pixels]) for n in range(10)]
    file = io.BytesIO()
    if name in _PICTURES:
        if name == "heic":
            pillow_heif.register_heif_opener()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(frames[0]).save(file, _PICTURES[name], exif=exif)
    elif name == "gif":
        first, *others = [Image.fromarray(frame) for frame in frames]
        first.save(file, "GIF", save_all=True, append_images=others, duration=100)
    else:
        _write_streams(file, name, frames)
    return file.getvalue()


def _write_streams(file: io.BytesIO, name: str, frames: Sequence[np.ndarray]) -> None:
    container_format, picture_codec, sound_codec = _STREAMS[name]
    rate = 44_100 if sound_codec in ("libmp3lame", "mp2") else 48_000
    with av.open(file, "w", format=container_format) as container:
        pictures: Any = container.add_stream(picture_codec, rate=10) if picture_codec else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "yuv420p"
            pictures.codec_context.gop_size = 5
        sound: Any = container.add_stream(sound_codec, rate=rate, layout="mono")
        for pixels in frames if pictures is not None else ():
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels)))
        wave = (np.sin(np.arange(rate // 2) * 0.05) * 9000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        form = sound.codec_context.format.name
        resampler = av.AudioResampler(form, "mono", rate, sound.codec_context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        for stream in (pictures, sound):
            if stream is not None:
                container.mux(stream.encode())


def damage(content: bytes, random: Random) -> bytes:
    """Damage a file in one to four places; half of them lie in its first 256 bytes, where headers are."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        end = min(256, len(data)) if random.random() < 0.5 else len(data)
        at, length = random.randrange(end), random.randint(1, 16)
        match random.choice(("flip", "flip", "byte", "byte", "number", "zero", "cut", "double", "shuffle")):
            case "flip":
                data[at] ^= 1 << random.randrange(8)
            case "byte":
                data[at : at + length] = random.randbytes(len(data[at : at + length]))
            case "number":  # a length or a count at its bounds
                data[at : at + 4] = struct.pack(">I", random.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)))
            case "zero":
                data[at : at + length] = bytes(len(data[at : at + length]))
            case "cut":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "shuffle":
                other = random.randrange(len(data))
                data[at], data[other] = data[other], data[at]
        if not data:
            return bytes(1)
    return _with_sums(bytes(data)) if content.startswith(b"\x89PNG") and random.random() < 0.7 else bytes(data)


def _with_sums(png: bytes) -> bytes:
    """Write the sums of a PNG anew, so that its damage is not seen before it is decoded."""
    made, at = bytearray(png), 8
    while at + 12 <= len(made):
        length = struct.unpack(">I", made[at : at + 4])[0]
        end = at + 8 + length
        if end + 4 > len(made):
            break
        made[end : end + 4] = struct.pack(">I", zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)


@cache
def stages(folder: Path) -> tuple[Limits, dict[str, MapStage]]:
    """Build the limits and the stages for media in a folder, once a process."""
    pipeline = load(PIPELINE, media_roots=[folder])
    built = {spec.name: build(spec, pipeline) for spec in pipeline.stages if spec.name != "ingest"}
    return Limits(**pipeline.media.limits()), built


@dataclass(frozen=True)
class ReadAll:
    """Probe a medium and take it through every stage of its role; returns stage -> "row" or what it is rejected for."""

    folder: Path

    def __call__(self, row: Row) -> tuple[dict[str, str], float]:
        limits, built = stages(self.folder)
        found: dict[str, str] = {}
        probed: Row | None = None

        def ingest() -> Row:
            nonlocal probed
            probed, _ = ProbeMedia(limits)(row)
            return probed

        found["ingest"] = _outcome(ingest)
        if probed is not None:
            for name in STAGES[row["media"][0]["role"]]:
                found[name] = _outcome(partial(_row_of, built[name], probed))
        return found, 1.0


def _row_of(stage: MapStage, row: Row) -> Row | Reject:
    data, cost = stage.preparer()(row)
    assert cost > 0, cost
    [result] = stage.compute([data])
    if not isinstance(result, Reject):
        unused = {"item_id": "", stage.key_column: ""}
        pa.Table.from_pylist([{**result, **unused}], schema=stage.schema)
    return result


def _outcome(read: Callable[[], Row | Reject]) -> str:
    try:
        result: Row | Reject = read()
    except Reject as reject:
        result = reject
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"FAULT {type(error).__name__}: {error} at {last.filename}:{last.lineno}"
    if not isinstance(result, Reject):
        return "row"
    return f"{result.reason}: {result.detail}" if result.reason == "decoder_fault" else result.reason


@dataclass
class Figures:
    """Result of a campaign.

    Attributes:
        files: number of damaged files; `reads`: files times stages.
        rejects: reason -> number of reads; a crash or a time-out of a worker counts for its whole file.
        faults: what is neither data nor a verdict, by file.
        cpu_s: processor seconds, worker processes included.
    """

    files: int = 0
    reads: int = 0
    rows: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    cpu_s: float = 0.0

    def add(self, name: str, loader: str, outcome: str) -> None:
        """Count the outcome of one read."""
        self.reads += 1
        if outcome == "row":
            self.rows += 1
        elif outcome.startswith("FAULT"):
            self.faults[f"{name} {loader}"] = outcome
        else:
            reason, _, detail = outcome.partition(": ")
            self.rejects[reason] += 1
            if reason == "decoder_fault":
                self.places[detail] += 1
                if " at coldstart." in detail.partition(", called")[0]:
                    self.faults[f"{name} {loader}"] = detail

    def __str__(self) -> str:
        rejects = ", ".join(f"{reason} {count}" for reason, count in self.rejects.most_common())
        return (
            f"{self.files} files, {self.reads} reads: {self.rows} rows, {self.rejects.total()} Rejects ({rejects}), "
            f"{len(self.faults)} others, {self.cpu_s:.0f} s of processor time"
        )


class _Stage:
    """What `prepare_isolated` needs to know of a stage."""

    name = "fuzz"
    deadline_s = 30.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def preparer(self) -> Callable[[Row], tuple[dict[str, str], float]]:
        return ReadAll(self._folder)


def run(
    folder: Path, variants: int, seed: int, formats: Sequence[str] = FORMATS, workers: int = 1, *, keep: bool = False
) -> Figures:
    """Damage seeds of the formats in turn, `variants` files in all, and read each.

    Args:
        folder: where files are written; without `keep`, each is deleted after it was read, unless it is at fault.
    """
    began_s, figures, random = _cpu_s(), Figures(), Random(seed)
    seeds = {name: make_seed(name) for name in formats}

    def work() -> Iterator[Work]:
        for number in range(variants):
            name = formats[number % len(formats)]
            path = folder / f"{seed}-{number}.{name}"
            path.write_bytes(damage(seeds[name], random))
            row = {"item_id": path.name, "record": {}, "media": [{"role": role(name), "uri": str(path)}]}
            yield Work(path.name, "", row)

    stage: Any = _Stage(folder)
    for entry, found, _ in prepare_isolated(stage, work(), workers, lambda: 2 * workers):
        figures.files += 1
        outcomes = {"worker": f"{found.reason}: {found.detail}"} if isinstance(found, Reject) else found
        for loader, outcome in outcomes.items():
            figures.add(entry.item_id, loader, outcome)
        if not keep and not any(fault.startswith(entry.item_id) for fault in figures.faults):
            (folder / entry.item_id).unlink()
    figures.cpu_s = _cpu_s() - began_s
    return figures


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=300, help="damaged files in all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--formats", default=",".join(FORMATS), help=f"comma-separated; also {', '.join(RARER)}")
    parser.add_argument("--keep", type=Path, help="leave the files in this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        keep = options.keep is not None
        figures = run(folder, options.variants, options.seed, options.formats.split(","), options.workers, keep=keep)
    print(figures)
    for place, count in figures.places.most_common():
        print(f"  {count} x {place}")
    for name, fault in figures.faults.items():
        print(f"  {name}: {fault}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(vars(figures), indent=1))
    sys.exit(1 if figures.faults else 0)


if __name__ == "__main__":
    main()
