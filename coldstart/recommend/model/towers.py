"""Train small networks on content and behaviour: towers, batches of likes, and the losses of ALDI and InfoNCE.

A tower maps the features of an item or a user to its vector. `Likes` holds what trainings on single likes share: users
by their histories, batches, and a start by least squares. Tensors in, tensors or a number out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from coldstart.recommend.model import Arrays, Problem, Vectors, confidence, trainable_items
from coldstart.recommend.model.factors import FoldIn, fit_fold_in

Drop = Callable[[torch.Tensor], torch.Tensor]
_ROWS = 8192  # mapped at a time, outside of training
Places = NDArray[np.int64]


class Tower(nn.Module):
    """Network of GELU layers added to a linear shortcut; then LayerNorm where `norm` is set.

    The layers' last weights start at zero, so that an untrained tower is its linear shortcut.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], dim: int, *, norm: bool = True) -> None:
        super().__init__()
        widths = [inputs, *hidden, dim]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.straight = nn.Linear(inputs, dim, bias=False)
        self.norm = nn.LayerNorm(dim) if norm else None
        for weight in (self.layers[-1].weight, self.layers[-1].bias):
            nn.init.zeros_(weight)  # type: ignore[arg-type]

    def forward(self, rows: torch.Tensor, drop: Drop | None = None) -> torch.Tensor:
        """Map float [B, inputs], of about unit length, to [B, dim]; `drop` is dropout on rows and hidden layers."""
        rows = rows * rows.shape[1] ** 0.5
        rows = drop(rows) if drop else rows
        found = rows
        for layer in self.layers[:-1]:
            found = functional.gelu(layer(found))
            found = drop(found) if drop else found
        added: torch.Tensor = self.layers[-1](found) + self.straight(rows)
        if self.norm is not None:
            added = self.norm(added)
        return added

    @torch.no_grad()
    def set_linear(self, matrix: Vectors) -> None:
        """Initialise the shortcut so that the untrained tower gives `rows @ matrix`, float [inputs, dim]."""
        weights = matrix.T / matrix.shape[0] ** 0.5
        self.straight.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights, np.float32)))

    @torch.no_grad()
    def vectors(self, rows: Vectors) -> Vectors:
        """Map many rows, float32 [N, inputs] -> float32 [N, dim], in blocks."""
        device = self.straight.weight.device
        blocks = [
            self(torch.from_numpy(np.ascontiguousarray(rows[start : start + _ROWS], np.float32)).to(device))
            .cpu()
            .numpy()
            for start in range(0, len(rows), _ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, self.straight.out_features), np.float32)

    def arrays(self, prefix: str = "") -> dict[str, Vectors]:
        """Return all weights by name, float32."""
        return {prefix + name: weight.detach().cpu().numpy().copy() for name, weight in self.state_dict().items()}


def restore_tower(arrays: Arrays, prefix: str = "") -> Tower:
    """Restore a tower from its arrays, on the CPU."""
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    count = sum(name.startswith("layers.") and name.endswith(".weight") for name in own)
    shapes = [own[f"layers.{place}.weight"].shape for place in range(count)]
    with torch.device("meta"):  # draws no weights, which would move the random numbers of a training beside this one
        tower = Tower(shapes[0][1], [shape[0] for shape in shapes[:-1]], shapes[-1][0], norm="norm.weight" in own)
    weights = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in own.items()}
    tower.load_state_dict(weights, assign=True)
    return tower.requires_grad_(False).eval()


def principal_directions(rows: Vectors, dim: int) -> Vectors:
    """Compute the first `dim` principal directions of rows [N, F], not centred: float32 [F, dim]; zeros beyond F."""
    gram = rows.astype(np.float64).T @ rows
    _, vectors = np.linalg.eigh(gram)
    found = np.zeros((rows.shape[1], dim), np.float32)
    best = vectors[:, ::-1][:, :dim]
    found[:, : best.shape[1]] = best
    return found


