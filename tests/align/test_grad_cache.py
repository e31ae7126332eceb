"""Gradient caching against one pass over the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from coldstart.align.losses import CachedBatch, info_nce

CPU = torch.device("cpu")


def model(dropout: float) -> Any:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4)]
    return nn.Sequential(*layers).double()


def loss_of(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return info_nce(image, text, torch.tensor(10.0), torch.eye(len(image), dtype=torch.bool))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(10, 8).double(), torch.randn(10, 8).double()


def cached_gradients(net: Any, micro_batch: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    images, texts = inputs()
    sides = [lambda rows: normalize(net(images[rows]), dim=-1), lambda rows: normalize(net(-texts[rows]), dim=-1)]
    torch.manual_seed(2)
    cached = CachedBatch(sides, 10, micro_batch, CPU)
    leaves = [vectors.requires_grad_() for vectors in cached.vectors]
    loss_of(*leaves).backward()
    after = torch.get_rng_state()
    cached.backward([leaf.grad for leaf in leaves])  # type: ignore[misc]
    assert torch.equal(torch.get_rng_state(), after)  # the next batch draws as if nothing had been computed twice
    return [weight.grad.clone() for weight in net.parameters()], torch.cat(leaves).detach()


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 10, 64])
def test_gradients_are_those_of_the_whole_batch(micro_batch: int) -> None:
    net = model(0.0)
    images, texts = inputs()
    loss_of(normalize(net(images), dim=-1), normalize(net(-texts), dim=-1)).backward()
    expected = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    found, _ = cached_gradients(net, micro_batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_with_dropout_both_passes_drop_the_same() -> None:
    """The reference keeps the history of every piece, so that nothing is computed twice."""
    net = model(0.5)
    images, texts = inputs()
    torch.manual_seed(2)
    pieces = [slice(0, 4), slice(4, 8), slice(8, 10)]
    image = torch.cat([normalize(net(images[rows]), dim=-1) for rows in pieces])
    text = torch.cat([normalize(net(-texts[rows]), dim=-1) for rows in pieces])
    loss_of(image, text).backward()
    expected = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    found, vectors = cached_gradients(net, 4)
    torch.testing.assert_close(vectors, torch.cat([image, text]).detach())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_part_without_rows_has_no_vectors() -> None:
    cached = CachedBatch([lambda rows: torch.zeros(0, 4)] * 2, 0, 4, CPU)
    assert cached.vectors == []
    cached.backward([torch.zeros(0, 4)] * 2)
