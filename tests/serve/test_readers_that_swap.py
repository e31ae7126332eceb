"""While a publication is opened, unknown names are answered soon; a graph that is late or fails holds nothing up."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import coldstart
from coldstart.api.workspace import Workspace
from coldstart.errors import ColdstartError
from coldstart.serve import readers as readers_module
from coldstart.serve.readers import Reader, Readers
from tests.support.catalogue import rows, settings, write_manifest


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    tmp_path = tmp_path_factory.mktemp("shop")
    given = settings(write_manifest(tmp_path / "shop.jsonl", rows(tmp_path, 4)), workers=1)
    del given["stages"]["text"]
    workspace = coldstart.open(tmp_path / "ws", create=True)
    workspace.run(given)
    return workspace


@pytest.mark.slow
def test_an_unknown_name_does_not_wait_for_the_next_publication(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = Readers(shop.uri)
    readers.refresh()
    monkeypatch.setattr(readers_module, "LOOK_S", 0.0)
    opening, go_on = threading.Event(), threading.Event()

    def warm(reader: Reader) -> None:
        opening.set()
        assert go_on.wait(30)

    monkeypatch.setattr(Reader, "warm", warm)

    def ask(reader: Reader) -> None:
        raise ColdstartError("no item 'nobody'", kind="not_found")

    shop.remove(["p1"])
    swap = threading.Thread(target=readers.refresh)
    swap.start()
    try:
        assert opening.wait(30)
        started = time.monotonic()
        with pytest.raises(ColdstartError, match="nobody"):
            readers.answer(ask)
        assert time.monotonic() - started < 10 and swap.is_alive()
    finally:
        go_on.set()
        swap.join()
    assert readers.swaps == 2


@pytest.mark.slow
def test_a_graph_keeps_no_publication_back(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readers = Readers(shop.uri, index="memory")
    readers.refresh()
    asked = []

    def load_graphs(reader: Reader, **options: Any) -> None:
        asked.append(options)
        raise MemoryError

    monkeypatch.setattr(Reader, "load_graphs", load_graphs)
    shop.remove(["p2"])  # drops what is served: requests fail until the next is
    assert readers.refresh() and asked == []
    kept = [readers.current().publication]
    monkeypatch.setattr(Reader, "publications", lambda reader: kept)
    shop.remove(["p3"])
    assert readers.refresh() and asked == [{"build": False, "most_added": readers_module.QUICKLY_ADDED}]
    assert "graphs cannot be made" in caplog.text
    assert "p3" not in [hit.item_id for hit in readers.current().search(item="p0")]


@pytest.mark.slow
def test_a_fault_of_graphs_is_told_at_each_call(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = coldstart.open(shop.uri, index="memory")

    def load_graphs(own: Workspace, **options: Any) -> None:
        raise ColdstartError("faiss is not installed")

    monkeypatch.setattr(Workspace, "load_graphs", load_graphs)
    for _ in range(2):
        with pytest.raises(ColdstartError, match="faiss"):
            workspace.search(item="p0")
    monkeypatch.undo()
    assert len(workspace.published()) > 0
