"""Rankings, ranked lists and counts of showings, as HTTP, `coldstart.connect` and tools of agents give them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import write_manifest
from in_process import InProcess
from starlette.testclient import TestClient

import coldstart
from coldstart.api import Workspace
from coldstart.api.remote import RemoteWorkspace
from coldstart.errors import ColdstartError
from coldstart.rank.service import Ranked, RankedItem
from coldstart.serve.bounded import MOST_BYTES, size
from coldstart.serve.catalogue import Catalogue
from coldstart.serve.http import create_app
from coldstart.serve.readers import Reader, Readers
from coldstart.serve.settings import ServeSettings
from coldstart.serve.tools import Tools
from coldstart.serve.user_lists import by_events

ITEMS, USERS, SHOWN, DAY, START = 24, 110, 2_000, 86_400, 1_700_006_400
AT = START + 30 * DAY


def test_outcomes_that_are_named_make_another_order() -> None:
    def one(item: str, rank: int, click: float, like: float) -> RankedItem:
        p = {"click": click, "like": like}
        return RankedItem(item, rank, "known", float(np.log(click * like)), p, {"click": (0.1, 0.9)})

    given = Ranked(
        "u", 0, "trees", (one("a", 1, 0.8, 0.5), one("b", 2, 0.5, 0.6), RankedItem("x", None, "unknown", None, {}, {})),
        {"click": True, "like": False}, {"click": 1.0, "like": 1.0}, True, 3, 0,
    )  # fmt: skip
    found = by_events(given, {"like": None})
    assert [(item.item_id, item.rank, item.p) for item in found.items] == [
        ("b", 1, {"like": 0.6}), ("a", 2, {"like": 0.5}), ("x", None, {})
    ]  # fmt: skip
    assert (found.calibrated, found.weights, found.items[0].interval) == ({"like": False}, {"like": 1.0}, {})
    heavy = by_events(given, {"like": 3.0, "click": 1.0})
    assert heavy.items[0].score == pytest.approx(3 * np.log(0.6) + np.log(0.5))
    with pytest.raises(ColdstartError, match=r"'buy' is no outcome of the fit: give some of click, like"):
        by_events(given, {"buy": 1.0})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A published workspace whose users like items of their own shelf, with fits on showings and on interactions."""
    folder, drawn = tmp_path_factory.mktemp("ranked"), np.random.default_rng(0)
    items = [
        {"item_id": f"p{n}", "title": f"article {n}", "category": f"shelf {n % 4}", "kind": "product", "price": n + 1}
        for n in range(ITEMS + 1)  # the last one is new
    ]
    shown, actions = [], []
    for number in range(SHOWN):
        user, item = int(drawn.integers(USERS)), int(drawn.integers(ITEMS))
        click = int(drawn.random() < 0.1 + 0.6 * (user % 4 == item % 4))
        row = {"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": START + number * 8 * DAY // SHOWN}
        shown.append({**row, "click": click, "like": int(click and drawn.random() < 0.7)})
        if click:
            actions.append({**row, "timestamp": row["timestamp"] - 20 * DAY, "event": "like"})
    opened = coldstart.open(folder / "ws", create=True)
    text = {"stage": "embed", "encoder": "fake:16", "input": "text"}
    manifest = str(write_manifest(folder / "items.jsonl", items))
    opened.run({"manifest": manifest, "engine": {"workers": 1}, "stages": {"ingest": {}, "text": text, "index": {}}})
    opened.ingest_interactions(write_manifest(folder / "log.jsonl", actions))
    opened.ingest_impressions(write_manifest(folder / "shown.jsonl", shown))
    opened.finetune_rank(model="trees", overrides=["rank.rounds=8", "union.min_users=30"])
    opened.run()
    return opened


@pytest.fixture(scope="module")
def client(shop: Workspace) -> Iterator[TestClient]:
    app = create_app(ServeSettings(shop.uri), Readers(shop.uri))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


@pytest.mark.slow
def test_lists_are_loaded_at_the_start_and_what_comes_before_is_told_so(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, make_list = threading.Event(), Reader._make_list
    monkeypatch.setattr("coldstart.serve.readers.LISTS_WAIT_S", 0.05)
    monkeypatch.setattr(Reader, "_make_list", lambda own: (go_on.wait(60), make_list(own))[1])
    readers = Readers(shop.uri)
    with TestClient(create_app(ServeSettings(shop.uri), readers), base_url="http://localhost") as client:
        try:
            waits = client.get("/readyz")
            assert (waits.status_code, waits.json()["ready"]) == (503, False)
            assert waits.json()["why"] == "the models of lists are being loaded; searches are answered already"
            assert client.get("/v1/search", params={"text": "article"}).status_code == 200
            for path, body in (("/v1/recommend", {"user": "u1"}), ("/v1/rank", {"user": "u1"})):
                told = client.post(path, json=body)
                assert (told.status_code, told.json()["kind"], told.headers["retry-after"]) == (503, "busy", "1")
                assert "models of lists are being loaded, since" in told.json()["detail"]
            assert readers.current()._union_service is None
        finally:
            go_on.set()
        readers.current()._lists_loaded.wait(120)
        assert client.get("/readyz").json()["ready"]
        reader = readers.current()
        loaded = reader._union_service, reader._union_verdict, reader._rank_service
        assert None not in loaded, "no request came yet"
        for path in ("/v1/recommend", "/v1/rank"):
            assert client.post(path, json={"user": "u1"}).status_code == 200
        assert (reader._union_service, reader._union_verdict, reader._rank_service) == loaded


@pytest.fixture(scope="module")
def remote(client: TestClient) -> RemoteWorkspace:
    return RemoteWorkspace("http://localhost", transport=InProcess(client))


@pytest.fixture(scope="module")
def tools(shop: Workspace) -> Tools:
    readers = Readers(shop.uri)
    readers.refresh()
    return Tools(Catalogue(readers), users=True)


@pytest.mark.slow
def test_a_ranking_is_that_of_the_python_interface(
    shop: Workspace, client: TestClient, remote: RemoteWorkspace
) -> None:
    asked = ["p1", "p2", f"p{ITEMS}", "nowhere", "p1"]
    here = shop.rank("u1", asked, at=AT)
    zoned = datetime.fromtimestamp(AT, UTC)
    for at in (AT, zoned, zoned.replace(tzinfo=None)):  # one without a zone is in UTC
        assert remote.rank("u1", asked, at=at) == shop.rank("u1", asked, at=at) == here
    given = client.post("/v1/rank", json={"user": "u1", "items": asked, "at": "2023-12-15T00:00:00"}).json()
    assert given["at"] == datetime.fromtimestamp(AT, UTC).isoformat() == "2023-12-15T00:00:00+00:00"
    names = ("item_id", "rank", "state", "score", "p", "interval")
    assert [{name: one[name] for name in names} for one in given["items"]] == json.loads(
        json.dumps([asdict(one) for one in here.items])
    )
    by_item = {one["item_id"]: one for one in given["items"]}
    assert (by_item["p1"]["title"], by_item["p1"]["price"], by_item["nowhere"]["title"]) == ("article 1", 2.0, None)
    assert by_item[f"p{ITEMS}"]["state"] == "new"
    stranger = client.post("/v1/rank", json={"user": "nobody", "items": ["p1"]}).json()
    assert not stranger["known_user"] and "ranked by the items alone" in stranger["notes"][0]


@pytest.mark.slow
def test_pages_of_a_ranking_join_to_the_whole_catalogue(
    client: TestClient, remote: RemoteWorkspace, tools: Tools
) -> None:
    whole = client.post("/v1/rank", json={"user": "u1", "limit": 1000, "at": AT}).json()
    assert whole["total"] == ITEMS + 1 == len(whole["items"]) and whole["next_cursor"] is None
    ids = [one["item_id"] for one in whole["items"]]
    first = client.post("/v1/rank", json={"user": "u1", "limit": 20}).json()
    rest = {"user": "u1", "limit": 20, "cursor": first["next_cursor"]}
    assert "give `at`" in str(client.post("/v1/rank", json=rest).json())
    second = client.post("/v1/rank", json={**rest, "at": first["at"]}).json()
    joined = [one["item_id"] for page in (first, second) for one in page["items"]]
    assert sorted(joined) == sorted(ids) and second["next_cursor"] is None
    refused = client.post("/v1/rank", json={**rest, "at": first["at"], "user": "u2"})
    assert (refused.status_code, "of another query" in refused.json()["detail"]) == (400, True)
    assert [one.item_id for one in remote.rank("u1", at=AT).items] == ids
    shelf = client.post("/v1/rank", json={"user": "u1", "where": "category = 'shelf 1'", "at": AT}).json()
    assert [one["item_id"] for one in shelf["items"]] == [one for one in ids if int(one[1:]) % 4 == 1]
    page = tools.rank_items("u1", limit=20, at=datetime.fromtimestamp(AT, UTC))
    more = tools.rank_items("u1", limit=20, at=datetime.fromisoformat(page.at), cursor=page.next_cursor)
    assert [one.item_id for one in (*page.items, *more.items)] == ids and (page.more, more.more) == (True, False)
    with ThreadPoolExecutor(8) as pool:  # the ranker is one for all threads
        found = list(pool.map(lambda _: [one.item_id for one in remote.rank("u1", at=AT).items], range(16)))
    assert found == [ids] * 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"user": "u1", "items": []}, 422, "body.items"),
        ({"user": "u1", "items": ["p1"], "where": "price < 2"}, 400, "leave them out, or leave out items"),
        ({"user": "u1", "where": "price > 900"}, 400, "no item of the catalogue meets the conditions"),
        ({"user": "u1", "where": "prise > 2"}, 400, "did you mean price"),
        ({"user": "u1", "events": ["buy"]}, 400, "give some of click, like"),
        ({"user": "u1", "events": {}}, 422, "body.events"),
        ({"user": "u1", "items": ["p1"], "at": -5}, 400, "give seconds since 1970"),
        ({"user": "u1", "items": ["p1"], "at": 1_700_000_000_000}, 400, "not milliseconds"),
        ({"user": "u1", "items": ["p1"], "at": "soon"}, 422, "body.at"),
        ({"items": ["p1"]}, 422, "body.user"),
        ({"user": "u1", "itms": ["p1"]}, 422, "body.itms"),
        ({"user": "u1", "limit": 1001}, 422, "body.limit"),
    ],
)
def test_problems_of_a_ranking(client: TestClient, body: dict[str, Any], status: int, words: str) -> None:
    answer = client.post("/v1/rank", json=body)
    known = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in f"{known['detail']}: {known['next']}"


