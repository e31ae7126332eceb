"""Match: channels, masking and evidence over a hand-made catalog. True cosines come from numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from match_catalog import IMAGE, INPUTS, LOOKS, TEXT, WORDS, Made, frames, unit, words

from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.search import channels
from coldstart.search.channels import Moment, QuerySide, VideoQuery
from coldstart.search.match import NO_CANDIDATES, NO_WORDS, Answer, match
from coldstart.search.match_calibration import MatchCalibration, calibrate_matching
from coldstart.store import sql

BOUNDS = (0.5, 1.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Twelve products: `p002` has no picture, `p003` no words, `p004` neither."""
    rng = np.random.default_rng(4)
    image: list[Any] = list(unit(rng.normal(size=(12, 4))))
    text: list[Any] = list(unit(rng.normal(size=(12, 3))))
    image[2] = image[4] = text[3] = text[4] = None
    vectors = {"image": image, "text": text}
    spaces = {"image": LOOKS, "text": WORDS}
    return Made(tmp_path_factory.mktemp("made"), vectors, spaces, price=[float(n) for n in range(12)])


def ask(made: Made, *sides: QuerySide, **options: Any) -> Answer:
    found = calibrate_matching(made.catalog, INPUTS, lambda _: None)
    calibration = replace(found, bounds={"text": BOUNDS})  # no encoder of words here
    return match(made.catalog, VideoQuery("clip", sides, ["some"], []), INPUTS, calibration, **options)


def expected(made: Made, space: str, asked: np.ndarray) -> np.ndarray:
    """Best cosine to each product, NaN where it has no vector."""
    return np.array(
        [np.nan if vector is None else float((asked @ vector).max()) for vector in made.vectors[space]], np.float32
    )


def test_products_come_with_what_they_add_and_with_readings_of_the_channels_that_they_have(shop: Made) -> None:
    images, texts = frames(np.eye(4)[:2]), words(shop.vectors["text"][9])
    found = ask(shop, images, texts, top_k=12)
    image = expected(shop, "image", images.vectors)
    text = expected(shop, "text", texts.vectors)
    ids = [one.item_id for one in found.matches]
    assert "p004" not in ids and "p009" in ids[:3]  # it is the one that is named
    scores = [one.score for one in found.matches]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0 and sum(scores) < 1.5
    for one in found.matches:
        place = shop.ids.index(one.item_id)
        assert one.title == f"product {place}" and one.price == place
        for name, values in (("image→image", image), ("text→text", text)):
            if np.isnan(values[place]):
                assert name not in one.channels
            else:
                reading = one.channels[name]
                assert reading.cosine == pytest.approx(values[place], abs=1e-6)
                assert name == "image→image" or reading.rank == 1 + np.nansum(values > values[place])
                assert 0 <= reading.support <= 1
    assert (found.candidates, found.exact) == (12, True)
    assert found.weights == (
        "default weights: pictures by 10 queries made of the catalogue's products and one another; "
        "words as far as they stand out from words that name nothing"
    )
    assert found.compared == "all 12 that meet the conditions, each compared"


def test_frames_are_compared_less_the_mean_of_their_kind(shop: Made) -> None:
    """All that a light of their own does to frames is taken from them, as the catalogue's videos have it too."""
    there = np.stack([one for one in shop.vectors["image"] if one is not None])
    lit = unit(there + np.array([3, -3, 3, -3]))  # each product as a frame
    products, videos = {"image": there.mean(0)}, {"image": lit.mean(0)}
    calibration = MatchCalibration(products, videos, 1000, {"image": 0.1}, 10, "videos", {})
    query = VideoQuery("clip", [frames(lit[:1])], ["some"], [])
    assert int((there @ lit[0]).argmax()) != 0  # the light makes another one the nearest
    assert match(shop.catalog, query, INPUTS, calibration, top_k=1).matches[0].item_id == "p000"


def test_a_product_without_a_picture_is_found_by_words_that_name_it(shop: Made) -> None:
    texts = words(shop.vectors["text"][2])
    images = frames([shop.vectors["image"][0], shop.vectors["image"][1]])
    best = next(one for one in ask(shop, images, texts, top_k=4).matches if one.item_id == "p002")
    assert best.frame is None and best.words is not None
    assert best.channels["text→text"].support == pytest.approx(1, abs=1e-5)


