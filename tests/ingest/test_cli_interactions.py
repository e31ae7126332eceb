"""`coldstart ingest --interactions` and what `status` says of it, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import catalogue
import pytest
import screens
import yaml
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.cli.interactions import parse_pairs, parse_weights
from coldstart.errors import ColdstartError
from coldstart.ingest.files import KNOWN

CLICKS = "who,item,ts,action\nann,a,2020-01-02,click\nbob,a,2020-01-03,like\nbob,z,2020-01-04,skip\n"
BAD = CLICKS + "ann,,2020-01-02,click\nann,a,soon,click\nann,a,2020-01-02,frob\n"


def typed(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def fault(*arguments: str) -> str:
    with pytest.raises(ColdstartError) as caught:
        typed(*arguments)
    return str(caught.value)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A manifest of two items, a pipeline that only ingests, and two files of clicks."""
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "x"}\n{"item_id": "b", "title": "y"}\n', "utf-8")
    settings = {"manifest": "items.jsonl", "engine": {"workers": 1, "device": "cpu"}, "stages": {"ingest": {}}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    (tmp_path / "clicks.csv").write_text(CLICKS, "utf-8")
    (tmp_path / "bad.csv").write_text(BAD, "utf-8")
    return tmp_path


OPTIONS = ("--columns", "user_id=who", "--event-weights", "click=1, like=3,skip=-1")


@pytest.mark.slow
def test_a_file_is_read_and_its_rows_are_told(shop: Path) -> None:
    uri = str(shop / "w")
    code, out, _ = typed("ingest", "--interactions", str(shop / "clicks.csv"), "-w", uri, *OPTIONS)
    first, second, likes, third = out.splitlines()
    assert code == 0
    assert first == (
        "columns user_id=who, item_id=item, timestamp=ts, event=action; "
        "recognised by name: item_id, timestamp, event; times in iso"
    )
    assert second.startswith("3 rows in ")
    assert second.endswith(": 3 added, 0 with a new weight, 0 already stored, 0 rejected; the table has 3")
    assert likes == "2 of 3 count as likes (a weight above 0)"
    assert third == "2 of 2 items are not in the catalogue; their 3 rows are stored"
    found = coldstart.open(uri).interactions()
    assert found.user_ids == ("ann", "bob")
    assert sorted(found.weights.tolist()) == [-1, 1, 3]
    assert coldstart.open(uri).interactions(start=1_578_009_600, end=1_578_096_000).weights.tolist() == [3]
    code, out, _ = typed("status", "-w", uri)
    assert out.splitlines()[0] == (
        "interactions: 3 of 2 users with 2 items, 0 of them in the catalogue; 2020-01-02 00:00 to 2020-01-04 00:00 UTC"
    )


def test_ratings_are_recognised_and_their_likes_counted(shop: Path) -> None:
    rows = [f"u{place},i{place},{rating}" for place, rating in enumerate((1, 2, 3, 4, 4, 5) * 4)]
    (shop / "ratings.csv").write_text("\n".join(["userId,itemId,rating", *rows]), "utf-8")
    _, out, _ = typed("ingest", "--interactions", str(shop / "ratings.csv"), "-w", str(shop / "w"))
    assert (
        "weights look like ratings from 1 to 5: 12 of 24 count as likes (3.5 or more); min_weight changes that" in out
    )
    mostly_low = [f"u{place},i{place},{rating}" for place, rating in enumerate((1, 1, 2, 5) * 6)]
    (shop / "low.csv").write_text("\n".join(["userId,itemId,rating", *mostly_low]), "utf-8")
    _, out, _ = typed("ingest", "--interactions", str(shop / "low.csv"), "-w", str(shop / "low"))
    assert "24 of 24 count as likes (a weight above 0): rating fills no scale" in out, "a 1 counts, too"


def test_how_a_file_was_read_is_told(shop: Path) -> None:
    path = shop / "orders.csv"
    path.write_bytes("Kunde;Artikel;Datum\nMüller;007;24.12.2024\n".encode("cp1252"))
    _, out, _ = typed("ingest", "--interactions", str(path), "-w", str(shop / "w"))
    assert out.splitlines()[:3] == [
        f"{path}: not UTF-8: read as Windows-1252 (Western), such as 'Müller'",
        f"{path}: its columns are parted by semicolons",
        "columns user_id=Kunde, item_id=Artikel, timestamp=Datum; recognised by name: user_id, item_id, timestamp; "
        "times in DD.MM.YYYY",
    ]


@pytest.mark.slow
def test_a_manifest_and_interactions_are_read_together(shop: Path) -> None:
    uri = str(shop / "w")
    both = (
        "ingest",
        str(shop / "items.jsonl"),
        "--interactions",
        str(shop / "clicks.csv"),
        "-p",
        str(shop / "shop.yaml"),
    )
    code, out, _ = typed(*both, "-w", uri, *OPTIONS, "--json")
    done = json.loads(out)
    assert code == 0
    assert done["stages"][0]["balance"]["fresh"] == 2
    assert {name: done["interactions"][name] for name in ("rows", "added", "unknown_items", "unknown_rows")} == {
        "rows": 3,
        "added": 3,
        "unknown_items": 1,
        "unknown_rows": 1,
    }
    code, out, _ = typed(*both, "-w", uri, *OPTIONS)
    assert "1 of 2 items are not in the catalogue; their 1 rows are stored" in out.splitlines()
    assert "0 added, 0 with a new weight, 3 already stored" in out
    code, out, _ = typed("status", "-w", uri, "--json")
    assert json.loads(out)["interactions"] == {
        "stage": "interactions",
        "rows": 3,
        "users": 2,
        "items": 2,
        "known_items": 1,
        "rejected": 0,
        "first": "2020-01-02T00:00:00+00:00",
        "last": "2020-01-04T00:00:00+00:00",
    }


def test_too_many_bad_rows_end_with_1_and_the_good_ones_stay(shop: Path) -> None:
    uri = str(shop / "w")
    done = catalogue.coldstart("ingest", "--interactions", shop / "bad.csv", "-w", uri, *OPTIONS)
    out = done.stdout
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: 50.0% of the rows of {shop / 'bad.csv'} were rejected, more than 1.0%, such as those of event "
        "frob, which --event-weights does not name; the good ones are stored, the others are in the table "
        "interactions_rejected: mend them and ingest the file again"
    )
    assert "3 rejected; the table has 3" in out
    assert [row[:3] for row in screens.rows(out)] == [
        ["without an item", "1", "row 4"],
        ["with an unreadable time", "1", "row 5: soon"],
        ["with an event that has no weight", "1", "row 6: frob"],
    ]
    done = catalogue.coldstart("ingest", "--interactions", shop / "bad.csv", "-w", uri, *OPTIONS, "--json")
    report = json.loads(done.stdout)["interactions"]
    assert json.loads(done.stdout)["error"]["kind"] == "failed"
    assert (done.returncode, report["over_budget"], report["repeated"]) == (1, True, 3)
    assert report["rows"] == sum(report[name] for name in ("added", "renewed", "repeated")) + sum(
        report["rejected"].values()
    )
    assert report["rejected"] == {"no_item": 1, "bad_time": 1, "unknown_event": 1}
    assert report["examples"] == {"no_item": [[4, ""]], "bad_time": [[5, "soon"]], "unknown_event": [[6, "frob"]]}
    rejected = coldstart.open(uri).table("interactions_rejected")
    assert rejected.to_pylist() == [
        {"file": str(shop / "bad.csv"), "row": 4, "reason": "no_item", "detail": ""},
        {"file": str(shop / "bad.csv"), "row": 5, "reason": "bad_time", "detail": "soon"},
        {"file": str(shop / "bad.csv"), "row": 6, "reason": "unknown_event", "detail": "frob"},
    ]
    (shop / "bad.csv").write_text(CLICKS, "utf-8")
    assert typed("ingest", "--interactions", str(shop / "bad.csv"), "-w", uri, *OPTIONS)[0] == 0
    assert coldstart.open(uri).table("interactions_rejected").num_rows == 0


