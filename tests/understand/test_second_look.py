"""Copies that hashes of whole pictures do not find: turned, cut, set into another picture; and what is no copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from test_duplicates import Shop
from test_fingerprint import scene
from transformed import CHANGES

from coldstart.errors import ColdstartError
from coldstart.understand import second_look
from coldstart.understand.item_facts import Facts
from coldstart.understand.local_features import (
    FEATURES,
    LONGEST,
    MOST_BYTES,
    LocalFeatures,
    compute_local_features,
)
from coldstart.understand.local_index import SEGMENT, LocalIndex
from coldstart.understand.local_match import PlaceRule, place_picture
from coldstart.understand.originals import Arrival
from coldstart.understand.placement import describe_changes
from coldstart.understand.second_look import Pictures, SecondLook, place_item
from coldstart.understand.stages import duplicates

NOTHING = Facts(frozenset(), frozenset(), None, "", {}, frozenset(), None)
Picture = NDArray[np.uint8]


def busy(seed: int, width: int = 300, height: int = 240) -> Picture:
    """A picture with as many corners as a photo: blobs of colour under sharp shapes."""
    random = np.random.default_rng(seed)
    picture = cv2.resize(scene(seed), (width, height), interpolation=cv2.INTER_AREA)
    for _ in range(60):
        left, top = (random.random(2) * (width, height)).astype(int).tolist()
        colour, size = random.integers(0, 256, 3).tolist(), int(random.integers(6, 26))
        if random.random() < 0.5:
            cv2.circle(picture, (left, top), size // 2, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(picture, (left, top), (left + size, top + size * 2 // 3), colour, -1)
    return np.asarray(picture, np.uint8)


def encoded(picture: Picture) -> Picture:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, 70])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def arrival(item: str, facts: Facts = NOTHING) -> Arrival:
    return Arrival(item, "image", np.zeros((1, 9, 4), np.uint64), facts)


def still(*pictures: Picture) -> Pictures:
    return Pictures(None, tuple(compute_local_features(picture) for picture in pictures))


def look(originals: dict[str, Pictures]) -> SecondLook:
    asked: list[list[str]] = []

    def load(items: list[str]) -> list[Pictures]:
        asked.append(items)
        return [originals[item] for item in items]

    found = SecondLook(0.6, {item: place for place, item in enumerate(originals)}, load)
    for item, pictures in originals.items():
        found.add(arrival(item), pictures)
    return found


# -- features


def test_features_are_kept_as_bytes() -> None:
    features = compute_local_features(busy(1))
    assert features.size == (LONGEST, round(240 * LONGEST / 300))
    assert len(features.points) == FEATURES and len(features.to_bytes()) == MOST_BYTES
    again = LocalFeatures.from_bytes(features.to_bytes())
    np.testing.assert_allclose(again.points, features.points, atol=0.01)
    for name in ("octaves", "angles", "bits", "thumb"):
        np.testing.assert_array_equal(getattr(again, name), getattr(features, name))


def test_features_are_spread_over_the_picture_and_over_scales() -> None:
    features = compute_local_features(busy(1))
    parts = np.unique((features.points * 3 // np.array(features.size)).astype(int), axis=0)
    assert len(parts) == 9
    assert (features.octaves >= 3).sum() > FEATURES / 5, "a picture shown at 60 % has lost the finer ones"


def test_a_picture_of_one_colour_has_no_features() -> None:
    plain = compute_local_features(np.full((60, 90, 3), 200, np.uint8))
    assert len(plain.points) == 0 and LocalFeatures.from_bytes(plain.to_bytes()).size == plain.size
    assert place_picture(plain, plain, PlaceRule()) is None
    index = LocalIndex()
    index.add(0, plain)
    assert index.find(plain, 5) == {}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + data, lambda data: b"\0" * len(data)])
def test_bytes_of_something_else_are_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="run the stage of fingerprints again"):
        LocalFeatures.from_bytes(change(compute_local_features(busy(1)).to_bytes()))


# -- places


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("turned 3 degrees", "turned by 3 degrees"),
        ("cropped 15 %", "cut to 73 % of the picture"),
        ("bar added above", "with a bar above"),
        ("border", "with a border"),
        ("letterbox", "with bars above and below"),
        ("picture in picture", "shown inside, in the middle, at 60 % size"),
    ],
)
def test_a_changed_picture_is_placed(change: str, words: str) -> None:
    found = place_picture(
        compute_local_features(busy(1)), compute_local_features(encoded(CHANGES[change].picture(busy(1)))), PlaceRule()
    )
    assert found is not None
    assert describe_changes({"placement": vars(found)}) == words


def test_other_pictures_another_colour_and_one_mark_on_two_things_have_no_place() -> None:
    picture = busy(1)
    features = compute_local_features(picture)
    assert place_picture(features, compute_local_features(busy(2)), PlaceRule()) is None
    assert place_picture(features, compute_local_features(picture[..., ::-1]), PlaceRule()) is None, "colours swapped"
    marked = busy(2)
    marked[90:170, 100:200] = picture[90:170, 100:200]
    assert place_picture(features, compute_local_features(marked), PlaceRule()) is None, "one print on two shirts"
    over = replace(PlaceRule(), turn=2.0)
    assert place_picture(features, compute_local_features(CHANGES["turned 3 degrees"].picture(picture)), over) is None


# -- index


def test_the_index_finds_changed_pictures_among_others_at_every_size() -> None:
    index = LocalIndex()
    wanted = compute_local_features(encoded(CHANGES["turned 3 degrees"].picture(busy(0))))
    random = np.random.default_rng(0)
    for number in range(520):
        features = compute_local_features(busy(0)) if number == 0 else noise(random)
        index.add(number, features)
        if number in (0, 64, 511, 519):
            assert next(iter(index.find(wanted, 3))) == 0, number
    assert len(index.find(wanted, 3)) <= 3
    assert SEGMENT == 4096, "what counts as shared by many rests on it"


def noise(random: np.random.Generator) -> LocalFeatures:
    return LocalFeatures(
        (LONGEST, LONGEST),
        random.random((FEATURES, 2), np.float32) * LONGEST,
        random.integers(0, 8, FEATURES, np.int8),
        random.integers(0, 256, FEATURES, np.uint8),
        random.integers(0, 256, (FEATURES, 32), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
    )


# -- items


def test_the_earliest_original_is_found_and_what_it_says_of_the_place() -> None:
    originals = {f"o{seed}": still(busy(seed)) for seed in range(4)}
    verdict = look(originals).find_original(
        arrival("copy"), still(encoded(CHANGES["picture in picture"].picture(busy(2))))
    )
    assert verdict.copy is not None and verdict.copy.placement is not None and not verdict.by_facts
    assert (verdict.copy.original, verdict.copy.match.found_by, verdict.copy.match.score) == ("o2", "details", 1.0)
    assert look(originals).find_original(arrival("new"), still(busy(9))).copy is None


def test_stated_facts_rule_a_copy_out_and_only_then_decide() -> None:
    known = look({"o": still(busy(1))})
    other = replace(NOTHING, digests=frozenset({"x"}), common=True)
    copy = still(encoded(CHANGES["cropped 15 %"].picture(busy(1))))
    assert known.find_original(arrival("copy", other), copy).copy is None, "a placeholder of many products"
    assert not known.find_original(arrival("new"), still(busy(9))).by_facts


def test_most_pictures_of_an_item_must_be_shown() -> None:
    rule = PlaceRule()
    pictures = [busy(seed) for seed in range(3)]
    turned = [encoded(CHANGES["turned 3 degrees"].picture(picture)) for picture in pictures]
    found = place_item(still(*pictures), still(*turned), rule)
    assert found is not None and found.score == 1.0
    part = place_item(still(*pictures), still(turned[0], busy(7), busy(8)), rule)
    assert part is not None and part.score == pytest.approx(1 / 3)
    assert place_item(still(pictures[0]), still(busy(7)), rule) is None


def test_frames_of_videos_are_compared_at_their_seconds() -> None:
    frames = [busy(seed) for seed in range(4)]
    turned = [encoded(CHANGES["turned 3 degrees"].picture(frame)) for frame in frames]
    seconds = (0.0, 2.0, 4.0, 6.0)
    original, copy = (replace(still(*shown), times_s=seconds) for shown in (frames, turned))
    found = place_item(original, copy, PlaceRule())
    assert found is not None and (found.score, found.times_s) == (1.0, (0.0, 6.0))
    assert place_item(original, replace(copy, times_s=tuple(second + 1 for second in seconds)), PlaceRule()) is None
    assert (
        len(original.searched) == 2
        and len(replace(copy, times_s=seconds[:1], features=copy.features[:1]).searched) == 1
    )


# -- the stage


@pytest.mark.slow
def test_the_stage_looks_a_second_time_and_says_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    for item, picture in {"a": busy(1), "b": CHANGES["turned 3 degrees"].picture(busy(1)), "c": busy(2)}.items():
        cv2.imwrite(str(tmp_path / f"{item}.png"), picture)
        shop.entries[item] = {"item_id": item, "image": f"{item}.png"}
    assert shop.run().stages[2].notes == ["1 of 3 items are copies, 1 of them new"]
    row = shop.rows()["b"]
    assert (row["duplicate_of"], row["found_by"], describe_changes(row)) == ("a", "details", "turned by 3 degrees")
    assert shop.rows()["c"]["placement"] is None
    monkeypatch.setattr("coldstart.understand.stages.duplicates.opencv_version", lambda: None)
    notes = shop.run(max_bits=19).stages[2].notes
    assert notes[0] == "0 of 3 items are copies, 0 of them new"
    assert notes[1].startswith(
        "without OpenCV, copies that are turned, cut by much or set into another picture are not"
    )


@pytest.mark.slow
def test_stored_fingerprints_that_are_none_are_refused_by_item(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer("a", 1)
    shop.run()
    table, stage = shop.store.read("stage.prints", ids=["a"]), shop.stage()
    faults = (
        (stage.load_sequences, {"hashes": [b"\0"]}),
        (stage.load_sequences, {"quality": [0.5, 0.5]}),
        (stage.load_sequences, {"times_s": [float("nan")]}),
        (stage.load_sequences, {"times_s": [1e12]}),
        (stage.load_sequences, {"boxes": [b"\0" * 8]}),
        (stage.load_pictures, {"details": [b"\0"]}),
        (stage.load_pictures, {"details_s": [0.0, 2.0]}),
        (lambda *_: shop.run(max_bits=19), {"screen": b"\0"}),
        (lambda *_: shop.run(max_bits=19), {"screen_boxes": b"\0" * 8}),
    )
    for load, fault in faults:
        shop.store.merge("stage.prints", pa.Table.from_pylist([{**table.to_pylist()[0], **fault}], table.schema))
        with pytest.raises(ColdstartError, match="the stored fingerprint of item 'a' cannot be read"):
            load(shop.store, ["a"])
    details = table.to_pylist()[0]["details"]
    row = {**table.to_pylist()[0], "details": details * 50}
    shop.store.merge("stage.prints", pa.Table.from_pylist([row], table.schema))
    (many,) = stage.load_pictures(shop.store, ["a"])
    assert (len(details), len(many.features)) == (1, second_look.MOST_PICTURES)  # more cost time a stranger could set


@pytest.mark.slow
def test_originals_beyond_the_limit_are_not_indexed_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_look, "MOST_ORIGINALS", 1)
    found = look({"a": still(busy(1)), "b": still(busy(2))})
    assert (len(found._items), found.left_out, found.first({"a", "b"})) == (1, 1, {"a"})
    monkeypatch.setattr(duplicates, "MOST_ORIGINALS", 1)
    shop = Shop(tmp_path)
    shop.offer("a", 1)
    shop.offer("b", 2)
    assert "the first 1 originals: copies of 1 others" in shop.run().stages[2].notes[1]
    shop.offer("c", 3)
    assert "copies of 2 others" in shop.run().stages[2].notes[1]
