"""What was measured, a file a benchmark in `benchmarks/results/`, kept with the code: the page is made of them alone.

A file holds a record of the full form and one of the short form, each with its date, seconds, machine and versions. A
record replaces its own form only, so that a short run can never take the place of a full one.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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


@dataclass(frozen=True)
class Record:
    """One benchmark as it was measured in one form.

    Attributes:
        date: of the end, as in 2026-11-22. `seconds`: that it took in all.
        machine: processor, cores, memory, accelerator. `versions`: of `PACKAGES`, where they are known.
    """

    form: Form
    date: str
    seconds: float
    machine: str
    versions: Mapping[str, str]
    rows: Sequence[Row] = field(default_factory=tuple)


def measured(form: Form, seconds: float, rows: Sequence[Row]) -> Record:
    """A record of now, on this machine."""
    return Record(form, f"{datetime.now(UTC):%Y-%m-%d}", round(seconds, 1), machine(), versions(), tuple(rows))


def save(name: str, record: Record, folder: Path = FOLDER) -> None:
    """Put a record in the place of the one of its own form."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept[record.form] = asdict(record)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def best(name: str, folder: Path = FOLDER) -> Record | None:
    """The full record where there is one, else the short one, else None."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    kept = json.loads(path.read_text("utf-8"))
    found = kept.get("full") or kept.get("short")
    rows = [Row(**{**row, "rounds": tuple(row["rounds"])}) for row in found["rows"]]
    return Record(**{**found, "rows": tuple(rows)})


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
