"""Files of queries: one bad query costs one query, in its place and with the reason."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import catalogue

import coldstart
from coldstart.errors import ColdstartError
from coldstart.search.queries import FaultyQuery, Query, read_queries

pytestmark = pytest.mark.slow

ROWS = [{"item_id": "a", "title": "blue mug"}, {"item_id": "b", "title": "bowl"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace `w` of two items and a picture, with a space of pictures and one of words."""
    made = tmp_path_factory.mktemp("queries")
    rows = [{**row, "image": catalogue.photo(made / f"{row['item_id']}.jpg", n).name} for n, row in enumerate(ROWS)]
    settings = catalogue.settings(catalogue.write_manifest(made / "items.jsonl", rows))
    pipeline = catalogue.write_pipeline(made / "p.yaml", settings)
    assert catalogue.coldstart("run", pipeline, "--workspace", made / "w").returncode == 0
    return made


def write(path: Path, lines: Sequence[dict[str, Any] | bytes]) -> Path:
    """A file of queries; bytes stand for themselves."""
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_ids_and_paths_are_read_as_those_of_manifests(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.jpg").touch()
    lines = [{"query_id": 1.0, "item_id": 101.0}, {"query_id": 2, "image": "caf\u00e9.jpg"}]
    path = write(
        tmp_path / "queries.jsonl", [*lines, {"query_id": 3, "item_id": 1e17}, {"query_id": "NULL", "text": "x"}]
    )
    first, second, third, fourth = read_queries(path)
    assert first == Query("1", item="101")
    assert second == Query("2", image=str(tmp_path / "cafe\u0301.jpg"))
    lost = "a number that has lost its last digits: write ids as text or as whole numbers"
    assert isinstance(third, FaultyQuery) and str(third.reason) == f"bad_query: {lost}"
    assert isinstance(fourth, FaultyQuery) and str(fourth.reason).endswith("(query_id is missing)")


def test_each_line_is_a_query_or_says_why_not(tmp_path: Path) -> None:
    path = write(
        tmp_path / "queries.jsonl",
        [
            {"query_id": "1", "text": "mug", "item_id": None},
            b"",
            {"query_id": "2", "text": " "},
            {"query_id": 3, "image": "x.jpg", "text": "mug"},
            {"query_id": "4", "text": "half \ud83d"},
            {"query_id": "5", "item_id": "caf\udce9"},
            {"query_id": "6", "text": ["mug"]},
            {"query_id": "7", "image": "x.jpg"},
            {"query_id": "8", "text": 5},
            {"text": "mug"},
            b'{"query_id": "9", "text": "caf\xe9"}',
            b"[" * 5000,
            {"query_id": "10"},
        ],
    )
    found = list(read_queries(path))
    good = [one for one in found if isinstance(one, Query)]
    assert good == [Query("1", text="mug"), Query("7", image=str(tmp_path / "x.jpg")), Query("8", text="5")]
    faulty = [(one.query_id, str(one.reason)) for one in found if isinstance(one, FaultyQuery)]
    fields = "exactly one of text, image, video, item_id"
    assert faulty == [
        ("2", "bad_query: text is blank: give what to search for"),
        ("3", f"bad_query: {path} line 4: give {fields}, not text and image"),
        ("4", "bad_query: text 'half \\ud83d' is no Unicode text: give it in UTF-8"),
        ("5", "bad_query: item 'caf\\udce9' is no Unicode text: give it in UTF-8"),
        ("6", f"bad_query: {path} line 7: text is no text"),
        (None, f"bad_line: {path} line 10: not a JSON object with query_id (query_id is missing)"),
        (None, f"bad_line: {path} line 11: not a JSON object with query_id ('utf-8' codec can't decode byte 0xe9 in "
               "position 30: invalid continuation byte)"),
        (None, f"bad_line: {path} line 12: not a JSON object with query_id (maximum recursion depth exceeded while "
               "decoding a JSON array from a unicode string)"),
        ("10", f"bad_query: {path} line 13: give {fields}, not none"),
    ]  # fmt: skip
    with pytest.raises(ColdstartError) as error:
        list(read_queries(tmp_path / "none.jsonl"))
    assert str(error.value) == (
        f"no query file at {tmp_path / 'none.jsonl'}: give JSONL with query_id and one of text, image, video, item_id"
    )


def test_one_bad_query_of_any_kind_costs_one_query(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    catalogue.photo(tmp_path / "photo.jpg", 0)
    lines = [
        {"query_id": "1", "text": "mug"},
        {"query_id": "2", "item_id": "gone"},
        {"query_id": "3", "text": ""},
        {"query_id": "4", "image": "broken.jpg"},
        {"query_id": "5", "image": "missing.jpg"},
        {"query_id": "6", "video": "photo.jpg"},
        b"no JSON",
        {"query_id": "8", "text": "half \ud83d"},
        {"query_id": "9", "image": "photo.jpg"},
        {"query_id": "10", "item_id": "a"},
        {"query_id": "11", "text": "bowl"},
    ]
    path = write(tmp_path / "queries.jsonl", lines)
    done = catalogue.coldstart("search", "--workspace", folder / "w", "--queries", path, "-k", 1)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["query_id"] for record in records] == ["1", "2", "3", "4", "5", "6", None, "8", "9", "10", "11"]
    answers = {record["query_id"]: record["hits"][0]["item_id"] for record in records if "hits" in record}
    assert answers == {"1": "a", "9": "a", "10": "b", "11": "b"}
    reasons = {record["query_id"]: record["reason"] for record in records if "hits" not in record}
    assert reasons == {
        "2": "not_found", "3": "bad_query", "4": "corrupt_image", "5": "not_found", "6": "unsupported_media",
        None: "bad_line", "8": "bad_query",
    }  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: 7 of 11 queries have no answer, more than max_failed 1.0% allows: 2 not found, 2 incomplete, "
        "1 with a damaged picture, 1 in an unsupported format, 1 on an unreadable line\n"
    )


