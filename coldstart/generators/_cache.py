"""Keys and values of the tokens read so far, in memory that is set aside once.

Layers of transformers' `DynamicCache` copy all they hold for every token. Layers here have room from the start and
write in place. That is for full attention; layers with another memory (a window, a state) stay transformers' own.

Models take the cache as `cache` from transformers 5.24 on, and as `past_key_values` before; `argument` knows which.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """As transformers' own, with room for `room` tokens: tensors `[B, heads, room, width]`."""

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


def new(config: Any, room: int) -> DynamicCache:
    """An empty cache for a model of that configuration, with room for so many tokens a row."""
    cache = DynamicCache(config=config)
    cache.layers = [_Layer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def argument(model: Any) -> str:
    """Name the argument by which a model takes its cache, by the signature of its `forward`.

    Args:
        model: any causal model of transformers, also inside an adapter of peft.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _argument(inner.__class__)


@lru_cache(maxsize=64)
def _argument(kind: Any) -> str:
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def shareable(cache: DynamicCache) -> bool:
    """Whether what it holds of one row can be the beginning of others: only where all its layers are ours."""
    return all(isinstance(layer, _Layer) for layer in cache.layers)


def begin(cache: DynamicCache, prefix: DynamicCache, rows: int) -> None:
    """Let every row of an empty cache begin with what another holds of one row. Both are shareable."""
    for layer, known in zip(cache.layers, prefix.layers, strict=True):
        keys, values = (one[:, :, : known.get_seq_length()] for one in (known.keys, known.values))
        layer.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
