"""Faults of the machine, as they come out of the libraries: one line that says what to do, and exit code 3."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from catalogue import CLI, coldstart, rows, settings, write_manifest, write_pipeline

from coldstart.errors import ColdstartError, MachineFault, machine_fault
from coldstart.store import Store

pytest.importorskip("resource", reason="limits of a process are a matter of Unix")
GO_ON = "finished rows are stored, run the same command again to go on"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline of fake encoders over twelve photos."""
    manifest = write_manifest(tmp_path / "shop" / "items.jsonl", rows(tmp_path / "shop", 12))
    return write_pipeline(tmp_path / "pipeline.yaml", settings(manifest, workers=1))


def limited(limit: str, most: int, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process with a limit of the system on it."""
    program = f"import resource; resource.setrlimit(resource.{limit}, ({most}, {most})); {CLI[-1]}"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **environment},
    )


DISK_FULL = "the disk is full{}: free some space, or put the workspace or TMPDIR on another disk; " + GO_ON
MADE = "give a folder that can be made and written"
LANCE_FULL = "lance error: LanceError(IO): No space left on device (os error 28), structural.rs:258:9"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError(LANCE_FULL), DISK_FULL.format("")),
        (OSError(errno.ENOSPC, "No space left on device", "/data/part"), DISK_FULL.format(" (/data/part)")),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DISK_FULL.format("")),
        (
            OSError(errno.EIO, "Input/output error", "/data/part"),
            "the disk cannot be read (/data/part): Input/output error; look at the disk, or restore a copy",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/data/part"),
            "cannot write (/data/part): Read-only file system; take another folder, or make this one writable",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/part"),
            "no permission (/data/part): run it as the owner, or let this user read and write there",
        ),
    ],
)
def test_what_libraries_raise_is_one_line(error: Exception, message: str) -> None:
    assert str(machine_fault(error)) == message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 512 failed"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        ImportError("libx264.so.165: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_memory_that_runs_out_is_named_whoever_states_it(error: Exception) -> None:
    text = str(machine_fault(error))
    assert text.startswith("memory ran out") and text.endswith(GO_ON)


def test_the_cause_counts_and_not_what_a_library_makes_of_it() -> None:
    with pytest.raises(ImportError) as raised:
        try:
            raise ImportError("_lance.so: failed to map segment from shared object: Cannot allocate memory")
        except ImportError:
            raise ImportError("please install pylance") from None
    assert str(machine_fault(raised.value)).startswith("memory ran out")


def test_a_fault_of_an_item_or_of_the_user_is_none_of_the_machine() -> None:
    quoted = ColdstartError("row 3: title 'No space left on device'")
    for error in (quoted, ValueError("shapes (3,) (4,)"), FileNotFoundError(errno.ENOENT, "No such file", "a.jpg")):
        assert machine_fault(error) is None


def test_an_error_of_ours_keeps_its_words() -> None:
    with pytest.raises(ColdstartError) as raised:
        try:
            raise OSError(errno.EROFS, "Read-only file system", "/shop/.coldstart.lock")
        except OSError as error:
            raise ColdstartError("cannot write to workspace /shop: Read-only file system") from error
    assert str(machine_fault(raised.value)) == "cannot write to workspace /shop: Read-only file system"
    with pytest.raises(ColdstartError) as raised:
        try:
            raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
        except OSError:
            raise ColdstartError("no stage 'x'") from None
    assert machine_fault(raised.value) is None, "what was handled before is not its cause"


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("merge", "append"):
        write = getattr(Store, name)

        def full(self: Store, table: str, *args: Any, write: Any = write, **options: Any) -> None:
            if table.startswith("stage.text"):
                raise RuntimeError(LANCE_FULL)
            write(self, table, *args, **options)

        monkeypatch.setattr(Store, name, full)
    workspace = tmp_path / "w"
    ended = coldstart("run", pipeline, "--workspace", workspace)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (3, f"error: {DISK_FULL.format('')}")
    monkeypatch.undo()
    again = coldstart("run", pipeline, "--workspace", workspace)
    assert again.returncode == 0, again.stderr
    assert Store(workspace).count("catalog") == 12


@pytest.mark.slow
def test_a_workspace_moved_away_under_a_run_is_not_begun_anew(
    tmp_path: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "w"
    save = Store.save_run

    def move(self: Store, stage: str, *args: Any) -> None:
        if stage == "image":
            shutil.move(workspace, tmp_path / "moved")
        save(self, stage, *args)

    monkeypatch.setattr(Store, "save_run", move)
    ended = coldstart("run", pipeline, "--workspace", workspace)
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1] == (
        f"error: workspace {workspace} was moved or removed while it was written: put it back, or name its new place, "
        "and run the same command again to go on"
    )
    assert not workspace.exists()
    monkeypatch.undo()
    assert coldstart("run", pipeline, "--workspace", tmp_path / "moved").returncode == 0


@pytest.mark.slow
def test_too_few_open_files(tmp_path: Path, pipeline: Path) -> None:
    ended = limited("RLIMIT_NOFILE", 16, "run", pipeline, "--workspace", tmp_path / "w")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        3,
        "error: this process may not open more files than 16: raise the limit with `ulimit -n 4096`, then run the same "
        "command again to go on",
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space hold on Linux")
def test_too_little_memory(tmp_path: Path, pipeline: Path) -> None:
    ended = limited("RLIMIT_AS", 900_000_000, "run", pipeline, "--workspace", tmp_path / "w")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        3,
        "error: memory ran out (`ulimit -v` allows this process 0.9 GB): close other programs, take fewer workers "
        f"(--set engine.workers=1) or a smaller model; {GO_ON}",
    )


@pytest.mark.slow
def test_no_temporary_folder(tmp_path: Path, pipeline: Path) -> None:
    missing = str(tmp_path / "missing")
    ended = limited("RLIMIT_CORE", 0, "run", pipeline, "--workspace", tmp_path / "w", TMPDIR=missing)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        3,
        f"error: TMPDIR={missing} is no folder that can be written: make it, or unset TMPDIR",
    )


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("COLDSTART_MODELS", raising=False)
    folder = home / ".cache" / "coldstart" / "models"
    with pytest.raises(OSError) as raised:
        folder.mkdir(parents=True)
    assert str(machine_fault(raised.value)) == (
        f"cannot write ({raised.value.filename}), below HOME: "
        "set HOME or XDG_CACHE_HOME to a folder that can be written"
    )
    assert isinstance(machine_fault(raised.value), MachineFault)


def test_an_error_does_not_steer_the_terminal() -> None:
    ended = coldstart("status", "--workspace", "no\x1b[2Jwhere")
    assert ended.returncode == 1
    assert "\x1b" not in ended.stderr and "no [2Jwhere" in ended.stderr


def test_a_workspace_name_that_is_too_long_is_an_error_of_one_line(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    name = tmp_path / ("a" * 300)
    for words in (("ingest", manifest), ("status",)):
        done = coldstart(*words, "--workspace", name)
        message = f"error: cannot open workspace {name}: File name too long: {MADE}\n"
        assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are Unicode there")
def test_a_workspace_name_that_is_no_utf8_is_written_and_read(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "red mug"}])
    name = f"{tmp_path}/\udcffz"
    assert coldstart("ingest", manifest, "--workspace", name).returncode == 0
    assert coldstart("status", "--workspace", name).returncode == 0


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_folder_that_is_no_workspace_is_named(tmp_path: Path, command: str) -> None:
    done = coldstart(command, "--workspace", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: no workspace at {tmp_path}, which has no tables: make one with `coldstart run PIPELINE --workspace "
        f"{tmp_path}`\n",
    )
    done = coldstart(command, "--workspace", "memory://shop")
    wanted = "error: workspace memory://shop: nothing is kept in memory: name a folder\n"
    assert (done.returncode, done.stderr) == (1, wanted)
