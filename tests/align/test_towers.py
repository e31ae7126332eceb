"""Towers that learn, on tiny models with random weights: the same code as on large ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_encoders
import tiny_pairs
import torch
from safetensors.torch import load_file

from coldstart import encoders
from coldstart.align.settings import TowerTraining
from coldstart.align.towers.data import Batch, Example
from coldstart.align.towers.job import run, write_job
from coldstart.align.towers.model import Towers, last_blocks, linear_layers
from coldstart.align.towers.train import ProcessGroup, Trainer
from coldstart.errors import ColdstartError
from coldstart.media.image import load_image
from coldstart.media.limits import Limits

CPU = torch.device("cpu")
QUICK = TowerTraining(epochs=2, patience=0, batch_size=16, micro_batch=16, lr=1e-3, r=4)


def quick(**settings: Any) -> TowerTraining:
    """Return `QUICK` with some settings changed."""
    return QUICK.model_copy(update=settings)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Encoder names of tiny models."""
    names = {}
    for name in ("open_clip", "siglip2"):
        folder = tmp_path_factory.mktemp(name)
        getattr(tiny_encoders, f"{name}_folder")(folder)
        names[name] = f"open_clip:local-dir:{folder}"
    return names


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return tiny_pairs.examples(tmp_path_factory.mktemp("pairs"))


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def adapter_of(out: Path) -> dict[str, torch.Tensor]:
    (file,) = (out / "adapter").glob("*.safetensors")
    return dict(load_file(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip", "siglip2"])
@pytest.mark.parametrize("kind", ["lora", "last_blocks"])
def test_a_training_generalises_to_combinations_that_were_not_shown(
    name: str, kind: Any, models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    epochs = 12 if name == "open_clip" else 8
    training = TowerTraining(last_blocks=1, epochs=epochs, patience=0, batch_size=35, micro_batch=35, lr=3e-3)
    events: list[Mapping[str, Any]] = []
    out = run(
        write_job(tmp_path, models[name], pairs, kind, training), device="cpu", dtype="float32", progress=events.append
    )
    report = report_of(out)
    assert report["loss"] == ("infonce" if name == "open_clip" else "siglip")
    assert report["items"] == {"train": 70, "valid": 30}
    assert report["before"]["recall_at_10"] < 0.45  # chance is a third
    best = report["history"][report["best_epoch"] - 1]
    assert best["recall_at_10"] > 0.7
    assert best["mrr"] > report["before"]["mrr"] + 0.1
    assert [one["epoch"] for one in report["history"]] == list(range(1, epochs + 1))
    assert sum("step" in one for one in events) == 2 * epochs
    encoder = encoders.load(models[name], device="cpu", dtype="float32", adapter=out / "adapter")
    valid = [example for example in pairs if example.split == "valid"]
    texts = encoder.encode_queries([example.texts[0][0] for example in valid])
    assert encoder.image_transform is not None
    looks = [load_image(Path(one.images[0].path), Limits(), encoder.image_transform) for one in valid]
    scores = encoder.encode_images(looks) @ texts.T
    own = np.diag(scores)[:, None]
    ranks = np.concatenate([(scores >= own).sum(1), (own <= scores.T).sum(1)])
    assert np.mean(ranks <= 10) == pytest.approx(best["recall_at_10"], abs=0.02)  # of the best epoch, and loaded anew


def one_step(
    model: str, kind: Any, training: TowerTraining, micro_batch: int, examples: int = 11
) -> dict[str, torch.Tensor]:
    """Gradients of one step over pictures of noise, two of them of one group."""
    encoder: Any = encoders.load(model, device="cpu", dtype="float32")
    towers = Towers(encoder, kind, training, CPU, torch.float32)
    torch.manual_seed(4)
    towers.put({name: weight + 0.02 * torch.randn_like(weight) for name, weight in towers.copy().items()})
    trainer = Trainer(towers, torch.optim.SGD(towers.weights().values(), lr=0.0), ProcessGroup(), CPU, micro_batch)
    batch = _batch(encoder, slice(0, examples))
    towers.train(True)
    assert trainer.step(batch, examples) is not None
    return {name: weight.grad for name, weight in towers.weights().items() if weight.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip", "siglip2"])
@pytest.mark.parametrize("kind", ["lora", "last_blocks"])
def test_pieces_and_checkpoints_change_no_gradient(name: str, kind: Any, models: dict[str, str]) -> None:
    training = TowerTraining(last_blocks=1, r=4, seed=3)
    whole = one_step(models[name], kind, training, 64)
    assert {"logit_scale"} <= whole.keys()
    assert min(gradient.abs().max() for gradient in whole.values()) > 0
    for other in (
        one_step(models[name], kind, training, 4),
        one_step(models[name], kind, training.model_copy(update={"gradient_checkpointing": True}), 4),
    ):
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_memory_that_runs_out_halves_the_pieces(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = one_step(models["open_clip"], "lora", TowerTraining(r=4, seed=3), 64)
    images = Towers.images
    sizes: list[int] = []

    def small(self: Towers, pixels: Any) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > (1 if torch.is_grad_enabled() else 5):
            raise torch.OutOfMemoryError("no room")
        return images(self, pixels)

    monkeypatch.setattr(Towers, "images", small)
    torch.testing.assert_close(
        one_step(models["open_clip"], "lora", TowerTraining(r=4, seed=3), 64), whole, rtol=1e-4, atol=1e-7
    )
    assert sizes == [11, *(5, 5, 1), 5, *(2, 2, 2, 2, 2, 1), 2, *[1] * 22]

    def none(self: Towers, pixels: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Towers, "images", none)
    with pytest.raises(ColdstartError) as caught:
        one_step(models["open_clip"], "lora", TowerTraining(r=4, seed=3), 64)
    assert str(caught.value) == (
        "cpu has not enough memory for a batch of 11 pairs, even one at a pass: lower batch_size, or set "
        "gradient_checkpointing"
    )


@pytest.mark.slow
def test_bfloat16_products_stay_close(models: dict[str, str]) -> None:
    encoder: Any = encoders.load(models["open_clip"], device="cpu", dtype="float32")
    made = []
    for dtype in (torch.float32, torch.bfloat16):
        towers = Towers(encoder, "lora", TowerTraining(r=4), CPU, dtype)
        assert {weight.dtype for weight in towers.weights().values()} == {torch.float32}
        noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        image, text = towers.images(list(noise)), towers.texts(encoder.tokenize(["a red shoe", "x", "y", "b " * 30]))
        towers.loss(image, text, torch.arange(4)).backward()
        made.append(torch.cat([image, text]).detach())
        assert made[-1].dtype == torch.float32
        assert all(torch.isfinite(weight.grad).all() for weight in towers.weights().values() if weight.grad is not None)
    assert (made[0] * made[1]).sum(1).min() > 0.999


@pytest.mark.slow
def test_the_sigmoid_loss_brings_its_own_bias_to_a_model_without(models: dict[str, str]) -> None:
    encoder: Any = encoders.load(models["open_clip"], device="cpu", dtype="float32")
    towers = Towers(encoder, "lora", TowerTraining(loss="siglip"), CPU, torch.float32)
    assert towers.bias is not None
    assert towers.bias.item() == -10
    assert "logit_bias" in towers.weights()
    towers.put({**towers.copy(), "logit_scale": torch.tensor(7.0)})
    towers.bound_scale()
    assert towers.scale.exp().item() == pytest.approx(100)


def test_layers_of_a_text_tower_of_transformers() -> None:
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = HFTextEncoder("bert", 4, BertConfig(vocab_size=9, **small), "mean_pooler", "linear")
    import open_clip

    visual = open_clip.CLIP(**tiny_encoders.OPEN_CLIP).visual
    model = SimpleNamespace(visual=visual, text=text)
    attention = [name for name in linear_layers(model, "attention") if name.startswith("text.")]
    layer = "text.transformer.encoder.layer"
    assert attention == [f"{layer}.{n}.attention.self.{part}" for n in (0, 1) for part in ("query", "key", "value")]
    assert f"{layer}.1.output.dense" in linear_layers(model, "all")
    changed = {name for name in last_blocks(model, 1) if name.startswith("text.")}
    assert {name.removeprefix("text.").partition(".")[0] for name in changed} == {"transformer", "proj"}
    assert all(name.startswith((f"{layer}.1.", "text.proj.", "text.transformer.pooler")) for name in changed)
    with pytest.raises(ColdstartError) as caught:
        last_blocks(model, 3)
    assert str(caught.value) == "last_blocks=3: the tower VisionTransformer has 1"


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_costs_itself(
    models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    bad = [replace(one, images=[replace(one.images[0], path=str(broken))]) if i in (1, 4) else one
           for i, one in enumerate(pairs[:30])]  # fmt: skip
    out = run(write_job(tmp_path / "job", models["open_clip"], bad, "lora", QUICK), device="cpu", dtype="float32")
    skipped = report_of(out)["skipped"]
    assert (
        skipped
        == {
            "count": 2,
            "some": {bad[i].item_id: "unsupported_media: not an image: looks like unknown bytes" for i in (1, 4)},
        }
        or skipped["count"] == 2
    )
    none = [replace(one, images=[replace(one.images[0], path=str(broken))]) for one in pairs[:30]]
    with pytest.raises(ColdstartError) as caught:
        run(write_job(tmp_path / "none", models["open_clip"], none, "lora", QUICK), device="cpu", dtype="float32")
    assert str(caught.value) == "no picture of the held-out items can be read"


def test_jobs_that_cannot_teach_are_refused(models: dict[str, str], pairs: list[Example], tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as caught:
        write_job(tmp_path, "starter", pairs, "lora", QUICK)
    assert str(caught.value) == "encoder 'starter' has no towers to train: use an open_clip:… model"
    with pytest.raises(ColdstartError) as caught:
        write_job(tmp_path, models["open_clip"], [replace(one, group=1) for one in pairs], "lora", QUICK)
    assert str(caught.value) == "items of 1 products teach nothing: training needs at least two"
    with pytest.raises(ColdstartError) as caught:
        write_job(tmp_path, models["open_clip"], [replace(pairs[0], texts=[("x", 0.0)]), *pairs], "lora", QUICK)
    assert str(caught.value) == "item 'red-red' has no picture or no text to learn from"
    with pytest.raises(ColdstartError) as caught:
        run(tmp_path / "nothing")
    assert str(caught.value) == (
        f"{tmp_path / 'nothing'} holds no job: {tmp_path / 'nothing' / 'job.json'} cannot be read"
    )


@pytest.mark.slow
def test_patience_ends_a_training_with_the_best_epoch(
    models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    training = quick(epochs=9, patience=2, lr=1e-12)
    report = report_of(
        run(write_job(tmp_path, models["open_clip"], pairs, "lora", training), device="cpu", dtype="float32")
    )
    assert report["stopped"] is True
    assert report["best_epoch"] == 0
    assert len(report["history"]) == 2


@pytest.mark.slow
def test_a_finished_job_is_not_done_again_and_another_job_is_not_taken_for_it(
    models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    out = run(write_job(tmp_path, models["open_clip"], pairs, "lora", QUICK), device="cpu", dtype="float32")
    first = (out / "report.json").stat().st_mtime_ns
    events: list[Any] = []
    run(
        write_job(tmp_path, models["open_clip"], pairs, "lora", QUICK),
        device="cpu",
        dtype="float32",
        progress=events.append,
    )
    assert ((out / "report.json").stat().st_mtime_ns, events) == (first, [])
    other = quick(seed=1)
    run(
        write_job(tmp_path, models["open_clip"], pairs, "lora", other),
        device="cpu",
        dtype="float32",
        progress=events.append,
    )
    assert [one["epoch"] for one in events if "recall_at_10" in one] == [0, 1, 2]
    assert (out / "report.json").stat().st_mtime_ns != first


KILLED = """
import os, signal, sys
from pathlib import Path
from coldstart.align.towers.job import run
if __name__ == "__main__":
    def progress(events):
        if events.get("step") == 8:  # in the second epoch, after the first was stored
            os.kill(os.getpid(), signal.SIGKILL)
    run(Path(sys.argv[1]), device="cpu", dtype="float32", progress=progress)
"""


@pytest.mark.slow
def test_a_killed_training_ends_as_if_it_had_not_been(
    models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    training = quick(epochs=3, lora_dropout=0.2, micro_batch=6)
    whole = run(
        write_job(tmp_path / "whole", models["open_clip"], pairs, "lora", training), device="cpu", dtype="float32"
    )
    job = write_job(tmp_path / "killed", models["open_clip"], pairs, "lora", training)
    done = subprocess.run([sys.executable, "-c", KILLED, str(job)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [folder.name for folder in (job / "checkpoints").iterdir()] == ["epoch-0001"]
    events: list[Any] = []
    out = run(job, device="cpu", dtype="float32", progress=events.append)
    assert [one["epoch"] for one in events if "recall_at_10" in one] == [2, 3]
    # to rounding: another process lays its memory out otherwise, and products may end in other last digits
    torch.testing.assert_close(adapter_of(out), adapter_of(whole), rtol=1e-5, atol=1e-7)
    same = [{key: one[key] for key in ("epoch", "loss", "recall_at_10", "mrr")} for one in report_of(out)["history"]]
    assert same == [
        pytest.approx({key: one[key] for key in ("epoch", "loss", "recall_at_10", "mrr")}, rel=1e-5)
        for one in report_of(whole)["history"]
    ]
    files = {file.suffix for file in job.rglob("*") if file.is_file()}
    assert files <= {".safetensors", ".json", ".jsonl"}  # nothing is pickled


@pytest.mark.slow
def test_a_process_that_trains_loads_no_store() -> None:
    code = "import sys, coldstart.align.towers.job; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "'torch'" in loaded
    assert "'lance" not in loaded and "'pyarrow'" not in loaded


@pytest.mark.slow
def test_workers_change_nothing(models: dict[str, str], pairs: list[Example], tmp_path: Path) -> None:
    training = quick(epochs=1, augment=True)
    made = [
        adapter_of(
            run(
                write_job(tmp_path / f"{n}", models["open_clip"], pairs, "lora", training),
                device="cpu",
                dtype="float32",
                workers=n,
            )
        )
        for n in (0, 1)
    ]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=0)


def _gradients(rank: int, size: int, port: int, model: str, folder: str, kind: Any) -> None:
    import os

    from coldstart.align.towers.train import init_process_group

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    together, device = init_process_group("cpu")
    assert (together.rank, together.size, device.type) == (rank, size, "cpu")
    encoder: Any = encoders.load(model, device="cpu", dtype="float32")
    towers = Towers(encoder, kind, TowerTraining(last_blocks=1, r=4, seed=3), CPU, torch.float32)
    torch.manual_seed(4)
    towers.put({name: weight + 0.02 * torch.randn_like(weight) for name, weight in towers.copy().items()})
    trainer = Trainer(towers, torch.optim.SGD(towers.weights().values(), lr=0.0), together, CPU, 4)
    batch = _batch(encoder, slice(rank * 6, 11 if rank else 6))
    if rank:  # one that could not be read
        batch = Batch(batch.images[:-1], batch.texts[:-1], batch.groups[:-1], batch.places[:-1])
    towers.train(True)
    loss = trainer.step(batch, 6)
    torch.save({"loss": loss, **{n: w.grad for n, w in towers.weights().items()}}, f"{folder}/{rank}.pt")


def _batch(encoder: Any, rows: slice) -> Batch:
    noise = np.random.default_rng(0).integers(0, 256, (11, *encoder.image_transform.size, 3), dtype=np.uint8)
    words = [f"{above} {below}" for above in ("red", "blue", "a green") for below in ("shoe", "shirt", "x", "a b c d")]
    places = list(range(11))[rows]
    return Batch(torch.from_numpy(noise[rows]), words[:11][rows], torch.arange(11).clamp(min=1)[rows], places)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("open_clip", "lora"), ("siglip2", "last_blocks")])
def test_two_processes_have_the_gradients_of_one(name: str, kind: str, models: dict[str, str], tmp_path: Path) -> None:
    import socket

    from torch import multiprocessing

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_gradients, (2, port, models[name], str(tmp_path), kind), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    expected = one_step(models[name], kind, TowerTraining(last_blocks=1, r=4, seed=3), 64, examples=10)
    assert parts[0].pop("loss") == pytest.approx(parts[1].pop("loss"), rel=1e-5)
    torch.testing.assert_close(parts[0], expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(parts[1], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_accelerate_starts_the_processes_and_their_progress_comes_here(
    models: dict[str, str], pairs: list[Example], tmp_path: Path
) -> None:
    training = quick(epochs=1)
    events: list[Any] = []
    out = run(
        write_job(tmp_path / "two", models["open_clip"], pairs, "lora", training),
        device="cpu", dtype="float32", processes=2, progress=events.append,
    )  # fmt: skip
    report = report_of(out)
    assert (report["processes"], report["device"]) == (2, "cpu")
    assert [one["step"] for one in events if "step" in one] == [1, 2, 3, 4, 5]
    alone = run(
        write_job(tmp_path / "one", models["open_clip"], pairs, "lora", training), device="cpu", dtype="float32"
    )
    assert report["history"][0]["loss"] == pytest.approx(report_of(alone)["history"][0]["loss"], rel=1e-4)
    torch.testing.assert_close(adapter_of(out), adapter_of(alone), rtol=0, atol=2e-4)


@pytest.mark.slow
def test_a_process_that_fails_gives_its_reason(models: dict[str, str], pairs: list[Example], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    none = [replace(one, split="train", images=[replace(one.images[0], path=str(broken))]) for one in pairs[:10]]
    job = write_job(tmp_path / "job", models["open_clip"], none, "lora", quick(epochs=1))
    with pytest.raises(ColdstartError, match=r"no picture of the training items can be read; .*: unsupported_media"):
        run(job, device="cpu", dtype="float32", processes=2)
