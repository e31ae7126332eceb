"""`hf:NAME_OR_FOLDER`: any causal language model, or vision-language model, that transformers reads.

A folder, or a name whose files are in the local hub cache or on the hub. Weights are safetensors only, and code from
a model's folder is never run. A model whose files have a picture processor reads pictures (`VisionModel`): they come
before the prompt, frames of a video in their order. It generates through transformers' own `generate`, since each
family lays out its pictures in its own way; texts are bound and tokens chosen by the same sampler as elsewhere, a row's
own random numbers included. No prefix is shared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from coldstart.core.device import choose_device, choose_dtype
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Generator, GeneratorPassport, Request, Sampling, _chat_template, _local
from coldstart.generators._chat_form import bind_chat_template
from coldstart.generators._local import LocalModel
from coldstart.media.image import ImageTransform
from coldstart.models import install
from coldstart.models.folder import check_folder
from coldstart.models.hub import hub_folder

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""All that is read; the digest covers these."""

VISION = ("preprocessor_config.json", "processor_config.json")


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    adapter: Path | None,
    batch_size: int | None = None,
    merge: bool = True,
    max_side: int = 512,
) -> Generator:
    """Find the model's files; no weights are read yet.

    Args:
        batch_size: most texts at once; None: what memory allows.
        merge: whether the adapter is added to the weights, which is quicker, or computed beside them.
        max_side: pixels of a picture's longer side, for models that read pictures.

    Raises:
        ColdstartError: there are no files, no safetensors among them, or the folder holds no adapter.
    """
    name, folder = f"hf:{rest}", Path(rest)
    if not rest:
        raise ColdstartError("generator 'hf' needs a model: write hf:NAME or hf:FOLDER")
    label = f"hf:{folder.resolve().name}" if folder.is_dir() else name
    if not folder.is_dir():
        folder = hub_folder(rest, PATTERNS, what="generator", name=name, instead="hf:FOLDER")
    _check(name, folder)
    check_folder(folder, f"generator {name!r}")
    place = adapter and _local.find_adapter(adapter)
    passport = partial(_passport, label, folder, place)
    if any((folder / file).is_file() for file in VISION):
        return VisionModel(name, folder, place, passport, device, dtype, batch_size, merge, max_side)
    return LocalModel(
        name,
        context_tokens(folder),
        partial(_tokenizer, name, folder),
        partial(_model, name, folder, place, merge),
        passport,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _check(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ColdstartError(f"generator {name!r}: {folder} holds no model (config.json is missing)")
    if not any(folder.glob("*.safetensors")):
        raise ColdstartError(f"generator {name!r}: {folder} holds no weights (*.safetensors; pickles are not read)")


def context_tokens(folder: Path) -> int | None:
    """Return the context length of a configuration, of the language part if there are several."""
    about = json.loads((folder / "config.json").read_text("utf-8"))
    inner = about.get("text_config") or {}
    stated = inner.get("max_position_embeddings") or about.get("max_position_embeddings") or about.get("n_positions")
    return stated if isinstance(stated, int) else None


def _passport(label: str, folder: Path, adapter: Path | None) -> GeneratorPassport:
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
    listing = "".join(f"{install.file_digest(path)}  {path.name}\n" for path in files)
    return GeneratorPassport(
        label,
        f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}",
        _local.adapter_digest(adapter) if adapter else "",
        f"its own, binding {_local.CONSTRAINED_VERSION}",
    )


def _tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, padding_side="left")
    if found.pad_token_id is None:
        found.pad_token = found.eos_token
    bind_chat_template(found, name, enable_thinking=False)
    return found


def _model(name: str, folder: Path, adapter: Path | None, merge: bool, device: Any, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return read_model(AutoModelForCausalLM, name, folder, adapter, merge, device, dtype)


def read_model(kind: Any, name: str, folder: Path, adapter: Path | None, merge: bool, device: Any, dtype: Any) -> Any:
    """Load a model by one of transformers' auto classes, all its weights from its files.

    Raises:
        ColdstartError: the folder cannot be read as one, lacks weights, or the adapter is of another model.
    """
    import torch
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # An adapter is added in float32 and rounded once: in a narrow format a small change would be lost.
        model, report = kind.from_pretrained(
            folder,
            dtype=torch.float32 if adapter and merge else dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"generator {name!r}: {folder} cannot be read as a model: {reason}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ColdstartError(f"generator {name!r}: its files lack {len(missing)} tensors, such as {missing[0]}")
    if adapter is not None:
        model = _local.apply_adapter(model, adapter, merge=merge)
    return model.to(device, dtype).requires_grad_(False).eval()


ROWS = 8
"""Requests at once where nobody says; their pictures are many tokens."""


class VisionModel:
    """Vision-language generator; see the module and `Generator`."""

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
        plain = [_chat_template.plain(words, text) for text in texts]
        return [len(ids) for ids in words(plain, add_special_tokens=False)["input_ids"]]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        from coldstart.generators._decode import out_of_memory

        results: list[Generation | Reject | None] = [None] * len(requests)
        sizes = [(len(request.images), len(request.prompt)) for request in requests]
        order = sorted(range(len(requests)), key=lambda place: (*(-size for size in sizes[place]), place))
        most = self._rows
        while order:
            pictured = bool(requests[order[0]].images)
            batch = [place for place in order[:most] if bool(requests[place].images) == pictured]
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

        from coldstart.generators._decode import Row, TokenSampler

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
        choice = TokenSampler(self._grammar, rows, sampling)

        def decide(_: Any, scores: torch.Tensor) -> torch.Tensor:
            chosen = torch.tensor(choice.step(scores.float()), device=scores.device)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

        end = self._grammar.stop_ids[0]
        with torch.inference_mode():
            self._model.generate(
                **inputs,
                logits_processor=LogitsProcessorList([decide]),
                max_new_tokens=sampling.max_new_tokens + 1,  # the mark of the end is not part of a text
                do_sample=False,
                num_beams=1,
                eos_token_id=list(self._grammar.stop_ids),
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
        said = [{"type": "text", "text": _chat_template.plain(words, request.prompt)}]
        messages = [{"role": "user", "content": [*[{"type": "image"} for _ in request.images], *said]}]
        if request.system:
            system = {"type": "text", "text": _chat_template.plain(words, request.system)}
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
        bind_chat_template(found, self.name, pictures=True)
        return found

    @cached_property
    def _device(self) -> Any:
        return choose_device(self._wanted[0])

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        dtype = choose_dtype(self._device, self._wanted[1])
        return read_model(
            AutoModelForImageTextToText, self.name, self._folder, self._adapter, self._merge, self._device, dtype
        )

    @cached_property
    def _grammar(self) -> Any:
        from coldstart.generators._constrained import grammar_compiler_of

        return grammar_compiler_of(self.name, self._model, self._processor.tokenizer)
