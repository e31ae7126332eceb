"""Order lists of `recommend` by the ranker of the union of channels, where it won, and say why or why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import digest
from coldstart.errors import ColdstartError, NotFitted

if TYPE_CHECKING:
    from coldstart.core.interactions import Interactions
    from coldstart.core.pipeline import Pipeline
    from coldstart.core.progress import Progress
    from coldstart.rank.union_service import UnionService
    from coldstart.rank.union_stage import HeldOut
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import Filters, QuerySettings, Recommender, Scored
    from coldstart.recommend.users import History, ScoringModel
    from coldstart.store import Store

UNION = "finetune.union"
SERVED = ".served"
"""End of the name of the artifact that compares a fit with the lists that it replaces."""
_SERVED_FILE = "served.json"
_CUT, _BLOCK = 10, 1_000
MANY = "lists of many users are not ranked: --rank is for one user or history"
_POOL, _NEW_POOL = 200, 200
_STEP = 1e-3
_SHARES = {"share": "what users took", "exposure": "the first 10", "of_items": "the catalogue"}


def is_fitted(store: Store, pipeline: Pipeline) -> bool:
    """Tell whether a ranker is fitted."""
    stages = pipeline.of_kind(UNION)
    return bool(stages) and store.artifacts.newest(stages[-1].name) is not None


def load_union(store: Store, pipeline: Pipeline, rank: str) -> UnionService | None:
    """Load the ranker; None where none is fitted and it is not asked for.

    Raises:
        NotFitted: it is asked for, and there is none.
        ColdstartError: the fit is broken.
    """
    if rank == "auto" and not is_fitted(store, pipeline):
        return None
    from coldstart.rank.union_service import UnionService

    try:
        return UnionService(store, pipeline)
    except NotFitted:
        if rank == "auto":
            return None
        raise


@dataclass(frozen=True)
class Verdict:
    """Decision of `auto` to rank or not, and why."""

    auto: bool
    why: str


def compare_with_served(recommender: Recommender, progress: Progress) -> str:
    """Compare the newest fit with the lists that `recommend` gives without it, on the fit's own held-out requests.

    A model of behaviour is fitted again, by the same settings, on what the channels of those requests know. The result
    is kept for the fit and the way the lists are made; it is not made twice.

    Returns:
        the result in words.

    Raises:
        NotFitted: there is no fit of the ranker.
        ColdstartError: it is too old to be compared, or there is too little to fit behaviour on.
    """
    from coldstart.api.rerank import base_of
    from coldstart.metrics.ranking import bootstrap, paired
    from coldstart.rank.union_stage import read_held_out, union_stage

    store, model = recommender.store, recommender.scoring_model
    stage, base = union_stage(recommender.pipeline), base_of(recommender, model.name)
    fit = stage.newest(store)
    known = _read_served(store, stage.name, fit.digest, base.digest)
    if known is not None:
        return _against(known)
    held = read_held_out(store, stage)
    served, new = np.zeros(len(held.users)), np.zeros(len(held.users), bool)
    for back in np.unique(held.back).tolist():
        past, own = held.before(back), held.back == back
        as_of = behaviour_as_of(recommender, _rows(past, held.item_ids), progress) if model.is_fitted else model
        served[own] = _gains(as_of, held, past, own)
        met = np.zeros(len(held.item_ids), bool)
        met[np.concatenate([np.empty(0, np.int64), *past])] = True
        new[own] = ~met[held.targets[own]]
    users = held.users.tolist()
    gain = paired(served, held.ranked, groups=users)
    parts = {"all": np.ones(len(new), bool), "warm": ~new, "new": new}
    rows: dict[str, dict[str, Any]] = {"ranked": {}, "served": {}}
    for name, values in (("ranked", held.ranked), ("served", served)):
        for part, chosen in parts.items():
            if chosen.any():
                one = bootstrap(values[chosen], groups=held.users[chosen].tolist())
                rows[name][part] = {"value": one.value, "low": one.low, "high": one.high, "n": int(chosen.sum())}
    found = {
        "fit": fit.digest,
        "base": {"name": base.name, "digest": base.digest, "fitted": model.is_fitted},
        "gain": {"value": gain.value, "low": gain.low, "high": gain.high, "n": len(set(users))},
        "ndcg@10": rows,
    }
    text = json.dumps(found, sort_keys=True, allow_nan=False).encode()
    key = digest([fit.digest, base.digest])
    store.artifacts.save(stage.name + SERVED, key, {_SERVED_FILE: text}, {"gain": found["gain"], "ndcg@10": rows})
    return _against(found)


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
        raise ColdstartError(f"{stage.name}, fitted again without what is asked for: {error}") from None
    return behaviour_scoring(list(content.item_ids), fitted.items(content), fitted)


def _rows(past: Sequence[NDArray[np.int64]], item_ids: Sequence[str]) -> Interactions:
    from coldstart.core.interactions import Interactions

    users, items = np.repeat(np.arange(len(past)), [len(own) for own in past]), np.concatenate(past)
    return Interactions(
        tuple(f"u{number}" for number in range(len(past))), tuple(item_ids), users.astype(np.int32),
        items.astype(np.int32), np.arange(len(items), dtype=np.int64), np.ones(len(items), np.float32),
    )  # fmt: skip


def _gains(
    model: ScoringModel, held: HeldOut, past: Sequence[NDArray[np.int64]], chosen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Compute NDCG of a model's lists for chosen requests, over the items that somebody took."""
    from scipy.sparse import csr_matrix

    columns = {item: place for place, item in enumerate(model.columns)}
    at = np.array([columns.get(item, -1) for item in held.item_ids], np.int64)
    vectors = model.item_vectors(tuple(held.item_ids))
    taken = np.zeros(len(held.item_ids), bool)
    taken[np.concatenate([np.empty(0, np.int64), *held.histories])] = True
    left_out = ~taken | ~np.array([item in model.places for item in held.item_ids], bool)
    users, targets, found = held.users[chosen], held.targets[chosen], []
    for start in range(0, len(users), _BLOCK):
        histories = [past[user] for user in users[start : start + _BLOCK]]
        liked = [at[own][at[own] >= 0] for own in histories]
        starts = np.cumsum([0, *(len(own) for own in liked)])
        items = np.concatenate(liked)
        asked = csr_matrix((np.ones(len(items), np.float32), items, starts), (len(liked), len(columns)))
        scores = np.asarray(model.users_of(asked) @ vectors.T, np.float64)
        scores[:, left_out] = -np.inf
        for row, own in enumerate(histories):
            scores[row, own] = -np.inf
        wanted = targets[start : start + _BLOCK, None]
        own_score = np.take_along_axis(scores, wanted, 1)
        earlier = (scores == own_score) & (np.arange(scores.shape[1]) < wanted)  # as lists have equal ones: by place
        ranks = ((scores > own_score) | earlier).sum(1)
        found.append(np.where((ranks < _CUT) & np.isfinite(own_score[:, 0]), 1 / np.log2(ranks + 2), 0))
    return np.concatenate(found)


