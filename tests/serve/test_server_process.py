"""`coldstart serve` as a process: what a kill and a signal leave, and connections that are held open."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from catalogue import CLI, contents, rows, settings, write_manifest

import coldstart

pytestmark = pytest.mark.slow  # processes

UPLOADS = 30


def build(folder: Path) -> Path:
    workspace = coldstart.open(folder / "ws", create=True)
    workspace.run(settings(write_manifest(folder / "shop.jsonl", rows(folder, 2)), workers=1))
    return folder / "ws"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server_of(workspace: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*CLI, "serve", "--workspace", str(workspace), "--port", str(port), *options]
    with (workspace.parent / "log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        while True:
            assert process.poll() is None, (workspace.parent / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def upload(client: httpx.Client, number: int, photo: bytes) -> httpx.Response:
    item = {"item_id": f"u{number}", "title": f"upload {number}", "media": [{"role": "image", "uri": "a.jpg"}]}
    return client.post(
        "/v1/items/media",
        data={"items": json.dumps(item)},
        files={"files": ("a.jpg", photo)},
        headers={"Idempotency-Key": f"k{number}"},
    )


def test_a_kill_among_uploads_loses_none_and_repeats_none(tmp_path: Path) -> None:
    workspace, port = build(tmp_path), free_port()
    photos = [(tmp_path / "more" / row["image"]).read_bytes() for row in rows(tmp_path / "more", UPLOADS)]
    accepted: dict[int, str] = {}
    with server_of(workspace, port) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        killer = threading.Timer(0.0, process.send_signal, [signal.SIGKILL])
        for number in range(UPLOADS):
            if len(accepted) == UPLOADS // 2 and not killer.is_alive():
                killer.start()
            try:
                answer = upload(client, number, photos[number])
            except httpx.HTTPError:
                break  # the kill; whether this one was accepted is not known
            assert answer.status_code == 202
            accepted[number] = answer.json()["job_id"]
        process.wait(200)
    assert len(accepted) < UPLOADS
    assert f"listening on http://127.0.0.1:{port}; " in (tmp_path / "log").read_text()
    with server_of(workspace, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        jobs = {number: upload(client, number, photos[number]).json()["job_id"] for number in range(UPLOADS)}
        assert {number: jobs[number] for number in accepted} == accepted
        while (counts := client.get("/v1/jobs").json()["counts"])["done"] < UPLOADS:
            assert not counts["failed"]
            time.sleep(0.2)
        assert sum(counts.values()) == UPLOADS
    held = contents(workspace)
    wanted = {f"u{number}" for number in range(UPLOADS)} | {"p0", "p1"}
    for table in ("items", "catalog"):
        assert Counter(row["item_id"] for row in held[table]) == dict.fromkeys(wanted, 1)


def test_a_signal_ends_the_server_after_the_answers_under_way(tmp_path: Path) -> None:
    workspace, port = build(tmp_path), free_port()
    with server_of(workspace, port, "--read-only") as process:
        body = json.dumps({"text": "article"}).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            slow.sendall(body[:5])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(httpx.HTTPError):  # no new one begins
                httpx.get(f"http://127.0.0.1:{port}/readyz")
            slow.sendall(body[5:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert process.wait(200) in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "log").read_text()
