"""Break ties at random, in another order for every user: ties by place would favour the catalogue's order.

The random numbers follow from the id of an item and from the items of a history, so that a model gives the same answer
whatever other queries there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.recommend.model import Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Keys = NDArray[np.uint64]
_TIE = 1e-3  # scale of random entries of users and of items, so that products are a millionth
_DIM = 64


def with_tie_breaker(vectors: Vectors, seed: int, keys: Keys) -> Vectors:
    """Append small random entries, whose products break ties, to vectors [N, D] of N keys."""
    return np.concatenate([vectors, _TIE * random_vectors(seed, keys)], axis=1).astype(np.float32)


def random_vectors(seed: int, keys: Keys) -> Vectors:
    """Draw a normal vector for each of N keys, float32 [N, 64]: of a seed and a key always the same."""
    starts = np.random.default_rng(seed).integers(0, 2**63, (2, _DIM), np.uint64)
    first, second = (_scrambled(keys[:, None] ^ own) / 2.0**64 for own in starts)
    lengths = np.sqrt(-2 * np.log1p(-first * (1 - 2.0**-52)))  # Box & Muller, 1958
    return np.asarray(lengths * np.cos(2 * np.pi * second), np.float32)


def item_keys(item_ids: Sequence[str]) -> Keys:
    """Derive a key from each id, uint64 [N]."""
    digests = (blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest() for name in item_ids)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def history_keys(histories: csr_matrix) -> Keys:
    """Derive a key from the items of each history, csr [B, I] -> uint64 [B]; their order does not matter."""
    own = _scrambled(histories.indices.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(own, dtype=np.uint64)])
    return _scrambled(sums[histories.indptr[1:]] - sums[histories.indptr[:-1]])


def _scrambled(keys: Keys) -> Keys:
    """Scramble numbers by the generator SplitMix64 (Steele et al., OOPSLA 2014)."""
    found = keys + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
