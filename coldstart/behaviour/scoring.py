"""The best items of each user by dot product: exact, in blocks, on a GPU or on BLAS.

A product is the cheap part; sorting all scores costs several times as much. So the scores of a block are taken in
groups, and of each group only the greatest is looked at: the k best items lie in the k groups with the greatest
maxima, and after the first block only in groups whose maximum passes the k-th best score so far. Few groups are left
to sort. Knows nothing of what the vectors mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.device import choose_device

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

Vectors = NDArray[np.float32]
Top = tuple[NDArray[np.int64], NDArray[np.float32]]

BLOCK_BYTES = 32 << 20  # scores in memory at a time: they should fit the cache
GROUP = 16  # scores whose maximum is looked at as one
ITEMS_AT_ONCE = 1 << 15
COPY_FROM = 64  # users from which copying the allowed items costs less than scoring all of them


def top_k(
    users: Vectors,
    items: Vectors,
    k: int,
    *,
    exclude: csr_matrix | None = None,
    mask: NDArray[np.bool_] | None = None,
    device: str = "auto",
    block_bytes: int = BLOCK_BYTES,
) -> Top:
    """Places of the k items with the greatest dot product for each user, and those products.

    Args:
        users: float32 [B, D]; items: float32 [N, D]; finite.
        exclude: csr [B, N]: whatever is stored there is left out for that user.
        mask: bool [N]: the items that may be found; by default all.
        block_bytes: about how much memory scores take at a time.

    Returns:
        int64 [B, k] places, by falling score, equal ones by place; -1 where fewer are allowed.
        float32 [B, k] scores; -inf where the place is -1.

    Raises:
        ValueError: shapes do not fit, or a vector is not finite.
    """
    return Scorer(items, device=device, block_bytes=block_bytes).top_k(users, k, exclude=exclude, mask=mask)


class Scorer:
    """Items on their device, for many calls of `top_k`."""

    def __init__(self, items: Vectors, *, device: str = "auto", block_bytes: int = BLOCK_BYTES) -> None:
        import torch

        if items.ndim != 2 or not np.isfinite(items).all():
            raise ValueError(f"items of shape {items.shape} must be finite rows [N, D]")
        self._device = choose_device(device)
        self._block_bytes = block_bytes
        self._items = torch.from_numpy(np.array(items, np.float32, order="C", copy=None)).to(self._device)

    def top_k(
        self,
        users: Vectors,
        k: int,
        *,
        exclude: csr_matrix | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> Top:
        """As the function of that name."""
        import torch

        count, width = len(self._items), self._items.shape[1]
        if users.ndim != 2 or users.shape[1] != width or not np.isfinite(users).all():
            raise ValueError(f"users of shape {users.shape} must be finite rows [B, {width}]")
        if exclude is not None and exclude.shape != (len(users), count):
            raise ValueError(f"exclude is {exclude.shape}, and there are {len(users)} users and {count} items")
        if mask is not None and mask.shape != (count,):
            raise ValueError(f"mask is {mask.shape}, and there are {count} items")
        places, scores = np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, np.float32)
        items, allowed, own = self._items, None, None
        if mask is not None and len(users) >= COPY_FROM:
            own = np.flatnonzero(mask)
            items = items[torch.from_numpy(own).to(self._device)]
            exclude = None if exclude is None else exclude[:, own]
        elif mask is not None:
            allowed = torch.from_numpy(np.ascontiguousarray(mask)).to(self._device)
        if not len(items) or not k:
            return places, scores
        columns = min(-(-len(items) // GROUP) * GROUP, ITEMS_AT_ONCE)
        step = max(1, self._block_bytes // (4 * columns))
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # exact means float32
        try:
            with torch.inference_mode():
                for start in range(0, len(users), step):
                    rows = slice(start, min(start + step, len(users)))
                    block = torch.from_numpy(np.array(users[rows], np.float32, order="C", copy=None))
                    left_out = None if exclude is None else exclude[rows.start : rows.stop].tocsr()
                    keys = _best(block.to(self._device), items, k, columns, left_out, allowed)
                    found, values = _read(keys)
                    places[rows, : found.shape[1]] = found if own is None else np.where(found < 0, -1, own[found])
                    scores[rows, : found.shape[1]] = values
        finally:
            torch.set_float32_matmul_precision(precision)
        return places, scores


def _best(
    users: torch.Tensor,
    items: torch.Tensor,
    k: int,
    columns: int,
    left_out: csr_matrix | None,
    allowed: torch.Tensor | None,
) -> torch.Tensor:
    """Keys of the best k items of each user, falling: int64 [b, at most k].

    Of one block the k best under (score, place) lie in the k best groups under (maximum, place): each better group
    holds an element that is better. So ties are settled exactly, and no more than k groups are ever looked into.
    """
    import torch

    rows, best = len(users), torch.empty((len(users), 0), dtype=torch.int64, device=users.device)
    buffer = torch.empty((rows, columns), device=users.device)
    for low in range(0, len(items), columns):
        high = min(low + columns, len(items))
        width = -(-(high - low) // GROUP) * GROUP
        scores = buffer[:, :width] if width == columns else torch.empty((rows, width), device=users.device)
        torch.mm(users, items[low:high].T, out=scores[:, : high - low])
        scores[:, high - low :] = -torch.inf
        if allowed is not None:
            scores[:, : high - low].masked_fill_(~allowed[low:high], -torch.inf)
        if left_out is not None:
            _leave_out(scores, left_out, low, high)
        groups = scores.view(rows, width // GROUP, GROUP)
        maxima = groups.amax(dim=2)
        wanted = min(k, maxima.shape[1])
        if best.shape[1] == k:  # a later item passes only with a greater score: of equal ones the earlier stays
            passing = maxima > _score(best[:, -1:])
            wanted = min(wanted, int(passing.sum(dim=1).max()))
        if not wanted:
            continue
        chosen = _places(torch.topk(_keys(maxima, 0), wanted, dim=1, sorted=False).values)
        members = groups.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).reshape(rows, -1)
        within = (chosen[:, :, None] * GROUP + torch.arange(GROUP, device=users.device)).reshape(rows, -1)
        keys = torch.cat([best, _keys(members, within + low)], dim=1)
        best = torch.topk(keys, min(k, keys.shape[1]), dim=1).values
    return best


def _leave_out(scores: torch.Tensor, left_out: csr_matrix, low: int, high: int) -> None:
    """Put -inf wherever the matrix [b, N] stores something in columns [low, high)."""
    import torch

    inside = (left_out.indices >= low) & (left_out.indices < high)
    rows = np.repeat(np.arange(left_out.shape[0]), np.diff(left_out.indptr))[inside]
    columns = left_out.indices[inside] - low
    at = [torch.from_numpy(np.asarray(index, np.int64)).to(scores.device) for index in (rows, columns)]
    scores[at[0], at[1]] = -torch.inf


def _keys(scores: torch.Tensor, places: torch.Tensor | int) -> torch.Tensor:
    """int64 whose order is that of the scores, of equal ones the earlier place first. Without places: the column's."""
    import torch

    if isinstance(places, int):
        places = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(torch.int64) << 32) | (0xFFFFFFFF - places)


def _places(keys: torch.Tensor) -> torch.Tensor:
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _score(keys: torch.Tensor) -> torch.Tensor:
    import torch

    ordered = (keys >> 32).to(torch.int32)
    return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)


def _read(keys: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places and scores of keys; -1 and -inf where nothing was allowed."""
    scores, places = _score(keys).cpu().numpy(), _places(keys).cpu().numpy()
    return np.where(np.isneginf(scores), -1, places), scores
