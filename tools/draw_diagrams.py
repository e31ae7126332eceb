"""Draw the diagrams of the documentation as SVG, so that the site needs no script of another host.

    npm pack mermaid@11 && tar xzf mermaid-*.tgz
    python -m tools.draw_diagrams package/dist/mermaid.min.js

A drawing is named for a digest of its text (`tools.docs_site.drawing`). A diagram that has changed since is shown as
its text until it is drawn again; drawings without a diagram are deleted.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from html import escape, unescape
from pathlib import Path

from tools.docs_site import DRAWINGS, MERMAID, ROOT, drawing

PAGE = """<!doctype html><meta charset="utf-8"><script src="{script}"></script><pre id="text">{text}</pre>
<div id="out"></div><script>
mermaid.initialize({{startOnLoad: false, htmlLabels: false, theme: "neutral",
  flowchart: {{htmlLabels: false, wrappingWidth: 420}}}});  // wide enough for the path of a file
mermaid.render("drawing", document.getElementById("text").textContent).then(made => {{
  document.getElementById("out").textContent = "SVG-BEGIN" + made.svg + "SVG-END";
}});
</script>"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the diagrams of docs/ as SVG.")
    parser.add_argument("script", type=Path, help="mermaid.min.js")
    parser.add_argument("--browser", default=shutil.which("chromium") or "chromium", help="Chromium, without a window")
    given = parser.parse_args()
    found = [
        text for page in sorted((ROOT / "docs").rglob("*.md")) for text in MERMAID.findall(page.read_text("utf-8"))
    ]
    DRAWINGS.mkdir(parents=True, exist_ok=True)
    for text in found:
        drawing(text).write_text(draw(text, given.script.resolve(), given.browser), "utf-8")
    for old in set(DRAWINGS.glob("*.svg")) - {drawing(text) for text in found}:
        old.unlink()
    print(f"{len(found)} diagrams drawn in {DRAWINGS.relative_to(ROOT)}")


def draw(text: str, script: Path, browser: str) -> str:
    """Draw one diagram in a browser without a window."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE.format(script=script.as_uri(), text=escape(text)), "utf-8")
        shown = subprocess.run(
            [browser, "--headless=new", "--no-sandbox", "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
    made = re.search(r"SVG-BEGIN(.*?)SVG-END", shown, re.DOTALL)
    if made is None:
        raise SystemExit(f"no drawing was made of: {text[:80]}")
    return unescape(made[1]) + "\n"


if __name__ == "__main__":
    main()
