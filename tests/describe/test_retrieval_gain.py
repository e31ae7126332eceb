"""Test the retrieval gain of descriptions: ranks computed by hand over words as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.describe.evaluate.retrieval_gain import Gallery, retrieval_gain

WORDS = ("red", "blue", "shoe", "bag", "acme")


def bag(texts: Sequence[str]) -> NDArray[np.float32]:
    """Texts as unit vectors of the words they have."""
    counts = np.asarray([[text.lower().split().count(word) for word in WORDS] for text in texts], np.float32)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


GALLERY = Gallery(
    texts={
        "given": ["acme", "acme", "acme", "acme"],
        "written": ["red shoe", "blue shoe", "red bag", ""],
    },
    queries=["red shoe", "Blue  Shoe", "red bag", "blue bag"],
    likeness=["shoe", "shoe", "bag", "bag"],
    groups=[0, 1, 2, 3],
    asking=[True] * 4,
)


def test_a_text_asks_for_its_item() -> None:
    found = retrieval_gain(GALLERY, [("given", "written")], bag, bag)["text_to_item"]
    given, written = (found["contenders"][name] for name in ("given", "written"))
    assert (found["queries"], found["gallery"]) == (4, 4)
    assert given["recall_at_1"]["value"] == 0  # all alike: ties count against
    assert (given["median_rank"], given["indexed"]) == (4.0, 4)
    assert (written["recall_at_1"]["value"], written["recall_at_1"]["n"]) == (0.75, 4)
    assert written["recall_at_1"]["chance"] == 0.25
    assert (written["recall_at_10"]["value"], written["indexed"]) == (1.0, 3)  # what has no text is last, of four
    (change,) = found["differences"]
    assert (change["before"], change["after"], change["recall_at_1"]["value"]) == ("given", "written", 0.75)
    assert change["recall_at_1"]["low"] > 0


def test_items_of_one_text_are_right_for_each_other() -> None:
    same = replace(GALLERY, queries=["red shoe", "RED shoe", None, None])
    found = retrieval_gain(same, [], bag, bag)["text_to_item"]
    assert found["queries"] == 2
    assert found["contenders"]["written"]["recall_at_1"]["value"] == 1.0
    assert found["contenders"]["given"]["median_rank"] == 3.0  # two of four are right, and two wrong ones tie


def test_an_item_asks_for_others_of_its_likeness_and_never_finds_itself() -> None:
    texts = {"written": ["red shoe", "blue shoe", "red bag", "red bag acme"]}
    found = retrieval_gain(replace(GALLERY, texts=texts), [], bag, bag)["item_to_item"]
    assert (found["queries"], found["gallery"]) == (4, 3)
    own = found["contenders"]["written"]
    # red shoe: blue shoe ties with red bag and comes after it; both bags find each other; blue shoe finds red shoe
    assert own["recall_at_1"]["value"] == 0.75
    assert own["recall_at_1"]["chance"] == pytest.approx(1 / 3)


def test_an_item_without_a_text_finds_nothing_and_is_not_found() -> None:
    found = retrieval_gain(GALLERY, [], bag, bag)["item_to_item"]["contenders"]["written"]
    assert found["indexed"] == 3
    assert found["recall_at_1"]["value"] == 0.25  # blue shoe alone; red shoe finds red bag as soon


def test_distractors_answer_and_do_not_ask() -> None:
    found = retrieval_gain(replace(GALLERY, asking=[True, False, False, False]), [], bag, bag)
    assert (found["text_to_item"]["queries"], found["text_to_item"]["gallery"]) == (1, 4)
    assert found["item_to_item"]["queries"] == 1


def test_without_queries_there_is_no_figure() -> None:
    silent = replace(GALLERY, queries=[None] * 4, likeness=["a", "b", None, None])
    assert retrieval_gain(silent, [], bag, bag) == {"text_to_item": None, "item_to_item": None}


def test_without_any_text_all_are_last() -> None:
    found = retrieval_gain(replace(GALLERY, texts={"given": [" "] * 4}), [], bag, bag)["text_to_item"]["contenders"][
        "given"
    ]
    assert (found["recall_at_1"]["value"], found["median_rank"], found["indexed"]) == (0.0, 4.0, 0)


@pytest.mark.parametrize("name", ["text_to_item", "item_to_item"])
def test_two_runs_agree(name: str) -> None:
    assert (
        retrieval_gain(GALLERY, [("given", "written")], bag, bag)[name]
        == retrieval_gain(GALLERY, [("given", "written")], bag, bag)[name]
    )
