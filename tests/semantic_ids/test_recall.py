"""Sequence model of a workspace: fit, resume after a kill, candidates, new items, lists by it, bad fits, command."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from catalogue import coldstart as run_cli
from catalogue import write_manifest
from safetensors.numpy import load_file, save_file

import coldstart
from coldstart.api import Workspace
from coldstart.api.rerank_service import save_certificate
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids import train_sequence
from coldstart.semantic_ids.recall_service import load_recall
from coldstart.semantic_ids.recall_stage import CARD_FILE, NEIGHBOURS_FILE, WEIGHTS_FILE
from coldstart.semantic_ids.train_sequence import SequenceData, Training, gains_at, sasrec, train

ITEMS, USERS = 84, 60
SMALL = ["recall.epochs=4", "recall.dim=16", "recall.patience=9", "recall.dropout=0.1"]


def manifest(folder: Path, count: int = ITEMS) -> Path:
    return write_manifest(
        folder / "items.jsonl",
        [
            {
                "item_id": f"p{n:03}",
                "title": f"article {n} of shelf {n % 7}",
                "category": f"shelf {n % 7}",
                "kind": "product",
            }
            for n in range(count)
        ],
    )


def walk(user: int) -> list[str]:
    """History that goes from an item to the next but six, so that what follows can be learnt."""
    return [f"p{(user * 5 + 7 * step) % (ITEMS - 4):03}" for step in range(7)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    opened = coldstart.open(folder / "ws", create=True)
    opened.run(
        {
            "manifest": str(manifest(folder)),
            "engine": {"workers": 1},
            "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}},
        }
    )
    rows = [
        {"user_id": f"u{user}", "item_id": item, "timestamp": 1_700_000_000 + 86_400 * step, "event": "like"}
        for user in range(USERS)
        for step, item in enumerate(walk(user))
    ]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    opened.ingest_interactions(folder / "log.jsonl")
    opened.finetune_recall(overrides=SMALL)
    opened.run()
    return folder / "ws"


@pytest.fixture
def shop(fitted: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(fitted, tmp_path / "ws")
    opened = coldstart.open(tmp_path / "ws")
    opened.trust()
    return opened


@pytest.mark.slow
def test_candidates_are_of_the_catalogue_unseen_and_say_where_they_are_from(fitted: Path) -> None:
    opened = coldstart.open(fitted)
    report = opened.fit_report("recall")
    assert set(report["held_out"]) == {"dense", "codes", "both"} and report["auto"] in report["held_out"]
    assert report["sids"] == opened.sid_versions()[0]["version"] and report["histories"] == USERS
    assert opened.sid_health().emitted == report["emitted"][report["auto"]]["0"]
    for channel in ("dense", "codes", "both", "auto"):
        found = opened.recall("u3", top_k=12, recall=channel)
        listed = [one.item_id for one in found.items]
        assert found.recall == (report["auto"] if channel == "auto" else channel)
        assert len(set(listed)) == len(listed) == 12 and not set(listed) & set(walk(3))
        assert [one.rank for one in found.items] == list(range(1, 13))
        assert [one.score for one in found.items] == sorted((one.score for one in found.items), reverse=True)
        if channel == "codes":
            assert all(one.score == pytest.approx(one.log_p, abs=1e-3) for one in found.items)
    new = {f"p{n:03}" for n in range(ITEMS - 4, ITEMS)}
    shared = opened.recall("u3", top_k=10, cold_share=0.4, recall="codes").items
    assert {one.item_id for one in shared if one.new} == new
    assert {one.source for one in shared if one.new} == {"new"}
    only = opened.recall(history=walk(3), top_k=5, where="category = 'shelf 2'", seen="keep")
    assert only.items and {int(one.item_id[1:]) % 7 for one in only.items} == {2}
    with pytest.raises(ColdstartError, match="recall 'sas': use auto, dense, codes or both"):
        opened.recall("u3", recall="sas")
    with pytest.raises(ColdstartError, match="has no item that the sequence model knows"):
        opened.recall(history=["absent"])


@pytest.mark.slow
def test_lists_by_recall_keep_the_rules_of_lists(fitted: Path) -> None:
    opened = coldstart.open(fitted)
    found = opened.recommend("u3", recall="codes", top_k=10, cold_share=0.3)
    listed = [one.item_id for one in found.items]
    assert found.scored_by == "recall (codes)" and len(listed) == 10 and not set(listed) & set(walk(3))
    assert sum(one.cold for one in found.items) >= 3
    plain = opened.recommend("u3", recall="codes", top_k=10, reasons=False)
    assert [one.item_id for one in plain.items] == [
        one.item_id for one in opened.recall("u3", top_k=10, recall="codes").items
    ]
    ran = run_cli("recommend", "--user", "u3", "--recall", "dense", "--workspace", str(fitted), "--json")
    assert json.loads(ran.stdout)["scored_by"] == "recall (dense)"
    with pytest.raises(ColdstartError, match="the sequence model reads the order"):
        opened.recommend("u3", recall="codes", interests=2)


@pytest.mark.slow
def test_many_users_get_the_lists_of_one_at_a_time(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = coldstart.open(fitted)
    monkeypatch.setattr("coldstart.recommend.batch.BATCH_USERS", 7)
    monkeypatch.setattr("coldstart.semantic_ids.recall_service._BATCH", 3)
    users = [f"u{user}" for user in range(0, USERS, 4)]
    rules: dict[str, Any] = {"top_k": 8, "cold_share": 0.3, "explore": 0.2, "where": "category != 'shelf 3'"}
    for recall in ("both", "dense"):
        out = tmp_path / f"{recall}.jsonl"
        written = opened.recommend_many([*users, "nobody"], out, recall=recall, **rules)
        assert (written.users, written.without_history, written.scored_by) == (len(users) + 1, 1, f"recall ({recall})")
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert {row["user_id"] for row in found} == {*users, "nobody"}
        for user in [*users, "nobody"]:
            alone = opened.recommend(user, recall=recall, reasons=False, **rules)
            assert [(row["item_id"], row["rank"], row["cold"], row["explored"]) for row in found
                    if row["user_id"] == user] == [(one.item_id, one.rank, one.cold, one.explored)
                                                   for one in alone.items]  # fmt: skip
            assert user == "nobody" or not {one.item_id for one in alone.items} & set(walk(int(user[1:])))
    (tmp_path / "users.txt").write_text("u3\nnobody\n")
    ran = run_cli("recommend", "--users", tmp_path / "users.txt", "--out", tmp_path / "l.csv", "--recall", "auto",
                  "--workspace", fitted)  # fmt: skip
    assert "1 users have no liked items" in ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_visitor_without_a_history_gets_what_is_popular_and_then_what_is_new(fitted: Path) -> None:
    opened = coldstart.open(fitted)
    counts = Counter(item for user in range(USERS) for item in walk(user))
    found = opened.recommend("nobody", recall="auto", top_k=10, reasons=False)
    assert found.scored_by == "popularity" and any("popular items, then of the newest" in note for note in found.notes)
    assert [counts[one.item_id] for one in found.items] == sorted(counts.values(), reverse=True)[:10]
    (cold,) = opened.recommend(history=[], recall="auto", top_k=1, cold_share=1.0, reasons=False).items
    assert cold.cold


@pytest.mark.slow
def test_rerankers_are_certified_over_lists_by_recall(shop: Workspace) -> None:
    report = shop.evaluate_rerank(kinds=["mmr"], users=20, recall="dense")
    certificate = report.certificates["mmr"]
    assert certificate["base"]["name"] == "recall (dense)" and "sequence model was fitted again" in report.notes[0]
    gain = {"value": 0.1, "low": 0.05, "high": 0.15}
    save_certificate(shop._store, {**certificate, "difference": gain, "few": False})
    for recall, kind in (("dense", "mmr"), ("codes", "none")):
        found = shop.recommend("u3", recall=recall, rerank="auto", deadline_ms=60_000, reasons=False).rerank
        assert found is not None and found["kind"] == kind, found
    with pytest.raises(ColdstartError, match="of ranked lists, or of those by recall"):
        shop.evaluate_rerank(recall="dense", rank="on")


@pytest.mark.slow
def test_a_refused_fit_leaves_the_pipeline_as_it_was(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "ws", create=True)
    stages = {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}}
    opened.run({"manifest": str(manifest(tmp_path)), "engine": {"workers": 1}, "stages": stages})
    with pytest.raises(ColdstartError, match="0 users liked two items and more"):
        opened.finetune_recall()
    assert opened.pipeline().raw["stages"].keys() == stages.keys()


@pytest.mark.slow
def test_a_fit_is_made_again_for_new_rows_alone_and_items_that_came_are_new_to_it(
    shop: Workspace, tmp_path: Path
) -> None:
    again = shop.finetune_recall(overrides=SMALL)
    assert again.stages[-1].ran.done == 0, "nothing came since"
    shop.run(manifest=manifest(tmp_path, ITEMS + 3))
    found = shop.recall("u3", top_k=12, cold_share=1.0)
    assert {"p084", "p085", "p086"} <= {one.item_id for one in found.items if one.new}
    decoded = shop.recall("u3", recall="codes").to_dict()
    shop.finetune_sids(levels=(6, 6, 6))
    note = "; ".join(next(one for one in shop.run().stages if one.stage == "recall").notes)
    assert "semantic IDs were fitted anew since: `coldstart finetune recall`" in note
    served = [(one["sizes"], one["served"]) for one in shop.sid_versions()]
    assert served[0] == ([6, 6, 6], True) and not served[1][1]
    assert shop.recall("u3", recall="codes").to_dict() == decoded, "by the codes that it was fitted on, none of others"
    shop.rollback()
    assert shop.recall("u3", recall="codes").to_dict() == decoded
    for size in (5, 7, 9):  # the IDs of the sequence model are of the fit before the last four by now
        shop.finetune_sids(levels=(size,) * 3)
    with pytest.raises(ColdstartError, match=r"no version '[0-9a-f]{8}' of semantic IDs: there is"):
        coldstart.open(shop.uri).recall("u3", recall="codes")
    with pytest.raises(ColdstartError, match="whose semantic IDs are served, is no longer stored: serve those of the"):
        shop.sids()


@pytest.mark.slow
def test_the_commands_fit_and_measure(shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a page without --out goes here
    ran = run_cli("finetune", "recall", "--workspace", shop.uri, "--json", *(f"--set={one}" for one in SMALL))
    assert json.loads(ran.stdout)["fits"]["recall"]["auto"] in ("dense", "codes", "both")
    out = tmp_path / "out"
    options = ("--workspace", shop.uri, "--methods", "popularity,content,both", "--users", "40", "--out", str(out))
    ran = run_cli("evaluate", "recall", *options, "--json")
    found = json.loads(ran.stdout)
    assert list(found["methods"]) == ["popularity", "content", "both"] and found["counts"]["users"] == 40
    assert json.loads((out / "recall.json").read_text())["methods"] == found["methods"]
    assert "| both: dense, neighbours, content, codes |" in (out / "recall.md").read_text()
    assert "both: dense, neighbours, content, codes" in (out / "recall.html").read_text()
    ran = run_cli("evaluate", "recall", "--workspace", shop.uri, "--methods", "content", "--split", "time")
    assert "no leak found" in ran.stdout + ran.stderr
    wrong = run_cli("evaluate", "recall", "--workspace", shop.uri, "--split", "weekly")
    assert "split 'weekly': use last-out, time, cold:0.1" in wrong.stderr and wrong.returncode


@pytest.mark.slow
def test_a_broken_or_strange_fit_is_refused(shop: Workspace) -> None:
    with pytest.raises(NotFitted, match=r"no stage of kind finetune\.recall: `coldstart finetune recall`"):
        empty = coldstart.open(Path(shop.uri).parent / "empty", create=True)
        from coldstart.semantic_ids.recall_service import recall_stage

        recall_stage(empty.pipeline())
    folder = shop._store.artifacts.newest("recall").folder  # type: ignore[union-attr]
    card = json.loads((folder / CARD_FILE).read_text())
    for change in (
        {"shape": {**card["shape"], "dim": 1 << 20}},
        {"shape": {**card["shape"], "sizes": [9, 9]}},
        {"shape": {**card["shape"], "items": -1}},
        {"new": {"weight": float("nan"), "depth": 1, "content": 0}},
        {"mix": {"neighbours": 1, "content": float("inf"), "codes": 0, "new": 1}},
        {"auto": "best"},
    ):
        (folder / CARD_FILE).write_text(json.dumps({**card, **change}))
        load_recall.cache_clear()
        with pytest.raises(ColdstartError, match=r"holds no fit of recall .*: run `coldstart finetune recall`"):
            load_recall(folder)
    (folder / CARD_FILE).write_text(json.dumps(card))
    good = load_file(folder / NEIGHBOURS_FILE)
    assert good["items"].any()
    for change in (
        {"items": good["items"] + np.int32(card["shape"]["items"])},
        {"starts": good["starts"][::-1].copy()},
        {"weights": good["weights"] * np.float32(np.nan)},
    ):
        save_file({**good, **change}, folder / NEIGHBOURS_FILE)
        load_recall.cache_clear()
        with pytest.raises(ColdstartError, match="is no list of neighbours"):
            load_recall(folder)
    save_file(good, folder / NEIGHBOURS_FILE)
    (folder / WEIGHTS_FILE).write_bytes(b"x" * 99)
    load_recall.cache_clear()
    with pytest.raises(ColdstartError, match="holds no fit of recall"):
        load_recall(folder)
    load_recall.cache_clear()


def random_data(seed: int = 0) -> SequenceData:
    rng = np.random.default_rng(seed)
    codes = rng.integers(4, size=(60, 2)).astype(np.int32)
    content = rng.normal(size=(60, 5)).astype(np.float32)
    histories = [rng.permutation(60)[: rng.integers(2, 9)].astype(np.int64) for _ in range(40)]
    return SequenceData([f"i{n}" for n in range(60)], histories, content, codes, (4, 4))


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, training = random_data(), Training(dim=16, epochs=5, patience=9, device="cpu")
    whole = train(data, training)
    for stop in (1, 5):
        path = tmp_path / f"{stop}.safetensors"
        calls = iter(range(100))

        def step(calls: Any = calls, stop: int = stop) -> None:
            if next(calls) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(data, training, step=step, checkpoint=path)
        assert path.exists()
        again = train(data, training, checkpoint=path)
        assert again.report == whole.report
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight, again.model.state_dict()[name]), name


@pytest.mark.slow
def test_hidden_items_and_last_items_are_not_learnt_from_before_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data()
    seen: list[Any] = []
    real = train_sequence._Trainer._epoch

    def spy(self: Any, histories: Any, items: Any, learns: Any, number: int) -> None:
        seen.append((number, [own.tolist() for own in histories], set(learns.tolist())))
        real(self, histories, items, learns, number)

    monkeypatch.setattr(train_sequence._Trainer, "_epoch", spy)
    monkeypatch.setattr(train_sequence, "MOST_JUDGED", 12)
    judged: list[tuple[str, int]] = []
    lists = train_sequence.Recaller.lists

    def count(self: Any, histories: Any, channel: Any, top_k: int, **given: Any) -> Any:
        judged.append((channel, len(histories)))
        return lists(self, histories, channel, top_k, **given)

    monkeypatch.setattr(train_sequence.Recaller, "lists", count)
    train(data, Training(dim=16, epochs=2, device="cpu"))
    assert {channel for channel, _ in judged} >= {"dense", "codes", "both"}
    assert max(count for channel, count in judged if channel != "dense") == 12, "no choice asks all users"
    hidden = {place for place, item in enumerate(data.item_ids) if train_sequence.stands_for_new(item)}
    assert hidden
    for number, histories, learns in seen:
        if number >= 10_000:
            assert histories == [own.tolist() for own in data.histories]
            continue
        assert not learns & hidden
        for own, whole in zip(histories, data.histories, strict=True):
            assert own == [item for item in (whole[:-1] if len(whole) >= 3 else whole).tolist() if item not in hidden]
    assert {number >= 10_000 for number, _, _ in seen} == {True, False}


@pytest.mark.slow
def test_ids_alone_learn_what_follows() -> None:
    histories = [(np.arange(start, start + 6) % 30).astype(np.int64) for start in range(30) for _ in range(3)]
    data = sasrec(SequenceData([f"i{n}" for n in range(30)], histories, np.ones((30, 2), np.float32), None))
    trained = train(data, Training(dim=16, epochs=20, dropout=0.1, learning_rate=0.01, device="cpu"))
    assert trained.report["held_out"]["dense"]["recall@10"]["value"] > 0.9
    assert trained.model.shape.content == 0 and not trained.model.shape.sizes


def test_gain_of_one_right_item_is_by_its_place() -> None:
    places = np.array([[4, 2, 9], [1, 2, 3], [-1, -1, -1]])
    assert gains_at(places, np.array([2, 7, 5]), 3).tolist() == pytest.approx([1 / np.log2(3), 0, 0])
    assert gains_at(places, np.array([9, 1, 5]), 2).tolist() == pytest.approx([0, 1, 0])
