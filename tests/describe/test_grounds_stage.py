"""Test `describe.grounds` over pictures of two colours: its items, what triggers a fit, and its notes."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coloured
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue import write_manifest

from coldstart.core import pipeline as pipelines
from coldstart.describe.attribute_model import AttributeModel, load_attribute_model
from coldstart.describe.attribute_values import read_predicted
from coldstart.describe.check_context import read_check_context
from coldstart.describe.finetune.settings import Settings as FinetuneSettings
from coldstart.describe.held_out import held_out_groups
from coldstart.describe.stages import grounds
from coldstart.describe.stages.grounds import Settings
from coldstart.engine.report import RunReport
from coldstart.engine.run import run_pipeline
from coldstart.errors import ColdstartError, NotFitted
from coldstart.metrics.splits import split
from coldstart.store import Store
from coldstart.store.fits import read_fit_items, read_held_out, with_fits
from coldstart.store.freshness import build

KIND = "describe.grounds"
COLOURS = ("red", "green", "blue", "black")
VISUAL = {"default": {"left": {"values": list(COLOURS), "visual": True}, "right": {"visual": True}, "use": {}}}


class Shop:
    """Pictures of a left and a right colour, their record, and their workspace."""

    def __init__(self, folder: Path, copies: int = 8) -> None:
        self.folder = folder
        self.store = Store(folder / "ws", create=True)
        self.attributes: Mapping[str, Any] = VISUAL
        self.parts: dict[str, Any] = {}
        self.finetune: dict[str, Any] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        for left in COLOURS:
            for right in COLOURS:
                for number in range(copies):
                    self.offer(f"{left}-{right}-{number}", left, right, number)

    def offer(self, item: str, left: str, right: str, number: int, **own: str) -> None:
        path = coloured.picture(self.folder / f"{item}.png", left, right)
        from PIL import Image

        with Image.open(path) as picture:  # no two alike
            marked = picture.convert("RGB")
        marked.paste((30 * number, 250 - 30 * number, 90), (0, 4 * (number % 8), 32, 4 * (number % 8) + 3))
        marked.save(path)
        stated = own or {"left": left.upper(), "right": right, "use": "rest"}
        self.entries[item] = {
            "item_id": item,
            "title": f"thing no {len(self.entries)}",
            "image": path.name,
            "attributes": stated,
        }

    def raw(self, image: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        manifest = write_manifest(self.folder / "items.jsonl", self.entries.values())
        grounds = {"min_items": 20, "precision": 0.8, **settings}
        embed = {"stage": "embed", "encoder": "fake:48", "input": "image"}
        return {
            "manifest": str(manifest),
            "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
            "attributes": self.attributes,
            "stages": {
                "ingest": {},
                **({"image": embed} if image is None else image),
                **self.finetune,
                "describe": {"grounds": grounds, "write": False, "check": False, **self.parts},
            },
        }

    def run(self, *, refit: bool = False, **settings: Any) -> Any:
        """The stage's report."""
        report: RunReport = run_pipeline(self.store, pipelines.load(self.raw(**settings)), refit=refit)
        return next(one for one in report.stages if one.kind == KIND)

    def stage(self, **settings: Any) -> Any:
        pipeline = with_fits(pipelines.load(self.raw(**settings)), self.store)
        return build(pipeline.stages[-1], pipeline)

    def grounds(self) -> AttributeModel:
        made = self.store.artifacts.newest(KIND)
        assert made is not None
        return load_attribute_model(made.folder)

    def vectors(self) -> dict[str, Any]:
        table = next(name for name in self.store.tables() if name.startswith("stage.image"))
        return {row["item_id"]: row["vector"] for row in self.store.read(table).to_pylist()}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def where(report: Any) -> tuple[int, int, int]:
    balance = report.balance
    assert balance.failed == balance.duplicate == 0
    return balance.fresh, balance.filtered, balance.pending


