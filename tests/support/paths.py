"""Folders that tests use: the repository, these helpers, and data outside the repository."""

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
DATA = Path(os.environ.get("COLDSTART_DATA", ROOT.parent / "shared" / "data"))
