"""Methods of impressions: read logs of what was shown to whom, and of its outcomes, and give them back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.add_items import log_row
from coldstart.api.opened import OpenedStore
from coldstart.core.impressions import SHOWN_FIELDS, WINDOW_S, Impressions, is_signal
from coldstart.core.progress import Progress
from coldstart.core.scratch import scratch_folder
from coldstart.errors import ColdstartError

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

    def add_impressions(
        self, rows: Iterable[Mapping[str, Any]], *, max_failed: float = 1.0, progress: Progress | None = None
    ) -> ImpressionReport:
        """Add showings to the log; one that it already has, by request and item, takes outcomes that it did not have.

        Args:
            rows: `user_id`, `item_id`, `timestamp` (ISO 8601, or a number since 1970), and where there are such things
                `request_id`, `position`, `surface`, `propensity`, `outcome_at`, and `outcomes`, numbers by name.
            max_failed: share of rows that may be rejected before the report is `over_budget`.

        Raises:
            ColdstartError: there are no rows, a name that no outcome can have, or another process writes to the
                workspace.
        """
        from coldstart.ingest.load_impressions import import_impressions

        plain = [log_row(row, ("timestamp", "outcome_at")) for row in rows]
        if odd := next((row["outcomes"] for row in plain if not isinstance(row.get("outcomes") or {}, Mapping)), None):
            raise ColdstartError(f"outcomes {str(odd)[:80]!r}: give numbers by name, as {{'click': 1}}", kind="input")
        names = [name for name in SHOWN_FIELDS if any(row.get(name) is not None for row in plain)]
        signals = sorted({str(name) for row in plain for name in row.get("outcomes") or {}})
        if not {"user_id", "item_id"} <= {*names}:
            raise ColdstartError("no impressions: give rows with user_id and item_id", kind="input")
        if wrong := [name for name in signals if not is_signal(name)]:
            raise ColdstartError(
                f"outcome {wrong[0][:80]!r}: it is named by small letters, digits and _, and not as another field",
                kind="input",
            )
        with scratch_folder("run") as folder:
            path = folder / "impressions.jsonl"
            lines = []
            for row in plain:
                outcomes = row.get("outcomes") or {}
                lines.append({name: row.get(name) for name in names} | {name: outcomes.get(name) for name in signals})
            path.write_text("".join(f"{json.dumps(line, default=str)}\n" for line in lines), "utf-8")
            return import_impressions(
                self._store,
                path,
                columns={name: name if name in names else "" for name in SHOWN_FIELDS},
                signals={name: name for name in signals},
                time_unit="iso",
                max_failed=max_failed,
                keep_rejected=False,
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
