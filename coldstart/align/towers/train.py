"""Training loop of the towers of an open_clip model, in one process or in each of several.

Every process computes its own pairs and the loss on the vectors of all, keeps the gradient of its own rows, and the
gradients of the weights are added up; so the result does not depend on how many there are. Nothing is wrapped in
`DistributedDataParallel`: gradients are exchanged once a step, after all pieces of a batch. Several processes meet
through accelerate; one alone needs none of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coldstart.align.losses import CachedBatch, random_state, set_random_state
from coldstart.align.settings import TowerTraining
from coldstart.align.towers.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from coldstart.align.towers.data import Batch, Draw, Example, PairDataset, batches, epoch_plan, share
from coldstart.align.towers.model import Towers
from coldstart.errors import ColdstartError
from coldstart.metrics import ranking

MAX_NORM = 1.0  # of all gradients together
_K = 10


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that train together, as one of them sees them.

    Attributes:
        rank: its number from 0; size: of the group.
    """

    rank: int = 0
    size: int = 1

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Concatenate [N, …] of every process: [size * N, …]; N must be the same for all. No gradient flows."""
        if self.size == 1:
            return rows
        from accelerate.utils import gather

        gathered: torch.Tensor = gather(rows.contiguous())
        return gathered

    def gather_objects(self, things: list[Any]) -> list[Any]:
        """Concatenate the lists of all processes."""
        if self.size == 1:
            return things
        from accelerate.utils import gather_object

        joined: list[Any] = gather_object(things)
        return joined

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over processes."""
        if self.size == 1:
            return tensor
        from accelerate.utils import reduce

        total: torch.Tensor = reduce(tensor, reduction="sum")
        return total

    def all(self, good: bool, device: torch.device) -> bool:
        """Tell whether it holds in every process."""
        return int(self.sum(torch.tensor([int(good)], device=device)).item()) == self.size

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def init_process_group(device: str) -> tuple[ProcessGroup, torch.device]:
    """Join the processes that `accelerate launch` started: CUDA with nccl, one device each, or the CPU with gloo."""
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return ProcessGroup(state.process_index, state.num_processes), torch.device(
        "cpu"
    ) if device == "cpu" else state.device


ProgressCallback = Callable[[Mapping[str, Any]], None]
"""Called with `{epoch, step, steps, loss, samples_s}` after a step, `{epoch, recall_at_10, …}` after a measurement."""


