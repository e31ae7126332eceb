"""A catalogue of small photos, a pipeline of fake encoders over it, and what a workspace holds in the end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from PIL import Image

from coldstart.cli import main
from coldstart.engine.report import StageReport
from coldstart.store import Store
from coldstart.store.catalog import Catalog

CLI = (sys.executable, "-c", "from coldstart.cli import main; main()")


def photo(path: Path, number: int) -> Path:
    """A JPEG of four colours that follow from the number."""
    picture = Image.new("RGB", (2, 2))
    picture.putdata([tuple(number * step * (1 + band) % 256 for band in range(3)) for step in (37, 59, 83, 101)])
    picture.resize((24, 24), Image.Resampling.NEAREST).save(path, quality=90)
    return path


def rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """Manifest rows `p0`, `p1`, …, each with a photo in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        {
            "item_id": f"p{n}",
            "title": f"article {n} of shelf {n % 7}",
            "category": f"shelf {n % 7}",
            "image": photo(folder / f"p{n}.jpg", n).name,
        }
        for n in range(count)
    ]


def write_manifest(path: Path, entries: Iterable[Mapping[str, Any] | str]) -> Path:
    """A JSONL file; a text stands for itself."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in entries]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def settings(manifest: Path, **engine: Any) -> dict[str, Any]:
    """A pipeline of fake encoders: ingest, image, text, index."""
    return {
        "manifest": str(manifest),
        "engine": {"workers": 2, **engine},
        "stages": {
            "ingest": {},
            "image": {"stage": "embed", "encoder": "fake:32", "input": "image"},
            "text": {"stage": "embed", "encoder": "fake:32", "input": "text"},
            "index": {},
        },
    }


def write_pipeline(path: Path, pipeline: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(pipeline), sort_keys=False), "utf-8")
    return path


def coldstart(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which has its libraries loaded; with the exit code and both outputs.

    `coldstart_process` is for tests of the process itself: signals, pipes, what an interpreter loads.
    """
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["coldstart", *words]),
        mock.patch.dict(os.environ),
        warnings.catch_warnings(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as leaving:
            code = leaving.code or 0
    return subprocess.CompletedProcess(words, code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())


def coldstart_process(*arguments: object, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=timeout_s)


def contents(uri: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables that hold results, sorted, without the times at which they were written."""
    store = Store(uri)
    names = [name for name in store.tables() if name in ("items", "ledger") or name.startswith("stage.")]
    found = {name: store.read(name) for name in names}
    published = Catalog(store.db).published()
    if published is not None:
        version = published.publication.version
        table = store.db.open_table("catalog")
        table.checkout(version)
        found["catalog"] = table.search().limit(None).to_arrow()
    return {
        name: sorted(
            table.drop_columns(
                [column for column in ("ingested_at", "at") if column in table.column_names]
            ).to_pylist(),
            key=lambda row: (row["item_id"], row.get("stage", "")),
        )
        for name, table in found.items()
    }


def states(reports: Iterable[StageReport]) -> dict[str, tuple[int, int, int, int, int]]:
    """Stage -> fresh, failed, filtered, duplicate, pending."""
    return {
        report.stage: (
            report.balance.fresh,
            report.balance.failed,
            report.balance.filtered,
            report.balance.duplicate,
            report.balance.pending,
        )
        for report in reports
    }
