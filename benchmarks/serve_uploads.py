"""Claim: a photo or a clip that is sent to a server is searchable in seconds.

    python -m benchmarks.serve_uploads [--short] [--warm]

The packaged sample under the `starter` pipeline, without 20 of its photos and 20 of its clips (`--short`: 4 and 2).
These are sent to `coldstart serve` one at a time, each once the one before is answered by a search; the clips are of
two to nineteen seconds. Seconds from the request until the job says that the item is searchable and the server answers
by that publication, and the processor's seconds of the server and of the process that does its jobs. The first photo
waits for the models to load, and is told apart; with `--warm` the server has loaded them before.
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
from coldstart import sample

EACH, SHORT_PHOTOS, SHORT_CLIPS = 20, 4, 2
WAIT_S = 300.0


def send(server: Served, row: dict[str, Any]) -> dict[str, Any]:
    """Send one item with its medium; returns seconds until it is searchable, of the clock and of the processor."""
    path = sample.path() / row["media"][0]["uri"]
    named = {**row, "media": [{"role": row["media"][0]["role"], "uri": path.name}]}
    before, began = server.cpu_s(), time.perf_counter()
    files = {"files": (path.name, path.read_bytes())}
    with httpx.Client(base_url=server.address, timeout=60) as client:
        job = client.post("/v1/items/media", data={"items": json.dumps(named)}, files=files).raise_for_status().json()
        while time.perf_counter() < began + WAIT_S:
            answer = client.get(f"/v1/items/{row['item_id']}")
            if answer.is_success:
                break
            found = client.get(f"/v1/jobs/{job['job_id']}").json()
            states = [one["state"] for one in found["results"]]
            if states and set(states) <= {"failed", "filtered", "duplicate"}:
                return {"state": states[0]}
            time.sleep(0.1)
    return {"state": "searchable", "s": time.perf_counter() - began, "cpu_s": server.cpu_s() - before}


def wait_until_idle(server: Served) -> None:
    """Wait until the server and its children have nothing to do for fifteen seconds, so that all models are loaded."""
    spent = -1.0
    while spent < (spent := server.cpu_s()) - 0.5:  # looking for publications takes some
        time.sleep(15)


def run(short: bool, warm: bool = False) -> dict[str, Any]:
    """Seconds of each photo and clip."""
    lines = (sample.path() / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    photos = [row for row in rows if row["kind"] == "product" and row.get("media")][: SHORT_PHOTOS if short else EACH]
    clips = [row for row in rows if row["kind"] == "video"][: SHORT_CLIPS if short else EACH]
    sent = {row["item_id"] for row in (*photos, *clips)}
    with tempfile.TemporaryDirectory(prefix="coldstart-uploads-") as place:
        folder, manifest = Path(place) / "workspace", Path(place) / "manifest.jsonl"
        kept = [row for row in rows if row["item_id"] not in sent]
        for row in kept:
            row["media"] = [{**one, "uri": str(sample.path() / one["uri"])} for one in row.get("media", ())]
        manifest.write_text("\n".join(map(json.dumps, kept)))
        coldstart.open(folder, create=True).run("starter", manifest=manifest, media_roots=[sample.path()])
        with served(folder, *["--warm"] * warm) as server:
            if warm:
                wait_until_idle(server)
            first = send(server, photos[0])
            found = {
                "first": first,
                "photo": [send(server, row) for row in photos[1:]],
                "clip": [send(server, row) for row in clips],
            }
            family = (server.process, *server.process.children(recursive=True))
            memory = [round(process.memory_info().rss / 1e6) for process in family]
    return {**found, "warm": warm, "memory_mb": memory}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = [
        Row("first photo after the start, searchable in seconds", f"warm: {result['warm']}",
            f"{result['first'].get('s', float('nan')):.1f}", f"processor {result['first'].get('cpu_s', 0):.1f} s")
    ]  # fmt: skip
    for name in ("photo", "clip"):
        times, cpu = (np.array([one[key] for one in result[name] if "s" in one]) for key in ("s", "cpu_s"))
        lost = [one["state"] for one in result[name] if "s" not in one]
        spent = f"processor p50 {np.median(cpu):.1f} s, p95 {np.quantile(cpu, 0.95):.1f} s"
        setting = f"{len(times)} one at a time; {spent}"
        other = f"; {len(lost)} {', '.join(sorted(set(lost)))}" if lost else ""
        figure, spread = f"{np.median(times):.1f}", f"p95 {np.quantile(times, 0.95):.1f}{other}"
        lines.append(Row(f"{name} sent to the server, searchable in seconds, p50", setting, figure, spread))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv, "--warm" in sys.argv), indent=2))
