"""Settings that a run may save: a typo leaves a workspace as usable as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalogue import write_manifest

import coldstart
from coldstart.errors import ColdstartError


def _settings(manifest: Path, **stages: Any) -> dict[str, Any]:
    return {
        "manifest": str(manifest),
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:8", "input": "text"}, **stages},
    }


@pytest.fixture
def workspace(tmp_path: Path) -> tuple[coldstart.Workspace, Path]:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    workspace = coldstart.open(tmp_path / "w", create=True)
    workspace.run(_settings(manifest))
    return workspace, manifest


@pytest.mark.slow
@pytest.mark.parametrize("only", [(), ("ingest",)])
def test_a_misspelt_encoder_is_named_and_not_saved(workspace: tuple[coldstart.Workspace, Path], only: Any) -> None:
    opened, manifest = workspace
    before = opened._store.pipeline()
    typo = _settings(manifest, text={"stage": "embed", "encoder": "fakee:8", "input": "text"})
    with pytest.raises(ColdstartError, match="encoder 'fakee:8' is unknown: nearest are fake"):
        opened.run(typo, only=only)
    assert opened._store.pipeline() == before
    assert [(report.stage, report.balance.fresh) for report in opened.status()] == [("ingest", 1), ("text", 1)]
    assert {report.balance.fresh for report in opened.run().stages} == {1}


@pytest.mark.slow
def test_a_stage_that_waits_for_a_fit_does_not_keep_settings_from_being_saved(
    workspace: tuple[coldstart.Workspace, Path],
) -> None:
    opened, manifest = workspace
    waiting = _settings(manifest, align={"text_image": False, "behaviour": {}}, behaviour={}, index={})
    opened.run(waiting)
    assert opened._store.pipeline() == waiting
    opened.run(_settings(manifest))
    assert opened._store.pipeline() == _settings(manifest)


@pytest.mark.slow
def test_the_first_settings_of_a_workspace_are_saved_only_if_they_resolve(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    opened = coldstart.open(tmp_path / "w", create=True)
    typo = _settings(manifest, text={"stage": "embed", "encoder": "fakee:8", "input": "text"})
    with pytest.raises(ColdstartError, match="encoder 'fakee:8' is unknown"):
        opened.run(typo)
    assert opened.tables() == []
    assert {report.balance.fresh for report in opened.run(_settings(manifest)).stages} == {1}
    assert opened._store.pipeline() == _settings(manifest)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_settings_whose_manifest_cannot_be_opened_are_not_saved(tmp_path: Path, first: bool) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    opened = coldstart.open(tmp_path / "w", create=True)
    if not first:
        opened.run(_settings(manifest), only=["ingest"])
    before = opened._store.pipeline()
    unknown, empty = tmp_path / "items.docx", tmp_path / "empty.jsonl"
    unknown.write_text("x")
    empty.write_text("")
    for wrong, fault in (
        (tmp_path / "nosuch.jsonl", "no manifest at"),
        (unknown, "unknown format"),
        (empty, "has no rows"),
    ):
        with pytest.raises(ColdstartError, match=fault):
            opened.run(_settings(wrong), only=["ingest"])
        assert opened._store.pipeline() == before
    if not first:
        assert [report.balance.fresh for report in opened.run(only=["ingest"]).stages] == [1]


def test_settings_are_saved_where_their_manifest_has_gone_since(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    opened = coldstart.open(tmp_path / "w", create=True)
    opened.run(_settings(manifest), only=["ingest"])
    manifest.unlink()
    changed = _settings(manifest, text={"stage": "embed", "encoder": "fake:16", "input": "text"})
    opened.run(changed, only=["text"])
    assert opened._store.pipeline() == changed


def test_stored_settings_that_are_no_pipeline_name_the_workspace_and_the_next_step(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "w", create=True)
    with opened._store.lock():
        opened._store.save_pipeline("planted", {"stages": {"ingest": {"mapp": {}}}})
    wanted = (
        f"the stored settings of workspace {opened.uri} are no pipeline: unknown setting ingest.mapp (did you mean "
        f"'map'?): name one anew with `coldstart run PIPELINE --workspace {opened.uri}`"
    )
    assert opened.setting_faults() == {"ingest": "unknown setting ingest.mapp (did you mean 'map'?)"}
    assert [(report.stage, report.fault) for report in opened.status()] == list(opened.setting_faults().items())
    for command in (opened.pipeline, opened.run):
        with pytest.raises(ColdstartError) as caught:
            command()
        assert str(caught.value) == wanted
