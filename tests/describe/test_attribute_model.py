"""Test predictions of attributes on made items whose truth, pictures, brands and titles are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart.core.attributes import Attributes
from coldstart.describe.attribute_fit import (
    PENALTY,
    FitItems,
    RidgeSolver,
    SpacePictures,
    attribute_truths,
    fit_attribute_model,
)
from coldstart.describe.attribute_model import ARRAYS_FILE, MODEL_FILE, AttributeModel, load_attribute_model
from coldstart.describe.attribute_values import Fact, PredictedValue, facts_of, predicted_row, read_predicted
from coldstart.errors import ColdstartError

ATTRIBUTES = Attributes.model_validate(
    {
        "default": {
            "colour": {"from": "attributes.colour", "visual": True, "aliases": {"grey": ["gray"]}},
            "season": {"from": "attributes.season"},
            "use": {"from": "attributes.use", "values": ["casual", "formal"]},
        }
    }
)
COLOURS = ("red", "grey", "blue", "green")
BRANDS = {"Acme": "summer", "Birch": "winter", "Cedar": "autumn"}
DIM = 12


def made(count: int, noise: float, seed: int = 0, title: str = "hat no {}") -> tuple[list[dict[str, Any]], Any]:
    """Items of a colour that their vector shows, up to noise, and of a season that most items of a brand have."""
    draws = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(len(COLOURS), DIM))
    rows, vectors = [], []
    for number in range(count):
        colour, brand = draws.integers(len(COLOURS)), draws.choice(list(BRANDS))
        season = BRANDS[brand] if draws.random() < 0.95 else draws.choice(list(BRANDS.values()))
        stated = {"colour": COLOURS[colour], "season": str(season)}
        rows.append(
            {
                "item_id": f"i{seed}-{number}",
                "kind": "product",
                "title": title.format(number),
                "category": None,
                "creator": str(brand),
                "tags": [],
                "attributes": stated,
            }
        )
        vectors.append(centres[colour] + noise * draws.normal(size=DIM))
    found = np.array(vectors, np.float32)
    return rows, found / np.linalg.norm(found, axis=1, keepdims=True)


def parts(rows: list[dict[str, Any]], folds: Any, halves: Any) -> FitItems:
    return FitItems(rows, folds, halves, folds, halves)


def fitted(count: int = 400, noise: float = 1.5, **settings: Any) -> AttributeModel:
    rows, vectors = made(count, noise)
    items = parts(rows, np.arange(count) % 5, np.arange(count) % 2 == 1)
    space = SpacePictures("image", "p", vectors)
    return fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, [space], **settings)


@pytest.fixture(scope="module")
def model() -> AttributeModel:
    return fitted()


def test_a_record_becomes_numbers_of_values_that_enough_items_state() -> None:
    rows = [
        {"item_id": str(n), "category": None, "attributes": {"colour": c}} for n, c in enumerate(["red"] * 3 + ["x"])
    ]
    colour, season, use = attribute_truths(ATTRIBUTES, rows)
    assert colour.values == ("red",) and colour.truth == {"0": 0, "1": 0, "2": 0, "3": -1}
    assert colour.visual and not season.visual and season.truth == {}
    assert use.values == ("casual", "formal")


@pytest.mark.slow
def test_probabilities_are_calibrated_and_stated_values_reach_the_precision(model: AttributeModel) -> None:
    rows, vectors = made(1500, 1.5, seed=1)
    found = model.predict(rows, {"image": vectors}, ATTRIBUTES)
    best = [one["colour"][0] for one in found]
    right = np.array([one.value == row["attributes"]["colour"] for one, row in zip(best, rows, strict=True)])
    likely = np.array([one.probability for one in best])
    assert abs(likely.mean() - right.mean()) < 0.05
    stated = np.array([one.stated for one in best])
    assert 0.1 < stated.mean() < 0.99 and right[stated].mean() > 0.87 > right.mean() > 0.6
    assert model.predictors["colour"].with_pictures is not None
    assert abs(model.predictors["colour"].with_pictures.scores.accuracy - right.mean()) < 0.06
    assert "image" in best[int(likely.argmax())].witnesses


def test_a_brand_is_a_witness_without_pictures_and_a_new_brand_is_none(model: AttributeModel) -> None:
    rows = [{"item_id": name, "kind": "product", "creator": name} for name in (*BRANDS, "Nobody")]
    *known, new = (one["season"] for one in model.predict(rows, {}))
    assert [values[0].value for values in known] == list(BRANDS.values())
    assert all(values[0].witnesses == ("brand",) for values in known)
    assert new[0].probability < known[0][0].probability and not new[0].stated and not new[0].witnesses
    hidden = model.predict(rows, {}, given=("title",))
    assert len({values["season"][0].probability for values in hidden}) == 1


@pytest.mark.slow
def test_an_item_of_a_new_brand_is_as_sure_as_pictures_alone_allow() -> None:
    rows, vectors = made(400, 3.0)
    for row in rows:  # a brand's items are of one colour, four times of five
        if int(row["item_id"].split("-")[1]) % 5:
            row["creator"] = f"House of {row['attributes']['colour']}"
    items = parts(rows, np.arange(400) % 5, np.arange(400) // 5 % 2 == 1)
    model = fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, [SpacePictures("image", "p", vectors)])
    fresh, shown = made(800, 3.0, seed=5)
    for case, creator in (("new_brand", "Nobody"), ("with_pictures", None)):
        asked = [{**row, "creator": creator or f"House of {row['attributes']['colour']}"} for row in fresh]
        best = [one["colour"][0] for one in model.predict(asked, {"image": shown})]
        right = [one.value == row["attributes"]["colour"] for one, row in zip(best, fresh, strict=True)]
        sure = float(np.mean([one.probability for one in best]))
        if case == "new_brand":
            assert abs(sure - np.mean(right)) < 0.06 and np.mean(right) < 0.85
        else:
            assert np.mean(right) > 0.95


@pytest.mark.slow
def test_pictures_that_show_the_brand_are_no_evidence_for_a_new_one() -> None:
    draws = np.random.default_rng(7)

    def shop(brands: int, seed: int) -> tuple[list[dict[str, Any]], Any, Any]:
        """Items whose pictures show their brand alone, and whose colour is mostly that of the brand."""
        styles = np.random.default_rng(seed).normal(size=(brands, DIM))
        brand = draws.integers(brands, size=600)
        rows = made(600, 1.0)[0]
        for row, number in zip(rows, brand.tolist(), strict=True):
            row["creator"] = f"brand {seed} {number}"
            row["attributes"]["colour"] = COLOURS[number % 4 if draws.random() < 0.9 else draws.integers(4)]
        shown = (styles[brand] + 0.2 * draws.normal(size=(600, DIM))).astype(np.float32)
        return rows, shown / np.linalg.norm(shown, axis=1, keepdims=True), brand

    rows, vectors, brand = shop(40, 1)
    folds = np.arange(600) % 5
    items = FitItems(rows, folds, folds // 2 % 2 == 1, brand % 5, brand // 5 % 2 == 1)
    model = fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, [SpacePictures("image", "p", vectors)])
    fresh, shown, _ = shop(40, 2)
    best = [one["colour"][0] for one in model.predict(fresh, {"image": shown})]
    right = np.mean([one.value == row["attributes"]["colour"] for one, row in zip(best, fresh, strict=True)])
    assert np.mean([one.probability for one in best]) < right + 0.1 < 0.6
    known = [one["colour"][0].probability for one in model.predict(rows, {"image": vectors})]
    assert np.mean(known) > 0.8


def test_a_title_that_names_a_value_is_a_witness_with_or_without_pictures() -> None:
    rows, vectors = made(400, 1.0)
    for number, row in enumerate(rows):
        if number % 2:
            row["title"] = f"{row['attributes']['colour']} hat"
    items = parts(rows, np.arange(400) % 5, np.arange(400) // 2 % 2 == 1)
    model = fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, [SpacePictures("image", "p", vectors)])
    said = {"item_id": "a", "kind": "product", "title": "a gray hat", "creator": None}
    denied = {**said, "title": "a hat, not grey"}
    one, other = (values["colour"][0] for values in model.predict([said, denied], {"image": np.zeros((2, DIM))}))
    assert (one.value, one.stated, one.witnesses) == ("grey", True, ("title",)) and not other.stated
    assert not model.predict([said], {}, given=("creator",))[0]["colour"][0].stated


def test_pictures_count_only_for_visual_attributes_and_for_the_kinds_of_the_fit(model: AttributeModel) -> None:
    rows, vectors = made(50, 1.0, seed=2)
    blank = model.predict(rows, {"image": np.zeros_like(vectors)})
    video = model.predict([{**row, "kind": "video"} for row in rows], {"image": vectors})
    assert [one["colour"][0].probability for one in video] == [one["colour"][0].probability for one in blank]
    assert set(model.predictors["season"].probes) == set()
    assert model.predict(rows, {"image": vectors}, given=("creator",)) == model.predict(rows, {}, given=("creator",))


@pytest.mark.slow
def test_what_cannot_be_predicted_says_why(model: AttributeModel) -> None:
    assert model.reasons == {"use": "0 items with a usable record state it, and a fit needs 50 (min_items)"}
    assert fitted(40).predictors == {}
    noise = fitted(200, noise=50.0, precision=0.99)
    assert noise.reasons["colour"].startswith("no probability reaches a precision of 0.99")
    rows, vectors = made(20, 50.0, seed=3)
    assert not any(one["colour"][0].stated for one in noise.predict(rows, {"image": vectors}))


@pytest.mark.slow
def test_a_fit_is_the_same_again_and_after_it_was_saved(model: AttributeModel, tmp_path: Path) -> None:
    for name, content in model.files().items():
        (tmp_path / name).write_bytes(content)
    rows, vectors = made(60, 1.0, seed=4)
    expected = model.predict(rows, {"image": vectors}, ATTRIBUTES)
    assert load_attribute_model(tmp_path).predict(rows, {"image": vectors}, ATTRIBUTES) == expected
    assert fitted().predict(rows, {"image": vectors}, ATTRIBUTES) == expected
    halves = [model.predict(rows[part], {"image": vectors[part]}, ATTRIBUTES) for part in (slice(30), slice(30, 60))]
    for one, other in zip([*halves[0], *halves[1]], expected, strict=True):
        assert [value.value for value in one["colour"]] == [value.value for value in other["colour"]]


def test_wide_spaces_are_linear_and_an_item_without_a_vector_does_no_harm() -> None:
    rows, vectors = made(300, 1.0)
    wide = np.concatenate([vectors, np.zeros((300, 600), np.float32)], axis=1)
    wide[::7] = 0.0
    items = parts(rows, np.arange(300) % 5, np.arange(300) % 2 == 1)
    model = fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, [SpacePictures("image", "p", wide)])
    assert model.features["image"].frequencies is None
    found = model.predict(rows, {"image": wide})
    shown = [one["colour"][0].value == row["attributes"]["colour"] for one, row in zip(found, rows, strict=True)]
    assert np.mean(shown) > 0.6


def test_the_record_wins_and_only_stated_values_are_facts() -> None:
    red, blue = PredictedValue("colour", "red", 0.95, True, ("image",)), PredictedValue("use", "casual", 0.6, False)
    predicted = {"colour": [red], "use": [blue]}
    assert facts_of({}, predicted) == {"colour": Fact("red", 0.95, "image")}
    assert facts_of({"colour": "blue"}, predicted) == {"colour": Fact("blue", 1.0, "record")}
    assert read_predicted({"predicted": predicted_row(predicted)}) == {"colour": [red], "use": [blue]}
    assert read_predicted({}) == read_predicted({"predicted": None}) == {}


def test_scores_out_of_any_fold_are_those_of_a_regression_without_it() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(size=(60, 20)).astype(np.float32) / 4
    places = np.arange(1, 57)
    truth, foldings = draws.integers(-1, 3, 56), (np.arange(60) % 5, np.arange(60) // 20, np.zeros(60, np.int64))
    scores, weights, offsets = RidgeSolver(features, *foldings).solve(places, truth, 3)
    rows, targets = features[places].astype(np.float64), np.equal.outer(truth, np.arange(3)).astype(np.float64)

    def solve(chosen: Any) -> tuple[Any, Any]:
        """Normal equations of `numpy.linalg.solve` in float64."""
        centre = targets[chosen].mean(axis=0)
        product = rows[chosen].T @ rows[chosen] + PENALTY * np.eye(20)
        return np.linalg.solve(product, rows[chosen].T @ (targets[chosen] - centre)), centre

    slopes, centre = solve(np.ones(56, np.bool_))
    np.testing.assert_allclose(weights.T, slopes, atol=1e-4)
    np.testing.assert_allclose(offsets, centre, atol=1e-6)
    for own, folds in zip(scores[:2], foldings, strict=False):
        for fold in np.unique(folds[places]):
            left = folds[places] == fold
            slopes, centre = solve(~left)
            np.testing.assert_allclose(own[left], rows[left] @ slopes + centre, atol=1e-4)


def paired(count: int, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Items whose colour is told by two spaces together alone: one says which half, the other which way round."""
    draws = np.random.default_rng(seed)
    left, right = draws.integers(0, 2, count), draws.integers(0, 2, count)
    rows = [
        {"item_id": f"i{n}", "kind": "product", "category": None, "attributes": {"colour": COLOURS[one ^ other]}}
        for n, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True))
    ]
    spaces = {
        name: np.stack([np.cos(side), np.sin(side), *draws.normal(0, 0.1, (2, count))], 1).astype(np.float32)
        for name, side in (("forms", 2.0 * left), ("shades", 2.0 * right))
    }
    return rows, spaces


