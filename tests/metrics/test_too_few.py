"""What is computed from too few is called so: no recall of a handful of vectors, no mark under 30 pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldstart.align.page import _verdict
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import Interval
from coldstart.metrics.two_way import TwoWayInterval
from coldstart.recommend.evaluate.page import verdict
from coldstart.recommend.evaluate.report import _compare
from coldstart.search.index import _describe


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (7, "text: 7 vectors of 8, IVF_PQ built in 0.1 s; too few for a recall to mean anything"),
        (
            100,
            "text: 100 vectors of 8, IVF_PQ built in 0.1 s, recall@10 0.500 at nprobes 3, refine 2: BELOW the target",
        ),
    ],
)
def test_recall_is_said_of_indexes_that_are_large_enough(rows: int, said: str) -> None:
    known = {
        "space": "text",
        "rows": rows,
        "dim": 8,
        "index_type": "IVF_PQ",
        "build_s": 0.1,
        "recall": 0.5,
        "ok": False,
    }
    report: Any = SimpleNamespace(
        **known, recall_filtered=None, filter=None, unmeasured=0, effort=SimpleNamespace(nprobes=3, refine=2)
    )
    assert _describe(report, 0.95).startswith(said)


def test_no_fit_is_called_better_by_few_items() -> None:
    change = {"value": 0.2, "low": 0.1, "high": 0.3}
    assert [_verdict(change, items) for items in (FEWEST_COMPARED - 1, FEWEST_COMPARED)] == ["", "better"]


@pytest.mark.parametrize(("few", "marked"), [((), "better"), (("all",), "")])
def test_no_method_is_called_better_by_few_pairs(few: tuple[str, ...], marked: str) -> None:
    class Drawn:
        value = np.array([0.1, 0.5])

        def difference(self, own: int, base: int) -> tuple[Any, float]:
            bounds = Interval(0.4, 0.3, 0.5)
            return TwoWayInterval(0.4, bounds, bounds), 0.001

    methods: dict[str, Any] = {
        name: {"role": "method", "sets": {"all": {"ndcg@10": {}}}} for name in ("popularity", "kernel")
    }
    drawn: Any = {"all": Drawn()}
    _compare(methods, drawn, ["ndcg@10"], "popularity", ["ndcg@10"], few)
    assert verdict(methods["kernel"]["sets"]["all"]["ndcg@10"]["difference"]) == marked
