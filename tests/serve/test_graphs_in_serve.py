"""A server with an index in memory: the store answers until the graph is there, and it follows what is published."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest

import coldstart
from coldstart.api.workspace import Workspace
from coldstart.errors import ColdstartError
from coldstart.serve.measures import Measures
from coldstart.serve.readers import Readers
from coldstart.store import graph_file
from tests.support.catalogue import rows, settings, write_manifest

COUNT = 300
"""Enough for an index to be trained."""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(graph_file, "graph_folder", lambda: tmp_path / "graphs")
    given = settings(write_manifest(tmp_path / "shop.jsonl", rows(tmp_path, COUNT)), workers=1)
    del given["stages"]["text"]
    given["stages"]["index"] = {"exact_below": 0, "index_type": "IVF_RQ"}
    workspace = coldstart.open(tmp_path / "ws", create=True)
    workspace.run(given)
    return workspace


def wait_for_graphs(readers: Readers) -> None:
    for _ in range(200):
        published = readers.current().published()
        if published.indexed_spaces and all(map(published.has_graph, published.indexed_spaces)):
            return
        time.sleep(0.05)
    raise AssertionError("no graph came")


@pytest.mark.slow
def test_answers_come_from_memory_and_a_removed_item_is_never_found(
    shop: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coldstart.serve")
    readers = Readers(shop.uri, poll_s=0.05, index="memory")
    readers.start()
    try:
        expected = shop.search(item="p4", top_k=5, exact=True)
        early = readers.current().search(item="p4", top_k=5)
        wait_for_graphs(readers)
        found = readers.current().search(item="p4", top_k=5)
        assert [hit.item_id for hit in found] == [hit.item_id for hit in early] == [hit.item_id for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert 'coldstart_graph_in_memory{space="' in Measures(readers).text().decode()
        made = [record.fields["made"] for record in caplog.records if record.message == "graph in memory"]  # type: ignore[attr-defined]
        assert set(made) == {"built"}
        gone, tag = found[0].item_id, readers.current().tag
        shop.remove([gone])
        readers.refresh()
        assert readers.current().tag != tag
        assert gone not in [hit.item_id for hit in readers.current().search(item="p4", top_k=50)]
        wait_for_graphs(readers)
        assert gone not in [hit.item_id for hit in readers.current().search(item="p4", top_k=50)]
        made = [record.fields["made"] for record in caplog.records if record.message == "graph in memory"]  # type: ignore[attr-defined]
        assert made[-1] == "opened"
    finally:
        readers.stop()
    in_memory = coldstart.open(shop.uri, index="memory")
    queries = in_memory.published().unit_vectors(["image"], ["p4", "p7"])["image"]
    nearest, exact = (in_memory.nearest("image", queries, top_k=3, exact=own) for own in (False, True))
    assert nearest["query_index"].to_pylist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(nearest["_distance"], exact["_distance"], atol=1e-6)
    assert max(nearest["_distance"][place].as_py() for place in (0, 3)) < 1e-6
    with pytest.raises(ColdstartError, match=r"vectors of shape \(32,\): give finite numbers"):
        in_memory.nearest("image", queries[0])


def test_an_index_elsewhere_is_refused(tmp_path: Path) -> None:
    coldstart.open(tmp_path / "ws", create=True)
    with pytest.raises(ColdstartError, match=r"^index 'memry' \(did you mean 'memory'\?\): give one of disk, memory$"):
        coldstart.open(tmp_path / "ws", index="memry")
    with pytest.raises(ColdstartError, match="index 'ram'"):
        Readers(str(tmp_path / "ws"), index="ram")
