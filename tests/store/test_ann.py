from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from coldstart.store import ann, publications
from coldstart.store.ann import Effort


class Recorder:
    """Stands for a dataset: notes the query that it is searched by, and finds nothing."""

    def scanner(self, columns: list[str], *, nearest: dict[str, Any], **_: Any) -> "Recorder":
        self.query = nearest
        return self

    def to_table(self) -> Any:
        return ann.EMPTY


@pytest.mark.parametrize(
    ("top_k", "least", "most"), [(1, 20, 40), (10, 20, 40), (11, 20, 40), (110, 40, 80), (1100, 60, 120)]
)
def test_more_results_are_looked_for_in_more_partitions(top_k: int, least: int, most: int) -> None:
    dataset: Any = Recorder()
    ann.nearest(dataset, "vector_text", np.zeros((1, 8), np.float32), top_k, effort=Effort(20, 5, 40))
    assert dataset.query["minimum_nprobes"] == least
    assert dataset.query["maximum_nprobes"] == most
    assert dataset.query["refine_factor"] == 5


def test_an_effort_without_a_bound_stays_so() -> None:
    dataset: Any = Recorder()
    ann.nearest(dataset, "vector_text", np.zeros((1, 8), np.float32), 1100, effort=Effort(20, 5))
    assert "maximum_nprobes" not in dataset.query


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
