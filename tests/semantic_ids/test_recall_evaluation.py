"""Evaluation of recall: splits without leaks, ties, baselines by hand, sets, command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.core.interactions import Interactions, interactions
from coldstart.core.progress import SilentProgress
from coldstart.errors import ColdstartError, LeakError
from coldstart.semantic_ids.methods import fit_codebooks
from coldstart.semantic_ids.recall_baselines import content_neighbours, ease, item_knn, popularity
from coldstart.semantic_ids.recall_evaluation import (
    METHODS,
    RecallContent,
    category_codes,
    evaluate_recall,
    lists_of,
)
from coldstart.semantic_ids.recall_report import heading, markdown, recall_html
from coldstart.semantic_ids.recall_split import check_leaks, is_cold, split_histories
from coldstart.semantic_ids.train_sequence import Training

ITEMS = tuple(f"i{n}" for n in range(40))


def log(seed: int, users: int = 50, events: int = 300) -> Interactions:
    """Rows at random times, some users with an item twice."""
    rng = np.random.default_rng(seed)
    return interactions(
        [f"u{n}" for n in rng.integers(users, size=events)],
        [ITEMS[n] for n in rng.integers(len(ITEMS), size=events)],
        rng.integers(1000, size=events).astype(np.int64),
        np.ones(events, np.float32),
    ).over(ITEMS)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(["last-out", "time", "cold:0.2"]))
def test_nothing_that_is_read_lies_after_a_target(seed: int, kind: str) -> None:
    rows = log(seed)
    found = split_histories(rows, kind)
    for user, history, target in zip(found.users, found.histories, found.targets.tolist(), strict=True):
        own = rows.users == rows.user_ids.index(user)
        assert target not in history and len(set(history.tolist())) == len(history)
        when = rows.times[own & (rows.items == target)]
        at = when.min() if kind == "time" else when.max()
        if kind == "time":
            assert found.cut is not None and at >= found.cut
        for item in history.tolist():
            assert rows.times[own & (rows.items == item)].min() <= at
        assert not found.held_out[history].any()
        if kind != "time":
            assert at == max(rows.times[own])
    held_out = [is_cold(item, 0.2) if kind == "cold:0.2" else False for item in ITEMS]
    assert found.held_out.tolist() == held_out
    read = np.concatenate(found.train)
    assert not found.held_out[read].any()
    assert found.is_new.tolist() == [place not in read for place in range(len(ITEMS))]


def test_a_leak_is_found() -> None:
    rows = interactions(["u"] * 4, ["i0", "i1", "i2", "i3"], np.arange(4), np.ones(4, np.float32)).over(ITEMS)
    found = split_histories(rows, "last-out")
    assert found.targets.tolist() == [3] and found.histories[0].tolist() == [0, 1, 2]
    target = [int(np.flatnonzero(rows.items == 3)[0])]
    with pytest.raises(LeakError, match="the history of user 'u' holds the target 'i3'"):
        check_leaks(replace(found, histories=[np.array([0, 3])]), rows, target)
    early = [int(np.flatnonzero(rows.items == 1)[0])]
    with pytest.raises(LeakError, match="the history of user 'u' holds 'i2', met later"):
        check_leaks(replace(found, histories=[np.array([0, 2])]), rows, early)
    with pytest.raises(LeakError, match="training reads rows of 'i0', which is held out"):
        check_leaks(replace(found, held_out=np.arange(len(ITEMS)) == 0), rows, target)
    with pytest.raises(LeakError, match="goes on after the cut"):
        check_leaks(replace(found, cut=1), rows, target)


def test_a_split_that_is_none_is_refused() -> None:
    for kind in ("last", "cold:2", "cold:x", "time:3"):
        with pytest.raises(ColdstartError, match=r"use last-out, time, cold:0\.1"):
            split_histories(log(0), kind)
    with pytest.raises(ColdstartError, match="no user has a history and a next item to ask for"):
        split_histories(log(0).where(np.zeros(300, bool)), "last-out")


def test_baselines_are_what_their_names_say() -> None:
    train = [np.array([0, 1]), np.array([0, 1]), np.array([0, 2]), np.array([3])]
    assert popularity(train, 5)([np.array([4])]).tolist() == [[3, 2, 1, 1, 0]]
    near = item_knn(train, 5)([np.array([2, 1])])[0]
    assert near[0] == pytest.approx(2 / np.sqrt(6) + 0.7 / np.sqrt(3)) and near[3] == near[4] == 0
    assert ease(train, 5, 1.0)([np.array([1])])[0].argmax() == 0
    content = np.eye(5, 3, dtype=np.float32)
    content[3] = content[1]
    assert content_neighbours(content)([np.array([1])])[0].argsort(kind="stable")[-2:].tolist() == [1, 3]


def test_equal_scores_are_listed_in_random_order_and_history_is_not() -> None:
    nothing: Any = lambda histories: np.zeros((len(histories), 200), np.float32)  # noqa: E731
    places = lists_of(nothing, [np.array([5, 6])], None, 100)[0]
    assert len(set(places.tolist())) == 100 and not {5, 6} & set(places.tolist())
    assert np.abs(np.corrcoef(places, np.arange(100))[0, 1]) < 0.4
    few = lists_of(nothing, [np.array([1])], np.arange(200) < 3, 5)[0]
    assert sorted(few.tolist()) == [-1, -1, -1, 0, 2]


def test_category_paths_become_codes() -> None:
    codes = category_codes(["A > B", "A > C", "D", None, "A > B"])
    assert codes is not None and codes.tolist() == [[0, 0], [0, 1], [1, 2], [-1, -1], [0, 0]]
    assert category_codes([None, ""]) is None


@pytest.mark.slow
def test_every_method_is_measured_and_written_and_shuffled_codes_are_no_better() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), 12)
    content = (rng.normal(size=(8, 10))[groups] + 0.1 * rng.normal(size=(96, 10))).astype(np.float32)
    names = tuple(f"n{place}" for place in range(96))
    user_ids, item_ids, times = [], [], []
    for user in range(120):
        for step, place in enumerate(rng.permutation(np.flatnonzero(groups == user % 8))[:6]):
            user_ids.append(f"u{user}")
            item_ids.append(names[place])
            times.append(step)
    rows = interactions(user_ids, item_ids, np.array(times), np.ones(len(times), np.float32)).over(names)
    split = split_histories(rows, "cold:0.1")
    found = evaluate_recall(
        split,
        RecallContent(content, [f"shelf {group}" for group in groups]),
        Training(dim=16, epochs=12, dropout=0.1, learning_rate=0.01, device="cpu"),
        SilentProgress(),
        code=lambda vectors: fit_codebooks(vectors, levels=(8, 8, 8)),
    )
    known = found.to_dict()
    assert list(known["methods"]) == [name for name in METHODS if name != "llm"] and not known["left_out"]
    value = {name: one["sets"]["warm"]["recall@10"]["value"] for name, one in known["methods"].items()}
    assert value["dense"] > value["popularity"] + 0.3 and value["codes"] > value["popularity"] + 0.3
    assert value["category"] > value["popularity"] + 0.3
    emitted = {name: one["emitted"] for name, one in known["methods"].items()}
    assert emitted["codes"] == 0 and emitted["both-new"] >= emitted["both"] and emitted["content"] == 1
    assert known["counts"]["warm"] + known["counts"]["new"] == known["counts"]["users"] == len(split.users)
    text = markdown(known)
    assert "| codes shuffled among items |" in text and "no leak found" in text
    page = recall_html(known)
    assert heading(known, "new") in page and "<script" not in page
    few = len({int(place) for place in split.targets[split.is_new[split.targets]]})
    assert few < 30 and f"of {few} items; too few to judge: 30 different items" in heading(known, "new")
