"""Decisions of people: what each does to the served catalogue, that it survives runs and manifests, and its undoing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from catalogue import coldstart as cli
from catalogue import contents, photo, rows, settings, write_manifest
from PIL import Image

import coldstart
from coldstart.api.workspace import Workspace
from coldstart.core import reasons
from coldstart.engine import arrivals
from coldstart.errors import ColdstartError
from coldstart.serve.readers import Readers
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


def check_run_redoes_nothing(workspace: Workspace) -> None:
    before = contents(Path(workspace.uri))
    assert {stage.stage: stage.ran.done for stage in workspace.run().stages if stage.ran.done} == {}
    assert contents(Path(workspace.uri)) == before


def run_changed(workspace: Workspace, made: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Run a manifest in which some rows have other values."""
    listed = [json.loads(line) for line in (made / "shop.jsonl").read_text("utf-8").splitlines()]
    changed = [row | changes.get(row["item_id"], {}) for row in listed]
    workspace.run(manifest=write_manifest(made / "changed.jsonl", changed))


@pytest.mark.slow
def test_what_is_decided_holds_in_runs_of_any_manifest_until_it_is_undone(shop: Workspace, made: Path) -> None:
    untouched = contents(Path(shop.uri))
    small, copy, *claims = shop.review().entries
    assert shop.dossier("p4").duplicate_of.item_id == "p1"
    short = shop.review(item_id="p0").entries  # of one item all are listed, of all items what can be judged
    assert (small.item_id, small.stage, small.reason) == ("p3", "understand.quality", "low_resolution")
    assert (copy.item_id, copy.stage, copy.original) == ("p4", "understand.duplicates", "p1")
    assert small.actions == copy.actions == ("approve", "reject", "correct")
    assert (short[0].claim, short[0].value) == ("summary", "Shoe Red.")
    assert "Shoe Red." not in {one.value for one in claims}
    assert "claims say too little to decide on" in shop.review().notes[0]
    assert shop.review().counts == {"failed": 0, "filtered": 1, "duplicate": 1, "claim": len(claims)}
    wanted = [
        {"item_id": "p2", "action": "reject"},
        {"item_id": "p3", "action": "approve", "stage": "understand.quality"},
        {"item_id": "p4", "action": "approve", "stage": "understand.duplicates"},
        {"item_id": "p5", "action": "correct", "field": "title", "value": "Red Boot"},
        {"item_id": "p5", "action": "correct", "field": "attributes.colour", "value": "Red"},
        {"item_id": "p5", "action": "correct", "field": "tags", "value": ["new", "sale"]},
        {"item_id": "p5", "action": "correct", "field": "price", "value": "12.5"},
        {"item_id": "p0", "action": "approve", "claim": "summary", "value": "Shoe Red."},
        {"item_id": "p1", "action": "reject", "claim": "colour"},
    ]
    done = shop.decide_many([row | BY for row in wanted])
    assert [one.outcome.state for one in done] == ["filtered", *["searchable"] * 8]
    assert done[0].outcome.reason == "rejected_by_review" and done[0].outcome.detail == "by ana: looked at it"
    assert {one.publication for one in done} == {"pub-000002"}
    assert [one.decision.before for one in done[3:6]] == ["Blue Shoe 5", None, []]
    found = served(shop)
    assert found.keys() == {"p0", "p1", "p3", "p4", "p5"} == {hit.item_id for hit in shop.search(text="shoe")}
    assert "p2" not in {one.item_id for one in shop.recommend(history=["p1"]).items}
    assert found["p4"]["duplicate_of"] is None
    assert (shop.dossier("p4").duplicate_of, list(shop.dossier("p1").copies)) == (None, [])
    readers = Readers(shop.uri)
    readers.refresh()
    assert readers.answer(lambda reader: reader.copy_links()) == {}
    assert (found["p5"]["title"], found["p5"]["tags"], found["p5"]["price"]) == ("Red Boot", ["new", "sale"], 12.5)
    assert ("colour", "Red", "record") in {(one["name"], one["value"], one["ground"]) for one in found["p5"]["claims"]}
    assert found["p0"]["summary"].startswith("Shoe Red.")
    assert [one["name"] for one in found["p1"]["claims"]] == ["sort"]
    assert {one.state for one in shop.review().entries} <= {"claim"}
    assert [one["action"] for one in shop.dossier("p5").to_dict()["decisions"]] == ["correct"] * 4
    check_run_redoes_nothing(shop)
    changes = {"p2": {"title": "new"}, "p3": {"title": "new"}, "p5": {"title": "new", "description": "of leather"}}
    run_changed(shop, made, changes)
    found = served(shop)
    assert "p2" not in found
    assert found["p3"]["title"] == "new"
    assert (found["p5"]["title"], found["p5"]["description"]) == ("Red Boot", "of leather")
    run_changed(shop, made, changes | {"p3": {"image": "small.png"}})
    assert "p3" not in served(shop)  # another picture: somebody has to look again
    assert shop.decision_counts() == {"reject": 2, "approve": 2, "correct": 4, "undone": 0, "lapsed": 1}
    assert [one.item_id for one in shop.review(state="filtered").entries] == ["p3"]
    shop.undo_decision(done[3].decision.decision_id, **BY)
    assert served(shop)["p5"]["title"] == "new"  # of the manifest that was read last
    done.append(shop.decide("p1", "approve", claim="colour", value="Blue", **BY))  # it takes the place of the rejection
    approved = served(shop)["p1"]
    assert json.loads(approved["attributes"]) == {"colour": "Blue"}  # the next fit learns it
    assert ("colour", "Blue", "review") in {(one["name"], one["value"], one["ground"]) for one in approved["claims"]}
    with Store(shop.uri).lock():
        decisions.undo(Store(shop.uri), [one.decision.decision_id for one in done], **BY)
    run_changed(shop, made, {})
    after = contents(Path(shop.uri))
    assert [after[name] for name in ("items", "catalog")] == [untouched[name] for name in ("items", "catalog")]


