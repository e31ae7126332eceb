"""Fit a ranker and predict with it: plain arrays in, plain arrays out. Knows no tables and no workspace.

A window of rows is cut by time in three: trees and attention are fitted on the earliest part and stopped on the next.
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
    from coldstart.rank.attention import Attention
    from coldstart.rank.trees import Forest

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
MODELS = ("trees", "attention", "both")
_FITTED, _STOPPED = 0.65, 0.8
"""Shares of a window, by time, where the fit ends and where stopping ends; the rest chooses."""


@dataclass(frozen=True)
class Sequences:
    """Candidates and histories as places of items, for target attention.

    Attributes:
        items: candidate of each row, int32 [N], -1 for one that the item table lacks.
        rows: history of each row, int32 [N].
        histories: items of each history, the latest last, int32 [H, L], -1 before its beginning.
        events: event of each action, int32 [H, L], 0 without one.
        attributes: codes of each item's creator, category, … int32 [I, C], 0 where not known.
    """

    items: NDArray[np.int32]
    rows: NDArray[np.int32]
    histories: NDArray[np.int32]
    events: NDArray[np.int32]
    attributes: NDArray[np.int32]

    def where(self, chosen: NDArray[Any]) -> Sequences:
        """Select rows; histories and items stay."""
        return replace(self, items=self.items[chosen], rows=self.rows[chosen])


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
    """Settings of a fit, as `coldstart.rank.settings.Settings` names them; `threads` of the trees."""

    model: str = "auto"
    rounds: int = 400
    leaves: int = 31
    min_in_leaf: int = 60
    tree_rate: float = 0.05
    dim: int = 32
    epochs: int = 3
    learning_rate: float = 1e-3
    decay: float = 1e-2
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    calibrated: bool = True
    """Probabilities are wanted; without them one fit is saved."""


@dataclass
class RankModel:
    """A fitted ranker.

    Attributes:
        kind: `trees`, `attention` or `both`; events: what it predicts, in order.
        names: features that it reads; trees: of each event; attention: network and its scaling.
        calibration: of its logits; calibrations: of each kind that was fitted; they are not saved.
        report: what was measured on the latest part of the window.
    """

    kind: str
    events: tuple[str, ...]
    names: tuple[str, ...]
    trees: dict[str, Forest] = field(default_factory=dict)
    attention: Attention | None = None
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
    ) -> RankModel:
        """Fit a ranker on a window.

        Args:
            labels: event -> 0 or 1 of each row, float32 [N]; NaN where it is not known.
            times: by which the window is cut, int64 [N]; rows of one time stay together.
            cold: rows of items without interactions, which get a calibration of their own where there are enough.
            users: whose rows the interval of a calibration's gain takes together, int64 [N]; None: none.
            offsets: event -> logit that the place of a showing adds, float32 [N]; known in the fit, not in use.
            step: called after each model.

        Raises:
            ColdstartError: an event has too few rows of a class.
        """
        events = tuple(labels)
        for event, own in labels.items():
            check_classes(event, own)
        parts = time_parts(times)
        recipe = replace(recipe, model=_possible(recipe.model, features))
        wanted = MODELS[:2] if recipe.model in ("auto", "both") else (recipe.model,)
        offsets = offsets or {event: np.zeros(len(features), np.float32) for event in events}
        rounds, epochs = dict[str, int](), 0
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
        if "attention" in wanted:
            from coldstart.rank.attention import fit_attention

            network, epochs = fit_attention(features, labels, parts == 0, parts == 1, recipe, offsets)
            again = network
            if recipe.calibrated:
                again, _ = fit_attention(features, labels, parts < 2, None, recipe, offsets, epochs)
            found_of["attention"] = network.predict(middle), again.predict(later)
            step()
        if len(wanted) == 2:
            both = zip(found_of["trees"], found_of["attention"], strict=True)
            first, second = ({event: (one[event] + other[event]) / 2 for event in events} for one, other in both)
            found_of["both"] = first, second
        losses = {name: _loss(own[1], {event: one[parts == 2] for event, one in labels.items()})
                  for name, own in found_of.items()}  # fmt: skip
        kind = recipe.model if recipe.model != "auto" else min(losses, key=lambda name: losses[name])
        users = np.arange(len(features)) if users is None else users
        curves = {
            name: fit_calibration(*periods(own, labels, cold, users, parts)) if recipe.calibrated else Calibration()
            for name, own in found_of.items()
        }
        every = np.ones(len(features), bool)
        found = cls(kind, events, features.names, calibration=curves[kind], calibrations=curves)
        if kind != "attention":
            found.trees, _ = fit_trees(features, labels, every, None, recipe, offsets, rounds)
            step()
        if kind != "trees":
            found.attention, _ = fit_attention(features, labels, every, None, recipe, offsets, epochs)
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
        """Predict the logit of each event before calibration, float64 [N]; `kind`: only by this one of `both`.

        Raises:
            ColdstartError: the features are others than those of the fit.
        """
        if features.names != self.names:
            raise ColdstartError(f"the ranker reads features {list(self.names)}; given are {list(features.names)}")
        found: list[dict[str, Doubles]] = []
        kind = kind or self.kind
        if kind != "attention":
            from coldstart.rank.trees import predict_trees

            found.append(predict_trees(self.trees, features))
        if kind != "trees" and self.attention is not None:
            found.append(self.attention.predict(features))
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
    parts: NDArray[np.int64],
) -> tuple[Period, Period]:
    """Put the logits of the second and the third part of a window beside what is known of their rows."""
    earlier, later = (
        Period(
            own, {event: one[parts == part] for event, one in labels.items()}, cold[parts == part], users[parts == part]
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


def _possible(model: str, features: Features) -> str:
    if features.sequences is not None:
        return model
    if model in ("attention", "both"):
        raise ColdstartError(f"model={model} reads histories, and there are none: take `trees`, or ingest interactions")
    return "trees"


def _loss(logits: Mapping[str, Doubles], labels: Mapping[str, Floats]) -> float:
    """Mean log loss over the events, each over its rows with a label."""
    return float(np.mean([log_loss(sigmoid(logits[event]), own) for event, own in labels.items()]))
