"""Answer with candidates from the fitted sequence model of a workspace.

Items of the fit and those that came since, which are new to it. The fit's card and weights come from a workspace, which
may be a stranger's: shapes are checked before anything is built by them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.core.device import choose_device
from coldstart.core.pipeline import Pipeline
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids.channels import CHANNELS, NEIGHBOURS, Channel, Mix, NewItems, Recaller
from coldstart.semantic_ids.decode import CodeDecoder, trie_tensors
from coldstart.semantic_ids.fit_stage import is_usable
from coldstart.semantic_ids.read import build_trie, load_ids
from coldstart.semantic_ids.recall_settings import RECALL
from coldstart.semantic_ids.recall_stage import CARD_FILE, NEIGHBOURS_FILE, WEIGHTS_FILE, RecallFitStage, codes_of
from coldstart.semantic_ids.sequence_model import SequenceModel, Shape, item_tensors
from coldstart.store import Store
from coldstart.store.fits import read_fit_items
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_BYTES = 1 << 34
_BOUNDS = {"items": (1, 1 << 30), "content": (0, 1 << 16), "dim": (8, 1024), "layers": (1, 12), "heads": (1, 16),
           "length": (2, 1024)}  # fmt: skip
_MOST_LEVELS, _MOST_CODES = 16, 1 << 20
_BATCH = 256
"""Histories that are read at a time."""


@dataclass(frozen=True)
class Candidate:
    """One candidate.

    Attributes:
        source: `dense`, `codes` or `both`; `new` where the share of new items gave the slot.
        score: by which the list is ordered; dense: score of the dense head; log_p: of its whole ID, None without one.
        new: an item that the model was not trained on.
    """

    item_id: str
    rank: int
    source: str
    score: float
    dense: float
    log_p: float | None
    new: bool


@dataclass(frozen=True)
class Recalled:
    """Candidates for one history, best first; `recall`: channel; `history`: known items it was read from."""

    user_id: str | None
    recall: Channel
    history: int
    items: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {**asdict(self), "items": [asdict(one) for one in self.items]}


@dataclass(frozen=True)
class LoadedRecall:
    """Model of an artifact with its card, and neighbours of its items."""

    model: SequenceModel
    neighbours: csr_matrix
    new: NewItems
    mix: Mix
    auto: Channel
    min_weight: float | None
    sids: str | None
    passport: str
    language: LanguageCard | None = None


@dataclass(frozen=True)
class LanguageCard:
    """Language model that decodes: digest of its base before it was taught, and items of a history that it reads."""

    base: str
    length: int


@lru_cache(maxsize=2)
def load_recall(folder: Path) -> LoadedRecall:
    """Load the fit in an artifact's folder, which never changes: once a process.

    Raises:
        ColdstartError: a file is missing or broken, or shapes do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        card = json.loads((folder / CARD_FILE).read_text("utf-8"))
        shape = _shape(card["shape"])
        auto, new = (
            card["auto"],
            NewItems(float(card["new"]["weight"]), int(card["new"]["depth"]), float(card["new"]["content"])),
        )
        if auto not in CHANNELS or not 0 <= new.weight <= 100 or not 0 <= new.content <= 100 or not 1 <= new.depth <= 2:
            raise ValueError(f"auto={str(auto)[:40]!r}, new={str(card['new'])[:80]}")
        if new.weight and new.depth > len(shape.sizes):
            raise ValueError(f"an order by {new.depth} codes, and IDs have {len(shape.sizes)}")
        mix = Mix(*(float(card["mix"][name]) for name in ("neighbours", "content", "codes", "new")))
        if any(not 0 <= weight <= 100 for weight in astuple(mix)):
            raise ValueError(f"mix={str(card['mix'])[:80]}")
        if any((folder / name).stat().st_size > MOST_BYTES for name in (WEIGHTS_FILE, NEIGHBOURS_FILE)):
            raise ValueError("the weights are too large")
        weights = load_file(folder / WEIGHTS_FILE)
        with torch.device("meta"):
            wanted = {name: weight.shape for name, weight in SequenceModel(shape).state_dict().items()}
        if wanted != {name: weight.shape for name, weight in weights.items()} or not all(
            weight.dtype == torch.float32 and bool(weight.isfinite().all()) for weight in weights.values()
        ):
            raise ValueError("weights of another shape than the card's, or not finite")
        model = SequenceModel(shape)
        model.load_state_dict(weights)
        least = None if card["min_weight"] is None else float(card["min_weight"])
        sids = None if card["sids"] is None else str(card["sids"])
        language = card.get("language")
        if language is not None:
            if type(language["length"]) is not int or not 1 <= language["length"] <= 512 or not shape.sizes:
                raise ValueError(f"language={str(language)[:80]}")
            language = LanguageCard(str(language["base"]), language["length"])
        neighbours = _neighbours(folder / NEIGHBOURS_FILE, shape.items)
        return LoadedRecall(model.eval(), neighbours, new, mix, auto, least, sids, str(card["passport"]), language)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ColdstartError(f"{folder} holds no fit of recall ({error}): run `coldstart finetune recall`") from None


