"""Compare the ranker of the union with the lists that it replaces in `recommend`, and decide `--rank auto` by it.

The comparison is saved beside the fit, with a digest of how the lists were made: for any others it does not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.api.as_of import ListsAsOf, behaviour_as_of
from coldstart.api.rerank_service import base_of
from coldstart.api.union import UNION, Verdict
from coldstart.core.interactions import Interactions
from coldstart.core.keys import digest
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.core.pipeline import Pipeline
    from coldstart.core.progress import Progress
    from coldstart.rank.union_service import UnionService
    from coldstart.rank.union_stage import HeldOut
    from coldstart.recommend.service import Recommender
    from coldstart.recommend.users import ScoringModel
    from coldstart.store import Store

SERVED = ".served"
"""End of the name of the artifact that compares a fit with the lists that it replaces."""
_SERVED_FILE = "served.json"
_CUT = 10
_SHARES = {"share": "what users took", "exposure": "the first 10", "of_items": "the catalogue"}


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
    from coldstart.metrics.ranking import bootstrap, paired
    from coldstart.rank.union_stage import read_held_out, union_stage

    store, model = recommender.store, recommender.scoring_model
    stage, base = union_stage(recommender.pipeline), base_of(recommender)
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


def _rows(past: Sequence[NDArray[np.int64]], item_ids: Sequence[str]) -> Interactions:
    users, items = np.repeat(np.arange(len(past)), [len(own) for own in past]), np.concatenate(past)
    return Interactions(
        tuple(f"u{number}" for number in range(len(past))), tuple(item_ids), users.astype(np.int32),
        items.astype(np.int32), np.arange(len(items), dtype=np.int64), np.ones(len(items), np.float32),
    )  # fmt: skip


def _gains(
    model: ScoringModel, held: HeldOut, past: Sequence[NDArray[np.int64]], chosen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Compute NDCG of a model's lists for chosen requests, over the items that somebody took."""
    taken = np.zeros(len(held.item_ids), bool)
    taken[np.concatenate([np.empty(0, np.int64), *held.histories])] = True
    lists = ListsAsOf(held.item_ids, model).lists([past[user] for user in held.users[chosen]], taken, _CUT)
    hits = lists == held.targets[chosen, None]
    return np.where(hits.any(1), 1 / np.log2(hits.argmax(1) + 2), 0)


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


def _in_short(found: Mapping[str, Any]) -> str:
    """Say the gain over the lists that the ranker replaces in one clause."""
    gain = found["gain"]
    value, low, high = (float(gain[name]) for name in ("value", "low", "high"))
    return f"{value:+.3f} ({low:.3f} to {high:.3f}) NDCG@10 over the list it replaces, {int(gain['n']):,} users"


def verdict(service: UnionService, recommender: Recommender) -> Verdict:
    """Tell whether `auto` ranks: the fit won against the best channel, and against the lists that it replaces."""
    from coldstart.metrics.intervals import FEWEST_COMPARED

    stages = recommender.pipeline.of_kind(UNION)
    base = base_of(recommender)
    known = _read_served(recommender.store, stages[-1].name, service.digest, base.digest)
    if known is None:
        return Verdict(
            False,
            f"{service.why}; auto is off: it was not compared with the lists that it replaces, by {base.name}, as they "
            "are made now: `coldstart finetune rank` compares them",
            "it was not compared with the list it replaces: `coldstart finetune rank` compares them",
        )
    low, users = float(known["gain"]["low"]), int(known["gain"]["n"])
    faults = [] if service.auto else ["no gain is shown over the best channel"]
    if low <= 0:
        faults.append("no gain is shown over the lists that it replaces")
    elif users < FEWEST_COMPARED:
        faults.append(f"{users:,} users are too few to tell: {FEWEST_COMPARED} are needed")
    conclusion = f"auto is off: {', and '.join(faults)}" if faults else "auto is on: a gain is shown over both"
    summary = _in_short(known) if not faults else f"{' and '.join(faults)}; {_in_short(known)}"
    return Verdict(not faults, f"{service.why}; {_against(known)}; {conclusion}", summary)


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