@pytest.mark.slow
def test_pictures_become_grounds_of_what_they_show(shop: Shop) -> None:
    shop.offer("quiet", "red", "blue", 3, size="small")
    report = shop.run()
    assert where(report) == (128, 1, 0)
    assert report.balance.reasons == {"states_nothing": 1}
    verdict = shop.store.verdicts(KIND)["quiet"]
    assert (verdict.state, verdict.detail) == ("filtered", "its record states no attribute of `attributes:`")
    model, vectors = shop.grounds(), shop.vectors()
    assert list(model.predictors) == ["left", "right"]
    assert model.reasons == {"use": "it has 1 values that 3 items or more state"}
    assert model.predictors["left"].values == COLOURS
    assert sorted(model.predictors["right"].values) == sorted(COLOURS)
    rows = [{"item_id": item, "kind": "product"} for item in vectors]
    values = model.predict(rows, {"image": np.array(list(vectors.values()), np.float32)})
    left = {item: one["left"][0] for item, one in zip(vectors, values, strict=True)}
    right = [one.stated and one.value == item.split("-")[0] for item, one in left.items() if item != "quiet"]
    assert sum(right) / len(right) > 0.9
    assert left["quiet"].value == "red"
    assert report.notes[0].startswith("left from pictures and brand: stated of ")
    assert report.notes[2] == "use is not predicted: it has 1 values that 3 items or more state"


@pytest.mark.slow
def test_a_second_run_fits_nothing_and_new_items_wait_for_a_refit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.run()
    again = shop.run()
    assert again.ran.done == 0 and again.notes == first.notes

    def damaged(folder: Path) -> AttributeModel:
        raise ColdstartError("damaged", kind="damaged")

    with monkeypatch.context() as patch:
        patch.setattr(grounds, "load_attribute_model", damaged)
        patch.setattr("coldstart.engine.increment.__version__", "that reads it otherwise")
        assert shop.run().ran.done > 0  # a fit that cannot be read is made anew
    shop.offer("new", "red", "blue", 3)
    del shop.entries["red-red-0"]
    shop.entries["red-red-1"]["attributes"] = {"left": "blue"}
    told = shop.run()
    assert told.ran.done == 0 and where(told)[2] == 2
    assert told.notes == [*first.notes, "2 items came or changed since: the next fit includes them"]
    anew = shop.run(refit=True)
    items = len(shop.store.keys("items"))
    assert anew.ran.done == items and where(anew) == (items, 0, 0)
    assert shop.run(refit=True).ran.done == 0
    assert len(shop.store.artifacts.all(KIND)) == 2


@pytest.mark.slow
def test_items_that_a_writer_holds_out_since_are_not_learnt_from(shop: Shop) -> None:
    shop.run()
    held = ["red-red-0", "blue-blue-3"]
    table = pa.table({"item_id": held, "key": ["k", "k"], "split": ["test", "test"]})
    out = io.BytesIO()
    pq.write_table(table, out)
    shop.store.artifacts.save("finetune.describe", "key", {"items.parquet": out.getvalue()}, {"settings": "s"})
    shop.finetune = {"finetune": {"describe": {"generator": "starter"}}}
    only = ["ingest", "image", "describe"]

    def run() -> Any:
        report = run_pipeline(shop.store, pipelines.load(shop.raw()), only=only)
        return next(one for one in report.stages if one.kind == KIND)

    assert run().ran.done == 128
    made = shop.store.artifacts.newest(KIND)
    assert made is not None
    sides = {item: side for item, (_, side) in read_fit_items(made).items()}
    assert [sides[item] for item in held] == ["test", "test"] and sides["red-red-1"] == "judged"
    assert run().ran.done == 0


