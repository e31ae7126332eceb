"""Union of channels and its ranker: what channels may know, the fit and its files, lists of `recommend`, the reply."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogue import coldstart as run_cli
from catalogue import write_manifest
from safetensors.numpy import load_file, save_file

import coldstart
from coldstart.api import Workspace
from coldstart.api.as_of import ListsAsOf
from coldstart.api.rerank_service import save_certificate
from coldstart.api.served_comparison import _gains, compare_with_served, ranked_notes
from coldstart.api.served_rows import ServedRows
from coldstart.core.candidates import ChannelLists, join
from coldstart.core.progress import SilentProgress
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rank.channels import WEEK_S, ContentNeighbours, Popular, fit_channels
from coldstart.rank.union import Items, union_features
from coldstart.rank.union_files import ARRAYS_FILE, from_files, to_files
from coldstart.rank.union_fit import (
    Linear,
    UnionFit,
    UnionRecipe,
    fit_union,
    hold_out,
    is_pseudo_new,
    new_exposure,
    offset_for,
)
from coldstart.rank.union_stage import HeldOut, read_held_out, union_stage
from coldstart.recommend.evaluate.measures import ListInputs
from coldstart.recommend.evaluate.page import markdown, recommend_html
from coldstart.recommend.evaluate.splits import TEST
from coldstart.recommend.users import ScoringModel
from coldstart.rerank.certificate import Base

ITEMS, USERS, SHELVES = 70, 130, 7


def histories(users: int = USERS) -> list[np.ndarray]:
    """Walks over one shelf: what follows can be learnt, and content tells the shelf."""
    return [np.array([(user * 5 + SHELVES * step) % ITEMS for step in range(7)], np.int64) for user in range(users)]


def times(own: list[np.ndarray]) -> list[np.ndarray]:
    return [1_700_000_000 + 86_400 * np.arange(len(one)) for one in own]


CONTENT = np.eye(SHELVES, dtype=np.float32)[np.arange(ITEMS) % SHELVES]
NAMES = [f"p{n:03}" for n in range(ITEMS)]
ATTRIBUTES = (np.arange(ITEMS)[:, None] % SHELVES, ("category",))


def test_candidates_of_channels_are_joined() -> None:
    first = ChannelLists(
        np.array([[4, 2, -1], [0, -1, -1]]), np.array([[9, 8, -np.inf], [7, -np.inf, -np.inf]], np.float32)
    )
    second = ChannelLists(np.array([[2, 3], [0, 1]]), np.array([[1, 0.5], [1, 0.5]], np.float32))
    found = join({"a": first, "b": second}, np.array([False, True, False, False, False]))
    assert found.places.tolist() == [2, 3, 4, 0, 1] and found.starts.tolist() == [0, 3, 5]
    assert found.sources(0) == (("b", 1), ("a", 2)) and np.isnan(found.ranks[1, 0])
    assert found.cold.tolist() == [False, False, False, False, True]


def test_a_channel_that_the_fit_did_not_have_counts_in_no_feature() -> None:
    own = histories(40)
    channels = fit_channels(own, (np.concatenate(own), np.concatenate(times(own))), CONTENT)
    counts = np.bincount(np.concatenate(own), minlength=ITEMS)
    items = Items(CONTENT, counts, counts == 0, *ATTRIBUTES)
    lists = {name: one.candidates(own[:2], 5) for name, one in channels.items()}
    plain = join(lists, items.cold)
    more = join(
        {**lists, "further": ChannelLists(lists["content"].places[:, ::-1], lists["content"].scores)}, items.cold
    )
    found = [union_features(one, channels, own[:2], items).values for one in (plain, more)]
    assert np.array_equal(*found, equal_nan=True)


def test_channels_leave_out_histories_and_know_nothing_of_items_without_rows() -> None:
    own = [one[one != 10] for one in histories()]
    rows = np.concatenate(own), np.concatenate(times(own))
    channels = fit_channels(own, rows, CONTENT)
    assert list(channels) == ["cooccurrence", "ease", "content", "popular"]
    for name, channel in channels.items():
        listed = channel.candidates(own[:9], ITEMS).places
        assert not any(set(row) & set(history) for row, history in zip(listed.tolist(), own[:9], strict=True)), name
        score = channel.scores(own[:1], np.array([[10, -1]]))[0]
        assert np.isnan(score[1]) and np.isnan(score[0]) == (name != "content"), name


def test_popularity_is_of_rows_before_the_request() -> None:
    weeks = np.array([0, 0, 1, 1, 1, 2]) * WEEK_S
    channel = Popular(np.array([0, 0, 1, 1, 1, 2]), weeks, 3)
    before = channel.candidates([np.empty(0, np.int64)] * 2, 3, np.array([1, 2]) * WEEK_S).places
    assert before.tolist() == [[0, -1, -1], [1, 0, -1]]


def test_content_tells_new_items() -> None:
    listed = ContentNeighbours(CONTENT).candidates([np.array([3])], 4, among=np.arange(ITEMS) > 60).places
    assert listed[0, 0] == 66


def test_what_is_held_out_is_in_nothing_that_is_read() -> None:
    own = histories()
    requests, items = hold_out(own, times(own), NAMES, CONTENT, ATTRIBUTES, UnionRecipe(most_requests=100))
    pseudo = np.array([is_pseudo_new(name) for name in NAMES])
    assert pseudo.any() and (items.cold >= pseudo).all(), "rows of items that stand for new ones are read"
    met = [set(own[user][:-1].tolist()) for user in requests.users]
    known = requests.candidates
    assert not any(int(place) in met[row] - set(np.flatnonzero(pseudo)) for row, place in
                   zip(known.requests, known.places, strict=True))  # fmt: skip
    ranks = known.ranks[:, known.channels.index("cooccurrence")]
    assert np.isnan(ranks[pseudo[known.places]]).all()
    # an item that nobody ever took is no new one that could be asked for
    content, shelves = np.vstack([CONTENT, CONTENT]), np.vstack([ATTRIBUTES[0]] * 2)
    more = [*NAMES, *(f"never {name}" for name in NAMES)]
    wider, _ = hold_out(own, times(own), more, content, (shelves, ATTRIBUTES[1]), UnionRecipe(most_requests=100))
    assert wider.candidates.places.max() < ITEMS and wider.new.any()


def test_new_items_get_the_share_that_is_aimed_at() -> None:
    lists = ChannelLists(np.tile(np.arange(30), (50, 1)), np.zeros((50, 30), np.float32))
    known = join({"a": lists}, np.arange(30) >= 20)
    scores = np.where(known.cold, -5.0, 0) + np.random.default_rng(0).normal(size=len(known))
    every = np.ones(50, bool)
    assert new_exposure(scores, known, every) < 0.02
    offset = offset_for(scores, known, every, 0.2)
    assert new_exposure(scores + offset * known.cold, known, every) == pytest.approx(0.2, abs=0.01)
    assert offset_for(scores + 9 * known.cold, known, every, 0.2) == 0


def test_lists_that_are_replaced_are_measured_over_what_was_taken_and_is_not_in_the_history() -> None:
    names = [*"abcde"]
    own = np.zeros(2, np.int64)
    held = HeldOut(names, [np.array([0, 1, 2])], np.zeros(5, bool), own, np.array([2, 1]), np.array([0, 1]), own + 0.0)
    assert [one.tolist() for one in held.before(1)] == [[0]]
    vectors = np.array([[9], [1], [3], [4], [7]], np.float32)  # d and e were never taken, a is in the history
    model = ScoringModel("m", (*names,), vectors, np.zeros(5, bool), (*names,), lambda asked: asked.sum(1), True)
    first, second = (_gains(model, held, held.before(back), held.back == back) for back in (0, 1))
    assert first.tolist() == [1] and second.tolist() == pytest.approx([1 / np.log2(3)])


@pytest.fixture(scope="module")
def union() -> UnionFit:
    own = histories()
    return fit_union(own, times(own), NAMES, CONTENT, ATTRIBUTES, UnionRecipe(most_back=1))


def test_a_fit_is_judged_on_other_users_and_read_back(union: UnionFit, tmp_path: Path) -> None:
    report = union.report
    assert union.kind == "linear" and report["users"] == USERS and report["gain"]["n"] == USERS
    assert report["auto"] == (report["gain"]["low"] > 0)
    assert {"ranked", "best", "rrf", "cooccurrence", "content"} <= set(report["ndcg@10"])
    for name, data in to_files(union).items():
        (tmp_path / name).write_bytes(data)
    again = from_files(tmp_path, ITEMS)
    own = histories(3)
    for name, channel in again.channels.items():
        want = union.channels[name].candidates(own, 20)
        np.testing.assert_array_equal(channel.candidates(own, 20).places, want.places)
    assert isinstance(again.linear, Linear) and again.new_offset == union.new_offset
    np.testing.assert_array_equal(again.linear.weights, union.linear.weights if union.linear else None)


@pytest.mark.parametrize("name", ["cooccurrence/indices", "counts", "linear/weights", "ease/indptr"])
def test_files_of_a_stranger_are_checked(union: UnionFit, tmp_path: Path, name: str) -> None:
    for file, data in to_files(union).items():
        (tmp_path / file).write_bytes(data)
    arrays = load_file(tmp_path / ARRAYS_FILE)
    if name == "ease/indptr":
        arrays[name] = np.where(np.arange(ITEMS + 1) == 3, np.nan, arrays[name])
    else:
        arrays[name] = arrays[name] + 10_000 if name.endswith("indices") else arrays[name][:-1]
    save_file(arrays, tmp_path / ARRAYS_FILE)
    with pytest.raises(ValueError, match=r"do not fit|names items|of other"):
        from_files(tmp_path, ITEMS)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("union")
    opened = coldstart.open(folder / "ws", create=True)
    items = [
        {"item_id": name, "title": f"thing {n} of shelf {n % SHELVES}", "category": f"shelf {n % SHELVES}"}
        for n, name in enumerate([*NAMES, "new-1", "new-2"])
    ]
    stages = {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}}
    opened.run({"manifest": str(write_manifest(folder / "i.jsonl", items)), "engine": {"workers": 1}, "stages": stages})
    own = histories()
    rows = [
        {"user_id": f"u{user}", "item_id": NAMES[item], "timestamp": int(at), "event": "like"}
        for user, (one, seconds) in enumerate(zip(own, times(own), strict=True))
        for item, at in zip(one, seconds, strict=True)
    ]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    opened.ingest_interactions(folder / "log.jsonl")
    opened.finetune_rank()
    opened.run()
    return folder / "ws"


@pytest.fixture
def shop(fitted: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(fitted, tmp_path / "ws")
    return coldstart.open(tmp_path / "ws")


@pytest.mark.slow
def test_lists_are_ranked_and_say_why(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shop.recommend("u1", rank="off", top_k=8)
    assert plain.ranked is None and all(not one.details for one in plain.items)
    found = shop.recommend("u1", rank="on", top_k=8)
    assert found.ranked is not None and found.ranked["on"] and "NDCG@10" in found.ranked["why"]
    met = {NAMES[item] for item in histories(2)[1]}
    ids = [one.item_id for one in found.items]
    assert len(ids) == len(set(ids)) == 8 and not met & set(ids)
    details = found.items[0].to_dict()
    assert details["sources"][0]["rank"] >= 1 and {one["item_id"] for one in details["nearest"]} <= met
    led = [one for one in found.items if one.details.get("nearest")]
    assert any(one.details["nearest"][0]["by"] == "cooccurrence" for one in led)
    for one in led:
        assert one.reason is not None and one.reason.because == one.details["nearest"][0]["item_id"], one.item_id
    auto = shop.recommend("u1", top_k=8)
    assert auto.ranked is not None and auto.ranked["on"] == shop.fit_report("union")["auto"]
    if not auto.ranked["on"]:
        assert [one.item_id for one in auto.items] == [one.item_id for one in plain.items]
    assert all(one.cold for one in shop.recommend("u1", rank="on", top_k=2, cold_share=1.0).items), "quota"
    assert len(shop.recommend("u1", rank="on", top_k=60).items) == 60, "longer than the union is filled up"
    found = shop.recommend("u1", rank="on", top_k=9, where="category = 'shelf 3'")
    assert {one.category for one in found.items} == {"shelf 3"}
    for given, match in (({"interests": 2}, "interests"), ({"history": ["new-9"], "user": None}, "no item")):
        with pytest.raises(ColdstartError, match=match):
            shop.recommend(**({"user": "u1"} | given), rank="on")  # type: ignore[arg-type]
    with pytest.raises(ColdstartError, match="auto, on or off"):
        shop.recommend("u1", rank="yes")
    with pytest.raises(NotFitted, match=r"0 showings, .* needs 2,000 .*`coldstart recommend --rank auto`") as few:
        shop.rank("u1", ["p001"])  # no fit of likes mends that
    assert few.value.next is not None and few.value.next.startswith("bring showings")
    first, second, third = ranked_notes(shop._store, shop.pipeline())
    assert "lists that it replaces" in third
    assert f"last items of {USERS} users" in first and "rrf" in first and "of the first 10" in second
    monkeypatch.setattr(shop, "_probabilities", lambda user, ids: ({ids[0]: {"click": 0.3}}, {"click": True}))
    shown = shop.recommend("u1", top_k=2)
    assert shown.ranked is not None and shown.ranked["calibrated"] == {"click": True}
    assert shown.items[0].to_dict()["p"] == {"click": 0.3}
    done = run_cli("recommend", "--workspace", shop.uri, "--user", "u1", "--rank", "on", "--json")
    assert {"ranked", "items"} <= set(json.loads(done.stdout)) and "sources" in json.loads(done.stdout)["items"][0]


@pytest.mark.slow
def test_auto_is_judged_against_the_lists_that_it_replaces(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def auto() -> tuple[bool, str]:
        shop._union_verdict = None
        about = shop.recommend("u1", top_k=3).ranked
        assert about is not None
        return about["on"], about["why"]

    assert auto()[0] and "lists that it replaces, by text, over 130 users" in auto()[1]
    recommender = shop._listing()
    plain, asked = recommender.scoring_model, []
    fitted = replace(plain, name="behaviour", is_fitted=True)
    recommender.__dict__["scoring_model"] = fitted  # a model of behaviour came
    monkeypatch.setattr(
        "coldstart.api.served_comparison.base_of", lambda own: Base(own.scoring_model.name, own.scoring_model.name)
    )
    on, why = auto()
    assert not on and "not compared with the lists that it replaces, by behaviour" in why and "finetune rank" in why
    assert "auto is off: it was not compared" in why
    assert shop.recommend("u1", rank="on", top_k=3).ranked["on"]  # type: ignore[index]
    monkeypatch.setattr(
        "coldstart.api.served_comparison.behaviour_as_of", lambda _, rows, progress: asked.append(rows) or plain
    )
    assert "fitted again" in compare_with_served(recommender, SilentProgress()) and auto()[0]
    held = read_held_out(shop._store, union_stage(shop.pipeline()))
    assert len(asked) == len(set(held.back.tolist()))
    for back, rows in zip(sorted(set(held.back.tolist())), asked, strict=True):
        met = set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
        own = held.back == back
        assert not met & set(zip(held.users[own].tolist(), held.targets[own].tolist(), strict=True)), "own target"
        assert not held.stands_for_new[rows.items].any()
    count = len(asked)
    compare_with_served(recommender, SilentProgress())
    assert len(asked) == count, "what is known is not compared again"
    monkeypatch.setattr("coldstart.api.served_comparison.base_of", lambda own: Base("behaviour", "better lists"))
    monkeypatch.setattr("coldstart.api.served_comparison._gains", lambda model, held, past, own: np.ones(own.sum()))
    compare_with_served(recommender, SilentProgress())
    on, why = auto()
    assert not on and "NDCG@10 -" in why
    assert why.endswith("auto is off: no gain is shown over the lists that it replaces")


@pytest.mark.slow
def test_lists_of_many_users_are_those_of_one_at_a_time(shop: Workspace, tmp_path: Path) -> None:
    users = ["u1", "u70", "new-user", "u2"]
    options = {"top_k": 9, "cold_share": 0.2, "rank": "on", "rerank": "mmr", "deadline_ms": 60_000.0}
    written = shop.recommend_many(users, tmp_path / "lists.jsonl", **options)
    rows = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert written.users == 4 and written.without_history == 1 and "new-user" not in {row["user_id"] for row in rows}
    assert (
        written.ranked is not None
        and written.ranked["on"]
        and written.scored_by == ("a linear model that orders items that 6 channels list")
    )
    assert written.rerank is not None and written.rerank["kind"] == "mmr" and not written.rerank["faults"]
    for user in ("u1", "u70", "u2"):
        own = [row for row in rows if row["user_id"] == user]
        for row, one in zip(own, shop.recommend(user, reasons=False, **options).items, strict=True):
            assert (row["item_id"], row["rank"], row["cold"]) == (one.item_id, one.rank, one.cold)
            assert row["score"] == pytest.approx(one.score, abs=1e-4)
    (names := tmp_path / "users.txt").write_text("u1\nu2\n")
    many = ("recommend", "--workspace", shop.uri, "--users", str(names), "--out", str(tmp_path / "lists.csv"))
    assert json.loads(run_cli(*many, "--json").stdout)["ranked"]["on"]
    everyone = ("recommend", "--workspace", shop.uri, "--users", "all", "--out", str(tmp_path / "all.csv"), "--json")
    assert json.loads(run_cli(*everyone).stdout)["users"] == USERS
    found = run_cli(*many, "--rerank", "auto")
    assert "reranked by none: no certificate" in found.stdout
    (line,) = [one for one in found.stdout.splitlines() if one.startswith("ranked: ")]
    number, over = r"0\.\d{3}", "NDCG@10 over the list it replaces, 130 users"
    assert re.fullmatch(rf"ranked: \+{number} \({number} to {number}\) {over}", line)
    whole = run_cli("recommend", "--workspace", shop.uri, "--user", "u1", "--explain").stdout
    assert "against the best channel" in " ".join(whole.split()) and "auto is on" in " ".join(whole.split())


@pytest.mark.slow
def test_rerankers_are_certified_over_the_lists_that_are_ranked(shop: Workspace) -> None:
    report = shop.evaluate_rerank(kinds=["mmr"], users=40)
    certificate = report.certificates["mmr"]
    assert report.base["name"] == "ranked union, over text" and any(
        "fitted again inside" in one for one in report.notes
    )
    gain = {"value": 0.1, "low": 0.05, "high": 0.15}
    save_certificate(shop._store, {name: own for name, own in certificate.items() if name not in ("why_not", "days")}
                     | {"difference": gain, "few": False})  # fmt: skip
    reranked = shop.recommend("u3", rerank="auto", deadline_ms=60_000, reasons=False).rerank
    assert reranked is not None and reranked["kind"] == "mmr", reranked
    plain = shop.recommend("u3", rank="off", rerank="auto", deadline_ms=60_000, reasons=False).rerank
    assert plain is not None and plain["kind"] == "none" and "are of text" in plain["why"]
    shop.evaluate_rerank(kinds=["mmr"], users=40, rank="off")  # another base: the first certificate stays
    again = shop.recommend("u3", rerank="auto", deadline_ms=60_000, reasons=False).rerank
    assert again is not None and again["kind"] == "mmr"


@pytest.mark.slow
def test_lists_as_of_a_time_are_those_that_are_served(shop: Workspace) -> None:
    recommender, union = shop._listing(), shop._union("on")
    assert union is not None
    lists = ListsAsOf(union.ranker.item_ids, recommender.scoring_model, union.ranker)
    own = [union.known(recommender.history_of(user).in_order(union.min_weight)) for user in ("u1", "u2")]
    every = np.ones(len(union.ranker.item_ids), bool)
    for row, user in zip(lists.lists(own, every, 15), ("u1", "u2"), strict=True):
        served = shop.recommend(user, rank="on", top_k=15, reasons=False).items
        assert [union.ranker.item_ids[place] for place in row] == [one.item_id for one in served]


@pytest.mark.slow
def test_an_evaluation_has_rows_of_lists_that_know_no_answer(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    save_certificate(shop._store, {"kind": "mmr", "method": "m", "base": {"digest": "b"}, "difference": {}, "n": 0})
    asked: list[ListInputs] = []
    rows_of = ServedRows.__call__
    monkeypatch.setattr(ServedRows, "__call__", lambda own, given: (asked.append(given), rows_of(own, given))[1])
    wanted = ["popularity", "content_mean", "served", "ranked", "reranked"]
    known = shop.evaluate_recommend(split="items", methods=wanted, seeds=1).to_dict()
    ways = set(known["methods"]) | set(known["left_out"])
    assert ways == set(wanted) and list(known["methods"])[:4] == wanted[:4]
    assert known["methods"]["ranked"]["title"].endswith("linear") and known["methods"]["ranked"]["audience"] is None
    sets = known["methods"]["ranked"]["sets"]
    assert set(sets) == {"cold"} and {"value", "low", "high"} <= set(sets["cold"]["recall@20"]["served"])
    told = [*known["notes"], *known["left_out"].values()]
    assert sum("the best of 8 ways" in one for one in told) == 1
    assert "As `recommend` lists" in markdown(known) and "vs served" in recommend_html(known)
    # the same lists come out whatever the users took in the evaluated part
    (inputs,) = asked
    data = inputs.data
    kept = data.split.row_part != TEST
    split = replace(data.split, interactions=data.split.interactions.where(kept), row_part=data.split.row_part[kept])
    blind = replace(data, relevant=data.relevant[::-1].tocsr(), split=split)
    first, second = (
        rows_of(ServedRows(shop._store, shop.pipeline(), SilentProgress(), ("ranked",)), replace(inputs, data=own))
        for own in (data, blind)
    )
    for one, other in zip(first.rows, second.rows, strict=True):
        np.testing.assert_array_equal(one.lists["cold"], other.lists["cold"])
        users, slots = np.nonzero(one.lists["cold"] >= 0)
        assert len(users) and not data.met[inputs.task.users][users, one.lists["cold"][users, slots]].sum()
    # only what is named is built: no reranker is tried for `ranked`, and no ranker is fitted for `served`
    assert [row.name for row in first.rows] == ["served", "ranked"] and not first.left_out
    monkeypatch.setattr("coldstart.api.served_rows.union_as_of", lambda *_: pytest.fail("fitted for nobody"))
    alone = rows_of(ServedRows(shop._store, shop.pipeline(), SilentProgress(), ("served",)), inputs)
    np.testing.assert_array_equal(alone.rows[0].lists["cold"], first.rows[0].lists["cold"])
    monkeypatch.undo()
    plain = shop.evaluate_recommend(split="items", methods=["popularity"], seeds=1).to_dict()
    assert list(plain["methods"]) == ["popularity"]
