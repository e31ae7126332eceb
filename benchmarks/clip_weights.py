"""One set of random weights of open_clip's ViT-B/32 for every contender: a checkpoint, and a Hugging Face folder.

Speed does not depend on the values. They are drawn once with a fixed seed and kept in the cache folder; the second
holds the same numbers under the names of `transformers.CLIPModel`, with the processor and the tokenizer that
belong to them.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import CACHE

if TYPE_CHECKING:
    import torch

ARCH = "ViT-B-32"
SEED = 0
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_REST = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


def make() -> tuple[Path, Path]:
    """The checkpoint (safetensors, float32) and the folder, made where they are missing."""
    folder = CACHE / "clip_vit_b_32"
    checkpoint, hub = folder / "open_clip.safetensors", folder / "hugging_face"
    if not (hub / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state = _drawn()
        _save_checkpoint(state, checkpoint)
        _save_folder(state, hub)
        (hub / "done").touch()
    return checkpoint, hub


def _drawn() -> dict[str, torch.Tensor]:
    import open_clip
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        state: dict[str, torch.Tensor] = open_clip.create_model(ARCH).state_dict()
    return state


def _save_checkpoint(state: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


def _save_folder(state: Mapping[str, torch.Tensor], folder: Path) -> None:
    import transformers

    config = transformers.CLIPConfig(
        vision_config={"patch_size": 32, "hidden_act": "gelu"}, text_config={"hidden_act": "gelu"}, projection_dim=512
    )
    model = transformers.CLIPModel(config)
    kept = {name for name, _ in model.named_parameters()}
    renamed = dict(_renamed(state))
    if kept != renamed.keys():
        raise ValueError(f"names that differ: {sorted(kept ^ renamed.keys())}")
    model.load_state_dict(renamed, strict=False)  # what is left are positions, which are no weights
    model.save_pretrained(folder)
    vocabulary, merges = _vocabulary()
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    transformers.CLIPProcessor(transformers.CLIPImageProcessor(), tokenizer).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(transformers.CLIPImageProcessor().to_dict(), default=str)
    )


def _renamed(state: Mapping[str, torch.Tensor]) -> Any:
    for name, tensor in state.items():
        if name == "attn_mask":
            continue
        if name in _TURNED:
            yield _TURNED[name], tensor.T.contiguous()
            continue
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        if "resblocks." in name:
            number, _, part = name.split("resblocks.")[1].partition(".")
            start = f"{tower}.encoder.layers.{number}"
            if part.startswith("attn.in_proj_"):
                for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{start}.self_attn.{letter}_proj.{part.removeprefix('attn.in_proj_')}", piece.contiguous()
            else:
                stem, _, kind = part.rpartition(".")
                yield f"{start}.{_BLOCK[stem]}.{kind}", tensor
            continue
        stem, _, kind = name.rpartition(".")
        yield (_REST[name] if name in _REST else f"{_REST[stem]}.{kind}"), tensor


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Of CLIP's tokenizer, from the merges that open_clip brings (`SimpleTokenizer` builds it in this order)."""
    import open_clip
    from open_clip.tokenizer import bytes_to_unicode

    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: place for place, word in enumerate(words)}, merges
