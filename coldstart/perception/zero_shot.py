"""Pictures likened to words in a space that holds both. Knows nothing of encoders; a score is no probability.

The softmax over prompts is CLIP's zero-shot classifier, as open_clip's page "Zero-shot classification" describes it.
How high a score must be to mean something depends on the encoder and the pictures: labelled ones are needed to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Prompts:
    """One rule's prompts as vectors.

    Attributes:
        texts: the unsafe prompts.
        unsafe: their unit vectors, float32 [U, D].
        safe: those of the safe prompts, float32 [S, D].
    """

    texts: tuple[str, ...]
    unsafe: Vectors
    safe: Vectors


@dataclass(frozen=True)
class Likeness:
    """The picture or frame that is most like the unsafe prompts.

    Attributes:
        score: 0 to 1, the unsafe prompts' share.
        prompt: the unsafe prompt that it is most like.
        place: its number among the vectors.
    """

    score: float
    prompt: str
    place: int


def liken(vectors: Vectors, prompts: Prompts, temperature: float) -> Likeness:
    """Score of the most unsafe of some pictures.

    Args:
        vectors: unit vectors of one item's frames or pictures, float32 [N, D], N of at least 1.
        prompts: of one rule.
        temperature: what cosines are divided by before the softmax over the U + S prompts.
    """
    logits = vectors @ np.concatenate([prompts.unsafe, prompts.safe]).T / np.float32(temperature)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    unsafe = weights[:, : len(prompts.texts)]
    shares = unsafe.sum(axis=1) / weights.sum(axis=1)
    place = int(shares.argmax())
    return Likeness(float(shares[place]), prompts.texts[int(unsafe[place].argmax())], place)
