"""Choose preference pairs and train an adapter on them: direct preference optimisation (Rafailov et al. 2023).

A pair is a better and a worse text of one prompt; the adapter before the training is the reference. The loss rewards
length where the better texts are longer, so pairs are of like length and the length of greedy answers is measured
during the training. Runs in one process, on text, with TRL's `DPOTrainer`.
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
from coldstart.generators._base_model import load_base, suppress_output
from coldstart.generators._local import WEIGHTS
from coldstart.models.adapters import read_lora_config

_MEASURED_PROMPTS = 8
"""Number of prompts whose greedy answers are measured."""
_EVALUATIONS = 4


@dataclass(frozen=True)
class Pair:
    """Preference pair: two answers to one prompt; `system` and `prompt` as in a `Request`."""

    item_id: str
    system: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class DpoResult:
    """Adapter of a DPO training, and its figures.

    Attributes:
        folder: holds `adapter/`.
        steps: done.
        history: of each step its `step`, `loss`, `margin` (of the implicit rewards) and `accuracy` (share of
            pairs whose better text is preferred).
        length_before, length: mean tokens of greedy answers to some of the prompts, before and at the end.
        stopped: True where answers grew by more than `max_growth`; the adapter is then that of the measurement before.
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
        """Return the adapter's files by path, `adapter/…`."""
        return {f"{ADAPTER}/{path.name}": path.read_bytes() for path in sorted((self.folder / ADAPTER).iterdir())}


def choose_pair(
    texts: Sequence[str], scores: Sequence[float], *, margin: float = 0.1, slack: float = 0.2
) -> tuple[int, int] | None:
    """Choose the best and the worst of several texts of one prompt, as places; None where no two differ by enough.

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
    """Train an adapter further on preference pairs; a killed training resumes from its last checkpoint.

    Args:
        base: base model of the adapter.
        adapter: folder of peft's two files; it stays as it is.
        seed: of the order of pairs and of dropout.
        folder: of this training alone; files of another training there are removed.
        progress: `meter(name, total)` counts pairs.

    Raises:
        ColdstartError: there are no pairs, or the base is not on this machine.
    """
    if not pairs:
        raise ColdstartError(f"{name}: no preference pairs: no item's best and worst text differ by enough")
    narrow = sft_dtype(device, dtype)
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    inputs = [[asdict(one) for one in pairs], base, settings.counted(), seed, str(narrow), sha256(weights).hexdigest()]
    job = sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
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
    from peft import get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import PrinterCallback, ProgressCallback
    from trl import DPOConfig

    from coldstart.describe.finetune._trl import AnswerLengths, PairProgress, PairTrainer

    loaded = load_base(base, device, dtype)
    config = read_lora_config(adapter)
    config.inference_mode = False
    model = get_peft_model(loaded.model, config)
    model.peft_config["default"].base_model_name_or_path = None
    set_peft_model_state_dict(model, load_file(adapter / WEIGHTS))
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
    accumulated = max(1, settings.batch_size // at_once)
    every = max(1, round(len(rows) / (at_once * accumulated) / _EVALUATIONS))
    args = DPOConfig(
        output_dir=str(folder / "checkpoints"),
        beta=settings.beta,
        learning_rate=settings.lr,
        num_train_epochs=settings.epochs,
        warmup_steps=settings.warmup,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
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
    trainer = PairTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    lengths = AnswerLengths(rows[:_MEASURED_PROMPTS], tokenizer, every, settings.max_growth)
    trainer.add_callback(lengths)
    if progress is not None:
        trainer.add_callback(PairProgress(progress, name, len(rows) * settings.epochs, at_once * accumulated))
    return trainer, model, lengths
