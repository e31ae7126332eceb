"""The main road with the real starter models: the demo from end to end, and shelf photos against icon pictures."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart, write_manifest, write_pipeline
from hostile_page import Page
from installed_wheel import Installed
from page_checks import unknown_classes
from paths import DATA

import coldstart as library
from coldstart import sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
GROCERY = DATA / "grocery"
ITEMS = 98  # 65 products, 31 videos, 2 copies of these
PARTS = ("fingerprint", "duplicates", "quality", "shots", "speech", "screen", "evidence", "safety")
DESCRIBING = ("describe.grounds", "describe.attributes", "describe.write", "describe.check", "described")
STAGES = ["ingest", *(f"understand.{part}" for part in PARTS), "image", "clip", "text", *DESCRIBING, "index"]
FIRST_FIVE = 5


def answer(*arguments: object) -> Any:
    """What a command prints with --json."""
    done = coldstart(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hits(*arguments: object) -> list[dict[str, Any]]:
    """What a search finds."""
    found: list[dict[str, Any]] = answer(*arguments)["hits"]
    return found


@pytest.fixture
def workspace(demo: Path) -> Path:
    return demo / "workspace"


def ids(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["item_id"] for hit in hits]


def test_the_demo_finds_what_its_videos_show(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert result["items"] == ITEMS
    assert len(result["answers"]) == 28
    assert result["chance"] == pytest.approx(FIRST_FIVE / 65)
    assert result["recall"] >= 0.6  # measured: 0.661
    found = [len(set(a["shown"]) & set(a["found"])) / len(a["shown"]) for a in result["answers"]]
    assert result["recall"] == pytest.approx(sum(found) / len(found))


def test_the_demo_ends_with_a_page_to_look_at(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert Path(result["page"]).name == "index.html"
    source = (demo / "index.html").read_text("utf-8")
    assert unknown_classes(source) == set()
    page = Page(source)
    text = " ".join(page.text)
    for part in ("Products found in videos", "Words that are only spoken or on screen", "Copies",
                 "Descriptions", "For a made-up user", "Go on"):  # fmt: skip
        assert part in text
    assert text.count(" of 65 for “") >= 6
    assert (text.count(" heard 0:"), text.count(" on screen 0:")) == (3, 3)
    assert "mirrored" in text and "1.1 times as fast" in text
    assert "tagged cooking and mealprep. record: category, creator, tags" in text  # a sentence, and its evidence
    assert "liked (made up)" in text
    assert f"recall@5 of the products in 28 videos; by chance {FIRST_FIVE / 65:.2f}" in text
    assert {source[:23] for source in page.values("src")} == {"data:image/jpeg;base64,"}
    assert all(page.values("alt"))
    for link in page.values("href"):
        assert (demo / link).is_file()
    assert "Golden Delicious" in (demo / "neighbours.html").read_text("utf-8")


def test_copies_are_linked_to_their_originals(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert [(one["copy"], one["found"]) for one in result["copies"]] == [("copy-1", "clip-08"), ("copy-2", "clip-02")]


def test_a_made_up_user_gets_what_is_like_the_liked(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert result["liked"] == ["Green Bell Pepper", "Beef Tomato"]
    assert {"Yellow Bell Pepper", "Red Bell Pepper", "Vine Tomato"} <= set(result["recommended"][:4])
    assert result["recommended"][4] == "traffic lights on my plate"


def test_the_balance_of_the_demo(workspace: Path) -> None:
    reports = answer("status", "--workspace", workspace)["stages"]
    assert [report["stage"] for report in reports] == STAGES
    without = {"understand.shots": 65, "understand.speech": 83}  # no video; no sound
    without |= dict.fromkeys(("describe.write", "describe.check", "described"), 3)  # clips of which nothing is known
    of_all = ("ingest", "understand.fingerprint", "understand.duplicates", "understand.quality", "understand.safety",
              "index")  # fmt: skip
    for report in reports:
        filtered, copies = without.get(report["stage"], 0), 0 if report["stage"] in of_all else 2
        fresh = ITEMS - filtered - copies
        balance = {name: count for name, count in report["balance"].items() if name != "reasons"}
        assert balance == {"fresh": fresh, "failed": 0, "filtered": filtered, "duplicate": copies, "pending": 0}


def test_words_that_only_the_media_have_find_their_videos(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert len(result["heard"]) == 6
    assert [query["found"] for query in result["heard"]] == [query["video"] for query in result["heard"]]
    card = (demo / "clip-19.html").read_text("utf-8")
    assert "Sauce day 41.90 kr/kg" in card and "burgers" in card


def test_what_is_written_of_new_items_has_grounds(workspace: Path) -> None:
    rows = library.open(workspace).table("stage.describe.check").to_pylist()
    assert len(rows) == ITEMS - 2 - 3
    for row in rows:
        assert all(claim["ground"] for claim in row["attributes"])
        assert row["status"] in ("written", "cut", "fallback")
    written = library.open(workspace).table("stage.describe.write").to_pylist()
    valid = sum(is_json(row["text"]) for row in written)
    assert valid >= 0.99 * len(written)


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def test_a_second_run_redoes_nothing(installed: Installed, workspace: Path, tmp_path: Path) -> None:
    done = installed.coldstart(tmp_path, "run", "--workspace", workspace, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [stage["ran"]["done"] for stage in report["stages"]] == [0] * len(STAGES)
    assert len(answer("index", "--history", "--workspace", workspace)["publications"]) == 1


def test_search_by_text_picture_video_and_item(workspace: Path, tmp_path: Path) -> None:
    media = sample.path()
    truth = [json.loads(line) for line in (media / "truth.jsonl").read_text("utf-8").splitlines()]
    clip = truth[0]["item_id"]
    lines = (media / "manifest.jsonl").read_text("utf-8").splitlines()
    uris = {row["item_id"]: media / row["media"][0]["uri"] for row in map(json.loads, lines)}
    product = "grocery-product-01"

    by_text = hits("search", "--workspace", workspace, "--text", "Granny Smith green apple", "--kind", "product")
    by_image = hits("search", "--workspace", workspace, "--image", uris[product])
    by_video = hits("search", "--workspace", workspace, "--video", uris[clip])
    by_item = hits("search", "--workspace", workspace, "--item", clip, "--space", "image", "--kind", "product")
    assert ids(by_text)[0] == ids(by_image)[0] == product
    assert by_image[0]["distances"]["image"] == pytest.approx(0, abs=0.01)
    assert ids(by_video)[0] == clip
    assert clip not in ids(by_item)
    assert set(truth[0]["product_ids"]) & set(ids(by_item))
    assert {hit["kind"] for hit in by_text} == {"product"}

    queries = write_manifest(
        tmp_path / "queries.jsonl",
        [
            {"query_id": "words", "text": "Granny Smith green apple"},
            {"query_id": "picture", "image": str(uris[product])},
            {"query_id": "clip", "video": str(uris[clip])},
            {"query_id": "item", "item_id": clip},
        ],
    )
    done = coldstart("search", "--workspace", workspace, "--queries", queries, "--top-k", 3)
    assert done.returncode == 0, done.stderr
    answers = {line["query_id"]: ids(line["hits"]) for line in map(json.loads, done.stdout.splitlines())}
    assert list(answers) == ["words", "picture", "clip", "item"]
    assert answers["words"][0] == answers["picture"][0] == product
    assert answers["clip"][0] == clip
    assert all(len(hits) == 3 for hits in answers.values())


def test_a_publication_is_rolled_back(workspace: Path, tmp_path: Path) -> None:
    own = tmp_path / "workspace"
    shutil.copytree(workspace, own)
    answer("status", "--workspace", own, "--trust")  # the manifest of a workspace that was copied counts when given
    before = hits("search", "--workspace", own, "--text", "oat milk", "--no-hybrid")
    answer("run", "--workspace", own, "--set", "text.prompt=title", "--set", "text.budgets={}")
    after = hits("search", "--workspace", own, "--text", "oat milk", "--no-hybrid")
    assert [hit["distances"] for hit in after] != [hit["distances"] for hit in before]
    history = answer("index", "--history", "--workspace", own)["publications"]
    assert [entry["tag"] for entry in history] == ["pub-000002", "pub-000001"]

    back = coldstart("index", "--rollback", "--workspace", own)
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith(f"published pub-000001 again: {ITEMS} items, first published ")
    assert hits("search", "--workspace", own, "--text", "oat milk", "--no-hybrid") == before


@pytest.mark.skipif(not GROCERY.is_dir(), reason=f"no grocery set in COLDSTART_DATA ({DATA})")
def test_shelf_photos_find_the_icon_of_their_product(starter_models: None, tmp_path: Path) -> None:
    """Every sixteenth of 3,781 photos among 65 icons. Reference on all, plain EfficientNet-Lite2 features and cosine in
    PyTorch: R@1 0.319, R@5 0.718."""
    products, photos = (
        [json.loads(line) for line in (GROCERY / name).read_text("utf-8").splitlines()]
        for name in ("products.jsonl", "images.jsonl")
    )
    photos = photos[:: int(os.environ.get("COLDSTART_GROCERY_STEP", "16"))]
    manifest = write_manifest(
        tmp_path / "items.jsonl",
        [{"item_id": row["id"], "title": row["title"], "image": str(GROCERY / row["file"])} for row in products],
    )
    pipeline = {
        "manifest": str(manifest),
        "media": {"roots": [str(GROCERY)]},
        "stages": {"ingest": {}, "image": {"stage": "embed", "encoder": "starter", "input": "image"}, "index": {}},
    }
    workspace = tmp_path / "workspace"
    ran = coldstart("run", write_pipeline(tmp_path / "pipeline.yaml", pipeline), "--workspace", workspace)
    assert ran.returncode == 0, ran.stderr
    queries = write_manifest(
        tmp_path / "queries.jsonl",
        [{"query_id": row["id"], "image": str(GROCERY / row["file"])} for row in photos],
    )
    done = coldstart("search", "--workspace", workspace, "--queries", queries, "--top-k", FIRST_FIVE)
    assert done.returncode == 0, done.stderr
    found = {line["query_id"]: ids(line["hits"]) for line in map(json.loads, done.stdout.splitlines())}
    assert len(found) == len(photos)
    places = [found[row["id"]].index(row["product_id"]) for row in photos if row["product_id"] in found[row["id"]]]
    assert places.count(0) / len(photos) >= (0.31 if len(photos) == 3781 else 0.29)  # a sixteenth: 0.308
    assert len(places) / len(photos) >= (0.71 if len(photos) == 3781 else 0.69)  # a sixteenth: 0.730
