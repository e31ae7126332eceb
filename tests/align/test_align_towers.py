"""align.text_image that trains the towers of a tiny CLIP with random weights: the same code as for a large one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import coloured
import numpy as np
import pytest
import tiny_encoders
import torch
from typer.testing import CliRunner

import coldstart
from coldstart import encoders
from coldstart.align.settings import Settings, TowerTraining
from coldstart.align.towers.data import Example, ImageRef
from coldstart.align.towers.job import write_job
from coldstart.cli import app
from coldstart.core.progress import SilentProgress
from coldstart.encoders._heads import AlignedHeads
from coldstart.errors import ColdstartError
from coldstart.store.freshness import build

pytestmark = pytest.mark.slow

STAGE = "align.text_image"
QUICK: dict[str, Any] = {
    "epochs": 8, "patience": 0, "batch_size": 39, "micro_batch": 39, "lr": 5e-3, "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The encoder's name."""
    folder = tmp_path_factory.mktemp("clip")
    tiny_encoders.open_clip_folder(folder)
    return f"open_clip:local-dir:{folder}"


def settings(folder: Path, encoder: str, **fit: Any) -> dict[str, Any]:
    """A catalogue of coloured pictures whose titles are learnt by towers, and spaces that are made with them."""
    made = coloured.settings(folder)
    stages = made["stages"]
    stages["image"]["encoder"] = encoder
    stages["align"]["text_image"] = {
        "towers": "lora", "texts": {"title": 1.0}, "min_items": 20, "test_share": 0.2, "near_duplicates": None,
        "hold_out": [], "valid_share": 0.0, "tune": QUICK, **fit,
    }  # fmt: skip
    del stages["aligned"]["over"]
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, clip: str) -> Path:
    """A folder with a catalogue and a workspace that ran once; leave it as it is."""
    folder = tmp_path_factory.mktemp("towers")
    workspace = coldstart.open(folder / "w", create=True)
    assert not workspace.run(settings(folder / "media", clip)).over_budget
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> coldstart.Workspace:
    """The same, to be changed."""
    shutil.copytree(made / "w", tmp_path / "w")
    return coldstart.open(tmp_path / "w")


def fitted(workspace: coldstart.Workspace) -> Any:
    artifact = workspace._store.artifacts.newest(STAGE)
    assert artifact is not None
    return artifact


def stage_of(workspace: coldstart.Workspace) -> Any:
    pipeline = workspace.pipeline()
    return build(pipeline.stage(STAGE), pipeline)


def held_out(workspace: coldstart.Workspace) -> list[str]:
    features = stage_of(workspace).features(workspace._store, SilentProgress())
    return [item for item, side in zip(features.item_ids, features.split, strict=True) if side == "test"]


def ranks(workspace: coldstart.Workspace, space: str, items: list[str]) -> list[int]:
    """Rank each picture among all by its title."""
    found = []
    for item in items:
        above, _, below = item.partition("-")
        hits = workspace.search(text=f"{above} hat with {below} shoes", spaces=[space], hybrid=False, top_k=100)
        found.append(1 + [hit.item_id for hit in hits].index(item))
    return found


def test_pictures_that_no_fit_has_seen_are_found_by_their_words(made: Path) -> None:
    workspace = coldstart.open(made / "w")
    report = fitted(workspace).report
    assert (report["towers"], report["parts"]) == ("lora", {"test": 22, "valid": 0, "train": 78, "seen": 0})
    assert [epoch["epoch"] for epoch in report["history"]] == list(range(1, QUICK["epochs"] + 1))
    assert report["recall_at_10"]["before"] < 0.7  # by chance 10 of 22, 0.45
    assert report["recall_at_10"]["after"] > 0.85
    items = held_out(workspace)
    before, after = ranks(workspace, "image", items), ranks(workspace, "aligned", items)
    assert np.median(after) < np.median(before) / 3  # of 100 pictures
    assert np.median(after) <= 10


