"""Lists and audiences over a workspace of users with known preferences, against products by numpy; commands."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import behaviour_shop
import numpy as np
import pyarrow.parquet as pq
import pytest
import screens
from behaviour_shop import COLD, met, small_world
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.cli.recommend import _print
from coldstart.cli.recommend import _read as read_history
from coldstart.errors import ColdstartError
from coldstart.recommend import service
from coldstart.recommend.inputs import load_item_vectors, load_newest_fit
from coldstart.store.impressions import ImpressionTable

pytestmark = pytest.mark.slow

WORLD = small_world()
NEW = list(WORLD.content.item_ids[-COLD:])
KNOWN = met(WORLD)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace that ran once; leave it as it is."""
    folder = tmp_path_factory.mktemp("lists")
    behaviour_shop.shop(folder, WORLD)
    return folder


@pytest.fixture(scope="module")
def shop(made: Path) -> coldstart.Workspace:
    return coldstart.open(made / "w")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> coldstart.Workspace:
    """The same items with nothing done and nothing fitted; every second one came as many days ago as its place is."""
    folder = tmp_path_factory.mktemp("bare")
    rows = behaviour_shop.entries(folder / "media", WORLD)
    for place, row in enumerate(rows):
        row["creator"] = f"maker {place % 3}"
        if place % 2:
            row["created_at"] = (datetime.now(UTC) - timedelta(days=place)).isoformat()
    raw = behaviour_shop.settings(folder / "media", rows)
    del raw["stages"]["align"], raw["stages"]["behaviour"]
    workspace = coldstart.open(folder / "w", create=True)
    workspace.run(raw, only=["ingest", "picture", "text"])
    behaviour_shop.teach(workspace, WORLD)
    workspace.run()
    return workspace


