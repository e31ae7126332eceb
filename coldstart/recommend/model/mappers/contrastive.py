"""Train a tower over content by contrastive pairs: items that the same users like lie close; a user is their mean.

As in PinCLIP and QARM, content is aligned to behaviour by pairs of items, not by vectors of a teacher. Pairs and the
correction for sampling frequency take popularity out of the space, so popularity predicted from content comes back as
one more dimension, with the weight that ranks held-out items best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from coldstart.core.device import choose_device
from coldstart.core.optim import AdamW
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, Tried, Vectors
from coldstart.recommend.model.holdout import ValidationSet, train
from coldstart.recommend.model.pairs import (
    Batch,
    Batches,
    PairSource,
    item_pairs,
    source_of_histories,
    source_of_pairs,
    user_pairs,
)
from coldstart.recommend.model.threads import seeded_weights
from coldstart.recommend.model.towers import (
    Tower,
    pair_loss,
    principal_directions,
    random_dropout,
    restore_tower,
    torch_generator,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)  # candidate weights of predicted popularity


@dataclass(frozen=True)
class Recipe:
    """Settings of the training.

    Attributes:
        dim: dimensions of a vector, without popularity.
        hidden: widths of the hidden layers; None: (512, 256), or (256,) below 5,000 items.
        pairs: `histories`: each liked item with the mean of `bag` others that its user likes; `items`: two items that
            users like together; `users`: each liked item with the most similar of its user's others, by the teacher.
        cap: most examples of an item; kind, min_together, top: of `item_pairs`.
        examples: most examples of an epoch.
        batch_size: pairs a step; at most an eighth of all.
        others: negatives a batch drawn evenly from all items with an interaction, beside the batch's other positives.
        hard: negatives of the same category for each pair.
        dropout: share of the inputs and of each hidden layer that a step drops.
        log_q: correct for sampling frequency.
    """

    dim: int = 128
    hidden: Sequence[int] | None = None
    pairs: Literal["histories", "items", "users"] = "histories"
    kind: Literal["cosine", "swing"] = "cosine"
    min_together: int = 3
    top: int = 10
    cap: int = 50
    bag: int = 8
    examples: int = 50_000
    batch_size: int = 1024
    others: int = 512
    hard: int = 1
    temperature: float = 0.2
    dropout: float = 0.2
    lr: float = 1e-3
    weight_decay: float = 1e-2
    log_q: bool = True
    device: str = "auto"


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    epochs: int = 30,
    patience: int = 5,
    valid_share: float = 0.1,
    refit: bool = True,
    popularity: float | None = None,
    **recipe: object,
) -> Contrastive:
    """Train a mapper with early stopping; settings as `Recipe` and `holdout.train`.

    Args:
        popularity: weight of predicted popularity, 0 for none; None: selected on the held-out items.

    Raises:
        ColdstartError: too few items are liked together.
    """
    own = Recipe(**recipe)  # type: ignore[arg-type]
    trained = train(
        lambda part: _Learner(part, own, seed),
        problem,
        epochs=epochs,
        patience=patience,
        valid_share=valid_share,
        refit=refit,
        seed=seed,
    )
    weight, tried = popularity or 0.0, dict(trained.tried)
    if popularity is None and trained.validation is not None and trained.validated is not None:
        tried["popularity"] = _try_weights(trained.validated, trained.validation)
        weight = max(tried["popularity"], key=tried["popularity"].__getitem__)
    return replace(trained.mapper, weight=weight, tried=tried)


def restore(arrays: Arrays) -> Contrastive:
    """Restore a mapper from its arrays."""
    return Contrastive(
        restore_tower(arrays, "tower."),
        arrays["liked"],
        arrays["change"],
        arrays["prior"],
        float(np.asarray(arrays["weight"]).ravel()[0]),
    )


@dataclass(frozen=True)
class Contrastive:
    """Fitted contrastive mapper; see `coldstart.recommend.model.Mapper`.

    Attributes:
        liked: unit vectors of the training items, float32 [I, D].
        change: float32 [D + 1, D]: linear map of the mean of a history, its last row added.
        prior: float32 [F + 1]: coefficients of predicted popularity, the last one added; popularity has mean 0 and
            deviation 1 over the training items.
        weight: weight of popularity in scores.
        tried: see `coldstart.recommend.model.Tried`.
    """

    tower: Tower
    liked: Vectors
    change: Vectors
    prior: Vectors
    weight: float
    tried: Tried = field(default_factory=dict)

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        features = np.asarray(features, np.float32)
        known = np.any(features != 0, axis=1)
        vectors = np.zeros((len(features), self.liked.shape[1] + 1), np.float32)
        vectors[known, :-1] = unit(self.tower.vectors(features[known]))
        vectors[known, -1] = features[known] @ self.prior[:-1] + self.prior[-1]
        return vectors

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        sums = np.asarray(abs(histories).sum(axis=1), np.float32)
        means = np.asarray(histories @ self.liked, np.float32) / np.maximum(sums, 1e-12)
        some = sums > 0
        moved = np.where(some, means @ self.change[:-1] + self.change[-1], 0)
        return np.concatenate([moved, np.where(some, self.weight, 0)], axis=1).astype(np.float32)

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` reads."""
        return {
            **self.tower.arrays("tower."),
            "liked": self.liked,
            "change": self.change,
            "prior": self.prior,
            "weight": np.array([self.weight], np.float32),
        }


