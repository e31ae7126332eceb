"""A server of jobs for tests that kill it: submits items one by one, tells of each that was accepted, and works on."""

from __future__ import annotations

import sys
from pathlib import Path

from catalogue import photo

from coldstart.serve.jobs import JobQueue


def main(folder: Path, count: int) -> None:
    """Submit `count` jobs, those that were accepted before left out by their keys, and wait until all are done."""
    queue = JobQueue(folder / "queue", str(folder / "ws"))
    queue.start()
    for number in range(count):
        key = f"job {number}"
        if number % 5 == 4:
            event = {"user_id": f"u{number}", "item_id": f"n{number - 1}", "timestamp": 1_700_000_000 + number}
            job = queue.submit_interactions([event], key)
        else:
            row = {"item_id": f"n{number}", "title": f"arrival {number}"}
            files = {}
            if number % 10 == 0:
                row["image"] = "p.jpg"
                files["p.jpg"] = photo(folder / "photo.jpg", 50 + number)
            job = queue.submit_items([row], files, key)
        sys.stdout.write(f"{job.id}\n")  # accepted
        sys.stdout.flush()
    done = queue.wait_until_idle(300)
    queue.close()
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
