"""Held-out requests of a workspace: the lists that `recommend` gives without the like that is looked for.

Whatever learnt from interactions is fitted again inside the split by the same settings, so that method and base have
the digests that serving has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.api.as_of import ListsAsOf, RecalledAsOf, behaviour_as_of, union_as_of
from coldstart.api.rerank_service import base_of, listwise_stage, load_scorer
from coldstart.core.impressions import WINDOW_S
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank import LIKED, RerankItems, RerankRequest, codes_of
from coldstart.rerank.certificate import LabeledRequest, certify

if TYPE_CHECKING:
    from coldstart.core.interactions import Interactions
    from coldstart.recommend.service import Recommender
    from coldstart.rerank.features import ListFeatures
    from coldstart.semantic_ids.recall_split import RecallSplit
    from coldstart.store import Store

LISTED = 20
"""Items of a list."""
_MOST_VALID = 200


class RerankCatalogue:
    """Facts of N items that rerankers read: titles, content, creators, categories."""

    def __init__(self, store: Store, pipeline: Pipeline, item_ids: Sequence[str]) -> None:
        from coldstart.recommend.inputs import load_content
        from coldstart.recommend.users import joined_vectors

        self.item_ids = tuple(item_ids)
        content = load_content(store, pipeline, items=list(item_ids))
        places = {item: place for place, item in enumerate(content.item_ids)}
        joined = joined_vectors(content)
        self._vectors = np.zeros((len(item_ids), joined.shape[1]), np.float32)
        there = [(row, places[item]) for row, item in enumerate(item_ids) if item in places]
        self._vectors[[row for row, _ in there]] = joined[[place for _, place in there]]
        known = dict(zip(content.item_ids, content.records, strict=True))
        records = [known.get(item, {}) for item in item_ids]
        self.titles = [str(record.get("title") or "") for record in records]
        self._creators, self._categories = (
            codes_of([record.get(name) for record in records]) for name in ("creator", "category")
        )

    def items(self, places: NDArray[np.int64]) -> RerankItems:
        """Build the items of one list."""
        return RerankItems(
            tuple(self.item_ids[place] for place in places),
            tuple(self.titles[place] for place in places),
            self._vectors[places],
            self._creators[places],
            self._categories[places],
        )


class HeldOutRequests:
    """Held-out requests of a workspace, for rerankers of every kind.

    Args:
        split: `last-out` or `time`; users: so many are measured, and half as many others choose settings.
        ranked: lists are those of the ranker of the union, fitted inside the split; recall: those of this channel of
            the sequence model.

    Attributes:
        valid, test: requests of different users; base; window; notes.

    Raises:
        NotFitted: there is too little inside the split for a ranker.
        ColdstartError: there are no likes, or nobody is left.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        recommender: Recommender,
        split: str,
        users: int,
        progress: Progress,
        *,
        ranked: bool = False,
        recall: str | None = None,
    ) -> None:
        from coldstart.semantic_ids.recall_split import split_histories

        self._store, self._pipeline, self._recommender, self._progress = store, pipeline, recommender, progress
        model, ranker = recommender.scoring_model, None
        rows = recommender.interactions().positive(recommender.min_weight).over(model.item_ids)
        if not len(rows):
            raise ColdstartError(
                f"workspace {store.uri} has no likes of its items: run `coldstart ingest --workspace {store.uri} "
                "--interactions FILE`"
            )
        valid = min(max(1, users // 2), _MOST_VALID)
        self.split = split_histories(rows, split, users + valid)
        self.notes: list[str] = []
        key = None
        before = training_rows(rows, self.split)
        if recall is None and model.is_fitted:
            model = behaviour_as_of(recommender, before, progress)
            self.notes.append("the fit of behaviour was repeated inside the split, by the same settings")
        if ranked:
            from coldstart.rank.union_stage import union_stage

            key = union_stage(recommender.pipeline).key
            ranker = union_as_of(store, recommender.pipeline, before, progress)
            self.notes.append("the ranker of the union was fitted again inside the split, by the same settings")
        scored_by, sequence = None, None
        if recall is not None:
            from coldstart.semantic_ids.recall_service import recall_stage

            scored_by, sequence = f"recall ({recall})", recall_stage(recommender.pipeline).key
        self.base = base_of(recommender, scored_by, union=key, recall=sequence)
        self.item_ids = rows.item_ids
        self._catalogue = RerankCatalogue(store, recommender.pipeline, rows.item_ids)
        lists: ListsAsOf | RecalledAsOf = ListsAsOf(rows.item_ids, model, ranker)
        if recall is not None:
            lists = RecalledAsOf(store, recommender.pipeline, before, recall, progress)
            self.notes.append("the sequence model was fitted again inside the split, by the same settings")
        requests = self._requests(lists)
        order = np.random.default_rng(0).permutation(len(requests))
        cut = round(len(requests) * valid / (users + valid))
        self._cut = order[:cut].tolist(), order[cut:].tolist()
        self._all = requests
        times = rows.times
        self.window = {
            "start": int(times.min()),
            "end": int(times.max()),
            "split": f"{split} {self.split.digest()}",
        }

    @property
    def valid(self) -> list[LabeledRequest]:
        """Requests that settings are chosen on."""
        return [self._all[place] for place in self._cut[0]]

    @property
    def test(self) -> list[LabeledRequest]:
        """Requests that figures are of."""
        return [self._all[place] for place in self._cut[1]]

    def certificate(self, kind: str, generator: str, mode: str, deadline_ms: float) -> dict[str, Any]:
        """Measure one kind.

        Raises:
            NotFitted: it needs a fit, or another split.
        """
        candidates, measured, requests = self._candidates(kind, generator, mode)
        return certify(
            candidates,
            [requests[place] for place in self._cut[0]],
            [requests[place] for place in self._cut[1]],
            self.base,
            self.window,
            measured=measured,
            deadline_ms=deadline_ms,
            progress=self._progress,
        )

    def _candidates(self, kind: str, name: str, mode: str) -> tuple[list[tuple[dict[str, Any], Any]], Any, Any]:
        if kind in ("mmr", "dpp"):
            from coldstart.rerank.diverse import DIALS, Diverse

            return [({"dial": dial}, Diverse(kind, dial)) for dial in DIALS], None, self._all
        if kind == "llm":
            from coldstart.rerank.language import LanguageReranker, RememberingScorer, candidate_settings

            own = load_scorer(name, mode)
            memory: Any = RememberingScorer(own) if hasattr(own, "log_probabilities") else own
            given = [{**one, "generator": name} for one in candidate_settings(mode)]
            candidates = [(one, LanguageReranker(memory, **_language(one))) for one in given]
            return candidates, lambda one: LanguageReranker(own, **_language(one)), self._all
        from coldstart.rerank.listwise import ListwiseReranker
        from coldstart.store.impressions import ImpressionTable

        stage = listwise_stage(self._pipeline)
        if self.split.cut is None:
            raise NotFitted("listwise learnt from showings of the same days: judge it with --split time")
        features = stage.features(self._store, self.split.cut)
        # outcomes of showings are matched up to WINDOW_S later, and may be the very likes that are looked for
        shown = ImpressionTable(self._store).read(end=self.split.cut - ceil(WINDOW_S))
        with self._progress.meter(f"{stage.name}: epochs", stage.settings.epochs) as meter:
            trained = stage.train(features, shown, lambda: meter.advance(1, 0, 0.0))
        if isinstance(trained, str):
            raise NotFitted(f"before the cut of the split {trained}")
        return [({}, ListwiseReranker(trained[0], stage.key))], None, self._with_features(features, self.split.cut)

    def _with_features(self, features: ListFeatures, before: int) -> list[LabeledRequest]:
        places = {item: place for place, item in enumerate(features.known.item_ids)}
        found = []
        for one, history in zip(self._all, self.split.histories, strict=True):
            own = np.array([places[item] for item in one.items.item_ids], np.int64)
            past = np.array(
                [places[self.item_ids[place]] for place in history if self.item_ids[place] in places], np.int64
            )
            found.append(replace(one, items=features.items(own, one.items.titles, past, before)))
        return found

    def _requests(self, lists: ListsAsOf | RecalledAsOf) -> list[LabeledRequest]:
        """List the first items for every held-out history, as `recommend` orders them."""
        every = np.ones(len(self.item_ids), bool)
        listed = lists.lists(self.split.histories, every, LISTED)
        found = []
        for number, (history, target) in enumerate(zip(self.split.histories, self.split.targets, strict=True)):
            places = listed[number][listed[number] >= 0]
            liked = tuple(self._catalogue.titles[place] for place in history[::-1][:LIKED])
            found.append(
                LabeledRequest(
                    RerankRequest(liked, number),
                    self._catalogue.items(places),
                    -np.arange(len(places), dtype=np.float64),
                    places == target,
                    1,
                    self.split.is_new[places],
                    str(self.item_ids[target]),
                )
            )
        return found


def training_rows(rows: Interactions, split: RecallSplit) -> Interactions:
    """Select the liked rows that fits may read: what everyone liked before what is looked for."""
    from coldstart.rank.union_stage import timed_histories

    if split.cut is not None:
        return rows.where(rows.times < split.cut)
    histories, _ = timed_histories(rows)
    users = np.unique(rows.users)
    last = np.full(len(rows.user_ids), -1, np.int64)
    for user, own in zip(users.tolist(), histories, strict=True):
        if len(own) >= 3:
            last[user] = own[-1]
    return rows.where(rows.items != last[rows.users])


def _language(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("mode", "weight", "prior")}
