"""Fit the models of `recommend` again on the interactions before a time, and list items by them.

The models are that of behaviour, the ranker of the union and the sequence model, each by the code and settings of the
pipeline, so that evaluations can measure lists on likes that no fit has read. Items are numbered by their place in one
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.api.union import NEW_POOL, POOL, histories_at_once, rank_pools
from coldstart.errors import ColdstartError, NotFitted

if TYPE_CHECKING:
    from coldstart.core.candidates import Histories
    from coldstart.core.interactions import Interactions
    from coldstart.core.pipeline import Pipeline
    from coldstart.core.progress import Progress
    from coldstart.rank.union_service import UnionRanker
    from coldstart.rank.union_stage import UnionFitStage
    from coldstart.recommend.service import Recommender
    from coldstart.recommend.users import ScoringModel
    from coldstart.store import Store

Places = NDArray[np.int64]


def behaviour_as_of(recommender: Recommender, rows: Interactions, progress: Progress) -> ScoringModel:
    """Fit the model of behaviour again on some liked rows, by the settings of the pipeline; nothing is saved.

    Raises:
        ColdstartError: there is too little data.
    """
    from coldstart.recommend.inputs import fit_stage_of, load_content
    from coldstart.recommend.users import behaviour_scoring
    from coldstart.store.freshness import build

    store, pipeline = recommender.store, recommender.pipeline
    stage: Any = build(fit_stage_of(pipeline), pipeline)
    content = load_content(store, pipeline, list(stage.spaces))
    met = {rows.item_ids[place] for place in np.unique(rows.items)}
    learnt = content.take([place for place, item in enumerate(content.item_ids) if item in met])
    try:
        fitted = stage.repeat(learnt, rows.over(learnt.item_ids), progress)
    except NotFitted as error:
        raise ColdstartError(f"{stage.name}, fitted again on the rows before the held-out ones: {error}") from None
    return behaviour_scoring(list(content.item_ids), fitted.items(content), fitted)


def union_as_of(store: Store, pipeline: Pipeline, rows: Interactions, progress: Progress) -> UnionRanker:
    """Fit the ranker of the union of channels on some liked rows, by the settings of the pipeline; nothing is saved.

    Args:
        rows: over the items that may be listed; those without a row are new to the ranker.

    Raises:
        NotFitted: there is too little data, or the pipeline embeds nothing.
    """
    from coldstart.rank.union_fit import FOLDS, fit_union
    from coldstart.rank.union_service import UnionRanker
    from coldstart.rank.union_stage import ATTRIBUTES, attribute_codes, content_of, timed_histories

    stage = _union_stage(pipeline)
    ids = list(rows.item_ids)
    content, codes = content_of(store, stage, ids), attribute_codes(store, ids)
    met = np.unique(rows.items)
    fitted = [ids[place] for place in met]
    histories, times = timed_histories(rows.over(fitted))
    if (missing := stage.missing(histories, store.uri)) is not None:
        raise NotFitted(missing)
    with progress.meter(f"{stage.name}: fits", FOLDS + 3) as meter:
        try:
            fit = fit_union(
                histories, times, fitted, content[met], (codes[met], ATTRIBUTES), stage.recipe,
                lambda: meter.advance(1, 0, 0.0),
            )  # fmt: skip
        except ColdstartError as error:
            raise NotFitted(f"{stage.name}: {error}") from None
    return UnionRanker(fit, fitted, ids, content, (codes, ATTRIBUTES))


def _union_stage(pipeline: Pipeline) -> UnionFitStage:
    """Build the pipeline's stage that fits a ranker of the union; where it has none, the one that would be added.

    Raises:
        NotFitted: the pipeline embeds nothing.
    """
    from coldstart.core.pipeline import load
    from coldstart.rank.union_stage import UNION, union_stage, with_union

    if not pipeline.of_kind(UNION):
        if not pipeline.of_kind("embed"):
            raise NotFitted("the pipeline embeds nothing, and a ranker compares content")
        pipeline = load(with_union(pipeline))
    return union_stage(pipeline)


class ListsAsOf:
    """Lists over N items as `recommend` gives them, by models of one time: scored, or scored and then ranked.

    Args:
        item_ids: N of them; model: what scores; ranker: over the same items; None: lists are scored alone.
    """

    def __init__(self, item_ids: Sequence[str], model: ScoringModel, ranker: UnionRanker | None = None) -> None:
        self.model, self.ranker = model, ranker
        columns = {item: place for place, item in enumerate(model.columns)}
        self._columns = np.array([columns.get(item, -1) for item in item_ids], np.int64)
        self._vectors = model.item_vectors(tuple(item_ids))
        places = np.array([model.places.get(item, -1) for item in item_ids], np.int64)
        self._without = places < 0
        self._cold = np.where(self._without, True, model.cold[places])

    def scores(self, histories: Histories, among: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Score all items, float32 [R, N]; -inf for those of the history, and those that may not be listed.

        Args:
            histories: places, the latest last; among: the only items, bool [N], or of each request, bool [R, N].
        """
        from scipy.sparse import csr_matrix

        liked = [self._columns[own][self._columns[own] >= 0] for own in histories]
        starts = np.cumsum([0, *map(len, liked)])
        items = np.concatenate([np.empty(0, np.int64), *liked])
        shape = (len(liked), len(self.model.columns))
        likes = csr_matrix((np.ones(len(items), np.float32), items, starts), shape)
        found = np.asarray(self.model.users_of(likes) @ self._vectors.T, np.float32)
        found[np.broadcast_to(~among | self._without, found.shape)] = -np.inf
        for row, own in enumerate(histories):
            found[row, own] = -np.inf
        return found

    def lists(self, histories: Histories, among: NDArray[np.bool_], depth: int) -> Places:
        """List items, int64 [R, depth], best first, equal ones by place; -1 at the end of a short list."""
        from coldstart.rank.channels import best

        found = np.full((len(histories), depth), -1, np.int64)
        step = histories_at_once(len(self._columns))
        for start in range(0, len(histories), step):
            rows = slice(start, start + step)
            own, allowed = histories[rows], among if among.ndim == 1 else among[rows]
            scores = self.scores(own, allowed)
            pool = best(scores, max(POOL, depth)).places
            if self.ranker is not None:
                scores[:, ~self._cold] = -np.inf
                cold = best(scores, NEW_POOL).places
                ranked = rank_pools(self.ranker, self.model, own, allowed, pool, cold, depth=depth)
                pool = np.stack(
                    [_filled(ranked.candidates.places[ranked.rows(row)], pool[row], depth) for row in range(len(own))]
                )
            width = min(depth, pool.shape[1])
            found[rows, :width] = pool[:, :width]
        return found


