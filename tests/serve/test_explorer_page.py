"""The explorer: its built files as they are served, and every view in Chromium, by its size, theme and faults."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from page_checks import CHROMIUM, MEASURE
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.testclient import TestClient

import coldstart
from coldstart.serve import results, state_results
from coldstart.serve.gate import CSP, Gate
from coldstart.serve.http import create_app
from coldstart.serve.jobs import JobQueue
from coldstart.serve.measures import Measures
from coldstart.serve.page import BUILT, page_routes
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings, parse_token
from tests.support.catalogue import photo, rows, settings, write_manifest

EXPLORER = BUILT.parent
MARKUP = "<img src=x onerror=alert(1)> evil"
RIGHT_TO_LEFT = "קפה שחור"
SIZES = {"phone": (360, 740), "tablet": (768, 1024), "desktop": (1440, 900)}


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    given = ServeSettings("none", tokens=(parse_token("read-0123456789abcdef"),))
    app = Starlette(routes=page_routes())
    app.add_middleware(Gate, settings=given, measures=Measures(Readers(str(tmp_path)), None))
    return TestClient(app, base_url="http://localhost")


def test_the_page_and_its_files_are_served_without_a_token(page: TestClient) -> None:
    index = page.get("/")
    assert index.status_code == 200 and index.headers["content-type"].startswith("text/html")
    assert index.headers["cache-control"] == "no-cache" and index.headers["content-security-policy"] == CSP
    assert not re.search(r"<style|style=|<script(?![^>]* src=)", index.text)  # the policy lets none of these be
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', index.text)
    assert {name.rpartition(".")[2] for name in named} == {"js", "css", "svg"}
    for name in named:
        file = page.get(name)
        assert file.status_code == 200 and "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
    assert {Path(name).name for name in named} == {path.name for path in (BUILT / "assets").iterdir()}


@pytest.mark.parametrize("name", ["index-00000000.js", "..%2findex.html", "%2e%2e/index.html", "index.html", ""])
def test_no_other_file_is_served(page: TestClient, name: str) -> None:
    assert page.get(f"/assets/{name}").status_code == 404


def test_the_built_files_are_of_these_sources() -> None:
    built = "".join(path.read_text("utf-8") for path in sorted((BUILT / "assets").iterdir()))
    for source in sorted((EXPLORER / "src").glob("*.js*")):
        text = re.sub(r"(?m)^\s*(//|/?\*).*$", "", source.read_text("utf-8"))
        texts = re.findall(r">([A-Z][a-z][\w ,:]{12,})[<{]", text) + re.findall(r"/v1/[a-z]+(?:/[a-z]+)*", text)
        assert not [one for one in texts if one.strip() not in built], f"{source.name}: run `npm run build`"
    lock = json.loads((EXPLORER / "package-lock.json").read_text("utf-8"))["packages"][""]
    given = json.loads((EXPLORER / "package.json").read_text("utf-8"))
    assert {name: lock[name] for name in ("dependencies", "devDependencies")} == {
        name: given[name] for name in ("dependencies", "devDependencies")
    }
    assert sum(path.stat().st_size for path in (BUILT / "assets").iterdir()) < 130_000
    assert "http://" not in re.sub(r"http://(www\.w3\.org|127\.0\.0\.1)", "", built) and "https://" not in built


# -- in Chromium

pytest_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@contextmanager
def served(workspace: Path, jobs: JobQueue | None) -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        app = create_app(ServeSettings(str(workspace)), Readers(str(workspace), poll_s=0.1), jobs)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{found.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def shop_rows(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = rows(folder, 8)
    entries[0] |= {"title": MARKUP}
    entries[1] |= {"title": RIGHT_TO_LEFT}
    entries[2] |= {"title": "long " * 60}
    return [*entries, {"item_id": "lost", "image": "none.jpg"}, {"item_id": "empty"}, {"item_id": "empty too"}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer")
    manifest = write_manifest(folder / "s.jsonl", shop_rows(folder))
    workspace = coldstart.open(folder / "ws", create=True)
    workspace.run(settings(manifest, workers=1))
    workspace.add_interactions(
        {"user_id": f"user {number % 3}", "item_id": f"p{number}", "timestamp": 1_700_000_000 + number}
        for number in range(7)
    )
    return folder / "ws"


@pytest.fixture(scope="module")
def address(shop: Path) -> Iterator[str]:
    with served(shop, JobQueue(shop.parent / "queue", str(shop))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """A tab at the address of the server; a fault of the page, or a request elsewhere, fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=address)
    context.set_default_timeout(120_000)
    found = context.new_page()
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on(
        "console",
        lambda said: faults.append(said.text) if said.type == "error" and "Failed to load" not in said.text else None,
    )
    found.on("request", lambda one: None if one.url.startswith((address, "blob:")) else faults.append(one.url))
    yield found
    context.close()
    assert not faults


