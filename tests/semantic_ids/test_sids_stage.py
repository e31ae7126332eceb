"""Semantic IDs of a workspace: fit, IDs of new items, versions, bad vectors, other passports, command, page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from catalogue import coldstart as run_cli
from catalogue import photo, write_manifest

import coldstart
from coldstart.api import Workspace
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids.fit_stage import FIT
from coldstart.semantic_ids.ids_stage import codes_array, table_of
from coldstart.semantic_ids.read import ids_stage, parse_prefix

COUNT = 80


def rows(count: int, start: int = 0, folder: Path | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"item_id": f"p{n:03}", "title": f"article {n} of shelf {n % 7}", "category": f"shop > shelf {n % 7}"}
        for n in range(start, start + count)
    ]
    if folder is not None:
        for n, row in enumerate(found[:6]):
            row["image"] = photo(folder / f"{row['item_id']}.jpg", n).name
    return found


def settings(manifest: Path) -> dict[str, Any]:
    return {
        "manifest": str(manifest),
        "engine": {"workers": 1},
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two workspaces of eighty products with texts: `plain`, and `fitted` with IDs of 8 x 8 x 8 codes."""
    folder = tmp_path_factory.mktemp("made")
    opened = coldstart.open(folder / "plain", create=True)
    opened.run(settings(write_manifest(folder / "items.jsonl", rows(COUNT))))
    shutil.copytree(folder / "plain", folder / "fitted")
    copied = coldstart.open(folder / "fitted")
    copied.trust()
    copied.finetune_sids(levels=(8, 8, 8))
    return folder


def copy_of(made: Path, name: str, tmp_path: Path) -> Workspace:
    shutil.copytree(made / name, tmp_path / "ws")
    opened = coldstart.open(tmp_path / "ws")
    opened.trust()
    return opened


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Workspace:
    return copy_of(made, "fitted", tmp_path)


@pytest.fixture
def plain(made: Path, tmp_path: Path) -> Workspace:
    return copy_of(made, "plain", tmp_path)


def by_item(opened: Workspace, version: str | None = None) -> dict[str, str]:
    table = opened.sids(version=version)
    return dict(zip(table["item_id"].to_pylist(), table["sid"].to_pylist(), strict=True))


def balance(opened: Workspace, stage: str = "sids") -> Any:
    return next(report.balance for report in opened.status() if report.stage == stage)


@pytest.mark.slow
def test_new_items_get_ids_and_no_old_one_moves(shop: Workspace, tmp_path: Path) -> None:
    old = by_item(shop)
    assert len(old) == len(set(old.values())) == COUNT
    report = shop.run(manifest=write_manifest(tmp_path / "items.jsonl", rows(COUNT + 20)))
    assert next(one for one in report.stages if one.stage == "sids").ran.done == 20
    grown = by_item(shop)
    assert {item: grown[item] for item in old} == old
    assert len(set(grown.values())) == COUNT + 20
    added = shop.add_items([{"item_id": "late", "title": "a thing that came late"}])
    assert [one.state for one in added.items] == ["searchable"]
    late = by_item(shop)
    assert {item: late[item] for item in grown} == grown and late["late"] not in grown.values()
    assert balance(shop).fresh == COUNT + 21
    again = shop.run()
    assert next(one for one in again.stages if one.stage == "sids").ran.done == 0, "a plain run finds the IDs fresh"


@pytest.mark.slow
def test_a_changed_item_keeps_its_id_unless_its_codes_change_and_a_removed_one_leaves(
    shop: Workspace, tmp_path: Path
) -> None:
    old = by_item(shop)
    changed = rows(COUNT)
    changed[5]["title"] = "something else entirely"
    shop.run(manifest=write_manifest(tmp_path / "items.jsonl", changed))
    new = by_item(shop)
    assert {item for item in old if new[item] != old[item]} <= {"p005"}
    removed = shop.remove(["p007"])
    assert f"coldstart finetune sids --workspace {shop.uri}" in [one.command for one in removed.fits]
    shop.run()
    assert by_item(shop) == {item: sid for item, sid in new.items() if item != "p007"}


