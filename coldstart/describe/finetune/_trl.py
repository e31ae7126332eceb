"""Adapt TRL's `SFTTrainer` and `DPOTrainer`: loss at completion positions, progress, early stops. Imports TRL.

Knows nothing of items, settings or files.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import DPOTrainer, SFTTrainer

from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """DPO trainer over rows of ready `prompt_ids`, `chosen_ids` and `rejected_ids`, tokenized as generation does."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Send nothing: TRL 1.16 would report every trainer that is built."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card: `coldstart.describe.finetune.card` does."""


class AnswerLengths(TrainerCallback):  # type: ignore[misc]
    """Callback that measures greedy answers and restores the last weights where they grew by more than `max_growth`.

    Attributes:
        before, now: mean tokens of greedy answers, before training and at the last accepted measurement.
        stopped: True where it ended the training.
    """

    def __init__(self, rows: list[dict[str, list[int]]], tokenizer: Any, every: int, max_growth: float) -> None:
        self._prompts = [row["prompt_ids"] for row in rows]
        self._limit = 2 * max(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids"))
        self._tokenizer, self._every, self._max_growth = tokenizer, every, max_growth
        self._accepted: dict[str, torch.Tensor] = {}
        self.before = self.now = 0.0
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if hasattr(model, "disable_adapter") and "ref" in model.peft_config:  # also where it goes on from a checkpoint
            model.set_adapter("ref")
            self.before = self.now = self._measure(model)
            model.set_adapter("default")
        else:
            self.before = self.now = self._measure(model)
        self._accept(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % self._every and state.global_step < state.max_steps:
            return
        length = self._measure(model)
        if length > (1 + self._max_growth) * self.before:
            for name, weight in model.named_parameters():
                if name in self._accepted:
                    weight.data.copy_(self._accepted[name])
            control.should_training_stop = self.stopped = True
        else:
            self.now = length
            self._accept(model)

    def _accept(self, model: Any) -> None:
        self._accepted = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}

    @torch.no_grad()
    def _measure(self, model: Any) -> float:
        training = model.training
        model.eval()
        longest = max(map(len, self._prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(one)) + one for one in self._prompts], device=model.device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in self._prompts], device=model.device)
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=self._limit,
            eos_token_id=self._tokenizer.eos_token_id,
            pad_token_id=pad,
        )[:, longest:]
        model.train(training)
        ended = written == self._tokenizer.eos_token_id
        sizes = torch.where(
            ended.any(1), ended.int().argmax(1) + 1, torch.full_like(ended[:, 0], written.shape[1], dtype=torch.long)
        )
        return float(sizes.float().mean())


class PairProgress(TrainerCallback):  # type: ignore[misc]
    """Callback that counts preference pairs on a progress meter."""

    def __init__(self, progress: Progress, name: str, total: int, step_pairs: int) -> None:
        self._progress, self._name, self._total, self._step_pairs = progress, name, total, step_pairs
        self._open = ExitStack()
        self._shown = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._meter = self._open.enter_context(self._progress.meter(f"{self._name}: pairs", self._total))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = min(self._total, state.global_step * self._step_pairs)
        self._meter.advance(done - self._shown, 0, 0.0)
        self._shown = done

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._open.close()


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT trainer with the loss at completion positions.

    Attributes:
        tokens: read so far, also before an interruption; session_tokens: in this process.
        step_s: seconds of the steps alone, in this process.
        before_s: seconds before an interruption.
    """

    def add_progress(self, patience: int, progress: Progress | None, name: str) -> None:
        """Stop after `patience` evaluations without a lower held-out loss; count tokens on a progress meter."""
        self.tokens = self.session_tokens = 0
        self.step_s = self.before_s = 0.0
        self.began = time.perf_counter()
        self.add_callback(_Progress(self, patience, progress, name))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if model.training:
            read = inputs["input_ids"].numel() * self.accelerator.num_processes
            self.tokens += read
            self.session_tokens += read
        if inputs["input_ids"].is_cuda:  # TRL's own kernel scores labelled positions alone there
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = completion_loss(model, inputs, num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # the count is of all processes, and gradients are averaged
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for key in ("loss", "eval_loss"):
            if key in logs and not math.isfinite(logs[key]):
                raise ColdstartError(
                    f"the loss is {logs[key]} at step {self.state.global_step}: "
                    f"use a lower lr than {self.args.learning_rate:g}"
                )
        logs["seconds"] = round(self.before_s + time.perf_counter() - self.began, 3)
        logs["tokens"] = self.tokens
        super().log(logs, start_time)

    def _send_telemetry(self) -> None:
        """Send nothing: TRL 1.16 would report every trainer that is built."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card: `coldstart.describe.finetune.card` does."""


class _Progress(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: CompletionTrainer, patience: int, progress: Progress | None, name: str) -> None:
        self._trainer, self._patience, self._progress, self._name = trainer, patience, progress, name
        self._open = ExitStack()
        self._meter: Any = None
        self._shown = 0
        self._step_began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self._trainer
        last = next((entry for entry in reversed(state.log_history) if "seconds" in entry), None)
        if last is not None:  # this goes on from a checkpoint
            trainer.before_s, trainer.tokens = last["seconds"], last["tokens"]
        if self._progress is not None and state.is_world_process_zero:
            rows = trainer.train_dataset
            known = "input_ids" in rows.column_names
            tokens = sum(map(len, rows["input_ids"])) * int(args.num_train_epochs) if known else None
            self._meter = self._open.enter_context(self._progress.meter(f"{self._name}: tokens", tokens))
            self._meter.advance(trainer.tokens, 0, 0.0)
            self._shown = trainer.tokens

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self._trainer
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        trainer.step_s += time.perf_counter() - self._step_began
        if self._meter is not None:
            self._meter.advance(trainer.tokens - self._shown, 0, 0.0)
            self._shown = trainer.tokens

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if entry.get("eval_loss") is not None]
        since = len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__)
        if self._patience and since >= self._patience:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._open.close()


IGNORED_LABEL = -100


def completion_loss(model: Any, inputs: dict[str, Any], tokens: Any = None) -> torch.Tensor:
    """Return the mean negative log-likelihood of labelled tokens, computing logits at labelled positions alone.

    Args:
        inputs: `input_ids` int64 `[B, T]`, `labels` `[B, T]` with `IGNORED_LABEL` where no loss is, and the model's
            other inputs.
        tokens: divisor of the sum; None: the labelled tokens of this batch.
    """
    inputs = dict(inputs)
    targets = inputs.pop("labels")[:, 1:]
    places = (targets != IGNORED_LABEL).any(0).nonzero()[:, 0]
    logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
    labels = targets[:, places]
    total = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum")
    count = (labels != IGNORED_LABEL).sum() if tokens is None else torch.as_tensor(tokens, device=total.device)
    return total / count.clamp(min=1)
