"""Render tests on one entry of a JSON object that is stored as text, for a store whose SQL has no functions for JSON.

The text is as `json.dumps(value, ensure_ascii=False)` writes it, which is how items keep their `attributes`. A test is
a regular expression that reads the object from its beginning, strings and brackets whole, so that neither a value that
looks like an entry nor an entry of an object inside is taken for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from coldstart.store.sql import quote

COLUMN = "attributes"
NESTED = 6
"""Objects and lists inside one another up to which entries are found."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_IN_STRING = r'(?:[^"\\]|\\.)'


def _anything() -> str:
    """Build a pattern of any JSON values with what stands between them."""
    pattern = rf'(?:{_STRING}|[^"{{}}\[\]])*'
    for _ in range(NESTED):
        pattern = rf'(?:{_STRING}|[^"{{}}\[\]]|[\[{{]{pattern}[\]}}])*'
    return pattern


_ANYTHING = _anything()


def _entry(name: str, value: str) -> str:
    """Render SQL that holds where the entry `name` matches a pattern."""
    pattern = rf"^\{{(?:{_ANYTHING}, )?{re.escape(json.dumps(name, ensure_ascii=False))}: {value}"
    return f"regexp_like({COLUMN}, {quote(pattern)})"


def has(name: str) -> str:
    """Render SQL that holds where there is such an entry that is not null."""
    return _entry(name, "[^n]")


def equals(name: str, values: Sequence[str | float | bool]) -> str:
    """Render SQL that holds where the entry is one of some texts, numbers or truth values.

    A text also equals a number or truth value that is written like it, and the other way round: a CSV file knows
    texts alone.
    """
    patterns = [pattern for value in values for pattern in _equal(value)]
    return _entry(name, f"(?:{'|'.join(dict.fromkeys(patterns))})[,}}]")


def _equal(value: str | float | bool) -> list[str]:
    if isinstance(value, bool):
        return [f'(?i:"?{str(value).lower()}"?)']
    text = value if isinstance(value, str) else repr(int(value) if value.is_integer() else value)
    quoted = re.escape(json.dumps(text, ensure_ascii=False))
    return [quoted, re.escape(text)] if re.fullmatch(r"-?\d+(\.\d+)?|true|false", text) else [quoted]


def like(name: str, pattern: str, any_case: bool) -> str:
    """Render SQL that holds where the entry is a text that matches a pattern of LIKE."""
    parts = []
    for token in re.findall(r"\\.|.", pattern, re.DOTALL):
        if token in ("%", "_"):
            parts.append(_IN_STRING + ("*" if token == "%" else ""))
        else:
            parts.append(re.escape(json.dumps(token[-1], ensure_ascii=False)[1:-1]))
    return _entry(name, f'{"(?i)" if any_case else ""}"{"".join(parts)}"[,}}]')


def holds(name: str, text: str) -> str:
    """Render SQL that holds where the entry is a list with this text."""
    return _entry(name, rf"\[(?:{_ANYTHING}, )?{re.escape(json.dumps(text, ensure_ascii=False))}[,\]]")


def number(name: str) -> str:
    """Render the entry as a number, also where it is a number in text; null where it is none."""
    value = r'"?(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"?[,}].*'
    key = re.escape(json.dumps(name, ensure_ascii=False))
    pattern = rf"^(?:\{{(?:{_ANYTHING}, )?{key}: {value}|.*)$"
    return f"CAST(nullif(regexp_replace({COLUMN}, {quote(pattern)}, '$1'), '') AS DOUBLE)"
