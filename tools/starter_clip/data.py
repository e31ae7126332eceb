"""Training and held-out data of the heads of `starter-clip`, and vectors of pictures cached on disk.

Only sets whose licence lets weights be published, and of these only the parts for training. Layout of the sets: as the
project's data folder has them (`COLDSTART_DATA`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.encoders import Encoder, Vectors
from coldstart.errors import ColdstartError
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.media.video import sample_frames

HELD_OUT = 15  # grocery products that training sees nothing of
FRAMES = 8  # of a video
_LIMITS = Limits(min_side=1)  # thumbnails count
_STEP = 256  # pictures decoded at a time

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Pictures that show one thing, and the texts that say it.

    Attributes:
        kind: `grocery`, `clothing` or `video`.
        name: what they show: a product's id, a label, a video's id.
        files: the pictures, or the one video.
        texts: each of them fits each picture.
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    texts: tuple[str, ...]


def rows(path: Path) -> list[Row]:
    """Read the lines of a JSONL file.

    Raises:
        ColdstartError: it is not there.
    """
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise ColdstartError(f"{path} cannot be read ({error.strerror}): name the folder of the data sets") from error


def held_out(product_ids: Iterable[str]) -> set[str]:
    """Choose the products held out from training: the first by the digest of their ids."""
    return set(sorted(product_ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:HELD_OUT])


def first_half(name: str) -> bool:
    """Tell whether an id falls into the half that settings are chosen on."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def sources(data: Path, shown: Path | None = None) -> list[Source]:
    """List all training sources.

    Args:
        data: the folder of the sets.
        shown: a JSONL file whose `shots` name photos (`photo`) that the sample videos show: they are left out.

    Raises:
        ColdstartError: a set is not there.
    """
    in_sample = {shot["photo"] for row in (rows(shown) if shown else []) for shot in row["shots"]}
    return [*_grocery(data / "grocery", in_sample), *_clothing(data / "clothing"), *_videos(data / "videos_real")]


def _grocery(folder: Path, in_sample: set[str]) -> list[Source]:
    products, images = rows(folder / "products.jsonl"), rows(folder / "images.jsonl")
    hidden = held_out(product["id"] for product in products)
    found = []
    for product in products:
        if product["id"] in hidden:
            continue
        title, text, coarse = product["title"], product["text"], product["coarse"]
        texts = (title, text, f"a photo of {title}", f"{title}, {coarse}", f"{title}. {text}")
        files = tuple(
            folder / image["file"]
            for image in images
            if image["product_id"] == product["id"]
            and image["split"] == "train"
            and image["source_path"] not in in_sample
        )
        found.append(Source("grocery", product["id"], (*files, folder / product["file"]), texts))
    return found


CLOTHES = {"t-shirt": "t-shirt", "longsleeve": "long sleeve shirt", "outwear": "outerwear jacket"}
"""Labels of `clothing` that are no words of everyday, and what they say."""


def _clothing(folder: Path) -> list[Source]:
    files: dict[str, list[Path]] = {}
    for row in rows(folder / "images.jsonl"):
        if row["split"] == "train":
            files.setdefault(row["label"], []).append(folder / row["file"])
    found = []
    for label, paths in sorted(files.items()):
        word = CLOTHES.get(label, label)
        texts = (label, word, f"a photo of a {word}", f"a person wearing {word}", f"{word} for sale")
        found.append(Source("clothing", label, tuple(paths), tuple(dict.fromkeys(texts))))
    return found


def _videos(folder: Path) -> list[Source]:
    """Open clips alone, of near-equal ones the first; of the many clips of one sign language none but one."""
    found, signs = [], 0
    for row in rows(folder / "videos.jsonl"):
        if row["licence_tier"] != "open" or row["duplicate_of"]:
            continue
        texts: tuple[str, ...] = (row["text"], row["title"])
        if row["title"].startswith("sign: "):  # what is signed cannot be seen by one who does not know the language
            signs += 1
            if signs > 1:
                continue
            texts = ("A person in an office makes a sign of the American Sign Language.",)
        found.append(Source("video", row["id"], (folder / row["file"],), texts))
    return found


def vectors_of_pictures(files: Sequence[Path], encoder: Encoder, cache: Path | None = None) -> Vectors:
    """Unit vectors of pictures, in their order.

    Args:
        cache: a folder for them: the next call with the same files and encoder reads them there.
    """
    named = _cache_file(cache, encoder, [f"{file.name}:{file.stat().st_size}" for file in files])
    if named and named.is_file():
        return np.asarray(np.load(named), np.float32)
    assert encoder.image_transform is not None
    load = partial(load_image, limits=_LIMITS, transform=encoder.image_transform)
    made = [np.zeros((0, encoder.passport("image").dim), np.float32)]
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), _STEP):
            images = list(pool.map(load, files[start : start + _STEP]))
            made += _encoded(encoder, images)
    return _keep(named, np.concatenate(made))


def vectors_of_frames(file: Path, encoder: Encoder, cache: Path | None = None, count: int = FRAMES) -> Vectors:
    """Unit vectors of frames spread evenly over a video, in the order of time; as `vectors_of_pictures`."""
    named = _cache_file(cache, encoder, [f"{file.name}:{file.stat().st_size}:{count}"])
    if named and named.is_file():
        return np.asarray(np.load(named), np.float32)
    assert encoder.image_transform is not None
    frames = sample_frames(file, _LIMITS, encoder.image_transform, count=count)
    return _keep(named, np.concatenate(_encoded(encoder, frames.images)))


def _encoded(encoder: Encoder, images: Sequence[Any]) -> list[Vectors]:
    return [encoder.encode_images(images[start : start + 32]) for start in range(0, len(images), 32)]


def _cache_file(cache: Path | None, encoder: Encoder, names: Sequence[str]) -> Path | None:
    if cache is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    told = json.dumps([encoder.passport("image").digest, *names])
    return cache / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.npy"


def _keep(named: Path | None, vectors: Vectors) -> Vectors:
    if named:
        draft = named.with_suffix(".part.npy")
        np.save(draft, vectors)
        draft.replace(named)
    return vectors
