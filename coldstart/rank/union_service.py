"""Rank the union of channels for a history by the fitted ranker of a workspace.

Items are those that have a vector now; such as came after the fit are new to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import CandidateChannel, Ranked
from coldstart.core.pipeline import Pipeline
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.rank.channels import CONTENT, ContentNeighbours, ItemToItem, Popular, ScoringChannel
from coldstart.rank.union import LOOKED_AT, Items, gather, union_features
from coldstart.rank.union_files import from_files
from coldstart.rank.union_stage import ATTRIBUTES, attribute_codes, content_of, union_stage, why_auto
from coldstart.store import Store
from coldstart.store.fits import read_fit_items
from coldstart.store.freshness import PipelineState

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_NEAREST = 3
"""Liked items that are named for a candidate."""


@dataclass(frozen=True)
class UnionItem:
    """One candidate.

    Attributes:
        score: comparable within a request alone; new: nobody had met it when the ranker was fitted.
        sources: channels that named it, with its rank in each, the best rank first.
        nearest: liked items that spoke for it, as (item, how, weight): `cooccurrence` or `content`.
    """

    item_id: str
    score: float
    new: bool
    sources: tuple[tuple[str, int], ...]
    nearest: tuple[tuple[str, str, float], ...]


class GivenChannel:
    """Channel whose list for one request is given."""

    def __init__(self, name: str, places: NDArray[np.int64]) -> None:
        self.name = name
        self._places = places

    def candidates(self, histories: Any, k: int, before: Any = None, among: Any = None) -> Ranked:
        """Return the list, at most k of it."""
        own = self._places[None, :k]
        return Ranked(own, -np.arange(own.shape[1], dtype=np.float32)[None])

    def scores(self, histories: Any, places: NDArray[np.int64], before: Any = None) -> NDArray[np.float32]:
        """Know no score."""
        return np.full(places.shape, np.nan, np.float32)


class UnionService:
    """Fitted ranker over the items of a workspace with a vector, read once.

    Attributes:
        auto: whether it won on users that it was not fitted on; why: that in words; min_weight: of a like.
        digest: of the fit.

    Raises:
        NotFitted: nothing is fitted.
        ColdstartError: the fit is broken.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        from safetensors import SafetensorError

        stage = union_stage(pipeline)
        made = stage.newest(store)
        try:
            fitted = list(read_fit_items(made))
            fit = from_files(made.folder, len(fitted))
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
                OverflowError, MemoryError) as error:  # fmt: skip
            raise ColdstartError(
                f"{made.folder} holds no ranker of the union ({error}): run `coldstart finetune rank`"
            ) from None
        self.digest = made.digest
        self.auto, self.why, self.kind = bool(fit.report["auto"]), why_auto(made.report), fit.kind
        self.min_weight: float | None = made.report["min_weight"]
        state = PipelineState(store, pipeline, {stage.space: stage.space_stage})
        self.item_ids = sorted({*fitted, *state.of(stage.space).fresh})
        self.places = {item: place for place, item in enumerate(self.item_ids)}
        at = np.array([self.places[item] for item in fitted], np.int64)
        count = len(self.item_ids)
        counts = np.zeros(count, np.int64)
        counts[at] = fit.counts
        content = content_of(store, stage, self.item_ids)
        self.items = Items(content, counts, counts == 0, attribute_codes(store, self.item_ids), ATTRIBUTES)
        self.fit = fit
        self.channels: dict[str, ScoringChannel] = {}
        for name, channel in fit.channels.items():
            if isinstance(channel, ItemToItem):
                moved = _moved(channel.weights, at, count)
                self.channels[name] = ItemToItem(name, moved, channel.recency, counts > 0)
            elif isinstance(channel, Popular):
                final = np.full(count, np.nan, np.float32)
                final[at] = channel.final
                self.channels[name] = Popular.of_final(final)
        # in the order of the fit, which is that of its features
        popular = self.channels.popitem()
        self.channels[CONTENT] = ContentNeighbours(content)
        self.channels[popular[0]] = popular[1]
        self._unit = unit(content)

    def known(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Find the places of the known ones among items."""
        return np.array([self.places[item] for item in item_ids if item in self.places], np.int64)

    def rank(
        self,
        history: Sequence[str],
        *,
        among: Sequence[str],
        seen: Sequence[str],
        given: Mapping[str, Sequence[str]] = {},
        new_order: Sequence[str] = (),
        depth: int = 0,
    ) -> list[UnionItem]:
        """Rank the union of channels for a history, the latest item last; best first.

        Args:
            among: the only items that may be listed; seen: those that may not.
            given: further channels: name -> items, best first.
            new_order: order in which new items take the places that the ranker gives to new ones: of a model that was
                chosen for new items.
            depth: least number of candidates of each channel.

        Raises:
            ColdstartError: no item of the history is known.
        """
        known = self.known(history)
        if not len(known):
            raise ColdstartError("the history has no item that the ranker knows", kind="not_found")
        allowed = np.zeros(len(self.item_ids), bool)
        allowed[self.known(among)] = True
        allowed[self.known(seen)] = False
        channels: dict[str, CandidateChannel] = dict(self.channels)
        for name, listed in given.items():
            places = self.known(listed)
            channels[name] = GivenChannel(name, places[allowed[places]])
        candidates = gather(
            channels,
            [known],
            self.items,
            depth=max(self.fit.recipe.depth, depth),
            new_depth=self.fit.recipe.new_depth,
            among=allowed,
        )
        features = union_features(candidates, self.channels, [known], self.items)
        scores = self.fit.order(features, candidates.cold)
        scores = _in_order(scores, candidates.places, candidates.cold, self.known(new_order))
        order = np.lexsort((candidates.places, -scores))
        nearest = self._nearest(known, candidates.places[order])
        return [
            UnionItem(
                self.item_ids[int(candidates.places[row])],
                float(scores[row]),
                bool(candidates.cold[row]),
                candidates.sources(int(row)),
                own,
            )
            for row, own in zip(order, nearest, strict=True)
        ]

    def _nearest(
        self, history: NDArray[np.int64], places: NDArray[np.int64]
    ) -> list[tuple[tuple[str, str, float], ...]]:
        """Find the liked items that name each candidate most, by co-occurrence, else by content."""
        past = history[-LOOKED_AT:]
        channel = self.channels.get("cooccurrence")
        met = np.zeros((len(past), len(places)), np.float32)
        if isinstance(channel, ItemToItem):
            met = np.asarray(channel.weights[past][:, places].todense(), np.float32)
        alike = self._unit[past] @ self._unit[places].T
        found = []
        for column in range(len(places)):
            how, weights = ("cooccurrence", met[:, column]) if met[:, column].any() else ("content", alike[:, column])
            best = np.argsort(-weights, kind="stable")[:_NEAREST]
            found.append(
                tuple(
                    (self.item_ids[int(past[row])], how, round(float(weights[row]), 4))
                    for row in best
                    if weights[row] > 0
                )
            )
        return found


def _moved(weights: csr_matrix, at: NDArray[np.int64], count: int) -> csr_matrix:
    """Number the rows and columns of weights anew, csr [count, count]."""
    from scipy.sparse import csr_matrix

    own = weights.tocoo()
    return csr_matrix((own.data, (at[own.row], at[own.col])), (count, count))


def _in_order(
    scores: NDArray[np.float64], places: NDArray[np.int64], new: NDArray[np.bool_], wanted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the scores of new items to the same items in another order; those without a place in it come last."""
    own = np.flatnonzero(new)
    if not len(own) or not len(wanted):
        return scores
    rank = {int(place): number for number, place in enumerate(wanted)}
    keys = np.array([rank.get(int(place), len(rank)) for place in places[own]])
    found = scores.copy()
    found[own[np.lexsort((-scores[own], keys))]] = np.sort(scores[own])[::-1]
    return found
