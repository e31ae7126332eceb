"""A decoder that throws costs the items it throws on, once: later runs go on, and what failed alike is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart, photo, rows, settings, write_manifest, write_pipeline
from PIL import Image

GOOD, BAD = 6, 3
DECODER = """
import PIL.ImageFile

_load = PIL.ImageFile.ImageFile.load


def load(image):
    if image.size == (40, 24):
        raise KeyError("https://user:password@host/")
    return _load(image)


PIL.ImageFile.ImageFile.load = load
"""
"""Loaded by every worker process as it starts: a fault of the decoder in pictures of one size."""


class Shop:
    def __init__(self, folder: Path) -> None:
        self.media, self.workspace = folder / "shop", folder / "workspace"
        entries = rows(self.media, GOOD + BAD)
        for number in range(BAD):
            Image.open(photo(self.media / f"p{number}.jpg", number)).resize((40, 24)).save(
                self.media / f"p{number}.jpg"
            )
        pipeline = {**settings(write_manifest(self.media / "items.jsonl", entries)), "max_failed": 0.2}
        self.pipeline = write_pipeline(folder / "pipeline.yaml", pipeline)

    def run(self, *options: str) -> tuple[int, dict[str, tuple[int, int]], str]:
        """Exit code, stage -> (made, turned away), and what was said."""
        done = coldstart("run", self.pipeline, "--workspace", self.workspace, "--json", *options)
        return done.returncode, _ran(done.stdout), done.stderr

    def failed(self) -> dict[str, tuple[str, str]]:
        listed = coldstart("status", "--failed", "--json", "--workspace", self.workspace)
        return {
            row["item_id"]: (row["reason"], _masked(row["detail"]))
            for row in json.loads(listed.stdout)["items"]
            if row["stage"] == "image"
        }


def _masked(detail: str) -> str:
    return re.sub(r"(image:)\w+:\d+", r"\1_:N", re.sub(r"(load:)\d+", r"\1N", detail))


def _ran(text: str) -> dict[str, tuple[int, int]]:
    found: list[dict[str, Any]] = json.loads(text)["stages"]
    return {stage["stage"]: (stage["ran"]["done"], stage["ran"]["lost"]) for stage in found}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "sitecustomize.py").write_text(DECODER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "decoder"))
    return Shop(tmp_path)


@pytest.mark.slow
def test_a_decoder_that_throws_costs_its_items_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran, said = shop.run()
    assert ran["image"] == (GOOD, BAD)
    place = "KeyError at sitecustomize:load:N, called at coldstart.media.image:_:N"
    verdict = ("decoder_fault", place)
    assert shop.failed() == {f"p{number}": verdict for number in range(BAD)}
    assert code == 1
    line = next(line for line in said.splitlines() if line.startswith("error: more failed"))
    assert f"image 33.3% (3 items failed in one place: {place})" in _masked(line)

    code, ran, _ = shop.run()
    assert (code, ran["image"]) == (1, (0, 0)), "their verdicts stand, and later runs go on"

    photo(shop.media / "p0.jpg", 50)
    code, ran, _ = shop.run()
    assert ran["image"] == (1, 0), "other bytes are tried anew"
    assert shop.failed() == {f"p{number}": verdict for number in range(1, BAD)}

    monkeypatch.delenv("PYTHONPATH")
    retried = coldstart("retry", "--workspace", shop.workspace, "--json")
    assert _ran(retried.stdout)["image"] == (BAD - 1, 0)
    assert shop.failed() == {}
