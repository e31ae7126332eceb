"""The HTTP interface over a shop of fakes: answers, problems, tokens, limits, and what follows a publication."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import coldstart
from coldstart.errors import ColdstartError
from coldstart.evaluate.rows import Row
from coldstart.evaluate.workspace import EvaluationReport
from coldstart.metrics.ranking import Interval
from coldstart.serve.catalogue import Catalogue, SearchQuery
from coldstart.serve.gate import Gate
from coldstart.serve.http import create_app
from coldstart.serve.measures import Measures
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings, parse_token
from coldstart.store import Store
from tests.support.catalogue import rows, settings, write_manifest

pytestmark = pytest.mark.slow  # a workspace is made

READ, WRITE, REVIEW = (f"{name}-0123456789abcdef" for name in ("read", "write", "review"))
ROW = re.compile(r"^\| `((?:GET|POST|DELETE) /[^`]*)` \| ([a-z ]+) \|", re.MULTILINE)
MARKUP = "<img src=x onerror=alert(1)> \u202eevil"


def build(folder: Path, count: int) -> Path:
    """A workspace of fakes with `count` photos, one of them with markup in its title and a slash in its id."""
    entries = rows(folder, count)
    entries[-1] |= {"item_id": "a/b c", "title": MARKUP}
    entries.append({"item_id": "gone", "title": "without a file", "image": str(folder / "deep" / "gone.jpg")})
    workspace = coldstart.open(folder / "ws", create=True)
    workspace.run(settings(write_manifest(folder / "shop.jsonl", entries), workers=1))
    return folder / "ws"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shop"), 12)


def client_of(shop: Path, **given: Any) -> TestClient:
    app = create_app(ServeSettings(str(shop), **given), Readers(str(shop), poll_s=0.05))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(shop: Path) -> Iterator[TestClient]:
    with client_of(shop, max_body_bytes=2000, max_upload_bytes=50_000) as found:
        yield found


def test_a_search_answers_as_the_python_interface_does(client: TestClient, shop: Path) -> None:
    workspace = coldstart.open(shop)
    for ask in ({"text": "article 3 of shelf 3"}, {"item": "p4"}):
        expected = workspace.search(**ask, top_k=5)
        given = client.get("/v1/search", params={**ask, "limit": 5}).json()
        assert [(hit["item_id"], hit["ranks"]) for hit in given["hits"]] == [
            (h.item_id, dict(h.ranks)) for h in expected
        ]
        assert [hit["score"] for hit in given["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert given["publication"] == "pub-000001"
        assert client.post("/v1/search", json={**ask, "limit": 5}).json() == given


def test_pages_of_a_search_are_the_parts_of_one_long_answer(client: TestClient) -> None:
    whole = client.get("/v1/search", params={"text": "article", "limit": 12}).json()
    assert len(whole["hits"]) == 12
    assert whole["next_cursor"] is None
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = client.get(
            "/v1/search", params={"text": "article", "limit": 5, **({"cursor": cursor} if cursor else {})}
        )
        found += [hit["item_id"] for hit in page.json()["hits"]]
        cursor = page.json()["next_cursor"]
    assert cursor is None
    assert found == [hit["item_id"] for hit in whole["hits"]]


def test_a_cursor_of_another_query_is_refused(client: TestClient) -> None:
    cursor = client.get("/v1/search", params={"text": "article", "limit": 2}).json()["next_cursor"]
    endless = base64.urlsafe_b64encode(b'[Infinity, "a", "b"]').decode()
    for given in (
        {"text": "shelf", "cursor": cursor},
        {"text": "article", "cursor": "x" * 20},
        {"text": "article", "cursor": endless},
    ):
        answer = client.get("/v1/search", params={**given, "limit": 2})
        assert (answer.status_code, answer.json()["kind"]) == (400, "usage")


def test_items_are_listed_by_id_with_their_total(client: TestClient) -> None:
    first = client.get("/v1/items", params={"where": "category = 'shelf 1'", "limit": 1}).json()
    assert (first["total"], [one["item_id"] for one in first["items"]]) == (2, ["p1"])
    second = client.get(
        "/v1/items", params={"where": "category = 'shelf 1'", "limit": 1, "cursor": first["next_cursor"]}
    ).json()
    assert ([one["item_id"] for one in second["items"]], second["next_cursor"]) == (["p8"], None)


def test_an_item_with_a_slash_in_its_id_has_all_its_pages(client: TestClient) -> None:
    found = client.get("/v1/items/a%2Fb%20c").json()
    assert found["item"]["title"] == MARKUP
    assert found["media"] == [{"role": "image", "href": "/v1/items/a%2Fb%20c/media/0"}]
    assert client.get(found["media"][0]["href"]).headers["content-type"] == "image/jpeg"
    assert client.get("/v1/items/a%2Fb%20c/report").json()["report"]["item_id"] == "a/b c"
    assert client.get("/v1/items/a/b%20c").status_code == 404


def test_no_answer_names_a_place_of_the_server(client: TestClient, shop: Path) -> None:
    paths = [
        "/v1/search?text=article", "/v1/items/p1", "/v1/items/p1/report", "/v1/items/p1/similar", "/v1/items",
        "/v1/status",
        "/v1/ledger", "/v1/publications", "/v1/items/p1/audience", "/v1/recommend?user=u", "/v1/items/nope", "/metrics",
        "/v1/items/gone/report", "/v1/review", "/v1/decisions", "/v1/map", "/v1/counts", "/v1/evaluations",
        "/v1/items/nope/report", "/v1/items/p1/media/7", "/openapi.json", "/readyz", "/v1/impressions",
    ]  # fmt: skip
    for path in paths:
        answer = client.get(path)
        assert str(shop.parent) not in answer.text, path
        assert answer.status_code < 500, path


@pytest.mark.parametrize(
    ("path", "status", "kind", "words"),
    [
        ("/v1/search", 400, "usage", "exactly one of"),
        ("/v1/search?text=%20", 422, "input", "blank"),
        ("/v1/search?text=a&where=prise<2", 400, "usage", "did you mean price"),
        ("/v1/search?text=a&where=1;drop", 400, "usage", "where"),
        ("/v1/search?text=a&limit=101", 422, "input", "less than or equal to 100"),
        ("/v1/search?text=a&space=none", 404, "not_found", "none"),
        ("/v1/search?item=p99", 404, "not_found", "p99"),
        ("/v1/items/p99", 404, "not_found", "p99"),
        ("/v1/items/p1/media/7", 404, "not_found", "it has 1"),
        ("/v1/items/p1/audience", 409, "not_ready", "no interactions"),
        ("/v1/recommend?user=u1", 404, "not_found", "u1"),
        ("/v1/nothing", 404, "not_found", "/v1/nothing"),
        ("/v1/search?text=a&wher=price", 422, "input", "did you mean"),
        ("/v1/status?x=1", 422, "input", "there are none"),
    ],
)
def test_problems_have_the_words_of_the_command_line(
    client: TestClient, path: str, status: int, kind: str, words: str
) -> None:
    answer = client.get(path)
    body = answer.json()
    assert (answer.status_code, body["status"], body["kind"]) == (status, status, kind)
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in f"{body['detail']}: {body['next']}"
    assert body["request_id"] == answer.headers["x-request-id"]


def test_a_fault_of_the_program_says_nothing_of_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(shop) as client:
        monkeypatch.setattr("coldstart.serve.catalogue.Catalogue.runs", lambda *_: 1 / 0)
        answer = client.get("/v1/runs")
    assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
    assert "division" not in answer.text


def test_a_client_that_has_the_answer_gets_none_again(client: TestClient) -> None:
    tag = client.get("/v1/items/p1").headers["etag"]
    again = client.get("/v1/items/p1", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert "etag" not in client.get("/v1/status").headers


def test_media_that_are_sent_are_searched_by_and_bounded(client: TestClient, shop: Path) -> None:
    photo = (shop.parent / "p5.jpg").read_bytes()
    found = client.post("/v1/search/media", files={"file": ("../../etc/x", photo)}, data={"limit": "1"}).json()
    assert [hit["item_id"] for hit in found["hits"]] == ["p5"]
    empty = client.post("/v1/search/media", files={"file": ("a", b"")})
    assert (empty.status_code, empty.json()["kind"]) == (422, "input")
    text = client.post("/v1/search/media", files={"file": ("a.jpg", b"no picture at all")})
    assert (text.status_code, text.json()["where"]) == (422, "video a.jpg")
    assert "/files/" not in text.text
    assert client.post("/v1/search/media", files={"file": ("a", b"x" * 60_000)}).status_code == 413
    assert client.post("/v1/search", content=b"{" + b" " * 3000).status_code == 413


def test_a_body_without_a_length_is_bounded_as_it_comes(client: TestClient) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1000
            yield b" " * 1000

    answer = client.post("/v1/search", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["kind"] == "input"


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_pages_of_other_sites_cannot_call_the_server(client: TestClient, header: dict[str, str]) -> None:
    answer = client.post("/v1/search", json={"text": "a"}, headers=header)
    assert answer.status_code in (403, 421)
    assert "access-control-allow-origin" not in answer.headers


def test_no_request_makes_a_fault_of_the_server(client: TestClient) -> None:
    strange = client.post("/v1/search", json={"text": "a"}, headers={"Origin": "http://["})
    assert strange.status_code == 403
    long = client.post(
        "/v1/search", content=b'{"' + b"k" * 1500 + b'": 1}', headers={"Content-Type": "application/json"}
    )
    assert (long.status_code, len(long.json()["where"]) < 200) == (422, True)
    many = client.post("/v1/search/media", files=[("file", ("a", b"x"))] * 1001)
    assert many.status_code in (400, 413)
    for number in range(5):
        client.request(f"FOO{number}", "/v1/items")
    assert "FOO" not in client.get("/metrics").text


def test_allowed_pages_may_ask_before_they_call(shop: Path) -> None:
    tokens = (parse_token(READ, ("read",), "r"),)
    with client_of(shop, tokens=tokens, allowed_origins=("https://shop.example",)) as client:
        for origin, status in (("https://shop.example", 200), ("https://evil.example", 401)):
            ask = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            assert client.options("/v1/items", headers=ask).status_code == status
            assert client.get("/v1/items", headers={"Origin": origin}).status_code == 401


def test_work_that_was_given_up_counts_until_it_ends(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun = threading.Event(), []

    def wait(*_: object) -> None:
        begun.append(1)
        go_on.wait(20)

    monkeypatch.setattr("coldstart.serve.catalogue.Catalogue.runs", wait)
    monkeypatch.setattr("coldstart.serve.http.THREADS", 1)
    with client_of(shop, deadline_s=0.05) as client:
        assert [client.get("/v1/runs").status_code for _ in range(3)] == [504] * 3
        assert len(begun) == 1
        go_on.set()
        while client.get("/v1/publications").status_code == 504:
            pass


def test_bodies_that_do_not_come_keep_nobody_from_an_answer(shop: Path) -> None:
    app = create_app(ServeSettings(str(shop), in_flight=1), Readers(str(shop)))

    async def stalled() -> tuple[int, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            begun, end = asyncio.Event(), asyncio.Event()

            async def parts() -> AsyncIterator[bytes]:
                yield b"{"
                begun.set()
                await end.wait()
                yield b"}"

            slow = asyncio.create_task(http.post("/v1/search", content=parts()))
            await begun.wait()
            meanwhile = await http.get("/v1/items")
            end.set()
            return meanwhile.status_code, (await slow).status_code

    app.state.catalogue.readers.refresh()
    assert asyncio.run(stalled()) == (200, 422)


class Closed:
    """Queue that takes nothing in."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> None:
            if name not in ("start", "close"):
                raise ColdstartError("the queue is full: send this again", kind="busy")

        return refuse