@pytest.fixture(scope="module")
def truth(shop: coldstart.Workspace) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids and products [users, items] by the fit itself; what was met is -inf."""
    store, pipeline = shop._store, shop.pipeline()
    fitted, _ = load_newest_fit(store, pipeline)
    item_ids, vectors = load_item_vectors(store, pipeline)
    users = fitted.users(KNOWN.over(fitted.item_ids).matrix())
    products = users @ vectors.T
    return item_ids, np.where(KNOWN.over(item_ids).matrix().toarray() > 0, -np.inf, products), products


def run(*arguments: object, text: str | None = None) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=text)


def refused(*arguments: object) -> str:
    with pytest.raises(ColdstartError) as error:
        CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    return str(error.value)


# -- one user


def test_a_list_is_the_best_products_of_what_was_not_met(shop: coldstart.Workspace, truth: Any) -> None:
    item_ids, left, _ = truth
    for place in (0, 7, 41):
        user = KNOWN.user_ids[place]
        found = shop.recommend(user, top_k=10)
        order = np.argsort(-left[place], kind="stable")[:10]
        assert [one.item_id for one in found.items] == [item_ids[at] for at in order]
        np.testing.assert_allclose([one.score for one in found.items], left[place][order], rtol=1e-4)
        assert [one.cold for one in found.items] == [
            one.item_id in NEW or not load_newest_fit(shop._store, shop.pipeline())[0].is_warm([one.item_id])[0]
            for one in found.items
        ]
        assert found.scored_by == "behaviour"
        assert found.notes == ()
        assert {(one.explored, one.propensity) for one in found.items} == {(False, 1.0)}


def test_items_that_were_met_can_be_listed_again(shop: coldstart.Workspace, truth: Any) -> None:
    item_ids, _, products = truth
    found = shop.recommend(KNOWN.user_ids[3], top_k=5, seen="keep", reasons=False)
    assert [one.item_id for one in found.items] == [item_ids[at] for at in np.argsort(-products[3])[:5]]
    assert {one.reason for one in found.items} == {None}


def test_new_items_reach_those_who_will_like_them(shop: coldstart.Workspace) -> None:
    """The taste of each user for the new items that are listed first is above that for the rest of them."""
    better = []
    for place in range(40):
        found = shop.recommend(KNOWN.user_ids[place], top_k=COLD, where=_new(), reasons=False)
        ranked = [WORLD.truth[place][WORLD.content.item_ids.index(one.item_id)] for one in found.items]
        better.append(np.mean(ranked[:3]) - np.mean(ranked[3:]))
    assert np.mean(better) > 1.0  # true scores have a deviation of about 3; by chance 0


def test_reasons_name_an_item_of_the_history_and_what_both_say(shop: coldstart.Workspace) -> None:
    user = KNOWN.user_ids[0]
    liked = {KNOWN.item_ids[item] for item in KNOWN.items[KNOWN.users == 0]}
    records = {record["item_id"]: record for record in WORLD.content.records}
    result = 0
    for one in shop.recommend(user, top_k=20).items:
        assert one.reason is not None
        if one.reason.because is None:  # on the list, and yet no nearer to anything liked than any two items are
            assert one.rank > 10 and one.reason.text == "nothing of your history is much like it"
            continue
        assert one.reason.because in liked
        before = records[one.reason.because]
        start = f'because you chose "{before["title"]}": '
        if records[one.item_id]["category"] == before["category"]:
            assert one.reason.text == f'{start}both are in "{before["category"]}"'
            result += 1
        else:
            assert re.fullmatch(
                f"{start}(similar by (picture|text)|the same people like both|likely to please the same people)",
                one.reason.text,
            )
        assert set(one.reason.cosines) <= {"picture", "text"}
    assert result >= 5


def test_items_of_reasons_are_read_once_within_a_bound(
    shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = KNOWN.user_ids[6]
    first = shop.recommend(user, top_k=5).items
    read = service.load_content
    monkeypatch.setattr(service, "load_content", None)
    assert shop.recommend(user, top_k=5).items == first
    monkeypatch.setattr(service, "load_content", read)
    monkeypatch.setattr(service, "_CONTENTS", 3)
    shop.recommend(KNOWN.user_ids[8], top_k=20)
    assert len(shop._listing()._contents) <= 3
    assert shop.recommend(user, top_k=5).items == first


def test_a_history_scores_like_its_user(shop: coldstart.Workspace) -> None:
    own = KNOWN.where(KNOWN.users == 5)
    rows = [
        {"item_id": KNOWN.item_ids[item], "timestamp": int(time)}
        for item, time in zip(own.items, own.times, strict=True)
    ]
    for options in ({}, {"interests": 3}, {"half_life_days": 20}, {"cold_share": 0.3, "diversity": 0.3}):
        by_user = shop.recommend(KNOWN.user_ids[5], **options)
        by_rows = shop.recommend(history=json.dumps(rows), **options)
        assert [(one.item_id, one.reason) for one in by_user.items] == [
            (one.item_id, one.reason) for one in by_rows.items
        ]
        assert by_rows.user_id is None
        assert by_user.history == len(rows)


def test_interests_and_age_change_a_list(shop: coldstart.Workspace) -> None:
    lists = [
        [one.item_id for one in shop.recommend(KNOWN.user_ids[9], reasons=False, **options).items]
        for options in ({}, {"interests": 4}, {"interests": 4, "merge": "rrf"}, {"half_life_days": 1})
    ]
    assert len({tuple(one) for one in lists}) == 4


def test_a_half_life_of_a_lifetime_changes_no_list(shop: coldstart.Workspace) -> None:
    """Likes of some months weigh alike where it takes centuries to count half; scores differ by rounding."""
    for user in KNOWN.user_ids[:5]:
        plain, slow = (
            {one.item_id: one.score for one in shop.recommend(user, top_k=10, reasons=False, **options).items}
            for options in ({}, {"half_life_days": 100_000})
        )
        assert slow == pytest.approx(plain, rel=2e-2)


def test_filters(shop: coldstart.Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    user = KNOWN.user_ids[1]
    drama = shop.recommend(user, where="category = 'drama'", top_k=5)
    assert {one.category for one in drama.items} == {"drama"}
    none = shop.recommend(user, kind="video")
    assert none.items == ()
    assert none.notes == (
        "0 items are left after the filters, and 20 were requested",
        "nothing found: no item is of kind video; the catalog has 80 of kind product",
    )
    capsys.readouterr()
    _print(none, explain=False)
    assert "title" not in capsys.readouterr().out, "no heading without rows"
    assert shop.recommend(user, fresh_days=9).items == ()  # none says when it was created
    with pytest.raises(ColdstartError, match=r"^where 'nonsense = 1': "):
        shop.recommend(user, where="nonsense = 1")


def test_an_unknown_user_gets_what_users_like_on_average(shop: coldstart.Workspace, truth: Any) -> None:
    item_ids, _, products = truth
    found = shop.recommend("nobody", top_k=5)
    order = np.argsort(-products.mean(axis=0))[:5]
    assert [one.item_id for one in found.items] == [item_ids[at] for at in order]
    assert found.history == 0
    assert found.notes == (
        "user 'nobody' (ids are such as 'user-0000') has no interactions, and so has no known item: the list is scored "
        "for the average user",
    )
    assert {one.reason.text for one in found.items if one.reason} == {"many people like what is like it"}


def test_an_unknown_user_gets_the_same_list_among_many(shop: coldstart.Workspace, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    shop.recommend_many(["nobody", KNOWN.user_ids[0]], out, top_k=5)
    rows = pq.read_table(out).to_pylist()
    for user in ("nobody", KNOWN.user_ids[0]):
        alone = [one.item_id for one in shop.recommend(user, top_k=5).items]
        assert [row["item_id"] for row in rows if row["user_id"] == user] == alone


def test_ignored_liked_items_are_noted(shop: coldstart.Workspace) -> None:
    found = shop.recommend(history=[NEW[0], KNOWN.item_ids[3], "no-such-item"], reasons=True)
    assert found.notes == (
        "2 of 3 liked items are ignored, since they are not in the catalogue, came after the fit, or nobody had met "
        f"them: such as {NEW[0]!r}",
    )
    assert NEW[0] not in [one.item_id for one in found.items]


def test_exploration_of_one_is_that_of_many(shop: coldstart.Workspace, tmp_path: Path) -> None:
    options = {"explore": 0.3, "seed": 4, "top_k": 10, "cold_share": 0.1}
    out = tmp_path / "lists.parquet"
    written = shop.recommend_many(KNOWN.user_ids[:30], out, log=tmp_path / "shown.csv", **options)
    rows = pq.read_table(out).to_pylist()
    for user in KNOWN.user_ids[:3]:
        alone = shop.recommend(user, **options).items
        own = [row for row in rows if row["user_id"] == user]
        assert [(one.item_id, one.rank, one.cold, one.explored) for one in alone] == [
            (row["item_id"], row["rank"], row["cold"], row["explored"]) for row in own
        ]
        np.testing.assert_allclose([one.propensity for one in alone], [row["propensity"] for row in own])
    assert 0.1 < np.mean([row["explored"] for row in rows]) < 0.45
    assert (written.users, written.rows, written.without_history) == (30, 300, 0)
    assert not list(tmp_path.glob(".*"))
    shop.recommend(KNOWN.user_ids[30], log=tmp_path / "one.parquet", **options)
    log = coldstart.open(tmp_path / "log", create=True)
    many, one = (log.ingest_impressions(tmp_path / name) for name in ("shown.csv", "one.parquet"))
    assert (many.added, one.added, many.rejected, many.signals) == (300, 10, {}, {})
    shown = log.impressions()
    assert len(set(shown.requests.tolist())) == 31, "a list is a request"
    stated = {
        (shown.user_ids[user], shown.item_ids[item], int(position)): float(propensity)
        for user, item, position, propensity in zip(
            shown.users, shown.items, shown.positions, shown.propensities, strict=True
        )
    }
    assert {key: stated[key] for key in stated if key[0] in KNOWN.user_ids[:30]} == {
        (row["user_id"], row["item_id"], row["rank"]): row["propensity"] for row in rows
    }
    for name, fault in (("one.parquet", "exists: name another file"), ("x.txt", "give a name that ends in")):
        with pytest.raises(ColdstartError, match=rf"^--log {re.escape(str(tmp_path / name))}:? {fault}"):
            shop.recommend(KNOWN.user_ids[0], log=tmp_path / name)
    liked = list(WORLD.content.item_ids[:2])
    with pytest.raises(ColdstartError, match="needs to name whom the list is shown to: add --log-user ID"):
        shop.recommend(history=liked, log=tmp_path / "two.csv")
    for odd in ({"user": KNOWN.user_ids[0], "log_user": "s1", "log": tmp_path / "two.csv"}, {"log_user": "s1"}):
        with pytest.raises(ColdstartError, match="--log-user s1: it names whom the --log of a --history is of"):
            shop.recommend(history=liked, **odd)
    shop.recommend(history=liked, log=tmp_path / "two.csv", log_user="session 1", top_k=3)
    assert log.ingest_impressions(tmp_path / "two.csv").added == 3
    assert "session 1" in log.impressions().user_ids


def test_exploration_counts_the_log_of_impressions(shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImpressionTable, "counts", lambda self, ids: (np.zeros(len(ids), int), np.full(len(ids), 7)))
    recommender = service.Recommender(shop._store, shop._reading_pipeline(), shop.published())
    chosen = recommender.list_builder(service.Rules(explore=0.1), service.Filters()).candidates
    assert chosen.impressions is not None and set(chosen.impressions.tolist()) == {7}


# -- content alone


def test_without_a_fit_content_scores_and_a_note_says_so(bare: coldstart.Workspace) -> None:
    vectors = np.concatenate(list(WORLD.content.blocks.values()), axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = bare.recommend(history=list(WORLD.content.item_ids[:2]), top_k=5)
    mean = vectors[:2].mean(axis=0)
    scores = vectors @ (mean / np.linalg.norm(mean))
    scores[:2] = -np.inf
    assert [one.item_id for one in found.items] == [WORLD.content.item_ids[at] for at in np.argsort(-scores)[:5]]
    np.testing.assert_allclose([one.score for one in found.items], np.sort(scores)[::-1][:5], rtol=1e-5)
    assert found.scored_by == "picture, text"
    assert found.notes == (
        "scored by content alone (picture, text): `coldstart finetune behaviour` learns from interactions",
    )
    assert all(one.cold for one in found.items)


def test_interests_of_content_are_medoids(bare: coldstart.Workspace) -> None:
    items = WORLD.content.item_ids
    found = bare.recommend(history=[items[1], items[40]], interests=2, top_k=2, seen="keep", merge="max")
    assert {one.item_id for one in found.items} == {items[1], items[40]}
    np.testing.assert_allclose([one.score for one in found.items], [1, 1], rtol=1e-5)


def test_fresh_items_and_few_of_one_creator(bare: coldstart.Workspace) -> None:
    items = WORLD.content.item_ids
    fresh = bare.recommend(history=[items[70]], fresh_days=10.5, top_k=30)
    assert {one.item_id for one in fresh.items} == {items[place] for place in (1, 3, 5, 7, 9)}
    assert fresh.notes[1:] == ("5 items are left after the filters, and 30 were requested",)
    few = bare.recommend(history=[items[70]], per_creator=2, top_k=30)
    makers = [items.index(one.item_id) % 3 for one in few.items]
    assert sorted(makers) == [0, 0, 1, 1, 2, 2]
    assert next(one.reason.text for one in few.items if one.reason and items.index(one.item_id) % 3 == 70 % 3).endswith(
        f'are by "maker {70 % 3}"'
    )


def test_nothing_to_go_by(bare: coldstart.Workspace) -> None:
    with pytest.raises(ColdstartError) as error:
        bare.recommend("nobody")
    assert str(error.value) == (
        "user 'nobody' has no interactions, and so has no known item: give --history FILE with items of this "
        "workspace, or run `coldstart finetune behaviour` to score for the average user"
    )
    with pytest.raises(ColdstartError) as error:
        bare.audience(NEW[0])
    assert str(error.value) == (
        f"workspace {bare.uri} has no interactions, and so no users: run `coldstart ingest --interactions FILE`"
    )


# -- many


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_users_of_a_file(made: Path, shop: coldstart.Workspace, tmp_path: Path, suffix: str, truth: Any) -> None:
    item_ids, left, _ = truth
    users = [*KNOWN.user_ids[:6], "nobody"]
    source, out = tmp_path / f"users{suffix}", tmp_path / "lists.parquet"
    if suffix == ".txt":
        source.write_text("\n".join([*users, "", users[0]]))
    elif suffix == ".csv":
        source.write_text("user_id,other\n" + "".join(f"{user},1\n" for user in users))
    elif suffix == ".jsonl":
        source.write_text("".join(json.dumps({"user_id": user}) + "\n" for user in users))
    else:
        import pyarrow as pa

        pq.write_table(pa.table({"user_id": users}), source)
    printed = run("recommend", "-w", made / "w", "--users", source, "--out", out, "-k", 8)
    assert printed.exit_code == 0
    assert re.search(
        rf"^56 rows for 7 users in [\d.]+ s \([\d,]+ users/s\), \d+% cold, scored by behaviour: {re.escape(str(out))}\n"
        r"note: 1 users have no liked items\n$",
        printed.stdout,
    )
    rows = pq.read_table(out).to_pylist()
    assert [row["user_id"] for row in rows] == [user for user in users for _ in range(8)]
    for place in range(6):
        order = np.argsort(-left[place], kind="stable")[:8]
        own = rows[8 * place : 8 * place + 8]
        assert [row["item_id"] for row in own] == [item_ids[at] for at in order]
        assert [row["rank"] for row in own] == list(range(1, 9))
        np.testing.assert_allclose([row["score"] for row in own], left[place][order], rtol=1e-4)


def test_files_that_cannot_be_read_or_written(made: Path, tmp_path: Path) -> None:
    whole = tmp_path / "users.txt"
    whole.write_text("user-0001\n")
    wrong = tmp_path / "users.csv"
    wrong.write_text("name,age\nx,1\n")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")

    def result(source: Path, out: Path) -> str:
        return refused("recommend", "-w", made / "w", "--users", source, "--out", out)

    out = tmp_path / "o.parquet"
    assert result(tmp_path / "no.txt", out) == (
        f"no file of users at {tmp_path}/no.txt: give a .csv, .tsv, .txt, .jsonl, .json, .parquet, .xlsx, .xls, .ods "
        "or .xml file, plain or in a .gz or .zip"
    )
    assert result(wrong, out) == f"{wrong} has no ids of users (columns are name, age): give a column user_id"
    assert result(empty, out) == f"{empty} names no user"
    missing = tmp_path / "no" / "o.parquet"
    assert result(whole, missing).startswith(f"cannot write {missing}: ")
    assert not list(tmp_path.glob("**/.*"))


# -- an audience


@pytest.mark.parametrize("by", ["score", "lift"])
def test_an_audience_is_the_users_of_the_greatest_score(shop: coldstart.Workspace, truth: Any, by: str) -> None:
    item_ids, left, products = truth
    for item in (NEW[0], KNOWN.item_ids[2]):
        place = item_ids.index(item)
        worth = products[:, place].astype(np.float64)
        if by == "lift":
            worth = (worth - products.mean(axis=1)) / products.std(axis=1)
        worth = np.where(np.isneginf(left[:, place]), -np.inf, worth)
        found = shop.audience(item, top_k=12, by=by)
        listed = [KNOWN.user_ids.index(one.user_id) for one in found.people]
        assert len(set(listed)) == 12
        assert [one.rank for one in found.people] == list(range(1, 13))
        # float32 tells apart no more than this; that of equal scores the first id stands first is tested below
        np.testing.assert_allclose(worth[listed], np.sort(worth)[::-1][:12], rtol=1e-5)
        scores = [one.score for one in found.people]
        np.testing.assert_allclose(scores, worth[listed], rtol=2e-4)
        assert [(-one.score, one.user_id) for one in found.people] == sorted(
            (-one.score, one.user_id) for one in found.people
        )
        assert found.met == int(np.isneginf(left[:, place]).sum())
        for one in found.people:
            liked = {KNOWN.item_ids[at] for at in KNOWN.items[KNOWN.users == KNOWN.user_ids.index(one.user_id)]}
            assert one.reason is not None and one.reason.because in liked


@pytest.mark.parametrize("seed", range(4))
def test_users_whose_scores_differ_by_rounding_go_by_id(
    shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Scores of six users alike, which another machine rounds otherwise and lists in another order."""
    alike = {"user-0009", "user-0090", "user-0017", "user-0071", "user-0044", "user-0043"}
    first = KNOWN.user_ids.index("user-0060")
    draw = np.random.default_rng(seed)

    def scored(*_: object, **__: object) -> tuple[np.ndarray, np.ndarray]:
        places = [first, *draw.permutation([KNOWN.user_ids.index(user) for user in sorted(alike)])]
        scores = [0.9, *sorted(0.25 + draw.uniform(-3e-8, 3e-8, len(alike)), reverse=True)]
        return np.array([[*places, -1]]), np.array([[*scores, -np.inf]], np.float32)

    monkeypatch.setattr("coldstart.recommend.audience.scoring.top_k", scored)
    found = shop.audience(NEW[0], top_k=5, reasons=False).people
    assert [one.user_id for one in found] == ["user-0060", *sorted(alike)[:4]]
    assert len({one.score for one in found[1:]}) == 1


