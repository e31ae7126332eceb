"""Leaks planted one a kind: each is found, and distinguished from the others; a clean evaluation has none."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import leaky_fits
import numpy as np
import pytest
from behaviour_world import World, world

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError, LeakError
from coldstart.recommend.evaluate import EvaluateSettings, evaluate, fit_check, leaks, splits
from coldstart.recommend.evaluate import splits as split_file
from coldstart.recommend.evaluate.data import ANSWERS, EvaluationData, build_data
from coldstart.recommend.evaluate.methods import Method, select_methods
from coldstart.recommend.evaluate.splits import TEST, TRAIN, VALID
from coldstart.recommend.model.fusion import Content

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["time", "coldrec"])
def test_a_clean_evaluation_has_none(kind: str, data: EvaluationData, by_item: EvaluationData, tmp_path: Path) -> None:
    own = data if kind == "time" else by_item
    split_file.write_split(own.split, tmp_path)
    assert leaks.check_data(own, folder=tmp_path) == []
    check = fit_check.FitCheck(own)
    names = HONEST if kind == "coldrec" else HONEST[:-2]  # without those that load torch
    for contender in [*select_methods(names), planted("mine", leaky_fits.honest)]:
        check.add(contender)
        check.ask(contender, contender.fit_on(own, 0))
    assert check.finish() == []
    assert len(check.answers) == len(names) + 1


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


def test_the_window_holds_training_data_alone(by_item: EvaluationData) -> None:
    window = by_item.window.fresh()
    assert not np.isin(window.training.items, np.flatnonzero(~by_item.split.warm)).any()
    assert window.content.item_ids == tuple(by_item.content.item_ids[place] for place in by_item.warm_places)
    assert not any(hasattr(window, name) for name in ANSWERS)
    assert window.refused == set(ANSWERS)


def planted(name: str, fit: Any) -> Method:
    return Method(name, name, "baseline", fit)


def found_in(small: World, *given: Method) -> dict[str, leaks.Leak]:
    """Evaluate methods of the caller, and return the leaks by method."""
    with pytest.raises(LeakError) as caught:
        evaluate(small.interactions, small.content, "items", EvaluateSettings(methods=(), draws=20), own=given)
    return {one.where: one for one in caught.value.leaks}


def test_a_fit_that_asks_for_the_answers(small: World) -> None:
    found = found_in(
        small,
        planted("relevant", leaky_fits.reads_relevant),
        planted("met", leaky_fits.reads_met),
        planted("histories", leaky_fits.reads_histories_if_it_can),
    )
    assert [(name, one.kind, one.detail) for name, one in found.items()] == [
        (name, "fit_reads_answers", name) for name in ("relevant", "met", "histories")
    ]


def test_a_method_that_carries_data(small: World) -> None:
    rows = small.interactions
    counts = rows.counts()
    by_name = dict(zip(rows.item_ids, counts.tolist(), strict=True))
    few = dict(list(by_name.items())[:20])
    found = found_in(
        small,
        planted("closure", leaky_fits.closure_over(rows)),
        planted("argument", partial(leaky_fits.counts_of, rows=rows)),
        planted("array", leaky_fits.Carrying(counts)),
        planted("matrix", leaky_fits.Carrying(rows.matrix())),
        planted("dictionary", leaky_fits.Carrying(by_name)),
        planted("names", leaky_fits.Carrying(few)),
        planted("text", leaky_fits.Carrying(",".join(rows.item_ids * 20))),
    )
    assert {one.kind for one in found.values()} == {"fit_carries_data"}
    assert {name: one.detail for name, one in found.items()} == {
        "closure": "Interactions of 720 rows in its closure as 'rows', tuple of 80 entries in its closure as 'rows', "
        "ndarray 720 in its closure as 'rows' and 1 more",
        "argument": "Interactions of 720 rows, tuple of 80 entries, ndarray 720 and 1 more",
        "array": "ndarray 80",
        "matrix": "csr_matrix 60 x 80, ndarray 720",
        "dictionary": "dict of 80 entries, the ids of 80 items or users, 'item-0000' among them",
        "names": "the ids of 20 items or users, 'item-0000' among them",
        "text": "a text of 15,999 characters",
    }


def test_a_method_that_cannot_be_restored_elsewhere(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "ReadsFile", leaky_fits.ReadsFile, raising=False)
    monkeypatch.setattr(leaky_fits.ReadsFile, "__module__", "__main__")
    found = found_in(
        small,
        planted("local", leaky_fits.without_data()),
        planted("script", leaky_fits.ReadsFile(Path("counts.npy"))),
    )
    assert {one.kind for one in found.values()} == {"fit_cannot_be_checked"}
    assert found["local"].detail.startswith("it cannot be pickled: ")
    assert found["script"].detail == "ReadsFile is defined in __main__"


@pytest.mark.slow
def test_a_fit_that_reads_what_its_window_lacks(small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module state, the memory of the process, a file, a program; and the honest ones among them stay unnamed."""
    counts = small.interactions.counts()
    monkeypatch.setitem(leaky_fits.STATE, "counts", counts)
    np.save(tmp_path / "counts.npy", counts)
    (tmp_path / "counts.txt").write_text(" ".join(map(str, counts)))
    found = found_in(
        small,
        planted("state", leaky_fits.has_module_state),
        planted("honest", leaky_fits.honest),
        planted("stack", leaky_fits.searches_the_stack),
        planted("file", leaky_fits.ReadsFile(tmp_path / "counts.npy")),
        planted("program", leaky_fits.StartsProcess(tmp_path / "counts.txt")),
        planted("chance", leaky_fits.never_the_same),
    )
    assert {name: one.kind for name, one in found.items()} == {
        "state": "fit_has_state",
        "stack": "fit_has_state",
        "file": "fit_reads_files",
        "program": "fit_reads_files",
        "chance": "not_repeatable",
    }
    assert found["file"].detail == f"opened {tmp_path / 'counts.npy'}"
    assert found["program"].detail == "started cat"
    assert found["state"].detail.endswith("% of the compared lists")


