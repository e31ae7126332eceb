"""Run open_clip models faster on a CPU with bfloat16 matrix units; vectors stay the same.

Weights are laid out for the matrix units once and not at every call; bias, activation and residual are added while a
product's result is still in registers; attention over few tokens is two batched products; a picture's bytes go into
the first product as they are, its mean and deviation folded into that product's weights. The operators are those that
torch's own compiler emits (`torch._inductor.fx_passes.mkldnn_fusion`) and are not public: if one is missing, nothing
here is used.

`SelfAttention`, which can be trained as well, replaces `torch.nn.MultiheadAttention`: that copies its weights through a
batched product wherever its own fast path does not apply (with a mask, outside inference mode), which in bfloat16 takes
2.5 times as long for short texts. Text towers run over no more columns than the longest text of a batch needs; only a
tower whose vector does not depend on the padding can be cut: causal, and read at the end token.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

_MIDDLE = 128
"""Offset subtracted from a byte before its product: whole numbers from -128 to 127 are exact in bfloat16."""


_SHORT = 128
"""Tokens up to which attention by two batched products takes less time than the fused kernel."""


_QUICK = 1.702
"""Of the quick GELU, x * sigmoid(1.702 x), which is swish of 1.702 x over 1.702."""


def usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether this machine and this torch have what the module needs."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return False
    try:
        operators = torch.ops.mkldnn
        assert operators._linear_pointwise.binary and operators._reorder_linear_weight
        return bool(operators._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError, AssertionError):
        return False


class Packed(nn.Module):
    """Linear layer of bfloat16 weights with its activation, for inference.

    Args:
        weight: [out, in]; not kept.
        bias: [out].
        activation: `none`, `gelu` (the exact one) or `swish`, applied to the sum before it is rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        narrow = weight.detach().to(torch.bfloat16).contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(narrow, None)
        self._bias = None if bias is None else bias.detach().to(torch.bfloat16)
        self._activation = activation

    def forward(self, rows: Tensor, plus: Tensor | None = None) -> Tensor:
        """bfloat16 [..., in] to [..., out]; `plus` [..., out] is added, for a layer without an activation."""
        operator = torch.ops.mkldnn._linear_pointwise
        if plus is not None:
            return cast(Tensor, operator.binary(rows, plus, self._weight, self._bias, "add"))
        return cast(Tensor, operator(rows, self._weight, self._bias, self._activation, [], "none"))


