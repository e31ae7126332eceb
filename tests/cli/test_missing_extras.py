"""Without the extras pictures and texts are understood, and a library that is missing is named with its extra."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from catalogue import CLI, rows, settings, write_manifest, write_pipeline

from coldstart.core.extras import missing_extra

HIDE = """
import sys
HIDDEN = "av cv2 faster_whisper ctranslate2 rapidocr scenedetect".split()
HIDDEN += "accelerate datasets implicit peft trl xgrammar".split()

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def coldstart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process, and workers of it, in which the libraries of the extras cannot be imported."""
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder / "hidden"), "COLDSTART_WORKSPACE": str(folder / "w")}
    return subprocess.run([*CLI, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_pictures_and_texts_need_no_extra_and_videos_name_theirs(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 3))
    pipeline = write_pipeline(tmp_path / "p.yaml", settings(manifest))
    run = coldstart(tmp_path, "run", str(pipeline))
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    found = coldstart(tmp_path, "search", "--text", "article 2", "--json")
    assert found.returncode == 0
    assert '"p2"' in found.stdout
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom")
    write_manifest(manifest, [{"item_id": "clip", "video": "clip.mp4"}])
    refused = coldstart(tmp_path, "run", str(pipeline))
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: av is not installed, which is needed where videos and sound are decoded: "
        "pip install '.[video]' in the clone of coldstart\n"
    )


def test_only_libraries_of_extras_are_named() -> None:
    assert missing_extra(ModuleNotFoundError("No module named 'numpi'", name="numpi")) is None
    assert missing_extra(ImportError("cannot import name 'x'", name="av")) is None
    assert str(missing_extra(ModuleNotFoundError("No module named 'trl.x'", name="trl.x"))) == (
        "trl is not installed, which is needed where language models write, or models are fitted: "
        "pip install '.[train]' in the clone of coldstart"
    )
