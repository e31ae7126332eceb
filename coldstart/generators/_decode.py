"""Generate with a causal language model: many rows at once, the text of each the same as if it were alone.

    generate(model, compiler, rows, sampling, batch_size=None) -> [Generation], in the order of the rows

`model` is any causal model of transformers in evaluation mode, `compiler` a `GrammarCompiler` of its tokenizer. A `Row`
has the tokens that the model reads, or vectors in their place for pictures, and the schema that binds the text. Rows
are sorted by length and go in batches that fit memory. A common beginning of all rows (a system message) is read once
and its keys and values are shared. Rows that have ended leave the batch. transformers' own `generate` draws random
numbers for the whole batch, keeps ended rows until the last one ends, and shares no prefix of vectors. A row differs
from itself alone by float rounding only, which in bfloat16 can decide a near tie.

Layers of transformers' `DynamicCache` copy all they hold for every token; those here write into room reserved at the
start. That is for full attention; layers with another memory (a window, a state) stay transformers' own. Models take
the cache as `cache` from transformers 5.24 on, and as `past_key_values` before; `cache_argument` tells which.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil
import torch
import xgrammar
from transformers.cache_utils import DynamicCache, DynamicLayer

from coldstart.generators import Generation, Sampling
from coldstart.generators._constrained import ConstrainedSequence, GrammarCompiler

LEAST_PREFIX = 8
"""A shorter beginning is not worth a forward pass of its own."""


MOST_ROWS = {"cpu": 32, "cuda": 256, "mps": 32}


_MEMORY_SHARE = 0.5


_KEPT_ROWS = 0.75
"""Ended rows are dropped once no more than this share is open: dropping copies the cache."""


@dataclass(frozen=True)
class Row:
    """Input of the model for one text.

    Attributes:
        ids: tokens; -1 where a vector stands that is no token's. Rows whose ids begin alike begin alike.
        schema: what binds the text.
        embeds: float `[T, D]`, read instead of the tokens.
    """

    ids: Sequence[int]
    schema: Mapping[str, Any] | None = None
    embeds: torch.Tensor | None = None


def generate(
    model: Any, compiler: GrammarCompiler, rows: Sequence[Row], sampling: Sampling, *, batch_size: int | None = None
) -> list[Generation]:
    """Generate the texts of all rows, in their order.

    Args:
        batch_size: most rows at once, besides what memory allows; None: what memory allows.

    Raises:
        torch.OutOfMemoryError, MemoryError: one row alone does not fit.
        ValueError: a schema cannot be compiled.
    """
    if not rows:
        return []
    results: list[Generation | None] = [None] * len(rows)
    shared = _shared(rows) if shareable(new_cache(model.config, 0)) else 0
    order = sorted(range(len(rows)), key=lambda place: (-len(rows[place].ids), place))
    most = batch_size or MOST_ROWS.get(model.device.type, 32)
    with torch.inference_mode():
        prefix = _read_prefix(model, rows[0], shared) if shared else None
        while order:
            longest = len(rows[order[0]].ids)
            batch = order[: min(most, _fitting(model, longest, sampling.max_new_tokens))]
            try:
                written = _write_batch(model, compiler, [rows[place] for place in batch], sampling, prefix, shared)
            except (MemoryError, RuntimeError) as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                most = len(batch) // 2
                written = None
            if written is None:  # outside the handler: its traceback holds the tensors that were too many
                if model.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            for place, generation in zip(batch, written, strict=True):
                results[place] = generation
            order = order[len(batch) :]
    return [result for result in results if result is not None]


def _write_batch(
    model: Any, compiler: GrammarCompiler, rows: list[Row], sampling: Sampling, prefix: Any, shared: int
) -> list[Generation]:
    choice = TokenSampler(compiler, rows, sampling)
    longest = max(len(row.ids) for row in rows)
    cache = new_cache(model.config, longest + sampling.max_new_tokens)
    if prefix is not None:
        expand_prefix(cache, prefix, len(rows))
    inputs, mask = _inputs(model, rows, shared, longest)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    open_ = list(range(len(rows)))
    while open_:
        chosen = choice.step(_forward(model, inputs, mask, positions, cache)[:, -1].float(), open_)
        stay = [place for place, row in enumerate(open_) if choice.sequences[row].finish is None]
        if not stay:
            break
        if len(stay) <= _KEPT_ROWS * len(open_):
            kept = torch.tensor(stay, device=model.device)
            cache.batch_select_indices(kept)
            mask, open_, chosen = mask[kept], [open_[place] for place in stay], [chosen[place] for place in stay]
        mask = torch.cat([mask, mask.new_ones(len(open_), 1)], dim=1)
        positions = mask.sum(1, keepdim=True) - 1
        inputs = {"input_ids": torch.tensor(chosen, device=model.device)[:, None]}
    return choice.generations()


class TokenSampler:
    """Sampler of the next token of each row of a batch.

    Attributes:
        sequences: the text of each row.
    """

    def __init__(self, compiler: GrammarCompiler, rows: Sequence[Row], sampling: Sampling) -> None:
        self.sequences = [ConstrainedSequence(compiler, row.schema, sampling.max_new_tokens) for row in rows]
        self._rows = rows
        self._sampling = sampling
        self._draws = None if sampling.temperature == 0 else [_generator(row, sampling) for row in rows]
        self._bitmask = xgrammar.allocate_token_bitmask(len(rows), compiler.vocab_size)
        self._end = compiler.stop_ids[0]

    def step(self, logits: torch.Tensor, open_: Sequence[int] | None = None) -> list[int]:
        """Choose the next token of every row; of rows that have ended, the one that ends a text.

        Args:
            logits: float32 `[B, vocab]`, changed in place.
            open_: the row that each of the B stands for; None: all in order.
        """
        rows = range(len(self.sequences)) if open_ is None else open_
        sequences = [self.sequences[row] for row in rows]
        bound = [
            place
            for place, sequence in enumerate(sequences)
            if sequence.finish is None and sequence.mask(self._bitmask, place)
        ]
        if bound:
            logits = _masked(logits, self._bitmask, bound)
        chosen = _choose(logits, self._sampling, self._draws and [self._draws[row] for row in rows])
        return [
            sequence.accept(token) if sequence.finish is None else self._end
            for sequence, token in zip(sequences, chosen, strict=True)
        ]

    def generations(self) -> list[Generation]:
        """Return the generated text of each row."""
        return [
            Generation(sequence.text(), sequence.finish or "length", len(row.ids), len(sequence.tokens))
            for sequence, row in zip(self.sequences, self._rows, strict=True)
        ]


def _shared(rows: Sequence[Row]) -> int:
    """Count the tokens that all rows begin with, and that leave each row one of its own; 0 if too few to share."""
    if len(rows) < 2:
        return 0
    low, high = (find(rows, key=lambda row: list(row.ids)).ids for find in (min, max))  # they differ first
    limit = min(len(row.ids) for row in rows) - 1
    same = next((n for n in range(limit) if low[n] != high[n] or low[n] < 0), max(limit, 0))
    return same if same >= LEAST_PREFIX else 0


def _read_prefix(model: Any, row: Row, shared: int) -> Any:
    """Read the first tokens of a row into a cache."""
    cache = new_cache(model.config, shared)
    ids = torch.tensor([list(row.ids[:shared])], device=model.device)
    _forward(model, {"input_ids": ids}, torch.ones_like(ids), torch.arange(shared, device=model.device)[None], cache)
    return cache


def _inputs(model: Any, rows: Sequence[Row], shared: int, longest: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Build the model's input after the prefix, padded on the left, and its mask int64 `[B, longest]`."""
    width = longest - shared
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask[:, :shared] = 1
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for place, row in enumerate(rows):
        start = longest - len(row.ids) + shared
        mask[place, start:] = 1
        ids[place, start - shared :] = torch.tensor(row.ids[shared:]).clamp(min=0)
    mask, ids = mask.to(model.device), ids.to(model.device)
    if all(row.embeds is None for row in rows):
        return {"input_ids": ids}, mask
    embeds = model.get_input_embeddings()(ids)
    for place, row in enumerate(rows):
        if row.embeds is not None:
            own = row.embeds[shared:].to(embeds)
            embeds[place, width - len(own) :] = own
    return {"inputs_embeds": embeds}, mask


