"""Features of histories that are longer than what is read of each, and only of those."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.core.histories import HistoryRows
from coldstart.rank import data, features
from coldstart.rank.features import Actions, FeatureMaker, ItemTable, Met, Rows
from coldstart.rank.model import WholeHistories
from coldstart.rank.whole_history import BESIDE_FOUND, WHOLE

DAY = 86_400
NOW = 500 * DAY
Places = NDArray[np.int64]


def test_an_old_action_of_a_long_history_is_a_feature() -> None:
    codes = np.zeros(6, np.int32)
    tags, vectors = np.zeros((6, 0), np.int32), np.eye(6, dtype=np.float32)
    items = ItemTable(tuple("abcdef"), {"creator": codes, "category": codes}, tags, np.zeros(6), vectors=vectors)
    length = features.ACTIONS_READ + 50
    long = np.concatenate([np.zeros(50, int), np.ones(length - 50, int)])  # the first item, long ago
    times = NOW - DAY * np.arange(length, 0, -1)

    def whole(users: Places, before: Places, last: int | None) -> WholeHistories:
        assert (users.tolist(), before.tolist(), last) == ([0], [NOW], None)
        return WholeHistories(np.array([0, length]), long.astype(np.int32), np.ones(length, np.int32), times)

    def read(users: Places, before: Places, last: int) -> Actions:
        found = np.full((2, last), -1, np.int32)
        seconds = np.zeros((2, last), np.int64)
        found[0], seconds[0] = long[-last:], times[-last:]
        found[1, -3:], seconds[1, -3:] = 1, times[-3:]
        return Actions(found, np.zeros((2, last), np.uint8), seconds)

    past = Rows(
        np.array([9]), np.array([5]), np.array([NOW - 1]), np.array([-1], np.int32), {"click": np.ones(1, np.float32)}
    )
    rows = Rows(np.array([0, 1, 0]), np.array([0, 0, 2]), np.full(3, NOW), np.full(3, -1, np.int32))
    met = Met(long, np.zeros(length, int), times)
    made = {}
    for searched in (True, False):
        maker = FeatureMaker(
            items, past, read, ["click"], met, whole=whole, lengths=lambda users: np.full(len(users), length),
            searched=searched, found=True,
        )  # fmt: skip
        assert maker.reads_found == searched
        got = maker.make(rows)
        made[not searched] = {name: got.values[:, place] for place, name in enumerate(got.names)}
        assert got.sequences is not None
        if searched:
            found, latest = got.sequences.found, got.sequences.histories
    assert found is not None
    assert latest.shape[1] == BESIDE_FOUND, "fewer of the latest stand beside what was found"
    assert (found.items[0] == 0).all(), "the burst long ago"
    assert (found.tiers[0] == 11).all()
    assert (found.events[0] == 1).all()
    assert set(found.ages[0].tolist()) == {7}, "log2 of 200 to 250 days"
    assert (found.items[1] == -1).all(), "a short history is in the latest actions already"
    assert not [name for name in made[True] if name.startswith(WHOLE)]
    own = made[False]
    np.testing.assert_array_equal(own[f"{WHOLE}most.click"], [1, np.nan, 0])
    np.testing.assert_array_equal(own[f"{WHOLE}found.click"], [1, np.nan, 0])
    np.testing.assert_allclose(own[f"{WHOLE}tier_click_all_0.8"], [np.log1p(50), np.nan, 0], rtol=1e-6)
    np.testing.assert_allclose(own[f"{WHOLE}tier_click_90d_0.0"], [np.log1p(90), np.nan, np.log1p(90)], rtol=1e-6)
    assert not own["similar.max"][0] > 0.5, "the latest actions do not show it"
    assert {name: list(column) for name, column in own.items() if not name.startswith(WHOLE)}.keys() == made[
        True
    ].keys()


def test_a_fit_measures_the_shortcut_on_histories_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)

    def read_numbers(users: Places, before: Places, last: int | None) -> HistoryRows:
        assert before.tolist() == [NOW]
        own = draw.integers(0, 50, 300)
        return HistoryRows(np.array([0, 300]), own.astype(np.uint32), np.zeros(300, np.uint8), np.zeros(300, np.uint32))

    histories: Any = SimpleNamespace(counts=lambda: np.array([5, 300, 290]), users=range(3), read_numbers=read_numbers)
    items: Any = SimpleNamespace(codes={"sid_1": np.arange(50, dtype=np.int32) % 25 + 1})
    rows: Any = None
    own = data.RankData(items, {}, rows, {}, frozenset(), histories, np.arange(50), np.zeros(1, np.int64), ("met",))
    vectors = draw.standard_normal((50, 8)).astype(np.float32)
    assert own.shortcut_recall(vectors, NOW) is None
    monkeypatch.setattr(data, "EXACT", 299)
    found = own.shortcut_recall(vectors, NOW)
    assert found is not None
    assert found["actions"] == 3 * 20 * 50
    assert 0.5 < found["value"] < 1
