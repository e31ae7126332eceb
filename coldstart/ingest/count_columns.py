"""Warn of columns that count interactions: no new item has ratings, views or sales yet."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from coldstart.core.count_names import counts_interactions
from coldstart.core.items import FIELD_NAMES
from coldstart.core.values import is_missing

_SHOWN = 3


def count_column_warnings(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], taken: Collection[str] = ()
) -> list[str]:
    """Name the attributes that count interactions by their names, in one line; [] where there are none.

    Args:
        columns, rows: of the table's beginning; `attributes` may hold further ones. taken: columns that are fields.
    """
    names = [name for name in columns if name not in taken and name not in FIELD_NAMES]
    values = {name: [row.get(name) for row in rows] for name in names}
    for row in rows:
        for key, value in _attributes(row.get("attributes")).items():
            values.setdefault(str(key), []).append(value)
    found = [name for name, own in values.items() if counts_interactions(_last(name), _are_numbers(own))]
    if not found:
        return []
    shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    subject = "its name says a count" if len(found) == 1 else "their names say counts"
    return [
        f"{shown}: {subject} of interactions, or what follows from it: a new item has none yet, so recommendations do "
        "not learn from it; `align.behaviour.count_attributes: true` in the pipeline lets them"
    ]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _attributes(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _are_numbers(values: Sequence[Any]) -> bool:
    """Tell whether values are numbers, or texts of numbers as shops write them; also where there are none."""
    known = [value for value in values if not is_missing(value)]
    return all(not isinstance(value, bool) and _is_number(value) for value in known)


def _is_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return True
    text = str(value).strip().rstrip("KkMm+%★ ").replace(",", "").replace(" ", "").replace(" ", "")
    try:
        float(text)
    except ValueError:
        return False
    return True
