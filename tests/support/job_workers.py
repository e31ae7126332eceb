"""Workers of the queue of jobs that stand for a workspace: they count what was done, in files, across processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.serve.job_process import Batch


class Ledger:
    """Worker that appends every batch to `done.jsonl`, and does what the titles of items ask for."""

    def __init__(self, uri: str) -> None:
        self._folder = Path(uri)

    def _note(self, kind: str, batches: Sequence[Batch]) -> list[dict[str, Any]]:
        line = {"kind": kind, "rows": [list(rows) for rows, _ in batches], "pid": os.getpid()}
        with (self._folder / "done.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return [{"rows": len(rows)} for rows, _ in batches]

    def warm(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        return self._note("warm", batches)

    def items(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        if (self._folder / "locked").exists():
            raise ColdstartError("workspace x is being written by process 7: wait until it ends", kind="busy")
        titles = [row.get("title") for rows, _ in batches for row in rows]
        with progress.meter("image", len(titles)) as meter:
            meter.advance(1, 0, 0.0)
        if "crash" in titles:
            os._exit(9)
        if "fault" in titles:
            raise ColdstartError("model starter is not on this machine", kind="not_ready")
        while "slow" in titles and (self._folder / "hold").exists():
            time.sleep(0.01)
        found = self._note("items", batches)
        for own, (_, files) in zip(found, batches, strict=True):
            own["files"] = {name: Path(path).read_text("utf-8") for name, path in files.items()}
        return found

    def interactions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        return self._note("interactions", batches)

    def removal(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        return self._note("removal", batches)

    def decisions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        if any(row.get("value") == "crash" for rows, _ in batches for row in rows):
            os._exit(9)
        return self._note("decisions", batches)


def done(folder: Path) -> list[dict[str, Any]]:
    """Read the batches that were done, in their order."""
    path = folder / "done.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
