"""Catalogues as shops have them: what their columns are taken for, and that no row is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shop_files import SHOP_FILES, ShopFile

import coldstart
from coldstart.core.stage import Reject
from coldstart.ingest.stage import IngestStage

PIPELINE: dict[str, Any] = {"stages": {"ingest": {}}}


def parsed(workspace: Any, plan: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Item -> its row, as the stage ingest makes it."""
    settings = {**plan.settings(), **({"media_folder": str(folder)} if plan.has_bytes else {})}
    media = {"roots": [str(folder)]}
    pipeline = workspace.pipeline({"manifest": str(plan.path), "media": media, "stages": {"ingest": settings}})
    stage = IngestStage("ingest", pipeline.of_kind("ingest")[0].settings, pipeline)
    return {work.item_id: work.row for work in stage.entries() if not isinstance(work.row, Reject)}


@pytest.mark.parametrize("form", SHOP_FILES, ids=lambda form: form.name)
def test_a_shops_file_is_understood(form: ShopFile, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    source = form.make(tmp_path / "shop")
    workspace = coldstart.open(tmp_path / "w", create=True)
    plans = workspace.plan_import([source], pipeline=PIPELINE)
    report = workspace.import_catalogue(plans, pipeline=PIPELINE, dry_run=True).sources[0]
    recognised = plans[0].recognition.map() if plans[0].recognition else {}
    assert recognised == form.fields
    counts = report.rows, report.items, report.joined, sum(report.rejected.values())
    assert counts == (form.rows, form.items, form.joined, form.rejected)
    assert report.rows == report.items + report.joined + sum(report.rejected.values()), "a row is lost"
    items = parsed(workspace, plans[0], tmp_path / "media")
    keys = [name for name in form.first if name != "item_id"]
    found = [row for item, row in items.items() if form.first.get("item_id", item) == item]
    row = next(row for row in found if all(row[name] == form.first[name] for name in keys))
    attributes = json.loads(row["attributes"])
    assert {name: attributes.get(name) for name in form.attributes} == form.attributes
    if form.pictures is not None:
        assert len(row["media"]) == form.pictures
