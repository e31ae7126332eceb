"""Score candidates by attention of the candidate over a user's history, beside the plain features.

Deep Interest Network (Zhou et al., 2018, arXiv 1706.06978) with scaled dot-product attention in place of its own unit:
the candidate is the query, the actions of the history are keys and values. It learns a vector for each item, creator,
category and event; plain features are standardised, with a flag for those that are missing. It overfits within a few
passes, so that it is stopped by the log loss on later rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from coldstart.rank.model import Features, Recipe, Sequences

Doubles = NDArray[np.float64]
_BATCH, _PREDICTED = 512, 4_096
_HEADS = 2
_LIMIT = 5.0
"""Standard deviations at which a plain feature is cut."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, which its weights are built from."""

    items: int
    attributes: tuple[int, ...]
    events: int
    features: int
    outputs: int
    dim: int
    length: int


class Network(nn.Module):
    """Network: attention of the candidate over its user's actions, and a perceptron over it and the plain features."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim = shape.dim
        self.shape = shape
        self.item = nn.Embedding(shape.items + 1, dim, padding_idx=0)
        self.attributes = nn.ModuleList(nn.Embedding(size + 1, dim, padding_idx=0) for size in shape.attributes)
        self.event = nn.Embedding(shape.events + 1, dim)
        self.place = nn.Embedding(shape.length + 1, dim)
        for table in (self.item, *self.attributes, self.event, self.place):
            nn.init.normal_(table.weight, std=0.05)
        with torch.no_grad():
            for table in (self.item, *self.attributes):
                table.weight[0] = 0
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.nothing = nn.Parameter(torch.zeros(1, 1, dim))
        width = 3 * dim + 2 * shape.features
        self.tower = nn.Sequential(
            nn.Linear(width, 2 * dim), nn.ReLU(), nn.Dropout(0.2), nn.Linear(2 * dim, dim), nn.ReLU(),
            nn.Linear(dim, shape.outputs),
        )  # fmt: skip

    def items(self, places: Tensor, codes: Tensor) -> Tensor:
        """Vectors of items: places from 1, 0 for none; `codes`: attributes of every place, int64 [I + 1, C].

        An item that came after the fit has those of its attributes alone.
        """
        found: Tensor = self.item(torch.where(places <= self.shape.items, places, 0))
        own = codes[places]
        for column, table in enumerate(self.attributes):
            found = found + table(own[..., column])
        return found

    def forward(self, batch: Mapping[str, Tensor], codes: Tensor) -> Tensor:
        """Logits, float32 [B, outputs]."""
        target = self.items(batch["items"], codes)
        history = batch["history"]
        length = history.shape[1]
        ages = torch.arange(length, 0, -1, device=history.device)
        keys = self.items(history, codes) + self.event(batch["events"]) + self.place(ages)[None]
        present = history > 0
        rows, dim = target.shape
        keys = torch.cat([self.nothing.expand(rows, 1, dim), keys], 1)  # what a user without a history attends to
        present = torch.cat([torch.ones(rows, 1, dtype=torch.bool, device=present.device), present], 1)

        def heads(x: Tensor) -> Tensor:
            return x.view(rows, -1, _HEADS, dim // _HEADS).transpose(1, 2)

        read = F.scaled_dot_product_attention(
            heads(self.query(target)[:, None]), heads(self.key(keys)), heads(self.value(keys)),
            attn_mask=present[:, None, None, :],
        )  # fmt: skip
        read = read.transpose(1, 2).reshape(rows, dim)
        out: Tensor = self.tower(torch.cat([target, read, target * read, batch["plain"]], 1))
        return out


@dataclass
class Attention:
    """A fitted network with the scaling of the plain features.

    Attributes:
        events: what it predicts, in order.
        mean, spread: of each plain feature, float32 [F].
    """

    network: Network
    events: tuple[str, ...]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    device: str = "cpu"

    def predict(self, features: Features) -> dict[str, Doubles]:
        """Predict logits, float64 [N] an event, in blocks of bounded size."""
        sequences = features.sequences
        assert sequences is not None
        plain = self.scaled(features.values)
        codes = _codes(sequences.attributes, self.network.shape).to(self.device)
        found = [np.empty((0, len(self.events)))]
        self.network.eval()
        with torch.inference_mode():
            for start in range(0, len(features), _PREDICTED):
                rows = np.arange(start, min(start + _PREDICTED, len(features)))
                batch = _batch(sequences, plain, rows, self.network.shape, self.device)
                found.append(self.network(batch, codes).double().cpu().numpy())
        every = np.concatenate(found)
        return {event: every[:, place] for place, event in enumerate(self.events)}

    def scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise plain features, 0 where one is missing, and flag those: float32 [N, 2 F]."""
        missing = np.isnan(values)
        scaled = np.clip((np.where(missing, self.mean, values) - self.mean) / self.spread, -_LIMIT, _LIMIT)
        return np.concatenate([scaled, missing], 1).astype(np.float32)


