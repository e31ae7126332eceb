"""`sentence-transformers:NAME_OR_FOLDER`: text, CLIP, SigLIP and vision-language embedders.

Any model that the sentence-transformers library reads, all its modalities in one space. Weights are safetensors only
and code from a model's folder is never run. Queries and documents use the prompts that the model states, or the
options `query_prompt` and `document_prompt`; `truncate_dim` keeps the first numbers of a vector; `max_side` bounds
pictures for models that take any size. Video frames are shown to the model as one a second, because the true times
are not part of a batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coldstart.encoders import Modality, Passport, Pixels, Vectors
from coldstart.encoders._tensors import OnDevice, describe_transform, encode_by_length, to_unit_vectors
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform
from coldstart.models import install
from coldstart.models.folder import check_folder
from coldstart.models.hub import hub_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MAX_SIDE = 1024
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # all that is read; the digest covers these
NO_LIMIT = 1_000_000  # tokenizers write "no limit" as a huge number
_RESAMPLE: dict[int, Literal["bicubic", "bilinear", "nearest"]] = {0: "nearest", 2: "bilinear", 3: "bicubic"}


class SentenceTransformers(OnDevice):
    """Encoder by sentence-transformers; see the module and `Encoder`."""

    def __init__(
        self, name: str, label: str, folder: Path, device: str, dtype: str, max_side: int, **settings: Any
    ) -> None:
        self.name = name
        self._label = label  # for the passport: no folders of this machine in it
        self._folder = folder
        self._device, self._dtype = device, dtype
        self._settings = settings  # prompts and truncate_dim, as SentenceTransformer takes them
        self._outline = _load(name, folder, weights=False, **settings)
        taken = self._outline.modalities
        self.modalities = frozenset(m for m in ("text", "image", "video") if m in taken)
        self.image_transform = None
        if self.modalities & {"image", "video"}:
            self.image_transform = _transform(getattr(self._outline.processor, "image_processor", None), max_side)
        self.max_tokens = _max_tokens(self._outline) if "text" in self.modalities else None
        dim = self._outline.get_embedding_dimension()
        if dim is None:
            raise ColdstartError(f"encoder {name!r}: {folder} does not say how long its vectors are")
        self._dim: int = dim

    def passport(self, modality: Modality) -> Passport:
        files = sorted({path for pattern in PATTERNS for path in self._folder.rglob(pattern)})
        listing = "".join(f"{install.file_digest(p)}  {p.relative_to(self._folder)}\n" for p in files)
        weights = f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"
        prompts = json.dumps(self._outline.prompts, sort_keys=True)
        preprocess = f"prompts {prompts}, {describe_transform(self.image_transform)}"
        return Passport(self._label, weights, preprocess, self._dim)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        prompt = self._outline.prompts.get("document", "")
        tokenizer, prompted = self._outline.tokenizer, [prompt + text for text in texts]
        if hasattr(tokenizer, "encode_batch"):  # static embeddings hold a bare tokenizer
            return [len(encoding) for encoding in tokenizer.encode_batch(prompted)]
        return [len(ids) for ids in tokenizer(prompted, verbose=False)["input_ids"]]

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode_texts(texts, "encode_document")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode_texts(texts, "encode_query")

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        from PIL import Image

        return self._encode([{"image": Image.fromarray(image)} for image in images], "encode_document")

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        if "video" not in self.modalities:
            raise TypeError(f"{self.name} takes no video")
        inputs = [
            {"video": {"array": np.ascontiguousarray(video), "video_metadata": _one_a_second(len(video))}}
            for video in videos
        ]
        chosen = {"video": {"do_sample_frames": False}}  # all the frames that were handed over, not a second choice
        return self._encode(inputs, "encode_document", processing_kwargs=chosen)

    def _encode_texts(self, texts: Sequence[str], method: str) -> Vectors:
        inputs: list[Any] = list(texts)
        options: dict[str, Any] = {}
        if self.modalities != {"text"}:
            # The library opens a bare string that looks like the address of a picture; said to be text, it stays text.
            inputs = [{"text": text} for text in texts]
            said: dict[str, Any] = {"max_length": self.max_tokens} if self.max_tokens is not None else {}
            if self._outline.config.model_type.startswith("siglip"):
                # It was trained on, and only understands, texts padded to its full length and no attention mask.
                said |= {"padding": "max_length", "return_attention_mask": False}
            options["processing_kwargs"] = {"text": said}
        sizes = [len(text) for text in texts]  # characters, near enough to tokens to group by

        def encode(group: list[int]) -> Vectors:
            return self._encode([inputs[i] for i in group], method, **options)

        return encode_by_length(sizes, self._dim, encode, room=32)

    def _encode(self, inputs: list[Any], method: str, **options: Any) -> Vectors:
        if not inputs:
            return np.zeros((0, self._dim), dtype=np.float32)
        encode = getattr(self._model, method)
        return to_unit_vectors(
            encode(inputs, batch_size=len(inputs), convert_to_tensor=True, show_progress_bar=False, **options)
        )

    @cached_property
    def _model(self) -> SentenceTransformer:
        kwargs = {"dtype": self.dtype, "use_safetensors": True}
        with _no_missing_weights(self.name):
            model = _load(self.name, self._folder, weights=True, model_kwargs=kwargs, **self._settings)
        return model.to(self.device, self.dtype).requires_grad_(False).eval()


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    allow_random_weights: bool,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    truncate_dim: int | None = None,
    max_side: int = MAX_SIDE,
) -> SentenceTransformers:
    """Find the model's files; raises `ColdstartError` where there are none, or where weights are pickled."""
    name, folder = f"sentence-transformers:{rest}", Path(rest)
    label = name
    if folder.is_dir():
        label = f"sentence-transformers:{folder.resolve().name}"
    else:
        repo = rest if "/" in rest else f"sentence-transformers/{rest}"
        folder = hub_folder(repo, PATTERNS, name=name, instead="sentence-transformers:FOLDER")
    check_folder(folder, f"encoder {name!r}")
    if not any(folder.rglob("*.safetensors")):
        raise ColdstartError(f"encoder {name!r}: {folder} holds no weights (*.safetensors; pickles are not read)")
    for pickled in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(pickled.parent.glob("*.safetensors")):
            raise ColdstartError(f"encoder {name!r}: {pickled} is a pickle; save the model again as safetensors")
    stated = {"query": query_prompt, "document": document_prompt}
    prompts = {word: prompt for word, prompt in stated.items() if prompt is not None}
    settings = {"prompts": prompts, "truncate_dim": truncate_dim}
    return SentenceTransformers(name, label, folder, device, dtype, max_side, **settings)


