"""The explorer: its built files as they are served, and each view as Chromium shows it."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from page_checks import CHROMIUM
from starlette.applications import Starlette
from starlette.testclient import TestClient

import coldstart
from coldstart.serve.gate import CSP, Gate
from coldstart.serve.http import create_app
from coldstart.serve.measures import Measures
from coldstart.serve.page import BUILT, page_routes
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings, parse_token
from tests.support.catalogue import rows, settings, write_manifest

MARKUP = "<img src=x onerror=alert(1)> evil"
RIGHT_TO_LEFT = "קפה שחור"


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    given = ServeSettings("none", tokens=(parse_token("read-0123456789abcdef"),))
    app = Starlette(routes=page_routes())
    app.add_middleware(Gate, settings=given, measures=Measures(Readers(str(tmp_path)), None))
    return TestClient(app, base_url="http://localhost")


def test_the_page_and_its_files_are_served_without_a_token(page: TestClient) -> None:
    index = page.get("/")
    assert index.status_code == 200 and index.headers["content-type"].startswith("text/html")
    assert index.headers["cache-control"] == "no-cache" and index.headers["content-security-policy"] == CSP
    assert not re.search(r"<style|style=|<script(?![^>]* src=)", index.text)  # the policy lets none of these be
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', index.text)
    assert {name.rpartition(".")[2] for name in named} == {"js", "css", "svg"}
    for name in named:
        file = page.get(name)
        assert file.status_code == 200 and "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
    assert {Path(name).name for name in named} == {path.name for path in (BUILT / "assets").iterdir()}


@pytest.mark.parametrize("name", ["index-00000000.js", "..%2findex.html", "%2e%2e/index.html", "index.html", ""])
def test_no_other_file_is_served(page: TestClient, name: str) -> None:
    assert page.get(f"/assets/{name}").status_code == 404


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("explorer")
    entries = rows(folder, 6)
    entries[0] |= {"title": MARKUP}
    entries[1] |= {"title": RIGHT_TO_LEFT}
    entries[2] |= {"title": "long " * 60}
    coldstart.open(folder / "ws", create=True).run(settings(write_manifest(folder / "s.jsonl", entries), workers=1))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        app = create_app(ServeSettings(str(folder / "ws")), Readers(str(folder / "ws")))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{found.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("#/search", ["6 items", "&lt;img src=x onerror=alert(1)&gt; evil", RIGHT_TO_LEFT]),
        ("#/search?text=article", ["Score", "(of pub-"]),
        ("#/search?text=article&where=prise%3C2", ['class="fault"', "did you mean price?"]),
        ("#/item/p1", [RIGHT_TO_LEFT, "Neighbours", "State in every stage"]),
        ("#/workspace", ["Counts of each stage", "Ledger", "Publications", "Runs of stages", "only reads"]),
        ("#/match", ["Choose a video"]),
        ("#/recommend?history=p1", ["Recommended items", "Cold share"]),
    ],
)
def test_each_view_shows_its_content(address: str, tmp_path: Path, view: str, expected: list[str]) -> None:
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
               "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", f"{address}/{view}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    for words in expected:
        assert words in done.stdout, (words, done.stdout[-3000:], done.stderr[-2000:])
    assert "onerror=alert(1)>" not in done.stdout
    faults = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "Failed to load resource" not in line]
    assert not faults  # a problem of the server is shown in the page; a fault of the page is not
