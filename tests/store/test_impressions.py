"""The table of impressions: equal showings once, later outcomes, clocks, matches with interactions, reading back."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.impressions import MATCHED, NONE, STATED, Impressions, is_signal, signal_name
from coldstart.errors import ColdstartError
from coldstart.ingest.impression_file import SCHEMA
from coldstart.ingest.interaction_file import SCHEMA as INTERACTION_SCHEMA
from coldstart.ingest.load_impressions import import_impressions
from coldstart.store import Store, check, impressions
from coldstart.store.impressions import EARLY, IMPRESSIONS, ImpressionCounts, ImpressionTable
from coldstart.store.interactions import InteractionTable

Rejected = list[tuple[int, str]]


def showing(user: str | None, item: str, at: float | None, request: str | None = None, **others: Any) -> dict[str, Any]:
    """A row of a block: seconds since 1970; outcomes by name."""
    return {"user_id": user, "item_id": item, "timestamp": at, "request_id": request, **others}


def block(*rows: dict[str, Any], start: int = 1) -> tuple[pa.RecordBatch, np.ndarray[Any, Any]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    signals = [pa.field(name, pa.float32()) for name in names if name not in SCHEMA.names]
    moments = ("timestamp", "outcome_at")
    plain = [
        {name: round(value * 1e6) if name in moments and value is not None else value for name, value in row.items()}
        for row in rows
    ]
    schema = pa.schema([*SCHEMA, *signals])
    columns = [pa.array([row.get(own.name) for row in plain], own.type) for own in schema]
    return pa.record_batch(columns, schema=schema), np.arange(start, start + len(rows))


class Table(ImpressionTable):
    """A table that gathers what it rejects."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.store, self.rejected = store, Rejected()

    def shown(self, *rows: dict[str, Any]) -> ImpressionCounts:
        return self.append([block(*rows)], self._note)

    def later(self, *rows: dict[str, Any]) -> ImpressionCounts:
        return self.add_outcomes([block(*rows)], self._note)

    def _note(self, rows: pa.Table) -> None:
        self.rejected += [(row["row"], row["reason"]) for row in rows.to_pylist()]

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        found = self.store.read(IMPRESSIONS).to_pylist()
        return sorted((tuple(row.get(name) for name in ("item_id", *names)) for row in found), key=str)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(Store(tmp_path / "w", create=True))


def met(store: Store, *rows: tuple[str, str, float, str]) -> None:
    """Append interactions of user, item, seconds, event."""
    columns = [*map(list, zip(*rows, strict=True)), [1.0] * len(rows)]
    columns[2] = [round(at * 1e6) for at in columns[2]]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, INTERACTION_SCHEMA.types, strict=True)]
    InteractionTable(store).append([pa.record_batch(arrays, schema=INTERACTION_SCHEMA)])


def test_an_empty_table_is_read_as_no_rows(table: Table) -> None:
    found = table.read()
    assert (len(found), found.user_ids, found.signals) == (0, (), {})
    assert table.summary().rows == 0
    assert table.append([], table._note) == ImpressionCounts()
    assert table.later(showing(None, "a", None, "r", click=1)) == ImpressionCounts(rejected=1)
    assert table.rejected == [(1, "no_showing")]


def test_a_request_and_item_twice_is_one_showing(table: Table) -> None:
    rows = [
        showing("u", "a", 10, "r", click=1),
        showing("u", "b", 10, "r", click=0),
        showing("u", "a", 99, "r", click=1),
    ]
    assert table.shown(*rows) == ImpressionCounts(added=2, repeated=1)
    assert table.shown(*rows) == ImpressionCounts(repeated=3)
    assert table.rows("click", "timestamp") == [
        ("a", 1.0, datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)),
        ("b", 0.0, datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)),
    ]


def test_without_requests_rows_that_are_alike_are_counted(table: Table) -> None:
    rows = [showing("u", "a", 10, surface="home"), showing("u", "a", 10, surface="home"), showing("u", "a", 10)]
    assert table.shown(*rows) == ImpressionCounts(added=3, alike=1)
    assert table.shown(*rows) == ImpressionCounts(repeated=3, alike=1)
    more = [block(*rows[:1]), block(*rows[:1], start=2), block(*rows[:1], start=3)]
    assert table.append(more, table._note) == ImpressionCounts(added=1, repeated=2, alike=2)
    assert table.append(more, table._note) == ImpressionCounts(repeated=3, alike=2)
    assert table.count() == 4