def test_users_of_one_history_go_by_id(tmp_path: Path) -> None:
    """Written last first, and with more of them than requested."""
    behaviour_shop.shop(tmp_path, WORLD)
    shop = coldstart.open(tmp_path / "w")
    liked = [KNOWN.item_ids[at] for at in KNOWN.items[KNOWN.users == 3]]
    twins = [f"twin-{number:02d}" for number in range(20)]
    rows = [
        {"user_id": user, "item_id": item, "timestamp": "2026-01-01T00:00:00Z", "event": "click"}
        for user in twins[::-1]
        for item in liked
    ]
    (tmp_path / "more.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    assert run("ingest", "--interactions", tmp_path / "more.jsonl", "--workspace", tmp_path / "w").exit_code == 0
    people = shop.audience(NEW[0], top_k=100, reasons=False).people
    alike = [one for one in people if one.user_id in {*twins, "user-0003"}]
    assert len({one.score for one in alike}) == 1
    assert [one.user_id for one in alike] == [*twins, "user-0003"]
    rank = alike[0].rank
    assert [one.user_id for one in shop.audience(NEW[0], top_k=rank + 4, reasons=False).people][-5:] == twins[:5]


def test_an_audience_of_a_new_item_will_like_it(shop: coldstart.Workspace) -> None:
    gains = []
    for item in NEW:
        taste = WORLD.truth[:, WORLD.content.item_ids.index(item)]
        listed = [KNOWN.user_ids.index(one.user_id) for one in shop.audience(item, top_k=20, reasons=False).people]
        gains.append(taste[listed].mean() - taste.mean())
    assert np.mean(gains) > 1.0


# -- commands


def test_the_table_of_a_list(made: Path, shop: coldstart.Workspace) -> None:
    printed = run("recommend", "-w", made / "w", "--user", KNOWN.user_ids[0], "-k", 3, "--explore", 0.0)
    assert printed.exit_code == 0
    lines = printed.stdout.splitlines()
    assert lines[0] == f"for user {KNOWN.user_ids[0]} of 14 liked items, scored by behaviour" or re.fullmatch(
        r"for user user-0000 of \d+ liked items, scored by behaviour", lines[0]
    )
    expected = shop.recommend(KNOWN.user_ids[0], top_k=3)
    for one in expected.items:
        assert one.reason is not None
        state = "cold" if one.cold else "warm"
        row = next(row for row in screens.rows(printed.stdout) if row[0] == str(one.rank))
        assert {one.title, one.item_id, f"{one.score:.4f}", state, one.reason.text} <= set(row)


def test_json_of_a_list_from_standard_input(made: Path, shop: coldstart.Workspace) -> None:
    rows = json.dumps([{"item_id": KNOWN.item_ids[0], "event": "click"}])
    printed = run("recommend", "-w", made / "w", "--history", "-", "-k", 2, "--json", text=rows)
    assert printed.exit_code == 0
    result = json.loads(printed.stdout)
    assert result == json.loads(json.dumps(shop.recommend(history=rows, top_k=2).to_dict()))
    assert result.keys() == {"user_id", "scored_by", "history", "items", "notes"}
    assert result["items"][0].keys() == {
        "item_id", "rank", "score", "cold", "explored", "propensity", "kind", "title", "category", "price", "reason",
        "evidence",
    }  # fmt: skip
    assert result["items"][0]["reason"].startswith("because you looked at ")


def test_the_table_and_the_file_of_an_audience(made: Path, shop: coldstart.Workspace, tmp_path: Path) -> None:
    found = shop.audience(NEW[0], top_k=3)
    printed = run("audience", NEW[0], "-w", made / "w", "-k", 3)
    assert printed.stdout.splitlines()[0] == (
        f"for cold item {NEW[0]} of 100 users, scored by behaviour; 0 who interacted with it are left out"
    )
    for one in found.people:
        assert one.reason is not None
        row = [str(one.rank), one.user_id, f"{one.score:.4f}", one.reason.text]
        assert row in screens.rows(printed.stdout)
    for name in ("users.csv", "users.parquet"):
        out = tmp_path / name
        written = run("audience", NEW[0], "-w", made / "w", "-k", 3, "--out", out)
        assert written.stdout == f"3 users for {NEW[0]}: {out}\n"
    rows = pq.read_table(tmp_path / "users.parquet").to_pylist()
    assert [row["user_id"] for row in rows] == [one.user_id for one in found.people]
    assert [row["reason"] for row in rows] == [one.reason.text for one in found.people if one.reason]
    assert (tmp_path / "users.csv").read_text().startswith('"user_id","rank","score","because","reason"\n')
    result = json.loads(run("audience", NEW[0], "-w", made / "w", "-k", 3, "--json").stdout)
    assert [one["user_id"] for one in result["people"]] == [one.user_id for one in found.people]


def test_the_command_ranks_an_audience_by_the_option(made: Path, shop: coldstart.Workspace) -> None:
    item = KNOWN.item_ids[2]
    listed = []
    for by in ("score", "lift"):
        printed = run("audience", item, "-w", made / "w", "--by", by, "-k", 12, "--no-reasons", "--json")
        assert printed.exit_code == 0, printed.output
        result = json.loads(printed.stdout)
        assert result["by"] == by
        listed.append([one["user_id"] for one in result["people"]])
        people = shop.audience(item, top_k=12, by=by, reasons=False).people
        assert listed[-1] == [one.user_id for one in people]
    assert listed[0] != listed[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend"], "give exactly one of --user, --history and --users"),
        (["recommend", "--user", "u", "--history", "h"], "give exactly one of --user, --history and --users"),
        (
            ["recommend", "--user", "u", "--out", "o"],
            "--users and --out go together: the lists of many users are written to a file",
        ),
        (
            ["recommend", "--history", "no.json"],
            "cannot read no.json: No such file or directory; give a file such as "
            '["sku-1", "sku-9"], or - for standard input',
        ),
        (["recommend", "--user", "u", "--seen", "maybe"], "seen 'maybe': use drop or keep"),
        (["recommend", "--user", "u", "--diversity", "3"], "diversity 3: give a number from 0 to 1"),
        (["recommend", "--user", "u", "--fresh-days", "0"], "fresh_days 0: give a number above 0"),
        (["recommend", "--user", "u", "--half-life-days", "0"], "half_life_days 0: give a number above 0"),
        (
            ["audience", "x", "--out", "x.html"],
            "--out x.html: give a name that ends in .csv, .tsv, .jsonl, .json or .parquet",
        ),
        (["recommend", "--user", "u", "--kind", "Video"], "no kind 'Video': did you mean 'video'?"),
        (["audience", "x", "--by", "luck"], "by 'luck': use score or lift"),
    ],
)
def test_invalid_arguments(made: Path, arguments: list[str], message: str) -> None:
    assert refused(*arguments, "-w", made / "w") == message


def test_a_history_that_is_no_utf_8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'["caf\xe9"]'), "utf-8"))
    with pytest.raises(ColdstartError) as error:
        read_history(Path("-"))
    assert str(error.value) == (
        "cannot read -: 'utf-8' codec can't decode byte 0xe9 in position 5: invalid continuation byte; give a file "
        'such as ["sku-1", "sku-9"], or - for standard input'
    )


def test_an_item_that_is_not_there(made: Path) -> None:
    assert refused("audience", "x", "-w", made / "w") == (
        f"no item 'x' in workspace {made / 'w'} (ids are such as 'item-0000'): see `coldstart status`"
    )


def _new() -> str:
    return "item_id IN ({})".format(", ".join(f"'{item}'" for item in NEW))