@pytest.mark.slow
def test_a_catalogue_of_too_many_candidates_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldstart.serve.user_lists.MOST_RANKED", 5)
    told = client.post("/v1/rank", json={"user": "u1"}).json()
    assert "over 5 items of the catalogue are candidates" in told["detail"]
    assert "a condition that fewer meet" in told["next"]


@pytest.mark.slow
def test_ranked_lists_say_where_items_came_from(
    shop: Workspace, client: TestClient, remote: RemoteWorkspace, tools: Tools
) -> None:
    asked = {"rank": "on", "rerank": "mmr", "deadline_ms": 10_000}
    here, there = (one.recommend("u1", top_k=5, seen="keep", **asked) for one in (shop, remote))
    assert [(one.item_id, one.details) for one in there.items] == [(one.item_id, one.details) for one in here.items]
    assert there.ranked == here.ranked and here.ranked is not None and here.ranked["calibrated"]
    given = client.post("/v1/recommend", json={"user": "u1", "limit": 5, "seen": "keep", **asked}).json()
    known = [one for one in given["items"] if one["sources"]]
    assert known and {"channel", "rank"} == set(known[0]["sources"][0]) and set(known[0]["p"]) == {"click", "like"}
    near = [own for one in known for own in one["nearest"]]
    assert near and all(own["title"] == f"article {own['item_id'][1:]}" for own in near)
    told = tools.recommend("u1", rank="on", rerank="mmr", limit=5)
    assert told.ranked is not None and told.ranked.on
    assert told.reranked is not None and (told.reranked.on, told.reranked.why) == (True, "by mmr")
    assert told.items[0].sources and set(told.items[0].p) == {"click", "like"}
    assert set(told.calibrated) == {"click", "like"}
    assert tools.recommend(history=["p1"], rank="off").ranked is None
    small = tools.recommend("u1", rank="on", limit=50, max_bytes=1_500)
    assert size(small.model_dump(mode="json")) <= 1_500
    many = tools.rank_items("u1", limit=50, max_bytes=MOST_BYTES)
    assert size(many.model_dump(mode="json")) <= MOST_BYTES


