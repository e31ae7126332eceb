"""Test the stages that describe over a small shop: write, check, embed, serve, and what makes rows stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catalogue import contents, photo, write_manifest

import coldstart
from coldstart.core import pipeline as pipelines
from coldstart.engine.report import RunReport
from coldstart.engine.run import run_pipeline
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.fits import with_fits

COLOURS, SORTS = ("Red", "Blue", "Green"), ("Shoe", "Hat")


class Shop:
    """Products whose titles say what they are, a pipeline with a fake writer, and a workspace."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        self.folder = folder
        self.store = Store(folder / "ws", create=True)
        self.stages: dict[str, Any] = {
            "describe": {"grounds": False, "write": {"generator": "fake"}, "check": {}},
            "described": {"stage": "embed", "encoder": "fake:32", "input": "text", "prompt": "described"},
        }
        self.attributes: dict[str, Any] = {
            "sort": {"from": "category", "values": list(SORTS)},
            "colour": {"values": list(COLOURS)},
        }
        self.entries = [
            {
                "item_id": f"p{n:02}",
                "title": f"{COLOURS[n % 3]} {SORTS[n % 2]} number {n}",
                "category": SORTS[n % 2],
                "creator": f"seller {n}",
                "attributes": {"colour": COLOURS[n % 3]},
                "image": photo(folder / f"p{n:02}.jpg", n).name,
            }
            for n in range(count)
        ]

    def raw(self) -> dict[str, Any]:
        manifest = write_manifest(self.folder / "items.jsonl", self.entries)
        return {
            "manifest": str(manifest),
            "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
            "attributes": {"default": self.attributes},
            "stages": {"ingest": {}, **self.stages, "index": {}},
        }

    def pipeline(self) -> pipelines.Pipeline:
        return with_fits(pipelines.load(self.raw()), self.store)

    def run(self, **options: Any) -> dict[str, Any]:
        """Stage -> its report."""
        report: RunReport = run_pipeline(self.store, self.pipeline(), **options)
        return {stage.stage: stage for stage in report.stages}

    def rows(self, stage: str) -> dict[str, dict[str, Any]]:
        return {row["item_id"]: row for row in self.store.read(f"stage.{stage}").to_pylist()}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def done(reports: dict[str, Any]) -> dict[str, int]:
    return {name: report.ran.done for name, report in reports.items() if name != "ingest"}


@pytest.mark.slow
def test_what_is_written_is_checked_embedded_and_served(shop: Shop) -> None:
    reports = shop.run()
    assert done(reports) == {"describe.write": 12, "describe.check": 12, "described": 12, "index": 12}
    assert reports["describe.write"].notes[0] == "12 items described by fake"
    described, statements, stated = reports["describe.check"].notes
    assert described == "12 items have a description: 0 as written, 12 with something removed, 0 by words of their own"
    assert statements.startswith("statements: ") and " removed (" in statements
    assert stated == "stated: sort of 100%, colour of 100%"
    written = shop.rows("describe.write")["p04"]
    assert json.loads(written["text"])["attributes"] == {"sort": "Shoe", "colour": "Blue"}
    assert (written["generator"], written["adapter"], written["prompt"]) == ("fake", None, "describe_product 1")
    checked = shop.rows("describe.check")["p04"]
    assert checked["status"] == "cut" and [one["reason"] for one in checked["cut"]] == ["lists_values"]  # by the fake
    assert checked["summary"].startswith("A blue shoe")
    assert {claim["name"]: (claim["value"], claim["ground"]) for claim in checked["attributes"]} == {
        "sort": ("Shoe", "record"),
        "colour": ("Blue", "record"),
    }
    served = {row["item_id"]: row for row in contents(shop.folder / "ws")["catalog"]}["p04"]
    assert served["summary"] == checked["summary"]
    assert [claim["value"] for claim in served["claims"]] == ["Shoe", "Blue"]
    assert "Blue" not in served["text"].replace("Blue Shoe number 4", "")  # the model's word is not the seller's


@pytest.mark.slow
def test_plain_sentences_say_how_many_items_they_describe(shop: Shop) -> None:
    shop.stages["describe"]["write"] = {"generator": "sentences"}
    reports = shop.run()
    assert reports["describe.write"].notes == ["12 items described by plain sentences of what is known of them"]
    assert reports["describe.check"].notes[0].startswith("12 items have a description: 12 as written, 0 with")
    assert reports["describe.check"].notes[1].endswith(" kept, 0 removed")


@pytest.mark.slow
def test_a_second_run_does_nothing(shop: Shop) -> None:
    shop.run()
    assert done(shop.run()) == {"describe.write": 0, "describe.check": 0, "described": 0, "index": 0}


@pytest.mark.slow
def test_another_policy_checks_again_and_generates_nothing(shop: Shop) -> None:
    shop.run()
    shop.stages["describe"]["check"] = {"max_unsupported": 0.4}
    assert done(shop.run()) == {"describe.write": 0, "describe.check": 12, "described": 12, "index": 12}


