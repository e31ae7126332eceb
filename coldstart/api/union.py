"""Order lists of `recommend` by the ranker of the union of channels, or say why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError, NotFitted

if TYPE_CHECKING:
    from coldstart.core.candidates import Histories
    from coldstart.core.pipeline import Pipeline
    from coldstart.rank.union_service import UnionLists, UnionRanker, UnionService
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import Filters, QuerySettings, Recommender, Scored
    from coldstart.recommend.users import History, ScoringModel
    from coldstart.store import Store

UNION = "finetune.union"
RANKS = ("auto", "on", "off")
_MODELS = {"linear": "a linear model that orders", "trees": "boosted trees that order"}
"""Kind of ranker -> words."""
POOL, NEW_POOL = 200, 200
"""Items, and new ones, that the model of behaviour names as candidates; behind the ranked ones stand its others."""
_BLOCK, _MOST_AT_ONCE = 1 << 23, 256
"""Scores in memory at a time, and histories ranked at a time: features of their candidates take some 30 MB."""
_STEP = 1e-3
"""Fall of the score from one item to the next behind the ranked ones."""


def check_rank(rank: str) -> None:
    """Check the option `rank`.

    Raises:
        ColdstartError: it is none of `auto`, `on`, `off`.
    """
    if rank not in RANKS:
        raise ColdstartError(f"rank {rank[:80]!r}: use auto, on or off")


def is_fitted(store: Store, pipeline: Pipeline) -> bool:
    """Tell whether a ranker is fitted."""
    stages = pipeline.of_kind(UNION)
    return bool(stages) and store.artifacts.newest(stages[-1].name) is not None


def load_union(store: Store, pipeline: Pipeline, rank: str) -> UnionService | None:
    """Load the ranker; None where none is fitted and none is requested.

    Raises:
        NotFitted: it is requested, and there is none.
        ColdstartError: the fit is broken.
    """
    if rank == "auto" and not is_fitted(store, pipeline):
        return None
    from coldstart.rank.union_service import load_union_service

    try:
        return load_union_service(store, pipeline)
    except NotFitted:
        if rank == "auto":
            return None
        raise


@dataclass(frozen=True)
class Verdict:
    """Decision of `auto` to rank or not, and why; `summary`: that in one clause."""

    auto: bool
    why: str
    summary: str


def choose(
    service: UnionService,
    verdict: Verdict,
    rank: str,
    recall: str | None,
    query: QuerySettings,
    history: Sequence[str] | None,
) -> dict[str, Any]:
    """Tell whether the ranker orders the list, `on`, `why`, and a `summary` of that; `history` None: of many lists.

    Raises:
        ColdstartError: it is requested, and the other options or the history leave it nothing to rank by.
    """
    why = None
    if query.interests != 1 or query.half_life_days is not None:
        why = "interests and half_life_days are of the model of behaviour"
    elif history is not None and not len(service.known(history)):
        why = "the history has no item that the ranker knows"
    if rank == "on":
        if why is not None:
            raise ColdstartError(f"rank on: {why}", kind="not_found" if "history" in why else "invalid")
        return {"on": True, "why": f"requested; {verdict.why}", "summary": f"requested; {verdict.summary}"}
    if why is None and recall is not None:
        why = "recall names the only channel; with rank on it is one of several"
    if why is not None:
        return {"on": False, "why": why, "summary": why}
    return {"on": verdict.auto, "why": verdict.why, "summary": verdict.summary}


def histories_at_once(items: int) -> int:
    """Compute how many histories are scored over so many items, and ranked, at a time."""
    return int(np.clip(_BLOCK // max(1, items), 1, _MOST_AT_ONCE))


def rank_pools(
    ranker: UnionRanker,
    model: ScoringModel,
    histories: Histories,
    among: NDArray[np.bool_],
    pool: NDArray[np.int64],
    cold: NDArray[np.int64],
    *,
    given: Mapping[str, NDArray[np.int64]] = {},
    with_cold: bool = False,
    depth: int = 0,
) -> UnionLists:
    """Rank the union of channels and of what the model of behaviour scores highest.

    Among new items the order is that of the model of behaviour, which was chosen on new items; the ranker decides which
    places of a list are theirs.

    Args:
        histories, among, given, depth: as for `UnionRanker.rank`.
        pool, cold: what the model scores highest, and of new items alone, int64 [R, k], -1 at the end.
        with_cold: the latter are candidates, too.
    """
    name = model.name if model.is_fitted else "mean of content"
    channels = {**given, name: pool[:, :POOL]}
    if with_cold:
        channels["cold items"] = cold[:, :NEW_POOL]
    new_order = cold if model.is_fitted else None
    return ranker.rank(histories, among=among, given=channels, new_order=new_order, depth=depth)


def rank_lists(
    service: UnionService,
    recommender: Recommender,
    histories: Sequence[History],
    rules: Rules,
    filters: Filters,
    given: Sequence[Scored | None] = (),
    *,
    detailed: bool = False,
) -> list[Scored | None]:
    """Score the union of channels for the rules of lists; behind it what the model of behaviour scores highest.

    Args:
        given: of each history the list of a further channel, the same for all; one that is not personal does not count.
        detailed: tell where candidates came from, and what of the history spoke for them.

    Returns:
        Of each history its candidates; None where the ranker knows no item of it.
    """
    from coldstart.recommend.service import Scored

    ranker, builder = service.ranker, recommender.list_builder(rules, filters)
    item_ids = builder.candidates.item_ids
    at = ranker.places_of(item_ids)
    among = np.zeros(len(ranker.item_ids), bool)
    among[at[at >= 0]] = True
    known = [service.known(own.in_order(service.min_weight)) for own in histories]
    rankable = [row for row, own in enumerate(known) if len(own)]
    with_cold = bool(rules.cold_share or rules.cold_boost or rules.explore)
    found: list[Scored | None] = [None] * len(histories)
    step = histories_at_once(max(len(item_ids), len(among)))
    for start in range(0, len(rankable), step):
        rows = rankable[start : start + step]
        own = [histories[row] for row in rows]
        allowed = np.repeat(among[None], len(rows), 0)
        if filters.seen == "drop":
            for slot, one in enumerate(own):
                allowed[slot, service.known(one.item_ids)] = False
        pool, cold = recommender.top(own, rules, filters, max(POOL, 5 * rules.top_k), NEW_POOL)
        channels = _given(ranker, [given[row] for row in rows], allowed) if given else {}
        lists = rank_pools(
            ranker,
            recommender.scoring_model,
            [known[row] for row in rows],
            allowed,
            _moved(at, pool, allowed),
            _moved(at, cold, allowed),
            given=channels,
            with_cold=with_cold,
            depth=rules.top_k,
        )
        for slot, row in enumerate(rows):
            best = lists.rows(slot)
            places, scores = lists.candidates.places[best], lists.scores[best]
            first = [ranker.item_ids[place] for place in places]
            listed = set(first)
            rest = [item for place in pool[slot] if place >= 0 and (item := item_ids[place]) not in listed]
            last = float(scores.min(initial=0.0))
            behind = last - _STEP * np.arange(1, len(rest) + 1)
            details = _details(ranker, lists, best, known[row]) if detailed else {}
            name = _name(ranker.kind, len(ranker.channels) + len(channels) + 1 + with_cold)
            both = np.concatenate([scores, behind]).astype(np.float32)
            found[row] = Scored(name, (*first, *rest), both, details)
    return found


def _name(kind: str, channels: int) -> str:
    """Say in words what scored a list, read after "scored by"."""
    return f"{_MODELS.get(kind, kind)} items that {channels} channels list"


def _moved(at: NDArray[np.int64], lists: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number lists of candidates, int64 [R, k], by the ranker's items; -1, at the end, for what it does not know."""
    found = np.where(lists < 0, -1, at[lists])
    return _to_the_front(np.where((found >= 0) & np.take_along_axis(allowed, np.maximum(found, 0), 1), found, -1))


