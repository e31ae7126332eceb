"""Encoders: a batch of text or media in, as many unit vectors out. A new encoder is one new file here.

A name is `MODULE` or `MODULE:REST`, such as `starter`, `fake:64` or `open_clip:local-dir:PATH`; `-` in the
module part reads as `_`. The file has one function, `build(rest, *, device, dtype, allow_random_weights,
**options)`. Importing this package or building an encoder imports no torch and no other encoder.

Another installed package adds one by an entry point in the group `coldstart.encoders`: its name is the part before the
colon, its value `MODULE:build`, a function with the same parameters. It cannot replace an encoder of this package.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import check_names
from coldstart.core.plugins import find_build
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.media.image import ImageTransform

__all__ = ["Encoder", "Modality", "Passport", "Projector", "for_queries", "known", "load"]

Modality = Literal["text", "image", "video"]
Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Passport:
    """Passport of a space of vectors. Two vectors may be compared if and only if their passports are equal.

    Attributes:
        encoder: the encoder's name, without folders of one machine.
        weights: `sha256:…` of the weight files, or `random:SEED`.
        preprocess: all that is done to the input before the model, and to its output after it.
        dim: numbers in a vector.
        metric: how vectors are compared.
    """

    encoder: str
    weights: str
    preprocess: str
    dim: int
    metric: str = "cosine"

    @property
    def of_content(self) -> bool:
        """True if an encoder made them, so that a text or a picture can have such a vector too; vectors of a fit of
        behaviour only items and users have."""
        return not self.encoder.startswith("behaviour:")

    @cached_property
    def digest(self) -> str:
        """Digest of all fields, twelve hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    @lru_cache(256)  # a search reads those of all spaces
    def from_json(cls, text: str) -> Passport:
        """Read what `to_json` wrote.

        Raises:
            ColdstartError: it is no passport; the text may come from a stranger's workspace.
        """
        try:
            found = cls(**json.loads(text))
            for name, value in asdict(found).items():
                if not isinstance(value, int if name == "dim" else str) or value is True or value is False:
                    raise TypeError(f"{name} is {value!r}")
            return found
        except (TypeError, ValueError, RecursionError) as error:
            raise ColdstartError(f"{text[:80]!r} is no passport of a space: make the space anew") from error


class Encoder(Protocol):
    """Encoder of batches by one model. All vectors are float32 `[B, D]`, of length one, in the order of the input.

    Weights load on the first `encode_*` call of a modality. Running out of device memory surfaces as
    `torch.OutOfMemoryError`, after which a smaller batch may be tried.

    Attributes:
        name: what `load` was given.
        modalities: which of `text`, `image` and `video` it takes.
        image_transform: turns a picture into the array that `encode_images` takes; None without image input.
        max_tokens: longer texts are cut to this by the model; None without text input.
    """

    name: str
    modalities: frozenset[Modality]
    image_transform: ImageTransform | None
    max_tokens: int | None

    def passport(self, modality: Modality) -> Passport:
        """Return the space that `modality` maps into, without loading weights. Aligned modalities share one."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text as a document, special tokens and any document prompt included,
        before any cut.
        """

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Encode texts that are stored."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Encode texts that are queries."""

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        """Encode pictures, each uint8 `[H, W, 3]` RGB as `image_transform` leaves it."""

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        """Encode whole videos, each uint8 `[T, H, W, 3]` RGB, frames in order of time and as
        `image_transform` leaves them. Only for encoders with `video` among their modalities."""


@runtime_checkable
class HeadEncoder(Protocol):
    """Encoder that applies heads to vectors of others, and so can start from stored vectors."""

    def base(self, side: Literal["image", "text"]) -> Passport:
        """Return the passport of the vectors that the head of one side takes."""

    def tower(self, side: Literal["image", "text"]) -> Encoder:
        """Return the encoder that makes them."""

    def project(self, side: Literal["image", "text"], vectors: Vectors) -> Vectors:
        """Map unit vectors float32 `[N, base dim]` of that passport into the common space: unit float32 `[N, D]`."""


@runtime_checkable
class QuickForQueries(Protocol):
    """Encoder with another of the same passports, which answers a first query sooner and many less quickly."""

    def for_queries(self) -> Encoder:
        """Return that encoder; its weights stay on disk until they are needed."""


def for_queries(encoder: Encoder) -> Encoder:
    """Return the encoder that answers queries in the spaces of another; the same one where it has none."""
    return encoder.for_queries() if isinstance(encoder, QuickForQueries) else encoder


def known() -> list[str]:
    """List the prefix of every encoder name of this package, in alphabetical order."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(m.replace("_", "-") if m in _DASHED else m for m in modules if m[0] != "_")


_DASHED = ("sentence_transformers", "starter_clip")
"""Spelt with `-` in their names."""


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    allow_random_weights: bool = False,
    **options: Any,
) -> Encoder:
    """Build the encoder of a name; its weights stay on disk until they are needed.

    Args:
        name: `MODULE` or `MODULE:REST`.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: auto, float32, bfloat16 or float16; `auto` measures what the device does well.
        allow_random_weights: for tests and timing alone; the passport says so.
        **options: settings of that encoder.

    Raises:
        ColdstartError: an unknown name, device, dtype or option; or a model that is not on this machine.
    """
    check_names(device, dtype)
    build = find_build("encoder", name, known(), _COMMON, options)
    encoder: Encoder = build(
        name.partition(":")[2], device=device, dtype=dtype, allow_random_weights=allow_random_weights, **options
    )
    return encoder


_COMMON = ("rest", "device", "dtype", "allow_random_weights")
