"""Execute every notebook on the demo workspace; the executed copies go to demo-out/notebooks/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-out" / "notebooks"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def execute(path: Path) -> NotebookNode:
    """Run a notebook from its first to its last cell, in its own folder, on the workspace COLDSTART_WORKSPACE."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def main() -> None:
    os.environ.setdefault("COLDSTART_WORKSPACE", str(ROOT / "demo-out" / "workspace"))
    if not NOTEBOOKS:
        sys.exit("no notebook found in notebooks/")
    OUT.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        notebook = execute(path)
        nbformat.write(notebook, OUT / path.name)
        print(f"{path.relative_to(ROOT)}: {len(notebook.cells)} cells ran")


if __name__ == "__main__":
    main()
