"""Generate text by a causal language model on this machine, with LoRA adapters of peft; for `starter` and `hf:`.

Adapters are Hu et al. 2022, arXiv:2106.09685, in safetensors alone.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.core.device import choose_device, choose_dtype
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling, _chat_template
from coldstart.models import install

if TYPE_CHECKING:
    from coldstart.media.image import ImageTransform

CONSTRAINED_VERSION = 1
"""Version of constrained decoding, raised when its texts change; here, since a passport loads no grammar compiler."""


class LocalModel:
    """Generator by a causal language model; see `Generator`.

    Args:
        name: the requested name.
        context_tokens: prompt and answer together; None where it is not known.
        load_tokenizer: gives the tokenizer.
        load_model: (torch device, torch dtype) -> the model in evaluation mode.
        load_passport: gives what changes its texts, without weights.
        batch_size: most rows at once; None: what memory allows.
    """

    image_transform: ImageTransform | None = None

    def __init__(
        self,
        name: str,
        context_tokens: int | None,
        load_tokenizer: Callable[[], Any],
        load_model: Callable[[Any, Any], Any],
        load_passport: Callable[[], GeneratorPassport],
        *,
        device: str,
        dtype: str,
        batch_size: int | None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ColdstartError(f"generator {name!r}: batch_size {batch_size} must be at least 1")
        self.name = name
        self.context_tokens = context_tokens
        self.passport = load_passport
        self._load_tokenizer = load_tokenizer
        self._load_model = load_model
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        plain = [_chat_template.plain(self._tokenizer, text) for text in texts]
        return [len(ids) for ids in self._tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        from coldstart.generators._decode import Row, generate

        rows: list[Row | Reject] = []
        for request in requests:
            if request.images:
                raise ColdstartError(f"generator {self.name!r} takes no pictures: use one that reads them")
            ids = _chat_template.prompt_ids(self._tokenizer, request.system, request.prompt)
            rows.append(self._reason(ids, request, sampling) or Row(ids, request.schema))
        answered = [row for row in rows if isinstance(row, Row)]
        written = iter(generate(self._model, self._grammar, answered, sampling, batch_size=self._batch_size))
        return [next(written) if isinstance(row, Row) else row for row in rows]

    def log_probabilities(self, request: Request, texts: Sequence[str]) -> tuple[list[float], int]:
        """Score texts as answers to a request; see `coldstart.generators.TextScorer`."""
        from coldstart.generators._score import log_probabilities

        prompt = _chat_template.prompt_ids(self._tokenizer, request.system, request.prompt)
        plain = [_chat_template.plain(self._tokenizer, text) for text in texts]
        answers = self._tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else []
        self._check_length(len(prompt) + max(map(len, answers), default=0))
        return log_probabilities(self._model, prompt, answers), len(prompt) + sum(map(len, answers))

    def order_letters(self, request: Request, letters: Sequence[str]) -> tuple[list[int], int]:
        """Order letters as a request asks; see `coldstart.generators.TextScorer`."""
        from coldstart.generators._score import order_of_tokens

        prompt = _chat_template.prompt_ids(self._tokenizer, request.system, request.prompt)
        tokens = [self._tokenizer(one, add_special_tokens=False)["input_ids"] for one in letters]
        if any(len(own) != 1 for own in tokens) or len({own[0] for own in tokens}) < len(tokens):
            raise ColdstartError(f"generator {self.name!r} has no token of its own for each of {', '.join(letters)}")
        between = self._tokenizer("\n", add_special_tokens=False)["input_ids"]
        self._check_length(len(prompt) + len(letters) * (1 + len(between)))
        found = order_of_tokens(self._model, prompt, [own[0] for own in tokens], between)
        return found, len(prompt) + len(letters) * (1 + len(between))

    def _check_length(self, tokens: int) -> None:
        if self.context_tokens is not None and tokens > self.context_tokens:
            raise ColdstartError(
                f"generator {self.name!r}: {tokens} tokens are over its context of {self.context_tokens}: give fewer "
                "items or shorter titles"
            )

    def _reason(self, ids: Sequence[int], request: Request, sampling: Sampling) -> Reject | None:
        """Return why a request cannot be answered; None if it can."""
        if self.context_tokens is not None and len(ids) + sampling.max_new_tokens > self.context_tokens:
            wanted = f"{len(ids)} tokens and {sampling.max_new_tokens} to write"
            return Reject("prompt_too_long", f"{wanted} are over the context of {self.context_tokens}")
        own, template = self._marks(ids), self._template_marks(bool(request.system))
        if own != template:  # what an item says must never be read as the template's own marks
            return Reject(
                "special_tokens", f"{sum(own.values())} marks in the prompt, {sum(template.values())} expected"
            )
        return None

    def _template_marks(self, system: bool) -> Counter[int]:
        return self._marks(_chat_template.prompt_ids(self._tokenizer, "a" if system else "", "a"))

    def _marks(self, ids: Sequence[int]) -> Counter[int]:
        return Counter(token for token in ids if token in self._special)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self._tokenizer.all_special_ids)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load_tokenizer()

    @cached_property
    def _model(self) -> Any:
        device = choose_device(self._device)
        return self._load_model(device, choose_dtype(device, self._dtype))

    @cached_property
    def _grammar(self) -> Any:
        from coldstart.generators._constrained import grammar_compiler_of

        return grammar_compiler_of(self.name, self._model, self._tokenizer)


FOLDER = "adapter"

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def find_adapter(folder: Path) -> Path:
    """Find the folder with peft's files in the folder of a fit.

    Raises:
        ColdstartError: a file is missing.
    """
    place = folder / FOLDER
    missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
    if missing:
        raise ColdstartError(
            f"{folder} holds no adapter ({FOLDER}/{' and '.join(missing)} missing): make one with "
            "coldstart finetune describe"
        )
    return place


def adapter_digest(place: Path) -> str:
    """Compute `sha256:…` of peft's files."""
    listing = " ".join(install.file_digest(place / name) for name in (CONFIG, WEIGHTS))
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


def apply_adapter(model: Any, place: Path, *, merge: bool) -> Any:
    """Apply the adapter to a model, merged into its weights or beside them.

    Raises:
        ColdstartError: the adapter was made for another model.
    """
    from peft import get_peft_model, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from coldstart.models.adapters import read_lora_config

    config = read_lora_config(place)
    try:
        with warnings.catch_warnings():  # of peft's to transformers
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            wrapped = get_peft_model(model, config)
        found = set_peft_model_state_dict(wrapped, load_file(place / WEIGHTS))
        missing = [name for name in found.missing_keys if "lora_" in name]
        if missing or found.unexpected_keys:
            raise ValueError(f"{len(missing)} weights are missing and {len(found.unexpected_keys)} have no place")
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"adapter {place} does not fit the model: {reason}") from error
    return (wrapped.merge_and_unload() if merge else wrapped).eval()
