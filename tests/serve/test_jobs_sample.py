"""A photo and a clip of the sample through the queue, with the starter models: found by their words and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

import coldstart
from coldstart import sample
from coldstart.core import pipeline as pipelines
from coldstart.models import install
from coldstart.serve.jobs import JobQueue
from coldstart.store import Store

SAMPLE = Path(sample.__file__).parent


@pytest.mark.slow
def test_a_photo_and_a_clip_are_searchable(tmp_path: Path) -> None:
    if missing := [row.name for row in install.model_rows() if row.state != "ready"]:
        pytest.skip(f"{', '.join(missing)} not on this machine: run `coldstart models pull starter`")
    workspace = coldstart.open(tmp_path / "ws", create=True)
    Store(tmp_path / "ws").save_pipeline("starter", pipelines.load("starter", overrides=["engine.workers=1"]).raw)
    queue = JobQueue(tmp_path / "queue", str(tmp_path / "ws"))
    rows = [
        {"item_id": "banana", "title": "Yellow fruit", "media": [{"role": "image", "uri": "one"}]},
        {"item_id": "clip", "title": "A short film", "media": [{"role": "video", "uri": "two"}]},
        {"item_id": "page", "title": "A film that is a page", "video": "three"},
    ]
    files = {"one": SAMPLE / "images/06_Banana.jpg", "two": SAMPLE / "videos/clip-01.mp4", "three": b"<html>"}
    job = queue.submit_items(rows, files)
    queue.start()
    done = queue.wait_until_idle(300)
    found = queue.get(job.id)
    queue.close()
    assert done
    assert [(one["state"], one["reason"]) for one in (found.result or found.error or {})["items"]] == [
        ("searchable", ""),
        ("searchable", ""),
        ("failed", "unsupported_media"),
    ]
    by_words = workspace.search(text="a banana", top_k=2)
    assert by_words[0].item_id == "banana"
    by_picture = workspace.search(image=SAMPLE / "images/06_Banana.jpg", top_k=2)
    assert by_picture[0].item_id == "banana"
    assert {hit.item_id for hit in by_picture} == {"banana", "clip"}