def test_tokens_and_scopes(shop: Path) -> None:
    tokens = tuple(
        parse_token(secret, scopes, name)
        for secret, scopes, name in ((READ, ("read",), "r"), (WRITE, ("write",), "w"), (REVIEW, ("review",), "v"))
    )
    queue: Any = Closed()
    app = create_app(ServeSettings(str(shop), tokens=tokens), Readers(str(shop), poll_s=0.05), queue)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        described = client.get("/openapi.json", headers=bearer(READ)).json()["paths"]
        ways = [(way, path) for path, route in described.items() for way in route if path.startswith("/v1")]
        assert len(ways) > 30
        for way, path in ways:
            concrete = re.sub(r"\{place\}", "0", re.sub(r"\{\w+_id\}", "p1", path))
            assert client.request(way, concrete).status_code == 401, (way, path)
            assert client.request(way, concrete, headers=bearer("x" * 20)).status_code == 401, (way, path)
            for secret, scope in ((READ, "read"), (WRITE, "write"), (REVIEW, "review")):
                status = client.request(way, concrete, headers=bearer(secret)).status_code
                allowed = scope in scopes_of(way, path)
                assert (status != 403, status != 401) == (allowed, True), (way, path, scope, status)
        assert client.get("/metrics").status_code == 401
        assert READ not in client.get("/metrics", headers=bearer(READ)).text
        mine = client.get("/v1/me", headers=bearer(REVIEW)).json()
        assert mine == {"name": "v", "scopes": ["review"], "writable": True}
        bare = client.post("/v1/decisions", json={"item_id": "p1", "action": "reject"}, headers=bearer(REVIEW)).json()
        assert bare["detail"] == "body.decision.reason: Field required"
        decision = {"item_id": "p1", "action": "reject", "reason": "x", "by": "another"}
        assert "'v'" in client.post("/v1/decisions", json=decision, headers=bearer(REVIEW)).json()["detail"]


