"""Fit of the towers of an open_clip model to a catalogue: items in, an adapter on the model out.

The training is a job in a folder (`coldstart.align.towers.job`), which a killed fit goes on from. Pictures of items are
read as a space read them, and decoded in worker processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from coldstart import encoders
from coldstart.align.base_encoders import FitResult, pairs_of
from coldstart.align.dataset import Features
from coldstart.align.head_math import recall_of
from coldstart.align.settings import Settings
from coldstart.align.towers.data import Draw, Example, ImageRef, PairDataset, batches
from coldstart.align.towers.job import ADAPTER, REPORT, run, write_job
from coldstart.core.device import choose_device
from coldstart.core.pipeline import Engine
from coldstart.core.progress import Meter, Progress
from coldstart.encoders._heads import starting_heads
from coldstart.encoders._heads_file import SIDES, Tower
from coldstart.media.guard import visual_media
from coldstart.media.limits import Limits
from coldstart.store import ITEMS, Store
from coldstart.store.artifacts import read_files

if TYPE_CHECKING:
    from coldstart.encoders import Encoder


_TEXTS = 1024  # that are encoded between two signs of life
_REPORTED = (
    *("seconds", "history", "before", "stopped", "loss", "trained_parameters", "samples_s", "skipped"),
    *("device", "dtype", "processes", "micro_batch"),
)


@dataclass(frozen=True)
class TowerFit:
    """Fit of the towers under one alignment stage.

    Attributes:
        name: of the stage.
        base: the encoder as published, for both sides.
        pictures: table of the encoder's space; at_most: pictures of an item in it.
        limits: of media.
        folder: of the job.
        progress: as stages take it.
    """

    name: str
    settings: Settings
    engine: Engine
    base: Tower
    allow_random_weights: bool
    pictures: str
    at_most: int
    limits: Limits
    folder: Path
    progress: Progress

    def fit(
        self,
        store: Store,
        features: Features,
        parts: Mapping[str, NDArray[np.int64]],
        texts: Mapping[str, Mapping[str, str]],
    ) -> FitResult:
        """Train towers on the `train` part, stop by `valid`, and evaluate on `test`.

        Args:
            features: by the encoder as published; parts: places of items by the part of the split.
            texts: item -> view -> text.

        Raises:
            ColdstartError: as `coldstart.align.towers.job.write_job` and `run`.
        """
        tune, items = self.settings.tune, features.item_ids
        refs = image_refs(store, self.pictures, self.at_most, items)
        examples = [
            Example(
                items[place],
                int(features.groups[place]),
                side,
                refs[items[place]],
                [(text, self.settings.texts[view]) for view, text in texts[items[place]].items()],
            )
            for side in ("train", "valid")
            for place in parts[side].tolist()
        ]
        write_job(
            self.folder,
            self.base.encoder,
            examples,
            "lora" if self.settings.towers == "lora" else "last_blocks",
            tune,
            limits=self.limits,
            allow_random_weights=self.allow_random_weights,
        )
        with _Epochs(self.progress, self.name, tune.epochs, len(parts["train"])) as epochs:
            out = run(
                self.folder,
                device=self.engine.device,
                dtype=self.engine.dtype,
                processes=tune.processes,
                workers=tune.workers,
                progress=epochs,
            )
        report = json.loads((out / REPORT).read_bytes())
        encoder = encoders.load(
            self.base.encoder,
            device=self.engine.device,
            dtype=self.engine.dtype,
            allow_random_weights=self.allow_random_weights,
            adapter=str(out / ADAPTER),
        )
        tower = Tower(self.base.encoder, asdict(encoder.passport("image")), ADAPTER)
        before = starting_heads("same", dict.fromkeys(SIDES, self.base), self.name)
        aligned = starting_heads("same", dict.fromkeys(SIDES, tower), self.name)
        assert before is not None and aligned is not None, "`same` gives heads or raises"
        return FitResult(
            aligned=aligned,
            before=before,
            recall=self._recall(features, parts["test"], encoder, refs, texts, report["micro_batch"]),
            about={
                "towers": self.settings.towers,
                "tune": tune.recipe(),
                "best_epoch": report["best_epoch"],
                "epochs": len(report["history"]),
            },
            report={name: report[name] for name in _REPORTED},
            scratch=self.folder,
            files={f"{ADAPTER}/{path}": data for path, data in read_files(out / ADAPTER).items()},
        )

    def _recall(
        self,
        features: Features,
        test: NDArray[np.int64],
        encoder: encoders.Encoder,
        refs: Mapping[str, Sequence[ImageRef]],
        texts: Mapping[str, Mapping[str, str]],
        batch: int,
    ) -> dict[str, float | None]:
        """Compute recall@10 of the test items whose pictures can be read, before and after."""
        own = [refs[features.item_ids[place]] for place in test]
        with self.progress.meter(f"{self.name}: held-out pictures", sum(map(len, own))) as meter:
            seen = encode_image_refs(
                encoder, own, self.limits, batch=batch, workers=self.settings.tune.workers, meter=meter
            )
        read, places = np.unique(seen.items, return_inverse=True)
        if not len(read):
            return {"after": None}
        first = pairs_of(features, self.settings.texts).take(test[read])
        rows = np.flatnonzero(np.asarray(first.text_items) >= 0).tolist()
        words = [texts[features.item_ids[int(features.text_items[row])]][features.text_views[row]] for row in rows]
        made = [np.zeros((0, seen.vectors.shape[1]), np.float32)]
        with self.progress.meter(f"{self.name}: held-out texts", len(words)) as meter:
            for start in range(0, len(words), _TEXTS):
                made.append(encoder.encode_documents(words[start : start + _TEXTS]))
                meter.advance(len(made[-1]), 0, 0.0)
        then = replace(
            first,
            images=seen.vectors,
            image_items=places.astype(np.int64),
            texts=np.concatenate(made),
            text_items=first.text_items[rows],
            text_weights=first.text_weights[rows],
        )
        device = choose_device(self.engine.device)
        same = starting_heads("same", dict.fromkeys(SIDES, self.base), self.name)
        assert same is not None, "`same` gives heads or raises"
        heads = same.heads.to(device)
        return {"after": recall_of(heads, then, device), "before": recall_of(heads, first, device)}


class _Epochs:
    """Progress meter for each epoch, which counts its pairs; called with the job's events."""

    def __init__(self, progress: Progress, name: str, epochs: int, items: int) -> None:
        self._progress, self._name, self._epochs, self._items = progress, name, epochs, items
        self._epoch = self._done = 0
        self._meter: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if "step" not in event:  # a measurement
            return
        if event["epoch"] != self._epoch:
            self._open.close()
            self._epoch, self._done = event["epoch"], 0
            self._meter = self._open.enter_context(
                self._progress.meter(f"{self._name}: epoch {self._epoch} of {self._epochs}", self._items)
            )
        steps = event["steps"] // self._epochs
        done = round(self._items * (event["step"] - (self._epoch - 1) * steps) / steps)
        self._meter.advance(done - self._done, 0, 0.0)
        self._done = done


