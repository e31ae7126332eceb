"""An answer as a description: JSON that was cut off is closed where its last whole value ends."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from coldstart.checks.contract import Cut
from coldstart.checks.form import refusal
from coldstart.description import Description, parse
from coldstart.fenced import visible

_QUOTE = 80
_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
_ENDS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def read(text: str, finish: str, output: Sequence[str]) -> tuple[Description, list[Cut]]:
    """What of an answer can be read, and what cannot. Every text in it is on one line.

    Args:
        finish: `length` where the answer was cut off at its budget of tokens.
    """
    if fenced := _FENCED.fullmatch(text):
        text = fenced.group(1)
    try:
        return _tidy(parse(text, output)), []
    except ValueError as error:
        fault = str(error)
    quoted = visible(text)[:_QUOTE]
    if finish == "length" and (closed := _closed(text, output)):
        return _tidy(closed), [Cut("text", visible(text)[-_QUOTE:], "cut_off", "it ends where its tokens were spent")]
    if told := refusal(text):
        return Description(), [Cut("text", quoted, *told)]
    return Description(), [Cut("text", quoted, "not_json" if fault.startswith("no JSON") else "wrong_fields", fault)]


def _tidy(description: Description) -> Description:
    return Description(
        visible(description.summary),
        {visible(name): visible(value) for name, value in description.attributes.items()},
        tuple(visible(word) for word in description.keywords),
        tuple(visible(query) for query in description.queries),
    )


def _closed(text: str, output: Sequence[str]) -> Description | None:
    """The fields of JSON that lacks its end, as far as they go."""
    open_: list[str] = []
    ends: list[tuple[int, str]] = []  # where a value may end, and what would close the text there
    for match in _ENDS.finditer(text):
        mark = match.group()
        if mark in "[{":
            open_.append("]" if mark == "[" else "}")
        elif mark in "]}" and (not open_ or open_.pop() != mark):
            return None
        ends.append((match.end(), "".join(reversed(open_))))
    for end, closing in reversed(ends[-4:]):  # a key without its value is no end; there is one before it
        try:
            found: Any = json.loads(text[:end] + closing)
            return parse(json.dumps({name: found.get(name, _EMPTY[name]) for name in output} | found), output)
        except (ValueError, AttributeError, RecursionError):
            continue
    return None


_EMPTY: dict[str, Any] = {"summary": "", "attributes": {}, "keywords": [], "queries": []}
