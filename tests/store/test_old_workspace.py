"""Workspaces made by coldstart 0.1, opened by the code at hand: they run, redo nothing and answer.

`tools/make_old_workspace.py` made `fixtures/workspace_of_0_1`: `shop` needs no torch, `school` holds what was trained.
A failure here means that every workspace in use would be made anew: a stage kind, a `version`, a `fingerprint()`, an
encoder's passport, a packaged prompt or the way of a key has changed. Where that is wanted, say so in the changelog and
make a fixture of the new version beside this one.
"""

from __future__ import annotations

import importlib.metadata
import json
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec.config
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from PIL import Image

import coldstart
from coldstart.core import keys
from coldstart.store import ITEMS, Store
from coldstart.store.item_keys import CARRIED

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
FIXTURE = ROOT / "tests" / "fixtures" / "workspace_of_0_1"
KEYS: dict[str, Any] = json.loads((FIXTURE / "keys.json").read_text("utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The fixture unpacked, as the working folder, where media named `dir://FILE` are found and known by their bytes,
    under the versions of libraries that are part of keys."""
    with tarfile.open(FIXTURE / "workspaces.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(fsspec.config.conf, "dir", {"path": str(tmp_path / "media"), "target_protocol": "file"})
    monkeypatch.setenv("FSSPEC_DIR_PATH", str(tmp_path / "media"))  # for worker processes
    monkeypatch.setenv("FSSPEC_DIR_TARGET_PROTOCOL", "file")
    monkeypatch.setattr(DirFileSystem, "ukey", lambda self, path: sha256(self.cat_file(path)).hexdigest())
    installed = importlib.metadata.distribution

    def as_then(name: str) -> Any:
        found = installed(name)
        return _Then(found, KEYS["libraries"][name]) if name in KEYS["libraries"] else found

    monkeypatch.setattr(importlib.metadata, "distribution", as_then)
    keys.version.cache_clear()
    yield tmp_path
    keys.version.cache_clear()


class _Then:
    """A distribution under another version."""

    def __init__(self, found: importlib.metadata.Distribution, version: str) -> None:
        self._found = found
        self.version = version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)


def balances(reports: Any) -> dict[str, dict[str, int]]:
    """Stage -> how many items are in each state."""
    states = ("fresh", "failed", "filtered", "duplicate", "pending")
    return {one.stage: {state: getattr(one.balance, state) for state in states} for one in reports}


def keys_of(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from row_keys import read_keys

    return read_keys(workspace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shop", "school"])
def test_a_workspace_of_0_1_opens_runs_and_redoes_nothing(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = KEYS[name]
    workspace = coldstart.open(folder / name)
    pipeline = workspace.pipeline(folder / f"{name}.yaml")
    same = {stage: balance for stage, balance in then["balance"].items() if stage not in CHANGED}
    before = unchanged(balances(workspace.status(pipeline)))
    copies = max(one["duplicate"] for one in same.values())  # wait for the search, and are what they were after it
    assert before.keys() == same.keys()
    assert all(same[stage]["fresh"] - before[stage]["fresh"] in (0, copies) for stage in same)
    report = workspace.run(pipeline)
    assert unchanged({one.stage: (one.ran.done, one.ran.lost) for one in report.stages}) == dict.fromkeys(same, (0, 0))
    assert unchanged(balances(report.stages)) == same
    assert all(balance["pending"] == 0 for balance in balances(report.stages).values())
    assert not any(one.ran.done for one in workspace.run(pipeline).stages)
    now = keys_of(folder / name, monkeypatch)
    assert Store(folder / name).keys(CARRIED) == then["tables"]["items"]
    assert workspace.languages()["en"] > 0 and "language" in Store(folder / name).columns(ITEMS)
    now["fits"].pop("search", None)  # how searches weigh spaces: later versions find it out, and redo nothing for it
    for part in ("tables", "ledger", "fits"):
        assert unchanged(now[part]) == unchanged(then[part]), part


CHANGED = (
    *("describe.grounds", "describe.check", "described", "index", "understand.fingerprint", "understand.duplicates"),
)
"""Stages whose results are others since 0.1, and what stands on them: `describe.grounds` fits other models,
`describe.check` checks sentence by sentence, `understand.fingerprint` looks within borders, and `understand.duplicates`
finds brightened and bordered copies. No description is written again."""


def unchanged(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to the stages of `CHANGED`."""
    return {name: own for name, own in found.items() if not any(stage in name for stage in (*CHANGED, "catalog"))}


def test_every_stage_kind_of_0_1_is_in_one_of_them(folder: Path) -> None:
    pipelines = [coldstart.open(folder / name).pipeline(folder / f"{name}.yaml") for name in ("shop", "school")]
    assert {spec.kind for pipeline in pipelines for spec in pipeline.stages} == {
        *("ingest", "embed", "behaviour", "label", "index", "finetune.describe"),
        *("align.text_image", "align.behaviour", "describe.grounds", "describe.write", "describe.check"),
        *("understand.fingerprint", "understand.duplicates", "understand.quality", "understand.shots"),
        *("understand.speech", "understand.screen", "understand.evidence", "understand.safety"),
    }
    rows = {place: len(keys) for name in ("shop", "school") for place, keys in KEYS[name]["tables"].items()}
    assert min(rows.values()) > 0


@pytest.mark.slow
def test_a_changed_setting_is_noticed(folder: Path) -> None:
    """The counts above are not zero because nothing is looked at."""
    workspace = coldstart.open(folder / "shop")
    pipeline = workspace.pipeline(folder / "shop.yaml", overrides=["image.frames=3", "understand.screen.fps=1"])
    found = balances(workspace.status(pipeline))
    assert found["image"]["pending"] > 0 and found["understand.screen"]["pending"] > 0
    assert found["understand.quality"]["pending"] == 0


@pytest.mark.slow
def test_a_change_in_a_workspace_of_0_1_redoes_what_reads_it(folder: Path) -> None:
    workspace = coldstart.open(folder / "shop")
    pipeline = workspace.pipeline(folder / "shop.yaml")
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    items = {row["item_id"]: row for row in reversed(rows)}  # one id stands twice, and its first row counts
    for row in rows:
        row["created_at"] = 1767225600
    for number in range(5):
        items[f"p{number:02}"]["price"] = 100 + number
    items["p06"]["title"] = "Red Boot number 6"
    Image.effect_noise((64, 64), 90).convert("RGB").save(folder / "media" / "p07.png")
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    done = {one.stage: one.ran.done for one in workspace.run(pipeline).stages if one.ran.done}
    seen = ("quality", "screen", "evidence")  # p07
    expected = {"ingest": 56, "index": 53, "image": 1, **{f"understand.{part}": 1 for part in seen}}
    expected |= {"understand.safety": 2, "text": 2}  # p06 by its title, p07 by what stands on its picture
    expected |= dict.fromkeys(("describe.write", "behaviour"), 7)
    done = {stage: count for stage, count in done.items() if stage == "index" or stage not in CHANGED}
    assert done == expected
    hits = workspace.search(text="Hat", where="price >= 100", top_k=10)
    assert {hit.item_id for hit in hits} == {"p00", "p01", "p02", "p03", "p04"}


@pytest.mark.slow
def test_a_workspace_of_0_1_is_searched_and_recommends(folder: Path) -> None:
    workspace = coldstart.open(folder / "shop")
    hits = workspace.search(text="Blue Scarf number", top_k=3)
    assert len(hits) == 3 and all("Blue" in (hit.title or "") or "Scarf" in (hit.title or "") for hit in hits)
    assert hits[0].title is not None and hits[0].title.startswith("Blue Scarf")
    alike = workspace.search(item="p10", top_k=5, spaces=["image"])
    assert {hit.item_id for hit in alike}.isdisjoint({"p10", "black", "refused"}) and len(alike) == 5
    listed = workspace.recommend("user-03", top_k=10)
    assert listed.scored_by == "behaviour"
    assert len({one.item_id for one in listed.items}) == 10
    assert {one.item_id for one in listed.items} <= set(KEYS["shop"]["tables"]["catalog.index_key"])
    assert len(workspace.recommend(history=["p00", "p06"], top_k=4).items) == 4
