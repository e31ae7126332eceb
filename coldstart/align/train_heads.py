"""Training of heads on pairs: vectors of frozen encoders in, two maps into one space out. Knows no tables.

Locked towers, as in locked-image tuning (Zhai et al. 2022), with small maps on top; the vectors are computed once, so
an epoch is a few matrix products. The state of a training is one safetensors file, from which a killed one goes on.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import normalize

from coldstart.align.head_math import Pairs, Standardisation, mrr_of, to_plain_inputs, to_standardised_inputs, to_tensor
from coldstart.align.losses import MAX_SCALE, info_nce, sigmoid_loss
from coldstart.align.settings import HeadTraining
from coldstart.core.optim import AdamW
from coldstart.encoders._heads import Heads, HeadShape
from coldstart.errors import ColdstartError

WARMUP = 0.1
"""Share of all steps in which the learning rate rises."""
SCALE, BIAS = 14.3, -10.0
"""First factor of cosines, and what `siglip` adds to them; both are trained, the factor never above 100."""


@dataclass(frozen=True)
class Epoch:
    """Measures of one epoch.

    Attributes:
        epoch: its number from 1; loss: the mean; scale: after it.
        mrr: mean reciprocal rank on the validation part, None where there is none.
    """

    epoch: int
    loss: float
    scale: float
    mrr: float | None


@dataclass(frozen=True)
class HeadFit:
    """Result of a training.

    Attributes:
        heads: of the best epoch; on the CPU, float32.
        history: each epoch, also those before an interruption.
        best_epoch: 0: the heads as they were given.
        seconds: spent, also before an interruption.
        stopped: True where `patience` ended it.
    """

    heads: Heads
    history: list[Epoch]
    best_epoch: int
    seconds: float
    stopped: bool


def new_heads(training: HeadTraining, image_dim: int, text_dim: int) -> Heads:
    """Create random heads: linear, or with a hidden layer beside the linear way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return Heads(*(HeadShape(inputs, training.dim, training.hidden) for inputs in (image_dim, text_dim)))


