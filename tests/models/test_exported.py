"""Graphs beside the models: made once, never loaded when they are not as their record says."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from coldstart.errors import ColdstartError
from coldstart.models import exported
from coldstart.models.starter_set import StarterModel


def write(path: Path) -> Mapping[str, str]:
    path.write_bytes(b"a graph")
    return {"maker": "1.0"}


def fail(path: Path) -> Mapping[str, str]:
    path.write_bytes(b"half a gr")
    raise RuntimeError("no such operator")


def test_a_graph_is_made_once_and_recorded(home: Path, table: tuple[StarterModel, ...]) -> None:
    assert exported.examine("text", table=table)[0] == "missing"
    assert exported.ready_graph("text", table=table) is None
    made = exported.make("text", write, table=table)
    assert made.is_relative_to(home / "exported") and made.read_bytes() == b"a graph"
    record = json.loads((made.parent / "record.json").read_text())
    assert (record["source"], record["size_bytes"], record["made_by"]) == (table[0].digest, 7, {"maker": "1.0"})
    assert exported.make("text", fail, table=table) == exported.ready_graph("text", table=table) == made


def test_a_graph_that_is_not_as_recorded_is_not_used_and_is_made_anew(
    home: Path, table: tuple[StarterModel, ...]
) -> None:
    made = exported.make("text", write, table=table)
    for spoil, said in (
        (lambda: made.write_bytes(b"b graph"), f"{made} has SHA-256"),
        (lambda: made.unlink(), f"{made} cannot be read (No such file or directory)"),
        (lambda: (made.parent / "record.json").write_text("{"), "record.json cannot be read"),
        (lambda: rewrite(made.parent / "record.json", source="f" * 64), "names other weights (ffffffffffff…)"),
    ):
        spoil()
        state, why = exported.examine("text", table=table)
        assert state == "damaged" and said in why
        assert exported.ready_graph("text", table=table) is None
        assert exported.make("text", write, table=table).read_bytes() == b"a graph"
        assert exported.examine("text", table=table) == ("ready", "")


def test_a_graph_that_cannot_be_made_leaves_nothing(home: Path, table: tuple[StarterModel, ...]) -> None:
    with pytest.raises(RuntimeError, match="no such operator"):
        exported.make("text", fail, table=table)
    assert exported.examine("text", table=table)[0] == "missing"
    assert [path.name for path in (home / "exported").iterdir() if path.suffix != ".lock"] == []


def test_of_two_at_once_one_makes_it_and_sweeps_what_a_killed_one_left(
    home: Path, table: tuple[StarterModel, ...]
) -> None:
    folder = exported.folder_of("text", table=table)
    (folder.parent / f".{folder.name}.dead.tmp").mkdir(parents=True)
    calls: list[int] = []

    def slowly(path: Path) -> Mapping[str, str]:
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return write(path)

    threads = [threading.Thread(target=exported.make, args=("text", slowly), kwargs={"table": table}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and exported.examine("text", table=table) == ("ready", "")
    assert not list(folder.parent.glob("*.tmp"))


def test_verify_names_a_damaged_graph_and_passes_a_missing_one(home: Path) -> None:
    exported.verify()
    exported.folder_of("image").mkdir(parents=True)
    exported.verify(["text"])
    with pytest.raises(ColdstartError, match=r"graph of efficientnet-lite2 .* is damaged: .*models pull starter$"):
        exported.verify()


def test_a_folder_that_cannot_be_written_is_told_apart(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    assert exported.can_store()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home)
    assert not exported.can_store()


def rewrite(path: Path, **values: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
