"""Print the commands of README.md as one shell script, in the order in which they stand.

    python tools/readme_commands.py | bash -euo pipefail

Blocks marked `sh` and `python` are taken whole, and commands in tables as they stand. It is to be run in a fresh clone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def commands(text: str) -> list[str]:
    """List the commands of a page: a block of shell, a program of Python, or a command in a row of a table."""
    found: list[str] = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$|^\|([^\n]*)$", text, re.MULTILINE | re.DOTALL):
        language, block, row = match.groups()
        if row is not None:
            found += re.findall(r"`(coldstart [^`]+)`", row)
        elif language == "sh":
            found.append(block.rstrip())
        elif language == "python":
            found.append(f"python - <<'PROGRAM'\n{block}PROGRAM")
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(commands(README.read_text("utf-8"))) + "\n")
