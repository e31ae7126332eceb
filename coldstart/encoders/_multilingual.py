"""`starter:multilingual`: multilingual-e5-small, texts of some hundred languages in one space; an optional pull.

Wang et al. 2024 (arXiv:2402.05672): a BERT of 12 layers, 384-d, mean of the token vectors; a text begins with `query: `
or `passage: `. The weights are in four bits on disk; those of the layers are kept as float32 or the device's own format
(85 MB in float32), those of words are read row by row from the mapped file, so that 384 MB of them are never made.
Cosines of this space lie between .7 and .9; their order counts. Documents go through torch, queries through numpy: a
search by text loads no torch.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import surely_cpu
from coldstart.core.vectors import unit
from coldstart.encoders import Encoder, Modality, Passport, Pixels, Vectors
from coldstart.encoders._tensors import OnDevice, encode_by_length, to_unit_vectors
from coldstart.models import install
from coldstart.models.e5_file import E5File, read_e5

if TYPE_CHECKING:
    import torch

    from coldstart.media.image import ImageTransform

NAME = "starter:multilingual"
PASSPORT_NAME = "starter:multilingual-e5-small"
FILE = "e5-small-q4.bin"
DIM = 384
DOCUMENT, QUERY = "passage: ", "query: "
_MOST_IN_BATCH = 16_384
"""Tokens of a batch, padding included, beside which the vectors of its words need little memory."""


class Multilingual(OnDevice):
    """Encoder of texts in many languages; see the module and `Encoder`."""

    name = NAME
    modalities: frozenset[Modality] = frozenset({"text"})
    image_transform: ImageTransform | None = None
    max_tokens: int | None = 512

    def __init__(self, device: str, dtype: str) -> None:
        self._device, self._dtype = device, dtype

    def passport(self, modality: Modality) -> Passport:
        if modality != "text":
            raise TypeError(f"{self.name} takes no {modality}")
        path = install.starter_folder("multilingual") / FILE
        return Passport(
            PASSPORT_NAME,
            f"sha256:{install.file_digest(path)}",
            f"{DOCUMENT!r} or {QUERY!r}, NFC, {self.max_tokens} tokens, mean",
            DIM,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenize([DOCUMENT + text for text in texts])]

    def for_queries(self) -> Encoder:
        """Return an encoder of the same space that answers without torch; itself where a GPU may compute."""
        if self._dtype not in ("auto", "float32") or not surely_cpu(self._device):
            return cast("Encoder", self)
        return MultilingualQueries(self)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self.token_batches([DOCUMENT + text for text in texts], self._encode)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.token_batches([QUERY + text for text in texts], self._encode)

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no image")

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize each text with its special tokens, uncut."""
        characters = self.file.tokens.characters
        kept = [unicodedata.normalize("NFC", text.translate(characters)) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(kept)]

    def token_batches(self, texts: Sequence[str], encode: Callable[[Vectors, NDArray[np.bool_]], Vectors]) -> Vectors:
        """Encode texts, cut to `max_tokens`, in batches of like length.

        Args:
            encode: takes the vectors of words, float32 `[B, T, DIM]`, and which are no padding, bool `[B, T]`, and
                gives unit vectors `[B, DIM]`.

        Returns:
            float32 `[len(texts), DIM]`, in the order of `texts`.
        """
        limit = self.max_tokens or 0
        ids = [
            tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]] for tokens in self.tokenize(texts)
        ]

        def encode_group(group: list[int]) -> Vectors:
            longest = max(len(ids[i]) for i in group)
            at_once = max(1, _MOST_IN_BATCH // longest)
            return np.concatenate(
                [encode_some(group[start : start + at_once]) for start in range(0, len(group), at_once)]
            )

        def encode_some(group: list[int]) -> Vectors:
            longest = max(len(ids[i]) for i in group)
            padded = np.full((len(group), longest), self.file.tokens.padding, np.int64)
            for row, i in enumerate(group):
                padded[row, : len(ids[i])] = ids[i]
            lengths = np.array([len(ids[i]) for i in group])
            return encode(self.file.rows("emb.word", padded), np.arange(longest) < lengths[:, None])

        return encode_by_length([len(tokens) for tokens in ids], self.file.hidden, encode_group)

    def _encode(self, words: Vectors, present: NDArray[np.bool_]) -> Vectors:
        import torch

        with torch.inference_mode():
            mask = torch.from_numpy(present).to(self.device)
            given = torch.from_numpy(words).to(self.device, self.dtype)
            states = self._network(inputs_embeds=given, attention_mask=mask.long()).last_hidden_state.float()
            kept = mask.unsqueeze(-1)
            return to_unit_vectors((states * kept).sum(1) / kept.sum(1))

    @cached_property
    def file(self) -> E5File:
        return read_e5(install.starter_folder("multilingual") / FILE)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        tokens = self.file.tokens
        tokenizer = Tokenizer(models.Unigram(list(tokens.pieces), unk_id=tokens.unknown, byte_fallback=False))
        spaces = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(spaces))
        begin, end = tokens.pieces[tokens.begin][0], tokens.pieces[tokens.end][0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", special_tokens=[(begin, tokens.begin), (end, tokens.end)]
        )
        return tokenizer

    @cached_property
    def _network(self) -> torch.nn.Module:
        import torch
        from transformers import BertConfig, BertModel

        file = self.file
        config = BertConfig(
            vocab_size=1,  # words come as vectors
            hidden_size=file.hidden,
            num_hidden_layers=file.layers,
            num_attention_heads=file.heads,
            intermediate_size=file.feed_forward,
            max_position_embeddings=file.positions,
            type_vocab_size=file.token_types,
            layer_norm_eps=file.epsilon,
            pad_token_id=0,
        )
        model = BertModel(config, add_pooling_layer=False)
        tensors = {theirs: torch.from_numpy(file.tensor(ours)) for theirs, ours in _names(file.layers)}
        tensors["embeddings.word_embeddings.weight"] = torch.zeros(1, file.hidden)
        model.load_state_dict(tensors)
        network: torch.nn.Module = model.to(self.device, self.dtype).eval()
        return network