def test_the_artifact_is_the_adapter_under_heads_that_change_nothing(made: Path, clip: str) -> None:
    workspace = coldstart.open(made / "w")
    artifact = fitted(workspace)
    names = {"adapter.json", "adapter_config.json", "adapter_model.safetensors"}
    inner = {"heads.json", "heads.safetensors"}
    assert artifact.files().keys() == {
        "items.parquet", *inner, *(f"before/{name}" for name in inner), *(f"adapter/{name}" for name in names),
    }  # fmt: skip
    aligned, before = AlignedHeads.load(artifact.folder), AlignedHeads.load(artifact.folder / "before")
    assert aligned.heads.digest() == before.heads.digest()
    assert aligned.heads.image.direct is not None
    torch.testing.assert_close(aligned.heads.image.direct.weight, torch.eye(16), rtol=0, atol=0)
    plain = encoders.load(clip, device="cpu", dtype="float32")
    adapted = encoders.load(clip, device="cpu", dtype="float32", adapter=artifact.folder / "adapter")
    for side in ("image", "text"):
        assert before.towers[side].passport == asdict(plain.passport("image"))
        assert aligned.towers[side].passport == asdict(adapted.passport("image"))
        assert (before.towers[side].adapter, aligned.towers[side].adapter) == (None, "adapter")
    made_by = encoders.load(f"align:{artifact.folder}", device="cpu", dtype="float32")
    texts = ["red hat with blue shoes", "grey"]
    np.testing.assert_allclose(made_by.encode_queries(texts), adapted.encode_queries(texts), atol=1e-6)
    assert made_by._image is made_by._text  # type: ignore[attr-defined]  # one model in memory
    assert not (stage_of(workspace)._fits.scratch(workspace._store, "-towers")).exists()


def test_evaluation_uses_the_encoder_before_and_after(made: Path) -> None:
    workspace = coldstart.open(made / "w")
    found = workspace.evaluate_align().to_dict()
    assert (found["held_out"], found["counts"]["asked"], found["counts"]["splits"]) == (
        True, 22, {"test": 22, "train": 78}
    )  # fmt: skip
    for when in ("before", "after"):
        recalls = [found[when][side]["metrics"]["recall_at_10"]["value"] for side in ("image_to_text", "text_to_image")]
        assert np.mean(recalls) == pytest.approx(fitted(workspace).report["recall_at_10"][when], abs=0.05)
    assert found["before"]["zero_shot"]["accuracy"]["value"] < found["after"]["zero_shot"]["accuracy"]["value"]
    assert found["difference"]["image_to_text"]["mrr"]["low"] > 0


def test_the_command_prints_and_writes_a_page(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["evaluate", "align", "-w", str(made / "w"), "--out", str(page)])
    assert result.exception is None, result.output
    assert result.stdout.startswith("test: 22 items, by title; held out")
    assert '<dd dir="auto">lora</dd>' in page.read_text("utf-8")


def test_evaluation_needs_vectors_by_the_new_encoder(shop: coldstart.Workspace) -> None:
    raw = json.loads(json.dumps(shop.pipeline().raw))
    del raw["stages"]["aligned"]
    with pytest.raises(ColdstartError) as caught:
        shop.evaluate_align(shop.pipeline(raw))
    uri = shop._store.uri
    changed = f"{STAGE} has changed the encoder of pictures, and"
    assert str(caught.value) == (
        f"{changed} no space is made with it: `coldstart embed --workspace {uri} --space aligned --encoder "
        "align:text_image` makes one"
    )
    shop._store.drop(f"stage.aligned-{passport_of(shop, 'aligned').digest}", "item_id IS NOT NULL")
    with pytest.raises(ColdstartError) as caught:
        shop.evaluate_align()
    assert str(caught.value) == f"{changed} aligned holds no vectors by it yet: run `coldstart run --workspace {uri}`"


def passport_of(workspace: coldstart.Workspace, space: str) -> encoders.Passport:
    return encoders.Passport.from_json(workspace.published().passports[space])


def test_items_without_a_vector_by_the_new_encoder_are_left_out(shop: coldstart.Workspace) -> None:
    lost = held_out(shop)[:3]
    shop._store.delete(f"stage.aligned-{passport_of(shop, 'aligned').digest}", lost)
    found = shop.evaluate_align().to_dict()
    assert found["counts"]["asked"] == 19
    assert found["before"]["image_to_text"]["gallery"] == found["after"]["image_to_text"]["gallery"] == 19


