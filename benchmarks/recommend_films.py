"""New films recommended by their content alone: 431 films that nobody was seen to rate, for 610 people.

    python -m benchmarks.recommend_films [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. A rating of 4 or more is a
like; recall@20 = hits / min(20, likes), over people with a like among the new films, all of which are ranked. What is
learnt from is ratings of the other films; what content is, and is not, stands in `benchmarks.films_data`. The mapper,
its settings and the weights of the contents were chosen on films of the 1,988 that were held out as if nobody had met
them (five parts of a fifth, drawn at random, as the 431 were), and written down before the first look at the 431. The
weights were chosen for the kernel, and baselines learn from the same features: each has one setting chosen, on one such
part, and so less care than the chosen.

`oracle, popularity` ranks by the likes of the test itself, and `oracle, ALS` learns from them,
which it nearly knows by heart: no ceiling for anything that has not seen them. The time split is of
the other films alone and cuts at 80 % of their ratings: new films are those that fewer than five people liked before
it, and asked are people with a like on either side. `--short` takes one part of the five and no trained mapper.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.films_data import LIKED, content, films, ratings
from benchmarks.report import Row
from coldstart import behaviour
from coldstart.behaviour import Problem
from coldstart.behaviour.content import Content
from coldstart.behaviour.fusion import fit_fusion
from coldstart.behaviour.teachers import als, teach
from coldstart.evaluation.recommend.compare import resample
from coldstart.evaluation.recommend.measures import by_item, shares_by_item
from coldstart.interactions import Interactions
from coldstart.ranking_measures import measure_lists

_FILM = {"genres": 0.15, "period": 0.5, "title": 0.3, "text": 0.3, "poster": 0.1}
WEIGHTS = _FILM | {"states-12": 0.2, "states-22": 0.4, "states-30": 0.2}
SETTINGS: dict[str, Any] = {}
CHOSEN, WITHOUT = "chosen: kernel", "kernel, without the language model's states"
GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "knn": ({"k": 10}, {"k": 20}, {"k": 50}),
    "ridge": tuple({"target": "users", "dim": 512, "penalty": penalty, "kappa": 0.0} for penalty in (1.0, 3.0, 10.0)),
    "fease": ({},),
    "marec": ({},),
    "popularity": ({"penalty": 1.0}, {"penalty": 10.0}),
}
WARM_MIN = 5
PLAIN_KERNEL = {"dim": 610, "exposure": 0.0, "smoothing": 1e-6, "popularity": 0.0}
TRAINED = ("contrastive", "clcrec", "dropoutnet")
MEASURES = ("recall@20", "ndcg@20")
GOAL = {"recall@20": 0.36}
_Scores = NDArray[np.floating[Any]]
Method = Callable[["Part"], _Scores]


class Part:
    """Films to learn from and new ones, with the likes of each. All that is fitted is fitted on the former alone."""

    def __init__(self, every: Content, met: Interactions, learnt: NDArray[np.intp], new: NDArray[np.intp]) -> None:
        liked = met.positive(LIKED).matrix()
        self.content, self.learnt, self.new = every, learnt, new
        self.matrix, self.exposed = liked[:, learnt].tocsr(), met.matrix()[:, learnt].tocsr()
        self.wanted = liked[:, new].tocsr()
        self._fusion = fit_fusion(every, learnt, weights=WEIGHTS, dims=128, labels=False)
        self._teacher = als(self.matrix, dim=64)

    def features(self, weights: dict[str, float]) -> NDArray[np.float32]:
        some = {name: weights.get(name, 1e-9) for name in self._fusion.blocks}
        return self._fusion.reweighed(some).transform(self.content)

    def problem(self, features: NDArray[np.float32]) -> Problem:
        kinds = tuple(self.content.records[place]["category"] for place in self.learnt)
        return Problem(self.matrix, features[self.learnt], self._teacher, kinds, self.exposed)


def mapped(name: str, settings: dict[str, Any], weights: dict[str, float] = WEIGHTS) -> Method:
    def scores(part: Part) -> _Scores:
        features = part.features(weights)
        mapper = behaviour.fit(name, part.problem(features), **settings)
        found: _Scores = mapper.users(part.matrix) @ mapper.items(features[part.new]).T
        return found

    return scores


def alike(weights: dict[str, float]) -> Method:
    """By the sum of cosines to what a person likes."""

    def scores(part: Part) -> _Scores:
        features = part.features(weights)
        return np.asarray(part.matrix @ (features[part.learnt] @ features[part.new].T))

    return scores


def by_chance(part: Part) -> _Scores:
    return np.asarray(np.random.default_rng(0).random(part.wanted.shape))


def by_popularity(part: Part) -> _Scores:
    return np.tile(np.asarray(part.wanted.sum(axis=0)).ravel(), (part.wanted.shape[0], 1))


def by_als(part: Part) -> _Scores:
    """ALS of what was learnt from and the test together."""
    from scipy.sparse import hstack

    found = teach("als", hstack([part.matrix, part.wanted]).tocsr(), dim=64)
    return found.users @ found.items[len(part.learnt) :].T


def methods(part: Part, short: bool) -> dict[str, Method]:
    """All of the table; settings of the baselines by the best recall on `part`."""
    found: dict[str, Method] = {
        "random": by_chance,
        "genres and period, cosine": alike({"genres": 0.5, "period": 0.5}),
        "text, cosine": alike({"text": 1.0}),
        "all content, cosine": alike(WEIGHTS),
    }
    for name, grid in GRIDS.items():
        ways = [mapped(name, settings) for settings in grid]
        best = max(ways, key=lambda way: measured(way(part), part)["recall@20"].mean()) if len(ways) > 1 else ways[0]
        found[f"content popularity ({name})" if name == "popularity" else name] = best
    found["kernel ridge, users apart"] = mapped("kernel", PLAIN_KERNEL)
    if not short:
        found |= {name: mapped(name, {}) for name in TRAINED}
    found[WITHOUT] = mapped("kernel", SETTINGS, _FILM)
    found[CHOSEN] = mapped("kernel", SETTINGS)
    return found | {"oracle, popularity": by_popularity, "oracle, ALS": by_als}


def lists_of(scores: _Scores) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :20].astype(np.int64)


def measured(scores: _Scores, part: Part) -> dict[str, NDArray[np.float64]]:
    """Of each person with a like."""
    found = measure_lists(lists_of(scores), part.wanted, k=[20])
    some = ~np.isnan(found["recall@20"])
    return {name: values[some] for name, values in found.items()}


def parts(every: Content, met: Interactions, warm: NDArray[np.intp], count: int) -> list[Part]:
    """A fifth held out at a time, `count` of the five."""
    drawn = np.array_split(np.random.default_rng(0).permutation(warm), 5)[:count]
    return [Part(every, met, np.setdiff1d(warm, new), np.sort(new)) for new in drawn]


def table(part: Part, ways: dict[str, Method]) -> dict[str, Any]:
    """Each method's measures with intervals over people and over films, and its difference to the chosen."""
    scores, seconds = {}, {}
    for name, way in ways.items():
        began = time.perf_counter()
        scores[name] = way(part)
        seconds[name] = time.perf_counter() - began
    names = list(ways)
    result: dict[str, dict[str, Any]] = {name: {"seconds": round(seconds[name], 2)} for name in ways}
    for measure in MEASURES:
        values = np.stack([measured(scores[name], part)[measure] for name in names], axis=1)
        own = np.stack([by_item(lists_of(scores[name]), part.wanted, 20)[measure] for name in names], axis=1)
        drawn = resample(values, own, shares_by_item(part.wanted))
        for place, name in enumerate(names):
            found = drawn.sure(place)
            result[name][measure] = _rounded(found)
            if name != CHOSEN:
                less, p_value = drawn.difference(names.index(CHOSEN), place)
                result[name][f"chosen less, {measure}"] = [*_rounded(less)[:5], p_value]
    return {"films": len(part.new), "people": len(values), "methods": result}


