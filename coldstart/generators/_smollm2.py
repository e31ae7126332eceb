"""Load SmolLM2-135M-Instruct of the starter set, as transformers' own model and tokenizer.

Its weights are read from the GGUF file, de-quantised, in the format that the device does well. llama.cpp keeps the
rows of `attn_q` and `attn_k` in pairs, transformers in halves: the order is turned back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.models import gguf, install

if TYPE_CHECKING:
    import torch

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8192
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def weights_path() -> Path:
    """Find the GGUF file.

    Raises:
        ColdstartError: the starter set is not on this machine.
    """
    return install.starter_folder("language") / FILE


def load_tokenizer() -> Any:
    """Load its tokenizer with the chat template, padding on the left. A new one each time."""
    from transformers import PreTrainedTokenizerFast

    file = weights_path()
    return PreTrainedTokenizerFast.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, padding_side="left"
    )


def load_model(device: torch.device, dtype: torch.dtype) -> Any:
    """Load `LlamaForCausalLM` with the weights of the file, in evaluation mode. A new one each time."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    file = gguf.read_gguf(weights_path())
    about = {name.removeprefix("llama."): value for name, value in file.metadata.items()}
    heads, groups = about["attention.head_count"], about["attention.head_count_kv"]
    marks = {f"{name}_token_id": file.metadata[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos")}
    marks["pad_token_id"] = file.metadata["tokenizer.ggml.padding_token_id"]
    config = LlamaConfig(
        vocab_size=about["vocab_size"],
        hidden_size=about["embedding_length"],
        intermediate_size=about["feed_forward_length"],
        num_hidden_layers=about["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=about["context_length"],
        rms_norm_eps=about["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_theta": about["rope.freq_base"], "rope_type": "default"},
        tie_word_embeddings=True,
        **marks,
    )
    with no_init_weights():
        network: Any = LlamaForCausalLM(config)
    state = {}
    for name in file.places:
        values = file.tensor(name)
        _, layer, inner = [*name.split("."), "", ""][:3] if name.startswith("blk.") else ("", "", "")
        if inner in ("attn_q", "attn_k"):
            count = heads if inner == "attn_q" else groups
            values = values.reshape(count, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        place = _OUTER.get(name) or f"model.layers.{layer}.{_INNER[inner]}.weight"
        state[place] = torch.from_numpy(values.copy() if not values.flags.writeable else values)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    network.load_state_dict(state)
    network.tie_weights()  # else the output layer is a second copy of the embedding
    network.generation_config = GenerationConfig(**marks)
    return network.to(device, dtype).eval()
