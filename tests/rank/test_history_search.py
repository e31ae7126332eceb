"""Search of a history equals brute force, ties included; tiers count what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.rank import history_search
from coldstart.rank.history_search import EDGES, WINDOWS_S, Compared, HistorySearch, tier_names

DAY = 86_400
NOW = 400 * DAY


def make_history(seed: int, actions: int, items: int = 60, width: int = 16) -> tuple[Any, ...]:
    """Vectors of +1 and -1 in 16 columns, whose cosines are exact sixteenths, so that many are equal."""
    draw = np.random.default_rng(seed)
    vectors = draw.choice([-1.0, 1.0], (items, width))
    vectors[draw.random(items) < 0.05] = 0  # items without a vector
    seconds = np.sort(draw.choice([NOW - 1, NOW - 7 * DAY, NOW - 90 * DAY, NOW - 399 * DAY], actions))
    jitter = np.sort(draw.integers(0, NOW, actions))
    return (
        vectors,
        draw.integers(-1, items, actions),
        draw.integers(-1, 3, actions),
        np.sort(np.where(draw.random(actions) < 0.5, seconds, jitter)),
        draw.integers(-1, items, 9),
    )


def brute_force(
    vectors: NDArray[Any], items: Any, groups: Any, seconds: Any, candidates: Any, top_k: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Compare by loops, in exact numbers."""
    found = np.full((len(candidates), 3, top_k), -1, np.int32)
    counts = np.zeros((len(candidates), 3, len(WINDOWS_S), len(EDGES) + 1), np.int64)
    for row, candidate in enumerate(candidates):
        for group in range(3):
            own = []
            for at, (item, kind, second) in enumerate(zip(items, groups, seconds, strict=True)):
                if kind != group or item < 0 or candidate < 0 or not (vectors[item].any() and vectors[candidate].any()):
                    continue
                cosine = float(vectors[item] @ vectors[candidate]) / vectors.shape[1]
                own.append((-cosine, -at))
                tier = sum(cosine >= edge for edge in EDGES)
                for place, window in enumerate(WINDOWS_S):
                    counts[row, group, place, tier] += window is None or NOW - second <= window
            best = [-at for _, at in sorted(own)[:top_k]]
            found[row, group, : len(best)] = best
    return found, counts


@pytest.mark.parametrize("seed", range(6))
def test_search_and_tiers_equal_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = [0, 1, 7, 60, 150, 233][seed]
    monkeypatch.setattr(history_search, "_COLUMNS", 16)
    vectors, items, groups, seconds, candidates = make_history(seed, actions)
    got = HistorySearch(vectors).compare(candidates, items, groups, seconds, NOW, group_count=3, top_k=5)
    found, counts = brute_force(vectors, items, groups, seconds, candidates, 5)
    assert got.exact
    np.testing.assert_array_equal(got.found.positions, found)
    np.testing.assert_array_equal(np.isnan(got.found.similarities), found < 0)
    np.testing.assert_array_equal(np.rint(np.expm1(got.tiers)), counts)
    assert got.tiers[0].size == len(tier_names(["click", "like", "hide"]))


def test_equal_actions_come_latest_first() -> None:
    got = HistorySearch(np.eye(3)).compare(
        np.array([0]), np.array([0, 1, 0, 0]), np.zeros(4, int), np.arange(4), 9, group_count=1, top_k=3
    )
    assert got.found.positions.tolist() == [[[3, 2, 0]]]
    assert got.found.similarities.tolist() == [[[1, 1, 1]]]


def test_shortcut_reads_the_nearest_codes_and_measures_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    codes = draw.integers(0, 40, 800)
    centres = draw.standard_normal((40, 16))
    vectors = centres[codes] + draw.standard_normal((800, 16))
    items, groups = draw.integers(0, 800, 3_000), np.zeros(3_000, int)
    candidates = draw.integers(0, 800, 12)
    search = HistorySearch(vectors, codes)

    def compare(**given: Any) -> Compared:
        return search.compare(candidates, items, groups, np.arange(3_000), 3_000, group_count=1, **given)

    assert compare().exact
    monkeypatch.setattr(history_search, "EXACT", 2_999)
    short, full = compare(), compare(exact=True)
    assert not short.exact
    assert full.exact
    counts, wanted = np.rint(np.expm1(short.tiers)), np.rint(np.expm1(full.tiers))
    np.testing.assert_array_equal(counts.sum(axis=-1), wanted.sum(axis=-1))
    np.testing.assert_allclose(counts[..., 4:], wanted[..., 4:], atol=40)  # what is most alike has one of the codes
    recall, actions = search.shortcut_recall([(candidates, items, groups)], group_count=1)
    assert actions == 12 * 50
    assert 0.7 < recall < 1
    monkeypatch.setattr(history_search, "NEAREST_CODES", 1)
    assert search.shortcut_recall([(candidates, items, groups)], group_count=1)[0] < recall
    monkeypatch.setattr(history_search, "NEAREST_CODES", 40)
    assert search.shortcut_recall([(candidates, items, groups)], group_count=1)[0] == 1
    np.testing.assert_array_equal(compare().found.positions, full.found.positions)
    np.testing.assert_array_equal(compare().tiers, full.tiers)


@pytest.mark.parametrize("seed", range(3, 6))
def test_items_without_a_code_are_compared_each(seed: int) -> None:
    vectors, items, groups, seconds, candidates = make_history(seed, 200)
    search = HistorySearch(vectors, np.full(len(vectors), -1))
    short, full = (
        search.compare(candidates, items, groups, seconds, NOW, group_count=3, top_k=5, exact=exact)
        for exact in (False, True)
    )
    np.testing.assert_array_equal(short.found.positions, full.found.positions)
    np.testing.assert_array_equal(short.tiers, full.tiers)
