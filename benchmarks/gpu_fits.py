"""Claim: all fits run on a GPU: alignment, towers, LoRA of descriptions, ranking, recall.

    python -m benchmarks --full gpu_fits

Short forms of the fits that compute by torch, on the device that the plain commands would choose: heads of
`finetune align` on made pairs, one step of LoRA on CLIP's towers (random weights), LoRA steps of `finetune describe` on
the starter's language model, and `finetune rank` and `finetune recall` in a made workspace. Each gives its seconds, the
peak of GPU memory, which is 0 where nothing was computed there, and one figure that shows that it learnt. Without a GPU
it runs in small form on the processor and says so: that tests the script and measures nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import align_100k, gpu, lora_tokens, towers
from benchmarks.report import CACHE, Row
from coldstart import encoders
from coldstart.align.settings import HeadTraining, TowerTraining
from coldstart.align.towers.model import Towers
from coldstart.align.towers.train import ProcessGroup, Trainer
from coldstart.align.train_heads import fit, new_heads
from coldstart.core.device import choose_device, choose_dtype
from coldstart.describe.finetune import sft
from coldstart.rank.settings import RANK, with_rank

DAY, START = 86_400, 1_700_006_400
Fit = Callable[[torch.device, bool], dict[str, Any]]


def heads(device: torch.device, small: bool) -> dict[str, Any]:
    """Heads over frozen towers; the mean reciprocal rank on held-out pairs."""
    items, valid = (600, 100) if small else (50_000, 2_000)
    pairs = align_100k.made(items + valid)
    training = HeadTraining(epochs=2 if small else 5, patience=0, batch_size=128 if small else 512)
    start = new_heads(training, align_100k.IMAGE, align_100k.TEXT)
    train, held_out = pairs.take(np.arange(items)), pairs.take(np.arange(items, items + valid))
    found = fit(train, held_out, start, training, device=device)
    return {"items": items, "learnt": f"MRR {found.history[-1].mrr:.3f} of {valid}"}


def tower_steps(device: torch.device, small: bool) -> dict[str, Any]:
    """Steps of LoRA on CLIP's towers; pairs a second of the last step."""
    dtype = choose_dtype(device)
    arch, size, steps = ("ViT-S-32-alt", 2, 1) if small else ("ViT-B-32", 512, 10)
    encoder: Any = encoders.load(f"open_clip:{arch}", device="cpu", allow_random_weights=True)
    batch, _ = towers.make_batch(size, encoder)
    model = Towers(encoder, "lora", TowerTraining(), device, torch.float32 if dtype == torch.float16 else dtype)
    model.train(True)
    trainer = Trainer(model, torch.optim.AdamW(model.weights().values(), lr=1e-4), ProcessGroup(), device, size)
    losses = [trainer.step(batch, size) for _ in range(steps)]
    assert None not in losses
    rate = towers.step_rate(trainer, batch, size)
    return {"items": size, "learnt": f"loss {losses[0]:.3f} to {losses[-1]:.3f}, {rate:.0f} pairs/s"}


def lora_steps(device: torch.device, small: bool) -> dict[str, Any]:
    """LoRA of the language model on made descriptions; tokens a second of the last pass."""
    count, passes = (4, 1) if small else (256, 3)
    with tempfile.TemporaryDirectory() as name:
        examples = lora_tokens.make_examples(count)
        trainer = lora_tokens.packed(examples, device, sft.sft_dtype(device, "auto"), Path(name))
        weights = [one for one in trainer.peft.parameters() if one.requires_grad]
        before = [one.detach().clone() for one in weights]
        tokens = sum(int((batch["labels"] >= 0).sum()) for batch in trainer.batches)
        rates = [trainer.rate(tokens) for _ in range(passes)]
    moved = sum(float((one.detach() - was).abs().sum()) for one, was in zip(weights, before, strict=True))
    assert moved > 0 and all(bool(one.isfinite().all()) for one in weights), "the weights do not move, or not finitely"
    return {"items": count, "learnt": f"weights moved, {rates[-1]:.0f} learnt tokens/s"}


