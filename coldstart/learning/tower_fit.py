"""The towers of an open_clip model fitted to a catalogue: items in, an adapter on the model out.

The training itself is a job in a folder (`coldstart.training.towers_job`), which a killed fit goes on from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from coldstart import encoders
from coldstart.device import choose_device
from coldstart.heads_file import SIDES, Tower
from coldstart.learning.align_settings import Settings
from coldstart.learning.features import Features
from coldstart.learning.learnt import Learnt, pairs_of, read_files
from coldstart.learning.looks import encode_looks, looks_of
from coldstart.learning.start import starting_heads
from coldstart.media.limits import Limits
from coldstart.pipeline import Engine
from coldstart.training.held_out import recall_of
from coldstart.training.towers_data import Example, Look
from coldstart.training.towers_job import ADAPTER, REPORT, run, write_job
from coldstart.training.towers_recipe import Recipe
from coldstart.workspace import Store

_TEXTS = 1024  # that are encoded between two signs of life
_SAID = (
    *("seconds", "history", "before", "stopped", "loss", "trained_parameters", "samples_s", "skipped"),
    *("device", "dtype", "processes", "micro_batch"),
)


@dataclass(frozen=True)
class TowerFit:
    """One fit of towers.

    Attributes:
        name: of the stage.
        base: the encoder as published, for both sides.
        pictures: table of the space that it made; at_most: pictures of an item there.
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
    progress: Any

    def fit(
        self,
        store: Store,
        features: Features,
        parts: Mapping[str, NDArray[np.int64]],
        texts: Mapping[str, Mapping[str, str]],
    ) -> Learnt:
        """Train towers on the `train` part, stop by `valid`, and ask for `test`.

        Args:
            features: by the encoder as published; parts: places of items by the part of the split.
            texts: item -> view -> text.

        Raises:
            ColdstartError: as `coldstart.training.towers_job.write_job` and `run`.
        """
        tune, items = self.settings.tune, features.item_ids
        looks = looks_of(store, self.pictures, self.at_most, items)
        plain = tune.model_dump(exclude={"processes", "workers"})
        examples = [
            Example(
                items[place],
                int(features.groups[place]),
                side,
                looks[items[place]],
                [(text, self.settings.texts[view]) for view, text in texts[items[place]].items()],
            )
            for side in ("train", "valid")
            for place in parts[side].tolist()
        ]
        write_job(
            self.folder,
            self.base.encoder,
            examples,
            Recipe(towers="lora" if self.settings.towers == "lora" else "last_blocks", **plain),
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
        return Learnt(
            aligned=aligned,
            before=before,
            recall=self._recall(features, parts["test"], encoder, looks, texts, report["micro_batch"]),
            about={
                "towers": self.settings.towers,
                "tune": plain,
                "best_epoch": report["best_epoch"],
                "epochs": len(report["history"]),
            },
            report={said: report[said] for said in _SAID},
            scratch=self.folder,
            files={f"{ADAPTER}/{path}": data for path, data in read_files(out / ADAPTER).items()},
        )

    def _recall(
        self,
        features: Features,
        test: NDArray[np.int64],
        encoder: encoders.Encoder,
        looks: Mapping[str, Sequence[Look]],
        texts: Mapping[str, Mapping[str, str]],
        batch: int,
    ) -> dict[str, float | None]:
        """Recall@10 among the test items whose pictures can be read, by stored vectors and by those made now."""
        own = [looks[features.item_ids[place]] for place in test]
        with self.progress.meter(f"{self.name}: held-out pictures", sum(map(len, own))) as meter:
            seen = encode_looks(encoder, own, self.limits, batch=batch, workers=self.settings.tune.workers, meter=meter)
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
    """A meter for each epoch, which counts its pairs; called with what the job says of its progress."""

    def __init__(self, progress: Any, name: str, epochs: int, items: int) -> None:
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

    def __call__(self, said: Mapping[str, Any]) -> None:
        if "step" not in said:  # a measurement
            return
        if said["epoch"] != self._epoch:
            self._open.close()
            self._epoch, self._done = said["epoch"], 0
            self._meter = self._open.enter_context(
                self._progress.meter(f"{self._name}: epoch {self._epoch} of {self._epochs}", self._items)
            )
        steps = said["steps"] // self._epochs
        done = round(self._items * (said["step"] - (self._epoch - 1) * steps) / steps)
        self._meter.advance(done - self._done, 0, 0.0)
        self._done = done