def _neighbours(path: Path, count: int) -> csr_matrix:
    from safetensors.numpy import load_file
    from scipy.sparse import csr_matrix

    arrays = load_file(path)
    starts, items, weights = (arrays[name] for name in ("starts", "items", "weights"))
    if (
        (starts.dtype, items.dtype, weights.dtype) != (np.int64, np.int32, np.float32)
        or starts.shape != (count + 1,)
        or items.shape != weights.shape
        or items.shape != (starts[-1],)
        or starts[0]
        or not ((np.diff(starts) >= 0) & (np.diff(starts) <= NEIGHBOURS)).all()
        or not ((items >= 0) & (items < count)).all()
        or not np.isfinite(weights).all()
    ):
        raise ValueError(f"{path.name} is no list of neighbours of {count:,} items")
    return csr_matrix((weights, items, starts), (count, count))


def _shape(card: dict[str, Any]) -> Shape:
    for name, (low, high) in _BOUNDS.items():
        if type(card[name]) is not int or not low <= card[name] <= high:
            raise ValueError(f"{name}={str(card[name])[:40]}")
    sizes = tuple(card["sizes"])
    if len(sizes) > _MOST_LEVELS or any(type(size) is not int or not 1 <= size <= _MOST_CODES for size in sizes):
        raise ValueError(f"sizes={str(sizes)[:80]}")
    if card["dim"] % card["heads"]:
        raise ValueError(f"dim={card['dim']} and heads={card['heads']}")
    return Shape(**{name: card[name] for name in _BOUNDS}, sizes=sizes)


def recall_stage(pipeline: Pipeline) -> RecallFitStage:
    """Build the last stage of a pipeline that fits a sequence model.

    Raises:
        NotFitted: it has none.
    """
    stage = build_stage(pipeline.last(RECALL, "coldstart finetune recall"), pipeline)
    assert isinstance(stage, RecallFitStage)
    return stage


