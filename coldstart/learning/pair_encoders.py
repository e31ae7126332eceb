"""The two encoders that a fit is about: that of a space of pictures, and one of words."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from coldstart import encoders
from coldstart.encoders import Encoder
from coldstart.errors import ColdstartError
from coldstart.heads_file import Tower
from coldstart.pipeline import Engine

if TYPE_CHECKING:
    from coldstart.heads import Aligned


class PairEncoders:
    """Loads no weights.

    Args:
        stage: whose encoders these are, for messages.
        image: the embed stage of the pictures.
        text: the encoder of words; None: that of the pictures if it reads words into their space, else `starter`.
    """

    def __init__(self, stage: str, image: Any, text: str | None, engine: Engine) -> None:
        self._stage = stage
        self._image = image
        self._asked = text
        self._engine = engine

    @cached_property
    def _name(self) -> str:
        name: str = self._image.settings.encoder
        if self._asked is not None:
            return self._asked
        if name.startswith("align:"):  # it stands for a fit of its own
            return "starter"
        encoder = self._image.encoder
        one_space = "text" in encoder.modalities and encoder.passport("text") == self._image.passport
        return name if one_space else "starter"

    @cached_property
    def text(self) -> Encoder:
        """The encoder of words.

        Raises:
            ColdstartError: it takes none.
        """
        encoder = self.load(self._name)
        if "text" not in encoder.modalities:
            raise ColdstartError(f"{self._stage}.text={self._name!r}: {encoder.name} takes no text")
        return encoder

    def load(self, name: str, **options: Any) -> Encoder:
        """An encoder under the settings of these."""
        return encoders.load(
            name,
            device=self._engine.device,
            dtype=self._engine.dtype,
            allow_random_weights=self._image.settings.allow_random_weights,
            **options,
        )

    @cached_property
    def towers(self) -> dict[str, Tower]:
        """Both as heads name them."""
        return {
            "image": Tower(self._image.settings.encoder, asdict(self._image.passport)),
            "text": Tower(self._name, asdict(self.text.passport("text"))),
        }

    def start(self, asked: str) -> Aligned | None:
        """The heads from which a fit starts, as `coldstart.learning.start.starting_heads` has them."""
        from coldstart.learning.start import starting_heads

        return starting_heads(asked, self.towers, f"{self._stage}.start")
