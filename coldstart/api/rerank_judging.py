"""Judged requests of a workspace: the lists that `recommend` gives without the like that is asked for.

Whatever learnt from interactions is fitted again inside the split by the same settings, so that method and base have
the digests that serving has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.api.rerank import LIKED, base_of, listwise_stage, load_scorer
from coldstart.core.impressions import WINDOW_S
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank import RerankItems, RerankRequest, codes_of
from coldstart.rerank.certificate import JudgedRequest, certify

if TYPE_CHECKING:
    from coldstart.core.interactions import Interactions
    from coldstart.recommend.service import Recommender
    from coldstart.recommend.users import ScoringModel
    from coldstart.rerank.features import ListFeatures
    from coldstart.store import Store

LISTED = 20
"""Items of a judged list."""
_MOST_VALID = 200
_FIELDS = ("title", "creator", "category")


class Judging:
    """Judged requests of a workspace, for every kind.

    Attributes:
        valid, test: requests of different users; base; window; notes.
    """

    def __init__(
        self, store: Store, pipeline: Pipeline, recommender: Recommender, split: str, users: int, progress: Progress
    ) -> None:
        from coldstart.recommend.inputs import load_content
        from coldstart.recommend.users import joined_vectors
        from coldstart.semantic_ids.recall_split import split_histories

        self._store, self._pipeline, self._recommender, self._progress = store, pipeline, recommender, progress
        model = recommender.scoring_model
        rows = recommender.interactions().positive(recommender.min_weight).over(model.item_ids)
        if not len(rows):
            raise ColdstartError(
                f"workspace {store.uri} has no likes of its items: run `coldstart ingest --workspace {store.uri} "
                "--interactions FILE`"
            )
        valid = min(max(1, users // 2), _MOST_VALID)
        self.split = split_histories(rows, split, users + valid)
        self.base = base_of(recommender, model.name)
        self.notes: list[str] = []
        if model.is_fitted:
            model = self._model_as_of(self._training_rows(rows))
            self.notes.append("the fit of behaviour was repeated inside the split, by the same settings")
        self.item_ids = rows.item_ids
        content = load_content(store, recommender.pipeline, items=list(rows.item_ids))
        places = {item: place for place, item in enumerate(content.item_ids)}
        joined = joined_vectors(content)
        self._vectors = np.zeros((len(rows.item_ids), joined.shape[1]), np.float32)
        there = [(row, places[item]) for row, item in enumerate(rows.item_ids) if item in places]
        self._vectors[[row for row, _ in there]] = joined[[place for _, place in there]]
        records = recommender.catalog.items(rows.item_ids, _FIELDS)
        self._records = [records.get(item, {}) for item in rows.item_ids]
        requests = self._requests(model, rows.item_ids)
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
    def valid(self) -> list[JudgedRequest]:
        """Requests that settings are chosen on."""
        return [self._all[place] for place in self._cut[0]]

    @property
    def test(self) -> list[JudgedRequest]:
        """Requests that figures are of."""
        return [self._all[place] for place in self._cut[1]]

    def certificate(self, kind: str, generator: str, mode: str, deadline_ms: float) -> dict[str, Any]:
        """Judge one kind.

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
        # outcomes of showings are matched up to WINDOW_S later, and may be the very likes that are asked for
        shown = ImpressionTable(self._store).read(end=self.split.cut - ceil(WINDOW_S))
        with self._progress.meter(f"{stage.name}: epochs", stage.settings.epochs) as meter:
            trained = stage.train(features, shown, lambda: meter.advance(1, 0, 0.0))
        if isinstance(trained, str):
            raise NotFitted(f"before the cut of the split {trained}")
        return [({}, ListwiseReranker(trained[0], stage.key))], None, self._with_features(features, self.split.cut)

    def _with_features(self, features: ListFeatures, before: int) -> list[JudgedRequest]:
        places = {item: place for place, item in enumerate(features.known.item_ids)}
        found = []
        for one, history in zip(self._all, self.split.histories, strict=True):
            own = np.array([places[item] for item in one.items.item_ids], np.int64)
            past = np.array(
                [places[self.item_ids[place]] for place in history if self.item_ids[place] in places], np.int64
            )
            found.append(replace(one, items=features.items(own, one.items.titles, past, before)))
        return found

    def _training_rows(self, rows: Interactions) -> Interactions:
        """Build the rows that a fit may read: what everyone liked before their target."""
        users = np.repeat(np.arange(len(self.split.train)), [len(own) for own in self.split.train])
        items = np.concatenate(self.split.train)
        names = tuple(f"u{place}" for place in range(len(self.split.train)))
        weights = np.ones(len(items), np.float32)
        return replace(rows, user_ids=names, users=users.astype(np.int32), items=items.astype(np.int32),
                       times=np.arange(len(items), dtype=np.int64), weights=weights)  # fmt: skip

    def _model_as_of(self, rows: Interactions) -> ScoringModel:
        """Fit the behaviour model again on some rows, by the settings of the pipeline."""
        from coldstart.recommend.inputs import fit_stage_of, load_content
        from coldstart.recommend.users import behaviour_scoring
        from coldstart.store.freshness import build

        pipeline = self._recommender.pipeline
        stage: Any = build(fit_stage_of(pipeline), pipeline)
        content = load_content(self._store, pipeline, list(stage.spaces))
        try:
            fitted = stage.repeat(content, rows.over(content.item_ids), self._progress)
        except NotFitted as error:
            raise ColdstartError(f"{stage.name}, fitted again without the likes that are asked for: {error}") from None
        return behaviour_scoring(list(content.item_ids), fitted.items(content), fitted)

    def _requests(self, model: ScoringModel, item_ids: Sequence[str]) -> list[JudgedRequest]:
        """List the first items for every judged history, as `recommend` scores them."""
        from scipy.sparse import csr_matrix

        columns = {item: place for place, item in enumerate(model.columns)}
        own = [model.places[item] for item in item_ids]
        vectors = model.vectors[own]
        creators, categories = (
            codes_of([record.get(name) for record in self._records]) for name in ("creator", "category")
        )
        titles = [str(record.get("title") or "") for record in self._records]
        found = []
        for number, (history, target) in enumerate(zip(self.split.histories, self.split.targets, strict=True)):
            known = [columns[item_ids[place]] for place in history if item_ids[place] in columns]
            row = csr_matrix((np.ones(len(known), np.float32), (np.zeros(len(known), int), known)), (1, len(columns)))
            scores = np.asarray(vectors @ model.users_of(row)[0], np.float64)
            scores[history] = -np.inf
            places = np.lexsort((np.arange(len(scores)), -scores))[:LISTED]
            places = places[np.isfinite(scores[places])]
            items = RerankItems(
                tuple(item_ids[place] for place in places),
                tuple(titles[place] for place in places),
                self._vectors[places],
                creators[places],
                categories[places],
            )
            liked = tuple(titles[place] for place in history[::-1][:LIKED])
            found.append(
                JudgedRequest(
                    RerankRequest(liked, number),
                    items,
                    scores[places],
                    places == target,
                    1,
                    self.split.is_new[places],
                    str(item_ids[target]),
                )
            )
        return found


def _language(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("mode", "weight", "prior")}
