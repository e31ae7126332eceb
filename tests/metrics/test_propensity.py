"""Checks of logged propensities, on logs whose policies are known."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from paths import DATA

from coldstart.metrics.propensity import check_propensities

LOGS = DATA.parent / "interactions" / "open_bandit"


def test_a_uniform_log_covers_a_uniform_policy() -> None:
    rng = np.random.default_rng(0)
    items, positions = rng.integers(0, 20, 4000).astype(np.int32), np.tile(np.arange(2, dtype=np.int32), 2000)
    checks = check_propensities(items, positions, np.arange(4000, dtype=np.int32), np.full(4000, 1 / 20))
    assert (checks.rows, checks.known, checks.items, checks.covered_items, checks.doubled) == (4000, 4000, 20, 20, 0)
    for slot in checks.slots:
        assert (slot.rows, slot.items, slot.covered) == (2000, 20, pytest.approx(1))
        assert slot.effective_rows == pytest.approx(2000)


def test_weights_are_those_of_the_formula_and_the_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(1)
    policy = rng.dirichlet(np.ones(10))
    items = rng.choice(10, 5000, p=policy).astype(np.int32)
    none = np.full(5000, -1, np.int32)
    (slot,) = check_propensities(items, none, none, policy[items]).slots
    weights = 1 / (10 * policy[items])
    assert slot.covered == pytest.approx(weights.mean())
    assert slot.interval is not None and slot.interval[0] < 1 < slot.interval[1]
    assert slot.effective_rows == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert (slot.position, slot.least) == (-1, policy[items].min())
    halved = check_propensities(items, none, none, policy[items] / 2).slots[0]
    assert halved.interval is not None and halved.interval[0] > 1, "propensities that are stated too low show"
    fixed = check_propensities(items, none, none, np.ones(5000)).slots[0]
    assert fixed.covered == pytest.approx(0.1), "a log without chance covers one item a choice"


def test_rows_without_a_propensity_are_counted_and_a_place_that_two_items_have() -> None:
    items = np.array([0, 1, 2, 3, 4], np.int32)
    positions = np.array([1, 1, 1, 1, 2], np.int32)
    requests = np.array([7, 7, 8, 8, 8], np.int32)
    checks = check_propensities(items, positions, requests, np.array([0.5, 0.6, 0.5, 0.5, np.nan]))
    assert (checks.known, checks.items, checks.covered_items, checks.requests) == (4, 5, 4, 2)
    assert (checks.doubled, checks.above_one) == (2, 1)
    single = check_propensities(items[:1], positions[:1], requests[:1], np.array([0.5])).slots[0]
    assert single.interval is None, "one row says nothing of the spread"
    empty = check_propensities(items[:0], positions[:0], requests[:0], np.empty(0))
    assert (empty.rows, empty.slots) == (0, [])


@pytest.mark.slow
@pytest.mark.skipif(not LOGS.is_dir(), reason=f"no Open Bandit logs at {LOGS} (set COLDSTART_DATA)")
def test_a_real_uniform_log_is_covered_and_a_learnt_policy_is_not_worth_as_many_rows() -> None:
    effective = {}
    for policy in ("random", "bts"):
        table = pq.read_table(
            LOGS / policy / "all" / "all.parquet", columns=["item_id", "position", "propensity_score"]
        )
        items, positions = (table[name].to_numpy().astype(np.int32) for name in ("item_id", "position"))
        none = np.full(len(items), -1, np.int32)
        checks = check_propensities(items, positions, none, table["propensity_score"].to_numpy())
        assert len(checks.slots) == 3
        effective[policy] = sum(slot.effective_rows for slot in checks.slots) / len(items)
        if policy == "random":
            assert all(slot.covered == pytest.approx(1) for slot in checks.slots)
    assert effective["random"] == pytest.approx(1)
    assert effective["bts"] < 0.5
