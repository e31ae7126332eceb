"""Answer the calls of agents: few tools over a catalogue, whose answers are small, typed and free of places.

The Model Context Protocol (`mcp`) and the answering of questions (`ask`) are shells over it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.serve import results, tool_results
from coldstart.serve.bounded import BYTES, TITLE, page, shorten, shrink
from coldstart.serve.catalogue import SearchQuery
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader
from coldstart.serve.tool_parts import PAGE, byte_limit, currency_of, item_facts, item_summary, notes_of, page_limit
from coldstart.serve.user_tools import UserTools
from coldstart.serve.vocabulary import (
    GROUP_FIELDS,
    MEASURED,
    WORD_FIELDS,
    check_field,
    iso,
    normal,
    number_of,
    rows_of,
    value_of,
    words_found,
)

MOST_COMPARED = 5
MOST_WORDS = 8
MEASURES = ("count", "avg", "min", "max", "sum")
PARTS = ("record", "claims", "timeline")
_GROUPS = 50
_LINE = ("kind", "title", "category", "creator", "price", "created_at", "attributes")


class Tools(UserTools):
    """All tools over a catalogue; these are about its items."""

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

        return page(make, page_limit(limit), byte_limit(max_bytes))

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

        return page(make, page_limit(limit), byte_limit(max_bytes))

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

        return page(make, page_limit(limit), byte_limit(max_bytes))

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
                publication=found.publication, notes=notes_of(found), item=facts, claims=claims, timeline=moments
            ),
            byte_limit(max_bytes),
        )

    def match(
        self, item_id: str, kind: str = "product", where: str | None = None, limit: int = 5, max_bytes: int = BYTES
    ) -> tool_results.Matches:
        """Find the products that a video of the catalogue shows or names."""

        def make(limit: int) -> tool_results.Matches:
            found = self.catalogue.match(item=item_id, kind=kind, where=where, limit=limit)
            return tool_results.Matches(
                publication=found.publication,
                notes=notes_of(found),
                video=item_id,
                items=[
                    tool_results.Matched(
                        **item_summary(one),
                        score=round(one.score, 4),
                        frame_s=one.frame.second if one.frame else None,
                        words_s=one.words.second if one.words else None,
                        untrusted_words=shorten(one.words.text) if one.words else None,
                    )
                    for one in found.matches
                ],
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

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
            byte_limit(max_bytes),
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

        return shrink(self.catalogue.readers.answer(ask), byte_limit(max_bytes))


def _found(found: results.SearchResult) -> tool_results.Found:
    return tool_results.Found(
        publication=found.publication,
        notes=notes_of(found),
        items=[
            tool_results.FoundItem(**item_summary(hit), score=round(hit.score, 4), ranks=hit.ranks)
            for hit in found.hits
        ],
        more=found.next_cursor is not None,
        next_cursor=found.next_cursor,
    )


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
            untrusted_currency=currency_of(row),
            created_at=iso(row["created_at"]),
            cold=reader.is_cold(item_id),
        )
        for item_id in item_ids
        if (row := rows.get(item_id)) is not None
    ]


def _only_line(facts: tool_results.ItemFacts) -> dict[str, Any]:
    return facts.model_dump(include=set(tool_results.ItemLine.model_fields))


def _flat(facts: tool_results.ItemFacts) -> dict[str, str | None]:
    """List the fields of an item as texts, an attribute each, without those that are empty."""
    known = facts.model_dump(exclude={"item_id", "cold", "copies", "untrusted_attributes", "untrusted_tags"})
    flat = {name.removeprefix("untrusted_"): None if value is None else str(value) for name, value in known.items()}
    flat["tags"] = shorten(", ".join(facts.untrusted_tags))
    flat |= {f"attributes.{name}": value for name, value in facts.untrusted_attributes.items()}
    return {name: value for name, value in flat.items() if value}


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
