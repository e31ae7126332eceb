"""Print errors: one line on stderr for people, and with `--json` an object on stdout for programs.

The object has the fields `kind`, `message`, `where` and `next` of `coldstart.core.error_fields`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.cli import output
from coldstart.core.sanitize import without_controls


def usage_fields(message: str, path: str) -> dict[str, str | None]:
    """Describe a usage error of a command, such as an unknown option."""
    option = re.search(r"--[\w-]+", message)
    return {
        "kind": "usage",
        "message": message,
        "where": option[0] if option else None,
        "next": f"see `{path} --help`",
    }


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether a command line asks for JSON, before it is parsed and even where it cannot be."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def print_json_error(fields: Mapping[str, str | None], result: Mapping[str, Any] | None = None) -> None:
    """Print an error as one JSON object on stdout, beside what was found before it."""
    output.as_json({**(result or {}), "error": fields})
    sys.stdout.flush()


def print_error(error: BaseException) -> None:
    """Print an error as one line on stderr; without rich where not even that can be loaded any more."""
    message = without_controls(" ".join(str(error).splitlines()))
    try:
        from rich.console import Console
        from rich.text import Text
    except (ImportError, OSError, MemoryError):
        sys.stderr.write(f"error: {message}\n")
        return
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text.assemble(("error:", "red"), f" {message}"))
