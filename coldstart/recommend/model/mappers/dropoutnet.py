"""Train towers over behaviour and content with dropout of behaviour: DropoutNet (Volkovs, Yu & Poutanen, NeurIPS 2017).

An item's tower sees its behaviour only half of the time, so that it also works without. All items are served as cold,
by content. A user's tower sees the teacher's fold-in of a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coldstart.core.device import choose_device
from coldstart.core.optim import AdamW
from coldstart.recommend.model import Arrays, Problem, Tried, Vectors
from coldstart.recommend.model.factors import FoldIn, restore_fold_in
from coldstart.recommend.model.holdout import train
from coldstart.recommend.model.threads import seeded_weights
from coldstart.recommend.model.towers import (
    LikeBatch,
    Likes,
    Tower,
    aldi_loss,
    random_dropout,
    restore_tower,
    torch_generator,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Recipe:
    """Settings of the training.

    Attributes:
        hidden: widths of the hidden layers of both towers; dim: dimensions of a vector.
        drop: share of the items whose behaviour is dropped.
        negatives: items a batch that are drawn evenly, assigned to likes in turn.
        distil: add the losses of ALDI.
        likes: most likes of an epoch.
    """

    hidden: Sequence[int] = (200,)
    dim: int = 100
    drop: float = 0.5
    negatives: int = 512
    distil: bool = False
    likes: int = 200_000
    batch_size: int = 1024
    dropout: float = 0.2
    lr: float = 3e-4
    weight_decay: float = 1e-2
    device: str = "auto"


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    epochs: int = 30,
    patience: int = 5,
    valid_share: float = 0.1,
    refit: bool = True,
    **recipe: Any,
) -> Dropoutnet:
    """Train a mapper with early stopping; settings as `Recipe` and `holdout.train`.

    Raises:
        ColdstartError: no liked item has content.
    """
    own = Recipe(**recipe)
    trained = train(
        lambda part: _Learner(part, own, seed),
        problem,
        epochs=epochs,
        patience=patience,
        valid_share=valid_share,
        refit=refit,
        seed=seed,
    )
    return replace(trained.mapper, tried=trained.tried)


def restore(arrays: Arrays) -> Dropoutnet:
    """Restore a mapper from its arrays."""
    return Dropoutnet(
        restore_tower(arrays, "item."),
        restore_tower(arrays, "user."),
        restore_fold_in(arrays),
        float(np.asarray(arrays["scale"]).ravel()[0]),
    )


@dataclass(frozen=True)
class Dropoutnet:
    """Fitted DropoutNet; see `coldstart.recommend.model.Mapper`.

    Attributes:
        scale: factor of users before their tower.
        tried: see `coldstart.recommend.model.Tried`.
    """

    item_tower: Tower
    user_tower: Tower
    fold_in: FoldIn
    scale: float
    tried: Tried = field(default_factory=dict)

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        behaviour = self.item_tower.straight.in_features - features.shape[1]
        return self.item_tower.vectors(np.pad(np.asarray(features, np.float32), ((0, 0), (behaviour, 0))))

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        folded = self.fold_in.users(histories)
        found = self.user_tower.vectors(folded * np.float32(self.scale))
        found[~folded.any(axis=1)] = 0
        return found

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` reads."""
        scale = np.array([self.scale], np.float64)
        return {
            **self.item_tower.arrays("item."),
            **self.user_tower.arrays("user."),
            **self.fold_in.arrays(),
            "scale": scale,
        }


class _Learner:
    """Training in progress; see `holdout.Learner`."""

    def __init__(self, problem: Problem, recipe: Recipe, seed: int) -> None:
        self._likes, self._recipe = Likes("dropoutnet", problem, seed), recipe
        self._device = choose_device(recipe.device)
        likes = self._likes
        behaviour, features = likes.items.shape[1], likes.features.shape[1]
        with seeded_weights(seed):
            self._item = Tower(behaviour + features, recipe.hidden, recipe.dim, norm=False)
            self._user = Tower(behaviour, recipe.hidden, recipe.dim, norm=False)
        same = np.eye(behaviour, recipe.dim, dtype=np.float32)
        self._user.set_linear(same)
        self._item.set_linear(np.concatenate([0 * same, likes.ridge_on_content() @ same]))
        weights: dict[str, torch.Tensor] = {}
        for name, tower in (("item", self._item), ("user", self._user)):
            tower.to(self._device)
            weights |= {f"{name}.{own}": weight for own, weight in tower.named_parameters()}
        goals: dict[str, torch.Tensor | None] = {name: None for name, weight in weights.items() if weight.ndim == 2}
        for name in ("item.straight.weight", "user.straight.weight"):
            goals[name] = weights[name].detach().clone()
        self._optimiser = AdamW(weights, goals, recipe.weight_decay, (0.9, 0.999))
        self._blank = random_dropout(recipe.dropout, torch_generator(seed))

    def epoch(self) -> float:
        """Train one epoch; returns the mean loss."""
        recipe, losses = self._recipe, []
        for draw in self._likes.batches(recipe.batch_size, recipe.negatives, recipe.likes):
            loss = self._loss(draw)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step(recipe.lr)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def mapper(self) -> Dropoutnet:
        """Return the current mapper."""
        towers = [restore_tower(tower.arrays()) for tower in (self._item, self._user)]
        return Dropoutnet(towers[0], towers[1], self._likes.fold_in, self._likes.scale)

    def _loss(self, draw: LikeBatch) -> torch.Tensor:
        """Compute the mean squared error to the teacher's scores, over each like and one negative for it."""
        recipe, likes, device, size = self._recipe, self._likes, self._device, len(draw.items)
        other = np.arange(size) % len(draw.others)
        items, places = np.unique(np.concatenate([draw.items, draw.others[other]]), return_inverse=True)
        seen = likes.random.random((len(items), 1)) >= recipe.drop
        rows = np.concatenate([likes.items[items] * seen, likes.features[items]], axis=1)
        found = self._item(torch.from_numpy(rows.astype(np.float32)).to(device), self._blank)
        chosen = torch.from_numpy(places).to(device)
        folded = torch.from_numpy(likes.users[draw.users]).to(device)
        users = self._user(folded)
        behaviour = torch.from_numpy(likes.items[items]).to(device)[chosen]
        student, teacher = (
            ((by * of[:size]).sum(1), (by * of[size:]).sum(1))
            for by, of in ((users, found[chosen]), (folded, behaviour))
        )
        loss = sum(((ours - theirs) ** 2).mean() for ours, theirs in zip(student, teacher, strict=True)) / 2
        if not recipe.distil:
            return loss  # type: ignore[return-value]
        kept = torch.from_numpy(~draw.liked[np.arange(size), other] & (draw.others[other] != draw.items)).to(device)
        if not bool(kept.any()):
            return loss  # type: ignore[return-value]
        counts = torch.from_numpy(likes.counts[draw.items].astype(np.float32)).to(device)[kept]
        pairs = [(liked[kept], unliked[kept]) for liked, unliked in (student, teacher)]
        return loss + aldi_loss(pairs[0], pairs[1], counts)