def show(tab: Any, view: str) -> None:
    """Go to a view, and wait until nothing of it loads."""
    tab.goto(f"/{view}")
    tab.locator("main h1").first.wait_for(state="attached")
    settle(tab)


def settle(tab: Any) -> None:
    from playwright.sync_api import expect

    tab.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    expect(tab.locator(".busy:not(:empty), [aria-busy=true]")).to_have_count(0, timeout=120_000)


VIEWS = [
    ("#/search", ["8 items", MARKUP, RIGHT_TO_LEFT]),
    ("#/search?text=article", ["Score", "(of pub-"]),
    ("#/search?text=article&where=prise%3C2", ["did you mean price?"]),
    ("#/item/p1", [RIGHT_TO_LEFT, "Neighbours", "Audience", "Stages", "Reject the item", "user "]),
    ("#/item/nothing", ["nothing"]),
    ("#/match", ["This catalogue has no videos"]),
    ("#/recommend?history=p1", ["Cold share", "scored by", "Chosen:", RIGHT_TO_LEFT, "no ranker is fitted"]),
    ("#/map", ["8 of 8 items with a vector", "Coloured by category", "shelf 3"]),
    ("#/map?select=-2,-2,2,-2,2,2,-2,2&by=cold", ["8 chosen", "Save ids"]),
    ("#/review", ["lost", "not found", "neither media nor text", "No decisions yet"]),
    ("#/review?state=duplicate", ["Nothing waits for a review here"]),
    ("#/workspace", ["ingest", "pending"]),
    ("#/workspace/ledger", ["Review them", "not found"]),
    ("#/workspace/evaluations", ["Nothing has been evaluated yet"]),
    ("#/workspace/publications", ["Recall", "pub-"]),
    ("#/workspace/counts", ["Categories", "pub-"]),
    ("#/workspace/impressions", ["No impressions were logged"]),
    ("#/workspace/runs", ["Seconds", "index"]),
    ("#/workspace/jobs", ["No jobs"]),
]


LONG = "a word of it " * 23


