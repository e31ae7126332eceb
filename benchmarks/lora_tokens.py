"""Claim: LoRA of `coldstart.describe.finetune.lora` reads more tokens a second than a plain `Trainer` with padding.

The starter model on short examples of unequal length, such as products have. The contender is transformers' own
`Trainer` with the same LoRA, peft as it comes, eight examples a batch padded to the longest, and its own loss over all
positions; both in the number format that the machine does well. Counted are the examples' own tokens, prompts
included, and the seconds of the steps alone, in rounds that take turns. On a CPU one thread is used, and its processor
time is what counts, since others share the machine.

The limit is the time of the base's matrix products alone, at as many rows as a packed row has: each linear layer once
forwards and once back to its input (4 N operations a token, N the numbers of the linear layers), and the output layer
for the share of tokens that are learnt. What LoRA itself adds, attention and all that is done element by element are
not in the limit.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from contextlib import nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import Row, against
from coldstart.core.device import choose_device
from coldstart.describe.finetune import _trl, sft
from coldstart.describe.finetune.training import Example, LoraSettings
from coldstart.generators._base_model import load_base, suppress_output

PADDED_AT_ONCE = 8
PACK = 512
LAYERS, WIDTH, GROUPS, INNER, VOCABULARY = 30, 576, 192, 1536, 49152
PRODUCTS = (
    *((WIDTH, WIDTH), (WIDTH, GROUPS), (WIDTH, GROUPS), (WIDTH, WIDTH)),
    *((WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH)),
)
"""Numbers in and out of the linear layers of one block."""
WORDS = [
    *("red", "shoe", "cotton", "shirt", "long", "sleeves", "small", "pocket", "men"),
    *("blue", "watch", "steel", "strap", "women", "bag", "leather", "summer"),
]


def make_examples(count: int) -> list[Example]:
    """Titles of 3 to 40 words, and the JSON of a description."""
    draw = random.Random(0)
    made = []
    for place in range(count):
        title = " ".join(draw.choices(WORDS, k=draw.randint(3, 40)))
        told = {"attributes": {"type": draw.choice(WORDS), "colour": draw.choice(WORDS)}, "summary": f"{title[:40]}."}
        made.append(Example(f"p{place}", "You describe products as JSON.", f"Title: {title}", json.dumps(told)))
    return made


def seconds(device: torch.device) -> float:
    """Of the clock on a GPU when it has caught up; of the processor elsewhere."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class Contender:
    """One trainer and its batches; `rate` trains on all of them once."""

    def __init__(self, trainer: Any, model: Any, device: torch.device, *, narrow: bool) -> None:
        self.trainer, self.device, self.narrow = trainer, device, narrow
        trainer.current_gradient_accumulation_steps = 1
        self.peft = model
        self.model = trainer.accelerator.prepare_model(model)
        self.batches = list(trainer.get_train_dataloader())
        self.optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-5)

    def rate(self, tokens: int) -> float:
        """The examples' tokens a second."""
        self.model.train()
        began = seconds(self.device)
        with sft.keep_narrow_inputs(self.peft, self.trainer) if self.narrow else nullcontext():
            for batch in self.batches:
                self.trainer.training_step(self.model, dict(batch))
                self.optimiser.step()
                self.optimiser.zero_grad()
        return tokens / (seconds(self.device) - began)


def packed(examples: list[Example], device: torch.device, dtype: torch.dtype, folder: Path) -> Contender:
    """The product's own trainer."""
    settings = LoraSettings(pack_tokens=PACK, batch_tokens=PACK)
    base = load_base("starter", device, dtype)
    model = sft.with_lora(base, settings)
    rows = sft.TrainingRows.of(base, examples, [], settings, None)
    return Contender(
        sft.build_trainer(base, model, rows, settings, device, folder, None, "benchmark"), model, device, narrow=True
    )


def padded(examples: list[Example], device: torch.device, dtype: torch.dtype, folder: Path) -> Contender:
    """transformers' `Trainer` as anyone would write it."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    base = load_base("starter", device, dtype)
    model = sft.with_lora(base, LoraSettings())
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=PADDED_AT_ONCE,
        bf16=dtype == torch.bfloat16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        report_to=[],
        disable_tqdm=True,
    )
    rows = [sft.example_row(base.tokenizer, one) for one in examples]
    collate = DataCollatorForSeq2Seq(base.tokenizer, padding=True)
    trainer = Trainer(model=model, args=args, train_dataset=rows, data_collator=collate)
    return Contender(trainer, model, device, narrow=False)


def limit(learnt: float, device: torch.device, dtype: torch.dtype) -> float:
    """Tokens a second of the base's products alone; `learnt`: share of tokens that have a loss."""
    began, spent = 0.0, 0.0
    shapes = [(PACK, one, LAYERS) for one in PRODUCTS] + [(round(PACK * learnt), (WIDTH, VOCABULARY), 1)]
    with torch.inference_mode():
        for count, (wide, out), layers in shapes:
            given = torch.randn(count, wide, device=device).to(dtype)
            upper = torch.randn(count, out, device=device).to(dtype)
            few = [torch.randn(out, wide, device=device).to(dtype) for _ in range(min(layers, 3))]
            for timed in (False, True):
                began = seconds(device)
                for weight in islice(cycle(few), layers if timed else len(few)):
                    torch.nn.functional.linear(given, weight)
                    upper @ weight
            spent += seconds(device) - began
    return PACK / spent


def run(short: bool) -> dict[str, Any]:
    """Tokens a second of each contender, a list with one figure a round."""
    threads = torch.get_num_threads()
    device = choose_device()
    dtype = sft.sft_dtype(device, "auto")
    count, rounds = (16, 2) if short else (48, 5)
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as name, suppress_output(0, device):
            examples = make_examples(count)
            ours, theirs = (make(examples, device, dtype, Path(name) / make.__name__) for make in (packed, padded))
            labels = [label for batch in theirs.batches for label in batch["labels"].flatten().tolist()]
            masks = [int(batch["attention_mask"].sum()) for batch in theirs.batches]
            tokens, places = sum(masks), sum(batch["input_ids"].numel() for batch in theirs.batches)
            learnt = sum(label != _trl.IGNORED_LABEL for label in labels) / tokens
            figures: dict[str, list[float]] = {"packed": [], "padded": [], "limit": []}
            for turn in range(rounds + 1):
                found = {
                    "limit": limit(learnt, device, dtype),
                    "packed": ours.rate(tokens),
                    "padded": theirs.rate(tokens),
                }
                if turn:  # the first warms up
                    for key, value in found.items():
                        figures[key].append(value)
    finally:
        torch.set_num_threads(threads)
    about = {"examples": count, "tokens": tokens, "padding": 1 - tokens / places, "learnt": learnt}
    return {**about, "dtype": str(dtype).removeprefix("torch."), "device": str(device), **figures}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    mean = result["tokens"] / result["examples"]
    setting = (
        f"SmolLM2-135M, {result['examples']} examples of {mean:.0f} tokens, {result['learnt']:.0%} learnt, "
        f"{result['padding']:.0%} padding, {result['dtype']}, {result['device']}"
    )
    rate = sorted(result["packed"])[len(result["packed"]) // 2]
    return [
        against(
            "peer",
            "LoRA tokens/s, packed, to a plain Trainer with padding",
            f"{setting}; {rate:.0f} tokens/s",
            result["packed"],
            result["padded"],
            "≥ 1.5",
        ),
        against(
            "limit",
            "LoRA tokens/s to the GEMM limit",
            f"{setting}; 4N operations",
            result["packed"],
            result["limit"],
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
