"""Evaluation of seen and unseen groups among all items, over features and heads made by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coldstart.align.unseen import PARTS, evaluate_unseen
from coldstart.encoders._heads import AlignedHeads, Heads, HeadShape, Tower

SEEN, NEW = 20, 10  # groups of two items each
WIDTH = SEEN + NEW


def heads(text: NDArray[Any] | None = None) -> AlignedHeads:
    """Heads that keep a vector as it is, or turn those of texts."""
    made = Heads(HeadShape(WIDTH, WIDTH), HeadShape(WIDTH, WIDTH))
    for head, weights in ((made.image, None), (made.text, text)):
        assert head.direct is not None
        with torch.no_grad():
            head.direct.weight.copy_(torch.tensor(np.eye(WIDTH) if weights is None else weights))
    return AlignedHeads({side: Tower("fake", {}) for side in ("image", "text")}, made.requires_grad_(False).eval())


@dataclass
class Made:
    """Two items a group, each with a picture along the group's axis, and one title a group."""

    seen_split: tuple[str, str] = ("train", "seen")

    def __post_init__(self) -> None:
        self.groups = np.repeat(np.arange(WIDTH), 2)
        self.copies = np.arange(2 * WIDTH)
        self.item_ids = [f"item {place}" for place in range(2 * WIDTH)]
        self.split = [*self.seen_split] * SEEN + ["test"] * 2 * NEW
        self.images = np.eye(WIDTH, dtype=np.float16)[self.groups]
        self.image_items = self.text_items = np.arange(2 * WIDTH)
        self.texts = self.images.copy()
        self.text_views = ["title"] * 2 * WIDTH


def drawn_to_seen(share: float) -> NDArray[Any]:
    """Turn the titles of some unseen groups to those of seen ones, with which they tie."""
    turned = np.eye(WIDTH)
    for place in range(SEEN, SEEN + round(NEW * share)):
        turned[place, place] = 0
        turned[(place + 1 - SEEN) % SEEN, place] = 1
    return turned


def test_unseen_groups_are_ranked_among_all_and_compared_with_before() -> None:
    report = evaluate_unseen(Made(), heads(), heads(drawn_to_seen(0.5)), view="title", labels={})
    assert report is not None
    assert report["seen_trained_on"]  # 20 items of seen groups are too few, so those that were trained on are queries
    assert report["gallery"] == {"pictures": 60, "texts": 30}  # each title once
    found = report["directions"]["image_to_text"]
    assert tuple(found) == PARTS
    assert (found["seen"]["n"], found["unseen"]["n"], found["unseen"]["groups"]) == (20, 20, 10)
    ten_of_ten = {"value": 1, "low": pytest.approx(0.7225, abs=1e-4), "high": 1}  # Wilson, over groups
    assert found["unseen"]["after"]["recall_at_1"] == ten_of_ten
    assert found["unseen"]["before"]["recall_at_1"]["value"] == 0.5
    assert found["unseen"]["difference"]["recall_at_1"]["value"] == 0.5
    assert found["seen"]["before"]["recall_at_1"]["value"] == 0.75  # five of their titles tie with turned ones
    assert found["harmonic"]["before"]["recall_at_1"]["value"] == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    low, high = (found["harmonic"]["before"]["recall_at_1"][side] for side in ("low", "high"))
    assert low < 0.6 < high
    assert found["drawn"]["after"]["share"]["value"] == 0
    assert found["drawn"]["before"]["share"]["value"] == 0.5
    back = report["directions"]["text_to_image"]
    assert (back["seen"]["n"], back["unseen"]["n"]) == (20, 10)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_seen_groups_are_judged_by_pictures_that_were_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldstart.align.unseen.FEWEST_COMPARED", 20)
    features = Made()
    features.images[1] = features.images[2]  # the held-out picture of the first product looks like the second one
    report = evaluate_unseen(features, heads(), None, view="title")
    assert report is not None and not report["seen_trained_on"]
    found = report["directions"]
    assert found["image_to_text"]["seen"]["after"]["recall_at_1"]["value"] == pytest.approx(19 / 20)
    assert found["text_to_image"]["seen"]["after"]["recall_at_1"]["value"] == pytest.approx(18 / 20)  # and back
    assert found["image_to_text"]["seen"]["before"] is None


def test_other_pictures_of_a_product_are_found_and_copies_do_not_count() -> None:
    features = Made()
    features.copies[2 * SEEN + 1] = features.copies[2 * SEEN]  # both pictures of one unseen product are one
    report = evaluate_unseen(features, heads(), None, view="title")
    assert report is not None
    assert (report["images"]["unseen"]["n"], report["images"]["unseen"]["groups"]) == (18, 9)
    assert report["images"]["unseen"]["after"]["recall_at_1"]["value"] == 1
    assert report["images"]["unseen"]["difference"]["mrr"]["value"] == 0
    features.copies = np.repeat(np.arange(WIDTH), 2)
    alone = evaluate_unseen(features, heads(), None, view="title")
    assert alone is not None and alone["images"] is None


def test_classes_that_were_held_out_whole_stand_apart() -> None:
    features = Made()
    labels = [f"class {group}" if group >= SEEN + 6 else "known" for group in features.groups.tolist()]
    report = evaluate_unseen(features, heads(drawn_to_seen(0.6)), None, view="title", labels={"category": labels})
    assert report is not None
    found = report["classes"]["category"]
    assert found["values"] == ["class 26", "class 27", "class 28", "class 29"]
    assert found["directions"]["image_to_text"]["unseen"]["n"] == 8
    assert found["directions"]["image_to_text"]["unseen"]["after"]["recall_at_1"]["value"] == 1
    assert report["directions"]["image_to_text"]["unseen"]["after"]["recall_at_1"]["value"] == pytest.approx(0.4)
    nothing = evaluate_unseen(features, heads(), None, view="title", labels={"category": ["known"] * 2 * WIDTH})
    assert nothing is not None and nothing["classes"] == {}


def test_without_held_out_or_trained_items_there_is_no_comparison() -> None:
    features = Made()
    features.split = ["train"] * 2 * WIDTH
    assert evaluate_unseen(features, heads(), None, view="title") is None
    features.split = ["test"] * 2 * WIDTH
    assert evaluate_unseen(features, heads(), None, view="title") is None
