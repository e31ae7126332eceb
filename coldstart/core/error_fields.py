"""Describe an error by kind, message, place and next step, for every interface that a program reads.

An error states them itself, or they are derived: the kind from the room that raised it, place and next step from the
form of the message (value at place: next step). What is not known is null.
"""

from __future__ import annotations

import re
from types import TracebackType

from coldstart.core.sanitize import without_controls
from coldstart.errors import ColdstartError, redact_urls

KINDS = {
    "usage": "the command line: an option, an argument or a combination of them",
    "settings": "a pipeline file, or a setting of it",
    "input": "a file that was given, or a row of it",
    "not_found": "a name that was given: no such file, workspace, item, stage, space or model",
    "not_ready": "something that has to be fetched, fitted, indexed or installed first",
    "busy": "another process writes the workspace: try again when it has ended",
    "damaged": "stored data that cannot be read: `coldstart check --repair`",
    "machine": "this machine: a full disk, no memory, no permission; exit code 3",
    "failed": "the work was done, and its result is below what was required",
    "interrupted": "Ctrl-C; exit code 130",
    "internal": "a fault of the program",
}
"""Kind of an error -> what is at fault."""

_ROOMS = (
    (r"coldstart\.core\.(pipeline|settings?|setting_faults|trust|stage|plugins|device)", "settings"),
    (r"coldstart\.(ingest|media)\.|coldstart\.core\.class_file|coldstart\.search\.queries", "input"),
    (r"coldstart\.models\.", "not_ready"),
    (r"coldstart\.cli\.", "usage"),
)
"""Module that raised an error -> its kind, where its words do not decide."""
_WORDS = (
    (r"^(there is )?no (?!terminal)|^unknown |did you mean|\bis unknown\b|No such file|is not in the ", "not_found"),
    (r"is being written by|another process", "busy"),
    (r"^(give |--|.* exclude each other|.* go together)", "usage"),
    (r"^cannot read ", "input"),
)
"""Words of a message -> its kind."""
_PLACE = re.compile(r"(?:no [^:]*? (?:at|in) )?(?P<place>[^\s:;]\S*( line \d+| [^\s:;]+)?): ")
_VERBS = (
    "add|allow|ask|begin|call|choose|close|copy|did you mean|fill|fit|free|give|install|leave|list|look|lower|make|"
    "mend|move|name|pass|pull|put|raise|remove|repair|report|restore|run|save|see|send|set|state|take|try|unset|use|wait|"
    "write"
)
_NEXT = re.compile(rf"(?:^|[:;,)?] )(?P<next>(?:(?:{_VERBS})(?![\w-])|`).*)$")
_LONGEST_PLACE = 120


def error_fields(error: BaseException) -> dict[str, str | None]:
    """Describe an error by kind, message, place and next step; None for what is not known."""
    message = without_controls(" ".join(redact_urls(str(error)).splitlines()))
    if not isinstance(error, ColdstartError):
        name = type(error).__name__
        return {"kind": "internal", "message": f"{name}: {message}", "where": None, "next": None}
    return {
        "kind": error.kind or _kind(message, error.__traceback__),
        "message": message,
        "where": error.where or _where(message),
        "next": error.next or _next(message),
    }


def _kind(message: str, trace: TracebackType | None) -> str | None:
    for words, kind in _WORDS:
        if re.search(words, message):
            return kind
    module = ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        module = name if name.startswith("coldstart.") else module
        trace = trace.tb_next
    return next((kind for room, kind in _ROOMS if re.match(room, f"{module}.")), None)


def _where(message: str) -> str | None:
    found = _PLACE.match(message)
    return found["place"] if found and len(found["place"]) <= _LONGEST_PLACE else None


def _next(message: str) -> str | None:
    found = _NEXT.search(message)
    return found["next"].rstrip(".") if found else None
