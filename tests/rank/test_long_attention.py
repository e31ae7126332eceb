"""Long attention: back ends agree, keys are shared by candidates, padding and later actions are not read."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from coldstart.rank.long_attention import LongAttention, Mask, attend, linear_attention


def packed(length: int = 140) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Queries, keys and values of three users in one sequence, two such sequences."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, length, 8, generator=draw) for _ in range(3))
    users = torch.stack([torch.arange(length) // 50, (torch.arange(length) + 20) // 60])
    return (query, key, value), users, torch.arange(length).expand(2, -1) * 10


@pytest.mark.slow
def test_flex_equals_sdpa() -> None:
    parts, users, seconds = packed()
    mask = Mask(users, seconds, 155)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a compiler it holds the whole product
        flex = attend(*parts, mask, "flex")
    torch.testing.assert_close(flex, attend(*parts, mask, "sdpa"))
    assert (flex - attend(*parts, Mask(users, seconds), "sdpa")).abs().max() > 0.01
    query, key, value = (part[:, :, 100:] for part in parts)
    own = attend(query, key, value, Mask(users[:, 100:], seconds[:, 100:], 155), "sdpa")
    torch.testing.assert_close(flex[:1, :, 100:], own[:1])  # the first sequence begins a user there


def test_linear_attention_equals_its_quadratic_form() -> None:
    (query, key, value), users, seconds = packed()
    weights = (torch.nn.functional.elu(query) + 1) @ (torch.nn.functional.elu(key) + 1).transpose(-1, -2)
    weights = weights * Mask(users, seconds).dense()
    wanted = (weights / weights.sum(-1, keepdim=True)) @ value
    torch.testing.assert_close(linear_attention(query, key, value, users), wanted)
    torch.testing.assert_close(attend(query, key, value, Mask(users, seconds), "linear"), wanted)
    with pytest.raises(ValueError, match="no window"):
        attend(query, key, value, Mask(users, seconds, 9), "linear")


@pytest.fixture
def model() -> LongAttention:
    torch.manual_seed(0)
    return LongAttention(3, dim=8, latest=10).eval()


def history(count: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(count)
    return {
        "items": torch.randn(1, count, 8, generator=draw),
        "events": torch.randint(0, 3, (1, count), generator=draw),
        "ages_s": torch.arange(count, 0, -1)[None] * 86_400,
        "present": torch.ones(1, count, dtype=torch.bool),
    }


@torch.no_grad()
def test_candidates_share_the_keys_of_their_user(model: LongAttention) -> None:
    own, candidates = history(43), torch.randn(1, 5, 8)
    keys = model.encode(**own)
    together = model.read(keys, candidates)
    assert together.shape == (1, 5, 3 * 8)
    for place in range(5):
        alone = model.read(model.encode(**own), candidates[:, [place]])
        torch.testing.assert_close(together[:, place : place + 1], alone)
    assert keys.key.shape[2] == 4 + 10 + 11
    assert keys.size_bytes() == 2 * 25 * 8 * 4


@torch.no_grad()
def test_padding_says_nothing_and_an_old_action_is_read(model: LongAttention) -> None:
    own, candidates = history(40), torch.randn(1, 5, 8)
    wanted = model.read(model.encode(**own), candidates)
    padded = {
        name: torch.nn.functional.pad(part, (0, 0, 8, 0) if part.dim() == 3 else (8, 0)) for name, part in own.items()
    }
    padded["items"][:, :8] = 9
    torch.testing.assert_close(model.read(model.encode(**padded), candidates), wanted)
    own["items"][:, 0, :4] += 3
    assert (model.read(model.encode(**own), candidates) - wanted).abs().max() > 1e-5
    nothing = {**own, "present": torch.zeros(1, 40, dtype=torch.bool)}
    assert torch.isfinite(model.read(model.encode(**nothing), candidates)).all()


@torch.no_grad()
def test_back_ends_agree_within_the_model(model: LongAttention) -> None:
    own, candidates = history(43), torch.randn(1, 5, 8)
    own["present"][:, :36] = False
    wanted = model.read(model.encode(**own), candidates)
    model.window_s = 3 * 86_400
    assert (model.read(model.encode(**own), candidates) - wanted).abs().max() > 1e-6
    model.window_s, model.backend = None, "linear"
    found = model.read(model.encode(**own), candidates)
    assert torch.isfinite(found).all()
    short = {name: part[:, 36:] for name, part in own.items()}
    torch.testing.assert_close(found, model.read(model.encode(**short), candidates))
