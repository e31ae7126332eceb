"""Networks over long histories: what they read, a fit that is killed and goes on, and the road from fit to ranking."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from catalogue import coldstart as run_cli
from catalogue import write_manifest

import coldstart
from coldstart.errors import ColdstartError
from coldstart.rank import train_network
from coldstart.rank.features import Actions, FeatureMaker, ItemTable, Met, Rows
from coldstart.rank.fit_stage import recipe_of
from coldstart.rank.fitted import CARD_FILE, from_files, weights_file
from coldstart.rank.long_ranker import LongRanker, LongShape
from coldstart.rank.model import Features, RankModel, Recipe, WholeHistories
from coldstart.rank.settings import Settings
from coldstart.rank.whole_history import BESIDE_FOUND, SIMILAR

DAY, START = 86_400, 1_700_006_400
USERS, LENGTH, EACH = 90, 300, 12


def planted(seed: int = 0) -> tuple[Features, dict[str, Any]]:
    """Users with a burst of one of four rare kinds before 280 actions with common items; candidates are of rare kinds,
    clicked where the kind is the user's. Features are those of the showings, without likeness by vectors."""
    draw = np.random.default_rng(seed)
    centres = np.eye(8).repeat(10, 0) + 0.1 * draw.standard_normal((80, 8))
    vectors = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
    own = draw.integers(4, 8, USERS)
    kinds = np.concatenate([np.repeat(own[:, None], 20, 1), draw.integers(0, 4, (USERS, LENGTH - 20))], 1)
    items = (kinds * 10 + draw.integers(0, 10, kinds.shape)).astype(np.int32)
    asked = draw.integers(4, 8, (USERS, EACH))
    clicked = draw.random(asked.shape) < np.where(asked == own[:, None], 0.9, 0.1)
    seconds = START + 3_600 * np.arange(LENGTH)

    def latest(users: np.ndarray, before: np.ndarray, count: int) -> Actions:
        some = items[users][:, -count:]
        return Actions(some, np.zeros(some.shape, np.uint8), np.broadcast_to(seconds[-count:], some.shape))

    def whole(users: np.ndarray, before: np.ndarray, count: int | None) -> WholeHistories:
        some = items[users][:, -(count or 0) :]
        width = some.shape[1]
        starts = np.arange(len(users) + 1) * width
        ones = np.ones(some.size, np.int32)
        return WholeHistories(starts, some.ravel(), ones, np.tile(seconds[-width:], len(users)))

    none = np.zeros(80, np.int32)
    table = ItemTable(
        tuple(map(str, range(80))), {"creator": none, "category": none}, np.zeros((80, 0), np.int32),
        np.full(80, np.nan), vectors=vectors,
    )  # fmt: skip
    rows = Rows(
        np.arange(USERS).repeat(EACH), (asked * 10 + draw.integers(0, 10, asked.shape)).ravel(),
        (int(seconds[-1]) + DAY + 60 * np.arange(USERS)).repeat(EACH), np.full(USERS * EACH, -1, np.int32),
        {"click": clicked.ravel().astype(np.float32)},
    )  # fmt: skip
    nothing = np.empty(0, np.int64)
    maker = FeatureMaker(
        table, rows, latest, ["met"], Met(nothing, nothing, nothing), whole=whole, searched=True, found=True,
        lengths=lambda users: np.full(len(users), LENGTH),
    )  # fmt: skip
    found = maker.make(rows).without(SIMILAR).without("user.").without("user_")
    return found, {"labels": rows.labels, "times": rows.times, "cold": np.zeros(len(rows), bool)}


@pytest.mark.slow
def test_an_old_burst_is_learnt_from_whole_histories_and_from_what_search_found() -> None:
    features, window = planted()
    assert features.sequences is not None
    recipe = Recipe(models=("attention", "long"), calibrated=False, epochs=8, long_epochs=3, dim=16)
    losses = RankModel.fit(features, **window, recipe=recipe).report["log_loss"]
    blind = replace(features, sequences=replace(features.sequences, found=None))
    without = RankModel.fit(blind, **window, recipe=replace(recipe, models=("attention",), epochs=2)).report["log_loss"]
    assert losses["attention"] < 0.45 < 0.5 < without["attention"], "the latest 50 actions do not show it"
    assert losses["long"] < 0.45