@pytest.mark.slow
def test_a_publication_has_the_ids_of_one_fit_and_a_rollback_brings_them_back(shop: Workspace, tmp_path: Path) -> None:
    first, old = shop.sid_versions()[0]["version"], by_item(shop)
    shop.run()
    reader = coldstart.open(shop.uri)
    assert [hit.item_id for hit in reader.search(text="article", where=f"sid = '{old['p004']}'")] == ["p004"]
    # beside the old ones: fitted, then given to every item, and not published
    shop.run(only=[FIT], refit=True, overrides=["codebooks.collisions=suffix"])
    assert [one["version"] for one in shop.sid_versions()] == [first], "a fit without IDs takes no one's place"
    shop.run(only=["sids"])
    newest = shop.sid_versions()[0]["version"]
    assert [(one["version"], one["served"]) for one in shop.sid_versions()] == [(newest, False), (first, True)]
    assert by_item(shop) == old and shop.sid_arrays().version == first
    assert set(by_item(shop, newest).values()).isdisjoint(old.values()), "by a fourth code"
    # cut over: all items of the publication at once, by an item that arrives too
    added = shop.add_items([{"item_id": "late", "title": "a thing that came late"}])
    assert added.items[0].state == "searchable"
    new = by_item(shop)
    assert len(new) == COUNT + 1 and {len(parse_prefix(sid)) for sid in new.values()} == {4}
    assert shop.sid_arrays().version == newest and shop.sid_arrays().nearest.shape == (COUNT + 1, 3)
    assert by_item(reader) == old, "a reader of the old publication keeps its IDs"
    changed = rows(COUNT)
    changed[5]["title"] = "something else entirely"
    shop.run(manifest=write_manifest(tmp_path / "items.jsonl", changed))
    shop.rollback()
    assert by_item(shop) == by_item(coldstart.open(shop.uri)) == new, "an item that changed since has its old ID"
    shop.rollback()
    assert by_item(shop) == old and shop.sid_versions()[0]["served"] is False
    assert "served from the next `coldstart index`" in run_cli("sids", "--workspace", shop.uri).stdout
    with pytest.raises(ColdstartError, match=f"no version 'zz' of semantic IDs: there is {newest}, {first}"):
        shop.sids(version="zz")


@pytest.mark.slow
def test_too_few_items_are_refused_with_their_number(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "ws", create=True)
    opened.run(settings(write_manifest(tmp_path / "items.jsonl", rows(9))))
    with pytest.raises(ColdstartError, match="codebooks: 9 items have a vector in space 'text', and codebooks need 64"):
        opened.finetune_sids()
    with pytest.raises(NotFitted, match="no item has a semantic ID yet"):
        opened.pipeline({**settings(tmp_path / "items.jsonl")})
        opened.run({**settings(tmp_path / "items.jsonl"), "stages": {
            **settings(tmp_path / "items.jsonl")["stages"], "codebooks": {"stage": "align.sids"}, "sids": {},
        }})  # fmt: skip
        opened.sids()
    assert balance(opened).pending == 9, "a run waits, and says so"


@pytest.mark.slow
def test_too_few_codes_are_refused(plain: Workspace) -> None:
    with pytest.raises(ColdstartError, match="levels 8 have 8 IDs and there are 80 items: raise levels"):
        plain.finetune_sids(levels=(8,))


@pytest.mark.slow
def test_an_item_without_a_free_id_gets_one_when_another_is_removed(plain: Workspace, tmp_path: Path) -> None:
    plain.finetune_sids(levels=(10, 8))
    before = by_item(plain)
    manifest = write_manifest(tmp_path / "items.jsonl", rows(COUNT + 1))
    plain.run(manifest=manifest)
    assert dict(balance(plain).reasons) == {"no_free_id": 1}
    assert by_item(plain) == before
    plain.remove(["p003"])
    plain.run()
    assert by_item(plain) == {**{item: sid for item, sid in before.items() if item != "p003"}, "p080": before["p003"]}


