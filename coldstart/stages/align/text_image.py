"""align.text_image: heads that bring pictures and words into one space, learnt from the catalogue's own pairs.

The encoders below stay as they are. Pictures come as the vectors of an earlier space, words are encoded once and kept,
so that an epoch over 100,000 items takes seconds. What is fitted is an artifact of the workspace; a space with
`encoder: align:text_image` is made by it, and its rows follow when it is fitted anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from coldstart import models
from coldstart.errors import ColdstartError
from coldstart.freshness import Standing
from coldstart.freshness import build as build_stage
from coldstart.keys import chain, digest, stage_key
from coldstart.learning.features import Features
from coldstart.learning.text_cache import TextCache
from coldstart.learning.texts import PairTexts
from coldstart.pipeline import Pipeline, Section
from coldstart.stage import LedgerRow, Reject
from coldstart.workspace import Store

if TYPE_CHECKING:
    from coldstart.encoders import Encoder
    from coldstart.heads import Aligned
    from coldstart.heads_file import Tower
    from coldstart.training.pairs import Pairs
    from coldstart.workspace.artifacts import Artifact

ITEMS_FILE = "items.parquet"
BEFORE = "before"
"""Folder of the artifact that holds the heads from which the fit started, where they meant something."""


class Training(Section):
    """How the heads are trained; see `coldstart.training.align.Recipe`."""

    loss: Literal["infonce", "siglip"] = "infonce"
    epochs: int = Field(default=40, ge=1)
    patience: int = Field(default=10, ge=0)
    """Stop after so many epochs that find no more of the held-out part; 0: never."""
    batch_size: int = Field(default=1024, ge=2)
    """Items a step; all others of a batch, but those of the item's own group, are what it is told apart from."""
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    dim: int = Field(default=384, ge=8)
    """Numbers of the space, where the fit starts from nothing."""
    hidden: int = Field(default=0, ge=0)
    """Numbers of a layer between; 0 makes heads linear."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    prior: float = Field(default=0.0, ge=0)
    """How much heads are held to what they gave at the start."""
    seed: int = 0


class Settings(Section):
    """What is learnt from, and how."""

    image: str = "image"
    """The space whose vectors stand for pictures and frames."""
    text: str = "starter"
    """The encoder of words."""
    texts: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"title": 1.0, "description": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Words of an item -> how often they are drawn against its others: a field (title, description, category,
    transcript, screen_text), or a prompt by its name or path."""
    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values make items one group: `title`, `category`, `creator`, or `attributes.NAME`. Items of a
    group are not told apart from each other, and fall on one side of the split."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Items whose pictures have at least this cosine are of one group; null compares none."""
    start: str = "auto"
    """`random`; `starter-clip`, or a folder with heads; `same`, where both encoders share a space already. `auto`: the
    last that fits, of random, starter-clip, same."""
    valid_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of the groups by which training is stopped."""
    test_share: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the groups that nothing is learnt from: what `coldstart evaluate align` asks for."""
    min_items: int = Field(default=50, ge=4)
    """Fewer items with a picture and a text are refused: they would be learnt by heart."""
    training: Training = Training()


def build(name: str, settings: Settings, pipeline: Pipeline) -> AlignStage:
    """The stage over one of the pipeline's spaces.

    Raises:
        ColdstartError: no space of pictures of that name stands before it.
    """
    names = [spec.name for spec in pipeline.stages]
    before = pipeline.stages[: names.index(name)]
    spaces = [spec.name for spec in before if spec.kind == "embed" and spec.settings.input == "image"]
    if settings.image not in spaces:
        raise ColdstartError(
            f"{name}.image={settings.image!r}: no space of pictures of that name stands before it; there is "
            f"{', '.join(spaces) or 'none'}"
        )
    return AlignStage(name, settings, pipeline)


@dataclass(frozen=True)
class _Inputs:
    """Item -> the key of what is learnt from it (empty while its picture is to come), the verdict on every other, and
    its texts by view."""

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    texts: Mapping[str, Mapping[str, str]]


