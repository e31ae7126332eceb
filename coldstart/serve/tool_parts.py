"""Parts that the tools of agents share: limits of answers, and items as their lines and facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.core.item_fields import read_attributes
from coldstart.errors import ColdstartError
from coldstart.serve import results, tool_results
from coldstart.serve.bounded import LEAST_BYTES, MOST_BYTES, TITLE, shorten, without_places
from coldstart.serve.vocabulary import iso

PAGE = 10
MOST_PAGE = 50
CURRENCY = ("currency", "price_currency", "pricecurrency")
"""Attributes that hold the currency of a price, in lower case."""


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
        untrusted_currency=currency_of(row),
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


def item_summary(one: results.ItemSummary) -> dict[str, Any]:
    """Convert an item of a list: its texts are cut, and stand in untrusted fields."""
    return {
        "item_id": one.item_id,
        "kind": one.kind,
        "untrusted_title": shorten(one.title, TITLE),
        "untrusted_category": shorten(one.category, TITLE),
        "untrusted_creator": shorten(one.creator, TITLE),
        "price": one.price,
        "cold": one.cold,
    }


def currency_of(row: Mapping[str, Any]) -> str | None:
    """Read the currency of an item that has a price, of its attributes."""
    if row.get("price") is None:
        return None
    stored = row.get("attributes")
    known = stored if isinstance(stored, Mapping) else read_attributes(stored)
    return next((shorten(value, 20) for name, value in known.items() if name.lower() in CURRENCY), None)


def notes_of(found: results.Result) -> list[str]:
    """Return the first notes of a result, cut, without places of this machine."""
    return [shorten(without_places(note)) or "" for note in found.notes][:5]


def page_limit(limit: int) -> int:
    """Check the number of items of a page; raises `ColdstartError`."""
    if not 1 <= limit <= MOST_PAGE:
        raise ColdstartError(f"limit {limit}: give 1 to {MOST_PAGE}", kind="usage")
    return limit


def byte_limit(max_bytes: int) -> int:
    """Check the bytes of an answer; raises `ColdstartError`."""
    if not LEAST_BYTES <= max_bytes <= MOST_BYTES:
        raise ColdstartError(f"max_bytes {max_bytes}: give {LEAST_BYTES:,} to {MOST_BYTES:,}", kind="usage")
    return max_bytes
