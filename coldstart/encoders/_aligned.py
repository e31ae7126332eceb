"""Encode pictures and words into one space by heads over frozen encoders; the base of `align:…` and `starter-clip`.

The encoders under the heads are found by their names; this module knows none of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coldstart import encoders
from coldstart.encoders import Encoder, Modality, Passport, Pixels, Vectors, _heads_file
from coldstart.errors import ColdstartError
from coldstart.models import install

if TYPE_CHECKING:
    from coldstart.encoders._heads import AlignedHeads, Head, JoinedHead
    from coldstart.encoders._heads_arrays import HeadArrays, JoinedArrays
    from coldstart.encoders._heads_file import Tower

Side = Literal["image", "text"]


class AlignedEncoder:
    """Encoder with heads; see `Encoder`. Texts and pictures share one passport.

    Args:
        name: what to call it, here and in its passport.
        folder: holds `heads.json` and `heads.safetensors`; see `coldstart.encoders._heads.AlignedHeads`.
        options: for the encoders under the heads: device, dtype, allow_random_weights.

    Raises:
        ColdstartError: the folder holds no heads, or they were made for other encoders than those of this machine.
    """

    modalities: frozenset[Modality] = frozenset({"text", "image"})

    def __init__(self, name: str, folder: Path, **options: Any) -> None:
        config = _heads_file.read_heads_file(folder)
        self.name = name
        self._folder = folder
        self._dim = config.dim
        image, text = (config.towers[side] for side in ("image", "text"))
        self._image = self._tower(image, options)
        self._text = self._image if text == image else self._tower(text, options)  # one model in memory, not two
        self._check("image", self._image, image)
        self._check("text", self._text, text)
        self._without_torch = False
        self._weights = install.file_digest(folder / _heads_file.WEIGHTS)
        self.image_transform = self._image.image_transform
        self.max_tokens = self._text.max_tokens

    def _tower(self, tower: Tower, options: dict[str, Any]) -> Encoder:
        adapter: dict[str, Any] = {"adapter": str(self._folder / tower.adapter)} if tower.adapter else {}
        return encoders.load(tower.encoder, **options, **adapter)

    def _check(self, side: Modality, encoder: Encoder, tower: Tower) -> None:
        wanted, found = Passport(**tower.passport), encoder.passport(side)
        if found != wanted:
            differ = ", ".join(
                f"{field} {getattr(found, field)!r} instead of {getattr(wanted, field)!r}"
                for field in ("encoder", "weights", "preprocess", "dim", "metric")
                if getattr(found, field) != getattr(wanted, field)
            )
            raise ColdstartError(
                f"encoder {self.name!r}: its {side} head was fitted on another {tower.encoder} ({differ}): fit it again"
            )

    def passport(self, modality: Modality) -> Passport:
        if modality not in self.modalities:
            raise TypeError(f"{self.name} takes no {modality}")
        image, text = self.base("image").digest, self.base("text").digest
        return Passport(self.name, f"sha256:{self._weights}", f"heads over {image} and {text}", self._dim)

    def base(self, side: Side) -> Passport:
        """Return the passport of the vectors that the head of one side takes."""
        return self.tower(side).passport(side)

    def tower(self, side: Side) -> Encoder:
        """Return the encoder that makes them."""
        return self._image if side == "image" else self._text

    def for_queries(self) -> Encoder:
        """Return an encoder of this space over what its encoders have for queries, its heads without torch."""
        image = encoders.for_queries(self._image)
        text = image if self._text is self._image else encoders.for_queries(self._text)
        if image is self._image and text is self._text:
            return self
        quick = copy.copy(self)
        quick._image, quick._text, quick._without_torch = image, text, True
        return quick

    def project(self, side: Side, vectors: Vectors) -> Vectors:
        """Map unit vectors `[N, base dim]` of the encoder under the head into the common space: float32 `[N, D]`."""
        if self._without_torch and side in self._arrays:
            return self._arrays[side].project(vectors)
        head: Head | JoinedHead = getattr(self._aligned.heads, side)
        return head.project(vectors)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._text.count_tokens(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self.project("text", self._text.encode_documents(texts))

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.project("text", self._text.encode_queries(texts))

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        return self.project("image", self._image.encode_images(images))

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    @cached_property
    def _aligned(self) -> AlignedHeads:
        from coldstart.encoders._heads import AlignedHeads

        return AlignedHeads.load(self._folder)

    @cached_property
    def _arrays(self) -> dict[Side, HeadArrays | JoinedArrays]:
        """Heads in NumPy; none where their files are not in order, which torch then reports."""
        from coldstart.encoders._heads_arrays import load_arrays

        return load_arrays(self._folder)
