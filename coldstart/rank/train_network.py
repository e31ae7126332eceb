"""Train a network on showings by log loss, stop it on later ones, and predict with it.

It overfits within a few passes, so that it is stopped by the log loss on later rows. Plain features are standardised,
with a flag for those that are missing. A killed fit goes on from its last checkpoint to the same weights: the order of
a pass depends on the seed and its number, and the state of torch's random numbers is saved (that of a CPU; on a GPU
dropout draws anew).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from coldstart.rank.attention import Shape, TargetAttention
from coldstart.rank.long_ranker import LongRanker, LongShape

if TYPE_CHECKING:
    from coldstart.rank.model import Features, Recipe, Sequences

Doubles = NDArray[np.float64]
SAVED_EVERY_S = 20.0
"""Seconds between two checkpoints within a pass."""
_LIMIT = 5.0
"""Standard deviations at which a plain feature is cut."""


@dataclass
class FittedNetwork:
    """A fitted network with the scaling of the plain features.

    Attributes:
        events: what it predicts, in order.
        mean, spread: of each plain feature, float32 [F].
    """

    network: TargetAttention | LongRanker
    events: tuple[str, ...]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    device: str = "cpu"

    def predict(self, features: Features) -> dict[str, Doubles]:
        """Predict logits, float64 [N] an event, in blocks of bounded size."""
        sequences = features.sequences
        assert sequences is not None
        plain = self.scaled(features.values)
        found = np.empty((len(features), len(self.events)))
        self.network.prepare(sequences, self.device)
        self.network.eval()
        with torch.inference_mode():
            for rows in self.network.blocks(sequences, np.arange(len(features))):
                batch = self.network.gather(sequences, rows, self.device)
                logits = self.network(batch, torch.from_numpy(plain[rows]).to(self.device))
                found[rows] = logits.double().cpu().numpy()
        return {event: found[:, place] for place, event in enumerate(self.events)}

    def scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise plain features, 0 where one is missing, and flag those: float32 [N, 2 F]."""
        missing = np.isnan(values)
        scaled = np.clip((np.where(missing, self.mean, values) - self.mean) / self.spread, -_LIMIT, _LIMIT)
        return np.concatenate([scaled, missing], 1).astype(np.float32)


def fit_network(
    name: str,
    features: Features,
    labels: Mapping[str, NDArray[np.float32]],
    fitted: NDArray[np.bool_],
    stopped: NDArray[np.bool_] | None,
    recipe: Recipe,
    offsets: Mapping[str, NDArray[np.float32]],
    epochs: int | None = None,
    *,
    checkpoint: Path | None = None,
) -> tuple[FittedNetwork, int]:
    """Fit a network, and the passes it took.

    Args:
        name: `attention` or `long`.
        fitted: rows to fit on, bool [N]; stopped: rows whose log loss ends the fit; None: `epochs` passes are made.
        checkpoint: file that a killed fit goes on from.
    """
    sequences = features.sequences
    assert sequences is not None
    mean, spread = _scaling(features.values[fitted])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build_network(name, features, tuple(labels), recipe).to(recipe.device)
        found = FittedNetwork(network, tuple(labels), mean, spread, recipe.device)
        return found, _Training(name, found, features, labels, offsets, recipe, checkpoint).run(fitted, stopped, epochs)


def build_network(
    name: str, features: Features, events: tuple[str, ...], recipe: Recipe
) -> TargetAttention | LongRanker:
    """Build a network with fresh weights for features."""
    sequences = features.sequences
    assert sequences is not None
    sizes = (
        len(sequences.attributes), tuple(int(top) for top in sequences.attributes.max(0, initial=0)),
        int(sequences.events.max(initial=0)), features.values.shape[1], len(events), recipe.dim,
    )  # fmt: skip
    if name == "attention":
        found = 0 if sequences.found is None else sequences.found.items.shape[1]
        return TargetAttention(Shape(*sizes, sequences.histories.shape[1], found))
    shape = LongShape(*sizes, vectors=sequences.vectors.shape[1], merged=recipe.long_merged)
    return LongRanker(shape, recipe.long_backend)


