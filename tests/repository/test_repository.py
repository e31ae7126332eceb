"""What contributors meet: workflow, hooks and forms are well-formed, and call only what is there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from tools.lock_file import PYTHONS

WORKFLOW = ROOT / ".github/workflows/ci.yml"
HOOKS = ROOT / ".pre-commit-config.yaml"
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
TEMPLATE = ROOT / ".github/pull_request_template.md"
TARGETS = frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def steps() -> Iterator[dict[str, Any]]:
    for job in read(WORKFLOW)["jobs"].values():
        yield from job["steps"]


def targets(commands: str) -> set[str]:
    """Targets that lines of shell give to make."""
    lines = re.findall(r"^\s*make\s+(.*)$", commands, re.MULTILINE)
    return {word for line in lines for word in line.split() if re.fullmatch(r"[a-z-]+", word)}


def test_the_workflow_calls_targets_that_are_there() -> None:
    called = {name for step in steps() for name in targets(step.get("run", ""))}
    assert {"check", "test", "test-latest"} <= called
    assert called <= TARGETS


def test_every_command_of_the_workflow_is_a_target_of_make() -> None:
    for step in steps():
        assert step.keys() & {"run", "uses"}
        if "run" in step:
            assert all(line.startswith("make ") for line in step["run"].splitlines())


def test_the_workflow_tests_the_versions_of_the_lock_file() -> None:
    jobs = read(WORKFLOW)["jobs"]
    assert tuple(jobs["tests"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert "continue-on-error" not in jobs["tests"]
    assert jobs["newest"]["continue-on-error"] is True
    assert read(WORKFLOW)["permissions"] == {"contents": "read"}


def test_what_a_change_must_pass_calls_targets_that_are_there() -> None:
    called = targets((ROOT / ".ci/run").read_text("utf-8"))
    assert {"check", "test"} <= called <= TARGETS


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", TEMPLATE.relative_to(ROOT).as_posix()])
def test_pages_name_targets_that_are_there(name: str) -> None:
    named = re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert set(named) <= TARGETS


def test_hooks_run_what_setup_installs() -> None:
    """Nothing is fetched from another repository."""
    repositories = read(HOOKS)["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["id"] for hook in hooks} >= {"ruff-format", "ruff-check", "mypy"}
    for hook in hooks:
        assert hook["language"] == "system"
        program, *arguments = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        assert (Path(sys.executable).parent / Path(program).name).exists(), program
        if arguments[:1] == ["-m"]:
            assert (ROOT / f"{arguments[1].replace('.', '/')}.py").exists()
        if "files" in hook:
            tracked = ("pyproject.toml", "requirements-run.lock", "coldstart/__init__.py")
            assert any(re.search(hook["files"], path) for path in tracked), hook["files"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_forms_ask_what_can_be_answered(form: Path) -> None:
    found = read(form)
    assert found.keys() == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in found["body"]]
    assert len(set(ids)) == len(ids)
    for field in found["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"].endswith("?")
    assert any(field.get("validations", {}).get("required") for field in found["body"])


def test_there_is_a_form_for_faults_and_one_for_wishes() -> None:
    assert [form.stem for form in FORMS] == ["bug", "feature"]
