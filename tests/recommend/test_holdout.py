"""Items held out as cold, and a training that stops by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from coldstart.recommend.model import Problem, Teacher, Vectors
from coldstart.recommend.model.holdout import hold_out, train


def _problem(seed: int = 0) -> Problem:
    """40 users, 60 items: ten that nobody met, ten without content, ten that are met and not liked, and others."""
    rng = np.random.default_rng(seed)
    met = (rng.random((40, 60)) < 0.3).astype(np.float32)
    met[:, :10] = 0
    liked = met.copy()
    liked[:, 20:30] = 0
    features = rng.normal(size=(60, 5)).astype(np.float32)
    features[10:20] = 0
    teacher = Teacher(rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(60, 3)).astype(np.float32))
    return Problem(csr_matrix(liked), features, teacher, (None,) * 60, csr_matrix(met))


def test_nothing_of_the_held_out_items_is_left_and_the_rest_is_as_it_was() -> None:
    problem = _problem()
    found = hold_out(problem, 0.25, seed=0)
    assert found is not None
    rest, judge = found
    assert len(judge.items) == 10 and judge.items.min() >= 20
    others = np.setdiff1d(np.arange(60), judge.items)
    for before, after in ((problem.matrix, rest.matrix), (problem.exposed, rest.exposed)):
        assert after[:, judge.items].nnz == 0
        assert np.array_equal(after[:, others].toarray(), before[:, others].toarray())
    assert not rest.teacher.items[judge.items].any()
    assert problem.matrix[:, judge.items].nnz
    assert judge.histories[:, judge.items].nnz == 0
    assert all(judge.relevant.getnnz(axis=1)) and all(judge.histories.getnnz(axis=1))
    assert np.array_equal(judge.features, problem.features[judge.items])


def test_other_seeds_hold_out_others_and_too_few_items_none() -> None:
    problem = _problem()
    drawn = [hold_out(problem, 0.25, seed) for seed in (0, 0, 1)]
    first, again, other = (found[1].items.tolist() for found in drawn if found is not None)
    assert first == again != other
    assert hold_out(problem, 0.02, seed=0) is None
    assert hold_out(problem, 0.99, seed=0) is None


@dataclass(frozen=True)
class _Guess:
    """Scores that are as right as `skill` says: users see what they like, and noise."""

    matrix: csr_matrix
    features: Vectors
    skill: float

    def items(self, features: Vectors) -> Vectors:
        places = [int(np.flatnonzero((self.features == row).all(axis=1))[0]) for row in features]
        truth = self.matrix.T.toarray()[places]
        noise = np.random.default_rng(0).normal(size=truth.shape)
        found: Vectors = (self.skill * truth + (1 - self.skill) * noise).astype(np.float32)
        return found

    def users(self, histories: csr_matrix) -> Vectors:
        rows = [int(np.flatnonzero((self._seen(histories) == row).all(axis=1))[0]) for row in histories.toarray()]
        return np.eye(self.matrix.shape[0], dtype=np.float32)[rows]

    def _seen(self, histories: csr_matrix) -> Vectors:
        dense: Vectors = self.matrix.toarray()
        out = ~np.asarray(histories.sum(axis=0)).ravel().astype(bool)
        dense[:, out] = 0
        return dense

    def arrays(self) -> dict[str, Vectors]:
        return {}


class _Course:
    """A training of which each epoch has a skill that is known before."""

    def __init__(self, whole: Problem, part: Problem, skills: tuple[float, ...], log: list[str]) -> None:
        self._whole, self._skills, self._log = whole, iter(skills), log
        self._now = next(self._skills)
        log.append(f"start with {part.matrix.nnz}")

    def epoch(self) -> float:
        self._now = next(self._skills)
        self._log.append("epoch")
        return 0.0

    def mapper(self) -> _Guess:
        return _Guess(self._whole.matrix, self._whole.features, self._now)


def test_the_best_epoch_is_kept_and_trained_again_on_all() -> None:
    problem, log = _problem(), list[str]()
    skills = (0.1, 0.4, 0.9, 0.5, 0.3, 0.2, 0.1, 0.0)

    def start(part: Problem) -> _Course:
        return _Course(problem, part, skills, log)

    found = train(start, problem, epochs=7, patience=2, valid_share=0.25, refit=True, seed=0)
    assert found.epoch == 2 and found.mapper.skill == 0.9
    assert len(found.ndcg) == 5 and max(found.ndcg) == found.ndcg[2]
    halves = hold_out(problem, 0.25, 0)
    assert halves is not None
    first = [f"start with {halves[0].matrix.nnz}", *["epoch"] * 4]
    assert log == [*first, f"start with {problem.matrix.nnz}", *["epoch"] * 2]
    log.clear()
    found = train(start, problem, epochs=7, patience=2, valid_share=0.25, refit=False, seed=0)
    assert found.mapper.skill == 0.9 and log == first


def test_without_held_out_items_all_epochs_are_trained_on_all() -> None:
    problem, log = _problem(), list[str]()
    skills = (0.1, 0.9, 0.2, 0.3)
    found = train(
        lambda part: _Course(problem, part, skills, log),
        problem,
        epochs=3,
        patience=1,
        valid_share=0,
        refit=True,
        seed=0,
    )
    assert (found.epoch, found.ndcg, found.mapper.skill, found.validation) == (3, (), 0.3, None)
    assert log == [f"start with {problem.matrix.nnz}", *["epoch"] * 3]
