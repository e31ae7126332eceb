"""Documentation: pages name commands, paths, headings and rooms that exist; `test_docs_site.py` has more on docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_commands import commands
from paths import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = ("coldstart", "tests", "tools", "benchmarks", "docs", "pipelines", "prompts", "policies", "notebooks")


def test_the_readme_names_no_command_that_is_not_there() -> None:
    known = {path[0] for path in commands()}
    named = set(re.findall(r"(?:^\$? ?|`)coldstart ([a-z]+)", README.read_text("utf-8"), re.MULTILINE))
    assert len(named) > 1
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_documentation_exist(page: Path) -> None:
    """A part in capitals, such as NAME, stands for any name; a link is relative to its page."""
    text = page.read_text("utf-8")
    named = set(re.findall(rf"(?<![\w./-])(?:{'|'.join(ROOMS)})/[\w./-]*", text))
    paths = {ROOT / name for name in named if not re.search(r"\b[A-Z]+\b", name.removesuffix(".md"))}
    paths |= {page.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)}
    missing = sorted(path.as_posix() for path in paths if not path.exists())
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_one(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]*#[^)]+)\)", page.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        text = target.read_text("utf-8")
        if "<!-- generated: " in text:
            continue  # the site's build finds headings of generated tables
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_the_map_names_every_room_of_the_package() -> None:
    rooms = {path.parent.name for path in (ROOT / "coldstart").glob("*/__init__.py")}
    assert len(rooms) > 10
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert [room for room in sorted(rooms) if f"{room}/" not in text] == []


def test_the_glossary_has_at_most_twelve_words() -> None:
    glossary = (ROOT / "docs" / "concepts.md").read_text("utf-8").partition("\n## ")[0]
    rows = re.findall(r"^\| (?!word |---)(.+?) \|", glossary, re.MULTILINE)
    assert 8 <= len(rows) <= 12


def test_contributing_is_one_page() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 90