def _read_served(store: Store, stage: str, fit: str, base: str) -> dict[str, Any] | None:
    """Read the comparison of one fit with lists that are made in one way; None where there is none, or it is broken."""
    made = store.artifacts.newest(stage + SERVED)
    try:
        found = json.loads(made.files()[_SERVED_FILE]) if made is not None else None
        if found is None or found["fit"] != fit or found["base"]["digest"] != base:
            return None
        _against(found)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, ColdstartError):
        return None
    return dict(found)


def _against(found: Mapping[str, Any]) -> str:
    """Say by how much the ranker won or lost against the lists that it replaces."""
    gain, base = found["gain"], found["base"]
    value, low, high = (float(gain[name]) for name in ("value", "low", "high"))
    again = ", fitted again as of the same time" if base["fitted"] else ""
    return (
        f"NDCG@10 {value:+.4f} ({low:+.4f} to {high:+.4f}) against the lists that it replaces, by "
        f"{str(base['name'])[:200]}{again}, over {int(gain['n']):,} users"
    )


def verdict(service: UnionService, recommender: Recommender) -> Verdict:
    """Tell whether `auto` ranks: the fit won against the best channel, and against the lists that it replaces."""
    from coldstart.api.rerank import base_of
    from coldstart.metrics.intervals import FEWEST_COMPARED

    stages = recommender.pipeline.of_kind(UNION)
    base = base_of(recommender, recommender.scoring_model.name)
    known = _read_served(recommender.store, stages[-1].name, service.digest, base.digest)
    if known is None:
        return Verdict(
            False,
            f"{service.why}; it was not compared with the lists that it replaces, by {base.name}, as they are made "
            "now: `coldstart finetune rank` compares them",
        )
    won = float(known["gain"]["low"]) > 0 and int(known["gain"]["n"]) >= FEWEST_COMPARED
    return Verdict(service.auto and won, f"{service.why}; {_against(known)}")


def choose(
    service: UnionService,
    verdict: Verdict,
    rank: str,
    recall: str | None,
    query: QuerySettings,
    history: Sequence[str],
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
        return {"on": True, "why": f"asked for; {verdict.why}"}
    if why is None and recall is not None:
        why = "recall names the only channel; with rank on it is one of several"
    if why is not None:
        return {"on": False, "why": why}
    return {"on": verdict.auto, "why": verdict.why}


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
    served = store.artifacts.newest(stages[-1].name + SERVED)
    with suppress(LookupError, ValueError, TypeError, AttributeError, RecursionError, ColdstartError):
        known = json.loads(served.files()[_SERVED_FILE]) if served is not None else None
        if known is not None and known["fit"] == made.digest:
            one = known["ndcg@10"]["served"]["all"]
            found.append(
                f"ranked, on the same requests: {_against(known)}; those have {float(one['value']):.4f} "
                f"({float(one['low']):.4f} to {float(one['high']):.4f})"
            )
    return found
