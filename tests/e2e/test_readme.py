"""README's commands, typed as they stand from the first to the last, on the workspace of the demo."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from installed_wheel import Installed
from paths import ROOT

from tools.readme_commands import commands

README = (ROOT / "README.md").read_text("utf-8")
INSTALL = "make demo\nsource .venv/bin/activate"


def test_all_commands_are_found() -> None:
    found = commands(README)
    assert found[0] == INSTALL
    named = {line.split()[1] for block in found for line in block.splitlines() if line.startswith("coldstart ")}
    assert {"import", "run", "search", "show", "match", "export", "remove", "init"} <= named
    assert (
        README.count("\n| ") - 1
        <= sum(block.startswith("coldstart ") for block in found)
        <= README.count("`coldstart ")
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_commands_of_the_readme_work(demo: Path, installed: Installed, tmp_path: Path) -> None:
    shutil.copytree(demo, tmp_path / "demo-out")
    shutil.copytree(ROOT / "coldstart" / "sample" / "images", tmp_path / "coldstart" / "sample" / "images")
    script = "\n".join(f"echo '#{number}'\n{block}" for number, block in enumerate(commands(README)[1:], start=1))
    environment = {**os.environ, "PATH": f"{installed.bin}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    said = dict(enumerate(done.stdout.split("#"), start=0))
    assert "3 items imported, 0 rejected" in said[1]
    assert said[1].rindex("1  Lemon") < said[1].rindex("Granny Smith")
    assert (tmp_path / "match.html").stat().st_size > 10_000
    assert {"items.parquet", "ledger.parquet"} <= {path.name for path in (tmp_path / "export").iterdir()}
    assert "Lemon 0.2" in done.stdout
