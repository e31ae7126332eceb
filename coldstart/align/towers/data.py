"""Training batches of towers: pictures and texts, decoded by worker processes. Knows no models.

A worker draws one picture (or frame) and one text of an item; the draw depends on seed, epoch and item alone, so that
neither the number of workers nor a resumed training changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.media import guard
from coldstart.media.guard import open_medium
from coldstart.media.image import ImageTransform, load_image, to_rgb
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels, resize_rgb
from coldstart.media.video import frames_at, sample_frames

STALLED_S = 600.0  # a worker that gives no batch for so long is taken for dead


@dataclass(frozen=True)
class ImageRef:
    """Reference to a picture or video of an item.

    Attributes:
        path: as `coldstart.media.guard.resolve_uri` named it: a real path, or a URI.
        time_s: of a video, the frame to take; None: one of a few spread over it, drawn anew each time.
        digest, size_bytes: as ingest saw it; checked where given.
    """

    path: str
    kind: Literal["image", "video"] = "image"
    time_s: float | None = None
    digest: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Example:
    """One item with its pictures and texts.

    Attributes:
        group: items of one group (product, title, picture) are not each other's negatives and share a split.
        images: at least one; texts: (text, how often it is drawn against the others), at least one above 0.
    """

    item_id: str
    group: int
    split: Literal["train", "valid"]
    images: Sequence[ImageRef]
    texts: Sequence[tuple[str, float]]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write examples, one JSON object a line.

    Raises `ColdstartError` for an item without a picture or a text.
    """
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            if not example.images or not any(weight > 0 for _, weight in example.texts):
                raise ColdstartError(f"item {example.item_id!r} has no picture or no text to learn from")
            file.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        Example(
            **{
                **row,
                "images": [ImageRef(**ref) for ref in row["images"]],
                "texts": [(t, w) for t, w in row["texts"]],
            }
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Draw:
    """One draw of an item.

    Attributes:
        place: of the item in the list.
        epoch: of training; None for evaluation, which takes the first picture or middle frame and the heaviest text.
    """

    place: int
    epoch: int | None


@dataclass
class Batch:
    """Decoded pairs.

    Attributes:
        images: uint8 [B, H, W, 3]; a list where they are of different sizes.
        texts, groups (int64 [B]), places: of the same items.
        skipped: item id -> reason, of those that could not be read.
    """

    images: torch.Tensor | list[Pixels]
    texts: list[str]
    groups: torch.Tensor
    places: list[int]
    skipped: dict[str, str] = field(default_factory=dict)

    def pixels(self, rows: slice) -> Sequence[Pixels]:
        """Return some of the pictures."""
        if isinstance(self.images, list):
            return self.images[rows]
        return list(self.images[rows].numpy())


class PairDataset(Dataset[Any]):
    """Dataset of decoded pairs by `Draw`; gives the item id and the reason where one cannot be read."""

    def __init__(
        self,
        examples: Sequence[Example],
        transform: ImageTransform,
        limits: Limits,
        *,
        frames: int,
        augment: bool,
        seed: int,
    ) -> None:
        self._examples, self._transform, self._limits = examples, transform, limits
        self._frames, self._augment, self._seed = frames, augment, seed

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, draw: Draw) -> tuple[Draw, Pixels, str] | tuple[str, str]:
        example, transform = self._examples[draw.place], self._transform
        weights = np.array([weight for _, weight in example.texts])
        if draw.epoch is None:
            ref, frame = example.images[0], None
            text = example.texts[int(weights.argmax())][0]
        else:
            random = np.random.default_rng([self._seed, draw.epoch, draw.place])
            ref = example.images[int(random.integers(len(example.images)))]
            text = example.texts[int(random.choice(len(weights), p=weights / weights.sum()))][0]
            frame = int(random.integers(self._frames))
            if self._augment:
                transform = RandomCrop.drawn(transform, random)
        try:
            return draw, self._read(ref, frame, transform), text
        except Reject as why:
            return example.item_id, str(why)

    def _read(self, ref: ImageRef, frame: int | None, transform: ImageTransform) -> Pixels:
        if ref.digest is not None:
            opened = open_medium({**asdict(ref), "role": ref.kind, "uri": ref.path}, self._limits)
        else:
            opened = guard.local_path(ref.path, self._limits)
        with opened as path:
            if ref.kind == "image":
                return load_image(path, self._limits, transform)
            if ref.time_s is not None:
                return frames_at(path, self._limits, transform, [ref.time_s]).images[0]
            count = 1 if frame is None else self._frames
            images = sample_frames(path, self._limits, transform, count=count).images
            return images[(frame or 0) % len(images)]


