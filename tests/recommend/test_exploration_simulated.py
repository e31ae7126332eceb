"""The simulation of exploration in its short form: what must hold wherever the truth is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from paths import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.exploration_simulated import World, drawn, history, rows, run


def test_content_tells_as_much_as_it_is_said_to() -> None:
    true, predicted = drawn(50_000, World(correlation=0.6), np.random.default_rng(0))
    logits = [np.log(rates / (1 - rates)) for rates in (true, predicted)]
    assert np.corrcoef(*logits)[0, 1] == pytest.approx(0.6, abs=0.01)


def test_a_history_is_told_by_its_seed() -> None:
    world = World(periods=25, requests=20)
    first, again, other = (history(world, seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_sampling_finds_good_items_that_greed_does_not() -> None:
    result = run(short=True)
    told, untold = (result["worlds"][name]["rules"] for name in ("0.6", "0"))
    for world in (told, untold):
        assert all(0 <= world[name][measure][0][0] <= 1 for name in world for measure in ("reached", "wasted"))
        assert world["thompson, content prior"]["reached"][0][0] > world["none"]["reached"][0][0]
        assert world["thompson, content prior"]["regret"][0][0] < world["thompson, flat prior"]["regret"][0][0]
    assert told["thompson, content prior"]["regret"][0][0] < told["thompson, one prior"]["regret"][0][0]
    assert told["thompson, content prior"]["wasted"][0][0] < told["thompson, one prior"]["wasted"][0][0]
    assert 0 <= result["worlds"]["0"]["prior"][2] < 0.2 < result["worlds"]["0.6"]["prior"][2]
    assert all("SIMULATION" in row.claim for row in rows(result))
