"""What a user gets with pip, without the repository. The demo that it runs is looked at in `test_main_road.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from installed_wheel import Installed


@pytest.mark.slow
def test_the_wheel_is_what_runs(installed: Installed, tmp_path: Path) -> None:
    found = installed.python(tmp_path, "import coldstart; print(coldstart.__file__)")
    assert Path(found).is_relative_to(installed.bin.parent)


@pytest.mark.slow
def test_pipelines_and_prompts_are_found(installed: Installed, tmp_path: Path) -> None:
    encoders = [f"--set={space}.encoder=fake" for space in ("image", "clip", "text")]  # needs no weights
    checked = installed.coldstart(tmp_path, "check", "starter", "--json", "--set=clip.over=null", *encoders)
    assert json.loads(checked.stdout) == {"pipeline": "starter", "faults": [], "notes": []}
    assert checked.returncode == 0


@pytest.mark.slow
def test_the_heads_of_starter_clip_come_along(installed: Installed, tmp_path: Path) -> None:
    code = """
from coldstart.encoders.starter_clip import HEADS
from coldstart.encoders._heads import AlignedHeads
print(AlignedHeads.load(HEADS).heads.dim)
"""
    assert installed.python(tmp_path, code) == "384"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_runs(demo: Path) -> None:
    result = json.loads((demo / "result.json").read_text("utf-8"))
    assert result["items"] == 98
    assert result["recall"] > 0.5 > 6 * result["chance"]
    assert (demo / "index.html").stat().st_size > 100_000
    assert (demo / "neighbours.html").stat().st_size > 100_000
