"""Pulling, checking and refusing models; the pins; the real models where they are at hand.

The real wheels are taken from the folder in `COLDSTART_WHEELS`, or else models pulled before are checked.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from unittest import mock

import platformdirs
import pytest
from tiny_models import CONFIG, MAKE_ROOM, PULL, WEIGHTS, folders, message, sha, states

from coldstart.errors import MissingModel
from coldstart.models import install
from coldstart.models.starter_set import MODELS, OPTIONAL, STARTER, Job, StarterModel, Wheel

DEFAULT_DIR = install.weights_dir()  # before the fixture points it elsewhere


def test_weights_dir_is_in_the_user_cache_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COLDSTART_MODELS", raising=False)
    assert install.weights_dir() == Path(platformdirs.user_cache_dir("coldstart", appauthor=False)) / "models"
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "here"))
    assert install.weights_dir() == tmp_path / "here"


def test_pull_extracts_the_pinned_files_and_nothing_else(
    home: Path, source: Path, table: tuple[StarterModel, ...]
) -> None:
    assert states(table) == ["missing", "missing"]
    seen: list[tuple[str, int, int]] = []
    pulled = install.pull(source=source, progress=lambda *report: seen.append(report), table=table)

    text, speech = install.starter_folder("text", table=table), install.starter_folder("speech", table=table)
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert {name for name in found if not name.startswith(".digests")} == {
        f"{text.name}/w.bin",
        f"{text.name}/1/c.json",
        f"{text.name}/SHA256SUMS",
        f"{speech.name}/model.bin",
        f"{speech.name}/SHA256SUMS",
    }
    assert (text / "w.bin").read_bytes() == WEIGHTS
    assert (speech / "model.bin").read_bytes() == b"first half second half"
    assert (text / "SHA256SUMS").read_text() == f"{sha(CONFIG)}  1/c.json\n{sha(WEIGHTS)}  w.bin\n"
    assert not list(home.parent.rglob("escaped.txt"))
    assert not Path("/tmp/escaped.txt").exists()

    assert pulled == install.model_rows(table=table) == install.verify(table=table)
    assert pulled[1] == install.ModelRow(
        name="tiny-speech",
        job="speech",
        package="tiny-speech-part1 + tiny-speech-part2",
        version="1.0",
        licence="MIT",
        size_bytes=22,
        digest=sha((speech / "SHA256SUMS").read_bytes()),
        origin="https://example.org/speech",
        state="ready",
    )
    half, whole = table[1].wheels[0].size_bytes, table[1].download_bytes
    assert seen == [
        ("tiny-text", table[0].download_bytes, table[0].download_bytes),
        ("tiny-speech", half, whole),
        ("tiny-speech", whole, whole),
    ]


def test_second_pull_asks_nobody(
    home: Path, source: Path, table: tuple[StarterModel, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    install.pull(source=source, table=table)
    monkeypatch.setattr(install, "fetch_wheel", lambda *args: pytest.fail("a wheel was asked for"))
    assert [row.state for row in install.pull(table=table)] == ["ready", "ready"]


def test_one_model_by_name_or_job(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    assert [row.name for row in install.pull("speech", source, table=table)] == ["tiny-speech"]
    assert states(table) == ["missing", "ready"]
    assert [row.name for row in install.verify("tiny-speech", table=table)] == ["tiny-speech"]


def test_unknown_name_is_refused_with_the_nearest(source: Path, table: tuple[StarterModel, ...]) -> None:
    assert message(install.pull, "tiny-txt", source, table=table) == (
        "no starter model is named 'tiny-txt'; did you mean tiny-text?"
    )
    assert message(install.verify, "zzz", table=table) == (
        "no starter model is named 'zzz'; did you mean starter or tiny-text or tiny-speech?"
    )


def test_missing_model_is_refused(home: Path, table: tuple[StarterModel, ...]) -> None:
    assert message(install.starter_folder, "text", table=table) == f"text model tiny-text is not in {home}{PULL}"
    assert message(install.verify, table=table) == (
        f"2 of 2 models cannot be used: tiny-text is not in {home}, tiny-speech is not in {home}{PULL}"
    )


@pytest.mark.parametrize("changed", ["w.bin", "1/c.json", "SHA256SUMS"])
def test_tampered_file_is_refused_and_fetched_again(
    home: Path, source: Path, table: tuple[StarterModel, ...], changed: str
) -> None:
    install.pull(source=source, table=table)
    path = install.starter_folder("text", table=table) / changed
    right = path.read_bytes()
    before = path.stat()
    path.write_bytes(b"X" + right[1:])  # the same size and, by the next line, the same time
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    why = f"is damaged: {path} has SHA-256 {sha(path.read_bytes())[:12]}…, not the pinned {sha(right)[:12]}…"
    assert message(install.starter_folder, "text", table=table) == f"text model tiny-text {why}{PULL}"
    assert message(install.verify, table=table) == f"1 of 2 models cannot be used: tiny-text {why}{PULL}"
    assert states(table) == ["damaged", "ready"]

    install.pull(source=source, table=table)
    assert path.read_bytes() == right
    assert states(table) == ["ready", "ready"]
    assert len(folders(home)) == 2


def test_deleted_file_is_refused_and_fetched_again(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    install.pull(source=source, table=table)
    path = install.starter_folder("text", table=table) / "w.bin"
    path.unlink()
    assert message(install.starter_folder, "text", table=table) == (
        f"text model tiny-text is damaged: {path} cannot be read (No such file or directory){PULL}"
    )
    install.pull(source=source, table=table)
    assert path.read_bytes() == WEIGHTS


def test_half_extracted_folder_does_not_count(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    install.pull(source=source, table=table)
    folder = install.starter_folder("text", table=table)
    (folder / "SHA256SUMS").unlink()
    (folder / "w.bin").write_bytes(WEIGHTS[:100])
    killed = home / f".{folder.name}.abc123.tmp"  # what a killed pull leaves behind
    killed.mkdir()
    (killed / "w.bin").write_bytes(b"half")

    assert states(table) == ["missing", "ready"]
    install.pull(source=source, table=table)
    assert (folder / "w.bin").read_bytes() == WEIGHTS
    assert folders(home) == sorted([folder.name, install.starter_folder("speech", table=table).name])


def test_full_disk_before_and_during(
    home: Path, source: Path, table: tuple[StarterModel, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(install, "extract_files", full)
    assert message(install.pull, source=source, table=table) == (
        f"cannot store tiny-text in {home}: No space left on device{MAKE_ROOM}"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert message(install.pull, source=source, table=table) == (
        f"tiny-text needs 0 MB in {home}, which has 0 MB free{MAKE_ROOM}"
    )
    assert folders(home) == []


def test_folder_that_cannot_be_made(
    tmp_path: Path, source: Path, table: tuple[StarterModel, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "file"))
    assert message(install.pull, source=source, table=table) == (
        f"cannot store tiny-text in {tmp_path / 'file'}: File exists ({tmp_path / 'file'}){MAKE_ROOM}"
    )


def _pull_and_count(source: Path, home: Path, log: Path, table: tuple[StarterModel, ...]) -> list[str]:
    """In a process of its own: pull everything, and leave a line in `log` for each wheel that is asked for."""
    os.environ["COLDSTART_MODELS"] = str(home)
    fetch_wheel = install.fetch_wheel

    def counted(wheel: Wheel, *rest: Any) -> Path:
        with log.open("a") as out:
            out.write(f"{wheel.package}\n")
        return fetch_wheel(wheel, *rest)

    with mock.patch.object(install, "fetch_wheel", counted):
        return [row.state for row in install.pull(source=source, table=table)]


@pytest.mark.slow
def test_concurrent_pulls_fetch_once(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    log = home.parent / "fetched.txt"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.starmap(_pull_and_count, [(source, home, log, table)] * 3, chunksize=1)
    assert results == [["ready", "ready"]] * 3
    assert sorted(log.read_text().split()) == ["tiny-speech-part1", "tiny-speech-part2", "tiny-text"]
    assert len(folders(home)) == 2


def _pull_and_die(source: Path, home: Path, table: tuple[StarterModel, ...]) -> None:
    """In a process of its own: be killed when the first file is half written."""
    os.environ["COLDSTART_MODELS"] = str(home)

    def half(model: StarterModel, archives: object, folder: Path) -> None:
        (folder / model.files[0].path).write_bytes(WEIGHTS[:100])
        os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(install, "extract_files", half):
        install.pull(source=source, table=table)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_pull_is_done_again(home: Path, source: Path, table: tuple[StarterModel, ...]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_pull_and_die, args=(source, home, table))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (leftover,) = folders(home)
    assert leftover.startswith(".tiny-text-")
    assert states(table) == ["missing", "missing"]

    install.pull(source=source, table=table)
    assert states(table) == ["ready", "ready"]
    assert leftover not in folders(home)


def test_pins_of_the_starter_set() -> None:
    assert [model.job for model in STARTER] == ["text", "image", "language", "speech"]
    assert [model.job for model in OPTIONAL] == ["safety-pictures", "multilingual"]
    for model in MODELS:
        assert len({file.path for file in model.files}) == len(model.files)
        for file in model.files:
            path = PurePosixPath(file.path)
            assert not path.is_absolute()
            assert ".." not in path.parts
        for digest in [wheel.sha256 for wheel in model.wheels] + [file.sha256 for file in model.files]:
            assert re.fullmatch("[0-9a-f]{64}", digest)
    heads_and_tails = [(wheel.sha256[:8], wheel.sha256[-3:]) for model in MODELS for wheel in model.wheels]
    assert heads_and_tails == [
        ("b9a0018d", "a54"),
        ("a7f2cb09", "22d"),
        ("bcc81830", "c70"),
        ("cea09ccf", "fcc"),
        ("d4aa3599", "b07"),
        ("1d060aab", "5bd"),
        ("f4b89df3", "a28"),
    ]


def test_an_optional_model_is_pulled_by_its_own_name_alone(home: Path) -> None:
    assert OPTIONAL[0] not in install._choose("starter", MODELS)
    assert install._choose("safety-pictures", MODELS) == install._choose("open_nsfw", MODELS) == [OPTIONAL[0]]
    with pytest.raises(MissingModel, match="run: coldstart models pull safety-pictures"):
        install.starter_folder("safety-pictures")
    with pytest.raises(Exception, match=r"1 of 1 models cannot be used: .*run: coldstart models pull safety-pict"):
        install.verify("open_nsfw")


def test_import_stays_light() -> None:
    heavy = "{'torch', 'lancedb', 'transformers', 'asyncio', 'rich.table'} & set(sys.modules)"
    code = f"import sys, coldstart.models.install, coldstart.cli.models; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("job", ["text", "image", "language", "speech"])
def test_real_models(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = os.environ.get("COLDSTART_WHEELS")
    if given:
        monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path))
        install.pull(job, Path(given))
    else:
        monkeypatch.setenv("COLDSTART_MODELS", str(DEFAULT_DIR))
        if next(row for row in install.model_rows() if row.job == job).state == "missing":
            pytest.skip("no real wheels: set COLDSTART_WHEELS, or run: coldstart models pull starter")
    (row,) = install.verify(job)
    folder = install.starter_folder(job)
    assert row.digest == sha((folder / "SHA256SUMS").read_bytes())
    assert row.size_bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
