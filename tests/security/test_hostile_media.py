"""A run over 300 hostile media reads nothing beside its media, workspace and libraries, and asks no network.

Two ways of watching: an audit hook in every Python process tells what Python opens and connects to; the files and the
host that the media name are watched themselves, since FFmpeg opens files without Python.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest
from catalogue import CLI, write_manifest, write_pipeline
from hostile_media import make_hostile, texts

from coldstart.store import Store
from tools import fuzz_media

MEDIA = 300
HOOK = """
import os, sys

_log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_network = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
_programs = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")


def _hook(event, arguments):
    if event in ("open", *_network, *_programs):
        what = arguments[0] if event == "open" else arguments
        if not isinstance(what, int):
            place = os.path.abspath(os.fsdecode(what)) if event == "open" else repr(what)
            os.write(_log, f"{event}\\t{place!r}\\n".encode("utf-8", "backslashreplace"))


sys.addaudithook(_hook)
"""
IN_ACCESS, IN_OPEN, IN_NONBLOCK = 0x1, 0x20, 0x800

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="files are watched by inotify"),
]


class Watched:
    """A folder that nobody should read, and a port that nobody should connect to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "canary.ts").write_bytes(fuzz_media.make_seed("ts"))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.inotify_init1(IN_NONBLOCK)
        assert self._libc.inotify_add_watch(self._events, os.fsencode(folder), IN_OPEN | IN_ACCESS) >= 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"

    def opened(self) -> bool:
        """Tell whether a file of the folder was opened since the last call."""
        try:
            return bool(os.read(self._events, 65536))
        except BlockingIOError:
            return False

    def connections(self) -> int:
        """Count the connections since the last call."""
        found = 0
        with suppress(BlockingIOError):
            while True:
                self._server.accept()[0].close()
                found += 1
        return found

    def close(self) -> None:
        os.close(self._events)
        self._server.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path / "outside")
    yield found
    found.close()


def test_the_watch_sees_what_ffmpeg_opens_by_itself(watched: Watched, tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    playlist.write_bytes(texts(watched.folder / "canary.ts", watched.host)[1])
    with suppress(av.error.FFmpegError):
        av.open(str(playlist), options={"allowed_extensions": "ALL", "extension_picky": "0"}).close()
    assert watched.opened()
    assert watched.connections() == 0
    with suppress(av.error.FFmpegError):
        av.open(f"tcp://{watched.host}", timeout=0.2)
    assert watched.connections() == 1


def test_a_run_over_hostile_media_reads_nothing_else_and_asks_no_network(watched: Watched, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    media = make_hostile(shop, watched.folder, watched.host, MEDIA)
    entries = [
        {"item_id": f"h{number}", "title": "hostile", "media": [{"role": role, "uri": uri}]}
        for number, (role, uri) in enumerate(media)
    ]
    stages = {name: stage for name, stage in fuzz_media.PIPELINE["stages"].items() if name != "keyframes"}
    pipeline = {**fuzz_media.PIPELINE, "stages": {**stages, "index": {}}, "max_failed": 1.0, "engine": {"workers": 2}}
    pipeline["manifest"] = str(write_manifest(shop / "items.jsonl", entries))
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    workspace, log, temporary = tmp_path / "workspace", tmp_path / "audit.log", tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        "PYTHONPATH": str(hooks),
        "AUDIT_LOG": str(log),
        "TMPDIR": str(temporary),
        "HOME": str(tmp_path / "home"),
        **{name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ},
    }
    written = write_pipeline(tmp_path / "pipeline.yaml", pipeline)
    done = subprocess.run(
        [*CLI, "run", str(written), "--workspace", str(workspace), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not watched.opened()
    assert watched.connections() == 0

    ingest = json.loads(done.stdout)["stages"][0]["balance"]
    assert sum(ingest[state] for state in ("fresh", "failed", "filtered", "duplicate", "pending")) == MEDIA
    events = [line.partition("\t")[::2] for line in log.read_text("utf-8").splitlines()]
    allowed = (
        *(str(tmp_path / name) for name in ("shop", "workspace", "temporary", "home", "hooks", "pipeline.yaml")),
        *(str(Path(__file__).parents[2] / "coldstart"), sys.prefix, sys.base_prefix),
        *("/proc/", "/sys/", "/dev/", "/usr/share/zoneinfo/"),
    )
    # scenedetect looks for the program ffmpeg when it is imported, and never gives it a file
    opened = {place.strip("'\"") for event, place in events if event == "open"}
    opened.discard(str(tmp_path / "files"))  # a scratch folder's, opened below its descriptor when that is removed
    assert any(place.startswith(str(shop)) for place in opened), "the hook is in the workers"
    assert sorted(place for place in opened if not place.startswith(allowed)) == []
    assert [place for event, place in events if event != "open" and "'ffmpeg', '-v', 'quiet'" not in place] == []
    reasons = Counter(
        row.reason for rows in Store(workspace).ledger().values() for row in rows.values() if row.stage == "ingest"
    )
    sys.stdout.write(f"{MEDIA} media, {ingest['fresh']} read, {dict(reasons)}; {len(opened)} files, 0 elsewhere\n")
