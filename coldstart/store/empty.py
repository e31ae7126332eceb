"""Explain an empty search: which of its filters left no item."""

from __future__ import annotations

from coldstart.store.published import KINDS, Published


def why_empty(catalog: Published, *, kind: str | None = None, where: str | None = None, copies: bool = False) -> str:
    """Count the items that each filter leaves, one after the other, until none is left.

    Args:
        kind, where, copies: as in `coldstart.search.search.search_many`.
    """
    total = catalog.count(catalog.condition(copies=copies))
    those = f"the {total:,} items"
    if kind is not None:
        of_kind = catalog.count(catalog.condition(kind=kind, copies=copies))
        if not of_kind:
            counts = {one: catalog.count(catalog.condition(kind=one, copies=copies)) for one in KINDS}
            there = ", ".join(f"{count:,} of kind {one}" for one, count in counts.items() if count)
            return f"nothing found: no item is of kind {kind}; the catalog has {there}"
        those = f"the {of_kind:,} items of kind {kind} (of {total:,})"
    if where is not None:
        meeting = catalog.count(catalog.condition(kind=kind, where=where, copies=copies))
        if not meeting:
            return f"nothing found: none of {those} meets --where {where!r}: loosen it"
        those = f"the {meeting:,} items that the filters leave (of {total:,})"
    return f"nothing found: none of {those} has a vector in these spaces, or a word of the query"
