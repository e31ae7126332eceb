"""Rows of `evaluate recommend` for lists as `recommend` gives them: scored, ranked, and ranked and reranked.

Everything is fitted on the training side of the split alone, by the settings of the pipeline, for the same users and
candidates as all other rows. A reranker is chosen on part `valid`, whose rows no fit reads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.api.as_of import ListsAsOf, union_as_of
from coldstart.api.rerank_requests import RerankCatalogue
from coldstart.api.rerank_service import listwise_stage, read_certificate
from coldstart.core.impressions import WINDOW_S
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError, NotFitted
from coldstart.metrics.ranking import measure_lists, paired
from coldstart.recommend.evaluate.data import EvaluationData, build_data
from coldstart.recommend.evaluate.measures import ListInputs, ListRow, ListRows, list_depth
from coldstart.rerank import KINDS, MOST_ITEMS, Guard, RerankItems, RerankRequest

if TYPE_CHECKING:
    from coldstart.recommend.users import ScoringModel
    from coldstart.rerank import Reranker
    from coldstart.rerank.features import ListFeatures
    from coldstart.store import Store

SERVED, RANKED, RERANKED = "served", "ranked", "reranked"
MOST_USERS = 20_000
"""Users above which lists are not ranked unless the rows are named: three lists of each take some 10 ms."""
VALID_USERS = 500
"""Users of part `valid` on whose lists a reranker is chosen."""
_BLOCK = 256

Places = NDArray[np.int64]
Lists = Mapping[str, Places]


@dataclass
class ServedRows:
    """Builder of the rows; see the module.

    Args:
        wanted: names of rows; None: all, within `MOST_USERS`.
    """

    store: Store
    pipeline: Pipeline
    progress: Progress
    wanted: tuple[str, ...] | None = None
    _catalogue: RerankCatalogue | None = field(default=None, init=False)

    def __call__(self, inputs: ListInputs) -> ListRows:
        """Build the rows of one evaluation."""
        data, users = inputs.data, inputs.task.users
        if self.wanted is None and len(users) > MOST_USERS:
            why = f"{len(users):,} users, above {MOST_USERS:,}: name it in methods to rank for all of them"
            return ListRows([], dict.fromkeys((SERVED, RANKED), why))
        wanted = self.wanted
        if wanted is None:
            wanted = (SERVED, RANKED, RERANKED) if self._reranks() else (SERVED, RANKED)
        began = time.perf_counter()
        model = self._model(inputs)
        seconds = time.perf_counter() - began
        depth = max(list_depth(inputs.task), MOST_ITEMS)
        lists = {SERVED: ListsAsOf(data.content.item_ids, model)}
        own = {SERVED: _lists(lists[SERVED], data, users, depth)}
        how = "behaviour" if model.is_fitted else "mean of content"
        rows = [ListRow(SERVED, f"served: {how}", own[SERVED], seconds)]
        left_out: dict[str, str] = {}
        notes: list[str] = []
        if wanted == (SERVED,):
            return ListRows(rows)
        try:
            began = time.perf_counter()
            training = data.training.positive(data.min_weight)
            ranker = union_as_of(self.store, self.pipeline, training, self.progress)
            fitted = time.perf_counter()
            lists[RANKED] = ListsAsOf(data.content.item_ids, model, ranker)
            own[RANKED] = _lists(lists[RANKED], data, users, depth)
            each = 1000 * (time.perf_counter() - fitted) / max(1, len(users))
            rows.append(ListRow(RANKED, f"ranked: union of channels, {ranker.kind}", own[RANKED],
                                fitted - began))  # fmt: skip
            notes.append(
                f"ranked: fitted in {fitted - began:.0f} s on the training side, {each:.1f} ms a user for "
                f"{len(own[RANKED])} lists; new items stand where the model of behaviour puts them among new ones"
            )
        except NotFitted as missing:
            left_out[RANKED] = str(missing)
        if RERANKED in wanted:
            try:
                rows.append(self._reranked(inputs, lists, own, notes))
            except NotFitted as missing:
                left_out[RERANKED] = str(missing)
        return ListRows([row for row in rows if row.name in (SERVED, *wanted)], left_out, notes)

    def _model(self, inputs: ListInputs) -> ScoringModel:
        """Build the scoring model: of behaviour where the workspace has a fit of it, else of content."""
        from coldstart.recommend.inputs import FIT
        from coldstart.recommend.users import behaviour_scoring, content_scoring

        content, stages = inputs.data.content, self.pipeline.of_kind(FIT)
        if not stages or self.store.artifacts.newest(stages[-1].name) is None:
            return content_scoring(content, ~inputs.data.split.warm)
        behaviour = inputs.chosen()
        return behaviour_scoring(list(content.item_ids), behaviour.items(content), behaviour)

    # -- reranking

    def _reranks(self) -> bool:
        """Tell whether the workspace has a certificate of a reranker, or a fit of one."""
        if any(read_certificate(self.store, kind) is not None for kind in KINDS[1:]):
            return True
        try:
            listwise_stage(self.pipeline).newest(self.store)
        except NotFitted:
            return False
        return True

    def _reranked(
        self, inputs: ListInputs, lists: Mapping[str, ListsAsOf], own: Mapping[str, Lists], notes: list[str]
    ) -> ListRow:
        """Choose a base and a reranker on part `valid`, and order the heads of the lists by it.

        Raises:
            NotFitted: there is no other part to choose on, or nothing gained there.
        """
        data, began = inputs.data, time.perf_counter()
        if data.part != "test":
            raise NotFitted("a reranker is chosen on part valid: evaluate it on part test")
        try:
            valid = build_data(data.split, data.content, "valid", min_weight=data.min_weight)
        except ColdstartError as error:
            raise NotFitted(f"a reranker is chosen on part valid: {error}") from None
        users = valid.query_users()
        users = np.sort(np.random.default_rng(0).permutation(users)[:VALID_USERS])
        part = "all" if "all" in valid.candidates() else next(iter(valid.candidates()))
        known = {name: _lists(one, valid, users, MOST_ITEMS, (part,))[part] for name, one in lists.items()}

        def gains(found: Places) -> NDArray[np.float64]:
            allowed = valid.relevant[users].multiply(valid.candidates()[part][None].astype(np.float32)).tocsr()
            values = measure_lists(found, allowed, [20])["ndcg@20"]
            return values[np.isfinite(values)]

        base = SERVED
        if RANKED in known and paired(gains(known[SERVED]), gains(known[RANKED])).low > 0:
            base = RANKED
        rerankers = self._rerankers(data, notes)
        tried = {
            name: float(gains(self._heads(one, known[base], valid, users)).mean()) for name, one in rerankers.items()
        }
        best = max(tried, key=lambda name: tried[name])
        without = float(gains(known[base]).mean())
        ways = (
            f"the best of {len(tried)} ways, {best}, has NDCG@20 {tried[best]:.4f} over the list {base} on "
            f"{len(users):,} users"
        )
        if tried[best] <= without:
            raise NotFitted(f"{ways} of part valid, and {without:.4f} has it as it is")
        found = {
            name: self._heads(rerankers[best], heads, data, inputs.task.users) for name, heads in own[base].items()
        }
        notes.append(f"reranked: {ways} of part valid, where it was chosen, and {without:.4f} has it as it is")
        return ListRow(RERANKED, f"reranked: {best}, over {base}", found, time.perf_counter() - began)

    def _rerankers(self, data: EvaluationData, notes: list[str]) -> dict[str, tuple[Reranker, ListFeatures | None]]:
        """Collect what may rerank: both ways to diversify with their dials, and a model of lists where there is one."""
        from coldstart.rerank.diverse import DIALS, Diverse

        found: dict[str, tuple[Reranker, ListFeatures | None]] = {
            f"{kind} {dial:g}": (Diverse(kind, dial), None) for kind in ("mmr", "dpp") for dial in DIALS
        }
        try:
            found["listwise"] = self._listwise(data)
        except NotFitted as missing:
            notes.append(f"reranked: listwise is left out: {missing}")
        return found

    def _listwise(self, data: EvaluationData) -> tuple[Reranker, ListFeatures]:
        """Fit the model of lists on showings of training items before the training window ends.

        Raises:
            NotFitted: the pipeline has none, the split is not by time, or there are too few showings.
        """
        from coldstart.embed.spaces import vectors_of
        from coldstart.rerank.features import KnownItems, ListFeatures
        from coldstart.rerank.listwise import ListwiseReranker
        from coldstart.store.impressions import ImpressionTable

        stage, store = listwise_stage(self.pipeline), self.store
        end = data.split.request_at("valid")
        if end is None:
            raise NotFitted("showings are of certain days: use the split by time")
        records = dict(zip(data.content.item_ids, data.content.records, strict=True))
        likes = data.training.positive(data.min_weight)

        def features(item_ids: list[str]) -> ListFeatures:
            known = KnownItems.of(item_ids, vectors_of(store, stage.space_stage, item_ids), records)
            return ListFeatures(known, likes.over(item_ids))

        ids = list(data.content.item_ids)
        # outcomes of showings are matched up to WINDOW_S later; those of items held out as new have no part
        shown = ImpressionTable(store).read(end=end - ceil(WINDOW_S))
        trained = stage.train(features([ids[place] for place in data.warm_places]), shown)
        if isinstance(trained, str):
            raise NotFitted(f"in the training window {trained}")
        return ListwiseReranker(trained[0], stage.key), features(ids)

    def _heads(
        self, given: tuple[Reranker, ListFeatures | None], lists: Places, data: EvaluationData, users: NDArray[np.intp]
    ) -> Places:
        """Order the heads of lists, int64 [R, k]."""
        reranker, features = given
        if self._catalogue is None:
            self._catalogue = RerankCatalogue(self.store, self.pipeline, data.content.item_ids)
        at = data.split.request_at(data.part)
        histories = _histories(data, users) if features is not None else []
        guard, found = Guard(reranker, None), lists.copy()
        for row, own in enumerate(lists):
            head = own[:MOST_ITEMS][own[:MOST_ITEMS] >= 0]
            if features is not None:
                assert at is not None
                items: RerankItems = features.items(head, ("",) * len(head), histories[row], at)
            else:
                items = self._catalogue.items(head)
            order = guard.order(RerankRequest(seed=row), items, -np.arange(len(head), dtype=np.float64))
            found[row, : len(head)] = head[order.places]
        return found


def _histories(data: EvaluationData, users: NDArray[np.intp]) -> list[Places]:
    """Order the warm items that users liked before the request, the latest last: places."""
    from coldstart.rank.union_stage import timed_histories

    rows = data.split.interactions.where(data.split.known_before(data.part)).positive(data.min_weight)
    rows = rows.where(data.split.warm[rows.items] & np.isin(rows.users, users))
    found = dict(zip(np.unique(rows.users).tolist(), timed_histories(rows)[0], strict=True))
    return [found[user] for user in users.tolist()]


def _lists(
    lists: ListsAsOf, data: EvaluationData, users: NDArray[np.intp], depth: int, sets: tuple[str, ...] | None = None
) -> dict[str, Places]:
    """List items of candidate sets, without what users had met: set -> int64 [users, depth], -1 at the end."""
    histories, masks = _histories(data, users), data.candidates()
    found = {}
    for name in sets or tuple(masks):
        parts = []
        for start in range(0, len(users), _BLOCK):
            rows = slice(start, start + _BLOCK)
            among = np.repeat(masks[name][None], len(users[rows]), 0)
            met = data.met[users[rows]].tocoo()
            among[met.row, met.col] = False
            parts.append(lists.lists(histories[rows], among, depth))
        found[name] = np.concatenate(parts)
    return found
