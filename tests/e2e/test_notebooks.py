"""The notebooks run from their first to their last cell, on the workspace of the demo."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import make_small_shop
from tools.run_notebooks import NOTEBOOKS, execute

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_every_cell_runs(path: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = shutil.copytree(demo / "workspace", tmp_path / "workspace")
    monkeypatch.setenv("COLDSTART_WORKSPACE", str(own))
    shop = tmp_path / "shop"  # a third of the notebook's own
    make_small_shop.make(shop, items=100, people=130, seed=0)
    monkeypatch.setenv("COLDSTART_MANIFEST", str(shop / "manifest.jsonl"))
    monkeypatch.setenv("COLDSTART_INTERACTIONS", str(shop / "interactions.csv"))
    cells = [cell for cell in execute(path).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any(cell.outputs for cell in cells)