def _forward(
    model: Any, inputs: dict[str, torch.Tensor], mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    logits: torch.Tensor = model(
        **inputs,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
        **{cache_argument(model): cache},
    ).logits
    return logits


def _masked(logits: torch.Tensor, bitmask: torch.Tensor, bound: list[int]) -> torch.Tensor:
    """Set logits to -inf for tokens that a bound row must not take."""
    if logits.device.type not in ("cpu", "cuda"):  # xgrammar has kernels for these
        return _masked(logits.cpu(), bitmask, bound).to(logits.device)
    xgrammar.apply_token_bitmask_inplace(logits, bitmask.to(logits.device), indices=bound)
    return logits


def _choose(logits: torch.Tensor, sampling: Sampling, draws: Sequence[torch.Generator] | None) -> list[int]:
    """Choose one token a row: the likeliest, or one drawn with the row's own random numbers."""
    if draws is None:
        return logits.argmax(1).tolist()
    odds = torch.softmax(logits / sampling.temperature, dim=1)
    if sampling.top_p < 1:  # the likeliest tokens that together reach top_p (Holtzman et al. 2020)
        ranked, places = odds.sort(dim=1, descending=True, stable=True)
        beyond = ranked.cumsum(1) - ranked >= sampling.top_p
        odds = odds.scatter(1, places, ranked.masked_fill(beyond, 0))
    # argmax(p / e) with e drawn from an exponential distribution is a draw from p
    noise = torch.stack([torch.empty(odds.shape[1]).exponential_(generator=draw) for draw in draws])
    return (odds / noise.to(odds.device)).argmax(1).tolist()


def _generator(row: Row, sampling: Sampling) -> torch.Generator:
    """Seed the random numbers of one row by the seed and its input, independent of the other rows of the batch."""
    key = hashlib.sha256(repr((sampling.seed, list(row.ids))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


def _fitting(model: Any, prompt: int, new: int) -> int:
    """Count the rows of that many tokens whose cache, activations and logits fit in half the free memory; 1 or more."""
    config = model.config.get_text_config()
    size = model.dtype.itemsize
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * width * size * (prompt + new)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    work = prompt * (8 * config.hidden_size + 3 * inner) * size + 3 * 4 * config.vocab_size
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
        free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    else:
        free = psutil.virtual_memory().available
    return max(1, int(_MEMORY_SHARE * free / (cache + work)))


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, also by the CPU allocator's plain `RuntimeError`."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "defaultcpuallocator" in text or "not enough memory" in text
    )


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Cache layer with room for `room` tokens: tensors `[B, heads, room, width]`."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._used = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        (rows, heads, _, width), deep = key_states.shape, value_states.shape[-1]
        self.keys = key_states.new_empty(rows, heads, self._room, width)
        self.values = value_states.new_empty(rows, heads, self._room, deep)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._used + key_states.shape[-2]
        self.keys[:, :, self._used : end] = key_states
        self.values[:, :, self._used : end] = value_states
        self._used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self._used

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.keys, self.values = self.keys[indices], self.values[indices]


def new_cache(config: Any, room: int) -> DynamicCache:
    """Create an empty cache for a model of that configuration, with room for so many tokens a row."""
    cache = DynamicCache(config=config)
    cache.layers = [_Layer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def cache_argument(model: Any) -> str:
    """Name the argument by which a model takes its cache, by the signature of its `forward`.

    Args:
        model: any causal model of transformers, also inside an adapter of peft.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _cache_argument(inner.__class__)


@lru_cache(maxsize=64)
def _cache_argument(kind: Any) -> str:
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def shareable(cache: DynamicCache) -> bool:
    """Tell whether a cache of one row can be the beginning of others: only if all its layers are ours."""
    return all(isinstance(layer, _Layer) for layer in cache.layers)


def expand_prefix(cache: DynamicCache, prefix: DynamicCache, rows: int) -> None:
    """Begin every row of an empty cache with another cache's one row. Both are shareable."""
    for layer, known in zip(cache.layers, prefix.layers, strict=True):
        keys, values = (one[:, :, : known.get_seq_length()] for one in (known.keys, known.values))
        layer.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
