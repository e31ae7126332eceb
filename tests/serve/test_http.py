"""The HTTP interface over a shop of fakes: answers, problems, tokens, limits, and what follows a publication."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import coldstart
from coldstart.serve.http import create_app
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings, parse_token
from tests.support.catalogue import rows, settings, write_manifest

pytestmark = pytest.mark.slow  # a workspace is made

READ, WRITE, REVIEW = (f"{name}-0123456789abcdef" for name in ("read", "write", "review"))
MARKUP = "<img src=x onerror=alert(1)> \u202eevil"


def build(folder: Path, count: int) -> Path:
    """A workspace of fakes with `count` photos, one of them with markup in its title and a slash in its id."""
    entries = rows(folder, count)
    entries[-1] |= {"item_id": "a/b c", "title": MARKUP}
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
        "/v1/items/nope/report", "/v1/items/p1/media/7", "/openapi.json", "/readyz",
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
    assert words in body["detail"]
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


def test_tokens_and_scopes(shop: Path) -> None:
    tokens = tuple(
        parse_token(secret, scopes, name)
        for secret, scopes, name in ((READ, ("read",), "r"), (WRITE, ("write",), "w"), (REVIEW, ("review",), "v"))
    )
    with client_of(shop, tokens=tokens) as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        reading = [
            path
            for path, route in client.get("/openapi.json", headers=bearer(READ)).json()["paths"].items()
            if "get" in route
        ]
        assert len(reading) > 12
        for path in reading:
            concrete = re.sub(r"\{place\}", "0", re.sub(r"\{\w+_id\}", "p1", path))
            if concrete in ("/healthz", "/readyz"):
                continue
            assert client.get(concrete).status_code == 401, path
            assert client.get(concrete, headers=bearer("x" * 20)).status_code == 401, path
            assert client.get(concrete, headers=bearer(WRITE)).status_code == 403, path
            assert client.get(concrete, headers=bearer(READ)).status_code not in (401, 403), path
        assert client.get("/metrics").status_code == 401
        assert READ not in client.get("/metrics", headers=bearer(READ)).text


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
    assert "coldstart run" in answer.json()["detail"]


def test_the_description_names_every_route_once(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    names = [way["operationId"] for route in described["paths"].values() for way in route.values()]
    assert len(names) == len(set(names))
    for path, route in described["paths"].items():
        for way in route.values():
            assert way["description"].rstrip().endswith("."), path
    assert "Problem" in described["components"]["schemas"]
    json.dumps(described)