class MultilingualQueries(Multilingual):
    """Encoder of queries in the space of `starter:multilingual`, by numpy in float32; see the module."""

    def __init__(self, encoder: Multilingual) -> None:
        super().__init__("cpu", "float32")
        self._whole = encoder

    def for_queries(self) -> Encoder:
        return cast("Encoder", self)

    @cached_property
    def file(self) -> E5File:
        return self._whole.file

    def _encode(self, words: Vectors, present: NDArray[np.bool_]) -> Vectors:
        from scipy.special import erf, softmax

        file, tensors = self.file, self._tensors
        batch, length, hidden = words.shape

        def linear(states: Vectors, name: str) -> Vectors:
            product: Vectors = states @ tensors[f"{name}.w"].T + tensors[f"{name}.b"]
            return product

        def norm(states: Vectors, name: str) -> Vectors:
            less = states - states.mean(-1, keepdims=True)
            deviation = np.sqrt(np.square(less).mean(-1, keepdims=True) + np.float32(file.epsilon))
            normed: Vectors = less / deviation * tensors[f"{name}.w"] + tensors[f"{name}.b"]
            return normed

        def heads(states: Vectors) -> Vectors:
            return states.reshape(batch, length, file.heads, -1).transpose(0, 2, 1, 3)

        states = norm(words + tensors["emb.pos"][:length] + tensors["emb.type"][0], "emb.ln")
        unseen = np.where(present, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        scale = np.float32((hidden // file.heads) ** -0.5)
        for layer in (f"l{place}" for place in range(file.layers)):
            query, key, value = (heads(linear(states, f"{layer}.{part}")) for part in "qkv")
            attention = softmax(query @ key.swapaxes(-1, -2) * scale + unseen, axis=-1)
            seen = (attention @ value).transpose(0, 2, 1, 3).reshape(batch, length, hidden)
            states = norm(states + linear(seen, f"{layer}.ao"), f"{layer}.aln")
            wide = linear(states, f"{layer}.fi")
            wide = wide * np.float32(0.5) * (1 + erf(wide * np.float32(0.5**0.5)))
            states = norm(states + linear(wide, f"{layer}.fo"), f"{layer}.oln")
        kept = present[..., None]
        return unit((states * kept).sum(1) / kept.sum(1))

    @cached_property
    def _tensors(self) -> dict[str, Vectors]:
        return {ours: self.file.tensor(ours) for _, ours in _names(self.file.layers)}


_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""Part of a layer in the container -> in transformers."""


def _names(layers: int) -> list[tuple[str, str]]:
    """List the tensors but the words: name in transformers, name in the container."""
    found = [
        ("embeddings.position_embeddings.weight", "emb.pos"),
        ("embeddings.token_type_embeddings.weight", "emb.type"),
    ]
    pairs = [("embeddings.LayerNorm", "emb.ln")]
    for layer in range(layers):
        pairs += [(f"encoder.layer.{layer}.{theirs}", f"l{layer}.{ours}") for ours, theirs in _LAYER.items()]
    for theirs, ours in pairs:
        found += [(f"{theirs}.weight", f"{ours}.w"), (f"{theirs}.bias", f"{ours}.b")]
    return found
