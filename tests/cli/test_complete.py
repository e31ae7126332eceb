"""Completion, as the shell asks for it: names of pipelines, spaces, stages, items and models; never an error."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from catalogue import CLI
from typer.testing import CliRunner

from coldstart import encoders, generators
from coldstart.cli import app, complete

Words = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline and its workspace, in which one id could run a command."""
    folder = tmp_path_factory.mktemp("shop")
    ids = ["red-1", "red-2", "blue-1", "red-$(touch pwned)", "red-'x'"]
    (folder / "items.jsonl").write_text("".join(json.dumps({"item_id": one, "title": one}) + "\n" for one in ids))
    settings = {
        "manifest": "items.jsonl",
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:16", "input": "text"}, "index": {}},
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    (folder / ".shop.yaml").write_text("stages: {}", "utf-8")  # hidden files are not completed
    result = CliRunner().invoke(app, ["run", str(folder / "shop.yaml"), "-w", str(folder / "w")])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def words(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """Completions of the last word of a line, in the folder of the shop."""
    monkeypatch.chdir(shop)
    monkeypatch.delenv("COLDSTART_WORKSPACE", raising=False)

    def complete_line(line: str) -> list[str]:
        count = len(shlex.split(line)) - (0 if line.endswith(" ") else 1)
        environment = {"_COLDSTART_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(count)}
        result = CliRunner().invoke(app, [], prog_name="coldstart", env=environment)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split()

    return complete_line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("coldstart sea", ["search"]),
        ("coldstart run s", ["starter", "shop.yaml"]),
        ("coldstart check sh", ["shop.yaml"]),
        ("coldstart check .s", []),
        ("coldstart embed --pipeline dem", ["demo"]),
        ("coldstart search --kind ", ["product", "video"]),
        ("coldstart search -w w --space ", ["text"]),
        ("coldstart run -w w --only ", ["ingest", "text", "index"]),
        ("coldstart show -w w red", ["red-1", "red-2"]),
        ("coldstart show --workspace w blue-1", ["blue-1"]),
        ("coldstart audience -w w b", ["blue-1"]),
        ("coldstart embed --encoder starter", ["starter", "starter-clip"]),
        ("coldstart models pull whis", ["whisper-base"]),
        ("coldstart prompts tit", ["title"]),
        ("coldstart show -w nowhere r", []),
        ("coldstart show -w s3://bucket/w r", []),
        ('coldstart show -w w "red\'"', []),
    ],
)
def test_words_are_completed(words: Words, line: str, found: list[str]) -> None:
    assert words(line) == found


def test_the_workspace_of_the_environment_counts(shop: Path, words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words("coldstart show red") == []
    monkeypatch.setenv("COLDSTART_WORKSPACE", str(shop / "w"))
    assert words("coldstart show red") == ["red-1", "red-2"]


def test_stages_are_those_of_the_pipeline_on_the_line(words: Words) -> None:
    assert {"understand", "understand.speech", "clip"} <= set(words("coldstart run video --only "))


def test_a_damaged_workspace_offers_nothing(words: Words, tmp_path: Path) -> None:
    for name in ("items", "publications", "pipelines"):
        (tmp_path / f"{name}.lance").mkdir()
    for line in ("show -w {0} a", "search -w {0} --space ", "run -w {0} --only "):
        assert words(f"coldstart {line.format(tmp_path)}") == []


def test_items_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = complete._completing(lambda ctx, incomplete: (f"a{n}" for n in range(10**9)))
    assert len(offered(None, "a")) == complete.MOST  # type: ignore[arg-type]


@pytest.mark.slow
def test_completion_loads_nothing_heavy_and_says_nothing(shop: Path, tmp_path: Path) -> None:
    listing = "import atexit,sys; atexit.register(lambda: open('modules','w').write(' '.join(sys.modules)));"
    environment = {
        **os.environ, "_COLDSTART_COMPLETE": "complete_bash", "COMP_CWORD": "4",
        "COMP_WORDS": f"coldstart show -w {shop / 'w'} red",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", f"{listing} {CLI[-1]}"],
        env=environment, capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["red-1", "red-2"], "")
    loaded = set((tmp_path / "modules").read_text().split())
    assert "lance" in loaded
    heavy = {"torch", "lancedb", "transformers", "sentence_transformers", "pandas"}
    assert heavy & loaded == set()


def test_completion_can_be_installed() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in result.stdout


def test_encoders_and_generators_are_those_of_their_rooms() -> None:
    assert complete._modules("encoders") == encoders.known()
    assert complete._modules("generators") == generators.known()
