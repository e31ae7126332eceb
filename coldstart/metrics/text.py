"""Measures of texts by their words alone: length, variety, and words copied from another text.

A word ends where letters and digits end, so a line of a script without spaces is one word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from coldstart.metrics.intervals import Measure

RUN = 5
"""Words in a row that make a copy: fewer are turns of phrase and names."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """Split a text into words, in their order, without regard to case or to punctuation."""
    return _WORD.findall(text.casefold())


def grams(own: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """List all runs of `n` words, in their order."""
    return [tuple(own[start : start + n]) for start in range(len(own) - n + 1)]


def distinct(texts: Sequence[str], n: int) -> Measure | None:
    """Compute distinct-n (Li et al. 2016): different runs of `n` words over all of them, in all texts together.

    The interval is value ± 1.96 standard errors by the jackknife over texts: a bootstrap draws texts twice, which by
    itself makes them less varied. It falls with the number of texts, so compare it on the same items only.

    Returns:
        `n` counts runs of words; None where there is none.
    """
    each = [Counter(grams(words(text), n)) for text in texts]
    holders: Counter[tuple[str, ...]] = Counter(gram for counts in each for gram in counts)
    total, kinds = sum(counts.total() for counts in each), len(holders)
    if not total:
        return None
    own = [sum(holders[gram] == 1 for gram in counts) for counts in each]
    without = [
        (kinds - alone) / (total - counts.total())
        for counts, alone in zip(each, own, strict=True)
        if total > counts.total()
    ]
    value = kinds / total
    if not without:
        return Measure(value, value, value, total)
    mean = sum(without) / len(without)
    spread = 1.96 * ((len(without) - 1) / len(without) * sum((one - mean) ** 2 for one in without)) ** 0.5
    return Measure(value, max(0.0, value - spread), min(1.0, value + spread), total)


def copied(text: str, sources: Iterable[str], run: int = RUN) -> tuple[int, int]:
    """Count the words of a text in runs of at least `run` words that a source has as well, and all its words.

    A text of fewer words counts as copied where a source has all of it.
    """
    own = words(text)
    length = min(run, len(own))
    if not length:
        return 0, 0
    known = {gram for source in sources for gram in grams(words(source), length)}
    hit = {start + step for start, gram in enumerate(grams(own, length)) if gram in known for step in range(length)}
    return len(hit), len(own)