@dataclass
class Trainer:
    """Model, optimiser and processes of a step; `micro_batch` shrinks where memory runs out."""

    towers: Towers
    optimiser: torch.optim.Optimizer
    process_group: ProcessGroup
    device: torch.device
    micro_batch: int

    def step(self, batch: Batch, length: int) -> float | None:
        """Take one step on the pairs of all processes: their loss; None where fewer than two could be read.

        Args:
            length: rows of the largest part of the batch that a process was given.

        Raises:
            ColdstartError: memory runs out at one pair a pass, or the loss is no number.
        """
        with self.towers.kernels():
            loss = self._gradients(batch, length)
        if loss is None:
            return None
        if not math.isfinite(loss):
            raise ColdstartError(f"the loss became {loss}: lower lr")
        self._add_up()
        torch.nn.utils.clip_grad_norm_(list(self.towers.weights().values()), MAX_NORM)
        self.optimiser.step()
        self.towers.bound_scale()
        return loss

    def _gradients(self, batch: Batch, length: int) -> float | None:
        """Compute the loss and this process's part of the gradients, in as small pieces as memory needs."""
        tokens = self.towers.encoder.tokenize(batch.texts) if batch.texts else None
        sides = [
            lambda rows: self.towers.images(batch.pixels(rows)),
            lambda rows: self.towers.texts(tokens[rows]),  # type: ignore[index]  # there are rows, so there are tokens
        ]
        before = random_state(self.device)
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            cached = self._attempt(lambda: CachedBatch(sides, len(batch.places), self.micro_batch, self.device))
            if self.process_group.all(cached is not None, self.device):
                own = cached.vectors if batch.places else [torch.zeros(0, self.towers.dim, device=self.device)] * 2
                all_rows, groups, mine = gather_rows(self.process_group, own, batch.groups, length)
                if len(groups) < 2:
                    return None
                loss = self._attempt(lambda: self._backward(cached, all_rows, groups, mine))  # noqa: B023
                if self.process_group.all(loss is not None, self.device):
                    return float(loss)
            if self.micro_batch == 1:
                raise ColdstartError(
                    f"{self.device} has not enough memory for a batch of {len(batch.places)} pairs, even one at a "
                    "pass: lower batch_size, or set gradient_checkpointing"
                )
            self.micro_batch = max(1, min(self.micro_batch, length) // 2)
            set_random_state(before, self.device)

    def _backward(
        self, cached: CachedBatch, all_rows: Sequence[torch.Tensor], groups: torch.Tensor, mine: slice
    ) -> float:
        image, text = (rows.requires_grad_() for rows in all_rows)
        loss = self.towers.loss(image, text, groups)
        torch.autograd.backward(loss)
        assert image.grad is not None and text.grad is not None
        cached.backward([image.grad[mine], text.grad[mine]])
        return float(loss.item())

    def _attempt(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except torch.OutOfMemoryError:
            pass  # the exception holds the frames that hold the memory: leave it before anything is freed
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _add_up(self) -> None:
        """Add the processes' gradients; that of scale and bias is whole in each of them, and is averaged."""
        if self.process_group.size == 1:
            return
        whole = {id(self.towers.scale), id(self.towers.bias)}
        weights = list(self.towers.weights().values())
        parts = []
        for weight in weights:
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            parts.append(gradient.flatten() / (self.process_group.size if id(weight) in whole else 1))
        total = self.process_group.sum(torch.cat(parts))
        for weight, gradient in zip(weights, torch.split(total, [part.numel() for part in parts]), strict=True):
            weight.grad = gradient.view_as(weight)

    @torch.no_grad()
    def vectors(self, batch: Batch) -> list[torch.Tensor]:
        """Encode a batch: image and text vectors [B, D], without history."""
        while True:
            made = self._attempt(lambda: self._vectors(batch))
            if made is not None:
                return list(made)
            if self.micro_batch == 1:
                raise ColdstartError(f"{self.device} has not enough memory for one pair")
            self.micro_batch //= 2

    def _vectors(self, batch: Batch) -> list[torch.Tensor]:
        starts = range(0, len(batch.places), self.micro_batch)
        pieces = [slice(start, start + self.micro_batch) for start in starts]
        tokens = self.towers.encoder.tokenize(batch.texts) if batch.texts else None
        empty = [torch.zeros(0, self.towers.dim, device=self.device)]
        images = [self.towers.images(batch.pixels(rows)) for rows in pieces]
        texts = [self.towers.texts(tokens[rows]) for rows in pieces] if tokens is not None else []
        return [torch.cat(empty + images), torch.cat(empty + texts)]


def gather_rows(
    process_group: ProcessGroup, own: Sequence[torch.Tensor], groups: torch.Tensor, length: int
) -> tuple[list[torch.Tensor], torch.Tensor, slice]:
    """Concatenate the rows of all processes.

    Args:
        own: this process's rows, each [B, D]; groups: int64 [B], at least 0.
        length: the same for all, at least B.

    Returns:
        Rows of all [N, D], without history; their groups [N]; and where this process's stand in them.
    """
    device = own[0].device
    padded = torch.full((length,), -1, dtype=torch.int64, device=device)
    padded[: len(groups)] = groups.to(device)
    every = process_group.gather(padded)
    kept = every >= 0
    start = int(kept[: process_group.rank * length].sum().item())
    rows = []
    for one in own:
        wide = torch.zeros(length, one.shape[1], device=device)
        wide[: len(one)] = one.detach()
        rows.append(process_group.gather(wide)[kept])
    return rows, every[kept], slice(start, start + len(groups))


def measure(
    trainer: Trainer, stream: Iterator[Batch], plan: Sequence[list[Draw]], skipped: dict[str, str]
) -> dict[str, float]:
    """Compute recall@10 and mean reciprocal rank of the pairs of `plan`, the mean of both ways."""
    trainer.towers.train(False)
    made: list[list[torch.Tensor]] = []
    groups: list[torch.Tensor] = []
    for _ in plan:
        batch = next(stream)
        skipped.update(batch.skipped)
        made.append(trainer.vectors(batch))
        groups.append(batch.groups)
    own = [torch.cat([pair[side] for pair in made]) for side in (0, 1)]
    size = trainer.process_group.size
    length = sum(-(-len(draws) // size) for draws in plan)
    rows, every, _ = gather_rows(trainer.process_group, own, torch.cat(groups), length)
    if not len(every):
        raise ColdstartError("no picture of the held-out items can be read")
    names = every.tolist()
    right = ranking.right_places(names, names)
    image, text = (one.cpu().numpy() for one in rows)
    ranks = [ranking.ranks(image, text, right), ranking.ranks(text, image, right)]
    return {
        "recall_at_10": sum(ranking.recall_at_k(one, _K) for one in ranks) / 2,
        "mrr": sum(ranking.mrr(one) for one in ranks) / 2,
    }


def train(
    folder: Path,
    digest: str,
    towers: Towers,
    examples: Sequence[Example],
    data: PairDataset,
    training: TowerTraining,
    *,
    process_group: ProcessGroup,
    device: torch.device,
    workers: int,
    progress: ProgressCallback,
) -> tuple[TrainingState, dict[str, Any]]:
    """Train until the epochs or the patience end; the towers are left with the weights of the best epoch.

    Args:
        folder: of checkpoints; `digest`: what they must belong to.

    Returns:
        The last state, and further entries of the report.
    """
    optimiser = _optimiser(towers, training)
    trainer = Trainer(towers, optimiser, process_group, device, training.micro_batch)
    state = load_checkpoint(folder, digest, towers, optimiser) or TrainingState(best=towers.copy())
    places = {split: [i for i, one in enumerate(examples) if one.split == split] for split in ("train", "valid")}
    span = max(training.micro_batch * process_group.size, 1)
    held_out = [[Draw(i, None) for i in places["valid"][at : at + span]] for at in range(0, len(places["valid"]), span)]
    plans = {
        epoch: epoch_plan(places["train"], epoch, training.seed, training.batch_size)
        for epoch in range(training.epochs)
    }
    steps = sum(map(len, plans.values()))
    ahead: list[list[Draw]] = list(held_out) if state.measured is None else []
    for epoch in range(state.epoch, training.epochs):
        ahead += plans[epoch] + held_out
    stream = batches(data, examples, [share(one, process_group.rank, process_group.size) for one in ahead], workers)
    skipped: dict[str, str] = {}
    began, before_s = time.perf_counter(), state.seconds
    if held_out and state.measured is None:
        state.measured = {"epoch": 0, **measure(trainer, stream, held_out, skipped)}
        state.best_score = _score(state.measured)
        progress(state.measured)
    while state.epoch < training.epochs and not state.stopped:
        torch.manual_seed(training.seed + 1_000_003 * (state.epoch + 1) + process_group.rank)  # of dropout
        towers.train(True)
        losses, count, epoch_began = [], 0, time.perf_counter()
        for number, draws in enumerate(plans[state.epoch], start=state.epoch * len(plans[state.epoch])):
            for group in optimiser.param_groups:
                group["lr"] = _rate(training, towers, number, steps)
            batch = next(stream)
            skipped.update(batch.skipped)
            loss = trainer.step(batch, -(-len(draws) // process_group.size))
            if loss is None:
                continue
            losses.append(loss)
            count += len(draws)
            rate = count / (time.perf_counter() - epoch_began)
            progress({"epoch": state.epoch + 1, "step": number + 1, "steps": steps, "loss": loss, "samples_s": rate})
        if not losses:
            some = next(iter(skipped.items()), ("?", "?"))
            raise ColdstartError(f"no picture of the training items can be read; {some[0]}: {some[1]}")
        took = time.perf_counter() - epoch_began
        state.epoch += 1
        now: dict[str, Any] = {
            "epoch": state.epoch,
            "loss": sum(losses) / len(losses),
            "scale": towers.scale.exp().item(),
        }
        now |= {"seconds": took, "samples_s": count / took}
        if held_out:
            now |= measure(trainer, stream, held_out, skipped)
        if not held_out or _score(now) > state.best_score:
            state.best, state.best_epoch, state.best_score = towers.copy(), state.epoch, _score(now)
        state.history.append(now)
        state.stopped = bool(training.patience) and state.epoch - state.best_epoch >= training.patience
        state.seconds = before_s + time.perf_counter() - began
        if process_group.rank == 0:
            save_checkpoint(folder, digest, towers, optimiser, state)
        progress(now)
    towers.put(state.best)
    towers.train(False)
    lost = dict(sorted(process_group.gather_objects(list(skipped.items()))))
    return state, {
        "micro_batch": trainer.micro_batch,
        "skipped": {"count": len(lost), "some": dict(list(lost.items())[:20])},
    }


def _score(measured: Mapping[str, Any]) -> list[float]:
    """Return recall, then mean reciprocal rank, which decides where recall is even (it ends at 1 among few items)."""
    return [round(measured.get("recall_at_10", 0.0), 6), round(measured.get("mrr", 0.0), 6)]


def _optimiser(towers: Towers, training: TowerTraining) -> torch.optim.Optimizer:
    weights = list(towers.weights().values())
    matrices, others = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim <= 1]
    parts = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([part for part in parts if part["params"]], betas=(0.9, 0.98), eps=1e-6)


def _rate(training: TowerTraining, towers: Towers, step: int, steps: int) -> float:
    highest = training.lr if training.lr is not None else (2e-4 if towers.kind == "lora" else 1e-5)
    rising = max(1, round(training.warmup * steps))
    if step < rising:
        return highest * (step + 1) / rising
    return highest * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2