class _Training:
    """State of one fit, which a checkpoint holds."""

    def __init__(
        self,
        name: str,
        found: FittedNetwork,
        features: Features,
        labels: Mapping[str, NDArray[np.float32]],
        offsets: Mapping[str, NDArray[np.float32]],
        recipe: Recipe,
        checkpoint: Path | None,
    ) -> None:
        self.found, self.features, self.recipe, self.checkpoint = found, features, recipe, checkpoint
        self.network = found.network
        self.plain = found.scaled(features.values)
        self.target = np.stack([labels[event] for event in found.events], 1).astype(np.float32)
        self.offset = np.stack([offsets[event] for event in found.events], 1).astype(np.float32)
        self.is_long = name == "long"
        self.rate = recipe.long_rate if self.is_long else recipe.learning_rate
        self.epochs = recipe.long_epochs if self.is_long else recipe.epochs
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.rate, weight_decay=recipe.decay)
        self.epoch = self.step = self.best_epoch = 0
        self.best = np.inf
        self.kept: dict[str, Tensor] | None = None
        self.done = False

    def run(self, fitted: NDArray[np.bool_], stopped: NDArray[np.bool_] | None, epochs: int | None) -> int:
        """Train; returns the passes that the weights took."""
        assert self.features.sequences is not None
        sequences, rows = self.features.sequences, np.flatnonzero(fitted)
        self.network.prepare(sequences, self.recipe.device)
        draw = np.random.default_rng(self.recipe.seed)
        if self.checkpoint is not None:
            self._resume(self.checkpoint)
        for _ in range(self.epoch):
            self.network.steps(sequences, rows, draw)  # passes that were made draw as they did
        last = epochs or self.epochs
        while self.epoch < last and not self.done:
            self._pass(self.network.steps(sequences, rows, draw), sequences, last)
            self.epoch, self.step = self.epoch + 1, 0
            if stopped is not None:
                self._judge(np.flatnonzero(stopped))
            self._save()
        if self.kept is not None:
            self.network.load_state_dict(self.kept)
            return self.best_epoch
        return self.epoch

    def _pass(self, batches: Sequence[NDArray[Any]], sequences: Sequences, epochs: int) -> None:
        self.network.train()
        device, saved = self.recipe.device, monotonic()
        while self.step < len(batches):
            chosen = batches[self.step]
            if self.is_long:
                done = (self.epoch + self.step / len(batches)) / epochs
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate * long_schedule(done)
            plain = torch.from_numpy(self.plain[chosen]).to(device)
            logits = self.network(self.network.gather(sequences, chosen, device), plain)
            loss = log_loss(logits, self.target[chosen], self.offset[chosen])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            if monotonic() - saved > SAVED_EVERY_S:
                self._save()
                saved = monotonic()

    def _judge(self, later: NDArray[Any]) -> None:
        """Keep the weights if the log loss of later rows fell, else end the fit."""
        own = self.found.predict(self.features.where(later))
        stacked = torch.from_numpy(np.stack([own[event] for event in self.found.events], 1)).float()
        value = float(log_loss(stacked, self.target[later], self.offset[later]))
        if value < self.best:
            self.best, self.best_epoch = value, self.epoch
            self.kept = {name: one.clone() for name, one in self.network.state_dict().items()}
        else:
            self.done = True

    # -- checkpoints

    def _save(self) -> None:
        from safetensors.torch import save_file

        if self.checkpoint is None:
            return
        tensors = {f"now.{name}": one for name, one in self.network.state_dict().items()}
        tensors |= {f"kept.{name}": one for name, one in (self.kept or {}).items()}
        for name, weight in self.network.named_parameters():
            for kind, one in self.optimizer.state.get(weight, {}).items():
                tensors[f"{kind}.{name}"] = one
        tensors["draws"] = torch.get_rng_state()
        about = {name: getattr(self, name) for name in ("epoch", "step", "best_epoch", "best", "done")}
        written = self.checkpoint.with_suffix(".part")
        written.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()},
            written,
            {"state": json.dumps(about)},
        )
        written.replace(self.checkpoint)

    def _resume(self, path: Path) -> None:
        """Read a checkpoint; where there is none, or one of another network, the fit starts from the beginning."""
        from safetensors import SafetensorError, safe_open

        fresh = {name: one.clone() for name, one in self.network.state_dict().items()}
        draws = torch.get_rng_state()
        try:
            with safe_open(path, "pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

            def of(kind: str) -> dict[str, Tensor]:
                own = {
                    name.removeprefix(f"{kind}."): one for name, one in tensors.items() if name.startswith(f"{kind}.")
                }
                if own and {name: one.shape for name, one in own.items()} != {
                    name: one.shape for name, one in fresh.items()
                }:
                    raise ValueError("weights of another network")
                return own

            now, kept = of("now"), of("kept")
            epoch, step, best_epoch = (int(state[name]) for name in ("epoch", "step", "best_epoch"))
            best, done = float(state["best"]), bool(state["done"])
            for name, weight in self.network.named_parameters():
                own = {kind: tensors[f"{kind}.{name}"].to(weight.device if kind != "step" else "cpu")
                       for kind in ("step", "exp_avg", "exp_avg_sq") if f"{kind}.{name}" in tensors}  # fmt: skip
                if own and any(own[kind].shape != weight.shape for kind in ("exp_avg", "exp_avg_sq")):
                    raise ValueError("a state of another network")
                self.optimizer.state[weight] = own
            self.network.load_state_dict(now)
            torch.set_rng_state(tensors["draws"])
        except (OSError, SafetensorError, LookupError, ValueError, TypeError, RuntimeError):
            self.optimizer.state.clear()
            self.network.load_state_dict(fresh)
            torch.set_rng_state(draws)
            return
        self.epoch, self.step, self.best_epoch, self.best, self.done = epoch, step, best_epoch, best, done
        self.kept = {name: one.to(self.recipe.device) for name, one in kept.items()} or None


def long_schedule(done: float) -> float:
    """Compute the learning rate of long attention as a share of its largest: up during the first tenth of the training,
    then down by a cosine to a tenth; `done` is the share of the training that is done."""
    if done < 0.1:
        return 0.1 + 9 * done
    return 0.1 + 0.45 * (1 + float(np.cos(np.pi * (done - 0.1) / 0.9)))


def log_loss(logits: Tensor, target: NDArray[np.float32], offset: NDArray[np.float32]) -> Tensor:
    """Mean binary cross-entropy over the labels that are known."""
    wanted, shift = (torch.from_numpy(one).to(logits.device) for one in (target, offset))
    known = ~torch.isnan(wanted)
    found: Tensor = F.binary_cross_entropy_with_logits((logits + shift)[known], wanted[known])
    return found


def _scaling(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each column, of what is known."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    spread = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(0) / count)
    return mean.astype(np.float32), np.maximum(spread, 1e-6).astype(np.float32)


def load_network(
    name: str, shape: Mapping[str, Any], stored: Mapping[str, NDArray[Any]], events: tuple[str, ...], backend: str
) -> FittedNetwork:
    """Build a network from stored weights, by checked sizes.

    Raises:
        ValueError: the weights are those of another network, or no numbers.
    """
    build: Callable[[], TargetAttention | LongRanker] = (
        (lambda: TargetAttention(Shape(**shape)))
        if name == "attention"
        else (lambda: LongRanker(LongShape(**shape), backend))
    )
    with torch.device("meta"):
        network = build()
    wanted = {name: tuple(own.shape) for name, own in network.state_dict().items()}
    weights = {name: own for name, own in stored.items() if not name.startswith("_")}
    if {name: own.shape for name, own in weights.items()} != wanted:
        raise ValueError("weights of another network")
    mean, spread = stored["_mean"], stored["_spread"]
    if mean.shape != (shape["features"],) or spread.shape != mean.shape or (spread <= 0).any():
        raise ValueError("scaling of other features")
    if any(own.dtype != np.float32 or not np.isfinite(own).all() for own in stored.values()):
        raise ValueError("weights that are no numbers")
    network.load_state_dict({name: torch.from_numpy(own) for name, own in weights.items()}, assign=True)
    return FittedNetwork(network.eval(), events, mean, spread)
