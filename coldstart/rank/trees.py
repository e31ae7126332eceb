"""Fit boosted trees, one model an event, with LightGBM; deterministic for any number of threads.

Trees are kept as plain arrays, and LightGBM gets a text that is written from them once they were checked: its own
parser trusts what it reads, and a fit may come from a stranger's workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coldstart.rank.model import Features, Recipe

Doubles = NDArray[np.float64]
_PATIENCE = 30
_MOST = 1e300
_LARGEST = 1e6
"""Bound of what a leaf adds to a logit."""
_NODES = {"feature": "split_feature", "threshold": "threshold", "decision": "decision_type", "left": "left_child",
          "right": "right_child"}  # fmt: skip
_KINDS = {"feature": np.int64, "threshold": np.float64, "decision": np.int64, "left": np.int64, "right": np.int64,
          "value": np.float64, "leaves": np.int64, "bias": np.float64}  # fmt: skip
_DECISIONS = (2, 8, 10)
"""Numeric splits: bit 1, missing values go left; bits 2 and 3, what counts as missing: nothing, or NaN."""


@dataclass(frozen=True)
class Forest:
    """Trees of one event behind one another.

    Attributes:
        arrays: `leaves` of each tree, int64 [T]; of inner nodes `feature`, `threshold`, `decision`, `left`, `right`
            (~leaf below 0); `value` of leaves, float64; `bias`, float64 [1], which is added to all.
        features: how many there are.
    """

    arrays: Mapping[str, NDArray[Any]]
    features: int

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            ValueError, KeyError: they are no trees over so many features.
        """
        own: dict[str, Any] = {name: self.arrays[name] for name in _KINDS}
        if any(own[name].dtype != kind or own[name].ndim != 1 for name, kind in _KINDS.items()):
            raise ValueError("columns of trees are of other kinds")  # as text, 0.5 would lead LightGBM round for ever
        leaves, values = own["leaves"], len(own["value"])
        if ((leaves < 1) | (leaves > values)).any() or len(own["bias"]) != 1 or leaves.sum() != values:
            raise ValueError("leaves of trees do not fit")
        inner = leaves - 1
        if any(own[name].shape != (inner.sum(),) for name in _NODES):
            raise ValueError("nodes of trees do not fit")
        added = np.abs(np.concatenate([own["value"], own["bias"]]))
        if not np.isfinite(own["threshold"]).all() or not (added < _LARGEST).all():
            raise ValueError("trees have values that are no numbers")
        if ((own["feature"] < 0) | (own["feature"] >= self.features)).any() or not np.isin(
            own["decision"], (0, *_DECISIONS)
        ).all():
            raise ValueError("trees read features that there are not")
        place = np.arange(inner.sum()) - np.repeat(np.cumsum(inner) - inner, inner)
        nodes = np.repeat(inner, inner)
        for side in ("left", "right"):
            child = own[side]
            if ((child >= 0) & ((child <= place) | (child >= nodes))).any() or (~child > nodes).any():
                raise ValueError("nodes of trees lead nowhere")

    @cached_property
    def booster(self) -> Any:
        """Model of LightGBM."""
        import lightgbm

        names = " ".join(f"f{place}" for place in range(self.features))
        lines = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0",
                 f"max_feature_idx={self.features - 1}", "objective=binary sigmoid:1", f"feature_names={names}",
                 "feature_infos=" + " ".join(["[-1e300:1e300]"] * self.features), ""]  # fmt: skip
        node = leaf = 0
        for tree, leaves in enumerate(self.arrays["leaves"].tolist()):
            inner, last = node + leaves - 1, leaf + leaves
            lines += [f"Tree={tree}", f"num_leaves={leaves}", "num_cat=0"]
            for name, own in _NODES.items():
                lines.append(f"{own}=" + " ".join(map(repr, self.arrays[name][node:inner].tolist())))
            lines += ["leaf_value=" + " ".join(map(repr, self.arrays["value"][leaf:last].tolist())), "shrinkage=1",
                      "is_linear=0", ""]  # fmt: skip
            node, leaf = inner, last
        return lightgbm.Booster(model_str="\n".join([*lines, "", "end of trees", ""]))

    def predict(self, values: NDArray[np.float32]) -> Doubles:
        """Logits of rows, float64 [N]."""
        bias = float(self.arrays["bias"][0])
        if not len(values) or not len(self.arrays["leaves"]):
            return np.full(len(values), bias)
        found = self.booster.predict(values, raw_score=True, num_threads=1)
        return np.asarray(found, np.float64) + bias


def to_forest(text: str, features: int, bias: float) -> Forest:
    """Read LightGBM's own text of a model into arrays."""
    found: dict[str, list[float]] = {name: [] for name in _KINDS}
    found["bias"] = [bias]
    names = {own: name for name, own in _NODES.items()} | {"leaf_value": "value", "num_leaves": "leaves"}
    for line in text.partition("end of trees")[0].splitlines():
        key, _, values = line.partition("=")
        if key in names:
            # a split into missing and known values may have an endless threshold
            found[names[key]] += [max(-_MOST, min(_MOST, float(one))) for one in values.split()]
    return Forest({name: np.array(found[name], kind) for name, kind in _KINDS.items()}, features)


def fit_trees(
    features: Features,
    labels: Mapping[str, NDArray[np.float32]],
    fitted: NDArray[np.bool_],
    stopped: NDArray[np.bool_] | None,
    recipe: Recipe,
    offsets: Mapping[str, NDArray[np.float32]],
    rounds: Mapping[str, int] | None = None,
) -> tuple[dict[str, Forest], dict[str, int]]:
    """Fit the trees of each event: event -> trees, and event -> how many.

    Args:
        fitted: rows to fit on, bool [N]; stopped: rows whose log loss ends the fit; None: `rounds` trees are fitted.
    """
    import lightgbm

    found, taken = dict[str, Forest](), dict[str, int]()
    parameters = {
        "objective": "binary",
        "learning_rate": recipe.tree_rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": recipe.min_in_leaf,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": recipe.threads,
        "verbosity": -1,
    }
    for event, own in labels.items():
        known = ~np.isnan(own)
        mean = float(np.clip(own[known & fitted].mean(), 1e-6, 1 - 1e-6))
        bias = float(np.log(mean / (1 - mean)))
        start = offsets[event].astype(np.float64) + bias
        train = lightgbm.Dataset(
            features.values[known & fitted], own[known & fitted], init_score=start[known & fitted], free_raw_data=False
        )
        if stopped is None:
            booster = lightgbm.train(parameters, train, num_boost_round=max(1, (rounds or {})[event]))
        else:
            judged = known & stopped
            data = train.create_valid(features.values[judged], own[judged], init_score=start[judged])
            stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
            booster = lightgbm.train(parameters, train, recipe.rounds, [data], callbacks=[stop])
        taken[event] = int(booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration())
        text = booster.model_to_string(num_iteration=taken[event])
        found[event] = to_forest(text, len(features.names), bias)
    return found, taken


def predict_trees(forests: Mapping[str, Forest], features: Features) -> dict[str, Doubles]:
    """Predict logits, float64 [N] an event."""
    return {event: own.predict(features.values) for event, own in forests.items()}
