"""Fits side by side: the results of one after another, whatever the number of cores, and an end when one fails."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from coldstart.errors import NothingToLearn
from coldstart.recommend import model
from coldstart.recommend.model import Problem, Teacher, threads
from coldstart.recommend.model.mappers.contrastive import Contrastive
from coldstart.recommend.model.threads import seeded_weights, side_by_side, stop_if_cancelled


def _problem(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    likes = csr_matrix((rng.random((30, 40)) < 0.3).astype(np.float32))
    features = rng.normal(size=(40, 6)).astype(np.float32)
    teacher = Teacher(rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32))
    return Problem(likes, features, teacher, (None,) * 40, likes)


def _fits(monkeypatch: pytest.MonkeyPatch, cores: int) -> list[np.ndarray]:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    with side_by_side(2) as run:
        fitted = run([lambda seed=seed: model.fit("contrastive", _problem(seed), epochs=2, dim=8) for seed in (0, 1)])
    return [mapper.items(_problem(0).features) for mapper in fitted]


@pytest.mark.slow
def test_trainings_side_by_side_are_those_of_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state()
    alone, both = (_fits(monkeypatch, cores) for cores in (1, 2))
    for one, other in zip(alone, both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_results_are_in_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    first_ends = threading.Event()
    with side_by_side(2) as run:
        assert run([lambda: first_ends.wait(5) and "a", lambda: first_ends.set() or "b", lambda: "c"]) == list("abc")


def test_a_failed_task_ends_the_others_and_its_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    ended: list[str] = []
    begun = threading.Event()

    def trains() -> None:
        begun.set()
        try:
            for _ in range(1000):
                stop_if_cancelled()
                threading.Event().wait(0.005)
        except CancelledError:
            ended.append("training")
            raise

    def fails() -> None:
        begun.wait(5)
        raise NothingToLearn("no rows")

    with pytest.raises(NothingToLearn, match="no rows"), side_by_side(2) as run:
        run([trains, fails])
    assert ended == ["training"]
    stop_if_cancelled()  # outside of a task nothing is cancelled


def test_first_weights_follow_the_seed_alone() -> None:
    drawn = []
    for seed in (3, 3, 4):
        with seeded_weights(seed):
            drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_later_fit_takes_what_was_best_in_the_mean_of_earlier_ones() -> None:
    nothing = np.zeros((0, 1), np.float32)

    def fitted(ndcg: list[float], weights: dict[float, float]) -> Contrastive:
        tried = {"epochs": dict(enumerate(ndcg)), "popularity": weights}
        return Contrastive(None, nothing, nothing, nothing, 0.0, tried)  # type: ignore[arg-type]

    # one stopped after two epochs and counts with 0.3 from there on: means 0.15, 0.3, 0.35, 0.4, 0.3
    both = [fitted([0.1, 0.4, 0.3], {0.0: 0.3, 0.1: 0.3}), fitted([0.2, 0.2, 0.4, 0.5, 0.3], {0.0: 0.2, 0.1: 0.3})]
    taken = model.as_selected({"mapper": "contrastive", "dim": 8}, both)
    assert taken == {"mapper": "contrastive", "dim": 8, "epochs": 3, "popularity": 0.1, "valid_share": 0.0}
    assert model.as_selected({"refit": False}, both) == {"refit": False}
    restored = Contrastive(None, nothing, nothing, nothing, 0.1)  # type: ignore[arg-type]
    assert model.as_selected({"dim": 8}, [both[0], restored]) == {"dim": 8}
    assert model.as_selected({"dim": 8}, []) == {"dim": 8}
