"""Lists out of vectors: every rule on its own against plain numpy, and rules together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from coldstart.core.diversity import intra_list_diversity
from coldstart.errors import ColdstartError
from coldstart.recommend.lists import Candidates, ListBuilder, Rules
from coldstart.recommend.service import QuerySettings

rng = np.random.default_rng(0)
ITEMS = rng.normal(size=(300, 6)).astype(np.float32)
USERS = rng.normal(size=(9, 6)).astype(np.float32)
COLD = np.arange(300) % 5 == 0
CREATORS = np.where(np.arange(300) % 7 == 0, -1, np.arange(300) % 11)
CANDIDATES = Candidates(tuple(f"i{n:03d}" for n in range(300)), ITEMS, COLD, CREATORS)
SCORES = USERS @ ITEMS.T
NAMES = tuple(f"u{n}" for n in range(9))


def lists(queries=USERS, seen=None, candidates=CANDIDATES, **rules):
    return ListBuilder(candidates, Rules(**rules), device="cpu").lists(queries, seen, NAMES)


def test_no_rule_is_plain_ranking():
    found = lists(top_k=15)
    assert found.places.tolist() == np.argsort(-SCORES, axis=1)[:, :15].tolist()
    np.testing.assert_allclose(found.scores, np.take_along_axis(SCORES, found.places, 1), rtol=1e-5)
    assert not found.explored.any()
    assert (found.propensity == 1).all()


def test_a_half_life_is_given_in_days_and_used_in_seconds():
    assert QuerySettings(half_life_days=30).half_life_s == 30 * 24 * 3600
    assert QuerySettings().half_life_s is None


def test_rules_that_do_nothing_change_nothing():
    plain = lists(top_k=15).places.tolist()
    candidates = Candidates(CANDIDATES.item_ids, ITEMS, np.zeros(300, bool), CREATORS)
    assert lists(top_k=15, per_creator=300).places.tolist() == plain
    assert lists(candidates=candidates, top_k=15, cold_share=0.5).places.tolist() == plain
    assert lists(candidates=candidates, top_k=15, cold_boost=9).places.tolist() == plain
    assert lists(candidates=candidates, top_k=15, explore=0.5).places.tolist() == plain


def test_a_cold_share_of_nought_guarantees_none_and_leaves_none_out():
    found = lists(top_k=15, cold_share=0.0).places
    assert found.tolist() == lists(top_k=15).places.tolist()
    assert COLD[found].any(axis=1).all()  # by their scores alone
    best = lists(
        top_k=15, cold_share=0.0, candidates=Candidates(CANDIDATES.item_ids, ITEMS, SCORES.max(0) > 1, CREATORS)
    )
    assert best.places.tolist() == found.tolist()


def test_what_was_seen_is_left_out():
    seen = csr_matrix(rng.random((9, 300)) < 0.9, dtype=np.float32)
    expected = np.where(seen.toarray() > 0, -np.inf, SCORES)
    for rules in ({}, {"cold_share": 0.3}):
        found = lists(seen=seen, top_k=40, **rules)
        assert not (seen.toarray()[np.arange(9)[:, None], found.places] * (found.places >= 0)).any()
        assert ((found.places >= 0).sum(axis=1) == np.minimum(40, np.isfinite(expected).sum(axis=1))).all()
        assert np.isneginf(found.scores[found.places < 0]).all()
        assert (found.propensity == (found.places >= 0)).all()


def test_of_one_creator_only_so_many():
    found = lists(top_k=20, per_creator=2).places
    for row, places in zip(SCORES, found, strict=True):
        kept, counts = [], {}
        for place in np.argsort(-row):
            creator = int(CREATORS[place])
            counts[creator] = counts.get(creator, 0) + 1
            if creator < 0 or counts[creator] <= 2:
                kept.append(int(place))
        assert places.tolist() == kept[:20]


def test_a_creator_of_nearly_everything_does_not_empty_the_list():
    candidates = Candidates(
        CANDIDATES.item_ids, np.sort(ITEMS[:, :1], axis=0)[::-1].copy(), COLD, (np.arange(300) > 290) * 1
    )
    found = lists(queries=np.ones((1, 1), np.float32), candidates=candidates, top_k=5, per_creator=2)
    assert found.places.tolist() == [[0, 1, 291, 292, -1]]


def test_a_share_of_cold_items_in_every_beginning():
    found = lists(top_k=20, cold_share=0.4).places
    counts = np.cumsum(COLD[found], axis=1)
    assert (counts >= np.floor(0.4 * np.arange(1, 21) + 1e-9)).all()
    for row, places in zip(SCORES, found, strict=True):
        for kind in (COLD, ~COLD):
            own = [place for place in np.argsort(-row) if kind[place]]
            assert [place for place in places if kind[place]] == own[: int(kind[places].sum())]


def test_a_boost_raises_cold_items_by_deviations():
    shares = [COLD[lists(top_k=20, cold_boost=boost).places].mean() for boost in (-9.0, 0.0, 0.5, 9.0)]
    assert shares[0] == 0
    assert shares[1] == COLD[np.argsort(-SCORES, axis=1)[:, :20]].mean()
    assert shares[1] < shares[2] < shares[3] == 1
    found = lists(top_k=20, cold_boost=0.5)
    np.testing.assert_allclose(found.scores, np.take_along_axis(SCORES, found.places, 1), rtol=1e-5)


@pytest.mark.parametrize("diversify", ["mmr", "dpp"])
def test_diversity_rises_along_the_dial(diversify):
    found = [lists(top_k=10, diversity=dial, diversify=diversify).places for dial in (0, 0.3, 0.6, 1.0)]
    assert found[0].tolist() == np.argsort(-SCORES, axis=1)[:, :10].tolist()
    means = [np.mean([intra_list_diversity(ITEMS[row]) for row in places]) for places in found]
    assert np.all(np.diff(means) > 0)


def test_diversity_compares_similarity_vectors():
    vectors = np.eye(2, dtype=np.float32)[np.arange(300) % 2]
    candidates = Candidates(CANDIDATES.item_ids, ITEMS, COLD, CREATORS, similarity_vectors=vectors)
    found = lists(candidates=candidates, top_k=2, diversity=0.9)
    assert (found.places[:, 0] % 2 != found.places[:, 1] % 2).all()


@pytest.mark.parametrize("merge", ["max", "rrf"])
def test_several_interests_become_one_list(merge):
    queries = np.stack([USERS, USERS[::-1], np.zeros_like(USERS)], axis=1)
    found = lists(queries=queries, top_k=12, merge=merge)
    for user in range(9):
        products = np.stack([SCORES[user], SCORES[8 - user]])
        if merge == "max":
            worth = products.max(axis=0)
        else:
            ranks = np.argsort(np.argsort(-products, axis=1), axis=1)
            worth = np.where(ranks < 12, 1 / (61 + ranks), 0).sum(axis=0)
        expected = np.lexsort((np.arange(300), -worth))[:12]
        assert found.places[user].tolist() == expected.tolist()
    np.testing.assert_allclose(
        found.scores[4], np.take_along_axis(SCORES[4], found.places[4], 0), rtol=1e-5
    )  # user 4 asks the same twice


def test_one_user_without_any_interest_still_gets_a_list():
    found = lists(queries=np.zeros((1, 6), np.float32), top_k=3)
    assert found.places.tolist() == [[0, 1, 2]]


@pytest.mark.slow
def test_exploration_draws_items_and_gives_propensities():
    plain = lists(top_k=20)
    many = [lists(top_k=20, explore=0.2, seed=seed) for seed in range(12)]
    share = np.mean([one.explored.mean() for one in many])
    assert 0.16 < share < 0.24
    for one in many:
        assert COLD[one.places[one.explored]].all()
        assert not one.explored[:, 0].any()
        assert (one.places[:, 0] == plain.places[:, 0]).all()
        assert ((one.propensity > 0) & (one.propensity <= 1)).all()
        assert all(len(set(row)) == 20 for row in one.places.tolist())
    again = lists(top_k=20, explore=0.2, seed=3)
    assert again.places.tolist() == many[3].places.tolist()
    alone = ListBuilder(CANDIDATES, Rules(top_k=20, explore=0.2, seed=3), device="cpu").lists(
        USERS[4:5], None, NAMES[4:5]
    )
    assert alone.places[0].tolist() == many[3].places[4].tolist()
    assert alone.propensity[0].tolist() == many[3].propensity[4].tolist()


def test_rules_hold_together():
    seen = csr_matrix(rng.random((9, 300)) < 0.2, dtype=np.float32)
    found = lists(seen=seen, top_k=10, per_creator=2, cold_share=0.3, explore=0.2, diversity=0.4, diversify="dpp")
    for user, places in enumerate(found.places):
        assert not seen.toarray()[user, places].any()
        assert len(set(places.tolist())) == 10
        creators = [creator for creator in CREATORS[places] if creator >= 0]
        assert max(creators.count(one) for one in creators) <= 2
        kept = places[~found.explored[user]]
        assert COLD[places].sum() >= np.floor(0.3 * len(kept))


def test_nothing_on_the_candidates():
    candidates = Candidates((), np.empty((0, 6), np.float32), np.empty(0, bool), np.empty(0, np.int64))
    for rules in ({}, {"explore": 0.5}, {"cold_share": 0.5, "per_creator": 1, "diversity": 0.5}):
        found = lists(candidates=candidates, top_k=3, **rules)
        assert found.places.tolist() == [[-1] * 3] * 9
        assert found.propensity.tolist() == [[0] * 3] * 9


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"cold_share": 1.5}, "cold_share 1.5: give a number from 0 to 1"),
        ({"explore": -0.1}, "explore -0.1: give a number from 0 to 1"),
        ({"diversity": 2}, "diversity 2: give a number from 0 to 1"),
        ({"top_k": 0}, "top_k 0: give 1 to 10,000"),
        ({"top_k": 10_001}, "top_k 10001: give 1 to 10,000"),
        ({"per_creator": 0}, "per_creator 0: ask for 1 or more"),
        (
            {"cold_share": 0.1, "cold_boost": 1},
            "give cold_share or cold_boost, not both: each decides how many cold items are listed",
        ),
        ({"diversify": "x"}, "diversify 'x': use mmr or dpp"),
        ({"merge": "sum"}, "merge 'sum': use max or rrf"),
    ],
)
def test_rules_that_cannot_be_meant(rules, message):
    with pytest.raises(ColdstartError) as error:
        Rules(**rules)
    assert str(error.value) == message


def test_cold_items_have_no_larger_share_for_the_average_user_than_for_known_ones():
    """Here each cold item is overestimated for all users alike, by less than what tells users' own items apart."""
    random = np.random.default_rng(1)
    taste = np.repeat(np.eye(9, dtype=np.float32), 30, axis=0) * 4  # thirty warm items for each user's own taste
    warm = np.concatenate([taste, np.zeros((270, 1), np.float32)], axis=1)
    cold = np.concatenate([np.zeros((40, 9)), random.uniform(1, 3, (40, 1))], axis=1).astype(np.float32)
    users = np.concatenate([np.eye(9) * 2, np.ones((9, 1))], axis=1).astype(np.float32)
    candidates = Candidates(tuple(f"i{n:03d}" for n in range(310)), np.concatenate([warm, cold]), np.arange(310) >= 270)
    builder, average = ListBuilder(candidates, Rules(top_k=20), device="cpu"), users.mean(0)
    assert not candidates.cold[builder.lists(users).places].any()
    assert candidates.cold[builder.lists(average[None]).places].all()
    lowered = builder.for_average_user(average, users)
    assert not candidates.cold[lowered.lists(average[None]).places].any()
    given = ListBuilder(candidates, Rules(top_k=20, cold_share=0.5), device="cpu")
    assert given.for_average_user(average, users) is given  # its share is given
    assert builder.for_average_user(users[0], users) is builder
