"""Claim: a ranking, or a ranked list, costs over HTTP little more than in process.

    python -m benchmarks.serve_rank [--short]

A made shop: products of shelves, users who like those of their own, an interaction log and logged showings, and the
fits of `coldstart finetune rank` on both (`--short`: 600 products and 300 users in place of 3,000 and 1,500). It is
served by `coldstart serve --read-only` in a process of its own. Rounds interleave, each with the next users: rankings
of 10 and of 500 items by HTTP and in process, by a reader as the server has one, and lists with the ranker on and off.
Figures are of one client that waits for each answer; those of the processor depend less than those of the clock on what
else the machine does. How good rankings are is the claim of `rank` and `rank_union`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import coldstart
from benchmarks.report import Row
from benchmarks.serve import Served, served
from coldstart.serve.readers import Readers

SHELVES, DAY, START = 20, 86_400, 1_700_006_400
AT = START + 30 * DAY
COUNTS = (10, 500)
ROUNDS, SHORT_ROUNDS, REQUESTS = 7, 5, 12


def make_shop(folder: Path, items: int, users: int) -> coldstart.Workspace:
    """Publish made products with an interaction log and showings, and fit the rankers on them."""
    drawn = np.random.default_rng(1)
    manifest = folder / "items.jsonl"
    entries = [
        {"item_id": f"p{n}", "kind": "product", "title": f"article {n} of shelf {n % SHELVES}", "price": n % 97,
         "category": f"shelf {n % SHELVES}"} for n in range(items)
    ]  # fmt: skip
    manifest.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), "utf-8")
    opened = coldstart.open(folder / "workspace", create=True)
    text = {"stage": "embed", "encoder": "fake:64", "input": "text"}
    opened.run({"manifest": str(manifest), "stages": {"ingest": {}, "text": text, "index": {}}})
    actions, shown = [], []
    for user in range(users):
        for step in range(20):
            own = user % SHELVES if drawn.random() < 0.7 else int(drawn.integers(SHELVES))
            item = own + SHELVES * int((items // SHELVES) * drawn.random() ** 2)
            row = {"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": START - (20 - step) * DAY}
            actions.append({**row, "event": "like"})
            if step % 2:
                click = int(drawn.random() < (0.6 if own == user % SHELVES else 0.1))
                shown.append({**row, "timestamp": START + step * DAY, "click": click})
    opened.add_interactions(actions)
    opened.add_impressions([{**row, "outcomes": {"click": row.pop("click")}} for row in shown])
    opened.finetune_rank(model="trees")
    opened.run()
    return opened


def timed(work: Any, process: Served | None) -> dict[str, float]:
    """Send requests one after the other; milliseconds of one, p50, and of the processor, by mean."""
    times = []
    before = time.process_time() if process is None else process.cpu_s()
    for number in range(REQUESTS):
        began = time.perf_counter()
        work(number)
        times.append(1e3 * (time.perf_counter() - began))
    after = time.process_time() if process is None else process.cpu_s()
    return {"p50_ms": float(np.median(times)), "cpu_ms": 1e3 * (after - before) / REQUESTS}


def run(short: bool) -> dict[str, Any]:
    """Milliseconds of each sort of request, round by round."""
    items, users = (600, 300) if short else (3_000, 1_500)
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="coldstart-serve-") as place:
        readers = Readers(make_shop(Path(place), items, users).uri)
        readers.refresh()
        reader = readers.current()
        with served(Path(place) / "workspace", "--read-only") as server, httpx.Client(timeout=60) as client:

            def send(path: str, body: dict[str, Any]) -> None:
                client.post(f"{server.address}{path}", json=body).raise_for_status()

            for number in range(-1, SHORT_ROUNDS if short else ROUNDS):  # the first warms up
                drawn, one = np.random.default_rng(number + 1), {}
                for count in COUNTS:
                    asked = [f"p{place}" for place in drawn.choice(items, count, replace=False)]

                    def user(place: int, first: int = REQUESTS * (number + 1)) -> str:
                        return f"u{(first + place) % users}"

                    def here(place: int, asked: list[str] = asked, user: Any = user) -> None:
                        reader.rank(user(place), asked, at=AT)

                    def there(place: int, asked: list[str] = asked, user: Any = user) -> None:
                        send("/v1/rank", {"user": user(place), "items": asked, "at": AT, "limit": 20})

                    one[f"process_{count}"], one[f"http_{count}"] = timed(here, None), timed(there, server)
                for rank in ("on", "off"):

                    def lists(place: int, rank: str = rank, user: Any = user) -> None:
                        send("/v1/recommend", {"user": user(place), "rank": rank, "limit": 20})

                    one[f"list_{rank}"] = timed(lists, server)
                if number >= 0:
                    rounds.append(one)
            memory = server.process.memory_info().rss / 1e6
    return {"items": items, "users": users, "memory_mb": memory, "rounds": rounds}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = f"{result['items']:,} items, {result['users']:,} users"

    def column(key: str, measure: str) -> list[float]:
        return [entry[key][measure] for entry in result["rounds"]]

    def line(claim: str, values: list[float], more: str = "", goal: str = "") -> Row:
        return Row(claim, setting + more, f"{np.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}", goal)

    found = []
    for count in COUNTS:
        here, there = f"process_{count}", f"http_{count}"
        over = [a - b for a, b in zip(column(there, "p50_ms"), column(here, "p50_ms"), strict=True)]
        claim = f"ranking of {count} items"
        found.append(line(f"{claim} by HTTP, milliseconds over the same in process, p50", over, goal="at most 10"))
        times = f"; p50 {np.median(column(there, 'p50_ms')):.1f} ms"
        spent = [a - b for a, b in zip(column(there, "cpu_ms"), column(here, "cpu_ms"), strict=True)]
        found.append(line(f"{claim} by HTTP, processor's ms over the same in process", spent, goal="at most 5"))
        found.append(line(f"{claim} by HTTP, processor's ms of the server", column(there, "cpu_ms"), times))
    for rank, words in (("on", "ranked list of 20"), ("off", "the same list, not ranked")):
        times = f"; p50 {np.median(column(f'list_{rank}', 'p50_ms')):.1f} ms"
        found.append(line(f"{words} by HTTP, processor's ms of the server", column(f"list_{rank}", "cpu_ms"), times))
    found.append(Row("memory of the server with its rankers, MB", setting, f"{result['memory_mb']:.0f}", ""))
    return found


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv[1:]), indent=2))