@pytest.mark.slow
def test_only_the_item_of_a_changed_title_is_described_again(shop: Shop) -> None:
    shop.run()
    shop.entries[3]["title"] = "Green Hat of felt"
    assert done(shop.run()) == {"describe.write": 1, "describe.check": 1, "described": 1, "index": 1}


@pytest.mark.slow
def test_another_schema_makes_all_of_it_stale(shop: Shop) -> None:
    shop.run()
    shop.attributes["colour"]["aliases"] = {"Red": ["crimson"]}
    assert done(shop.run())["describe.write"] == 12


@pytest.mark.slow
def test_what_is_hidden_from_the_writer_is_still_a_ground(shop: Shop) -> None:
    shop.stages["describe"]["write"]["given"] = ["category"]
    shop.run()
    assert json.loads(shop.rows("describe.write")["p04"]["text"])["attributes"] == {"sort": "Shoe"}
    claims = shop.rows("describe.check")["p04"]["attributes"]
    assert [(claim["value"], claim["ground"]) for claim in claims] == [("Shoe", "record")]


@pytest.mark.slow
def test_an_item_that_says_nothing_has_a_verdict(shop: Shop) -> None:
    shop.entries.append({"item_id": "mute", "audio": shop_sound(shop.folder)})
    shop.run()
    verdict = shop.store.verdicts("describe.write")["mute"]
    assert (verdict.state, verdict.reason) == ("filtered", "nothing_to_go_on")
    assert shop.store.verdicts("describe.check")["mute"].reason == "nothing_written"


def shop_sound(folder: Path) -> str:
    from sounds import beep, write_sound

    write_sound(folder / "beep.wav", beep(0.5, 0.1))
    return "beep.wav"


def test_checks_need_something_written(shop: Shop) -> None:
    shop.stages["describe"] = {"grounds": False, "write": False, "check": {}}
    with pytest.raises(ColdstartError) as caught:
        shop.run()
    assert str(caught.value) == "describe.check: no stage of kind describe.write stands before it: turn one on"


def test_a_space_of_descriptions_needs_checks_before_it(shop: Shop) -> None:
    shop.stages = {"described": shop.stages["described"], "describe": shop.stages["describe"]}
    with pytest.raises(ColdstartError) as caught:
        shop.run()
    assert str(caught.value) == (
        "space 'described': prompt 'described' reads keywords, queries, summary, which a stage of kind describe.check "
        "before it would give"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"given": ["titel"]},
            "describe.write.given='titel': it is none of title, description, category, tags, creator, transcript, "
            "screen_text, price, facts, picture",
        ),
        (
            {"prompt": {"product": "item_text", "video": "describe_video"}},
            "describe.write.prompt.product='item_text': its front matter has no output fields",
        ),
        (
            {"prompt": {"product": "describe_product"}},
            "describe.write.prompt={'product': 'describe_product'}: give one for each of product, video",
        ),
        (
            {"generator": "finetune:other"},
            "describe.write.generator='finetune:other': no such fit stands before it; the pipeline makes none: "
            "`coldstart finetune describe` adds the stage that does, and fits it",
        ),
    ],
)
def test_faults_of_settings_name_the_place(shop: Shop, settings: dict[str, Any], message: str) -> None:
    shop.stages["describe"]["write"] |= settings
    with pytest.raises(ColdstartError) as caught:
        shop.run()
    assert str(caught.value) == message


@pytest.mark.slow
def test_pictures_become_grounds(tmp_path: Path) -> None:
    """Of a red and a blue shop, where words say nothing and pictures everything."""
    from PIL import Image

    shop = Shop(tmp_path, 0)
    shop.attributes = {"colour": {"values": ["Red", "Blue"], "visual": True}}
    shop.stages = {
        "image": {"stage": "embed", "encoder": "fake:64", "input": "image"},
        "describe": {"grounds": {"min_items": 20}, "write": {"generator": "fake"}, "check": {}},
    }
    for n in range(60):
        colour = ("Red", "Blue")[n % 2]
        shade = (200 - n, 10, 20) if n % 2 == 0 else (10, 20, 200 - n)
        Image.new("RGB", (32, 32), shade).save(tmp_path / f"c{n}.png")
        entry = {"item_id": f"c{n:02}", "title": f"thing {n}", "creator": f"seller {n}", "image": f"c{n}.png"}
        shop.entries.append({**entry, "attributes": {"colour": colour}})
    shop.run()
    found = coldstart.open(tmp_path / "ws")
    names = json.loads((shop.store.artifacts.newest("describe.grounds").folder / "names.json").read_text())  # type: ignore[union-attr]
    assert names == {"brands": sorted(f"seller {n}" for n in range(60)), "categories": []}
    assert found.dossier("c01").described["status"] in ("written", "cut", "fallback")
