"""An item survives one bad picture of several; what it does without is named, in the run and for the item."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from catalogue import coldstart, contents, photo, settings, write_manifest, write_pipeline


@pytest.mark.slow
def test_one_bad_picture_of_several_costs_itself(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / f"{number}.jpg", number)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-100])
    pictures = {
        "whole": ["0.jpg", "1.jpg"],
        "cut": ["0.jpg", "cut.jpg", "1.jpg"],
        "gone": ["nowhere.jpg", "1.jpg"],
        "bad": ["nowhere.jpg", "elsewhere.jpg"],
    }
    rows = [{"item_id": item, "title": item, "images": images} for item, images in pictures.items()]
    manifest = write_manifest(tmp_path / "shop.jsonl", rows)
    pipeline = write_pipeline(tmp_path / "shop.yaml", settings(manifest))
    workspace = tmp_path / "workspace"
    done = coldstart("run", pipeline, "--workspace", workspace)
    assert "2 items do without 2 of their media that cannot be read" in done.stdout
    assert "nowhere.jpg of gone (not_found: " in done.stdout

    stored = contents(workspace)
    items = {row["item_id"]: row for row in stored["items"]}
    assert {item: len(row["media"]) for item, row in items.items()} == {"whole": 2, "cut": 2, "gone": 1}
    assert [(entry["reason"], Path(entry["uri"]).name) for entry in items["cut"]["bad_media"]] == [
        ("corrupt_image", "cut.jpg")
    ]
    assert items["whole"]["bad_media"] is None
    (failed,) = [row for row in stored["ledger"] if row["stage"] == "ingest"]
    assert (failed["item_id"], failed["reason"]) == ("bad", "not_found")
    vectors = {row["item_id"]: row["vector"] for name in stored if "image" in name for row in stored[name]}
    assert vectors["whole"] == vectors["cut"]

    shown = coldstart("show", "gone", "--workspace", workspace, "--json")
    assert [entry["uri"] for entry in json.loads(shown.stdout)["item"]["bad_media"]] == ["nowhere.jpg"]
    card = tmp_path / "card.html"
    shown = coldstart("show", "gone", "--workspace", workspace, "--out", card)
    assert "image left out  nowhere.jpg (not_found: " in shown.stdout
    assert "nowhere.jpg (not_found: " in card.read_text("utf-8")

    photo(tmp_path / "nowhere.jpg", 2)  # it comes back
    again = coldstart("run", pipeline, "--workspace", workspace)
    assert again.returncode == 0, again.stderr
    now = {row["item_id"]: row for row in contents(workspace)["items"]}
    assert now["gone"]["bad_media"] is None and len(now["gone"]["media"]) == 2
    assert "bad" in now and len(now["bad"]["media"]) == 1
