"""Claim: HTTP adds little to a search, and searches of many clients at one time are answered together.

    python -m benchmarks.serve [--short | --soak MINUTES]

Two catalogues: the packaged sample under the `starter` pipeline, and 200,000 made products with titles of one to five
of 4,000 made words and clustered 384-d vectors in the space of the starter text encoder (`--short`: 20,000). Each is
served by `coldstart serve --read-only` in a process of its own. `wrk` (Debian's package) sends text searches with 1, 8
and 32 connections, every query another one; between them the same searches run in a third process over the same
publication without HTTP, frozen as the server's reader is. Then, of the sample, lists for a history of three items.
p50 and p99 are of wrk, of requests that it sends one after the other on each connection. Rounds interleave all of
these; on a machine that is shared with other work the figures in milliseconds read too high, the ratios of one round
and the processor's milliseconds of the server do not.

The peer is the least that a shop would write itself, in the same framework: FastAPI, the same text encoder for one
query after the other, the product with all unit vectors of the text space, ten titles as JSON. It has one space in
place of several, and no words, filters, scores that compare, checks, limits, or following of publications.

`--soak` sends searches and lists for so many minutes, publishes each minute, and reports the memory of the server over
the time, and by how much it grows an hour once the first quarter has passed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa

import coldstart
from benchmarks.index_200k import clustered
from benchmarks.report import Row, against, ratio
from coldstart import sample
from coldstart.core.items import CONTENT_FIELDS
from coldstart.encoders import load
from coldstart.store import Store
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import Catalog

ROWS, SHORT_ROWS, DIM = 200_000, 20_000, 384
CLIENTS = (1, 8, 32)
ROUNDS, SECONDS, SHORT_SECONDS = 5, 4, 3
PORT, PEER_PORT = 8391, 8392
LUA = """
local words = {%s}
math.randomseed(%d)
request = function()
  local text = {}
  for place = 1, math.random(1, 3) do text[place] = words[math.random(#words)] end
  return wrk.format("GET", "%s?limit=10&text=" .. table.concat(text, "+") .. "+" .. math.random(100000))
end
"""
LISTS = """
local items = {%s}
math.randomseed(%d)
request = function()
  local liked = {}
  for place = 1, 3 do liked[place] = '"' .. items[math.random(#items)] .. '"' end
  local body = '{"limit": 10, "history": [' .. table.concat(liked, ", ") .. ']}'
  return wrk.format("POST", "/v1/recommend", {["Content-Type"] = "application/json"}, body)
end
"""


def made_catalogue(folder: Path, rows: int) -> tuple[list[str], list[str]]:
    """Publish made products, without a pipeline; returns words of their titles, and some ids."""
    random = np.random.default_rng(1)
    letters = np.array(list("abcdefghiklmnoprstuvw"))
    words = ["".join(random.choice(letters, random.integers(4, 9))) for _ in range(4000)]
    titles = [" ".join(random.choice(words, random.integers(1, 6))) for _ in range(rows)]
    vectors, _ = clustered(rows)
    columns: dict[str, Any] = {
        field.name: pa.array([None] * rows, field.type) for field in pa.schema(list(CONTENT_FIELDS))
    }
    ids = [f"p{number}" for number in range(rows)]
    flat = pa.array(vectors[:rows].ravel(), pa.float32())
    columns |= {
        "item_id": pa.array(ids),
        "kind": pa.array(["product"] * rows),
        "title": pa.array(titles),
        "text": pa.array(titles),
        "category": pa.array([f"category {number % 10}" for number in range(rows)]),
        "transcript": pa.array([""] * rows),
        "screen_text": pa.array([""] * rows),
        "language": pa.array([None] * rows, pa.string()),
        "duplicate_of": pa.array([None] * rows, pa.string()),
        "index_key": pa.array(ids),
        "vector_text": pa.FixedSizeListArray.from_arrays(flat, DIM),
    }
    catalog = Catalog(Store(folder, create=True).db)
    catalog.write(pa.table(columns), {"text": load("starter").passport("text")})
    catalog.publish(catalog.build_indexes(IndexSettings()))
    return words, ids[:: rows // 200]


def sample_catalogue(folder: Path) -> tuple[list[str], list[str]]:
    """Run `starter` over the packaged sample; returns words of its titles, and ids."""
    workspace = coldstart.open(folder, create=True)
    workspace.run("starter", manifest=sample.path() / "manifest.jsonl")
    items = workspace.items()
    words = {word.lower() for item in items for word in re.findall(r"[A-Za-z]{3,}", item.title or "")}
    return sorted(words), [item.item_id for item in items]


@dataclass(frozen=True)
class Served:
    """Server in a process of its own."""

    address: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Read the seconds of the processor that it and its children have taken."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """Serve a workspace in a process of its own; yields it once it is ready."""
    main = "from coldstart.cli import main; main()"
    command = [sys.executable, "-c", main, "serve", "-w", str(folder), "--port", str(PORT), *options]
    with _started(command, PORT) as found:
        yield found


@contextmanager
def peer_served(folder: Path) -> Iterator[Served]:
    """Serve the vectors of its text space by the peer, see the module."""
    code = f"from benchmarks.serve import serve_peer; serve_peer({str(folder)!r})"
    with _started([sys.executable, "-c", code], PEER_PORT) as found:
        yield found


@contextmanager
def _started(command: list[str], port: int) -> Iterator[Served]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz").is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        yield Served(address, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)


def serve_peer(folder: str) -> None:
    """Serve searches by the peer until SIGTERM."""
    import uvicorn
    from fastapi import FastAPI

    from coldstart.encoders import for_queries

    published = coldstart.open(folder).published()
    rows = {row["item_id"]: row["title"] for block in published.blocks(["title"]) for row in block.to_pylist()}
    ids = list(rows)
    units = np.nan_to_num(published.unit_vectors(["text"], ids)["text"])
    encoder = for_queries(load("starter"))
    app = FastAPI()

    @app.get("/search")
    def search(text: str, limit: int = 10) -> dict[str, Any]:
        scores = units @ encoder.encode_queries([text])[0]
        best = np.argpartition(-scores, min(limit, len(scores) - 1))[:limit]
        best = best[np.argsort(-scores[best])]
        return {"hits": [{"item_id": ids[at], "title": rows[ids[at]], "score": float(scores[at])} for at in best]}

    @app.get("/readyz")
    def ready() -> dict[str, Any]:
        return search("warm up")

    uvicorn.run(app, host="127.0.0.1", port=PEER_PORT, log_level="error")


def send_load(server: Served, script: str, clients: int, seconds: int) -> dict[str, float]:
    """Send requests with wrk: per second, p50 and p99 in milliseconds, processor's milliseconds of the server for one,
    share that failed."""
    before = server.cpu_s()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", file.name]
        out = subprocess.run([*command, server.address], capture_output=True, text=True, check=True).stdout
    found = {"per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])}  # type: ignore[index]
    for name, part in (("p50_ms", "50%"), ("p99_ms", "99%")):
        value, unit = re.search(rf"{part}\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
        found[name] = float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    total = re.search(r"(\d+) requests in", out)
    found["cpu_ms"] = 1e3 * (server.cpu_s() - before) / max(1, int(total[1]) if total else 1)
    found["failed"] = int(failed[1]) / int(total[1]) if failed and total else 0.0
    return found


def in_process(workspace: coldstart.Workspace, words: list[str], seed: int, seconds: int) -> dict[str, float]:
    """Search one after the other without HTTP: p50 and p99 in milliseconds."""
    random = np.random.default_rng(seed)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        text = " ".join([*random.choice(words, random.integers(1, 4)), str(random.integers(100_000))])
        began = time.perf_counter()
        workspace.search(text=text)
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "per_s": len(times) / seconds}


def measure(name: str, seconds: int, rows: int) -> dict[str, Any]:
    """All rounds over one catalogue."""
    found: dict[str, Any] = {"rounds": []}
    with tempfile.TemporaryDirectory(prefix="coldstart-serve-") as place:
        folder = Path(place) / "workspace"
        words, ids = sample_catalogue(folder) if name == "sample" else made_catalogue(folder, rows)
        workspace = coldstart.open(folder)
        workspace.freeze()
        found["rows"] = len(workspace.published())
        with served(folder, "--read-only") as server, peer_served(folder) as peer:
            listed, named = (", ".join(f'"{one}"' for one in these) for these in (words, ids))
            for number in range(-1, ROUNDS):  # the first warms up
                seed = number + 9
                one: dict[str, Any] = {"in_process": in_process(workspace, words, seed, seconds)}
                for clients in CLIENTS:
                    one[f"search_{clients}"] = send_load(server, LUA % (listed, seed, "/v1/search"), clients, seconds)
                    one[f"peer_{clients}"] = send_load(peer, LUA % (listed, seed, "/search"), clients, seconds)
                    if name == "sample":  # the made catalogue has no pipeline, whose spaces lists go by
                        one[f"recommend_{clients}"] = send_load(server, LISTS % (named, seed), clients, seconds)
                if number >= 0:
                    found["rounds"].append(one)
            found["memory_mb"] = server.process.memory_info().rss / 1e6
            found["peer_memory_mb"] = peer.process.memory_info().rss / 1e6
    return found


def soak(minutes: float) -> dict[str, Any]:
    """Memory of a server, in MB, under searches and lists for so many minutes, with a publication each minute."""
    with tempfile.TemporaryDirectory(prefix="coldstart-serve-") as place:
        folder = Path(place) / "workspace"
        words, ids = sample_catalogue(folder)
        listed, named = (", ".join(f'"{one}"' for one in these) for these in (words, ids))
        with served(folder) as server:
            memory, failed, requests = [], 0.0, 0.0
            began = time.monotonic()
            until, number = began + 60 * minutes, 0
            while time.monotonic() < until:
                row = {"item_id": f"new-{number}", "kind": "product", "title": f"{words[number % len(words)]} {number}"}
                httpx.post(f"{server.address}/v1/items", json={"items": [row]}).raise_for_status()
                for script in (LUA % (listed, number, "/v1/search"), LISTS % (named, number)):
                    sent = send_load(server, script, 16, 29)
                    failed += sent["failed"] * sent["per_s"] * 29
                    requests += sent["per_s"] * 29
                memory.append(((time.monotonic() - began) / 60, server.process.memory_info().rss / 1e6))
                number += 1
            swaps = re.search(r"coldstart_publication_swaps ([\d.]+)", httpx.get(f"{server.address}/metrics").text)
    late = [(minute, size) for minute, size in memory if minute > minutes / 4]
    times, sizes = (np.array(column) for column in zip(*late, strict=True)) if late else (np.empty(0), np.empty(0))
    slope = 60 * float(np.polyfit(times, sizes, 1)[0]) if len(late) > 1 else None
    return {
        "requests": round(requests),
        "failed": round(failed),
        "publications": float(swaps[1]) if swaps else None,
        "memory_mb": [(round(minute, 1), round(size)) for minute, size in memory],
        "mb_an_hour": slope,
    }


def run(short: bool) -> dict[str, Any]:
    """Figures of both catalogues."""
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed: `apt install wrk`")
    seconds = SHORT_SECONDS if short else SECONDS
    return {name: measure(name, seconds, SHORT_ROWS if short else ROWS) for name in ("sample", "made")}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for one in result.values():
        rounds, setting = one["rounds"], f"{one['rows']:,} items"

        def column(key: str, measure: str, rounds: list[Any] = rounds) -> list[float]:
            return [entry[key][measure] for entry in rounds]

        over = [a - b for a, b in zip(column("search_1", "p50_ms"), column("in_process", "p50_ms"), strict=True)]
        lines.append(
            Row("text search by HTTP, milliseconds over the same in process, p50", setting, f"{np.median(over):.1f}",
                f"{min(over):.1f} to {max(over):.1f}", "at most 3")
        )  # fmt: skip
        for clients in CLIENTS:
            key = f"search_{clients}"
            p50, p99, rate = (column(key, name) for name in ("p50_ms", "p99_ms", "per_s"))
            lines.append(
                Row(f"text searches a second, {clients} connections", f"{setting}; p50 {np.median(p50):.0f} ms, p99 "
                    f"{np.median(p99):.0f} ms", f"{np.median(rate):.0f}", f"{min(rate):.0f} to {max(rate):.0f}")
            )  # fmt: skip
            cpu = column(key, "cpu_ms")
            lines.append(
                Row(f"the same, processor's ms of the server for one, {clients} connections", setting,
                    f"{np.median(cpu):.1f}", f"{min(cpu):.1f} to {max(cpu):.1f}")
            )  # fmt: skip
        together = ratio(column("search_32", "per_s"), column("search_1", "per_s"))
        lines.append(Row("text searches a second, 32 connections / 1", setting, *together, "at least 4"))
        for clients in CLIENTS:
            peer = [entry[f"peer_{clients}"] for entry in rounds]
            times = f"{setting}; peer p50 {np.median([one['p50_ms'] for one in peer]):.0f} ms"
            claim = f"text searches a second, of FastAPI with NumPy in one space, {clients} connections"
            rates = column(f"search_{clients}", "per_s"), [one["per_s"] for one in peer]
            if all(rates[1]):  # none is answered where other work takes the machine
                lines.append(against("peer", claim, times, *rates))
        keys = [f"search_{clients}" for clients in CLIENTS]
        for clients in CLIENTS if "recommend_1" in rounds[0] else ():
            keys.append(f"recommend_{clients}")
            p50, p99, rate = (column(keys[-1], name) for name in ("p50_ms", "p99_ms", "per_s"))
            times = f"{setting}; p50 {np.median(p50):.0f} ms, p99 {np.median(p99):.0f} ms"
            spread = f"{min(rate):.0f} to {max(rate):.0f}"
            claim = f"lists for a history a second, {clients} connections"
            lines.append(Row(claim, times, f"{np.median(rate):.0f}", spread))
        failed = max(max(column(key, "failed")) for key in keys)
        lines.append(
            Row(
                "share of requests that failed",
                setting,
                f"{failed:.3f}",
                f"memory {one['memory_mb']:.0f} MB, of the peer {one['peer_memory_mb']:.0f}",
                "at most 0",
            )
        )
    return lines


if __name__ == "__main__":
    given = sys.argv[1:]
    print(json.dumps(soak(float(given[1])) if given[:1] == ["--soak"] else run("--short" in given), indent=2))
