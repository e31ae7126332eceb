"""The benchmark of the plain commands: what the catalogues hold, and how lists are compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.films_data import FOLDER
from benchmarks.recommend_default import DEFAULT, compared, films_shop, rows


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no films at {FOLDER} (set COLDSTART_DATA)")
def test_films_say_nothing_that_viewers_made() -> None:
    shop = films_shop()
    assert {name for row in shop.manifest for name in row} == {
        *("item_id", "title", "description", "tags", "attributes", "images"),
    }
    assert {name for row in shop.manifest for name in row["attributes"]} == {"year"}
    assert len({tag for row in shop.manifest for tag in row["tags"]}) <= 20  # genres, and no words of users
    assert len(shop.new) == 431 and shop.new <= {row["item_id"] for row in shop.manifest}


def test_lists_are_compared_with_the_default() -> None:
    relevant = csr_matrix(np.eye(30, 40, dtype=np.float32))
    right = np.stack([np.r_[user, np.setdiff1d(np.arange(40), [user])[:19]] for user in range(30)])
    wrong = np.tile(np.arange(20, 40), (30, 1))
    found = compared({"random": wrong, DEFAULT: right}, relevant)
    assert found[DEFAULT]["recall@20"]["value"] == 1
    ahead = found["random"]["ndcg@20, default ahead"]
    assert ahead["value"] == pytest.approx(1 - found["random"]["ndcg@20"]["value"])
    told = rows({"made up": {"users": 30, "new": 40, "lists": found}})
    assert [row.claim for row in told] == ["made up, random", f"made up, {DEFAULT}"]
