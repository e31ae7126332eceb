"""Test visual attributes, the order of their classifiers, and that saved evidence is loaded the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart.core.attributes import Attributes
from coldstart.describe.visual_classifiers import Classifier, HeldOutScores
from coldstart.describe.visual_evidence import (
    EVIDENCE_FILE,
    AttributeClassifiers,
    SpacePictures,
    VisualAttribute,
    VisualEvidence,
    fit_visual_evidence,
    load_visual_evidence,
    stated_values,
    visual_attributes,
)
from coldstart.embed.zero_shot import Vectors

WORTH = HeldOutScores(100, 0.9, 0.95, (0.9, 0.98), 0.8)
COLOURS = ("red", "green", "blue")


def attributes(**named: Any) -> Attributes:
    return Attributes.model_validate({"default": named})


def row(item: str, category: str | None = None, **own: Any) -> dict[str, Any]:
    return {"item_id": item, "category": category, "creator": None, "attributes": own}


def test_values_of_all_categories_make_one_question() -> None:
    schema = Attributes.model_validate(
        {
            "hats": {"colour": {"values": ["Red", "Grey"], "visual": True, "aliases": {"Grey": ["gray"]}}},
            "default": {
                "colour": {"values": ["grey", "Green"], "visual": True, "aliases": {"Green": ["olive", "lime"]}},
                "price": {},
            },
        }
    )
    rows = [
        row("a", "hats", colour="GRAY"), row("b", None, colour="lime"), row("c", "hats", colour="Green"),
        row("d", "shoes", colour="grey"), row("e", "shoes", size="9"),
    ]  # fmt: skip
    recorded = stated_values(schema, rows)
    assert recorded == {
        "colour": {"a": ("Grey", True), "b": ("Green", True), "c": ("Green", False), "d": ("grey", True)}
    }
    (attribute,) = visual_attributes(schema, recorded)
    assert attribute == VisualAttribute(
        "colour",
        ("Red", "Grey", "Green"),
        (("Red",), ("Grey", "gray"), ("Green", "olive", "lime")),
        {"a": 1, "b": 2, "c": -1, "d": 1},
    )
    assert attribute.shares.tolist() == pytest.approx([1 / 6, 3 / 6, 2 / 6])


def test_without_a_list_a_value_is_what_three_items_state() -> None:
    schema = attributes(type={"from": "category", "visual": True})
    rows = [row("a", "Hats"), row("b", "hats"), row("c", "Hats"), row("d", "shoes"), row("e", "shoes"), row("f")]
    recorded = stated_values(schema, rows)
    (attribute,) = visual_attributes(schema, recorded)
    assert attribute == VisualAttribute("type", ("Hats",), (("Hats",),), {"a": 0, "b": 0, "c": 0, "d": -1, "e": -1})


def test_only_visual_attributes_are_used() -> None:
    schema = attributes(material={"values": ["wool"]})
    assert stated_values(schema, [row("a", material="wool")]) == {}
    assert list(visual_attributes(schema, {})) == []


def shop(count: int = 300, spread: float = 0.2) -> tuple[VisualAttribute, Vectors, Vectors]:
    """Items of three colours, their vectors, and those of the colours."""
    rng = np.random.default_rng(0)
    words = np.eye(3, 12, dtype=np.float32)
    truth = rng.integers(3, size=count)
    vectors = words[truth] + spread * rng.normal(size=(count, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = {f"i{place}": int(number) for place, number in enumerate(truth)}
    return VisualAttribute("colour", COLOURS, tuple((one,) for one in COLOURS), own), vectors, words


def space(name: str, vectors: Vectors, words: Vectors | None, requested: list[str] | None = None) -> SpacePictures:
    def encode(texts: Sequence[str]) -> Vectors:
        assert words is not None
        if requested is not None:
            requested.extend(texts)
        return words[[COLOURS.index(text.split()[-1]) for text in texts]]

    count = len(vectors)
    places = np.arange(count)
    items = [f"i{place}" for place in places]
    return SpacePictures(
        name, f"passport of {name}", items, vectors, places % 5, places % 2 == 0, encode if words is not None else None
    )


def seen(evidence: VisualEvidence, **vectors: Any) -> dict[str, dict[str, float]]:
    """Values that the pictures of one item support; space -> vector."""
    return evidence.seen_values({space: np.asarray(one, np.float32)[None] for space, one in vectors.items()}, 1)[0]


def fitted(attribute: VisualAttribute, *spaces: SpacePictures, judge: str = "auto", **settings: Any) -> VisualEvidence:
    chosen = {"template": "a photo of {}", "precision": 0.9, "min_items": 50, **settings}
    return fit_visual_evidence([attribute], spaces, judge=judge, **chosen)


def test_the_classifier_of_highest_coverage_comes_first() -> None:
    attribute, vectors, words = shop()
    blind = np.roll(words, 1, axis=0)  # words that stand for other colours
    grounds = fitted(attribute, space("likened", vectors, blind), space("seen", shop(spread=0.5)[1], words))
    kinds = [(one.space, one.kind) for one in grounds.attributes["colour"].classifiers]
    assert kinds[0] == ("likened", "probe") and ("likened", "words") not in kinds
    assert sorted(kinds[1:]) == [("seen", "probe"), ("seen", "words")]
    coverage = [one.scores.coverage for one in grounds.attributes["colour"].classifiers]
    assert coverage == sorted(coverage, reverse=True)
    assert grounds.passports == {"likened": "passport of likened", "seen": "passport of seen"}
    assert grounds.spaces == ["likened", "seen"]


def test_words_are_put_into_the_template() -> None:
    attribute, vectors, words = shop()
    requested: list[str] = []
    grounds = fitted(attribute, space("s", vectors, words, requested), judge="words", template="some {}")
    assert requested == ["some red", "some green", "some blue"]
    assert [one.kind for one in grounds.attributes["colour"].classifiers] == ["words"]
    assert fitted(attribute, space("s", vectors, None), judge="words").attributes["colour"].classifiers == ()


def test_why_no_picture_is_a_ground() -> None:
    attribute, vectors, words = shop()
    few = fitted(attribute, space("s", vectors[:49], words))
    assert few.reasons == {"colour": "49 items with a picture state it, 50 are needed"}
    one = VisualAttribute("colour", ("red",), (("red",),), dict.fromkeys(attribute.truth, 0))
    assert fitted(one, space("s", vectors, words)).reasons == {"colour": "it has 1 values to tell apart"}
    shuffled = dict(
        zip(attribute.truth, np.random.default_rng(1).permutation(list(attribute.truth.values())), strict=True)
    )
    blind = VisualAttribute(
        "colour", COLOURS, attribute.words, {item: int(number) for item, number in shuffled.items()}
    )
    found = fitted(blind, space("s", vectors, words))
    assert found.reasons == {"colour": "on 300 items no probability is right as often as 0.9"}
    assert found.attributes["colour"] == AttributeClassifiers(COLOURS, ())
    assert seen(found, s=vectors[0]) == {}


def test_an_item_is_classified_by_the_first_space_that_has_it() -> None:
    first = Classifier("one", "probe", np.array([[9, 0], [0, 0]], np.float32), np.zeros(2, np.float32), 0.6, WORTH)
    second = Classifier("two", "words", np.array([[0, 0], [0, 9]], np.float32), np.zeros(2, np.float32), 0.6, WORTH)
    grounds = VisualEvidence({"use": AttributeClassifiers(("rest", "sport"), (first, second))}, {}, {})
    here, none = np.array([1, 0], np.float32), np.zeros(2, np.float32)
    other = np.array([0, 1], np.float32)
    found = grounds.seen_values({"one": np.stack([here, none, none]), "two": np.stack([other, other, none])}, 3)
    sure = pytest.approx(1 / (1 + np.exp(-9)))
    assert found == [{"use": {"rest": sure}}, {"use": {"sport": sure}}, {}]
    assert seen(grounds, one=[0.0, 0.0], two=[0.0, 1.0]) == {"use": {"sport": sure}}
    assert seen(grounds, one=here, two=other) == {"use": {"rest": sure}}
    assert seen(grounds, one=other) == {}  # both are half likely, and the threshold is 0.6


def test_saved_evidence_is_loaded_the_same(tmp_path: Path) -> None:
    attribute, vectors, words = shop()
    aloof = VisualAttribute("../shape", ("round", "square"), (("round",), ("square",)), {})
    grounds = fit_visual_evidence(
        [attribute, aloof], [space("s", vectors, words)], judge="auto", template="{}", precision=0.9, min_items=50
    )
    files = grounds.files()
    assert sorted(files) == [EVIDENCE_FILE, "judge-0.npy", "judge-1.npy"]
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    again = load_visual_evidence(tmp_path)
    assert again.seen_values({"s": vectors}, 300) == grounds.seen_values({"s": vectors}, 300)
    assert again.reasons == {"../shape": "0 items with a picture state it, 50 are needed"}
    assert again.passports == grounds.passports and again.files() == files
    assert [one.scores for one in again.attributes["colour"].classifiers] == [
        one.scores for one in grounds.attributes["colour"].classifiers
    ]
