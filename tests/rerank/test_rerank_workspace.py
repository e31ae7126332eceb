"""Reranking of a workspace: fit on showings, certificates, lists by them, and what may not be combined."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import coldstart as run_cli
from catalogue import write_manifest

import coldstart
from coldstart.api import Workspace
from coldstart.api.as_of import ListsAsOf, behaviour_as_of
from coldstart.api.rerank import reranked_notes
from coldstart.api.rerank_requests import HeldOutRequests
from coldstart.api.rerank_service import base_of, listwise_stage, read_certificate, save_certificate
from coldstart.core.impressions import WINDOW_S
from coldstart.core.progress import SilentProgress
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rank.union_stage import timed_histories
from coldstart.rerank.certificate import certify, why_not
from coldstart.rerank.diverse import Diverse
from coldstart.rerank.fit_stage import RerankFitStage
from coldstart.store.impressions import ImpressionTable

ITEMS, USERS, DAY = 60, 50, 86_400
START = 1_700_000_000
SMALL = ["rerank.epochs=2", "rerank.dim=8", "rerank.min_requests=20"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"item_id": f"p{n:02}", "title": f"article {n} of shelf {n % 7}", "category": f"shelf {n % 7}",
         "creator": f"maker {n % 5}", "kind": "product"}
        for n in range(ITEMS)
    ]  # fmt: skip
    opened = coldstart.open(folder / "ws", create=True)
    opened.run(
        {
            "manifest": str(write_manifest(folder / "items.jsonl", rows)),
            "engine": {"workers": 1, "device": "cpu"},
            "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}},
        }
    )
    rng = np.random.default_rng(0)
    liked, shown = [], []
    for user in range(USERS):
        for step in range(6):
            item = f"p{(user + 7 * step) % ITEMS:02}"
            liked.append(
                {"user_id": f"u{user}", "item_id": item, "timestamp": START + DAY * step + user, "event": "like"}
            )
        for request in range(2):
            at = START + DAY * (1 + 3 * request) + 3600 + user
            for place, number in enumerate(rng.permutation(ITEMS)[:6].tolist(), 1):
                click = int(number % 7 == user % 7)
                shown.append({"user_id": f"u{user}", "item_id": f"p{number:02}", "timestamp": at, "position": place,
                              "request_id": f"r{user}-{request}", "click": click})  # fmt: skip
    for name, log in (("log", liked), ("shown", shown)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, log)))
    opened.ingest_interactions(folder / "log.jsonl")
    opened.ingest_impressions(folder / "shown.jsonl")
    return folder / "ws"


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made, tmp_path / "ws")
    opened = coldstart.open(tmp_path / "ws")
    opened.trust()
    return opened


def valid_certificate(shop: Workspace, kind: str = "mmr", dial: float = 0.4) -> dict[str, Any]:
    """Certificate of the lists that the workspace gives, with a gain that was never measured."""
    recommender = shop._listing()
    base = base_of(recommender)
    found = certify([({"dial": dial}, Diverse(kind, dial))], [], [], base, {})
    gain = {"value": 0.1, "low": 0.05, "high": 0.15}
    return {**found, "n": 100, "items": 50, "few": False, "difference": gain}


def notes_of(shop: Workspace, certificate: dict[str, Any]) -> list[str]:
    save_certificate(shop._store, certificate)
    return reranked_notes(shop._store, shop._listing)


@pytest.mark.slow
def test_commands_fit_judge_and_say_why_a_list_is_not_reranked(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = ["--workspace", shop.uri, "--user", "u3", "--json"]
    plain = json.loads(run_cli("recommend", *user).stdout)
    first = json.loads(run_cli("recommend", *user, "--rerank", "auto").stdout)
    assert first["items"] == plain["items"] and "rerank" not in plain
    assert first["rerank"]["kind"] == "none" and "coldstart evaluate rerank" in first["rerank"]["why"]

    waits = run_cli("finetune", "rerank", "--workspace", shop.uri)
    assert "100 requests" in waits.stderr and "min_requests" in waits.stderr
    sets = [part for one in SMALL for part in ("--set", one)]
    run_cli("finetune", "rerank", "--workspace", shop.uri, *sets)
    assert "nothing came or changed" in run_cli("finetune", "rerank", "--workspace", shop.uri).stdout

    (stage,) = shop.pipeline().of_kind("finetune.rerank")
    changed = coldstart.open(shop.uri).pipeline(overrides=[f"{stage.name}.epochs=3"])
    with pytest.raises(NotFitted, match=r"no fit of its settings: the newest, of 20.* run `coldstart finetune rerank`"):
        listwise_stage(changed).newest(shop._store)

    kinds = ["--kinds", "mmr,listwise", "--split", "time", "--users", "40"]
    ends: dict[str, list[int | None]] = {"shown": [], "liked": []}
    read, features = ImpressionTable.read, RerankFitStage.features
    monkeypatch.setattr(
        ImpressionTable,
        "read",
        lambda own, *a, **given: (ends["shown"].append(given.get("end")), read(own, *a, **given))[1],
    )
    monkeypatch.setattr(
        RerankFitStage,
        "features",
        lambda own, store, end=None: (ends["liked"].append(end), features(own, store, end))[1],
    )
    judged = run_cli("evaluate", "rerank", "--workspace", shop.uri, *kinds, "--out", str(tmp_path / "out"), "--json")
    monkeypatch.undo()
    (shown,), (liked,) = ends["shown"], ends["liked"]
    assert shown is not None and liked is not None and shown == liked - WINDOW_S, "outcomes of showings come later"
    known = json.loads(judged.stdout)
    assert set(known["certificates"]) == {"mmr", "listwise"} and not known["left_out"]
    for kind, one in known["certificates"].items():
        assert one["why_not"] and one["n"] > 0 and one["faults"] == {}
        assert read_certificate(shop._store, kind) == {
            name: own for name, own in one.items() if name not in ("why_not", "days")
        }
    assert json.loads((tmp_path / "out/rerank.json").read_text())["certificates"] == known["certificates"]
    assert "| mmr |" in (tmp_path / "out/rerank.md").read_text()
    assert "Does reranking" in (tmp_path / "out/rerank.html").read_text()

    again = json.loads(run_cli("recommend", *user, "--rerank", "auto").stdout)
    assert again["items"] == plain["items"] and "certificate of mmr" in again["rerank"]["why"]
    for kind in ("mmr", "listwise"):
        own = json.loads(run_cli("recommend", *user, "--rerank", kind, "--deadline-ms", "60000").stdout)
        assert own["rerank"]["kind"] == kind and own["rerank"]["fault"] is None
        assert sorted(one["item_id"] for one in own["items"]) == sorted(one["item_id"] for one in plain["items"])
        assert [one["rank"] for one in own["items"]] == list(range(1, 21))
    left = shop.evaluate_rerank(kinds=["listwise"], users=20).left_out
    assert "--split time" in left["listwise"]


@pytest.mark.slow
def test_lists_of_a_fit_of_behaviour_are_judged_as_it_gives_them_without_what_is_asked_for(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = dict(shop.pipeline().raw)
    fit = {"candidates": {"ridge": {"target": "users"}}, "dim": 8, "weights": {"text": 1.0}, "power": 0.5,
           "min_items": 10, "min_users": 10}  # fmt: skip
    stages = {**raw["stages"], "align": {"text_image": False, "behaviour": fit}, "behaviour": {}}
    shop.run({**raw, "stages": {**stages, "index": stages.pop("index")}})
    recommender = shop._listing()
    served = recommender.scoring_model
    assert served.is_fitted

    fits: list[tuple[Any, Any]] = []

    def repeated(own: Any, rows: Any, progress: Any) -> Any:
        fits.append((rows, behaviour_as_of(own, rows, progress)))
        return fits[-1][1]

    monkeypatch.setattr("coldstart.api.rerank_requests.behaviour_as_of", repeated)
    requests = HeldOutRequests(shop._store, shop.pipeline(), recommender, "last-out", 30, SilentProgress())
    ((train, learnt),) = fits
    split = requests.split
    assert len(train) == USERS * 5 and len(split.users) == 45
    assert not [place for place, target in enumerate(split.targets) if target in split.histories[place]]
    for read, own in zip(timed_histories(train)[0], split.train, strict=True):
        assert read.tolist() == own.tolist(), "fits read what the split lets them read"
    assert set(learnt.columns) == set(served.columns) and np.abs(learnt.vectors - served.vectors).max() > 0.01
    # with nothing held out, and the fit that serves, judged lists are those of `recommend`
    log = recommender.interactions().positive().over(served.item_ids)
    whole = [np.unique(log.items[log.users == log.user_ids.index(user)]) for user in split.users]
    requests.split = replace(split, histories=whole)
    for user, one in list(zip(split.users, requests._requests(ListsAsOf(log.item_ids, served)), strict=True))[:5]:
        found = shop.recommend(user, rank="off", reasons=False).items
        assert [item.item_id for item in found] == list(one.items.item_ids)

    report = shop.evaluate_rerank(kinds=["mmr"], users=30)
    known = report.certificates["mmr"]
    assert known["base"]["name"] == "behaviour" and known["n"] == 30 and "repeated inside the split" in report.notes[0]
    save_certificate(shop._store, {**valid_certificate(shop), "base": known["base"]})
    reranked = shop.recommend("u3", rank="off", rerank="auto", deadline_ms=60_000, reasons=False).rerank
    assert reranked is not None and reranked["kind"] == "mmr"


@pytest.mark.slow
def test_auto_serves_under_a_valid_certificate_of_these_lists_alone(shop: Workspace) -> None:
    plain = shop.recommend("u3", reasons=False)
    good = valid_certificate(shop)
    assert reranked_notes(shop._store, shop._listing) == []
    save_certificate(shop._store, good)
    (note,) = reranked_notes(shop._store, shop._listing)
    assert note == "reranked by mmr: auto serves it"  # what it was worth was never measured: no words on it
    figures = {"ndcg_base": {"value": 0.2, "low": 0.1, "high": 0.3}, "settings": {"dial": 0.3}}
    (note,) = notes_of(shop, {**good, **figures})
    assert (
        "NDCG@10 0.2000 without, +0.1000 (+0.0500 to +0.1500) with it, 100 requests" in note and "another model" in note
    )
    save_certificate(shop._store, good)
    served = shop.recommend("u3", rerank="auto", deadline_ms=60_000, reasons=False)
    assert served.rerank is not None and served.rerank["kind"] == "mmr" and served.rerank["why"] is None
    assert {one.item_id for one in served.items} == {one.item_id for one in plain.items}
    assert [one.item_id for one in served.items] != [one.item_id for one in plain.items]

    save_certificate(shop._store, valid_certificate(shop, dial=0.8))  # judged anew while it serves
    again = shop.recommend("u3", rerank="auto", deadline_ms=60_000, reasons=False)
    assert again.rerank is not None and again.rerank["kind"] == "mmr", again.rerank["why"]
    save_certificate(shop._store, good)

    other = shop.recommend("u3", rerank="auto", diversity=0.3, reasons=False)
    assert other.rerank is not None and other.rerank["kind"] == "none" and "diversity 0.3" in other.rerank["why"]
    for change, words in (
        ({"made_at": (datetime.now(UTC) - timedelta(days=40)).isoformat()}, "days old"),
        ({"method": "x"}, "another model"),
        ({"settings": {"dial": "0.4; drop"}}, "another model"),
        ({"difference": {"value": 0.1, "low": 0.0, "high": 0.2}}, "no gain"),
    ):
        save_certificate(shop._store, {**good, **change})
        opened = coldstart.open(shop.uri)
        found = opened.recommend("u3", rerank="auto", reasons=False)
        assert found.rerank is not None and words in found.rerank["why"]
        assert [one.item_id for one in found.items] == [one.item_id for one in plain.items]
        assert any(words in note for note in found.notes)


def test_a_strange_certificate_loads_no_generator_that_it_names(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("coldstart.api.rerank_service.load_scorer", lambda name, mode: _fail(name, asked))
    settings = {"mode": "pointwise", "weight": 1.0, "prior": 0.5, "generator": "openai:spy@http://attacker.example"}
    save_certificate(shop._store, {**valid_certificate(shop), "kind": "llm", "settings": settings})
    found = shop.recommend("u3", rerank="auto", reasons=False)
    assert found.rerank is not None and found.rerank["kind"] == "none" and asked == ["starter"]


def _fail(name: str, asked: list[str]) -> None:
    asked.append(name)
    raise ColdstartError(f"generator {name!r} is not on this machine")


def test_what_cannot_be_is_refused_with_the_next_step(shop: Workspace) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rerank": "best"}, "use auto, none, mmr"),
        ({"rerank": "mmr", "explore": 0.1}, "exclude each other"),
        ({"rerank": "mmr", "deadline_ms": 0.0}, "give 1 to"),
        ({"rerank": "listwise"}, "coldstart finetune rerank"),
    ]
    for given, words in refused:
        with pytest.raises(ColdstartError, match=words):
            shop.recommend("u3", reasons=False, **given)
    unknown: list[tuple[dict[str, Any], str]] = [
        ({"kinds": ["best"]}, "mmr, dpp"),
        ({"split": "cold:0.1"}, "last-out or time"),
    ]
    for given, words in unknown:
        with pytest.raises(ColdstartError, match=words):
            shop.evaluate_rerank(**given)
    with pytest.raises(ColdstartError, match="use listwise"):
        shop.finetune_rerank(kind="mmr")
    with pytest.MonkeyPatch.context() as patch:  # showings are counted before anything else is read
        patch.setattr(RerankFitStage, "features", lambda *given: pytest.fail("vectors were read"))
        with pytest.raises(ColdstartError, match=r"100 requests showed 5 items and more, and a fit needs 110 "):
            shop.finetune_rerank(overrides=["rerank.min_requests=110"])
        patch.setattr(Workspace, "run", lambda *given, **more: pytest.fail("stages were run"))
        with pytest.raises(ColdstartError, match=r"rerank: 600 showings: 100 requests showed 5 .* needs 500 "):
            shop.finetune_rerank()
    assert shop.rerank_certificates() == {}
    assert why_not(None, "llm", base_of(shop._listing(), "text"), None) == "llm has no certificate"
