"""A run that looks at what came alone leaves what a run over everything leaves, and counts the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from catalogue import contents, photo, rows, settings, states, write_manifest

import coldstart
from coldstart import sample
from coldstart.core.stage import LedgerRow
from coldstart.engine import increment
from coldstart.engine.increment import moved
from coldstart.engine.report import RunReport
from coldstart.store import Store
from coldstart.store.completed import COMPLETED, Completed, StateDigest, read_completed, state_digest, write_completed
from coldstart.store.freshness import Balance

_GATES: dict[str, Any] = dict.fromkeys(("shots", "speech", "screen", "evidence", "safety"), False)


def verdict(item: str, state: Any = "failed", reason: str = "corrupt_image") -> LedgerRow:
    return LedgerRow("image", item, "key", state, reason, "")


def test_a_balance_moves_by_the_items_that_were_done_again() -> None:
    known = Balance(fresh=90, failed=6, filtered=4, reasons={"corrupt_image": 6, "no_image": 4})
    existed = frozenset({"had a row", "failed", "filtered"})
    before = [verdict("failed"), verdict("filtered", "filtered", "no_image"), verdict("of an item that is new")]
    after = Balance(fresh=2, duplicate=1, filtered=1, pending=1, reasons={"near_duplicate": 1, "no_image": 1})
    found = moved(known, existed, before, after)
    assert found == Balance(91, 5, 4, 1, 1, {"corrupt_image": 5, "no_image": 4, "near_duplicate": 1})
    assert found.total == known.total - len(existed) + after.total


def test_a_record_holds_until_anybody_writes(tmp_path: Path) -> None:
    def digest(settings: str = "settings") -> StateDigest:
        found = state_digest(store, [settings])
        assert found is not None
        return found

    store = Store(tmp_path, create=True)
    store.record([verdict("a")])
    state = digest()
    balances = {"image": Balance(3, 1, reasons={"corrupt_image": 1})}
    write_completed(store, Completed(state, balances))
    assert read_completed(store) == Completed(state, balances)
    store.save_run("image", datetime.now(UTC), 1.0, {})
    store.append("manifest_rows", pa.table({"item_id": ["a"], "known": ["b"]}))
    assert digest() == state, "on logs the state of no item rests"
    assert digest("others").content != state.content
    store.append("interactions_rejected", pa.table({"file": ["f"], "reason": ["r"], "detail": ["d"], "row": [1]}))
    assert digest().content == state.content
    assert digest().signals != state.signals
    version = store.db.open_table("ledger").version
    store.db.drop_table("ledger")
    store.record([verdict("a")])
    assert store.db.open_table("ledger").version == version
    assert digest().content != state.content, "it was removed and made again"


@pytest.mark.parametrize("balances", ["", "[]", '{"image": {"fresh": "many"}}', "[" * 5000])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, balances: str) -> None:
    store = Store(tmp_path, create=True)
    write_completed(store, Completed(StateDigest("a", "b"), {}))
    row = store.read(COMPLETED)
    store.db.create_table(COMPLETED, row.set_column(2, "balances", [[balances]]), mode="overwrite")
    assert read_completed(store) is None


class Twins:
    """The same catalogue in two workspaces: every run of the second one looks at everything."""

    def __init__(self, folder: Path, **stages: Any) -> None:
        self.media = folder / "media"
        self.entries = rows(self.media, 6)
        self._folder = folder
        self._stages = stages

    def run(self) -> dict[str, tuple[int, ...]]:
        """Run both, compare what they report and what they leave; returns the states of the first."""
        manifest = write_manifest(self.media / "all.jsonl", self.entries)
        pipeline = settings(manifest, workers=1)
        pipeline["stages"] = {"ingest": {}, **self._stages, **pipeline["stages"]}
        reports: list[RunReport] = []
        for name in ("increment", "whole"):
            workspace = coldstart.open(self._folder / name, create=True)
            store = Store(self._folder / name)
            if name == "whole" and store.has(COMPLETED):
                store.db.drop_table(COMPLETED)
            reports.append(workspace.run(pipeline))
        ours, theirs = reports
        assert contents(self._folder / "increment") == contents(self._folder / "whole")
        for own, other in zip(ours.stages, theirs.stages, strict=True):
            assert own.balance == other.balance, own.stage
            assert (own.ran.done, own.ran.lost) == (other.ran.done, other.ran.lost), own.stage
        found: dict[str, tuple[int, ...]] = dict(states(ours.stages))
        return found


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of the items of each view that a run makes."""
    seen: list[int] = []
    made = increment.ItemsView

    def view(store: Store, items: Any) -> Any:
        seen.append(len(items))
        return made(store, items)

    monkeypatch.setattr(increment, "ItemsView", view)
    return seen


