"""The page beside the benchmarks, made of what `results.py` keeps."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import met, table
from benchmarks.results import Record

HEAD = """# Benchmarks

One file a claim. Contenders take turns in one run on one machine, and ratios are taken round by round, since a shared
machine is noisy; what a machine can do at best is measured in the same rounds. `make bench` runs a short form of all of
them, `make bench-full` the full one; both write this page. A full measurement stays until the next full one, and what
was measured in short form only says so. Peers are installed by `make peers`, each in an environment of its own.

An interval is the range over the rounds; from five rounds on the 95 % interval of their median (bootstrap) follows it.
Goals are met or missed by the median.
"""


def page(areas: Mapping[str, Sequence[str]], records: Mapping[str, Record], folder: Path) -> str:
    """Markdown; `folder` holds the benchmarks' files, whose first sentences head the tables."""
    environments = _environments(records)
    parts = [HEAD, _summary(records), "![Shares of limits and ratios to peers](ratios.png)\n"]
    for area, names in areas.items():
        shown = [name for name in names if name in records]
        if not shown:
            continue
        parts.append(f"## {area}\n")
        for name in shown:
            record = records[name]
            where = f"`python -m benchmarks{' --full' * (record.form == 'full')} {name}`"
            form = "full form" if record.form == "full" else "**short form only**"
            told = f"{where}, {form}, {record.date}, {_took(record)}, environment {environments[_environment(record)]}"
            parts.append(f"### {name}\n\n{claim(folder / f'{name}.py')}\n\n{told}\n\n{table(record.rows)}\n")
    missing = [f"`{name}`" for names in areas.values() for name in names if name not in records]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.\n")
    parts.append("## Environments\n")
    parts += [f"{label}. {' · '.join(text)}\n" for text, label in environments.items()]
    return "\n".join(parts)


def claim(path: Path) -> str:
    """The first sentence or two of a benchmark's docstring, up to the first empty line."""
    if not path.is_file():
        return ""
    told = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    first = " ".join(told.split("\n\n")[0].split())
    first = first.removeprefix("Claim: ")
    return first[:1].upper() + first[1:]


def _summary(records: Mapping[str, Record]) -> str:
    verdicts = [(name, row, met(row)) for name, record in records.items() for row in record.rows]
    judged = [one for one in verdicts if one[2] is not None]
    missed = [f"- `{name}`: {row.claim}: {row.figure}, goal {row.goal}" for name, row, reached in judged if not reached]
    told = f"{len(judged) - len(missed)} of {len(judged)} goals that are numbers are met."
    return told + ("\n\nMissed:\n\n" + "\n".join(missed) if missed else "") + "\n"


def _took(record: Record) -> str:
    return f"{record.seconds:.0f} s" if record.seconds else "time not kept"


def _environment(record: Record) -> tuple[str, str]:
    known = ", ".join(f"{package} {version}" for package, version in record.versions.items())
    return record.machine, known or "versions not kept"


def _environments(records: Mapping[str, Record]) -> dict[tuple[str, str], int]:
    """Each machine with its versions, numbered from 1 in the order of the page."""
    distinct = dict.fromkeys(_environment(record) for record in records.values())
    return {environment: number for number, environment in enumerate(distinct, 1)}
