"""Ranker on showings: counts before a row, calibration, trees that are checked, fit, ranking and evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import coldstart as run_cli
from catalogue import write_manifest

import coldstart
from coldstart.api import Workspace
from coldstart.errors import ColdstartError, LeakError, NotFitted
from coldstart.rank import evaluate
from coldstart.rank.calibration import (
    Calibration,
    Period,
    expected_calibration_error,
    fit_calibration,
    fit_curve,
    reliability,
    sigmoid,
)
from coldstart.rank.counts import Counts, position_bias
from coldstart.rank.data import read_data
from coldstart.rank.evaluate import auc, evaluate_data, user_auc
from coldstart.rank.features import Actions, FeatureMaker, ItemTable, Met, Rows
from coldstart.rank.fit_stage import rank_stage
from coldstart.rank.fitted import TREES_FILE, from_files
from coldstart.rank.settings import Settings
from coldstart.rank.trees import Forest
from coldstart.rank.workspace import parse_split

DAY, START = 86_400, 1_700_006_400
USERS, ITEMS, SHOWN = 60, 40, 3_200


def test_counts_are_of_earlier_periods_alone() -> None:
    counts = Counts(np.array([1, 1, 1, 2]), np.array([0, 1, 1, 0]), np.array([[1.0], [2.0], [4.0], [8.0]]), 3)
    found = counts.before(np.array([1, 1, 1, 2, 3]), np.array([0, 1, 2, 3, 3]))
    np.testing.assert_array_equal(found[:, 0], [0, 1, 7, 8, 0])


def test_places_in_front_are_taken_out() -> None:
    places = np.tile(np.array([0, 1], np.int32), 5_000)
    labels = np.where(places == 0, np.arange(10_000) % 4 == 0, np.arange(10_000) % 20 == 1).astype(np.float32)
    zeros = np.zeros(10_000, np.int64)
    shift, relative = position_bias(Rows(zeros, zeros, zeros, places, {"click": labels}))["click"]
    rates = [labels[places == one].mean() for one in (0, 1)]
    odds = [np.log(rate / (1 - rate)) for rate in rates]
    assert shift[0] - shift[1] == pytest.approx(odds[0] - odds[1], abs=0.1)
    assert relative[0] / relative[1] == pytest.approx(rates[0] / rates[1], rel=0.1)
    assert shift[50] == pytest.approx(0, abs=1e-9), "a place that was never looked at shifts nothing"


@pytest.mark.parametrize("unit", [1, 3_600])
def test_a_served_row_has_the_features_of_a_fitted_one(monkeypatch: pytest.MonkeyPatch, unit: int) -> None:
    drawn, count = np.random.default_rng(0), 400
    codes = np.arange(20, dtype=np.int32) % 4 + 1
    items = ItemTable(tuple(map(str, range(20))), {"creator": codes, "category": codes}, np.zeros((20, 0), np.int32),
                      np.zeros(20))  # fmt: skip
    users, kinds = drawn.integers(0, 5, count), drawn.integers(0, 2, count)
    seconds = np.sort(START + drawn.integers(-2 * DAY, 8 * DAY, count)) // unit * unit
    met = Met(drawn.integers(0, 18, count), kinds, seconds)
    shown = Rows(
        drawn.integers(0, 5, count), drawn.integers(0, 20, count), np.sort(START + drawn.integers(0, 8 * DAY, count)),
        np.full(count, -1, np.int32), {"click": drawn.integers(0, 2, count).astype(np.float32)},
    )  # fmt: skip
    ended: list[tuple[int, int]] = []

    def read(who: np.ndarray, before: np.ndarray, last: int) -> Actions:
        ended.extend(zip(who.tolist(), before.tolist(), strict=True))
        found = np.full((3, len(who), last), -1, np.int64)
        for row, (user, end) in enumerate(zip(who, before, strict=True)):
            own = np.flatnonzero((users == user) & (seconds < end))[-last:]
            found[:, row, last - len(own) :] = met.items[own], kinds[own], seconds[own]
        return Actions(found[0].astype(np.int32), np.maximum(found[1], 0).astype(np.uint8), found[2])

    def unread(*_: object) -> Any:
        raise AssertionError("whole histories are read for networks alone")

    def made(past: Rows, actions: Met, rows: Rows) -> tuple[dict[str, np.ndarray], np.ndarray]:
        maker = FeatureMaker(items, past, read, ["view", "buy"], actions, whole=unread, lengths=unread)
        got = maker.make(rows, sequences=False)
        return dict(zip(got.names, got.values.T, strict=True)), maker.cold(rows)

    (fitted_all, cold_all), place = made(shown, met, shown), 250
    known = shown.where(np.arange(count) < place)
    row = shown.where(np.array([place]))
    until = seconds < row.times[0]
    served, cold = made(known, Met(met.items[until], kinds[until], seconds[until]), row)
    assert cold[0] == cold_all[place]
    for name, own in served.items():
        assert np.array_equal(own, fitted_all[name][place : place + 1], equal_nan=True), name
    day = met.seconds < row.times[0] // DAY * DAY
    of_item = [np.log1p(((met.items == row.items[0]) & (kinds == one) & day).sum()) for one in (0, 1)]
    np.testing.assert_allclose([fitted_all[f"met.{one}"][place] for one in ("view", "buy")], of_item, rtol=1e-6)
    assert cold_all[shown.items >= 18][0], "nobody met it yet"
    ends = row.times[0] // unit * unit
    assert (row.users[0], ends) in ended, "an action of this hour may be of this showing where times are rounded"
    monkeypatch.setattr("coldstart.rank.features._MOST_GROUPS", 300)
    ended.clear()
    made(shown, met, shown)
    assert len(ended) < 300, "a log of many requests is read by hours"


def test_auc_counts_ties_half() -> None:
    drawn = np.random.default_rng(0)
    users, scores = drawn.integers(0, 6, 80), drawn.integers(0, 5, 80).astype(float)
    labels = drawn.integers(0, 2, 80)

    def pairs(chosen: np.ndarray) -> float:
        yes, no = scores[chosen & (labels > 0)], scores[chosen & (labels == 0)]
        return float(((yes[:, None] > no) + 0.5 * (yes[:, None] == no)).mean())

    assert auc(scores, labels) == pytest.approx(pairs(np.ones(80, bool)))
    aucs, rows, own = user_auc(users, scores, labels)
    np.testing.assert_allclose(aucs, [pairs(users == user) for user in own])
    np.testing.assert_array_equal(rows, [(users == user).sum() for user in own])


def test_calibration() -> None:
    drawn = np.random.default_rng(0)
    logits = drawn.normal(size=12_000) * 2
    labels = (drawn.random(12_000) < sigmoid(0.5 * logits)).astype(float)  # too sure of itself
    assert expected_calibration_error(sigmoid(logits), labels) > 0.08
    cold = np.arange(12_000) % 10 == 0

    def period(start: int, end: int, shift: float = 0.0, factor: float = 1.0, told: np.ndarray = labels) -> Period:
        rows = slice(start, end)
        return Period(
            {"click": factor * logits[rows] + shift}, {"click": told[rows]}, cold[rows], np.arange(start, end),
            np.arange(start, end) // 2_000,
        )  # fmt: skip

    made = fit_calibration(period(0, 6_000), period(6_000, 12_000))
    assert {name: one["rows"] for name, one in made.about()["click"].items()} == {
        "all": 12_000, "warm": 10_800, "cold": 1_200
    }  # fmt: skip
    assert made.about()["click"]["all"]["method"] != "as it is"
    p = made.apply({"click": logits}, cold)["click"]
    assert expected_calibration_error(p, labels) < 0.02
    lower = fit_calibration(period(0, 6_000, -2), period(6_000, 12_000, -1))  # days of a higher rate than the fit's
    np.testing.assert_allclose(lower.apply({"click": logits}, cold)["click"], p, atol=1e-6)
    right = (drawn.random(12_000) < sigmoid(logits)).astype(float)
    for factor, told in ((2.0, labels), (1.0, right)):  # the first fit was surer than the later one; right as it is
        left = fit_calibration(
            period(0, 6_000, factor=factor, told=told), period(6_000, 12_000, factor=0.5, told=labels)
        )
        assert left.about()["click"]["all"]["method"] == "as it is", "what does not hold later is not kept"
        np.testing.assert_allclose(left.apply({"click": logits}, cold)["click"], sigmoid(logits))
    again = Calibration.from_dict(json.loads(json.dumps(made.to_dict())))
    np.testing.assert_array_equal(again.apply({"click": logits}, cold)["click"], p)
    curve = made.curves["click"]["all"]
    assert (curve.days, curve.moved) == (6, pytest.approx(0.0, abs=0.1)), "six days of one level"
    ends = made.interval("click", p, cold)
    assert ends is not None
    assert (ends[0] < p).all()
    assert (p < ends[1]).all()
    levels = np.repeat([0.5, -0.5, 0.4, -0.4, 0.6, -0.6], 2_000)  # of each day over what the model says
    moving = (drawn.random(12_000) < sigmoid(logits + levels)).astype(float)
    moved = fit_calibration(period(0, 6_000, told=moving), period(6_000, 12_000, told=moving)).curves["click"]["all"]
    assert moved.moved == pytest.approx(np.sqrt((levels**2).mean()), abs=0.05)
    wider = moved.interval(np.array([0.5]))
    assert sigmoid(np.array([2.447 * 0.45]))[0] < wider[1][0] < sigmoid(np.array([2.447 * 0.6]))[0], "t of six days"
    one_user = replace(period(0, 6_000), users=np.arange(6_000) // 100)
    by_row, by_user = (fit_calibration(one, period(6_000, 12_000)).curves["click"]["all"] for one in
                       (period(0, 6_000), one_user))  # fmt: skip
    assert by_user.error != by_row.error, "rows of a user are no independent witnesses"
    assert made.interval("like", p, cold) is None
    a, b = fit_curve(logits[:4_000], labels[:4_000], isotonic=False).platt or (0, 0)
    assert (a, b) == pytest.approx((0.5, 0), abs=0.12)
    assert fit_curve(-logits[:4_000], labels[:4_000], isotonic=False).platt[0] == 0, (
        "an order that is worth nothing is not turned round"
    )
    assert not fit_calibration(period(0, 50), period(50, 100)).calibrated("click")
    bent = np.where(np.abs(logits) < 1, logits, np.sign(logits))  # rises in the middle alone: no sigmoid does
    sure = (drawn.random(12_000) < sigmoid(bent)).astype(float)
    found = fit_calibration(period(0, 6_000, told=sure), period(6_000, 12_000, told=sure))
    assert found.about()["click"]["all"]["method"] == "isotonic"
    assert [one["rows"] for one in reliability(np.array([0.01, 0.02, 0.99]), np.array([0, 1, 1.0]))] == [2, 1]
    known = curve.to_dict()
    with pytest.raises(ValueError, match="below 0"):
        Calibration.from_dict({"click": {"all": {**known, "error": [-1, 0, 0]}}})
    with pytest.raises(ValueError, match="do not rise"):
        Calibration.from_dict({"click": {"all": {**known, "knots": [[1, 0], [0, 1]]}}})
    with pytest.raises(ValueError, match="do not rise"):
        Calibration.from_dict({"click": {"all": {**known, "knots": [[0], [np.nan]]}}})


def test_trees_lead_somewhere() -> None:
    own: dict[str, Any] = {
        "leaves": [3], "feature": [0, 1], "threshold": [0.5, 2.0], "decision": [10, 10], "left": [1, -1],
        "right": [-3, -2], "value": [1.0, 2.0, 4.0], "bias": [0.25],
    }  # fmt: skip
    arrays = {name: np.array(values) for name, values in own.items()}
    values = np.array([[0, 1], [0, 3], [1, 0], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(Forest(arrays, 2).predict(values), [1.25, 2.25, 4.25, 1.25])
    for name, wrong in (("left", [0, -1]), ("left", [2, -1]), ("right", [-9, -2]), ("feature", [0, 2]),
                        ("threshold", [np.nan, 1]), ("decision", [1, 10]), ("leaves", [4]),
                        ("left", [0.5, -1]), ("bias", [[0.25]]),
                        ("leaves", [1 << 62] * 3 + [(1 << 62) + 3])):  # fmt: skip
        with pytest.raises(ValueError, match="trees"):
            Forest({**arrays, name: np.array(wrong)}, 2)


def test_split() -> None:
    assert parse_split("time") is None
    assert parse_split("time:2022-05-01T00:00+08:00") == 1651334400 == parse_split("time:2022-04-30T16:00")
    with pytest.raises(ColdstartError, match=r"use time, or time:DATE"):
        parse_split("last-out")


def showings(count: int = SHOWN) -> list[dict[str, Any]]:
    """Users like items of their own shelf; the first items are liked by all."""
    drawn = np.random.default_rng(0)
    found = []
    for number in range(count):
        user, item = int(drawn.integers(USERS)), int(drawn.integers(ITEMS))
        chance = 0.1 + 0.5 * (user % 4 == item % 4) + 0.2 * (item < 10)
        found.append(
            {
                "user_id": f"u{user}",
                "item_id": f"p{item}",
                "timestamp": START + number * 8 * DAY // count,
                "position": number % 5,
                "click": int(drawn.random() < chance),
            }
        )
    return found


def workspace(folder: Path, rows: list[dict[str, Any]]) -> Workspace:
    items = [
        {"item_id": f"p{n}", "title": f"article {n}", "category": f"shelf {n % 4}", "kind": "product", "price": n + 1}
        for n in range(ITEMS + 1)
    ]
    uri = str(folder / "w")
    made = run_cli("ingest", str(write_manifest(folder / "items.jsonl", items)), "--workspace", uri)
    assert made.returncode == 0, made.stderr
    actions = [
        {"user_id": row["user_id"], "item_id": row["item_id"], "timestamp": row["timestamp"] - 20 * DAY, "event": "buy"}
        for row in rows
        if row["click"]
    ]
    opened = coldstart.open(uri)
    opened.ingest_interactions(write_manifest(folder / "log.jsonl", actions))
    opened.ingest_impressions(write_manifest(folder / "shown.jsonl", rows))
    return opened


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    opened = workspace(tmp_path_factory.mktemp("ranked"), showings())
    opened.finetune_rank(model="both", overrides=["rank.rounds=30", "rank.epochs=1", "rank.dim=8"])
    return opened


@pytest.mark.slow
def test_rank(fitted: Workspace) -> None:
    at = START + 30 * DAY
    found = fitted.rank("u1", ["p1", "p2", "p40", "nowhere", "p1"], at=at)
    by_item = {one.item_id: one for one in found.items}
    assert [one.item_id for one in found.items][-1] == "nowhere"
    assert (by_item["nowhere"].state, by_item["nowhere"].p, by_item["nowhere"].rank) == ("unknown", {}, None)
    assert by_item["p40"].state == "new"
    assert found.items[0].item_id == "p1", "the user's own shelf, and liked by all"
    assert 0 < by_item["p2"].p["click"] < by_item["p1"].p["click"] < 1
    assert found.calibrated == {"click": True}
    low, high = by_item["p1"].interval["click"]
    assert 0 < low < by_item["p1"].p["click"] < high < 1
    assert by_item["nowhere"].interval == {}
    assert found.dropped == 0
    assert found.actions > 0
    early = fitted.rank("u1", ["p1"], at=START - 30 * DAY)
    assert (early.actions, early.dropped) == (0, found.actions)
    assert not fitted.rank("stranger", ["p1"], at=at).known_user
    with pytest.raises(ColdstartError, match="0 items to rank"):
        fitted.rank("u1", [])
    again = coldstart.open(fitted.uri).rank("u1", ["p1", "p2"], at=at)
    assert again.items[0].p == {"click": pytest.approx(by_item["p1"].p["click"])}


@pytest.mark.slow
def test_refit_and_commands(fitted: Workspace, tmp_path: Path) -> None:
    (stage,) = fitted.finetune_rank().stages
    assert "nothing came or changed since" in " ".join(stage.notes)
    changed = fitted.pipeline(overrides=["rank.rounds=31"])
    with pytest.raises(NotFitted, match=r"no fit of its settings: the newest, of 20.* run `coldstart finetune rank`"):
        rank_stage(changed).newest(fitted._store)
    listed = tmp_path / "ids.txt"
    listed.write_text("p1\n\np2\n", "utf-8")
    asked = run_cli("rank", "-w", fitted.uri, "--user", "u1", "--items", str(listed), "--item", "p3", "--json")
    known = json.loads(asked.stdout)
    assert {one["item_id"] for one in known["items"]} == {"p1", "p2", "p3"}
    out = tmp_path / "report"
    done = run_cli("evaluate", "rank", "-w", fitted.uri, "--split", "time", "--out", str(out), "--json")
    report = json.loads(done.stdout)
    assert report == json.loads((out / "rank.json").read_text("utf-8"))
    measures = report["events"]["click"]["methods"]
    assert list(measures) == [name for name in evaluate.METHODS if "long" not in name]
    assert measures["trees"]["auc"]["low"] > measures["constant"]["auc"]["value"] == 0.5
    assert "no leak found" in (out / "rank.md").read_text("utf-8")
    assert f"{evaluate.RESAMPLES} resamples of users" in (out / "rank.md").read_text("utf-8")
    assert (out / "rank.html").read_text("utf-8").count("<circle") == len(measures[report["chosen"]]["reliability"])


@pytest.mark.slow
def test_a_leak_fails_the_evaluation(fitted: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(model="trees", rounds=5)
    data = read_data(fitted._store, settings)
    as_of = FeatureMaker._as_of
    monkeypatch.setattr(FeatureMaker, "_as_of", lambda self, rows: as_of(self, rows) + 1)
    with pytest.raises(LeakError, match=r"item\.click.* change with the outcomes of their own period"):
        evaluate_data(data, settings)


@pytest.mark.slow
def test_too_little_is_refused(tmp_path: Path) -> None:
    few = workspace(tmp_path, showings(1_500))
    with pytest.raises(ColdstartError, match=r"1,500 showings, and a fit needs 2,000"):
        few.finetune_rank(events=["click"])
    few.ingest_impressions(write_manifest(tmp_path / "more.jsonl", [{**row, "click": 1} for row in showings(2_500)]))
    with pytest.raises(ColdstartError, match=r"no showing states 'like'; outcomes are click"):
        few.finetune_rank(events=["like"])


@pytest.mark.slow
def test_one_class_is_refused_with_counts(tmp_path: Path) -> None:
    same = workspace(tmp_path, [{**row, "click": int(place > 3_190)} for place, row in enumerate(showings())])
    with pytest.raises(ColdstartError, match=r"click: 9 showings have it and 3,191 do not; a fit needs 20 of each"):
        same.finetune_rank(events=["click"])


@pytest.mark.slow
def test_a_stranger_s_fit_is_checked(fitted: Workspace, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    made = fitted._store.artifacts.newest("rank")
    assert made is not None
    folder = tmp_path / "fit"
    shutil.copytree(made.folder, folder)
    assert from_files(folder).model.kind == "both"
    arrays = load_file(folder / TREES_FILE)
    save_file(arrays | {"click/left": np.zeros_like(arrays["click/left"])}, folder / TREES_FILE)
    with pytest.raises(ValueError, match="lead nowhere"):
        from_files(folder)