@pytest.mark.slow
def test_showings_are_counted_for_every_interface(
    shop: Workspace, client: TestClient, remote: RemoteWorkspace, tools: Tools
) -> None:
    here = shop.impression_summary()
    assert here is not None and remote.impression_summary() == here
    given = client.get("/v1/impressions").json()
    assert (given["rows"], given["days"], given["catalogue_items"]) == (SHOWN, here.days, ITEMS + 1)
    click = {"stated": SHOWN, "above_zero": here.signals["click"][1]}
    assert given["outcomes"]["click"] == click == tools.impressions().outcomes["click"].model_dump()


@pytest.mark.slow
def test_requests_do_not_wait_while_the_ranker_reads_what_is_new(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = Readers(shop.uri)
    readers.refresh()
    reader = readers.current()
    monkeypatch.setattr("coldstart.serve.readers.POLL_S", 0.0)
    monkeypatch.setattr("coldstart.serve.readers._RENEWAL_SHARE", 0.0)
    before = reader.rank("new user", ["p1"], at=AT)
    first, held = reader._ranking(), threading.Event()
    load = Workspace._ranking
    monkeypatch.setattr(Workspace, "_ranking", lambda self, given=None: (held.wait(60), load(self, given))[1])
    shop.add_interactions([{"user_id": "new user", "item_id": "p1", "timestamp": START, "event": "like"}])
    assert [reader._ranking() for _ in range(3)] == [first] * 3, "it is being renewed"
    renewal = reader._rank_renewal
    held.set()
    renewal.join(60)
    after = reader.rank("new user", ["p1"], at=AT)
    assert (before.actions, after.actions) == (0, 1) and reader._ranking() is not first
    monkeypatch.setattr("coldstart.serve.readers.POLL_S", 600.0)
    assert reader.recommend("u1", top_k=1).items[0].details["p"]
    assert reader._shown() is reader._ranking(), "lists have no ranker of their own"


@pytest.mark.slow
def test_users_are_ranked_for_only_where_that_was_allowed(shop: Workspace) -> None:
    pytest.importorskip("mcp", reason="needs the extra mcp")
    import anyio
    from mcp import Client

    from coldstart.serve.mcp import build_server

    readers = Readers(shop.uri)
    readers.refresh()
    catalogue = Catalogue(readers)

    async def main(users: bool) -> Any:
        async with Client(build_server(Tools(catalogue, users=users))) as client:
            names = {one.name for one in (await client.list_tools()).tools}
            found = await client.call_tool("rank_items", {"user": "u1", "item_ids": ["p1"], "at": "2023-12-15"})
            if users:
                wrong = await client.call_tool("rank_items", {"user": "u1", "at": "soon"})
                assert wrong.content[0].text == "rank_items: at 'soon': write a time such as 2026-05-01T12:00:00Z"
            counts = await client.call_tool("impressions", {})
            report = await client.read_resource("coldstart://report/impressions")
            return names, found, counts.structured_content, json.loads(report.contents[0].text)

    names, found, counts, report = anyio.run(main, True)
    assert {"rank_items", "impressions"} <= names and found.structured_content["items"][0]["item_id"] == "p1"
    assert counts["rows"] == report["rows"] == SHOWN
    names, found, *_ = anyio.run(main, False)
    assert "rank_items" not in names and found.is_error
    with pytest.raises(ColdstartError, match="start the server with --users"):
        Tools(catalogue).rank_items("u1")


@pytest.mark.slow
def test_a_workspace_without_showings_says_so(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "ws", create=True)
    text = {"stage": "embed", "encoder": "fake:16", "input": "text"}
    manifest = str(write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "one", "kind": "product"}]))
    opened.run({"manifest": manifest, "engine": {"workers": 1}, "stages": {"ingest": {}, "text": text, "index": {}}})
    app = create_app(ServeSettings(opened.uri), Readers(opened.uri))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert client.get("/v1/impressions").json()["rows"] == 0
        told = client.post("/v1/rank", json={"user": "u", "items": ["a"]})
        remote = RemoteWorkspace("http://localhost", transport=InProcess(client))
        assert remote.impression_summary() is None
        with pytest.raises(ColdstartError) as there:
            remote.rank("u", ["a"])
    with pytest.raises(ColdstartError) as here:
        opened.rank("u", ["a"])
    said = str(here.value).replace(f"workspace {opened.uri}", "this workspace")
    assert (told.status_code, str(there.value)) == (409, said)
