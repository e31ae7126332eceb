"""Files of graphs: what a full disk, and links on a level that faiss has no table for, come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from coldstart.store.graph_file import LINKS, Links, load_links, save_links


def links(levels: int = 1, count: int = 40) -> Links:
    rows = np.arange(count, dtype=np.uint64)
    return Links(rows, np.full(count, levels, np.int32), np.full(count * LINKS * (1 + levels), -1, np.int32), 0)


def test_no_level_is_taken_that_faiss_has_no_table_for() -> None:
    levels = faiss.IndexHNSWFlat(8, LINKS).hnsw.assign_probas.size()
    assert links(levels).fault() is None
    assert links(levels + 1).fault() == "a row is on no level, or on too many"


def test_links_that_do_not_fit_on_the_disk_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graphs" / "a.safetensors"
    assert save_links(path, links())

    def fill(arrays: Any, name: str, metadata: Any) -> None:
        Path(name).write_bytes(b"\0" * 100)
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", fill)
    assert not save_links(path, replace(links(), entry=7))
    assert list(path.parent.iterdir()) == [path]
    kept = load_links(path)
    assert kept is not None and kept.entry == 0
