"""Fit a ranker of the union of channels without showings: what users took last, against what they did not take.

The last item of each history is held out, with all rows of a tenth of the items, which stand for new ones. Channels are
fitted on the rest, so that they know neither, and name candidates; what a user took is the positive one of a request.
In the end channels are fitted anew on all rows, as they are used.

A linear ranker (conditional logit over the candidates of a request: McFadden 1974) or boosted trees: trees where they
won on users that neither was fitted on. What the ranker is worth is measured by users of other folds than it was fitted
on, against the channel that was best on those it was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import Candidates, Histories
from coldstart.core.neighbours import MOST_EASE
from coldstart.errors import ColdstartError
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.rank.channels import ScoringChannel, fit_channels
from coldstart.rank.model import Features, RankModel, Recipe
from coldstart.rank.union import DEPTH, NEW_DEPTH, Items, gather, union_features

KINDS = ("linear", "trees")
TAKEN = "taken"
"""Event of the ranker: that a user took the item."""
NEW_SHARE = 0.1
"""Share of the items that stand for new ones in a fit."""
FEWEST_FOR_TREES = 2_000
"""Requests with a positive candidate from which on trees are tried."""
FOLDS = 4
CUT = 10
_RIDGE = 10.0
_UNSCALED = "_score"  # end of the names of features that only trees read: their standardised form is there too
_MOST_OFFSET, _STEPS = 12.0, 24  # most that is added to the score of a new item; halvings of it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UnionRecipe:
    """Settings of a fit; see `coldstart.rank.union_stage.Settings`."""

    depth: int = DEPTH
    new_depth: int = NEW_DEPTH
    model: str = "auto"
    negatives: int = 100
    most_requests: int = 8_000
    most_back: int = 4
    rounds: int = 300
    leaves: int = 15
    most_ease: int = MOST_EASE
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Linear:
    """Weights of features in their deviations, and of their absence.

    Attributes:
        names: features, F of them; mean, deviation: of each; weights, absent: float64 [F].
    """

    names: tuple[str, ...]
    mean: Floats
    deviation: Floats
    weights: Floats
    absent: Floats

    def predict(self, features: Features) -> Floats:
        """Score candidates, float64 [n].

        Raises:
            ColdstartError: the features are others than those of the fit.
        """
        features = scaled(features)
        if features.names != self.names:
            raise ColdstartError(f"the ranker reads features {list(self.names)}; given are {list(features.names)}")
        values, missing = _filled(features, self.mean, self.deviation)
        found: Floats = values @ self.weights + missing @ self.absent
        return found


def fit_linear(
    features: Features, positive: NDArray[np.bool_], requests: NDArray[np.int64], l2: float = _RIDGE
) -> Linear:
    """Fit a conditional logit; every request has one positive candidate at least, and is in one run."""
    from scipy.optimize import minimize

    features = scaled(features)
    values = features.values.astype(np.float64)
    known = np.isfinite(values)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / counts
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / counts)
    deviation = np.where(deviation > 1e-9, deviation, 1)
    filled, missing = _filled(features, mean, deviation)
    design = np.hstack([filled, missing]).astype(np.float32)
    starts = np.flatnonzero(np.diff(requests, prepend=-1))
    owner = np.cumsum(np.diff(requests, prepend=requests[:1]) != 0)

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = (design @ weights.astype(np.float32)).astype(np.float64)
        scores -= np.maximum.reduceat(scores, starts)[owner]
        raised = np.exp(scores)
        totals = np.add.reduceat(raised, starts)
        slope = design.T @ (raised / totals[owner] * _positives(positive, starts)[owner] - positive).astype(np.float32)
        value = (np.log(totals)[owner] - scores)[positive].sum()
        return float(value + l2 / 2 * weights @ weights), slope.astype(np.float64) + l2 * weights

    found = minimize(
        loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 150, "ftol": 1e-7}
    ).x
    half = len(features.names)
    return Linear(features.names, mean, deviation, found[:half], found[half:])


def scaled(features: Features) -> Features:
    """Leave out the features that only trees read."""
    kept = [place for place, name in enumerate(features.names) if not name.endswith(_UNSCALED)]
    return Features(tuple(features.names[place] for place in kept), features.values[:, kept])


def _positives(positive: NDArray[np.bool_], starts: NDArray[np.int64]) -> Floats:
    found: Floats = np.add.reduceat(positive.astype(np.float64), starts)
    return found


def _filled(features: Features, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Standardise features, 0 where one is not known, and mark those."""
    known = np.isfinite(features.values)
    values = np.where(known, (features.values - mean) / deviation, 0)
    return np.clip(values, -8, 8), (~known).astype(np.float64)


