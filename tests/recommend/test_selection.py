"""Choosing among mappers on held-out warm items, and what is left of it: on the made-up world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from behaviour_world import World, world
from safetensors.numpy import save

from coldstart.core.interactions import Interactions, interactions
from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend import model
from coldstart.recommend.model import Problem, holdout
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.fitted import ARRAYS, CARD, load_behaviour, to_files
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.holdout import build_problem, folds
from coldstart.recommend.model.mappers import blend
from coldstart.recommend.model.scoring import top_k
from coldstart.recommend.model.selection import SelectionSettings, count_steps, select_model

QUICK = SelectionSettings(candidates={"knn": {}, "ridge": {"target": "users"}}, dim=16, folds=1)
EVEN = {"picture": 1.0, "text": 1.0, "labels": 1.0}


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture(scope="module")
def split(made: World) -> tuple[Interactions, np.ndarray]:
    """Training rows, and places of the items that nobody has met in them."""
    cold = np.arange(5, len(made.content), 6)
    return made.interactions.where(~np.isin(made.interactions.items, cold)), cold


@pytest.mark.slow
def test_the_best_of_the_held_out_items_finds_who_likes_cold_ones(
    made: World, split: tuple[Interactions, np.ndarray]
) -> None:
    train, cold = split
    called = []
    chosen = select_model(train, made.content, QUICK, step=lambda: called.append(1))
    assert len(called) == count_steps(QUICK) == 4
    fitted, report = chosen.behaviour, chosen.report
    assert set(report["candidates"]) >= {"knn", "ridge"}
    best = max(found["ndcg@20"]["value"] for found in report["candidates"].values())
    assert report["candidates"][report["chosen"]]["ndcg@20"]["value"] == best
    assert abs(sum(report["weights"].values()) - 1) < 1e-6
    users, items = fitted.users(train.matrix()), fitted.items(made.content.take(cold))
    assert users.shape[1] == items.shape[1] == fitted.dim
    relevant = made.interactions.matrix()[:, cold]
    lists, _ = top_k(users, items, 5)
    recall = np.nanmean(measure_lists(lists, relevant, [5])["recall@5"])
    rng = np.random.default_rng(0)
    by_lot = np.stack([rng.permutation(len(cold))[:5] for _ in range(len(users))])
    chance = np.nanmean(measure_lists(by_lot, relevant, [5])["recall@5"])
    assert recall > chance + 0.2


@pytest.mark.slow
def test_warm_items_may_go_from_their_content_only_so_far(made: World, split: tuple[Interactions, np.ndarray]) -> None:
    train, cold = split
    free = select_model(train, made.content, replace(QUICK, calibrate=False, blend=False, max_delta=0.3)).behaviour
    held = select_model(train, made.content, replace(QUICK, calibrate=False, blend=False, max_delta=0.0)).behaviour
    moved = np.linalg.norm(free.items(made.content) - held.items(made.content), axis=1)
    length = np.linalg.norm(held.items(made.content)[:, :-1], axis=1)
    assert np.all(moved[cold] == 0)
    assert np.all(moved <= 0.3 * length + 1e-5)
    assert moved[free.warm].mean() > 0.01


@pytest.mark.slow
def test_what_was_fitted_comes_back_as_it_was(
    made: World, split: tuple[Interactions, np.ndarray], tmp_path: Path
) -> None:
    fitted = select_model(split[0], made.content, QUICK).behaviour
    for name, data in to_files(fitted).items():
        (tmp_path / name).write_bytes(data)
    again = load_behaviour(tmp_path)
    assert again.item_ids == fitted.item_ids
    assert np.array_equal(again.items(made.content), fitted.items(made.content))
    histories = split[0].matrix()
    assert np.array_equal(again.users(histories), fitted.users(histories))
    assert again.about["chosen"] == fitted.about["chosen"]
    assert to_files(again) == to_files(fitted)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in model.names() if name != "blend"])
def test_every_mapper_comes_back_from_files_in_a_blend(name: str, made: World, tmp_path: Path) -> None:
    quick = {"epochs": 1} if name in ("clcrec", "contrastive", "dropoutnet") else {}
    parts = {name: {"weight": 0.25, **quick}, "knn ": {"mapper": "knn", "weight": 0.75}}
    blended = {"both": {"mapper": "blend", "parts": parts}}
    settings = replace(QUICK, candidates=blended, weights=EVEN, power=0.0, min_weight=0.5)
    fitted = select_model(made.interactions, made.content, settings).behaviour
    for file, data in to_files(fitted).items():
        (tmp_path / file).write_bytes(data)
    again = load_behaviour(tmp_path)
    assert again.min_weight == settings.min_weight
    assert np.array_equal(again.items(made.content), fitted.items(made.content))
    histories = made.interactions.matrix()
    assert np.array_equal(again.users(histories), fitted.users(histories))


@pytest.mark.parametrize("card", ["{}", "[]", '{"words": {"mapper/a": [1]}, "mapper": "knn", "item_ids": 7}'])
@pytest.mark.parametrize("arrays", [b"nothing", save({"own/warm": np.zeros(1)})], ids=["no arrays", "few"])
def test_a_broken_folder_names_the_next_step(tmp_path: Path, card: str, arrays: bytes) -> None:
    (tmp_path / CARD).write_text(card)
    (tmp_path / ARRAYS).write_bytes(arrays)
    with pytest.raises(ColdstartError, match=r"holds no fit of behaviour .*: run `coldstart finetune behaviour`"):
        load_behaviour(tmp_path)


@pytest.mark.slow
def test_items_that_came_later_have_vectors_and_unknown_ones_none(
    made: World, split: tuple[Interactions, np.ndarray]
) -> None:
    fitted = select_model(split[0], made.content, QUICK).behaviour
    blocks = {name: np.stack([block[3], np.zeros_like(block[3])]) for name, block in made.content.blocks.items()}
    record = {"category": None, "tags": [], "title": "new"}
    vectors = fitted.items(Content(("new", "empty"), blocks, (made.content.records[3], record)))
    assert np.any(vectors[0] != 0)
    assert not np.any(vectors[1])


def test_a_fold_holds_whole_groups_and_none_of_their_rows(made: World) -> None:
    rows = made.interactions
    groups = np.arange(len(made.content)) // 2
    met = rows.counts() > 0
    found = list(folds(rows, rows.positive(), groups, count=3, share=0.2, seed=0))
    assert len(found) == 3
    for fold in found:
        assert not np.isin(fold.train.items, fold.held).any()
        assert met[fold.held].all()
        rest = np.setdiff1d(np.flatnonzero(met), fold.held)
        assert not np.isin(groups[rest], groups[fold.held]).any()
    assert not np.intersect1d(found[0].held, found[1].held).size


@pytest.mark.parametrize("count", [6, 9, 24])
def test_folds_of_a_few_items_hold_out_two_or_more_each(count: int) -> None:
    item_ids = tuple(f"item {place}" for place in range(count))
    names = [(f"user {user}", item) for user in range(5) for item in item_ids]
    rows = interactions(*zip(*names, strict=True), np.arange(5 * count), np.ones(5 * count, np.float32))
    for seed in range(20):
        parts = [
            fold.held
            for fold in folds(rows.over(item_ids), rows.over(item_ids), np.arange(count), count=2, share=0.2, seed=seed)
        ]
        assert min(map(len, parts)) >= 2
        assert not np.intersect1d(*parts).size
        assert sum(map(len, parts)) < count


def test_what_held_out_items_are_does_not_enter_the_fit(made: World) -> None:
    rows = made.interactions
    fold = next(folds(rows, rows, np.arange(len(made.content)), count=1, share=0.2, seed=0))
    blocks = {name: block.copy() for name, block in made.content.blocks.items()}
    for block in blocks.values():
        block[fold.held] = np.roll(block[fold.held], 1, axis=1)
    other = Content(made.content.item_ids, blocks, made.content.records)
    _, one = build_problem(fold.train, made.content, min_weight=None, weights=None, labels=True, power=0.5)
    _, two = build_problem(fold.train, other, min_weight=None, weights=None, labels=True, power=0.5)
    for name, array in one.arrays().items():
        assert np.array_equal(array, two.arrays()[name]), name


def test_a_blend_adds_scores_of_one_spread(made: World) -> None:
    matrix = made.interactions.matrix()
    teacher = fit_teacher("pure_svd", matrix, dim=16, seed=0)
    given, _ = build_problem(
        made.interactions, made.content, min_weight=None, weights=None, labels=False, power=0.5, teacher=teacher
    )
    parts = {"knn": {"weight": 0.25}, "ridge": {"weight": 0.75, "target": "users"}}
    both = blend.fit(given, parts=parts)
    scores = both.users(matrix) @ both.items(given.features).T
    wanted = np.zeros_like(scores)
    for name, own in parts.items():
        settings = {key: value for key, value in own.items() if key != "weight"}
        mapper = model.fit(name, given, **settings)
        found = mapper.users(matrix) @ mapper.items(given.features).T
        wanted += own["weight"] * found / found.std(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-4)
    again = blend.restore(both.arrays())
    assert np.array_equal(again.items(given.features), both.items(given.features))


@pytest.mark.slow
def test_a_list_of_values_is_a_candidate_each(made: World, split: tuple[Interactions, np.ndarray]) -> None:
    settings = replace(QUICK, candidates={"near": {"mapper": "knn", "k": [5, 20]}}, blend=False)
    report = select_model(split[0], made.content, settings).report
    assert set(report["candidates"]) == {"near (k=5)", "near (k=20)"}


@pytest.mark.slow
def test_only_the_fits_of_folds_hold_items_out_for_their_epochs(
    made: World, split: tuple[Interactions, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    hold_out = holdout.hold_out

    def counted(problem: Problem, share: float, seed: int) -> Any:
        held.append(share)
        return hold_out(problem, share, seed)

    monkeypatch.setattr(holdout, "hold_out", counted)
    brief = {"epochs": 2, "dim": 8}
    settings = replace(QUICK, candidates={"contrastive": {**brief, "mapper": "contrastive"}}, folds=2, weights=EVEN)
    report = select_model(split[0], made.content, replace(settings, power=0.0)).report
    assert len(held) == 2
    assert report["trained"]["contrastive"]["epochs"] in (0, 1, 2)
    assert report["calibration"]["rehearsal"] is not None


def test_faults_are_named(made: World) -> None:
    known = ", ".join(model.names())
    with pytest.raises(ColdstartError) as unknown:
        select_model(made.interactions, made.content, replace(QUICK, candidates={"guess": {}}))
    assert str(unknown.value) == f"candidate 'guess': no mapper 'guess'; choose among {known}"
    with pytest.raises(ColdstartError) as few:
        select_model(made.interactions.where(np.arange(1)), made.content, QUICK)
    assert str(few.value) == (
        "of 1 items with an interaction 0 can be held out, liked by 0 users who like another item: too few; bring "
        "more with `coldstart ingest --interactions FILE`"
    )
    with pytest.raises(ColdstartError) as much:
        select_model(made.interactions, made.content, replace(QUICK, folds=6))
    assert str(much.value) == "6 folds of 0.2 of the items each are more than all items: lower one of them"
