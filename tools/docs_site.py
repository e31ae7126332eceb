"""Fill the reference pages of the documentation from the code: a hook of mkdocs, called by `make docs`.

A page of `docs/` holds a line such as `<!-- generated: settings -->`; the site has a table in its place. Pages of the
repository outside `docs/` (changelog, benchmarks, …) join the site, and links between all of them are turned into links
of the site; a link to a file that is no page fails the build.
"""

from __future__ import annotations

import posixpath
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from tools.docs_reference import GENERATED

ROOT = Path(__file__).resolve().parent.parent

PAGES = {
    "CONTRIBUTING.md": "repository/contributing.md",
    "CHANGELOG.md": "repository/changelog.md",
    "LOG.md": "repository/log.md",
    "SECURITY.md": "repository/security.md",
    "benchmarks/README.md": "repository/benchmarks.md",
    "coldstart/weights/starter_clip/MODEL_CARD.md": "repository/starter-clip.md",
    "coldstart/sample/NOTICE.md": "repository/sample-licences.md",
    "coldstart/sample/README.md": "repository/sample.md",
}
"""File of the repository -> page of the site."""
PICTURES = {"benchmarks/ratios.png": "repository/ratios.png"}
"""Picture outside `docs/` that a page of `docs/` shows -> its place in the site."""
WIDTH = 84
"""Characters of a line of code that a page shows whole."""
DRAWINGS = ROOT / "docs" / "assets" / "diagrams"
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"<!-- generated: ([a-z-]+) -->")
_LINK = re.compile(r"(?<!\\)(\]\()((?!https?:|mailto:)[^)\s#]*)(#[^)\s]*)?(\))")


# -- links


def site_page(repository_path: str) -> str | None:
    """Find the page of the site for a file of the repository; None where there is none."""
    if repository_path.startswith("docs/"):
        return repository_path.removeprefix("docs/")
    if repository_path.startswith("pipelines/") and repository_path.endswith(".yaml"):
        return f"reference/pipelines.md#{posixpath.basename(repository_path).removesuffix('.yaml')}"
    return PAGES.get(repository_path) or PICTURES.get(repository_path)


def site_links(markdown: str, source: str, page: str) -> str:
    """Turn the links of a file of the repository into links of the site.

    A link to a file that the site does not hold becomes plain text: its name stands in the repository.

    Args:
        source: the file, relative to the repository.
        page: its page, relative to the site's pages.
    """

    def turned(found: re.Match[str]) -> str:
        opening, link, place, closing = found.groups()
        if not link:
            return found.group()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        own = site_page(target)
        if own is None:
            return found.group()
        path, _, inner = own.partition("#")
        relative = posixpath.relpath(path, posixpath.dirname(page) or ".")
        fragment = place or (f"#{inner}" if inner else "")
        return f"{opening}{relative}{fragment}{closing}"

    return _LINK.sub(turned, markdown)


def plain_names(markdown: str, source: str) -> str:
    """Turn links to files of the repository that are no pages into their names."""

    def turned(found: re.Match[str]) -> str:
        text, link = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link.partition("#")[0]))
        if target.startswith("docs/") or site_page(target) is not None or not (ROOT / target).exists():
            return found.group()
        return text if text.startswith("`") else f"{text} (`{target}`)"

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\((?!https?:|mailto:|#)([^)\s]+)\)", turned, markdown)


def broken_lines(markdown: str) -> str:
    """Break long commands in code blocks before an option, as a shell reads them."""

    def block(found: re.Match[str]) -> str:
        return "\n".join(_broken(line) for line in found.group().split("\n"))

    return re.sub(r"^ *```\n.*?^ *```$", block, markdown, flags=re.MULTILINE | re.DOTALL)


def _broken(line: str) -> str:
    if len(line) <= WIDTH or not line.lstrip().startswith("coldstart "):
        return line
    lines = [""]
    for part in re.split(r" (?=--)", line):
        joined = f"{lines[-1]} {part}" if lines[-1] else part
        if len(joined) > WIDTH - 2 and lines[-1]:
            lines.append(f"    {part}")
        else:
            lines[-1] = joined
    return " \\\n".join(lines)


def drawing(text: str) -> Path:
    """Name the file of a diagram's drawing, which `tools/draw_diagrams.py` makes."""
    return DRAWINGS / f"{sha256(text.encode()).hexdigest()[:12]}.svg"


def with_drawings(markdown: str, page: str) -> str:
    """Show the drawing of each diagram, and its text where there is none."""

    def drawn(found: re.Match[str]) -> str:
        file = drawing(found[1])
        place = posixpath.relpath(file.relative_to(ROOT / "docs").as_posix(), posixpath.dirname(page) or ".")
        return f"![diagram]({place}){{ .diagram }}" if file.is_file() else found.group()

    return MERMAID.sub(drawn, markdown)


def rendered(markdown: str, source: str, page: str) -> str:
    """Write a page as the site has it."""
    text = site_links(plain_names(broken_lines(markdown), source), source, page)
    return _PLACE.sub(lambda found: GENERATED[found[1]](), with_drawings(text, page))


# -- pages


def with_reasons(markdown: str) -> str:
    """Add the words and the remedy of each reason under its heading."""
    from coldstart.core import reasons

    def added(found: re.Match[str]) -> str:
        reason = reasons.ITEMS.get(found[1])
        if reason is None:
            return found.group()
        remedy = f" {reason.remedy[:1].upper()}{reason.remedy[1:]}." if reason.remedy else ""
        return f"{found.group()}\n\n*Items {reason.words}.*{remedy}"

    return re.sub(r"^### `([a-z_]+)`$", added, markdown, flags=re.MULTILINE)


# -- hooks of mkdocs


def on_files(files: Any, *, config: Any) -> Any:
    """Add pages of the repository outside `docs/`, and the pictures that they show."""
    from mkdocs.structure.files import File, InclusionLevel

    for source, page in PAGES.items():
        text = rendered((ROOT / source).read_text("utf-8"), source, page)
        file = File.generated(config, page, content=text)
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
        for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text):
            picture = (ROOT / source).parent / link
            place = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            if picture.is_file():
                files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Fill the places of generated tables, and turn links."""
    if page.file.src_uri in PAGES.values():
        return markdown
    if page.file.src_uri == "troubleshooting.md":
        markdown = with_reasons(markdown)
    return rendered(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)
