"""Groups, near pictures and splits: against brute force, and what may not change when a catalogue grows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.metrics import splits
from coldstart.metrics.splits import (
    group_items,
    has_classes,
    hold_out_classes,
    near_pairs,
    split,
    split_draws,
    split_unseen,
)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors above zero, some a little and some a lot apart, as a network's pooled features are."""
    random = np.random.default_rng(seed)
    centres = random.random((count // 3, width)) ** 2
    near_ones = centres[random.integers(0, len(centres), count)]
    return unit(near_ones + random.random((count, 1)) * random.random((count, width)))


def by_force(vectors: NDArray[np.floating], threshold: float) -> list[list[int]]:
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    return [[i, j] for i, j in np.argwhere(cosines >= threshold).tolist() if i < j]


def test_items_that_share_a_key_are_one_group_through_others_too() -> None:
    keys = [["sku 1"], ["title hat"], ["sku 1", "title hat"], ["sku 2"], []]
    assert group_items(keys).tolist() == [0, 0, 0, 1, 2]


def test_groups_are_numbered_by_their_first_items() -> None:
    assert group_items([["b"], ["a"], ["a"], ["b"], ["c"]]).tolist() == [0, 1, 1, 0, 2]


def test_an_empty_key_joins_nothing() -> None:
    assert group_items([[""], [""]]).tolist() == [0, 1]


def test_pairs_join_groups() -> None:
    assert group_items([["a"], ["a"], ["b"], ["b"], []], [(1, 3)]).tolist() == [0, 0, 0, 0, 1]


def test_a_long_chain_is_one_group() -> None:
    keys = [[f"{i}", f"{i + 1}"] for i in range(20_000)]
    assert not group_items(keys[::-1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.98])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_near_finds_what_brute_force_finds(
    monkeypatch: pytest.MonkeyPatch, threshold: float, dtype: type[np.floating]
) -> None:
    monkeypatch.setattr(splits, "_ROWS", 48)
    monkeypatch.setattr(splits, "_COLUMNS", 112)
    vectors = clustered(500, 200).astype(dtype)
    expected = by_force(vectors, threshold)
    assert len(expected) > 20
    assert near_pairs(vectors, threshold).tolist() == expected


def test_near_is_exact_where_there_are_fewer_numbers_than_it_screens_by() -> None:
    vectors = clustered(200, 20)
    assert near_pairs(vectors, 0.95).tolist() == by_force(vectors, 0.95)


def test_near_is_exact_where_no_direction_is_stronger() -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((300, 256)))
    vectors[17] = unit(vectors[[4]] + 0.01 * vectors[[5]])[0]
    assert near_pairs(vectors).tolist() == [[4, 17]]


def test_equal_vectors_pair_with_their_first_alone() -> None:
    vectors = clustered(50, 30)
    vectors[[7, 20, 31]] = vectors[3]
    pairs = near_pairs(vectors, 0.999).tolist()
    assert [pair for pair in pairs if 3 in pair] == [[3, 7], [3, 20], [3, 31]]
    assert not [pair for pair in pairs if pair[0] in (7, 20, 31)]


@pytest.mark.parametrize("count", [0, 1])
def test_near_of_none_or_one_is_empty(count: int) -> None:
    assert near_pairs(np.ones((count, 1), np.float32)).shape == (0, 2)


def test_near_tells_how_far_it_is() -> None:
    calls: list[tuple[int, int]] = []
    near_pairs(clustered(2500, 16), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1024, 2500), (2048, 2500), (2500, 2500)]


def test_a_split_is_by_group_and_leaves_no_item_out() -> None:
    numbers = np.arange(3000) // 3
    parts = split(numbers, [f"item-{i}" for i in range(3000)], {"train": 0.8, "valid": 0.1, "test": 0.1})
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(3000))
    assert [len(set(numbers[places].tolist())) * 3 for places in parts.values()] == [len(p) for p in parts.values()]
    assert [abs(len(parts[name]) / 3000 - share) < 0.03 for name, share in (("train", 0.8), ("valid", 0.1))] == [
        True
    ] * 2


def test_new_items_move_no_old_ones() -> None:
    ids = [f"item-{i}" for i in range(500)]
    shares = {"train": 0.7, "test": 0.3}
    before = split(np.arange(400), ids[:400], shares)
    after = split(np.arange(500), ids, shares)
    assert [np.intersect1d(after[name], np.arange(400)).tolist() for name in shares] == [
        before[name].tolist() for name in shares
    ]