@pytest.mark.parametrize("seed", range(3))
def test_the_first_row_of_a_request_says_whose_it_is(table: Table, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        showing(f"u{rng.integers(3)}", f"i{place}", 5.0, None if rng.random() < 0.2 else f"r{rng.integers(30)}")
        for place in range(200)
    ]
    owner: dict[str, str] = {}
    expected = [
        place + 1 for place, row in enumerate(rows)
        if row["request_id"] and owner.setdefault(row["request_id"], row["user_id"]) != row["user_id"]
    ]  # fmt: skip
    cuts = [0, *sorted(rng.integers(0, 200, 7).tolist()), 200]
    blocks = [block(*rows[start:end], start=start + 1) for start, end in pairwise(cuts) if end > start]
    done = table.append(blocks, table._note)
    assert table.rejected == [(number, "other_user") for number in expected]
    assert (done.added, done.rejected) == (200 - len(expected), len(expected))


def test_a_request_of_another_user_is_turned_away(table: Table) -> None:
    assert table.shown(showing("u", "a", 10, "r"), showing("v", "a", 10, "r")) == ImpressionCounts(added=1, rejected=1)
    assert table.later(showing("v", "a", None, "r", click=1)) == ImpressionCounts(rejected=1)
    assert table.rejected == [(2, "other_user"), (1, "other_user")]
    assert table.read().user_ids == ("u",)


def test_outcomes_that_come_later_fill_in_and_the_last_counts(table: Table) -> None:
    table.shown(showing("u", "a", 10, "r", click=0), showing("u", "b", 10, "r"))
    assert table.later(
        showing(None, "a", None, "r", like=1),
        showing(None, "a", None, "r", click=1),
        showing("u", "b", None, "r", click=0, outcome_at=20),
        showing(None, "c", None, "r", click=1),
    ) == ImpressionCounts(renewed=3, rejected=1)
    assert table.rejected == [(4, "no_showing")]
    assert table.rows("click", "like") == [("a", 1.0, 1.0), ("b", 0.0, None)]
    assert table.later(showing(None, "a", None, "r", click=1)) == ImpressionCounts(repeated=1)
    assert table.later(showing(None, "a", None, "r", click=0), showing(None, "a", None, "r", click=None)).renewed == 2
    assert table.rows("click", "like")[0] == ("a", 0.0, 1.0), "an empty outcome takes nothing away"
    assert table.shown(showing("u", "b", 10, "r", follow=1)) == ImpressionCounts(renewed=1)
    assert table.rows("click", "follow") == [("a", 0.0, None), ("b", 0.0, 1.0)]


def test_a_digest_is_of_rows_and_outcomes_whatever_their_order(table: Table, tmp_path: Path) -> None:
    rows = [showing("u", "a", 10, "r", click=0), showing("u", "b", 10, "r", position=3), showing("v", "a", 11)]
    empty = table.digest()
    table.shown(*rows)
    first = table.digest()
    assert len({empty, first}) == 2
    other = Table(Store(tmp_path / "other", create=True))
    for row in reversed(rows):
        other.shown(row)
    assert other.digest() == first
    other.shown(showing("u", "b", 10, "r", click=1))
    assert other.digest() != first, "an outcome came"


def test_an_outcome_before_its_showing_is_kept_apart(table: Table) -> None:
    early = showing("u", "b", 10, "r", click=1, outcome_at=9.5)
    rows = [showing("u", "a", 10, "r", click=1, outcome_at=10), early]
    assert table.shown(*rows) == ImpressionCounts(added=2, early=1)
    assert table.rows("click", "outcome_at")[1] == ("b", None, None)
    assert table.shown(*rows) == ImpressionCounts(repeated=2, early=1)
    assert table.later(showing(None, "a", None, "r", like=1, outcome_at=3)) == ImpressionCounts(repeated=1, early=1)
    assert table.rows("click", "like")[0] == ("a", 1.0, None)
    apart = table.store.read(EARLY).to_pylist()
    assert sorted((row["user_id"], row["item_id"], row["click"], row["like"]) for row in apart) == [
        ("u", "a", None, 1.0),
        ("u", "b", 1.0, None),
    ]
    summary = table.summary()
    assert (summary.rows, summary.without_outcome, summary.early) == (2, 1, 2)


@pytest.mark.slow
def test_pending_outcomes_are_written_in_parts_as_in_one(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impressions, "_PENDING_ROWS", 2)
    monkeypatch.setattr(impressions, "_READ_ROWS", 3)
    rng = np.random.default_rng(0)
    rows = [showing(f"u{n % 5}", f"i{n}", float(n), f"r{n % 5}") for n in range(40)]
    parts = [block(*rows[start : start + 7], start=start) for start in range(0, 40, 7)]
    assert table.append(parts, table._note) == ImpressionCounts(added=40)
    values = rng.integers(0, 3, 200)
    places = rng.integers(0, 40, 200)
    outcomes = [
        showing(None, f"i{place}", None, f"r{place % 5}", click=float(value))
        for place, value in zip(places, values, strict=True)
    ]
    table.add_outcomes([block(*outcomes[start : start + 9]) for start in range(0, 200, 9)], table._note)
    last = {f"i{place}": float(value) for place, value in zip(places.tolist(), values.tolist(), strict=True)}
    assert dict(table.rows("click")) == {row["item_id"]: last.get(row["item_id"]) for row in rows}
    assert not table.rejected
    assert check.find_damage(table.store) == []


