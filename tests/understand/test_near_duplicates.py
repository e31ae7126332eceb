"""Which items show the same: lines through time, like frames, and the screen before them."""

from __future__ import annotations

import numpy as np
import pytest
from test_fingerprint import prints, scene

from coldstart.understand.near_duplicates import (
    CANDIDATE_RULES,
    QUERY_FRAMES,
    VIDEO,
    Arrival,
    CandidateIndex,
    DuplicateRules,
    Match,
    MatchRule,
    Originals,
    Sequence,
    Stretch,
    candidate_frames,
    match_items,
)

RULE = MatchRule()
NOTHING = Match(0.0, False, 1.0, ())


def film(seeds: list[int], spacing_s: float = 0.25, start_s: float = 0.0) -> Sequence:
    """A video of one scene a frame; seed -1 is a black frame."""
    frames = [scene(seed, 96) if seed >= 0 else np.zeros((96, 96, 3), np.uint8) for seed in seeds]
    return Sequence(start_s + spacing_s * np.arange(len(seeds)), prints(*frames))


def test_a_film_matches_itself_from_end_to_end() -> None:
    whole = film(list(range(16)))
    assert match_items(whole, whole, RULE) == Match(1.0, False, 1.0, (Stretch(0.0, 4.0, 0.0, 4.0),))


def test_an_excerpt_lies_where_it_was_taken_from_and_the_score_is_the_same_both_ways() -> None:
    whole, part = film(list(range(24))), film(list(range(8, 18)))
    found, turned = match_items(part, whole, RULE), match_items(whole, part, RULE)
    assert found == Match(1.0, False, 1.0, (Stretch(0.0, 2.5, 2.0, 4.5),))
    assert turned == Match(1.0, False, 1.0, (Stretch(2.0, 4.5, 0.0, 2.5),))


@pytest.mark.parametrize("speed", [0.9, 0.94, 1.05, 1.1])
def test_speed_within_a_tenth_is_found(speed: float) -> None:
    seeds = list(range(40))
    slow, fast = film(seeds), film(seeds, 0.25 / speed)
    found = match_items(fast, slow, RULE)
    assert found.score == 1.0
    assert found.speed == pytest.approx(speed, abs=0.03)


def test_half_the_speed_is_another_film() -> None:
    seeds = list(range(40))
    assert match_items(film(seeds), film(seeds, 0.5), RULE).score < 0.3


def test_the_same_pictures_in_another_order_are_no_line() -> None:
    assert match_items(film(list(range(20))), film(list(range(20))[::-1]), RULE).score <= 0.25


def test_a_shared_opening_counts_for_its_share() -> None:
    one, other = film([*range(4), *range(100, 116)]), film([*range(4), *range(200, 220)])
    found = match_items(one, other, RULE)
    assert found.score == pytest.approx(0.2)
    assert found.stretches == (Stretch(0.0, 1.0, 0.0, 1.0),)


def test_black_frames_are_like_no_other() -> None:
    black = film([-1] * 12)
    assert match_items(black, black, RULE) == NOTHING
    logo = film([5, 5, *[-1] * 18])
    assert match_items(logo, film([5, 5, *[-1] * 30]), RULE).score == pytest.approx(0.2)  # two of ten, not two of two


def test_a_still_film_is_laid_at_the_start() -> None:
    assert match_items(film([3] * 8), film([3] * 20), RULE) == Match(1.0, False, 1.0, (Stretch(0.0, 2.0, 0.0, 2.0),))


def test_pictures_match_by_share_and_mirrored() -> None:
    def pictures(*seeds: int, mirror: bool = False) -> Sequence:
        return Sequence(None, prints(*[scene(seed)[:, :: -1 if mirror else 1] for seed in seeds]))

    assert match_items(pictures(1), pictures(1, 2, 3), RULE) == Match(1.0, False, 1.0, ())
    assert match_items(pictures(1, 2), pictures(2, 3, 4), RULE) == Match(0.5, False, 1.0, ())
    assert match_items(pictures(1), pictures(1, mirror=True), RULE) == Match(1.0, True, 1.0, ())
    assert match_items(pictures(1), pictures(2), RULE).score == 0.0


