"""The small catalogue that `coldstart demo` runs on: 65 grocery products and 31 short videos.

`manifest.jsonl` is what a pipeline reads. `truth.jsonl` says what each video shows, writes and says; no stage may read
it, an evaluation may. `README.md` describes both, `NOTICE.md` the licences.
"""

from pathlib import Path


def path() -> Path:
    """The folder that holds `manifest.jsonl`, `truth.jsonl`, `images/` and `videos/`. Read-only."""
    return Path(__file__).resolve().parent