def test_too_many_outcomes_are_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impressions, "MOST_SIGNALS", 2)
    table.shown(showing("u", "a", 1, "r", click=1, like=1))
    with pytest.raises(ColdstartError, match="have 2 outcomes, and 'follow' would be over the most, 2"):
        table.shown(showing("u", "b", 1, "r", follow=1))


# -- reading


def test_showings_are_matched_with_the_interactions_that_follow(table: Table) -> None:
    table.shown(
        showing("u", "a", 1000),
        showing("u", "a", 1600),
        showing("u", "b", 1000),
        showing("v", "a", 1000, click=0),
        showing("v", "c", 5000),
    )
    met(
        table.store,
        ("u", "a", 1700, "Buy it"),  # of the second showing, the last before it
        ("u", "b", 2800, "click"),  # on the last second of the window
        ("v", "a", 1001, "click"),  # of a showing that states its outcome
        ("v", "c", 4000, "click"),  # before any showing
        ("w", "c", 5000, ""),
    )
    found = table.read()
    order = np.lexsort((found.times, found.items, found.users))
    assert found.source[order].tolist() == [NONE, MATCHED, MATCHED, STATED, NONE]
    assert found.signal("click")[order].tolist()[1:4] == [0, 1, 0]
    assert found.signal("buy_it", missing=-1)[order].tolist() == [-1, 1, 0, -1, -1]
    assert found.signal("none", 0).tolist() == [0] * 5
    assert found.early == 1
    assert (table.read(window_s=1799).source == MATCHED).sum() == 1
    assert (table.read(window_s=None).source == MATCHED).sum() == 0
    first = table.read(end=1001)
    assert len(first) == 3
    assert (first.source == MATCHED).sum() == 1, "the later showing owns the interaction, though it is not read"
    assert len(table.read(start=1600, end=5000)) == 1
    assert table.read(end=4500).early == 0, "the showing that the click precedes is not among those read"
    table.shown(showing("u", "a", 2000))
    again = table.read(start=1900, end=2100)
    assert (len(again), again.early) == (1, 0), "the click before it belongs to the showing before, which is not read"


def reference(showings: list[tuple[int, int, int]], rows: list[tuple[int, int, int]], window: int) -> set[int]:
    """Showings that are matched, by a loop."""
    found = set()
    for user, item, at in rows:
        before = [
            (shown[2], place) for place, shown in enumerate(showings) if shown[:2] == (user, item) and shown[2] <= at
        ]
        if before and at - max(before)[0] <= window:
            found.add(max(before)[1])
    return found


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    showings = [
        tuple(map(int, row))
        for row in zip(rng.integers(0, 3, 60), rng.integers(0, 4, 60), rng.permutation(200)[:60], strict=True)
    ]
    rows = [
        tuple(map(int, row))
        for row in zip(rng.integers(0, 3, 50), rng.integers(0, 4, 50), rng.integers(0, 220, 50), strict=True)
    ]
    users, items, times = (np.array(column) for column in zip(*showings, strict=True))
    none = np.full(60, -1, np.int32)
    blank = Impressions(
        tuple("abc"), tuple("wxyz"), (), users.astype(np.int32), items.astype(np.int32), none, none, times * 10**6,
        none, np.full(60, np.nan), {}, np.zeros(60, np.int8),
    )  # fmt: skip
    own = [np.array(column) for column in zip(*rows, strict=True)]
    matched = blank.with_matches(own[0], own[1], own[2] * 10**6, np.zeros(50, np.int32), ("click",), 20)
    assert set(np.flatnonzero(matched.source == MATCHED)) == reference(showings, rows, 20)
    assert np.array_equal(matched.signal("click") == 1, matched.source == MATCHED)


