"""Find the best items of each user by dot product: exact, in blocks, on a GPU or on BLAS.

Sorting all scores costs several times as much as the product. So the scores of a block are split into groups, and only
the maximum of each is inspected: the k best items lie in the k groups with the greatest maxima, and after the first
block only in groups whose maximum passes the k-th best score so far. Knows nothing of what the vectors mean.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import choose_device

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

Vectors = NDArray[np.float32]
Top = tuple[NDArray[np.int64], NDArray[np.float32]]
BLOCK_BYTES = {"cpu": 64 << 20}  # scores in memory at a time, a thread
DEVICE_BYTES = 1 << 30  # and on a device of its own
GROUP = 32  # scores of one maximum
ITEMS_AT_ONCE = 1 << 17
ROWS_A_THREAD = 16  # fewer make a product too thin
FEW_USERS = 8  # for which NumPy answers sooner than torch is imported, on any machine
COPY_FROM = 64  # users from which copying the allowed items costs less than scoring all of them


def top_k(
    users: Vectors,
    items: Vectors,
    k: int,
    *,
    exclude: csr_matrix | None = None,
    mask: NDArray[np.bool_] | None = None,
    device: str = "auto",
    block_bytes: int | None = None,
) -> Top:
    """Find the k items with the greatest dot product for each user, and those products.

    Args:
        users: float32 [B, D]; items: float32 [N, D]; finite.
        exclude: csr [B, N]: stored entries are left out for that user.
        mask: bool [N]: the candidates; by default all items.
        block_bytes: memory of scores at a time and thread, about; by default by the device.

    Returns:
        int64 [B, k] places, by falling score, equal ones by place; -1 where fewer are allowed.
        float32 [B, k] scores; -inf where the place is -1.

    Raises:
        ValueError: shapes do not fit, or a vector is not finite.
    """
    return Scorer(items, device=device, block_bytes=block_bytes).top_k(users, k, exclude=exclude, mask=mask)


class Scorer:
    """Items on a device, for many calls of `top_k`."""

    def __init__(self, items: Vectors, *, device: str = "auto", block_bytes: int | None = None) -> None:
        if items.ndim != 2 or not np.isfinite(items).all():
            raise ValueError(f"items of shape {items.shape} must be finite rows [N, D]")
        self._source = items
        self._wanted, self._given_bytes = device, block_bytes

    @cached_property
    def _device(self) -> torch.device:
        return choose_device(self._wanted)

    @cached_property
    def _block_bytes(self) -> int:
        return self._given_bytes or BLOCK_BYTES.get(self._device.type, DEVICE_BYTES)

    @cached_property
    def _blocks(self) -> list[_Block]:
        starts = range(0, len(self._source), ITEMS_AT_ONCE)
        return [_block(self._source, low, min(low + ITEMS_AT_ONCE, len(self._source)), self._device) for low in starts]

    def top_k(
        self,
        users: Vectors,
        k: int,
        *,
        exclude: csr_matrix | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> Top:
        """Find the k best items of each user, as the function `top_k`."""
        count, width = self._source.shape
        if users.ndim != 2 or users.shape[1] != width or not np.isfinite(users).all():
            raise ValueError(f"users of shape {users.shape} must be finite rows [B, {width}]")
        if exclude is not None and exclude.shape != (len(users), count):
            raise ValueError(f"exclude is {exclude.shape}, and there are {len(users)} users and {count} items")
        if mask is not None and mask.shape != (count,):
            raise ValueError(f"mask is {mask.shape}, and there are {count} items")
        if mask is not None and len(users) >= COPY_FROM:
            return self._among(np.flatnonzero(mask), users, k, exclude)
        places, scores = np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, np.float32)
        if not count or not k:
            return places, scores
        if len(users) <= FEW_USERS and self._wanted in ("auto", "cpu") and self._given_bytes is None:
            return _of_few(users, self._source, k, None if exclude is None else exclude.tocsr(), mask)
        import torch

        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        step = max(1, self._block_bytes // (4 * self._blocks[0].width))
        step = min(step, max(ROWS_A_THREAD, -(-len(users) // threads)))
        starts = range(0, len(users), step)
        workers = min(threads, len(starts))

        def work(number: int) -> None:
            buffer = torch.empty(min(step, len(users)) * self._blocks[0].width, device=self._device)
            for low in starts[number::workers]:
                rows = slice(low, min(low + step, len(users)))
                left_out = None if exclude is None else exclude[rows].tocsr()
                found, values = self._rows(users[rows], k, left_out, mask, buffer)
                places[rows, : found.shape[1]], scores[rows, : found.shape[1]] = found, values

        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # exact means float32
        try:
            if workers > 1:
                # A thread a block of users: threads within a step would wait for each other after every one.
                with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    list(pool.map(work, range(workers)))
                torch.set_num_threads(threads)
            elif len(starts):
                work(0)
        finally:
            torch.set_float32_matmul_precision(precision)
        return places, scores

    def _rows(
        self, users: Vectors, k: int, left_out: csr_matrix | None, mask: NDArray[np.bool_] | None, buffer: torch.Tensor
    ) -> Top:
        """Rank items for some users; `buffer` has room for the scores of a block of items."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.array(users, np.float32, order="C", copy=None)).to(self._device)
            keys = torch.empty((len(batch), 0), dtype=torch.int64, device=self._device)
            for block in self._blocks:
                room = buffer[: len(batch) * block.width].view(len(batch), -1)
                keys = _better(keys, block, block.scores(batch, left_out, mask, room), k)
            return _read(keys)

    def _among(self, own: NDArray[np.intp], users: Vectors, k: int, exclude: csr_matrix | None) -> Top:
        """Rank the items at the places `own` alone."""
        part = Scorer(self._source[own], device=str(self._device), block_bytes=self._block_bytes)
        places, scores = part.top_k(users, k, exclude=None if exclude is None else exclude.tocsr()[:, own])
        return (np.where(places < 0, -1, own[places]) if len(own) else places), scores


