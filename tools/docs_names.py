"""Part names that share a line of a docstring, as in `users, items: float32`, for the Python pages: a griffe extension.

Griffe takes the second name of such a line for a type.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


class SharedNames(griffe.Extension):
    """Give each name a line of its own."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object as soon as it is read."""
        if obj.docstring is not None:
            obj.docstring.value = SHARED.sub(apart, obj.docstring.value)


def apart(found: re.Match[str]) -> str:
    """Write a line of several names as one for each; the text stands with the first."""
    indent, names, text = found.groups()
    first, *others = names.split(", ")
    return "\n".join((f"{indent}{first}: {text}", *(f"{indent}{name}: see {first}." for name in others)))
