"""A faster form of torch's multi-head self-attention, for encoding only.

`torch.nn.MultiheadAttention` copies its weights through a batched product wherever its own fast path does not apply
(with a mask, outside inference mode): on a CPU in bfloat16 that takes 2.5 times as long for short texts.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)


class SelfAttention(nn.Module):
    """The weights of a batch-first `nn.MultiheadAttention`: one product for query, key and value, fused attention."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Takes `query` [B, L, D] as key and value too; `attn_mask` is added: [L, L] or [B * heads, L, L]."""
        batch, length, width = query.shape
        joint = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = joint.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(batch, self.heads, length, length)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width)), None


def fuse_self_attention(model: nn.Module, blocks: type[nn.Module]) -> None:
    """Swap the self-attention `attn` of every block of that type in the model; cross-attention stays."""
    for block in model.modules():
        if not isinstance(block, blocks) or hasattr(block, "ln_1_kv"):
            continue
        attention = block.attn
        if (
            isinstance(attention, nn.MultiheadAttention)
            and attention.batch_first
            and attention.in_proj_weight is not None
        ):
            block.attn = SelfAttention(attention)
