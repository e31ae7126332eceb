"""Evaluation of alignment: retrieval, classes by name and changes on numbers made by hand, query items, and the
command over a fitted workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import coloured
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import coldstart
from coldstart.align.dataset import Features
from coldstart.align.evaluate import _starter_clip, evaluate_split
from coldstart.align.measures import ClassVectors, compare, evaluate_space, pool
from coldstart.align.queries import ClassTexts, select_examples
from coldstart.cli import app
from coldstart.encoders._heads import PACKAGED, AlignedHeads, Head, Heads, HeadShape, Tower
from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import Interval

EYE = np.eye(6, dtype=np.float32)
ITEMS = np.arange(6)
ALONE = np.full(6, -1)


def heads(image: NDArray[Any] | None = None, text: NDArray[Any] | None = None) -> AlignedHeads:
    """Linear heads of six numbers; the identity where nothing is given."""
    made = Heads(HeadShape(6, 6), HeadShape(6, 6))
    for head, weights in ((made.image, image), (made.text, text)):
        assert head.direct is not None
        with torch.no_grad():
            head.direct.weight.copy_(torch.tensor(EYE if weights is None else weights))
    towers = {"image": Tower("starter", {}), "text": Tower("fake:6", {})}
    return AlignedHeads(towers, made.requires_grad_(False).eval(), {"items": 6, "texts": {"title": 1.0}})


SWAPPED = EYE[[1, 0, 2, 3, 4, 5]]


@dataclass
class Made:
    """Features of six items, a picture and a title each."""

    item_ids: list[str] = field(default_factory=lambda: [f"item-{place}" for place in range(6)])
    split: list[str] = field(default_factory=lambda: ["test"] * 6)
    groups: NDArray[np.int64] = field(default_factory=lambda: np.arange(6))
    images: NDArray[Any] = field(default_factory=lambda: EYE.astype(np.float16))
    image_items: NDArray[Any] = field(default_factory=lambda: ITEMS)
    texts: NDArray[Any] = field(default_factory=lambda: EYE.astype(np.float16))
    text_items: NDArray[Any] = field(default_factory=lambda: ITEMS)
    text_views: list[str] = field(default_factory=lambda: ["title"] * 6)


def message(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ColdstartError) as caught:
        evaluate_split(*arguments, **options)
    return str(caught.value)


def test_a_perfect_space_has_every_right_one_first() -> None:
    found = evaluate_space(EYE, ITEMS, EYE, ITEMS, ALONE)
    for direction in (found.image_to_text, found.text_to_image):
        assert direction.ranks.tolist() == [1] * 6
        assert direction.metrics["median_rank"] == Interval(1, 1, 1)
        assert direction.metrics["recall_at_1"] == Interval(1, pytest.approx(0.6097, abs=1e-4), 1)  # Wilson, 6 of 6
        assert direction.gallery == 6
        assert direction.chance["recall_at_1"] == pytest.approx(1 / 6)
        assert direction.chance["recall_at_10"] == 1
    assert found.shape["modality_gap"] == 0
    assert found.shape["effective_rank_image"] == pytest.approx(6)
    assert found.shape["alignment"] == 0
    assert found.zero_shot is None


def test_two_texts_that_stand_for_each_other_cost_their_pictures_a_rank() -> None:
    found = evaluate_space(EYE, ITEMS, EYE @ SWAPPED, ITEMS, ALONE)
    metrics = found.image_to_text.metrics
    assert metrics["recall_at_1"].value == pytest.approx(4 / 6)
    assert metrics["recall_at_1"].low < 4 / 6 < metrics["recall_at_1"].high
    assert found.image_to_text.ranks[2:].tolist() == [1] * 4
    assert found.image_to_text.ranks[:2].tolist() == [6, 6]  # all others tie at zero, and ties count against


def test_what_is_of_one_group_is_right_for_each_of_it() -> None:
    groups = np.array([7, 7, -1, -1, -1, -1])
    found = evaluate_space(EYE, ITEMS, EYE @ SWAPPED, ITEMS, groups)
    assert found.image_to_text.ranks.tolist() == [1] * 6
    assert found.image_to_text.chance["recall_at_1"] == pytest.approx((2 * 2 / 6 + 4 / 6) / 6)


def test_pictures_without_a_right_text_are_counted_and_no_queries() -> None:
    found = evaluate_space(EYE, ITEMS, EYE[:4], ITEMS[:4], ALONE)
    assert found.image_to_text.queries.tolist() == [0, 1, 2, 3]
    assert found.image_to_text.unanswered == 2
    assert (found.text_to_image.unanswered, found.text_to_image.gallery) == (0, 6)
    with pytest.raises(ValueError, match=r"^no picture has a right text among those given$"):
        evaluate_space(EYE[:2], ITEMS[:2], EYE[4:], ITEMS[4:], ALONE)


@pytest.mark.slow
def test_several_pictures_of_an_item_are_one_piece_of_evidence() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = np.arange(40)
    once = evaluate_space(vectors, items, vectors[::-1], items, np.full(40, -1)).image_to_text.metrics["recall_at_5"]
    often = evaluate_space(np.repeat(vectors, 4, axis=0), np.repeat(items, 4), vectors[::-1], items, np.full(40, -1))
    found = often.image_to_text.metrics["recall_at_5"]
    assert found.value == once.value
    assert (found.low, found.high) == pytest.approx((once.low, once.high), abs=0.04)  # of 160 queries it ends at .16


def test_classes_by_name_stand_beside_the_most_frequent_class() -> None:
    classes = ClassVectors(("red", "green", "blue"), EYE[:3], np.array([0, 0, 0, 1, 2, -1]))
    looks = EYE[[0, 0, 1, 1, 0, 5]]
    found = evaluate_space(looks, ITEMS, EYE, ITEMS, ALONE, classes=classes).zero_shot
    assert found is not None
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    plain = found.to_dict()
    assert plain["items"] == 5
    assert plain["accuracy"]["value"] == 3 / 5
    assert plain["accuracy"]["chance"] == pytest.approx(1 / 3)
    assert (plain["majority"]["name"], plain["majority"]["value"]) == ("red", 3 / 5)
    assert plain["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert plain["per_class"] == [
        {"name": "red", "items": 3, "accuracy": 2 / 3, "found": {"red": 2, "green": 1}},
        {"name": "green", "items": 1, "accuracy": 1.0, "found": {"green": 1}},
        {"name": "blue", "items": 1, "accuracy": 0.0, "found": {"red": 1}},
    ]


@pytest.mark.slow
def test_changes_are_paired() -> None:
    classes = ClassVectors(("a", "b"), EYE[:2], np.array([0, 1, 0, 1, -1, -1]))
    before = evaluate_space(EYE, ITEMS, EYE @ SWAPPED, ITEMS, ALONE, classes=classes)
    after = evaluate_space(EYE, ITEMS, EYE, ITEMS, ALONE, classes=replace(classes, vectors=EYE[[0, 1]]))
    changed = compare(before, after)
    assert changed["image_to_text"]["recall_at_1"].value == pytest.approx(2 / 6)
    assert changed["image_to_text"]["recall_at_1"].low >= 0
    assert changed["image_to_text"]["median_rank"].value == 0
    assert changed["zero_shot"].value == 0
    assert changed["zero_shot"].low == -changed["zero_shot"].high < -0.4  # four of four the same say little
    assert changed["shape"]["alignment"] == pytest.approx(-2 * 2 / 6)
    assert compare(after, after)["text_to_image"]["mrr"].value == 0
    with pytest.raises(ValueError, match=r"^image_to_text: the reports are of different queries or galleries$"):
        compare(before, evaluate_space(EYE[:5], ITEMS[:5], EYE, ITEMS, ALONE))


@pytest.mark.slow
def test_a_space_in_which_right_ones_come_first_gains_in_every_measure() -> None:
    swapped = evaluate_space(EYE, ITEMS, EYE @ SWAPPED, ITEMS, ALONE)
    perfect = evaluate_space(EYE, ITEMS, EYE, ITEMS, ALONE)
    changed = compare(swapped, perfect)
    for direction in ("image_to_text", "text_to_image"):
        assert changed[direction]["mrr"].value == pytest.approx(2 / 6 * 5 / 6)  # two of six rise from rank 6 to 1
        assert changed[direction]["recall_at_1"].value == pytest.approx(2 / 6)
    assert compare(perfect, swapped)["image_to_text"]["mrr"].value == pytest.approx(-2 / 6 * 5 / 6)


def test_pooled_items_have_length_one_and_those_without_vectors_say_so() -> None:
    pooled, has = pool(EYE[:3], np.array([0, 0, 2]), 4)
    assert has.tolist() == [True, False, True, False]
    assert pooled[0].tolist() == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 0, 0, 0, 0])
    assert pooled[[1, 3]].sum() == 0


def test_a_head_gives_unit_vectors_of_half_precision_ones() -> None:
    head = Head(HeadShape(6, 3, hidden=4)).requires_grad_(False)
    found = head.project(EYE.astype(np.float16))
    assert found.dtype == np.float32
    expected = torch.nn.functional.normalize(head(torch.tensor(EYE))).numpy()
    assert found == pytest.approx(expected, abs=1e-6)
    assert head.project(EYE[:0]).shape == (0, 3)


def test_sheets_show_the_worst_the_best_and_some_at_random() -> None:
    queries = np.concatenate([EYE[:4], EYE[4:5] * 0.8 + EYE[5:] * 0.6])
    right = [np.array([place]) for place in range(5)]
    found = select_examples(queries, EYE, right, np.array([1, 1, 1, 1, 1]), count=2, hits=3)
    assert [sheet.query for sheet in found["best"]] == [0, 1]
    assert found["worst"] == []
    sheet = select_examples(queries, EYE, [*right[:4], np.array([5])], np.array([1, 1, 1, 1, 2]), count=2, hits=1)[
        "worst"
    ][0]
    assert (sheet.query, sheet.rank, sheet.answer.place, sheet.answer.right) == (4, 2, 5, True)
    assert [(hit.place, hit.right) for hit in sheet.hits] == [(4, False)]
    drawn = [
        [sheet.query for sheet in select_examples(queries, EYE, right, np.ones(5), seed=7)["random"]] for _ in range(2)
    ]
    assert drawn[0] == drawn[1] == [0, 1, 2, 3, 4]


# -- query items


@pytest.mark.slow
def test_the_held_out_split_is_evaluated_before_and_after() -> None:
    features = Made(split=["test", "test", "test", "train", "valid", "train"])
    report = evaluate_split(features, heads(), heads(text=SWAPPED))
    assert (report.split, report.held_out, report.view) == ("test", True, "title")
    assert report.note == "held out: no fit has seen these items, nor others of their groups"
    assert report.counts == {
        "chosen": 3, "asked": 3, "without_text": 0, "without_image": 0, "groups": 3, "shared": 0, "left_out": 0,
        "splits": {"test": 3, "train": 2, "valid": 1},
    }  # fmt: skip
    assert report.after.image_to_text.gallery == 3
    assert report.after.image_to_text.metrics["recall_at_1"].value == 1
    assert report.before is not None and report.difference is not None
    assert report.before.image_to_text.metrics["recall_at_1"].value == pytest.approx(1 / 3)
    assert report.difference["image_to_text"]["recall_at_1"].value == pytest.approx(2 / 3)
    assert report.towers == {"image": "starter", "text": "fake:6"}
    alone = evaluate_split(features, heads())
    assert (alone.before, alone.difference) == (None, None)


@pytest.mark.parametrize(
    ("split", "note"),
    [
        ("train", "not held out: the fit was trained on these items"),
        ("valid", "not held out: the fit was stopped by these items"),
    ],
)
def test_items_that_the_fit_has_seen_are_named_as_such(split: str, note: str) -> None:
    report = evaluate_split(Made(split=[split] * 2 + ["test"] * 4), heads(), split=split)
    assert (report.held_out, report.note, report.counts["asked"]) == (False, note, 2)
    assert report.to_dict()["note"] == note


def test_items_that_came_after_the_fit_are_held_out_unless_their_group_was_not() -> None:
    features = Made(split=["test", "", "", "train", "", "valid"], groups=np.array([0, 1, 3, 3, -1, 5]))
    report = evaluate_split(features, heads())
    assert report.counts["asked"] == 3  # 0, 1 and 4
    assert report.counts["left_out"] == 1
    assert report.counts["splits"] == {"test": 1, "new": 3, "train": 1, "valid": 1}
    assert report.after.image_to_text.gallery == 3


def test_items_of_one_group_are_counted() -> None:
    report = evaluate_split(Made(groups=np.array([4, 4, 4, -1, -1, 9])), heads())
    assert (report.counts["groups"], report.counts["shared"]) == (4, 3)


def test_a_split_that_cannot_be_evaluated_is_an_error() -> None:
    features = Made(split=["train"] * 6)
    assert message(features, heads()) == (
        "split test has no item with both a picture and a text: "
        "choose another with --split, or fit on more items so that some are held out"
    )
    assert message(features, heads(), split="all") == "there is no split 'all': choose one of train, valid, test, seen"
    assert message(features, heads(), split="train", view="plot") == (
        "no item of split train has a text 'plot': there is title"
    )


@pytest.mark.slow
def test_frames_of_a_video_ask_together_and_other_texts_apart() -> None:
    features = Made(
        images=EYE[[0, 1, 1, 2]], image_items=np.array([0, 1, 1, 2]),
        texts=EYE[[0, 1, 2, 2, 1]], text_items=np.array([0, 1, 2, 1, 2]),
        text_views=["title"] * 3 + ["plot"] * 2,
    )  # fmt: skip
    report = evaluate_split(features, heads(), heads(text=SWAPPED))
    assert report.after.image_to_text.ranks.tolist() == [1, 1, 1]
    assert report.counts["asked"] == 3
    assert (report.counts["chosen"], report.counts["without_image"], report.counts["without_text"]) == (6, 3, 3)
    assert list(report.views) == ["plot"]
    assert report.views["plot"]["after"]["image_to_text"]["metrics"]["recall_at_1"]["value"] == 0
    assert list(report.views["plot"]) == ["before", "after"]
    other = evaluate_split(features, heads(), view="plot")
    assert (other.view, list(other.views), other.after.image_to_text.gallery) == ("plot", ["title"], 2)
    untitled = replace(features, text_views=["words"] * 3 + ["plot"] * 2)
    assert evaluate_split(untitled, heads()).view == "words"


def test_prompts_of_a_class_are_averaged_in_the_space_and_case_parts_no_names() -> None:
    tilted = (EYE[0] + EYE[5]) / np.sqrt(2, dtype=np.float32)
    classes = ClassTexts(
        ["Red hat", "Shoe"],
        np.stack([EYE[0], tilted, EYE[1]]),
        np.array([0, 0, 1]),
        [" red  HAT", "shoe", None, "lamp", "shoe", "red hat"],
    )
    found = evaluate_split(Made(split=["test"] * 5 + ["train"]), heads(), classes=classes).after.zero_shot
    assert found is not None
    assert found.confusion.sum() == 3  # the two others have no such class, and the last is no query
    assert found.confusion[:, 0].tolist()[0] == 1


@pytest.mark.slow
def test_the_report_is_plain_data_with_the_items_of_its_sheets() -> None:
    report = evaluate_split(Made(), heads(text=SWAPPED), heads())
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    worst = plain["sheets"]["image_to_text"]["worst"]
    assert [sheet["item_id"] for sheet in worst] == ["item-0", "item-1"]
    assert worst[0]["rank"] == 6
    assert worst[0]["hits"][0] == {"item_id": "item-1", "score": 1.0, "right": False}
    assert worst[0]["answer"] == {"item_id": "item-0", "score": 0.0, "right": True}
    assert set(report.shown()) == set(Made().item_ids)
    assert sum(bucket["queries"] for bucket in plain["after"]["image_to_text"]["ranks"]) == 6
    assert plain["after"]["image_to_text"]["ranks"][-1] == {"first": 6, "last": 6, "queries": 2}
    assert report.with_items({"item-0": {"title": "x"}}).to_dict()["items"] == {"item-0": {"title": "x"}}


@pytest.mark.slow
def test_a_fit_that_started_from_nothing_is_compared_with_the_packaged_heads() -> None:
    given = AlignedHeads.load(PACKAGED)
    wide = np.random.default_rng(0).standard_normal((6, 2000)).astype(np.float16)
    features = Features(
        **{**vars(Made()), "images": wide}, keys=[""] * 6, copies=ITEMS,
    )  # fmt: skip
    levels = replace(given, towers={**given.towers, "image": Tower("starter:levels", {"dim": 2000})})
    found = _starter_clip(levels, features)
    assert found is not None
    pooled = wide[:, :1280].astype(np.float32)
    assert found[1].images == pytest.approx(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), abs=1e-3)
    same = _starter_clip(given, features)
    assert same is not None and same[1] is features
    assert _starter_clip(heads(), features) is None


# -- the command


FAST = {"batch_size": 64, "epochs": 25, "lr": 0.01, "dropout": 0.0, "dim": 32}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    settings = coloured.settings(folder / "media", training=FAST, valid_share=0.0)
    assert not coldstart.open(folder / "w", create=True).run(settings).over_budget
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["evaluate", "align", *arguments])
    assert result.exception is None, result.output
    return result.stdout


@pytest.mark.slow
def test_the_command_prints_what_it_found_and_writes_a_page(fitted: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    printed = run("--workspace", str(fitted / "w"), "--out", str(page))
    assert printed.startswith(
        "test: 22 items, by title; held out: no fit has seen these items, nor others of their groups"
    )
    assert "Picture → text" in printed
    assert "R@10" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert any("unseen, among all 22 22" in line for line in lines)
    assert sum("too few to judge" in line for line in lines) == 8  # all but the seen ones
    assert any(
        line.startswith("among all: 100 pictures, 100 different texts by title; seen: the items") for line in lines
    )
    assert printed.splitlines()[-1] == f"page: {page}"
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.slow
def test_the_command_as_json_writes_no_page_unless_requested(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.txt").write_text("red hat\nblue hat\n")
    found = json.loads(run("-w", str(fitted / "w"), "--split", "train", "--classes", "classes.txt", "--json"))
    assert list(tmp_path.iterdir()) == [tmp_path / "classes.txt"]
    assert (found["split"], found["held_out"], found["counts"]["asked"]) == ("train", False, 78)
    recall = found["after"]["image_to_text"]["metrics"]["recall_at_10"]
    assert recall["value"] > 3 * recall["chance"]
    assert recall["low"] <= recall["value"] <= recall["high"]
    shown = {one["item_id"] for one in found["sheets"]["image_to_text"]["random"]}
    assert all(found["items"][item]["title"] and found["items"][item]["uri"] for item in shown)


def test_a_workspace_without_a_fit_names_the_command_that_makes_one(tmp_path: Path) -> None:
    coldstart.open(tmp_path / "w", create=True)
    result = CliRunner().invoke(app, ["evaluate", "align", "--workspace", str(tmp_path / "w")])
    assert isinstance(result.exception, ColdstartError)
    assert str(result.exception) == (
        f"nothing is aligned in workspace {tmp_path / 'w'}: "
        f"run `coldstart finetune align --workspace {tmp_path / 'w'}` first"
    )


@pytest.mark.slow
def test_a_fit_under_other_settings_is_not_evaluated(fitted: Path, tmp_path: Path) -> None:
    workspace = coldstart.open(fitted / "w")
    changed = workspace.pipeline(overrides=["align.text_image.training.seed=5"])
    with pytest.raises(ColdstartError) as caught:
        workspace.evaluate_align(changed)
    assert str(caught.value) == (
        "align.text_image was fitted under other settings or on other items: "
        f"run `coldstart finetune align --workspace {fitted / 'w'}` first"
    )
