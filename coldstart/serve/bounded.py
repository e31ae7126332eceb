"""Keep answers of tools small and free of places: texts are cut, lists are cut, and no path or URL is left.

Agents read an answer whole, and their hosts refuse long ones. What was cut is said by the field `more`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from coldstart.core.sanitize import sanitize_text
from coldstart.serve.tool_results import ToolResult

R = TypeVar("R", bound=ToolResult)

TITLE = 120
TEXT = 400
"""Characters of a title and of any other text of an item."""
BYTES = 8_000
MOST_BYTES = 14_000
"""Bytes of the JSON of an answer: by default, and at most. A message of the protocol holds it twice, as text and as
structured content, and stays below 32 kB."""
LEAST_BYTES = 1_000
_KEPT = frozenset({"publication", "item_id", "next_cursor", "field", "tool"})
_SHORTEST = 24
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\",;)]*", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.:/\\])(?:~?(?:/[^\s/'\",;:)]+)+/|[A-Za-z]:\\(?:[^\s\\'\",;:)]+\\)*)(?=[^\s/\\'\",;:)])")
_DIRECTORY = re.compile(r"(?<![\w.:/])/(?=[\w.~-])")


def shorten(text: Any, most: int = TEXT) -> str | None:
    """Write a text of an item as one safe line of at most `most` characters; None where there is none."""
    line = sanitize_text(None if text is None else str(text)[: 20 * most])
    if not line:
        return None
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def without_places(text: str) -> str:
    """Replace URLs of a message by their last part, and paths by their file name."""
    text = _URL.sub(lambda found: found[0].split("?")[0].split("#")[0].rstrip("/").rpartition("/")[2] or "a URL", text)
    return _DIRECTORY.sub("", _PATH.sub("", text))


def size(value: Any) -> int:
    """Count the bytes of a value as JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode())


def page(make: Callable[[int], R], limit: int, most: int) -> R:
    """Make the longest page of at most `limit` entries whose JSON fits; a single entry that does not is shrunk."""
    while True:
        result = make(limit)
        taken = size(result.model_dump(mode="json"))
        if taken <= most:
            return result
        if limit == 1:
            return shrink(result, most)
        limit = max(1, min(limit - 1, int(0.9 * limit * most / taken)))


def shrink(result: R, most: int) -> R:
    """Halve the longest lists and texts of an answer until its JSON fits; `more` says that something is missing."""
    known = result.model_dump(mode="json")
    if size(known) <= most:
        return result
    known["more"] = True
    while size(known) > most:
        place = max(_places(known), key=lambda found: found[2], default=None)
        if place is None:
            break
        holder, key, _ = place
        value = holder[key]
        if isinstance(value, dict):
            holder[key] = dict(list(value.items())[: len(value) // 2])
        elif isinstance(value, list):
            holder[key] = value[: len(value) // 2]
        else:
            holder[key] = f"{value[: len(value) // 2]}…"
    return type(result).model_validate(known)


def _places(value: Any, holder: Any = None, key: Any = None) -> list[tuple[Any, Any, int]]:
    """List what can be halved: (holder, key, bytes), a list or text once for what its own entries do not free."""
    found: list[tuple[Any, Any, int]] = []
    if isinstance(value, dict):
        for name, one in value.items():
            if name not in _KEPT:
                found += _places(one, value, name)
        if holder is not None and len(value) > 8:
            found.append((holder, key, size(value)))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            found += _places(one, value, place)
        if holder is not None and len(value) > 1:
            found.append((holder, key, size(value)))
    elif isinstance(value, str) and len(value) > _SHORTEST:
        found.append((holder, key, len(value.encode())))
    return found
