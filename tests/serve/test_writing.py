"""Writing routes over a shop of fakes: an upload is found, and a job waits while another process writes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogue import photo, rows, settings, write_manifest
from in_process import InProcess
from starlette.testclient import TestClient

import coldstart
from coldstart.api.remote import RemoteWorkspace
from coldstart.errors import ColdstartError
from coldstart.serve.http import create_app
from coldstart.serve.job_process import WorkspaceWorker
from coldstart.serve.jobs import JobQueue
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings
from coldstart.store import Store

pytestmark = pytest.mark.slow  # a workspace and a process that does the jobs


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writing")
    coldstart.open(folder / "ws", create=True).run(
        settings(write_manifest(folder / "shop.jsonl", rows(folder, 2)), workers=1)
    )
    return folder / "ws"


@pytest.fixture(scope="module")
def client(shop: Path) -> Iterator[TestClient]:
    queue = JobQueue(shop.parent / "queue", str(shop))
    app = create_app(ServeSettings(str(shop)), Readers(str(shop), poll_s=60), queue)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    for _ in range(3000):
        job = client.get(f"/v1/jobs/{job['job_id']}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def upload(client: TestClient, item: Any, files: Any, **headers: str) -> Any:
    return client.post("/v1/items/media", data={"items": json.dumps(item)}, files=files, headers=headers)


def test_an_upload_is_found_once_and_can_be_removed(client: TestClient, shop: Path) -> None:
    data = photo(shop.parent / "new.jpg", 77).read_bytes()
    item = {"item_id": "n/1", "title": "oat drink", "media": [{"role": "image", "uri": "../../x"}]}
    first, again = (upload(client, item, {"files": ("../../x", data)}, **{"Idempotency-Key": "one"}) for _ in range(2))
    assert (first.status_code, again.json()["job_id"]) == (202, first.json()["job_id"])
    assert first.headers["location"] == f"/v1/jobs/{first.json()['job_id']}"
    other = upload(client, {**item, "title": "else"}, {"files": ("../../x", data)}, **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["kind"]) == (422, "input")
    job = ended(client, first.json())
    assert (job["state"], [one["state"] for one in job["results"]]) == ("done", ["searchable"])
    answer = client.post("/v1/search/media", files={"file": ("a", data)}, data={"limit": "1"}).json()
    assert answer["publication"] == job["publication"]
    assert [hit["item_id"] for hit in answer["hits"]] == ["n/1"]
    assert client.get(answer["hits"][0]["media"][0]["href"]).content == data
    removed = client.delete("/v1/items/n%2F1")
    assert ended(client, removed.json())["state"] == "done"


def test_a_job_waits_while_another_process_writes_and_says_so(client: TestClient, shop: Path) -> None:
    with Store(shop).lock():
        job = client.post("/v1/items", json={"items": [{"item_id": "w1", "title": "waits"}]}).json()
        decision = {"item_id": "p1", "action": "correct", "field": "creator", "value": "ann", "reason": "hers"}
        decided, again = (
            client.post("/v1/decisions", json=decision, headers={"Idempotency-Key": "two"}).json() for _ in range(2)
        )
        for _ in range(3000):
            found = client.get(f"/v1/jobs/{job['job_id']}").json()
            if found["state"] == "waiting":
                break
            time.sleep(0.02)
        assert found["state"] == "waiting"
        assert found["detail"] == "another process writes to the workspace: the job waits until that has ended"
        assert str(shop) not in json.dumps(found)
    assert ended(client, job)["state"] == "done"
    assert (decided["job_id"], ended(client, decided)["results"][0]["state"]) == (again["job_id"], "decided")
    assert [one["value"] for one in client.get("/v1/decisions").json()["decisions"]] == ["ann"]


def test_decisions_change_what_is_served_and_survive_a_run(client: TestClient, shop: Path) -> None:
    def served(tag: str | None) -> dict[str, str]:
        found = client.get("/v1/search", params={"text": "article", "limit": 50}).json()
        assert tag in (None, found["publication"])
        return {hit["item_id"]: hit["title"] for hit in found["hits"]}

    before = served(None)
    both = [
        {"item_id": "p0", "action": "reject", "reason": "not ours"},
        {"item_id": "nope", "action": "reject", "reason": "not there"},
        {"item_id": "p1", "action": "correct", "field": "title", "value": "article of glass", "reason": "wrong"},
    ]
    remote = RemoteWorkspace("http://localhost", transport=InProcess(client))
    job = remote.decide_many(both)
    assert [one["state"] for one in job["results"]] == ["decided", "refused", "decided"]
    after = served(job["publication"])
    assert ("p0" in before, "p0" in after, after["p1"]) == (True, False, "article of glass")
    coldstart.open(shop).run(settings(shop.parent / "shop.jsonl", workers=1))
    assert {hit.item_id: hit.title for hit in coldstart.open(shop).search(text="article", top_k=50)} == after
    listed = client.get("/v1/decisions", params={"limit": 2}).json()["decisions"]
    assert [(one["item_id"], one["by"], one["in_force"]) for one in listed] == [
        ("p1", "local", True),
        ("p0", "local", True),
    ]
    place = f"/v1/decisions/{listed[1]['decision_id']}"
    job = ended(client, client.request("DELETE", place, json={"reason": "it is", "by": "bob"}).json())
    assert (job["results"][0]["state"], served(job["publication"])["p0"]) == ("undone", before["p0"])
    assert client.get("/v1/decisions", params={"item_id": "p0"}).json()["decisions"][0]["undone_by"] == "bob"
    job = remote.decide("p1", "reject", reason="glass", by="ann")
    with pytest.raises(ColdstartError, match="no item 'nope'") as refused:
        remote.decide("nope", "reject", reason="glass", by="ann")
    assert refused.value.kind == "not_found"
    (last, *_) = remote.decisions(limit=1).decisions
    assert (last.by, last.action, last.in_force, "p1" in served(job["publication"])) == ("ann", "reject", True, False)
    job = remote.undo_decision(last.decision_id, reason="glass is fine", by="ann")
    assert served(job["publication"])["p1"] == "article of glass"
    assert client.get("/v1/review").json()["counts"].get("failed", 0) == 0


def test_interactions_need_no_time(client: TestClient) -> None:
    for time_of in ({}, {"timestamp": 1_790_000_000}, {"timestamp": "2026-09-01T10:00:00Z"}):
        job = client.post("/v1/interactions", json={"interactions": [{"user_id": "u", "item_id": "p1", **time_of}]})
        assert job.status_code == 202
        assert ended(client, job.json())["state"] == "done"
    rows = [{"user_id": "u", "item_id": "p1", "timestamp": when} for when in ("soon", 1_700_000_000)]
    turned = client.post("/v1/interactions", json={"interactions": rows})
    assert ended(client, turned.json())["detail"] == "of 2 rows were turned away: 1 with an unreadable time"


def test_impressions_are_added_with_outcomes_that_come_later(client: TestClient, shop: Path) -> None:
    shown = {"user_id": "u", "item_id": "p1", "request_id": "r1", "position": 1, "propensity": 0.5}
    remote = RemoteWorkspace("http://localhost", transport=InProcess(client))
    assert (
        remote.add_impressions([{**shown, "timestamp": 1_700_000_000}, {**shown, "item_id": "p2"}])["state"] == "done"
    )
    clicked = {**shown, "outcomes": {"click": 1, "dwell_s": 2.5}, "outcome_at": "2023-11-14T22:13:21Z"}
    job = client.post("/v1/impressions", json={"impressions": [clicked, {**shown, "user_id": "v", "item_id": "p3"}]})
    assert job.status_code == 202 and job.json()["kind"] == "impressions"
    assert ended(client, job.json())["detail"] == "of 2 rows were turned away: 1 of a request that another user made"
    found = coldstart.open(shop).impressions()
    assert sorted(zip(found.signal("click", 0).tolist(), found.positions.tolist(), strict=True)) == [(0, 1), (1, 1)]
    assert set(found.propensities.tolist()) == {0.5} and found.user_ids == ("u",)
    with pytest.raises(ColdstartError, match=r"outcomes .*click.*: give numbers by name"):
        coldstart.open(shop).add_impressions([{**shown, "outcomes": ["click"]}])
    for odd in ({"propensity": 0}, {"position": -1}, {"outcomes": {"Item ID": 1}}, {"outcomes": {"item_id": 1}}):
        answer = client.post("/v1/impressions", json={"impressions": [{**shown, **odd}]})
        assert (answer.status_code, answer.json()["kind"]) == (422, "input")
    # what one job has at fault keeps no other back
    worker = WorkspaceWorker(str(shop))
    many = [
        {**shown, "request_id": f"q{n}", "outcomes": {f"o{16 * n + one}": 1 for one in range(16)}} for n in range(5)
    ]
    good = {**shown, "request_id": "q9", "timestamp": 1_700_000_000}
    done = worker.impressions([([{**row, "timestamp": 1} for row in many], {}), ([good], {})], None)
    assert "64 are the most" in done[0]["fault"] and (done[1]["accepted"], done[1]["rejected"]) == (1, {})


@pytest.mark.parametrize(
    ("items", "files"),
    [
        ("{", {"files": ("a", b"x")}),
        ("[" * 10_000, {"files": ("a", b"x")}),
        ('{"item_id": "q", "price": NaN}', {"files": ("a", b"x")}),
        ('{"item_id": "q", "price": ' + "9" * 5000 + "}", {"files": ("a", b"x")}),
        ('{"item_id": "\\ud800"}', {"files": ("a", b"x")}),
        ('{"item_id": "q", "\\ud800": 1}', {"files": ("a", b"x")}),
        ('{"item_id": "q"}', {"files": ("/etc/passwd", b"x")}),
        ('{"item_id": "q"}', [("files", ("a", b"x")), ("files", ("a", b"x"))]),
    ],
)
def test_uploads_with_faults_are_refused(client: TestClient, items: str, files: Any) -> None:
    answer = client.post("/v1/items/media", data={"items": items}, files=files)
    assert (answer.status_code, answer.json()["kind"]) == (422, "input")


def test_no_space_that_finds_anything_is_kept_alone() -> None:
    """Weights of zero, as a catalogue of random vectors has them, failed the job that published it."""
    import numpy as np

    from coldstart.search.calibration import _best_alone

    scores, marks = np.zeros((2, 3, 4), np.float32), np.ones((3, 4), np.bool_)
    assert _best_alone(scores, np.zeros(2), marks, marks).tolist() == [0.0, 0.0]
