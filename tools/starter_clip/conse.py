"""ConSE as heads: a picture is where the names of its likely ImageNet classes are, weighted by their probability.

Norouzi et al. 2014, "Zero-shot learning by convex combination of semantic embeddings", with all classes instead of the
best ten and around the middle of the names instead of around zero: sentence encoders put all short texts on one side,
and what all share tells nothing apart. It needs no pairs: the classifier of the image model and the encoder of texts
are all there is.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.encoders import Encoder, Vectors
from coldstart.encoders._heads import Heads, HeadShape
from coldstart.encoders._imagenet import class_words, classifier

TEMPLATE = "a photo of a {}"
FEATURE_NORM = 12.0
"""Length of EfficientNet-Lite2's pooled features, which heads see at length one. Over photographs of products it is
11.8 with a deviation of 1.3, over photographs taken in shops 14.0 and 1.6; between 12 and 13 nothing changes."""


def heads_of(
    weight: torch.Tensor, bias: torch.Tensor, names: Vectors | NDArray[np.float32], norm: float = FEATURE_NORM
) -> Heads:
    """Heads without any training: an image head that is ConSE exactly, a text head that only moves the middle.

    The image head has a direct way too, which starts at zero: training may add to ConSE without undoing it.

    Args:
        weight, bias: of a classifier with C classes over D features of natural length.
        names: vectors of the class names, float32 `[C, E]`, of length one.
        norm: the typical length of its features.
    """
    vectors = torch.from_numpy(np.array(names, np.float32))
    middle = vectors.mean(0)
    classes, width = vectors.shape
    heads = Heads(HeadShape(weight.shape[1], width, classes, "softmax"), HeadShape(width, width))
    image, text = heads.image, heads.text
    assert image.direct is not None and image.inner is not None and image.outer is not None and text.direct is not None
    with torch.no_grad():
        image.direct.weight.zero_()
        image.inner.weight.copy_(weight * norm)
        image.inner.bias.copy_(bias)
        image.outer.weight.copy_(torch.nn.functional.normalize(vectors - middle, dim=1).T)
        text.direct.weight.copy_(torch.eye(width))
        text.bias.copy_(-middle)
    return heads


def prior(encoder: Encoder) -> Heads:
    """ConSE heads over the starter's two encoders; `encoder` is `starter`."""
    names = encoder.encode_documents([TEMPLATE.format(name) for name, _ in class_words()])
    return heads_of(*classifier(), names)