def test_stored_vectors_of_the_encoder_as_it_was_are_not_taken(shop: coldstart.Workspace, clip: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        shop.run(overrides=["aligned.over=image"])
    name = passport_of(shop, "image").encoder
    assert str(caught.value) == (
        f"aligned.over='image': it holds vectors of {name} as it was before align:{STAGE} trained it further: leave "
        "`over` out, so that its input is encoded anew"
    )


def test_only_what_changes_results_makes_another_fit(shop: coldstart.Workspace) -> None:
    tune = f"{STAGE}.tune"
    report = shop.run(
        overrides=[
            f"{tune}.workers=1", f"{tune}.processes=2", f"{tune}.micro_batch=7", f"{tune}.gradient_checkpointing=true",
            f"{tune}.last_blocks=1", f"{STAGE}.training.lr=1", f"{STAGE}.min_items=10",
        ]
    )  # fmt: skip
    assert all(one.ran.done == 0 for one in report.stages if one.stage != "index")
    assert "\nfitted on 78 items in " in next(str(one.notes[0]) for one in report.stages if one.stage == STAGE)

    def key(**given: Any) -> str:
        return json.dumps(Settings(**given).key_settings(), sort_keys=True)

    lora = {"towers": "lora"}
    assert key() != key(training={"lr": 1}) and key() == key(tune={"lr": 1})
    assert key(**lora) != key(**lora, tune={"lr": 1})
    assert key(**lora) != key(**lora, tune={"r": 4})
    assert key(**lora) != key(towers="last_blocks") == key(towers="last_blocks", tune={"r": 4})
    noisy = {"lora_dropout": 0.1}
    assert key(**lora, tune=noisy) != key(**lora, tune={**noisy, "micro_batch": 7})


SPLIT = {"group_by": ("title",), "near_duplicates": 0.98, "valid_share": 0.05, "test_share": 0.1}
FROZEN = {
    "loss": "infonce",
    "epochs": 50,
    "patience": 15,
    "batch_size": 512,
    "lr": 3e-3,
    "weight_decay": 1.0,
    "dim": 384,
    "hidden": 0,
    "standardise": True,
    "dropout": 0.5,
    "hidden_dropout": 0.0,
    "noise": 0.0,
    "smoothing": 0.1,
    "prior": 0.0,
    "seed": 0,
}
TRAINED = {
    "loss": "auto",
    "epochs": 5,
    "patience": 2,
    "batch_size": 1024,
    "lr": None,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "augment": False,
    "seed": 0,
}
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_layers": "all"}


def test_defaults_that_reach_row_keys() -> None:
    """The numbers of version 0.1: other ones would fit every workspace anew."""
    assert Settings().key_settings() == {**SPLIT, "training": FROZEN}
    assert Settings(towers="lora").key_settings() == {**SPLIT, "towers": "lora", "tune": {**TRAINED, **LORA}}
    assert Settings(towers="last_blocks").key_settings() == {
        **SPLIT,
        "towers": "last_blocks",
        "tune": {**TRAINED, "last_blocks": 2},
    }


def test_a_job_states_all_settings_that_change_its_result(tmp_path: Path) -> None:
    example = Example("a", 0, "train", [ImageRef("a.png")], [("a", 1.0)])
    examples = [example, replace(example, item_id="b", group=1)]
    training = TowerTraining(processes=2, workers=1, lr=1e-3)
    job = json.loads((write_job(tmp_path, "open_clip:x", examples, "lora", training) / "job.json").read_bytes())
    assert job["recipe"] == {
        **TRAINED,
        **LORA,
        "lr": 1e-3,
        "towers": "lora",
        "frames": 4,
        "last_blocks": 2,
        "micro_batch": 64,
        "gradient_checkpointing": False,
    }


class Killed(BaseException):
    """Signal that ends a process, as far as one process can show it."""


class Stopping(SilentProgress):
    """Ends the fit as its meter of some epoch begins; keeps the names of all meters."""

    def __init__(self, at: str = "") -> None:
        self.at = at
        self.names: list[str] = []

    def meter(self, stage: str, total: int | None) -> Any:
        self.names.append(stage)
        if self.at and stage.endswith(self.at):
            raise Killed
        return super().meter(stage, total)


def test_a_fit_that_was_stopped_goes_on_and_rows_follow(shop: coldstart.Workspace) -> None:
    before = passport_of(shop, "aligned")
    overrides = [f"{STAGE}.tune.epochs=2", f"{STAGE}.valid_share=0.2"]
    with pytest.raises(Killed):
        shop.finetune_align(overrides=overrides, progress=Stopping("epoch 2 of 2"))
    job = stage_of(shop)._fits.scratch(shop._store, "-towers")
    assert [folder.name for folder in (job / "checkpoints").iterdir()] == ["epoch-0001"]
    assert len(shop._store.artifacts.all(STAGE)) == 1
    again = Stopping()
    shop.finetune_align(overrides=overrides, progress=again)
    assert [name for name in again.names if "epoch" in name] == [f"{STAGE}: epoch 2 of 2"]
    assert [epoch["epoch"] for epoch in fitted(shop).report["history"]] == [1, 2]
    assert not job.exists()
    report = shop.run()
    done = {one.stage: one.ran.done for one in report.stages if one.stage != "index"}
    assert done == {"ingest": 0, "image": 0, STAGE: 0, "aligned": 100, "aligned_text": 100}
    after = passport_of(shop, "aligned")
    assert after != before
    assert (after.encoder, after.dim) == (before.encoder, before.dim)
    assert shop.evaluate_align().to_dict()["counts"]["asked"] == 22


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": "fakes"},
            f"{STAGE}.towers=lora: space 'fakes' is made by fake:48, whose towers cannot be trained: name a space of "
            f"an open_clip:… encoder with {STAGE}.image, or leave towers frozen",
        ),
        (
            {"text": "starter"},
            f"{STAGE}.towers=lora trains both sides of one model: pictures of space 'image' are read by CLIP, words by "
            f"starter: leave {STAGE}.text out, or leave towers frozen",
        ),
        (
            {"start": "random"},
            f"{STAGE}.towers=lora starts from the model as it is, and {STAGE}.start=random is for heads: leave it out, "
            "or leave towers frozen",
        ),
        (
            {"towers": "last_blocks", "tune": {**QUICK, "last_blocks": 2}},
            "last_blocks=2: the tower VisionTransformer has 1",
        ),
    ],
)
def test_faults_name_the_value_and_the_next_step(
    shop: coldstart.Workspace, clip: str, changes: dict[str, Any], message: str
) -> None:
    raw = json.loads(json.dumps(shop.pipeline().raw))
    stages = raw["stages"]
    fakes = {"stage": "embed", "encoder": "fake:48", "input": "image"}
    raw["stages"] = {"ingest": stages.pop("ingest"), "fakes": fakes, **stages}
    raw["stages"]["align"]["text_image"] |= changes
    with pytest.raises(ColdstartError) as caught:
        shop.run(raw)
    assert str(caught.value).replace(clip, "CLIP") == message


