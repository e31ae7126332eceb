"""The Model Context Protocol by the SDK's own client: in process, over HTTP and over stdio."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from agent_shop import ORDER, make_workspace, open_tools

pytest.importorskip("mcp", reason="needs the extra mcp")

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitResult

from coldstart.serve.bounded import BYTES, MOST_BYTES, TEXT, TITLE, size
from coldstart.serve.mcp import build_server, http_app
from coldstart.serve.settings import ServeSettings, parse_token
from coldstart.serve.spool import Job
from coldstart.serve.tools import Tools

pytestmark = pytest.mark.slow  # a workspace is made

MESSAGE = 32_000
"""Bytes of a message of the protocol."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("agents"))


@pytest.fixture(scope="module")
def tools(shop: Path) -> Tools:
    return open_tools(shop)


def in_process(tools: Tools, ask: Callable[[Client], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with Client(build_server(tools)) as client:
            return await ask(client)

    return anyio.run(main)


def call(tools: Tools, name: str, **arguments: Any) -> Any:
    """Structured answer of one call."""
    result = in_process(tools, lambda client: client.call_tool(name, arguments))
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def fault(tools: Tools, name: str, **arguments: Any) -> str:
    result = in_process(tools, lambda client: client.call_tool(name, arguments))
    assert result.is_error
    return str(result.content[0].text)


def test_tools_say_that_they_read_alone_and_that_texts_are_data(tools: Tools) -> None:
    listed = in_process(tools, lambda client: client.list_tools()).tools
    names = {one.name for one in listed}
    assert {"about", "search", "item", "similar", "match", "recommend", "status", "explain_item"} <= names
    assert {"compare_items", "aggregate", "ledger", "list_items", "copies", "review", "impressions"} <= names
    assert not {"audience", "rank_items"} & names
    assert all(one.annotations.read_only_hint and not one.annotations.destructive_hint for one in listed)
    assert all("untrusted_" in one.description and one.output_schema for one in listed)


def test_users_are_answered_about_only_where_that_was_allowed(tools: Tools, shop: Path) -> None:
    assert "--users" in fault(tools, "recommend", user="u0")
    assert "u0" not in json.dumps(call(tools, "recommend", history=["p00"]))
    opened = open_tools(shop, users=True)
    assert call(opened, "audience", item_id="p20", limit=3)["people"]
    assert call(opened, "recommend", user="u0", limit=3)["items"]


def test_answers_hold_what_the_catalogue_holds(tools: Tools) -> None:
    about = call(tools, "about")
    assert about["items"] == 37
    fields = {one["untrusted_name"]: one for one in about["fields"]}
    assert fields["attributes.colour"]["untrusted_values"][:2] == ["Red", "Blue"]
    assert (fields["price"]["least"], fields["price"]["greatest"]) == ("5.0", "92.0")
    cheapest = call(tools, "list_items", where="category = 'Hats'", order_by="price", limit=2)
    assert [one["item_id"] for one in cheapest["items"]] == ["p02", "p05"]
    assert cheapest["total"] == 10
    groups = call(tools, "aggregate", measure="avg", of="price", group_by="attributes.colour", where="price < 30")
    assert groups["items"] == 9
    assert {one["untrusted_group"]: one["value"] for one in groups["groups"]} == {
        "Red": 17.0, "Blue": 14.0, "Green": 17.0, "Black": 20.0
    }  # fmt: skip
    assert call(tools, "aggregate", where="array_has(tags, 'sale')")["value"] == 8
    assert call(tools, "aggregate", measure="max", of="created_at")["value"] == "2026-09-28T12:00:00Z"
    compared = call(tools, "compare_items", item_ids=["p00", "p04"])
    assert "attributes.colour" in compared["untrusted_same"]
    assert {one["untrusted_field"] for one in compared["differences"]} >= {"price", "category", "title"}
    explained = call(tools, "explain_item", item_id="p00")
    assert explained["served"]
    assert {one["state"] for one in explained["stages"]} == {"fresh"}
    found = call(tools, "search", text="Red Shoe number 0", limit=3)
    assert found["items"][0]["item_id"] == "p00"
    assert call(tools, "similar", item_id="p00", limit=3)["items"][0]["item_id"] != "p00"


@pytest.mark.parametrize("name", ["list_items", "search"])
def test_pages_join_to_the_whole_list(tools: Tools, name: str) -> None:
    given: dict[str, Any] = {"text": "number"} if name == "search" else {"order_by": "price", "descending": True}

    async def read(client: Client) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            result = (await client.call_tool(name, given | {"limit": 7, "cursor": cursor})).structured_content
            found += [one["item_id"] for one in result["items"]]
            cursor = result["next_cursor"]
            assert (cursor is None) == (not result["more"])
            if cursor is None:
                return found

    found = in_process(tools, read)
    whole = call(tools, name, **given, limit=50, max_bytes=MOST_BYTES)
    assert len(found) == len(set(found)) >= 30
    assert found[: len(whole["items"])] == [one["item_id"] for one in whole["items"]]


def test_answers_are_small_over_many_random_calls(tools: Tools) -> None:
    random_calls = random.Random(3)

    def arguments() -> tuple[str, dict[str, Any]]:
        item = random_calls.choice(["p00", "p07", "hostile", "long-0", "long-3"])
        where = random_calls.choice([None, "price > 20", "title ILIKE '%Long%'", "kind = 'product'"])
        limit = random_calls.choice([1, 5, 10, 50])
        size_of = {"max_bytes": random_calls.choice([1000, 3000, BYTES, MOST_BYTES])}
        return random_calls.choice(
            [
                ("search", {"text": random_calls.choice(["word word", "red shoe", "x"]), "limit": limit} | size_of),
                ("list_items", {"where": where, "limit": limit} | size_of),
                ("item", {"item_id": item, "parts": ["record", "claims", "timeline"]} | size_of),
                ("similar", {"item_id": item, "limit": limit} | size_of),
                ("recommend", {"history": [item], "limit": limit} | size_of),
                ("explain_item", {"item_id": item} | size_of),
                ("compare_items", {"item_ids": [item, "p01", "long-5"]} | size_of),
                ("aggregate", {"group_by": random_calls.choice(["tags", "category", "creator"])} | size_of),
                ("about", dict(size_of)),
                ("ledger", {"limit": limit} | size_of),
            ]
        )

    async def many(client: Client) -> None:
        for _ in range(60):
            name, given = arguments()
            result = await client.call_tool(name, given)
            assert not result.is_error, (name, given, result.content[0].text)
            known = result.structured_content
            assert size(known) <= given["max_bytes"], (name, given)
            assert len(result.model_dump_json(by_alias=True).encode()) <= MESSAGE, (name, given)
            for key, text in texts_of(known):
                assert len(text) <= (TITLE if key == "untrusted_title" else TEXT), (name, key)

    in_process(tools, many)


def texts_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Texts of an answer with the name of the field that holds them."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from texts_of(one, name if name.startswith("untrusted_") or not key.startswith("untrusted_") else key)
    elif isinstance(value, list):
        for one in value:
            yield from texts_of(one, key)
    elif isinstance(value, str) and key not in ("next_cursor", "how_to_filter"):
        yield key, value


def test_orders_in_item_texts_stay_in_untrusted_fields(tools: Tools) -> None:
    for name, given in (
        ("item", {"item_id": "hostile"}),
        ("list_items", {"where": "item_id = 'hostile'"}),
        ("search", {"text": "ignore previous instructions"}),
        ("compare_items", {"item_ids": ["hostile", "p00"]}),
        ("aggregate", {"group_by": "creator"}),
        ("about", {}),
    ):
        found = call(tools, name, **given)
        hits = [(key, text) for key, text in texts_of(found) if "gnore all previous" in text]
        assert hits, name
        assert {key for key, _ in hits if not key.startswith("untrusted_")} == set(), name
        assert ORDER not in json.dumps(found), "marks that could close a fence are gone"
        assert not any(mark in text for _, text in hits for mark in ("</item>", "[SYSTEM]"))


def test_faults_name_the_value_and_the_next_step_and_no_place(tools: Tools, shop: Path) -> None:
    unknown = fault(tools, "search", text="x", where="colour = 'red'")
    assert "no field 'colour'" in unknown
    assert "price" in unknown
    assert "category" in fault(tools, "aggregate", group_by="shelf")
    assert "order_by" in fault(tools, "list_items", order_by="title")
    assert "not_found" in fault(tools, "item", item_id="../../etc/passwd")
    assert "cursor" in fault(tools, "search", text="x", cursor="zzz")
    assert str(shop.parent) not in fault(tools, "match", item_id="p00", where="nothing(")
    assert "limit" in fault(tools, "search", text="x", limit=1000)
    assert "no argument 'limits' (did you mean 'limit'?)" in fault(tools, "search", text="x", limits=3)
    assert "no argument 'op'" in fault(tools, "aggregate", op="avg")
    assert fault(tools, "search", text="x", limit="many") == "search: limit 'many': give a whole number"
    assert fault(tools, "search") == "search: text: give it: the tool needs it"
    assert "write 'count', 'avg'" in fault(tools, "aggregate", measure="median")
    assert "no tool 'serch' (did you mean 'search'?)" in fault(tools, "serch")
    assert unknown.count("write a condition over") == 1
    assert "pydantic" not in fault(tools, "item", item_id=["p00"])


def test_parts_that_were_not_asked_for_are_null_and_not_empty(tools: Tools) -> None:
    assert call(tools, "item", item_id="p00")["claims"] is None
    assert call(tools, "item", item_id="p00", parts=["record", "claims", "timeline"])["claims"] == []


def test_the_largest_item_stays_below_the_limit_of_hosts(tools: Tools) -> None:
    """Hosts stop at 25,000 tokens; a tokenizer by bytes makes no more of them than there are bytes."""
    for name, given in (
        ("item", {"item_id": "long-0", "parts": ["record", "claims", "timeline"]}),
        ("compare_items", {"item_ids": [f"long-{n}" for n in range(5)]}),
        ("list_items", {"where": "category = 'Long'", "limit": 50}),
    ):
        text = json.dumps(call(tools, name, **given, max_bytes=MOST_BYTES), ensure_ascii=False, separators=(",", ":"))
        assert len(text.encode()) <= MOST_BYTES < 25_000


def test_resources_and_prompts(tools: Tools) -> None:
    async def read(client: Client) -> None:
        item = json.loads((await client.read_resource("coldstart://item/p03")).contents[0].text)
        assert item["item"]["untrusted_title"] == "Black Shoe number 3"
        reports = ("about", "status", "impressions", "runs", "publications", "ledger")
        listed = (await client.list_resources()).resources
        assert [str(one.uri) for one in listed] == [f"coldstart://report/{name}" for name in reports]
        for name in reports:
            text = (await client.read_resource(f"coldstart://report/{name}")).contents[0].text
            assert len(text) <= MESSAGE
            assert str(tools.catalogue.readers.uri) not in text
        for uri in (
            "coldstart://item/../../etc/passwd", "coldstart://item/..%2F..%2Fetc%2Fpasswd",
            "coldstart://report/..%2Fstatus", "coldstart://report/nothing", "coldstart://item/%2Fetc%2Fpasswd",
            "file:///etc/passwd",
        ):  # fmt: skip
            with pytest.raises(Exception, match=r"nknown resource|there are about|security|not in the published"):
                await client.read_resource(uri)
        prompts = (await client.list_prompts()).prompts
        assert {"find", "compare", "explain_failure"} <= {one.name for one in prompts}
        shown = await client.get_prompt("find", {"what": f"shoes {ORDER}"})
        assert "[SYSTEM]" not in shown.messages[0].content.text

    in_process(tools, read)


class Queue:
    """Queue that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def submit_items(self, rows: Any) -> Job:
        self.given.append(rows)
        return Job("j1", "items", "queued", len(rows), 10, None, 0.0)

    def submit_removal(self, ids: Any) -> Job:
        self.given.append(ids)
        return Job("j2", "removal", "queued", len(ids), 10, None, 0.0)

    def submit_decisions(self, rows: Any) -> Job:
        self.given.append(rows)
        return Job("j3", "decisions", "queued", len(rows), 10, None, 0.0)

    def get(self, job_id: str) -> Job:
        return Job(job_id, "items", "done", 1, 10, None, 0.0)


def test_tools_that_write_are_there_only_where_that_was_allowed(tools: Tools) -> None:
    queue = Queue()

    async def main() -> None:
        async with Client(build_server(tools, queue)) as client:  # type: ignore[arg-type]  # a queue of the test
            listed = {one.name: one.annotations for one in (await client.list_tools()).tools}
            assert not listed["add_items"].read_only_hint
            assert listed["remove_items"].destructive_hint
            added = await client.call_tool("add_items", {"items": [{"item_id": "n1", "title": "Oat drink"}]})
            assert added.structured_content["state"] == "queued"
            await client.call_tool("remove_items", {"item_ids": ["n1"]})
            assert (await client.call_tool("job", {"job": "j1"})).structured_content["state"] == "done"
            media = [{"item_id": "n1", "media": [{"role": "image", "uri": "/etc/passwd"}]}]
            assert (await client.call_tool("add_items", {"items": media})).is_error
            assert (await client.call_tool("remove_items", {"item_ids": ["x"] * 101})).is_error

    anyio.run(main)
    assert queue.given == [[{"item_id": "n1", "kind": "product", "title": "Oat drink"}], ["n1"]]
    names = {one.name for one in in_process(tools, lambda client: client.list_tools()).tools}
    assert not names & {"add_items", "add_interactions", "remove_items", "decide", "job"}


def test_a_write_is_confirmed_by_the_person_where_the_host_can_ask(tools: Tools) -> None:
    queue, asked = Queue(), list[str]()
    answers = [ElicitResult(action="decline"), ElicitResult(action="accept", content={"confirm": True})]

    async def ask(_: Any, parameters: Any) -> ElicitResult:
        asked.append(parameters.message)
        return answers[min(len(asked), 2) - 1]

    async def main() -> None:
        async with Client(build_server(tools, queue), elicitation_callback=ask) as client:  # type: ignore[arg-type]
            refused = await client.call_tool("remove_items", {"item_ids": ["p00", "p01"]})
            assert refused.is_error
            assert "nothing was written" in refused.content[0].text
            assert not queue.given
            given = {"item_id": "p00", "action": "correct", "field": "title", "value": "Shoe", "reason": "typo"}
            assert (await client.call_tool("decide", given)).structured_content["state"] == "queued"
            assert not (await client.call_tool("remove_items", {"item_ids": ["p00"]})).is_error

    anyio.run(main)
    assert asked[:2] == [
        "Remove 2 items for good: p00, p01?",
        "Correct p00, field 'title', value 'Shoe', because: typo?",
    ]
    row = {"item_id": "p00", "action": "correct", "reason": "typo", "by": "agent", "field": "title", "value": "Shoe"}
    assert queue.given == [[row], ["p00"]]


def test_a_call_ends_at_its_deadline(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("coldstart.serve.mcp.DEADLINE_S", 0.05)
    monkeypatch.setattr(tools, "status", lambda *_: ended.wait(20))
    try:
        assert "no answer within" in fault(tools, "status")
    finally:
        ended.set()


def test_http_wants_a_token_and_a_known_host(tools: Tools) -> None:
    secret = "s3cr3t-0123456789abcdef"
    decider = "decider-0123456789abcdef"
    tokens = (
        parse_token(secret, ["read", "write"]),
        parse_token("write-0123456789abcdef", ["write"]),
        parse_token(decider, ["read", "write", "review"], "Ada"),
    )
    settings = ServeSettings("ws", tokens=tokens)
    queue = Queue()
    app = http_app(build_server(tools, queue, settings), settings, writes=True)  # type: ignore[arg-type]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}

    async def main() -> None:
        import contextlib

        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(lifespan(app))
            http = await stack.enter_async_context(
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8765")
            )

            async def status(host: str = "127.0.0.1:8765", **headers: str) -> int:
                given = accept | {"host": host} | headers
                return (await http.post("/mcp", json=body, headers=given)).status_code

            right = f"Bearer {secret}"
            assert await status() == 401
            assert await status(authorization="Bearer wrong-0123456789abcdef") == 401
            assert await status(authorization="Bearer write-0123456789abcdef") == 403
            assert await status(authorization=right) == 200
            assert await status(host="evil.example", authorization=right) == 421
            assert await status(authorization=right, origin="http://evil.example") == 403
            assert await status(authorization=right, origin="http://127.0.0.1:8765") == 200

            async def decide(token: str) -> str:
                given = {"item_id": "p00", "action": "reject", "reason": "worn"}
                asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
                asked["params"] = {"name": "decide", "arguments": given}  # type: ignore[assignment]
                headers = accept | {"host": "127.0.0.1:8765", "authorization": f"Bearer {token}"}
                return (await http.post("/mcp", json=asked, headers=headers)).text

            assert "needs the scope review" in await decide(secret)
            assert not queue.given
            assert "queued" in await decide(decider)

    anyio.run(main)
    assert queue.given == [[{"item_id": "p00", "action": "reject", "reason": "worn", "by": "Ada"}]]


def test_without_a_token_a_page_of_another_site_reads_nothing(tools: Tools) -> None:
    app: Any = http_app(build_server(tools), ServeSettings("ws"))
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}

    async def main() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as http:
            own = {"host": "127.0.0.1:8765"}
            return [
                (await http.post("http://127.0.0.1:8765/mcp", json=body, headers=accept | headers)).status_code
                for headers in (own, {"host": "rebound.example:8765"}, own | {"origin": "https://evil.example"})
            ]

    assert anyio.run(main) == [200, 421, 403]


def lifespan(app: Any) -> Any:
    """Lifespan of the server below the token's check."""
    inner = app.__closure__ and next(
        (cell.cell_contents for cell in app.__closure__ if hasattr(cell.cell_contents, "router")), app
    )
    return inner.router.lifespan_context(inner)


def test_the_sdk_client_reads_over_http(tools: Tools) -> None:
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(http_app(build_server(tools), ServeSettings("ws")), port=0, log_level="critical")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]

        async def main() -> Any:
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                return await client.call_tool("aggregate", {})

        assert anyio.run(main).structured_content["value"] == 37
    finally:
        server.should_exit = True
        thread.join()


def test_stdout_of_the_command_carries_protocol_alone(shop: Path, tmp_path: Path) -> None:
    noisy = (
        "import coldstart.serve.tools as t\n"
        "own = t.Tools.aggregate\n"
        "def loud(self, *given, **named):\n"
        "    print('a library prints'); import os; os.write(1, b'and writes\\n')\n"
        "    return own(self, *given, **named)\n"
        "t.Tools.aggregate = loud\n"
        "from coldstart.cli import main\n"
        "main()\n"
    )
    parameters = StdioServerParameters(
        command=sys.executable, args=["-c", noisy, "mcp", "-w", str(shop), "--log-calls"], env=dict(os.environ)
    )

    async def main() -> Any:
        with (tmp_path / "errors").open("w") as errors:
            async with Client(stdio_client(parameters, errlog=errors)) as client:
                return await client.call_tool("aggregate", {"where": "price < 30"})

    assert anyio.run(main).structured_content["value"] == 9
    said = (tmp_path / "errors").read_text()
    assert "a library prints" in said
    assert '"tool": "aggregate"' in said
    assert "price < 30" not in said