def scopes_of(way: str, path: str) -> tuple[str, ...]:
    """The scopes that may use a path: a new one that only reads needs nothing here."""
    if path == "/v1/me":
        return ("read", "write", "review")
    if path.startswith("/v1/decisions") and way != "get":
        return ("review",)
    if path in ("/v1/review", "/v1/decisions", "/v1/jobs/{job_id}"):
        return ("read", "review")
    asks = ("/v1/search", "/v1/search/media", "/v1/match/media", "/v1/recommend", "/v1/rank", "/v1/label")
    return ("read",) if way == "get" or path in asks else ("write",)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_too_many_requests_at_one_time_are_told_to_come_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("coldstart.serve.catalogue.Catalogue.runs", lambda *_: go_on.wait(20) and None)
    with client_of(shop, in_flight=1, deadline_s=20) as client:

        def wait() -> None:
            while client.get("/v1/runs").status_code == 503:
                pass  # the others were there before

        waiting = threading.Thread(target=wait)
        waiting.start()
        for _ in range(2000):
            answer = client.get("/v1/publications")
            if answer.status_code == 503:
                break
        go_on.set()
        waiting.join(20)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/v1/publications").status_code == 200
        assert client.get("/healthz").status_code == 200


def test_an_answer_that_takes_too_long_ends(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("coldstart.serve.catalogue.Catalogue.runs", lambda *_: go_on.wait(20) and None)
    with client_of(shop, deadline_s=0.1) as client:
        answer = client.get("/v1/runs")
        go_on.set()
    assert (answer.status_code, answer.json()["kind"]) == (504, "busy")


def test_the_server_measures_what_it_answers(client: TestClient) -> None:
    client.get("/v1/search", params={"text": "article"})
    text = client.get("/metrics").text
    count = re.search(r'coldstart_request_seconds_count\{method="GET",route="/v1/search",status="200"\} (\d+)', text)
    assert count is not None
    assert int(count[1]) >= 1
    assert "coldstart_items_served 12.0" in text


def test_a_publication_is_followed_and_a_rollback_too(tmp_path: Path) -> None:
    shop = build(tmp_path, 6)
    with client_of(shop) as client:
        assert client.get("/readyz").json() == {"ready": True, "publication": "pub-000001", "items": 6, "why": None}
        entries = rows(tmp_path, 9)
        coldstart.open(shop).run(settings(write_manifest(tmp_path / "shop.jsonl", entries), workers=1))
        assert wait_for(client, "pub-000002")["items"] == 10
        assert client.get("/v1/items/p8").json()["publication"] == "pub-000002"
        coldstart.open(shop).rollback()
        assert wait_for(client, "pub-000001")["items"] == 6
        assert client.get("/v1/items/p8").status_code == 404


def test_what_a_publication_holds_leaves_memory_with_its_last_request(shop: Path) -> None:
    readers = Readers(str(shop))
    readers.refresh()
    Catalogue(readers).search(SearchQuery(text="lamp"))
    held = [weakref.ref(one) for one in (readers.current(), readers.current().published()._held)]
    gc.collect()  # what faults of the first searches left
    gc.disable()
    try:
        readers._reader = None
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


def wait_for(client: TestClient, tag: str) -> dict[str, Any]:
    for _ in range(20_000):
        found: dict[str, Any] = client.get("/readyz").json()
        if found["publication"] == tag:
            return found
    raise AssertionError(f"{tag} is not served: {found}")


def test_a_workspace_without_a_publication_says_what_to_do(tmp_path: Path) -> None:
    coldstart.open(tmp_path / "ws", create=True)
    with client_of(tmp_path / "ws") as client:
        assert client.get("/readyz").status_code == 503
        answer = client.get("/v1/search", params={"text": "a"})
    assert (answer.status_code, answer.json()["kind"]) == (409, "not_ready")
    assert "coldstart run" in answer.json()["next"]


def test_the_map_places_each_item_and_keeps_its_place(client: TestClient) -> None:
    whole = client.get("/v1/map", params={"space": "text"}).json()
    assert (whole["total"], whole["shown"], len(whole["explained"])) == (12, 12, 2)
    assert max(map(abs, whole["x"] + whole["y"])) == 1.0
    some = client.get("/v1/map", params={"space": "text", "where": "category = 'shelf 1'"})
    assert some.json()["item_id"] == ["p1", "p8"]
    for name in ("x", "y"):
        assert some.json()[name] == [whole[name][whole["item_id"].index(one)] for one in ("p1", "p8")]
    assert {some.json()["categories"][one] for one in some.json()["category"]} == {"shelf 1"}
    assert client.get("/v1/map?space=text", headers={"If-None-Match": some.headers["etag"]}).status_code == 304
    assert client.get("/v1/map?space=none").status_code == 404


def test_counts_are_of_publications_and_of_weeks(client: TestClient) -> None:
    (row,) = client.get("/v1/counts").json()["rows"]
    names = ("name", "items", "without_text", "without_media", "copies")
    assert [row[name] for name in names] == ["pub-000001", 12, 0, 0, 0]
    assert row["categories"]["shelf 1"] == 2
    weeks = client.get("/v1/counts?by=week").json()["rows"]
    assert sum(week["items"] for week in weeks) in (0, 12)  # fakes may have no time


def test_labels_are_given_and_not_stored(client: TestClient, shop: Path) -> None:
    ask = {"classes": ["article 3 of shelf 3", "something else"], "items": ["p3", "a/b c"], "spaces": ["text"]}
    found = client.post("/v1/label", json=ask).json()
    assert [one["item_id"] for one in found["labels"]] == ["p3", "a/b c"]
    assert found["labels"][0]["best"] == "article 3 of shelf 3"
    assert sum(found["counts"].values()) == sum(one["label"] is not None for one in found["labels"])
    assert "stage.label" not in coldstart.open(shop).tables()
    for fault, words in (
        ({"classes": ["a"]}, "give 2 to 200"),
        ({"items": ["p3", ""]}, "item ''"),
        ({"where": "x"}, "both"),
    ):
        answer = client.post("/v1/label", json=ask | fault)
        assert (answer.status_code in (400, 404), words in answer.text) == (True, True), answer.text


def test_evaluations_are_those_that_were_kept_and_no_others(client: TestClient, shop: Path) -> None:
    workspace = coldstart.open(shop)
    row = Row("index", "Question", value=Interval(1.0, 0.9, 1.0), n=40, verdict="level")
    made_at = "2026-09-01T00:00:00+00:00"
    report = EvaluationReport("ws", {"product": 12}, made_at, "pub-000001", None, "x", True, [row], [])
    workspace.keep_evaluation(report)
    store = Store(shop)
    with store.lock():
        store.save_run("evaluate all", datetime.now(UTC), 1, {"rows": [{"capability": 7}], "made_at": "x"})
    found = client.get("/v1/evaluations").json()
    (one,) = found["evaluations"]
    assert (one["is_current"], one["rows"][0]["value"]["low"], len(found["notes"])) == (True, 0.9, 1)
    assert "evaluate all" not in {run["stage"] for run in client.get("/v1/runs").json()["runs"]}


def test_a_fault_of_a_request_looks_for_no_other_publication(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(Readers, "refresh", lambda _, **__: looked.append(threading.current_thread().name))
    for path in ("/v1/search?text=a&where=prise<2", "/v1/search?text=%20", "/v1/search"):
        assert client.get(path).status_code in (400, 422)
    assert {*looked} <= {"coldstart-publications"}
    assert client.get("/v1/items/nope").status_code == 404


def test_heads_and_hints(client: TestClient) -> None:
    head, whole = client.head("/v1/items"), client.get("/v1/items")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
    for answer, next in (
        (client.post("/v1/search", content=b'{"text": "a"}'), "Content-Type: application/json"),
        (client.get("/docs"), "/openapi.json"),
        (client.delete("/v1/status"), "use GET"),
    ):
        assert next in answer.json()["next"]


def test_a_head_of_a_file_does_not_read_it() -> None:
    sent: list[Any] = []
    readers: Any = None

    async def file(scope: Any, receive: Any, send: Any) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def main() -> None:
        async def keep(message: Any) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        scope = {"type": "http", "method": "HEAD", "path": "/", "raw_path": b"/", "query_string": b""}
        headers = [(b"host", b"localhost")]
        gate = Gate(file, ServeSettings("x"), Measures(readers))
        await gate({**scope, "headers": headers, "client": ("127.0.0.1", 1)}, None, keep)  # type: ignore[arg-type]

    asyncio.run(main())
    assert [(one["type"], one.get("body", b"")) for one in sent] == [
        ("http.response.start", b""),
        ("http.response.body", b""),
    ]


def test_the_guide_has_a_row_of_each_path(shop: Path) -> None:
    queue: Any = Closed()
    described = create_app(ServeSettings(str(shop)), Readers(str(shop)), queue).openapi()["paths"]
    wanted = {
        (f"{way.upper()} {path}", " or ".join(scopes_of(way, path)) if path.startswith("/v1") else "none")
        for path, route in described.items()
        for way in route
    }
    guide = (Path(__file__).parents[2] / "docs/how-to/serve.md").read_text("utf-8")
    rows = {(way, "read or write or review" if scope == "any" else scope) for way, scope in ROW.findall(guide)}
    assert rows == wanted


def test_the_description_names_every_route_once(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    names = [way["operationId"] for route in described["paths"].values() for way in route.values()]
    assert len(names) == len(set(names))
    for path, route in described["paths"].items():
        for way in route.values():
            assert way["description"].rstrip().endswith("."), path
            assert way["description"].startswith(way["summary"]), path
    assert "Problem" in described["components"]["schemas"]
    json.dumps(described)
