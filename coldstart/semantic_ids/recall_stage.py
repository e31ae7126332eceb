"""Fit `finetune.recall`: a sequence model of the users' histories over content and semantic IDs of items.

The fit is an artifact of the workspace: weights, a card with what was measured on held-out items, and its items. It
keeps to the IDs that it was trained on, by their version; a new fit of IDs is another vocabulary, and takes a new fit
here. Items that come later are new items to it until then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.keys import digest
from coldstart.core.likes import Likes, find_likes
from coldstart.core.pipeline import Pipeline, content_space, describe_content
from coldstart.core.progress import Progress
from coldstart.core.stage import Reject
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids.fit_stage import SpaceFitStage, is_usable
from coldstart.semantic_ids.read import SemanticIds, load_ids
from coldstart.semantic_ids.recall_settings import LANGUAGE_VERSION, RECALL, Settings, check_generator
from coldstart.semantic_ids.settings import IDS
from coldstart.store import Store
from coldstart.store.fit_stage import FitInputs, fit_in_use, fit_unchanged, remove_scratch
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.interactions import InteractionTable, met_items

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.generators import Generator
    from coldstart.semantic_ids.llm_recall import LanguageFit
    from coldstart.semantic_ids.train_sequence import SequenceData
    from coldstart.store.artifacts import Artifact

WEIGHTS_FILE, CARD_FILE, NEIGHBOURS_FILE = "sequence.safetensors", "recall.json", "neighbours.safetensors"
"""Files of an artifact: weights of the model; shape, order among new items, version of IDs, passport of the space;
neighbours of items by shared users, as starts, items and weights of the rows of a sparse matrix."""
_COMMAND = "coldstart finetune recall"


def build(name: str, settings: Settings, pipeline: Pipeline) -> RecallFitStage:
    """Build the stage over an earlier space.

    Raises:
        ColdstartError: there is no such space before it, `dim` is no multiple of `heads`, or the generator cannot be
            taught.
    """
    if settings.decoder == "llm":
        check_generator(name, settings.generator)
    if settings.dim % settings.heads:
        raise ColdstartError(f"{name}.dim={settings.dim}: give a multiple of heads, {settings.heads}")
    return RecallFitStage(name, settings, pipeline, content_space(pipeline, name, settings.space))


class RecallFitStage(SpaceFitStage):
    """Fit stage; see `coldstart.core.stage.FitStage`. `space`: name of the space of content."""

    kind = RECALL
    # what only a language model reads counts where there is one, so that other fits keep the keys they had
    uncounted = frozenset({"space", "min_users", "min_items", "decoder", "generator", "llm"})

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, space: str) -> None:
        super().__init__(name, settings, pipeline, space, _summary)
        self.settings = settings

    @cached_property
    def generator(self) -> Generator | None:
        """Language model before it is taught, its weights not yet loaded; None where the setting names none.

        Raises:
            ColdstartError: it is unknown, reads pictures, or is not on this machine.
        """
        if self.settings.decoder != "llm":
            return None
        from coldstart import generators

        engine = self._pipeline.engine
        found = generators.load(self.settings.generator, device=engine.device, dtype=engine.dtype)
        if found.image_transform is not None:
            raise ColdstartError(f"{self.name}.generator={found.name!r} reads pictures: name a model of text")
        return found

    @property
    def key(self) -> str:
        """Key of the settings and the encoder of the space."""
        return self._key

    @property
    def _key(self) -> str:
        own = super()._key
        if self.generator is None:
            return own
        llm = self.settings.llm.model_dump(mode="json", exclude={"grpo_on_cpu"})
        return digest([own, llm, asdict(self.generator.passport()), LANGUAGE_VERSION])

    def _left_out(self, store: Store) -> Callable[[str], Reject | None]:
        met = met_items(store)
        why = Reject("no_interactions", "nobody has met it", "filtered")
        return lambda item: why if met and item not in met else None  # without any interaction all items wait

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there is enough data."""
        try:
            fit = self._fits.newest(store)
            inputs = self._inputs(store)
            if fit is None:
                training = RecallTraining(store, self, inputs)
                if (missing := training.missing) is not None:
                    return 0, [f"waits: {missing}"]
                return self._fit(store, training, progress)
        except NotFitted as waits:
            return 0, [str(waits)]
        note = self._fits.changes(fit, inputs.keys).note(_COMMAND)
        if not note and self._newest_ids(store) != fit.report["sids"]:
            note = f"; semantic IDs were fitted anew since: `{_COMMAND}`"
        if not note and fit.report["interactions"]["digest"] != InteractionTable(store).digest():
            note = f"; interactions came, changed or went since: `{_COMMAND}`"
        return 0, [fit_in_use(fit, note, _summary(fit))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or items, IDs or interactions changed since.

        Raises:
            ColdstartError: there is too little data.
        """
        fit = self._fits.newest(store)
        inputs = self._inputs(store)
        if fit is not None and self._newest_ids(store) == fit.report["sids"]:
            same = fit.report["interactions"]["digest"] == InteractionTable(store).digest()
            if same and self.present(store) == inputs.ready:
                return 0, [fit_unchanged(fit, _summary(fit))]
        training = RecallTraining(store, self, inputs)
        if (missing := training.missing) is not None:
            raise ColdstartError(f"{self.name}: {missing}")
        return self._fit(store, training, progress)

    def check_enough(self, store: Store) -> None:
        """Check that there are enough histories and items for a fit, before semantic IDs are made for it.

        Raises:
            ColdstartError: there are too few.
        """
        if (few := RecallTraining(store, self, self._inputs(store)).too_few) is not None:
            raise ColdstartError(f"{self.name}: {few}")

    def ids(self, store: Store) -> SemanticIds | None:
        """Load the newest semantic IDs; None where the pipeline gives none before this stage, or none are there yet."""
        if not any(spec.kind == IDS for spec in self._pipeline.earlier(self.name)):
            return None
        try:
            return load_ids(store, self._pipeline)
        except NotFitted:
            return None

    def _newest_ids(self, store: Store) -> str | None:
        ids = self.ids(store)
        return None if ids is None else ids.version

    def _fit(self, store: Store, training: RecallTraining, progress: Progress) -> tuple[int, list[str]]:
        from safetensors.torch import save

        from coldstart.semantic_ids.train_sequence import Training, train

        settings = Training(**self.settings.training(self._pipeline.engine.device))
        data = training.data
        keys = [training.keys[item] for item in data.item_ids]
        version = None if training.ids is None else training.ids.version
        about: dict[str, Any] = {"sids": version, "interactions": training.digest}
        scratch = self._fits.scratch(store, f"-{digest([keys, about])[:16]}.safetensors", of_settings=True)
        folder = scratch.with_suffix(".language")
        language = self._language(store, data, progress, folder) if self.settings.decoder == "llm" else None
        with progress.meter(f"{self.name}: epochs", settings.epochs + max(1, settings.epochs // 4)) as meter:
            learn = None if language is None else language.learn
            trained = train(data, settings, step=lambda: meter.advance(1, 0, 0.0), checkpoint=scratch, decoder=learn)
        card = {
            "shape": trained.model.shape.to_dict(),
            "new": asdict(trained.new),
            "mix": asdict(trained.mix),
            "auto": trained.report["auto"],
            "min_weight": training.likes.min_weight,
            "sids": version,
            "passport": self.space_stage.passport.digest,
        }
        report = {
            **trained.report,
            "space": self.space,
            "content": describe_content(self._pipeline, self.name, self.space),
            "sids": version,
            "coded": None if training.ids is None else training.ids.space,
            "items": len(data.item_ids),
            "histories": len(data.histories),
            "likes": str(training.likes),
            "interactions": {"digest": training.digest, "in_workspace": InteractionTable(store).count()},
        }
        weights = {name: weight.detach().cpu().contiguous() for name, weight in trained.model.state_dict().items()}
        order = np.arange(len(keys))
        files = {
            WEIGHTS_FILE: save(weights),
            NEIGHBOURS_FILE: neighbours_file(trained.neighbours),
            CARD_FILE: json.dumps(card, sort_keys=True).encode(),
            ITEMS_FILE: items_file(list(data.item_ids), keys, order, {"train": order}),
        }
        if language is not None and self.generator is not None:
            files |= language.finish(data.histories).files()
            base = self.generator.passport().digest
            card["language"] = {"base": base, "length": self.settings.llm.length}
            files[CARD_FILE] = json.dumps(card, sort_keys=True).encode()
            report["language"] = language.report
        fit = self._fits.save(store, [keys, about], files, report)
        remove_scratch(scratch)
        remove_scratch(folder)
        return len(keys), [_summary(fit), *_details(fit)]

    def _language(self, store: Store, data: SequenceData, progress: Progress, scratch: Path) -> LanguageFit:
        from coldstart.semantic_ids.llm_recall import LanguageFit, texts_of
        from coldstart.semantic_ids.llm_train import LanguageData

        assert data.codes is not None, "checked before"
        engine, known = self._pipeline.engine, LanguageData(data.codes, texts_of(store, data.item_ids))
        return LanguageFit(self.name, self.settings, known, data.sizes, engine.device, engine.dtype, progress, scratch)


class RecallTraining:
    """Training data of a fit: items with content and an interaction, histories in order of time.

    Attributes:
        keys: item -> key; ids: semantic IDs, if there are any; digest: of the interactions.
    """

    def __init__(self, store: Store, stage: RecallFitStage, inputs: FitInputs) -> None:
        self.ids, self._uri, self._settings = stage.ids(store), store.uri, stage.settings
        table = InteractionTable(store)
        self.digest = table.digest()
        rows = table.read()
        self.likes: Likes = find_likes(rows.weights, stage.settings.min_weight)
        self.keys = dict(sorted(inputs.ready.items()))
        vectors = vectors_of(store, stage.space_stage, list(self.keys))
        vectors[~is_usable(vectors)] = 0
        self.data = sequence_data(list(self.keys), rows.positive(self.likes.min_weight), vectors, self.ids)

    @property
    def missing(self) -> str | None:
        """Description of what is missing and the next step; None where there is enough data."""
        if (few := self.too_few) is not None:
            return few
        if self._settings.decoder == "llm" and self.data.codes is None:
            give = f"`coldstart finetune sids --workspace {self._uri}`"
            return f"no item with content has a semantic ID, which the language model is to be taught: {give}"
        return None

    @property
    def too_few(self) -> str | None:
        """Description of too few users or items, and the next step; None where there are enough."""
        bring = f"bring more with `coldstart ingest --workspace {self._uri} --interactions FILE`"
        users = sum(len(own) >= 2 for own in self.data.histories)
        met = len(np.unique(np.concatenate([np.empty(0, np.int64), *self.data.histories])))
        if users >= self._settings.min_users and met >= self._settings.min_items:
            return None
        return (
            f"{users} users liked two items and more, and {met} items with content were liked; a fit needs "
            f"{self._settings.min_users} (min_users) and {self._settings.min_items} (min_items): {bring}"
        )


def sequence_data(
    item_ids: list[str], liked: Interactions, vectors: NDArray[np.float32], ids: SemanticIds | None
) -> SequenceData:
    """Build the training data of items from the liked rows of the log."""
    from coldstart.semantic_ids.train_sequence import SequenceData

    codes: NDArray[np.int32] | None = None
    sizes: tuple[int, ...] = ()
    if ids is not None:
        codes = codes_of(item_ids, ids)
        sizes = tuple(int(size) for size in np.maximum(ids.codes.max(0, initial=0) + 1, 1))
        if (codes < 0).all():
            codes, sizes = None, ()
    return SequenceData(item_ids, histories_of(liked.over(item_ids)), vectors, codes, sizes)


def neighbours_file(neighbours: csr_matrix) -> bytes:
    """Write a sparse matrix of neighbours."""
    from safetensors.numpy import save

    arrays = {
        "starts": neighbours.indptr.astype(np.int64),
        "items": neighbours.indices.astype(np.int32),
        "weights": neighbours.data.astype(np.float32),
    }
    found: bytes = save(arrays)
    return found


def codes_of(item_ids: list[str], ids: SemanticIds) -> NDArray[np.int32]:
    """Look up the codes of items, int32 [N, L], -1 for an item without an ID."""
    places = np.array([ids.places.get(item, -1) for item in item_ids], np.int64)
    found = np.full((len(item_ids), ids.codes.shape[1]), -1, np.int32)
    found[places >= 0] = ids.codes[places[places >= 0]]
    return found


def histories_of(rows: Interactions) -> list[NDArray[np.int64]]:
    """Order the items of each user by time, each item once, by its latest row: places in `rows.item_ids`."""
    order = np.lexsort((rows.items, rows.times, rows.users))
    users, items = rows.users[order], rows.items[order].astype(np.int64)
    pairs = users.astype(np.int64) * max(1, len(rows.item_ids)) + items
    _, from_end = np.unique(pairs[::-1], return_index=True)
    last = np.sort(len(pairs) - 1 - from_end)
    users, items = users[last], items[last]
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    return [part for part in np.split(items, starts[1:]) if len(part)]


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line: what `auto` is, and its measures on held-out items."""
    report = fit.report
    _ = report["sids"], report["interactions"]["digest"]
    text = f"{int(report['histories']):,} histories of {int(report['items']):,} items, {int(report['epochs'])} epochs"
    best = report["held_out"][report["auto"]]
    if best["ndcg@10"] is None:
        return f"{text}; nobody to judge by, auto is {report['auto']}"
    ndcg = best["ndcg@10"]
    return (
        f"{text}; auto is {report['auto']}: on the last items of {int(report['users']):,} users NDCG@10 "
        f"{float(ndcg['value']):.4f} ({float(ndcg['low']):.4f}–{float(ndcg['high']):.4f})"
    )


def _details(fit: Artifact) -> list[str]:
    report = fit.report
    found = [f"likes: {report['likes']}", f"content: {report.get('content', report['space'])}"]
    if report["sids"] is None:
        found.append("no semantic IDs stand before it, so that it has no head of codes: `coldstart finetune sids`")
    elif report["coded"] != report["space"]:
        found.append(f"semantic IDs are of space {report['coded']}: where that learnt from interactions, the measures "
                     "above are too good; `coldstart evaluate recall` fits codes inside its split")  # fmt: skip
    mix, new = report["mix"], report["new"]
    if mix["users"]:
        names = {"neighbours": "neighbours by shared users", "content": "cosine of content", "codes": "log P of IDs"}
        terms = "".join(f" + {mix[name]:g} x {text}" for name, text in names.items() if mix[name])
        terms += f"; of a new item {mix['new']:g} x its score among new items" if new["users"] else ""
        found.append(f"both: dense score{terms}; chosen on {mix['users']:,} users")
    if new["users"]:
        order = "dense score"
        order += f" + {new['weight']:g} x log P of {new['depth']} codes" if new["weight"] else ""
        order += f" + {new['content']:g} x cosine of content" if new["content"] else ""
        found.append(f"order among new items: {order}, chosen on {new['users']:,} users")
    if (language := report.get("language")) is not None:
        found.append(
            f"IDs are decoded by {language['generator']}, {language['choose']['steps']} steps: loss a token "
            f"{language['choose']['loss_first']:.3f} at first, {language['choose']['loss_last']:.3f} at last"
        )
        if (rewards := language.get("rewards")) is not None:
            found.append(
                f"training by rewards: {rewards['dropped']:,.0f} of {rewards['groups']:,.0f} lists lacked the right ID"
            )
    if report["emitted"] is not None:
        own = report["emitted"][report["auto"]]
        found.append(f"new items in any list of 50: {own['0']:.0%}, with a share of 0.1 for them {own['0.1']:.0%}")
    return found
