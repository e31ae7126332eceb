"""Speed up LoRA training on a CPU: attention by example in packed rows, and low-rank pairs in one `addmm`.

Attention over a whole row of T tokens costs T² in every layer, most of it masked, and torch's fused kernel for the CPU
has a slow bfloat16 backward pass. One layer of the starter model, 512 tokens in examples of 100, forward and backward
on one core: whole row 33 ms (bfloat16) or 30 (float32), by example 26 or 12, bfloat16 widened to float32 10.

peft computes `base(x) + B(A(x)) * scale` in three passes as wide as the output. One `addmm` does all three; a step of
the starter model on a CPU took 0.87 times as long (median of 4 rounds, 0.81 to 0.99).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear

ATTENTION_NAME = "coldstart_packed"


def use_packed_attention(model: Any) -> None:
    """Make a model attend example by example in batches that have `cu_seq_lens_q`; other batches as before."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION_NAME, _attend)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    model.set_attn_implementation(ATTENTION_NAME)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention as transformers' `sdpa`: queries `[1, H, T, D]`, keys, values `[1, G, T, D]` to `[1, T, H, D]`.

    Args:
        attention_mask: bool `[1, 1, T, T]`; each example reads its own square of it, sliding windows included.
        cu_seq_lens_q: int32 `[E + 1]`, first places of the examples, then T.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if cu_seq_lens_q is None or len(query) > 1 or cu_seq_lens_q[-1] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[no-any-return]
    sizes = cu_seq_lens_q.diff().tolist()
    begin, parts = 0, []
    with torch.autocast(query.device.type, enabled=False):
        wide = (torch.split(states.float(), sizes, 2) for states in (query, key, value))
        for q, k, v in zip(*wide, strict=True):
            end = begin + q.shape[2]
            mask = None if attention_mask is None else attention_mask[:, :, begin:end, begin:end]
            parts.append(sdpa_attention_forward(module, q, k, v, mask, **options)[0])
            begin = end
        return torch.cat(parts, 1).to(query.dtype), None


def fuse_lora_layers(model: Any) -> int:
    """Replace the forward pass of peft's plain linear layers with one adapter, `default`; return their number."""
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for module in layers:
        module.forward = MethodType(_forward, module)
    return len(layers)


def _is_plain(module: Any) -> bool:
    return (
        list(module.lora_A) == ["default"]
        and type(module.base_layer) is torch.nn.Linear
        and module.lora_A["default"].bias is None
        and module.lora_B["default"].bias is None
        and not any(module.use_dora.values())
    )


def _forward(self: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Compute the layer with its adapter: float `[…, D]` to `[…, O]`."""
    base = self.base_layer(inputs)
    low = linear(self.lora_dropout["default"](inputs), self.lora_A["default"].weight)
    up = self.lora_B["default"].weight
    total = torch.addmm(base.flatten(0, -2), low.flatten(0, -2), up.t(), alpha=self.scaling["default"])
    return total.view(base.shape)
