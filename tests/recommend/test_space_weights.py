"""Weights and whitening of the blocks of content, and the budget that bounds what a fit tries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from behaviour_world import world

from coldstart.recommend.model.cost import Size, candidate_seconds, fit_seconds, trial_seconds
from coldstart.recommend.model.holdout import folds
from coldstart.recommend.model.selection import CANDIDATES, SelectionSettings, _affordable, select_model
from coldstart.recommend.model.space_weights import POWERS, SpaceWeights, select_space_weights

MADE = world(users=60, items=160, per_user=16)
NOISE = np.random.default_rng(5).standard_normal((160, 16)).astype(np.float32)
CONTENT = replace(MADE.content, blocks={"text": MADE.content.blocks["text"], "noise": NOISE})


def _selected(trials: int = 1000, **settings: object) -> SpaceWeights:
    rows = MADE.interactions
    parts = list(folds(rows, rows.positive(), np.arange(160), count=2, share=0.3, seed=0))
    asked = {"min_weight": None, "labels": False, "dims": 16, "trials": trials, **settings}
    return select_space_weights(parts, CONTENT, **asked)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_block_that_says_nothing_of_taste_loses_its_weight() -> None:
    found = _selected()
    assert found.weights["text"] > 0.7 > 0.3 > found.weights.get("noise", 0.0)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert set(found.powers) == set(found.weights) and set(found.powers.values()) <= set(POWERS)
    assert set(found.kernel) == {"gamma", "penalty", "smoothing"}
    assert found == _selected()


def test_what_is_given_stays_and_no_more_is_tried_than_allowed() -> None:
    given = _selected(weights={"text": 1.0, "noise": 3.0}, power=0.0, tune=False)
    assert given == SpaceWeights({"text": 0.25, "noise": 0.75}, {"text": 0.0, "noise": 0.0}, {}, 1)
    assert _selected(trials=5).trials == 5


def test_the_cost_of_a_fit_grows_with_its_size_and_settings() -> None:
    small, large = Size(1_000, 500, 20_000, 300), Size(5_000, 500, 100_000, 300)
    for name in ("kernel", "knn", "ridge", "fease", "contrastive", "dropoutnet", "clcrec"):
        assert 0 < fit_seconds(name, {}, small) < fit_seconds(name, {}, large), name
    assert fit_seconds("contrastive", {"epochs": 2}, small) < fit_seconds("contrastive", {}, small)
    parts = {"knn": {"weight": 0.5}, "wide": {"mapper": "kernel", "weight": 0.5}}
    both = fit_seconds("knn", {}, small) + fit_seconds("kernel", {}, small)
    assert fit_seconds("blend", {"parts": parts}, small) == pytest.approx(both)
    assert trial_seconds(small, 4, 2, 2000) < trial_seconds(large, 4, 2, 2000) < trial_seconds(large, 4, 3, 2000)
    assert trial_seconds(large, 4, 2, 2000) == trial_seconds(replace(large, items=90_000), 4, 2, 2000)


def test_a_mapper_over_the_budget_is_left_out_and_cheaper_ones_are_not() -> None:
    size = Size(200_000, 500_000, 5_000_000, 384)
    settings = SelectionSettings(candidates={"kernel": {"mapper": "kernel"}, "knn": {"mapper": "knn"}})
    taken, seconds = _affordable(settings.candidates, size, settings)
    assert list(taken) == ["knn"]
    assert seconds == pytest.approx(candidate_seconds("knn", {}, size, settings.folds))
    none_fits = replace(settings, budget_s=0.001)
    assert list(_affordable(none_fits.candidates, size, none_fits)[0]) == ["knn"]
    small = replace(size, items=2_000, likes=50_000)
    assert list(_affordable(settings.candidates, small, settings)[0]) == ["kernel", "knn"]


@pytest.mark.slow
def test_a_small_budget_leaves_mappers_out_and_names_them() -> None:
    settings = SelectionSettings(candidates=CANDIDATES, dim=8, folds=1, budget_s=0.5)
    steps: list[int] = []
    report = select_model(MADE.interactions, CONTENT, settings, step=lambda: steps.append(1)).report
    assert (set(report["candidates"]), report["chosen"]) == ({"kernel"}, "kernel")
    assert report["budget"]["left_out"] == ["knn", "contrastive", "dropoutnet"]
    assert len(steps) == len(CANDIDATES) + 2  # progress ends where it was said to end
    assert set(report["powers"]) == set(report["weights"])
