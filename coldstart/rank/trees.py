"""Fit boosted trees, one model an event, with LightGBM; deterministic for any number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coldstart.rank.model import Features, Recipe

Doubles = NDArray[np.float64]
_PATIENCE = 30


def fit_trees(
    features: Features,
    labels: Mapping[str, NDArray[np.float32]],
    fitted: NDArray[np.bool_],
    stopped: NDArray[np.bool_] | None,
    recipe: Recipe,
    offsets: Mapping[str, NDArray[np.float32]],
    rounds: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Fit the trees of each event: event -> model text, and event -> trees.

    Args:
        fitted: rows to fit on, bool [N]; stopped: rows whose log loss ends the fit; None: `rounds` trees are fitted.
    """
    import lightgbm

    found, taken = dict[str, Any](), dict[str, int]()
    for event, own in labels.items():
        known = ~np.isnan(own)
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

        def data(chosen: NDArray[np.bool_], own: Any = own, event: str = event, **more: Any) -> Any:
            return lightgbm.Dataset(
                features.values[chosen], own[chosen], init_score=offsets[event][chosen].astype(np.float64), **more
            )

        train = data(known & fitted, feature_name=list(features.names), free_raw_data=False)
        if stopped is None:
            booster = lightgbm.train(parameters, train, num_boost_round=max(1, (rounds or {})[event]))
        else:
            booster = lightgbm.train(
                parameters,
                train,
                num_boost_round=recipe.rounds,
                valid_sets=[data(known & stopped, reference=train)],
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )
        taken[event] = int(booster.best_iteration or booster.current_iteration())
        found[event] = booster if stopped is not None else booster.model_to_string()
    return found, taken


def load_tree(text: str) -> Any:
    """Load the model of one event from its text."""
    import lightgbm

    return lightgbm.Booster(model_str=text)


def predict_trees(boosters: Mapping[str, Any], features: Features) -> dict[str, Doubles]:
    """Predict logits, float64 [N] an event."""
    return {
        event: np.asarray(own.predict(features.values, raw_score=True, num_threads=1), np.float64)
        for event, own in boosters.items()
    }
