"""Splits: what falls on which side, and files that cannot change unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from behaviour_world import DAY_S, world

from coldstart.core.interactions import Interactions, interactions
from coldstart.errors import ColdstartError
from coldstart.recommend.evaluate import splits
from coldstart.recommend.evaluate import splits as split_file
from coldstart.recommend.evaluate.splits import COLD_BOTH, COLD_TEST, COLD_VALID, OUT, TEST, TRAIN, VALID, WARM


@pytest.fixture(scope="module")
def rows() -> Interactions:
    return world().interactions


def test_by_time_cuts_once_for_all(rows: Interactions) -> None:
    split = splits.split_by_time(rows, warm_min=5)
    valid_at, test_at = split.settings["valid_at"], split.settings["test_at"]
    times, part = rows.times, split.row_part
    assert times[part == TRAIN].max() < valid_at
    assert times[part == VALID].min() >= valid_at
    assert times[part == VALID].max() < test_at <= times[part == TEST].min()
    assert [np.mean(times < valid_at), np.mean(times < test_at)] == pytest.approx([0.8, 0.9], abs=0.01)


def test_by_time_a_rare_item_is_cold_and_not_trained_on(rows: Interactions) -> None:
    split = splits.split_by_time(rows, warm_min=5)
    early = rows.where(rows.times < split.settings["valid_at"])
    assert (split.warm == (early.counts() >= 5)).all()
    assert set(split.item_side) == {WARM, COLD_BOTH}
    assert (split.cold("valid") == split.cold("test")).all()
    assert not split.cold("test")[split.rows(TRAIN).items].any()
    left_out = rows.where(split.row_part == OUT)
    assert len(left_out) > 0
    assert split.cold("test")[left_out.items].all()


def test_by_time_with_dates(rows: Interactions) -> None:
    split = splits.split_by_time(rows, valid_at=90 * DAY_S, test_at=100 * DAY_S, warm_min=1)
    assert (split.request_at("valid"), split.request_at("test")) == (90 * DAY_S, 100 * DAY_S)
    assert len(split.rows(TEST)) == int((rows.times >= 100 * DAY_S).sum())


def test_what_is_known_of_users_ends_when_they_ask(rows: Interactions) -> None:
    split = splits.split_by_time(rows)
    valid_at, test_at = split.settings["valid_at"], split.settings["test_at"]
    assert (split.known_before("valid") == (rows.times < valid_at)).all()
    assert (split.known_before("test") == (rows.times < test_at)).all()
    by_item = splits.split_by_items(rows)
    assert (by_item.known_before("test") == (by_item.row_part == TRAIN)).all()
    assert by_item.request_at("test") is None


def test_without_times_there_is_no_split_by_time() -> None:
    rows = interactions(["a", "b"], ["x", "y"])
    with pytest.raises(ColdstartError) as caught:
        splits.split_by_time(rows)
    assert str(caught.value) == (
        "2 interactions without times that differ cannot be split by time: use the split `items`"
    )


def test_by_items_holds_out_groups_with_all_their_rows(rows: Interactions) -> None:
    groups = np.arange(len(rows.item_ids), dtype=np.int64) // 2
    split = splits.split_by_items(rows, groups=groups, valid=0.1, test=0.2, seed=3)
    met = np.flatnonzero(rows.counts())
    sides_of = [set(split.item_side[met[groups[met] == group]]) for group in np.unique(groups[met])]
    assert {len(found) for found in sides_of} == {1}
    assert (split.item_side[rows.counts() == 0] == OUT).all()
    sides = [int((split.item_side == side).sum()) for side in (WARM, COLD_VALID, COLD_TEST)]
    assert sum(sides) == len(met)
    assert sides[1] / 160 == pytest.approx(0.1, abs=0.06)
    assert sides[2] / 160 == pytest.approx(0.2, abs=0.08)
    for part, side in ((TRAIN, WARM), (VALID, COLD_VALID), (TEST, COLD_TEST)):
        assert ((split.row_part == part) == (split.item_side == side)[rows.items]).all()
    assert splits.split_by_items(rows, groups=groups, seed=3).digest() == split.digest()
    assert splits.split_by_items(rows, groups=groups, seed=4).digest() != split.digest()


def test_an_item_without_rows_or_with_few_is_no_candidate() -> None:
    users = [f"u{place}" for place in range(12)]
    rare = interactions([*users * 10, "u0"], [*(f"i{place // 12}" for place in range(120)), "rare"])
    names = (*rare.item_ids, "never")
    for seed in range(5):
        split = splits.split_by_items(rare.over(names), warm_min=2, test=0.3, seed=seed)
        assert split.item_side[names.index("never")] == OUT
        assert split.item_side[names.index("rare")] in (OUT, COLD_TEST, COLD_VALID)


def test_coldrec_holds_out_pairs_of_warm_items_too(rows: Interactions) -> None:
    doubled = rows.where(np.repeat(np.arange(len(rows)), 2))  # each pair twice
    split = splits.split_coldrec(doubled, seed=1)
    warm = split.warm[doubled.items]
    shares = [float(np.mean(split.row_part[warm] == part)) for part in (TRAIN, VALID, TEST)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert (split.row_part[::2] == split.row_part[1::2]).all()
    assert set(split.row_part[split.cold("test")[doubled.items]]) == {TEST}
    assert set(split.row_part[split.cold("valid")[doubled.items]]) == {VALID}
    cold = [split.counts()[name] / 160 for name in ("items_cold_valid", "items_cold_test")]
    assert cold == pytest.approx([0.1, 0.1], abs=0.05)


def test_named_items_are_held_out(rows: Interactions) -> None:
    split = splits.split_by_item_ids(rows, rows.item_ids[:20], rows.item_ids[20:30])
    assert split.cold("test").nonzero()[0].tolist() == list(range(20))
    assert split.cold("valid").nonzero()[0].tolist() == list(range(20, 30))
    with pytest.raises(ColdstartError, match=r"^item 'nobody' is to be held out, and is not among the 160 items$"):
        splits.split_by_item_ids(rows, ["nobody"])
    with pytest.raises(ColdstartError, match=r"^item 'item-0001' is to be held out twice$"):
        splits.split_by_item_ids(rows, ["item-0001"], ["item-0001"])


def test_items_can_be_taken_out(rows: Interactions) -> None:
    split = splits.split_by_items(rows)
    cold = np.flatnonzero(split.cold("test"))
    chosen = np.zeros(160, bool)
    chosen[cold[:3]] = True
    less = splits.exclude_items(split, chosen, "near_duplicates")
    assert less.settings["near_duplicates"] == 3
    assert less.counts()["items_cold_test"] == len(cold) - 3
    assert not np.isin(less.rows(TEST).items, cold[:3]).any()
    with pytest.raises(splits.NothingToEvaluate, match=r"^split items leaves no interactions for test: of \d+ users "):
        splits.exclude_items(split, split.cold("test"), "near_duplicates")


def test_a_split_is_read_as_it_was_written(rows: Interactions, tmp_path: Path) -> None:
    for split in (splits.split_by_time(rows), splits.split_coldrec(rows)):
        assert split_file.write_split(split, tmp_path / split.kind) == split.digest()
        again = split_file.read_split(tmp_path / split.kind)
        assert again.digest() == split.digest()
        assert again.interactions.user_ids == rows.user_ids
        about = json.loads((tmp_path / split.kind / "split.json").read_text())
        assert about["counts"] == split.counts()


def test_a_split_that_was_changed_is_refused(rows: Interactions, tmp_path: Path) -> None:
    split = splits.split_by_items(rows)
    split_file.write_split(split, tmp_path)
    table = pq.read_table(tmp_path / "rows.parquet")
    pq.write_table(table.slice(1), tmp_path / "rows.parquet")
    with pytest.raises(ColdstartError) as caught:
        split_file.read_split(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"the split in {tmp_path} was changed since it was written: its digest is ")
    assert message.endswith(f", and split.json says {split.digest()}; write it anew")
    (tmp_path / "users.parquet").write_bytes(b"no table")
    with pytest.raises(ColdstartError, match=r"^the split in .* cannot be read: "):
        split_file.read_split(tmp_path)
    with pytest.raises(ColdstartError) as caught:
        split_file.read_split(tmp_path / "nowhere")
    assert str(caught.value) == f"there is no split in {tmp_path / 'nowhere'}: split.json is missing"


def test_the_digest_knows_every_part(rows: Interactions) -> None:
    from dataclasses import replace

    split = splits.split_by_items(rows)
    part = split.row_part.copy()
    part[0] = OUT
    times = rows.times.copy()
    times[0] += 1
    others = [
        replace(split, row_part=part),
        replace(split, interactions=replace(rows, times=times)),
        replace(split, settings={**split.settings, "seed": 9}),
        replace(split, kind="given"),
    ]
    assert len({one.digest() for one in (split, *others)}) == 5
