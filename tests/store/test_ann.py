from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from coldstart.store import ann, publications
from coldstart.store.ann import Effort


class Recorder:
    """Stands for a table and its queries: notes every call, and finds nothing."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any, **kwargs: Any) -> Recorder:
            self.calls[name] = args
            return self

        return note

    def to_arrow(self) -> Any:
        return ann.EMPTY


@pytest.mark.parametrize(
    ("top_k", "least", "most"), [(1, 20, 40), (10, 20, 40), (11, 20, 40), (110, 40, 80), (1100, 60, 120)]
)
def test_more_results_are_looked_for_in_more_partitions(top_k: int, least: int, most: int) -> None:
    table: Any = Recorder()
    ann.nearest(table, "vector_text", np.zeros((1, 8), np.float32), top_k, effort=Effort(20, 5, 40))
    assert table.calls["minimum_nprobes"] == (least,)
    assert table.calls["maximum_nprobes"] == (most,)
    assert table.calls["refine_factor"] == (5,)


def test_an_effort_without_a_bound_stays_so() -> None:
    table: Any = Recorder()
    ann.nearest(table, "vector_text", np.zeros((1, 8), np.float32), 1100, effort=Effort(20, 5))
    assert table.calls["maximum_nprobes"] == (0,)


def test_reports_of_earlier_versions_are_read() -> None:
    """Their one effort had no bound, and was for searches with a filter as well."""
    report = (
        '[{"space": "text", "index_type": "IVF_RQ", "rows": 9, "dim": 8, "build_s": 0.5, "recall": 1.0, "ok": true, '
        '"effort": {"nprobes": 20, "refine": 10}, "recall_filtered": null, "filter": null}]'
    )
    row: dict[str, Any] = {name: 1 for name in publications.PUBLICATIONS_SCHEMA.names}  # noqa: C420
    row.update(passports="{}", indexes=report, published_at=datetime.now(UTC))
    (found,) = publications.parse_publication(row).indexes
    assert found.effort == Effort(20, 10, 0)
    assert found.effort_filtered is None
