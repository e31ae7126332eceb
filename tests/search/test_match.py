"""Match: channels, masking and evidence over a hand-made catalog; items, files, weights and the command over a small
workspace of fake encoders. True cosines come from numpy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from catalogue import photo
from PIL import Image
from typer.testing import CliRunner

import coldstart as library
from coldstart.api import Workspace
from coldstart.cli import app
from coldstart.core.items import CONTENT_FIELDS
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.search import channels, queries
from coldstart.search.channel_weights import ChannelWeights, default_weights, resolve_weights
from coldstart.search.channels import Channel, Moment, QuerySide, VideoQuery, channels_of
from coldstart.search.evaluate_match import evaluate_match
from coldstart.search.fusion import is_held_out
from coldstart.search.match import NO_CANDIDATES, NO_WORDS, Answer, match
from coldstart.search.match_calibration import MatchCalibration, calibrate_matching
from coldstart.store import sql
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

LOOKS, WORDS = Passport("looks", "a", "none", 4), Passport("words", "b", "none", 3)
IMAGE, TEXT = LOOKS.digest, WORDS.digest
INPUTS: dict[str, Any] = {"image": "image", "text": "text"}
BOUNDS = (0.5, 1.0)


def unit(rows: Any) -> np.ndarray:
    found = np.asarray(rows, np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


# -- over a hand-made catalog


class Made:
    """A catalog of products with vectors in `image` and `text`, some of which lack one or the other."""

    def __init__(
        self, folder: Path, vectors: Mapping[str, Sequence[Any]], passports: Mapping[str, Passport], **values: Any
    ) -> None:
        count = len(next(iter(vectors.values())))
        self.ids = [f"p{number:03d}" for number in range(count)]
        self.vectors = vectors
        columns: dict[str, Any] = {"item_id": pa.array(self.ids)}
        given = {"kind": ["product"] * count, "title": [f"product {n}" for n in range(count)], **values}
        for entry in CONTENT_FIELDS:
            columns[entry.name] = pa.array(given.get(entry.name, [None] * count), entry.type)
        columns["row_key"] = columns["index_key"] = pa.array(self.ids)
        for name in ("transcript", "screen_text", "language", "duplicate_of"):
            columns[name] = pa.array(given.get(name, [None] * count), pa.string())
        columns["text"] = pa.array(given["title"])
        for space, rows in vectors.items():
            columns[f"vector_{space}"] = pa.array(list(rows), pa.list_(pa.float32(), passports[space].dim))
        writer = Catalog(lancedb.connect(str(folder)))
        writer.write(pa.table(columns), passports)
        writer.publish(writer.build_indexes())
        published = writer.published()
        assert published is not None
        self.catalog: Published = published


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


def frames(vectors: Any, passport: str = IMAGE) -> QuerySide:
    rows = unit(vectors)
    return QuerySide("image", passport, "image", rows, [Moment("frame", second + 0.5) for second in range(len(rows))])


def words(vector: Any) -> QuerySide:
    return QuerySide("text", TEXT, "text", unit([vector]), [Moment("text", None, "a title")])


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


# -- channels and weights


def test_channels_are_pairs_of_one_passport_in_a_fixed_order() -> None:
    sides = [words([1, 0, 0]), frames(np.eye(4)), QuerySide("text lines", TEXT, "text", unit([[1, 0, 0]]), [])]
    spaces = {"image": LOOKS, "text": WORDS, "other": WORDS}
    found = channels_of(sides, spaces, {**INPUTS, "other": "text"})
    assert [channel.name for channel in found] == [
        "image→image", "text→other", "text→text", "text lines→other", "text lines→text",
    ]  # fmt: skip
    weights = default_weights(found, MatchCalibration())
    np.testing.assert_allclose(weights * 1.5, [1, 0.05, 0.05, 0.2, 0.2])  # frames 1, whole texts 0.1, lines 0.4
    assert [channel.name for channel in channels_of(sides, spaces, INPUTS)] == [
        "image→image", "text→text", "text lines→text",
    ]  # fmt: skip


LEFT, RIGHT = Channel("image", "image", "aa", "frames→picture"), Channel("text", "text", "bb", "words→words")


def test_spaces_of_pictures_weigh_by_how_seldom_they_miss() -> None:
    better, worse = (Channel(name, name, name, "frames→picture") for name in ("better", "worse"))
    calibration = MatchCalibration(misses={"better": 0.0, "worse": 0.38})
    assert default_weights([better, worse], calibration).tolist() == pytest.approx([20 / 21, 1 / 21])


def test_a_calibration_finds_the_space_that_tells_products_apart(tmp_path: Path) -> None:
    """In one space all pictures look alike; twelve videos of each space are laid over them."""
    rng = np.random.default_rng(8)
    good, poor = Passport("good", "g", "none", 32), Passport("poor", "p", "none", 32)
    sharp = unit(rng.normal(size=(42, 32)))
    flat = unit(1 + 0.05 * rng.normal(size=(42, 32)))
    flat[30:] = unit(rng.normal(size=(12, 32)))
    kinds = ["product"] * 30 + ["video"] * 12
    made = Made(tmp_path, {"sharp": list(sharp), "flat": list(flat)}, {"sharp": good, "flat": poor}, kind=kinds)
    found = calibrate_matching(made.catalog, {"sharp": "image", "flat": "image"}, lambda _: None)
    assert (found.queries, found.views, found.video_count) == (30, "videos", 12)
    assert found.misses["sharp"] < 0.1 < 0.4 < found.misses["flat"]
    np.testing.assert_allclose(found.products["sharp"], sharp[:30].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.videos["sharp"], sharp[30:].mean(0), atol=1e-6)
    read = MatchCalibration.from_bytes(found.to_bytes())
    assert read.misses == found.misses and read.video_count == 12 and read.is_of(made.catalog)
    assert not MatchCalibration({"sharp": np.zeros(3, np.float32)}).is_of(made.catalog)
    np.testing.assert_allclose(read.products["flat"], found.products["flat"], atol=1e-6)


def test_the_mean_of_views_leaves_out_the_video_that_asks() -> None:
    products, videos = np.zeros(2, np.float32), np.array([1, 0], np.float32)
    calibration = MatchCalibration({"image": products}, {"image": videos}, 5)
    assert calibration.mean_of_views("image", None).tolist() == pytest.approx([0.5, 0])  # five count as the products do
    own = np.array([1, 0], np.float32)
    assert calibration.mean_of_views("image", own).tolist() == pytest.approx([4 / 9, 0])


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"[]",
        b'{"products": {}, "videos": {}, "misses": {"a": 2}, "bounds": {}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {}, "videos": {}, "misses": {}, "bounds": {"a": [1, 0]}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {"a": [NaN]}, "videos": {"a": [1]}, "misses": {}, "bounds": {}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {}, "videos": {}, "misses": {}, "bounds": {}, "video_count": 1e999, "queries": 0, "views": ""}',
    ],
)
def test_a_damaged_calibration_is_refused(data: bytes) -> None:
    with pytest.raises(ColdstartError, match=r"^the calibration of matching cannot be read: "):
        MatchCalibration.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"version": 2, "channels": [{"channel": "a", "passport": "b", "weight": -1}]}',
        b'{"version": 1e999, "channels": []}',
    ],
)
def test_damaged_weights_are_refused(data: bytes) -> None:
    with pytest.raises(ColdstartError, match=r"^the fitted weights of match cannot be read .*coldstart match --fit`$"):
        ChannelWeights.from_bytes(data)


LEFT, RIGHT = Channel("image", "image", "aa", "frames→picture"), Channel("text", "text", "bb", "words→words")


def test_fitted_weights_are_stored_with_their_passports() -> None:
    learnt = ChannelWeights.from_bytes(ChannelWeights.of([LEFT, RIGHT], np.array([0.7, 0.3])).to_bytes())
    weights, origin, notes = resolve_weights([RIGHT, LEFT], learnt, MatchCalibration())
    assert (weights.tolist(), origin, notes) == (pytest.approx([0.3, 0.7]), "fitted weights", [])
    moved = Channel("text", "text", "cc", "words→words")
    weights, _, notes = resolve_weights([LEFT, moved], learnt, MatchCalibration())
    assert weights.tolist() == pytest.approx([0.5, 0.5])  # the mean of those that are known is 0.7
    assert notes == ["text→text: not among the fitted weights, so the mean weight is taken"]


def test_weights_of_an_earlier_recipe_stay_in_use_and_are_named() -> None:
    rows = [{"channel": "image→image", "passport": "aa", "weight": 1.0}]
    earlier = ChannelWeights.from_bytes(json.dumps({"version": 1, "channels": rows}).encode())
    weights, origin, notes = resolve_weights([LEFT], earlier, MatchCalibration())
    assert (weights.tolist(), origin) == ([1.0], "fitted weights")
    assert notes == ["the weights were fitted by an earlier recipe; `coldstart match --fit` fits by the new one"]


@pytest.mark.parametrize(
    ("weights", "why"), [([0.0, 1.0], "weigh nothing"), (None, "are of other spaces or other encoders")]
)
def test_fitted_weights_that_say_nothing_are_left_aside(weights: list[float] | None, why: str) -> None:
    other = Channel("x", "x", "dd", "words→words")
    learnt = (
        ChannelWeights.of([LEFT, RIGHT], np.array(weights)) if weights else ChannelWeights.of([other], np.array([1.0]))
    )
    assert resolve_weights([LEFT], learnt, MatchCalibration()) == (
        np.array([1.0]),
        "default weights: pictures alike",
        [f"the fitted weights {why}: fit them again with `coldstart match --fit`"],
    )


# -- items, files and the command, over fake encoders

COLOURS = [
    (230, 20, 20), (20, 200, 20), (20, 20, 230), (230, 230, 20), (20, 220, 220), (220, 20, 220), (240, 240, 240),
    (120, 60, 10), (10, 90, 50), (90, 90, 90), (255, 140, 0), (60, 0, 120),
]  # fmt: skip
NAMES = [
    "strawberry jam", "green kiwi", "blue cheese", "yellow lemon", "mint syrup", "dragon fruit", "white rice",
    "brown bread", "spinach", "grey salt", "orange juice", "plum wine",
]  # fmt: skip


def film(path: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
    """A second of each colour."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"preset": "ultrafast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for colour in colours:
            pixels = np.full((64, 64, 3), colour, np.uint8)
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve products of one colour each, and fourteen videos that show and name two of them each."""
    folder = tmp_path_factory.mktemp("videos")
    entries: list[dict[str, Any]] = []
    for number, (colour, name) in enumerate(zip(COLOURS, NAMES, strict=True)):
        Image.new("RGB", (48, 48), colour).save(folder / f"p{number}.png")
        entries.append({"item_id": f"p{number}", "kind": "product", "title": name, "image": f"p{number}.png"})
    entries.append({"item_id": "bare", "kind": "product", "title": "a gift card without a picture"})
    pairs = []
    for number in range(14):
        shown = [number % 12, (number * 5 + 3) % 12]
        film(folder / f"v{number}.mp4", [COLOURS[place] for place in shown])
        title = f"try {NAMES[shown[0]]} with {NAMES[shown[1]]}"
        entries.append({"item_id": f"v{number}", "kind": "video", "title": title, "video": f"v{number}.mp4"})
        pairs.append({"item_id": f"v{number}", "product_ids": [f"p{place}" for place in shown]})
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), "utf-8")
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs), "utf-8")
    embed = {"stage": "embed", "encoder": "fake:32"}
    stages = {
        "ingest": {},
        "screen": {"stage": "understand.screen", "reader": "fake"},
        "evidence": {"stage": "understand.evidence"},
        "image": {**embed, "input": "image", "frames": 4},
        "text": {**embed, "input": "text", "prompt": "item_evidence"},
        "index": {},
    }
    settings = {"manifest": str(folder / "items.jsonl"), "engine": {"workers": 1, "device": "cpu"}, "stages": stages}
    library.open(folder / "workspace", create=True).run(settings)
    return folder


@pytest.fixture
def opened(folder: Path) -> Workspace:
    return library.open(folder / "workspace")


@pytest.mark.slow
def test_the_query_of_an_item_has_its_frames_its_text_and_its_lines(opened: Workspace) -> None:
    found = opened.match(item="v0", top_k=13)
    assert found.used[:2] == ["4 frames", "its text"] and "text on screen" in found.used[2]
    assert [channel["channel"] for channel in found.channels] == [
        "image→image", "image→text", "text→image", "text lines→image", "text→text", "text lines→text",
    ]  # fmt: skip
    weights = np.array([channel["weight"] for channel in found.channels])
    np.testing.assert_allclose(weights * 1.75, [2 / 3, 1 / 3, 0.05, 0.2, 0.1, 0.4], atol=1e-5)
    by_looks = opened.match(item="v0", spaces=["image"], top_k=2)
    assert {one.item_id for one in by_looks.matches} == {"p0", "p3"}
    first = next(one for one in by_looks.matches if one.item_id == "p3")
    assert first.frame is not None and first.frame.second is not None and first.frame.second >= 1
    assert first.channels["image→image"].cosine == pytest.approx(1, abs=0.02)
    bare = next(one for one in opened.match(item="v0", top_k=13).matches if one.item_id == "bare")
    assert {name.partition("→")[2] for name in bare.channels} == {"text"}
    assert json.loads(json.dumps(found.to_dict()))["candidates"] == 13


@pytest.mark.slow
def test_a_file_gives_what_the_same_item_gives(opened: Workspace, folder: Path) -> None:
    stored = opened.match(item="v3", top_k=5)
    title = opened.item("v3").title
    file = opened.match(video=folder / "v3.mp4", title=title, listen=True, top_k=5)
    assert file.used == stored.used and list(file.channels) == list(stored.channels)
    assert [one.item_id for one in file.matches] == [one.item_id for one in stored.matches]
    assert [one.score for one in file.matches] == pytest.approx([one.score for one in stored.matches], abs=2e-2)
    for one, other in zip(file.matches, stored.matches, strict=True):
        assert (one.words is None) == (other.words is None)
        if one.words and other.words:
            assert (one.words.source, one.words.second, one.words.text) == (
                other.words.source, other.words.second, other.words.text,
            )  # fmt: skip
    assert file.notes == ["speech was not read: the pipeline has no stage understand.speech"]


@pytest.mark.slow
def test_a_file_alone_is_its_frames_and_notes_what_it_lacks(opened: Workspace, folder: Path) -> None:
    found = opened.match(video=folder / "v1.mp4", spaces=["image"], top_k=2)
    assert found.used == ["4 frames"]
    assert found.notes == [
        "speech and text on screen were not read: add --listen",
        "no title was given: --title WORDS",
    ]
    assert {one.item_id for one in found.matches} == {"p1", "p8"}
    titled = opened.match(video=folder / "v1.mp4", title="spinach", spaces=["text"], top_k=1)
    assert titled.used == ["its text"] and titled.matches[0].item_id == "p8"
    assert titled.matches[0].words is not None and titled.matches[0].words.source == "text"


def test_a_product_may_ask_too(opened: Workspace) -> None:
    found = opened.match(item="p0", spaces=["image"], kind="video", top_k=3)
    assert found.used == ["its pictures"]
    assert all(one.item_id.startswith("v") for one in found.matches)
    assert found.matches[0].frame is not None and found.matches[0].frame.second is None
    assert "p0" not in [one.item_id for one in opened.match(item="p0", top_k=20).matches]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "match: give exactly one of item and video"),
        ({"item": "v0", "video": "x.mp4"}, "match: give exactly one of item and video"),
        ({"item": "v0", "title": "x"}, "match: title and listen are for a video file; an item has its own words"),
        ({"item": "v99"}, "item 'v99' is not in the published catalog (did you mean 'v9'?): see `coldstart show v99`"),
        ({"video": "no.mp4"}, "video no.mp4: not_found: there is no such file: give the path of one"),
        ({"item": "v0", "spaces": ["x"]}, "space 'x' is not in the published catalog: it has image, text"),
    ],
)
def test_a_faulty_query_is_an_error(opened: Workspace, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ColdstartError) as error:
        opened.match(**given)
    assert str(error.value) == message


def test_a_file_that_is_no_video_is_an_error(opened: Workspace, folder: Path, tmp_path: Path) -> None:
    photo(tmp_path / "photo.jpg", 3)
    with pytest.raises(ColdstartError, match=r"^'caf\\udce9' is no Unicode text: give it in UTF-8$"):
        opened.match(video=tmp_path / "photo.jpg", title="caf\udce9")
    for name, path in (("no", tmp_path / "photo.jpg"), ("folder", tmp_path)):
        with pytest.raises(ColdstartError, match=f"^video {path}: [a-z_]+: .+$"):
            opened.match(video=path, title=name)


@pytest.mark.slow
def test_the_calibration_is_made_once_a_publication(opened: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.match(item="v0")
    kept = opened._store.artifacts.newest("match-calibration")
    assert kept is not None
    monkeypatch.setattr("coldstart.search.match_service.calibrate_matching", lambda *_: pytest.fail("made again"))
    assert opened.match(item="v1").weights.startswith("default weights: pictures by 12 queries made of the catalogue's")


@pytest.mark.slow
def test_matching_is_evaluated_against_each_space(folder: Path) -> None:
    opened = library.open(folder / "workspace")
    found = evaluate_match(opened._matcher(), queries.read_pairs(folder / "pairs.jsonl"), clips=3)
    assert found["products"] == 13
    known, made = found["sets"]
    assert (known["name"], known["clips"], known["shown"]) == ("known", 14, 28)
    assert [one["name"] for one in known["rankings"]] == ["default", "image", "text"]
    by_name = {one["name"]: one["recall_5"]["value"] for one in known["rankings"]}
    assert by_name["image"] > 0.9 and known["baseline"] == max(("image", "text"), key=lambda name: by_name[name])
    gain = known["difference"]
    assert gain["value"] == pytest.approx(by_name["default"] - by_name[known["baseline"]])
    assert gain["low"] <= gain["value"] <= gain["high"] and known["verdict"] == "too few to judge"
    assert made["name"] == "made" and 0 < made["clips"] <= 3
    assert (
        evaluate_match(opened._matcher(), {}, clips=1)["sets"][0]["why"]
        == "no videos are known to show certain products"
    )


def test_weights_are_fitted_evaluated_on_the_rest_and_stored(folder: Path, tmp_path: Path) -> None:
    opened = library.open(folder / "workspace")
    pairs = queries.read_pairs(folder / "pairs.jsonl")
    report = opened.fit_match({**pairs, "gone": frozenset({"p1"}), "v0": frozenset({"p0", "p3", "sold out"})})
    held = [item for item in pairs if is_held_out(item)]
    assert (report["held_out"], report["trained_on"]) == (len(held), 14 - len(held))
    assert (report["missing_videos"], report["missing_products"], report["exact"]) == (1, 1, True)
    assert sum(channel["weight"] for channel in report["channels"]) == pytest.approx(1, abs=1e-4)
    assert report["kept"] is True
    assert report["after"]["recall_5"]["value"] >= report["before"]["recall_5"]["value"]
    found = library.open(folder / "workspace").match(item="v5")
    assert found.weights == "fitted weights" and found.notes == []
    fitted = {channel["channel"]: channel["weight"] for channel in report["channels"]}
    assert {channel["channel"]: channel["weight"] for channel in found.channels} == pytest.approx(fitted, abs=1e-5)


def test_a_fit_on_too_few_videos_is_refused(opened: Workspace) -> None:
    with pytest.raises(ColdstartError) as error:
        opened.fit_match({"v0": ["p0"], "v1": ["p1"]})
    assert str(error.value) == (
        "2 of the videos of the pairs are in the published catalog: weights need at least 10, a part of which is held "
        "out to evaluate them"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "Expecting value: line 1 column 1 (char 0)"),
        ('{"item_id": "a"}', "product_ids is missing"),
        ('{"item_id": [3], "product_ids": []}', "item_id is to be a text and product_ids a list"),
        ('["a"]', "it is a list"),
    ],
)
def test_a_faulty_line_of_pairs_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{{"item_id": "v", "product_ids": ["p"]}}\n\n{line}\n', "utf-8")
    fault = f"{path} line 3: not a JSON object with item_id and product_ids ({why})"
    with pytest.raises(ColdstartError) as error:
        queries.read_pairs(path)
    assert str(error.value) == fault
    faults: list[str] = []
    assert queries.read_pairs(path, faults.append) == {"v": frozenset({"p"})}
    assert faults == [fault]


def test_pairs_of_one_video_on_several_lines_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [("v", ["a"]), ("w", []), ("v", ["b", "a"]), (7.0, [8.0, 9, None])]
    path.write_text("".join(json.dumps({"item_id": v, "product_ids": p}) + "\n" for v, p in rows), "utf-8")
    assert queries.read_pairs(path) == {"v": frozenset({"a", "b"}), "7": frozenset({"8", "9"})}
    with pytest.raises(ColdstartError, match=r"^no file of pairs at .*nope: give JSONL with item_id and product_ids$"):
        queries.read_pairs(tmp_path / "nope")


def run(folder: Path, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["match", "-w", str(folder / "workspace"), *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_the_command_prints_products_with_their_evidence(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "m.html"
    text = run(folder, "--item", "v2", "--top-k", 2, "--explain", "--out", page)
    assert "candidates: all 13 that meet the conditions, each compared" in text
    assert "frames and products: " in text
    html = page.read_text("utf-8")
    assert "<title>Products in try blue cheese with" in html and "<script" not in html
    assert re.findall(r'<span class="place">(\d)</span>', html) == ["1", "2"]
    picture = tmp_path / "m.png"
    answer = json.loads(run(folder, "--item", "v2", "--top-k", 2, "--json", "--out", picture))
    assert answer["asked"] == "v2" and len(answer["matches"]) == 2
    seconds = answer["matches"][0]["frame"]["seconds"]
    assert len(seconds) == 2 and seconds[0] == answer["matches"][0]["frame"]["second"]
    with Image.open(picture) as image:
        assert image.height > 2 * 160  # a row a product


@pytest.mark.slow
def test_the_command_fits(folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text((folder / "pairs.jsonl").read_text("utf-8").rstrip("\n") + "\nno JSON\n", "utf-8")
    report = json.loads(run(folder, "--fit", pairs, "--json"))
    fault = f"{pairs} line {len(pairs.read_text('utf-8').splitlines())}: not a JSON object with item_id and product_ids"
    assert [line.partition(" (")[0] for line in report["left_out"]] == [fault]
    text = run(folder, "--fit", pairs)
    assert f"note: left out: {fault} (" in text
    assert f"{report['held_out']} videos held out" in text
    assert "kept: `coldstart match` uses the fitted weights from now on" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --item, --video and --fit"),
        (["--item", "a", "--fit", "b"], "give exactly one of --item, --video and --fit"),
        (["--item", "a", "--listen"], "--title and --listen go with --video: an item has its own words"),
        (["--item", "a", "--out", "x.pdf"], "--out x.pdf: goes with --item or --video, and ends in .html or .png"),
        (["--fit", "a", "--out", "x.html"], "--out x.html: goes with --item or --video, and ends in .html or .png"),
    ],
)
def test_options_that_exclude_each_other(folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ColdstartError) as error:
        run(folder, *arguments)
    assert str(error.value) == message
