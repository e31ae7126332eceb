"""Seen and unseen groups in one gallery: ranks, harmonic means and what is drawn to known names, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.align.measures import harmonic_mean, rank_seen_unseen, values_of

EYE = np.eye(4, dtype=np.float32)
UNSEEN = np.array([False, False, True, True])  # groups 0 and 1 are seen, 2 and 3 are not
GROUPS = np.arange(4)


def mix(first: int, second: int, share: float) -> np.ndarray:
    """A unit vector between two axes, nearer to the first where the share is above one half."""
    made = share * EYE[first] + (1 - share) * EYE[second]
    return made / np.linalg.norm(made)


def test_unseen_groups_rank_among_all_and_among_themselves() -> None:
    # the first unseen picture lies nearer to a seen name than to its own, the second is right
    queries = np.stack([EYE[0], EYE[1], mix(0, 2, 0.6), EYE[3]])
    found = rank_seen_unseen(queries, GROUPS, EYE, GROUPS, UNSEEN)
    assert (found.gallery, found.unseen_gallery) == (4, 2)
    assert found.seen.tolist() == [1, 1]
    assert found.unseen_rows.tolist() == [2, 3]
    assert found.unseen.tolist() == [2, 1]
    assert found.alone.tolist() == [1, 1]
    assert found.drawn.tolist() == [True, False]
    assert found.harmonic() == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert found.harmonic("mrr") == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert found.harmonic("recall_at_5") == 1


def test_ties_count_against() -> None:
    found = rank_seen_unseen(np.repeat(EYE[:1], 4, 0), GROUPS, np.repeat(EYE[:1], 4, 0), GROUPS, UNSEEN)
    assert found.seen.tolist() == found.unseen.tolist() == [4, 4]
    assert found.alone.tolist() == [2, 2]
    assert found.harmonic() == 0


def test_rows_that_were_trained_on_neither_help_nor_harm_where_a_group_has_others() -> None:
    gallery = np.stack([EYE[0], mix(0, 1, 0.7), EYE[1], EYE[2], EYE[3]])
    groups = np.array([0, 0, 1, 2, 3])
    trained = np.array([True, False, True, False, False])
    query = mix(0, 1, 0.45)[None]
    assert rank_seen_unseen(query, GROUPS[:1], gallery, groups, UNSEEN).seen.tolist() == [1]
    found = rank_seen_unseen(EYE[:1], GROUPS[:1], gallery, groups, UNSEEN, trained=trained)
    assert found.seen.tolist() == [1]  # the picture that it was trained on would stand before
    wrong = np.stack([EYE[0], EYE[3], mix(0, 1, 0.6), EYE[2], EYE[3]])
    found = rank_seen_unseen(EYE[:2], GROUPS[:2], wrong, groups, UNSEEN, trained=trained)
    assert found.seen.tolist() == [4, 1]  # group 1 has no other row, so that its trained one counts


def test_queries_without_an_answer_are_left_out() -> None:
    found = rank_seen_unseen(EYE, GROUPS, EYE[:3], GROUPS[:3], UNSEEN)
    assert (len(found.seen), found.unseen_rows.tolist()) == (2, [2])
    alone = rank_seen_unseen(EYE[:2], GROUPS[:2], EYE[:2], GROUPS[:2], UNSEEN)
    assert (alone.harmonic(), len(alone.unseen), alone.unseen_gallery) == (0, 0, 0)


def test_harmonic_means_of_shares() -> None:
    assert harmonic_mean(0.957, 0.005) == pytest.approx(2 * 0.957 * 0.005 / 0.962)
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(np.array([1.0, 0.5]), np.array([1.0, 0.0])).tolist() == [1, 0]
    assert values_of("mrr", np.array([1, 4])).tolist() == [1, 0.25]
    assert values_of("recall_at_10", np.array([10, 11])).tolist() == [1, 0]
