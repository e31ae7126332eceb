"""Select on held-out items how the blocks of content are weighed and whitened, and how wide the kernel over them is.

By coordinate: each block's whitening and weight, then the kernel's settings, one after another as long as the mean
ndcg@20 of the folds rises. The judge is a kernel ridge (`mappers.kernel`), which is quick, on the assumption that what
suits it suits other mappers too. The products of two items' blocks are kept, so that a trial is a weighted sum of
matrices and one factorisation. The number of trials is bounded by the sizes, never by a clock, so that the same data
give the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.ranking import measure_lists
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content, FittedBlocks, fit_blocks
from coldstart.recommend.model.holdout import SELECTION_METRIC, TOP_K, Fold, problem_without_features
from coldstart.recommend.model.mappers.kernel import UserTargets, fit_user_targets
from coldstart.recommend.model.threads import side_by_side

POWERS = (0.0, 0.25, 0.5)
FIRST_POWER = 0.25
_FACTORS = (0.25, 0.5, 2.0, 4.0)  # of a weight; 0 leaves the block out
_KERNEL = {"gamma": 0.5, "penalty": 0.5, "smoothing": 5.0}
_GRID = {
    "gamma": (0.15, 0.25, 0.35, 0.5, 0.7, 1.0),
    "penalty": (0.25, 0.5, 1.0, 2.0),
    "smoothing": (2.5, 5.0, 10.0, 20.0),
}
_ROUNDS = 3
MOST_ITEMS = 2000
"""Most items of a fold that are learnt from and ranked; more are drawn."""
_MOST_USERS = 2000  # of a fold
_DIM = 128


@dataclass(frozen=True)
class SpaceWeights:
    """Weights of the blocks, which add up to 1, and the power of whitening of each.

    Attributes:
        kernel: settings of the mapper `kernel` that were selected with them; empty where they were not.
        trials: number of trials.
    """

    weights: Mapping[str, float]
    powers: Mapping[str, float]
    kernel: Mapping[str, float] = field(default_factory=dict)
    trials: int = 0


@dataclass(frozen=True)
class _Trial:
    """One choice: block -> weight and power, and the kernel's settings."""

    blocks: Mapping[str, tuple[float, float]]
    kernel: Mapping[str, float]

    def key(self) -> tuple[Any, ...]:
        total = sum(weight for weight, _ in self.blocks.values())
        blocks = tuple((name, round(weight / total, 6), power) for name, (weight, power) in self.blocks.items())
        return blocks, tuple(self.kernel.items())

    def beside(self, name: str, powers: Sequence[float], is_weighed: bool) -> list[_Trial]:
        """List the choices that differ in one block, or in one of the kernel's settings."""
        if name in _GRID:
            values, place = _GRID[name], _GRID[name].index(self.kernel[name])
            near = [values[other] for other in (place - 1, place + 1) if 0 <= other < len(values)]
            return [_Trial(self.blocks, {**self.kernel, name: value}) for value in near]
        if name not in self.blocks:
            return []
        weight, power = self.blocks[name]
        own = [(weight, other) for other in powers if other != power]
        own += [(weight * factor, power) for factor in _FACTORS] if is_weighed else []
        found = [_Trial({**self.blocks, name: one}, self.kernel) for one in own]
        if is_weighed and len(self.blocks) > 1:
            rest = {other: one for other, one in self.blocks.items() if other != name}
            found.append(_Trial(rest, self.kernel))
        return found


def select_space_weights(
    folds: Sequence[Fold],
    content: Content,
    *,
    min_weight: float | None,
    labels: bool,
    dims: int,
    weights: Mapping[str, float] | None = None,
    power: float | None = None,
    tune: bool = True,
    trials: int = 1000,
) -> SpaceWeights:
    """Select what is not given of weights and power, on all folds.

    Args:
        tune: also select the kernel's settings.
        trials: most trials; the search ends where they are used up.
    """
    judges = [_Judge(fold, content, min_weight, labels, dims, weights) for fold in folds]
    names = [name for name in judges[0].names if all(name in judge.names for judge in judges)]
    given = {name: (weights or {}).get(name, 1.0) for name in names}
    first = FIRST_POWER if power is None else power
    best = _Trial({name: (weight, first) for name, weight in given.items() if weight}, dict(_KERNEL))
    powers = POWERS if power is None else (power,)
    with side_by_side(len(judges)) as scores:

        def mean(trial: _Trial) -> float:
            return float(np.mean(scores([partial(judge.score, trial) for judge in judges])))

        value, seen = mean(best), {best.key()}
        for _ in range(_ROUNDS):
            before = value
            for name in [*names, *(_GRID if tune else ())]:
                for trial in best.beside(name, powers, weights is None):
                    if trial.key() in seen or len(seen) >= trials:
                        continue
                    seen.add(trial.key())
                    found = mean(trial)
                    if found > value:
                        best, value = trial, found
            if value <= before:
                break
    total = sum(weight for weight, _ in best.blocks.values())
    return SpaceWeights(
        {name: weight / total for name, (weight, _) in best.blocks.items()},
        {name: own for name, (_, own) in best.blocks.items()},
        best.kernel if tune else {},
        len(seen),
    )