class _Learner:
    """Training in progress; see `holdout.Learner`."""

    def __init__(self, problem: Problem, recipe: Recipe, seed: int) -> None:
        self._features, self._recipe = np.ascontiguousarray(problem.features, np.float32), recipe
        self._device = choose_device(recipe.device)
        known = np.any(self._features != 0, axis=1)
        met = known & (np.bincount(problem.exposed.indices, minlength=len(known)) > 0)
        self._batches = Batches(
            _source(problem, recipe, seed, known),
            np.flatnonzero(met),
            problem.categories,
            others=recipe.others,
            size=recipe.batch_size,
            bag=recipe.bag,
            hard=recipe.hard,
            log_q=recipe.log_q,
            seed=seed,
        )
        counts = np.asarray((problem.matrix > 0).sum(axis=0)).ravel()
        self._prior = _popularity(self._features, counts, known)
        items, inputs = self._features.shape
        hidden = recipe.hidden if recipe.hidden is not None else ((512, 256) if items >= 5000 else (256,))
        with seeded_weights(seed):
            self._tower = Tower(inputs, hidden, recipe.dim)
        self._tower.set_linear(principal_directions(self._features[known], recipe.dim) * inputs**0.5)
        self._tower.to(self._device)
        start = np.concatenate([np.eye(recipe.dim), np.zeros((1, recipe.dim))]).astype(np.float32)
        self._change = torch.tensor(start, device=self._device, requires_grad=recipe.pairs == "histories")
        weights = {**dict(self._tower.named_parameters()), "change": self._change}
        goals: dict[str, torch.Tensor | None] = {name: None for name, weight in weights.items() if weight.ndim == 2}
        for name in ("straight.weight", "change"):
            goals[name] = weights[name].detach().clone()
        self._optimiser = AdamW(weights, goals, recipe.weight_decay, (0.9, 0.999))
        self._drop = random_dropout(recipe.dropout, torch_generator(seed))

    def epoch(self) -> float:
        """Train one epoch; returns the mean loss."""
        losses = []
        for batch in self._batches.epoch(self._recipe.examples):
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step(self._recipe.lr)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def mapper(self) -> Contrastive:
        """Return the current mapper."""
        tower, change = restore_tower(self._tower.arrays()), self._change.detach().cpu().numpy().copy()
        bare = Contrastive(tower, np.zeros((0, self._recipe.dim), np.float32), change, self._prior, 0.0)
        return replace(bare, liked=np.ascontiguousarray(bare.items(self._features)[:, :-1]))

    def _loss(self, batch: Batch) -> torch.Tensor:
        size, dim = len(batch.items), self._recipe.dim
        parts = (batch.bags, batch.items, batch.others, batch.hard)
        wanted, places = np.unique(np.concatenate([part.ravel() for part in parts]), return_inverse=True)
        rows = torch.from_numpy(self._features[wanted]).to(self._device)
        vectors = functional.normalize(self._tower(rows, self._drop), dim=1)
        placed = torch.from_numpy(places).to(self._device)
        bags, single = torch.split(placed, [batch.bags.size, len(places) - batch.bags.size])
        means = functional.embedding_bag(bags.reshape(size, -1), vectors, mode="mean")
        second, hard = torch.split(functional.embedding(single, vectors), [size + len(batch.others), batch.hard.size])
        return pair_loss(
            means @ self._change[:-1] + self._change[-1],
            second,
            hard.reshape(size, -1, dim),
            batch.correction.to(self._device),
            self._recipe.temperature,
        )


def _source(problem: Problem, recipe: Recipe, seed: int, known: NDArray[np.bool_]) -> PairSource:
    if recipe.pairs == "histories":
        liked = problem.matrix.tocsr().multiply(known[None]).tocsr()
        liked.eliminate_zeros()
        source = source_of_histories(liked, cap=recipe.cap, seed=seed)
    elif recipe.pairs == "users":
        pairs = user_pairs(problem.matrix, unit(problem.teacher.items), cap=recipe.cap, seed=seed)[0]
        source = source_of_pairs(pairs[known[pairs].all(axis=1)], len(known))
    elif recipe.pairs == "items":
        pairs = item_pairs(
            problem.matrix,
            kind=recipe.kind,
            min_together=recipe.min_together,
            top=recipe.top,
            cap=recipe.cap,
            seed=seed,
        )[0]
        source = source_of_pairs(pairs[known[pairs].all(axis=1)], len(known))
    else:
        raise ColdstartError(f"contrastive, no pairs {recipe.pairs!r}: choose histories, items or users")
    if len(source.examples) < 2:
        raise ColdstartError(
            f"contrastive: {len(source.examples)} pairs of {recipe.pairs}, and a fit needs 2: "
            "ingest more interactions, or leave contrastive out"
        )
    return source


def _popularity(features: Vectors, counts: NDArray[np.int64], known: NDArray[np.bool_]) -> Vectors:
    """Fit a ridge of log(1 + users) on content over the liked items, scaled to deviation 1: float32 [F + 1]."""
    rows = features[known & (counts > 0)].astype(np.float64)
    target = np.log1p(counts[known & (counts > 0)])
    centre = rows.mean(axis=0)
    gram = (rows - centre).T @ (rows - centre)
    gram[np.diag_indices_from(gram)] += max(np.trace(gram) / len(gram), 1e-12)
    coefficients = np.linalg.solve(gram, (rows - centre).T @ (target - target.mean()))
    coefficients /= (rows @ coefficients).std() or 1.0
    return np.append(coefficients, -centre @ coefficients).astype(np.float32)


def _try_weights(mapper: Contrastive, validation: ValidationSet) -> dict[float, float]:
    return {weight: validation.ndcg(replace(mapper, weight=weight)) for weight in _WEIGHTS}
