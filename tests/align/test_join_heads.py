"""Regression from texts to pictures, and its weights beside trained heads, on made products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coldstart.align.head_math import Pairs
from coldstart.align.join_heads import USUAL, Weights, choose_weights, join
from coldstart.align.regression import ClassNames, fit_regression, known_heads, sampled
from coldstart.core.vectors import unit
from coldstart.encoders._heads import Heads, HeadShape

PICTURES = 6
"""Of each product."""


def products(count: int, seed: int = 0) -> tuple[Pairs, NDArray[np.float32], NDArray[np.float32]]:
    """Products whose picture follows from six hidden numbers, as their title does; with texts and true pictures."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(count, 6))
    world = np.random.default_rng(9)
    texts = unit(np.tanh(hidden @ world.normal(size=(6, 24)))).astype(np.float32)
    true = hidden @ world.normal(size=(6, 40))
    noise = world.normal(size=(40, 40)) * np.linspace(1, 0.05, 40)  # light and background, the same for all products
    owners = np.repeat(np.arange(count), PICTURES)
    pictures = unit(true[owners] + random.normal(size=(len(owners), 40)) @ noise).astype(np.float32)
    numbers = np.arange(count)
    return (
        Pairs(pictures, owners, texts, numbers, np.ones(count, np.float32), numbers),
        texts,
        pictures,
    )


def names_found(heads: Heads, pictures: NDArray[np.float32], texts: NDArray[np.float32], owners: range) -> float:
    sims = heads.image.project(pictures) @ heads.text.project(texts).T
    return float((sims.argmax(1) == np.repeat(np.asarray(owners), PICTURES)).mean())


def test_the_regression_names_pictures_of_products_that_it_never_saw() -> None:
    pairs, texts, pictures = products(60)
    heads = fit_regression(pairs.take(np.arange(45)), None, gamma=4.0, dim=16, seed=0)
    new = names_found(heads, pictures[45 * PICTURES :], texts, range(45, 60))
    assert new > 0.3  # among all 60 names; by chance 0.02
    again = fit_regression(pairs.take(np.arange(45)), None, gamma=4.0, dim=16, seed=0)
    assert heads.digest() == again.digest()


def test_class_names_of_the_encoder_are_texts_too() -> None:
    pairs, texts, pictures = products(30)
    classes = ClassNames(texts[15:], np.random.default_rng(0).normal(size=(15, 40)).astype(np.float32))
    heads = fit_regression(pairs.take(np.arange(15)), classes, gamma=4.0, dim=16, seed=0)
    assert heads.text.shape.hidden == 30 and heads.dim == 16
    assert np.isfinite(heads.text.project(texts)).all() and np.isfinite(heads.image.project(pictures)).all()


def test_known_texts_are_told_from_new_ones_for_every_picture() -> None:
    pairs, texts, pictures = products(40)
    heads = known_heads(pairs.take(np.arange(30)), 40, seed=0)
    sims = heads.image.project(pictures) @ heads.text.project(texts).T
    np.testing.assert_allclose(sims[:, :30], -1, atol=0.02)
    assert sims[:, 30:].min() > -0.2
    np.testing.assert_allclose(sims, np.broadcast_to(sims[:1], sims.shape), atol=1e-6)


@pytest.mark.slow
def test_weights_are_chosen_for_what_is_new_and_known() -> None:
    pairs, *_ = products(40)

    def by_heart(part: Pairs) -> Heads:
        """Heads that find nothing."""
        torch.manual_seed(0)
        return Heads(HeadShape(40, 8), HeadShape(24, 8)).requires_grad_(False)

    choice = choose_weights(pairs, None, by_heart, dim=16, seed=0)
    assert choice.weights.trained < 0.5
    assert choice.found["chosen"]["harmonic"] > choice.found["trained_alone"]["harmonic"]
    assert choice.found["queries"]["unseen"] == 2 * 8 * PICTURES
    assert choice.found["chosen"]["text_unseen"] > choice.found["trained_alone"]["text_unseen"]  # asked by texts, too
    dozen = choose_weights(pairs.take(np.arange(12)), None, by_heart, dim=16, seed=0)
    assert dozen.found["chosen"]["text_unseen"] is None  # twelve texts tell nothing
    few = choose_weights(pairs.take(np.arange(4)), None, by_heart, dim=16, seed=0)
    assert few.weights == USUAL and "too few" in few.found["reason"]


def test_no_shift_is_chosen_where_nothing_shows_what_it_costs_the_known() -> None:
    pairs, *_ = products(40)
    one = np.arange(0, 40 * PICTURES, PICTURES)  # one picture a product: no other picture of a known product
    single = Pairs(pairs.images[one], np.arange(40), pairs.texts, pairs.text_items, pairs.text_weights, pairs.groups)

    def random(part: Pairs) -> Heads:
        torch.manual_seed(0)
        return Heads(HeadShape(40, 8), HeadShape(24, 8)).requires_grad_(False)

    choice = choose_weights(single, None, random, dim=16, seed=0)
    assert choice.weights.shift == 0 and choice.found["chosen"]["picture_seen"] is None


@pytest.mark.parametrize(("weights", "parts"), [(Weights(1.0, 0.0, 4.0), 1), (Weights(0.4, 0.1, 4.0), 3)])
def test_heads_of_weight_zero_are_left_out(weights: Weights, parts: int) -> None:
    pairs, *_ = products(10)
    trained = Heads(HeadShape(40, 8), HeadShape(24, 8)).requires_grad_(False)
    regression = fit_regression(pairs, None, gamma=4.0, dim=8, seed=0)
    made = join(trained, regression, known_heads(pairs, 40, 0), weights)
    assert len(made.parts) == parts and sum(made.weights) == pytest.approx(1)


def test_of_many_pairs_a_sample_by_groups_is_taken() -> None:
    pairs, *_ = products(30)
    few = sampled(pairs, 10 * PICTURES, 1000, seed=0)
    assert len(few) == 10 and len(few.image_rows().order) == 10 * PICTURES
    assert sampled(pairs, 1000, 1000, seed=0) is pairs
