"""peft's low-rank pair in fewer passes over memory: scaled and added to the base's output by the product itself.

peft computes `base(x) + B(A(x)) * scale`: a product, a multiplication and a sum, each as wide as the output, and one
more on the way back. Here one `addmm` does all three, and its way back scales what is only r wide. A step of the
starter model on a CPU took 0.87 times as long (median of 4 rounds, 0.81 to 0.99).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear


def fuse(model: Any) -> int:
    """Change the forward pass of peft's plain linear layers with one adapter, `default`; gives how many."""
    from peft.tuners.lora.layer import Linear

    found = [module for module in model.modules() if type(module) is Linear and _plain(module)]
    for module in found:
        module.forward = MethodType(_forward, module)
    return len(found)


def _plain(module: Any) -> bool:
    return (
        list(module.lora_A) == ["default"]
        and type(module.base_layer) is torch.nn.Linear
        and module.lora_A["default"].bias is None
        and module.lora_B["default"].bias is None
        and not any(module.use_dora.values())
    )


def _forward(self: Any, given: torch.Tensor) -> torch.Tensor:
    """float `[…, D]` to `[…, O]`."""
    base = self.base_layer(given)
    low = linear(self.lora_dropout["default"](given), self.lora_A["default"].weight)
    up = self.lora_B["default"].weight
    total = torch.addmm(base.flatten(0, -2), low.flatten(0, -2), up.t(), alpha=self.scaling["default"])
    return total.view(base.shape)
