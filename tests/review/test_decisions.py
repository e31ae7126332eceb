"""Decisions of people: what each does to the served catalogue, that it survives runs and manifests, and its undoing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from catalogue import contents, photo, rows, settings, write_manifest
from PIL import Image

import coldstart
from coldstart.api.workspace import Workspace
from coldstart.errors import ColdstartError
from coldstart.store import Store, decisions

BY = {"reason": "looked at it", "by": "ana"}
OFF = dict.fromkeys(("shots", "speech", "screen", "evidence"), False)


def pipeline(manifest: Path) -> dict[str, Any]:
    """Gates for small pictures and copies, fake descriptions with two attributes, and spaces."""
    made = settings(manifest, workers=1)
    understand = {**OFF, "safety": False, "quality": {"min_side": 12}}
    describe = {"grounds": False, "write": {"generator": "fake"}, "check": {}}
    spaces = {name: made["stages"][name] for name in ("image", "text")}
    made["stages"] = {"ingest": {}, "understand": understand, **spaces, "describe": describe, "index": {}}
    made["attributes"] = {
        "default": {"sort": {"from": "category", "values": ["Shoe", "Hat"]}, "colour": {"values": ["Red", "Blue"]}}
    }
    return made


def entries(folder: Path) -> list[dict[str, Any]]:
    """Six items: `p3` has too small a picture, `p4` is a copy of `p1`."""
    found = rows(folder, 6)
    photo(folder / "p0.jpg", 7)  # the one of 0 is black
    for number, row in enumerate(found):
        row |= {"title": f"{('Red', 'Blue')[number % 2]} Shoe {number}", "category": "Shoe"}
    Image.open(folder / "p3.jpg").resize((10, 10)).save(folder / "p3.jpg")
    found[4] |= {name: found[1][name] for name in ("image", "title")}
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    manifest = write_manifest(folder / "shop.jsonl", entries(folder))
    Image.new("RGB", (8, 8), "blue").save(folder / "small.png")
    coldstart.open(folder / "ws", create=True).run(pipeline(manifest))
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(made / "ws", tmp_path / "ws")
    workspace = coldstart.open(tmp_path / "ws")
    with workspace.keep_warm():
        yield workspace


def served(workspace: Workspace) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in contents(Path(workspace.uri))["catalog"]}


def check_run_redoes_nothing(workspace: Workspace, **options: Any) -> None:
    before = contents(Path(workspace.uri))
    report = workspace.run(**options)
    assert {stage.stage: stage.ran.done for stage in report.stages if stage.ran.done} == {}
    assert contents(Path(workspace.uri)) == before


def run_changed(workspace: Workspace, made: Path, item: str, **fields: Any) -> None:
    """Run a manifest in which one row has other values."""
    listed = [json.loads(line) for line in (made / "shop.jsonl").read_text("utf-8").splitlines()]
    changed = [row | fields if row["item_id"] == item else row for row in listed]
    workspace.run(manifest=write_manifest(made / "changed.jsonl", changed))


def test_a_rejected_item_is_in_no_search_until_that_is_undone(shop: Workspace, made: Path) -> None:
    untouched = contents(Path(shop.uri))
    done = shop.decide("p0", "reject", **BY)
    assert (done.outcome.state, done.outcome.reason) == ("filtered", "rejected_by_review")
    assert done.outcome.detail == "by ana: looked at it"
    assert done.publication == "pub-000002" == shop.publications()[0].tag
    assert {hit.item_id for hit in shop.search(text="shoe")} == {"p1", "p2", "p5"}
    assert done.decision.to_dict()["in_force"] is True
    check_run_redoes_nothing(shop)
    run_changed(shop, made, "p0", title="Red Shoe renamed")
    assert "p0" not in served(shop)
    assert shop.dossier("p0").stages[-1].reason == "rejected_by_review"
    shop.undo_decision(done.decision.decision_id, reason="mistaken", by="ben")
    assert served(shop)["p0"]["title"] == "Red Shoe renamed"
    run_changed(shop, made, "none")
    assert _rows(contents(Path(shop.uri))) == _rows(untouched)


def _rows(found: dict[str, Any]) -> Any:
    """Rows without places of arrival, which an item that was away for a while has anew."""
    return json.loads(json.dumps(found, default=str).replace('"arrived"', '"_"')) and {
        name: [{key: value for key, value in row.items() if key != "arrived"} for row in listed]
        for name, listed in found.items()
    }


def test_the_copy_of_a_rejected_item_takes_its_place(shop: Workspace) -> None:
    shop.decide("p1", "reject", **BY)
    found = served(shop)
    assert "p1" not in found and found["p4"]["duplicate_of"] is None
    check_run_redoes_nothing(shop)


def test_an_item_passes_a_gate_while_what_it_reads_stays_the_same(shop: Workspace, made: Path) -> None:
    (waiting,) = shop.review(state="filtered").entries
    assert (waiting.item_id, waiting.stage, waiting.reason) == ("p3", "understand.quality", "low_resolution")
    assert waiting.actions == ("approve", "reject", "correct")
    done = shop.decide("p3", "approve", stage="understand.quality", **BY)
    assert done.outcome.state == "searchable"
    assert shop.review(state="filtered").entries == []
    check_run_redoes_nothing(shop)
    run_changed(shop, made, "p3", title="Blue Shoe renamed")
    assert served(shop)["p3"]["title"] == "Blue Shoe renamed"
    run_changed(shop, made, "p3", image="small.png")
    assert "p3" not in served(shop)  # another picture: somebody has to look again
    assert [one.item_id for one in shop.review(state="filtered").entries] == ["p3"]
    run_changed(shop, made, "none")
    assert "p3" in served(shop)
    shop.undo_decision(done.decision.decision_id, **BY)
    assert "p3" not in served(shop)
    check_run_redoes_nothing(shop)


def test_an_approved_copy_is_an_item_of_its_own(shop: Workspace) -> None:
    (waiting,) = shop.review(state="duplicate").entries
    assert (waiting.item_id, waiting.original, waiting.reason) == ("p4", "p1", "near_duplicate")
    assert served(shop)["p4"]["duplicate_of"] == "p1"
    done = shop.decide("p4", "approve", stage="understand.duplicates", **BY)
    assert (done.outcome.state, served(shop)["p4"]["duplicate_of"]) == ("searchable", None)
    check_run_redoes_nothing(shop)
    shop.undo_decision(done.decision.decision_id, **BY)
    assert served(shop)["p4"]["duplicate_of"] == "p1"
    check_run_redoes_nothing(shop)


def test_a_corrected_field_stays_whatever_the_manifest_says(shop: Workspace, made: Path) -> None:
    untouched = contents(Path(shop.uri))
    rows = [
        {"item_id": "p0", "action": "correct", "field": "title", "value": "Blue Boot", **BY},
        {"item_id": "p0", "action": "correct", "field": "attributes.colour", "value": "Blue", **BY},
        {"item_id": "p2", "action": "correct", "field": "tags", "value": ["new", "sale"], **BY},
        {"item_id": "p2", "action": "correct", "field": "category", "value": None, **BY},
    ]
    title, colour, tags, category = shop.decide_many(rows)
    assert [one.outcome.state for one in (title, colour, tags, category)] == ["searchable"] * 4
    assert [one.decision.before for one in (title, colour, tags, category)] == ["Red Shoe 0", None, [], "Shoe"]
    found = served(shop)
    assert (found["p0"]["title"], json.loads(found["p0"]["attributes"])) == ("Blue Boot", {"colour": "Blue"})
    assert (found["p2"]["tags"], found["p2"]["category"]) == (["new", "sale"], None)
    assert {(one["name"], one["value"], one["ground"]) for one in found["p0"]["claims"]} >= {
        ("colour", "Blue", "record")
    }
    check_run_redoes_nothing(shop)
    run_changed(shop, made, "p0", title="renamed", description="of leather")
    assert (served(shop)["p0"]["title"], served(shop)["p0"]["description"]) == ("Blue Boot", "of leather")
    again = shop.decide("p0", "correct", field="title", value="Red Ankle Boot", **BY)
    assert again.decision.before == "Blue Boot"
    assert [one.in_force for one in shop.decisions("p0").decisions] == [True, True, False]
    shop.undo_decision(again.decision.decision_id, **BY)
    assert served(shop)["p0"]["title"] == "Blue Boot"
    shop.undo_decision(title.decision.decision_id, **BY)
    assert served(shop)["p0"]["title"] == "renamed"  # of the manifest that was read last
    for one in (colour, tags, category):
        shop.undo_decision(one.decision.decision_id, **BY)
    run_changed(shop, made, "none")
    assert contents(Path(shop.uri)) == untouched


def test_an_undone_correction_restores_a_record_without_its_manifest(shop: Workspace, made: Path) -> None:
    shop.add_items([{"item_id": "n1", "title": "green hat", "created_at": "2024-01-05T10:00:00+02:00"}])
    before = contents(Path(shop.uri))["items"]
    done = shop.decide("n1", "correct", field="title", value="red hat", **BY)
    shop.run(pipeline=_without_manifest(shop))
    assert served(shop)["n1"]["title"] == "red hat"
    assert shop.add_items([{"item_id": "n1", "title": "green cap"}]).items[0].state == "searchable"
    assert served(shop)["n1"]["title"] == "red hat"
    shop.add_items([{"item_id": "n1", "title": "green hat", "created_at": "2024-01-05T10:00:00+02:00"}])
    shop.undo_decision(done.decision.decision_id, **BY)
    assert served(shop)["n1"]["title"] == "green hat"
    assert contents(Path(shop.uri))["items"] == before


def _without_manifest(workspace: Workspace) -> dict[str, Any]:
    return {name: value for name, value in Store(workspace.uri).pipeline().items() if name != "manifest"}


def test_claims_that_people_decided_on(shop: Workspace) -> None:
    before = served(shop)["p0"]
    (removed,) = shop.review(state="claim", item_id="p0").entries
    assert (removed.claim, removed.value, removed.reason) == ("summary", "Shoe Red.", "lists_values")
    kept = shop.decide("p0", "approve", claim="summary", value="Shoe Red.", **BY)
    assert served(shop)["p0"]["summary"].startswith("Shoe Red.")
    assert shop.review(state="claim", item_id="p0").entries == []
    check_run_redoes_nothing(shop)
    shop.undo_decision(kept.decision.decision_id, **BY)
    assert ("colour", "Red") in {(one["name"], one["value"]) for one in before["claims"]}
    text, colour = shop.decide_many(
        [
            {"item_id": "p0", "action": "reject", "claim": "colour", **BY},
            {"item_id": "p0", "action": "reject", "claim": "summary", "value": before["summary"], **BY},
        ]
    )
    assert (text.decision.value, colour.decision.value) == ("Red", before["summary"])
    found = served(shop)["p0"]
    assert [one["name"] for one in found["claims"]] == ["sort"]
    assert before["summary"] not in (found["summary"] or "")
    assert shop.review(state="claim", item_id="p0").entries[0].value == "Shoe Red."
    check_run_redoes_nothing(shop)
    for one in (text, colour):
        shop.undo_decision(one.decision.decision_id, **BY)
    assert served(shop)["p0"] == before


def test_an_approved_attribute_is_one_of_the_record(shop: Workspace, made: Path) -> None:
    run_changed(shop, made, "p0", title="Plain", attributes={"colour": "Red"})
    wrong = shop.decide("p0", "reject", claim="colour", value="Red", **BY)
    done = shop.decide("p0", "approve", claim="colour", value="Red", **BY)
    assert [one.in_force for one in shop.decisions("p0").decisions] == [True, False]
    found = served(shop)["p0"]
    assert ("colour", "Red", "review") in {(one["name"], one["value"], one["ground"]) for one in found["claims"]}
    run_changed(shop, made, "p0", title="Plain")
    assert json.loads(served(shop)["p0"]["attributes"]) == {"colour": "Red"}
    for one in (done, wrong):
        shop.undo_decision(one.decision.decision_id, **BY)
    assert json.loads(served(shop)["p0"]["attributes"]) == {}


@pytest.mark.parametrize("action", ["reject", "correct", "undo"])
def test_a_kill_before_the_effect_leaves_it_to_the_next_run(
    shop: Workspace, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    first = shop.decide("p2", "correct", field="title", value="Blue Boot", **BY) if action == "undo" else None
    monkeypatch.setattr("coldstart.review.decide.bring_into_effect", kill)
    with pytest.raises(Killed):
        if first is not None:
            shop.undo_decision(first.decision.decision_id, **BY)
        elif action == "reject":
            shop.decide("p2", "reject", **BY)
        else:
            shop.decide("p2", "correct", field="title", value="Blue Boot", **BY)
    shop.run(pipeline=_without_manifest(shop))
    title = served(shop).get("p2", {}).get("title")
    assert title == {"reject": None, "correct": "Blue Boot", "undo": "Red Shoe 2"}[action]
    check_run_redoes_nothing(shop)


def test_a_repeated_request_is_one_row_and_undoing_twice_changes_nothing(shop: Workspace) -> None:
    first, second = (shop.decide("p0", "reject", **BY).decision for _ in range(2))
    assert first == second
    assert len(shop.decisions().decisions) == 1
    undone = [shop.undo_decision(first.decision_id, reason=why, by="ben").decision for why in ("one", "two")]
    assert undone[0] == undone[1] and undone[0].undone_reason == "one"
    assert [row["undone_by"] for row in shop.table("decisions").to_pylist()] == ["ben"]


def test_removing_an_item_removes_what_was_written_of_it(shop: Workspace) -> None:
    shop.decide("p0", "reject", reason="the secret-word is on it", by="ana")
    shop.decide("p2", "correct", field="title", value="secret-word", **BY)
    shop.remove(["p0", "p2"])
    assert shop.decisions().decisions == []
    files = [path for path in Path(shop.uri).rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-word" in path.read_bytes()]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"item_id": "p00"}, r"no item 'p00' in workspace .* \(did you mean 'p0'\?\)"),
        ({"action": "rejekt"}, r"no action 'rejekt' \(did you mean 'reject'\?\)"),
        ({"reason": " "}, "reason: say why, in 1 to 2,000 characters"),
        ({"by": "x" * 201}, "by: say who decides, in 1 to 200 characters"),
        ({"stage": "image"}, "reject takes no stage: it takes claim and value"),
        ({"action": "approve"}, "give --stage, one of understand.duplicates, understand.quality, or --claim"),
        ({"action": "approve", "stage": "understand.qualty"}, r"did you mean 'understand.quality'\?"),
        ({"action": "approve", "stage": "image"}, "'image' keeps no items out: those that do are"),
        ({"action": "approve", "stage": "understand.quality"}, "lets item 'p0' pass already"),
        ({"action": "correct", "field": "titel", "value": "x"}, r"no field 'titel' .*did you mean 'title'\?"),
        ({"action": "correct", "field": "price", "value": 2}, "no field 'price' can be corrected"),
        ({"action": "correct", "field": "tags", "value": "a"}, "tags are a list of texts, not 'a'"),
        ({"action": "correct", "field": "attributes.x", "value": {"a": 1}}, "attributes.x is a text, a number"),
        ({"claim": "color", "value": "Red"}, r"has no claim 'color' \(did you mean 'colour'\?\)"),
        ({"claim": "colour", "value": "Green"}, "no claim colour of item 'p0' is 'Green'"),
        ({"action": "approve", "claim": "colour", "value": "Red"}, "is served already"),
        ({"values": 3}, r"a decision has no 'values' \(did you mean 'value'\?\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_recorded(made: Path, row: dict[str, Any], message: str) -> None:
    workspace = coldstart.open(made / "ws")
    good = {"item_id": "p0", "action": "reject", **BY}
    with pytest.raises(ColdstartError, match=message):
        workspace.decide_many([{**good, "item_id": "p2"}, {**good, **row}])
    assert "decisions" not in workspace.tables()


def test_a_workspace_that_cannot_be_written_says_so(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("coldstart.store.filelock.FileLock", refuse)
    with pytest.raises(ColdstartError, match=r"cannot write to workspace .*: Permission denied"):
        shop.decide("p0", "reject", **BY)


def test_rows_of_a_stranger_that_are_no_decisions_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "ws", create=True)
    good = decisions.Draft("p0", "correct", "field:title", "r", "b", "T", sets="title")
    with store.lock():
        decisions.record(store, [good])
        row = store.read("decisions").to_pylist()[0]
        bad: list[dict[str, Any]] = [
            {"action": "delete"},
            {"subject": "stage:x"},
            {"value": "{"},
            {"value": '{"a": 1}'},
            {"value": "[" * 100_000},
            {"sets": "price"},
            {"sets": "item_id", "subject": "field:item_id"},
            {"item_id": None},
            {"at": None},
            {"by": ""},
        ]
        odd = [row | change | {"decision_id": f"x{place}"} for place, change in enumerate(bad)]
        schema = store.read("decisions").schema
        store.append("decisions", pa.Table.from_pylist(odd, schema=schema))
    assert [one.value for one in decisions.read_decisions(store).rows] == ["T"]
    store.db.create_table("decisions", pa.table({"decision_id": [1], "item_id": ["p0"]}), mode="overwrite")
    with pytest.raises(ColdstartError, match=r"table 'decisions' .* is damaged \(its column 'decision_id' is of type"):
        decisions.read_decisions(Store(tmp_path / "ws"))
