"""The benchmark of films: what a part holds out, how ways are blended, and its short form on the real ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks import films_data, recommend_films
from benchmarks.films_data import FOLDER, LAYERS, films, ratings
from benchmarks.films_methods import Part, Way, blended, by_popularity, mapped, measured
from benchmarks.recommend_films import rows, run
from coldstart.core.interactions import Interactions, interactions
from coldstart.recommend.model.fusion import Content

real = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no films at {FOLDER} (set COLDSTART_DATA)")


def small(count: int = 60, people: int = 40) -> tuple[Content, Interactions]:
    """Films of two tastes, which their one content tells; a person likes those of one and meets all."""
    rng = np.random.default_rng(0)
    taste = np.arange(count) % 2
    vectors = (taste[:, None] * np.array([4.0, 0, 0, 0]) + rng.standard_normal((count, 4))).astype(np.float32)
    names = tuple(f"film-{place:02d}" for place in range(count))
    users, items = np.nonzero(rng.random((people, count)) < 0.5)
    weights = np.where(taste[items] == users % 2, 5.0, 2.0).astype(np.float32)
    rated = interactions(
        [f"user-{user:02d}" for user in users],
        [names[item] for item in items],
        np.arange(len(users)),
        weights,
    )
    records = tuple({"category": None} for _ in names)
    return Content(names, {"taste": vectors, "noise": vectors[:, 1:]}, records), rated.over(names)


@pytest.mark.slow
def test_what_is_learnt_from_holds_nothing_of_the_new() -> None:
    every, rated = small()
    learnt, new = np.arange(40), np.arange(40, 60)
    part = Part(every, rated, learnt, new)
    likes = rated.positive(4.0).matrix()
    assert (part.matrix != likes[:, :40]).nnz == 0
    assert (part.wanted != likes[:, 40:]).nnz == 0
    other = Part(every, rated.where(rated.items < 40), learnt, new)
    way = Way("kernel", {"dim": 8}, {"taste": 1.0})
    np.testing.assert_array_equal(mapped(way)(part), mapped(way)(other))


def test_contents_stand_side_by_side_by_their_weights() -> None:
    every, rated = small()
    part = Part(every, rated, np.arange(40), np.arange(40, 60))
    both = part.features({"taste": 3.0, "noise": 1.0}, {"noise": 0.0})
    taste, noise = part.features({"taste": 3.0}), part.features({"noise": 1.0}, {"noise": 0.0})
    np.testing.assert_allclose(both @ both.T, 0.75 * taste @ taste.T + 0.25 * noise @ noise.T, atol=1e-6)


def test_a_blend_of_one_way_ranks_as_the_way_does() -> None:
    every, rated = small()
    part = Part(every, rated, np.arange(40), np.arange(40, 60))
    way = Way("ridge", {"target": "users", "dim": 8}, {"taste": 1.0})
    alone, mixed = mapped(way)(part), blended([(way, 0.5)])(part)
    spread = alone.std(axis=1)
    np.testing.assert_allclose(mixed / mixed.std(axis=1)[:, None], alone / spread[:, None], rtol=1e-3, atol=1e-3)
    taste, best = (measured(scores, part)["recall@20"].mean() for scores in (alone, by_popularity(part)))
    assert taste == 1.0 == best  # twenty films, twenty places


@real
@pytest.mark.slow
def test_short_form_reads_no_rating_of_the_new_films(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((len(films()), len(LAYERS), 8)).astype(np.float32)
    # a language model's states, pictures and titles take minutes, and nothing here depends on them; words of texts do
    monkeypatch.setattr(films_data, "title_states", lambda names, years: noise)
    monkeypatch.setattr(films_data, "posters", lambda lines: noise[:, 0])
    monkeypatch.setattr(films_data, "CACHE", tmp_path)
    np.save(tmp_path / "films-title.npy", noise[:, 1])
    words = TfidfVectorizer(min_df=3).fit_transform(f"{film['title']} {film['text']}" for film in films())
    np.save(tmp_path / "films-text.npy", TruncatedSVD(64, random_state=0).fit_transform(words).astype(np.float32))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    result = run(short=True)
    assert list(result) == ["load", "held_out"]
    found = {name: own["recall@20"] for name, own in result["held_out"].items()}
    assert found["random"] < 0.08 < found["genres and period, cosine"] < found[recommend_films.OLD]
    assert found[recommend_films.OLD] < found["popularity of the answers"]
    assert [row.claim for row in rows(result)] == [f"films, {name}, held out" for name in found]
    lines = films()
    new = {line["id"] for line in lines if line["fold"] == "cold_dev"}
    kept = ratings(lines)
    blind = kept.where(~np.isin(kept.items, [place for place, line in enumerate(lines) if line["id"] in new]))
    monkeypatch.setattr(recommend_films, "ratings", lambda lines: blind)
    assert run(short=True)["held_out"] == result["held_out"]
