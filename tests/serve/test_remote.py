"""`coldstart.connect`: each method answers as that of `coldstart.open`, and faults have the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from catalogue import rows, settings, write_manifest
from in_process import InProcess
from starlette.testclient import TestClient

import coldstart
from coldstart.api.connection import TRIES
from coldstart.api.remote import RemoteWorkspace
from coldstart.core.error_fields import error_fields
from coldstart.errors import ColdstartError
from coldstart.serve.http import create_app
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings

Ask = Callable[[Any], Any]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, RemoteWorkspace, Path]]:
    folder = tmp_path_factory.mktemp("remote")
    entries = rows(folder, 8)
    entries[-1]["image"] = "missing.jpg"
    workspace = coldstart.open(folder / "ws", create=True)
    workspace.run(settings(write_manifest(folder / "shop.jsonl", entries), workers=1))
    app = create_app(ServeSettings(str(folder / "ws")), Readers(str(folder / "ws")))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield workspace, RemoteWorkspace("http://localhost", transport=InProcess(client)), folder


@pytest.mark.slow
def test_answers_are_those_of_the_python_interface(both: tuple[Any, RemoteWorkspace, Path]) -> None:
    local, remote, folder = both
    asks: list[Ask] = [
        lambda shop: shop.search(text="article 3", top_k=4),
        lambda shop: shop.search(text="article", where="category = 'shelf 1'", hybrid=False, spaces=["text"]),
        lambda shop: shop.search(item="p2"),
        lambda shop: shop.search(image=folder / "p4.jpg", top_k=3, exact=True),
        lambda shop: shop.search(text="article 3", top_k=4, exact=True),
    ]
    for ask in asks:
        here, there = ask(local), ask(remote)
        assert [(hit.item_id, hit.title, dict(hit.ranks)) for hit in there] == [
            (hit.item_id, hit.title, dict(hit.ranks)) for hit in here
        ]
        assert [hit.score for hit in there] == pytest.approx([hit.score for hit in here], abs=1e-5)
    assert [(one.stage, one.balance) for one in remote.status()] == [(one.stage, one.balance) for one in local.status()]
    names = ("stage", "item_id", "state", "reason", "detail")
    assert [[row[name] for name in names] for row in remote.failures()] == [
        [row[name].replace(f"{folder}/", "") for name in names] for row in local.failures()
    ]
    assert [one["tag"] for one in remote.publications()] == [one.tag for one in local.publications()]
    assert remote.item("p1").fields["title"] == local.item("p1").fields["title"]
    for ask in (
        lambda shop: shop.review(),
        lambda shop: shop.review(state="failed", limit=1),
        lambda shop: shop.decisions(),
        lambda shop: replace(shop.label(["a shelf", "an article"], where="category = 'shelf 1'"), labels=[]),
        lambda shop: [
            (one.item_id, one.label) for one in shop.label({"a": ["article 3"], "b": ["x"]}, items=["p3"]).labels
        ],
    ):
        assert str(ask(remote)) == str(ask(local)).replace(f"{folder}/", "")  # a server names no folder of its own


@pytest.mark.slow
def test_lists_are_ordered_anew_by_a_server_too_but_by_no_generator_of_a_stranger(
    both: tuple[Any, RemoteWorkspace, Path],
) -> None:
    local, remote, _ = both
    for asked in ("mmr", "auto", None):
        here, there = (one.recommend(history=["p1"], rerank=asked, deadline_ms=10_000) for one in (local, remote))
        assert [one.item_id for one in there.items] == [one.item_id for one in here.items[:10]]
        assert _without_ms(there.rerank) == _without_ms(here.rerank)
        assert (there.rerank is None) == (asked is None)
    for given, words in (
        ({"rerank": "mmr", "explore": 0.5}, "exclude each other"),
        ({"rerank": "best"}, "rerank"),
        ({"rerank": "llm", "rerank_generator": "openai:spy@http://attacker.example"}, "rerank_generator"),
    ):
        with pytest.raises(ColdstartError, match=words):
            remote.recommend(history=["p1"], **given)


def _without_ms(found: Any) -> Any:
    return None if found is None else {name: value for name, value in found.items() if name != "ms"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        lambda shop: shop.search(),
        lambda shop: shop.search(text="a", item="p1"),
        lambda shop: shop.search(text="a", image="p1.jpg"),
        lambda shop: shop.search(image="p1.jpg", video="p1.mp4"),
        lambda shop: shop.search(text="a", top_k=0),
        lambda shop: shop.search(text="a", where="nope < 1"),
        lambda shop: shop.search(text="a", spaces=["nope"]),
        lambda shop: shop.search(item="nope"),
        lambda shop: shop.search(image="/nope.jpg"),
        lambda shop: shop.match(),
        lambda shop: shop.label(["a"]),
        lambda shop: shop.recommend(),
    ],
)
def test_faults_have_the_words_of_the_python_interface(both: tuple[Any, RemoteWorkspace, Path], ask: Ask) -> None:
    told = []
    for shop in both[:2]:
        with pytest.raises(ColdstartError) as caught:
            ask(shop)
        fields = error_fields(caught.value)
        told.append((fields["message"], fields["kind"] or "usage"))
    assert told[0] == told[1]


@pytest.mark.parametrize(("method", "tries"), [("GET", TRIES), ("DELETE", 1)])
def test_only_what_may_be_repeated_is_sent_again(monkeypatch: pytest.MonkeyPatch, method: str, tries: int) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    sent = []

    def busy(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(503, json={"detail": "try again", "kind": "busy"})

    remote = RemoteWorkspace("http://shop", transport=httpx.MockTransport(busy))
    with pytest.raises(ColdstartError, match="try again") as caught:
        remote.item("a") if method == "GET" else remote.remove("a")
    assert (sent, caught.value.kind) == ([method] * tries, "busy")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    remote = RemoteWorkspace("http://shop", transport=httpx.MockTransport(lambda _: httpx.Response(200, json={})))
    with pytest.raises(ColdstartError, match=r"^file .*a\.jpg: there is no such file: give the path of one$"):
        remote.add_items([{"item_id": "a", "image": "a.jpg"}], files={"a.jpg": tmp_path / "a.jpg"})


def test_an_address_without_its_scheme_is_told() -> None:
    with pytest.raises(ColdstartError, match=r"write http://127\.0\.0\.1:8123$"):
        coldstart.connect("127.0.0.1:8123")


def test_another_server_is_told_from_one_of_coldstart() -> None:
    remote = RemoteWorkspace("http://shop", transport=httpx.MockTransport(lambda _: httpx.Response(200, text="<html>")))
    with pytest.raises(ColdstartError, match="no server of coldstart"):
        remote.health()
