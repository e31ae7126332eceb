"""What was measured, a file a benchmark in `benchmarks/results/`, kept with the code: the page is made of them alone.

A file holds a record of the full form and one of the short form, each with its date, seconds, machine and versions. A
record replaces its own form only, so that a short run can never take the place of a full one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import Row

FOLDER = Path(__file__).resolve().parent / "results"
PACKAGES = (
    *("torch", "transformers", "open_clip_torch", "sentence-transformers", "lancedb", "pylance", "ray", "numpy"),
    *("av", "faster-whisper", "rapidocr", "onnxruntime", "pillow"),
)
Form = Literal["full", "short"]
CHANGED = 10
"""Commits to the code after which a figure counts as old."""


@dataclass(frozen=True)
class Record:
    """One benchmark as it was measured in one form.

    Attributes:
        date: of the end, as in 2026-11-22. `seconds`: that it took in all.
        machine: processor, cores, memory, accelerator. `versions`: of `PACKAGES`, where they are known.
        commit: of the code that was measured, "" where it is not known.
    """

    form: Form
    date: str
    seconds: float
    machine: str
    versions: Mapping[str, str]
    rows: Sequence[Row] = field(default_factory=tuple)
    commit: str = ""


@dataclass(frozen=True)
class Kept:
    """Records of one benchmark.

    Attributes:
        changes: commits to the code that it measures since `record`.
    """

    full: Record | None = None
    short: Record | None = None
    changes: int = 0

    @property
    def record(self) -> Record:
        """The one that counts: the full one, else the short one."""
        record = self.full or self.short
        assert record is not None
        return record

    @property
    def stale(self) -> bool:
        """Whether the code changed much since."""
        return self.changes >= CHANGED

    @property
    def newer(self) -> Record | None:
        """The short record of a later day than a stale full one."""
        if self.full and self.short and self.stale and self.short.date > self.full.date:
            return self.short
        return None


def measured(form: Form, seconds: float, rows: Sequence[Row]) -> Record:
    """A record of now, on this machine."""
    return Record(
        form, f"{datetime.now(UTC):%Y-%m-%d}", round(seconds, 1), machine(), versions(), tuple(rows), commit()
    )


def save(name: str, record: Record, folder: Path = FOLDER) -> None:
    """Put a record in the place of the one of its own form."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept[record.form] = asdict(record)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def kept(name: str, code: Sequence[str] = (), folder: Path = FOLDER) -> Kept | None:
    """Read what is kept of a benchmark; None where it was never measured.

    Args:
        code: files and folders of the repository that it measures.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    raw = json.loads(path.read_text("utf-8"))
    full, short = (_record(raw[form]) if form in raw else None for form in ("full", "short"))
    found = Kept(full, short)
    return replace(found, changes=changes(found.record, code))


def _record(raw: Mapping[str, Any]) -> Record:
    rows = [Row(**{**row, "rounds": tuple(row["rounds"])}) for row in raw["rows"]]
    return Record(**{**raw, "rows": tuple(rows)})


def changes(record: Record, code: Sequence[str]) -> int:
    """Count the commits to some files and folders since a measurement; 0 outside a repository.

    Where the commit that was measured is not known (any more), those of later days count.
    """
    if not code:
        return 0
    own = _git("rev-list", "--count", f"{record.commit}..HEAD", "--", *code) if record.commit else ""
    later = ("--count", f"--since={record.date}T23:59:59", "HEAD")
    return int(own or _git("rev-list", *later, "--", *code) or 0)


def commit() -> str:
    """Read the commit of the working tree, "" outside a repository."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=FOLDER.parent.parent, capture_output=True, text=True)
    except OSError:  # there is no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions() -> dict[str, str]:
    """Of `PACKAGES`, as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor by its name, its cores, the memory, and the accelerator if there is one."""
    parts = [f"{_processor()}, {os.cpu_count()} cores"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    import torch

    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return ", ".join(parts)


def _processor() -> str:
    """As the system names it; with the matrix instructions that decide how fast it is."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(known.get("flags", "").split())
    extras = [flag for flag in ("amx_bf16", "avx512_bf16", "avx2") if flag in flags][:2]
    return f"{known.get('model name', platform.machine())} ({', '.join(extras) or platform.machine()})"
