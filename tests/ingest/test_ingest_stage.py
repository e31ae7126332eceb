"""Rows of a manifest as work: what becomes of its values and media before anything is decoded."""

from __future__ import annotations

import io
import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coldstart.core import pipeline
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.ingest.manifest import Manifest
from coldstart.ingest.stage import IngestStage, Settings
from coldstart.store import Store


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "JPEG")
    return file.getvalue()


def stage(manifest: Path, **names: str) -> IngestStage:
    made = pipeline.load({"manifest": str(manifest), "stages": {"ingest": {}}})
    return IngestStage("ingest", Settings(map=names), made)


def items(manifest: Path, **names: str) -> dict[str, Any]:
    """Item -> its row, or its verdict."""
    return {work.item_id: work.row for work in stage(manifest, **names).entries()}


def uris(row: Any) -> list[str]:
    return [Path(entry["uri"]).name for entry in row["media"]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name, colour in (("1.jpg", "red"), ("2.jpg", "green"), ("a,b.jpg", "blue")):
        (tmp_path / "photos" / name).write_bytes(jpeg(colour))
    return tmp_path


def test_a_product_feed_is_read(photos: Path) -> None:
    path = photos / "feed.txt"
    path.write_text(
        "id\ttitle\timage_link\tprice\tgtin\n"
        "0012\tMug\tphotos/1.jpg\t19,99 EUR\t0012345678905\n"
        "0013\tCup\tphotos\\1.jpg\t$12\t\n",
        "utf-8",
    )
    found = items(path, item_id="id", image="image_link")
    assert {item: (row["price"], row["attributes"]) for item, row in found.items()} == {
        "0012": (19.99, '{"currency": "EUR", "gtin": "0012345678905"}'),
        "0013": (12.0, '{"currency": "$"}'),
    }
    assert [uris(row) for row in found.values()] == [["1.jpg"], ["1.jpg"]]


def test_the_language_of_an_item_is_stated_or_detected_and_in_no_key(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    rows = [
        {"item_id": "shown", "title": "Rote Schuhe für Damen"},
        {"item_id": "stated", "title": "Red shoes for women", "attributes": {"language": "fr-FR"}},
        {"item_id": "unsure", "title": "Avocado"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = items(path)
    assert {item: row["language"] for item, row in found.items()} == {"shown": "de", "stated": "fr", "unsure": None}
    assert not any("language" in row["record"] for row in found.values())


def test_a_cell_may_hold_several_pictures(photos: Path) -> None:
    path = photos / "items.csv"
    path.write_text(
        "item_id,images\n"
        "pipe,photos/1.jpg|photos/2.jpg\n"
        'comma,"photos/1.jpg,photos/2.jpg"\n'
        'json,"[""photos/1.jpg"", ""photos/2.jpg""]"\n'
        'one,"photos/a,b.jpg"\n',
        "utf-8",
    )
    found = items(path)
    assert {item: uris(row) for item, row in found.items()} == {
        **{item: ["1.jpg", "2.jpg"] for item in ("pipe", "comma", "json")},
        "one": ["a,b.jpg"],
    }


def test_a_photo_is_found_under_the_other_form_of_its_name(photos: Path) -> None:
    (photos / "photos" / "cafe\u0301.jpg").write_bytes(jpeg("black"))
    path = photos / "items.jsonl"
    path.write_text(json.dumps({"item_id": "a", "image": "photos/caf\u00e9.jpg"}), "utf-8")
    assert items(path)["a"]["media"] == [{"role": "image", "uri": str(photos / "photos" / "cafe\u0301.jpg")}]


def test_pictures_inside_parquet_are_media_beside_it(photos: Path) -> None:
    path = photos / "items.parquet"
    rows = [
        {"item_id": "a", "image": {"bytes": jpeg("red"), "path": "x.jpg"}},
        {"item_id": "b", "image": {"bytes": jpeg("red"), "path": None}},
        {"item_id": "c", "image": {"bytes": None, "path": "photos/1.jpg"}},
        {"item_id": "d", "image": {"bytes": b"", "path": None}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = items(path)
    assert found["a"]["media"] == found["b"]["media"]
    written = Path(found["a"]["media"][0]["uri"])
    assert (written.parent, written.read_bytes()) == (photos / "items.media", jpeg("red"))
    assert uris(found["c"]) == ["1.jpg"]
    assert isinstance(found["d"], Reject) and found["d"].reason == "empty_file"
    first = {work.item_id: work.key for work in stage(path).entries()}
    assert {work.item_id: work.key for work in stage(path).entries()} == first


def test_few_rows_with_pictures_are_held_at_once(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": [str(n) for n in range(400)], "image": [bytes(20_000)] * 400}), path)
    tracemalloc.start()
    assert sum(1 for _ in Manifest(path).entries()) == 400
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_times_that_all_lie_in_1970_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "title": "x", "created_at": 1714521}\n{"item_id": "b", "title": "y"}\n', "utf-8")
    with pytest.raises(ColdstartError) as caught:
        items(path)
    assert str(caught.value) == (
        f"all times of {path} lie in 1970, such as created_at=1714521: numbers are seconds, milliseconds, microseconds "
        "or nanoseconds since 1970; write ISO 8601, such as 2024-01-05"
    )
    path.write_text('{"item_id": "a", "title": "x", "created_at": "1970-05-01"}', "utf-8")
    assert items(path)["a"]["created_at"] == datetime(1970, 5, 1, tzinfo=UTC)
    path.write_text(
        '{"item_id": "a", "title": "x", "created_at": 1714521}\n'
        '{"item_id": "b", "title": "y", "created_at": 1714521600}\n',
        "utf-8",
    )
    assert {row["created_at"].year for row in items(path).values()} == {1970, 2024}


def test_a_path_of_windows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"item_id": "a", "image": r"C:\photos\1.jpg"}), "utf-8")
    assert items(path)["a"].detail.endswith(
        r"C:\photos\1.jpg: No such file or directory; a path of a Windows machine: give paths relative to the manifest"
    )


def test_what_a_folder_has_that_is_not_read_is_named(photos: Path) -> None:
    folder = photos / "photos"
    for name in ("raw.CR2", "._1.jpg", "notes.txt"):
        (folder / name).write_bytes(b"x")
    found = items(folder)
    assert {item: (row.reason, row.state, row.detail) for item, row in found.items() if isinstance(row, Reject)} == {
        "raw.CR2": (
            *("unread_format", "filtered"),
            "photos#4: .cr2 is no format that is read: save it as JPEG, PNG or MP4",
        )
    }
    assert len(found) == 4
    assert stage(folder).notes(Store(photos / "w", create=True)) == [f"{folder}: not listed: 1 hidden, 1 .txt"]


def test_an_id_with_a_lone_surrogate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a\\ud800", "title": "x"}', "utf-8")
    verdict = items(path)["items.jsonl#1"]
    assert (verdict.reason, verdict.detail) == (
        "bad_row",
        "items.jsonl#1: 'item_id' is no Unicode text: it holds a lone surrogate, '\\ud800'",
    )