def test_words_that_name_nothing_are_no_evidence_and_change_nothing(shop: Made) -> None:
    away = -np.mean([one for one in shop.vectors["text"] if one is not None], axis=0)
    images = frames(np.eye(4)[:2])
    sides = (images, words(away))
    names = max(float(away @ one) for one in shop.vectors["text"] if one is not None) / float(np.linalg.norm(away))
    calibration = replace(
        calibrate_matching(shop.catalog, INPUTS, lambda _: None), bounds={"text": (names + 0.01, 1.5)}
    )
    found = match(shop.catalog, VideoQuery("clip", sides, ["some"], []), INPUTS, calibration, top_k=5)
    alone = ask(shop, images, top_k=5)
    assert [(one.item_id, one.score) for one in found.matches] == [(one.item_id, one.score) for one in alone.matches]
    assert all(one.words is None for one in found.matches)
    assert found.notes == [NO_WORDS] and alone.notes == []


def test_a_video_without_words_uses_pictures_alone(shop: Made) -> None:
    found = ask(shop, frames([shop.vectors["image"][7]]), top_k=3)
    assert [channel["channel"] for channel in found.channels] == ["image→image"]
    assert found.matches[0].item_id == "p007"
    assert all(one.words is None for one in found.matches) and found.matches[0].frame
    assert "p002" not in [one.item_id for one in ask(shop, frames(np.eye(4)), top_k=12).matches]


def test_the_frame_that_is_nearest_to_a_product_is_its_evidence(shop: Made) -> None:
    images = frames([shop.vectors["image"][5], shop.vectors["image"][6], shop.vectors["image"][9]])
    found = {one.item_id: one for one in ask(shop, images, top_k=3).matches}
    assert {item: one.frame.second for item, one in found.items() if one.frame} == {
        "p005": 0.5,
        "p006": 1.5,
        "p009": 2.5,
    }
    frame = found["p006"].frame
    assert frame is not None and frame.channel == "image→image" and frame.cosine == pytest.approx(1, abs=1e-6)
    assert frame.seconds[0] == 1.5


def test_the_line_that_is_nearest_to_a_product_is_its_evidence_and_has_a_second(shop: Made) -> None:
    moments = [Moment("title", None, "hello"), Moment("speech", 3.5, "the eighth"), Moment("screen", 7.0, "9.90 kr")]
    vectors = unit([[-1, -1, -1], shop.vectors["text"][8], [-1, 0, -1]])
    lines = QuerySide("text lines", TEXT, "text", vectors, moments)
    best = ask(shop, words([0, 0, 1]), lines, top_k=12)
    found = next(one for one in best.matches if one.item_id == "p008").words
    assert found is not None
    assert (found.source, found.second, found.text, found.channel) == (
        "speech", 3.5, "the eighth", "text lines→text",
    )  # fmt: skip
    for one in best.matches:  # no words are named for a product that they do not stand out for
        if one.words is not None:
            assert one.channels[one.words.channel].support >= 0.2


def test_spaces_of_one_passport_are_crossed(tmp_path: Path) -> None:
    """Pictures and words in one space: frames also meet what products are called, and words their pictures."""
    one = Passport("both", "c", "none", 4)
    rng = np.random.default_rng(5)
    vectors = {"image": unit(rng.normal(size=(9, 4))), "text": unit(rng.normal(size=(9, 4)))}
    made = Made(tmp_path, vectors, {"image": one, "text": one})
    images = QuerySide("image", one.digest, "image", unit(np.eye(4)[:2]), [Moment("frame", 0.0), Moment("frame", 1.0)])
    texts = QuerySide("text", one.digest, "text", unit([[0, 1, 1, 0]]), [Moment("text", None, "t")])
    found = ask(made, images, texts, top_k=9)
    assert [(channel["channel"], channel["kind"]) for channel in found.channels] == [
        ("image→image", "frames→picture"),
        ("image→text", "frames→words"),
        ("text→image", "words→picture"),
        ("text→text", "words→words"),
    ]
    weights = np.array([channel["weight"] for channel in found.channels])
    np.testing.assert_allclose(weights * 1.15, [2 / 3, 1 / 3, 0.05, 0.1], atol=1e-5)


def test_sides_of_another_passport_are_never_compared(shop: Made) -> None:
    with pytest.raises(ColdstartError) as error:
        ask(shop, frames(np.eye(4), passport="0123456789ab"))
    assert str(error.value) == (
        "nothing of the video can be compared with products: it has image (0123456789ab), the catalog "
        f"image ({IMAGE}), text ({TEXT}); vectors meet where their passports are equal: run the pipeline again"
    )


