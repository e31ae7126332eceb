"""A small real tokenizer, byte-level as SmolLM2's, and tiny models of random weights that read its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

WORDS = (
    "Describe this product. Title: a red shoe, a blue shirt, casual shoes of wool and cotton for men and women. "
    '{"attributes": {"type": "Casual Shoes", "colour": "Blue", "material": "wool"}, "summary": "A blue shoe."}'
)
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-pair tokens learnt from `WORDS`; its three marks are 0, 1 and 2."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator([WORDS] * 4, trainer)
    whole: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=MARKS[1],
        eos_token=MARKS[2],
        pad_token=MARKS[2],
        unk_token=MARKS[0],
        padding_side="left",
    )
    whole.chat_template = TEMPLATE
    return whole


def llama(vocab_size: int, seed: int = 0, **settings: Any) -> Any:
    """A Llama of 2 layers with random weights, float32, in evaluation mode."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": vocab_size,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "initializer_range": 0.3,
            **settings,
        }
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def llama_folder(folder: Path, **settings: Any) -> Path:
    """The model and its tokenizer as a folder of safetensors."""
    words = tokenizer()
    llama(len(words), **settings).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