def spoil(opened: Workspace, vectors: dict[str, Any]) -> None:
    """Put other vectors of items into the table of the space."""
    store = opened._store
    table = next(name for name in store.tables() if name.startswith("stage.text-"))
    found = store.read(table, ids=sorted(vectors))
    column = pa.array([vectors[item] for item in found["item_id"].to_pylist()], found.schema.field("vector").type)
    store.merge(table, found.set_column(found.schema.names.index("vector"), found.schema.field("vector"), column))


@pytest.mark.slow
def test_vectors_that_are_zero_or_not_finite_fail_with_a_reason(plain: Workspace) -> None:
    opened = plain
    spoil(opened, {"p001": [0.0] * 24, "p002": [float("inf")] * 24})
    opened.finetune_sids()
    found = balance(opened)
    assert (found.fresh, found.failed, found.total) == (COUNT - 2, 2, COUNT)
    assert dict(found.reasons) == {"no_vector": 2}
    failed = {row["item_id"]: row["detail"] for row in opened.failures() if row["stage"] == "sids"}
    assert failed == dict.fromkeys(("p001", "p002"), "text: its vector is zero or not finite")
    assert not {"p001", "p002"} & by_item(opened).keys()
    with pytest.raises(ColdstartError, match="item 'p001' has no semantic ID in version"):
        opened.sids("p001")
    fit = balance(opened, "codebooks")
    assert (fit.fresh, fit.pending) == (COUNT, 0), "the fit has seen them, and is not made again for them"


@pytest.mark.slow
def test_equal_vectors_are_counted_and_it_says_so(plain: Workspace) -> None:
    opened = plain
    spoil(opened, {f"p{n:03}": [0.5] * 24 for n in range(COUNT)})
    report = opened.finetune_sids()
    notes = [note for stage in report.stages for note in stage.notes]
    assert any("all vectors are equal" in note for note in notes)
    assert sorted(by_item(opened).values(), key=parse_prefix) == [f"0-0-0-{n}" for n in range(COUNT)]


@pytest.mark.slow
def test_codebooks_of_another_passport_are_refused(shop: Workspace, made: Path) -> None:
    other = settings(made / "items.jsonl")
    other["stages"] = {
        **shop.pipeline().raw["stages"],
        "text": {"stage": "embed", "encoder": "fake:16", "input": "text"},
    }
    shop.run(other, only=["text", "sids"])
    notes = next(one for one in shop.run(other, only=["sids"]).stages).notes
    assert "was fitted on other vectors than those of space 'text'" in notes[0]
    assert balance(shop).pending == COUNT


@pytest.mark.slow
def test_a_table_of_a_stranger_is_checked(shop: Workspace) -> None:
    stage = ids_stage(shop._reading_pipeline())
    table = table_of(stage.name, stage.folder().name)
    row = shop._store.read(table, ids=["p003"])
    for codes in ([1, 2], [1, 2, 900], [-1, 2, 3]):
        column = pa.array([codes], row.schema.field("codes").type)
        shop._store.merge(table, row.set_column(2, row.schema.field("codes"), column))
        with pytest.raises(ColdstartError, match=r"semantic IDs has lists of another length|its codebooks do not have"):
            shop.sid_arrays()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, None]], pa.list_(pa.int32())),
        pa.array([[1, 2**32 + 5]]),
        pa.array([[1.0, float("nan")]]),
        pa.array([["1", "2"]]),
        pa.array([[1, 2]], pa.list_(pa.int32(), 2)),
        pa.array([{"a": 1}]),
        pa.array([12]),
    ],
)
def test_codes_of_a_stranger_are_whole_numbers_in_lists(column: pa.Array) -> None:
    with pytest.raises(ColdstartError, match="in place of lists of codes"):
        codes_array(column, 2)


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("sids")
    opened = coldstart.open(folder / "ws", create=True)
    opened.run(settings(write_manifest(folder / "items.jsonl", rows(COUNT, folder=folder))))
    events = ["user_id,item_id,timestamp"]
    events += [f"u{user},p{(7 * step + user) % COUNT:03},{step}" for user in range(40) for step in range(6)]
    (folder / "events.csv").write_text("\n".join(events) + "\n")
    opened.ingest_interactions(folder / "events.csv", time_unit="s")
    opened.finetune_sids(levels=(8, 8, 8))
    yield opened


