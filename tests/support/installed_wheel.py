"""The command of an installed wheel."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, built from the repository; its dependencies are those of this one."""

    bin: Path

    def coldstart(self, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """The command as a user without the repository has it."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [str(self.bin / "coldstart"), *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1400)

    def python(self, folder: Path, code: str) -> str:
        """What a program prints."""
        command = [str(self.bin / "python"), "-c", code]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
