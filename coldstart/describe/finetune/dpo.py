"""Preference pairs, and an adapter that goes on from them: direct preference optimisation (Rafailov et al. 2023).

Two texts of one prompt teach which is better; the adapter as it was is the reference that holds the new one back. The
loss pays for length where the better texts are longer, so pairs are of one length and what the model writes is measured
while it learns. Runs in one process, on text, through TRL's `DPOTrainer`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from coldstart.core.progress import Progress
from coldstart.describe.finetune.base_model import load_base, suppress_output
from coldstart.describe.finetune.sft import (
    ADAPTER,
    checkpointing_arguments,
    last_complete_checkpoint,
    save_adapter,
    sft_dtype,
)
from coldstart.describe.finetune.training import DpoSettings
from coldstart.errors import ColdstartError
from coldstart.generators import _chat_template

_MEASURED_PROMPTS = 8
"""Prompts whose greedy answers are measured."""
_EVALUATIONS = 4


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `system` and `prompt` as a `Request` has them."""

    item_id: str
    system: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class DpoResult:
    """What a training made.

    Attributes:
        folder: holds `adapter/`.
        steps: done.
        history: of each look its `step`, `seconds`, `loss`, `margin` (of the implicit rewards) and `accuracy` (share of
            pairs whose better text is preferred).
        length_before, length: mean tokens of what the model writes to some of the prompts, before and at the end.
        stopped: because texts grew by more than `max_growth`; the adapter is then that of the last look before.
    """

    folder: Path
    steps: int
    pairs: int
    length_before: float
    length: float
    stopped: bool
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)

    def files(self) -> dict[str, bytes]:
        """The adapter's files by name, `adapter/…`."""
        return {f"{ADAPTER}/{path.name}": path.read_bytes() for path in sorted((self.folder / ADAPTER).iterdir())}


def choose_pair(
    texts: Sequence[str], scores: Sequence[float], *, margin: float = 0.1, slack: float = 0.2
) -> tuple[int, int] | None:
    """Places of the best and the worst of several texts to one prompt; None where they teach nothing.

    The worst is the one of the lowest score among those at least `margin` below the best and as long as it, give or
    take the share `slack` of its characters. Of equal scores the first counts.

    Raises:
        ValueError: there are not as many scores as texts.
    """
    if len(texts) != len(scores):
        raise ValueError(f"{len(texts)} texts and {len(scores)} scores")
    if not texts:
        return None
    best = max(range(len(texts)), key=lambda place: scores[place])
    size = len(texts[best])
    worse = [
        place
        for place, text in enumerate(texts)
        if scores[place] <= scores[best] - margin and abs(len(text) - size) <= slack * size and text != texts[best]
    ]
    return (best, min(worse, key=lambda place: scores[place])) if worse else None


def train_dpo(
    pairs: Sequence[Pair],
    base: str,
    adapter: Path,
    settings: DpoSettings,
    *,
    seed: int = 0,
    device: torch.device,
    dtype: str = "auto",
    folder: Path,
    progress: Progress | None = None,
    name: str = "finetune.describe",
) -> DpoResult:
    """Go on from an adapter with preferences; killed and called again, it goes on from its last checkpoint.

    Args:
        base: what the adapter was learnt on.
        adapter: folder of peft's two files; it stays as it is.
        seed: of the order of pairs and of dropout.
        folder: the training's own; what another left there is dropped.
        progress: `meter(name, total)` counts pairs.

    Raises:
        ColdstartError: there are no pairs, or the base is not here.
    """
    if not pairs:
        raise ColdstartError(f"{name}: no preference pairs: no item's best and worst text differ by enough")
    narrow = sft_dtype(device, dtype)
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    asked = [[asdict(one) for one in pairs], base, settings.counted(), seed, str(narrow), sha256(weights).hexdigest()]
    job = sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    note = folder / "job.json"
    if not note.is_file() or json.loads(note.read_bytes()) != {"job": job}:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note.write_text(json.dumps({"job": job}), "utf-8")
    began = time.perf_counter()
    with suppress_output(seed, device):
        trainer, model, lengths = _build_trainer(
            pairs, base, adapter, settings, seed, device, narrow, folder, progress, name
        )
        trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder / "checkpoints"))
        save_adapter(model, folder / ADAPTER)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    names = {"loss": "loss", "step": "step", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
    history = [
        {names[key]: value for key, value in entry.items() if key in names}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return DpoResult(
        folder,
        trainer.state.global_step,
        len(pairs),
        lengths.before,
        lengths.now,
        lengths.stopped,
        time.perf_counter() - began,
        history,
    )


def _build_trainer(
    pairs: Sequence[Pair],
    base: str,
    adapter: Path,
    settings: DpoSettings,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    folder: Path,
    progress: Progress | None,
    name: str,
) -> tuple[Any, Any, Any]:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PrinterCallback, ProgressCallback
    from trl import DPOConfig

    from coldstart.describe.finetune._trl import AnswerLengths, PairProgress, PairTrainer

    loaded = load_base(base, device, dtype)
    model = PeftModel.from_pretrained(loaded.model, str(adapter), is_trainable=True)
    model.peft_config["default"].base_model_name_or_path = None
    tokenizer = loaded.tokenizer
    rows = [
        {
            "prompt_ids": _chat_template.prompt_ids(tokenizer, pair.system, pair.prompt),
            "chosen_ids": _chat_template.completion_ids(tokenizer, pair.chosen),
            "rejected_ids": _chat_template.completion_ids(tokenizer, pair.rejected),
        }
        for pair in pairs
    ]
    at_once = min(settings.micro_batch, settings.batch_size)
    gathered = max(1, settings.batch_size // at_once)
    every = max(1, round(len(rows) / (at_once * gathered) / _EVALUATIONS))
    args = DPOConfig(
        output_dir=str(folder / "checkpoints"),
        beta=settings.beta,
        learning_rate=settings.lr,
        num_train_epochs=settings.epochs,
        warmup_steps=settings.warmup,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=gathered,
        max_length=None,
        bf16=dtype == torch.bfloat16,
        **checkpointing_arguments(DPOConfig, settings.gradient_checkpointing),
        logging_steps=1,
        save_steps=every,
        save_total_limit=1,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        optim="adamw_torch",
    )
    if args.n_gpu > 1:
        args._n_gpu = 1
    made = PairTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    made.remove_callback(PrinterCallback)
    made.remove_callback(ProgressCallback)
    lengths = AnswerLengths(rows[:_MEASURED_PROMPTS], tokenizer, every, settings.max_growth)
    made.add_callback(lengths)
    if progress is not None:
        made.add_callback(PairProgress(progress, name, len(rows) * settings.epochs, at_once * gathered))
    return made, model, lengths