class RecalledAsOf:
    """Lists over N items as `recommend --recall` gives them, by the sequence model fitted again on some liked rows.

    Semantic IDs stay as they are, where they were learnt from content alone.

    Args:
        rows: over the items that may be listed; channel: `dense`, `codes` or `both`.

    Raises:
        NotFitted: the pipeline has no such fit, or it cannot be repeated without what is held out.
    """

    def __init__(self, store: Store, pipeline: Pipeline, rows: Interactions, channel: str, progress: Progress) -> None:
        from scipy.sparse import csr_matrix

        from coldstart.core.device import choose_device
        from coldstart.embed.spaces import vectors_of
        from coldstart.semantic_ids.channels import Recaller
        from coldstart.semantic_ids.decode import trie_tensors
        from coldstart.semantic_ids.fit_stage import is_usable
        from coldstart.semantic_ids.read import build_trie
        from coldstart.semantic_ids.recall_service import recall_stage
        from coldstart.semantic_ids.recall_stage import codes_of, sequence_data
        from coldstart.semantic_ids.sequence_model import item_tensors
        from coldstart.semantic_ids.train_sequence import Training, train

        stage = recall_stage(pipeline)
        sids = stage.ids(store)
        if stage.settings.decoder == "llm":
            raise NotFitted("a language model that decodes is not taught again inside a split: certify dense lists")
        if sids is not None and pipeline.stage(sids.space).kind == "behaviour":
            raise NotFitted(f"semantic IDs are of space {sids.space}, which learnt from what is held out")
        ids, device = list(rows.item_ids), choose_device(pipeline.engine.device)
        vectors = vectors_of(store, stage.space_stage, ids)
        self._usable, self._channel = is_usable(vectors), channel
        vectors[~self._usable] = 0
        met = np.unique(rows.items)
        fitted = [ids[place] for place in met]
        data = sequence_data(fitted, rows.over(fitted), vectors[met], sids)
        training = Training(**stage.settings.training(pipeline.engine.device))
        with progress.meter(f"{stage.name}: epochs", training.epochs + max(1, training.epochs // 4)) as meter:
            trained = train(data, training, step=lambda: meter.advance(1, 0, 0.0))
        shape, own = trained.model.shape, np.full(len(ids), -1, np.int64)
        own[met] = np.arange(len(met))
        codes, trie = None, None
        if shape.sizes and sids is not None:
            codes = codes_of(ids, sids)
            there = np.flatnonzero(((codes >= 0) & (codes < np.array(shape.sizes))).all(1) & (own >= 0))
            trie = trie_tensors(build_trie(codes[there]), there, len(own), device) if len(there) else None
        pick = csr_matrix((np.ones(len(met), np.float32), (met, own[met])), (len(own), len(met)))
        self._recaller = Recaller(
            trained.model.to(device),
            item_tensors(shape, own, vectors, codes, device),
            own < 0,
            trie,
            trained.new,
            neighbours=(pick @ trained.neighbours @ pick.T).tocsr(),
            mix=trained.mix,
        )

    def lists(self, histories: Histories, among: NDArray[np.bool_], depth: int) -> Places:
        """List items, int64 [R, depth]; see `ListsAsOf.lists`; `among`: bool [N]."""
        channel: Any = self._channel
        found = self._recaller.lists(histories, channel, max(POOL, depth), allowed=among & self._usable).places
        return np.asarray(found[:, :depth], np.int64)


def _filled(first: Places, rest: Places, depth: int) -> Places:
    """Put what is not in a list behind it, int64 [depth]; -1 at the end."""
    both = np.concatenate([first, rest[(rest >= 0) & ~np.isin(rest, first)]])[:depth]
    return np.pad(both, (0, depth - len(both)), constant_values=-1)
