"""An opened workspace serves what was published last, and after a rollback what was published before."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalogue import rows, settings, write_manifest

import coldstart


@pytest.mark.slow
def test_a_workspace_that_rolls_back_serves_what_it_went_back_to(tmp_path: Path) -> None:
    entries = rows(tmp_path / "shop", 5)
    manifest = write_manifest(tmp_path / "shop" / "items.jsonl", entries[:4])
    raw = settings(manifest, workers=1, device="cpu")
    del raw["stages"]["image"]
    workspace = coldstart.open(tmp_path / "w", create=True)

    def found(opened: coldstart.Workspace) -> set[str]:
        return {hit.item_id for hit in opened.search(text="article 4", top_k=9)}

    workspace.run(raw)
    assert found(workspace) == {"p0", "p1", "p2", "p3"}
    write_manifest(manifest, entries)
    workspace.run()
    assert found(workspace) == {"p0", "p1", "p2", "p3", "p4"}
    assert workspace.rollback().rows == 4
    assert found(workspace) == {"p0", "p1", "p2", "p3"}
    assert found(coldstart.open(tmp_path / "w")) == {"p0", "p1", "p2", "p3"}