@pytest.mark.slow
def test_arrays_and_prefixes_agree_with_the_table(readable: Workspace) -> None:
    arrays = readable.sid_arrays()
    assert arrays.codes.shape == (COUNT, 3) and arrays.item_ids == tuple(sorted(arrays.item_ids))
    first = readable.sid_branches()
    assert sum(one.items for one in first) == COUNT
    inside = readable.sids(prefix=first[0].prefix)["item_id"].to_pylist()
    assert sorted(inside) == sorted(
        item for item, own in zip(arrays.item_ids, arrays.codes.tolist(), strict=True) if own[0] == first[0].prefix[0]
    )
    assert readable.sids(prefix="7-7-7-7-7").num_rows == 0


@pytest.mark.slow
def test_the_command_shows_items_prefixes_health_and_files(readable: Workspace, tmp_path: Path) -> None:
    where = ("--workspace", readable.uri)
    sid = by_item(readable)["p004"]
    shown = run_cli("sids", "p004", *where)
    assert f"p004: {sid};" in shown.stdout
    listed = json.loads(run_cli("sids", "--prefix", sid.split("-")[0], "--json", *where).stdout)
    assert sid in [row["sid"] for row in listed["items"]]
    table = tmp_path / "sids.csv"
    assert f"{COUNT} semantic IDs" in run_cli("sids", "--export", table, *where).stdout
    assert table.read_text().splitlines()[0] == '"item_id","sid","code_1","code_2","code_3"'
    page = tmp_path / "sids.html"
    card = json.loads(run_cli("sids", "--health", "--out", page, "--json", *where).stdout)
    assert card["unique_share"] == 1.0 and card["churn"]["moved"] == 0 and card["emitted"] is None
    assert {one["name"] for one in card["agreement"]} == {"L1", "L2", "L3", "category 1", "category 2"}
    assert [one["level"] for one in card["reach"]] == [1, 2, 3]
    html = page.read_text("utf-8")
    assert html.count("<details") == len(readable.sid_branches()) and "data:image/jpeg" in html
    assert "<script" not in html and "fewer than 30 are too few to judge" in html
    both = run_cli("sids", "p004", "--health", *where)
    assert both.returncode == 1 and "exclude each other" in both.stderr
    assert "give codes joined by -" in run_cli("sids", "--prefix", "1-x", *where).stderr
    assert "--levels 8,x: give numbers" in run_cli("finetune", "sids", "--levels", "8,x", *where).stderr


def test_prefixes_are_read_strictly() -> None:
    assert parse_prefix("12-7") == parse_prefix((12, 7)) == parse_prefix(np.array([12, 7])) == (12, 7)
    for wrong in ("", "1--2", "-1", "1-²", "9999999999", (1, -2), (1.5,), (None,)):
        with pytest.raises(ColdstartError, match="give codes joined by -"):
            parse_prefix(wrong)


@pytest.mark.slow
def test_a_fit_of_the_same_items_is_not_made_again(readable: Workspace) -> None:
    before = readable.sid_versions()
    report = readable.finetune_sids()
    assert any(note.endswith("nothing came or changed since") for one in report.stages for note in one.notes)
    assert readable.sid_versions() == before


def test_sids_need_a_fit_and_a_space(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "items.jsonl", rows(3))
    opened = coldstart.open(tmp_path / "ws", create=True)
    raw = settings(manifest)
    with pytest.raises(ColdstartError, match=r"no stage of kind align\.sids stands before it"):
        opened.run({**raw, "stages": {**raw["stages"], "sids": {}}})
    raw["stages"]["codebooks"] = {"stage": "align.sids", "space": "pictures"}
    with pytest.raises(ColdstartError, match="no space of that name stands before it; there is text"):
        opened.run(raw)
