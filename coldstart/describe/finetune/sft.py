"""Build and run the trainer of LoRA: rows of tokens, the settings of TRL's `SFTTrainer`, its history and result file.

Where there is no Triton, TRL 1.16 scores every position; only those of completions are scored here, which saves
much of the work of a small model with a large vocabulary.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coldstart.core.device import choose_dtype
from coldstart.core.progress import Progress
from coldstart.describe.finetune import _speed
from coldstart.describe.finetune._trl import IGNORED_LABEL
from coldstart.describe.finetune.training import MAX_BATCH_TOKENS, Example, LoadItemPictures, LoraSettings
from coldstart.errors import ColdstartError
from coldstart.generators import _chat_template
from coldstart.generators._base_model import BaseModel, load_base, suppress_output

_PICTURE_BATCH, _PICTURE_MICRO_BATCH = 16, 2


@dataclass(frozen=True)
class TrainingRows:
    """Training and held-out examples as rows of a trainer.

    Attributes:
        train, valid: of text: `input_ids` and `labels`; with pictures: chat messages and the item.
        pack: tokens of a packed row; 0 with pictures.
        left_out: examples that are longer than the model's context.
        pictures: item -> its pictures, or None.
    """

    train: list[dict[str, Any]]
    valid: list[dict[str, Any]]
    pack: int
    left_out: int
    pictures: Any

    @classmethod
    def of(
        cls, base: BaseModel, train: Sequence[Example], valid: Sequence[Example], settings: LoraSettings, pictures: Any
    ) -> TrainingRows:
        """Build the rows of both parts.

        Raises:
            ColdstartError: every example is longer than the model's context.
        """
        if pictures is not None:
            chats = [[_messages(base, one) for one in part] for part in (train, valid)]
            return cls(chats[0], chats[1], 0, 0, pictures)
        context = base.model.config.get_text_config().max_position_embeddings
        parts = [[example_row(base.tokenizer, one) for one in part] for part in (train, valid)]
        fitting = [[row for row in part if len(row["input_ids"]) <= context] for part in parts]
        if not fitting[0]:
            raise ColdstartError(
                f"all {len(train)} examples are longer than the {context} tokens of {base.name}: lower the budgets of "
                "the prompt"
            )
        longest = max(len(row["input_ids"]) for part in fitting for row in part)
        lost = sum(map(len, parts)) - sum(map(len, fitting))
        return cls(fitting[0], fitting[1], max(settings.pack_tokens, longest), lost, None)


def example_row(tokenizer: Any, example: Example) -> dict[str, list[int]]:
    """Tokenize one example as generation does; labels of its prompt are `IGNORED_LABEL`."""
    prompt = _chat_template.prompt_ids(tokenizer, example.system, example.prompt)
    completion = _chat_template.completion_ids(tokenizer, example.completion)
    return {"input_ids": prompt + completion, "labels": [IGNORED_LABEL] * len(prompt) + completion}


def _messages(base: BaseModel, example: Example) -> dict[str, Any]:
    system, prompt, completion = (
        _chat_template.plain(base.tokenizer, text) for text in (example.system, example.prompt, example.completion)
    )
    opening = [{"role": "system", "content": system}] if system else []
    return {
        "prompt": [*opening, {"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
        "images": [],
        "item_id": example.item_id,
    }


def build_trainer(
    base: BaseModel,
    model: Any,
    rows: TrainingRows,
    settings: LoraSettings,
    device: torch.device,
    folder: Path,
    progress: Progress | None,
    name: str,
    seed: int = 0,
) -> Any:
    """Build a `Trainer` for `train(resume_from_checkpoint=last_complete_checkpoint(folder))`; importing TRL is slow."""
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback
    from trl import SFTConfig

    from coldstart.describe.finetune._trl import CompletionTrainer

    workers = process_count()
    if rows.pictures is None:
        at_once = 1
        accumulated = max(1, round((settings.batch_tokens or MAX_BATCH_TOKENS) / (rows.pack * workers)))
        batches = math.ceil(sum(len(row["input_ids"]) for row in rows.train) / rows.pack / workers)
    else:
        at_once = _PICTURE_MICRO_BATCH
        accumulated = max(1, _PICTURE_BATCH // (at_once * workers))
        batches = math.ceil(len(rows.train) / at_once / workers)
    every = max(1, round(batches / accumulated / settings.looks))
    narrow = base.model.dtype == torch.bfloat16
    args = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        packing=rows.pictures is None,
        eval_packing=rows.pictures is None,
        max_length=rows.pack or None,
        completion_only_loss=True if rows.pictures is not None else None,
        bf16=narrow,
        **checkpointing_arguments(SFTConfig, settings.gradient_checkpointing),
        logging_steps=max(1, every // 10),
        eval_strategy="steps" if rows.valid else "no",
        eval_steps=every,
        eval_on_start=bool(rows.valid) and last_complete_checkpoint(folder) is None,
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=bool(rows.valid),
        metric_for_best_model="loss" if rows.valid else None,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        ddp_backend="gloo" if device.type == "cpu" and workers > 1 else None,
        ddp_find_unused_parameters=False if workers > 1 else None,
        remove_unused_columns=rows.pictures is None,
        optim="adamw_torch",
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # one process, one GPU: more are for accelerate
    if device.type == "cpu":
        _speed.fuse_lora_layers(model)
        if rows.pictures is None and base.model.config._attn_implementation == "sdpa":
            _speed.use_packed_attention(base.model)
    trainer = CompletionTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows.train),
        eval_dataset=Dataset.from_list(rows.valid) if rows.valid else None,
        processing_class=base.tokenizer if rows.pictures is None else base.processor,
        data_collator=None if rows.pictures is None else _picture_collator(base, rows),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_progress(settings.patience, progress, name)
    return trainer


def checkpointing_arguments(config: Any, wanted: bool) -> dict[str, Any]:
    """Arguments that keep activations or compute them twice, by the name that this release of transformers has."""
    name = "activation_checkpointing"
    name = name if name in config.__dataclass_fields__ else "gradient_checkpointing"
    return {name: wanted, **({f"{name}_kwargs": {"use_reentrant": False}} if wanted else {})}


def process_count() -> int:
    """Return the number of processes that train together."""
    import os

    return int(os.environ.get("WORLD_SIZE", "1"))


def _picture_collator(base: BaseModel, rows: TrainingRows) -> Any:
    """Build TRL's collator for pictures, which are decoded when a batch needs them."""
    from PIL import Image
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collate = DataCollatorForVisionLanguageModeling(base.processor, completion_only_loss=True)

    def collate_with_pictures(examples: list[dict[str, Any]]) -> Any:
        return collate(
            [
                {
                    "prompt": [dict(one) for one in example["prompt"]],
                    "completion": [dict(one) for one in example["completion"]],
                    "images": [Image.fromarray(picture) for picture in rows.pictures(example["item_id"])],
                }
                for example in examples
            ]
        )

    return collate_with_pictures


