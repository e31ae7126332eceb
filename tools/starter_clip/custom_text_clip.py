"""`starter-clip` as a model of open_clip, for tools that take no other: the same vectors as the encoder of that name.

A `CustomTextCLIP` of EfficientNet-Lite2 from timm and MiniLM with mean pooling, the shipped heads after each. Pictures
come as timm's transform of `tf_efficientnet_lite2` makes them, texts as token ids of MiniLM's tokenizer, padded with 0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from coldstart.encoders._heads import Aligned, Head
from coldstart.encoders.starter_clip import HEADS
from coldstart.models import install
from tools.starter_clip.conse import CHECKPOINT

_IMAGE_MODEL = "tf_efficientnet_lite2"
_IMAGE_SIZE = 260
_CLASSIFIER = 2  # the last tensors of the checkpoint: weight and bias of a layer that is not needed here
_UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


class _Unit(nn.Module):
    """Rows of length one, which is what heads take."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=-1)


def custom_text_clip(folder: Path = HEADS) -> nn.Module:
    """An `open_clip.CustomTextCLIP` in float32, in evaluation mode, with the weights of the starter models and heads.

    Nothing is fetched. Its `logit_scale` is that of the heads.

    Args:
        folder: of the heads; those that ship with the package by default.

    Raises:
        ColdstartError: a starter model is not on this machine, or the folder holds no heads.
    """
    from open_clip import CustomTextCLIP
    from safetensors.torch import load_file

    aligned, words = Aligned.load(folder), install.starter("text")
    width = aligned.heads.text.shape.inputs
    model = CustomTextCLIP(
        width,
        {"timm_model_name": _IMAGE_MODEL, "timm_pool": "avg", "timm_proj": "none", "image_size": _IMAGE_SIZE},
        {"hf_model_name": str(words), "hf_pooler_type": "mean_pooler", "hf_model_pretrained": False},
    )
    trunk = model.visual.trunk
    theirs = torch.load(install.starter("image") / CHECKPOINT, map_location="cpu", weights_only=True)
    tensors = list(theirs.values())[:-_CLASSIFIER]  # the names differ between the two code bases, the order does not
    trunk.load_state_dict(dict(zip(trunk.state_dict(), tensors, strict=True)))
    tensors = load_file(words / "model.safetensors")
    model.text.transformer.load_state_dict({name: one for name, one in tensors.items() if name not in _UNUSED})
    model.visual.head = _after(aligned.heads.image)
    model.text.proj = _after(aligned.heads.text)
    with torch.no_grad():
        model.logit_scale.copy_(aligned.heads.logit_scale)
    done: nn.Module = model.float().eval()
    return done


def _after(head: Head) -> nn.Sequential:
    return nn.Sequential(_Unit(), head)
