"""Calibration of the spaces of a catalogue: made-up spaces whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.search.calibration import (
    WORDS_BESIDE,
    Calibration,
    PseudoQueries,
    catalogue_means,
    fit_kind,
    fuse_scores,
)

ITEMS, DIM = 120, 24


def space(noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Items with a common offset, and a query for each of them, the same vector with noise."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((ITEMS, DIM)).astype(np.float32) + 0.5
    return unit(items), unit(items + noise * rng.standard_normal((ITEMS, DIM)).astype(np.float32))


def queries(**noise: float) -> tuple[PseudoQueries, dict[str, NDArray[np.float32]]]:
    made = {name: space(own, seed) for seed, (name, own) in enumerate(noise.items())}
    right = np.eye(ITEMS, dtype=bool)
    vectors = {name: asked for name, (_, asked) in made.items()}
    return PseudoQueries(vectors, right, np.zeros_like(right), "copies"), {name: own for name, (own, _) in made.items()}


def test_a_space_weighs_what_it_finds() -> None:
    asked, items = queries(good=1.5, noise=1000.0, fair=3.0)
    kind = fit_kind(asked, items, catalogue_means(items))
    assert kind is not None and kind.spaces == ("fair", "good", "noise") and kind.queries == ITEMS
    fair, good, noise = kind.weights
    assert good > fair > 0 and noise < good / 5
    assert kind.expected[1] > kind.expected[0] > kind.expected[2]


def test_the_fused_scores_find_no_less_than_the_best_space() -> None:
    asked, items = queries(first=2.5, second=3.0, poor=20.0)
    means = catalogue_means(items)
    kind = fit_kind(asked, items, means)
    assert kind is not None
    cosines = {name: asked.vectors[name] @ items[name].T for name in kind.spaces}
    standardised = np.stack(
        [
            (cosines[name] - (asked.vectors[name] @ means[name])[:, None]) / kind.deviation[place]
            for place, name in enumerate(kind.spaces)
        ]
    )
    fused = np.stack(
        [fuse_scores(standardised[:, row], None, kind.weights, kind.expected, texts=0.0) for row in range(ITEMS)]
    )
    found = {name: float((own.argmax(1) == np.arange(ITEMS)).mean()) for name, own in {**cosines, "": fused}.items()}
    assert found.pop("") > max(found.values())
    assert np.diag(fused).mean() == pytest.approx(1, abs=0.02)
    assert fused.mean() == pytest.approx(0, abs=0.05)


def test_a_space_whose_cosines_are_all_high_weighs_and_scores_as_if_they_were_not() -> None:
    asked, items = queries(wide=1.5, other=3.0)
    common = np.zeros((1, DIM + 1), np.float32)
    common[0, -1] = 2.0  # cosines between .7 and .9, as those of multilingual-e5

    def squeeze(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit(np.pad(vectors, ((0, 0), (0, 1))) + common)

    squeezed = {**items, "wide": squeeze(items["wide"])}
    asked_squeezed = PseudoQueries(
        {**asked.vectors, "wide": squeeze(asked.vectors["wide"])}, asked.right, asked.out, asked.made_of
    )
    cosines = asked_squeezed.vectors["wide"] @ squeezed["wide"].T
    assert cosines.min() > 0.65 and cosines.max() < 1
    kinds = [
        fit_kind(asked, items, catalogue_means(items)),
        fit_kind(asked_squeezed, squeezed, catalogue_means(squeezed)),
    ]
    for name in ("weights", "expected"):
        plain, high = (getattr(kind, name) for kind in kinds)
        assert high == pytest.approx(plain, rel=0.02), name
    assert kinds[1].deviation[1] < kinds[0].deviation[1] / 4


def test_pictures_keep_a_little_weight_beside_texts_that_find_everything() -> None:
    asked, items = queries(text=0.1, pictures=1.5, noise=1000.0)
    kind = fit_kind(asked, items, catalogue_means(items), trusted=("text",))
    assert kind is not None
    weights = dict(zip(kind.spaces, kind.weights, strict=True))
    assert 0 < weights["pictures"] < weights["text"] and weights["noise"] == 0
    apart = fit_kind(asked, items, catalogue_means(items), ("pictures",), ("text",))
    assert apart is not None and apart.weigh(["text", "pictures"]).tolist()[1] == 0
    assert apart.weigh(["pictures"])[0] > 0, "it is the only one that is searched"
    assert (apart.weigh(["text", "pictures"], requested=True) > 0).all()


def test_too_few_queries_calibrate_nothing() -> None:
    asked, items = queries(good=1.0)
    few = np.arange(ITEMS)[:, None] < 29
    assert (
        fit_kind(PseudoQueries(asked.vectors, asked.right & few, asked.out, ""), items, catalogue_means(items)) is None
    )


def test_an_item_without_a_picture_is_neither_punished_nor_favoured() -> None:
    weights, expected = np.array([2.0, 1.0]), np.array([4.0, 2.0])
    scores = fuse_scores(np.array([[4.0, 4.0, np.nan], [2.0, np.nan, np.nan]]), None, weights, expected, texts=2.0)
    assert scores.tolist() == [1.0, 1.0, 0.0]
    useless = fuse_scores(np.array([[1.0, -1.0]]), None, weights[:1], np.array([-0.2]), texts=0.0)
    assert useless.tolist() == [2.0, -2.0]  # right items are no nearer than others: scores stay small
    words = fuse_scores(np.array([[4.0, 0.0]]), np.array([0.0, 5.0]), weights[:1], expected[:1], texts=2.0)
    assert words.tolist() == pytest.approx([1.0, WORDS_BESIDE * 2.0 * 5.0 / 8.0])
    alone = fuse_scores(np.zeros((0, 2)), np.array([5.0, 1.0]), weights[:0], expected[:0], texts=0.0)
    assert alone.tolist() == [1.0, 0.2]


def test_a_calibration_is_read_back_and_a_faulty_one_refused() -> None:
    asked, items = queries(good=1.0, fair=3.0)
    means = catalogue_means(items)
    kind = fit_kind(asked, items, means)
    assert kind is not None
    stored = Calibration({"good": "g", "fair": "f"}, means, {"image": kind}).to_bytes()
    again = Calibration.from_bytes(stored)
    assert again.kinds["image"].spaces == kind.spaces and again.passports == {"good": "g", "fair": "f"}
    assert again.kinds["image"].weights == pytest.approx(kind.weights, abs=1e-5)
    assert again.means["good"] == pytest.approx(means["good"], abs=1e-5)
    for faulty in (
        b"",
        b"[]",
        stored.replace(b'"deviation": [', b'"deviation": [-'),
        stored.replace(b'"weights": [', b'"weights": [1e999, '),
        stored.replace(b'"mean": [', b'"mean": [1' + b"0" * 400 + b", "),
        stored.replace(b'"mean": [', b'"mean": [1e300, '),
        stored.replace(b'"mean": [', b'"mean": [2, '),
        stored.replace(b'"queries": ', b'"queries": Infinity, "old": '),
        stored.replace(b'"spaces": ["fair"', b'"spaces": ["else"'),
    ):
        with pytest.raises(ColdstartError, match="calibration of searches cannot be read"):
            Calibration.from_bytes(faulty)


def test_a_catalogue_of_copies_is_not_calibrated() -> None:
    """Of equal items any order is right: a deviation of no score would be none."""
    vectors = np.tile(np.float32([[1, 0]]), (40, 1))
    queries = PseudoQueries({"text": vectors}, np.ones((40, 40), bool), np.zeros((40, 40), bool), "titles")
    assert fit_kind(queries, {"text": vectors}, catalogue_means({"text": vectors})) is None
