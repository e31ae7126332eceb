"""Text towers of open_clip, run over no more columns than the longest text of a batch needs; the vectors stay the same.

Only a tower whose vector does not depend on the padding can be cut: causal, and read at the end token.
"""

from __future__ import annotations

from typing import Any

import open_clip
import torch


def cuttable(model: Any) -> Any | None:
    """The text tower of an open_clip model if it can be cut, else None."""
    tower = getattr(model, "text", model)
    if not isinstance(tower, open_clip.CLIP | open_clip.transformer.TextTransformer):
        return None
    pool = getattr(tower, "pool_type", None) or tower.text_pool_type
    causal = tower.attn_mask is not None and getattr(tower, "cls_emb", None) is None
    return tower if causal and pool == "argmax" else None


def lengths(model: Any, tokens: torch.Tensor) -> list[int]:
    """How many columns of `tokens` [B, L] each text needs: up to its end token, or all."""
    if cuttable(model) is None:
        return [tokens.shape[1]] * len(tokens)
    ends: list[int] = (tokens.argmax(dim=1) + 1).tolist()  # the end token has the highest id
    return ends


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Text features [B, D], of any length, of tokens [B, L]; if it can be cut, L may be less than the context."""
    tower, length = cuttable(model), tokens.shape[1]
    if tower is None or length == len(tower.positional_embedding):
        features: torch.Tensor = model.encode_text(tokens)
        return features
    cut = {
        "positional_embedding": tower.positional_embedding[:length],
        "attn_mask": tower.attn_mask[:length, :length],
    }
    if tower is model:
        features = torch.func.functional_call(tower, cut, (None, tokens))[1]
    else:
        features = torch.func.functional_call(tower, cut, (tokens,))
    return features