@pytest.mark.slow
def test_a_part_is_held_out_as_a_writer_would_hold_it_out(shop: Shop) -> None:
    shop.entries["red-red-1"]["title"] = shop.entries["blue-red-4"]["title"] = "of one title"
    shop.run(test_share=0.2, sellers="together")
    made = shop.store.artifacts.newest(KIND)
    assert made is not None and made.report["held_out"] > 10
    sides = {item: side for item, (_, side) in read_fit_items(made).items()}
    held = read_held_out(made)
    assert Counter(sides.values()) == {"test": len(held), "judged": 128 - len(held)}
    assert sides["red-red-1"] == sides["blue-red-4"]
    weights = shop.grounds().predictors["left"].with_pictures
    assert weights is not None and weights.scores.items == 128 - len(held)
    pipeline, items = with_fits(pipelines.load(shop.raw()), shop.store), sorted(sides)
    writer = FinetuneSettings(test_share=0.2, sellers="together")
    groups, _ = held_out_groups(writer, shop.store, pipeline, KIND, items, [None] * 128, "image")
    places = split(groups, items, {"test": 0.2, "valid": 0.1, "train": 0.7}, writer.seed)["test"]
    assert {items[place] for place in places} == set(held)


def test_settings_of_an_earlier_version_keep_their_fit() -> None:
    assert list(Settings().counted()) == ["judge", "template", "precision", "min_items", "seed"]
    assert Settings(test_share=0.1).counted()["sellers"] == "auto"
    assert Settings(given=("picture",)).counted() == Settings().counted()


@pytest.mark.slow
def test_other_settings_and_other_attributes_make_another_fit(shop: Shop) -> None:
    shop.run()
    assert shop.run(precision=0.7).ran.done == 128
    shop.attributes = {"default": {"left": VISUAL["default"]["left"]}}
    report = shop.run(precision=0.7)
    assert report.ran.done == 128 and list(shop.grounds().predictors) == ["left"]
    assert shop.run(precision=0.7, spaces=["image"]).ran.done == 0  # the same spaces by name


@pytest.mark.slow
def test_a_shop_that_doubled_is_fitted_again_without_a_refit(tmp_path: Path) -> None:
    shop = Shop(tmp_path, copies=1)
    assert shop.run().notes == [
        f"{name} is not predicted: 16 items with a usable record state it, and a fit needs 20 (min_items)"
        for name in ("left", "right", "use")
    ]
    assert shop.grounds().predictors == {}
    for number in range(1, 5):
        for left in COLOURS:
            for right in COLOURS:
                shop.offer(f"{left}-{right}-{number}", left, right, number)
    report = shop.run()
    assert report.ran.done == 80 and shop.grounds().predictors["left"].probes


@pytest.mark.slow
def test_without_pictures_words_or_visual_attributes_it_says_so(shop: Shop) -> None:
    report = shop.run(image={})
    assert where(report) == (128, 0, 0)  # brands and titles may still speak
    assert report.notes[0] == "left is not predicted: no probability reaches a precision of 0.8 on 128 items"
    assert shop.grounds().predictors["left"].probes == {}
    space = {"image": {"stage": "embed", "encoder": "starter", "input": "image"}}
    shop.attributes = {}
    assert shop.run(image={}).notes == ["no attribute stands in `attributes:` of the pipeline: none is predicted"]
    assert shop.stage(image=space, judge="words")._spaces == {}
    assert list(shop.stage(image=space)._spaces) == ["image"]


