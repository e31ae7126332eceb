"""Claim: a training step of CLIP's towers costs little more than the matrix products that it must do.

ViT-B/32 with random weights (speed does not depend on them) and short texts. Timed are whole steps, from uint8 pictures
and strings to changed weights: LoRA on all linear layers, and the last two blocks; in one piece, and in pieces with
cached gradients. The limit is the time of the base model's matrix products alone, in the same number format and the
same rounds: for LoRA each product once forwards and once back to its input; for the last blocks all forwards, and those
of the last blocks back to input and weights. On a CPU one thread is used, and its processor time is what counts.
"""

from __future__ import annotations

import json
import time
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from benchmarks.report import Row, against, ratio
from coldstart import encoders
from coldstart.align.settings import TowerKind, TowerTraining
from coldstart.align.towers.data import Batch
from coldstart.align.towers.model import Towers
from coldstart.align.towers.train import ProcessGroup, Trainer
from coldstart.core.device import choose_device, choose_dtype

ARCH = "ViT-B-32"
LAYERS, PATCHES, TOKENS, WIDTH, TEXT_WIDTH = 12, 49, 50, 768, 512
BLOCKS = 2
FEW = 3
WORDS = ["red", "shoe", "long", "sleeves", "cotton", "of", "small", "with", "blue", "shirt"]
KINDS: dict[str, TowerKind] = {"lora": "lora", "blocks": "last_blocks"}
Product = tuple[int, int, int]
"""Rows, numbers in, numbers out."""


def make_batch(size: int, encoder: Any) -> tuple[Batch, int]:
    """Pictures of noise and texts of ten words, and how many tokens those have."""
    random = np.random.default_rng(0)
    pictures = torch.from_numpy(random.integers(0, 256, (size, 224, 224, 3), dtype=np.uint8))
    texts = [" ".join(random.permutation(WORDS)) for _ in range(size)]
    return Batch(pictures, texts, torch.arange(size), list(range(size))), max(encoder.count_tokens(texts))


def block(rows: int, width: int) -> list[Product]:
    """The products of one transformer block."""
    return [
        (rows, width, 3 * width),
        (rows, width, width),
        (rows, width, 4 * width),
        (rows, 4 * width, width),
    ]


def limit(kind: str, size: int, tokens: int, micro_batch: int, dtype: torch.dtype, device: torch.device) -> float:
    """Pairs a second of the products alone, done in pieces of `micro_batch` pairs."""
    count = min(size, micro_batch)
    towers = [block(count * TOKENS, WIDTH), block(count * tokens, TEXT_WIDTH)]
    patches = [(count * PATCHES, 32 * 32 * 3, WIDTH)]
    seconds = sum(_seconds(one, LAYERS, "forward", dtype, device) for one in towers)
    seconds += _seconds(patches, 1, "forward", dtype, device)
    for one in towers:
        if kind == "lora":
            seconds += _seconds(one, LAYERS, "to input", dtype, device)
        else:
            seconds += _seconds(one, BLOCKS, "to input", dtype, device) + _seconds(
                one, BLOCKS, "to weights", dtype, device
            )
    return count / seconds


def _seconds(products: list[Product], layers: int, way: str, dtype: torch.dtype, device: torch.device) -> float:
    """Of all products of so many layers, which take turns with a few weights, so that none is hot in the cache."""
    total = 0.0
    with torch.inference_mode():
        for rows, wide, out in products:
            given = torch.randn(rows, wide, device=device).to(dtype)
            upper = torch.randn(rows, out, device=device).to(dtype)
            few = [torch.randn(out, wide, device=device).to(dtype) for _ in range(min(layers, FEW))]
            for timed in (False, True):
                began = _now(device)
                for weight in islice(cycle(few), layers if timed else len(few)):
                    if way == "forward":
                        torch.nn.functional.linear(given, weight)
                    elif way == "to input":
                        upper @ weight
                    else:
                        upper.T @ given
                total += timed * (_now(device) - began)
    return total


def _now(device: torch.device) -> float:
    """Seconds: of the clock on a GPU when it has caught up; of the processor elsewhere, as others share the machine."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def step_rate(trainer: Trainer, batch: Batch, micro_batch: int) -> float:
    """Pairs a second of one step."""
    trainer.micro_batch = micro_batch
    began = _now(trainer.device)
    loss = trainer.step(batch, len(batch.places))
    assert loss is not None
    return len(batch.places) / (_now(trainer.device) - began)


def run(short: bool) -> dict[str, Any]:
    """Pairs a second of each contender, a list with one figure a round."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(short)
    finally:
        torch.set_num_threads(threads)


def _run(short: bool) -> dict[str, Any]:
    device = choose_device()
    dtype = choose_dtype(device)
    dtype = torch.float32 if dtype == torch.float16 else dtype
    size, rounds = (8, 2) if short else (32, 5)
    if device.type == "cuda":
        size *= 16
    pieces = (size, size // 2, size // 4)
    encoder: Any = encoders.load(f"open_clip:{ARCH}", device="cpu", allow_random_weights=True)
    batch, tokens = make_batch(size, encoder)
    trainers = {}
    for name, kind in KINDS.items():
        towers = Towers(encoder, kind, TowerTraining(last_blocks=BLOCKS), device, dtype)
        towers.train(True)
        optimiser = torch.optim.AdamW(towers.weights().values(), lr=1e-6)
        trainers[name] = Trainer(towers, optimiser, ProcessGroup(), device, size)
        step_rate(trainers[name], batch, size)
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, trainer in trainers.items():
            figures.setdefault(f"{kind} limit", []).append(limit(kind, size, tokens, size, dtype, device))
            for micro_batch in pieces:
                figures.setdefault(f"{kind} {micro_batch}", []).append(step_rate(trainer, batch, micro_batch))
    return {"size": size, "tokens": tokens, "dtype": str(dtype), "device": str(device), **figures}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    size = result["size"]
    setting = f"ViT-B/32, {size} pairs, {result['tokens']} tokens, {result['dtype']}, {result['device']}"
    lines = []
    for kind, name in (("lora", "LoRA"), ("blocks", f"last {BLOCKS} blocks")):
        whole = result[f"{kind} {size}"]
        lines.append(
            against("limit", f"training step, {name}, against its GEMM limit", setting, whole, result[f"{kind} limit"])
        )
        for pieces in (2, 4):
            figure = ratio(whole, result[f"{kind} {size // pieces}"])
            lines.append(Row(f"Time with gradients cached in {pieces} pieces to time in one, {name}", setting, *figure))
    lines.append(
        Row("Pairs a second, last 2 blocks to LoRA", setting, *ratio(result[f"blocks {size}"], result[f"lora {size}"]))
    )
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