def answers() -> dict[str, dict[str, Any]]:
    """Answers of the server that a shop of fakes has no cause to give, checked by the models of its routes."""
    at = "2026-01-02T03:04:05+00:00"
    share = {"value": 0.8, "low": 0.7, "high": 0.9}
    entry: dict[str, Any] = {"kind": "product", "detail": LONG, "actions": ["approve", "reject", "correct"]}
    entry["media"] = [{"role": "image", "href": "/v1/items/p1/media/0"}]
    copy = {"item_id": "p1", "title": RIGHT_TO_LEFT, "state": "duplicate", "stage": "understand.duplicates"}
    copy |= {"reason": "near_duplicate", "words": "a copy of another item", "original": "p2"}
    claim = {"item_id": "p2", "title": LONG, "state": "claim", "stage": "describe.check", "reason": "ungrounded"}
    claim |= {"words": "without evidence", "claim": "summary", "value": MARKUP}
    counts = {"failed": 0, "filtered": 0, "duplicate": 1, "claim": 1}
    decision: dict[str, Any] = {
        "decision_id": "d",
        "item_id": "p1",
        "action": "correct",
        "subject": "field:title",
        "value": LONG,
    }
    decision |= {"before": MARKUP, "reason": RIGHT_TO_LEFT, "by": "Hanna", "at": at, "in_force": True}
    undone = decision | {"undone_at": at, "undone_by": "Ola", "undone_reason": LONG, "in_force": False}
    row: dict[str, Any] = {
        "capability": "search",
        "question": "q",
        "sentence": LONG,
        "measure": "recall@10",
        "n": 240,
        "why": LONG,
    }
    row |= {"verdict": "better", "value": share, "baseline": {"name": "random order", "interval": share}}
    listed: dict[str, Any] = {"item_id": "p2", "title": LONG, "kind": "product", "cold": True, "media": entry["media"]}
    listed |= {"rank": 1, "score": 1.5, "explored": False, "propensity": 1.0, "reason": LONG}
    listed |= {"p": {"click": 0.0312, "long_view": 0.734}, "sources": [{"channel": MARKUP, "rank": 3}]}
    listed["nearest"] = [
        {"item_id": "p1", "by": "cooccurrence", "weight": 0.5, "title": RIGHT_TO_LEFT},
        {"item_id": "p3", "by": "content", "weight": 0.25, "title": LONG},
    ]
    order: dict[str, Any] = {"ranked": {"on": True, "why": LONG, "calibrated": {"click": True, "long_view": False}}}
    order["rerank"] = {"requested": "auto", "kind": "none", "why": MARKUP}
    shown: dict[str, Any] = {"rows": 4_000, "days": 8, "first": at, "last": at, "catalogue_items": 8, "rejected": 3}
    shown["outcomes"] = {"long_view": {"stated": 4_000, "above_zero": 1_000}}
    person = {"user_id": RIGHT_TO_LEFT, "rank": 1, "score": 1.5, "reason": LONG}
    people: dict[str, Any] = {"item_id": "p1", "scored_by": "image", "by": "score", "cold": True, "users": 9, "met": 1}
    found: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        "review": (
            state_results.ReviewQueue,
            {"entries": [entry | copy, entry | claim], "counts": counts, "next_cursor": "more"},
        ),
        "decisions": (state_results.Decisions, {"decisions": [decision, undone]}),
        "evaluations": (
            state_results.Evaluations,
            {"evaluations": [{"made_at": at, "is_current": True, "rows": [row]}]},
        ),
        "recommend": (
            results.Recommendations,
            {"user_id": "u", "scored_by": "ranker", "history": 3, "items": [listed], **order},
        ),
        "impressions": (state_results.ImpressionCounts, shown),
        "items/p1/audience": (results.AudienceResult, {"people": [person], **people}),
    }
    return {
        name: model.model_validate({"publication": "pub-000001", **given}).model_dump(mode="json")
        for name, (model, given) in found.items()
    }


FULL_VIEWS = [
    ("#/review", ["a copy of another item", "Copy of", "Approve", "in force", "by Ola", MARKUP]),
    ("#/workspace/evaluations", ["80.0 %", "70.0 % to 90.0 %", "random order", "240"]),
    (
        "#/recommend?user=u&rank=on&rerank=auto",
        [
            "Ranked",
            "Not reranked",
            "3.1 %",
            "long view (score)",
            "0.734",
            "#3",
            "Often taken with",
            "Content like",
            MARKUP,
        ],
    ),
    ("#/workspace/impressions", ["4,000 showings on 8 days", "25.0 %", "3 rows rejected"]),
    ("#/item/p1", ["Best 1 of 9 users", "Undo", "Correct a field"]),
]


@pytest.mark.slow
@pytest_chromium
def test_each_view_in_each_size_and_theme(tab: Any) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    for view, expected in [*VIEWS, *FULL_VIEWS]:
        if (view, expected) == FULL_VIEWS[0]:
            for name, given in answers().items():
                tab.route(f"**/v1/{name}*", lambda route, *, given=given: route.fulfill(json=given))
        show(tab, view)
        text = tab.inner_text("body")
        assert [words for words in expected if words.lower() not in text.lower()] == [], (view, text[-1500:])
        for size, (width, height) in SIZES.items():
            tab.set_viewport_size({"width": width, "height": height})
            laid = tab.evaluate(
                f"() => {{ {MEASURE} return measure({{contentDocument: document, clientWidth: innerWidth}}); }}"
            )
            assert (laid["scroll"] <= laid["width"], laid["overlaps"]) == (True, []), (view, size)
            cut = "() => [...document.querySelectorAll('.scroll')].some((one) => one.scrollWidth > one.clientWidth + 1)"
            assert size != "phone" or not tab.evaluate(cut), view
            for theme in ("light", "dark") if size != "tablet" else ():
                tab.emulate_media(color_scheme=theme)
                if not tab.evaluate("Boolean(window.axe)"):
                    tab.evaluate(axe)
                found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
                faults = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] != "minor"]
                assert not faults, (view, size, theme)


