"""The remembered SHA-256 of a file."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_models import sha

from coldstart.models import install


def test_digest_is_remembered_until_the_file_changes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    reads: list[str] = []
    real = hashlib.file_digest

    def counted(stream: Any, kind: str) -> object:
        reads.append(kind)
        return real(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert install.file_digest(path) == install.file_digest(path) == sha(b"one")
    assert len(reads) == 2  # too young to be trusted: it could change within one tick of the clock

    monkeypatch.setattr(install, "_SETTLED_NS", -1)
    assert install.file_digest(path) == install.file_digest(path) == install.file_digest(tmp_path / "." / "w.bin")
    assert len(reads) == 3
    assert install.file_digest(path, fresh=True) == sha(b"one")
    assert len(reads) == 4
    path.write_bytes(b"three")
    assert install.file_digest(path) == sha(b"three")


def test_a_file_written_again_in_its_own_length_is_read_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_SETTLED_NS", -1)
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    assert install.file_digest(path) == sha(b"one")
    path.write_bytes(b"two")
    later = path.stat().st_mtime_ns + 1_000_000_000  # whatever the tick of the file system's clock
    os.utime(path, ns=(later, later))
    assert install.file_digest(path) == sha(b"two")


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b"{}", b'{"stamp": [], "sha256": "0"}', b"\xff"])
def test_spoilt_record_is_hashed_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: bytes
) -> None:
    monkeypatch.setattr(install, "_SETTLED_NS", -1)
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    install.file_digest(path)
    (record,) = (home / ".digests").iterdir()
    record.write_bytes(spoilt)
    assert install.file_digest(path) == sha(b"one")
    assert json.loads(record.read_bytes())["sha256"] == sha(b"one")


def test_digest_without_a_place_to_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_SETTLED_NS", -1)
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    monkeypatch.setenv("COLDSTART_MODELS", str(path))
    assert install.file_digest(path) == sha(b"one")
    with pytest.raises(FileNotFoundError):
        install.file_digest(tmp_path / "gone")


def _hash_often(home: str, path: str) -> set[str]:
    os.environ["COLDSTART_MODELS"] = home
    install._SETTLED_NS = -1
    return {install.file_digest(Path(path), fresh=turn % 2 == 0) for turn in range(200)}


@pytest.mark.slow
def test_digest_records_survive_many_processes(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(_hash_often, [(str(home), str(path))] * 3, chunksize=1) == [{sha(b"one")}] * 3
    assert len(list((home / ".digests").iterdir())) == 1
