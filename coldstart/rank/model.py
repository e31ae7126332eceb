"""Fit a ranker and predict with it: plain arrays in, plain arrays out. Knows no tables and no workspace.

A window of rows is cut by time in three: trees and networks are fitted on the earliest part and stopped on the next.
Then they are fitted anew, for as long as they took, on both, which gives the predictions of the latest part that they
are chosen by, and on the whole window, so that no row is lost. A calibration of the predictions of the second part has
to hold on those of the third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.rank.calibration import Calibration, Period, fit_calibration, log_loss, sigmoid
from coldstart.rank.settings import FEWEST_OF_A_CLASS

if TYPE_CHECKING:
    from pathlib import Path

    from coldstart.rank.train_network import FittedNetwork
    from coldstart.rank.trees import Forest

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
PARTS = {
    "trees": ("trees",),
    "attention": ("attention",),
    "both": ("trees", "attention"),
    "long": ("long",),
    "trees_and_long": ("trees", "long"),
}
"""Kind of ranker -> the models whose logits it is the mean of."""
NETWORKS = ("attention", "long")
_DAY_S = 86_400
_FITTED, _STOPPED = 0.65, 0.8
"""Shares of a window, by time, where the fit ends and where stopping ends; the rest chooses."""


@dataclass(frozen=True)
class FoundActions:
    """Actions of N rows that search over a whole history found, K a row.

    Attributes:
        items: of each action, int32 [N, K], -1 for none; events: from 1, 0 without one, uint8 [N, K].
        tiers: of similarity to the candidate, 0 to 11, uint8 [N, K]; ages: 0 to 12, log2 of days, uint8 [N, K].
    """

    items: NDArray[np.int32]
    events: NDArray[np.uint8]
    tiers: NDArray[np.uint8]
    ages: NDArray[np.uint8]

    def where(self, chosen: NDArray[Any]) -> FoundActions:
        """Select rows."""
        return FoundActions(self.items[chosen], self.events[chosen], self.tiers[chosen], self.ages[chosen])


@dataclass(frozen=True)
class WholeHistories:
    """Histories behind one another, each oldest first.

    Attributes:
        starts: where each starts, int64 [H + 1]; items: int32 [A], -1 for one that is left out.
        events: from 1, 0 without one, int32 [A]; seconds: int64 [A].
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int32]
    events: NDArray[np.int32]
    seconds: NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """Candidates and histories as places of items, for networks.

    Attributes:
        items: candidate of each row, int32 [N], -1 for one that the item table lacks.
        rows: history of each row, int32 [N].
        histories: items of each history, the latest last, int32 [H, L], -1 before its beginning.
        events: event of each action, int32 [H, L], 0 without one.
        attributes: codes of each item's creator, category, … int32 [I, C], 0 where not known.
        ends: second that each history ends before, int64 [H]; lengths: actions of each at most, int64 [H].
        read: reads whole histories by their numbers, int64 [B]; they are not held.
        vectors: of items by who met them, float32 [I, D] of length 1, or 0 for none.
        found: what search found for each row, where some histories are long.
    """

    items: NDArray[np.int32]
    rows: NDArray[np.int32]
    histories: NDArray[np.int32]
    events: NDArray[np.int32]
    attributes: NDArray[np.int32]
    ends: NDArray[np.int64]
    lengths: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], WholeHistories]
    vectors: Floats
    found: FoundActions | None = None

    def where(self, chosen: NDArray[Any]) -> Sequences:
        """Select rows; histories and items stay."""
        found = None if self.found is None else self.found.where(chosen)
        return replace(self, items=self.items[chosen], rows=self.rows[chosen], found=found)


@dataclass(frozen=True)
class Features:
    """Features of N candidates: names, values float32 [N, F] with NaN where one is not known, perhaps sequences."""

    names: tuple[str, ...]
    values: Floats
    sequences: Sequences | None = None

    def __len__(self) -> int:
        return len(self.values)

    def where(self, chosen: NDArray[Any]) -> Features:
        """Select rows."""
        sequences = None if self.sequences is None else self.sequences.where(chosen)
        return replace(self, values=self.values[chosen], sequences=sequences)

    def over(self, names: tuple[str, ...]) -> Features:
        """Select features by name, in that order; NaN for those that there are not."""
        if names == self.names:
            return self
        places = {name: place for place, name in enumerate(self.names)}
        values = np.full((len(self), len(names)), np.nan, np.float32)
        for column, name in enumerate(names):
            if name in places:
                values[:, column] = self.values[:, places[name]]
        return replace(self, names=names, values=values)

    def without(self, prefix: str) -> Features:
        """Leave out the features whose names begin so."""
        kept = [place for place, name in enumerate(self.names) if not name.startswith(prefix)]
        return replace(self, names=tuple(self.names[place] for place in kept), values=self.values[:, kept])


