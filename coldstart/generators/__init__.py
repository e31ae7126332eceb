"""Generators: a batch of prompts, optionally with pictures, in; as many texts out. A new generator is one new file.

A name is `MODULE` or `MODULE:REST`, such as `starter`, `hf:NAME_OR_PATH` or `openai:MODEL@URL`; `-` in the module
part reads as `_`. The file has one function, `build(rest, *, device, dtype, adapter, **options)`. Importing this
package or building a generator imports no torch and no other generator.

Another installed package adds one by an entry point in the group `coldstart.generators`: its name is the part before
the colon, its value `MODULE:build`, a function with the same parameters. It cannot replace a generator of this package.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import check_names
from coldstart.core.keys import digest
from coldstart.core.plugins import find_build
from coldstart.core.stage import Reject

if TYPE_CHECKING:
    from coldstart.media.image import ImageTransform

__all__ = ["Generation", "Generator", "GeneratorPassport", "Request", "Sampling", "TextScorer", "known", "load"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """Request for one text.

    Attributes:
        prompt: the user's message, item text in it fenced as data.
        system: what goes before it, the same for many requests: a generator may compute it once.
        schema: JSON schema that the text is bound to; None: free text.
        plain: the same description by fixed rules, as JSON; the generator `sentences` answers with it.
        images: pictures, each uint8 `[H, W, 3]` RGB as the generator's `image_transform` leaves them, in order of time.
    """

    prompt: str
    system: str = ""
    schema: Mapping[str, Any] | None = None
    images: tuple[Pixels, ...] = ()
    plain: str = ""


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling; temperature 0 takes the likeliest token, whatever the seed."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """Text that was generated.

    Attributes:
        finish: `stop` where the model ended by itself, `length` where it was cut at `max_new_tokens`.
        prompt_tokens, new_tokens: tokens read and written.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class GeneratorPassport:
    """Passport of a generator: what changes its texts, besides prompt and sampling.

    Attributes:
        model: its name, without folders of one machine.
        weights: `sha256:…` of the weight files, or what the endpoint states.
        adapter: `sha256:…` of what was fitted on top, or empty.
        template: digest of the chat template and of how text is bound to a schema.
    """

    model: str
    weights: str
    adapter: str = ""
    template: str = ""

    @property
    def digest(self) -> str:
        return digest(asdict(self))


class Generator(Protocol):
    """Generator of texts by one model, in batches.

    Weights load on the first `generate`. Memory is the generator's own affair: it sorts what it gets by length, works
    in batches that fit, halves them on `torch.OutOfMemoryError`, and lets that through only for a single request.

    Attributes:
        name: what `load` was given.
        image_transform: turns a picture into the array that a request takes; None: it takes no pictures.
        context_tokens: prompt and answer together; None where it is not known.
    """

    name: str
    image_transform: ImageTransform | None
    context_tokens: int | None

    def passport(self) -> GeneratorPassport:
        """Return what makes the texts, without loading weights."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text by itself, without a chat template."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        """Generate a result for each request, in their order. One that cannot be answered (too long for the context,
        refused by the endpoint) is a `Reject` in its place; a fault of the set-up is raised.

        Raises:
            ColdstartError: a request has pictures and the model takes none.
        """


@runtime_checkable
class TextScorer(Protocol):
    """Generator on this machine that also scores given texts, instead of writing its own."""

    def log_probabilities(self, request: Request, texts: Sequence[str]) -> tuple[list[float], int]:
        """Compute log P(text | request) of each text as the beginning of an answer, and count the tokens read.

        Raises:
            ColdstartError: they are longer than the context.
        """

    def order_letters(self, request: Request, letters: Sequence[str]) -> tuple[list[int], int]:
        """Decode an order of all letters, each once, by what the model would write: places, and tokens read.

        Raises:
            ColdstartError: a letter is no token, or the prompt is longer than the context.
        """


def known() -> list[str]:
    """List the prefix of every generator name of this package, in alphabetical order."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if name[0] != "_")


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: Path | None = None,
    **options: Any,
) -> Generator:
    """Build the generator of a name; its weights stay on disk until they are needed.

    Args:
        name: `MODULE` or `MODULE:REST`.
        device: auto, cpu, cuda, cuda:N or mps; `dtype`: auto, float32, bfloat16 or float16.
        adapter: folder of what `coldstart finetune describe` made on that model.
        **options: settings of that generator.

    Raises:
        ColdstartError: an unknown name, device, dtype or option; or a model that is not on this machine.
    """
    check_names(device, dtype)
    build = find_build("generator", name, known(), _COMMON, options)
    generator: Generator = build(name.partition(":")[2], device=device, dtype=dtype, adapter=adapter, **options)
    return generator


_COMMON = ("rest", "device", "dtype", "adapter")