@pytest.mark.slow
def test_training_items_of_a_space_are_left_out(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    training = {"batch_size": 64, "epochs": 2, "dim": 16}
    fit = {"text": "fake:64", "min_items": 20, "test_share": 0.4, "near_duplicates": None, "training": training}
    spaces = {
        "image": {"stage": "embed", "encoder": "fake:48", "input": "image"},
        "align": {"text_image": fit},
        "aligned": {"stage": "embed", "encoder": "align:text_image", "input": "image", "over": "image"},
    }
    report = shop.run(image=spaces, spaces=["aligned"])
    aligned, made = (shop.store.artifacts.newest(name) for name in ("align.text_image", KIND))
    assert aligned is not None and made is not None
    learnt = {item for item, (_, side) in read_fit_items(aligned).items() if side == "train"}
    assert learnt and len(read_fit_items(made)) == 128 and where(report) == (128, 0, 0)
    weights = shop.grounds().predictors["left"].with_pictures
    assert weights is not None and weights.scores.items == 128 - len(learnt)
    digest = shop.grounds().passports["aligned"]
    shop.run(
        image={**spaces, "align": {"text_image": {**fit, "training": {**training, "seed": 1}}}}, spaces=["aligned"]
    )
    assert shop.grounds().passports["aligned"] != digest  # the space was made anew, and so was this


@pytest.mark.slow
def test_it_waits_for_a_space_that_is_not_fitted_yet(shop: Shop) -> None:
    spaces = {
        "image": {"stage": "embed", "encoder": "fake:48", "input": "image"},
        "align": {"text_image": {"text": "fake:64"}},
        "aligned": {"stage": "embed", "encoder": "align:text_image", "input": "image", "over": "image"},
    }
    pipeline = pipelines.load(shop.raw(image=spaces))
    report = run_pipeline(shop.store, pipeline, only=["ingest", "image", "describe"])
    own = next(one for one in report.stages if one.kind == KIND)
    assert own.notes == [
        "space 'aligned' waits for stage 'align.text_image', which has fitted nothing: run `coldstart finetune align`"
    ]
    assert where(own) == (0, 0, 128)


def test_faults_of_settings(shop: Shop) -> None:
    with pytest.raises(ColdstartError) as caught:
        shop.stage(spaces=["imag"])
    assert str(caught.value) == (
        "describe.grounds.spaces: no space of pictures 'imag' stands before it (did you mean 'image'?): there is image"
    )
    with pytest.raises(ColdstartError) as caught:
        pipelines.load(shop.raw(template="a photo"))
    assert str(caught.value) == (
        "pipeline: 1 fault: describe.grounds.template='a photo': give a text with one {}, such as 'a photo of {}'"
    )


@pytest.mark.slow
def test_the_report_names_every_classifier(shop: Shop) -> None:
    shop.run()
    made = shop.store.artifacts.newest(KIND)
    assert made is not None
    assert made.report["items"] == 128 and list(made.report["reasons"]) == ["use"]
    left = json.loads(json.dumps(made.report["attributes"]["left"]))
    assert left["with_pictures"]["scores"]["items"] == 128 and left["with_pictures"]["witnesses"]["image"] > 0


@pytest.mark.slow
def test_every_item_gets_its_predicted_values_and_a_new_fit_predicts_anew(shop: Shop) -> None:
    shop.offer("quiet", "red", "blue", 3, size="small")
    shop.parts = {"attributes": {}}
    report = run_pipeline(shop.store, pipelines.load(shop.raw()))
    own = next(one for one in report.stages if one.kind == "describe.attributes")
    assert where(own) == (129, 0, 0)
    rows = {
        row["item_id"]: read_predicted({"predicted": row})
        for row in shop.store.read("stage.describe.attributes").to_pylist()
    }
    left = rows["quiet"]["left"][0]
    assert (left.name, left.value, left.stated, left.witnesses) == ("left", "red", True, ("image",))
    assert sum(values["left"][0].value == item.split("-")[0] for item, values in rows.items()) > 115
    assert [one.probability for one in rows["quiet"]["left"]] == sorted(
        (one.probability for one in rows["quiet"]["left"]), reverse=True
    )
    assert own.notes[0].startswith("left stated of ")
    again = run_pipeline(shop.store, pipelines.load(shop.raw()))
    assert next(one for one in again.stages if one.kind == "describe.attributes").ran.done == 0
    anew = run_pipeline(shop.store, pipelines.load(shop.raw(precision=0.7)))
    assert next(one for one in anew.stages if one.kind == "describe.attributes").ran.done == 129


@pytest.mark.parametrize(
    "files", [{}, {"attributes.json": "{}"}, {"attributes.json": "no JSON", "attributes.npz": "x"}]
)
def test_a_fit_of_another_version_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in {"names.json": '{"brands": [], "categories": []}', **files}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(NotFitted, match="was fitted by another version of coldstart: run it again"):
        read_check_context(tmp_path)
