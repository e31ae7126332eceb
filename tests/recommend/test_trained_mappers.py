"""Trained mappers in the made-up world: they rank items without interactions, by the seed alone, and are restored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from behaviour_world import world
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend import model
from coldstart.recommend.model import Problem, Vectors
from coldstart.recommend.model.factors import als
from coldstart.recommend.model.mappers.clcrec import clcrec_loss

TRAINED = ("clcrec", "contrastive", "dropoutnet")
QUICK: dict[str, Any] = {"epochs": 5, "lr": 2e-3, "device": "cpu"}
FEW = {name: QUICK | {"epochs": 2, ("examples" if name == "contrastive" else "likes"): 500} for name in TRAINED}


def _halves() -> tuple[Problem, Vectors, csr_matrix]:
    """A problem without the likes of every fourth item, the content of these, and who likes them."""
    made = world(users=150, items=200, per_user=30)
    blocks = [made.content.blocks[name] for name in ("picture", "text")]
    features = np.concatenate(blocks, axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    matrix = made.interactions.matrix()
    held = np.arange(200) % 4 == 3
    kept = matrix.multiply(~held[None]).tocsr()
    kept.eliminate_zeros()
    categories = tuple(record["category"] for record in made.content.records)
    problem = Problem(kept, features, als(kept, dim=16), categories, kept)
    return problem, features[held], matrix[:, held].tocsr()


@pytest.fixture(scope="module")
def halves() -> tuple[Problem, Vectors, csr_matrix]:
    torch.set_num_threads(min(2, torch.get_num_threads()))
    return _halves()


def _recall(users: NDArray[Any], items: NDArray[Any], relevant: csr_matrix) -> NDArray[np.float64]:
    lists = np.argsort(-(users @ items.T), axis=1, kind="stable")[:, :10]
    found = measure_lists(lists.astype(np.int64), relevant, [10])["recall@10"]
    return found[~np.isnan(found)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("contrastive", {}),
        ("contrastive", {"pairs": "items"}),
        ("contrastive", {"pairs": "users", "log_q": False, "hard": 0}),
        ("contrastive", {"popularity": 0.0, "hidden": (), "valid_share": 0}),
        ("clcrec", {}),
        ("clcrec", {"distil": True}),
        ("dropoutnet", {}),
        ("dropoutnet", {"distil": True, "refit": False}),
    ],
)
def test_held_out_items_are_ranked_far_better_than_by_chance(
    halves: tuple[Problem, Vectors, csr_matrix], name: str, settings: dict[str, Any]
) -> None:
    problem, content, relevant = halves
    fitted = model.fit(name, problem, **(QUICK | settings))
    found = _recall(fitted.users(problem.matrix), fitted.items(content), relevant)
    spread = 2 * found.std() / len(found) ** 0.5
    rng = np.random.default_rng(0)
    chance = _recall(rng.normal(size=(150, 8)), rng.normal(size=(50, 8)), relevant).mean()
    assert found.mean() - spread > 1.7 * chance


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same_vectors_and_arrays_give_them_again(
    halves: tuple[Problem, Vectors, csr_matrix], name: str
) -> None:
    problem, content, _ = halves
    settings = FEW[name]
    first, again = (model.fit(name, problem, seed=3, **settings) for _ in range(2))
    restored = model.restore(name, {key: np.array(value) for key, value in first.arrays().items()})
    for found in (again, restored):
        np.testing.assert_array_equal(found.items(content), first.items(content))
        np.testing.assert_array_equal(found.users(problem.matrix), first.users(problem.matrix))
    one, other = (model.fit(name, problem, seed=seed, valid_share=0, **settings) for seed in (3, 4))
    assert not np.array_equal(other.items(content), one.items(content))


@pytest.mark.parametrize("name", TRAINED)
def test_an_empty_history_is_zero_and_what_is_served_needs_no_training_row(
    halves: tuple[Problem, Vectors, csr_matrix], name: str
) -> None:
    problem, content, _ = halves
    fitted = model.fit(name, problem, **FEW[name])
    histories = csr_matrix(([1.0, 1.0], ([1, 1], [0, 8])), shape=(2, 200), dtype=np.float32)
    users = fitted.users(histories)
    assert users.dtype == np.float32 and users.shape[1] == fitted.items(content).shape[1]
    assert not users[0].any() and users[1].any()


@pytest.mark.parametrize("name", ("clcrec", "dropoutnet"))
def test_without_content_of_liked_items_the_fit_is_refused(
    halves: tuple[Problem, Vectors, csr_matrix], name: str
) -> None:
    problem = replace(halves[0], features=np.zeros_like(halves[0].features))
    with pytest.raises(ColdstartError) as caught:
        model.fit(name, problem)
    assert str(caught.value) == (
        f"{name}: of 200 items none has both a vector of its content and a user who liked it: embed the items of the "
        "interactions"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"pairs": "items", "min_together": 1000},
            "contrastive: 0 pairs of items, and a fit needs 2: ingest more interactions, or leave contrastive out",
        ),
        ({"pairs": "swing"}, "contrastive, no pairs 'swing': choose histories, items or users"),
    ],
)
def test_contrastive_names_what_it_lacks(
    halves: tuple[Problem, Vectors, csr_matrix], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ColdstartError) as caught:
        model.fit("contrastive", halves[0], **settings)
    assert str(caught.value) == message


def test_the_loss_of_clcrec_is_the_formula_of_its_docstring() -> None:
    rng = np.random.default_rng(0)
    users, vectors, contents, mixed = (rng.normal(size=(4, 3)) for _ in range(4))
    others, other_mixed = (rng.normal(size=(5, 3)) for _ in range(2))
    out = rng.random((4, 5)) < 0.3

    def info_nce(left: NDArray[np.float64], right: NDArray[np.float64], wrong: NDArray[np.float64], by: float) -> float:
        total = 0.0
        for row in range(4):
            own = np.exp(left[row] @ right[row] / by)
            rest = sum(np.exp(left[row] @ wrong[n] / by) for n in range(5) if not out[row, n])
            total -= np.log(own / (own + rest)) / 4
        return total

    def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return found

    expected = 0.3 * info_nce(unit(vectors), unit(contents), unit(others), 0.5)
    expected += 0.7 * info_nce(users, mixed, other_mixed, 2.0)
    found = clcrec_loss(
        torch.from_numpy(users),
        (torch.from_numpy(vectors), torch.from_numpy(contents), torch.from_numpy(mixed)),
        (torch.from_numpy(others), torch.from_numpy(other_mixed)),
        torch.from_numpy(out),
        temperature=2.0,
        item_temperature=0.5,
        item_share=0.3,
    )
    assert float(found) == pytest.approx(expected, abs=1e-9)
