"""How much of a summary was copied: the share of its words that stand in long runs of one source."""

from __future__ import annotations

from collections.abc import Iterable

from coldstart.checks.words import Tokens

RUN = 8
"""Words in a row that nobody writes the same by chance."""


def copied(summary: Tokens, sources: Iterable[Tokens]) -> float:
    """0 to 1, of the source that most was copied from; a summary shorter than a run copies nothing."""
    if len(summary) < RUN:
        return 0.0
    runs = [f" {' '.join(summary[start : start + RUN])} " for start in range(len(summary) - RUN + 1)]
    best = 0
    for source in sources:
        if len(source) < RUN:
            continue
        line = f" {' '.join(source)} "
        covered, end = 0, 0
        for start, run in enumerate(runs):
            if run in line:
                covered += start + RUN - max(start, end)
                end = start + RUN
        best = max(best, covered)
    return best / len(summary)
