"""Bad media and bad rows cost themselves and nothing else; every one of them is a line with its reason."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart, contents, photo, rows, settings, states, write_manifest, write_pipeline
from PIL import Image
from poison import make_poison, role

import coldstart as library
from coldstart import sample

pytestmark = pytest.mark.slow

GOOD = 32  # a run stops after an ingest that lost more than half
DEADLINE_S = 6.0


def endless_jpeg() -> bytes:
    """A legal progressive JPEG of 2 MB whose decoding takes minutes: one of its scans, told 100,000 times."""
    file = io.BytesIO()
    Image.new("RGB", (2048, 2048), (90, 120, 30)).save(file, "JPEG", progressive=True, quality=50)
    data = file.getvalue()
    scan = data.rindex(b"\xff\xda")
    end = data.rindex(b"\xff\xd9")
    return data[:end] + data[scan:end] * (2_000_000 // (end - scan)) + data[end:]


class Poisoned:
    """A catalogue with all of it, run once by the command line."""

    def __init__(self, folder: Path) -> None:
        media = folder / "shop"
        self.expected = {f"bad-{n}": (uri, reason) for n, (uri, reason) in enumerate(make_poison(media).items())}
        (media / "endless.jpg").write_bytes(endless_jpeg())
        self.expected["endless"] = ("endless.jpg", "decode_timeout")
        self.good: list[dict[str, Any]] = rows(media, GOOD)
        for name in sorted(path.name for path in (sample.path() / "videos").iterdir())[:2]:
            shutil.copy(sample.path() / "videos" / name, media)
            self.good.append({"item_id": name, "title": "a clip", "video": name})
        bad = [
            {"item_id": item, "title": "poison", "media": [{"uri": uri, "role": role(uri)}]}
            for item, (uri, _) in self.expected.items()
        ]
        mixed = [entry for n, entry in enumerate(self.good) for entry in (entry, *bad[n * 2 : n * 2 + 2])]
        assert len(mixed) == len(self.good) + len(bad)
        self.faults = {
            f"items.jsonl#{len(mixed) + 1}": "bad_row",  # no JSON
            f"items.jsonl#{len(mixed) + 2}": "duplicate_id",
            f"items.jsonl#{len(mixed) + 3}": "bad_row",  # no id
            "costly": "bad_row",  # a price below zero
            "bare": "bad_row",  # neither media nor text
        }
        self.media, self.folder, self.workspace = media, folder, folder / "workspace"
        self.entries = [
            *mixed,
            '{"item_id": "broken", "title": ',
            {"item_id": "p4", "title": "again"},
            {"title": "without an id"},
            {"item_id": "costly", "title": "costly", "price": -1},
            {"item_id": "bare"},
        ]
        self.manifest = write_manifest(media / "items.jsonl", self.entries)
        pipeline = {**settings(self.manifest), "media": {"deadline_s": DEADLINE_S}}
        self.pipeline = write_pipeline(folder / "pipeline.yaml", pipeline)
        self.ran = coldstart("run", self.pipeline, "--workspace", self.workspace)

    def verdicts(self) -> dict[str, tuple[str, str]]:
        """Item -> the stage that turned it away first, and why."""
        found: dict[str, tuple[str, str]] = {}
        order = ["ingest", "image", "text", "index"]
        for row in sorted(self.ledger(), key=lambda row: order.index(row["stage"])):
            found.setdefault(row["item_id"], (row["stage"], row["reason"]))
        return found

    def ledger(self) -> list[dict[str, Any]]:
        listed = coldstart("status", "--failed", "--json", "--workspace", self.workspace)
        assert listed.returncode == 0, listed.stderr
        rows: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
        return rows


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Poisoned:
    return Poisoned(tmp_path_factory.mktemp("poisoned"))


def test_every_bad_item_is_a_line_with_its_reason(poisoned: Poisoned) -> None:
    verdicts = poisoned.verdicts()
    reasons = {item: reason for item, (_, reason) in verdicts.items()}
    assert reasons == {item: reason for item, (_, reason) in poisoned.expected.items()} | poisoned.faults
    assert verdicts["endless"] == ("image", "decode_timeout")
    for row in poisoned.ledger():
        assert row["detail"] and "\n" not in row["detail"]
        assert row["state"] == "failed"


def test_the_detail_of_a_bad_row_names_its_line(poisoned: Poisoned) -> None:
    ledger = poisoned.ledger()
    details = {row["item_id"]: row["detail"] for row in ledger if row["stage"] == "ingest"}
    late = {row["stage"]: row["detail"] for row in ledger if row["item_id"] == "endless"}
    first = len(poisoned.entries) - 5
    line = 1 + next(n for n, entry in enumerate(poisoned.entries) if entry is poisoned.good[4])
    assert details[f"items.jsonl#{first + 1}"].startswith(f"items.jsonl#{first + 1}: not JSON: ")
    assert details[f"items.jsonl#{first + 2}"] == (
        f"items.jsonl#{first + 2}: item_id 'p4' stands on line {line} already"
    )
    assert details[f"items.jsonl#{first + 3}"] == f"items.jsonl#{first + 3}: item_id is missing"
    assert details["bare"] == f"items.jsonl#{first + 5}: neither media nor text"
    assert details["costly"].startswith(f"items.jsonl#{first + 4}: price=-1: ")
    assert late["index"] == "image: decode_timeout"
    timed_out = f"took more than {DEADLINE_S:g} s of processor time"
    assert late["image"] in (timed_out, f"took more than {10 * DEADLINE_S:g} s"), "the second on a very busy machine"


def test_all_else_is_indexed_and_the_balance_holds(poisoned: Poisoned) -> None:
    tables = contents(poisoned.workspace)
    assert {row["item_id"] for row in tables["catalog"]} == {entry["item_id"] for entry in poisoned.good}
    by_stage = Counter(stage for stage, _ in poisoned.verdicts().values())
    ingested = len(poisoned.entries) - by_stage["ingest"]
    good, seen_late = len(poisoned.good), by_stage["image"]
    assert good + seen_late == ingested
    assert states(library.open(poisoned.workspace).status()) == {
        "ingest": (ingested, by_stage["ingest"], 0, 0, 0),
        "image": (good, seen_late, 0, 0, 0),
        "text": (ingested, 0, 0, 0, 0),
        "index": (good, seen_late, 0, 0, 0),
    }


def test_too_many_losses_end_the_run_with_one(poisoned: Poisoned) -> None:
    shares = {
        report.stage: f"{report.stage} {report.balance.failed_share:.1%}"
        for report in library.open(poisoned.workspace).status()
    }
    assert poisoned.ran.returncode == 1
    lines = poisoned.ran.stderr.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("error:"))
    assert lines[start] == (
        f"error: more failed than max_failed 1.0% allows: {shares['ingest']}, {shares['image']}, {shares['index']}"
    )
    reasons: dict[str, set[str]] = {stage: set() for stage in ("ingest", "image", "index")}
    for row in poisoned.ledger():
        reasons[row["stage"]].add(row["reason"])
    assert [line.split(":")[0] for line in lines[start + 1 : -1]] == [
        f"  {stage}" for stage, found in reasons.items() for _ in list(found)[:3]
    ]
    assert lines[-1] == f"see all of them: coldstart status --failed --workspace {poisoned.workspace}"
    again = coldstart("run", poisoned.pipeline, "--workspace", poisoned.workspace, "--set", "max_failed=1", "--json")
    assert again.returncode == 0, again.stderr
    assert [stage["ran"]["done"] for stage in json.loads(again.stdout)["stages"]] == [0, 0, 0, 0]


def test_retry_does_the_mended_item_and_touches_nothing_else(poisoned: Poisoned) -> None:
    mended = next(item for item, (uri, _) in poisoned.expected.items() if uri == "truncated.jpg")
    gone = next(item for item, (uri, _) in poisoned.expected.items() if uri == "missing.jpg")
    before = contents(poisoned.workspace)
    photo(poisoned.media / "truncated.jpg", 3)
    photo(poisoned.media / "missing.jpg", 4)
    changed = [
        {**entry, "title": "renamed"} if isinstance(entry, dict) and entry.get("item_id") == "p7" else entry
        for entry in poisoned.entries
    ]
    write_manifest(poisoned.manifest, changed)
    retried = coldstart("retry", "--workspace", poisoned.workspace, "--json")
    done = {stage["stage"]: stage["ran"]["done"] for stage in json.loads(retried.stdout)["stages"]}
    assert done["image"] == 2
    after = contents(poisoned.workspace)
    for name, table in after.items():
        old = {row["item_id"]: row for row in before[name]}
        if name == "ledger":
            left = [row for row in before[name] if row["item_id"] not in (mended, gone)]
            assert table == left
        else:
            assert {row["item_id"] for row in table if row != old.get(row["item_id"])} <= {mended, gone}, name
    assert {mended, gone} <= {row["item_id"] for row in after["catalog"]}
    assert states(library.open(poisoned.workspace).status())["ingest"][4] == 1, "the renamed item is still to do"