def test_the_order_of_items_and_the_numbers_of_groups_do_not_matter() -> None:
    ids, numbers = [f"item-{i}" for i in range(300)], np.arange(300) // 2
    turned = np.random.default_rng(0).permutation(300)
    drawn = split_draws(numbers, ids, 5)
    assert (split_draws(1000 - numbers[turned], [ids[i] for i in turned], 5) == drawn[turned]).all()
    assert not (split_draws(numbers, ids, 6) == drawn).any()


@pytest.mark.parametrize("shares", [{"train": 0.5, "test": 0.4}, {"train": 1.1, "test": -0.1}])
def test_shares_that_do_not_add_up_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ColdstartError) as refused:
        split(np.arange(2), ["a", "b"], shares)
    assert str(refused.value) == f"shares of a split add up to 1, and none is below 0; these are {shares}"


def test_classes_are_held_out_whole_with_their_groups() -> None:
    labels = [f"class {place % 20}" for place in range(200)]
    groups = np.arange(200)
    groups[41] = groups[3]  # one product is in two classes
    held = hold_out_classes(labels, groups, 0.2)
    chosen = {label for label, out in zip(labels, held, strict=True) if out}
    assert 0 < held.sum() <= 40
    for label in chosen - {labels[41], labels[3]}:
        assert all(held[place] for place in range(200) if labels[place] == label)
    assert held[41] == held[3]
    assert not hold_out_classes(labels, groups, 0.04).any()  # every class is larger


def test_a_class_that_is_too_large_is_left_for_a_smaller_one() -> None:
    labels = ["large"] * 50 + ["small"] * 2 + [""] * 48
    for seed in range(4):  # whichever is drawn first
        assert np.flatnonzero(hold_out_classes(labels, np.arange(100), 0.1, seed)).tolist() == [50, 51]


def test_fields_with_few_values_or_few_items_have_no_classes() -> None:
    assert has_classes([f"{place % 10}" for place in range(20)])
    assert not has_classes([f"{place % 9}" for place in range(20)])
    assert not has_classes([f"{place}" for place in range(10)] + [""] * 11)


def test_unseen_groups_and_classes_are_tested_and_other_items_of_seen_groups() -> None:
    count = 4000
    ids = [f"item {place:04}" for place in range(count)]
    groups = np.arange(count) // 8  # 500 products of 8 photographs, two of them the same
    copies = np.arange(count) // 2 * 2
    copies[np.arange(count) % 8 >= 2] = np.arange(count)[np.arange(count) % 8 >= 2]
    _, copies = np.unique(copies, return_inverse=True)
    labels = [f"class {group % 50}" for group in groups.tolist()]
    parts = split_unseen(groups, copies, ids, {"category": labels}, test_share=0.1, valid_share=0.05)
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(count))
    sides = {name: set(groups[places].tolist()) for name, places in parts.items()}
    assert sides["seen"] <= sides["train"]
    assert not (sides["train"] & sides["test"] or sides["train"] & sides["valid"] or sides["valid"] & sides["test"])
    assert not set(copies[parts["seen"]].tolist()) & set(copies[parts["train"]].tolist())
    kept = {labels[place] for name in ("train", "valid") for place in parts[name].tolist()}
    new = {labels[place] for place in parts["test"].tolist()} - kept
    assert len(new) == 2  # a twentieth of the items, in classes of a fiftieth
    assert len(parts["test"]) / count == pytest.approx(0.1, abs=0.03)
    assert len(parts["seen"]) / len(parts["train"]) == pytest.approx(0.11, abs=0.02)


def test_without_classes_and_copies_the_split_is_by_groups_alone() -> None:
    ids = [f"item {place:04}" for place in range(1000)]
    places = np.arange(1000)
    parts = split_unseen(places, places, ids, {}, test_share=0.1, valid_share=0.05)
    plain = split(places, ids, {"test": 0.1, "valid": 0.05, "train": 0.85})
    assert all(np.array_equal(parts[name], plain[name]) for name in plain)
    assert len(parts["seen"]) == 0  # a product of one photograph keeps it


@pytest.mark.parametrize(("count", "valid"), [(9, 0), (12, 2), (40, 5), (1000, 51)])
def test_the_validation_part_has_several_groups_or_none(count: int, valid: int) -> None:
    ids = [f"item {place:04}" for place in range(2 * count)]
    groups = np.arange(2 * count) // 2
    parts = split_unseen(groups, np.arange(2 * count), ids, {}, test_share=0.0, valid_share=0.05)
    assert len(set(groups[parts["valid"]].tolist())) == valid
    assert len(parts["valid"]) == 2 * valid  # whole groups
    nothing = split_unseen(groups, np.arange(2 * count), ids, {}, test_share=0.0, valid_share=0.0)
    assert len(nothing["valid"]) == 0