@pytest.mark.slow
@pytest_chromium
def test_files_are_dropped_and_the_map_is_lassoed(tab: Any, tmp_path: Path) -> None:
    show(tab, "#/search")
    path = photo(tmp_path / "p3.jpg", 3)
    drop(tab, "#words", path)
    settle(tab)
    assert "By p3.jpg" in tab.inner_text("main") and tab.locator(".card .title").first.inner_text().startswith(
        "article 3"
    )

    show(tab, "#/match")
    drop(tab, "main h1", path)  # no video: the words of the server are shown
    tab.locator(".fault").first.wait_for()

    show(tab, "#/map")
    tab.get_by_role("button", name="Lasso").click()
    box = tab.locator(".plane").bounding_box()
    tab.mouse.move(box["x"] + 2, box["y"] + 2)
    tab.mouse.down()
    for across, down in ((1, 0), (1, 1), (0, 1)):
        tab.mouse.move(box["x"] + 2 + across * (box["width"] - 4), box["y"] + 2 + down * (box["height"] - 4), steps=3)
    tab.mouse.up()
    tab.locator("#chosentitle").wait_for()
    assert tab.inner_text("#chosentitle") == "8 chosen" and "select=" in tab.url
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="Save ids").click()
    ids = [json.loads(line)["item_id"] for line in Path(saved.value.path()).read_text("utf-8").splitlines()]
    assert sorted(ids) == [f"p{number}" for number in range(8)]
    tab.get_by_role("button", name="Choose none").click()
    tab.get_by_text("Choose by a rectangle").click()  # the same by keys alone
    tab.get_by_label("Right").fill("-5")
    tab.get_by_role("button", name="Choose", exact=True).click()
    tab.locator("#chosentitle").wait_for()
    assert tab.inner_text("#chosentitle") == "0 chosen"


def drop(tab: Any, target: str, path: Path) -> None:
    """Drag a file of this machine onto an element, as a person does."""
    box = tab.locator(target).first.bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    browser = tab.context.new_cdp_session(tab)
    for kind in ("dragEnter", "dragOver", "drop"):
        dragged = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        browser.send("Input.dispatchDragEvent", {"type": kind, **place, "data": dragged})
    browser.detach()