def test_conditions_bound_the_candidates_and_what_is_average(shop: Made) -> None:
    images = frames(np.eye(4)[:2])
    found = ask(shop, images, where="price < 8", exclude=["p001"], top_k=12)
    assert found.candidates == 7
    assert {one.item_id for one in found.matches} == {"p000", "p003", "p005", "p006", "p007"}
    none = ask(shop, images, kind="video")
    assert none.matches == []
    assert list(none.notes) == [NO_CANDIDATES]
    with pytest.raises(ColdstartError, match=r"^where 'colour = 1': "):
        ask(shop, images, where="colour = 1")
    with pytest.raises(ColdstartError, match=r"^top_k 0: give 1 to 10,000$"):
        ask(shop, images, top_k=0)


def test_beyond_the_limit_candidates_come_from_the_index_and_meet_all_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    vectors: dict[str, list[Any]] = {
        "image": list(unit(rng.normal(size=(600, 4)))), "text": list(unit(rng.normal(size=(600, 3))))
    }  # fmt: skip
    vectors["image"][17] = None
    made = Made(tmp_path, vectors, {"image": LOOKS, "text": WORDS})
    sides = (frames(np.eye(4)[:2]), words(vectors["text"][17]))
    some = ask(made, *sides, exact_below=599, top_k=10)
    every = ask(made, *sides, exact_below=600, top_k=10)
    assert (every.exact, every.candidates, some.exact) == (True, 600, False)
    assert ask(made, *sides, exact_below=599, exact=True, top_k=10) == every
    tops = [
        set(np.argsort(-np.nan_to_num(expected(made, side.name, side.vectors), nan=-9))[: channels.DEPTH].tolist())
        for side in sides
    ]
    assert some.candidates == len(tops[0] | tops[1]) < 400
    assert some.compared == (
        f"{some.candidates} from the index, the 200 nearest of each channel; all channels of each compared"
    )
    bare = next(one for one in some.matches if one.item_id == "p017")
    assert set(bare.channels) == {"text→text"}
    assert [one.score for one in some.matches] == pytest.approx([one.score for one in every.matches], abs=1e-5)
    both = [one for one in some.matches if len(one.channels) == 2]
    places = [made.ids.index(one.item_id) for one in both]
    image = expected(made, "image", sides[0].vectors)
    assert [one.channels["image→image"].cosine for one in both] == pytest.approx(image[places].tolist(), abs=1e-6)
    assert {one.item_id for one in some.matches} == {one.item_id for one in every.matches}


def test_the_average_comes_from_products_all_over_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the candidates, which are all near: a score means the same as if all had been compared."""
    rng = np.random.default_rng(7)
    rows = unit(rng.normal(size=(900, 4)) + np.linspace(0, 3, 900)[:, None])  # the catalog drifts as it grows
    made = Made(tmp_path, {"image": list(rows), "text": [None] * 900}, {"image": LOOKS, "text": WORDS})
    images = frames([[1, 1, 1, 1]])
    every = ask(made, images).matches[0]
    monkeypatch.setattr(channels, "REFERENCE", 300)
    some = ask(made, images, exact_below=1).matches[0]
    assert some.item_id == every.item_id and some.score == pytest.approx(every.score, rel=0.1)
    half = [block["item_id"].to_pylist() for block in made.catalog.spread([], 300, where="item_id < 'p450'")]
    ids = [item for block in half for item in block]
    assert 250 < len(ids) < 350 and max(ids) < "p450"
    assert np.mean([int(item[1:]) for item in ids]) == pytest.approx(225, abs=5)


def test_few_items_of_a_large_catalog_are_read_without_naming_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["video" if place % 30 == 0 else "product" for place in range(900)]
    made = Made(tmp_path, {"image": [[1, 0, 0, 0]] * 900}, {"image": LOOKS}, kind=kinds)
    named: list[int] = []
    monkeypatch.setattr(
        sql, "one_of", lambda column, ids, own=sql.one_of: (named.append(len(ids)), own(column, ids))[1]
    )

    def read(rows: int) -> list[str]:
        blocks = made.catalog.spread([], rows, where="kind = 'video'")
        return sorted(item for block in blocks for item in block["item_id"].to_pylist())

    videos = [item for item, kind in zip(made.ids, kinds, strict=True) if kind == "video"]
    assert read(30) == read(100) == videos and not named
    some = read(10)
    assert len(some) == 10 and set(some) <= set(videos) and (some[0], some[-1]) == (videos[0], videos[-1])
    assert named == [10]


def test_blocks_hold_every_item_that_meets_a_condition_once(shop: Made) -> None:
    blocks = list(shop.catalog.blocks(["price"], where="price >= 2", rows=4))
    assert sorted(item for block in blocks for item in block["item_id"].to_pylist()) == shop.ids[2:]
    assert max(block.num_rows for block in blocks) <= 4
    assert (shop.catalog.count(), shop.catalog.count("price >= 2")) == (12, 10)