class AlignStage:
    """Fit stage; see `coldstart.stage.FitStage`."""

    kind = "align.text_image"
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self._settings = settings
        self._pipeline = pipeline
        self._words = PairTexts(name, settings.texts, settings.group_by, pipeline)
        spec = next(spec for spec in pipeline.stages if spec.name == settings.image)
        self._image: Any = build_stage(spec, pipeline)

    @cached_property
    def _text(self) -> Encoder:
        """The encoder of words.

        Raises:
            ColdstartError: it takes none.
        """
        from coldstart import encoders

        engine = self._pipeline.engine
        encoder = encoders.load(
            self._settings.text,
            device=engine.device,
            dtype=engine.dtype,
            allow_random_weights=self._image.settings.allow_random_weights,
        )
        if "text" not in encoder.modalities:
            raise ColdstartError(f"{self.name}.text={self._settings.text!r}: {encoder.name} takes no text")
        return encoder

    @cached_property
    def _towers(self) -> dict[str, Tower]:
        from coldstart.heads_file import Tower

        return {
            "image": Tower(self._image.settings.encoder, asdict(self._image.passport)),
            "text": Tower(self._settings.text, asdict(self._text.passport("text"))),
        }

    @cached_property
    def _start(self) -> Aligned | None:
        """The heads from which the fit starts; None for random ones."""
        from coldstart.learning.start import starting_heads

        return starting_heads(self._settings.start, self._towers, f"{self.name}.start")

    @cached_property
    def _key(self) -> str:
        start = "random" if self._start is None else self._start.heads.digest()
        chosen = self._settings.model_dump(exclude={"image", "text", "start", "texts", "min_items"})
        passports = [asdict(self._image.passport), asdict(self._text.passport("text"))]
        made_of = {**chosen, "passports": passports, "start": start, "texts": self._words.fingerprint()}
        return stage_key(self.kind, self.version, made_of)

    # -- where items are

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        inputs = self._inputs(store)
        return dict(inputs.keys), dict(inputs.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        """Keys of the items that the last fit learnt from, was stopped by, or left aside to be judged by."""
        made = self._made(store)
        return {} if made is None else {item: key for item, (key, _) in _items_of(made).items()}

    def _made(self, store: Store) -> Artifact | None:
        """What was fitted last, if under these settings."""
        made = store.artifacts.newest(self.name)
        return made if made is not None and made.report["settings"] == self._key else None

    def _inputs(self, store: Store) -> _Inputs:
        standing = Standing(store, self._pipeline)
        pictures = standing.of(self._image.name)
        closed = standing.closed(self.name)
        keys: dict[str, str] = {}
        verdicts: dict[str, LedgerRow] = {}
        texts = self._words.read(store, standing)
        for item, picture in pictures.expected.items():
            own = texts.get(item, {})
            key = chain(self._key, f"{picture}\n{digest(own)}")
            if item in closed:
                why = closed[item]
            elif item in pictures.settled:
                why = Reject("no_vector", f"{self._image.name}: {pictures.settled[item].reason}", "filtered")
            elif not own:
                why = Reject("no_text", f"none of {', '.join(self._settings.texts)} is given", "filtered")
            else:
                keys[item] = key if item in pictures.fresh else ""
                continue
            verdicts[item] = LedgerRow(self.name, item, chain(key, str(why)), why.state, why.reason, why.detail)
        return _Inputs(keys, verdicts, texts)

    # -- the fit

    def run(self, store: Store, progress: Any) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings.

        Raises:
            ColdstartError: fewer than `min_items` items have a picture and a text.
        """
        made = self._made(store)
        if made is None:
            return self._fit(store, progress)
        keys, present = self._inputs(store).keys, _items_of(made)
        new = sum(item not in present for item in keys)
        changed = sum(bool(key) and item in present and present[item][0] != key for item, key in keys.items())
        since = f"; {new} items came and {changed} changed since: `coldstart finetune align`" if new + changed else ""
        return 0, [f"{_summary(made)}{since}"]

    def refit(self, store: Store, progress: Any) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings, or items came, changed or went since."""
        made = self._made(store)
        if made is not None and self.present(store) == dict(self._inputs(store).keys):
            return 0, [f"{_summary(made)}; nothing came or changed since"]
        return self._fit(store, progress)

    def features(self, store: Store, progress: Any) -> Features:
        """What is learnt from: vectors of pictures and texts, read or made, and the split of the last fit."""
        inputs = self._inputs(store)
        made = self._made(store)
        split = {} if made is None else {item: side for item, (_, side) in _items_of(made).items()}
        keys = {item: key for item, key in inputs.keys.items() if key}
        cache = TextCache(store, f"stage.{self.name}.texts-{self._text.passport('text').digest}", self._text)
        return Features.gather(
            store,
            keys,
            split,
            pictures=self._image.table,
            texts=inputs.texts,
            cache=cache,
            group_keys=self._words.group_keys(store, sorted(keys)),
            near_duplicates=self._settings.near_duplicates,
            meter=lambda what, total: progress.meter(f"{self.name}: {what}", total),
        )

    def _fit(self, store: Store, progress: Any) -> tuple[int, list[str]]:
        from coldstart.device import choose_device
        from coldstart.heads import Aligned
        from coldstart.training import align
        from coldstart.training.groups import split
        from coldstart.training.held_out import recall_of

        features = self.features(store, progress)
        count = len(features.item_ids)
        if count < self._settings.min_items:
            raise ColdstartError(
                f"{self.name}: {count} items have a picture and a text, and a fit needs {self._settings.min_items} "
                f"(min_items): until there are more, use `encoder: starter-clip`, which needs none"
            )
        shares = {"test": self._settings.test_share, "valid": self._settings.valid_share}
        shares["train"] = 1 - sum(shares.values())
        recipe = align.Recipe(**self._settings.training.model_dump())
        parts = split(features.groups, features.item_ids, shares, recipe.seed)
        pairs = self._pairs(features)
        train, valid, test = (pairs.take(parts[name]) for name in ("train", "valid", "test"))
        device = choose_device(self._pipeline.engine.device)
        start = self._start
        heads = align.new_heads(recipe, pairs.images.shape[1], pairs.texts.shape[1]) if start is None else start.heads
        checkpoint = models.weights_dir() / "fitting" / f"{digest([store.uri, self.name])}.safetensors"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with progress.meter(f"{self.name}: epochs", recipe.epochs) as meter:
            fitted = align.fit(
                train,
                valid if len(valid) else None,
                heads,
                recipe,
                device=device,
                checkpoint=checkpoint,
                progress=lambda epoch: meter.advance(1, 0, 0.0),
            )
        found = {"after": recall_of(fitted.heads.to(device), test, device) if len(test) else None}
        if start is not None and len(test):
            found["before"] = recall_of(heads.to(device), test, device)
        counts = {name: len(places) for name, places in parts.items()}
        about = {
            "items": count,
            "groups": int(features.groups.max()) + 1,
            "parts": counts,
            "texts": dict(self._settings.texts),
            "training": self._settings.training.model_dump(),
            "best_epoch": fitted.best_epoch,
            "epochs": len(fitted.history),
            "recall_at_10": found,
        }
        files = {ITEMS_FILE: _items_file(features, parts)}
        files |= _files(Aligned(self._towers, fitted.heads.cpu(), about))
        if start is not None:
            files |= {f"{BEFORE}/{path}": data for path, data in _files(Aligned(self._towers, heads.cpu())).items()}
        report = {**about, "settings": self._key, "seconds": fitted.seconds}
        report["history"] = [asdict(epoch) for epoch in fitted.history]
        made = store.artifacts.save(self.name, digest([self._key, *features.keys]), files, report)
        with suppress(FileNotFoundError):
            checkpoint.unlink()
        return count, [_summary(made), *self._next(store)]

    def _pairs(self, features: Features) -> Pairs:
        from coldstart.training.pairs import Pairs

        weights = np.array([self._settings.texts[view] for view in features.text_views], np.float32)
        return Pairs(
            features.images,
            features.image_items,
            features.texts,
            features.text_items,
            weights,
            features.groups,
        )

    def _next(self, store: Store) -> list[str]:
        """What to do where no space of the pipeline is made by the fit."""
        short = self.name.rpartition(".")[2]
        users = [s.name for s in self._pipeline.of_kind("embed") if s.settings.encoder in _names(self.name)]
        if users:
            return [f"`coldstart run --workspace {store.uri}` makes {', '.join(users)} anew with it"]
        return [
            f"no space is made with it yet: `coldstart embed --workspace {store.uri} --space aligned --encoder "
            f"align:{short}`, then `coldstart index --workspace {store.uri}`"
        ]


def _names(stage: str) -> set[str]:
    """The encoders that stand for what a stage fits."""
    return {f"align:{stage}", f"align:{stage.rpartition('.')[2]}"}


def _items_file(features: Features, parts: Mapping[str, NDArray[np.int64]]) -> bytes:
    sides = np.empty(len(features.item_ids), dtype="<U5")
    for name, places in parts.items():
        sides[places] = name
    columns = {"item_id": features.item_ids, "key": features.keys, "split": sides.tolist(), "group": features.groups}
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _items_of(made: Artifact) -> dict[str, tuple[str, str]]:
    """item -> its key and its part of the split, of what was fitted."""
    rows = pq.read_table(made.folder / ITEMS_FILE, columns=["item_id", "key", "split"])
    items, keys, sides = (column.to_pylist() for column in rows.columns)
    return {item: (key, side) for item, key, side in zip(items, keys, sides, strict=True)}


def _files(aligned: Aligned) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        aligned.save(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _summary(made: Artifact) -> str:
    """One line on a fit: what it learnt from, and what it finds of what it did not."""
    report = made.report
    parts, found = report["parts"], report["recall_at_10"]
    learnt = f"learnt from {parts['train']} items in {report['best_epoch']} epochs"
    if found["after"] is None:
        return f"{learnt}; none were held out to judge it by"
    before = f" (before: {found['before']:.3f})" if "before" in found else ""
    return f"{learnt}; of {parts['test']} held out, recall@10 both ways {found['after']:.3f}{before}"