class Patches(nn.Module):
    """Convolution that cuts a picture into patches, over bytes.

    Args:
        weight: of the convolution, float32 [D, 3, P, P], whose stride is its size.
        mean, std: of the pixels, as shares of 255.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self._side = weight.shape[-1]
        scaled = weight.detach().float() / (255 * torch.tensor(std)).view(3, 1, 1)
        scaled = scaled.to(torch.bfloat16).float()  # so that the shift is the one of the weights that are used
        shift = (scaled * (_MIDDLE - 255 * torch.tensor(mean)).view(3, 1, 1)).sum((1, 2, 3))
        rows = scaled.permute(0, 2, 3, 1).flatten(1)
        self._product = Packed(rows, shift if bias is None else shift + bias.detach().float())

    def forward(self, pixels: Tensor) -> Tensor:
        """Convolve uint8 [B, H, W, 3] to bfloat16 [B, D, H / P, W / P], laid out channels-last."""
        side = self._side
        batch, high, wide = pixels.shape[0], pixels.shape[1] // side, pixels.shape[2] // side
        centred = (pixels[:, : high * side, : wide * side] ^ _MIDDLE).view(torch.int8)
        patches = centred.view(batch, high, side, wide, side * 3).transpose(2, 3).reshape(batch, high, wide, -1)
        result: Tensor = self._product(patches.to(torch.bfloat16))
        return result.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Form of open_clip's `ResidualAttentionBlock` with fused self-attention; the same in and out."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention: SelfAttention = block.attn
        first, middle, second = block.mlp
        self.heads = attention.heads
        self.ln_1, self.ln_2, self.ls_1, self.ls_2 = block.ln_1, block.ln_2, block.ls_1, block.ls_2
        width = attention.in_proj.weight.shape[1]
        weight, bias = (
            attention.in_proj.weight.detach().float().clone(),
            attention.in_proj.bias.detach().float().clone(),
        )
        for queries in (weight[:width], bias[:width]):
            queries *= (width // self.heads) ** -0.5
        self.in_proj = Packed(weight, bias)
        self.out_proj = Packed(attention.out_proj.weight, attention.out_proj.bias)
        quick = not isinstance(middle, nn.GELU)
        scale = _QUICK if quick else 1.0
        self.c_fc = Packed(first.weight.float() * scale, first.bias.float() * scale, "swish" if quick else "gelu")
        self.c_proj = Packed(second.weight.float() / scale, second.bias)

    def forward(self, q_x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Transform tokens [B, L, D], output alike; `attn_mask` [L, L] or [B * heads, L, L] is added."""
        batch, length, width = q_x.shape
        joint = self.in_proj(self.ln_1(q_x)).view(batch, length, 3, self.heads, width // self.heads)
        if attn_mask is not None:
            attn_mask = attn_mask.to(joint.dtype)
            attn_mask = attn_mask if attn_mask.dim() == 2 else attn_mask.view(batch, self.heads, length, length)
        mixed = attend(joint.permute(2, 0, 3, 1, 4), attn_mask)
        x = _add(q_x, self.ls_1, self.out_proj, mixed)
        return _add(x, self.ls_2, self.c_proj, self.c_fc(self.ln_2(x)))

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type to which open_clip casts, which it reads from its first block."""
        return torch.bfloat16


@cache
def _has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


def attend(joint: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute self-attention of scaled queries, keys and values [3, B, heads, L, D]: [B, L, heads * D].

    The fused kernel is made for long sequences and for AMX; without AMX, two batched products over few tokens take
    0.4 to 0.65 of its time. `mask` [L, L] or [B, heads, L, L] is added to the logits, which are bfloat16 here.
    """
    _, batch, heads, length, width = joint.shape
    if length > _SHORT or _has_amx():
        q, k, v = joint.unbind()
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    else:
        q, k, v = joint.contiguous().view(3, batch * heads, length, width).unbind()
        logits = torch.bmm(q, k.transpose(1, 2)).view(batch, heads, length, length)
        if mask is not None:
            logits += mask
        weights = logits.softmax(-1, dtype=torch.float32).to(v.dtype)
        mixed = torch.bmm(weights.view(batch * heads, length, length), v).view(batch, heads, length, width)
    return mixed.transpose(1, 2).reshape(batch, length, heads * width)


def _add(x: Tensor, scale: nn.Module, product: Packed, rows: Tensor) -> Tensor:
    """Add x and the product, in one pass if nothing scales the product first."""
    result: Tensor = product(rows, x) if isinstance(scale, nn.Identity) else x + scale(product(rows))
    return result


def fuse_blocks(model: nn.Module, quick_gelu: type[nn.Module], blocks: type[nn.Module]) -> None:
    """Swap the blocks of that type whose self-attention is fused. The model may still be in float32: each weight is
    then rounded once."""
    for parent in list(model.modules()):
        if isinstance(parent, nn.ModuleList):
            for place, block in enumerate(parent):
                if type(block) is blocks and _fits(block, quick_gelu):
                    parent[place] = Block(block)


def _fits(block: Any, quick_gelu: type[nn.Module]) -> bool:
    """Tell whether `Block` computes what this block does."""
    exact = isinstance(block.mlp[1], nn.GELU) and block.mlp[1].approximate == "none"
    return isinstance(block.attn, SelfAttention) and (exact or isinstance(block.mlp[1], quick_gelu))


class SelfAttention(nn.Module):
    """Self-attention with the weights of a batch-first `nn.MultiheadAttention`: one product for query, key and value.

    The joint projection is an `nn.Linear` of its own, `in_proj`, so that LoRA can be put around it.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj = nn.Linear(attention.embed_dim, 3 * attention.embed_dim, device="meta")
        self.in_proj.weight, self.in_proj.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """`query` [B, Q, D] attends to `key` [B, L, D], which is `value` too and mostly `query` as well. `attn_mask`
        is added: [Q, L] or [B * heads, Q, L]."""
        batch, queries, width = query.shape
        if query is key:
            q, k, v = self._split(self.in_proj(query), 3)
        else:
            weight, bias = self.in_proj.weight, self.in_proj.bias
            (q,) = self._split(F.linear(query, weight[:width], bias[:width]), 1)
            k, v = self._split(F.linear(key, weight[width:], bias[width:]), 2)
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(batch, self.heads, queries, -1)
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)  # autocast narrows the products, not the mask
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, queries, width)), None

    def _split(self, joint: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split `parts` projections side by side [B, L, parts * D] into that many [B, heads, L, D / heads]."""
        batch, length, width = joint.shape
        split = joint.view(batch, length, parts, self.heads, width // parts // self.heads)
        return split.permute(2, 0, 3, 1, 4).unbind()


class FirstTokenBlock(nn.Module):
    """Last block of which only the first token is read: the others are attended to and not computed further."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, q_x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Transform tokens [B, L, D] and return the first one, [B, 1, D]."""
        block: Any = self.block
        normed = block.ln_1(q_x)
        x = q_x[:, :1] + block.ls_1(block.attn(normed[:, :1], normed, normed)[0])
        result: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
        return result


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


def read_first_token_only(vision: Any) -> None:
    """Shorten the last block of an open_clip `VisionTransformer` whose vector is its class token; 6 % of the work."""
    blocks = vision.transformer.resblocks
    if vision.attn_pool is None and vision.pool_type == "tok" and isinstance(blocks[-1].attn, SelfAttention):
        blocks[-1] = FirstTokenBlock(blocks[-1])


def cuttable_text_tower(model: Any) -> Any | None:
    """Return the text tower of an open_clip model if it can be cut, else None."""
    tower = getattr(model, "text", model)
    if not isinstance(tower, open_clip.CLIP | open_clip.transformer.TextTransformer):
        return None
    pool = getattr(tower, "pool_type", None) or tower.text_pool_type
    causal = tower.attn_mask is not None and getattr(tower, "cls_emb", None) is None
    return tower if causal and pool == "argmax" else None


def token_lengths(model: Any, tokens: torch.Tensor) -> list[int]:
    """Count the columns of `tokens` [B, L] that each text needs: up to its end token, or all."""
    if cuttable_text_tower(model) is None:
        return [tokens.shape[1]] * len(tokens)
    ends: list[int] = (tokens.argmax(dim=1) + 1).tolist()  # the end token has the highest id
    return ends


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Compute text features [B, D], of any norm, of tokens [B, L]; if it can be cut, L may be less than the context."""
    tower, length = cuttable_text_tower(model), tokens.shape[1]
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
