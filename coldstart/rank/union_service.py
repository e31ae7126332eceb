"""Rank the union of channels for histories by a fitted ranker, and load that of a workspace.

Items are those that have a vector now; such as came after the fit are new to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import CandidateChannel, Candidates, ChannelLists
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

    from coldstart.rank.union_fit import UnionFit

Places = NDArray[np.int64]
_NEAREST = 3
"""Liked items that are named for a candidate."""


class GivenChannel:
    """Channel whose lists are given, int64 [R, k] with -1 at the end of a shorter one."""

    def __init__(self, name: str, lists: Places) -> None:
        self.name, self._lists = name, lists

    def candidates(self, histories: Any, k: int, before: Any = None, among: Any = None) -> ChannelLists:
        """Return at most k of each list."""
        own = self._lists[:, :k]
        scores = np.where(own < 0, -np.inf, -np.arange(own.shape[1], dtype=np.float32))
        return ChannelLists(own, scores.astype(np.float32))

    def scores(self, histories: Any, places: Places, before: Any = None) -> NDArray[np.float32]:
        """Know no score."""
        return np.full(places.shape, np.nan, np.float32)


@dataclass(frozen=True)
class UnionLists:
    """Ranked candidates of R requests.

    Attributes:
        candidates: in no order; scores: of each, comparable within a request alone, float64 [n].
        order: rows of the candidates, those of a request together, best first, int64 [n].
    """

    candidates: Candidates
    scores: NDArray[np.float64]
    order: Places

    def rows(self, request: int) -> Places:
        """Return the rows of one request, best first."""
        return self.order[self.candidates.starts[request] : self.candidates.starts[request + 1]]


class UnionRanker:
    """Fitted ranker over N items, of which those without a row in the fit are new to it. Plain arrays.

    Args:
        fit: of some of the items; fitted: those, in the order of the fit.
        content: float32 [N, D]; attributes: codes int64 [N, A], and names, as the fit had them.

    Attributes:
        kind: `linear` or `trees`; places: item -> its place; items: facts of all.
    """

    def __init__(
        self,
        fit: UnionFit,
        fitted: Sequence[str],
        item_ids: Sequence[str],
        content: NDArray[np.float32],
        attributes: tuple[NDArray[np.int64], tuple[str, ...]],
    ) -> None:
        self.fit, self.kind, self.item_ids = fit, fit.kind, list(item_ids)
        self.places = {item: place for place, item in enumerate(self.item_ids)}
        at = np.array([self.places[item] for item in fitted], np.int64)
        count = len(self.item_ids)
        counts = np.zeros(count, np.int64)
        counts[at] = fit.counts
        self.items = Items(content, counts, counts == 0, *attributes)
        self.channels: dict[str, ScoringChannel] = {}
        for name, channel in fit.channels.items():  # in the order of the fit, which is that of its features
            if isinstance(channel, ItemToItem):
                moved = _moved(channel.weights, at, count)
                self.channels[name] = ItemToItem(name, moved, channel.recency, counts > 0)
            elif isinstance(channel, Popular):
                final = np.full(count, np.nan, np.float32)
                final[at] = channel.final
                if content.shape[1]:
                    self.channels[CONTENT] = ContentNeighbours(content)
                self.channels[name] = Popular.of_final(final)
        self._unit = unit(content)

    def known(self, item_ids: Sequence[str]) -> Places:
        """Find the places of the known ones among items."""
        return np.array([self.places[item] for item in item_ids if item in self.places], np.int64)

    def places_of(self, item_ids: Sequence[str]) -> Places:
        """Find the place of each item, int64 [M]; -1 for an unknown one."""
        return np.array([self.places.get(item, -1) for item in item_ids], np.int64)

    def rank(
        self,
        histories: Sequence[Places],
        *,
        among: NDArray[np.bool_],
        given: Mapping[str, Places] = {},
        new_order: Places | None = None,
        depth: int = 0,
    ) -> UnionLists:
        """Rank the union of channels for R histories of known items, the latest item last.

        Args:
            among: the only items that may be listed, bool [N], or of each request, bool [R, N].
            given: further channels: name -> their lists, int64 [R, k], best first, -1 at the end.
            new_order: order in which new items take the places that the ranker gives to new ones, of a model that was
                chosen for new items: int64 [R, m], -1 at the end; None: their own.
            depth: least number of candidates of each channel.

        Raises:
            ColdstartError: a history is empty.
        """
        if not all(map(len, histories)):
            raise ColdstartError("the history has no item that the ranker knows", kind="not_found")
        channels: dict[str, CandidateChannel] = dict(self.channels)
        channels |= {name: GivenChannel(name, lists) for name, lists in given.items()}
        recipe = self.fit.recipe
        candidates = gather(
            channels, histories, self.items, depth=max(recipe.depth, depth), new_depth=recipe.new_depth, among=among
        )
        features = union_features(candidates, self.channels, histories, self.items)
        scores = self.fit.order(features, candidates.cold)
        if new_order is not None:
            scores = _in_order(scores, candidates, new_order)
        return UnionLists(candidates, scores, np.lexsort((candidates.places, -scores, candidates.requests)))

    def nearest(self, history: Places, places: Places) -> list[list[dict[str, Any]]]:
        """Find the liked items that name each candidate most, by co-occurrence, else by content.

        Returns:
            of each candidate up to three: `item_id`, `by` and `weight`, the greatest first.
        """
        past = history[-LOOKED_AT:]
        channel = self.channels.get("cooccurrence")
        met = np.zeros((len(past), len(places)), np.float32)
        if isinstance(channel, ItemToItem):
            met = np.asarray(channel.weights[past][:, places].todense(), np.float32)
        alike = self._unit[past] @ self._unit[places].T
        by_content = np.asarray(~met.any(0))
        weights = np.where(by_content, alike, met)
        best = np.argsort(-weights, axis=0, kind="stable")[:_NEAREST].T
        return [
            [
                {
                    "item_id": self.item_ids[int(past[row])],
                    "by": CONTENT if by_content[column] else "cooccurrence",
                    "weight": round(float(weights[row, column]), 4),
                }
                for row in rows
                if weights[row, column] > 0
            ]
            for column, rows in enumerate(best)
        ]


@dataclass(frozen=True)
class UnionService:
    """Fitted ranker of a workspace over the items with a vector.

    Attributes:
        auto: whether it won on users that it was not fitted on; why: that in words; min_weight: of a like.
        digest: of the fit; key: of its settings and its space.
    """

    ranker: UnionRanker
    auto: bool
    why: str
    min_weight: float | None
    digest: str
    key: str

    def known(self, item_ids: Sequence[str]) -> Places:
        """Find the places of the known ones among items."""
        return self.ranker.known(item_ids)


def load_union_service(store: Store, pipeline: Pipeline) -> UnionService:
    """Load the newest fit of the last stage that fits a ranker of the union.

    Raises:
        NotFitted: nothing is fitted.
        ColdstartError: the fit is broken.
    """
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
    state = PipelineState(store, pipeline, {stage.space: stage.space_stage})
    item_ids = sorted({*fitted, *state.of(stage.space).fresh})
    content, attributes = content_of(store, stage, item_ids), (attribute_codes(store, item_ids), ATTRIBUTES)
    ranker = UnionRanker(fit, fitted, item_ids, content, attributes)
    least: float | None = made.report["min_weight"]
    return UnionService(ranker, bool(fit.report["auto"]), why_auto(made.report), least, made.digest, stage.key)


def _moved(weights: csr_matrix, at: Places, count: int) -> csr_matrix:
    """Number the rows and columns of weights anew, csr [count, count]."""
    from scipy.sparse import csr_matrix

    own = weights.tocoo()
    return csr_matrix((own.data, (at[own.row], at[own.col])), (count, count))


def _in_order(scores: NDArray[np.float64], known: Candidates, wanted: Places) -> NDArray[np.float64]:
    """Give the scores of new items to the same items of a request in another order, [R, m]; those without a place in
    it come last."""
    own = np.flatnonzero(known.cold)
    if not len(own):
        return scores
    rank: dict[tuple[int, int], int] = {}
    for request, row in enumerate(wanted):
        rank |= {(request, int(place)): number for number, place in enumerate(row[row >= 0])}
    pairs = zip(known.requests[own].tolist(), known.places[own].tolist(), strict=True)
    keys = np.array([rank.get(pair, wanted.shape[1]) for pair in pairs])
    # a request for which the other model knows nothing keeps its own order
    has = np.asarray((wanted >= 0).any(1))[known.requests[own]]
    found = scores.copy()
    by_wish = own[np.lexsort((-scores[own], np.where(has, keys, 0), known.requests[own]))]
    by_score = own[np.lexsort((-scores[own], known.requests[own]))]
    found[by_wish] = scores[by_score]
    return found
