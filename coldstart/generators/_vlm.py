"""A vision-language model of transformers as a generator: pictures before the prompt, frames of a video in their order.

It writes through transformers' own `generate`, since each family lays out its pictures in its own way; texts are bound
and tokens chosen by the same pens as elsewhere, a row's own random numbers included. No prefix is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from coldstart import chat
from coldstart.device import choose_device, choose_dtype
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling
from coldstart.media.image import ImageTransform
from coldstart.stage import Reject

ROWS = 8
"""Requests at once where nobody says; their pictures are many tokens."""


class VisionModel:
    """See the module and `Generator`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        adapter: Path | None,
        passport: Callable[[], GeneratorPassport],
        device: str,
        dtype: str,
        batch_size: int | None,
        merge: bool,
        max_side: int,
    ) -> None:
        from coldstart.generators.hf import context_tokens

        if batch_size is not None and batch_size < 1:
            raise ColdstartError(f"generator {name!r}: batch_size {batch_size} must be at least 1")
        self.name = name
        self.passport = passport
        self.context_tokens = context_tokens(folder)
        self.image_transform: ImageTransform | None = ImageTransform((max_side, max_side), "longest", "bicubic")
        self._folder = folder
        self._adapter = adapter
        self._wanted = (device, dtype)
        self._rows = batch_size or ROWS
        self._merge = merge

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        words = self._processor.tokenizer
        plain = [chat.plain(words, text) for text in texts]
        return [len(ids) for ids in words(plain, add_special_tokens=False)["input_ids"]]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        from coldstart.generators._decode import out_of_memory

        results: list[Generation | Reject | None] = [None] * len(requests)
        sizes = [(len(request.images), len(request.prompt)) for request in requests]
        order = sorted(range(len(requests)), key=lambda place: (*(-size for size in sizes[place]), place))
        most = self._rows
        while order:
            seeing = bool(requests[order[0]].images)
            batch = [place for place in order[:most] if bool(requests[place].images) == seeing]
            try:
                written = self._write([requests[place] for place in batch], sampling)
            except (MemoryError, RuntimeError) as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                written, most = None, len(batch) // 2
            if written is not None:
                for place, result in zip(batch, written, strict=True):
                    results[place] = result
                order = order[len(batch) :]
        return [result for result in results if result is not None]

    def _write(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        import torch
        from transformers import LogitsProcessorList

        from coldstart.generators._decode import Choice, Row

        inputs = self._inputs(requests)
        lengths = inputs["attention_mask"].sum(1).tolist()
        if self.context_tokens is not None and max(lengths) + sampling.max_new_tokens > self.context_tokens:
            if len(requests) > 1:
                return [self._write([request], sampling)[0] for request in requests]
            wanted = f"{lengths[0]} tokens and {sampling.max_new_tokens} to write"
            return [Reject("prompt_too_long", f"{wanted} are over the context of {self.context_tokens}")]
        kept = inputs["attention_mask"].bool()
        ids = [row[there].tolist() for row, there in zip(inputs["input_ids"], kept, strict=True)]
        rows = [Row(own, request.schema) for own, request in zip(ids, requests, strict=True)]
        choice = Choice(self._binder, rows, sampling)

        def decide(_: Any, scores: torch.Tensor) -> torch.Tensor:
            chosen = torch.tensor(choice.step(scores.float()), device=scores.device)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

        end = self._binder.stop_ids[0]
        with torch.inference_mode():
            self._model.generate(
                **inputs,
                logits_processor=LogitsProcessorList([decide]),
                max_new_tokens=sampling.max_new_tokens + 1,  # the mark of the end is not part of a text
                do_sample=False,
                num_beams=1,
                eos_token_id=list(self._binder.stop_ids),
                pad_token_id=end,
            )
        return list(choice.generations())

    def _inputs(self, requests: Sequence[Request]) -> dict[str, Any]:
        from PIL import Image

        texts = [self._text(request) for request in requests]
        pictures = [[Image.fromarray(pixels) for pixels in request.images] for request in requests]
        given = self._processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
        )
        return {name: value.to(self._device) for name, value in given.items()}

    def _text(self, request: Request) -> str:
        words = self._processor.tokenizer
        said = [{"type": "text", "text": chat.plain(words, request.prompt)}]
        messages = [{"role": "user", "content": [*[{"type": "image"} for _ in request.images], *said]}]
        if request.system:
            system = {"type": "text", "text": chat.plain(words, request.system)}
            messages.insert(0, {"role": "system", "content": [system]})
        text: str = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoProcessor

        found = AutoProcessor.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        if not getattr(found, "chat_template", None):
            raise ColdstartError(f"generator {self.name!r}: {self._folder} has no chat template for its pictures")
        found.tokenizer.padding_side = "left"
        return found

    @cached_property
    def _device(self) -> Any:
        return choose_device(self._wanted[0])

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        from coldstart.generators.hf import read

        dtype = choose_dtype(self._device, self._wanted[1])
        return read(
            AutoModelForImageTextToText, self.name, self._folder, self._adapter, self._merge, self._device, dtype
        )

    @cached_property
    def _binder(self) -> Any:
        from coldstart.generators._binding import binder_of

        return binder_of(self.name, self._model, self._processor.tokenizer)
