"""Claim: on a GPU, encoders and `coldstart embed` come near a bare loop over tensors that are already there.

    python -m benchmarks --full gpu

For ViT-L/14 and SigLIP (random weights: speed does not depend on them): pictures a second of the model alone on
resident tensors, timed by CUDA events after 20 batches of warm-up, batch size doubled until it gains less than 3 %; of
the same model by `torch.compile`, which encoders do not use: this tells whether they should; of
`encode_images` from uint8 arrays in memory to vectors in memory; and of the embed stage from JPEG files to committed
rows, on one GPU and on all. Then tokens a second of descriptions, peak memory, and which fraction of a measured matrix
product in the same format the model reaches. `COLDSTART_GPU_GENERATOR=hf:FOLDER` names another generator than the
starter. Without a GPU it runs in small form on the processor and says so: that tests the script and measures nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.describe_tokens import NEW, SYSTEM, titles
from benchmarks.embed_clip import make_jpegs
from benchmarks.report import CACHE, Row, ratio
from coldstart import encoders, generators
from coldstart.core import pipeline
from coldstart.core.device import choose_device, choose_dtype
from coldstart.engine.run import run_pipeline
from coldstart.generators import Generation, Request, Sampling
from coldstart.store import Store

MODELS = {"ViT-L/14": "ViT-L-14", "SigLIP B/16": "ViT-B-16-SigLIP"}
SMALL = {"ViT-S/32": "ViT-S-32"}
NEVER = "never run on a GPU: on a processor the script alone is tested"
WARM_UP = 20
PLATEAU = 1.03
ASKED = "name,pstate,power.draw,power.limit,clocks.sm,clocks.max.sm,clocks_throttle_reasons.active,temperature.gpu"


def machine(device: torch.device) -> dict[str, Any]:
    """What figures depend on; of the GPUs what nvidia-smi says, a line each."""
    found: dict[str, Any] = {"device": device.type, "torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type == "cuda":
        found |= {"name": torch.cuda.get_device_name(device), "gpus": torch.cuda.device_count()}
        if smi := shutil.which("nvidia-smi"):
            command = [smi, f"--query-gpu={ASKED}", "--format=csv,noheader"]
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            found["nvidia_smi"] = {"asked": ASKED, "said": said.stdout.strip().splitlines()}
    return found


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds that one of `repeats` calls in a row takes on the device."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1e3 / repeats
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one large square product."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    return 2.0 * size**3 / timed(lambda: left @ right, device, 20 if device.type == "cuda" else 5)


def rate(
    encode: Callable[[torch.Tensor], Any], size: int, side: int, device: torch.device, dtype: torch.dtype, warm_up: int
) -> float:
    """Pictures a second of a function over a batch of tensors that are there."""
    pixels = torch.randn(size, 3, side, side, device=device, dtype=dtype)
    pixels = pixels.to(memory_format=torch.channels_last)  # as the encoders lay them out
    with torch.inference_mode():
        for _ in range(warm_up):
            encode(pixels)
        return size / timed(lambda: encode(pixels), device, max(3, warm_up))


def resident(
    model: Any, side: int, device: torch.device, dtype: torch.dtype, sizes: list[int], warm_up: int
) -> dict[str, Any]:
    """Pictures a second of the model alone at each batch size up to the plateau, the size there, and its operations a
    picture."""
    rates: dict[int, float] = {}
    for size in sizes:
        rates[size] = rate(model.encode_image, size, side, device, dtype, warm_up)
        if len(rates) > 1 and rates[size] < PLATEAU * max(rate for other, rate in rates.items() if other != size):
            break
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model.encode_image(torch.randn(1, 3, side, side, device=device, dtype=dtype))
    best = max(rates, key=rates.__getitem__)
    return {"rates": rates, "batch": best, "operations": counter.get_total_flops()}


def encoded(encoder: encoders.Encoder, batch: int, batches: int, warm_up: int) -> float:
    """Pictures a second of `encode_images`: arrays in memory to vectors in memory, so that each batch ends complete."""
    height, width = encoder.image_transform.size if encoder.image_transform else (224, 224)
    pictures = list(np.random.default_rng(0).integers(0, 255, (batch, height, width, 3), dtype=np.uint8))
    for _ in range(warm_up):
        encoder.encode_images(pictures)
    began = time.perf_counter()
    for _ in range(batches):
        encoder.encode_images(pictures)
    return batch * batches / (time.perf_counter() - began)


def embedded(name: str, count: int, batch: int, device: torch.device, devices: int | str) -> dict[str, float]:
    """Pictures a second of the embed stage, JPEG files to committed rows, whole and after its start; share waited."""
    manifest = make_jpegs(count)
    folder = CACHE / "gpu.workspace"
    shutil.rmtree(folder, ignore_errors=True)
    image = {"stage": "embed", "encoder": name, "batch_size": batch, "allow_random_weights": True}
    engine = {"device": device.type, "devices": devices}
    loaded = pipeline.load({"engine": engine, "stages": {"ingest": {}, "image": image}}, manifest=manifest)
    ran = run_pipeline(Store(folder, create=True), loaded).stages[1].ran
    assert ran.done == count, f"{ran.done} of {count} pictures embedded"
    working = ran.seconds - ran.start_s
    return {
        "rate": count / ran.seconds,
        "working_rate": count / working,
        "waited": (ran.wait_s - ran.start_s) / working,
        "start_s": ran.start_s,
    }


def described(name: str, sizes: list[int], device: torch.device) -> dict[str, Any]:
    """Tokens a second of texts written by so many at once; the first batch of all is warm-up."""
    generator = generators.load(name, device=str(device), dtype="auto")
    wanted = max(sizes)
    requests = [Request(f"Title: {title}", system=SYSTEM) for title in titles(wanted)]
    requests = (requests * (1 + wanted // max(len(requests), 1)))[:wanted]
    generator.generate(requests[:1], Sampling(8))
    rates = {}
    for size in sizes:
        began = time.perf_counter()
        found = generator.generate(requests[:size], Sampling(NEW))
        tokens = sum(one.new_tokens for one in found if isinstance(one, Generation))
        rates[size] = tokens / (time.perf_counter() - began)
    return {"generator": name, "tokens_per_s": rates}


def peak(device: torch.device) -> float:
    """GB that tensors took at most since the last call; on the processor, what the process has now."""
    if device.type != "cuda":
        return float(psutil.Process().memory_info().rss / 1e9)
    taken = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return float(taken)


def run(short: bool) -> dict[str, Any]:
    """All figures; models by name."""
    device = choose_device()
    dtype = choose_dtype(device)
    there = device.type == "cuda"
    models = MODELS if there else SMALL
    sizes = ([64, 128, 256, 512, 1024] if there else [4, 8])[: 2 if short else None]
    warm_up, rounds, count = (WARM_UP if there else 1), (1 if short else 3), ((500 if short else 5000) if there else 24)
    found: dict[str, Any] = {"machine": machine(device), "dtype": str(dtype), "pictures": count, "models": {}}
    for label, arch in models.items():
        name = f"open_clip:{arch}"
        encoder: Any = encoders.load(name, device=str(device), dtype="auto", allow_random_weights=True)
        side = encoder.image_transform.size[0]
        bare = encoder.open_model().to(device, dtype).eval()
        swept = resident(bare, side, device, dtype, sizes, warm_up)
        figures: dict[str, Any] = {
            "swept": swept,
            "bare": [],
            "compiled": [],
            "encoder": [],
            "matrix": [],
            "embed": [],
            "embed_all": [],
        }
        batch, batches = swept["batch"], 20 if there else 2
        compiled = torch.compile(bare.encode_image, backend="inductor" if there else "eager", dynamic=False)
        for _ in range(rounds):
            figures["matrix"].append(matrix_rate(device, dtype) / swept["operations"])
            figures["bare"].append(rate(bare.encode_image, batch, side, device, dtype, warm_up))
            figures["compiled"].append(rate(compiled, batch, side, device, dtype, warm_up))
            figures["encoder"].append(encoded(encoder, batch, batches, warm_up))
            figures["embed"].append(embedded(name, count, batch, device, 1))
            if not there or torch.cuda.device_count() > 1:
                figures["embed_all"].append(embedded(name, count, batch, device, "all"))
        figures["peak_gb"] = peak(device)
        found["models"][label] = figures
        del bare, encoder
    writer = os.environ.get("COLDSTART_GPU_GENERATOR", "starter")
    found["described"] = described(writer, [1, 16, 64, 256] if there and not short else [1, 4], device)
    found["described"]["peak_gb"] = peak(device)
    found["machine_after"] = machine(device)
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    about = result["machine"]
    where = about.get("name", NEVER)
    lines = []
    for label, found in result["models"].items():
        batch, bare = found["swept"]["batch"], found["bare"]
        setting = f"{label}, batch {batch}, {result['dtype']}, {where}"
        lines += [
            Row("model on resident tensors against its matrix products", setting, *ratio(bare, found["matrix"]), ""),
            Row("`torch.compile` of the model against the model", setting, *ratio(found["compiled"], bare), ""),
            Row("`encode_images` against resident tensors", setting, *ratio(found["encoder"], bare), ""),
            *_embedded("`coldstart embed` against resident tensors", setting, found["embed"], bare),
            *_embedded("`coldstart embed` on all devices against one", setting, found["embed_all"], found["embed"]),
        ]
    tokens = result["described"]
    best = max(tokens["tokens_per_s"].items(), key=lambda pair: float(pair[1]))
    setting = f"{tokens['generator']}, {best[0]} at once, {where}"
    lines.append(Row("tokens a second of descriptions", setting, f"{best[1]:.0f}", ""))
    return lines


def _embedded(claim: str, setting: str, runs: list[dict[str, float]], against: list[Any]) -> list[Row]:
    if not runs:
        return []
    rates = [run["working_rate"] for run in runs]
    others = [one["working_rate"] if isinstance(one, dict) else one for one in against]
    return [Row(claim, f"{setting}, after the start", *ratio(rates, others), "")]


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