def test_words_are_read_by_the_encoder_of_the_pictures_where_it_can(shop: coldstart.Workspace, clip: str) -> None:
    stage = stage_of(coldstart.open(shop._store.uri))
    assert stage._encoders.towers["text"].encoder == clip
    raw = json.loads(json.dumps(shop.pipeline().raw))
    raw["stages"]["align"]["text_image"] = {"text": "fake:8", "start": "random"}
    pipeline = shop.pipeline(raw)
    apart = build(pipeline.stage(STAGE), pipeline)
    assert apart._encoders.towers["text"].encoder == "fake:8"


@pytest.mark.parametrize(("image", "text"), [("fake:48", "fake:48"), ("starter", "starter")])
def test_words_of_a_frozen_fit_are_read_by_starter_where_pictures_have_no_words(
    shop: coldstart.Workspace, image: str, text: str
) -> None:
    raw = json.loads(json.dumps(shop.pipeline().raw))
    raw["stages"]["image"]["encoder"] = image
    raw["stages"]["align"]["text_image"] = {}
    pipeline = shop.pipeline(raw)
    stage = build(pipeline.stage(STAGE), pipeline)
    try:
        towers = stage._encoders.towers
    except ColdstartError as error:
        pytest.skip(str(error))
    assert towers["text"].encoder == text
    assert (towers["text"].passport == towers["image"].passport) == (image == "fake:48")


def test_a_fit_in_two_processes_after_a_kill(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "w", tmp_path / "w")
    command = [
        *(sys.executable, "-c", "from coldstart.cli import main; main()", "finetune", "align", "-w", tmp_path / "w"),
        *("--set", f"{STAGE}.tune.epochs=2", "--set", f"{STAGE}.tune.workers=0"),
    ]
    code = (
        "import os, signal\n"
        "from coldstart.align import fit_towers\n"
        "call = fit_towers._Epochs.__call__\n"
        "def kill(self, event):\n"
        "    if event.get('epoch') == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    call(self, event)\n"
        "fit_towers._Epochs.__call__ = kill\n"
        "if __name__ == '__main__':\n"
        "    from coldstart.cli import main\n"
        "    main()\n"
    )
    killed = tmp_path / "killed.py"
    killed.write_text(code)
    stopped = subprocess.run([sys.executable, killed, *map(str, command[3:])], capture_output=True, check=False)
    assert stopped.returncode == -signal.SIGKILL
    done = subprocess.run(
        [*map(str, command), "--set", f"{STAGE}.tune.processes=2"], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = fitted(coldstart.open(tmp_path / "w")).report
    assert (report["processes"], [epoch["epoch"] for epoch in report["history"]]) == (2, [1, 2])
