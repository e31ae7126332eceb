"""The loss over pairs and its batches, against loops written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from coldstart.recommend.model.pairs import Batches, source_of_histories, source_of_pairs
from coldstart.recommend.model.towers import SamplingCorrection, pair_loss


@pytest.mark.parametrize(("more", "hard"), [(0, 0), (3, 0), (0, 2), (3, 2)])
def test_the_loss_is_the_formula_of_its_docstring(more: int, hard: int) -> None:
    torch.manual_seed(0)
    size, dim, temperature = 5, 4, 0.2
    first, second = torch.randn(size, dim).double(), torch.randn(size + more, dim).double()
    near = torch.randn(size, hard, dim).double()
    drawn = SamplingCorrection(
        torch.randn(size).double(),
        torch.randn(size + more).double(),
        torch.rand(size, size + more) < 0.3,
        torch.randn(size, hard).double(),
        torch.rand(size, hard) < 0.3,
    )
    forth = back = 0.0
    for i in range(size):
        own = math.exp(float(first[i] @ second[i]) / temperature - float(drawn.log_q_second[i]))
        total = own
        for j in range(size + more):
            if j != i and not drawn.known[i, j]:
                total += math.exp(float(first[i] @ second[j]) / temperature - float(drawn.log_q_second[j]))
        for j in range(hard):
            if not drawn.known_hard[i, j]:
                total += math.exp(float(first[i] @ near[i, j]) / temperature - float(drawn.log_q_hard[i, j]))
        forth -= math.log(own / total) / size
        own = math.exp(float(first[i] @ second[i]) / temperature - float(drawn.log_q_first[i]))
        total = own
        for j in range(size):
            if j != i and not drawn.known[j, i]:
                total += math.exp(float(first[j] @ second[i]) / temperature - float(drawn.log_q_first[j]))
        back -= math.log(own / total) / size
    assert float(pair_loss(first, second, near, drawn, temperature)) == pytest.approx((forth + back) / 2, abs=1e-6)


def _liked() -> csr_matrix:
    rng = np.random.default_rng(0)
    liked = (rng.random((40, 30)) < 0.2).astype(np.float32)
    liked[0] = 0
    liked[1] = 0
    liked[1, 3] = 1
    return csr_matrix(liked)


def _batches(seed: int = 0, log_q: bool = True) -> Batches:
    source = source_of_histories(_liked(), cap=100, seed=0)
    kinds = ["a" if item % 3 else None for item in range(30)]
    return Batches(source, np.arange(30), kinds, size=16, bag=4, others=6, hard=2, log_q=log_q, seed=seed)


def test_a_batch_of_histories_holds_what_its_docstrings_say() -> None:
    dense = _liked().toarray() > 0
    source = source_of_histories(_liked(), cap=100, seed=0)
    assert len(source.examples) == dense.sum() - 1  # a user of one item has no other to go with it
    share = np.bincount(source.examples[:, 1], minlength=30) / len(source.examples)
    for batch in _batches().epoch(10**6):
        seconds = np.concatenate([batch.items, batch.others])
        users = [
            np.flatnonzero(dense[:, [*bag, item]].all(axis=1))
            for bag, item in zip(batch.bags, batch.items, strict=True)
        ]
        assert all(len(found) for found in users)  # one user likes all of them
        assert not np.any(batch.bags == batch.items[:, None])
        expected = np.log(share[seconds] + 6 / (16 * 30))
        np.testing.assert_allclose(batch.correction.log_q_second.numpy(), expected, rtol=1e-5)
        assert np.array_equal(batch.hard % 3 == 0, np.broadcast_to((batch.items % 3 == 0)[:, None], batch.hard.shape))
        often = 2 / (len(batch.items) * np.where(batch.items % 3 == 0, 10, 20))
        np.testing.assert_allclose(np.exp(batch.correction.log_q_hard.numpy()), np.stack([often, often], 1), rtol=1e-5)
        for place, found in enumerate(users):
            if len(found) == 1:
                assert np.array_equal(batch.correction.known[place].numpy(), dense[found[0], seconds])
                assert np.array_equal(batch.correction.known_hard[place].numpy(), dense[found[0], batch.hard[place]])


def test_without_the_correction_all_are_taken_to_be_drawn_as_often() -> None:
    batch = next(_batches(log_q=False).epoch(100))
    assert not any(
        part.any()
        for part in (batch.correction.log_q_first, batch.correction.log_q_second, batch.correction.log_q_hard)
    )


def test_batches_are_set_by_the_seed() -> None:
    first, again, other = (next(_batches(seed).epoch(100)) for seed in (1, 1, 2))
    assert np.array_equal(first.bags, again.bags) and np.array_equal(first.hard, again.hard)
    assert not np.array_equal(first.items, other.items)


def test_pairs_go_both_ways_and_an_item_goes_with_itself() -> None:
    source = source_of_pairs(np.array([[0, 2], [1, 2]], np.int32), 4)
    assert source.examples.tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    assert source.known.toarray().tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


def test_a_popular_item_has_as_many_examples_as_the_cap_allows() -> None:
    source = source_of_histories(_liked(), cap=3, seed=0)
    assert np.bincount(source.examples[:, 1]).max() == 3
