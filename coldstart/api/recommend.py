"""Methods that recommend: lists of items for users, and audiences of users for an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.api.opened import OpenedStore
from coldstart.api.union import check_rank, choose, load_union, rank_lists
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.sanitize import check_text
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coldstart.api.rerank_service import RerankService
    from coldstart.api.union import Verdict
    from coldstart.rank.service import RankService
    from coldstart.rank.union_service import UnionService
    from coldstart.recommend.audience import Audience
    from coldstart.recommend.batch import Written
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import Filters, Recommended, Recommender, Scored
    from coldstart.recommend.users import History
    from coldstart.rerank.certificate import Base
    from coldstart.semantic_ids.recall_service import Recalled, RecallService

    BatchOrder = Callable[[Sequence[Sequence[str]], Sequence[History]], Sequence[NDArray[np.int64]]]

_POOL = 200
"""Least number of candidates that a list is selected from."""


class RecommendMethods(OpenedStore):
    """Methods of a workspace that score items for users."""

    def recommend(
        self,
        user: str | None = None,
        *,
        history: str | Sequence[Any] | None = None,
        kind: str | None = None,
        where: str | None = None,
        fresh_days: float | None = None,
        seen: str = "drop",
        interests: int = 1,
        half_life_days: float | None = None,
        reasons: bool = True,
        log: str | Path | None = None,
        log_user: str | None = None,
        recall: str | None = None,
        rank: str = "auto",
        rerank: str | None = None,
        rerank_generator: str = "starter",
        deadline_ms: float = 300.0,
        **rules: Any,
    ) -> Recommended:
        """List items for one user of the workspace, or for a history of liked items.

        Args:
            history: the liked items: item ids, or objects with `item_id`, `timestamp`, `event`, `weight`, or that as
                JSON; with a `user`, in place of the interactions of the workspace.
            kind: `video` or `product`; where: an SQL condition over the catalog's columns; fresh_days: created at most
                so many days ago.
            seen: `drop` or `keep` items that the user has met.
            interests: query by up to so many interests, clusters of the history; half_life_days: an item liked so long
                ago counts half.
            reasons: explain each item by a liked one.
            log: also write the list to this new file, as one that is shown now, for `ingest_impressions`.
            log_user: whom the log names where there is a history without a user, such as a session.
            recall: score by the sequence model of `finetune_recall`: `dense`, `codes`, `both`, or `auto`, what was best
                on held-out items; by default by the behaviour fit, or by content. A history of which it knows no item
                gets the list without it, or what is popular, then what is new; a note says so.
            rank: order the union of channels by the ranker of `finetune_rank`: `on`, `off`, or `auto`, where it won on
                users that it was not fitted on, also against the lists that it replaces.
            rerank: order the first 30 items anew: `mmr`, `dpp`, `listwise`, `llm`, `none`, or `auto`, the kind with the
                best valid certificate of `evaluate_rerank`, if any. Not together with `explore`.
            rerank_generator: the language model of `llm`; deadline_ms: the list stays as it is after so long.
            rules: `top_k`, `per_creator`, `cold_share`, `cold_boost`, `explore`, `seed`, `diversity`, `diversify`,
                `merge` as `coldstart.recommend.lists.Rules` has them.

        Raises:
            ColdstartError: nothing is published, neither user nor history is given, nothing is known of the user, or a
                fault in the arguments.
        """
        from coldstart.recommend.lists import Rules
        from coldstart.recommend.service import Filters, QuerySettings
        from coldstart.recommend.users import history_from_json

        if user is None and history is None:
            raise ColdstartError("recommend: give a user or a history")
        check_rank(rank)
        if log_user is not None and (log is None or user is not None):
            raise ColdstartError(f"--log-user {log_user}: it names whom the --log of a --history is of: leave it out")
        if log is not None:
            from coldstart.recommend.batch import check_log_path, write_log

            if user is None and log_user is None:
                raise ColdstartError(
                    f"--log {log} needs to name whom the list is shown to: add --log-user ID, such as the session's"
                )
            if log_user is not None:
                check_text(log_user)
                if not log_user.strip():
                    raise ColdstartError("--log-user is empty: give an id, such as the session's")
            check_log_path(Path(log))
        wanted = Rules(**rules), Filters(kind, where, fresh_days, seen), QuerySettings(interests, half_life_days)
        if rerank is not None:
            from coldstart.api.rerank_service import check_rerank, list_options

            check_rerank(rerank, deadline_ms, wanted[0].explore)
        recommender = self._listing()
        known = (
            history_from_json(history, weight=recommender.liked_weight)
            if history is not None
            else recommender.history_of(str(user))
        )
        scored: Scored | None = None
        notes: list[str] = []
        if recall is not None:
            _check_recall_options(interests, half_life_days)
            (scored,), notes = self._recalled(recommender, [known], wanted[0], wanted[1], recall)
        ranked = None
        union = None if rank == "off" else self._union(rank)
        if union is not None:
            in_order = known.in_order(union.min_weight)
            ranked = choose(union, self._verdict(union), rank, recall, wanted[2], in_order)
            if ranked["on"]:
                (scored,) = rank_lists(union, recommender, [known], wanted[0], wanted[1], [scored], detailed=True)
        found = recommender.recommend(user, known, *wanted, reasons, scored)
        found = replace(found, notes=(*found.notes, *notes))
        if rank != "off" and user is not None:
            p, calibrated = self._probabilities(user, [one.item_id for one in found.items])
            if p:
                items = [replace(one, details={**one.details, "p": p.get(one.item_id, {})}) for one in found.items]
                found = replace(found, items=tuple(items))
                why = "no ranker of the union is fitted"
                ranked = {**(ranked or {"on": False, "why": why, "summary": why}), "calibrated": calibrated}
        if ranked is not None:
            found = replace(found, ranked=ranked)
        if rerank is not None:
            key = union.key if union is not None and ranked is not None and ranked["on"] else None
            base = self._base(
                recommender, None if key else found.scored_by, recall, key, list_options(wanted[0], wanted[2])
            )
            found = self._reranking(recommender).reordered(
                found, known, rerank, base, generator=rerank_generator, deadline_ms=deadline_ms
            )
        if log is not None:
            write_log(
                Path(log),
                str(log_user if user is None else user),
                [(one.item_id, one.rank, one.propensity) for one in found.items],
            )
        return found

    def recall(
        self,
        user: str | None = None,
        *,
        history: str | Sequence[Any] | None = None,
        top_k: int = 200,
        recall: str = "auto",
        cold_share: float = 0.0,
        kind: str | None = None,
        where: str | None = None,
        seen: str = "drop",
    ) -> Recalled:
        """List candidates by the sequence model of `finetune_recall`, for a ranker to order, or as they are.

        Args:
            history: as for `recommend`, in order of time where rows have no `timestamp`.
            recall: `dense`, `codes`, `both`, or `auto`, what was best on held-out items.
            cold_share: least share of items that the model was not trained on among the first n, for every n.
            kind, where, seen: as for `recommend`.

        Raises:
            ColdstartError: nothing is fitted or published, no item of the history is known, or an argument is
                out of range.
        """
        from coldstart.recommend.service import Filters
        from coldstart.recommend.users import history_from_json
        from coldstart.store.published import check_top_k

        if (user is None) == (history is None):
            raise ColdstartError("recall: give a user or a history")
        check_top_k(top_k)
        if not 0 <= cold_share <= 1:
            raise ColdstartError(f"cold_share {cold_share:g}: give a number from 0 to 1")
        filters = Filters(kind, where, None, seen)
        service = self._recalling()
        least = service.fit.min_weight
        known = (
            history_from_json(history, weight=max(1.0, least or 1.0))
            if history is not None
            else self._listing().history_of(str(user))
        )
        condition = self.published().condition(where=where, kind=kind)
        among = [
            item for block in self.published().blocks([], where=condition) for item in block["item_id"].to_pylist()
        ]
        return service.recall(
            user,
            known.in_order(least),
            recall,
            top_k,
            cold_share=cold_share,
            among=among,
            seen=known.item_ids if filters.seen == "drop" else (),
        )

    def _recalled(
        self, recommender: Recommender, histories: Sequence[History], rules: Rules, filters: Filters, recall: str
    ) -> tuple[list[Scored | None], list[str]]:
        """Score candidates of histories by the sequence model for the rules of lists, the best new ones among them.

        Returns:
            Candidates of each history; None where the sequence model knows no item of one and the scoring model lists
            for it, popular and new items where that has nothing to list by either. And a note for those.
        """
        from coldstart.core.candidates import RRF_K
        from coldstart.recommend.service import Scored

        service = self._recalling()
        pools = service.pools(
            [one.in_order(recommender.min_weight) for one in histories],
            recall,
            max(_POOL, 5 * rules.top_k),
            _POOL,
            among=recommender.list_builder(rules, filters).candidates.item_ids,
            seen=[one.item_ids if filters.seen == "drop" else () for one in histories],
        )
        name = f"recall ({service.channel(recall)})"
        # ranks, since the scores of channels have no common scale
        most = max((len(own) for own in pools if own), default=0)
        scores = (1 / (RRF_K + np.arange(1, most + 1))).astype(np.float32)
        found = [None if own is None else Scored(name, own, scores[: len(own)]) for own in pools]
        unknown = [row for row, own in enumerate(pools) if own is None]
        if not unknown:
            return found, []
        how = "the list is scored without it"
        if not recommender.average_user.any():
            can_score = recommender.can_score([histories[row] for row in unknown])
            for row, is_known in zip(unknown, can_score, strict=True):
                found[row] = None if is_known else recommender.popular(rules, filters, histories[row])
            if not all(can_score):
                how = "the list is of popular items, then of the newest"
        return found, [f"no item of the history is known to the sequence model: {how}"]

    def _probabilities(self, user: str, item_ids: Sequence[str]) -> tuple[dict[str, dict[str, float]], dict[str, bool]]:
        """Predict the probability of each event of listed items by the fit on showings: item -> event -> p.

        Returns:
            nothing where none is fitted; and event -> whether it is calibrated.
        """
        from time import time

        service = self._shown() if item_ids else None
        if service is None:
            return {}, {}
        found = service.rank(user, item_ids, int(time()))
        return {one.item_id: one.p for one in found.items}, dict(found.calibrated)

    def _shown(self) -> RankService | None:
        """Load the ranker of showings, once for each publication; None where none is fitted."""
        catalog = self.published()
        if self._shown_service is None or self._shown_service[0] is not catalog:
            from coldstart.rank.service import RankService

            pipeline = self._reading_pipeline()
            stages = pipeline.of_kind("finetune.rank")
            is_fitted = bool(stages) and self._store.artifacts.newest(stages[-1].name) is not None
            self._shown_service = catalog, RankService(self._store, pipeline) if is_fitted else None
        return self._shown_service[1]

    def _union(self, rank: str) -> UnionService | None:
        """Load the ranker of the union of channels, once for each publication; None where none is fitted."""
        catalog, known = self.published(), self._union_service
        if known is None or known[0] is not catalog or (known[1] is None and rank == "on"):
            known = self._union_service = catalog, load_union(self._store, self._reading_pipeline(), rank)
        return known[1]

    def _verdict(self, union: UnionService) -> Verdict:
        """Tell whether `auto` ranks, once for each fit and publication."""
        from coldstart.api.served_comparison import verdict

        if self._union_verdict is None or self._union_verdict[0] is not union:
            self._union_verdict = union, verdict(union, self._listing())
        return self._union_verdict[1]

    def _union_key(self, rank: str = "auto") -> str | None:
        """Return the key of the ranker of the union where it orders plain lists with this `rank`."""
        union = None if rank == "off" else self._union(rank)
        return union.key if union is not None and (rank == "on" or self._verdict(union).auto) else None

    def _base(
        self,
        recommender: Recommender,
        scored_by: str | None,
        recall: str | None,
        union: str | None,
        options: Mapping[str, Any],
    ) -> Base:
        """Name the lists that are made so; see `coldstart.api.rerank_service.base_of`."""
        from coldstart.api.rerank_service import base_of

        key = None
        if recall is not None:
            from coldstart.semantic_ids.recall_service import recall_stage

            key = recall_stage(self._reading_pipeline()).key
        return base_of(recommender, scored_by, options, union=union, recall=key)

    def _reranking(self, recommender: Recommender) -> RerankService:
        """Load rerankers over the served catalog, once for each publication."""
        from coldstart.api.rerank_service import RerankService

        if self._rerank_service is None or self._rerank_service[0] is not recommender.catalog:
            self._rerank_service = recommender.catalog, RerankService(recommender)
        return self._rerank_service[1]

    def _recalling(self) -> RecallService:
        """Load the sequence model over the served catalog, once for each publication."""
        from coldstart.semantic_ids.recall_service import RecallService

        catalog = self.published()
        if self._recall_service is None or self._recall_service[0] is not catalog:
            self._recall_service = catalog, RecallService(self._store, self._reading_pipeline())
        return self._recall_service[1]

    def recommend_many(
        self,
        users: Iterable[str] | Path | str,
        out: str | Path,
        *,
        kind: str | None = None,
        where: str | None = None,
        fresh_days: float | None = None,
        seen: str = "drop",
        interests: int = 1,
        half_life_days: float | None = None,
        log: str | Path | None = None,
        recall: str | None = None,
        rank: str = "auto",
        rerank: str | None = None,
        rerank_generator: str = "starter",
        deadline_ms: float = 300.0,
        progress: Progress | None = None,
        **rules: Any,
    ) -> Written:
        """Write the lists of many users, the same as one by one: user_id, item_id, rank, score, cold, explored,
        propensity.

        Args:
            users: their ids, a CSV, JSONL, Parquet or text file of them, or `all` that have interactions.
            out: a name that ends in .csv, .tsv, .jsonl, .json or .parquet.
            log: a further, new file of the lists, as ones that are shown now, for `ingest_impressions`.
            recall, rank, rerank, rerank_generator, deadline_ms: as for `recommend`; `rerank` chooses one kind for all.
            The others are those of `recommend`.

        Raises:
            ColdstartError: as for `recommend`, or a file that cannot be read or written.
        """
        from coldstart.recommend.batch import check_log_path, read_user_ids, write_lists
        from coldstart.recommend.lists import Rules
        from coldstart.recommend.service import Filters, QuerySettings
        from coldstart.recommend.table_files import check_out_path

        check_out_path(Path(out))
        if log is not None:
            check_log_path(Path(log))
        wanted = Rules(**rules), Filters(kind, where, fresh_days, seen), QuerySettings(interests, half_life_days)
        check_rank(rank)
        if rerank is not None:
            from coldstart.api.rerank_service import check_rerank, list_options

            check_rerank(rerank, deadline_ms, wanted[0].explore)
        if isinstance(users, str) and users != "all":
            raise ColdstartError(f"users {users[:80]!r}: give ids, a Path, or 'all'")
        own = None if log is None else Path(log)
        recommender = self._listing()
        if isinstance(users, Path):
            user_ids = read_user_ids(users)
        else:
            user_ids = list(recommender.interactions().user_ids if isinstance(users, str) else users)
        if recall is not None:
            _check_recall_options(interests, half_life_days)
            self._recalling().channel(recall)
        union = None if rank == "off" else self._union(rank)
        ranked = None
        if union is not None:
            ranked = choose(union, self._verdict(union), rank, recall, wanted[2], None)
        orders = union if ranked is not None and ranked["on"] else None

        def scored(histories: Sequence[History]) -> list[Scored | None]:
            found: list[Scored | None] = [None] * len(histories)
            if recall is not None:
                found, _ = self._recalled(recommender, histories, wanted[0], wanted[1], recall)
            if orders is None:
                return found
            by_ranker = rank_lists(orders, recommender, histories, wanted[0], wanted[1], found)
            return [one if one is not None else other for one, other in zip(by_ranker, found, strict=True)]

        order, reranked = None, None
        if rerank is not None:
            key = None if orders is None else orders.key
            by_recall = recall is not None and key is None
            scored_by = f"recall ({self._recalling().channel(str(recall))})" if by_recall else None
            base = self._base(recommender, scored_by, recall, key, list_options(wanted[0], wanted[2]))
            order, reranked = self._batch_order(recommender, rerank, base, rerank_generator, deadline_ms)
        elsewhere = scored if recall is not None or orders is not None else None
        written = write_lists(
            recommender, user_ids, Path(out), *wanted, progress or SilentProgress(), own, elsewhere, order
        )
        return replace(written, ranked=ranked, rerank=reranked)

    def _batch_order(
        self,
        recommender: Recommender,
        rerank: str,
        base: Base,
        generator: str,
        deadline_ms: float,
    ) -> tuple[BatchOrder, dict[str, Any]]:
        """Build what orders the lists of many users by one kind, and the account of it, whose `faults` it counts."""
        from coldstart.rerank import MOST_ITEMS

        service = self._reranking(recommender)
        kind, why = service.choose(rerank, base, generator)
        faults: Counter[str] = Counter()
        about = {"requested": rerank, "kind": kind, "why": why, "faults": faults}

        def order(lists: Sequence[Sequence[str]], histories: Sequence[History]) -> list[NDArray[np.int64]]:
            service.read_content(kind, [item for own in lists for item in own[:MOST_ITEMS]])
            found = []
            for own, history in zip(lists, histories, strict=True):
                one = service.order(kind, base, own, history, generator=generator, deadline_ms=deadline_ms)
                if one.fault is not None:
                    faults[one.fault] += 1
                found.append(one.places)
            return found

        return order, about

    def audience(self, item: str, *, top_k: int = 100, by: str = "score", reasons: bool = True) -> Audience:
        """List the users of the highest score for an item that have not met it yet, each with a reason.

        Args:
            by: rank users by `score`; or by `lift`, the score minus the user's average score.
            reasons: explain each user by an item that they liked.

        Raises:
            ColdstartError: nothing is published, there is no such item, it has no vector, or there are no
                interactions yet.
        """
        from coldstart.recommend.audience import audience

        return audience(self._listing(), item, top_k=top_k, by=by, reasons=reasons)

    def _listing(self) -> Recommender:
        """Load the recommender over the served catalog; vectors are read once for each publication."""
        from coldstart.recommend.service import Recommender

        catalog = self.published()
        if self._recommender is None or self._recommender.catalog is not catalog:
            self._recommender = Recommender(self._store, self._reading_pipeline(), catalog)
        return self._recommender


def _check_recall_options(interests: int, half_life_days: float | None) -> None:
    if interests != 1 or half_life_days is not None:
        raise ColdstartError("interests and half_life_days are not for recall: the sequence model reads the order")
