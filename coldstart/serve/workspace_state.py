"""Answer questions about the state of a served workspace: counts, ledger, runs, publications, evaluations."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from coldstart.core.reasons import of_one
from coldstart.errors import ColdstartError
from coldstart.serve import overview, results, state_results
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader, Readers
from coldstart.store import ITEMS
from coldstart.store.impressions import EARLY, IMPRESSIONS, REJECTED
from coldstart.store.publications import Publication

T = TypeVar("T")

PAGE = 10
MOST_PAGE = 100
MOST_COUNTED = 60
"""Publications, or weeks, that are counted: the last ones."""
MOST_KEPT = {"counts": MOST_COUNTED, "weeks": 1, "map": 8, "impressions": 1}
"""Overviews of each sort that are kept, the last ones."""
STATUS_S = 1.0
"""Seconds for which counts of the stages are kept unseen: after them the versions of all tables tell whether any
changed, which costs little beside the keys of all items."""
_PLACE = re.compile(r"--workspace [^\s`\"\\]+")
"""Place of the workspace in the advice of a run; the workspace may have been elsewhere then."""


class WorkspaceState:
    """Questions about the state of a workspace; safe to call from many threads."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        self._status: tuple[float, Any, state_results.Status] | None = None
        self._counting = threading.Lock()
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._keeping = threading.Lock()

    def status(self) -> state_results.Status:
        """Count the items in each state, stage by stage; counted anew when a table has changed since."""
        kept = self._status
        if not self._counting.acquire(blocking=kept is None):
            assert kept is not None
            return kept[2]  # another request counts at this moment: no need to wait for it
        try:
            kept = self._status
            if kept is not None and time.monotonic() - kept[0] < STATUS_S:
                return kept[2]

            def ask(reader: Reader) -> tuple[Any, state_results.Status]:
                version = (reader.version, reader.table_versions())
                if kept is not None and kept[1] == version:
                    return version, kept[2]
                return version, self._count(reader)

            version, found = self.readers.answer(ask)
            self._status = (time.monotonic(), version, found)
            return found
        finally:
            self._counting.release()

    @staticmethod
    def _count(reader: Reader) -> state_results.Status:
        stages = []
        for report in reader.status():
            balance = report.balance
            stages.append(
                state_results.StageCounts(
                    stage=report.stage,
                    kind=report.kind,
                    fresh=balance.fresh,
                    failed=balance.failed,
                    filtered=balance.filtered,
                    duplicate=balance.duplicate,
                    pending=balance.pending,
                    reasons=dict(balance.reasons),
                    notes=list(report.notes),
                    fault=report.fault,
                )
            )
        summary = reader.interaction_summary()
        published = reader.published()
        fields = {
            field.name: str(field.type)
            for field in published.schema
            if not field.name.startswith("vector_") and field.name not in ("index_key", "media")
        }
        return state_results.Status(
            publication=reader.tag,
            notes=reader.setting_notes(),
            items=reader.count_items(),
            served=len(published),
            stages=stages,
            spaces=sorted(published.passports),
            fields=fields,
            languages=dict(reader.languages()),
            interactions=None
            if summary is None
            else {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in asdict(summary).items()
            },
            counted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def impressions(self) -> state_results.ImpressionCounts:
        """Count the showings that were logged: days, users, items of the catalogue, outcomes, known propensities."""

        def ask(reader: Reader) -> state_results.ImpressionCounts:
            versions = reader.table_versions()
            own = tuple(versions.get(name) for name in (ITEMS, IMPRESSIONS, EARLY, REJECTED))
            summary = self._once(("impressions", own), reader.impression_summary)
            if summary is None:
                notes = ["no impressions were logged: `coldstart ingest --impressions FILE` reads them"]
                return state_results.ImpressionCounts(
                    publication=reader.tag, notes=notes, catalogue_items=len(reader.published())
                )
            counts = asdict(summary)
            for edge in ("first", "last"):
                counts[edge] = counts[edge] and counts[edge].isoformat(timespec="seconds")
            counts["outcomes"] = {
                name: state_results.OutcomeCounts(stated=stated, above_zero=above)
                for name, (stated, above) in counts.pop("signals").items()
            }
            return state_results.ImpressionCounts(
                publication=reader.tag, catalogue_items=len(reader.published()), **counts
            )

        return self.readers.answer(ask)

    def ledger(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        limit: int = MOST_PAGE,
        cursor: str | None = None,
    ) -> state_results.Ledger:
        """List items that were turned away, by stage and item.

        What items cannot have by their kind, such as products without a video, is listed where a stage or a reason is
        given.
        """
        mark = query_mark(["ledger", state, stage, reason])
        conditions = {"state": state, "stage": stage, "reason": reason}
        given = {name: value for name, value in conditions.items() if value is not None}

        def ask(reader: Reader) -> state_results.Ledger:
            start = read_cursor(cursor, reader.tag, mark)
            asked = stage is not None or reason is not None
            page, total = reader.failures_page(given, start, limit, of_kind=asked)
            return state_results.Ledger(
                publication=reader.tag,
                entries=[
                    state_results.LedgerEntry(
                        stage=row["stage"],
                        item_id=row["item_id"],
                        state=row["state"],
                        reason=row["reason"],
                        words=of_one(row["reason"]),
                        detail=results.without_folders(row["detail"]),
                        at=row["at"].isoformat(timespec="seconds") if row.get("at") else None,
                    )
                    for row in page
                ],
                total=total,
                next_cursor=make_cursor(start + limit, reader.tag, mark) if total > start + limit else None,
            )

        return self.readers.answer(ask)

    def review(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        item_id: str | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
    ) -> state_results.ReviewQueue:
        """List what waits for a person; arguments as for `Workspace.review`.

        Raises:
            ColdstartError: there is no such state, stage or item, or the cursor is none.
        """

        def ask(reader: Reader) -> state_results.ReviewQueue:
            found = reader.review(state, stage, reason, item_id, limit, cursor)
            media = reader.media_of({one.item_id for one in found.entries})
            return state_results.ReviewQueue(
                publication=reader.tag,
                notes=list(found.notes),
                entries=[
                    state_results.ReviewEntry(
                        **results.hide_folders(one.to_dict()),
                        media=results.media_links(one.item_id, media.get(one.item_id)),
                    )
                    for one in found.entries
                ],
                counts=dict(found.counts),
                next_cursor=found.after,
            )

        return self.readers.answer(ask)

    def decisions(
        self, item_id: str | None = None, limit: int = PAGE, cursor: str | None = None
    ) -> state_results.Decisions:
        """List decisions, newest first.

        Raises:
            ColdstartError: the cursor is none of this list.
        """

        def ask(reader: Reader) -> state_results.Decisions:
            found = reader.decisions(item_id, limit, cursor)
            rows = [state_results.Decision(**one.to_dict()) for one in found.decisions]
            return state_results.Decisions(decisions=rows, next_cursor=found.after)

        return self.readers.answer(ask)

    def runs(self, limit: int = 50) -> state_results.Runs:
        """List the runs of stages, newest first."""

        def ask(reader: Reader) -> state_results.Runs:
            rows = json.loads(_PLACE.sub("--workspace WORKSPACE", json.dumps(reader.runs(limit), default=str)))
            return state_results.Runs(publication=reader.tag, runs=[state_results.Run(**row) for row in rows])

        return self.readers.answer(ask)

    def counts(self, by: str = "publication") -> state_results.Counts:
        """Count the catalogue, by stored publication or by the week in which items were created; oldest first.

        Raises:
            ColdstartError: there is no such way to count.
        """
        if by not in ("publication", "week"):
            raise ColdstartError(f"by {by!r}: give publication or week", kind="usage")

        def ask(reader: Reader) -> state_results.Counts:
            if by == "week":
                weeks = self._once(
                    ("weeks", reader.tag, reader.version),
                    lambda: overview.count_weeks(reader.published(), MOST_COUNTED),
                )
                return state_results.Counts(
                    publication=reader.tag, by=by, rows=[state_results.CatalogueCounts(**one) for one in weeks]
                )
            rows, notes = [], []
            for one in reader.publications()[:MOST_COUNTED][::-1]:
                try:
                    own = self._once(("counts", one.tag, one.version), partial(_count_publication, reader, one))
                except ColdstartError as error:
                    notes.append(f"{one.tag} is not counted: {error}")
                else:
                    at = one.published_at.isoformat(timespec="seconds")
                    rows.append(state_results.CatalogueCounts(name=one.tag, at=at, **own))
            return state_results.Counts(publication=reader.tag, notes=notes, by=by, rows=rows)

        return self.readers.answer(ask)

    def item_map(
        self, space: str | None = None, kind: str | None = None, where: str | None = None
    ) -> state_results.ItemMap:
        """Place the items of a space on a map; those that meet conditions, in the places that they have among all.

        Args:
            space: by default `image`, or the first of the catalogue.

        Raises:
            ColdstartError: there is no such space, or a fault in the conditions.
        """

        def ask(reader: Reader) -> state_results.ItemMap:
            published = reader.published()
            spaces = list(published.passports)
            if not spaces:
                raise ColdstartError("the catalogue has no space: run a stage that embeds", kind="not_ready")
            chosen = space or ("image" if "image" in spaces else spaces[0])
            if chosen not in spaces:
                raise published.no_space(chosen)
            places = self._once(("map", reader.version, chosen), lambda: overview.place_items(published, chosen))
            if kind is None and where is None:
                shown = list(range(len(places.item_ids)))
            else:
                condition = published.condition(where=where, kind=kind, copies=True)
                met = {one for block in published.blocks([], where=condition) for one in block["item_id"].to_pylist()}
                shown = [place for place, one in enumerate(places.item_ids) if one in met]
            categories = Counter(one for one in places.categories if one)
            names = [name for name, _ in categories.most_common(overview.MOST_CATEGORIES)]
            number = {name: place for place, name in enumerate(names)}
            some = len(places.item_ids) < places.total
            ids = [places.item_ids[place] for place in shown]
            return state_results.ItemMap(
                publication=reader.tag,
                notes=[f"{len(places.item_ids):,} of {places.total:,} items, at even distances"] if some else [],
                space=chosen,
                spaces=spaces,
                method="pca",
                total=places.total,
                shown=len(ids),
                explained=[round(one, 4) for one in places.explained],
                item_id=ids,
                x=[round(float(places.points[place, 0]), 4) for place in shown],
                y=[round(float(places.points[place, 1]), 4) for place in shown],
                kind=[places.kinds[place] for place in shown],
                cold=[reader.is_cold(one) for one in ids],
                category=[number.get(places.categories[place] or "") for place in shown],
                categories=names,
            )

        return self.readers.answer(ask)

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Make something once for a version of the catalogue, one at a time, and keep the last of them."""
        with self._keeping:
            if key not in self._kept:
                self._kept[key] = make()
                for old in [one for one in self._kept if one[0] == key[0]][: -MOST_KEPT[key[0]]]:
                    del self._kept[old]
            found: T = self._kept[key]
            return found

    def evaluations(self, limit: int = 10) -> state_results.Evaluations:
        """List the evaluations that were kept, newest first."""

        def ask(reader: Reader) -> state_results.Evaluations:
            found, notes = [], []
            for one in reader.evaluations(limit):
                try:
                    own = state_results.Evaluation.model_validate(
                        {**one, "is_current": one.get("publication") == reader.tag}
                    )
                except ValidationError:
                    notes.append("an evaluation that was kept has another form, and is left out")
                else:
                    found.append(own)
            return state_results.Evaluations(publication=reader.tag, notes=notes, evaluations=found)

        return self.readers.answer(ask)

    def publications(self) -> state_results.Publications:
        """List the published versions that are stored, with the recall of their indexes, newest first."""

        def ask(reader: Reader) -> state_results.Publications:
            return state_results.Publications(
                publication=reader.tag,
                publications=[
                    state_results.PublicationInfo(
                        tag=one.tag,
                        published_at=one.published_at.isoformat(timespec="seconds"),
                        rows=one.rows,
                        spaces=[
                            state_results.SpaceIndex(
                                space=index.space,
                                index_type=index.index_type,
                                rows=index.rows,
                                dim=index.dim,
                                recall=index.recall,
                                recall_filtered=index.recall_filtered,
                                ok=index.ok,
                            )
                            for index in one.indexes
                        ],
                    )
                    for one in reader.publications()
                ],
            )

        return self.readers.answer(ask)


def _count_publication(reader: Reader, publication: Publication) -> dict[str, Any]:
    return overview.count_catalogue(reader.published_at(publication))


def check_limit(limit: int, most: int = MOST_PAGE) -> None:
    """Check the length of a page; raises `ColdstartError`."""
    if not 1 <= limit <= most:
        raise ColdstartError(f"limit {limit}: give 1 to {most}", kind="usage")
