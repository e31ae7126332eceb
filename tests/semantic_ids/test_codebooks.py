"""Codebooks and IDs as arrays: what every method and every collision rule promises, and artifacts of strangers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.errors import ColdstartError
from coldstart.semantic_ids import rqvae
from coldstart.semantic_ids.codebooks import ARRAYS, CARD, Codebooks, load_codebooks
from coldstart.semantic_ids.collisions import RULES, Rule, place_items
from coldstart.semantic_ids.health import _by_chance
from coldstart.semantic_ids.kmeans import fit_clusters, nearest
from coldstart.semantic_ids.methods import METHODS, Method, fit_codebooks, fsq_levels
from coldstart.semantic_ids.read import build_trie

LEVELS = (8, 8, 8)


def clustered(count: int, dim: int = 12, seed: int = 0) -> Any:
    """Unit vectors around ten centres, float32 [count, dim]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, dim))
    vectors = (centres[rng.integers(10, size=count)] + 0.4 * rng.normal(size=(count, dim))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def no_ids(books: Codebooks, rule: Rule) -> Any:
    return np.empty((0, len(books.sizes) + (rule == "suffix")), np.int32)


def ids_of(books: Codebooks, vectors: Any, rule: Rule, taken: Any = None) -> Any:
    projected = books.project(vectors)
    codes, _ = books.encode(projected)
    return place_items(books, projected, codes, rule, no_ids(books, rule) if taken is None else taken)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Codebooks]:
    """Codebooks by every method, fitted on 160 vectors; the autoencoder with few steps."""
    steps, rqvae.STEPS = rqvae.STEPS, 30
    try:
        return {
            method: fit_codebooks(clustered(160), method, (8, 5, 5, 5) if method == "fsq" else LEVELS)
            for method in METHODS
        }
    finally:
        rqvae.STEPS = steps


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_rule_places_all_items_and_moves_none(fitted: dict[str, Codebooks], method: Method) -> None:
    books = fitted[method]
    vectors = clustered(160)
    for rule in RULES:
        old = ids_of(books, vectors, rule)
        assert old.dtype == np.int32 and old.shape == (160, len(books.sizes) + (rule == "suffix"))
        assert (old >= 0).all() and (old[:, : len(books.sizes)] < books.sizes).all()
        assert np.array_equal(old, ids_of(books, vectors, rule)), "the same input gives the same IDs"
        new = ids_of(books, clustered(40, seed=1), rule, old)
        if rule != "keep":
            together = np.concatenate([old, new])
            assert len(np.unique(together, axis=0)) == 200, f"{rule} leaves IDs that are shared"
        if rule == "keep":
            assert np.array_equal(old, books.encode(books.project(vectors))[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_codebooks_come_back_from_their_files(fitted: dict[str, Codebooks], method: Method, tmp_path: Path) -> None:
    books = fitted[method]
    for name, data in books.to_files({"space": "text"}).items():
        (tmp_path / name).write_bytes(data)
    again = load_codebooks(tmp_path)
    vectors = clustered(30, seed=2)
    assert again.sizes == books.sizes
    assert np.array_equal(again.encode(again.project(vectors))[0], books.encode(books.project(vectors))[0])


def test_a_fit_follows_from_its_seed() -> None:
    vectors = clustered(200)
    first, second = (fit_codebooks(vectors, levels=LEVELS, seed=3) for _ in range(2))
    assert all(np.array_equal(one.centres, two.centres) for one, two in zip(first.levels, second.levels, strict=True))
    other = fit_codebooks(vectors, levels=LEVELS, seed=4)
    assert not np.array_equal(first.levels[0].centres, other.levels[0].centres)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 60), st.integers(0, 60), st.sampled_from(RULES),
    st.booleans(),
)  # fmt: skip
def test_no_old_item_moves_and_ids_are_unique(
    seed: int, size: int, olds: int, news: int, rule: Rule, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    draw: Callable[[int], Any] = lambda count: rng.normal(size=(count, 4)).astype(np.float32)  # noqa: E731
    books = fit_codebooks(draw(60), levels=(size, size, size), seed=seed)
    old, new = draw(olds), draw(news)
    if coarse:
        old, new = np.round(old), np.round(new)  # many equal vectors
    held = ids_of(books, old, rule)
    held = held[held[:, 0] >= 0]
    before = held.copy()
    added = ids_of(books, new, rule, held)
    assert np.array_equal(held, before)
    placed = added[added[:, 0] >= 0]
    if rule == "keep":
        assert len(placed) == news
        return
    assert len(np.unique(np.concatenate([held, placed]), axis=0)) == len(held) + len(placed)
    room = np.prod(books.sizes) if rule == "reassign" else olds + news
    assert len(held) + len(placed) == min(room, olds + news), "an ID is refused only when none is free"


def test_reassigning_costs_least_of_all_assignments_within_a_bucket() -> None:
    books = fit_codebooks(clustered(200), levels=(2, 4), crowding=None)
    vectors = clustered(9, seed=7)
    projected = books.project(vectors)
    codes, _ = books.encode(projected)
    bucket = np.flatnonzero(codes[:, 0] == np.bincount(codes[:, 0]).argmax())[:4]
    own = place_items(books, projected[bucket], codes[bucket], "reassign", no_ids(books, "reassign"))
    costs = books.costs(projected[bucket], codes[bucket], 1)
    least = min(
        costs[np.arange(len(bucket)), list(order)].sum() for order in itertools.permutations(range(4), len(bucket))
    )
    assert costs[np.arange(len(bucket)), own[:, 1]].sum() == pytest.approx(least, rel=1e-5)


def test_equal_vectors_share_codes_and_are_counted() -> None:
    vectors = np.tile(clustered(1), (70, 1))
    books = fit_codebooks(vectors, levels=LEVELS)
    assert books.sizes == (1, 1, 1), "as many codes as there are different vectors"
    assert sorted(ids_of(books, vectors, "suffix")[:, -1].tolist()) == list(range(70))
    assert (ids_of(books, vectors, "reassign")[:, 0] >= 0).sum() == 1, "one ID exists, and one item has it"


def test_no_level_has_more_codes_than_there_are_different_vectors() -> None:
    vectors = np.repeat(clustered(20), 20, axis=0)
    books = fit_codebooks(vectors, levels=(32, 8))
    assert books.sizes == (20, 1), "rounding makes equal vectors no different ones"
    for method in ("rqkmeans", "opq"):
        for factor in (1e-6, 1e6):  # neither does the unit of a space
            scaled = fit_codebooks((vectors * factor).astype(np.float32), method, levels=(32, 8))
            assert scaled.sizes == fit_codebooks(vectors, method, levels=(32, 8)).sizes


def test_prices_keep_codes_from_crowding() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_t(3, size=(1000, 4)).astype(np.float32)  # heavy tails: few far from many
    loads = {}
    for crowding in (None, 1.2):
        clusters = fit_clusters(vectors, 8, np.random.default_rng(0), crowding=crowding)
        loads[crowding] = np.bincount(nearest(vectors, clusters)[0], minlength=8).max()
    assert loads[1.2] <= 150 < 300 < loads[None]


def test_a_small_catalogue_has_small_codebooks_and_fsq_levels_follow_the_items() -> None:
    assert fit_codebooks(clustered(64), levels=(256, 256)).sizes == (8, 8)
    assert fsq_levels(64) == (8, 5, 5, 5) and np.prod(fsq_levels(100_000)) >= 200_000


def test_a_warm_start_keeps_the_meaning_of_codes() -> None:
    old = clustered(300)
    books = fit_codebooks(old, levels=LEVELS)
    more = np.concatenate([old, clustered(30, seed=5)])
    before = books.encode(books.project(old))[0][:, 0]
    changed = [
        (fit_codebooks(more, levels=LEVELS, seed=9, start=start).encode(old)[0][:, 0] != before).mean()
        for start in (books, None)
    ]
    assert changed[0] < 0.2 < changed[1]


def test_lift_is_over_the_chance_of_two_different_items() -> None:
    groups, met = np.array([0, 0, 1, 1, 1, 2]), np.array([3, 1, 2, 2, 0, 4])
    shares = met / met.sum()
    pairs = [(one, two) for one in range(6) for two in range(6) if one != two]
    weights = np.array([shares[one] * shares[two] for one, two in pairs])
    same = np.array([groups[one] == groups[two] for one, two in pairs])
    assert _by_chance(groups, met) == pytest.approx(weights[same].sum() / weights.sum())
    assert _by_chance(np.arange(6), met) == 0, "no two different items share a group"


def test_the_trie_holds_every_id_once() -> None:
    codes = np.unique(np.random.default_rng(0).integers(5, size=(80, 3)), axis=0).astype(np.int32)
    codes = np.random.default_rng(1).permutation(codes)
    trie = build_trie(codes)
    for place, row in enumerate(codes.tolist()):
        leaf = trie.find(row)
        assert leaf is not None
        assert trie.items[trie.first_item[leaf] : trie.first_item[leaf + 1]].tolist() == [place]
    assert trie.find((9,)) is None and trie.find(()) == 0 and trie.find((0, 0, 0, 0)) is None
    assert len(trie.codes[-1]) == len(codes)
    for level in range(1, 3):
        spans = trie.first[level]
        assert spans[0] == 0 and spans[-1] == len(trie.codes[level])
        assert all(
            (trie.parents[level][trie.children(level, node)] == node).all()
            for node in range(len(trie.codes[level - 1]))
        )


def test_an_empty_trie_has_no_nodes() -> None:
    trie = build_trie(np.empty((0, 3), np.int32))
    assert [len(codes) for codes in trie.codes] == [0, 0, 0] and trie.find((1,)) is None


def _broken(files: dict[str, bytes], how: str) -> dict[str, bytes]:
    from safetensors.numpy import load, save

    card, arrays = json.loads(files[CARD]), load(files[ARRAYS])
    if how == "levels":
        card["sizes"] = [8] * 40
    elif how == "missing":
        del arrays["level1.centres"]
    elif how == "nan":
        arrays["level0.centres"][0, 0] = np.nan
    elif how == "shapes":
        arrays["level1.centres"] = np.zeros((8, 5), np.float32)
    elif how == "prices":
        arrays["level0.prices"] = np.zeros(3, np.float32)
    elif how == "dim":
        card["dim"] = 10**9
    elif how == "endless":
        card["dim"] = float("inf")
    elif how == "dtype":
        arrays["level0.centres"] = arrays["level0.centres"].astype(np.float64)
    elif how == "form":
        card["form"] = "other"
    elif how == "layers":
        card["layers"] = ["exec"]
    return {ARRAYS: b"no arrays" if how == "bytes" else save(arrays), CARD: json.dumps(card).encode()}


@pytest.mark.parametrize(
    "how", ["levels", "missing", "nan", "shapes", "prices", "dim", "endless", "dtype", "form", "layers", "bytes"]
)
def test_a_strangers_codebooks_are_checked(how: str, tmp_path: Path) -> None:
    files = fit_codebooks(clustered(100), levels=LEVELS).to_files({})
    for name, data in _broken(files, how).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ColdstartError, match="holds no codebooks of semantic IDs"):
        load_codebooks(tmp_path)