@pytest.mark.slow
def test_the_copy_of_a_rejected_item_takes_its_place(shop: Workspace) -> None:
    shop.decide("p1", "reject", **BY)
    found = served(shop)
    assert "p1" not in found and found["p4"]["duplicate_of"] is None


@pytest.fixture
def texts(tmp_path: Path) -> Workspace:
    """A workspace without a manifest: items of texts that were added."""
    plain = {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:32", "input": "text"}, "index": {}}
    workspace = coldstart.open(tmp_path / "ws", create=True)
    Store(workspace.uri).save_pipeline("own", {"engine": {"workers": 1}, "stages": plain})
    workspace.add_items([{"item_id": f"n{place}", "title": f"hat {place}", **TIME} for place in range(4)])
    return workspace


TIME = {"created_at": "2024-01-05T10:00:00+02:00", "attributes": {"size": 3, "colours": ["red", None]}}


@pytest.mark.slow
def test_what_a_kill_left_undone_is_done_by_the_next_run(texts: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    def missing(*_: object) -> None:
        raise ColdstartError("no model: pull it", kind="not_ready")

    before = contents(Path(texts.uri))["items"]
    title = texts.decide("n0", "correct", field="title", value="cap", **BY).decision
    assert served(texts)["n0"]["title"] == "cap"
    assert texts.add_items([{"item_id": "n0", "title": "other", **TIME}]).items[0].change == "updated"
    texts.add_items([{"item_id": "n0", "title": "hat 0", **TIME}])
    assert served(texts)["n0"]["title"] == "cap"
    with monkeypatch.context() as patch:
        patch.setattr("coldstart.review.decide.bring_into_effect", kill)
        for call in (
            lambda: texts.undo_decision(title.decision_id, **BY),
            lambda: texts.decide("n1", "correct", field="attributes.size", value=4, **BY),
        ):
            with pytest.raises(Killed):
                call()
        patch.undo()
        patch.setattr("coldstart.review.decide.run_arrivals", missing)
        with pytest.raises(
            ColdstartError, match="is recorded, and the next run brings it into effect: no model"
        ) as late:
            texts.decide("n2", "reject", **BY)
        assert late.value.kind == "not_ready"
    assert set(served(texts)) == {"n0", "n1", "n2", "n3"}
    texts.run()
    found = served(texts)
    assert {name: row["title"] for name, row in found.items()} == {"n0": "hat 0", "n1": "hat 1", "n3": "hat 3"}
    assert json.loads(found["n1"]["attributes"])["size"] == 4
    restored = {row["item_id"]: row for row in contents(Path(texts.uri))["items"]}
    assert [restored[name] for name in ("n0", "n2", "n3")] == [before[place] for place in (0, 2, 3)]
    check_run_redoes_nothing(texts)


@pytest.mark.slow
def test_the_last_decision_on_a_subject_counts_and_removal_forgets_all(texts: Workspace) -> None:
    first, again = (texts.decide("n0", "reject", **BY).decision for _ in range(2))
    assert first == again
    assert len(texts.decisions().decisions) == 1
    undone = [texts.undo_decision(first.decision_id, reason=why, by="ben").decision for why in ("one", "two")]
    assert undone[0] == undone[1] and undone[0].undone_reason == "one"
    rows = [{"item_id": "n1", "action": "correct", "field": "title", "value": value} for value in ("secret-word", "b")]
    _, new = texts.decide_many([row | BY for row in rows])
    assert [one.in_force for one in texts.decisions("n1").decisions] == [True, False]
    texts.undo_decision(new.decision.decision_id, **BY)
    assert served(texts)["n1"]["title"] == "secret-word"
    page = texts.decisions(limit=2)
    assert [one.decision_id for one in texts.decisions(limit=2, after=page.after).decisions] == [first.decision_id]
    texts.remove(["n1"])
    assert [one.item_id for one in texts.decisions().decisions] == ["n0"]
    files = [path for path in Path(texts.uri).rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-word" in path.read_bytes()]
    texts.undo_removal(["n1"])
    texts.add_items([{"item_id": "n1", "title": "back"}])
    assert served(texts)["n1"]["title"] == "back"


@pytest.mark.slow
def test_the_command_line_decides_lists_and_undoes(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "ws", tmp_path / "ws")
    place = ("--workspace", tmp_path / "ws")
    listed = json.loads(cli("review", "list", *place, "--state", "duplicate", "--json").stdout)
    assert [one["item_id"] for one in listed["entries"]] == ["p4"]
    shown = cli("review", "list", *place, "--limit", 1).stdout
    assert "p3" in shown and "waiting: 1 filtered, 1 duplicate, 0 failed" in shown and "--after '" in shown
    parts = ("--reason", "seen \x1b[31m", "--by", "ana", *place)
    done = cli("review", "correct", "p0", "attributes.size", "3", *parts)
    assert "decided: correct attributes.size: null -> 3 (p0, decision " in done.stdout
    assert "p0 is searchable now" in done.stdout
    log = json.loads(cli("review", "log", *place, "--item", "p0", "--json").stdout)["decisions"]
    assert [(one["value"], one["by"], one["reason"], one["in_force"]) for one in log] == [(3, "ana", "seen [31m", True)]
    assert "correct attributes.size: null -> 3" in cli("show", "p0", *place, "--no-html").stdout
    assert "decisions: 0 reject, 0 approve, 1 correct, 0 undone, 0 lapsed" in cli("status", *place).stdout
    undone = cli("review", "undo", log[0]["decision_id"], "--reason", "wrong", *place)
    assert undone.stdout.startswith("undone: correct attributes.size")
    assert "undone by" in cli("review", "log", *place).stdout
    wrong = cli("review", "undo", "x", "--reason", "wrong", *place)
    assert (wrong.returncode, wrong.stderr.startswith("error: no decision 'x' in workspace")) == (1, True)


@pytest.mark.slow
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
        (
            {"action": "correct", "field": "price", "value": "12 SEK"},
            "price is a number from 0 on, .*attributes.currency",
        ),
        ({"action": "correct", "field": "price", "value": -1}, "price is a number from 0 on"),
        ({"action": "correct", "field": "currency", "value": "SEK"}, "did you mean 'attributes.currency'"),
        ({"action": "correct", "field": "title", "value": "a\ud800"}, "'title' is no Unicode text"),
        ({"action": "correct", "field": "attributes.\ud800", "value": 1}, "is no Unicode text"),
        (
            {"action": "correct", "field": "attributes.size", "value": float("nan")},
            "attributes.size is no JSON value: nan",
        ),
        ({"action": "correct", "field": "title", "value": "x" * 100_001}, "at most 100,000"),
        ({"action": "correct", "field": f"attributes.{'x' * 1000}", "value": 1}, "a field has at most 1,000"),
        ({"reason": "\ud800"}, "is no Unicode text"),
        ({"item_id": "\ud800"}, "is no Unicode text"),
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


@pytest.mark.slow
def test_a_workspace_that_cannot_be_written_says_so(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("coldstart.store.filelock.FileLock", refuse)
    with pytest.raises(ColdstartError, match=r"cannot write to workspace .*: Permission denied"):
        coldstart.open(made / "ws").decide("p0", "reject", **BY)


def test_reasons_are_read_of_one_item_as_well_as_of_many() -> None:
    read = {"near_duplicate": "a copy of another item", "other_value": "contradicts the record"}
    read |= {"fetch_failed": "could not be downloaded", "media_changed": "its file changed since it was read"}
    assert {code: reasons.of_one(code) for code in read} == read
    told = [reasons.of_one(code) for code in (*reasons.ITEMS, *reasons.CLAIMS)]
    assert not [
        one for one in told if one.split()[0] in ("that", "are", "were", "have", "do", "mean", "repeat", "whose")
    ]


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


def test_a_fit_forgets_the_verdict_on_an_item_that_is_no_longer_kept_out() -> None:
    gone: dict[str, set[str]] = {}
    batch = object.__new__(arrivals._Batch)
    batch._workspace = SimpleNamespace(delete_verdicts=gone.__setitem__)  # type: ignore[assignment]
    reasons = {"back": "rejected_by_review", "out": "rejected_by_review", "copy": "near_duplicate", "own": "no_text"}
    rows = {item: SimpleNamespace(item_id=item, reason=reason) for item, reason in reasons.items()}
    view, state = SimpleNamespace(verdicts=lambda _: rows), SimpleNamespace(blocked=lambda _: {"out": None})
    batch._forget_released(view, state, "finetune.describe")  # type: ignore[arg-type]
    assert gone == {"finetune.describe": {"back", "copy"}}
