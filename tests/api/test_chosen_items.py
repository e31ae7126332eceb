"""Test runs of chosen items: ids, files of ids and conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalogue import write_manifest

import coldstart
from coldstart.cli.output import item_ids
from coldstart.errors import ColdstartError


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    entries = [{"item_id": f"sku-{n}", "title": f"Item {n}", "category": "hat" if n % 2 else "bag"} for n in range(6)]
    workspace = coldstart.open(tmp_path / "w", create=True)
    text = {"stage": "embed", "encoder": "fake:8", "input": "text"}
    manifest = str(write_manifest(tmp_path / "items.jsonl", entries))
    workspace.run({"manifest": manifest, "stages": {"ingest": {}, "text": text}}, only=["ingest"])
    return workspace


def made(workspace: Any) -> set[str]:
    name = next((table for table in workspace.tables() if table.startswith("stage.text")), None)
    return set() if name is None else set(workspace.table(name, ["item_id"])["item_id"].to_pylist())


@pytest.mark.slow
def test_a_run_does_the_named_items_and_leaves_others(shop: Any) -> None:
    shop.run(only=["text"], items=["sku-1", "sku-2"])
    assert made(shop) == {"sku-1", "sku-2"}
    shop.run(only=["text"], where="category = 'hat'")
    assert made(shop) == {"sku-1", "sku-2", "sku-3", "sku-5"}
    with pytest.raises(ColdstartError, match="meets"):
        shop.run(only=["text"], items=["sku-0"], where="category = 'hat'")
    assert "sku-0" not in made(shop)


def test_an_unknown_id_is_named_with_a_suggestion_and_nothing_runs(shop: Any) -> None:
    with pytest.raises(ColdstartError, match=r"no item 'sku_1' \(did you mean 'sku-1'\?\)"):
        shop.run(only=["text"], items=["sku-2", "sku_1"])
    assert made(shop) == set()


def test_ids_are_read_from_commas_and_files(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("c\n\n d,e \n", "utf-8")
    assert item_ids(["a, b", f"@{tmp_path / 'ids.txt'}"]) == ["a", "b", "c", "d,e"]
    assert item_ids(None) is None
    with pytest.raises(ColdstartError, match="an id a line"):
        item_ids([f"@{tmp_path / 'none.txt'}"])
