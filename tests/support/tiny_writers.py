"""Language models of random weights, small enough to train in a test: a token a byte, and a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from coldstart.describe.finetune.training import Example

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*more_marks: str) -> Any:
    """A token a byte, and the marks of a chat."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(BPE({letter: place for place, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([*MARKS, *more_marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(more_marks),
        chat_template=TEMPLATE,
    )


def tiny_llama(folder: Path, *, seed: int = 0, context: int = 512) -> Path:
    """A Llama of two layers and 64 numbers a token, saved as models of the hub are."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.2,
        )
        _save(LlamaForCausalLM(config), folder)
    return folder


_SEEING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_llava(folder: Path) -> Path:
    """A Llava that sees pictures of 32 x 32 as four tokens, saved as models of the hub are."""
    tokenizer = byte_tokenizer("<image>")
    tokenizer.chat_template = None
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=_SEEING,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    eyes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 16, "projection_dim": 32}
    mouth = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 512}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**eyes, **layers),
            text_config=LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **mouth, **layers, **marks),
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
        _save(LlavaForConditionalGeneration(config), folder)
    return folder


def _save(model: Any, folder: Path) -> None:
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()


COLOURS = ("red", "green", "blue", "black")
KINDS = ("shoe", "shirt", "watch", "bag", "sock")


def sft_examples(count: int, *, start: int = 0) -> list[Example]:
    """Examples whose completions follow from their prompts: a colour and a kind, named again."""
    made = []
    for place in range(start, start + count):
        colour, kind = COLOURS[place % 4], KINDS[place % 5]
        extra = "cotton " * (place % 3)
        made.append(Example(f"item-{place}", "Describe.", f"{colour} {extra}{kind}", f'{{"is": "{colour} {kind}"}}'))
    return made
