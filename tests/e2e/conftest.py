"""The demo, run once by the command of the built wheel; whoever changes its workspace takes a copy."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from installed_wheel import Installed
from paths import ROOT

from coldstart.models import install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("coldstart_multimodal-*.whl")
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    python = str(environment / "bin" / "python")
    install_it = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install_it, str(wheel)], check=True, capture_output=True)
    # a path in a .pth file is searched after the environment's own, and the .pth files found there do not count: the
    # dependencies come from here, the editable install of the repository does not
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return Installed(environment / "bin")


@pytest.fixture(scope="session")
def starter_models() -> None:
    """Skip, saying so, where the starter models are not on this machine."""
    missing = [row.name for row in install.model_rows() if row.state != "ready"]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on this machine: run `coldstart models pull starter`")


@pytest.fixture(scope="session")
def demo(installed: Installed, starter_models: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the demo: `result.json` is what it printed, `workspace` what it made."""
    folder = tmp_path_factory.mktemp("demo")
    done = installed.coldstart(folder, "demo", "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "out" / "result.json").write_text(done.stdout, "utf-8")
    return folder / "out"
