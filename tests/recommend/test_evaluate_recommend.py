"""The whole evaluation on a small made-up world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from behaviour_world import World, world
from scipy.sparse import csr_matrix

from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend.evaluate import EvaluateSettings, build_split, evaluate
from coldstart.recommend.evaluate.data import build_data, exclude_near_duplicates, near_duplicate_groups
from coldstart.recommend.evaluate.leaks import FIT_KINDS
from coldstart.recommend.evaluate.measures import build_task, evaluate_model
from coldstart.recommend.evaluate.methods import select_methods
from coldstart.recommend.evaluate.page import markdown
from coldstart.recommend.evaluate.splits import split_by_items
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.selection import SelectionSettings

METHODS = ("random", "popularity", "category", "content_mean", "knn", "ridge", "oracle")
WHITE = {"power": 0.5}  # the made-up world shows its factors in all directions alike
SETTINGS = EvaluateSettings(methods=METHODS, teacher="pure_svd", dim=24, draws=300, seeds=3, fusing=WHITE)


@pytest.fixture(scope="module")
def known() -> World:
    return world()


@pytest.fixture(scope="module")
def found(known: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("split")
    return evaluate(known.interactions, known.content, "coldrec", SETTINGS, folder=folder).to_dict()


def value(found: dict[str, Any], method: str, name: str = "cold", measure: str = "ndcg@20") -> float:
    return float(found["methods"][method]["sets"][name][measure]["value"])


@pytest.mark.slow
def test_content_predicts_likes_and_the_ceiling_is_above_all(found: dict[str, Any]) -> None:
    order = [value(found, method) for method in ("random", "category", "ridge", "oracle")]
    assert order == sorted(order)
    difference = found["methods"]["category"]["sets"]["cold"]["ndcg@20"]["difference"]
    assert difference["high"] < 0
    assert difference["p"] <= difference["p_holm"] < 0.05
    assert found["reference"] == "knn"
    assert "difference" not in found["methods"]["knn"]["sets"]["cold"]["ndcg@20"]
    assert value(found, "popularity", "warm") > value(found, "random", "warm")
    assert value(found, "popularity") == pytest.approx(value(found, "random"), abs=0.1)


@pytest.mark.slow
def test_the_report_has_all_fields(found: dict[str, Any]) -> None:
    json.dumps(found, allow_nan=False)
    assert set(found["counts"]["sets"]) == {"cold", "warm", "all"}
    for own in found["methods"].values():
        for name in found["counts"]["sets"]:
            for measure in ("recall", "ndcg", "mrr", "hit"):
                for k in (10, 20, 50):
                    cell = own["sets"][name][f"{measure}@{k}"]
                    assert cell["low"] <= cell["value"] + 1e-9
                    assert cell["value"] - 1e-9 <= cell["high"]
                    assert cell[cell["over"]] == [cell["low"], cell["high"]]
            assert set(own["lists"][name]) == {"coverage", "gini", "diversity", "novelty", "cold"}
        assert 0 <= own["audience"]["value"] <= 1
    assert found["methods"]["random"]["sets"]["cold"]["ndcg@20"]["seeds"]["count"] == 3
    assert found["methods"]["ridge"]["sets"]["cold"]["ndcg@20"]["seeds"] is None
    assert 0 < found["cold_share"] < 1
    assert found["methods"]["popularity"]["lists"]["all"]["cold"] == 0
    assert found["methods"]["oracle"]["sets"]["cold"]["recall@10"]["value"] <= 1
    assert found["methods"]["oracle"]["sets"]["warm"]["recall@20"]["gap"] == 1
    for name, of in found["counts"]["sets"].items():
        top, groups = found["most_liked"][name], found["popularity"][name]
        assert len(top["items"]) == 5 and top["relevant"] == pytest.approx((1 - top["share"]) * of["relevant"])
        assert not groups or sum(one["relevant"] for one in groups) == of["relevant"]
        for own in found["methods"].values():
            rest = own["rest"][name]["ndcg@20"]
            assert rest["low"] <= rest["value"] <= rest["high"]
            assert len(own["found"][name]) == len(groups)
    assert sum(map(len, found["popularity"].values())) > 0
    strata = found["methods"]["ridge"]["strata"]
    assert sum(one["users"] for one in strata["users"]) == found["counts"]["sets"]["cold"]["users"]
    assert [(one["space"], one["present"]) for one in strata["items"]] == [
        ("picture", True),
        ("picture", False),
        ("text", True),
    ]


@pytest.mark.slow
def test_lists_are_full_and_hold_nothing_that_was_met(known: World) -> None:
    """Recall by hand, from all scores of a user."""
    split = build_split(known.interactions, known.content, "coldrec", SETTINGS)
    data = build_data(split, known.content, teacher="pure_svd", dim=24)
    task = build_task(data, known.content.blocks["text"], ks=(10,), audience_k=10, early=50)
    model = select_methods(["content_mean"])[0].fit_on(data, 0)
    got = evaluate_model(model, data, task).values["all"]["recall@10"]
    scores = model.users(task.histories) @ model.items(known.content).T
    for row in range(len(task.users)):
        own = scores[row].copy()
        own[~(data.cold | split.warm)] = -np.inf
        own[task.met[[row]].indices] = -np.inf
        liked = set(task.relevant[[row]].indices)
        assert got[row] == pytest.approx(len(liked & set(np.argsort(-own)[:10])) / min(10, len(liked)))


@pytest.mark.slow
def test_scores_that_are_no_product_are_ranked_alike(known: World) -> None:
    data = build_data(
        build_split(known.interactions, known.content, "items", SETTINGS), known.content, teacher="pure_svd"
    )
    task = build_task(data, known.content.blocks["text"], ks=(10,), audience_k=10, early=50)
    model = select_methods(["content_mean"])[0].fit_on(data, 0)

    class Slow:
        def items(self, content: Content) -> np.ndarray:
            return model.items(content)

        def scores(self, items: np.ndarray, histories: Any) -> np.ndarray:
            return np.asarray(model.users(histories) @ items.T)

    fast, slow = evaluate_model(model, data, task), evaluate_model(Slow(), data, task)  # type: ignore[arg-type]
    assert np.array_equal(fast.values["cold"]["ndcg@10"], slow.values["cold"]["ndcg@10"], equal_nan=True)
    assert fast.audience.tolist() == slow.audience.tolist()
    assert len(fast.audience) == len(task.audience_items) > 20


@pytest.mark.slow
def test_the_audience_of_an_item_by_hand(known: World) -> None:
    split = build_split(known.interactions, known.content, "items", SETTINGS)
    data = build_data(split, known.content, teacher="pure_svd", dim=24)
    task = build_task(data, known.content.blocks["text"], ks=(10,), audience_k=1000, early=3)
    assert task.audience_k == 12
    model = select_methods(["ridge"])[0].fit_on(data, 0)
    scores = model.items(known.content)[task.audience_items] @ model.users(task.audience_histories).T
    lists = np.argsort(-scores, axis=1)[:, :12].astype(np.int64)
    expected = measure_lists(lists, task.audience, [12])["recall@12"]
    assert evaluate_model(model, data, task).audience == pytest.approx(expected)
    assert np.diff(task.audience.indptr).max() == 3


@pytest.mark.slow
def test_validation_is_evaluated_without_the_test(known: World) -> None:
    valid = evaluate(known.interactions, known.content, "items", replace(SETTINGS, part="valid", methods=METHODS[:4]))
    assert valid.split["part"] == "valid"
    assert valid.counts["sets"]["cold"]["candidates"] == valid.split["counts"]["items_cold_valid"]
    assert set(valid.counts["sets"]) == {"cold"}
    with pytest.raises(ColdstartError, match=r"^there is no part 'train' to evaluate: choose one of valid, test$"):
        evaluate(known.interactions, known.content, "items", replace(SETTINGS, part="train"))


@pytest.mark.slow
def test_by_time_with_the_check_and_without_gives_the_same(known: World) -> None:
    few = replace(SETTINGS, methods=("content_mean", "ridge"), draws=50)
    checked = evaluate(known.interactions, known.content, "time", few).to_dict()
    quick = evaluate(known.interactions, known.content, "time", replace(few, check=False)).to_dict()
    assert set(checked["checked"]) - set(quick["checked"]) == set(FIT_KINDS)
    for own in (checked, quick):
        own.pop("checked"), own.pop("settings")
        for method in own["methods"].values():
            method.pop("fit_s")
    assert checked == quick
    assert checked["reference"] == "content_mean"


@pytest.mark.slow
def test_methods_that_cannot_be_fitted_are_named(known: World) -> None:
    rows = replace(known.interactions, times=np.zeros_like(known.interactions.times))
    found = evaluate(rows, known.content, "items", replace(SETTINGS, methods=("random", "recent"), draws=50))
    assert found.left_out == {"recent": "the training rows have no times that differ"}
    assert "Left out: recent: the training rows have no times that differ." in markdown(found.to_dict())


def test_a_method_or_split_that_is_not_there(known: World) -> None:
    message = r"^there is no method 'magic' \(did you mean 'marec'\?\): choose among random, popularity, recent, "
    with pytest.raises(ColdstartError, match=message):
        evaluate(known.interactions, known.content, "items", replace(SETTINGS, methods=("magic",)))
    with pytest.raises(ColdstartError, match=r"^there is no split 'last': choose one of time, items, coldrec$"):
        evaluate(known.interactions, known.content, "last", SETTINGS)


def test_near_copies_fall_on_one_side_and_out_of_a_test(known: World) -> None:
    rng = np.random.default_rng(0)
    text = known.content.blocks["text"].copy()
    text[1::2] = text[::2] + 0.001 * rng.normal(size=text[::2].shape)
    content = Content(known.content.item_ids, {"text": text}, known.content.records)
    groups = near_duplicate_groups(content)
    assert (groups[::2] == groups[1::2]).all()
    split = build_split(known.interactions, content, "items", SETTINGS)
    assert split.settings["near_duplicates"] == 0
    apart = exclude_near_duplicates(split_by_items(known.interactions), content)
    assert apart.settings["near_duplicates"] > 20
    warm, cold = apart.warm, apart.cold("test") | apart.cold("valid")
    assert not (cold[::2] & warm[1::2]).any()


def test_a_picture_that_all_share_makes_no_copies(known: World) -> None:
    blocks = {"picture": np.ones((160, 4), np.float32)}
    content = Content(known.content.item_ids, blocks, known.content.records)
    assert len(np.unique(near_duplicate_groups(content))) == 160


def test_the_table_as_markdown(found: dict[str, Any]) -> None:
    text = markdown(found)
    assert text.startswith(f"Split `coldrec`, part `test`, digest `{found['split']['digest']}`: ")
    for title in ("New items", "Training items", "Both together"):
        assert f"### {title}: " in text
    for own in found["methods"].values():
        assert sum(line.startswith(f"| {own['title']} |") for line in text.splitlines()) == 3
    assert text.count("| recall@20 without the 5 most liked |") == 3
    assert text.count("\n| likes of an item | items | likes |") == sum(map(bool, found["popularity"].values()))
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    groups = sum(2 + len(own) for own in found["popularity"].values() if own)
    assert len(lines) == 3 * (2 + len(METHODS)) + groups


def test_names_cannot_break_the_table(found: dict[str, Any]) -> None:
    own = json.loads(json.dumps(found))
    own["methods"]["ridge"]["title"] = "a | b\nc"
    assert "| a \\| b c |" in markdown(own)


@pytest.mark.slow
def test_a_split_is_kept_in_a_folder(known: World, tmp_path: Path) -> None:
    few = replace(SETTINGS, methods=("random",), draws=20)
    first = evaluate(known.interactions, known.content, "items", few, folder=tmp_path)
    about = json.loads((tmp_path / "split.json").read_text())
    assert about["digest"] == first.split["digest"]


@pytest.mark.slow
def test_the_chosen_one_holds_near_copies_together_only_where_the_evaluation_does() -> None:
    """Items of which all are near copies in one space are one group, of which nothing can be held out."""
    made = world()
    blocks = {**made.content.blocks, "year": np.ones((len(made.content), 2), np.float32)}
    blocks["year"][:, 1] += np.arange(len(made.content)) * 1e-4
    content = Content(made.content.item_ids, blocks, made.content.records)
    settings = EvaluateSettings(
        methods=("chosen",),
        seeds=1,
        choice=SelectionSettings({"ridge": {}}, folds=1),
        check=False,
        near=None,
        draws=100,
    )
    assert not evaluate(made.interactions, content, "coldrec", settings).left_out


def test_new_items_that_only_users_without_a_history_like_are_no_set(known: World) -> None:
    split = split_by_items(known.interactions, seed=0)
    data = build_data(split, known.content)
    new, warm = np.flatnonzero(data.cold), np.flatnonzero(split.warm)
    histories = np.diff(data.histories.indptr) > 0
    likes = np.zeros(data.relevant.shape, np.float32)
    stranger, regular = 0, int(np.flatnonzero(histories)[-1])
    likes[stranger, new[0]], likes[regular, warm[0]] = 1, 1
    own = data.histories.tolil()
    own[stranger] = 0
    other = replace(data, relevant=csr_matrix(likes), histories=own.tocsr())
    assert set(other.candidates()) == {"warm", "all"}
