"""Order lists of `recommend` by the ranker of the union of channels, where it won, and say why or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.errors import ColdstartError, NotFitted

if TYPE_CHECKING:
    from coldstart.core.pipeline import Pipeline
    from coldstart.rank.union_service import UnionService
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import Filters, QuerySettings, Recommender, Scored
    from coldstart.recommend.users import History
    from coldstart.store import Store

UNION = "finetune.union"
_POOL, _NEW_POOL = 200, 200
_STEP = 1e-3
_SHARES = {"share": "what users took", "exposure": "the first 10", "of_items": "the catalogue"}


def load_union(store: Store, pipeline: Pipeline, rank: str) -> UnionService | None:
    """Load the ranker; None where none is fitted and it is not asked for.

    Raises:
        NotFitted: it is asked for, and there is none.
        ColdstartError: the fit is broken.
    """
    stages = pipeline.of_kind(UNION)
    is_there = bool(stages) and store.artifacts.newest(stages[-1].name) is not None
    if not is_there and rank == "auto":
        return None
    from coldstart.rank.union_service import UnionService

    try:
        return UnionService(store, pipeline)
    except NotFitted:
        if rank == "auto":
            return None
        raise


def choose(
    service: UnionService, rank: str, recall: str | None, query: QuerySettings, history: Sequence[str]
) -> dict[str, Any]:
    """Tell whether the ranker orders the list, `on`, and `why`.

    Raises:
        ColdstartError: it is asked for, and the other options or the history leave it nothing to rank by.
    """
    why = None
    if query.interests != 1 or query.half_life_days is not None:
        why = "interests and half_life_days are of the model of behaviour"
    elif not len(service.known(history)):
        why = "the history has no item that the ranker knows"
    if rank == "on":
        if why is not None:
            raise ColdstartError(f"rank on: {why}", kind="not_found" if "history" in why else "invalid")
        return {"on": True, "why": f"asked for; {service.why}"}
    if why is None and recall is not None:
        why = "recall names the only channel; with rank on it is one of several"
    if why is not None:
        return {"on": False, "why": why}
    return {"on": service.auto, "why": service.why}


def rank_lists(
    service: UnionService,
    recommender: Recommender,
    user: str | None,
    history: History,
    rules: Rules,
    filters: Filters,
    given: Mapping[str, Sequence[str]],
) -> Scored:
    """Score the union of channels for the rules of a list; behind it what the model of behaviour scores highest.

    Among new items the order is that of the model of behaviour, which was chosen on new items; the ranker decides which
    places of a list are theirs.

    Args:
        given: further channels: name -> items, best first.
    """
    from coldstart.recommend.service import Scored

    candidates = recommender.list_builder(rules, filters).candidates
    pool = max(_POOL, 5 * rules.top_k)
    seen = history.item_ids if filters.seen == "drop" else ()
    model = recommender.scoring_model
    base = recommender.top(user, history, rules, filters, pool)
    cold = recommender.top(user, history, rules, filters, _NEW_POOL, cold=True)
    channels = {**given, model.name if model.is_fitted else "mean of content": base[:_POOL]}
    if rules.cold_share or rules.cold_boost or rules.explore:
        channels["cold items"] = cold[:_NEW_POOL]
    found = service.rank(
        history.in_order(service.min_weight),
        among=candidates.item_ids,
        seen=seen,
        given=channels,
        new_order=cold if model.is_fitted else (),
        depth=rules.top_k,
    )
    listed = {one.item_id for one in found}
    rest = [item for item in base[:pool] if item not in listed]
    scores = [one.score for one in found]
    last = min(scores, default=0.0)
    scores += [last - _STEP * (place + 1) for place in range(len(rest))]
    details = {
        one.item_id: {
            "sources": [{"channel": name, "rank": rank} for name, rank in one.sources],
            "nearest": [{"item_id": item, "by": how, "weight": weight} for item, how, weight in one.nearest],
        }
        for one in found
    }
    name = f"ranker of {len(service.channels) + len(channels)} channels ({service.kind})"
    return Scored(name, (*(one.item_id for one in found), *rest), np.array(scores, np.float32), details)


def ranked_notes(store: Store, pipeline: Pipeline) -> list[str]:
    """Describe what the ranker of the union was worth on users that it was not fitted on; nothing without a fit."""
    stages = pipeline.of_kind(UNION)
    made = store.artifacts.newest(stages[-1].name) if stages else None
    if made is None:
        return []
    rows, new = made.report["ndcg@10"], made.report["new"]

    def listed(part: str) -> str:
        own = {name: one[part] for name, one in rows.items() if part in one and name not in ("best", "new")}
        return ", ".join(
            f"{name} {one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})" for name, one in own.items()
        )

    found = [
        f"ranked: {stages[-1].name} has held out the last items of {made.report['users']:,} users, another split than "
        f"this one; NDCG@10 {listed('all')}"
    ]
    if "new" in rows["ranked"]:
        shares = ", ".join(f"{new[name]:.1%} of {of}" for name, of in _SHARES.items())
        count = rows["ranked"]["new"]["n"]
        found.append(f"ranked, items that stood for new ones, {count:,} requests: {listed('new')}; they had {shares}")
    return found
