"""TRL's `SFTTrainer` with the loss on completion positions, progress, and a stop by patience; imports TRL."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from coldstart.errors import ColdstartError
from coldstart.training import sft


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """One training.

    Attributes:
        tokens: read so far, also before an interruption; session_tokens: in this process.
        step_s: seconds of the steps alone, in this process.
        before_s: seconds before an interruption.
    """

    def follow(self, patience: int, progress: Any, name: str) -> None:
        """Stop after so many looks without a lower held-out loss; count tokens on a meter."""
        self.tokens = self.session_tokens = 0
        self.step_s = self.before_s = 0.0
        self.began = time.perf_counter()
        self.add_callback(_Follow(self, patience, progress, name))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if model.training:
            read = inputs["input_ids"].numel() * self.accelerator.num_processes
            self.tokens += read
            self.session_tokens += read
        if inputs["input_ids"].is_cuda:  # TRL's own kernel scores labelled positions alone there
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = sft.completion_loss(model, inputs, num_items_in_batch)
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
        """Nothing: TRL 1.16 would tell its makers of every trainer that is built."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the card is written where the adapter is kept."""


class _Follow(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: CompletionTrainer, patience: int, progress: Any, name: str) -> None:
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