class RecallService:
    """Sequence model over the items of a workspace with a vector, read once.

    Attributes:
        item_ids: of all items; places: of each; fit: the loaded fit.

    Raises:
        NotFitted: nothing is fitted yet.
        ColdstartError: the fit is broken, of another encoder than the space's, or its IDs are no longer stored.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        stage = recall_stage(pipeline)
        made = store.artifacts.newest(stage.name)
        if made is None:
            raise NotFitted(f"stage {stage.name!r} has fitted nothing: run `coldstart finetune recall`")
        self.fit = load_recall(made.folder)
        if self.fit.passport != stage.space_stage.passport.digest:
            raise ColdstartError(
                f"stage {stage.name!r} was fitted on other vectors than those of space {stage.space!r}: run "
                "`coldstart finetune recall`"
            )
        state = PipelineState(store, pipeline, {stage.space: stage.space_stage})
        rows = {item: row for row, item in enumerate(read_fit_items(made))}
        blocked = state.blocked(stage.name)
        ids = sorted(item for item in state.of(stage.space).fresh if item not in blocked)
        shape = self.fit.model.shape
        if max(rows.values(), default=-1) >= shape.items:
            raise ColdstartError(f"{made.folder} names more items than its weights have: `coldstart finetune recall`")
        vectors = vectors_of(store, stage.space_stage, ids)
        if vectors.shape[1] != shape.content:
            raise ColdstartError(
                f"{made.folder} reads vectors of {shape.content} numbers, and those of space {stage.space!r} have "
                f"{vectors.shape[1]}: run `coldstart finetune recall`"
            )
        usable = is_usable(vectors)
        self.item_ids = [item for item, is_one in zip(ids, usable.tolist(), strict=True) if is_one]
        self.places = {item: place for place, item in enumerate(self.item_ids)}
        self._device = choose_device(pipeline.engine.device)
        own = np.array([rows.get(item, -1) for item in self.item_ids], np.int64)
        codes, trie = None, None
        if shape.sizes:
            codes = codes_of(self.item_ids, load_ids(store, pipeline, self.fit.sids))
            if codes.shape[1] != len(shape.sizes):
                raise ColdstartError(f"{made.folder} decodes {len(shape.sizes)} codes, and IDs have {codes.shape[1]}")
            # a code that came after the fit, as of a counting level, cannot be decoded
            there = np.flatnonzero(((codes >= 0) & (codes < np.array(shape.sizes))).all(1) & (own >= 0))
            if len(there):
                trie = trie_tensors(build_trie(codes[there]), there, len(own), self._device)
        self.items = item_tensors(shape, own, vectors[usable], codes, self._device)
        decoder = None if codes is None else self._decoder(stage, made.folder, codes, pipeline)
        model = self.fit.model.to(self._device)
        from scipy.sparse import csr_matrix

        there = np.flatnonzero(own >= 0)
        pick = csr_matrix((np.ones(len(there), np.float32), (there, own[there])), (len(own), shape.items))
        near = pick @ self.fit.neighbours @ pick.T  # from rows of the fit to places here
        self.recaller = Recaller(
            model, self.items, own < 0, trie, self.fit.new, decoder=decoder, neighbours=near.tocsr(), mix=self.fit.mix
        )

    def _decoder(
        self, stage: RecallFitStage, folder: Path, codes: NDArray[np.int32], pipeline: Pipeline
    ) -> CodeDecoder | None:
        """Build the language model's decoder where the fit has one; the base is what the pipeline names."""
        known = self.fit.language
        if known is None:
            return None
        if stage.generator is None or stage.generator.passport().digest != known.base:
            named = "none" if stage.generator is None else f"{stage.generator.name!r}, which is another one"
            raise ColdstartError(
                f"stage {stage.name!r} was fitted with a language model, and the pipeline names {named}: run "
                "`coldstart finetune recall`"
            )
        from coldstart.semantic_ids.llm_recall import read_decoder

        engine, sizes = pipeline.engine, self.fit.model.shape.sizes
        generator = stage.settings.generator
        return read_decoder(folder, generator, codes, sizes, known.length, engine.device, engine.dtype)

    def channel(self, recall: str) -> Channel:
        """Resolve a channel; `auto` is the one that was best on held-out items.

        Raises:
            ColdstartError: it is unknown, or there are no codes to decode.
        """
        for channel in CHANNELS:
            if recall == channel:
                if channel == "codes" and self.recaller.trie is None:
                    raise ColdstartError(
                        f"recall {recall!r}: the model was fitted without semantic IDs, or none of its items has "
                        "one: `coldstart finetune sids`, then `coldstart finetune recall`"
                    )
                return channel
        if recall != "auto":
            raise ColdstartError(f"recall {recall[:80]!r}: use auto, {', '.join(CHANNELS[:-1])} or {CHANNELS[-1]}")
        return self.fit.auto

    def known(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Find the places of the known ones among items."""
        return np.array([self.places[item] for item in item_ids if item in self.places], np.int64)

    def recall(
        self,
        user_id: str | None,
        history: Sequence[str],
        recall: str,
        top_k: int,
        *,
        cold_share: float = 0.0,
        among: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
    ) -> Recalled:
        """List candidates for a history, the latest item last.

        Args:
            among: the only items that may be listed; seen: those that may not, by default the history.

        Raises:
            ColdstartError: no item of the history is known, or the channel is unknown.
        """
        channel, known = self.channel(recall), self.known(history)
        if not len(known):
            who = "the history" if user_id is None else f"the history of user {user_id!r}"
            raise ColdstartError(
                f"{who} has no item that the sequence model knows: leave out recall, and the list is scored without it",
                kind="not_found",
            )
        allowed = self._allowed(among)
        left_out = known if seen is None else self.known(seen)
        found = self.recaller.lists([known], channel, top_k, allowed=allowed, seen=[left_out], cold_share=cold_share)
        places = found.places[0][found.places[0] >= 0]
        dense, log_p = self.recaller.describe(known, places, decoded=channel != "dense")
        items = tuple(
            Candidate(
                self.item_ids[place],
                slot + 1,
                "new" if found.added[0, slot] else channel,
                float(found.scores[0, slot]),
                float(dense[slot]),
                None if np.isnan(log_p[slot]) else float(log_p[slot]),
                bool(self.recaller.is_new[place]),
            )
            for slot, place in enumerate(places.tolist())
        )
        return Recalled(user_id, channel, len(known), items)

    def pools(
        self,
        histories: Sequence[Sequence[str]],
        recall: str,
        most: int,
        most_new: int,
        *,
        among: Sequence[str],
        seen: Sequence[Sequence[str]],
    ) -> list[tuple[str, ...] | None]:
        """List candidates of many histories for the rules of lists, best first: those of a channel, then the best new
        items that are not among them.

        Args:
            most, most_new: the number of each; among: the only items; seen: of each history those that are left out.

        Returns:
            Items of each history; None where the model knows no item of it.
        """
        channel, allowed = self.channel(recall), self._allowed(among)
        found: list[tuple[str, ...] | None] = [None] * len(histories)
        known = [self.known(own) for own in histories]
        own = [row for row, one in enumerate(known) if len(one)]
        for start in range(0, len(own), _BATCH):
            rows = own[start : start + _BATCH]
            read, left_out = [known[row] for row in rows], [self.known(seen[row]) for row in rows]
            listed = self.recaller.lists(read, channel, most, allowed=allowed, seen=left_out).places
            by_order = self.recaller.lists(
                read, "dense", most_new, allowed=allowed, seen=left_out, cold_share=1.0
            ).places
            for place, row in enumerate(rows):
                best = listed[place][listed[place] >= 0]
                new = by_order[place][by_order[place] >= 0]
                new = new[self.recaller.is_new[new] & ~np.isin(new, best)]
                found[row] = tuple(self.item_ids[one] for one in [*best.tolist(), *new.tolist()])
        return found

    def _allowed(self, among: Sequence[str] | None) -> NDArray[np.bool_] | None:
        if among is None:
            return None
        allowed = np.zeros(len(self.item_ids), bool)
        allowed[self.known(among)] = True
        return allowed
