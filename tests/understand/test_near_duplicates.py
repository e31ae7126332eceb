"""Which items show the same: lines through time, like frames, and the screen before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_fingerprint import framed, prints, scene

from coldstart.understand.candidates import CANDIDATE_RULES, QUERY_FRAMES, VIDEO, CandidateIndex, candidate_frames
from coldstart.understand.fingerprint import Fingerprints, mirrored
from coldstart.understand.fingerprint_loader import hash_picture
from coldstart.understand.item_facts import Facts, read_facts
from coldstart.understand.near_duplicates import DuplicateRules, Match, MatchRule, Sequence, Stretch, match_items
from coldstart.understand.originals import Arrival, Originals

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


@pytest.mark.parametrize("gain", [0.85, 1.12])
def test_a_picture_made_brighter_or_darker_is_alike_both_ways(gain: float) -> None:
    picture = scene(9)
    picture[:40] = 255  # a white background, which alone differs by more levels than `max_colour` when it is darkened
    one, other = (
        Sequence(None, prints(picture)),
        Sequence(None, prints(np.clip(picture * gain, 0, 255).astype(np.uint8))),
    )
    assert match_items(one, other, RULE).score == match_items(other, one, RULE).score == 1.0
    assert match_items(one, other, MatchRule(max_colour=2)).score == (1.0 if gain < 1 else 0.0)  # clipped cells
    far = Sequence(None, prints((picture * 0.6).astype(np.uint8)))
    assert match_items(one, far, RULE).score == 0.0


def test_colour_that_a_change_of_brightness_does_not_explain_is_not_alike() -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[12:52, 16:48] = np.minimum(scene(9)[12:52, 16:48], 120)
    lighter = picture.copy()
    lighter[12:52, 16:48] += 45
    one, other = Sequence(None, prints(picture)), Sequence(None, prints(lighter))
    assert match_items(one, other, RULE).score == match_items(other, one, RULE).score == 0.0


def bordered(seeds: list[int], media: str = "image", *, mirror: bool = False) -> Sequence:
    """Scenes between black bars, as pictures or frames of a video."""
    found = [hash_picture(framed(scene(seed)[:, :: -1 if mirror else 1])) for seed in seeds]
    return Sequence(None if media == "image" else 0.25 * np.arange(len(seeds)), Fingerprints.joined(found))


def test_a_picture_or_video_between_bars_is_a_copy_found_by_its_border() -> None:
    plain = Sequence(None, prints(scene(1)))
    inside = bordered([1])
    assert match_items(plain, inside, RULE) == match_items(inside, plain, RULE)
    assert match_items(plain, inside, RULE) == Match(1.0, False, 1.0, (), "border")
    assert match_items(plain, bordered([1], mirror=True), RULE) == Match(1.0, True, 1.0, (), "border")
    assert match_items(inside, inside, RULE).found_by == "whole"
    assert match_items(plain, bordered([2]), RULE).score == 0.0
    whole, part = film(list(range(24))), bordered(list(range(8, 18)), "video")
    assert match_items(part, whole, RULE) == Match(1.0, False, 1.0, (Stretch(0.0, 2.5, 2.0, 4.5),), "border")
    for media, one, other in (("image", plain, inside), ("video", whole, part)):
        for known, asked in ((one, other), (other, one)):
            index = CandidateIndex(CANDIDATE_RULES[media])
            index.add(screen_of(bordered([99], media), media))
            index.add(screen_of(known, media))
            assert index.find(screen_of(asked, media)) == [1]


@pytest.mark.slow
def test_frames_that_are_sorted_by_parts_are_found_as_by_comparing_all() -> None:
    rule = DuplicateRules().candidate_rule("image")
    noise = np.random.default_rng(0)
    known = noise.integers(0, 2**64, (400, len(rule.views), 4), dtype=np.uint64)
    known[::2, rule.plain :] = known[::2][:, rule.boxes]  # no border
    compared, looked_up = CandidateIndex(rule, 1), CandidateIndex(rule, 1, sorted_from=50)
    found = []
    for number in range(400):
        near = known[noise.integers(0, max(number, 1))].copy()
        for bit in noise.choice(256, noise.integers(9, 16), replace=False).tolist():  # about the limit, in every view
            near[:, bit // 64] ^= np.uint64(1 << (bit % 64))
        asked = (mirrored(near) if number % 3 == 0 else near)[None]
        found.append(looked_up.find(asked))
        assert found[-1] == compared.find(asked)
        for index in (compared, looked_up):
            index.add(known[number][None])
    assert 100 < sum(len(items) == 1 for items in found) < 350


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


def bytes_of(name: str, media: str = "image", **fields: Any) -> Facts:
    return read_facts({**fields, "media": [{"role": media, "digest": name, "duration_s": 4.0}]})


def seen_with(**films: Sequence) -> tuple[Originals, dict[str, Arrival]]:
    arrivals = {
        name: Arrival(
            name, media := "image" if one.times_s is None else "video", screen_of(one, media), bytes_of(name, media)
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
    verdict = originals.find_original(arrivals["new"]).copy
    assert verdict is not None
    assert (verdict.original, verdict.match.score) == ("worse", pytest.approx(16 / 24))


def test_a_video_is_no_copy_of_a_picture() -> None:
    originals, arrivals = seen_with(picture=Sequence(None, film([1]).prints), video=film([1] * 8))
    originals.add(arrivals["picture"])
    assert originals.find_original(arrivals["video"]).copy is None


def test_equal_bytes_of_one_colour_are_copies_of_one_title_alone() -> None:
    black = Sequence(None, prints(np.zeros((96, 96, 3), np.uint8)))
    originals = Originals(DuplicateRules(), {"a": 0, "b": 1, "c": 2}, lambda items: [black for _ in items])
    screen = screen_of(black, "image")
    originals.add(Arrival("a", "image", screen, bytes_of("digest", title="Night")))
    verdict = originals.find_original(Arrival("b", "image", screen, bytes_of("digest", title="night"))).copy
    assert verdict is not None and (verdict.original, verdict.match) == ("a", Match(1.0, False, 1.0, ()))
    for facts in (bytes_of("other digest", title="Night"), bytes_of("digest"), bytes_of("digest", title="Day")):
        assert originals.find_original(Arrival("c", "image", screen, facts)).copy is None


def test_equal_bytes_of_a_black_video_are_copies() -> None:
    black = film([-1] * 8)
    originals = Originals(DuplicateRules(), {"a": 0, "b": 1}, lambda items: [black for _ in items])
    originals.add(Arrival("a", "video", screen_of(black), bytes_of("digest", "video", title="one")))
    verdict = originals.find_original(Arrival("b", "video", screen_of(black), bytes_of("digest", "video", title="two")))
    assert verdict.copy is not None and verdict.copy.match.stretches == (Stretch(0.0, 1.75, 0.0, 1.75),)


def test_a_video_of_one_still_picture_is_a_copy_of_equal_bytes_or_of_one_title_and_length() -> None:
    cover = film([7] * 16)
    originals = Originals(DuplicateRules(), {"one": 0, "new": 1}, lambda items: [cover for _ in items])
    originals.add(Arrival("one", "video", screen_of(cover), bytes_of("1", "video", title="Episode 1")))

    def original(digest: str, title: str, length_s: float) -> str | None:
        row = {"title": title, "media": [{"role": "video", "digest": digest, "duration_s": length_s}]}
        found = originals.find_original(Arrival("new", "video", screen_of(cover), read_facts(row)))
        assert found.by_facts == (found.copy is None)
        return None if found.copy is None else found.copy.original

    assert original("1", "another name", 4.0) == "one"  # the same file
    assert original("2", "episode 1", 4.1) == "one"  # encoded again
    assert original("2", "Episode 2", 4.0) is None
    assert original("2", "episode 1", 5.0) is None


def test_a_moving_video_is_a_copy_under_another_title() -> None:
    moving = film(list(range(16)))
    originals = Originals(DuplicateRules(), {"one": 0, "new": 1}, lambda items: [moving for _ in items])
    originals.add(Arrival("one", "video", screen_of(moving), bytes_of("1", "video", title="My holiday")))
    again = Arrival("new", "video", screen_of(moving), bytes_of("2", "video", title="Seaside"))
    assert originals.find_original(again).copy is not None


def test_thousands_that_share_a_placeholder_are_compared_with_those_of_their_title_alone() -> None:
    picture = Sequence(None, prints(scene(3)))
    loaded: list[int] = []

    def load(items: list[str]) -> list[Sequence]:
        loaded.append(len(items))
        return [picture for _ in items]

    order = {f"item {place}": place for place in range(800)} | {"new": 800, "same": 801}
    originals = Originals(DuplicateRules(), order, load)
    screen = screen_of(picture, "image")
    for place in range(800):
        facts = replace(bytes_of("no photo", title=f"thing {place}"), common=True)
        originals.add(Arrival(f"item {place}", "image", screen, facts))
    new = replace(bytes_of("no photo", title="a tent"), common=True)
    assert originals.find_original(Arrival("new", "image", screen, new)).copy is None
    assert loaded == []
    same = replace(bytes_of("no photo", title="Thing 17"), common=True)
    verdict = originals.find_original(Arrival("same", "image", screen, same)).copy
    assert verdict is not None and verdict.original == "item 17"