@pytest.mark.slow
def test_what_came_is_done_as_in_a_run_over_everything(tmp_path: Path, views: list[int]) -> None:
    twins = Twins(tmp_path, understand=_GATES | {"quality": {"min_side": 12}})
    first = twins.run()
    assert views == [], "the first run looks at everything"
    assert twins.run() == first
    assert views == [], "nothing came"
    twins.entries[2]["title"] = "renamed"
    copy = {**twins.entries[1], "item_id": "copy"}
    twins.entries += [copy, {"item_id": "words", "title": "no picture"}, {"item_id": "bad", "price": "x"}]
    found = twins.run()
    assert found["index"][0] == first["index"][0] + 2
    assert set(views) == {4}, "p2, copy, words and bad"
    views.clear()
    photo_of = Path(sample.__file__).parent / "images/06_Banana.jpg"
    (twins.media / "p1.jpg").write_bytes(photo_of.read_bytes())
    copy["image"] = photo(twins.media / "other.jpg", 1).name  # what its original was
    twins.run()
    assert set(views) == {2}, "p1 and its copy"


@pytest.mark.slow
def test_a_run_looks_at_everything_where_somebody_wrote_or_an_item_fell_out(tmp_path: Path, views: list[int]) -> None:
    twins = Twins(tmp_path)
    twins.run()
    twins.entries[0]["title"] = "renamed"
    twins.run()
    assert set(views) == {1}
    views.clear()
    for name in ("increment", "whole"):
        coldstart.open(tmp_path / name).remove(["p3"])
    twins.entries[0]["title"] = "renamed again"
    twins.run()
    assert views == []
    (twins.media / "p4.jpg").write_bytes(b"no picture")
    twins.run()
    assert views == []


@pytest.mark.slow
def test_a_threshold_in_the_file_of_a_policy_opens_and_closes_its_gate(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    text = """name: own
version: "1"
about: A threshold of pictures.
rules: {weapon: {about: Weapons., signs: [{score: 0.9, words: [sword]}]}}
pictures: {classifiers: {nude: {about: Nudity., model: open_nsfw, threshold: %s}}}
"""
    policy.write_text(text % 1)
    only = dict.fromkeys(("fingerprint", "duplicates", "quality"), False)
    twins = Twins(tmp_path, understand={**_GATES, **only, "safety": {"policy": str(policy), "classifier": "fake"}})
    first = twins.run()["index"]
    policy.write_text(text % 0.01)
    assert twins.run()["index"] != first
    policy.write_text(text % 1)
    assert twins.run()["index"] == first


def kill(run: Callable[[], Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.slow
def test_a_killed_run_is_followed_by_one_over_everything(
    tmp_path: Path, views: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(tmp_path)
    twins.run()
    twins.entries.append({"item_id": "late", "title": "late"})
    manifest = write_manifest(twins.media / "all.jsonl", twins.entries)
    pipeline = settings(manifest, workers=1)
    with monkeypatch.context() as patched:

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(increment.Increment, "_run_map", stop)
        kill(lambda: coldstart.open(tmp_path / "increment").run(pipeline))
    views.clear()
    report = coldstart.open(tmp_path / "increment").run(pipeline)
    assert views == []
    assert states(report.stages)["index"] == (7, 0, 0, 0, 0)
    coldstart.open(tmp_path / "whole").run(pipeline)
    assert contents(tmp_path / "increment") == contents(tmp_path / "whole")
