"""Train content vectors to replace an item's own vector: CLCRec (Wei et al., ACM Multimedia 2021).

It departs from the paper in three points. A user's vector is a trained map of the teacher's fold-in of a history, not a
free parameter, so that new users have one too. Negatives are drawn for a batch, not for each like. Training starts from
the teacher, and from its least squares on content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

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
    """Settings of the training; vectors have the teacher's dimensions.

    Attributes:
        hidden: widths of the hidden layers; none for a linear tower.
        negatives: negatives of a batch; temperature: divisor of dot products.
        item_temperature: divisor of cosines of items with contents; None: `temperature`, as in the paper.
        item_share: weight of the loss between items and contents; the loss between users and items gets the rest.
        content_share: share of the items represented by their content in the latter.
        distil: add the losses of ALDI.
        likes: most likes of an epoch.
    """

    hidden: Sequence[int] = (256,)
    negatives: int = 128
    temperature: float = 2.0
    item_temperature: float | None = None
    item_share: float = 0.5
    content_share: float = 0.5
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
) -> Clcrec:
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


def restore(arrays: Arrays) -> Clcrec:
    """Restore a mapper from its arrays."""
    return Clcrec(restore_tower(arrays, "tower."), restore_fold_in(arrays), arrays["change"])


@dataclass(frozen=True)
class Clcrec:
    """Fitted CLCRec; see `coldstart.recommend.model.Mapper`.

    Attributes:
        change: float32 [D, D]: maps the teacher's users here.
        tried: see `coldstart.recommend.model.Tried`.
    """

    tower: Tower
    fold_in: FoldIn
    change: Vectors
    tried: Tried = field(default_factory=dict)

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        return self.tower.vectors(features)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return self.fold_in.users(histories) @ self.change

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` reads."""
        return {**self.tower.arrays("tower."), **self.fold_in.arrays(), "change": self.change}


def clcrec_loss(
    users: torch.Tensor,
    own: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    others: tuple[torch.Tensor, torch.Tensor],
    out: torch.Tensor,
    *,
    temperature: float,
    item_temperature: float,
    item_share: float,
) -> torch.Tensor:
    """Compute `item_share InfoNCE(v / |v|, c / |c|) + (1 - item_share) InfoNCE(u, m)`, a mean over B likes.

    Args:
        users: u, [B, D]. own: vector v, content c and their mixture m of the liked items, each [B, D].
        others: content and mixture of the negatives, each [n, D].
        out: bool [B, n]: negatives to ignore, since the user likes them.
    """
    vectors, contents, mixed = own
    anchors, contents = functional.normalize(vectors, dim=1), functional.normalize(contents, dim=1)
    losses = []
    for left, right, wrong, by in (
        (anchors, contents, functional.normalize(others[0], dim=1), item_temperature),
        (users, mixed, others[1], temperature),
    ):
        right_scores = (left * right).sum(1, keepdim=True) / by
        wrong_scores = (left @ wrong.T / by).masked_fill(out, -torch.inf)
        losses.append(-torch.cat([right_scores, wrong_scores], dim=1).log_softmax(1)[:, 0].mean())
    return item_share * losses[0] + (1 - item_share) * losses[1]


class _Learner:
    """Training in progress; see `holdout.Learner`."""

    def __init__(self, problem: Problem, recipe: Recipe, seed: int) -> None:
        self._likes, self._recipe = Likes("clcrec", problem, seed), recipe
        self._device = choose_device(recipe.device)
        likes, dim = self._likes, self._likes.items.shape[1]
        with seeded_weights(seed):
            self._tower = Tower(likes.features.shape[1], recipe.hidden, dim, norm=False)
        # scores of the teacher lie within 0 and 1, where a temperature of 2 sees no difference
        stretch = float(recipe.temperature / max(_spread(likes), 1e-6)) ** 0.5
        self._tower.set_linear(likes.ridge_on_content() * stretch)
        self._tower.to(self._device)
        self._own = torch.tensor(likes.items * stretch, device=self._device).requires_grad_(True)
        self._change = (torch.eye(dim, device=self._device) * stretch).requires_grad_(True)
        self._teacher = torch.tensor(likes.items * stretch**2, device=self._device)
        towers = dict(self._tower.named_parameters())
        weights = {**towers, "own": self._own, "change": self._change}
        goals: dict[str, torch.Tensor | None] = {name: None for name, weight in towers.items() if weight.ndim == 2}
        goals["straight.weight"] = self._tower.straight.weight.detach().clone()
        self._optimiser = AdamW(weights, goals, recipe.weight_decay, (0.9, 0.999))
        self._drop = random_dropout(recipe.dropout, torch_generator(seed))

    def epoch(self) -> float:
        """Train one epoch; returns the mean loss."""
        recipe, losses = self._recipe, []
        for draw in self._likes.batches(recipe.batch_size, recipe.negatives, recipe.likes):
            loss = self._loss(draw)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step(recipe.lr)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def mapper(self) -> Clcrec:
        """Return the current mapper."""
        change = self._change.detach().cpu().numpy() * np.float32(self._likes.scale)
        return Clcrec(restore_tower(self._tower.arrays()), self._likes.fold_in, change)

    def _loss(self, draw: LikeBatch) -> torch.Tensor:
        recipe, likes, device, size = self._recipe, self._likes, self._device, len(draw.items)
        items, places = np.unique(np.concatenate([draw.items, draw.others]), return_inverse=True)
        contents = self._tower(torch.from_numpy(likes.features[items]).to(device), self._drop)
        vectors = self._own[torch.from_numpy(items).to(device)]
        gives_way = torch.from_numpy(likes.random.random(len(places)) < recipe.content_share).to(device)
        chosen = torch.from_numpy(places).to(device)
        contents, vectors = contents[chosen], vectors[chosen]
        mixed = torch.where(gives_way[:, None], contents, vectors)
        folded = torch.from_numpy(likes.users[draw.users]).to(device)
        users = folded @ self._change
        out = torch.from_numpy(draw.liked | (draw.others[None] == draw.items[:, None])).to(device)
        loss = clcrec_loss(
            users,
            (vectors[:size], contents[:size], mixed[:size]),
            (contents[size:], mixed[size:]),
            out,
            temperature=recipe.temperature,
            item_temperature=recipe.item_temperature or recipe.temperature,
            item_share=recipe.item_share,
        )
        if not recipe.distil:
            return loss
        other = torch.arange(size, device=device) % len(draw.others)
        kept = ~out[torch.arange(size, device=device), other]
        teacher = self._teacher[torch.from_numpy(items).to(device)][chosen]
        pairs = [
            ((by[0] * found[:size]).sum(1)[kept], (by[0] * found[size:][other]).sum(1)[kept])
            for by, found in (((users,), contents), ((folded,), teacher))
        ]
        counts = torch.from_numpy(likes.counts[draw.items].astype(np.float32)).to(device)[kept]
        return loss + aldi_loss(pairs[0], pairs[1], counts) if bool(kept.any()) else loss


def _spread(likes: Likes) -> float:
    """Compute the standard deviation of the teacher's scores over users and liked items."""
    users, items = likes.users[likes.users.any(axis=1)], likes.items[likes.counts > 0]
    centred = items - items.mean(axis=0)
    return float(
        np.sqrt(np.mean(np.einsum("ud,de,ue->u", users, centred.T @ centred / len(items), users, optimize=True)))
    )
