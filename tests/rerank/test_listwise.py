"""Model of lists: order does not matter to it, effects of lists are learnt, files of strangers are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from coldstart.rerank import RerankItems, RerankRequest
from coldstart.rerank.listwise import (
    ListwiseModel,
    ListwiseReranker,
    ListwiseShape,
    ListwiseTraining,
    best_list,
    click_probabilities,
    from_files,
    generate_lists,
    in_slots,
    to_files,
    train,
)


def request(seed: int, count: int = 12) -> tuple[RerankItems, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = tuple(f"i{one:02d}" for one in rng.permutation(count))
    features = rng.normal(size=(count, 3)).astype(np.float32)
    features[0, 1] = np.nan
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    made = RerankItems(ids, ids, vectors, rng.integers(-1, 3, size=count), rng.integers(-1, 3, size=count), features)
    return made, rng.integers(0, 5, size=count).astype(float)


@pytest.fixture(scope="module")
def model() -> ListwiseModel:
    torch.manual_seed(0)
    made = ListwiseModel(ListwiseShape(3, dim=8))
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made.eval()


def test_scores_and_orders_do_not_depend_on_the_order_in_which_items_are_given(model: ListwiseModel) -> None:
    reranker = ListwiseReranker(model, head=5, lists=16)
    for seed in range(2):
        items, scores = request(seed)
        order = [items.item_ids[place] for place in reranker.order(RerankRequest((), seed), items, scores)]
        assert sorted(order) == sorted(items.item_ids)
        slots = np.arange(1, len(items) + 1)
        plain = in_slots(items, np.arange(len(items))[None])
        chances = click_probabilities(model, plain)[0]
        for other in range(3):
            mixed = np.random.default_rng(other).permutation(len(items))
            again = reranker.order(RerankRequest((), seed), items.take(mixed), scores[mixed])
            assert [items.item_ids[mixed[place]] for place in again] == order
            moved = plain.take(slice(None)).__class__(**{name: own[:, mixed] for name, own in plain.__dict__.items()})
            assert np.allclose(click_probabilities(model, moved)[0], chances[mixed], atol=1e-5)
        assert slots[0] == 1


def test_items_of_equal_scores_are_ordered_by_id() -> None:
    torch.manual_seed(0)
    flat = ListwiseModel(ListwiseShape(3, dim=8)).eval()
    for weights in flat.parameters():
        torch.nn.init.zeros_(weights)
    items, _ = request(0)
    order = ListwiseReranker(flat, head=5, lists=8).order(RerankRequest(), items, np.zeros(len(items)))
    again = ListwiseReranker(flat, head=5, lists=8).order(RerankRequest((), 9), items, np.zeros(len(items)))
    assert order == again or sorted(order) == sorted(again)
    assert [items.item_ids[place] for place in order][5:] == sorted([items.item_ids[place] for place in order][5:])


def test_the_best_list_has_no_less_than_the_base_by_the_evaluator_and_lists_are_permutations(
    model: ListwiseModel,
) -> None:
    items, scores = request(3)
    items = items.take(np.argsort(items.item_ids))
    made = generate_lists(items, scores, 62, 0)
    assert made.shape == (62, 12) and (np.sort(made, 1) == np.arange(12)).all()
    chosen = best_list(model, items, scores, head=5)
    base = np.lexsort((np.arange(12), -scores))
    values = click_probabilities(model, in_slots(items, np.stack([chosen, base])[:, :5])).sum(1)
    assert values[0] >= values[1] - 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["bce", "listmle"])
def test_what_is_clicked_less_below_its_like_is_learnt(loss: str) -> None:
    rng = np.random.default_rng(0)
    count, slots = 500, 6
    found = []
    for _ in range(count):
        creators = rng.integers(2, size=slots)
        appeal = rng.normal(size=slots)
        again = np.array([creators[place] in creators[:place] for place in range(slots)])
        clicks = rng.random(slots) < 1 / (1 + np.exp(-(2 * appeal - 4 * again)))
        ids = tuple(f"i{place}" for place in range(slots))
        items = RerankItems(ids, ids, None, creators, None, appeal[:, None].astype(np.float32))
        own = in_slots(items, np.arange(slots)[None])
        found.append({**own.__dict__, "clicks": clicks[None].astype(np.float32)})
    lists = own.__class__(**{name: np.concatenate([one[name] for one in found]) for name in found[0]})
    fitted, report = train(
        lists.take(slice(0, 450)),
        ListwiseTraining(dim=8, epochs=10, batch=64, learning_rate=1e-2, device="cpu", loss=loss),  # type: ignore[arg-type]
        valid=lists.take(slice(450, None)),
    )
    assert report["held_out_loss"] is not None
    ids = ("a", "b", "c")
    alike = RerankItems(ids, ids, None, np.array([0, 0, 1]), None, np.zeros((3, 1), np.float32))
    chances = click_probabilities(fitted, in_slots(alike, np.array([[0, 1, 2], [0, 2, 1]])))
    assert chances[0, 1] < chances[1, 1]  # the second of a creator, and the first of another


def test_a_model_is_read_back_and_a_strange_one_refused(model: ListwiseModel) -> None:
    files = to_files(model, {"passport": "p"})
    again, about = from_files(files["listwise.safetensors"], files["listwise.json"])
    items, _ = request(1)
    lists = in_slots(items, np.arange(12)[None])
    assert about["passport"] == "p"
    assert (click_probabilities(again, lists) == click_probabilities(model, lists)).all()
    card = json.loads(files["listwise.json"])
    for shape in ({}, {**card["shape"], "dim": 10**9}, {**card["shape"], "heads": 3}, {**card["shape"], "features": 4}):
        with pytest.raises(ValueError, match=r"."):
            from_files(files["listwise.safetensors"], json.dumps({**card, "shape": shape}).encode())
    endless = json.dumps({**card, "shape": {**card["shape"], "dim": float("inf")}}).encode()
    for weights, own in ((b"garbage", files["listwise.json"]), (files["listwise.safetensors"], endless)):
        with pytest.raises(ValueError, match=r"."):
            from_files(weights, own)
    with torch.no_grad():
        next(iter(again.parameters()))[:] = torch.nan
    with pytest.raises(ValueError, match="no numbers"):
        from_files(to_files(again, {})["listwise.safetensors"], files["listwise.json"])
