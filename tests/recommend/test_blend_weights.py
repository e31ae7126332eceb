"""Shares of mappers in a blend, selected on held-out items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from coldstart.recommend.model.blend_weights import select_blend


def _part(seed: int, users: int = 60, items: int = 80) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], csr_matrix]:
    """Two mappers that each see half of the taste, and one that sees none."""
    rng = np.random.default_rng(seed)
    taste, kinds = rng.standard_normal((users, 4)), rng.standard_normal((items, 4))
    truth = taste @ kinds.T + 0.3 * rng.standard_normal((users, items))
    liked = csr_matrix((truth > np.quantile(truth, 0.9, axis=1, keepdims=True)).astype(np.float32))
    halves = {name: (kinds[:, own], taste[:, own]) for name, own in (("left", slice(2)), ("right", slice(2, 4)))}
    halves["lot"] = (rng.standard_normal((items, 4)), rng.standard_normal((users, 4)))
    return {name: (own[0].astype(np.float32), own[1].astype(np.float32)) for name, own in halves.items()}, liked


@pytest.mark.slow
def test_mappers_that_know_different_things_share_and_chance_gets_nothing() -> None:
    found = select_blend([_part(0), _part(1)])
    assert set(found) == {"left", "right"}
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) > 0.3
    assert found == select_blend([_part(0), _part(1)])


def test_a_fold_without_likes_in_a_draw_is_no_fault() -> None:
    vectors, liked = _part(2, users=2, items=3)
    assert sum(select_blend([(vectors, 0 * liked)]).values()) == pytest.approx(1)
