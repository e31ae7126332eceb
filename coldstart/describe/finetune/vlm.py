"""Train the projector of `starter-vlm`, then projector and LoRA on SmolLM2, from picture features and texts.

Two stages, as in LLaVA (Liu et al. 2023, arXiv:2304.08485): the projector alone before a frozen language model, then
projector and LoRA (Hu et al. 2022, arXiv:2106.09685) together. The projector's linear part is the solution of a ridge
regression from picture features to word vectors of the completion, which saves epochs. Features are computed once; loss
and logits are at completion positions alone. Knows no tables, and nothing of what a completion says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from coldstart.describe.finetune.training import Example, VlmSettings
from coldstart.describe.finetune.vlm_state import (
    Epoch,
    MasterWeights,
    TrainingState,
    VlmResult,
    restore_state,
    save_state,
    training_digest,
)
from coldstart.encoders.starter import CELLS, IMAGE_DIM, LEVELS_DIM
from coldstart.errors import ColdstartError
from coldstart.generators import _chat_template, _vision
from coldstart.generators._base_model import suppress_output
from coldstart.generators._vision import Projector, ProjectorShape

BATCHES_PER_POOL = 16
"""Batches whose examples are sorted by length together."""
MICRO_TOKENS = 2048
"""Tokens computed at once: each keeps about 0.8 MB of activations in bfloat16 until its gradient is there."""


def train_vlm(
    features: NDArray[np.float16],
    places: Sequence[int],
    examples: Sequence[Example],
    valid_places: Sequence[int],
    valid: Sequence[Example],
    settings: VlmSettings,
    *,
    seed: int = 0,
    model: Any,
    tokenizer: Any,
    checkpoint: Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
    meter: Callable[[str, int], Any] | None = None,
) -> VlmResult:
    """Train both stages; a killed training called again with the same inputs ends with the same weights.

    Args:
        features: float16 `[N, GRID_DIM]`, of each picture.
        places: row of `features` of each example; valid_places: of each that is held out.
        valid: held-out examples for early stopping and the best epoch; empty: the last epoch counts as the best.
        seed: of weights, order, mirrored pictures and dropout.
        model: the language model without LoRA, on its device and in its dtype; it becomes part of the result.
        checkpoint: file (safetensors) with the state after each epoch, written beside and renamed; one of another
            training is overwritten unread.
        progress: called after each epoch; meter: makes a meter of a name and a total, which counts tokens.

    Raises:
        ColdstartError: there are no examples, or the loss is no finite number.
    """
    if not examples:
        raise ColdstartError("no training example has a picture, and starter-vlm is trained on pictures alone")
    with suppress_output(seed, model.device):
        learner = _Trainer(features, places, examples, valid_places, valid, settings, model, tokenizer, seed)
        with meter("tokens", learner.tokens) if meter else nullcontext() as counts:
            return learner.run(checkpoint, counts, progress)


class _Trainer:
    """Steps of one training; random draws follow from seed and epoch, so that no random state is stored."""

    def __init__(
        self,
        features: NDArray[np.float16],
        places: Sequence[int],
        examples: Sequence[Example],
        valid_places: Sequence[int],
        valid: Sequence[Example],
        settings: VlmSettings,
        model: Any,
        tokenizer: Any,
        seed: int = 0,
    ) -> None:
        self._features, self._settings, self._seed, self._device = features, settings, seed, model.device
        self._sets = (
            (np.array(places, np.int64), self._tokens(tokenizer, examples)),
            (np.array(valid_places, np.int64), self._tokens(tokenizer, valid)),
        )
        table = model.get_input_embeddings().weight.detach()
        width, scale = table.shape[1], float(table.float().square().mean().sqrt())
        shape = ProjectorShape(CELLS, IMAGE_DIM, LEVELS_DIM, settings.whole_tokens, settings.hidden, width, scale)
        self._projector = Projector(shape, settings.dropout)
        rows = features[self._sets[0][0]]
        set_standardisation(self._projector, rows)
        words = [completion for _, completion in self._sets[0][1]]
        vectors = table.float().cpu() / scale
        self._straight = solve_linear_part(self._projector, rows, words, vectors, settings.ridge, seed)
        self._projector.to(self._device)
        self._model = _with_lora(model, settings)
        self._digest = training_digest(settings, seed, features, self._sets, self._projector, table)

    @staticmethod
    def _tokens(tokenizer: Any, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
        """Tokenize each example: prompt without the picture, and completion."""
        return [
            (
                _vision.prompt_ids(tokenizer, one.system, one.prompt, 0),
                _chat_template.completion_ids(tokenizer, one.completion),
            )
            for one in examples
        ]

    @property
    def tokens(self) -> int:
        """Tokens read in all epochs."""
        settings, shape = self._settings, self._projector.shape
        once = sum(shape.tokens + len(a) + len(b) - 1 for a, b in self._sets[0][1])
        return once * (settings.projector_epochs + settings.epochs)

    def run(self, checkpoint: Path | None, counts: Any, progress: Callable[[Epoch], None] | None) -> VlmResult:
        settings = self._settings
        stages = [1] * settings.projector_epochs + [2] * settings.epochs
        masters = MasterWeights(self._projector, self._model, settings.weight_decay)
        done = restore_state(checkpoint, self._digest, masters) if checkpoint else None
        if done is None:
            done = TrainingState(best=masters.copy(), after_first=masters.copy())
        elif counts is not None and done.history:
            counts.advance(sum(line[-1] for line in done.history), 0, 0.0)
        while not done.stopped and done.epoch < len(stages):
            stage = stages[done.epoch]
            began = time.perf_counter()
            loss, tokens = self._epoch(done.epoch, stage, masters, counts)
            valid_loss = self._valid_loss()
            done.epoch += 1
            if not math.isfinite(loss):
                raise ColdstartError(f"the loss of epoch {done.epoch} is {loss}: use a lower lr than {settings.lr:g}")
            if valid_loss is None or done.best_loss is None or valid_loss < done.best_loss:
                done.best, done.best_loss, done.best_epoch = masters.copy(), valid_loss, done.epoch
            if stage == 1:
                done.after_first = masters.copy()
            late = done.epoch - max(done.best_epoch, settings.projector_epochs)
            done.stopped = bool(settings.patience and late >= settings.patience and done.epoch < len(stages))
            done.history.append((done.epoch, stage, loss, valid_loss, time.perf_counter() - began, tokens))
            if checkpoint:
                save_state(checkpoint, self._digest, done, masters)
            if progress is not None:
                progress(Epoch(*done.history[-1]))
        masters.load(done.best)
        self._projector.eval().requires_grad_(False)
        history = [Epoch(*line) for line in done.history]
        return VlmResult(
            self._model.eval(), self._projector.cpu(), done.after_first, history, done.best_epoch, done.stopped
        )

    def _epoch(self, number: int, stage: int, masters: MasterWeights, counts: Any) -> tuple[float, int]:
        """Train one epoch; return the mean loss a token and the tokens read."""
        settings = self._settings
        random = np.random.default_rng([self._seed, number])
        torch.manual_seed(int(random.integers(1 << 62)))
        self._projector.train()
        self._model.train(stage == 2)
        batches = self._batches(random)
        first = 0 if stage == 1 else settings.projector_epochs
        epochs = settings.projector_epochs if stage == 1 else settings.epochs
        total, counted, read = 0.0, 0, 0
        for step, batch in enumerate(batches):
            share = _lr_factor((number - first + step / len(batches)) / epochs, settings.warmup)
            rates = (settings.projector_lr * share, 0.0) if stage == 1 else (settings.lr * share, settings.lr * share)
            mirrored = random.random(len(batch)) < 0.5 * settings.mirror
            with _attention(self._device), self._model.disable_adapter() if stage == 1 else nullcontext():
                tokens = sum(len(self._sets[0][1][one][1]) for one in batch)
                for part in self._micro_batches(batch):
                    loss, _, length = self._loss(0, batch[part], mirrored[part])
                    (loss / tokens).backward()  # type: ignore[no-untyped-call]
                    total, read = total + float(loss.detach()), read + length
                    if counts is not None:
                        counts.advance(length, 0, 0.0)
            masters.step(*rates)
            counted += tokens
        return total / counted, read

    def _batches(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw batches of example places at random, of like length within a pool."""
        size, lengths = self._settings.batch_size, [len(a) + len(b) for a, b in self._sets[0][1]]
        order = random.permutation(len(lengths))
        pools = np.array_split(order, max(1, round(len(order) / (size * BATCHES_PER_POOL))))
        batches = []
        for pool in pools:
            by_length = pool[np.argsort([lengths[place] for place in pool], kind="stable")]
            batches += np.array_split(by_length, max(1, round(len(pool) / size)))
        return [batches[place] for place in random.permutation(len(batches))]

    def _micro_batches(self, batch: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        """Split the places of a batch into parts of up to `MICRO_TOKENS` tokens, whose gradients add up to its own."""
        texts = self._sets[0][1]
        longest = max(len(texts[one][0]) + len(texts[one][1]) for one in batch) + self._projector.shape.tokens
        parts = min(len(batch), math.ceil(longest * len(batch) / MICRO_TOKENS))
        return np.array_split(np.arange(len(batch)), parts)

    def _loss(self, side: int, batch: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> tuple[torch.Tensor, int, int]:
        """Return the summed loss of completion tokens, their number, and the tokens read."""
        places, texts = self._sets[side]
        seen = torch.from_numpy(_mirrored(self._features[places[batch]], mirrored)).to(self._device)
        straight = None if side else self._straight[torch.from_numpy(batch)].to(self._device)
        pictures = self._projector(seen, straight).to(self._model.dtype)
        inner = self._model.get_base_model()
        table = inner.get_input_embeddings()
        rows, spans, targets = [], [], []
        for one, picture in zip(batch, pictures, strict=True):
            prompt, completion = texts[one]
            words = table(torch.tensor([*prompt, *completion[:-1]], device=self._device))
            rows.append(torch.cat([words[: len(prompt)], picture, words[len(prompt) :]]))
            spans.append(range(len(rows[-1]) - len(completion), len(rows[-1])))
            targets += completion
        width = max(len(row) for row in rows)
        inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # on the right: no token sees what is after it
        hidden = inner.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        chosen = [row * width + place for row, own in enumerate(spans) for place in own]
        logits = inner.lm_head(hidden.flatten(0, 1)[torch.tensor(chosen, device=self._device)])
        loss = cross_entropy(logits.float(), torch.tensor(targets, device=self._device), reduction="sum")
        return loss, len(targets), sum(len(row) for row in rows)

    @torch.no_grad()
    def _valid_loss(self) -> float | None:
        texts = self._sets[1][1]
        if not texts:
            return None
        self._projector.eval()
        self._model.eval()
        order = np.argsort([len(a) + len(b) for a, b in texts], kind="stable")
        total, counted = 0.0, 0
        read = sum(self._projector.shape.tokens + len(a) + len(b) for a, b in texts)
        parts = max(math.ceil(len(order) / self._settings.batch_size), math.ceil(read / MICRO_TOKENS))
        for batch in np.array_split(order, min(parts, len(order))):
            loss, tokens, _ = self._loss(1, batch, np.zeros(len(batch), np.bool_))
            total, counted = total + float(loss), counted + tokens
        return total / counted


def _with_lora(model: Any, settings: VlmSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    # In the model's own format: masters keep float32, and a cast at each of 210 layers would cost more than LoRA.
    return get_peft_model(model.requires_grad_(False), config, autocast_adapter_dtype=False)


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Choose the attention kernel: plain products on a CPU, where the fused backward is a third of a step."""
    kernel: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    return kernel


def _mirrored(rows: NDArray[np.float16], which: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Copy `[B, GRID_DIM]`, the cells of the marked pictures mirrored."""
    side, rows = int(CELLS**0.5), rows.copy()
    cells = rows[which, : CELLS * IMAGE_DIM].reshape(-1, side, side, IMAGE_DIM)
    rows[which, : CELLS * IMAGE_DIM] = cells[:, :, ::-1].reshape(len(cells), CELLS * IMAGE_DIM)
    return rows


def _lr_factor(done: float, warmup: float) -> float:
    """Return the share of the highest learning rate after this share of a stage's steps."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))


RIDGE_PARTS = 4
"""Parts of the examples in stacking: the linear part of each is solved on the others."""


_BLOCK = 512


_MIN_DEVIATION = 0.05  # of the mean deviation: smaller deviations are raised to it


@torch.no_grad()
def set_standardisation(projector: Projector, rows: NDArray[np.float16]) -> None:
    """Set the projector's mean and deviation from float16 `[N, dim]`; cells share those of each feature."""
    shape = projector.shape
    total = torch.zeros(shape.dim, dtype=torch.float64)
    square = torch.zeros_like(total)
    for start in range(0, len(rows), _BLOCK):
        block = torch.from_numpy(rows[start : start + _BLOCK]).double()
        total += block.sum(0)
        square += block.square().sum(0)
    mean, square = total / len(rows), square / len(rows)
    cells = shape.cells * shape.cell_dim
    for values in (mean, square):
        values[:cells] = values[:cells].view(shape.cells, shape.cell_dim).mean(0).repeat(shape.cells)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    for part in (spread[:cells], spread[cells:]):
        part.clamp_(min=_MIN_DEVIATION * float(part.mean()) or 1.0)
    projector.mean.copy_(mean)
    projector.deviation.copy_(spread)


@torch.no_grad()
def solve_linear_part(
    projector: Projector,
    rows: NDArray[np.float16],
    completions: Sequence[Sequence[int]],
    table: torch.Tensor,
    penalty: float,
    seed: int,
) -> torch.Tensor:
    """Set the linear part to the ridge regression from whole-picture features to word vectors of the completion.

    A completion is cut into as many parts of one length as the whole picture has tokens; the target of a token is the
    mean vector of its part, less the mean over completions, scaled to a root mean square of one. In-sample predictions
    are too good to train on, so the returned ones come from solutions on the other examples (stacking, Wolpert 1992).

    Args:
        rows: float16 `[N, dim]`; completions: the tokens of each.
        table: float32 `[vocabulary, width]`, the vectors of words, of a root mean square of one.
        penalty: on the squared weights, for each example.
        seed: of the assignment of examples to parts.

    Returns:
        float32 `[N, whole_tokens * width]`: out-of-sample predictions of the linear part.
    """
    shape = projector.shape
    goals = torch.stack([_parts(table[torch.tensor(words)], shape.whole_tokens) for words in completions])
    goals = goals - goals.mean(0)
    goals = (goals / goals.square().mean(dim=(0, 2), keepdim=True).sqrt().clamp(min=1e-6)).flatten(1)
    seen = torch.cat(
        [
            projector.standardised(torch.from_numpy(rows[start : start + _BLOCK]))[:, -shape.whole_dim :]
            for start in range(0, len(rows), _BLOCK)
        ]
    )
    parts = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)) % RIDGE_PARTS)
    predictions = torch.empty_like(goals)
    for part in range(RIDGE_PARTS):
        own, others = parts == part, parts != part
        predictions[own] = seen[own] @ _ridge(seen[others], goals[others], penalty)
    projector.straight.weight.copy_(_ridge(seen, goals, penalty).T)
    return predictions


def _ridge(seen: torch.Tensor, goals: torch.Tensor, penalty: float) -> torch.Tensor:
    """Solve ridge weights `[D, G]` of `[N, D]` and `[N, G]` on the shorter side; both sides give the same."""
    strength = penalty * len(seen)
    weights: torch.Tensor
    if len(seen) < seen.shape[1]:
        weights = seen.T @ torch.linalg.solve(seen @ seen.T + strength * torch.eye(len(seen)), goals)
    else:
        weights = torch.linalg.solve(seen.T @ seen + strength * torch.eye(seen.shape[1]), seen.T @ goals)
    return weights


def _parts(vectors: torch.Tensor, parts: int) -> torch.Tensor:
    """Average consecutive stretches of `[T, width]`: `[parts, width]`."""
    ends = torch.linspace(0, len(vectors), parts + 1).round().long().tolist()
    means = [vectors[min(a, len(vectors) - 1) : max(b, a + 1)].mean(0) for a, b in pairwise(ends)]
    return torch.stack(means)
