"""Rerankers without a model: none, maximal marginal relevance, determinantal point process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.diversity import dpp, mmr, relevance_weight
from coldstart.core.keys import digest
from coldstart.rerank import Places, RerankItems, RerankRequest, base_order, ranks_of

VERSION = 1
DIAL = 0.2
"""Diversity, from 0 (relevance alone) to 1, where nothing was chosen on validation users."""
DIALS = (0.05, 0.1, 0.2, 0.4)
"""Dials that a certificate chooses from."""


class Unchanged:
    """Keep the base order."""

    kind = "none"
    digest = digest(["rerank", "none", VERSION])

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def order(self, request: RerankRequest, items: RerankItems, scores: NDArray[np.floating[Any]]) -> Sequence[int]:
        return [int(place) for place in base_order(items.item_ids, scores)]


class Diverse:
    """Order by relevance and difference of content; see `coldstart.core.diversity`.

    Relevance is by rank, falling from 1 to 0: scores of bases have no common scale. Without vectors the base order
    stays.

    Args:
        kind: `mmr` or `dpp`; dial: 0 to 1.
    """

    def __init__(self, kind: str, dial: float = DIAL) -> None:
        self.kind, self.dial = kind, dial
        self.digest = digest(["rerank", kind, VERSION, dial])
        self.counts: Counter[str] = Counter()

    def order(self, request: RerankRequest, items: RerankItems, scores: NDArray[np.floating[Any]]) -> Sequence[int]:
        base = base_order(items.item_ids, scores)
        if items.vectors is None or self.dial <= 0:
            return [int(place) for place in base]
        return [int(base[place]) for place in self._places(len(items), items.vectors[base])]

    def _places(self, count: int, vectors: NDArray[np.float32]) -> Places:
        relevance = 1 - (ranks_of(np.arange(count)) - 1) / max(1, count - 1)
        if self.kind == "mmr":
            return mmr(relevance, vectors, count, 1 - self.dial)
        return dpp(relevance, vectors, count, relevance_weight(self.dial))
