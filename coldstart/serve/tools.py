"""Answer the calls of agents: few tools over a catalogue, whose answers are small, typed and free of places.

The Model Context Protocol (`mcp`) and the answering of questions (`ask`) are shells over it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from coldstart.core.item_fields import read_attributes
from coldstart.core.reasons import plain, remedy
from coldstart.errors import ColdstartError
from coldstart.serve import results, tool_results
from coldstart.serve.bounded import BYTES, LEAST_BYTES, MOST_BYTES, TITLE, page, shorten, shrink, without_places
from coldstart.serve.catalogue import Catalogue, SearchQuery
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader
from coldstart.serve.vocabulary import (
    GROUP_FIELDS,
    GROUPED,
    MEASURED,
    TEXTS,
    WORD_FIELDS,
    Vocabulary,
    check_field,
    iso,
    normal,
    number_of,
    read_vocabulary,
    rows_of,
    value_of,
    words_found,
)
from coldstart.store.sql import one_of

PAGE = 10
MOST_PAGE = 50
MOST_COMPARED = 5
MOST_WORDS = 8
MEASURES = ("count", "avg", "min", "max", "sum")
PARTS = ("record", "claims", "timeline")
_GROUPS = 50
_SAMPLES = 12
_LINE = ("kind", "title", "category", "creator", "price", "created_at", "attributes")
CURRENCY = ("currency", "price_currency", "pricecurrency")
"""Attributes that hold the currency of a price, in lower case."""
_REVIEWED = {"item_id", "kind", "state", "stage", "reason", "words", "claim", "original", "actions"}
_NO_USERS = "data of users is not given out here: start the server with --users"


class Tools:
    """Tools over a catalogue; safe to call from many threads.

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

        return shrink(self.catalogue.readers.answer(ask), _limit(max_bytes))

    def search(
        self,
        text: str,
        kind: str | None = None,
        where: str | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.Found:
        """Find the items nearest to a text."""

        def make(limit: int) -> tool_results.Found:
            return _found(
                self.catalogue.search(SearchQuery(text=text, kind=kind, where=where, limit=limit, cursor=cursor))
            )

        return page(make, _page(limit), _limit(max_bytes))

    def similar(
        self,
        item_id: str,
        space: str | None = None,
        kind: str | None = None,
        where: str | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.Found:
        """Find the items nearest to an item."""
        query = SearchQuery(item=item_id, kind=kind, where=where, spaces=None if space is None else (space,))

        def make(limit: int) -> tool_results.Found:
            return _found(self.catalogue.search(replace(query, limit=limit, cursor=cursor)))

        return page(make, _page(limit), _limit(max_bytes))

    def list_items(
        self,
        where: str | None = None,
        kind: str | None = None,
        order_by: str | None = None,
        descending: bool = False,
        words: Sequence[str] = (),
        words_in: str = "all",
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.Listed:
        """List all items that meet conditions, in an order; those without a value in it are left out."""
        mark = query_mark(["list", where, kind, order_by, descending, list(words), words_in])
        searched = _word_fields(words, words_in)

        def ask(reader: Reader) -> tuple[Reader, int, list[str], dict[str, dict[str, str]]]:
            start = read_cursor(cursor, reader.tag, mark)
            columns = [*searched]
            if order_by is not None:
                columns.append(check_field(order_by, self.vocabulary_of(reader), MEASURED, "order_by"))
            keyed: list[tuple[Any, str]] = []
            places: dict[str, dict[str, str]] = {}
            for row in rows_of(reader, columns, where, kind):
                value = 0 if order_by is None else number_of(row, order_by)
                held = words_found(row, words, searched) if words else {}
                if value is not None and held is not None:
                    keyed.append((value, row["item_id"]))
                    places[row["item_id"]] = held
            keyed.sort(key=lambda pair: pair[1])
            keyed.sort(key=lambda pair: pair[0], reverse=descending)
            return reader, start, [item_id for _, item_id in keyed], places

        reader, start, ids, places = self.catalogue.readers.answer(ask)

        def make(limit: int) -> tool_results.Listed:
            chosen = ids[start : start + limit]
            more = len(ids) > start + limit
            lines = _lines(reader, chosen)
            for line in lines:
                line.untrusted_match = {name: shorten(text, TITLE) or "" for name, text in places[line.item_id].items()}
            return tool_results.Listed(
                publication=reader.tag,
                items=lines,
                total=len(ids),
                more=more,
                next_cursor=make_cursor(start + limit, reader.tag, mark) if more else None,
            )

        return page(make, _page(limit), _limit(max_bytes))

    def item(self, item_id: str, parts: Sequence[str] = ("record",), max_bytes: int = BYTES) -> tool_results.ItemResult:
        """Read one item, with its claims and its timeline where they are asked for."""
        if unknown := [part for part in parts if part not in PARTS]:
            raise ColdstartError(f"parts {unknown[0][:40]!r}: write {', '.join(PARTS)}", kind="usage")
        found = self.catalogue.item(item_id)
        moments = claims = None
        if "timeline" in parts:
            timeline = self.catalogue.report(item_id).report.get("timeline") or ()
            moments = [
                tool_results.Moment(
                    start_s=one["start_s"],
                    end_s=one["end_s"],
                    source=one["source"],
                    untrusted_text=shorten(one["text"], TITLE) or "",
                )
                for one in timeline
                if one["text"]
            ]
        if "claims" in parts:
            claims = [
                tool_results.Claim(
                    name=one["name"], untrusted_value=shorten(one["value"], TITLE) or "", ground=one["ground"]
                )
                for one in found.item.get("claims") or ()
            ]
        facts = item_facts(found)
        return shrink(
            tool_results.ItemResult(
                publication=found.publication, notes=_notes(found), item=facts, claims=claims, timeline=moments
            ),
            _limit(max_bytes),
        )

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

        return page(make, _page(limit), _limit(max_bytes))

    def match(
        self, item_id: str, kind: str = "product", where: str | None = None, limit: int = 5, max_bytes: int = BYTES
    ) -> tool_results.Matches:
        """Find the products that a video of the catalogue shows or names."""

        def make(limit: int) -> tool_results.Matches:
            found = self.catalogue.match(item=item_id, kind=kind, where=where, limit=limit)
            return tool_results.Matches(
                publication=found.publication,
                notes=_notes(found),
                video=item_id,
                items=[
                    tool_results.Matched(
                        **_summary(one),
                        score=round(one.score, 4),
                        frame_s=one.frame.second if one.frame else None,
                        words_s=one.words.second if one.words else None,
                        untrusted_words=shorten(one.words.text) if one.words else None,
                    )
                    for one in found.matches
                ],
            )

        return page(make, _page(limit), _limit(max_bytes))

    def recommend(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        kind: str | None = None,
        where: str | None = None,
        limit: int = PAGE,
        max_bytes: int = BYTES,
    ) -> tool_results.Suggestions:
        """List items for a user of the workspace, or for a list of liked items."""
        if user is not None and not self.users:
            raise ColdstartError(f"user: {_NO_USERS}", kind="usage")

        def make(limit: int) -> tool_results.Suggestions:
            found = self.catalogue.recommend(
                user, history=None if history is None else list(history), kind=kind, where=where, top_k=limit
            )
            return tool_results.Suggestions(
                publication=found.publication,
                notes=_notes(found),
                scored_by=found.scored_by,
                history=found.history,
                items=[
                    tool_results.Suggested(
                        **_summary(one),
                        rank=one.rank,
                        score=round(one.score, 4),
                        untrusted_reason=shorten(one.reason),
                    )
                    for one in found.items
                ],
            )

        return page(make, _page(limit), _limit(max_bytes))

    def audience(self, item_id: str, limit: int = PAGE, max_bytes: int = BYTES) -> tool_results.Audience:
        """List the users who are most likely to like an item."""
        if not self.users:
            raise ColdstartError(f"audience: {_NO_USERS}", kind="usage")

        def make(limit: int) -> tool_results.Audience:
            found = self.catalogue.audience(item_id, top_k=limit)
            return tool_results.Audience(
                publication=found.publication,
                notes=_notes(found),
                item_id=found.item_id,
                scored_by=found.scored_by,
                users=found.users,
                met=found.met,
                people=[
                    tool_results.Person(
                        user_id=one.user_id,
                        rank=one.rank,
                        score=round(one.score, 4),
                        untrusted_reason=shorten(one.reason),
                    )
                    for one in found.people
                ],
            )

        return page(make, _page(limit), _limit(max_bytes))

    def status(self, max_bytes: int = BYTES) -> tool_results.StatusResult:
        """Count the items in each state, stage by stage."""
        found = self.catalogue.status()
        return shrink(
            tool_results.StatusResult(
                publication=found.publication,
                notes=_notes(found),
                items=found.items,
                served=found.served,
                stages=[
                    tool_results.StageLine(**one.model_dump(include=set(tool_results.StageLine.model_fields)))
                    for one in found.stages
                ],
                interactions=found.interactions,
                counted_at=found.counted_at,
            ),
            _limit(max_bytes),
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
                notes=_notes(found),
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
            _limit(max_bytes),
        )

    def compare_items(self, item_ids: Sequence[str], max_bytes: int = BYTES) -> tool_results.Compared:
        """Put two to five items side by side."""
        ids = list(dict.fromkeys(item_ids))
        if not 2 <= len(ids) <= MOST_COMPARED:
            raise ColdstartError(f"item_ids: give 2 to {MOST_COMPARED} different ids", kind="usage")
        found = [self.catalogue.item(item_id) for item_id in ids]
        flat = [_flat(item_facts(one)) for one in found]
        same, differences = [], []
        for name in dict.fromkeys(name for one in flat for name in one):
            values = {item_id: one.get(name) for item_id, one in zip(ids, flat, strict=True)}
            if len(set(values.values())) == 1:
                same.append(name)
            else:
                differences.append(tool_results.Difference(untrusted_field=name, untrusted_values=values))

        def cosines(reader: Reader) -> dict[str, float]:
            units = reader.published().unit_vectors(sorted(reader.published().passports), ids[:2])
            near = {space: float(own[0] @ own[1]) for space, own in units.items()}
            return {space: round(value, 3) for space, value in near.items() if np.isfinite(value)}

        return shrink(
            tool_results.Compared(
                publication=found[0].publication,
                items=[tool_results.ItemLine(**_only_line(item_facts(one))) for one in found],
                untrusted_same=same,
                differences=differences,
                cosines=self.catalogue.readers.answer(cosines),
            ),
            _limit(max_bytes),
        )

    def aggregate(
        self,
        measure: str = "count",
        of: str | None = None,
        group_by: str | None = None,
        where: str | None = None,
        kind: str | None = None,
        words: Sequence[str] = (),
        words_in: str = "all",
        max_bytes: int = BYTES,
    ) -> tool_results.Aggregate:
        """Compute a number over the items that meet conditions, or one for each group of them."""
        searched = _word_fields(words, words_in)
        if measure not in MEASURES:
            raise ColdstartError(f"measure {measure[:40]!r}: write {', '.join(MEASURES)}", kind="usage")
        if (measure == "count") != (of is None):
            given = "a count takes no field" if of is not None else f"{measure} needs a field, such as price"
            raise ColdstartError(f"of: {given}", kind="usage")
        if measure in ("avg", "sum") and of == "created_at":
            raise ColdstartError("of 'created_at': a time has min and max alone", kind="usage")

        def ask(reader: Reader) -> tool_results.Aggregate:
            known = self.vocabulary_of(reader)
            columns = [] if of is None else [check_field(of, known, MEASURED, "of")]
            if group_by is not None:
                columns.append(check_field(group_by, known, GROUP_FIELDS, "group_by"))
            groups: dict[str | None, list[Any]] = {}
            numbers: list[Any] = []
            for row in rows_of(reader, [*columns, *searched], where, kind):
                if words and words_found(row, words, searched) is None:
                    continue
                value = 1 if of is None else number_of(row, of)
                numbers.append(value)
                for name in (value_of(row, group_by) or [None]) if group_by is not None else ():
                    groups.setdefault(None if name is None else str(name), []).append(value)
            made = [
                tool_results.Group(untrusted_group=shorten(name, TITLE), value=_measured(measure, own), items=len(own))
                for name, own in groups.items()
            ]
            made.sort(key=lambda one: one.untrusted_group or "")
            made.sort(key=lambda one: (one.value is not None, one.value), reverse=True)
            return tool_results.Aggregate(
                publication=reader.tag,
                measure=measure,
                of=of,
                group_by=group_by,
                items=len(numbers),
                value=_measured(measure, numbers),
                groups=made[:_GROUPS],
                groups_total=len(made),
                more=len(made) > _GROUPS,
            )

        return shrink(self.catalogue.readers.answer(ask), _limit(max_bytes))

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
                notes=_notes(found),
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

        return page(make, _page(limit), _limit(max_bytes))

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
                notes=_notes(found),
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

        return page(make, _page(limit), _limit(max_bytes))

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


def item_facts(found: results.Item) -> tool_results.ItemFacts:
    """Convert a published item: texts are cut, and stand in untrusted fields."""
    row = found.item
    return tool_results.ItemFacts(
        item_id=row["item_id"],
        kind=row.get("kind"),
        untrusted_title=shorten(row.get("title"), TITLE),
        untrusted_category=shorten(row.get("category"), TITLE),
        untrusted_creator=shorten(row.get("creator"), TITLE),
        price=row.get("price"),
        untrusted_currency=_currency(row),
        created_at=iso(row.get("created_at")),
        cold=found.cold,
        untrusted_description=shorten(row.get("description")),
        untrusted_tags=[text for one in row.get("tags") or () if (text := shorten(one, TITLE))],
        untrusted_attributes={
            shorten(name, 60) or "": shorten(value, TITLE) or ""
            for name, value in (row.get("attributes") or {}).items()
        },
        untrusted_label=shorten(row.get("label"), TITLE),
        untrusted_summary=shorten(row.get("summary")),
        untrusted_speech=shorten(row.get("transcript")),
        untrusted_screen_text=shorten(row.get("screen_text")),
        language=row.get("language"),
        duplicate_of=row.get("duplicate_of"),
        copies=found.copies,
    )


def _found(found: results.SearchResult) -> tool_results.Found:
    return tool_results.Found(
        publication=found.publication,
        notes=_notes(found),
        items=[
            tool_results.FoundItem(**_summary(hit), score=round(hit.score, 4), ranks=hit.ranks) for hit in found.hits
        ],
        more=found.next_cursor is not None,
        next_cursor=found.next_cursor,
    )


def _summary(one: results.ItemSummary) -> dict[str, Any]:
    return {
        "item_id": one.item_id,
        "kind": one.kind,
        "untrusted_title": shorten(one.title, TITLE),
        "untrusted_category": shorten(one.category, TITLE),
        "untrusted_creator": shorten(one.creator, TITLE),
        "price": one.price,
        "cold": one.cold,
    }


def _lines(reader: Reader, item_ids: Sequence[str]) -> list[tool_results.ItemLine]:
    rows = reader.published().items(item_ids, _LINE)
    return [
        tool_results.ItemLine(
            item_id=item_id,
            kind=row["kind"],
            untrusted_title=shorten(row["title"], TITLE),
            untrusted_category=shorten(row["category"], TITLE),
            untrusted_creator=shorten(row["creator"], TITLE),
            price=row["price"],
            untrusted_currency=_currency(row),
            created_at=iso(row["created_at"]),
            cold=reader.is_cold(item_id),
        )
        for item_id in item_ids
        if (row := rows.get(item_id)) is not None
    ]


def _currency(row: Mapping[str, Any]) -> str | None:
    """Read the currency of an item that has a price, of its attributes."""
    if row.get("price") is None:
        return None
    stored = row.get("attributes")
    known = stored if isinstance(stored, Mapping) else read_attributes(stored)
    return next((shorten(value, 20) for name, value in known.items() if name.lower() in CURRENCY), None)


def _only_line(facts: tool_results.ItemFacts) -> dict[str, Any]:
    return facts.model_dump(include=set(tool_results.ItemLine.model_fields))


def _flat(facts: tool_results.ItemFacts) -> dict[str, str | None]:
    """List the fields of an item as texts, an attribute each, without those that are empty."""
    known = facts.model_dump(exclude={"item_id", "cold", "copies", "untrusted_attributes", "untrusted_tags"})
    flat = {name.removeprefix("untrusted_"): None if value is None else str(value) for name, value in known.items()}
    flat["tags"] = shorten(", ".join(facts.untrusted_tags))
    flat |= {f"attributes.{name}": value for name, value in facts.untrusted_attributes.items()}
    return {name: value for name, value in flat.items() if value}


def _texts(values: Sequence[tuple[str, int]]) -> list[str]:
    return [text for value, _ in values if (text := shorten(value, 60))]


def _notes(found: results.Result) -> list[str]:
    return [shorten(without_places(note)) or "" for note in found.notes][:5]


def _measured(measure: str, values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if measure == "count":
        return len(known)
    if not known:
        return None
    simple: dict[str, Callable[[Sequence[Any]], Any]] = {"min": min, "max": max, "sum": sum}
    value = simple[measure](known) if measure in simple else sum(known) / len(known)
    return round(value, 6) if isinstance(value, float) else iso(value) if isinstance(value, datetime) else value


def _word_fields(words: Sequence[str], words_in: str) -> tuple[str, ...]:
    if words_in not in WORD_FIELDS:
        raise ColdstartError(f"words_in {words_in[:40]!r}: write {', '.join(WORD_FIELDS)}", kind="usage")
    if len(words) > MOST_WORDS or any(not normal(word) for word in words):
        raise ColdstartError(f"words: give up to {MOST_WORDS}, each with a letter or a digit", kind="usage")
    return WORD_FIELDS[words_in] if words else ()


def _page(limit: int) -> int:
    if not 1 <= limit <= MOST_PAGE:
        raise ColdstartError(f"limit {limit}: give 1 to {MOST_PAGE}", kind="usage")
    return limit


def _limit(max_bytes: int) -> int:
    if not LEAST_BYTES <= max_bytes <= MOST_BYTES:
        raise ColdstartError(f"max_bytes {max_bytes}: give {LEAST_BYTES:,} to {MOST_BYTES:,}", kind="usage")
    return max_bytes
