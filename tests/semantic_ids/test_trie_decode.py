"""Decoding of semantic IDs and lists of candidates: beam against exact scores, masks, shares of new items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from coldstart.semantic_ids.channels import CHANNELS, Mix, NewItems, Recaller, mixed, standard, with_share
from coldstart.semantic_ids.decode import TrieTensors, beam, exact_log_p, prefix_log_p, trie_tensors
from coldstart.semantic_ids.read import build_trie
from coldstart.semantic_ids.sequence_model import SequenceModel, Shape, item_tensors


def model_of(seed: int, sizes: tuple[int, ...], items: int, content: int = 6) -> SequenceModel:
    """Model of random weights, large enough that its choices differ."""
    torch.manual_seed(seed)
    model = SequenceModel(Shape(items, content, sizes, dim=8, layers=1, heads=2, length=6))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    return model.eval()


def codes_of(rng: Any, count: int, sizes: tuple[int, ...]) -> Any:
    return np.stack([rng.integers(size, size=count) for size in sizes], 1).astype(np.int32)


def trie_of(codes: Any) -> TrieTensors:
    return trie_tensors(build_trie(codes), np.arange(len(codes)), len(codes))


def per_item(trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
    return leaves[:, trie.leaf_of]


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 4), st.booleans())
def test_a_beam_of_full_width_is_exact_scoring_of_all_leaves(seed: int, count: int, depth: int, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(size) for size in rng.integers(2, 6, size=depth))
    codes = codes_of(rng, count, sizes)
    model, trie = model_of(seed, sizes, count), trie_of(codes)
    states = torch.randn(3, 8)
    allowed = torch.from_numpy(rng.random((3, count)) < (0.5 if masked else 2))
    nodes, log_p = beam(model, trie, states, allowed, width=count)
    exact = exact_log_p(model, trie, states)
    for row in range(3):
        there = {int(trie.leaf_of[place]) for place in range(count) if allowed[row, place]}
        found = [int(node) for node in nodes[row] if node >= 0]
        assert set(found) == there and len(found) == len(there), "every allowed ID, and no other, once"
        assert torch.allclose(log_p[row, : len(found)], exact[row, found], atol=1e-4)
        assert found == sorted(found, key=lambda leaf: -float(log_p[row, found.index(leaf)]))
    # by the definition, for one item: the product of its conditional probabilities
    query, total = model.code_query(states), torch.zeros(3)
    for level, code in enumerate(codes[0].tolist()):
        total = total + model.level_log_p(level, query)[:, code]
        if level + 1 < depth:
            query = model.after_codes(level, query, torch.tensor(code))
    assert torch.allclose(per_item(trie, exact)[:, 0], total, atol=1e-4)
    short = torch.from_numpy(codes[:, : min(2, depth)].astype(np.int64))
    nodes_of = exact_log_p(model, trie, states, short.shape[1])
    prefixes = build_trie(short.numpy().astype(np.int32))
    leaf = np.empty(count, np.int64)
    leaf[prefixes.items] = np.repeat(np.arange(len(prefixes.first_item) - 1), np.diff(prefixes.first_item))
    assert torch.allclose(prefix_log_p(model, states, short), nodes_of[:, leaf], atol=1e-4)


@pytest.mark.slow
def test_no_invalid_id_in_a_hundred_thousand_decodes() -> None:
    rng = np.random.default_rng(0)
    sizes, count, decoded = (8, 8, 8), 90, 0
    codes = codes_of(rng, count, sizes)
    valid = {tuple(row) for row in codes.tolist()}
    trie, model = trie_of(codes), model_of(1, sizes, count)
    paths = []
    for leaf in range(trie.leaves):
        node, path = leaf, []
        for level in (2, 1, 0):
            path.append(int(trie.codes[level][node]))
            node = int(trie.parents[level][node])
        paths.append(tuple(reversed(path)))
    assert set(paths) == valid
    while decoded < 100_000:
        allowed = torch.from_numpy(rng.random((1, count)) < rng.random())
        nodes, log_p = beam(model, trie, 3 * torch.randn(5_000, 8), allowed, width=4)
        assert ((nodes < trie.leaves) & (nodes >= -1)).all() and torch.equal(nodes < 0, log_p == -torch.inf)
        permitted = {paths[leaf] for leaf in trie.leaf_of[allowed[0]].tolist()}
        assert {paths[leaf] for leaf in nodes[nodes >= 0].unique().tolist()} <= permitted
        decoded += int((nodes >= 0).sum())


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(CHANNELS), st.floats(0, 1), st.floats(0, 1), st.integers(0, 20))
def test_lists_hold_only_what_is_allowed_each_once(
    seed: int, channel: Any, keep: float, share: float, new: int
) -> None:
    rng = np.random.default_rng(seed)
    count, sizes = 40, (4, 4, 3)
    model = model_of(seed, sizes, count)
    codes, content = codes_of(rng, count, sizes), rng.normal(size=(count, 6)).astype(np.float32)
    codes[rng.random(count) < 0.1] = -1  # items without an ID
    is_new = np.arange(count) >= count - new
    rows = np.where(is_new, -1, np.arange(count))
    there = np.flatnonzero(codes[:, 0] >= 0)
    trie = trie_tensors(build_trie(codes[there]), there, count)
    recaller = Recaller(
        model,
        item_tensors(model.shape, rows, content, codes),
        is_new,
        trie,
        NewItems(float(rng.random()), 2, float(rng.random())),
        neighbours=csr_matrix(rng.random((count, count)).astype(np.float32) * (rng.random((count, count)) < 0.1)),
        mix=Mix(*rng.random(4).tolist()),
    )
    histories = [rng.choice(count, size=rng.integers(0, 9), replace=False) for _ in range(4)]
    allowed = rng.random(count) < keep
    found = recaller.lists(histories, channel, 15, allowed=allowed, cold_share=share)
    assert found.places.shape == found.scores.shape == found.added.shape
    for row, history in enumerate(histories):
        listed = [place for place in found.places[row].tolist() if place >= 0]
        assert len(listed) == len(set(listed)) and allowed[listed].all() and not set(listed) & set(history.tolist())
        may = np.flatnonzero(allowed & ~np.isin(np.arange(count), history))
        if channel == "dense":
            assert len(listed) == min(15, len(may))
        there_are = int(is_new[may].sum())
        for slots in range(1, len(listed) + 1):
            fresh = int(is_new[listed[:slots]].sum())
            assert fresh >= min(int(share * slots + 1e-9), there_are)
        if channel == "codes" and not share:
            assert not is_new[listed].any(), "new items are never ranked by the probability of their whole ID"
        if channel == "codes" and not share and len(may):
            assert (codes[listed, 0] >= 0).all()


def test_both_adds_up_its_terms_in_standard_deviations_whatever_may_be_listed() -> None:
    rng = np.random.default_rng(2)
    sizes, count = (4, 4), 40
    model, codes = model_of(3, sizes, count), codes_of(rng, count, sizes)
    content, is_new = rng.normal(size=(count, 6)).astype(np.float32), np.arange(count) % 3 == 0
    items = item_tensors(model.shape, np.where(is_new, -1, np.arange(count)), content, codes)
    there = np.flatnonzero(~is_new)
    trie = trie_tensors(build_trie(codes[there]), there, count)
    near = csr_matrix(rng.random((count, count)).astype(np.float32) * ~is_new * ~is_new[:, None])
    history = np.array([1, 2])

    def scores(mix: Mix, allowed: Any = None) -> Any:
        recaller = Recaller(model, items, is_new, trie, neighbours=near, mix=mix)
        found = recaller.lists([history], "both", count, allowed=allowed)
        known = np.full(count, np.nan)
        known[found.places[0][found.places[0] >= 0]] = found.scores[0][found.places[0] >= 0]
        assert np.isnan(known[history]).all()
        return known

    def deviations(values: Any) -> Any:
        found = np.zeros(count)
        for own in (is_new, ~is_new):
            found[own] = (values[own] - values[own].mean()) / values[own].std()
        return found

    may = ~np.isin(np.arange(count), history)
    dense, log_p = Recaller(model, items, is_new, trie).describe(history, np.arange(count))
    assert scores(Mix())[may] == pytest.approx(deviations(dense)[may], abs=1e-4)
    shared = near.toarray().T @ (0.7 * np.eye(count)[1] + np.eye(count)[2])
    expected = np.where(is_new, 0, (shared - shared[~is_new].mean()) / shared[~is_new].std())  # a new item has none
    assert scores(Mix(neighbours=1))[may] - scores(Mix())[may] == pytest.approx(expected[may], abs=1e-3)
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    cosine = np.where(is_new, 0, deviations(unit @ (0.7 * unit[1] + unit[2])))
    assert scores(Mix(content=2))[may] - scores(Mix())[may] == pytest.approx(2 * cosine[may], abs=1e-3)
    by_codes = scores(Mix(codes=1)) - scores(Mix())
    order = [place for place in np.argsort(-by_codes) if may[place] and not is_new[place]]
    assert [log_p[place] for place in order] == sorted((log_p[place] for place in order), reverse=True)
    assert by_codes[is_new & may] == pytest.approx(0, abs=1e-4), "an ID of a new item is not decoded"
    mix, some = Mix(1, 2, 0, 3), np.arange(count) < 25
    assert scores(mix, some)[some & may] == pytest.approx(scores(mix)[some & may], abs=1e-5)
    assert scores(mix)[is_new & may] == pytest.approx(3 * deviations(dense)[is_new & may], abs=1e-4)
    # the pool that weights are chosen on has the same terms
    places, terms, slots = Recaller(model, items, is_new, trie, neighbours=near).pool(
        [history], np.array([30]), np.ones(count, bool), 5
    )
    assert places[0, slots[0]] == 30 and len(set(places[places >= 0].tolist())) == int((places >= 0).sum())
    total = mixed(list(terms.unbind(2)), mix)[0]
    for place, value in zip(places[0].tolist(), total.tolist(), strict=True):
        assert place < 0 or value == pytest.approx(scores(mix)[place], abs=1e-4)


def test_a_share_of_new_items_keeps_the_order_of_the_rest() -> None:
    places, scores = np.array([[0, 1, 9, 2]]), np.array([[4.0, 3, 2, 1]], np.float32)
    is_new = np.arange(10) >= 8
    found, worth, added = with_share(places, scores, np.array([[8, 9]]), is_new, 0.5)
    assert found.tolist() == [[0, 8, 1, 9]] and added.tolist() == [[False, True, False, True]]
    assert worth.tolist() == [[4, 4, 3, 3]]
    assert with_share(places, scores, np.array([[8, 9]]), is_new, 0)[0].tolist() == places.tolist()


def test_standard_scores_leave_out_what_is_not_there() -> None:
    there = torch.tensor([[True, True, False, True]])
    found = standard(torch.tensor([[1.0, 3, -torch.inf, 2]]), there)
    assert found[0].tolist() == pytest.approx([-1.2247, 1.2247, 0, 0], abs=1e-3)
    assert standard(torch.tensor([[5.0, 5]]), torch.ones(1, 2, dtype=torch.bool)).tolist() == [[0, 0]]


def test_a_list_of_new_items_alone_is_in_their_order() -> None:
    rng = np.random.default_rng(0)
    sizes, count = (4, 4), 30
    model, codes = model_of(5, sizes, count), codes_of(rng, count, sizes)
    content = rng.normal(size=(count, 6)).astype(np.float32)
    rows = np.where(np.arange(count) < 15, np.arange(count), -1)
    items, trie = item_tensors(model.shape, rows, content, codes), trie_of(codes)
    history, new = np.array([3, 4]), np.arange(count) >= 15
    lists = {
        weight: Recaller(model, items, rows < 0, trie, NewItems(weight, 1)).lists(
            [history], "dense", 15, allowed=new, cold_share=1.0
        )
        for weight in (0.0, 1000.0)
    }
    dense, _ = Recaller(model, items, rows < 0, trie).describe(history, np.arange(count))
    assert lists[0.0].places[0].tolist() == sorted(range(15, count), key=lambda place: -dense[place])
    log_p = model.level_log_p(0, model.code_query(model.last_states(items, [history])))[0].detach()
    by_code = [float(log_p[codes[place, 0]]) for place in lists[1000.0].places[0]]
    assert by_code == sorted(by_code, reverse=True) and len(set(by_code)) > 1
    by_content = Recaller(model, items, rows < 0, trie, NewItems(content=1000.0)).lists(
        [history], "dense", 15, allowed=new, cold_share=1.0
    )
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    near = unit @ (0.7 * unit[3] + unit[4])
    assert by_content.places[0].tolist() == sorted(range(15, count), key=lambda place: -near[place])


def test_a_new_item_is_scored_by_its_content_alone() -> None:
    model = model_of(0, (4, 4), 5)
    content = np.tile(np.ones((1, 6), np.float32), (5, 1))
    items = item_tensors(model.shape, np.array([0, 1, -1, -1, 4]), content, None)
    vectors = model.item_vectors(items)
    assert torch.equal(vectors[2], vectors[3]) and not torch.equal(vectors[0], vectors[1])


def test_a_history_is_read_alike_alone_and_beside_a_longer_one() -> None:
    model = model_of(1, (4, 4), 20)
    items = item_tensors(model.shape, np.arange(20), np.ones((20, 6), np.float32), None)
    short, long = np.array([3, 4]), np.arange(5, 14)
    alone = model.last_states(items, [short])[0]
    assert torch.allclose(model.last_states(items, [short, long])[0], alone, atol=1e-5)
    assert torch.allclose(model.last_states(items, [long[-6:]]), model.last_states(items, [long]), atol=1e-5)
    assert not torch.allclose(model.last_states(items, [short[::-1].copy()])[0], alone, atol=1e-3)