@dataclass(frozen=True)
class _Block:
    """Items [low, high) in groups, one after the other: row `i * (width / GROUP) + j` holds item `low + j * GROUP + i`.

    So the maxima of all groups are one running maximum over long rows, which is several times as fast as many short
    ones. Rows past the last item are zeros.
    """

    low: int
    high: int
    items: torch.Tensor

    @property
    def width(self) -> int:
        return len(self.items)

    def scores(
        self, users: torch.Tensor, left_out: csr_matrix | None, mask: NDArray[np.bool_] | None, room: torch.Tensor
    ) -> torch.Tensor:
        """Score users, float32 [b, GROUP, width / GROUP], in `room` [b, width]; -inf where an item is not allowed."""
        import torch

        groups = torch.mm(users, self.items.T, out=room).view(len(users), GROUP, -1)
        groups[:, GROUP - (self.width - self.high + self.low) :, -1] = -torch.inf
        if mask is not None:
            allowed = np.pad(mask[self.low : self.high], (0, self.width - self.high + self.low))
            columns = torch.from_numpy(np.ascontiguousarray(allowed.reshape(-1, GROUP).T)).to(users.device)
            groups.masked_fill_(~columns, -torch.inf)
        if left_out is not None:
            inside = (left_out.indices >= self.low) & (left_out.indices < self.high)
            rows = np.repeat(np.arange(left_out.shape[0]), np.diff(left_out.indptr))[inside]
            at = np.asarray(left_out.indices[inside] - self.low, np.int64)
            index = (torch.from_numpy(part).to(users.device) for part in (rows, at % GROUP, at // GROUP))
            groups[tuple(index)] = -torch.inf
        return groups


def _of_few(users: Vectors, items: Vectors, k: int, exclude: csr_matrix | None, mask: NDArray[np.bool_] | None) -> Top:
    """Rank items for a few users by NumPy alone."""
    places, best = np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, np.float32)
    for row, scores in enumerate(np.asarray(users, np.float32) @ np.asarray(items, np.float32).T):
        allowed = np.ones(len(items), bool) if mask is None else mask.copy()
        if exclude is not None:
            allowed[exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]] = False
        own = np.flatnonzero(allowed)
        if len(own) > k:
            own = own[scores[own] >= np.partition(scores[own], len(own) - k)[len(own) - k]]
        own = own[np.argsort(-scores[own], kind="stable")][:k]
        places[row, : len(own)], best[row, : len(own)] = own, scores[own]
    return places, best


def _block(items: Vectors, low: int, high: int, device: torch.device) -> _Block:
    import torch

    padded = np.zeros((-(-(high - low) // GROUP) * GROUP, items.shape[1]), np.float32)
    padded[: high - low] = items[low:high]
    grouped = padded.reshape(-1, GROUP, items.shape[1]).swapaxes(0, 1).reshape(len(padded), -1)
    return _Block(low, high, torch.from_numpy(np.ascontiguousarray(grouped)).to(device))


def _better(best: torch.Tensor, block: _Block, groups: torch.Tensor, k: int) -> torch.Tensor:
    """Merge the keys of each user's best k items so far, falling, int64 [b, at most k], with those of one more block.

    Of a block the k best under (score, place) lie in the k best groups under (maximum, place): each better group
    holds an element that is better. So ties are exact, and at most k groups are inspected.
    """
    import torch

    rows, maxima = len(groups), groups.amax(dim=1)
    wanted = min(k, maxima.shape[1])
    if best.shape[1] == k:  # a later item passes only with a greater score: of equal ones the earlier stays
        passing = maxima > _score(best[:, -1:])
        wanted = min(wanted, int(passing.sum(dim=1).max()))
    if not wanted:
        return best
    chosen = _first(maxima, wanted)[:, None, :]
    members = groups.gather(2, chosen.expand(-1, GROUP, -1)).reshape(rows, -1)
    own = torch.arange(GROUP, device=groups.device)[:, None]
    places = (chosen * GROUP + own + block.low).reshape(rows, -1)
    keys = torch.cat([best, _keys(members, places)], dim=1)
    return torch.topk(keys, min(k, keys.shape[1]), dim=1).values


def _first(maxima: torch.Tensor, count: int) -> torch.Tensor:
    """Find the columns of the greatest in each row, equal ones the earlier first: int64 [b, count], in no order."""
    import torch

    best = torch.topk(maxima, min(count + 1, maxima.shape[1]), dim=1)
    if best.indices.shape[1] > count and (best.values[:, count - 1] == best.values[:, count]).any():
        columns = torch.arange(maxima.shape[1], device=maxima.device).expand_as(maxima)
        return _places(torch.topk(_keys(maxima, columns), count, dim=1, sorted=False).values)
    return best.indices[:, :count]


def _keys(scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Encode scores and places as int64 that sort by score, equal ones by the earlier place."""
    import torch

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
    """Decode keys to places and scores; -1 and -inf where no item was allowed."""
    scores, places = _score(keys).cpu().numpy(), _places(keys).cpu().numpy()
    return np.where(np.isneginf(scores), -1, places), scores
