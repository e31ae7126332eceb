"""Write the sample catalogue with copies of two of its videos, which a search for duplicates is to find."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from coldstart import sample

COPIES = {"copy-1": ("clip-08", "lunch, again", "mirrored"), "copy-2": ("clip-02", "so colourful", "faster")}
"""Id of a copy that the demo makes -> its original, a title, and how it is changed."""


def write_catalogue(folder: Path) -> Path:
    """Write the manifest of the sample's items and of copies of its videos, which are made where they are missing.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    home = sample.path()
    rows = [json.loads(line) for line in (home / "manifest.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        for medium in row["media"]:
            medium["uri"] = str(home / medium["uri"])
    by_id = {row["item_id"]: row for row in rows}
    for item, (original, title, change) in COPIES.items():
        path = folder / f"{item}.mp4"
        source = by_id[original]
        if not path.exists():
            _write_copy(Path(source["media"][0]["uri"]), path, change)
        own = {"item_id": item, "title": title, "creator": "the demo", "media": [{"role": "video", "uri": str(path)}]}
        rows.append({key: source[key] for key in ("kind", "category", "created_at")} | own)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return manifest


def _write_copy(source: Path, path: Path, change: str) -> None:
    """Encode the pictures of a video anew, mirrored or a tenth faster, without its sound."""
    part = path.with_name(f"{path.stem}.part.mp4")
    with av.open(source) as original, av.open(part, "w") as copy:
        rate = original.streams.video[0].average_rate or Fraction(15)
        stream = None
        for frame in original.decode(video=0):
            pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
            if stream is None:
                rate *= 1 if change == "mirrored" else Fraction(11, 10)
                stream = copy.add_stream("libx264", rate=rate, options={"crf": "30", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = *(side // 2 * 2 for side in pixels.shape[:2]), "yuv420p"
            if change == "mirrored":
                pixels = pixels[:, ::-1]
            even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
            copy.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            copy.mux(stream.encode(None))
    part.replace(path)
