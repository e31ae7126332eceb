"""TRL's `DPOTrainer` on tokens that are ready, a stop where texts grow, and progress. Importing it imports TRL."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from transformers import TrainerCallback
from trl import DPOTrainer


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids` as they are: generation reads prompts the same way."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Nothing: TRL 1.16 would tell its makers of every trainer that is built."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the card is written where the adapter is kept."""


class Lengths(TrainerCallback):  # type: ignore[misc]
    """Measures what the model writes, and takes it back where that grew by more than `most`.

    Attributes:
        before, now: mean tokens of greedy answers, before training and at the last look that counts.
        stopped: whether it ended the training.
    """

    def __init__(self, rows: list[dict[str, list[int]]], tokenizer: Any, every: int, most: float) -> None:
        self._prompts = [row["prompt_ids"] for row in rows]
        self._limit = 2 * max(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids"))
        self._tokenizer, self._every, self._most = tokenizer, every, most
        self._kept: dict[str, torch.Tensor] = {}
        self.before = self.now = 0.0
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if hasattr(model, "disable_adapter") and "ref" in model.peft_config:  # also where it goes on from a checkpoint
            model.set_adapter("ref")
            self.before = self.now = self._measure(model)
            model.set_adapter("default")
        else:
            self.before = self.now = self._measure(model)
        self._keep(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % self._every and state.global_step < state.max_steps:
            return
        length = self._measure(model)
        if length > (1 + self._most) * self.before:
            for name, weight in model.named_parameters():
                if name in self._kept:
                    weight.data.copy_(self._kept[name])
            control.should_training_stop = self.stopped = True
        else:
            self.now = length
            self._keep(model)

    def _keep(self, model: Any) -> None:
        self._kept = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}

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


class Counted(TrainerCallback):  # type: ignore[misc]
    """Counts pairs on a meter."""

    def __init__(self, progress: Any, name: str, total: int, a_step: int) -> None:
        self._progress, self._name, self._total, self._a_step = progress, name, total, a_step
        self._open = ExitStack()
        self._shown = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._meter = self._open.enter_context(self._progress.meter(f"{self._name}: pairs", self._total))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = min(self._total, state.global_step * self._a_step)
        self._meter.advance(done - self._shown, 0, 0.0)
        self._shown = done

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._open.close()