@dataclass
class UnionFit:
    """A fitted ranker of the union of channels.

    Attributes:
        kind: `linear` or `trees`; new_offset: what is added to the score of a new item.
        channels: fitted on all rows, by name; counts: users of each item.
        report: what was measured; `auto` in it: whether it won.
        held_out: requests that judged it: `users`, numbers, `targets`, places, and `ranked`, NDCG of its list.
    """

    kind: str
    linear: Linear | None
    trees: RankModel | None
    new_offset: float
    recipe: UnionRecipe
    channels: dict[str, ScoringChannel] = field(default_factory=dict)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    report: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, NDArray[Any]] = field(default_factory=dict)

    def order(self, features: Features, cold: NDArray[np.bool_]) -> Floats:
        """Score candidates, float64 [n]: comparable within a request alone."""
        if self.linear is not None:
            found = self.linear.predict(features)
        else:
            assert self.trees is not None
            found = self.trees.logits(features)[TAKEN]
        return found + self.new_offset * cold


@dataclass(frozen=True)
class Requests:
    """Held-out requests with candidates and features.

    Attributes:
        users: number of the user of each; targets: place of the item that was taken; new: it stands for a new one.
        positive: bool [candidates].
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    new: NDArray[np.bool_]
    candidates: Candidates
    features: Features
    positive: NDArray[np.bool_]

    def rows_of(self, chosen: NDArray[np.bool_], negatives: int, seed: int) -> NDArray[np.int64]:
        """Select rows of a fit: of chosen requests with a positive candidate, it and so many others by chance."""
        requests = self.candidates.requests
        has = np.zeros(len(self.users), bool)
        has[requests[self.positive]] = True
        rows = np.flatnonzero((has & chosen)[requests])
        keys = np.random.default_rng(seed).random(len(rows))
        keys[self.positive[rows]] = -1
        order = rows[np.lexsort((keys, requests[rows]))]
        own = requests[order]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        slots = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        return np.sort(order[slots <= negatives])


def _merge(parts: Sequence[Requests]) -> Requests:
    known = [one.candidates for one in parts]
    sizes, lengths = [len(one.users) for one in parts], [len(one) for one in known]
    requests = [one.requests + base for one, base in zip(known, np.cumsum([0, *sizes]), strict=False)]
    starts = [one.starts[:-1] + base for one, base in zip(known, np.cumsum([0, *lengths]), strict=False)]

    def joined(of: str) -> Any:
        return np.concatenate([getattr(one, of) for one in known])

    candidates = Candidates(
        known[0].channels,
        np.concatenate(requests),
        joined("places"),
        joined("ranks"),
        joined("scores"),
        joined("cold"),
        np.concatenate([*starts, [sum(lengths)]]),
    )
    features = Features(parts[0].features.names, np.concatenate([one.features.values for one in parts]))
    users, targets, new, positive = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("users", "targets", "new", "positive")
    )
    return Requests(users, targets, new, candidates, features, positive)


def is_pseudo_new(item: str, share: float = NEW_SHARE) -> bool:
    """Draw a share of the items by a hash of their ids."""
    return int(sha1(f"pseudo-new:{item}".encode()).hexdigest(), 16) % round(1 / share) == 0


def taken_items(histories: Histories, count: int) -> NDArray[np.bool_]:
    """Find the items that somebody took, bool [N].

    Another one cannot be what a request asks for: as a candidate it would only use up the places of new items.
    """
    return np.bincount(np.concatenate([np.empty(0, np.int64), *histories]), minlength=count) > 0


def hold_out(
    histories: Histories,
    times: Sequence[NDArray[np.int64]],
    item_ids: Sequence[str],
    content: NDArray[np.float32],
    attributes: tuple[NDArray[np.int64], tuple[str, ...]],
    recipe: UnionRecipe,
) -> tuple[Requests, Items]:
    """Hold out the last items, fit channels on the rest, and make candidates and features of the requests.

    Of few users up to `most_back` last items are held out, one after the other, each with channels that know none of
    the later ones.
    """
    pseudo = np.zeros(len(item_ids), bool)
    if content.shape[1]:
        pseudo = np.array([is_pseudo_new(item) for item in item_ids], bool)
    taken = taken_items(histories, len(item_ids))
    back = int(np.clip(recipe.most_requests // 2 // max(1, len(histories)), 1, recipe.most_back))
    parts = []
    for last in range(back):
        found = _held_out_at(histories, times, last, pseudo, taken, content, attributes, recipe)
        if found is not None:
            parts.append(found)
    if not parts:
        raise ColdstartError("no user has two items: bring more interactions")
    return _merge([one for one, _ in parts]), parts[0][1]


def _held_out_at(
    histories: Histories,
    times: Sequence[NDArray[np.int64]],
    last: int,
    pseudo: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    content: NDArray[np.float32],
    attributes: tuple[NDArray[np.int64], tuple[str, ...]],
    recipe: UnionRecipe,
) -> tuple[Requests, Items] | None:
    """Hold out one item of each history, `last` before its end."""
    past, before, asked = [], [], []
    for number, (own, at) in enumerate(zip(histories, times, strict=True)):
        end = max(0, len(own) - 1 - last)
        kept = ~pseudo[own[:end]]
        past.append(own[:end][kept])
        before.append(at[:end][kept])
        if kept.any():
            asked.append((number, int(own[end]), int(at[end])))
    if not asked:
        return None
    channels, items = _as_of(past, before, content, attributes, recipe)
    users, targets, seconds = np.array(asked, np.int64).T
    if len(users) > recipe.most_requests:
        drawn = np.sort(np.random.default_rng(recipe.seed).permutation(len(users))[: recipe.most_requests])
        users, targets, seconds = users[drawn], targets[drawn], seconds[drawn]
    own_past = [past[number] for number in users]
    candidates = gather(channels, own_past, items, seconds, depth=recipe.depth, new_depth=recipe.new_depth, among=taken)
    features = union_features(candidates, channels, own_past, items, seconds)
    positive = candidates.places == targets[candidates.requests]
    return Requests(users, targets, items.cold[targets], candidates, features, positive), items


def _as_of(
    histories: Histories,
    times: Sequence[NDArray[np.int64]],
    content: NDArray[np.float32],
    attributes: tuple[NDArray[np.int64], tuple[str, ...]],
    recipe: UnionRecipe,
) -> tuple[dict[str, ScoringChannel], Items]:
    rows = np.concatenate([np.empty(0, np.int64), *histories]), np.concatenate([np.empty(0, np.int64), *times])
    channels = fit_channels(histories, rows, content, most_ease=recipe.most_ease)
    counts = np.bincount(rows[0], minlength=len(content))
    return channels, Items(content, counts, counts == 0, *attributes)


def gains(scores: NDArray[Any], requests: Requests, cut: int = CUT) -> Floats:
    """Compute NDCG at a cut of each request; nothing where what was taken is no candidate."""
    known = requests.candidates
    order = np.lexsort((-np.asarray(scores, np.float64), known.requests))
    slots = np.arange(len(order)) - known.starts[known.requests[order]]
    hit = (slots < cut) & requests.positive[order]
    found = np.zeros(len(requests.users))
    found[known.requests[order][hit]] = 1 / np.log2(slots[hit] + 2)
    return found


def new_exposure(scores: NDArray[Any], known: Candidates, chosen: NDArray[np.bool_], cut: int = CUT) -> float:
    """Compute the share of new items in the first places of chosen requests."""
    order = np.lexsort((-np.asarray(scores, np.float64), known.requests))
    slots = np.arange(len(order)) - known.starts[known.requests[order]]
    shown = order[(slots < cut) & chosen[known.requests[order]]]
    return float(known.cold[shown].mean()) if len(shown) else 0.0


def offset_for(scores: Floats, known: Candidates, chosen: NDArray[np.bool_], aim: float) -> float:
    """Find what to add to the scores of new items, at least 0, so that their share of the first places is `aim`."""
    if new_exposure(scores, known, chosen) >= aim or not known.cold.any():
        return 0.0
    low, high = 0.0, _MOST_OFFSET
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if new_exposure(scores + middle * known.cold, known, chosen) < aim else (low, middle)
    return high


def fit_one(
    kind: str, requests: Requests, chosen: NDArray[np.bool_], aim: float, recipe: UnionRecipe
) -> tuple[UnionFit, Floats]:
    """Fit a ranker of one kind on chosen requests; its scores of all candidates too."""
    rows = requests.rows_of(chosen, recipe.negatives, recipe.seed)
    known, positive = requests.features.where(rows), requests.positive[rows]
    own = requests.candidates.requests[rows]
    linear, trees = None, None
    if kind == "linear":
        linear = fit_linear(known, positive, own)
    else:
        # users stand in for times: those whose rows stop the trees are others than those of the fit
        users = np.unique(requests.users, return_inverse=True)[1]
        shuffled = np.random.default_rng(recipe.seed).permutation(int(users.max()) + 1)[users][own]
        settings = Recipe(models=("trees",), rounds=recipe.rounds, leaves=recipe.leaves, min_in_leaf=100,
                          seed=recipe.seed, threads=recipe.threads, calibrated=False)  # fmt: skip
        labels = {TAKEN: positive.astype(np.float32)}
        trees = RankModel.fit(known, labels, shuffled, requests.candidates.cold[rows], settings)
    found = UnionFit(kind, linear, trees, 0.0, recipe)
    scores = found.order(requests.features, requests.candidates.cold)
    found.new_offset = offset_for(scores, requests.candidates, chosen, aim)
    return found, scores + found.new_offset * requests.candidates.cold


def channel_scores(known: Candidates) -> dict[str, Floats]:
    """Order candidates by the rank of each channel, those that it did not name last."""
    return {
        name: -np.where(known.ranks[:, number] > 0, known.ranks[:, number], np.inf).astype(np.float64)
        for number, name in enumerate(known.channels)
    }


def fit_union(
    histories: Histories,
    times: Sequence[NDArray[np.int64]],
    item_ids: Sequence[str],
    content: NDArray[np.float32],
    attributes: tuple[NDArray[np.int64], tuple[str, ...]],
    recipe: UnionRecipe = UnionRecipe(),
    step: Callable[[], None] = lambda: None,
) -> UnionFit:
    """Fit a ranker and measure it.

    Args:
        histories: places of items of each user, the latest last, each once; times: seconds of each.
        content: float32 [N, D], of no columns for none; attributes: codes int64 [N, A], -1 for none, and names.
        step: called after each fit, `FOLDS` + 3 times at most.

    Raises:
        ColdstartError: no request has a positive candidate.
    """
    requests, items = hold_out(histories, times, item_ids, content, attributes, recipe)
    step()
    with_positive = len(np.unique(requests.candidates.requests[requests.positive]))
    if with_positive < FEWEST_COMPARED:
        raise ColdstartError(
            f"{with_positive} of {len(requests.users):,} users took last what a channel names, and a ranker needs "
            f"{FEWEST_COMPARED}: bring more interactions"
        )
    count = len(requests.users)
    names, owners = np.unique(requests.users, return_inverse=True)
    fold = (np.random.default_rng(recipe.seed).permutation(len(names)) % FOLDS)[owners]
    # new items are to have as large a share of the first places as of what users took, or of the catalogue if less
    of_items = float(items.cold[taken_items(histories, len(item_ids))].mean())
    aim = min(float(requests.new.mean()), of_items)
    every = np.ones(count, bool)
    singles = {name: gains(own, requests) for name, own in channel_scores(requests.candidates).items()}
    singles["rrf"] = gains(requests.candidates.fused(), requests)
    channels = [name for name in singles if name not in ("rrf", "new")]
    kind, tried, judged = _choose_kind(requests, fold, with_positive, aim, recipe)
    step()
    ranked, best = np.zeros(count), np.zeros(count)
    shown = []
    for number in sorted(set(fold[judged].tolist())):
        held, rest = fold == number, fold != number
        _, scores = fit_one(kind, requests, rest, aim, recipe)
        ranked[held] = gains(scores, requests)[held]
        chosen = max(channels, key=lambda name: float(singles[name][rest].mean()))
        best[held] = singles[chosen][held]
        shown.append(new_exposure(scores, requests.candidates, held))
        step()
    found, _ = fit_one(kind, requests, every, aim, recipe)
    found.report = {
        "model": kind,
        "tried": tried,
        "requests": count,
        "positive": with_positive,
        "candidates": len(requests.candidates) / max(1, count),
        "new_offset": found.new_offset,
        **_judged(ranked[judged], best[judged], {name: own[judged] for name, own in singles.items()},
                  requests.new[judged], requests.users[judged]),
        "new": {
            "exposure": float(np.mean(shown)),
            "share": float(requests.new.mean()),
            "of_items": of_items,
        },
    }  # fmt: skip
    found.report["best"] = max(channels, key=lambda name: float(singles[name].mean()))
    found.held_out = {
        "users": requests.users[judged],
        "targets": requests.targets[judged],
        "ranked": ranked[judged],
    }
    found.channels, now = _as_of(histories, times, content, attributes, recipe)
    found.counts = now.counts
    step()
    return found


def _choose_kind(
    requests: Requests, fold: NDArray[np.int64], with_positive: int, aim: float, recipe: UnionRecipe
) -> tuple[str, dict[str, Any], NDArray[np.bool_]]:
    """Choose linear or trees on one fold's users, who then do not judge; all judge where there is no choice."""
    every = np.ones(len(fold), bool)
    if recipe.model != "auto":
        return recipe.model, {}, every
    if with_positive < FEWEST_FOR_TREES:
        return "linear", {"why": f"{with_positive:,} requests, and trees are tried from {FEWEST_FOR_TREES:,} on"}, every
    held = fold == 0
    found = {kind: gains(fit_one(kind, requests, ~held, aim, recipe)[1], requests)[held] for kind in KINDS}
    gain = paired(found["linear"], found["trees"], groups=requests.users[held].tolist())
    about: dict[str, Any] = {name: float(own.mean()) for name, own in found.items()}
    about["trees_gain"] = {"value": gain.value, "low": gain.low, "high": gain.high, "n": int(held.sum())}
    return ("trees" if gain.low > 0 else "linear"), about, ~held


def _judged(
    ranked: Floats,
    best: Floats,
    singles: Mapping[str, Floats],
    new: NDArray[np.bool_],
    users: NDArray[np.int64],
) -> dict[str, Any]:
    """Compare the ranked union with the best channel over users, and tell whether it won."""
    gain = paired(best, ranked, groups=users.tolist())
    count = len(np.unique(users))
    sets = {"all": np.ones(len(new), bool), "warm": ~new, "new": new}
    rows = {"ranked": ranked, "best": best, **singles}
    return {
        "users": count,
        "judged": len(ranked),
        "ndcg@10": {
            name: {part: _measure(own[chosen], users[chosen]) for part, chosen in sets.items() if chosen.any()}
            for name, own in rows.items()
        },
        "gain": {"value": gain.value, "low": gain.low, "high": gain.high, "n": count},
        "auto": bool(count >= FEWEST_COMPARED and gain.low > 0),
    }


def _measure(values: Floats, users: NDArray[np.int64]) -> dict[str, Any]:
    found = bootstrap(values, groups=users.tolist())
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(values)}