def _load(name: str, folder: Path, *, weights: bool, **settings: Any) -> SentenceTransformer:
    """Load the library's model on the CPU, or only its outline: the same object without weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import transformer
    from transformers.utils import logging as transformers_logging

    def outline(_self: Any, _path: str, task: Any, config: Any, *_: Any, **__: Any) -> Any:
        import torch

        with torch.device("meta"):
            return transformer.TRANSFORMER_TASK_TO_AUTO_MODEL[task].from_config(config)

    bars, original = transformers_logging.is_progress_bar_enabled(), transformer.Transformer._load_model
    transformers_logging.disable_progress_bar()
    if not weights:
        transformer.Transformer._load_model = outline
    try:
        return SentenceTransformer(
            str(folder),
            device="cpu" if weights else "meta",
            trust_remote_code=False,
            local_files_only=True,
            **settings,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"encoder {name!r}: {folder} cannot be read as a model: {reason}") from error
    finally:
        transformer.Transformer._load_model = original
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _no_missing_weights(name: str) -> Iterator[None]:
    """Refuse a model for which transformers made up weights that its files lack; it only logs a report of them."""
    reports: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if "LOAD REPORT" not in record.getMessage():
            return True
        reports.append(re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage()))
        return False

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    missing = re.findall(r"^(\S+)\s*\|\s*MISSING", "\n".join(reports), flags=re.MULTILINE)
    missing = [tensor for tensor in missing if not tensor.startswith("pooler.")]  # text embedders do not use BERT's
    if missing:
        raise ColdstartError(f"encoder {name!r}: its files lack {len(missing)} tensors, such as {missing[0]}")


def _max_tokens(model: SentenceTransformer) -> int | None:
    """Return the least that the tokenizer and the text tower's positions allow; None if neither has a limit."""
    limits = [model.max_seq_length]
    if model.config is not None:
        limits.append(getattr(model.config.get_text_config(), "max_position_embeddings", None))
    stated = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    return min(stated, default=None)


def _transform(processor: Any, max_side: int) -> ImageTransform:
    """Build the transform that the model's processor applies to sizes, done early so that small arrays are sent.

    Where the processor brings pictures to one fixed size, this is that size and the processor has nothing left to do;
    else pictures keep their aspect and the processor decides.
    """
    size = dict(getattr(processor, "size", None) or {})
    crop = dict(getattr(processor, "crop_size", None) or {})
    interpolation = _RESAMPLE.get(getattr(processor, "resample", -1))
    if interpolation and size.keys() == {"height", "width"}:
        return ImageTransform((size["height"], size["width"]), "squash", interpolation)
    edge = size.get("shortest_edge")
    if interpolation and edge and size.keys() == {"shortest_edge"} and crop == {"height": edge, "width": edge}:
        return ImageTransform((edge, edge), "shortest", interpolation)
    return ImageTransform((max_side, max_side), "longest", "bicubic")


def _one_a_second(frames: int) -> dict[str, Any]:
    return {"fps": 1.0, "duration": float(frames), "total_num_frames": frames, "frames_indices": list(range(frames))}
