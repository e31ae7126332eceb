"""Vectors in memory: those of zeros are never found and find nothing, as in the store."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.core.vectors import unit
from coldstart.store.held_vectors import HeldVectors
from coldstart.store.memory_graph import MemoryGraph

COUNT, DIM = 400, 8


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("where", [None, "price < 300"])
def test_a_vector_of_zeros_has_no_neighbours(in_graph: bool, exact: bool, where: str | None) -> None:
    vectors = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    vectors[::3] = 0
    units, graph = unit(vectors), MemoryGraph(DIM, COUNT)
    graph.add(units)
    held = HeldVectors(units, np.arange(COUNT), COUNT, graph if in_graph else None)
    meeting = None if where is None else np.arange(COUNT) < 300
    expected = {row for row in range(COUNT if where is None else 300) if row % 3}
    some = held.nearest(vectors[[0, 1, 3, 2]], COUNT, where, meeting, exact=exact)
    assert [set(rows.tolist()) for rows in some] == [set(), expected, set(), expected]
    assert held.nearest(vectors[:1], 5, where, meeting, exact=exact)[0].tolist() == []
    assert not held.at(np.array([0])).any()