@pytest.mark.slow
@pytest_chromium
def test_what_the_page_says_of_faults_slow_answers_and_rights(tab: Any) -> None:
    held: list[Any] = []
    tab.route("**/v1/items?*", lambda route: held.append(route))
    tab.goto("/#/search")
    tab.get_by_text("Loading…").first.wait_for()
    for route in held:
        route.continue_()
    tab.unroute("**/v1/items?*")
    settle(tab)
    why = "the models of lists are being loaded; searches are answered already"
    busy = {"status": 503, "kind": "busy", "title": "The server is busy", "detail": "being loaded, since 10 s"}
    tab.route("**/readyz", lambda route: route.fulfill(status=503, json={"ready": False, "why": why}))
    tab.route("**/v1/recommend*", lambda route: route.fulfill(status=503, json=busy))
    tab.goto("/#/recommend?user=u")
    tab.get_by_text(f"T{why[1:]}. The list comes by itself.").wait_for()
    assert not tab.locator(".fault").count()
    tab.unroute("**/readyz")
    tab.unroute("**/v1/recommend*")
    tab.route("**/v1/recommend*", lambda route: route.fulfill(json=answers()["recommend"]))
    tab.get_by_text("Place 1").first.wait_for()
    settle(tab)
    assert "being loaded" not in tab.inner_text("main")
    tab.unroute("**/v1/recommend*")
    tab.route("**/v1/review*", lambda route: route.abort())
    tab.route("**/v1/me", lambda route: route.fulfill(json={"name": "reader", "scopes": ["read"], "writable": True}))
    show(tab, "#/review")
    tab.get_by_text("the server does not answer").first.wait_for()
    tab.unroute("**/v1/review*")
    show(tab, "#/review?state=failed")
    tab.get_by_text("takes one with the scope review").wait_for()
    tab.keyboard.press("r")
    assert not tab.locator("form.decision, .decisions").count()
    show(tab, "#/item/p1")
    assert not tab.locator("form.decision, .decisions").count()

    show(tab, "#/item/nothing")
    said = tab.inner_text(".fault")
    assert "no item 'nothing' in this workspace" in said and "coldstart " not in said  # commands are no use here

    def gate(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer read-0123456789abcdef":
            route.continue_()
        else:
            route.fulfill(status=401, json={"status": 401, "title": "No token", "detail": "give a token"})

    tab.route("**/v1/**", gate)
    tab.goto("/#/match")
    tab.get_by_role("textbox", name="Token").fill("read-0123456789abcdef")
    tab.keyboard.press("Enter")
    show(tab, "#/search")
    tab.locator(".picture img[src^='blob:']").first.wait_for()  # a picture that needs the token, too
    tab.get_by_role("button", name="Forget the token").click()
    tab.get_by_role("textbox", name="Token").wait_for()


@pytest.mark.slow
@pytest_chromium
def test_a_decision_made_in_the_page_is_served_survives_a_run_and_is_undone(tab: Any, shop: Path) -> None:
    from playwright.sync_api import expect

    show(tab, "#/item/p5")
    tab.get_by_role("button", name="Reject the item").click()
    assert tab.evaluate("document.activeElement.name") == "reason"
    tab.keyboard.press("Enter")  # no reason: nothing is sent
    assert tab.locator("form.decision").count() == 1
    tab.get_by_label("Reason").fill("recalled by its maker")
    tab.get_by_label("Your name").fill("Hanna")
    tab.keyboard.press("Enter")
    expect(tab.locator(".underway")).to_contain_text("in effect", timeout=120_000)
    for words in ("recalled by its maker", "Hanna"):
        tab.get_by_role("cell", name=words, exact=True).first.wait_for()

    show(tab, "#/item/p1")
    assert not tab.locator(".underway p").count()  # of another item

    def ids() -> set[str]:
        tab.goto("/#/match")
        show(tab, "#/search?text=article")
        return {
            one.split("/")[-1] for one in tab.locator(".cardlink").evaluate_all("all => all.map((one) => one.hash)")
        }

    wait_for(lambda: "p5" not in ids())
    coldstart.open(shop).run(settings(write_manifest(shop.parent / "s.jsonl", shop_rows(shop.parent)), workers=1))
    wait_for(lambda: len(ids()) == 7)
    assert "p5" not in ids()

    show(tab, "#/review")
    tab.get_by_role("button", name="Reject", exact=True).wait_for()  # it knows by now what its user may do
    tab.keyboard.press("u")
    expect(tab.locator(".underway")).to_contain_text("Undone", timeout=120_000)
    expect(tab.locator(".underway .mark").first).to_have_text("in effect", timeout=120_000)
    wait_for(lambda: "p5" in ids())

    show(tab, "#/review?reason=bad_row")
    assert tab.locator(".pick").count() == 2
    tab.get_by_role("button", name="Reject", exact=True).wait_for()
    tab.keyboard.press("r")
    tab.get_by_label("also the other one").check()  # both by one decision
    tab.get_by_role("textbox", name="Reason").fill("never to be sold")
    tab.keyboard.press("Enter")
    expect(tab.get_by_text("Nothing waits for a review here")).to_be_visible(timeout=120_000)
    expect(tab.locator(".underway .mark").first).to_have_text("in effect", timeout=120_000)
    expect(tab.get_by_role("cell", name="never to be sold", exact=True)).to_have_count(2, timeout=120_000)
    tab.keyboard.press("u")
    expect(tab.locator(".pick")).to_have_count(2, timeout=120_000)
    show(tab, "#/workspace/jobs")
    assert tab.inner_text("main").count("decisions") >= 2 and "done" in tab.inner_text("main")


def wait_for(condition: Any, tries: int = 60) -> None:
    for _ in range(tries):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to be")
