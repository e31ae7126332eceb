"""Tiny models with random weights, written to a folder by their own libraries: the real code paths, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["red", "blue", "green", "shoe", "shirt", "with", "long", "sleeves", "the", "1", ".", ",", ":", "/", "-"]
OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def open_clip_folder(folder: Path, **preprocess: Any) -> Any:
    """Write a model in open_clip's own form; returns it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = open_clip.CLIP(**OPEN_CLIP).eval()
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    stated = {"model_cfg": OPEN_CLIP, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(stated))
    return model


SIGLIP2 = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 100,
        "hf_tokenizer_name": "in this folder",
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}


def siglip2_folder(folder: Path) -> Any:
    """A model of open_clip in the form of SigLIP 2: timm's picture tower with attention pooling, a text tower without a
    causal mask, a bias. Returns it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(6)
    model = open_clip.CustomTextCLIP(**{key: value for key, value in SIGLIP2.items() if key != "custom_text"}).eval()
    tokenizer(SIGLIP2["text_cfg"]["context_length"]).save_pretrained(folder)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    stated = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": SIGLIP2, "preprocess_cfg": stated}))
    return model


def tokenizer(max_tokens: int) -> Any:
    """A word-piece tokenizer over `WORDS` and single letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(WORDS + letters + [f"##{c}" for c in letters])]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )


def bert_folder(folder: Path) -> None:
    """A text embedder in the form of sentence-transformers, with prompts for queries and documents."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(2)
    words = tokenizer(32)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **_SMALL)
    inner = folder / "inner"
    BertModel(config).save_pretrained(inner)
    words.save_pretrained(inner)
    transformer = Transformer(str(inner))
    model = SentenceTransformer(modules=[transformer, Pooling(16)], prompts={"query": "x : ", "document": "y : "})
    model.save(str(folder / "model"), create_model_card=False)


def clip_folder(folder: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(3)
    words = tokenizer(32)
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(words), "max_position_embeddings": 32, **_SMALL, **ids}
    vision = {"image_size": 32, "patch_size": 16, **_SMALL}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=pixels, tokenizer=words).save_pretrained(folder)


def siglip_folder(folder: Path) -> None:
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(4)
    words = tokenizer(32)
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(words), "max_position_embeddings": 32, "projection_size": 16, **_SMALL, **ids}
    vision = {"image_size": 32, "patch_size": 16, **_SMALL}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    pixels = SiglipImageProcessor(size={"height": 32, "width": 32})
    SiglipProcessor(image_processor=pixels, tokenizer=words).save_pretrained(folder)


def qwen_folder(folder: Path) -> None:
    """A vision-language embedder of the Qwen3-VL family: text, pictures of any size, video."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLModel,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    }
    pieces = [
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *named.values(),
    ]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=512,
        extra_special_tokens=named,
    )
    text = {
        "vocab_size": len(vocab),
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        "pad_token_id": vocab["<|endoftext|>"],
        "bos_token_id": None,
        "eos_token_id": vocab["<|im_end|>"],
        **_SMALL,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 16,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    ids = {
        "image_token_id": vocab["<|image_pad|>"],
        "video_token_id": vocab["<|video_pad|>"],
        "vision_start_token_id": vocab["<|vision_start|>"],
        "vision_end_token_id": vocab["<|vision_end|>"],
    }
    torch.manual_seed(5)
    Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision, **ids)).save_pretrained(folder)
    patches = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    bounds = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=bounds, **patches),
        tokenizer=words,
        video_processor=Qwen3VLVideoProcessor(size=bounds, cap_pixels_per_frame=False, **patches),
        chat_template=_TEMPLATE,
    ).save_pretrained(folder)


_SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)
