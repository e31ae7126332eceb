"""The site of `docs/`: commands on its pages parse, reasons and settings have their entries, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_commands import commands
from paths import ROOT
from test_words import UsageError, parse

import coldstart
from coldstart.core import pipeline, reasons, stage
from coldstart.core.attributes import Attribute
from coldstart.core.items import FIELD_NAMES
from coldstart.core.pipeline_schema import field_docs
from tools import docs_reference, docs_site

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SKIPPED = ("COMMAND", "…", "--install-completion")
"""Parts of lines that stand for many commands, and an option that acts as soon as it is parsed."""
UNFINISHED = ("Missing ", "requires an argument")
"""Faults that a command may have which a sentence names: `coldstart audience`, say, without its item."""


def in_blocks(text: str) -> list[str]:
    """Calls of coldstart in the code blocks of a page, one a line, or over several lines that end with a backslash."""
    blocks = re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").replace("docker compose run --rm coldstart", "coldstart")
    return re.findall(r"^\s*(?:\$ )?(coldstart .+)$", lines, re.MULTILINE)


def in_sentences(text: str) -> list[str]:
    """Calls of coldstart in the sentences and tables of a page."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`(coldstart\s[^`]+)`", prose)]


def fault_of(line: str, unfinished: bool) -> str | None:
    """The fault of a call; None for one that parses, or for the name of a command in a sentence."""
    if any(part in line for part in SKIPPED):
        return None
    try:
        parse(line)
    except UsageError as error:
        known = unfinished and any(part in error.format_message() for part in UNFINISHED)  # type: ignore[attr-defined]
        return None if known else f"{line}: {error}"
    return None