def test_what_is_read_back_is_what_was_written(table: Table) -> None:
    table.shown(
        showing("u", "a", 1.5, "r", position=2, surface="home", propensity=0.125, click=1),
        showing("v", "b", 86_400, None, dwell_s=2.5),
    )
    found = table.read()
    order = np.argsort(found.times)
    assert found.times[order].tolist() == [1_500_000, 86_400_000_000]
    assert [found.user_ids[place] for place in found.users[order]] == ["u", "v"]
    assert [found.item_ids[place] for place in found.items[order]] == ["a", "b"]
    assert found.positions[order].tolist() == [2, -1]
    assert (found.surface_ids, found.surfaces[order].tolist()) == (("home",), [0, -1])
    assert (found.requests[order] >= 0).tolist() == [True, False]
    assert np.array_equal(found.propensities[order], [0.125, np.nan], equal_nan=True)
    assert np.array_equal(found.signals["dwell_s"][order], np.float32([np.nan, 2.5]), equal_nan=True)
    summary = table.summary()
    assert (summary.rows, summary.days, summary.users, summary.items, summary.requests) == (2, 2, 2, 2, 1)
    assert (summary.without_outcome, summary.with_propensity) == (0, 1)
    assert summary.signals == {"click": (1, 1), "dwell_s": (1, 1)}
    assert (summary.first, summary.last) == (
        datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        datetime(1970, 1, 2, tzinfo=UTC),
    )


def test_equal_rows_of_a_damaged_table_are_found(table: Table) -> None:
    table.shown(showing("u", "a", 1, "r"))
    table.store.append(IMPRESSIONS, table.store.read(IMPRESSIONS))
    (damage,) = check.find_damage(table.store)
    assert (damage.table, damage.what) == (IMPRESSIONS, "1 rows stand more than once")
    with table.store.lock():
        check.repair(table.store)
    assert table.count() == 1


def test_names_of_outcomes() -> None:
    assert signal_name("Add to cart!") == "add_to_cart"
    assert is_signal("long_view_3s")
    assert not any(map(is_signal, ("", "Click", "user_id", "row_key", "3s", "a-b", "a" * 41)))


_KILLED = """
import os, signal, sys
from pathlib import Path
from coldstart.ingest import impression_file
from coldstart.ingest.load_impressions import import_impressions
from coldstart.store import Store, impressions

impression_file._AT_ONCE, impressions._PENDING_ROWS, impressions._REPLACED_ROWS = 100, 200, 150
place, path, name, left = sys.argv[1:]
owner = Store if name == "append" else impressions
write, left = getattr(owner, name), int(left)

def killing(*given, **options):
    global left
    left -= 1
    if left < 0:  # between two commits; of outcomes with new files on disk that no version has yet
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*given, **options)

setattr(owner, name, killing)
import_impressions(Store(Path(place), create=True), Path(path), later=owner is impressions)
"""


@pytest.mark.slow
def test_a_killed_ingest_leaves_whole_blocks_and_the_same_file_goes_on(tmp_path: Path) -> None:
    shown, later = tmp_path / "shown.csv", tmp_path / "later.csv"
    lines = [f"u{n // 10 % 5},i{n},r{n // 10},1700000{n:03},{n % 2}" for n in range(900)]
    shown.write_text("\n".join(["user_id,item_id,request_id,timestamp,click", *lines]) + "\n")
    later.write_text("\n".join(["request_id,item_id,like", *(f"r{n // 10},i{n},1" for n in range(900))]) + "\n")
    whole = Store(tmp_path / "whole", create=True)
    for path in (shown, later):
        import_impressions(whole, path, later=path == later)
    place = tmp_path / "killed"
    for path, name, left in ((shown, "append", 4), (later, "commit_fragments", 2)):
        ran = subprocess.run([sys.executable, "-c", _KILLED, place, path, name, str(left)], capture_output=True)
        assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
        store = Store(place)
        count = ImpressionTable(store).count()
        if path == shown:
            assert count == 400, "four commits of a hundred"
        else:
            likes = [row["like"] for row in store.read(IMPRESSIONS, ["like"]).to_pylist()]
            assert count == 900 and 0 < likes.count(1.0) < 900
        report = import_impressions(store, path, later=path == later)
        assert (report.rows, report.rejected, report.total) == (900, {}, 900)
    assert sorted(store.read(IMPRESSIONS).to_pylist(), key=str) == sorted(whole.read(IMPRESSIONS).to_pylist(), key=str)


def test_clicks_and_showings_of_items_are_counted_where_some_are_stated(table: Table) -> None:
    assert table.counts(["a"]) is None
    table.shown(showing("u", "a", 10, "r"), showing("u", "b", 10, "r"), showing("v", "a", 10, "s"))
    assert table.counts(["a"]) is None, "no showing states a click"
    table.later(showing(None, "a", None, "r", click=1), showing(None, "b", None, "r", click=0, dwell_s=3))
    table.later(showing(None, "a", None, "r", like=1))
    clicks, shown = table.counts(["b", "c", "a"]) or ((), ())
    assert (list(clicks), list(shown)) == ([0, 0, 1], [1, 0, 2])