def _rounded(found: Any) -> list[float]:
    """Value, then low and high over people, then over films."""
    bounds = (found.value, found.users.low, found.users.high, found.items.low, found.items.high)
    return [round(float(value), 4) for value in bounds]


def run(short: bool) -> dict[str, Any]:
    """Held-out films, then the 431, then the time split."""
    torch.set_num_threads(2)
    lines = films()
    every, met = content(lines), ratings(lines)
    is_new = np.array([line["fold"] == "cold_dev" for line in lines])
    seen = met.where(~is_new[met.items])
    held = parts(every, seen, np.flatnonzero(~is_new), 1 if short else 5)
    ways = methods(held[0], short)
    figures = {name: [measured(way(part), part) for part in held] for name, way in ways.items() if name not in TRAINED}
    result: dict[str, Any] = {
        "load": os.getloadavg()[0],
        "held_out": {
            name: {measure: round(float(np.mean([one[measure].mean() for one in found])), 4) for measure in MEASURES}
            for name, found in figures.items()
        },
    }
    result["new"] = table(Part(every, met, np.flatnonzero(~is_new), np.flatnonzero(is_new)), ways)
    cut = np.quantile(seen.times, 0.8)
    before, after = seen.where(seen.times < cut), seen.where(seen.times >= cut)
    warm = before.positive(LIKED).counts() >= WARM_MIN
    part = Part(every, before, np.flatnonzero(warm), np.flatnonzero(~warm & ~is_new))
    known = np.diff(part.matrix.indptr) > 0
    liked = after.positive(LIKED)
    part.wanted = liked.where(known[liked.users]).matrix()[:, part.new].tocsr()
    result["time"] = table(part, ways)
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for which, told in (("new", "new films, drawn at random"), ("time", "new films by time")):
        found = result[which]
        setting = f"{found['people']} people, {found['films']} {told}"
        for name, figures in found["methods"].items():
            for measure in MEASURES:
                value, low, high, *films = figures[measure]
                aim = f"at least {GOAL[measure]}" if which == "new" and name == CHOSEN and measure in GOAL else ""
                spread = f"{low:.3f} to {high:.3f} (people), {films[0]:.3f} to {films[1]:.3f} (films)"
                lines.append(Row(f"films, {name}, {measure}", setting, f"{value:.3f}", spread, aim))
    for name, figures in result["held_out"].items():
        told = ", ".join(f"{measure} {figures[measure]:.3f}" for measure in MEASURES)
        lines.append(Row(f"films, {name}, held out", "parts of the films learnt from", told, ""))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