def image_refs(store: Store, table: str, pictures: int, items: Sequence[str]) -> dict[str, list[ImageRef]]:
    """List the pictures of items, or the frames of their videos at the times that a space stored, the middle one first.

    Args:
        table: of an image space with fresh rows of all the items; pictures: at most so many of an item, as there.
    """
    wanted = set(items)
    rows = store.read(table, ["item_id", "frame_times_s"])
    times = dict(zip(rows["item_id"].to_pylist(), rows["frame_times_s"].to_pylist(), strict=True))
    found = {}
    for row in store.read(ITEMS, ["item_id", "media"]).to_pylist():
        if row["item_id"] not in wanted:
            continue
        media = visual_media(row, pictures)
        if media[0]["role"] == "video":
            found[row["item_id"]] = [_image_ref(media[0], time_s) for time_s in _middle_first(times[row["item_id"]])]
        else:
            found[row["item_id"]] = [_image_ref(entry, None) for entry in media]
    return found


def _image_ref(entry: Mapping[str, Any], time_s: float | None) -> ImageRef:
    return ImageRef(entry["uri"], entry["role"], time_s, entry["digest"], entry["size_bytes"])


def _middle_first(times_s: Sequence[float]) -> list[float]:
    """Move the middle frame to the front: it stands for a video where one alone is measured."""
    middle = len(times_s) // 2
    return [times_s[middle], *times_s[:middle], *times_s[middle + 1 :]]


@dataclass(frozen=True)
class EncodedImages:
    """Unit vectors of the pictures that can be read.

    Attributes:
        vectors: float32 [N, D]; items: the place of each one's item, int [N].
    """

    vectors: NDArray[np.float32]
    items: NDArray[np.int64]


def encode_image_refs(
    encoder: Encoder, refs: Sequence[Sequence[ImageRef]], limits: Limits, *, batch: int, workers: int, meter: Meter
) -> EncodedImages:
    """Encode pictures.

    Args:
        refs: pictures of each item.
        batch: pictures that the encoder takes at once; workers: processes that decode, 0: this one.
        meter: counts pictures.
    """
    assert encoder.image_transform is not None, "an encoder that takes images states how it wants them"
    examples = [Example("", place, "valid", [ref], [("", 1.0)]) for place, own in enumerate(refs) for ref in own]
    data = PairDataset(examples, encoder.image_transform, limits, frames=1, augment=False, seed=0)
    plan = [[Draw(at, None) for at in range(start, len(examples))[:batch]] for start in range(0, len(examples), batch)]
    vectors = [np.zeros((0, encoder.passport("image").dim), np.float32)]
    owners = [np.zeros(0, np.int64)]
    for draws, found in zip(plan, batches(data, examples, plan, workers), strict=True):
        if found.places:
            vectors.append(encoder.encode_images(found.pixels(slice(None))))
            owners.append(found.groups.numpy())
        meter.advance(len(draws), len(draws) - len(found.places), 0.0)
    return EncodedImages(np.concatenate(vectors), np.concatenate(owners))
