"""Leaks planted one a kind: each is found, and distinguished from the others; a clean evaluation has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from behaviour_world import World, world
from scipy.sparse import csr_matrix

from coldstart.core.interactions import Interactions
from coldstart.recommend.evaluate import EvaluateSettings, evaluate, leaks, methods, splits
from coldstart.recommend.evaluate import methods as module
from coldstart.recommend.evaluate import splits as split_file
from coldstart.recommend.evaluate.data import EvaluationData, build_data
from coldstart.recommend.evaluate.methods import ContentMean, Method, Model, VectorsByName, select_methods
from coldstart.recommend.evaluate.splits import TEST, TRAIN, VALID
from coldstart.recommend.model.fusion import Content, fit_fusion

HONEST = ("random", "popularity", "recent", "category", "content_mean", "content_top", "knn", "ridge")


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=60, items=80, per_user=12)


@pytest.fixture(scope="module")
def data(small: World) -> EvaluationData:
    return build_data(splits.split_by_time(small.interactions, warm_min=3), small.content, teacher="pure_svd", dim=16)


@pytest.fixture(scope="module")
def by_item(small: World) -> EvaluationData:
    return build_data(splits.split_coldrec(small.interactions), small.content, teacher="pure_svd", dim=16)


def with_rows(data: EvaluationData, part: int) -> Interactions:
    return data.split.interactions.where((data.split.row_part == TRAIN) | (data.split.row_part == part))


def kinds(found: list[leaks.Leak]) -> list[str]:
    return sorted({one.kind for one in found})


def of(fit: Callable[[EvaluationData, int], Model], data: EvaluationData) -> list[leaks.Leak]:
    contender = Method("planted", "planted", "baseline", fit)
    return leaks.check_method(contender, data, fit(data, 0))


@pytest.mark.parametrize("kind", ["time", "coldrec"])
def test_a_clean_evaluation_has_none(kind: str, data: EvaluationData, by_item: EvaluationData, tmp_path: Path) -> None:
    own = data if kind == "time" else by_item
    split_file.write_split(own.split, tmp_path)
    assert leaks.check_data(own, folder=tmp_path) == []
    for contender in select_methods(HONEST):
        assert leaks.check_method(contender, own, contender.fit(own, 0)) == []


def test_test_rows_in_the_training_matrix(by_item: EvaluationData) -> None:
    warm = replace(by_item, training=with_rows(by_item, TEST))
    found = leaks.check_data(warm)
    assert kinds(found) == ["cold_item_in_training", "test_rows"]
    tests = len(by_item.split.rows(TEST))
    assert found[0].where == "training rows"
    assert found[0].detail.startswith(f"{tests} of {len(warm.training)} rows, the first of user 'user-")


def test_validation_rows_in_the_refit(by_item: EvaluationData) -> None:
    rows = with_rows(by_item, VALID)
    refit = replace(by_item, training=rows.where(by_item.split.warm[rows.items]))
    assert kinds(leaks.check_data(refit)) == ["valid_rows"]


def test_a_cold_item_with_a_training_row(by_item: EvaluationData) -> None:
    items = by_item.training.items.copy()
    items[5] = np.flatnonzero(by_item.cold)[0]
    found = leaks.check_data(replace(by_item, training=replace(by_item.training, items=items)))
    assert kinds(found) == ["cold_item_in_training"]
    assert found[0].detail.startswith(f"1 of {len(items)} rows, the first of user 'user-")


def test_a_training_row_at_the_moment_of_the_cut(data: EvaluationData) -> None:
    """Its user asks in the same second, so that nothing says which came first."""
    times = data.training.times.copy()
    times[0] = data.split.settings["valid_at"]
    assert kinds(leaks.check_data(replace(data, training=replace(data.training, times=times)))) == ["late_training"]


def test_a_history_that_goes_on_after_the_request(data: EvaluationData) -> None:
    later = data.split.rows(TEST)
    found = leaks.check_data(replace(data, histories=later.where(data.split.warm[later.items]).matrix()))
    assert kinds(found) == ["known_answer", "late_history"]


def test_an_answer_among_what_is_known(data: EvaluationData) -> None:
    found = leaks.check_data(replace(data, relevant=data.met))
    assert kinds(found) == ["known_answer"]


def test_a_near_copy_of_a_training_item(data: EvaluationData) -> None:
    blocks = {name: block.copy() for name, block in data.content.blocks.items()}
    warm, cold = data.warm_places[data.content.present("picture")[data.warm_places]][0], np.flatnonzero(data.cold)[0]
    blocks["picture"][cold] = 2 * blocks["picture"][warm]
    names = data.content.item_ids
    found = leaks.check_data(replace(data, content=Content(names, blocks, data.content.records)))
    assert found == [
        leaks.Leak(
            "near_duplicate",
            "new items",
            f"1 items, the first {names[cold]!r} and {names[warm]!r} with cosine 1.000 in picture",
        )
    ]


def test_a_split_file_that_changed_after_the_fit(data: EvaluationData, small: World, tmp_path: Path) -> None:
    split_file.write_split(splits.split_by_time(small.interactions, warm_min=4), tmp_path)
    assert kinds(leaks.check_data(data, folder=tmp_path)) == ["split_changed"]
    (tmp_path / "items.parquet").unlink()
    assert kinds(leaks.check_data(data, folder=tmp_path)) == ["split_changed"]


def test_popularity_that_counts_test_rows(data: EvaluationData) -> None:
    def fit(own: EvaluationData, seed: int) -> Model:
        return methods._popularity_model(own, with_rows(own, TEST), seed)

    assert of(fit, data) == [
        leaks.Leak("fit_reads_test_rows", "planted", "seed 0 answered otherwise when they were changed")
    ]


@pytest.mark.slow
def test_a_teacher_trained_on_test_rows(by_item: EvaluationData) -> None:
    assert kinds(of(methods.fit_oracle, by_item)) == ["fit_reads_test_rows"]


def test_the_ceiling_may(by_item: EvaluationData) -> None:
    oracle = select_methods(["oracle"])[0]
    assert oracle.sees_test
    assert leaks.check_method(oracle, by_item, oracle.fit(by_item, 0)) == []


@pytest.mark.slow
def test_a_refit_on_validation_rows(data: EvaluationData) -> None:
    def fit(own: EvaluationData, seed: int) -> Model:
        return methods._fit_als_model(own, with_rows(own, VALID), seed)

    assert kinds(of(fit, data)) == ["fit_reads_valid_rows"]


@pytest.mark.parametrize("labels", [False, True])
def test_statistics_fitted_on_new_items(data: EvaluationData, labels: bool) -> None:
    """Means and directions of whitening, or the vocabulary of labels."""

    def fit(own: EvaluationData, seed: int) -> Model:
        blocks = {} if labels else own.content.blocks
        content = Content(own.content.item_ids, blocks, own.content.records)
        fusion = fit_fusion(content, np.arange(len(content)), weights=None, labels=labels)
        known = fusion.transform(content)
        known[own.cold] = 0

        class Over(ContentMean):
            def items(self, content: Content) -> np.ndarray:
                return self.fusion.transform(Content(content.item_ids, blocks, content.records))

        return Over(fusion, known)

    assert kinds(of(fit, data)) == ["fit_reads_new_items"]


def test_a_fit_that_is_never_the_same(data: EvaluationData) -> None:
    def fit(own: EvaluationData, seed: int) -> Model:
        return methods.RandomModel(int(np.random.default_rng().integers(1 << 40)))

    assert kinds(of(fit, data)) == ["not_repeatable"]


def test_every_kind_is_planted() -> None:
    """What this file asserts by name is all there is."""
    text = Path(__file__).read_text()
    assert [kind for kind in leaks.KINDS if f'"{kind}"' not in text] == []


def test_a_leak_fails_the_run(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(data: EvaluationData, seed: int) -> Model:
        histories = data.split.interactions.where(data.split.row_part == TEST).matrix()
        items = np.asarray(histories.sum(axis=0)).reshape(-1, 1).astype(np.float32)

        def ones(own: csr_matrix) -> np.ndarray:
            return np.ones((own.shape[0], 1), np.float32)

        return VectorsByName({name: place for place, name in enumerate(data.content.item_ids)}, items, ones, seed)

    planted = Method("popularity", "popularity", "baseline", fit)
    monkeypatch.setattr(module, "_BASELINES", (planted,))
    with pytest.raises(leaks.LeakError) as caught:
        evaluate(small.interactions, small.content, "items", EvaluateSettings(methods=("popularity",), draws=50))
    assert str(caught.value) == (
        "1 leak, so that no figure would be true: fit_reads_test_rows in popularity: a fit changes with the test rows "
        "(seed 0 answered otherwise when they were changed)"
    )
    assert kinds(list(caught.value.leaks)) == ["fit_reads_test_rows"]
