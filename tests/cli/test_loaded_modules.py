"""Libraries that a command loads: what takes seconds to import comes back unnoticed, so the lists are held here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue import coldstart, rows, settings, write_manifest, write_pipeline

MODELS = {"torch", "transformers", "sentence_transformers", "timm", "open_clip", "onnxruntime", "tokenizers"}
TABLES = {"pyarrow", "lance", "lancedb", "pandas", "duckdb", "numpy"}


def loaded(*commands: list[object]) -> tuple[set[str], str]:
    """Run commands one after another in one fresh interpreter: what it has loaded, and its stderr."""
    lines = [list(map(str, command)) for command in commands]
    code = (
        "import json, sys\n"
        "from coldstart.cli import main\n"
        f"for words in {lines!r}:\n"
        "    sys.argv = ['coldstart', *words]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1])), done.stderr


@pytest.mark.slow
def test_faults_of_what_is_given_load_neither_tables_nor_models(tmp_path: Path) -> None:
    none = tmp_path / "none"
    there = tmp_path / "there"
    there.mkdir()
    found, said = loaded(
        ["search", "--workspace", there],
        ["search", "--image", none, "--workspace", there],
        ["search", "--video", none, "--workspace", there],
        ["search", "--queries", none, "--workspace", there],
        ["search", "--text", "a", "--workspace", none],
        ["status", "--workspace", none],
        ["check", "--workspace", none],
        ["describe", "--workspace", none],
        ["audience", "p0", "--workspace", none],
        ["recommend", "--user", "u", "--workspace", none],
        ["finetune", "align", "--workspace", none],
        ["status", "--workspace", __file__],
        ["search", "--txet", "a"],
    )
    assert not found & (TABLES | MODELS), sorted(found & (TABLES | MODELS))
    assert said.count("error:") + said.count("Error") == 13
    found, said = loaded(
        ["match", "--video", none, "--workspace", there],
        ["match", "--fit", none, "--workspace", there],
        ["show", "p0", "--workspace", none],
        ["evaluate", "align", "--workspace", none],
    )  # these draw pages, by Pillow
    assert not found & ((TABLES | MODELS) - {"numpy"}) and said.count("error:") == 4


@pytest.mark.slow
def test_reading_a_workspace_loads_no_model_and_searching_no_torch(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    manifest = write_manifest(tmp_path / "items.jsonl", rows(tmp_path, 4))
    pipeline = write_pipeline(tmp_path / "p.yaml", settings(manifest, workers=1))
    assert coldstart("run", pipeline, "--workspace", workspace).returncode == 0
    at = ["--workspace", workspace]
    found, said = loaded(
        ["status", *at], ["show", "p0", "--json", *at], ["check", *at], ["search", "--item", "p9", *at]
    )
    assert not found & (MODELS | {"pandas", "duckdb"}) and said.count("error:") == 1
    found, said = loaded(["status", *at], ["show", "p0", "--json", *at], ["check", *at])
    assert not found & (MODELS | {"lancedb", "pandas", "duckdb"}) and "error" not in said
    found, said = loaded(
        ["search", "--text", "article", *at],
        ["search", "--item", "p0", "--where", "category = 'shelf 1'", *at],
        ["search", "--image", tmp_path / "p1.jpg", "--space", "image", *at],
    )
    heavy = (MODELS - {"onnxruntime", "tokenizers"}) | {"pandas", "duckdb", "lance_namespace_urllib3_client.api"}
    assert not found & heavy and "lancedb" in found and "error" not in said
