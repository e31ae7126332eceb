"""What a user gets with pip, without the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from paths import ROOT

from coldstart.models import install as models


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the built wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("coldstart-*.whl")
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # a path in a .pth file is searched after the environment's own, and the .pth files found there do not count: the
    # dependencies come from here, the editable install of the repository does not
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return environment / "bin"


def coldstart(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [str(installed / "coldstart"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1400)


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    where = [str(installed / "python"), "-c", "import coldstart; print(coldstart.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(installed.parent)


def test_pipelines_and_prompts_are_found(installed: Path, tmp_path: Path) -> None:
    encoders = [f"--set={space}.encoder=fake" for space in ("image", "clip", "text")]  # needs no weights
    checked = coldstart(installed, tmp_path, "check", "starter", "--json", "--set=clip.over=null", *encoders)
    assert json.loads(checked.stdout) == {"pipeline": "starter", "faults": []}
    assert checked.returncode == 0


def test_the_heads_of_starter_clip_come_along(installed: Path, tmp_path: Path) -> None:
    code = """
from coldstart.encoders.starter_clip import HEADS
from coldstart.encoders._heads import Aligned
print(Aligned.load(HEADS).heads.dim)
"""
    found = subprocess.run(
        [str(installed / "python"), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "384"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_runs(installed: Path, tmp_path: Path) -> None:
    if any(row.state != "ready" for row in models.rows()):
        pytest.skip("the starter models are not here: run `coldstart models pull starter`")
    ran = coldstart(installed, tmp_path, "demo", "--out", "out", "--json")
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["items"] == 96
    assert result["recall"] > 0.5 > 6 * result["chance"]
    assert (tmp_path / "out" / "neighbours.png").stat().st_size > 100_000
    assert (tmp_path / "out" / "neighbours.html").stat().st_size > 100_000
