"""Tools about the state of a workspace: what it holds, stages, what was turned away, showings that were logged."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.core.reasons import plain, remedy
from coldstart.serve import tool_results
from coldstart.serve.bounded import BYTES, TITLE, page, shorten, shrink, without_places
from coldstart.serve.catalogue import Catalogue
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader
from coldstart.serve.tool_parts import MOST_PAGE, PAGE, byte_limit, notes_of, page_limit
from coldstart.serve.vocabulary import GROUPED, MEASURED, TEXTS, Vocabulary, iso, read_vocabulary
from coldstart.store.sql import one_of

_SAMPLES = 12
_REVIEWED = {"item_id", "kind", "state", "stage", "reason", "words", "claim", "original", "actions"}


class StateTools:
    """Tools about the state of a workspace; safe to call from many threads.

    Args:
        users: whether tools may answer about users.
    """

    def __init__(self, catalogue: Catalogue, *, users: bool = False) -> None:
        self.catalogue, self.users = catalogue, users
        self._vocabulary: tuple[Any, Vocabulary] | None = None
        self._reading = threading.Lock()

    def about(self, max_bytes: int = BYTES) -> tool_results.About:
        """Count items and describe fields, with frequent values, and spaces."""

        def ask(reader: Reader) -> tool_results.About:
            known = self.vocabulary_of(reader)
            fields = []
            for name in [*TEXTS, *MEASURED, *GROUPED, *sorted(set(known.values) - set(GROUPED))]:
                if not known.filled[name]:
                    continue
                values = known.values.get(name)
                least, greatest = known.ranges.get(name, (None, None))
                own_type = "list" if name == "tags" else "text"
                fields.append(
                    tool_results.FieldInfo(
                        untrusted_name=shorten(name, TITLE) or "",
                        type={"price": "number", "label_score": "number", "created_at": "time"}.get(name, own_type),
                        filled=known.filled[name],
                        distinct=len(values) if values else None,
                        untrusted_values=_texts(values.most_common(_SAMPLES)) if values else [],
                        least=iso(least),
                        greatest=iso(greatest),
                    )
                )
            return tool_results.About(
                publication=reader.tag,
                items=known.items,
                kinds=dict(known.values["kind"]),
                fields=fields,
                spaces=sorted(reader.published().passports),
                languages=dict(known.values["language"]),
                interactions=reader.interaction_summary() is not None,
                users=self.users,
            )

        return shrink(self.catalogue.readers.answer(ask), byte_limit(max_bytes))

    def status(self, max_bytes: int = BYTES) -> tool_results.StatusResult:
        """Count the items in each state, stage by stage."""
        found = self.catalogue.status()
        return shrink(
            tool_results.StatusResult(
                publication=found.publication,
                notes=notes_of(found),
                items=found.items,
                served=found.served,
                stages=[
                    tool_results.StageLine(**one.model_dump(include=set(tool_results.StageLine.model_fields)))
                    for one in found.stages
                ],
                interactions=found.interactions,
                counted_at=found.counted_at,
            ),
            byte_limit(max_bytes),
        )

    def impressions(self, max_bytes: int = BYTES) -> tool_results.ImpressionsResult:
        """Count the showings that were logged, by outcome."""
        found = self.catalogue.impressions()
        counts = found.model_dump(include=set(tool_results.ImpressionsResult.model_fields) - {"notes", "publication"})
        return shrink(
            tool_results.ImpressionsResult(publication=found.publication, notes=notes_of(found), **counts),
            byte_limit(max_bytes),
        )

    def explain_item(self, item_id: str, max_bytes: int = BYTES) -> tool_results.Explained:
        """Tell where an item stands in every stage, and why."""
        found = self.catalogue.report(item_id)
        known = found.report
        served = bool(self.catalogue.readers.answer(lambda reader: reader.published().items([item_id], ["kind"])))
        stages = [
            tool_results.StageState(
                stage=one["stage"],
                kind=one["kind"],
                state=one["state"],
                reason=one["reason"],
                words=plain(one["reason"]) if one["reason"] else "",
                untrusted_detail=shorten(without_places(one["detail"] or ""), 200) or "",
                next=remedy(one["reason"]) if one["reason"] else "",
            )
            for one in known["stages"]
        ]
        keeping = [one["keeps_out"] for one in known["stages"] if one.get("keeps_out")]
        pending = [one["stage"] for one in known["stages"] if one["state"] == "pending"]
        why = without_places("; ".join(keeping)) or (
            f"pending in {', '.join(pending)}: run the pipeline" * bool(pending)
        )
        link = known.get("duplicate_of")
        return shrink(
            tool_results.Explained(
                publication=found.publication,
                notes=notes_of(found),
                item_id=item_id,
                served=served,
                why_not="" if served else why,
                stages=stages,
                removed_claims=[
                    tool_results.Removed(
                        name=one["claim"],
                        untrusted_value=shorten(one["value"], TITLE) or "",
                        reason=plain(one["reason"]),
                    )
                    for one in (known.get("described") or {}).get("cut") or ()
                ],
                duplicate_of=link.get("item_id") if isinstance(link, Mapping) else link,
            ),
            byte_limit(max_bytes),
        )

    def ledger(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.LedgerResult:
        """List items that were turned away, and why."""

        def make(limit: int) -> tool_results.LedgerResult:
            found = self.catalogue.ledger(state=state, stage=stage, reason=reason, limit=limit, cursor=cursor)
            return tool_results.LedgerResult(
                publication=found.publication,
                notes=notes_of(found),
                entries=[
                    tool_results.LedgerLine(
                        stage=one.stage,
                        item_id=one.item_id,
                        state=one.state,
                        reason=one.reason,
                        words=one.words,
                        untrusted_detail=shorten(without_places(one.detail or ""), 200) or "",
                    )
                    for one in found.entries
                ],
                total=found.total,
                more=found.next_cursor is not None,
                next_cursor=found.next_cursor,
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

    def copies(
        self,
        item_id: str | None = None,
        kind: str | None = None,
        limit: int = MOST_PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.Copies:
        """List items that are copies of others, or those of one item; most of them are not served themselves."""
        mark = query_mark(["copies", item_id, kind])

        def ask(reader: Reader) -> tuple[str, int, list[tuple[str, str, Any]]]:
            links = {
                copy: original
                for copy, original in sorted(reader.copy_links().items())
                if item_id is None or original == item_id
            }
            known: dict[str, Any] = {}
            ids = list(links)
            for start in range(0, len(ids), 500):
                rows = reader.table(
                    "items", ["item_id", "kind", "title"], where=one_of("item_id", ids[start : start + 500])
                )
                known |= {row["item_id"]: row for row in rows.to_pylist()}
            found = [(copy, links[copy], row) for copy, row in known.items() if kind in (None, row["kind"])]
            return reader.tag, read_cursor(cursor, reader.tag, mark), sorted(found, key=lambda one: one[0])

        tag, start, found = self.catalogue.readers.answer(ask)

        def make(limit: int) -> tool_results.Copies:
            more = len(found) > start + limit
            return tool_results.Copies(
                publication=tag,
                items=[
                    tool_results.CopyLine(
                        item_id=copy,
                        kind=row["kind"],
                        untrusted_title=shorten(row["title"], TITLE),
                        duplicate_of=original,
                    )
                    for copy, original, row in found[start : start + limit]
                ],
                total=len(found),
                more=more,
                next_cursor=make_cursor(start + limit, tag, mark) if more else None,
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

    def review(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        item_id: str | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.ReviewQueue:
        """List what waits for a person."""

        def make(limit: int) -> tool_results.ReviewQueue:
            found = self.catalogue.review(state, stage, reason, item_id, limit, cursor)
            return tool_results.ReviewQueue(
                publication=found.publication,
                notes=notes_of(found),
                entries=[
                    tool_results.ReviewLine(
                        **one.model_dump(include=_REVIEWED),
                        untrusted_title=shorten(one.title, TITLE),
                        untrusted_detail=shorten(without_places(one.detail or ""), 200) or "",
                        untrusted_value=shorten(one.value, TITLE),
                    )
                    for one in found.entries
                ],
                counts=found.counts,
                more=found.next_cursor is not None,
                next_cursor=found.next_cursor,
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

    # -- parts

    def vocabulary(self) -> Vocabulary:
        """Return the values of the present publication."""
        return self.catalogue.readers.answer(self.vocabulary_of)

    def vocabulary_of(self, reader: Reader) -> Vocabulary:
        """Return the values of the publication of a reader, counted once."""
        key = reader.version
        with self._reading:
            if self._vocabulary is None or self._vocabulary[0] != key:
                self._vocabulary = (key, read_vocabulary(reader))
            return self._vocabulary[1]


def _texts(values: Sequence[tuple[str, int]]) -> list[str]:
    return [text for value, _ in values if (text := shorten(value, 60))]