@dataclass(frozen=True)
class Recipe:
    """Settings of a fit, as `coldstart.rank.settings.Settings` names them.

    Attributes:
        models: kinds that are compared by log loss on the latest part; the best one is kept.
        threads: of the trees; calibrated: probabilities are wanted; without them one fit is saved.
        all_kept: all models are kept, for `RankModel.logits` of another kind.
    """

    models: tuple[str, ...] = tuple(PARTS)
    rounds: int = 400
    leaves: int = 31
    min_in_leaf: int = 60
    tree_rate: float = 0.05
    dim: int = 32
    epochs: int = 3
    learning_rate: float = 1e-3
    decay: float = 1e-2
    long_epochs: int = 10
    long_rate: float = 3e-3
    long_merged: int = 4
    long_backend: str = "auto"
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    calibrated: bool = True
    all_kept: bool = False


@dataclass
class RankModel:
    """A fitted ranker.

    Attributes:
        kind: one of `PARTS`; events: what it predicts, in order.
        names: features that it reads; trees: of each event; networks: `attention`, `long` -> network and its scaling.
        calibration: of its logits; calibrations: of each kind that was compared; they are not saved.
        report: what was measured on the latest part of the window.
    """

    kind: str
    events: tuple[str, ...]
    names: tuple[str, ...]
    trees: dict[str, Forest] = field(default_factory=dict)
    networks: dict[str, FittedNetwork] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        features: Features,
        labels: Mapping[str, Floats],
        times: NDArray[np.int64],
        cold: Flags,
        recipe: Recipe,
        *,
        users: NDArray[np.int64] | None = None,
        offsets: Mapping[str, Floats] | None = None,
        step: Callable[[], None] = lambda: None,
        checkpoints: Path | None = None,
    ) -> RankModel:
        """Fit a ranker on a window.

        Args:
            labels: event -> 0 or 1 of each row, float32 [N]; NaN where it is not known.
            times: by which the window is cut, int64 [N]; rows of one time stay together.
            cold: rows of items without interactions, which get a calibration of their own where there are enough.
            users: whose rows an interval takes together, int64 [N]; None: none.
            offsets: event -> logit that the place of a showing adds, float32 [N]; known in the fit, not in use.
            step: called after each model.
            checkpoints: folder of the states that networks go on from after a kill; of this very fit alone.

        Raises:
            ColdstartError: an event has too few rows of a class.
        """
        events = tuple(labels)
        for event, own in labels.items():
            check_classes(event, own)
        parts = time_parts(times)
        kinds = _possible(recipe.models, features)
        wanted = {part for kind in kinds for part in PARTS[kind]}
        offsets = offsets or {event: np.zeros(len(features), np.float32) for event in events}
        rounds, epochs = dict[str, int](), dict[str, int]()
        middle, later = features.where(parts == 1), features.where(parts == 2)
        found_of: dict[str, tuple[dict[str, Doubles], dict[str, Doubles]]] = {}  # of the second and the third part
        if "trees" in wanted:
            from coldstart.rank.trees import fit_trees, predict_trees

            early, rounds = fit_trees(features, labels, parts == 0, parts == 1, recipe, offsets)
            longer = early
            if recipe.calibrated:
                longer, _ = fit_trees(features, labels, parts < 2, None, recipe, offsets, rounds)
            found_of["trees"] = predict_trees(early, middle), predict_trees(longer, later)
            step()

        def fit_one(name: str, part: str, fitted: Flags, stopped: Flags | None) -> FittedNetwork:
            from coldstart.rank.train_network import fit_network

            at = None if checkpoints is None else checkpoints / f"{name}-{part}.safetensors"
            network, taken = fit_network(
                name, features, labels, fitted, stopped, recipe, offsets, epochs.get(name), checkpoint=at
            )
            epochs.setdefault(name, taken)
            return network

        for name in NETWORKS:
            if name in wanted:
                network = fit_one(name, "early", parts == 0, parts == 1)
                again = fit_one(name, "longer", parts < 2, None) if recipe.calibrated else network
                found_of[name] = network.predict(middle), again.predict(later)
                step()
        for kind, of in PARTS.items():
            if len(of) == 2 and set(of) <= wanted:
                both = zip(*(found_of[part] for part in of), strict=True)
                first, second = ({event: (one[event] + other[event]) / 2 for event in events} for one, other in both)
                found_of[kind] = first, second
        losses = {name: _loss(own[1], {event: one[parts == 2] for event, one in labels.items()})
                  for name, own in found_of.items()}  # fmt: skip
        kind = min(kinds, key=lambda name: losses[name])
        users = np.arange(len(features)) if users is None else users
        curves = {
            name: fit_calibration(*periods(own, labels, cold, users, times, parts))
            if recipe.calibrated
            else Calibration()
            for name, own in found_of.items()
        }
        every = np.ones(len(features), bool)
        kept = wanted if recipe.all_kept else set(PARTS[kind])
        found = cls(kind, events, features.names, calibration=curves[kind], calibrations=curves)
        if "trees" in kept:
            found.trees, _ = fit_trees(features, labels, every, None, recipe, offsets, rounds)
            step()
        for name in NETWORKS:
            if name in kept:
                found.networks[name] = fit_one(name, "all", every, None)
                step()
        found.report = {
            "model": kind,
            "log_loss": losses,
            "rounds": rounds,
            "epochs": epochs,
            "parts": np.bincount(parts, minlength=3).tolist(),
            "calibration": curves[kind].about(),
        }
        return found

    def logits(self, features: Features, kind: str | None = None) -> dict[str, Doubles]:
        """Predict the logit of each event before calibration, float64 [N]; `kind`: by this one, of those kept.

        Raises:
            ColdstartError: the features are others than those of the fit.
        """
        if features.names != self.names:
            raise ColdstartError(f"the ranker reads features {list(self.names)}; given are {list(features.names)}")
        found: list[dict[str, Doubles]] = []
        for part in PARTS[kind or self.kind]:
            if part == "trees":
                from coldstart.rank.trees import predict_trees

                found.append(predict_trees(self.trees, features))
            else:
                found.append(self.networks[part].predict(features))
        return {event: np.mean([one[event] for one in found], axis=0) for event in self.events}

    def predict(self, features: Features, cold: Flags | None = None) -> dict[str, Doubles]:
        """Predict the calibrated probability of each event, float64 [N]."""
        cold = np.zeros(len(features), bool) if cold is None else cold
        return self.calibration.apply(self.logits(features), cold)


