"""Give the nested values of a row columns of their own: `{price: {amount: 3}}` becomes `price.amount: 3`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WHOLE = frozenset(("attributes", "media"))
"""Columns whose objects stay as they are: fields of ours that are nested."""
_MEDIUM = frozenset(("bytes", "path", "uri"))
_CONNECTION = frozenset(("edges", "nodes", "pageInfo", "totalCount", "__typename"))
_NAMES, _VALUES = ("name", "key", "attribute", "attribute_code", "code"), ("values", "value", "options", "option")
NO_OPTION = "Default Title"
"""Value that Shopify gives an item without options."""
_NESTED = frozenset((dict, list))
_MOST_KEYS, _DEEPEST = 60, 4


def flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Flatten the objects of a row, and lists of objects: `variants: [{sku: a}, {sku: b}]` is `variants.sku: [a, b]`.

    Lists of named values, such as `[{name: colour, values: [red]}]`, become columns of these names. Media, attributes,
    and objects of many keys stay as they are.
    """
    if _NESTED.isdisjoint(map(type, row.values())):
        return row
    flat: dict[str, Any] = {}
    for name, value in row.items():
        _put(flat, name, value, row, 0)
    return flat


def _put(flat: dict[str, Any], name: str, value: Any, row: Mapping[str, Any], depth: int) -> None:
    value = _without_edges(value)
    if name in _WHOLE and not _is_named(value):
        flat[name] = value
    elif isinstance(value, Mapping) and _is_plain(value) and depth < _DEEPEST:
        for key, inner in value.items():
            _put(flat, f"{name}.{key}", inner, row, depth + 1)
    elif isinstance(value, list) and _is_named(value):
        for entry in value:
            title = next(str(entry[key]) for key in _NAMES if key in entry)
            inner = next(entry[key] for key in _VALUES if key in entry)
            if inner in (None, "", [], NO_OPTION, [NO_OPTION]):
                continue
            flat[title if title not in row and title not in flat else f"{name}.{title}"] = _single(inner)
    elif isinstance(value, list) and value and depth < _DEEPEST and all(_is_plain(entry) for entry in value):
        gathered: dict[str, list[Any]] = {}
        for entry in value:
            inner_flat: dict[str, Any] = {}
            for key, inner in entry.items():
                _put(inner_flat, f"{name}.{key}", inner, row, depth + 1)
            for key, inner in inner_flat.items():
                known = gathered.setdefault(key, [])
                known += [
                    one for one in (inner if isinstance(inner, list) else [inner]) if one not in (None, "", *known)
                ]
        flat.update({key: _single(values) for key, values in gathered.items() if values})
    else:
        flat[name] = value


def _without_edges(value: Any) -> Any:
    """Take a list out of the objects that a GraphQL server puts it into."""
    if isinstance(value, Mapping) and value and value.keys() <= _CONNECTION:
        if isinstance(nodes := value.get("nodes"), list):
            return nodes
        if isinstance(edges := value.get("edges"), list):
            return [edge["node"] if isinstance(edge, Mapping) and "node" in edge else edge for edge in edges]
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, Mapping) and 0 < len(value) <= _MOST_KEYS and _MEDIUM.isdisjoint(value)


def _is_named(value: Any) -> bool:
    """Tell whether a value is a list of objects that hold a name and a value each."""
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(entry, Mapping)
        and any(isinstance(entry.get(key), str) for key in _NAMES)
        and any(key in entry for key in _VALUES)
        for entry in value
    )


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