@dataclass(frozen=True)
class RandomCrop(ImageTransform):
    """Transform to a part of the picture, at times mirrored, in the size of another transform.

    Attributes:
        box: left, top, width, height of the part, as shares of the picture.
    """

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False

    @classmethod
    def drawn(cls, transform: ImageTransform, random: np.random.Generator) -> RandomCrop:
        """Draw a crop: 60 to 100 % of the area, up to a third wider or higher than the picture."""
        share, stretch = random.uniform(0.6, 1.0), np.exp(random.uniform(-1, 1) * np.log(4 / 3) / 2)
        width, height = min(1.0, share**0.5 * stretch), min(1.0, share**0.5 / stretch)
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        box = (float(left), float(top), float(width), float(height))
        size = transform.size
        return cls(size, "squash", transform.interpolation, box=box, mirrored=bool(random.integers(2)))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) of the whole picture at which the part has the wanted size, never enlarged."""
        wide, high = super().resized(width, height)
        return min(width, round(wide / self.box[2])), min(height, round(high / self.box[3]))

    def apply(self, image: Image.Image) -> Pixels:
        """Crop, resize and perhaps mirror a picture."""
        image = to_rgb(image)
        left, top, wide, high = self.box
        part = (left * image.width, top * image.height, (left + wide) * image.width, (top + high) * image.height)
        height, width = self.size
        pixels = resize_rgb(image, (width, height), part, "bicubic")
        return np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels


def collate(rows: Sequence[Any], groups: Mapping[int, int]) -> Batch:
    """Join the pairs of a batch; those that could not be read are named in `skipped`."""
    good = [row for row in rows if len(row) == 3]
    places = [draw.place for draw, _, _ in good]
    images = [image for _, image, _ in good]
    even = len({image.shape for image in images}) == 1
    return Batch(
        images=torch.from_numpy(np.stack(images)) if even else images,  # a tensor crosses processes without a copy
        texts=[text for _, _, text in good],
        groups=torch.tensor([groups[place] for place in places], dtype=torch.int64),
        places=places,
        skipped=dict(row for row in rows if len(row) == 2),
    )


class _Collate:
    """`collate`, picklable."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._groups = {place: example.group for place, example in enumerate(examples)}

    def __call__(self, rows: Sequence[Any]) -> Batch:
        return collate(rows, self._groups)


def batches(
    data: PairDataset, examples: Sequence[Example], plan: Sequence[list[Draw]], workers: int
) -> Iterator[Batch]:
    """Load one batch for each entry of the plan, in its order.

    Args:
        workers: processes that decode; 0: this one does.
    """
    loader: DataLoader[Any] = DataLoader(
        data,
        batch_sampler=plan,  # any iterable of lists of whatever the data set takes
        num_workers=workers,
        collate_fn=_Collate(examples),
        multiprocessing_context="spawn" if workers else None,  # this process has threads, which do not survive a fork
        timeout=STALLED_S if workers else 0,
    )
    return iter(loader)


def epoch_plan(places: Sequence[int], epoch: int, seed: int, batch_size: int) -> list[list[Draw]]:
    """Shuffle all places into batches of even size, at most `batch_size`."""
    order = np.random.default_rng([seed, epoch]).permutation(np.asarray(places))
    count = -(-len(order) // batch_size)
    return [[Draw(int(place), epoch) for place in part] for part in np.array_split(order, count)]


def share(batch: Sequence[Draw], rank: int, size: int) -> list[Draw]:
    """Return the part of a batch that falls to one of `size` processes."""
    length = -(-len(batch) // size)
    return list(batch[rank * length : (rank + 1) * length])