@pytest.mark.slow
def test_spaces_together_tell_what_neither_tells_alone(tmp_path: Path) -> None:
    rows, vectors = paired(300, 0)
    items = parts(rows, np.arange(300) % 5, np.arange(300) % 2 == 1)
    truths = list(attribute_truths(ATTRIBUTES, rows))
    model = fit_attribute_model(truths, items, [SpacePictures(name, name, own) for name, own in vectors.items()])
    assert list(model.predictors["colour"].probes) == ["forms", "shades", "forms+shades"]
    assert model.passports == {"forms": "forms", "shades": "shades"} and model.spaces == ["forms", "shades"]
    for path, data in model.files().items():
        (tmp_path / path).write_bytes(data)
    new, seen = paired(200, 1)
    found = load_attribute_model(tmp_path).predict(new, seen)
    assert found == model.predict(new, seen)
    right = [one["colour"][0].value == row["attributes"]["colour"] for row, one in zip(new, found, strict=True)]
    assert sum(right) / 200 > 0.95
    assert found[0]["colour"][0].witnesses == ("forms+shades",)
    half = model.predict(new, {**seen, "shades": np.zeros_like(seen["shades"])})
    assert max(one["colour"][0].probability for one in half) < 0.9


def _stored(model: AttributeModel, folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """Store a fit whose arrays and plain values somebody changed."""
    files = model.files()
    with np.load(BytesIO(files[ARRAYS_FILE])) as packed:
        arrays = dict(packed)
    about = json.loads(files[MODEL_FILE])
    change(arrays, about)
    (folder / MODEL_FILE).write_text(json.dumps(about))
    np.savez(folder / ARRAYS_FILE, **arrays)
    return folder


@pytest.fixture(scope="module")
def joined() -> AttributeModel:
    rows, vectors = paired(80, 0)
    items = parts(rows, np.arange(80) % 5, np.arange(80) % 2 == 1)
    pictures = [SpacePictures(name, name, own) for name, own in vectors.items()]
    return fit_attribute_model(list(attribute_truths(ATTRIBUTES, rows)), items, pictures)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("array", "value", "said"),
    [
        ("forms|mean", np.zeros(5, np.float32), "deviation is float32"),
        ("forms|mean", np.float32(0), "mean is float32 \\[\\], expected \\[0\\]"),
        ("forms|deviation", np.zeros(4, np.float32), "deviation has values that are not finite and above 0"),
        ("shades|frequencies", np.full((4, 1024), np.nan, np.float32), "frequencies has values that are not finite"),
        ("forms+shades|frequencies", np.ones((7, 80), np.float32), "all spaces is float32 \\[7, 80\\]"),
        ("colour|shares", np.zeros(2, np.float32), "colour shares has values"),
        ("colour|forms|weights", np.ones((2, 7), np.float32), "colour weights of forms is float32 \\[2, 7\\]"),
        ("colour|forms|weights", np.full((2, 2048), "x"), "colour weights of forms is <U1"),
        ("colour|shades|offsets", np.ones((2, 1), np.float32), "colour offsets of shades"),
    ],
)
def test_arrays_of_a_stranger_are_refused(
    joined: AttributeModel, tmp_path: Path, array: str, value: Any, said: str
) -> None:
    folder = _stored(joined, tmp_path, lambda arrays, _: arrays.update({array: value}))
    with pytest.raises(ColdstartError, match=said) as refused:
        load_attribute_model(folder)
    assert refused.value.kind == "damaged"


