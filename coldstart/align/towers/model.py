"""Trainable towers of an open_clip model: LoRA on their linear layers (Hu et al. 2022), or their last blocks.

What is trained is float32, what stays frozen is in the device's number format. Knows nothing of the training loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize

from coldstart.align.losses import MAX_SCALE, info_nce, sigmoid_loss
from coldstart.align.settings import TowerKind, TowerTraining
from coldstart.encoders import Pixels
from coldstart.encoders._adapter import BLOCKS, LORA_CONFIG, write_card
from coldstart.encoders._open_clip_speed import encode_text, token_lengths
from coldstart.encoders.open_clip import OpenClip
from coldstart.errors import ColdstartError

# Where transformer blocks stand in a tower, by the names that open_clip, timm and transformers give them.
_BLOCKS = (
    *("transformer.resblocks", "trunk.blocks", "trunk.stages"),
    *("transformer.encoder.layer", "transformer.layers", "transformer.encoder.layers"),
)
# What comes after the blocks: last norm, pooling, projection.
_AFTER = ("ln_post", "ln_final", "proj", "text_projection", "norm", "fc_norm", "attn_pool", "head", "pooler")
_ATTENTION = ("in_proj", "out_proj", "qkv", "q", "kv", "proj", "query", "key", "value", "q_proj", "k_proj", "v_proj")
_START_BIAS = -10.0  # of the sigmoid loss, where the model has none (Zhai et al. 2023, section 3.2)


class Towers:
    """An open_clip model in training.

    Args:
        encoder: brings weights, tokenizer and pixel normalisation.
        kind: LoRA or the last blocks; training: their settings. Its seed draws LoRA's random half.
        dtype: of the frozen weights and of the products: float32 or bfloat16.

    Attributes:
        kind: of training.
        model: open_clip's, changed in place.
        dim: numbers of a vector.
        scale, bias: how cosines are scaled, both trained: the logarithm of the factor, and what is added (sigmoid
            loss; None without).
    """

    def __init__(
        self,
        encoder: OpenClip,
        kind: TowerKind,
        training: TowerTraining,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.encoder = encoder
        self.dim = encoder.dim
        self.kind, self._training = kind, training
        self._device, self._dtype = device, dtype
        self.model = encoder.open_model().requires_grad_(False).to(device, dtype)
        self._peft: Any = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self._unfreeze()
        sigmoid = training.loss == "siglip" or (training.loss == "auto" and self.model.logit_bias is not None)
        if sigmoid and self.model.logit_bias is None:
            self.model.logit_bias = nn.Parameter(torch.tensor(_START_BIAS, device=device))
        self.scale = self._trained(self.model.logit_scale)
        self.bias = self._trained(self.model.logit_bias) if sigmoid else None
        if training.gradient_checkpointing:
            self.model.set_grad_checkpointing(True)
        self.train(False)

    def _unfreeze(self) -> None:
        training = self._training
        if self.kind == "lora":
            from peft import LoraConfig, get_peft_model
            from peft.tuners.tuners_utils import BaseTunerLayer

            config = LoraConfig(
                r=training.r,
                lora_alpha=training.lora_alpha,
                lora_dropout=training.lora_dropout,
                target_modules=linear_layers(self.model, training.lora_layers),
            )
            self._peft = get_peft_model(self.model, config)
            for module in self.model.modules():
                if isinstance(module, BaseTunerLayer):
                    module.cast_input_dtype_enabled = False  # autocast sees to it, without a copy in float32
            for parameter in self.weights().values():
                self._trained(parameter)
        else:
            for name in last_blocks(self.model, training.last_blocks):
                self._trained(self.model.get_parameter(name))

    def _trained(self, parameter: nn.Parameter) -> nn.Parameter:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
        return parameter

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the trained weights by name, in a fixed order."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def copy(self) -> dict[str, torch.Tensor]:
        """Copy the trained weights to memory."""
        return {name: weight.detach().cpu().clone() for name, weight in self.weights().items()}

    @torch.no_grad()
    def put(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the trained weights."""
        for name, weight in self.weights().items():
            weight.copy_(weights[name])

    def train(self, on: bool) -> None:
        """Switch dropout on or off; batch norms keep the statistics that they came with."""
        self.model.train(on)
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def images(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """Encode pictures uint8 [H, W, 3], each as the encoder's transform leaves it: unit vectors float32 [B, D]."""
        values = self.encoder.pixel_values(pixels, self._device, self._dtype)
        with self._autocast():
            return normalize(self.model.encode_image(values).float(), dim=-1)

    def texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens [B, L] as the encoder's tokenizer gives them: unit vectors float32 [B, D]."""
        needed = max(token_lengths(self.model, tokens))
        with self._autocast():
            return normalize(encode_text(self.model, tokens[:, :needed].to(self._device)).float(), dim=-1)

    def loss(self, image: torch.Tensor, text: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Compute the loss of unit vectors [B, D], pair by row.

        Pairs of one group, int64 [B], are not each other's negatives.
        """
        same, scale = groups[:, None] == groups[None], self.scale.exp()
        if self.bias is None:
            return info_nce(image, text, scale, same)
        return sigmoid_loss(image, text, scale, self.bias, same)

    @torch.no_grad()
    def bound_scale(self) -> None:
        """Hold the scale at 100 at most."""
        self.scale.clamp_(max=torch.tensor(MAX_SCALE).log().item())

    def kernels(self) -> AbstractContextManager[None]:
        """Choose the attention kernels for forward and backward passes.

        On the CPU the plain products, because torch's fused form is slow there in bfloat16 on the way back (a whole
        step took 1.5 times as long).
        """
        return sdpa_kernel(SDPBackend.MATH) if self._device.type == "cpu" else nullcontext()

    def _autocast(self) -> AbstractContextManager[None]:
        narrow = self._dtype != torch.float32
        context: AbstractContextManager[None] = torch.autocast(self._device.type, self._dtype, enabled=narrow)
        return context

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Write the adapter that `coldstart.encoders.load(…, adapter=folder)` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        bias = None if self.bias is None else self.bias.item()
        about = {**about, "scale": self.scale.exp().item(), "bias": bias}
        if self._peft is not None:
            self._peft.save_pretrained(str(folder), safe_serialization=True)
            _in_order(folder / LORA_CONFIG)
            (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
        else:
            changed = {
                n: w.detach().cpu().contiguous() for n, w in self.weights().items() if not n.startswith("logit_")
            }
            save_file(changed, folder / BLOCKS)
        write_card(folder, self.kind, self.encoder.base, about)


def linear_layers(model: Any, which: Literal["all", "attention"]) -> list[str]:
    """List the names of the `nn.Linear` in the blocks of both towers, and in attention pooling.

    Raises:
        ColdstartError: a tower has none.
    """
    names: list[str] = []
    for prefix, tower in _towers(model):
        within = (f"{_blocks(tower)[0]}.", "trunk.attn_pool.", "attn_pool.")
        found = [
            prefix + name
            for name, module in tower.named_modules()
            if isinstance(module, nn.Linear)
            and name.startswith(within)
            and (which == "all" or name.rpartition(".")[2] in _ATTENTION)
        ]
        if not found:
            raise ColdstartError(
                f"{_called(tower)} has no linear layers in its blocks for LoRA: set towers to last_blocks"
            )
        names += found
    return names


def last_blocks(model: Any, count: int) -> list[str]:
    """List the names of the weights in the last `count` blocks of each tower and in all that comes after them.

    Raises:
        ColdstartError: a tower has fewer.
    """
    names: list[str] = []
    for prefix, tower in _towers(model):
        place, blocks = _blocks(tower)
        if count > len(blocks):
            raise ColdstartError(f"last_blocks={count}: {_called(tower)} has {len(blocks)}")
        chosen = tuple(f"{place}.{number}." for number in range(len(blocks) - count, len(blocks)))
        for name, _ in tower.named_parameters():
            after = name.removeprefix("trunk.").partition(".")[0] in _AFTER
            if after or name.startswith(chosen):
                names.append(prefix + name)
    return names


def _towers(model: Any) -> list[tuple[str, Any]]:
    """Prefix and module of the image and the text tower; the text tower of a plain CLIP is the model itself."""
    text = ("text.", model.text) if hasattr(model, "text") else ("", model)
    return [("visual.", model.visual), text]


def _called(tower: Any) -> str:
    trunk = getattr(tower, "trunk", tower if not hasattr(tower, "visual") else tower.transformer)
    return f"the tower {type(trunk).__name__}"


def _blocks(tower: Any) -> tuple[str, Any]:
    for place in _BLOCKS:
        try:
            return place, tower.get_submodule(place)
        except AttributeError:
            continue
    raise ColdstartError(f"{_called(tower)} has no blocks that are known here ({', '.join(_BLOCKS)})")


def _in_order(path: Path) -> None:
    """Write peft's configuration anew with its sets sorted, so that equal trainings give equal bytes."""
    config = json.loads(path.read_bytes())
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
