"""Measures of texts by their words: counted by hand."""

from __future__ import annotations

import pytest

from coldstart.metrics.text import copied, distinct, words


def test_words_are_without_case_and_punctuation() -> None:
    assert words("Men's Brown, casual-Shoes!  Mütze 42.") == ["men's", "brown", "casual", "shoes", "mütze", "42"]
    assert words(" … ") == []


def test_distinct_counts_kinds_over_all() -> None:
    one = distinct(["red shoes", "red bag"], 1)
    assert one is not None
    assert (one.value, one.n) == (0.75, 4)
    two = distinct(["red shoes", "red bag"], 2)
    assert two is not None
    assert (two.value, two.n) == (1.0, 2)
    assert distinct(["red"], 2) is None
    assert distinct([], 1) is None


def test_the_interval_of_distinct_is_that_of_the_jackknife() -> None:
    texts = ["a b", "a c", "a d", "a a"]
    without = [4 / 6, 4 / 6, 4 / 6, 4 / 6]  # {a c d}, … and {a b c d} of the others: 3/6, 3/6, 3/6, 4/6
    without[:3] = [3 / 6] * 3
    mean = sum(without) / 4
    error = (3 / 4 * sum((one - mean) ** 2 for one in without)) ** 0.5
    found = distinct(texts, 1)
    assert found is not None
    assert found.value == 0.5
    assert found.high - found.value == pytest.approx(1.96 * error)
    assert found.value - found.low == pytest.approx(1.96 * error)
    alone = distinct(["a b a"], 1)
    assert alone is not None
    assert (alone.low, alone.high) == (alone.value, alone.value) == (2 / 3, 2 / 3)


def test_words_in_long_runs_of_a_source_are_copied() -> None:
    source = "Turtle men check red shirt with long sleeves"
    assert copied("A turtle men check red shirt for work", [source]) == (5, 8)
    assert copied("turtle men check blue shirt with", [source]) == (0, 6)  # runs of three at most
    assert copied("Red shirt.", ["none", source]) == (2, 2)  # shorter than a run: all of it stands there
    assert copied("Red bag.", [source]) == (0, 2)
    assert copied("", [source]) == (0, 0)
    assert copied("Red shirt.", []) == (0, 2)
