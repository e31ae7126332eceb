"""The TypeScript client: made from the OpenAPI, compiled with a program that uses it, and run against a live server."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from catalogue import rows, settings, write_manifest

import coldstart
from coldstart.serve.http import create_app
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings

pytestmark = pytest.mark.slow  # a compiler, a workspace and a server

TOOL = Path(__file__).parents[2] / "tools" / "typescript_client.py"
MODULES = TOOL.with_suffix("") / "node_modules"
PROGRAM = """
import { connect, ended, Fault, type Shop } from "./client.js";

declare const process: { argv: string[] };
const shop = connect(process.argv[2]!);
const found = await shop.GET("/v1/search", { params: { query: { text: "article 3 of shelf 3", limit: 2 } } });
const labelled = await shop.POST("/v1/label", { body: { classes: ["a", "b"], items: ["p1"] } });
const listed = await shop.POST("/v1/recommend", { body: { history: ["p1"], limit: 2, rank: "auto", rerank: "mmr" } });
const kind: string = listed.data!.rerank!.kind;
let unfitted = "";
try {
  const ranked = await shop.POST("/v1/rank", { body: { user: "u1", items: ["p1"], events: ["click"] } });
  const chance: number | undefined = ranked.data!.items[0]!.p["click"];
  unfitted = `ranked: ${chance}`;
} catch (fault) {
  if (fault instanceof Fault) unfitted = fault.message;
}
let problem = null;
try {
  await shop.GET("/v1/items/{item_id}", { params: { path: { item_id: "none/such" } } });
} catch (fault) {
  if (fault instanceof Fault) problem = fault.problem;
}
const hits = found.data!.hits.map((hit) => hit.item_id);
console.log(JSON.stringify({ hits, labels: labelled.data!.labels, kind, unfitted, problem }));

// what is not sent here has types, too
export async function reject(shop: Shop, item_id: string): Promise<string> {
  const { data } = await shop.POST("/v1/decisions", { body: { item_id, action: "reject", reason: "out of season" } });
  return (await ended(shop, data!)).state;
}
// @ts-expect-error: there is no such parameter
await shop.GET("/v1/search", { params: { query: { words: "a" } } }).catch(() => null);
"""


def test_a_program_in_typescript_searches_a_live_server(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None or not (MODULES / ".package-lock.json").exists():
        pytest.skip("node or its packages are missing: `make typescript-client` fetches them")
    given = importlib.util.spec_from_file_location("typescript_client", TOOL)
    assert given is not None
    assert given.loader is not None
    tool = importlib.util.module_from_spec(given)
    given.loader.exec_module(tool)
    (tmp_path / "client" / "src").mkdir(parents=True)
    (tmp_path / "client" / "src" / "program.ts").write_text(PROGRAM, "utf-8")
    tool.make(tmp_path / "client")

    coldstart.open(tmp_path / "ws", create=True).run(
        settings(write_manifest(tmp_path / "shop.jsonl", rows(tmp_path, 5)), workers=1)
    )
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(ServeSettings(str(tmp_path / "ws")), Readers(str(tmp_path / "ws")))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        program = [node, str(tmp_path / "client" / "dist" / "program.js"), url]
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    finally:
        server.should_exit = True
        thread.join(30)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["hits"][0] == "p3"
    assert [one["item_id"] for one in said["labels"]] == ["p1"]
    assert said["kind"] == "mmr" and "coldstart finetune rank" in said["unfitted"]
    assert (said["problem"]["status"], said["problem"]["kind"]) == (404, "not_found")
