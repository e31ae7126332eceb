"""align.text_image: fit of pictures and words to one space, on the catalogue's own pairs.

With `towers: frozen` the encoders stay as they are and heads are put on them: pictures come as the vectors of an
earlier space, words are encoded once and stored, so that an epoch over 100,000 items takes seconds. Otherwise the
encoder of that space is itself trained, and an adapter on it comes out. The result is an artifact of the workspace; a
space with `encoder: align:text_image` is made by it, and its rows follow when it is fitted anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.align.base_encoders import PairEncoders
from coldstart.align.dataset import Features
from coldstart.align.settings import CLASS_FIELDS, RECIPE, STARTER_CLIP_OF_0_1, Settings
from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow, Reject
from coldstart.embed.item_texts import PairTexts, check_fields, labels_of
from coldstart.embed.spaces import TextCache, drop_tables, encoders_of, picture_space
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.metrics.splits import FEWEST_CLASSES, has_classes, split_unseen
from coldstart.store import Store
from coldstart.store.fit_stage import FitInputs, SavedFits, fit_in_use, fit_unchanged, remove_scratch
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage

if TYPE_CHECKING:
    from coldstart.align.base_encoders import FitResult
    from coldstart.encoders import Encoder
    from coldstart.encoders._heads import AlignedHeads
    from coldstart.store.artifacts import Artifact


def build(name: str, settings: Settings, pipeline: Pipeline) -> AlignStage:
    """Build the stage over one of the pipeline's spaces.

    Raises:
        ColdstartError: no space of pictures of that name stands before it, or its towers cannot be trained.
    """
    spaces = [spec.name for spec in pipeline.earlier(name) if spec.kind == "embed" and spec.settings.input == "image"]
    if settings.image not in spaces:
        raise ColdstartError(
            f"{name}.image={settings.image!r}: no space of pictures of that name stands before it; there is "
            f"{', '.join(spaces) or 'none'}"
        )
    if settings.towers != "frozen":
        _check_towers(name, settings, pipeline.stage(settings.image).settings.encoder)
    return AlignStage(name, settings, pipeline)


def _check_towers(name: str, settings: Settings, encoder: str) -> None:
    given = f"{name}.towers={settings.towers}"
    if not encoder.startswith("open_clip:"):
        raise ColdstartError(
            f"{given}: space {settings.image!r} is made by {encoder}, whose towers cannot be trained: name a space of "
            f"an open_clip:… encoder with {name}.image, or leave towers frozen"
        )
    if settings.text not in (None, encoder):
        raise ColdstartError(
            f"{given} trains both sides of one model: pictures of space {settings.image!r} are read by {encoder}, "
            f"words by {settings.text}: leave {name}.text out, or leave towers frozen"
        )
    if settings.start not in ("auto", "same"):
        raise ColdstartError(
            f"{given} starts from the model as it is, and {name}.start={settings.start} is for heads: leave it out, or "
            "leave towers frozen"
        )


@dataclass(frozen=True)
class _Inputs:
    """Items of a fit, and their texts by view."""

    items: FitInputs
    texts: Mapping[str, Mapping[str, str]]


class AlignStage:
    """Fit stage of alignment; see `coldstart.core.stage.FitStage`."""

    kind = "align.text_image"
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self._settings = settings
        self._pipeline = pipeline
        self._words = PairTexts(name, settings.texts, settings.group_by, pipeline)
        if settings.hold_out != "auto":
            check_fields(f"{name}.hold_out", settings.hold_out)
        self._fits = SavedFits(name, lambda: self._key, reads=_summary)
        self._image: Any = build_stage(pipeline.stage(settings.image), pipeline)
        self._encoders = PairEncoders(name, self._image, settings.text, pipeline.engine)

    @cached_property
    def _start(self) -> AlignedHeads | None:
        """Heads from which the fit starts; None for random ones."""
        return self._encoders.start(self._settings.start)

    @cached_property
    def _key(self) -> str:
        passports = [asdict(self._image.passport), asdict(self._encoders.text.passport("text"))]
        made_of = {**self._settings.key_settings(), "passports": passports, "texts": self._words.fingerprint()}
        if self._settings.towers == "frozen":
            made_of["start"] = self._start_key()
        return stage_key(self.kind, self.version, made_of)

    def _start_key(self) -> str:
        """Name the first heads as version 0.1 found them, where the settings leave that to the fit.

        The packaged heads are trained anew now and then: their digest would end the use of every earlier fit.
        """
        towers = {side: tower.encoder for side, tower in self._encoders.towers.items()}
        if self._settings.start in ("auto", "starter-clip") and set(towers.values()) == {"starter"}:
            return STARTER_CLIP_OF_0_1
        one_space = self._image.passport == self._encoders.text.passport("text")
        if self._start is None or (self._settings.start == "auto" and not one_space):
            return "random"
        return self._start.heads.digest()

    def resolve(self) -> None:
        """Find the models, spaces and prompts of the settings; see `coldstart.core.stage.Resolves`."""
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    # -- where items are

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Return the keys of the items of a fit, and verdicts on the others."""
        items = self._inputs(store).items
        return items.keys, items.verdicts

    def present(self, store: Store) -> dict[str, str]:
        """Return the keys of the items of the last fit, whatever their part of the split."""
        return self._fits.present(store)

    def _inputs(self, store: Store) -> _Inputs:
        pipeline_state = PipelineState(store, self._pipeline)
        pictures = pipeline_state.of(self._image.name)
        blocked = pipeline_state.blocked(self.name)
        items = FitInputs(self.name)
        texts = self._words.read(store, pipeline_state)
        for item, picture in pictures.expected.items():
            own = texts.get(item, {})
            key = chain(self._key, f"{picture}\n{digest(own)}")
            if item in blocked:
                why = blocked[item]
            elif item in pictures.settled:
                why = Reject("no_vector", f"{self._image.name}: {pictures.settled[item].reason}", "filtered")
            elif not own:
                why = Reject("no_text", f"none of {', '.join(self._settings.texts)} is given", "filtered")
            else:
                items.take(item, key, ready=item in pictures.fresh)
                continue
            items.leave_out(item, key, why)
        return _Inputs(items, texts)

    # -- the fit

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings.

        Raises:
            ColdstartError: fewer than `min_items` items have a picture and a text.
        """
        made = self._fits.newest(store)
        if made is None:
            return self._fit(store, progress)
        changes = self._fits.changes(made, self._inputs(store).items.keys)
        since = f"{self._outdated(made)}{changes.note('coldstart finetune align')}"
        return 0, [fit_in_use(made, since, _summary(made))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings or by this recipe, or items came, changed or went since."""
        made = self._fits.newest(store)
        if made is not None and not self._outdated(made) and self.present(store) == self._inputs(store).items.keys:
            return 0, [fit_unchanged(made, _summary(made))]
        return self._fit(store, progress)

    def _outdated(self, made: Artifact) -> str:
        """Write what follows the date of a fit of heads by an earlier recipe, which stays in use; else empty.

        Towers take hours: they are fitted anew for other settings or items alone.
        """
        if self._settings.towers != "frozen" or made.report.get("recipe") == RECIPE:
            return ""
        return "; by the recipe of an earlier version: `coldstart finetune align` fits by that of now"

    def forecast(self, store: Store, rows: int, progress: Progress) -> tuple[float, float, float]:
        """Forecast the seconds of a fit of heads on so many items; see `coldstart.core.stage.Forecasts`.

        Raises:
            ColdstartError: the workspace has too few items, or towers are trained, which is not forecast.
        """
        from coldstart.align.base_encoders import pairs_of
        from coldstart.align.forecast import epoch_s, epochs, time_features

        settings = self._settings
        if settings.towers != "frozen":
            raise ColdstartError(f"{self.name}: what an epoch of towers takes is not known before it is run")
        known = time_features(
            lambda: self._encoders.text.encode_documents(["a"]), lambda: self.features(store, progress)
        )
        pairs = pairs_of(known.features, settings.texts)
        train = round(rows * (1 - settings.test_share - settings.valid_share))
        held_out = pairs.take(np.arange(max(1, min(round(rows * settings.valid_share), len(pairs)))))
        one = epoch_s(pairs, held_out, train, settings.training, self._pipeline.engine.device)
        self.run(store, progress)  # so that the stages after it have heads to be probed with
        fixed = known.load_s + known.text_s * rows + known.rest_s
        least, usual, most = (fixed + one * count for count in epochs(settings.training, train))
        return least, usual, most

    def features(self, store: Store, progress: Progress) -> Features:
        """Read or compute the vectors of pictures and texts, with the split of the last fit."""
        inputs = self._inputs(store)
        keys = inputs.items.ready
        items = sorted(keys)
        return Features.gather(
            store,
            keys,
            self._fits.parts(store),
            pictures=self._image.table,
            texts=inputs.texts,
            cache=self._cache(store, self._encoders.text),
            group_keys=self._words.group_keys(store, items),
            copy_keys=self._words.copy_keys(store, items),
            near_duplicates=self._settings.near_duplicates,
            meter=self._meters(progress),
        )

    def before_and_after(self, store: Store, progress: Progress) -> tuple[Features, Features]:
        """Read features by the encoders before the last fit, and by those after it.

        Both are one object where the fit left the encoders as they are. Otherwise only items that a space has by the
        new encoder are in both.

        Raises:
            ColdstartError: the fit has changed the encoder, and no space holds pictures by it.
        """
        made = self._fits.newest(store)
        if made is None or self._settings.towers == "frozen":
            features = self.features(store, progress)
            return features, features
        encoder = self._encoders.load(f"align:{made.folder}", label=f"align:{self.name}")
        space, fresh = picture_space(store, self._pipeline, self.name, encoder.passport("image"))
        features = self.features(store, progress)
        before = features.take([place for place, item in enumerate(features.item_ids) if item in fresh])
        after = before.by_other(
            store,
            pictures=space.table,
            texts=self._inputs(store).texts,
            cache=self._cache(store, encoder),
            meter=self._meters(progress),
        )
        return before, after

    def _cache(self, store: Store, encoder: Encoder) -> TextCache:
        return TextCache(store, self._texts_table(encoder.passport("text").digest), encoder)

    def _texts_table(self, passport: str) -> str:
        return f"stage.{self.name}.texts-{passport}"

    def _meters(self, progress: Progress) -> Any:
        return lambda what, total: progress.meter(f"{self.name}: {what}", total)

    def _fit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        items = self._inputs(store).items
        if (count := len(items.ready)) < self._settings.min_items:
            waiting = len(items.keys) - count
            waits = f" ({waiting} more have no vector yet: `coldstart run` makes them)" if waiting else ""
            raise ColdstartError(
                f"{self.name}: {count} items have a picture and a text{waits}, and a fit needs "
                f"{self._settings.min_items} (min_items): until there are more, use `encoder: starter-clip`, which "
                "needs none"
            )
        features = self.features(store, progress)
        fields = self._class_labels(store, features.item_ids)
        parts = split_unseen(
            features.groups,
            features.copies,
            features.item_ids,
            fields,
            test_share=self._settings.test_share,
            valid_share=self._settings.valid_share,
            seed=self._settings.seed,
        )
        fit = self._fit_heads if self._settings.towers == "frozen" else self._fit_towers
        result = fit(store, features, parts, progress)
        about = {
            "items": count,
            "groups": int(features.groups.max()) + 1,
            "parts": {name: len(places) for name, places in parts.items()},
            "hold_out": list(fields),
            "recipe": RECIPE,
            "texts": dict(self._settings.texts),
            **result.about,
            "recall_at_10": dict(result.recall),
        }
        files = {
            ITEMS_FILE: items_file(features.item_ids, features.keys, features.groups, parts),
            **result.all_files(about),
        }
        made = self._fits.save(store, features.keys, files, {**about, **result.report})
        remove_scratch(result.scratch)
        if self._settings.towers != "frozen":  # the texts of the last one's encoder are of no more use
            drop_tables(
                store, self._texts_table(""), keep=self._texts_table(self._encoders.text.passport("text").digest)
            )
        return count, [_summary(made), *self._next(store)]

    def _class_labels(self, store: Store, items: Sequence[str]) -> dict[str, list[str]]:
        """Read the fields of which some values are held out whole: field -> label of each item.

        Raises:
            ColdstartError: the settings name a field that has too few values.
        """
        wanted = self._settings.hold_out
        if wanted == "auto":
            for field in CLASS_FIELDS:
                if has_classes(labels := labels_of(store, items, field)):
                    return {field: labels}
            return {}
        found = {field: labels_of(store, items, field) for field in wanted}
        for field, labels in found.items():
            if not has_classes(labels):
                raise ColdstartError(
                    f"{self.name}.hold_out={field!r}: {len(set(labels) - {''})} values on {sum(map(bool, labels))} of "
                    f"{len(labels)} items, and {FEWEST_CLASSES} values on half of them are needed: leave it out"
                )
        return found

    def _fit_heads(
        self, store: Store, features: Features, parts: Mapping[str, NDArray[np.int64]], progress: Progress
    ) -> FitResult:
        from coldstart.align.fit_heads import fit_heads

        return fit_heads(
            features,
            parts,
            towers=self._encoders.towers,
            start=self._start,
            weights=self._settings.texts,
            training=self._settings.training,
            classes=self._encoders.classes,
            device=self._pipeline.engine.device,
            checkpoint=self._fits.scratch(store, ".safetensors"),
            name=self.name,
            progress=progress,
        )

    def _fit_towers(
        self, store: Store, features: Features, parts: Mapping[str, NDArray[np.int64]], progress: Progress
    ) -> FitResult:
        from coldstart.align.fit_towers import TowerFit

        job = TowerFit(
            name=self.name,
            settings=self._settings,
            engine=self._pipeline.engine,
            base=self._encoders.towers["image"],
            allow_random_weights=self._image.settings.allow_random_weights,
            pictures=self._image.table,
            at_most=self._image.settings.pictures,
            limits=Limits(**self._pipeline.media.limits()),
            folder=self._fits.scratch(store, "-towers"),
            progress=progress,
        )
        return job.fit(store, features, parts, self._inputs(store).texts)

    def _next(self, store: Store) -> list[str]:
        """Name the next step where no space of the pipeline is made by the fit."""
        short = self.name.rpartition(".")[2]
        users = [s.name for s in self._pipeline.of_kind("embed") if s.settings.encoder in encoders_of(self.name)]
        if users:
            return [f"`coldstart run --workspace {store.uri}` makes {', '.join(users)} anew with it"]
        return [
            f"no space is made with it yet: `coldstart embed --workspace {store.uri} --space aligned --encoder "
            f"align:{short}`, then `coldstart index --workspace {store.uri}`"
        ]


def _summary(made: Artifact) -> str:
    """Summarise a fit in one line: its items, and its recall on those held out."""
    report = made.report
    parts, found = report["parts"], report["recall_at_10"]
    trained = f"fitted on {parts['train']} items in {report['best_epoch']} epochs"
    if found["after"] is None:
        return f"{trained}; none were held out to evaluate it"
    before = f" (before: {found['before']:.3f})" if "before" in found else ""
    return f"{trained}; of {parts['test']} held out, recall@10 both ways {found['after']:.3f}{before}"
