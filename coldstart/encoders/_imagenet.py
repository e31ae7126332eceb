"""Names of the ImageNet classes, and the starter image model's classifier over its pooled features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coldstart.models import install

if TYPE_CHECKING:
    import torch

CHECKPOINT = "efficientnet-lite2-9656183e.pth"


def class_words() -> list[tuple[str, str]]:
    """List the first lemma and the definition of each of the 1,000 ImageNet classes, in the order of the classifier."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    words = []
    for index in range(info.num_classes()):
        lemmas, _, definition = info.index_to_description(index, detailed=True).partition(": ")
        words.append((lemmas.split(", ")[0], definition))
    return words


def classifier() -> tuple[torch.Tensor, torch.Tensor]:
    """Load the image model's classifier: weight float32 `[1000, 1280]`, bias `[1000]`, over features of natural length.

    Raises:
        ColdstartError: the model is not on this machine.
    """
    import torch

    weights = torch.load(install.starter_folder("image") / CHECKPOINT, map_location="cpu", weights_only=True)
    return weights["_fc.weight"].float(), weights["_fc.bias"].float()
