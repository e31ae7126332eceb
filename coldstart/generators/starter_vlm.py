"""`starter-vlm`: writes from pixels, small and offline. EfficientNet-Lite2, a projector, and SmolLM2 with LoRA.

It writes from the folder of a fit alone: an untrained projector says nothing to a language model. Where a request has
neither system message nor prompt, the model reads its pictures alone. Several pictures are the mean of their features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import choose_device, choose_dtype
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import (
    Generation,
    GeneratorPassport,
    Pixels,
    Request,
    Sampling,
    _chat_template,
    _local,
    _smollm2,
)
from coldstart.models import install

if TYPE_CHECKING:
    from coldstart.generators._constrained import GrammarCompiler
    from coldstart.generators._vision import Projector

PROJECTOR = "projector.safetensors"
BATCH = 32
"""Pictures that the picture model sees at once."""
VERSION = 1
"""Raised when texts change."""


class StarterVlm:
    """Vision-language generator of the starter set; see the module and `Generator`.

    Args:
        folder: of a fit; None: it can do all but generate.
    """

    name = "starter-vlm"
    context_tokens: int | None = _smollm2.CONTEXT

    def __init__(self, folder: Path | None, device: str, dtype: str, batch_size: int | None) -> None:
        self._folder = folder
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size
        self._vision = vision_encoder(device, dtype)
        self.image_transform = self._vision.image_transform

    def passport(self) -> GeneratorPassport:
        fitted = ""
        if self._folder is not None:
            adapter = _local.adapter_digest(_local.find_adapter(self._folder))
            fitted = f"{adapter}+{install.file_digest(self._folder / PROJECTOR)}"
        vision = self._vision.passport("image").weights.removeprefix("sha256:")
        return GeneratorPassport(
            "starter-vlm:EfficientNet-Lite2+SmolLM2-135M-Instruct",
            f"sha256:{install.file_digest(_smollm2.weights_path())}+{vision}",
            fitted,
            f"its own, pictures last {VERSION}, binding {_local.CONSTRAINED_VERSION}",
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        plain = [_chat_template.plain(self._tokenizer, text) for text in texts]
        return [len(ids) for ids in self._tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]]

    def visual_features(self, images: Iterable[Sequence[Pixels]]) -> NDArray[np.float16]:
        """Compute features; see the function of that name."""
        return visual_features(self._vision, images)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        self._fitted()
        features = self.visual_features(request.images for request in requests if request.images)
        return self.generate_from(requests, features, sampling)

    def generate_from(
        self, requests: Sequence[Request], features: NDArray[np.float16], sampling: Sampling
    ) -> list[Generation | Reject]:
        """Generate as `generate`, from pictures that were encoded before.

        Args:
            features: float16 `[B, GRID_DIM]`, a row for each request that has pictures, in their order.
        """
        import torch

        from coldstart.generators import _vision
        from coldstart.generators._decode import Row, generate

        self._fitted()
        with torch.inference_mode():
            pictures = iter(self._projector(torch.from_numpy(features).to(self._torch_device)))
            table = self._model.get_input_embeddings()
            rows: list[Row | Reject] = []
            for request in requests:
                if not request.images:
                    rows.append(Reject("no_picture", f"{self.name} writes from pictures, and the item has none"))
                    continue
                seen = next(pictures)
                ids = _vision.prompt_ids(self._tokenizer, request.system, request.prompt, len(seen))
                if len(ids) + sampling.max_new_tokens > _smollm2.CONTEXT:
                    wanted = f"{len(ids)} tokens and {sampling.max_new_tokens} to write"
                    rows.append(Reject("prompt_too_long", f"{wanted} are over the context of {_smollm2.CONTEXT}"))
                    continue
                rows.append(Row(ids, request.schema, _vision.embed_prompt(table, ids, seen)))
        answered = [row for row in rows if isinstance(row, Row)]
        written = iter(generate(self._model, self._grammar, answered, sampling, batch_size=self._batch_size))
        return [next(written) if isinstance(row, Row) else row for row in rows]

    def _fitted(self) -> Path:
        if self._folder is None:
            raise ColdstartError(
                "generator 'starter-vlm' writes nothing before it is fitted: run coldstart finetune describe, "
                "and write generator: finetune:describe in the pipeline"
            )
        return self._folder

    @cached_property
    def _torch_device(self) -> Any:
        return choose_device(self._device)

    @cached_property
    def _tokenizer(self) -> Any:
        return _smollm2.load_tokenizer()

    @cached_property
    def _model(self) -> Any:
        import torch

        # Merged in float32 and rounded once: in bfloat16 a small change would be lost against the weight.
        base = _smollm2.load_model(self._torch_device, torch.float32)
        base.tie_weights()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft asks transformers
            merged = _local.apply_adapter(base, _local.find_adapter(self._fitted()), merge=True)
        return merged.to(choose_dtype(self._torch_device, self._dtype))

    @cached_property
    def _projector(self) -> Projector:
        from coldstart.generators import _vision

        return _vision.load(self._fitted() / PROJECTOR).to(self._torch_device)

    @cached_property
    def _grammar(self) -> GrammarCompiler:
        from coldstart.generators._constrained import GrammarCompiler

        return GrammarCompiler(self._tokenizer, self._model.config.vocab_size, [self._tokenizer.eos_token_id])


def vision_encoder(device: str = "auto", dtype: str = "auto") -> Any:
    """Build the picture model, whose `image_transform` prepares pictures for `visual_features`."""
    from coldstart.encoders import starter

    return starter.build("", device=device, dtype=dtype, allow_random_weights=False)


def visual_features(model: Any, items: Iterable[Sequence[Pixels]]) -> NDArray[np.float16]:
    """Compute the projector's input for each item; the picture model is frozen, so training needs it once.

    Args:
        model: of `vision_encoder`.
        items: pictures of each, at least one, uint8 `[H, W, 3]` RGB as `model.image_transform` leaves them.

    Returns:
        float16 `[items, GRID_DIM]`, see `grid_features` of the starter encoder; the mean over an item's pictures.
    """
    from coldstart.encoders.starter import GRID_DIM

    sums: list[NDArray[np.float32]] = []
    counts: list[int] = []
    waiting: list[tuple[int, Pixels]] = []

    def look() -> None:
        for (item, _), row in zip(waiting, model.grid_features([image for _, image in waiting]), strict=True):
            sums[item] += row
        waiting.clear()

    for item, images in enumerate(items):
        sums.append(np.zeros(GRID_DIM, np.float32))
        counts.append(len(images))
        for image in images:
            waiting.append((item, image))
            if len(waiting) == BATCH:
                look()
    look()
    return (np.array(sums, np.float32).reshape(-1, GRID_DIM) / np.array(counts, np.float32)[:, None]).astype(np.float16)


def build(rest: str, *, device: str, dtype: str, adapter: Path | None, batch_size: int | None = None) -> StarterVlm:
    """Build the starter vision-language model of a fit.

    Args:
        adapter: folder of a fit; without one it writes nothing.
        batch_size: most texts at once; None: what memory allows.

    Raises:
        ColdstartError: it has a rest, is not on this machine, or the folder holds no fit of it.
    """
    if rest:
        raise ColdstartError(f"generator 'starter-vlm:{rest}' is unknown: write starter-vlm")
    if batch_size is not None and batch_size < 1:
        raise ColdstartError(f"generator 'starter-vlm': batch_size {batch_size} must be at least 1")
    if adapter is not None and not (_local.find_adapter(adapter).parent / PROJECTOR).is_file():
        raise ColdstartError(f"{adapter} holds no {PROJECTOR}: it is the fit of another generator than starter-vlm")
    _smollm2.weights_path()
    return StarterVlm(adapter, device, dtype, batch_size)