def fit_attention(
    features: Features,
    labels: Mapping[str, NDArray[np.float32]],
    fitted: NDArray[np.bool_],
    stopped: NDArray[np.bool_] | None,
    recipe: Recipe,
    offsets: Mapping[str, NDArray[np.float32]],
    epochs: int | None = None,
) -> tuple[Attention, int]:
    """Fit a network, and the passes it took.

    Args:
        fitted: rows to fit on, bool [N]; stopped: rows whose log loss ends the fit; None: `epochs` passes are made.
    """
    sequences = features.sequences
    assert sequences is not None
    own = features.values[fitted]
    known = ~np.isnan(own)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, own, 0).sum(0) / count
    spread = np.sqrt(np.where(known, (own - mean) ** 2, 0).sum(0) / count)
    events = tuple(labels)
    shape = Shape(
        len(sequences.attributes), tuple(int(top) for top in sequences.attributes.max(0, initial=0)),
        int(sequences.events.max(initial=0)), features.values.shape[1], len(events), recipe.dim,
        sequences.histories.shape[1],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        found = Attention(
            Network(shape).to(recipe.device), events, mean.astype(np.float32),
            np.maximum(spread, 1e-6).astype(np.float32), recipe.device,
        )  # fmt: skip
        plain = found.scaled(features.values)
        target = np.stack([labels[event] for event in events], 1).astype(np.float32)
        offset = np.stack([offsets[event] for event in events], 1).astype(np.float32)
        codes = _codes(sequences.attributes, shape).to(recipe.device)
        optimizer = torch.optim.AdamW(found.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.decay)
        rows, drawn = np.flatnonzero(fitted), np.random.default_rng(recipe.seed)
        best, kept, taken = np.inf, None, 0
        for epoch in range(epochs or recipe.epochs):
            found.network.train()
            order = drawn.permutation(rows)
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                logits = found.network(_batch(sequences, plain, chosen, shape, recipe.device), codes)
                loss = _loss(logits, target[chosen], offset[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(found.network.parameters(), 1.0)
                optimizer.step()
            taken = epoch + 1
            if stopped is not None:
                later = np.flatnonzero(stopped)
                own_logits = found.predict(features.where(later))
                stacked = torch.from_numpy(np.stack([own_logits[event] for event in events], 1)).float()
                value = float(_loss(stacked, target[later], offset[later]))
                if value >= best:
                    break
                best, kept = value, (taken, {name: one.clone() for name, one in found.network.state_dict().items()})
    if kept is not None:
        taken = kept[0]
        found.network.load_state_dict(kept[1])
    return found, taken


def _loss(logits: Tensor, target: NDArray[np.float32], offset: NDArray[np.float32]) -> Tensor:
    """Mean binary cross-entropy over the labels that are known."""
    wanted, shift = (torch.from_numpy(one).to(logits.device) for one in (target, offset))
    known = ~torch.isnan(wanted)
    found: Tensor = F.binary_cross_entropy_with_logits((logits + shift)[known], wanted[known])
    return found


def _codes(attributes: NDArray[np.int32], shape: Shape) -> Tensor:
    """Attributes of every item from place 1 on; place 0 is no item, code 0 none, as of one that came after the fit."""
    known = np.where(attributes <= np.array(shape.attributes, np.int64), attributes, 0)
    return torch.from_numpy(np.pad(known, ((1, 0), (0, 0))).astype(np.int64))


def _batch(
    sequences: Sequences, plain: NDArray[np.float32], rows: NDArray[Any], shape: Shape, device: str
) -> dict[str, Tensor]:
    """Gather rows as tensors."""

    def places(items: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(items.astype(np.int64) + 1).to(device)

    own = sequences.rows[rows]
    events = np.minimum(sequences.events[own, -shape.length :], shape.events)
    return {
        "items": places(sequences.items[rows]),
        "history": places(sequences.histories[own, -shape.length :]),
        "events": torch.from_numpy(events.astype(np.int64)).to(device),
        "plain": torch.from_numpy(plain[rows]).to(device),
    }


def load_attention(shape: Mapping[str, Any], stored: Mapping[str, NDArray[Any]], events: tuple[str, ...]) -> Attention:
    """Build a network from stored weights, by checked sizes.

    Raises:
        ValueError: the weights are those of another network, or no numbers.
    """
    with torch.device("meta"):
        network = Network(Shape(**shape))
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
    return Attention(network.eval(), events, mean, spread)
