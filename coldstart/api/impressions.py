"""Methods of impressions: read logs of what was shown to whom, and of its outcomes, and give them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coldstart.api.opened import OpenedStore
from coldstart.core.impressions import WINDOW_S, Impressions
from coldstart.core.progress import Progress

if TYPE_CHECKING:
    from coldstart.ingest.load_impressions import ImpressionReport
    from coldstart.metrics.propensity import PropensityChecks
    from coldstart.store.impressions import ImpressionSummary


class ImpressionMethods(OpenedStore):
    """Methods of a workspace that hold what was shown to whom."""

    def ingest_impressions(
        self,
        path: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        signals: Mapping[str, str] | None = None,
        time_unit: str = "auto",
        max_failed: float = 0.01,
        progress: Progress | None = None,
    ) -> ImpressionReport:
        """Read a log of showings into the workspace; one that it already has takes outcomes that it did not have.

        Args:
            path: a CSV, TSV, JSON or Parquet file, perhaps as .gz, one showing a row.
            columns: `user_id`, `item_id`, `timestamp`, `position`, `surface`, `propensity`, `request_id`, `outcome_at`
                -> the file's column, "" for none; fields that are left out are recognised by name where that is plain.
            signals: name of an outcome -> the file's column, "" for that of the same name; `click`, `dwell_s`, `like`
                and `hide` are recognised by name.
            time_unit: `s`, `ms`, `us`, `iso`, or `auto` to recognise it by the first times.
            max_failed: share of rows that may be rejected before the report is `over_budget`.

        Raises:
            ColdstartError: a fault in the file or its columns, or another process writes to the workspace.
        """
        from coldstart.ingest.load_impressions import import_impressions

        return import_impressions(
            self._store,
            Path(path),
            columns=columns,
            signals=signals,
            time_unit=time_unit,
            max_failed=max_failed,
            progress=progress,
        )

    def ingest_outcomes(
        self,
        path: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        signals: Mapping[str, str] | None = None,
        time_unit: str = "auto",
        max_failed: float = 0.01,
        progress: Progress | None = None,
    ) -> ImpressionReport:
        """Read outcomes that came after their showings, which request and item name; the last value counts.

        Args:
            path: a file as for `ingest_impressions`, with outcomes in columns, or one event a row.
            columns: `request_id`, `item_id`, `user_id`, `timestamp` (of the outcome), `event`, `value` -> the file's
                column. An event is an outcome of that name, 1 where the row has no value.
            The others are those of `ingest_impressions`.

        Raises:
            ColdstartError: as for `ingest_impressions`.
        """
        from coldstart.ingest.load_impressions import import_impressions

        return import_impressions(
            self._store,
            Path(path),
            later=True,
            columns=columns,
            signals=signals,
            time_unit=time_unit,
            max_failed=max_failed,
            progress=progress,
        )

    def impressions(
        self, start: int | None = None, end: int | None = None, *, window_s: float | None = WINDOW_S
    ) -> Impressions:
        """Read the showings with start <= time < end, in seconds since 1970 in UTC; empty before any ingest.

        Args:
            window_s: match showings without an outcome with the interactions of their user and item that follow within
                so many seconds; None: match nothing.
        """
        from coldstart.store.impressions import ImpressionTable

        return ImpressionTable(self._store).read(start, end, window_s)

    def impression_summary(self) -> ImpressionSummary | None:
        """Count showings, days, outcomes and known propensities; None where no showings were ingested."""
        from coldstart.store.impressions import EARLY, IMPRESSIONS, REJECTED, ImpressionTable

        there = any(self._store.has(name) for name in (IMPRESSIONS, EARLY, REJECTED))
        return ImpressionTable(self._store).summary() if there else None

    def propensity_checks(self, start: int | None = None, end: int | None = None) -> PropensityChecks:
        """Check the propensities of the showings with start <= time < end: sums, coverage, and effective rows of a
        policy that shows every item equally often."""
        from coldstart.metrics.propensity import check_propensities

        shown = self.impressions(start, end, window_s=None)
        return check_propensities(shown.items, shown.positions, shown.requests, shown.propensities)
