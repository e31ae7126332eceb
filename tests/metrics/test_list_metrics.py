"""Measures of lists against ir_measures, and by hand."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, random_array

from coldstart.metrics.ranking import measure_lists

KS = (1, 5, 10, 20)


def lists_of(rows: int, columns: int, depth: int, seed: int) -> NDArray[np.int64]:
    """Random lists, each ended somewhere: its last places are -1."""
    rng = np.random.default_rng(seed)
    lists = np.argsort(rng.random((rows, columns)), axis=1)[:, :depth]
    ends = rng.integers(0, depth + 1, rows)
    return np.where(np.arange(depth) < ends[:, None], lists, -1).astype(np.int64)


@pytest.mark.parametrize(("seed", "density"), [(0, 0.05), (1, 0.3), (2, 0.9)])
def test_measures_are_those_of_ir_measures(seed: int, density: float) -> None:
    """Its recall is hits / relevant; that of ours times min(k, relevant) / relevant."""
    rows, columns, depth = 80, 40, 25
    lists = lists_of(rows, columns, depth, seed)
    relevant = csr_matrix(random_array((rows, columns), density=density, format="csr", rng=seed))
    qrels = [ir_measures.Qrel(str(row), str(column), 1) for row, column in zip(*relevant.nonzero(), strict=True)]
    run = [
        ir_measures.ScoredDoc(str(row), str(column), float(depth - place))
        for row, listed in enumerate(lists)
        for place, column in enumerate(listed)
        if column >= 0
    ]
    measures = [kind @ k for kind in (R, nDCG, RR, Success) for k in KS]
    theirs = {
        (str(metric.measure), int(metric.query_id)): metric.value
        for metric in ir_measures.iter_calc(measures, qrels, run)
    }
    ours = measure_lists(lists, relevant, KS)
    wanted = relevant.count_nonzero(axis=1)
    assert set(ours) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "hit") for k in KS}
    assert {row for _, row in theirs} == set(np.flatnonzero(wanted))
    for k in KS:
        for row in np.flatnonzero(wanted).tolist():
            bound = min(k, int(wanted[row]))
            assert ours[f"recall@{k}"][row] * bound / wanted[row] == pytest.approx(theirs[f"R@{k}", row], abs=1e-9)
            assert ours[f"recall@{k}"][row] * bound == pytest.approx(theirs[f"R@{k}", row] * wanted[row], abs=1e-9)
            assert ours[f"ndcg@{k}"][row] == pytest.approx(theirs[f"nDCG@{k}", row], abs=1e-9)
            assert ours[f"mrr@{k}"][row] == pytest.approx(theirs[f"RR@{k}", row], abs=1e-9)
            assert ours[f"hit@{k}"][row] == pytest.approx(theirs[f"Success@{k}", row], abs=1e-9)
        assert np.isnan(ours[f"ndcg@{k}"][wanted == 0]).all()


def test_by_hand() -> None:
    """Two of three relevant ones are found, at ranks 2 and 3; a full list of relevant ones reaches 1 everywhere."""
    relevant = csr_matrix(np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32))
    lists = np.array([[3, 0, 1], [4, 2, 0], [0, 1, 2]], np.int64)
    found = measure_lists(lists, relevant, (2, 3))
    assert found["recall@2"].tolist()[:2] == [1 / 2, 1]
    assert found["recall@3"].tolist()[:2] == [2 / 3, 1]
    assert found["mrr@2"].tolist()[:2] == [1 / 2, 1]
    assert found["hit@2"].tolist()[:2] == [1, 1]
    gain, best = 1 / np.log2(3) + 1 / np.log2(4), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@3"][0] == pytest.approx(gain / best)
    assert found["ndcg@3"][1] == 1
    assert all(np.isnan(values[2]) for values in found.values())


def test_a_stored_zero_is_not_relevant_and_a_list_may_be_empty() -> None:
    relevant = csr_matrix((np.array([0.0, 1.0], np.float32), (np.array([0, 1]), np.array([0, 1]))), shape=(2, 2))
    found = measure_lists(np.array([[0], [0]], np.int64), relevant, (1,))
    assert np.isnan(found["hit@1"][0])
    assert found["hit@1"][1] == 0
    empty = measure_lists(np.empty((2, 0), np.int64), relevant, (1, 10))
    assert [values[1] for values in empty.values()] == [0] * 8


def test_faults_are_refused() -> None:
    relevant = csr_matrix(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"^there are 1 lists, and what is relevant is given for 2$"):
        measure_lists(np.array([[0]], np.int64), relevant)
    with pytest.raises(ValueError, match=r"^a list names a column that is not among the 2$"):
        measure_lists(np.array([[0], [2]], np.int64), relevant)
    with pytest.raises(ValueError, match=r"^list 1 names a column twice$"):
        measure_lists(np.array([[0, 1, -1, -1], [1, 0, 1, -1]], np.int64), relevant)
