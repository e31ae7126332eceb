"""An empty folder of models, a folder of wheels, and the table that pins them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_table

from coldstart.models.starter_set import StarterModel


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def source(tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def table(source: Path) -> tuple[StarterModel, ...]:
    return make_table(source)
