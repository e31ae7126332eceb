"""The page beside the benchmarks, made of what `results.py` keeps."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.goals import Goal, goal_table, goals
from benchmarks.report import table
from benchmarks.results import CHANGED, Kept, Record

HEAD = f"""# Benchmarks

One file a claim. `make bench` measures short forms of all within half an hour and goes on where a former call ended;
`make bench-full` measures at full size. Both write this page. Peers are installed by `make peers`.

The table has every goal that is a number (goals in words stand below); of several rows of a benchmark with one goal it
shows the one farthest from it. The newest full figure counts; where there is none, the short one stands and says so.
*Older code*: at least {CHANGED} commits to the parts of the program that it measures are later than the figure.
"""
READING = """## How to read it

Contenders take turns in one run on one machine, and ratios are taken round by round, since a shared machine is noisy;
what a machine can do at best is measured in the same rounds. An interval is the range over the rounds; from five rounds
on the 95 % interval of their median (bootstrap) follows it. Goals are met or missed by the median. A short form shows
the order of size and that the benchmark runs; the docstring of its file says what it leaves out.
"""
PICTURE = "![How much of each goal is reached; 1 is the goal](ratios.png)\n"


def page(areas: Mapping[str, Sequence[str]], kept: Mapping[str, Kept], folder: Path) -> str:
    """Write the page as Markdown; `folder` holds the benchmarks' files, whose first sentences head the tables."""
    environments = _environments(kept)
    found = goals(kept)
    parts = [HEAD, _summary(found, kept), goal_table(found) + "\n", PICTURE, READING]
    for area, names in areas.items():
        parts.append(f"## {area}\n")
        for name in names:
            parts.append(f"### {name}\n\n{claim(folder / f'{name}.py')}\n")
            parts.append(_details(name, kept[name], environments) if name in kept else "Not measured yet.\n")
    parts += ["## Time\n", _times(areas, kept)]
    parts.append("## Environments\n")
    parts += [f"{label}. {' · '.join(text)}\n" for text, label in environments.items()]
    return "\n".join(parts)


def claim(path: Path) -> str:
    """Read the first sentence or two of a benchmark's docstring, up to the first empty line."""
    if not path.is_file():
        return ""
    told = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    first = " ".join(told.split("\n\n")[0].split())
    first = first.removeprefix("Claim: ")
    return first[:1].upper() + first[1:]


def _summary(found: Sequence[Goal], kept: Mapping[str, Kept]) -> str:
    missed, short, stale = (
        sum(flags)
        for flags in (
            [not goal.met for goal in found],
            [goal.record.form == "short" for goal in found],
            [goal.stale for goal in found],
        )
    )
    told = (
        f"**{len(found) - missed} of {len(found)} goals are met**, {missed} missed; {short} of these figures are of a "
    )
    told += f"short form only, {stale} of older code."
    if not any(" x " in one.record.machine for one in kept.values()):
        told += " Nothing here was ever run on a GPU."
    return told + "\n"


def _details(name: str, own: Kept, environments: Mapping[tuple[str, str], int]) -> str:
    record = own.record
    full = record.form == "full"
    told = [
        f"`python -m benchmarks{' --full' * full} {name}`",
        "full form" if full else "**short form only**",
        f"{record.date}, {_took(record)}",
        f"environment {environments[_environment(record)]}",
    ]
    if own.stale:
        told.append(f"**older code**: {own.changes} commits since")
    parts = [f"{', '.join(told)}\n", table(record.rows) + "\n"]
    if newer := own.newer:
        where = f"environment {environments[_environment(newer)]}"
        parts += [f"Newer short form, {newer.date}, {_took(newer)}, {where}:\n", table(newer.rows) + "\n"]
    return "\n".join(parts)


def _times(areas: Mapping[str, Sequence[str]], kept: Mapping[str, Kept]) -> str:
    """Say what `make bench` takes, by the last short form of each benchmark."""
    names = [name for own in areas.values() for name in own]
    seconds = {name: kept[name].short for name in names if name in kept and kept[name].short}
    known = sorted(((one.seconds, name) for name, one in seconds.items() if one), reverse=True)
    told = ", ".join(f"{name} {spent:.0f} s" for spent, name in known)
    without = [name for name in names if name not in seconds]
    parts = [f"The short forms that were measured take {sum(spent for spent, _ in known) / 60:.0f} minutes: {told}.\n"]
    if without:
        parts.append(f"Without a time of a short form: {', '.join(without)}.\n")
    return "\n".join(parts)


def _took(record: Record) -> str:
    return f"{record.seconds:.0f} s" if record.seconds else "time not kept"


def _environment(record: Record) -> tuple[str, str]:
    known = ", ".join(f"{package} {version}" for package, version in record.versions.items())
    return record.machine, known or "versions not kept"


def _environments(kept: Mapping[str, Kept]) -> dict[tuple[str, str], int]:
    """Number each machine with its versions from 1 in the order of the page."""
    shown = [record for own in kept.values() for record in (own.record, own.newer) if record]
    distinct = dict.fromkeys(_environment(record) for record in shown)
    return {environment: number for number, environment in enumerate(distinct, 1)}
