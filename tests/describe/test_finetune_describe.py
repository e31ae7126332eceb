"""Test the fit of a writer with a tiny real model: artifact, split, stages that follow it, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from test_describe_stages import Shop
from typer.testing import CliRunner
from word_tokens import llama_folder

import coldstart
from coldstart import generators
from coldstart.cli import app
from coldstart.errors import ColdstartError
from coldstart.store.fits import read_fit_items, read_writer_config

pytestmark = pytest.mark.slow

TRAINING = {"epochs": 1, "batch_tokens": 512, "pack_tokens": 256, "looks": 1, "lr": 1e-3, "r": 4}


class FitShop(Shop):
    """A shop whose writer is tuned."""

    def __init__(self, folder: Path, model: Path, count: int = 40) -> None:
        super().__init__(folder, count)
        self.fit: dict[str, Any] = {
            "generator": f"hf:{model}",
            "given": ["title", "creator"],
            "min_items": 10,
            "judged": 2,
            "views": 1,
            "training": dict(TRAINING),
        }
        self.prompt = folder / "tiny.md"
        self.prompt.write_text(
            "---\nname: tiny\nversion: 1\nabout: few tokens\ninputs: [title, creator, wanted]\nsystem: Describe.\n"
            "output: [attributes]\nbudgets: {title: 24}\nmax_new_tokens: 48\n---\n{{ title }}\n",
            "utf-8",
        )
        prompt = {"product": str(self.prompt), "video": str(self.prompt)}
        self.fit["prompt"] = prompt
        self.stages = {
            "finetune": {"describe": self.fit},
            "describe": {"grounds": False, "write": {"generator": "finetune:describe"}, "check": {}},
            "text": {"stage": "embed", "encoder": "fake:32", "input": "text"},
        }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_folder(tmp_path_factory.mktemp("model"), max_position_embeddings=1024)


@pytest.fixture(scope="module")
def fitted_shop(model: Path, tmp_path_factory: pytest.TempPathFactory) -> FitShop:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shop = FitShop(tmp_path_factory.mktemp("shop"), model)
    shop.run()
    torch.set_num_threads(threads)
    return shop


@pytest.fixture
def shop(model: Path, tmp_path: Path) -> FitShop:
    return FitShop(tmp_path, model)


def test_the_artifact_says_what_it_was_made_of(fitted_shop: FitShop) -> None:
    made = fitted_shop.store.artifacts.newest("finetune.describe")
    assert made is not None
    names = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert names == {
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
        *("MODEL_CARD.md", "card.json", "items.parquet"),
    }
    card = json.loads((made.folder / "card.json").read_text("utf-8"))
    assert card["generator"] == fitted_shop.fit["generator"]
    assert card["given"] == ["creator", "title"]
    assert card["items"] == {
        side: len([1 for _, own in read_fit_items(made).values() if own == side]) for side in card["items"]
    }
    assert sum(card["items"].values()) == 40 and min(card["items"].values()) > 0
    assert card["judged"]["items"] == 2 and len(card["samples"]) == 2
    assert card["valid_loss"]["after"] < card["valid_loss"]["before"]
    assert "one of its own" not in card["samples"][0]["truth"]
    told = (made.folder / "MODEL_CARD.md").read_text("utf-8")
    assert "## Before and after" in told and card["samples"][0]["truth"] in told


def test_describe_write_uses_the_prompts_of_the_fit(fitted_shop: FitShop) -> None:
    made = fitted_shop.store.artifacts.newest("finetune.describe")
    assert made is not None
    writing = read_writer_config(made.folder, fitted_shop.pipeline().attributes)
    assert writing.given == ("creator", "title") and writing.prompt == fitted_shop.fit["prompt"]
    rows = fitted_shop.rows("describe.write")
    assert len(rows) == 40
    assert {row["prompt"] for row in rows.values()} == {"tiny 1"}
    own = generators.load(writing.generator, adapter=made.folder).passport()
    assert {row["adapter"] for row in rows.values()} == {own.adapter} != {None}


def test_new_rows_are_pending_until_a_refit(fitted_shop: FitShop) -> None:
    before = fitted_shop.store.artifacts.newest("finetune.describe")
    fitted_shop.entries.append(
        {**fitted_shop.entries[0], "item_id": "new", "title": "Red Shoe of the year", "creator": "new"}
    )
    reports = fitted_shop.run()
    fit = reports["finetune.describe"]
    assert fit.ran.done == 0 and fit.balance.pending == 1
    since, _, summary = fit.notes[0].partition("\n")
    assert since.startswith("fit of ") and summary
    assert since.endswith("; 1 items came and 0 changed since: `coldstart finetune describe`")
    assert reports["describe.write"].ran.done == 1
    after = fitted_shop.run(only=["finetune.describe"], refit=True)["finetune.describe"]
    made = fitted_shop.store.artifacts.newest("finetune.describe")
    assert after.balance.pending == 0 and made is not None and before is not None and made.key != before.key
    assert fitted_shop.run()["describe.write"].ran.done == 41  # all is written anew by the new adapter


def test_base_and_fit_are_compared_and_nothing_is_stored(fitted_shop: FitShop) -> None:
    before = fitted_shop.store.tables()
    compared = coldstart.open(fitted_shop.folder / "ws").compare_descriptions(fitted_shop.raw(), limit=2)
    assert [one["item_id"] for one in compared] == ["p00", "p01"]
    assert list(compared[0]["written"]) == [fitted_shop.fit["generator"], "finetune:describe"]
    assert set(compared[0]["written"]["finetune:describe"]) == {"text", "kept", "cut"}
    assert fitted_shop.store.tables() == before


def test_the_merged_model_is_exported_where_it_writes_the_same(fitted_shop: FitShop, tmp_path: Path) -> None:
    report = coldstart.open(fitted_shop.folder / "ws").export_adapter(tmp_path / "out", fitted_shop.raw(), prompts=3)
    assert report["prompts"] == 3
    assert report["agreement"] == "3 prompts, the same texts by adapter, adapter in a batch, merged model"
    assert {"config.json", "model.safetensors", "MODEL_CARD.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    generators.load(f"hf:{tmp_path / 'out'}")
    with pytest.raises(ColdstartError, match=r"out exists: name a new folder for the merged model$"):
        coldstart.open(fitted_shop.folder / "ws").export_adapter(tmp_path / "out", fitted_shop.raw())


def test_preferences_go_on_from_the_last_fit(fitted_shop: FitShop) -> None:
    fitted_shop.fit["method"] = "dpo"
    fitted_shop.fit["preference"] = {"samples": 3, "items": 12, "margin": 0.0, "temperature": 1.5}
    try:
        fit = fitted_shop.run(only=["finetune.describe"])["finetune.describe"]
    finally:
        del fitted_shop.fit["method"], fitted_shop.fit["preference"]
    made = fitted_shop.store.artifacts.newest("finetune.describe")
    assert fit.ran.done and made is not None
    card = json.loads((made.folder / "card.json").read_text("utf-8"))
    assert card["method"] == "dpo" and card["pairs"] > 0 and card["history"]


def test_nothing_is_written_before_the_fit(shop: FitShop) -> None:
    with pytest.raises(ColdstartError) as caught:
        shop.run(only=["ingest", "describe.write"])
    assert str(caught.value) == (
        "stage 'describe.write' waits for stage 'finetune.describe', which has fitted nothing: run "
        "`coldstart finetune describe`"
    )
    states = coldstart.open(shop.folder / "ws").status(shop.pipeline())
    assert {one.stage: one.balance.pending for one in states}["describe.write"] == 40


def test_too_few_items_teach_nothing(shop: FitShop) -> None:
    shop.fit["min_items"] = 41
    with pytest.raises(ColdstartError) as caught:
        shop.run()
    assert str(caught.value) == (
        "finetune.describe: 40 items can be used for a fit (with attributes in their record, or a description), and "
        f"a fit needs 41 (min_items): until there are more, describe with generator: hf:{shop.fit['generator'][3:]}"
    )


def test_preferences_need_a_fit_to_go_on_from(shop: FitShop) -> None:
    shop.fit["method"] = "dpo"
    with pytest.raises(ColdstartError) as caught:
        shop.run(only=["ingest", "finetune.describe"])
    assert str(caught.value) == (
        "finetune.describe.method=dpo continues a fit, and there is none: run `coldstart finetune describe` first"
    )


def test_items_without_attributes_and_description_are_left_out_with_a_reason(shop: FitShop) -> None:
    shop.entries.append({"item_id": "untold", "title": "a thing", "image": shop.entries[0]["image"]})
    shop.run(only=["ingest"])
    pipeline = shop.pipeline()
    from coldstart.engine.run import build

    stage: Any = build(next(spec for spec in pipeline.stages if spec.kind == "finetune.describe"), pipeline)
    keys, verdicts = stage.expected(shop.store)
    assert len(keys) == 40
    assert (verdicts["untold"].state, verdicts["untold"].reason) == ("filtered", "nothing_told")


def test_sellers_fall_apart_where_none_has_too_much() -> None:
    from coldstart.describe.finetune.settings import Settings

    auto = Settings()
    assert auto.by_seller(["a", "b", None] * 10) == (
        False,
        "sellers are not kept apart in the split: 'a' alone has 10 of 30 items",
    )
    assert auto.by_seller([f"s{n % 15}" for n in range(30)])[0]
    assert auto.by_seller([None, None]) == (False, "no sellers to keep apart in the split")
    assert Settings(sellers="together").by_seller(["a"]) == (False, "sellers together in the split, as set")


def test_a_fit_for_predicted_attributes_is_of_facts_and_holds_out_the_same_items() -> None:
    from coldstart.core import pipeline as pipelines
    from coldstart.describe.finetune.settings import with_finetune

    def added(given: dict[str, Any]) -> Any:
        raw, overrides = with_finetune(pipelines.load("product"), given)
        found = pipelines.load(raw, overrides)
        names = [spec.name for spec in found.stages]
        assert names.index("finetune.describe") < names.index("describe.grounds")
        return found.stage("finetune.describe").settings

    plain = added({"generator": None, "method": None})
    assert (plain.generator, plain.input, plain.given) == ("starter", "facts", ("creator", "picture"))
    assert (plain.test_share, plain.sellers) == (0.1, "together")
    seeing = added({"generator": "starter-vlm"})
    assert (seeing.input, seeing.sellers) == ("fields", "together") and "title" in seeing.given


def test_sentences_with_slots_take_values_that_no_training_item_has(tmp_path: Path) -> None:
    from coldstart.core.attributes import Attributes

    attributes = Attributes.model_validate({"default": {"colour": {}}})
    values = {"default": {"colour": ["Red"]}}
    for card, listed in (({"generator": "starter"}, ("Red",)), ({"generator": "sentences", "tuned": "starter"}, ())):
        (tmp_path / "card.json").write_text(json.dumps({"values": values, "given": None, "prompt": {}, **card}))
        assert read_writer_config(tmp_path, attributes).attributes.of(None)["colour"].values == listed


@pytest.mark.parametrize("name", ["product", "starter"])
def test_a_generator_of_the_command_writes_in_any_pipeline(name: str) -> None:
    from coldstart.core import pipeline as pipelines
    from coldstart.describe.finetune.settings import with_describe

    found = pipelines.load(*with_describe(pipelines.load(name), {"generator": "sentences"}))
    (writing,) = found.of_kind("describe.write")
    assert writing.settings.generator == "sentences"
    names = [spec.name for spec in found.stages]
    assert names.index("describe.check") < names.index("index")


def test_few_examples_make_small_steps() -> None:
    from coldstart.describe.finetune.training import batch_tokens

    assert [batch_tokens(None, tokens) for tokens in (1_000, 32_000, 1_000_000)] == [256, 1_000, 4_096]
    assert batch_tokens(512, 1_000_000) == 512


def test_the_command_adds_the_stage_before_what_writes(shop: FitShop, tmp_path: Path) -> None:
    del shop.stages["finetune"], shop.stages["describe"]
    coldstart.open(shop.folder / "ws").run(shop.raw())
    overrides = [f"finetune.describe.{key}={json.dumps(value)}" for key, value in shop.fit.items()]
    arguments = [word for one in overrides for word in ("--set", one)]
    asked = ["finetune", "describe", "-w", str(shop.folder / "ws"), "--json", *arguments]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)["stages"]
    assert report["stage"] == "finetune.describe" and report["balance"]["fresh"] == 40
    assert report["notes"][-1] == (
        f"no stage writes with it yet: `coldstart describe --workspace {shop.folder / 'ws'} --generator "
        "finetune:describe`"
    )


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "2371da77462e6f6b"),
        ({"training": {"lr": 1e-3, "processes": 3}}, "0c885a3e3ed950da"),
        ({"vision": {"epochs": 7}}, "575e6c367d7e7509"),
        ({"preference": {"beta": 0.2}, "method": "dpo"}, "e56069aafa42540e"),
    ],
)
def test_settings_count_as_they_did_in_version_0_1(given: dict[str, Any], digest: str) -> None:
    from coldstart.describe.finetune.settings import Settings

    counted = json.dumps(Settings(**given).counted(), sort_keys=True)
    assert sha256(counted.encode()).hexdigest()[:16] == digest


def test_a_later_setting_counts_where_it_is_not_the_default() -> None:
    from coldstart.describe.finetune.settings import Settings

    assert "hidden" not in Settings(vision={"hidden": 1024}).counted()["vision"]
    assert Settings(vision={"hidden": 8}).counted()["vision"]["hidden"] == 8


def test_settings_of_a_training_load_neither_the_store_nor_torch() -> None:
    code = (
        "import sys, coldstart.describe.finetune.training; "
        "print(sorted({'lancedb', 'torch', 'pyarrow', 'coldstart.store'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_facts_become_sentences_and_a_killed_fit_goes_on(shop: FitShop, monkeypatch: pytest.MonkeyPatch) -> None:
    from coldstart.describe.finetune import fit_templates, sft

    shop.fit |= {"input": "facts"}
    monkeypatch.setattr(fit_templates, "NEW_TOKENS", 64)
    monkeypatch.setattr(fit_templates, "SAMPLES", 0)
    trainings: list[str] = []
    run_sft = sft.run_sft
    monkeypatch.setattr("coldstart.describe.finetune.lora.run_sft", lambda *a: (trainings.append("one"), run_sft(*a)))
    with monkeypatch.context() as killed:
        killed.setattr(fit_templates, "write_candidates", _raise)
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    shop.run()
    assert trainings == ["one"], "what was trained before the kill is not trained again"
    made = shop.store.artifacts.newest("finetune.describe")
    assert made is not None
    card = json.loads((made.folder / "card.json").read_text("utf-8"))
    assert card["generator"] == "sentences" and card["tuned"] == shop.fit["generator"] and card["given"] is None
    assert [line["pattern"] for line in card["choices"]] == ["kind:one colour brand"]
    assert card["templates"] == {}
    rows = shop.rows("describe.write")
    assert len(rows) == 40 and {row["generator"] for row in rows.values()} == {"sentences"}
    assert json.loads(rows["p00"]["text"])["attributes"] == {"sort": "Shoe", "colour": "Red"}


def _raise(*_: Any) -> None:
    raise KeyboardInterrupt
