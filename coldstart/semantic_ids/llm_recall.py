"""Fit the language model of a `finetune.recall`, and read it back: what `--model llm` adds to the sequence model.

The sequence model stays: it has the dense head, the order among new items and the choice of `auto`. The language model
takes the place of its head of codes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.core.device import choose_device, choose_dtype
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.decode import CodeDecoder, trie_tensors
from coldstart.semantic_ids.llm_model import CodeLanguageModel, LanguageDecoder
from coldstart.semantic_ids.llm_train import LanguageData, by_rewards, supervised, train_steps
from coldstart.semantic_ids.read import build_trie
from coldstart.semantic_ids.recall_settings import Settings
from coldstart.store import Store

History = NDArray[np.int64]


def texts_of(store: Store, item_ids: Sequence[str]) -> list[str | None]:
    """Read what an ID is aligned with: title and category of items, in their order."""
    from coldstart.semantic_ids.workspace import read_records

    records = read_records(store, item_ids)
    found = []
    for item in item_ids:
        own = records.get(item, {})
        parts = [str(own[name]) for name in ("title", "category") if own.get(name)]
        found.append(", ".join(parts) or None)
    return found


def number_format(device: torch.device, dtype: str) -> torch.dtype:
    """Choose the format of the frozen weights: bfloat16 where that is quick, else float32."""
    chosen = choose_dtype(device, dtype)
    return torch.float32 if chosen == torch.float16 else chosen


class LanguageFit:
    """Fit of a language model of semantic IDs.

    Args:
        data: items with codes; only those of histories are learnt.
        sizes: codes of each level; scratch: folder of its checkpoints.

    Attributes:
        report: steps, losses, counts of training by rewards.

    Raises:
        ColdstartError: training by rewards is asked for and there is no GPU.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        data: LanguageData,
        sizes: Sequence[int],
        device: str,
        dtype: str,
        progress: Progress,
        scratch: Path | None = None,
        seed: int | None = None,
    ) -> None:
        self._name, self._settings, self._own = name, settings, settings.llm
        self._data, self._sizes, self._progress, self._scratch = data, tuple(sizes), progress, scratch
        self._seed = settings.seed if seed is None else seed
        self.device = choose_device(device)
        self._dtype = number_format(self.device, dtype)
        self.report: dict[str, Any] = {"generator": settings.generator}
        check_rewards(name, settings, self.device)

    def learn(self, histories: Sequence[History]) -> tuple[CodeDecoder, int]:
        """Fit on histories: what IDs are decoded by, and the number of users it is to be judged by."""
        own, began = self._own, time.process_time()
        met = np.zeros(len(self._data.codes), bool)
        met[np.concatenate([np.empty(0, np.int64), *histories])] = True
        codes = np.where(met[:, None], self._data.codes, -1)  # rows of codes start from what was met alone
        self.model = CodeLanguageModel.start(
            self._settings.generator, codes, self._data.texts, self._sizes, self.device, self._dtype,
            own.r, own.alpha, self._seed,
        )  # fmt: skip
        self.report["trained"] = sum(weight.numel() for weight in self.model.trained().values())
        self._steps("choose", histories, own.steps, 1.0)
        if own.grpo_steps:
            there = np.flatnonzero((codes >= 0).all(1))
            trie = trie_tensors(build_trie(codes[there]), there, len(codes), self.device)
            losses = by_rewards(
                self.model, self._data, histories, trie, batch=own.grpo_batch, group=own.grpo_group, length=own.length,
                beta=own.beta, updates=own.grpo_updates, seed=self._seed,
            )  # fmt: skip
            self._train("rewards", losses, own.grpo_steps, own.grpo_lr, own.grpo_lr)
        self.report["seconds"] = round(time.process_time() - began, 1)
        return self.decoder(), own.judged

    def finish(self, histories: Sequence[History]) -> CodeLanguageModel:
        """Go on with everything, for a quarter as many steps and at a third of the step size."""
        self._steps("all", histories, max(1, round(self._own.steps / 4)), 1 / 3)
        return self.model

    def decoder(self) -> LanguageDecoder:
        """Decoder by the weights of now."""
        return LanguageDecoder(lambda: self.model, self._data.codes, self._sizes, self._own.length)

    def _steps(self, part: str, histories: Sequence[History], steps: int, share: float) -> None:
        own = self._own
        losses = supervised(
            self.model, self._data, histories, batch=own.batch, length=own.length, align_share=own.align_share,
            seed=self._seed + 7919 * (part == "all"),
        )  # fmt: skip
        self._train(part, losses, steps, own.lr * share, own.row_lr * share)

    def _train(self, part: str, losses: Any, steps: int, rate: float, row_rate: float) -> None:
        checkpoint = None if self._scratch is None else self._scratch / f"{part}.safetensors"
        with self._progress.meter(f"{self._name}: language model, {part}", steps) as meter:
            course = train_steps(
                self.model, losses, steps, rate, row_rate, seed=self._seed, checkpoint=checkpoint,
                advance=lambda: meter.advance(1, 0, 0.0),
            )  # fmt: skip
        few = max(1, len(course.losses) // 20)
        found = {"steps": steps, **course.counts}
        if course.losses:
            found |= {
                "loss_first": float(np.mean(course.losses[:few])),
                "loss_last": float(np.mean(course.losses[-few:])),
            }
        self.report[part] = found


def check_rewards(name: str, settings: Settings, device: torch.device) -> None:
    """Check that training by rewards has a GPU, or that its hours on a processor are wanted.

    Raises:
        ColdstartError: neither.
    """
    own = settings.llm
    if own.grpo_steps and device.type == "cpu" and not own.grpo_on_cpu:
        raise ColdstartError(
            f"{name}.llm.grpo_steps={own.grpo_steps}: each step lists {own.grpo_batch} x {own.grpo_group} IDs by the "
            f"language model, which takes a GPU, and there is none here: set it to 0, or {name}.llm.grpo_on_cpu=true "
            "to take hours"
        )


def read_decoder(
    folder: Path, generator: str, codes: NDArray[np.int32], sizes: Sequence[int], length: int, device: str, dtype: str
) -> LanguageDecoder:
    """Build the decoder of an artifact; the model is read when an ID is first asked for.

    Args:
        generator: name of its base, by the user's own settings and never by the artifact.
    """
    chosen = choose_device(device)

    def load() -> CodeLanguageModel:
        return CodeLanguageModel.read(folder, generator, sizes, chosen, number_format(chosen, dtype))

    return LanguageDecoder(load, codes, sizes, length)
