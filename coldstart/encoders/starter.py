"""`starter`: MiniLM for text and EfficientNet-Lite2 for pictures; small, offline, in two separate spaces.

Text: all-MiniLM-L6-v2, 384-d, mean of the token vectors. Pictures: the 1280 pooled ImageNet features; or, as
`starter:levels`, these beside the mean and the deviation of every channel after each of the network's seven stages,
which keep colour and texture that the last layer has lost. Levels are inputs for fits: used as they are, the
early ones outweigh what a picture shows. The two spaces are unrelated, so their passports differ. Text
becomes vectors the same way as a query and as a document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import surely_cpu
from coldstart.encoders import Encoder, Modality, Passport, Pixels, Vectors
from coldstart.encoders._tensors import (
    OnDevice,
    describe_transform,
    encode_by_length,
    to_pixel_values,
    to_unit_vectors,
)
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform
from coldstart.models import install

if TYPE_CHECKING:
    import torch

TokenIds = NDArray[np.int64]

TEXT_DIM = 384
IMAGE_DIM = 1280
LEVELS = (16, 24, 48, 88, 120, 208, 352)
"""Channels after each stage of the network."""
LEVELS_DIM = IMAGE_DIM + 2 * sum(LEVELS)
CELLS = 9
"""Cells of a picture in `grid_features`, 3 x 3, row by row."""
GRID_DIM = CELLS * IMAGE_DIM + LEVELS_DIM
HALF = (0.5, 0.5, 0.5)
AT_ONCE = 16
"""Pictures that go through the network at a time on a CPU: of 64 the first maps (0.4 GB each) leave the cache, and the
memory that is kept between batches, and a picture takes 1.4 times as long."""


class Starter(OnDevice):
    """Encoder of the starter set; see the module and `Encoder`."""

    modalities: frozenset[Modality] = frozenset({"text", "image"})
    image_transform = ImageTransform((260, 260), "shortest", "bicubic", crop_pct=0.89)  # as timm states it
    max_tokens = 256  # the model's own sentence-transformers setting

    def __init__(self, device: str, dtype: str, levels: bool = False) -> None:
        self.name = "starter:levels" if levels else "starter"
        self._levels = levels
        self._device, self._dtype = device, dtype
        self._passports: dict[Modality, Passport] = {}

    def passport(self, modality: Modality) -> Passport:
        if modality not in self._passports:  # each asks for the state of a dozen files, and a search for several
            self._passports[modality] = self._read_passport(modality)
        return self._passports[modality]

    def _read_passport(self, modality: Modality) -> Passport:
        if modality == "text":
            folder = install.starter_folder("text")
            tokenizer = install.file_digest(folder / "tokenizer.json")[:12]
            return Passport(
                "starter:all-MiniLM-L6-v2",
                f"sha256:{install.file_digest(folder / 'model.safetensors')}",
                f"tokenizer {tokenizer}, {self.max_tokens} tokens, mean",
                TEXT_DIM,
            )
        if modality == "image":
            weights = f"sha256:{install.file_digest(_checkpoint())}"
            preprocess = f"{describe_transform(self.image_transform)}, mean {HALF}, std {HALF}"
            if self._levels:
                kept = f"{preprocess}, pooled beside mean and deviation of {len(LEVELS)} levels"
                return Passport("starter:tf_efficientnet_lite2", weights, kept, LEVELS_DIM)
            return Passport("starter:tf_efficientnet_lite2", weights, preprocess, IMAGE_DIM)
        raise TypeError(f"{self.name} takes no {modality}")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._tokenize(texts)]

    def for_queries(self) -> Encoder:
        """Return an encoder of the same spaces that answers without torch; itself where a GPU may compute."""
        if self._dtype not in ("auto", "float32") or not surely_cpu(self._device):
            return cast("Encoder", self)
        from coldstart.encoders._starter_onnx import StarterQueries

        return StarterQueries(self)

    def in_float32(self) -> Starter:
        """Return the encoder of all levels in float32 on the CPU, as graphs for queries are made from."""
        return Starter("cpu", "float32", levels=True)

    def token_batches(
        self, texts: Sequence[str], encode: Callable[[TokenIds, TokenIds], Vectors], **grouping: float
    ) -> Vectors:
        """Encode texts, cut to `max_tokens`, in batches of like length.

        Args:
            encode: takes ids and attention mask, int64 `[B, T]`, and gives vectors `[B, TEXT_DIM]`.
            grouping: how like, for `encode_by_length`.

        Returns:
            float32 `[len(texts), TEXT_DIM]`, in the order of `texts`.
        """
        limit = self.max_tokens
        ids = [
            tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]] for tokens in self._tokenize(texts)
        ]

        def encode_group(group: list[int]) -> Vectors:
            longest = max(len(ids[i]) for i in group)
            input_ids = np.zeros((len(group), longest), np.int64)  # 0 is the padding token
            mask = np.zeros_like(input_ids)
            for row, i in enumerate(group):
                input_ids[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            return encode(input_ids, mask)

        return encode_by_length([len(tokens) for tokens in ids], TEXT_DIM, encode_group, **grouping)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        import torch

        def encode(input_ids: TokenIds, mask: TokenIds) -> Vectors:
            with torch.inference_mode():
                ids, attended = (torch.from_numpy(array).to(self.device) for array in (input_ids, mask))
                return to_unit_vectors(self.mean_tokens(ids, attended))

        return self.token_batches(texts, encode)

    encode_queries = encode_documents

    def mean_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the mean of the token vectors that `attention_mask` keeps: float32 `[B, TEXT_DIM]`."""
        states: torch.Tensor = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        states = states.float()
        mask = attention_mask.unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1)

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        import torch

        vectors = np.zeros((len(images), LEVELS_DIM if self._levels else IMAGE_DIM), dtype=np.float32)
        with torch.inference_mode():
            for part in self._parts(len(images)):
                pixel_values = to_pixel_values(images[part], HALF, HALF, self.device, torch.float32)
                if self._levels:
                    vectors[part] = to_unit_vectors(self.all_levels(pixel_values))
                else:
                    early, late = self.image_model
                    vectors[part] = to_unit_vectors(late(early(pixel_values).to(self.dtype)))
        return vectors

    def _parts(self, count: int) -> list[slice]:
        """Split a batch into the parts that go through the network of pictures one after another."""
        step = AT_ONCE if self.device.type == "cpu" else max(count, 1)
        return [slice(start, start + step) for start in range(0, count, step)]

    def grid_features(self, images: Sequence[Pixels]) -> NDArray[np.float16]:
        """Compute features of pictures for a language model: a grid of the last map, and vectors of the early stages.

        Returns:
            float16 `[B, GRID_DIM]`: the last layer's 1280 features in each of the cells, as they come, then the vector
            of `starter:levels` at a length of the root of its dimension, so that float16 keeps its small numbers.
        """
        import torch

        features = np.zeros((len(images), GRID_DIM), np.float16)
        side = int(CELLS**0.5)
        with torch.inference_mode():
            for part in self._parts(len(images)):
                pixel_values = to_pixel_values(images[part], HALF, HALF, self.device, torch.float32)
                last, levels = self._last_and_levels(pixel_values)
                cells = torch.nn.functional.adaptive_avg_pool2d(last.float(), side).flatten(2).transpose(1, 2)
                scaled = torch.nn.functional.normalize(levels, dim=1) * LEVELS_DIM**0.5
                features[part] = torch.cat([cells.flatten(1), scaled], dim=1).half().cpu().numpy()
        return features

    def all_levels(self, values: torch.Tensor) -> torch.Tensor:
        """Compute pooled features `[B, 1280]` of length one, and those of every level, together of length one too."""
        return self._last_and_levels(values)[1]

    def _last_and_levels(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the last map `[B, 1280, H, W]`, and the vector of all levels `[B, LEVELS_DIM]`."""
        import torch
        from torch.nn.functional import normalize

        early, late = self.image_model
        parts = []
        for layers, dtype in ((early, torch.float32), (late, self.dtype)):
            values = values.to(dtype)
            for layer in layers:
                last, values = values, layer(values)
                if isinstance(layer, torch.nn.Sequential):  # a stage; the others are stem and head
                    over_space = values.float().flatten(2)
                    level = torch.cat([over_space.mean(2), over_space.std(2, correction=0)], dim=1)
                    parts.append(normalize(level, dim=1) / len(LEVELS) ** 0.5)
        return last, torch.cat([normalize(values.float(), dim=1), *parts], dim=1)

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(install.starter_folder("text") / "tokenizer.json"))
        tokenizer.no_truncation()  # the file cuts at 128 and pads to it
        tokenizer.no_padding()
        return tokenizer

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize each text with its special tokens, uncut."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    @cached_property
    def text_model(self) -> torch.nn.Module:
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel

        folder = install.starter_folder("text")
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model: torch.nn.Module = AutoModel.from_config(config, add_pooling_layer=False)
        tensors = load_file(folder / "model.safetensors")
        unused = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in unused})
        return model.to(self.device, self.dtype).eval()

    @cached_property
    def image_model(self) -> tuple[torch.nn.Sequential, torch.nn.Sequential]:
        """Load the network in two parts. The first, a fifth of the work, is in float32: there bfloat16 costs accuracy
        (cosine to float32 down to 0.9974 without this, 0.9995 with it)."""
        import timm
        import torch

        model: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
        ours = model.state_dict()
        theirs = torch.load(_checkpoint(), map_location="cpu", weights_only=True)
        shapes = [[tuple(t.shape) for t in tensors.values()] for tensors in (ours, theirs)]
        if shapes[0] != shapes[1]:  # the names differ between the two code bases, the order does not
            raise ColdstartError(
                f"{_checkpoint()}: its {len(theirs)} tensors do not fit tf_efficientnet_lite2 ({len(ours)}); "
                "run: coldstart models verify"
            )
        model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
        _fold_batch_norms(model)
        early = torch.nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:2])
        late = torch.nn.Sequential(*model.blocks[2:], model.conv_head, model.bn2, model.global_pool)
        early.to(self.device, torch.float32, memory_format=torch.channels_last)  # type: ignore[call-overload]
        late.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return early, late


def _fold_batch_norms(module: torch.nn.Module) -> None:
    """Multiply each batch norm into the convolution registered before it, and leave its activation in its place.

    Fewer passes over memory, and one rounding fewer a layer in bfloat16.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, torch.nn.BatchNorm2d):
            convolution = module.get_submodule(before)
            setattr(module, before, fuse_conv_bn_eval(convolution, child))  # type: ignore[type-var]
            setattr(module, name, child.get_submodule("act"))
        else:
            _fold_batch_norms(child)
        before = name


def _checkpoint() -> Path:
    return install.starter_folder("image") / "efficientnet-lite2-9656183e.pth"


def build(rest: str, *, device: str, dtype: str, allow_random_weights: bool) -> Encoder:
    if rest == "multilingual":
        from coldstart.encoders._multilingual import Multilingual

        return Multilingual(device, dtype)
    if rest not in ("", "levels"):
        raise ColdstartError(
            f"encoder 'starter:{rest}' is unknown: write starter, starter:levels or starter:multilingual"
        )
    return cast("Encoder", Starter(device, dtype, levels=rest == "levels"))