def test_the_same_shape_in_another_colour_is_not_alike() -> None:
    grey = scene(9).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    red, blue = (np.repeat(grey[..., None], 3, axis=2) for _ in range(2))
    red[..., 0] += 60
    red[..., 1] -= 60 * 0.299 / 0.587  # the brightness stays
    one, other = (prints(np.clip(picture, 0, 255).astype(np.uint8)) for picture in (red, blue))
    assert match_items(Sequence(None, one), Sequence(None, other), RULE).score == 0.0
    assert match_items(Sequence(None, one), Sequence(None, other), MatchRule(max_colour=200)).score == 1.0


def screen_of(item: Sequence, media: str = "video") -> np.ndarray:
    return candidate_frames(item.prints, item.times_s, CANDIDATE_RULES[media])


@pytest.mark.slow
def test_the_screen_finds_the_item_among_many_whatever_the_threads() -> None:
    films = [film(list(range(20 * n, 20 * n + 20)), 0.5) for n in range(6)]
    noise = np.random.default_rng(0)
    screens = [CandidateIndex(VIDEO, threads) for threads in (1, 2)]
    for screen in screens:
        noise = np.random.default_rng(0)
        for number in range(10_000):
            if number % 2000 == 7:
                screen.add(screen_of(films[number // 2000]))
            else:
                screen.add(noise.integers(0, 2**64, (14, len(VIDEO.views), 4), dtype=np.uint64))
    for number in range(5):
        query = screen_of(films[number])
        assert screens[0].find(query) == screens[1].find(query) == [2000 * number + 7]
    assert screens[0].find(screen_of(films[5])) == []
    assert screens[0].find(screen_of(film([-1] * 4))) == []


def test_what_is_screened_of_a_film() -> None:
    assert len(screen_of(film([1] * 40))) == 1  # nothing moves
    assert len(screen_of(film(list(range(16))))) == 8  # one each half second
    assert len(screen_of(film([-1] * 9))) == 0
    assert QUERY_FRAMES == 8


def seen_with(**films: Sequence) -> tuple[Originals, dict[str, Arrival]]:
    arrivals = {
        name: Arrival(
            name, media := "image" if one.times_s is None else "video", screen_of(one, media), frozenset({name})
        )
        for name, one in films.items()
    }
    order = {name: place for place, name in enumerate(films)}
    return Originals(DuplicateRules(), order, lambda items: [films[item] for item in items]), arrivals


def test_the_earliest_original_wins_over_a_better_one() -> None:
    whole = film(list(range(24)))
    worse = film([*range(16), *range(100, 108)])
    originals, arrivals = seen_with(worse=worse, whole=whole, new=whole)
    originals.add(arrivals["whole"])
    originals.add(arrivals["worse"])
    verdict = originals.find_original(arrivals["new"])
    assert verdict is not None
    assert (verdict.original, verdict.match.score) == ("worse", pytest.approx(16 / 24))


def test_a_video_is_no_copy_of_a_picture() -> None:
    originals, arrivals = seen_with(picture=Sequence(None, film([1]).prints), video=film([1] * 8))
    originals.add(arrivals["picture"])
    assert originals.find_original(arrivals["video"]) is None


def test_equal_media_are_copies_with_nothing_to_see_in_them() -> None:
    black = Sequence(None, prints(np.zeros((96, 96, 3), np.uint8)))
    originals = Originals(DuplicateRules(), {"a": 0, "b": 1, "c": 2}, lambda items: [black for _ in items])
    screen = screen_of(black, "image")
    originals.add(Arrival("a", "image", screen, frozenset({"digest"})))
    verdict = originals.find_original(Arrival("b", "image", screen, frozenset({"digest"})))
    assert verdict is not None and (verdict.original, verdict.match) == ("a", Match(1.0, False, 1.0, ()))
    assert originals.find_original(Arrival("c", "image", screen, frozenset({"other digest"}))) is None
