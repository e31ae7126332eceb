"""A simulation: lists that mix cold and warm items, where the true preferences are known.

    python -m benchmarks.recommend_mixed [--short]

Nothing here was measured on people. Items have hidden factors, which two spaces of content show with noise, and a
popularity, which no content shows; users have tastes. A quarter of the items is cold: nobody has met them. Each user's
likes are drawn among warm items, a mapper is selected on them as `coldstart finetune behaviour` does it, and the list
of every item that the user has not met is compared with fresh likes, drawn by the same preferences among the same
items. Only the calibration differs between the rows: scores as the mapper gives them, and with the offset and scale of
`coldstart.recommend.model.calibration`.

Measures, each with a 95 % bootstrap over worlds: ndcg of the list; the share of cold items in it less their share among
fresh likes; and reliability, by how many deviations the true preference for a cold item is above that for a warm one of
the same score (least squares over all pairs of a world). Of the last two 0 is right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.report import Row
from coldstart.core.interactions import Interactions, interactions
from coldstart.metrics.ranking import bootstrap, measure_lists, paired
from coldstart.recommend.model.calibration import Calibration
from coldstart.recommend.model.fitted import Behaviour
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.selection import CANDIDATES, SelectionSettings, select_model

COLD = 0.25
DIM, NOISE = 8, 0.3
SIZES = {"5 users, 40 items": (5, 40, 8), "40 users, 70 items": (40, 70, 9), "120 users, 160 items": (120, 160, 20)}
QUICK = {"ridge": {}, "kernel": {}}
MEASURES = ("ndcg", "share of cold items less the right one", "preference for cold items at the same score")


@dataclass(frozen=True)
class World:
    """A shop: `truth` float64 [U, I] the preferences; `cold` bool [I]; `fresh` bool [U, I] the likes to come."""

    rows: Interactions
    content: Content
    truth: NDArray[np.float64]
    cold: NDArray[np.bool_]
    fresh: NDArray[np.bool_]


def world(users: int, items: int, likes: int, seed: int) -> World:
    """Draw a shop."""
    rng = np.random.default_rng(seed)
    hidden, taste = rng.normal(size=(items, DIM)), rng.normal(size=(users, DIM))
    truth = taste @ hidden.T + rng.gumbel(size=items)

    def seen(width: int) -> NDArray[np.float32]:
        vectors = hidden @ rng.normal(size=(DIM, width)) + NOISE * DIM**0.5 * rng.normal(size=(items, width))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    item_ids = tuple(f"item-{place:04d}" for place in range(items))
    kinds = hidden[:, :4].argmax(axis=1)
    records = tuple(
        {"item_id": name, "title": name, "category": "abcd"[kind], "tags": []}
        for name, kind in zip(item_ids, kinds, strict=True)
    )
    content = Content(item_ids, {"picture": seen(24), "text": seen(32)}, records)
    cold = np.zeros(items, bool)
    cold[rng.permutation(items)[: round(COLD * items)]] = True
    met, fresh = np.zeros((users, items), bool), np.zeros((users, items), bool)
    for user in range(users):
        met[user, _drawn(truth[user], ~cold, likes, rng)] = True
        fresh[user, _drawn(truth[user], ~met[user], likes, rng)] = True
    names, things = np.nonzero(met)
    found = interactions(
        [f"user-{user:04d}" for user in names],
        [item_ids[item] for item in things],
        np.arange(len(names)),
        np.ones(len(names), np.float32),
    )
    return World(found.over(item_ids), content, truth, cold, fresh)


def _drawn(
    truth: NDArray[np.float64], allowed: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw items without replacement, each by the exponential of its preference."""
    keys = np.where(allowed, truth + rng.gumbel(size=len(truth)), -np.inf)
    return np.argsort(-keys)[:count]


def measured(behaviour: Behaviour, shop: World) -> dict[str, float]:
    """Measures of the mixed lists of a fit."""
    places = [int(name.removeprefix("user-")) for name in shop.rows.user_ids]
    truth, fresh = shop.truth[places], shop.fresh[places]
    unmet = shop.rows.matrix().toarray() == 0
    scores = behaviour.users(shop.rows.over(behaviour.item_ids).matrix()) @ behaviour.items(shop.content).T
    top = int(fresh[0].sum())
    lists = np.argsort(np.where(unmet, -scores, np.inf), axis=1, kind="stable")[:, :top]
    ndcg = measure_lists(lists.astype(np.int64), csr_matrix(fresh.astype(np.float32)), [top])[f"ndcg@{top}"]
    wanted = float(np.mean([shop.cold[row].mean() for row in fresh]))
    preference, score, is_cold = [], [], []
    for own, true, mine in zip(scores, truth, unmet, strict=True):
        spread = own[mine & ~shop.cold].std()
        if spread > 1e-9:
            preference.append((true[mine] - true[mine].mean()) / true[mine].std())
            score.append((own[mine] - own[mine].mean()) / spread)
            is_cold.append(shop.cold[mine])
    columns = [np.concatenate(score), np.concatenate(is_cold)]
    line = np.linalg.lstsq(np.column_stack([np.ones(len(columns[0])), *columns]), np.concatenate(preference))[0]
    values = float(np.nanmean(ndcg)), float(shop.cold[lists].mean()) - wanted, float(line[2])
    return dict(zip(MEASURES, values, strict=True))


def compared(size: tuple[int, int, int], seed: int, candidates: Mapping[str, Any]) -> tuple[dict[str, float], ...]:
    """Measures of one world without calibration and with it."""
    shop = world(*size, seed)
    met = np.flatnonzero(shop.rows.counts())
    content = shop.content.take(met)
    settings = SelectionSettings(candidates=candidates, warm_min=3)
    fitted = select_model(shop.rows.over(content.item_ids), content, settings).behaviour
    return measured(replace(fitted, calibration=Calibration.none()), shop), measured(fitted, shop)


def run(short: bool) -> dict[str, Any]:
    """Measures of every size, without calibration, with it, and their paired difference."""
    candidates = QUICK if short else CANDIDATES
    worlds = {name: (6 if size[0] < 100 else 3) * (1 if short else 8) for name, size in SIZES.items()}
    result: dict[str, Any] = {}
    for name, size in SIZES.items():
        found = [compared(size, seed, candidates) for seed in range(worlds[name])]
        own: dict[str, Any] = {}
        for measure in MEASURES:
            before, after = (np.array([one[place][measure] for one in found]) for place in (0, 1))
            intervals = bootstrap(before), bootstrap(after), paired(before, after)
            own[measure] = [[one.value, one.low, one.high] for one in intervals]
        result[name] = {"worlds": worlds[name], "measures": own}
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for size, found in result.items():
        for measure, (before, after, gain) in found["measures"].items():
            setting = f"{size}, a quarter cold, {found['worlds']} worlds"
            difference = f"by {gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})"
            figure = f"{before[0]:.3f} → {after[0]:.3f}"
            lines.append(
                Row(f"SIMULATION of mixed lists, before and after calibration: {measure}", setting, figure, difference)
            )
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