class _Judge:
    """One fold, reduced to so many items and users that a trial takes a fraction of a second."""

    def __init__(
        self,
        fold: Fold,
        content: Content,
        min_weight: float | None,
        labels: bool,
        dims: int,
        weights: Mapping[str, float] | None,
    ) -> None:
        met = np.flatnonzero(np.bincount(fold.train.items, minlength=len(content)))
        fitted = fit_blocks(content, met, weights=weights, dims=dims, labels=labels, fields=True)
        rng = np.random.default_rng(0)
        share = min(1.0, MOST_ITEMS / (len(met) + len(fold.held)))
        train = np.sort(rng.permutation(met)[: max(2, round(share * len(met)))])
        shown = np.sort(rng.permutation(len(fold.held))[: max(2, round(share * len(fold.held)))])
        people = np.sort(rng.permutation(len(fold.users))[:_MOST_USERS])
        relevant = fold.relevant[people][:, shown]
        judged = np.diff(relevant.indptr) > 0
        self._count, self._relevant = len(train), relevant[np.flatnonzero(judged)]
        self._problem = problem_without_features(fold.train, content, min_weight)
        self._histories = self._problem.matrix[fold.users[people[judged]]]
        self._train = train
        known = content.take(np.concatenate([train, fold.held[shown]]))
        self.names = list(fitted.directions)
        self._sources = {name: fitted.source(name, known) for name in self.names}
        self._fitted: FittedBlocks = fitted
        self._products: dict[str, tuple[float, Vectors]] = {}
        self._targets: dict[float, tuple[NDArray[np.float64], Vectors]] = {}

    def score(self, trial: _Trial) -> float:
        """Compute the mean ndcg@20 over users when the held-out items are ranked by a kernel ridge."""
        from scipy.linalg import cho_factor, cho_solve

        targets, users = self._of_users(trial.kernel["smoothing"])
        alike = np.zeros((0, 0), np.float32)
        for place, (name, (weight, power)) in enumerate(trial.blocks.items()):
            own = np.float32(weight) * self._product(name, power, trial.blocks)
            alike = own if place == 0 else np.add(alike, own, out=alike)
        lengths = np.sqrt(np.maximum(alike.diagonal(), 0))
        even = np.where(lengths > 0, 1 / np.where(lengths > 0, lengths, 1), 0).astype(np.float32)
        alike *= even[:, None]
        alike *= even
        count = self._count
        apart = 2 - 2 * float(alike[:count, :count].mean(dtype=np.float64))
        alike -= 1
        alike *= np.float32(2 * trial.kernel["gamma"] / max(apart, 1e-12))
        kernel = np.exp(alike, out=alike)
        left = kernel[:count, :count].astype(np.float64)
        left[np.diag_indices(count)] += trial.kernel["penalty"]
        shift = targets.mean(axis=0)
        weights = cho_solve(cho_factor(left, overwrite_a=True, check_finite=False), targets - shift)
        items = kernel[count:, :count] @ weights.astype(np.float32) + shift.astype(np.float32)
        lists = np.argsort(-(users @ items.T), axis=1, kind="stable")[:, :TOP_K].astype(np.int64)
        return float(np.nanmean(measure_lists(lists, self._relevant, [TOP_K])[SELECTION_METRIC]))

    def _product(self, name: str, power: float, kept: Mapping[str, Any]) -> Vectors:
        """Return the products of a block's unit rows, float32 [N, N]; those of the last power alone are kept."""
        if self._products.get(name, (None, None))[0] == power:
            return self._products[name][1]
        rows = self._fitted.directions[name].block(power)(self._sources[name])
        self._products[name] = (power, rows @ rows.T)
        return self._products[name][1]

    def _of_users(self, smoothing: float) -> tuple[NDArray[np.float64], Vectors]:
        if smoothing not in self._targets:
            people: UserTargets = fit_user_targets(self._problem, dim=_DIM, smoothing=smoothing)
            self._targets[smoothing] = people.targets[self._train], people.users(self._histories)
        return self._targets[smoothing]