def random_dropout(share: float, generator: torch.Generator) -> Drop | None:
    """Build a dropout of this share, drawn on the CPU; None for 0."""
    if not share:
        return None

    def drop(values: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(values.shape, generator=generator).ge_(share).div_(1 - share)
        return values * kept.to(values.device)

    return drop


def torch_generator(seed: int) -> torch.Generator:
    """Create a random generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def aldi_loss(
    student: tuple[torch.Tensor, torch.Tensor],
    teacher: tuple[torch.Tensor, torch.Tensor],
    counts: torch.Tensor,
    *,
    rating: float = 0.1,
    ranking: float = 1.0,
    steepness: float = 0.1,
) -> torch.Tensor:
    """Compute the losses of Huang et al., "Aligning Distillation For Cold-Start Item Recommendation", SIGIR 2023.

    With s+ and s- the scores of a liked and another item by student (S) and teacher (T), and w = tanh(steepness n+) for
    the n+ users of the liked item, since a teacher knows little of an item with few, the mean over B triples of

        -log sigmoid(s+_S - s-_S)  +  w rating (|s+_T - s+_S| + |s-_T - s-_S|) / 2
                                   +  w ranking BCE(s+_S - s-_S, sigmoid(s+_T - s-_T))

    Args:
        student, teacher: scores of the liked and of the other item, each [B]; counts: n+, [B].

    Returns:
        A number.
    """
    gap = student[0] - student[1]
    weight = torch.tanh(steepness * counts)
    apart = ((teacher[0] - student[0]).abs() + (teacher[1] - student[1]).abs()) / 2
    goal = torch.sigmoid(teacher[0] - teacher[1])
    order = functional.binary_cross_entropy_with_logits(gap, goal, reduction="none")
    return (-functional.logsigmoid(gap) + weight * (rating * apart + ranking * order)).mean()


@dataclass(frozen=True)
class LikeBatch:
    """Batch of likes.

    Attributes:
        users: int64 [B]; items: int64 [B], one that each likes.
        others: int64 [n]: drawn evenly from all items with an interaction; liked: bool [B, n]: known likes among them.
    """

    users: Places
    items: Places
    others: Places
    liked: NDArray[np.bool_]


class Likes:
    """Users, items and likes of a problem, scaled for training."""

    def __init__(self, name: str, problem: Problem, seed: int) -> None:
        """`name`: of the mapper, for error messages."""
        self.counts = trainable_items(name, problem)
        self.matrix = problem.matrix.tocsr()
        self.features = np.ascontiguousarray(problem.features, np.float32)
        self.fold_in: FoldIn = fit_fold_in(problem.teacher, self.matrix)
        folded, items = self.fold_in.users(self.matrix), problem.teacher.items
        typical = float(np.sqrt(np.mean((folded[folded.any(axis=1)] ** 2).sum(axis=1)) or 1.0))
        self.scale = 1 / typical
        """Factor that brings folded-in users to about unit length; items are divided by it."""
        self.users, self.items = folded * np.float32(self.scale), items * np.float32(typical)
        users = np.repeat(np.arange(self.matrix.shape[0]), np.diff(self.matrix.indptr))
        kept = (self.matrix.data > 0) & (self.counts[self.matrix.indices] > 0)
        self._likes = np.stack([users[kept], self.matrix.indices[kept]], axis=1).astype(np.int64)
        met = np.bincount(problem.exposed.indices, minlength=self.matrix.shape[1]) > 0
        self._met = np.flatnonzero(met & np.any(self.features != 0, axis=1))
        self.random = np.random.default_rng(seed)

    def batches(self, size: int, others: int, most: int) -> Iterator[LikeBatch]:
        """Generate batches of each like once, at most `most`, in a new order each time; `size` at most an eighth."""
        likes = self.random.permutation(self._likes)[:most]
        size = max(1, min(size, -(-len(likes) // 8)))
        for start in range(0, len(likes), size):
            users, items = likes[start : start + size].T
            drawn = self.random.choice(self._met, others)
            wanted, places = np.unique(drawn, return_inverse=True)
            liked = (self.matrix[users][:, wanted].toarray() > 0)[:, places]
            yield LikeBatch(users, items, drawn, liked)

    def ridge_on_content(self, kappa: float = 10.0) -> Vectors:
        """Fit a ridge of the teacher's items on content, weighted by users of an item: float32 [F, D]."""
        weights = confidence(self.counts, kappa)[:, None]
        rows = self.features.astype(np.float64)
        gram = (weights * rows).T @ rows
        gram[np.diag_indices_from(gram)] += max(np.trace(gram) / len(gram), 1e-12)
        found: Vectors = np.linalg.solve(gram, (weights * rows).T @ self.items).astype(np.float32)
        return found


@dataclass(frozen=True)
class SamplingCorrection:
    """Sampling frequencies and known positives of a batch of B pairs with r shared and h own negatives each.

    Attributes:
        log_q_first: [B], log of the sampling frequency of each first. log_q_second: [B + r], the same of the seconds.
        known: bool [B, B + r]: first i and second j are known to belong together; its diagonal is not read.
        log_q_hard: [B, h], log of the sampling frequency, in draws for each pair.
        known_hard: bool [B, h]: the negative is known to belong to the pair's first.
    """

    log_q_first: torch.Tensor
    log_q_second: torch.Tensor
    known: torch.Tensor
    log_q_hard: torch.Tensor
    known_hard: torch.Tensor

    def to(self, device: torch.device) -> SamplingCorrection:
        """Move to a device."""
        return SamplingCorrection(*(getattr(self, part.name).to(device) for part in fields(self)))


def pair_loss(
    first: torch.Tensor, second: torch.Tensor, hard: torch.Tensor, correction: SamplingCorrection, temperature: float
) -> torch.Tensor:
    """Compute symmetric InfoNCE with logQ correction (Bengio & Senécal 2003; Yi et al., RecSys 2019, for two towers).

    The mean over pairs i of `-log(e_ii / sum_j e_ij)`, where `e_ij = exp(s_ij / temperature - log q_j)`, s the dot
    products and q how often j is drawn: popular items are drawn more often and would be pushed away more often. Once
    over all seconds j and the hard negatives of i, once over all firsts j; then halved. j runs over i itself and all
    that are not `known`.

    Args:
        first: floats [B, D]; second: [B + r, D], of which row i, below B, goes with row i of the first. hard:
            [B, h, D]; r and h may be 0.

    Returns:
        A number.
    """
    size = len(first)
    out = correction.known & torch.eye(size, len(second), dtype=torch.bool, device=first.device).logical_not()
    scores = first @ second.T / temperature
    near = torch.einsum("bd,bhd->bh", first, hard) / temperature - correction.log_q_hard
    forth = (scores - correction.log_q_second).masked_fill(out, -torch.inf)
    forth = torch.cat([forth, near.masked_fill(correction.known_hard, -torch.inf)], dim=1)
    back = (scores[:, :size].T - correction.log_q_first).masked_fill(out[:, :size].T, -torch.inf)
    losses = [-side.log_softmax(1).diagonal().mean() for side in (forth, back)]
    return (losses[0] + losses[1]) / 2