def test_rows_of_one_history_are_predicted_alike_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = planted()
    assert features.sequences is not None
    assert features.sequences.histories.shape[1] == BESIDE_FOUND
    for name in ("attention", "long"):
        built = train_network.build_network(name, features, ("click",), Recipe(dim=8))
        scaling = np.zeros(features.values.shape[1], np.float32), np.ones(features.values.shape[1], np.float32)
        fitted = train_network.FittedNetwork(built, ("click",), *scaling)
        whole = fitted.predict(features)["click"]
        alone = fitted.predict(features.where(np.arange(3 * EACH, 4 * EACH)))["click"]  # keys are made once
        np.testing.assert_allclose(alone, whole[3 * EACH : 4 * EACH], atol=1e-5)
        one = fitted.predict(features.where(np.array([3 * EACH])))["click"]
        np.testing.assert_allclose(one, whole[[3 * EACH]], atol=1e-5)
    rows = np.arange(USERS * EACH)
    for cut in (
        built.steps(features.sequences, rows, np.random.default_rng(0)),
        built.blocks(features.sequences, rows),
    ):
        assert sorted(np.concatenate(cut).tolist()) == rows.tolist()
    monkeypatch.setattr("coldstart.rank.long_ranker._ACTIONS", 3 * LENGTH)
    histories = [np.unique(features.sequences.rows[one]) for one in built.blocks(features.sequences, rows)]
    assert max(map(len, histories)) == 3, "memory is bounded by actions"


def test_a_fit_that_stopped_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, window = planted()
    fitted = window["times"] < np.quantile(window["times"], 0.7)
    offsets = {"click": np.zeros(len(features), np.float32)}
    recipe = Recipe(dim=8, long_epochs=2)
    monkeypatch.setattr(train_network, "SAVED_EVERY_S", 0.0)

    def fit(path: Path | None) -> Any:
        return train_network.fit_network(
            "long", features, window["labels"], fitted, ~fitted, recipe, offsets,
            checkpoint=path,
        )  # fmt: skip

    wanted, passes = fit(None)
    taken = LongRanker.gather
    kill = calls = 0

    def killed(self: LongRanker, sequences: Any, rows: np.ndarray, device: str) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill:
            raise KeyboardInterrupt
        return taken(self, sequences, rows, device)

    path = tmp_path / "long.safetensors"
    monkeypatch.setattr(LongRanker, "gather", killed)
    for last in (9, 40):  # within the first pass, and within the second
        kill, calls = last, 0
        with pytest.raises(KeyboardInterrupt):
            fit(path)
    kill, calls = -1, 0
    found, same = fit(path)
    assert same == passes
    steps = calls
    for name, weight in wanted.network.state_dict().items():
        np.testing.assert_array_equal(found.network.state_dict()[name], weight, err_msg=name)
    fit(path)
    assert calls == steps, "a fit that is done is read"
    path.write_bytes(path.read_bytes()[:-100])
    fit(path)
    assert calls > 2 * steps, "a damaged checkpoint counts as none"


