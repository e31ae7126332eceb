"""Search over a real LanceDB folder with the fake encoder; true distances come from numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from coldstart import encoders
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.stage import Reject
from coldstart.encoders import Encoder, Passport
from coldstart.encoders.fake import Fake
from coldstart.errors import ColdstartError
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.search.queries import FaultyQuery, Query
from coldstart.search.search import Hit, pool, search_many
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

WORDS = ["red running shoe", "blue running shoe", "green apple", "red apple", "coffee mug", "tea cup", "blue jeans"]
COLOURS = [(250, 0, 0), (0, 0, 250), (0, 200, 0), (200, 40, 0), (90, 60, 30), (240, 240, 240), (20, 20, 120)]
IDS = [f"item-{i}" for i in range(len(WORDS))]


def fake_encoder(dim: int = 48) -> Fake:
    encoder = encoders.load(f"fake:{dim}")
    assert isinstance(encoder, Fake)
    return encoder


class TextOnly(Fake):
    """A fake of texts alone, with vectors of the same length as the other one."""

    modalities = frozenset({"text"})
    image_transform = None  # type: ignore[assignment]

    def passport(self, modality: Any) -> Passport:
        return Passport("text-only", "none", "trigrams", self.dim)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for item_id, colour in zip(IDS, COLOURS, strict=True):
        Image.new("RGB", (40, 40), colour).save(folder / f"{item_id}.png")
    return folder


@pytest.fixture(scope="module")
def fake() -> Fake:
    return fake_encoder()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, pictures: Path, fake: Fake) -> Published:
    """Space `image` without the last item, space `text` with all, space `other` by another encoder."""
    images = [load_image(pictures / f"{i}.png", Limits(), fake.image_transform) for i in IDS]
    text_only = TextOnly(fake.dim)
    count = len(IDS)
    columns: dict[str, Any] = {"item_id": pa.array(IDS)}
    values: dict[str, Any] = {
        "kind": ["video" if i % 2 else "product" for i in range(count)],
        "title": [words.title() for words in WORDS],
        "category": ["shoes", "shoes", "food", "food", "kitchen", "kitchen", "clothes"],
        "price": [float(i) for i in range(count)],
        "media": [[{"role": "image", "uri": str(pictures / f"{i}.png")}] for i in IDS[:-1]] + [[]],
    }
    for entry in CONTENT_FIELDS:
        columns[entry.name] = pa.array(values.get(entry.name, [None] * count), entry.type)
    columns["row_key"] = columns["index_key"] = pa.array(IDS)
    for name in ("transcript", "screen_text", "language", "duplicate_of"):
        columns[name] = pa.nulls(count, pa.string())
    columns["text"] = pa.array(WORDS)
    vectors = {
        "image": [*fake.encode_images(images)[:-1], None],
        "text": list(fake.encode_documents(WORDS)),
        "other": list(text_only.encode_documents(WORDS)),
    }
    for space, rows in vectors.items():
        columns[f"vector_{space}"] = pa.array(rows, pa.list_(pa.float32(), fake.dim))
    spaces = {"image": fake.passport("image"), "text": fake.passport("text"), "other": text_only.passport("text")}
    writer = Catalog(lancedb.connect(str(tmp_path_factory.mktemp("workspace"))))
    writer.write(pa.table(columns), spaces)
    writer.publish(writer.build_indexes())
    published = writer.published()
    assert published is not None
    return published


def search(catalog: Published, encoder_for: Callable[[Passport], Encoder], **options: Any) -> list[Hit]:
    """The hits of one query."""
    given = {by: str(options.pop(by)) for by in ("text", "image", "video", "item") if by in options}
    return next(search_many(catalog, encoder_for, [Query("query", **given)], **options))[1]


@pytest.fixture
def encoder_for(fake: Fake) -> Callable[[Passport], Encoder]:
    made: dict[str, Encoder] = {
        fake.passport("text").digest: fake,
        TextOnly(fake.dim).passport("text").digest: TextOnly(fake.dim),
    }
    return lambda passport: made[passport.digest]


def test_text_goes_to_every_space_of_its_passport_and_to_words(
    catalog: Published, encoder_for: Any, fake: Fake
) -> None:
    hits = search(catalog, encoder_for, text="red apple", top_k=3)
    best = hits[0]
    assert (best.item_id, best.kind, best.title, best.category, best.price) == (
        "item-3", "video", "Red Apple", "food", 3.0,
    )  # fmt: skip
    assert best.uri and best.uri.endswith("item-3.png")
    assert set(best.ranks) == {"image", "text", "other", "full_text"}
    assert best.ranks["text"] == best.ranks["other"] == best.ranks["full_text"] == 1
    query = fake.encode_queries(["red apple"])[0]
    similarity = fake.encode_documents(WORDS) @ query
    assert best.distances["text"] == pytest.approx(1 - similarity[3], abs=1e-6)
    assert set(best.distances) == {"image", "text", "other"}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 3


def test_one_space_alone_ranks_by_distance(catalog: Published, encoder_for: Any, fake: Fake) -> None:
    hits = search(catalog, encoder_for, text="running", spaces=["text"], hybrid=False)
    order = np.argsort(-(fake.encode_documents(WORDS) @ fake.encode_queries(["running"])[0]), kind="stable")
    assert [hit.item_id for hit in hits] == [IDS[i] for i in order]
    assert [hit.ranks for hit in hits] == [{"text": rank} for rank in range(1, 8)]


def test_words_alone(catalog: Published) -> None:
    def none(_: Passport) -> Encoder:
        raise AssertionError("no encoder is needed")

    hits = search(catalog, none, text="apple", spaces=[])
    assert [(hit.item_id, hit.ranks, hit.distances) for hit in hits] == [
        ("item-2", {"full_text": 1}, {}),
        ("item-3", {"full_text": 2}, {}),
    ]
    for other in ({"image": "x.png"}, {"item": "item-1"}):
        with pytest.raises(ColdstartError) as error:
            search(catalog, none, spaces=[], **other)
        by = next(iter(other))
        assert str(error.value) == f"spaces is empty: only a hybrid text query works by words alone, not one by {by}"


def test_a_picture_finds_its_own_colour(catalog: Published, encoder_for: Any, pictures: Path) -> None:
    hits = search(catalog, encoder_for, image=pictures / "item-2.png", spaces=["image"])
    assert hits[0].item_id == "item-2" and hits[0].distances["image"] == pytest.approx(0, abs=1e-6)
    assert len(hits) == 6, "the item without a picture is not found"
    everywhere = search(catalog, encoder_for, image=pictures / "item-2.png")
    assert set(everywhere[0].ranks) <= {"image", "text"}, "never the space of the text-only encoder"


def test_spaces_never_mix(catalog: Published, encoder_for: Any, pictures: Path, fake: Fake) -> None:
    with pytest.raises(ColdstartError) as error:
        search(catalog, encoder_for, image=pictures / "item-2.png", spaces=["image", "other"])
    other = TextOnly(fake.dim).passport("text")
    assert str(error.value) == (
        f"space 'other' holds vectors of text-only ({other.digest}), but this image query would be made by fake:48, "
        "which takes none: name a space that takes image, or leave spaces out to use all that do"
    )
    with pytest.raises(ColdstartError) as error:
        search(catalog, lambda _: fake, text="shoe", spaces=["other"])
    mine = fake.passport("text")
    assert str(error.value) == (
        f"space 'other' holds vectors of text-only ({other.digest}), but this text query would be made by "
        f"fake:48 ({mine.digest}): name a space that takes text, or leave spaces out to use all that do"
    )
    with pytest.raises(ColdstartError) as error:
        search(catalog, lambda _: fake_encoder(32), text="shoe")
    assert str(error.value) == (
        "no space answers a text query: the catalog has image (fake:48), other (text-only), text (fake:48); "
        "search by item, or embed the items with an encoder that takes text"
    )
    with pytest.raises(ColdstartError) as error:
        search(catalog, encoder_for, text="shoe", spaces=["audio"])
    assert str(error.value) == "space 'audio' is not in the published catalog: it has image, other, text"


def test_a_space_with_the_name_of_the_ranking_by_words_is_not_mixed_with_it(
    catalog: Published, encoder_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passports = {"full_text": catalog.passports["text"], "other": catalog.passports["other"]}
    monkeypatch.setattr(catalog, "passports", passports)
    with pytest.raises(ColdstartError) as error:
        search(catalog, encoder_for, text="shoe")
    assert str(error.value) == (
        "space 'full_text' has the name of the ranking by words: call it something else in the pipeline and run that, "
        "or search without words (--no-hybrid)"
    )
    assert set(search(catalog, encoder_for, text="shoe", spaces=["other"])[0].ranks) == {"other", "full_text"}


def test_an_item_query_uses_stored_vectors_and_never_finds_itself(catalog: Published, fake: Fake) -> None:
    def none(_: Passport) -> Encoder:
        raise AssertionError("no encoder is needed")

    hits = search(catalog, none, item="item-0", top_k=50)
    assert "item-0" not in {hit.item_id for hit in hits} and len(hits) == 6
    vectors = fake.encode_documents(WORDS)
    by_text = search(catalog, none, item="item-0", spaces=["text"], top_k=2)
    order = [i for i in np.argsort(-(vectors @ vectors[0])) if i != 0][:2]
    assert [hit.item_id for hit in by_text] == [IDS[i] for i in order]
    assert {frozenset(hit.ranks) for hit in search(catalog, none, item="item-6")} == {frozenset({"text", "other"})}
    with pytest.raises(ColdstartError) as error:
        search(catalog, none, item="nobody")
    assert str(error.value) == "item 'nobody' is not in the published catalog (ids are such as 'item-0')"
    with pytest.raises(ColdstartError) as error:
        search(catalog, none, item="item-6", spaces=["image"])
    assert str(error.value) == "item 'item-6' has none in image"


def test_filters(catalog: Published, encoder_for: Any) -> None:
    def found(**options: Any) -> set[str]:
        return {hit.item_id for hit in search(catalog, encoder_for, text="shoe", **options)}

    assert found(kind="video") == {"item-1", "item-3", "item-5"}
    assert found(where="price > 3", kind="video") == {"item-5"}
    assert found(where="price > 4 OR price < 1", exclude=["item-5", "nobody"]) == {"item-0", "item-6"}
    with pytest.raises(ColdstartError) as error:
        found(kind="video'; DROP TABLE catalog; --")
    assert str(error.value) == 'no kind "video\'; DROP TABLE catalog; --": there are video and product'
    with pytest.raises(
        ColdstartError, match=r"^where 'cheap': no field 'cheap' \(character 1\); write a condition over "
    ):
        found(where="cheap")


@pytest.mark.slow
def test_many_queries_in_batches_equal_single_ones(
    catalog: Published, encoder_for: Any, pictures: Path, fake: Fake
) -> None:
    queries = [
        *(Query(f"t{i}", text=words) for i, words in enumerate(WORDS)),
        *(Query(f"p{i}", image=str(pictures / f"{i}.png")) for i in IDS),
        *(Query(f"i{i}", item=i) for i in IDS),
    ]
    order = np.random.default_rng(0).permutation(len(queries))
    mixed = [queries[i] for i in order]
    single = {q.query_id: search(catalog, encoder_for, **{q.by: q.value}) for q in queries}
    for batch_size in (1, 4, 100):
        fake.calls.clear()
        answers = list(search_many(catalog, encoder_for, iter(mixed), batch_size=batch_size))
        assert [query_id for query_id, _ in answers] == [q.query_id for q in mixed]
        for query_id, hits in answers:
            assert [hit.item_id for hit in hits] == [hit.item_id for hit in single[query_id]]
            for hit, alone in zip(hits, single[query_id], strict=True):
                assert hit.ranks == alone.ranks and hit.distances == pytest.approx(alone.distances, abs=1e-6)
    assert (fake.calls["queries"], fake.calls["images"]) == (1, 1), "one batch each, for two spaces of one passport"


def test_one_bad_query_costs_one_query(catalog: Published, encoder_for: Any, pictures: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no")
    queries = [
        Query("a", image=str(broken)),
        Query("b", image=str(pictures / "item-1.png")),
        Query("c", item="nobody"),
        Query("d", text="tea"),
        Query("e", image=str(tmp_path / "missing.png")),
    ]
    failed: dict[str | None, Reject] = {}
    answers = dict(search_many(catalog, encoder_for, queries, spaces=["image"], on_error=failed.__setitem__))
    assert list(answers) == ["b", "d"] and answers["b"][0].item_id == "item-1"
    assert {query_id: reject.reason for query_id, reject in failed.items()} == {
        "a": "corrupt_image", "c": "not_found", "e": "not_found",
    }  # fmt: skip
    with pytest.raises(ColdstartError, match=r"^query 'a': corrupt_image: image .*broken\.png: "):
        list(search_many(catalog, encoder_for, queries))


def test_a_space_that_does_not_fit_costs_the_queries_of_that_kind(
    catalog: Published, encoder_for: Any, pictures: Path
) -> None:
    queries = [
        Query("a", image=str(pictures / "item-1.png")),
        Query("b", text="tea"),
        FaultyQuery(None, Reject("bad_line", "line 3")),
        Query("d", item="item-1"),
    ]
    failed: dict[str | None, Reject] = {}
    answers = dict(search_many(catalog, encoder_for, queries, spaces=["other"], on_error=failed.__setitem__))
    assert list(answers) == ["b", "d"] and list(failed) == ["a", None]
    assert str(failed["a"]).startswith("no_space: space 'other' holds vectors of text-only (")
    assert str(failed[None]) == "bad_line: line 3"
    for spaces in (["other"], None):
        with pytest.raises(ColdstartError):
            list(search_many(catalog, encoder_for, queries, spaces=spaces))


@pytest.mark.parametrize("video_pool", ["mean", "max", "both"])
def test_a_video_finds_what_its_frames_show(
    catalog: Published, encoder_for: Any, pictures: Path, tmp_path: Path, video_pool: Any
) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in (2, 1):
            picture = Image.open(pictures / f"item-{number}.png").resize((64, 64))
            for _ in range(20):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))
    hits = search(catalog, encoder_for, video=path, spaces=["image"], video_pool=video_pool)
    if video_pool == "mean":
        assert len(hits) == 6
    else:
        assert {hits[0].item_id, hits[1].item_id} == {"item-1", "item-2"}
        assert hits[0].distances["image"] < 0.02 and hits[1].distances["image"] < 0.02


def test_pool() -> None:
    frames = np.array([[1, 0], [0, 1]], np.float32)
    half = np.float32(np.sqrt(0.5))
    np.testing.assert_allclose(pool(frames, "mean"), [[half, half]])
    np.testing.assert_array_equal(pool(frames, "max"), frames)
    np.testing.assert_allclose(pool(frames, "both"), [[1, 0], [0, 1], [half, half]])


def test_a_query_is_exactly_one_thing() -> None:
    with pytest.raises(ColdstartError) as error:
        Query("q7", text="shoe", item="item-1")
    assert str(error.value) == "query 'q7': give exactly one of text, image, video, item, not text and item"
    with pytest.raises(ColdstartError) as error:
        Query("q8")
    assert str(error.value) == "query 'q8': give exactly one of text, image, video, item, not none"
    with pytest.raises(ColdstartError) as error:
        Query("q9", text=" \n")
    assert str(error.value) == "query 'q9': text is blank: give what to search for"