def periods(
    logits: tuple[Mapping[str, Doubles], Mapping[str, Doubles]],
    labels: Mapping[str, Floats],
    cold: Flags,
    users: NDArray[np.int64],
    times: NDArray[np.int64],
    parts: NDArray[np.int64],
) -> tuple[Period, Period]:
    """Put the logits of the second and the third part of a window beside what is known of their rows."""
    earlier, later = (
        Period(
            own,
            {event: one[parts == part] for event, one in labels.items()},
            cold[parts == part],
            users[parts == part],
            times[parts == part] // _DAY_S,
        )
        for part, own in enumerate(logits, 1)
    )
    return earlier, later


def score(probabilities: Mapping[str, Doubles], weights: Mapping[str, float]) -> Doubles:
    """Sum weight x log p over the events."""
    terms = [weights.get(event, 1.0) * np.log(np.clip(own, 1e-9, 1)) for event, own in probabilities.items()]
    found: Doubles = np.sum(terms, axis=0)
    return found


def time_parts(times: NDArray[np.int64], shares: tuple[float, float] = (_FITTED, _STOPPED)) -> NDArray[np.int64]:
    """Cut rows by time in three: 0, 1 or 2 of each row; equal times are one part."""
    order = np.sort(times)
    cuts = [order[min(len(order) - 1, int(share * len(order)))] for share in shares]
    return np.asarray((times >= cuts[0]).astype(np.int64) + (times >= cuts[1]), np.int64)


def check_classes(event: str, labels: Floats) -> None:
    """Refuse an event that nearly all rows have, or nearly none.

    Raises:
        ColdstartError: with the counts.
    """
    with_it, without = int((labels > 0).sum()), int((labels == 0).sum())
    if min(with_it, without) < FEWEST_OF_A_CLASS:
        raise ColdstartError(
            f"{event}: {with_it:,} showings have it and {without:,} do not; a fit needs {FEWEST_OF_A_CLASS} of each: "
            "name other events with --events, or ingest more showings"
        )


def _possible(models: tuple[str, ...], features: Features) -> tuple[str, ...]:
    """Leave out kinds that read histories where there are none.

    Raises:
        ColdstartError: no kind is left.
    """
    if features.sequences is not None:
        return models
    if "trees" not in models:
        raise ColdstartError(
            f"model={models[0]} reads histories, and there are none: take `trees`, or ingest interactions"
        )
    return ("trees",)


def _loss(logits: Mapping[str, Doubles], labels: Mapping[str, Floats]) -> float:
    """Mean log loss over the events, each over its rows with a label."""
    return float(np.mean([log_loss(sigmoid(logits[event]), own) for event, own in labels.items()]))