def fit(
    train: Pairs,
    valid: Pairs | None,
    heads: Heads,
    training: HeadTraining,
    *,
    device: torch.device,
    anchored: bool = False,
    scale: float = SCALE,
    checkpoint: Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> HeadFit:
    """Train a copy of `heads`; killed and called again with the same, it ends with the same weights.

    Args:
        valid: held out, of other groups; None: the last epoch counts as the best.
        heads: where training starts; their scale and bias are not read.
        anchored: weight decay pulls weights to where they started, not to zero.
        scale: first factor of cosines.
        checkpoint: file (safetensors) that keeps the state after each epoch, written beside and renamed; one of other
            pairs, heads or settings is not read and is written over. It stays when training is done.
        progress: called after each epoch.

    Raises:
        ColdstartError: all pairs are of one group, or vectors or the loss are no finite numbers.
    """
    if len(np.unique(train.groups)) < 2:
        raise ColdstartError(
            f"{len(train)} pairs of one group teach nothing: alignment needs items of at least two products"
        )
    started = time.perf_counter()
    plain_given = _starting(heads, training, scale).to(device)
    standards = None
    if training.standardise:
        sides = ((train.images, train.image_rows()), (train.texts, train.text_rows()))
        standards = tuple(Standardisation.of(vectors, rows.order) for vectors, rows in sides)
    given = to_standardised_inputs(plain_given, *standards) if standards else plain_given

    def plain() -> Heads:
        return to_plain_inputs(now, *standards) if standards else now

    now = copy.deepcopy(given).requires_grad_(True)
    starts = dict(given.named_parameters())
    goals = {name: start if anchored else None for name, start in starts.items() if start.ndim == 2}
    optimiser = AdamW(dict(now.named_parameters()), goals, training.weight_decay)
    digest = digest_of(training.model_dump() | {"anchored": anchored}, plain_given, train, valid) if checkpoint else ""
    done = load_state(checkpoint, digest, now, optimiser) if checkpoint else None
    if done is None:
        mrr = None if valid is None else mrr_of(plain_given, valid, device)
        done = TrainState(best=_weights(plain_given), best_mrr=mrr)
    before_s = done.seconds
    learner = _Trainer(train, now, given, standards, optimiser, training, device)
    while not done.stopped and done.epoch < training.epochs:
        loss = learner.epoch(done.epoch)
        done.epoch += 1
        mrr = None if valid is None else mrr_of(plain(), valid, device)
        if mrr is None or done.best_mrr is None or mrr > done.best_mrr:
            done.best, done.best_mrr, done.best_epoch = _weights(plain()), mrr, done.epoch
        done.history.append((done.epoch, loss, now.logit_scale.exp().item(), mrr))
        done.stopped = bool(
            valid is not None and training.patience and done.epoch - done.best_epoch >= training.patience
        )
        done.seconds = before_s + time.perf_counter() - started
        if checkpoint:
            save_state(checkpoint, digest, done, now, optimiser)
        if progress is not None:
            progress(Epoch(*done.history[-1]))
    best = copy.deepcopy(heads).float().cpu()
    best.load_state_dict(done.best)
    history = [Epoch(*line) for line in done.history]
    return HeadFit(best.requires_grad_(False).eval(), history, done.best_epoch, done.seconds, done.stopped)


def _starting(heads: Heads, training: HeadTraining, scale: float) -> Heads:
    given = copy.deepcopy(heads).float().requires_grad_(False)
    given.logit_scale.fill_(math.log(scale))
    given.logit_bias.fill_(BIAS if training.loss == "siglip" else 0.0)
    return given


class _Trainer:
    """Steps of one training. What is random follows from seed and epoch, so that none of it is stored."""

    def __init__(
        self,
        train: Pairs,
        now: Heads,
        given: Heads,
        standards: tuple[Standardisation, ...] | None,
        optimiser: AdamW,
        training: HeadTraining,
        device: torch.device,
    ) -> None:
        self._train, self._now, self._given, self._optimiser = train, now, given, optimiser
        self._training, self._device, self._standards = training, device, standards
        self._sides = ((train.images, train.image_rows()), (train.texts, train.text_rows()))
        self._random = np.random.Generator(np.random.SFC64(training.seed))
        for head in (now.image, now.text):
            if head.outer is not None and training.hidden_dropout:
                head.outer.register_forward_pre_hook(
                    lambda _, hidden: (
                        self._dropped(hidden[0], training.hidden_dropout) if torch.is_grad_enabled() else None
                    )
                )

    def epoch(self, number: int) -> float:
        """Train one pass over all items in batches of nearly one size; return the mean loss."""
        training, train = self._training, self._train
        self._random = np.random.Generator(np.random.SFC64([training.seed, number]))
        steps, losses = max(1, round(len(train) / training.batch_size)), []
        for step, items in enumerate(np.array_split(self._random.permutation(len(train)), steps)):
            lr = training.lr * _share_of_lr((number * steps + step) / (training.epochs * steps), WARMUP)
            loss = self._loss(items)
            losses.append(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step(lr)
            with torch.no_grad():
                self._now.logit_scale.clamp_(max=math.log(MAX_SCALE))
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            _check_finite(train)
            raise ColdstartError(f"the loss of epoch {number + 1} is {mean}: use a lower lr than {training.lr:g}")
        return mean

    def _loss(self, items: NDArray[np.int64]) -> torch.Tensor:
        training, now, given = self._training, self._now, self._given
        groups = torch.from_numpy(self._train.groups[items]).to(self._device)
        same = groups[:, None] == groups[None]
        image, text = (to_tensor(all_of, rows.draw(items, self._random), self._device) for all_of, rows in self._sides)
        if self._standards:
            image, text = (one.apply(vectors) for one, vectors in zip(self._standards, (image, text), strict=True))
        mapped = normalize(now.image(self._blurred(image)), dim=1), normalize(now.text(self._blurred(text)), dim=1)
        scale = now.logit_scale.exp()
        if training.loss == "siglip":
            loss = sigmoid_loss(*mapped, scale, now.logit_bias, same)
        else:
            loss = info_nce(*mapped, scale, same, training.smoothing)
        if training.prior:
            with torch.no_grad():
                before = normalize(given.image(image), dim=1), normalize(given.text(text), dim=1)
            away = sum((new - old).square().sum(1).mean() for new, old in zip(mapped, before, strict=True))
            loss = loss + training.prior * away
        return loss

    def _blurred(self, vectors: torch.Tensor) -> torch.Tensor:
        """Blank out numbers of vectors and add noise."""
        training = self._training
        if training.noise:
            noise = self._random.standard_normal(vectors.shape, np.float32) * (training.noise / vectors.shape[1] ** 0.5)
            vectors = vectors + torch.from_numpy(noise).to(self._device)
        return self._dropped(vectors, training.dropout) if training.dropout else vectors

    def _dropped(self, values: torch.Tensor, share: float) -> torch.Tensor:
        """Apply dropout, drawn on the CPU, one byte a number, so that every device drops the same."""
        drop = round(share * 256)
        drawn = np.frombuffer(self._random.bytes(values.numel()), np.uint8).reshape(values.shape)
        keep = torch.from_numpy(drawn >= drop).to(self._device)
        return values * keep * (256 / (256 - drop))


def _share_of_lr(done: float, warmup: float) -> float:
    """Compute the share of the highest learning rate, when this share of all steps is done."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))


def _check_finite(pairs: Pairs) -> None:
    for name, vectors in (("images", pairs.images), ("texts", pairs.texts)):
        bad = np.flatnonzero(~np.isfinite(vectors.sum(1, dtype=np.float32)))
        if len(bad):
            raise ColdstartError(
                f"{len(bad)} {name} have vectors that are no finite numbers, the first at {bad[0]}: embed them again"
            )


def _weights(heads: Heads) -> dict[str, torch.Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in heads.state_dict().items()}


@dataclass
class TrainState:
    """State of a training.

    Attributes:
        best: weights of the best epoch so far; `best_epoch`: its number, 0 before the first.
        history: of each epoch its number, loss, scale and mean reciprocal rank.
    """

    best: dict[str, torch.Tensor]
    best_mrr: float | None
    best_epoch: int = 0
    epoch: int = 0
    seconds: float = 0.0
    stopped: bool = False
    history: list[tuple[int, float, float, float | None]] = field(default_factory=list)


def digest_of(settings: Mapping[str, Any], given: Heads, train: Pairs, valid: Pairs | None) -> str:
    """Compute the SHA-256 of all that a training follows from, as hexadecimal digits."""
    sha = sha256(json.dumps([dict(settings), train.digest(), valid and valid.digest()], sort_keys=True).encode())
    for name, weight in given.state_dict().items():
        sha.update(f"{name} {tuple(weight.shape)} ".encode())
        sha.update(weight.cpu().numpy().tobytes())
    return sha.hexdigest()


def save_state(path: Path, digest: str, done: TrainState, now: Heads, optimiser: AdamW) -> None:
    """Write the state beside `path`, then rename: a reader sees the old state or the new one."""
    tensors = {f"best.{name}": weight for name, weight in done.best.items()}
    for name, weight in now.named_parameters():
        tensors[f"now.{name}"] = weight.detach()
        tensors |= {f"mean.{name}": optimiser.mean[name], f"square.{name}": optimiser.square[name]}
    state = {name: value for name, value in vars(done).items() if name != "best"} | {"steps": optimiser.steps}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    packed = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(packed, partial, {"digest": digest, "state": json.dumps(state)})
    partial.replace(path)


def load_state(path: Path, digest: str, now: Heads, optimiser: AdamW) -> TrainState | None:
    """Load weights and optimiser from `path`; None, and nothing set, where it holds no such training."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("digest") != digest:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    state = json.loads(about["state"])
    optimiser.steps = state.pop("steps")
    with torch.no_grad():
        for name, weight in now.named_parameters():
            weight.copy_(tensors[f"now.{name}"])
            optimiser.mean[name].copy_(tensors[f"mean.{name}"])
            optimiser.square[name].copy_(tensors[f"square.{name}"])
    best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
    state["history"] = [tuple(line) for line in state["history"]]
    return TrainState(best=best, **state)
