"""What killed runs left is swept by the next one; what is in use, or not ours, stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from coldstart.core import scratch
from coldstart.core.scratch import scratch_folder, sweep
from coldstart.store import ITEMS, Store
from coldstart.store.fragments import table_version, write_fragments

ROWS = pa.table({"item_id": ["a"], "row_key": ["k"]})

HOLD = """
import sys
from pathlib import Path
from coldstart.core.scratch import scratch_folder
with scratch_folder(sys.argv[1], Path(sys.argv[2])) as folder:
    print(folder.parent.name, flush=True)
    sys.stdin.read()
"""


def make_old(path: Path, age_s: float = 2 * 86_400.0) -> Path:
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_the_folder_of_a_killed_process_goes_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, "estimate", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        make_old(tmp_path / name)
        assert sweep(tmp_path) == 0
        assert names_in(tmp_path) == [name]
        process.kill()
    assert names_in(tmp_path) == [name]
    assert sweep(tmp_path) == 1
    assert names_in(tmp_path) == []


def test_a_folder_is_there_for_its_step_alone(tmp_path: Path) -> None:
    with scratch_folder("fit", tmp_path) as folder:
        (folder / "x").write_bytes(b"")
        assert sweep(tmp_path) == 0
        make_old(folder.parent)
        assert sweep(tmp_path) == 0  # it is locked
        assert (folder / "x").is_file()
    assert names_in(tmp_path) == []
    with pytest.raises(ZeroDivisionError), scratch_folder("fit", tmp_path):
        raise ZeroDivisionError
    assert names_in(tmp_path) == []


def test_only_folders_of_this_package_go_and_young_ones_stay(tmp_path: Path) -> None:
    kept = [
        "coldstart-estimate-young000",
        "coldstart-estimate-link0000",
        "coldstart-shop-abcdefgh",
        "coldstart-fit",
        "x",
    ]
    for name in kept:
        if "link" in name:
            (tmp_path / name).symlink_to(tmp_path / "x")
        else:
            (tmp_path / name / "data").mkdir(parents=True)
            if "young" not in name:
                make_old(tmp_path / name)
    for name in ("coldstart-media-abcdefgh", f".{'f' * 32}.q1w2e3r4"):  # as coldstart 0.1 left them
        (tmp_path / name / "data").mkdir(parents=True)
        make_old(tmp_path / name)
    assert sweep(tmp_path) == 2
    assert names_in(tmp_path) == sorted(kept)
    assert (tmp_path / "x" / "data").is_dir()
    assert sweep(tmp_path / "none") == 0


def test_a_draft_that_a_kill_left_in_the_cache_goes_with_the_next_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    left = tmp_path / "models" / "fitted" / "coldstart-fit-abcdefgh"
    (left / "files").mkdir(parents=True)
    (left / ".lock").write_bytes(b"")
    make_old(left)
    saved = Store(tmp_path / "w", create=True).artifacts.save("align", "k", {"x": b""}, {})
    assert names_in(saved.folder.parent) == [saved.digest]


def test_upkeep_sweeps_files_of_no_version_half_made_tables_and_temporary_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "coldstart-estimate-abcdefgh"
    left.mkdir()
    (left / ".lock").write_bytes(b"")
    make_old(left)
    store = Store(tmp_path / "w", create=True)
    store.append(ITEMS, ROWS)
    where = table_version(store, ITEMS)
    assert where is not None
    write_fragments(where, ROWS)  # and killed before it was made part of the table
    data = tmp_path / "w" / "items.lance" / "data"
    assert len(names_in(data)) == 2
    (tmp_path / "w" / "ledger.lance" / "data").mkdir(parents=True)
    store.maintain(timedelta(hours=1))
    assert len(names_in(data)) == 1
    assert store.keys(ITEMS) == {"a": "k"}
    assert names_in(tmp_path / "w") == ["items.lance"]
    assert not left.exists()
    assert scratch.sweep() == 0
