"""A peer in a process of its own, which starts, warms up, and works when it is asked, so that rounds take turns.

The two sides speak lines of JSON over pipes. The first line is the job; the peer answers with what is to be known of it
(`versions`, and what its runner adds). Each further line is a question, and its answer holds at least `seconds`, as the
peer itself counted them. An answer with `error` ends the talk. What the peer prints goes to a file, never between the
lines. The environment of a peer lies in `.peers/NAME`; packages that it does not bring itself it finds in ours.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
MISSING = "not installed (make peers)"


class PeerMissing(Exception):  # noqa: N818  (a state of this machine)
    """The peer's environment is not there."""


class PeerFailed(Exception):  # noqa: N818  (of the peer, not of ours)
    """The peer stopped, or answered with an error; the message ends with the last of what it printed."""


def python(environment: str | None) -> Path:
    """The interpreter of a peer's environment; None is ours.

    Raises:
        PeerMissing: it is not there.
    """
    if environment is None:
        return Path(sys.executable)
    path = PEERS / environment / "bin" / "python"
    if not (PEERS / environment / ".installed").is_file() or not path.exists():
        raise PeerMissing(f"{environment}: {MISSING}")
    return path


class Peer:
    """One peer at work, from `with` to its end.

    Args:
        module: what the peer's interpreter runs (`python -m`), such as `benchmarks.peers.clip_retrieval`.
        job: what it gets first; JSON.
        environment: name under `.peers`; None is ours.
        threads: of OpenMP and BLAS, set before the process starts.
        limit_s: seconds that one answer may take.
        variables: more of the environment, for libraries that are looked for at the start.
    """

    def __init__(
        self,
        module: str,
        job: Mapping[str, Any],
        *,
        environment: str | None = None,
        threads: int | None = None,
        limit_s: float = 600.0,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [str(python(environment)), "-m", module]
        self._job, self._limit_s = job, limit_s
        counts = dict.fromkeys(THREADS, str(threads)) if threads else {}
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        self._environ = {**os.environ, **offline, **counts, **(variables or {})}
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Peer:
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        try:
            self.about = self.ask(**self._job)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def ask(self, **question: Any) -> dict[str, Any]:
        """One question and its answer.

        Raises:
            PeerFailed: it answered with an error, ended, or took longer than `limit_s`.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"{self._name} ended: {self._last()}") from None
        line = self._line()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self._name}: {answer['error']}")
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        found, end = b"", time.monotonic() + self._limit_s
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not ready.select(max(end - time.monotonic(), 0)):
                    raise PeerFailed(f"{self._name}: no answer in {self._limit_s:g} s: {self._last()}")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise PeerFailed(f"{self._name} ended: {self._last()}")
                found += piece
        return found

    @property
    def _name(self) -> str:
        return self._command[-1].rpartition(".")[2]

    def _last(self, lines: int = 5) -> str:
        self._said.seek(0)
        return " | ".join(self._said.read().decode(errors="replace").strip().splitlines()[-lines:]) or "it said nothing"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # the runner ends when nothing more is asked
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()