def keep_narrow_inputs(model: Any, trainer: Any) -> AbstractContextManager[None]:
    """Keep peft from widening inputs of low-rank pairs under autocast, which would narrow them again."""
    if not trainer.args.bf16:
        return nullcontext()
    from peft.helpers import disable_input_dtype_casting

    context: AbstractContextManager[None] = disable_input_dtype_casting(model)
    return context


def last_complete_checkpoint(folder: Path) -> str | None:
    """Find the newest complete checkpoint, one whose state parses; None where there is none."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def loss_history(trainer: Any) -> list[dict[str, float]]:
    """Return step, loss, seconds and tokens of each log line of a training."""
    names = {"loss": "loss", "eval_loss": "valid_loss", "step": "step", "seconds": "seconds", "tokens": "tokens"}
    return [
        {names[key]: value for key, value in entry.items() if key in names}
        for entry in trainer.state.log_history
        if "loss" in entry or "eval_loss" in entry
    ]


ADAPTER, RESULT = "adapter", "result.json"


CHECKPOINTS = "checkpoints"


def sft_dtype(device: torch.device, dtype: str) -> torch.dtype:
    """Choose the dtype of frozen weights and products: bfloat16 or float32."""
    chosen = choose_dtype(device, dtype)
    return torch.float32 if chosen == torch.float16 else chosen


def run_sft(
    base_name: str,
    dtype: torch.dtype,
    examples: Sequence[Example],
    valid: Sequence[Example],
    settings: LoraSettings,
    seed: int,
    device: torch.device,
    folder: Path,
    digest: str,
    progress: Progress | None,
    pictures: LoadItemPictures | None,
    name: str,
) -> None:
    """Train in this process, alone or as one of several; write `folder/adapter` and `folder/result.json`."""
    began = time.perf_counter()
    with suppress_output(seed, device):
        base = load_base(base_name, device, dtype, settings.quantize)
        if pictures is not None and base.processor is None:
            raise ColdstartError(
                f"{name}: {base.name} takes no pictures: leave them out, or use a vision-language model"
            )
        model = with_lora(base, settings, seed)
        rows = TrainingRows.of(base, examples, valid, settings, pictures)
        trainer = build_trainer(base, model, rows, settings, device, folder / CHECKPOINTS, progress, name, seed)
        with keep_narrow_inputs(model, trainer):
            trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder / CHECKPOINTS))
        if not trainer.is_world_process_zero():
            return
        save_adapter(model, folder / ADAPTER)
    history = loss_history(trainer)
    held = [(line["valid_loss"], int(line["step"])) for line in history if "valid_loss" in line]
    after = [one for one in held if one[1]]
    loss, best = min(after) if after else (None, trainer.state.global_step)
    result = {
        "job": digest,
        "steps": trainer.state.global_step,
        "best_step": best,
        "valid_loss": loss,
        "valid_before": next((one for one, step in held if not step), None),
        "tokens": trainer.tokens,
        "seconds": trainer.before_s + time.perf_counter() - began,
        "tokens_s": trainer.session_tokens / max(trainer.step_s, 1e-9),
        "stopped": trainer.state.global_step < trainer.state.max_steps,
        "left_out": rows.left_out,
        "trained": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "history": history,
    }
    draft = folder / f".{RESULT}"
    draft.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    draft.replace(folder / RESULT)


def with_lora(base: BaseModel, settings: LoraSettings, seed: int = 0) -> Any:
    """Add new low-rank pairs to all linear layers of the base's language model; return a `PeftModel`."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    model = base.model
    if settings.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=settings.gradient_checkpointing)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        exclude_modules=r".*(vision|visual).*" if base.processor is not None else None,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = None  # else peft asks the hub for it whenever it saves
    return tuned


def save_adapter(model: Any, folder: Path) -> None:
    """Write peft's two files; equal trainings give equal bytes."""
    model.save_pretrained(
        str(folder), safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"]
    )
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
    path = folder / "adapter_config.json"
    config = json.loads(path.read_bytes())
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None  # a folder of this machine, or nothing
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
