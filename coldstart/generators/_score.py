"""Score texts by a causal language model: log P of continuations of one prompt, and the order of letters it prefers.

The prompt is read once, and all continuations go through the model on its keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from coldstart.generators._decode import cache_argument, expand_prefix, new_cache, shareable

_ROWS = 8
"""Continuations at a time: their logits over a vocabulary of 150,000 are 5 MB a token otherwise."""


def log_probabilities(model: Any, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
    """Compute log P(continuation | prompt) of each, the sum over its tokens; 0 for an empty one."""
    if not prompt:
        raise ValueError("an empty prompt gives no probability of a first token")
    found = [0.0] * len(continuations)
    with torch.inference_mode():
        prefix, last = _read(model, prompt)
        first = torch.log_softmax(last.float(), -1)
        for start in range(0, len(continuations), _ROWS):
            places = [place for place in range(start, min(start + _ROWS, len(continuations))) if continuations[place]]
            if places:
                scores = _scores(model, prompt, prefix, [list(continuations[place]) for place in places], first)
                for place, value in zip(places, scores, strict=True):
                    found[place] = value
    return found


def _read(model: Any, prompt: Sequence[int]) -> tuple[Any, torch.Tensor]:
    """Read a prompt: its cache, None where a model keeps another memory, and the logits after its last token."""
    cache = new_cache(model.config, len(prompt))
    own = cache if shareable(cache) else None
    ids = torch.tensor([list(prompt)], device=model.device)
    given = {} if own is None else {cache_argument(model): own}
    logits = model(input_ids=ids, use_cache=own is not None, logits_to_keep=1, **given).logits
    return own, logits[0, -1]


def _scores(model: Any, prompt: Sequence[int], prefix: Any, rows: list[list[int]], first: torch.Tensor) -> list[float]:
    width = max(map(len, rows))
    past = len(prompt) if prefix is not None else 0
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
    real = torch.arange(width, device=model.device)[None] < torch.tensor([[len(row)] for row in rows]).to(model.device)
    if prefix is None:
        read = torch.tensor([list(prompt)], device=model.device).expand(len(rows), -1)
        whole = torch.cat([read, ids], 1)
        mask = torch.cat([torch.ones_like(read), real.to(read.dtype)], 1)
        logits = model(input_ids=whole, attention_mask=mask, use_cache=False, logits_to_keep=width).logits
    else:
        cache = new_cache(model.config, past + width)
        expand_prefix(cache, prefix, len(rows))
        mask = torch.cat([torch.ones(len(rows), past, dtype=torch.int64, device=model.device), real.long()], 1)
        positions = past + torch.arange(width, device=model.device)[None].expand(len(rows), -1)
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **{cache_argument(model): cache}
        ).logits
    own = torch.log_softmax(logits.float(), -1)
    chosen = torch.gather(own[:, :-1], 2, ids[:, 1:, None])[:, :, 0] if width > 1 else own.new_zeros(len(rows), 0)
    total = first[ids[:, 0]] + (chosen * real[:, 1:]).sum(1)
    return [float(value) for value in total]


def order_of_tokens(model: Any, prompt: Sequence[int], tokens: Sequence[int], between: Sequence[int]) -> list[int]:
    """Decode a permutation: at each step the likeliest of the tokens that are left, places in their order.

    A grammar of all orders of n tokens has 2^n states, which no compiler takes; those that are left are a mask.

    Args:
        tokens: one each, all different; between: tokens read between two of them.
    """
    left = list(range(len(tokens)))
    found: list[int] = []
    with torch.inference_mode():
        cache = new_cache(model.config, len(prompt) + len(tokens) * (1 + len(between)))
        inputs = [*prompt]
        while left:
            ids = torch.tensor([inputs], device=model.device)
            logits = model(input_ids=ids, use_cache=True, logits_to_keep=1, **{cache_argument(model): cache}).logits
            scores = logits[0, -1].float()[torch.tensor([tokens[place] for place in left], device=model.device)]
            best = left[int(scores.argmax())]
            left.remove(best)
            found.append(best)
            if len(left) == 1:
                found += left
                break
            inputs = [tokens[best], *between]
    return found