def test_other_weights_renew_the_rows(shop: Path) -> None:
    uri = str(shop / "w")
    workspace = coldstart.open(uri, create=True)
    columns = {"user_id": "who"}
    workspace.ingest_interactions(shop / "clicks.csv", columns=columns)
    assert workspace.interactions().weights.tolist() == [1, 1, 1]
    weighted = {"click": 1.0, "like": 3.0, "skip": None}
    report = workspace.ingest_interactions(shop / "clicks.csv", columns=columns, event_weights=weighted)
    assert (report.added, report.renewed, report.repeated) == (0, 1, 2)
    assert sorted(workspace.interactions().weights.tolist()) == [1, 1, 3]


@pytest.mark.slow
def test_what_is_typed_wrong_is_named(shop: Path) -> None:
    uri = str(shop / "w")
    clicks = str(shop / "clicks.csv")
    assert fault("ingest", "-w", uri) == (
        "nothing to ingest: give a MANIFEST, or a log: --interactions, --impressions or --outcomes FILE"
    )
    assert fault("ingest", "x.jsonl", "-w", uri, "--time-unit", "s") == (
        "--columns and --time-unit are of a log: give --interactions FILE, or another, too"
    )
    assert fault("ingest", "-w", uri, "--interactions", clicks, "--dry-run") == (
        "--dry-run estimates the manifest only: leave --interactions out"
    )
    assert fault("ingest", "-w", uri, "--interactions", "none.csv") == (
        f"no file of interactions at none.csv: give {KNOWN}"
    )
    assert fault("ingest", "-w", uri, "--interactions", clicks, "--event-weights", "click=much") == (
        "--event-weights click=much: give a number, such as click=1"
    )
    assert fault("ingest", "-w", uri, "--interactions", clicks, "--columns", "=who") == (
        "--columns =who: '=who' has no name; give NAME=VALUE,NAME=VALUE"
    )
    assert fault("ingest", "-w", uri, "--interactions", clicks, "--columns", "a=b,a=c") == (
        "--columns a=b,a=c: 'a' stands twice; give NAME=VALUE,NAME=VALUE"
    )
    assert not (shop / "w").exists()


def test_options_become_mappings() -> None:
    assert parse_pairs("--columns", None) is None
    assert parse_pairs("--columns", "user_id = who,weight=") == {"user_id": "who", "weight": ""}
    assert parse_weights(None) is None
    assert parse_weights("click=1,rate,skip=-0.5") == {"click": 1.0, "rate": None, "skip": -0.5}