def rankers(device: torch.device, small: bool) -> dict[str, Any]:
    """The ranker of showings of `finetune rank`: attention, and on a GPU the long network; log loss on the latest."""
    opened = workspace(device, small)
    overrides = [f"engine.device={device}", *(["rank.epochs=1", "rank.dim=8"] if small else [])]
    losses = {}
    for model in ("attention",) if small else ("attention", "long"):
        raw, changes = with_rank(opened.pipeline(None), events={"click": 1.0}, model=model)
        opened.run(raw, overrides=[*changes, *overrides], only=[RANK], refit=True)
        losses[model] = opened.fit_report("rank")["log_loss"][model]
    found = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    return {"items": len(opened.items()), "learnt": f"log loss {found}"}


def recall(device: torch.device, small: bool) -> dict[str, Any]:
    """`finetune recall`; NDCG@10 of the better channel on held-out items."""
    opened = workspace(device, small)
    overrides = ["recall.epochs=2", "recall.dim=16"] if small else ["recall.epochs=20"]
    opened.finetune_recall(overrides=[*overrides, f"engine.device={device}"])
    report = opened.fit_report("recall")
    found = report["held_out"][report["auto"]]
    return {"items": len(opened.items()), "learnt": f"NDCG@10 of {report['auto']} {found['ndcg@10']['value']:.3f}"}


FITS: dict[str, Fit] = {
    "align, heads": heads,
    "align, LoRA on towers": tower_steps,
    "describe, LoRA": lora_steps,
    "rank": rankers,
    "recall": recall,
}


def workspace(device: torch.device, small: bool) -> Any:
    """A made workspace with vectors of texts, interactions that can be learnt, and showings; made once a run."""
    import coldstart

    folder = CACHE / "gpu_fits"
    if (folder / "done").exists():
        return coldstart.open(folder / "workspace")
    items, users = (84, 80) if small else (5_000, 10_000)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shelf = [f"shelf {number % 7}" for number in range(items)]
    records = [
        {"item_id": f"p{number}", "kind": "product", "title": f"article {number} of {own}", "category": own}
        for number, own in enumerate(shelf)
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    stages = {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:64", "input": "text"}, "index": {}}
    engine = {"device": str(device), "workers": 1}
    opened = coldstart.open(folder / "workspace", create=True)
    opened.run({"manifest": str(folder / "items.jsonl"), "engine": engine, "stages": stages})
    random = np.random.default_rng(0)
    met, shown = [], []
    for user in range(users):
        walk = [(user * 5 + 7 * step) % items for step in range(8)]  # what follows can be learnt
        met += [
            {"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": START + DAY * step, "event": "like"}
            for step, item in enumerate(walk)
        ]
        for place, item in enumerate(random.integers(0, items, 40)):
            at = START + DAY * (9 + place % 6) + int(random.integers(0, DAY))
            clicked = int(random.random() < (0.6 if shelf[item] == shelf[walk[-1]] else 0.2))
            shown.append({"user_id": f"u{user}", "item_id": f"p{item}", "timestamp": at, "click": clicked})
    for name, rows in (("met", met), ("shown", shown)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    opened.ingest_interactions(folder / "met.jsonl")
    opened.ingest_impressions(folder / "shown.jsonl", signals={"click": ""})
    (folder / "done").touch()
    return opened


def run(short: bool) -> dict[str, Any]:
    """Every fit once; one that fails is named with its error, and the others go on."""
    device = choose_device()
    small, threads = device.type != "cuda", torch.get_num_threads()
    torch.set_num_threads(1 if small else threads)  # of a shared machine several threads wait for one another
    shutil.rmtree(CACHE / "gpu_fits", ignore_errors=True)
    found: dict[str, Any] = {"machine": gpu.machine(device), "small": small, "fits": {}}
    for name, one in FITS.items():
        gpu.peak(device)  # counts anew
        began = time.perf_counter()
        try:
            own = one(device, small or short)
        except Exception as error:
            own = {"failed": f"{type(error).__name__}: {error}"[:300]}
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found["fits"][name] = {**own, "seconds": time.perf_counter() - began, "peak_gb": gpu.peak(device)}
    torch.set_num_threads(threads)
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    about = result["machine"]
    where = about.get("name", gpu.NEVER)
    lines = []
    for name, own in result["fits"].items():
        claim, setting = f"fit on the device: {name}", f"{own.get('items', '?')} items, {where}"
        if "failed" in own:
            lines.append(Row(claim, setting, "failed", own["failed"]))
            continue
        memory = f"{own['peak_gb']:.2f} GB of {'GPU memory' if not result['small'] else 'the process'}"
        lines.append(Row(claim, setting, f"{own['seconds']:.1f} s", f"{own['learnt']}; {memory}"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