def generated(page: Path) -> str:
    """A page of docs with its generated tables."""
    name = page.relative_to(DOCS).as_posix()
    text = page.read_text("utf-8")
    return docs_site.rendered(docs_site.with_reasons(text), f"docs/{name}", name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_commands_on_pages_parse(page: Path) -> None:
    text = page.read_text("utf-8")
    faults = [fault_of(line, False) for line in in_blocks(text)] + [fault_of(line, True) for line in in_sentences(text)]
    assert [fault for fault in faults if fault] == []


def test_lines_that_do_not_parse_are_seen() -> None:
    text = "Say\n```\n$ coldstart sreach --text a\n```\nor `coldstart index\n--back`, or `coldstart audience`."
    assert in_blocks(text) == ["coldstart sreach --text a"]
    assert in_sentences(text) == ["coldstart index --back", "coldstart audience"]
    assert fault_of("coldstart sreach --text a", True)
    assert fault_of("coldstart index --back", True)
    assert fault_of("coldstart audience", False)
    assert fault_of("coldstart audience", True) is None


def yaml_blocks(page: Path) -> list[str]:
    """Blocks of YAML of a page."""
    found = re.findall(r"^( *)```yaml\n(.*?)^\1```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def test_pages_have_pieces_of_pipelines() -> None:
    assert sum(len(yaml_blocks(page)) for page in PAGES) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pieces_of_pipelines_load(page: Path) -> None:
    """Whole files, sections, and stages alone."""
    keys = {"manifest", "max_failed", "media", "engine", "attributes", "stages"}
    for block in yaml_blocks(page):
        found = yaml.safe_load(block)
        if not isinstance(found, dict) or "classes" in found:
            continue  # a comment for editors; a file of classes
        whole = {"stages": {"ingest": {}}, **found} if found.keys() <= keys else {"stages": found}
        pipeline.load(whole)


def test_every_command_is_used_on_a_page() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [path for path in commands() if not re.search(rf"coldstart {' '.join(path)}\b", text)] == []


def test_every_reason_has_an_entry() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    entries = re.findall(r"^### `([a-z_]+)`$", page, re.MULTILINE)
    assert sorted(entries) == sorted(reasons.ITEMS)
    shown = generated(DOCS / "troubleshooting.md")
    for code, reason in reasons.ITEMS.items():
        assert f"### `{code}`\n\n*Items {reason.words}.*" in shown
    for table in (reasons.CLAIMS, reasons.INTERACTIONS, reasons.IMPRESSIONS, reasons.SPEECH):
        assert [code for code in table if f"| <code>{code}</code> |" not in shown] == []


def test_an_entry_says_more_than_the_table() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    sections = re.findall(r"^### `[a-z_]+`\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL)
    assert len(sections) == len(reasons.ITEMS)
    assert all(len(section.split()) >= 4 for section in sections)


@pytest.mark.slow
def test_every_setting_has_its_line() -> None:
    shown = docs_reference.settings()
    models: list[Any] = [pipeline.Media, pipeline.Engine, pipeline.RayCluster, Attribute]
    models += [stage.stage_module(kind).Settings for kind in stage.kinds()]
    models += [
        held
        for model in models
        for one in model.model_fields.values()
        if (held := docs_reference.sub_model(one.annotation))
    ]
    for model in models:
        texts = field_docs(model)
        for name, field in model.model_fields.items():
            assert field.description or texts.get(name), f"{model.__module__}.{name} has no text under it"
            assert f"| <code>{field.alias or name}</code> |" in shown
    for kind in stage.kinds():
        assert f"### `{kind}`" in shown
    assert "typing." not in shown
    assert "<class" not in shown


@pytest.mark.slow
def test_fields_commands_names_and_models_are_listed() -> None:
    fields = docs_reference.item_fields()
    assert [name for name in FIELD_NAMES if f"| <code>{name}</code> |" not in fields] == []
    shown = docs_reference.commands()
    for path in commands():
        section = re.search(rf"^##+ `coldstart {' '.join(path)}` .*?(?=^## |\Z)", shown, re.MULTILINE | re.DOTALL)
        assert section is not None, path
        assert section[0].count("$ coldstart ") >= 3
    names = docs_reference.python_names()
    assert [name for name in coldstart.__all__ if not name.startswith("_") and f".{name}\n" not in names] == []
    from coldstart import encoders, generators

    assert [name for name in encoders.known() if f"<code>{name}</code>" not in docs_reference.encoders()] == []
    assert [name for name in generators.known() if f"<code>{name}</code>" not in docs_reference.generators()] == []


def test_every_extra_is_on_the_page_of_installation() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    page = (DOCS / "install.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == sorted(extras)


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]

    def leaves(given: Any) -> Iterator[str]:
        for one in given if isinstance(given, list) else given.values() if isinstance(given, dict) else [given]:
            yield from [one] if isinstance(one, str) else leaves(one)

    own = [page for page in leaves(nav) if page not in docs_site.PAGES.values()]
    assert sorted(own) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize("path", sorted((DOCS / "deployment").glob("*.py")), ids=lambda path: path.name)
def test_examples_of_deployment_compile(path: Path, tmp_path: Path) -> None:
    """Airflow and Dagster are not installed here: the linter reads them, and their commands parse."""
    py_compile.compile(str(path), cfile=str(tmp_path / "compiled"), doraise=True)
    words = {node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)}
    assert words


def test_commands_of_the_airflow_example_parse() -> None:
    text = (DOCS / "deployment/airflow_dag.py").read_text("utf-8")
    constants = dict(re.findall(r'^([A-Z]+) = "([^"]+)"$', text, re.MULTILINE))
    lines = re.findall(r'f"(\{COLDSTART\}[^"]+)"', text)
    assert len(lines) == 5
    for line in lines:
        parse(line.replace("{COLDSTART}", "coldstart").format(**constants))


@pytest.mark.parametrize("path", sorted((DOCS / "deployment").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_of_deployment_are_shell(path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    subprocess.run([bash, "-n", str(path)], check=True)


def test_the_units_of_systemd_name_files_of_the_folder() -> None:
    unit = (DOCS / "deployment/coldstart.service").read_text("utf-8")
    script = re.search(r"^ExecStart=\S+/([\w.-]+)", unit, re.MULTILINE)
    assert script is not None
    assert (DOCS / "deployment" / script[1]).is_file()


@pytest.mark.slow
def test_the_site_builds_and_asks_no_other_host(tmp_path: Path) -> None:
    """Strict: a link or an anchor that leads nowhere fails the build."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs the extra docs")
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env={"PATH": "", "HOME": str(tmp_path), "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    fetched = [
        (page.name, found)
        for page in pages
        for found in re.findall(r'(?:src|<link[^>]*href)="(https?:[^"]+)"', page.read_text("utf-8"))
    ]
    assert fetched == []
    assert (site / "search/search_index.js").is_file()
