"""Fit an RQ-VAE in torch: an encoder, residual codebooks by moving averages, and a decoder that is thrown away after.

Lee et al. (2022), with moving averages (van den Oord et al. 2017, appendix A): hidden layers 512 and 256, codes of 64
numbers, commitment 0.25, unused codes put on vectors of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from coldstart.semantic_ids.codebooks import Codebooks, Layer
from coldstart.semantic_ids.kmeans import Clusters, Vectors, fit_clusters, mean_square, nearest

HIDDEN = (512, 256)
DIM = 64
DECAY, COMMITMENT = 0.99, 0.25
BATCH, STEPS, LEARNING_RATE = 512, 800, 1e-3
_UNUSED = 0.05
"""Vectors of a batch below which, on average, a code counts as unused."""


def fit_rqvae(vectors: Vectors, sizes: Sequence[int], seed: int, step: Callable[[], None]) -> Codebooks:
    """Fit encoder and codebooks on vectors, float32 [N, D]; codebooks begin as residual k-means of the first codes."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    from coldstart.core.optim import AdamW

    def layers(widths: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = []
        for before, after in pairwise(widths):
            weight = torch.randn(before, after, generator=draws) * (2 / before) ** 0.5
            found.append((weight.requires_grad_(), torch.zeros(after).requires_grad_()))
        return found

    def apply(stack: Sequence[tuple[torch.Tensor, torch.Tensor]], rows: torch.Tensor) -> torch.Tensor:
        for place, (weight, bias) in enumerate(stack):
            rows = rows @ weight + bias
            rows = rows if place == len(stack) - 1 else F.relu(rows)
        return rows

    draws = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    middle, spread = vectors.mean(0), float(vectors.std()) or 1.0
    data = torch.from_numpy((vectors - middle) / spread)
    widths = (vectors.shape[1], *HIDDEN, DIM)
    encoder, decoder = layers(widths), layers(widths[::-1])
    named = {f"{side}{place}.{part}": tensor for side, stack in (("e", encoder), ("d", decoder))
             for place, pair in enumerate(stack) for part, tensor in zip("wb", pair, strict=True)}  # fmt: skip
    optimiser = AdamW(named, {}, 0.0, betas=(0.9, 0.999))
    with torch.no_grad():
        first = apply(encoder, data[torch.randperm(len(data), generator=draws)[: 8 * BATCH]]).numpy()
    centres: list[torch.Tensor] = []
    rest, scale = first, mean_square(first)
    for size in sizes:
        clusters = fit_clusters(rest, size, rng, iterations=10, crowding=None, scale=scale)
        codes, _ = nearest(rest, clusters)
        rest = rest - clusters.centres[codes]
        centres.append(torch.from_numpy(clusters.centres.copy()))
    counts = [torch.ones(len(level)) for level in centres]
    sums = [level.clone() for level in centres]
    for _ in range(STEPS):
        batch = data[torch.randint(len(data), (min(BATCH, len(data)),), generator=draws)]
        coded = apply(encoder, batch)
        left, quantised, commitment = coded, torch.zeros_like(coded), torch.zeros(())
        for level, own in enumerate(centres):
            chosen = torch.cdist(left.detach(), own).argmin(1)
            entry = own[chosen]
            commitment = commitment + (left - entry).square().sum(1).mean()
            with torch.no_grad():
                one_hot = nn.functional.one_hot(chosen, len(own)).float()
                counts[level].mul_(DECAY).add_(one_hot.sum(0), alpha=1 - DECAY)
                sums[level].mul_(DECAY).add_(one_hot.T @ left.detach(), alpha=1 - DECAY)
            quantised, left = quantised + entry, left - entry
        straight = coded + (quantised - coded).detach()
        loss = (apply(decoder, straight) - batch).square().sum(1).mean() + COMMITMENT * commitment
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(LEARNING_RATE)
        with torch.no_grad():
            rest_now = coded.detach()
            for level in range(len(centres)):
                unused = counts[level] < _UNUSED
                if unused.any():
                    picks = torch.randint(len(rest_now), (int(unused.sum()),), generator=draws)
                    sums[level][unused], counts[level][unused] = rest_now[picks], 1.0
                centres[level] = sums[level] / counts[level].clamp(min=1e-5)[:, None]
                rest_now = rest_now - centres[level][torch.cdist(rest_now, centres[level]).argmin(1)]
    fitted = []
    for own in centres:
        fitted.append(Clusters(own.numpy().copy(), np.zeros(len(own), np.float32)))
        step()
    stack = [[part.detach().numpy().copy() for part in pair] for pair in encoder]
    stack[0][1] = (stack[0][1] - (middle / spread) @ stack[0][0]).astype(np.float32)
    stack[0][0] = stack[0][0] / np.float32(spread)
    last = len(stack) - 1
    projection = tuple(
        Layer(weight, bias, "none" if place == last else "relu") for place, (weight, bias) in enumerate(stack)
    )
    return Codebooks("rqvae", "residual", vectors.shape[1], projection, tuple(fitted))