def test_a_model_that_learns_from_queries(small: World) -> None:
    found = found_in(small, planted("centred", leaky_fits.learns_from_queries))
    assert kinds(list(found.values())) == ["answers_depend_on_queries"]


def test_a_fresh_process_that_dies(by_item: EvaluationData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_check, "_CHILD", "import sys; sys.exit('no memory is left')")
    check = fit_check.FitCheck(by_item)
    method = planted("honest", leaky_fits.honest)
    check.add(method)
    check.ask(method, method.fit_on(by_item, 0))
    assert check.finish() == [
        leaks.Leak(
            "fit_cannot_be_checked",
            "honest",
            "a fresh process could not restore it: the process ended with code 1: no memory is left",
        )
    ]


@pytest.mark.slow
def test_the_ceiling_may_and_no_other(by_item: EvaluationData, small: World) -> None:
    oracle = select_methods(["oracle"])[0]
    check = fit_check.FitCheck(by_item)
    check.add(oracle)
    check.ask(oracle, oracle.fit_on(by_item, 0))
    assert check.finish() == []
    own = replace(planted("mine", leaky_fits.reads_relevant), sees_test=True)
    with pytest.raises(ColdstartError, match=r"^method 'mine' wants to see the test: only the ceiling may$"):
        evaluate(small.interactions, small.content, "items", EvaluateSettings(methods=()), own=[own])


def test_every_kind_is_planted() -> None:
    """What this file asserts by name is all there is."""
    text = Path(__file__).read_text()
    assert [kind for kind in leaks.KINDS if f'"{kind}"' not in text] == []


def test_a_leak_fails_the_run(small: World) -> None:
    settings = EvaluateSettings(methods=("popularity",), draws=50)
    mine = planted("mine", leaky_fits.reads_relevant)
    with pytest.raises(LeakError) as caught:
        evaluate(small.interactions, small.content, "items", settings, own=[mine])
    assert str(caught.value) == (
        "1 leak, so that no figure would be true: fit_reads_answers in mine: a fit asks for data of the evaluated part "
        "(relevant): fit on `training` and `content` of the window alone"
    )
    with pytest.raises(ColdstartError, match=r"^there is already a method 'popularity': name this one otherwise$"):
        evaluate(small.interactions, small.content, "items", settings, own=[planted("popularity", leaky_fits.honest)])


def test_each_kind_has_a_next_step() -> None:
    assert set(leaks.NEXT_STEPS) == set(leaks.KINDS)