@pytest.mark.slow
def test_plain_values_of_a_stranger_are_refused(joined: AttributeModel, tmp_path: Path) -> None:
    def brands(_: dict[str, Any], about: dict[str, Any]) -> None:
        about["attributes"]["colour"]["brands"] = {"acme": {"99": 1}}

    def words(_: dict[str, Any], about: dict[str, Any]) -> None:
        about["attributes"]["colour"]["words"].pop()

    def weights(_: dict[str, Any], about: dict[str, Any]) -> None:
        about["attributes"]["colour"]["with_pictures"]["witnesses"]["forms"] = float("inf")

    def shape(_: dict[str, Any], about: dict[str, Any]) -> None:
        about["attributes"] = []

    for change, said in (
        (brands, "counts of brands"),
        (words, "words of 1 of 2"),
        (weights, "witnesses"),
        (shape, "list"),
    ):
        with pytest.raises(ColdstartError, match=said):
            load_attribute_model(_stored(joined, tmp_path, change))
    folder = _stored(joined, tmp_path, lambda arrays, about: None)
    assert load_attribute_model(folder).predictors
    rows, vectors = paired(3, 0)
    with pytest.raises(ColdstartError, match=r"vectors of 4 numbers in space 'forms', which has 3"):
        joined.predict(rows, {**vectors, "forms": vectors["forms"][:, :3]})
    with np.load(folder / ARRAYS_FILE) as packed:
        np.savez_compressed(folder / ARRAYS_FILE, **packed)
    with pytest.raises(ColdstartError, match="is compressed"):
        load_attribute_model(folder)


def test_a_fit_of_an_earlier_version_has_no_joint_witness(tmp_path: Path) -> None:
    for path, data in fitted().files().items():
        if path.endswith(".json"):
            about = json.loads(data)
            assert about.pop("joint") == []
            data = json.dumps(about).encode()
        (tmp_path / path).write_bytes(data)
    assert load_attribute_model(tmp_path).joint is None