def workspace(folder: Path) -> coldstart.Workspace:
    """Users of long histories; what is shown is clicked where the first half of the history was of its shelf."""
    draw = np.random.default_rng(0)
    items = [{"item_id": f"p{n}", "title": f"article {n}", "kind": "product", "price": n + 1} for n in range(40)]
    shown, actions = [], []
    for user in range(10):
        own = user % 4
        for place in range(205):
            item = own * 10 + draw.integers(10) if place < 60 else draw.integers(40)
            actions.append({"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": START + 3_600 * place})
    for number in range(500):
        user, item = int(draw.integers(10)), int(draw.integers(40))
        liked = draw.random() < (0.8 if item // 10 == user % 4 else 0.2)
        at = START + 30 * DAY + number * 6 * DAY // 500
        shown.append({"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": at, "click": int(liked)})
    made = run_cli("ingest", str(write_manifest(folder / "items.jsonl", items)), "--workspace", str(folder / "w"))
    assert made.returncode == 0, made.stderr
    opened = coldstart.open(str(folder / "w"))
    opened.ingest_interactions(write_manifest(folder / "log.jsonl", actions))
    opened.ingest_impressions(write_manifest(folder / "shown.jsonl", shown))
    return opened


SMALL = ["rank.long_epochs=1", "rank.dim=8", "rank.min_showings=400"]
KILLED = """
import os, signal, sys
import coldstart
from coldstart.errors import ColdstartError
from coldstart.rank import train_network
train_network.SAVED_EVERY_S = 0.0
save, saved = train_network._Training._save, []
def killed(self):
    save(self)
    saved.append(self.step)
    if len(saved) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train_network._Training._save = killed
coldstart.open(sys.argv[1]).finetune_rank(model="long", overrides=sys.argv[2:])
"""


@pytest.mark.slow
def test_a_killed_fit_of_a_workspace_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = workspace(tmp_path)
    scratch = opened._store.cache / "fitting"
    others = set(scratch.iterdir()) if scratch.exists() else set()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, opened.uri, *SMALL], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    (folder,) = set(scratch.iterdir()) - others
    assert [one.name for one in folder.iterdir()] == ["long-early.safetensors"]
    resumed = []
    resume = train_network._Training._resume

    def seen(self: Any, path: Path) -> None:
        resume(self, path)
        resumed.append((path.name, self.step))

    monkeypatch.setattr(train_network._Training, "_resume", seen)
    opened.finetune_rank(model="long", overrides=SMALL)
    assert resumed == [("long-early.safetensors", 5), ("long-longer.safetensors", 0), ("long-all.safetensors", 0)]
    assert not folder.exists()

    ranked = opened.rank("u1", ["p11", "p1", "p39", "nowhere"], at=START + 40 * DAY)
    assert (ranked.model, ranked.actions) == ("long", 205)
    assert [one.state for one in ranked.items] == ["known", "known", "known", "unknown"]
    assert (ranked.calibrated, ranked.items[0].interval) == ({"click": False}, {}), "too few rows to calibrate"

    made = opened._store.artifacts.newest("rank")
    assert made is not None
    assert made.report["histories"] == {"longest": 205, "found_read": True}
    for wrong, message in (({"merged": 0}, "of no actions"), ({"latest": 1 << 40}, "out of bounds"),
                           ({"vectors": 3}, "other vectors"), ({"dim": 16}, "weights of another network")):  # fmt: skip
        copy = tmp_path / "fit"
        shutil.copytree(made.folder, copy, dirs_exist_ok=True)
        card = json.loads((copy / CARD_FILE).read_bytes())
        card["shapes"]["long"] |= wrong
        (copy / CARD_FILE).unlink()
        (copy / CARD_FILE).write_text(json.dumps(card), "utf-8")
        with pytest.raises(ValueError, match=message):
            from_files(copy)
    assert (made.folder / weights_file("long")).exists()


def test_flex_is_refused_on_a_cpu_before_a_fit() -> None:
    long: Any = SimpleNamespace(is_long=True)
    with pytest.raises(ColdstartError, match=r"rank\.long_backend=flex has no gradient on a CPU: take auto or sdpa"):
        recipe_of(Settings(long_backend="flex"), long, "cpu")
    short: Any = SimpleNamespace(is_long=False)
    assert recipe_of(Settings(long_backend="flex"), short, "cpu").models == ("trees", "attention", "both")
    assert "trees_and_long" in recipe_of(Settings(), long, "cpu").models


def test_a_back_end_is_of_the_network_alone() -> None:
    shape = LongShape(4, (), 2, 1, 1, 8, vectors=3)
    assert LongRanker(shape, "linear").history.backend == "linear"
    assert LongRanker(shape).state_dict().keys() == LongRanker(shape, "linear").state_dict().keys()
