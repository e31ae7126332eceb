"""Claim: HTTP adds little to a search, and searches of many clients at one time are answered together.

    python -m benchmarks.serve [--short]

Two catalogues: the packaged sample under the `starter` pipeline, and 200,000 made products with titles of one to five
of 4,000 made words and clustered 384-d vectors in the space of the starter text encoder (`--short`: 20,000). Each is
served by `coldstart serve --read-only` in a process of its own. `wrk` (Debian's package) sends text searches with 1, 8
and 32 connections, every query another one; between them the same searches run in a third process over the same
publication without HTTP, frozen as the server's reader is. Then, of the sample, lists for a history of three items.
p50 and p99 are of wrk, of requests that it sends one after the other on each connection. Rounds interleave all of
these; on a machine that is shared with other work the figures in milliseconds read too high, the ratios of one round
do not.
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
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

import coldstart
from benchmarks.index_200k import clustered
from benchmarks.report import Row, ratio
from coldstart import sample
from coldstart.core.items import CONTENT_FIELDS
from coldstart.encoders import load
from coldstart.store import Store
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import Catalog

ROWS, SHORT_ROWS, DIM = 200_000, 20_000, 384
CLIENTS = (1, 8, 32)
ROUNDS, SECONDS, SHORT_SECONDS = 5, 4, 3
PORT = 8391
LUA = """
local words = {%s}
math.randomseed(%d)
request = function()
  local text = {}
  for place = 1, math.random(1, 3) do text[place] = words[math.random(#words)] end
  return wrk.format("GET", "/v1/search?limit=10&text=" .. table.concat(text, "+") .. "+" .. math.random(100000))
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


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a workspace in a process of its own; yields its address once it is ready."""
    main = "from coldstart.cli import main; main()"
    command = [sys.executable, "-c", main, "serve", "-w", str(folder), "--port", str(PORT), "--read-only"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz").is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def send_load(address: str, script: str, clients: int, seconds: int) -> dict[str, float]:
    """Send requests with wrk: per second, p50 and p99 in milliseconds, share that failed."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", file.name]
        out = subprocess.run([*command, address], capture_output=True, text=True, check=True).stdout
    found = {"per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])}  # type: ignore[index]
    for name, part in (("p50_ms", "50%"), ("p99_ms", "99%")):
        value, unit = re.search(rf"{part}\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
        found[name] = float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    total = re.search(r"(\d+) requests in", out)
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
        with served(folder) as address:
            listed, named = (", ".join(f'"{one}"' for one in these) for these in (words, ids))
            for number in range(-1, ROUNDS):  # the first warms up
                one: dict[str, Any] = {"in_process": in_process(workspace, words, number + 9, seconds)}
                for clients in CLIENTS:
                    one[f"search_{clients}"] = send_load(address, LUA % (listed, number + 9), clients, seconds)
                if name == "sample":  # the made catalogue has no pipeline, whose spaces lists go by
                    one["recommend_8"] = send_load(address, LISTS % (named, number + 9), 8, seconds)
                if number >= 0:
                    found["rounds"].append(one)
            metrics = httpx.get(f"{address}/metrics").text
        memory = re.search(r"process_resident_memory_bytes ([\d.e+]+)", metrics)
        found["memory_mb"] = float(memory[1]) / 1e6 if memory else None
    return found


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
        together = ratio(column("search_32", "per_s"), column("search_1", "per_s"))
        lines.append(Row("text searches a second, 32 connections / 1", setting, *together, "at least 4"))
        keys = [f"search_{clients}" for clients in CLIENTS]
        if "recommend_8" in rounds[0]:
            keys.append("recommend_8")
            p50, p99, rate = (column("recommend_8", name) for name in ("p50_ms", "p99_ms", "per_s"))
            times = f"{setting}; p50 {np.median(p50):.0f} ms, p99 {np.median(p99):.0f} ms"
            spread = f"{min(rate):.0f} to {max(rate):.0f}"
            lines.append(Row("lists for a history a second, 8 connections", times, f"{np.median(rate):.0f}", spread))
        failed = max(max(column(key, "failed")) for key in keys)
        lines.append(
            Row(
                "share of requests that failed",
                setting,
                f"{failed:.3f}",
                f"memory {one['memory_mb']:.0f} MB",
                "at most 0",
            )
        )
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
