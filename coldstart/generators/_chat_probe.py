"""Render one chat template in a process of its own, with little memory and time: a template from a stranger may loop.

    python -m coldstart.generators._chat_probe < request.json

The request is `template`, and a list `chats` of the variables to render it with; the answer is a list with `text`, or
with `error`, for each. See `coldstart.generators._chat_form`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

CPU_S = 4
MEMORY_BYTES = 512 * 2**20


def main() -> None:
    """Read the request, render and print."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    request = json.load(sys.stdin)
    _limit()
    answers = []
    for variables in request["chats"]:
        try:
            answers.append({"text": _compile_jinja_template(request["template"]).render(variables)})
        except MemoryError:
            raise
        except Exception as error:  # whatever it is, the template did it
            answers.append({"error": f"{type(error).__name__}: {error}"[:500]})
    json.dump(answers, sys.stdout)


def _limit() -> None:
    """Bound what the process may still take; where the system cannot, the caller's deadline alone holds."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_S,) * 2)
        mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)


if __name__ == "__main__":
    main()