def _to_the_front(lists: NDArray[np.int64]) -> NDArray[np.int64]:
    """Close the gaps of lists, int64 [R, k]."""
    return np.take_along_axis(lists, np.argsort(lists < 0, axis=1, kind="stable"), 1)


def _given(
    ranker: UnionRanker, given: Sequence[Scored | None], allowed: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Number the lists of a further channel by the ranker's items: name -> int64 [R, k], -1 at the end."""
    personal = [one if one is not None and one.is_personal else None for one in given]
    named = next((one.name for one in personal if one is not None), None)
    if named is None:
        return {}
    lists = [ranker.known(() if one is None else one.item_ids) for one in personal]
    found = np.full((len(lists), max(map(len, lists))), -1, np.int64)
    for row, own in enumerate(lists):
        kept = own[allowed[row, own]]
        found[row, : len(kept)] = kept
    return {named: found}


def _details(
    ranker: UnionRanker, lists: UnionLists, rows: NDArray[np.int64], history: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Tell where candidates came from, and what of the history spoke for them: item -> `sources`, `nearest`."""
    places = lists.candidates.places[rows]
    nearest = ranker.nearest(history, places)
    return {
        ranker.item_ids[place]: {
            "sources": [{"channel": name, "rank": rank} for name, rank in lists.candidates.sources(int(row))],
            "nearest": own,
        }
        for row, place, own in zip(rows.tolist(), places.tolist(), nearest, strict=True)
    }
