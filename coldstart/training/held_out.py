"""How well heads find pairs that they were not trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from coldstart.heads import Heads
from coldstart.training.pairs import Floats, Pairs

TOP = 10
_TESTED = 8192  # items, at most: recall among more costs more than an epoch


def recall_of(heads: Heads, pairs: Pairs, device: torch.device) -> float:
    """Recall@10, mean of image to text and text to image; see `ranks_of`."""
    return float((ranks_of(heads, pairs, device) <= TOP).float().mean())


def mrr_of(heads: Heads, pairs: Pairs, device: torch.device) -> float:
    """Mean reciprocal rank, both ways. It still tells heads apart where ten of a few items are nearly all of them."""
    return float((1 / ranks_of(heads, pairs, device)).mean())


def ranks_of(heads: Heads, pairs: Pairs, device: torch.device) -> torch.Tensor:
    """Rank from 1 of the nearest right answer, float32 `[2 I]`: of each picture among texts, then the other way.

    An item stands for itself with the mean of its mapped pictures and its heaviest text (the first of equals). Any item
    of the same group counts as found; what is as near as the right one counts as nearer, so that heads that map all to
    one point find nothing. Of more than 8,192 items, every so-manieth is looked at.
    """
    items = np.arange(0, len(pairs), -(-len(pairs) // _TESTED))
    pairs = pairs.take(items)
    rows = pairs.image_rows().order
    owners = torch.from_numpy(pairs.image_items[rows].astype(np.int64)).to(device)
    with torch.no_grad():
        image = torch.zeros(len(pairs), heads.dim, device=device)
        for start in range(0, len(rows), _TESTED):
            part = slice(start, start + _TESTED)
            image.index_add_(
                0, owners[part], normalize(heads.image(vectors_of(pairs.images, rows[part], device)), dim=1)
            )
        image = normalize(image, dim=1)
        text = normalize(heads.text(vectors_of(pairs.texts, pairs.text_rows().heaviest(), device)), dim=1)
        groups = torch.from_numpy(np.asarray(pairs.groups, np.int64)).to(device)
        return torch.cat([_ranks(image, text, groups), _ranks(text, image, groups)])


def _ranks(queries: torch.Tensor, gallery: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    found = []
    for start in range(0, len(queries), 1024):
        cosines = queries[start : start + 1024] @ gallery.T
        right = groups[start : start + 1024, None] == groups[None]
        best = cosines.masked_fill(~right, -2.0).amax(1, keepdim=True)
        found.append(((cosines >= best) & ~right).sum(1) + 1)
    return torch.cat(found).float()


def vectors_of(every: Floats, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(every[rows]).to(device, torch.float32)
