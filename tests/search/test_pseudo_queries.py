"""Queries made from a catalogue's own items: the calibration that follows, and the searches that use it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from coldstart import encoders
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.vectors import unit
from coldstart.encoders import Passport
from coldstart.encoders.fake import Fake
from coldstart.search.evaluate import evaluate_search
from coldstart.search.pseudo_queries import calibrate, draw, half_title, sample_catalog, similar_items
from coldstart.search.queries import Query
from coldstart.search.scoring import Scorer
from coldstart.search.search import ALIKE, FEW, LEFT_OVER, search_many
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

COUNT = 96
SORTS = ("canvas shoe", "wool scarf", "tea cup", "desk lamp", "rain coat", "garden chair", "wrist watch", "bread knife")
COLOURS = ("red", "green", "blue")
INPUTS = {"text": "text", "pictures": "image", "noise": "image"}


class Looks(Fake):
    """A fake whose pictures go by other vectors than its texts."""

    modalities = frozenset({"image"})

    def passport(self, modality: Any) -> Passport:
        return Passport("looks", "none", "", self.dim)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Texts; pictures that show the sort and a little of the colour; and a space of noise."""
    fake, rng = Fake(32), np.random.default_rng(0)
    sorts, colours = [SORTS[n % 8] for n in range(COUNT)], [COLOURS[n // 8 % 3] for n in range(COUNT)]
    titles = [f"{colour} {sort} model {n * 7919}" for n, (sort, colour) in enumerate(zip(sorts, colours, strict=True))]
    seen = fake.encode_documents(sorts) + 0.3 * fake.encode_documents(colours)
    drawn = np.asarray(rng.standard_normal(seen.shape), np.float32)
    vectors = {
        "text": fake.encode_documents(titles),
        "pictures": unit(seen + np.float32(0.03) * drawn),
        "noise": unit(drawn[::-1]),
    }
    ids = [f"item-{n:03d}" for n in range(COUNT)]
    values: dict[str, Any] = {
        "title": titles,
        "category": sorts,
        "kind": ["product"] * COUNT,
        "media": [[]] * COUNT,
        "attributes": [f'{{"colour": "{colour}", "number": {n}}}' for n, colour in enumerate(colours)],
    }
    columns: dict[str, Any] = {"item_id": pa.array(ids), "row_key": pa.array(ids), "index_key": pa.array(ids)}
    for entry in CONTENT_FIELDS:
        columns[entry.name] = pa.array(values.get(entry.name, [None] * COUNT), entry.type)
    for name in ("transcript", "screen_text", "language", "duplicate_of"):
        columns[name] = pa.nulls(COUNT, pa.string())
    columns["text"] = pa.array(titles)
    for space, rows in vectors.items():
        columns[f"vector_{space}"] = pa.array(list(rows), pa.list_(pa.float32(), 32))
    passports = {
        "text": fake.passport("text"),
        "pictures": Looks(32).passport("image"),
        "noise": Passport("noise", "none", "", 32),
    }
    writer = Catalog(lancedb.connect(str(tmp_path_factory.mktemp("workspace"))))
    writer.write(pa.table(columns), passports)
    writer.publish(writer.build_indexes())
    published = writer.published()
    assert published is not None
    return published


def encoder_for(passport: Passport) -> Any:
    return encoders.load("fake:32") if passport.encoder == "fake:32" else Looks(32)


def test_queries_are_made_and_each_kind_is_calibrated(catalog: Published) -> None:
    sample = sample_catalog(catalog, INPUTS)
    calibration, notes = calibrate(sample, encoder_for)
    assert [note.partition(":")[0] for note in notes] == ["text", "image", "item"]
    assert calibration.kinds["text"].spaces == ("text",), "the other encoders take no text"
    image = dict(zip(calibration.kinds["image"].spaces, calibration.kinds["image"].weights, strict=True))
    assert image["pictures"] > 5 * image["noise"]
    assert calibration.kinds["image"].made_of == "pictures of items, for their category and attributes"
    assert calibration.kinds["item"].queries == COUNT


def test_right_items_share_the_category_and_most_attributes(catalog: Published) -> None:
    sample = sample_catalog(catalog, INPUTS)
    assert list(sample.attributes) == ["colour"], "a number for each item says nothing"
    right = similar_items(sample, np.array([0]))[0]
    assert np.flatnonzero(right).tolist() == [24, 48, 72], "of one sort and colour, itself left out"


def test_items_that_no_fit_saw_are_preferred_where_they_are_enough(catalog: Published) -> None:
    sample = sample_catalog(catalog, INPUTS)
    usable = np.ones(COUNT, bool)
    held = frozenset(sample.item_ids[:40])
    assert {sample.item_ids[place] for place in draw(sample, usable, held, 500)} == held
    assert len(draw(sample, usable, frozenset(sample.item_ids[:29]), 500)) == COUNT
    assert len(draw(sample, usable, held, 10)) == 10


def test_half_of_a_title_is_the_same_half_every_time() -> None:
    title = "Peter England Men Party Blue Jeans"
    half = half_title(title)
    assert half == half_title(title) and len(half.split()) == 3
    assert [word for word in title.split() if word in half.split()] == half.split()
    assert half_title("Red Delicious") == "Red Delicious"


def test_a_calibrated_search_weighs_spaces_and_an_old_one_says_that_it_does_not(catalog: Published) -> None:
    calibration, _ = calibrate(sample_catalog(catalog, INPUTS), encoder_for)
    options: dict[str, Any] = {"pictures": ("pictures", "noise"), "top_k": 3}
    query = Query("q", item="item-000")
    notes: list[str] = []
    told: list[str] = []
    ((_, alike),) = search_many(catalog, encoder_for, [query], notes=notes, **options)
    assert notes == [ALIKE] and set(alike[0].distances) == {"text", "pictures", "noise"}
    ((_, hits),) = search_many(catalog, encoder_for, [query], calibration=calibration, notes=told, **options)
    assert not told and {hit.item_id for hit in hits} == {"item-024", "item-048", "item-072"}
    assert hits[0].score == pytest.approx(1, abs=0.5)
    ((_, old),) = search_many(catalog, encoder_for, [Query("q", text="blue tea cup")], **options)
    assert set(old[0].ranks) == {"text", "full_text"} and old[0].title and old[0].title.startswith("blue tea cup")


def test_a_calibration_of_other_vectors_is_not_used(catalog: Published) -> None:
    calibration, _ = calibrate(sample_catalog(catalog, INPUTS), encoder_for)
    changed = type(calibration)({**calibration.passports, "noise": "else"}, calibration.means, calibration.kinds)
    notes: list[str] = []
    list(search_many(catalog, encoder_for, [Query("q", item="item-000")], calibration=changed, notes=notes))
    assert notes == [ALIKE]
    of_few = type(calibration)(calibration.passports, calibration.means, {})
    told: list[str] = []
    list(search_many(catalog, encoder_for, [Query("q", item="item-000")], calibration=of_few, notes=told))
    assert told == [FEW], "to index again would change nothing"
    known = {space: digest for space, digest in calibration.passports.items() if space != "noise"}
    rest: list[str] = []
    old = type(calibration)(known, calibration.means, calibration.kinds)
    list(search_many(catalog, encoder_for, [Query("q", item="item-000")], calibration=old, notes=rest))
    assert rest == [LEFT_OVER.format("noise")]


def test_a_text_searches_pictures_where_no_item_has_text(catalog: Published) -> None:
    passports = {name: catalog.passports[name] for name in ("text", "pictures")}
    for rows, chosen in ((3, ["text"]), (0, ["text", "pictures"])):
        indexes = [SimpleNamespace(space="text", rows=rows), SimpleNamespace(space="pictures", rows=3)]
        published: Any = SimpleNamespace(publication=SimpleNamespace(indexes=indexes))
        found = Scorer(published, None, {"pictures"}).choose("text", cast(Any, passports))
        assert list(found) == chosen


@pytest.mark.slow
def test_the_evaluation_judges_other_queries_than_it_calibrates_on(catalog: Published) -> None:
    report = evaluate_search(catalog, sample_catalog(catalog, INPUTS), encoder_for)
    kinds = {row["kind"]: row for row in report["kinds"]}
    assert report["gallery"] == COUNT and set(kinds) == {"text", "image", "item"}
    image = kinds["image"]
    assert image["queries"] + image["calibrated_on"] == COUNT and image["baseline"] == "pictures"
    assert {row["name"] for row in image["rankings"]} == {"default", "pictures", "noise"}
    assert image["verdict"] == "no difference shown"
    assert {row["name"] for row in kinds["text"]["rankings"]} == {"default", "text", "full_text"}
    default = next(row for row in kinds["text"]["rankings"] if row["name"] == "default")
    assert default["recall_1"]["low"] <= default["recall_1"]["value"] <= default["recall_5"]["value"]