def test_a_few_bad_queries_are_a_note(folder: Path, tmp_path: Path) -> None:
    good = [{"query_id": str(number), "item_id": "a"} for number in range(100)]
    path = write(tmp_path / "queries.jsonl", [*good, {"query_id": "x", "item_id": "gone"}])
    done = catalogue.coldstart("search", "--workspace", folder / "w", "--queries", path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 101)
    assert done.stderr == "note: 1 of 101 queries have no answer: 1 not found\n"


def test_bytes_that_are_no_utf_8_and_pictures_as_videos_are_one_line(folder: Path) -> None:
    half = os.fsdecode(b"caf\xe9")
    opened = ("--workspace", folder / "w")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = [
            catalogue.coldstart(*arguments, *opened)
            for arguments in (
                ("search", "--text", half),
                ("search", "--item", half),
                ("match", "--item", half),
                ("show", half, "--no-html"),
                ("search", "--video", folder / "a.jpg"),
            )
        ]
    assert [(done.returncode, done.stdout) for done in shown] == [(1, "")] * 5
    assert [done.stderr for done in shown] == [
        "error: text 'caf\\udce9' is no Unicode text: give it in UTF-8\n",
        "error: item 'caf\\udce9' is no Unicode text: give it in UTF-8\n",
        "error: 'caf\\udce9' is no Unicode text: give it in UTF-8\n",
        "error: 'caf\\udce9' is no Unicode text: give it in UTF-8\n",
        f"error: video {folder / 'a.jpg'}: neither video nor sound: looks like jpeg: give another one\n",
    ]


@pytest.mark.parametrize("top_k", [0, -1, 10_001])
def test_the_number_of_results_is_bounded(folder: Path, top_k: int) -> None:
    opened = coldstart.open(folder / "w")
    for ask in (lambda: opened.search(text="mug", top_k=top_k), lambda: opened.match(item="a", top_k=top_k)):
        with pytest.raises(ColdstartError) as error:
            ask()
        assert str(error.value) == f"top_k {top_k}: give 1 to 10,000"
    for command in (("search", "--text", "mug"), ("match", "--item", "a"), ("recommend", "--user", "u")):
        done = catalogue.coldstart(*command, "--workspace", folder / "w", "--top-k", top_k)
        assert done.returncode == 2 and "Invalid value for '--top-k'" in done.stderr
    assert len(opened.search(text="mug", top_k=10_000)) == 2


def test_the_bound_of_the_command_line_is_that_of_the_store() -> None:
    from coldstart.cli.output import MAX_TOP_K
    from coldstart.store import published

    assert MAX_TOP_K == published.MAX_TOP_K
