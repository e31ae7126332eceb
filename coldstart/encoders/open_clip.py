"""`open_clip:…`: any model of open_clip, text and pictures in one space.

`open_clip:ARCH/TAG` takes weights from the hub cache or the hub, `open_clip:ARCH/FILE` a local checkpoint,
`open_clip:local-dir:FOLDER` a folder with `open_clip_config.json`, and `open_clip:hf-hub:ORGANISATION/NAME`
such a folder from the hub. `open_clip:ARCH` alone has no weights and is refused unless random ones are
allowed. Text becomes vectors the same way as a query and as a document. The option `adapter` names a folder that was
fitted on top of the model; its space is not that of the model alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.encoders import Modality, Passport, Pixels, Vectors
from coldstart.encoders._adapter import Adapter, Base, find_adapter
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
from coldstart.models.folder import check_folder, check_weights
from coldstart.models.hub import hub_file, hub_folder

if TYPE_CHECKING:
    import torch

SEED = 0  # of random weights
_TOKENIZER_OPTIONS = ("clean", "strip_sep_token", "language", "reduction_mask", "additional_special_tokens")
"""Options of a tokenizer that a folder may state; `trust_remote_code` or a path is none of them."""
TOKENIZER_FILES = ("*token*", "*.model", "vocab.*", "merges.txt", "config.json")


@dataclass(frozen=True)
class Source:
    """Source of a model, all of it on this machine.

    Attributes:
        name: for the passport; no folders of this machine in it.
        model: what open_clip calls the architecture: `ARCH` or `local-dir:FOLDER`.
        config: open_clip's model configuration.
        preprocess: what open_clip states of the pixels: size, mean, std, interpolation, resize_mode,
        fill_color.
        checkpoint: the weight file; None for random weights.
    """

    name: str
    model: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    checkpoint: Path | None


class OpenClip(OnDevice):
    """Encoder by open_clip; see the module and `Encoder`."""

    modalities: frozenset[Modality] = frozenset({"text", "image"})

    def __init__(self, name: str, source: Source, device: str, dtype: str, adapter: Adapter | None = None) -> None:
        self.name = name
        self._source = source
        self._adapter = adapter
        self._device, self._dtype = device, dtype
        pixels = source.preprocess
        size = source.config["vision_cfg"].get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        self.image_transform = ImageTransform((height, width), pixels["resize_mode"], pixels["interpolation"])
        self.max_tokens: int = source.config["text_cfg"].get("context_length", 77)
        self._mean = tuple(pixels["mean"])
        self._std = tuple(pixels["std"])
        self.dim: int = source.config["embed_dim"]

    def passport(self, modality: Modality) -> Passport:
        base = self.base
        weights = base.weights + (f"+adapter:sha256:{self._adapter.digest}" if self._adapter else "")
        pixels = f"{describe_transform(self.image_transform)}, mean {self._mean}, std {self._std}"
        return Passport(base.encoder, weights, f"config {base.config}, {pixels}, {self.max_tokens} tokens", self.dim)

    @property
    def base(self) -> Base:
        """Return the identity of the model as published, under any adapter."""
        return base_of(self._source)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        tokenizer = self._tokenizer
        if hasattr(tokenizer, "encode") or not texts:
            return [len(tokenizer.encode(text)) + 2 for text in texts]  # a start and an end token
        clips = tokenizer.tokenizer_mode == "clips"  # appends a class token
        ids = tokenizer.tokenizer([tokenizer.clean_fn(text) for text in texts], verbose=False)["input_ids"]
        return [len(tokens) + clips for tokens in ids]

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        import torch

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        from coldstart.encoders._open_clip_speed import encode_text, token_lengths

        tokens = self.tokenize(texts)

        def encode(group: list[int]) -> Vectors:
            with torch.inference_mode():
                columns = tokens[group, : needed[group[-1]]].to(self.device)
                return to_unit_vectors(encode_text(self._model, columns))

        needed = token_lengths(self._model, tokens)
        return encode_by_length(needed, self.dim, encode)

    encode_queries = encode_documents

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        import torch

        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            model, reads_bytes = self._models
            if reads_bytes:
                pixels = torch.from_numpy(np.stack(self._padded(images)))
            else:
                pixels = self.pixel_values(images, self.device, self.dtype)
            return to_unit_vectors(model.encode_image(pixels))

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokenize texts to int64 [B, max_tokens], padded or cut."""
        tokens: torch.Tensor = self._tokenizer(list(texts))
        return tokens

    def pixel_values(self, images: Sequence[Pixels], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Compute the input of the image tower, [B, 3, H, W], from pictures as `image_transform` leaves them."""
        return to_pixel_values(self._padded(images), self._mean, self._std, device, dtype)

    def _padded(self, images: Sequence[Pixels]) -> Sequence[Pixels]:
        if self.image_transform.resize != "longest":
            return images
        return [_pad(image, self.image_transform.size, self._source.preprocess["fill_color"]) for image in images]

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        hub_name = self._source.config["text_cfg"].get("hf_tokenizer_name")
        text, place = self._source.config["text_cfg"], self._source.model
        local = place.startswith("local-dir:")
        options = text.get("tokenizer_kwargs") or {}
        if not hub_name:
            if local:
                return open_clip.SimpleTokenizer(context_length=self.max_tokens, **options)
            return open_clip.get_tokenizer(place)
        if local:
            folder = Path(place.removeprefix("local-dir:"))
        else:
            instead = "open_clip:local-dir:FOLDER with the tokenizer's files beside the weights"
            folder = hub_folder(hub_name, TOKENIZER_FILES, name=self.name, instead=instead)
            check_folder(folder, f"encoder {self.name!r}")
        return open_clip.tokenizer.HFTokenizer(
            str(folder),
            context_length=self.max_tokens,
            tokenizer_mode=text.get("tokenizer_mode"),
            **options,
            trust_remote_code=False,
            local_files_only=True,
        )

    @property
    def _model(self) -> Any:
        return self._models[0]

    @cached_property
    def _models(self) -> tuple[Any, bool]:
        """Load the model as this machine runs it best; True if its image tower reads bytes, not `pixel_values`."""
        from open_clip import transformer

        from coldstart.encoders import _open_clip_speed
        from coldstart.encoders._open_clip_speed import read_first_token_only

        model: Any = self.open_model().requires_grad_(False).eval()
        reads_bytes = False
        patches = isinstance(model.visual, transformer.VisionTransformer)
        if patches:
            read_first_token_only(model.visual)
        if _open_clip_speed.usable(self.device, self.dtype):  # of float32 weights, so that each is rounded once
            _open_clip_speed.fuse_blocks(model, transformer.QuickGELU, transformer.ResidualAttentionBlock)
            if patches:
                first = model.visual.conv1
                model.visual.conv1 = _open_clip_speed.Patches(first.weight, first.bias, self._mean, self._std)
                reads_bytes = True
        return model.to(self.device, self.dtype), reads_bytes

    def open_model(self) -> Any:
        """Load a fresh copy of open_clip's model for training: float32, in memory, self-attention fused, any adapter
        merged."""
        import open_clip
        import torch

        from coldstart.encoders._open_clip_speed import fuse_self_attention

        source, overrides = self._source, {}
        hub_name = source.config["text_cfg"].get("hf_model_name")
        if hub_name:  # the text tower's shape stands on the hub; its weights stand in the checkpoint
            instead = "a model whose text tower is open_clip's own"
            folder = hub_folder(hub_name, ["config.json"], name=self.name, instead=instead)
            check_folder(folder, f"encoder {self.name!r}", own_code=False)
            overrides["text_cfg"] = {**source.config["text_cfg"], "hf_model_name": str(folder)}
        local = source.model.startswith("local-dir:")  # open_clip finds the checkpoint in there itself
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            try:
                model = open_clip.create_model(
                    source.model,
                    pretrained=None if local or source.checkpoint is None else str(source.checkpoint),
                    require_pretrained=source.checkpoint is not None,
                    force_quick_gelu=source.config.get("quick_gelu", False),
                    pretrained_text=False,
                    weights_only=True,
                    **overrides,
                )
            except UnpicklingError as error:
                raise ColdstartError(
                    f"encoder {self.name!r}: {source.checkpoint} holds more than weights: save it as safetensors"
                ) from error
        fuse_self_attention(model, open_clip.transformer.ResidualAttentionBlock)
        return self._adapter.apply(model) if self._adapter else model


def build(
    rest: str, *, device: str, dtype: str, allow_random_weights: bool, adapter: str | Path | None = None
) -> OpenClip:
    """Find the model's files.

    Args:
        adapter: folder of an adapter fitted on top of this very model (`coldstart.align.towers.job`).

    Raises:
        ColdstartError: there are none, or the adapter belongs to another model.
    """
    name = f"open_clip:{rest}"
    if rest.startswith("local-dir:"):
        folder = Path(rest.removeprefix("local-dir:"))
        source = _from_folder(f"open_clip:local-dir:{folder.name}", name, folder)
    elif rest.startswith("hf-hub:"):
        patterns = ("open_clip_config.json", "open_clip*.safetensors", *TOKENIZER_FILES)
        repo = rest.removeprefix("hf-hub:")
        cached = hub_folder(repo, patterns, name=name, instead="open_clip:local-dir:FOLDER")
        source = _from_folder(name, name, cached)
    else:
        arch, _, weights = rest.partition("/")
        source = _from_architecture(name, arch, weights, allow_random_weights)
    fitted = find_adapter(Path(adapter)) if adapter is not None else None
    if fitted:
        fitted.check(base_of(source), name)
    return OpenClip(name, source, device, dtype, fitted)


def base_of(source: Source) -> Base:
    """Identify a source by its name and the digest of its weights."""
    weights = f"sha256:{install.file_digest(source.checkpoint)}" if source.checkpoint else f"random:{SEED}"
    config = hashlib.sha256(json.dumps(source.config, sort_keys=True).encode()).hexdigest()[:12]
    return Base(source.name, config, weights)


def _from_folder(label: str, name: str, folder: Path) -> Source:
    import open_clip

    path = folder / "open_clip_config.json"
    check_folder(folder, f"encoder {name!r}")
    try:
        stated = json.loads(path.read_bytes())
        config, preprocess = stated["model_cfg"], stated.get("preprocess_cfg", {})
        wrong = [key for key in config["text_cfg"].get("tokenizer_kwargs") or {} if key not in _TOKENIZER_OPTIONS]
        tower = config["vision_cfg"].get("timm_model_name") or ""
        checkpoint = open_clip.factory._find_checkpoint_in_dir(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColdstartError(f"encoder {name!r}: {path} is not an open_clip configuration ({error!r})") from error
    if wrong:
        known = ", ".join(_TOKENIZER_OPTIONS)
        raise ColdstartError(
            f"encoder {name!r}: {path} sets tokenizer_kwargs.{wrong[0]}, which is not read (read: {known})"
        )
    if ":" in str(tower) or "/" in str(tower):
        raise ColdstartError(f"encoder {name!r}: {path} leads out of the folder (timm_model_name: {str(tower)[:80]})")
    if checkpoint is None:
        raise ColdstartError(f"encoder {name!r}: {folder} holds no weights (*.safetensors, *.bin, *.pth)")
    return Source(label, f"local-dir:{folder}", config, _preprocess(preprocess), Path(checkpoint))


def _from_architecture(name: str, arch: str, weights: str, allow_random_weights: bool) -> Source:
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        near = get_close_matches(arch, open_clip.list_models(), n=3, cutoff=0.3)
        raise ColdstartError(f"encoder {name!r}: architecture {arch!r} is unknown; nearest are {', '.join(near)}")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not weights:
        if allow_random_weights:
            return Source(f"{name} (random weights)", arch, config, _preprocess({}), None)
        offer = f"add one, as in open_clip:{arch}/{tags[-1]}, or" if tags else "write"
        raise ColdstartError(f"encoder {name!r} names no weights: {offer} open_clip:{arch}/FILE with a checkpoint")
    stated = open_clip.pretrained.get_pretrained_cfg(arch, weights)
    if not stated:
        if Path(weights).is_file():
            label = f"open_clip:{arch}/{Path(weights).name}"
            check_weights(Path(weights), f"encoder {name!r}")
            return Source(label, arch, config, _preprocess({}), Path(weights))
        near = get_close_matches(weights, tags, n=3, cutoff=0.3) or tags
        raise ColdstartError(
            f"encoder {name!r}: {weights!r} is neither a file nor weights of {arch}; "
            f"known are {', '.join(near) or 'none'}"
        )
    repo, _, filename = stated["hf_hub"].rpartition("/")
    candidates = [filename.rsplit(".", 1)[0] + ".safetensors", filename] if filename else _USUAL_FILES
    checkpoint = hub_file(repo, candidates, name=name, instead=f"open_clip:{arch}/FILE")
    # open_clip only warns where a tag was trained with another activation than the architecture states
    config = {**config, "quick_gelu": stated.get("quick_gelu", False)}
    return Source(name, arch, config, _preprocess(stated), checkpoint)


_USUAL_FILES = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def _preprocess(stated: dict[str, Any]) -> dict[str, Any]:
    """Combine open_clip's defaults with what a tag or a folder states."""
    import open_clip

    defaults = asdict(open_clip.transform.PreprocessCfg())
    merged: dict[str, Any] = open_clip.transform.merge_preprocess_dict(defaults, stated)
    if merged["interpolation"] == "random":  # of training; open_clip itself reads it as bicubic to encode
        merged["interpolation"] = "bicubic"
    return merged


def _pad(image: Pixels, size: tuple[int, int], fill: int) -> Pixels:
    """Put the picture in the middle of a plain canvas of `size` (height, width)."""
    canvas = np.full((*size, 3), fill, dtype=np.uint8)
    top, left = (size[0] - image.shape[0]) // 2, (size[1] - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
