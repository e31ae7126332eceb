"""Groups of items that belong together, and splits by group. Over plain arrays; knows no tables, no models.

Splits go by group, never by row: an item whose near copy is in the training part would be no test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    import torch

_SCREEN = 128  # directions of the first comparison
_ROWS, _COLUMNS = 1024, 4096  # a block of cosines stays in a core's cache
_SLACK = 1e-4  # what float32 and float16 may round away


def group_items(
    keys: Sequence[Iterable[str]], pairs: Iterable[tuple[int, int]] | NDArray[np.int64] = ()
) -> NDArray[np.int64]:
    """Group items: those that share a key are of one group, and so is what hangs together by such steps.

    Args:
        keys: of each item, such as its product id, its title in lower case, digests of its media, its original where
            it is a copy; equal keys of different kinds need a prefix. An empty key joins nothing.
        pairs: places of two items that are of one group, such as from `near`.

    Returns:
        int64 `[I]`: groups numbered from 0 in the order of their first items.
    """
    parent = list(range(len(keys)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    first: dict[str, int] = {}
    for place, own in enumerate(keys):
        for key in own:
            if key:
                join(first.setdefault(key, place), place)
    for one, other in pairs:
        join(int(one), int(other))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(place), len(numbers)) for place in range(len(keys))], np.int64)


def near_pairs(
    vectors: NDArray[np.floating[Any]],
    threshold: float = 0.98,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Find pairs of rows whose cosine is at least `threshold`; exact.

    Each vector is turned so that few directions hold most of it (the eigenvectors of second moments). With P the part
    in these and r the length of the rest, `a.b <= Pa.Pb + r_a r_b` (Cauchy and Schwarz): a tenth of the work rules
    nearly all pairs out, and the others are computed in full. Rows that are equal to the bit pair with their first
    alone, so that a thousand placeholders make a thousand pairs and not half a million.

    Args:
        vectors: float16 or float32 `[N, D]` of length one.
        progress: called with rows done and rows in all.

    Returns:
        int64 `[P, 2]`, the lower place first, in order.
    """
    import torch

    seen: dict[bytes, int] = {}
    equal, distinct = [], []
    for place, row in enumerate(np.ascontiguousarray(vectors)):
        before = seen.setdefault(blake2b(row.data, digest_size=16).digest(), place)
        if before == place:
            distinct.append(place)
        else:
            equal.append((before, place))
    places = np.array(distinct, np.int64)
    screen = _screen(vectors, places)
    found = [np.array(equal, np.int64).reshape(-1, 2)]
    room = torch.empty(_ROWS * _COLUMNS)
    for start in range(0, len(places), _ROWS):
        rows = screen[start : start + _ROWS]
        for left in range(start, len(places), _COLUMNS):
            columns = screen[left : left + _COLUMNS]
            bounds = torch.mm(rows, columns.T, out=room[: len(rows) * len(columns)].view(len(rows), len(columns)))
            if left < start + len(rows):  # only what is right of the diagonal
                above = torch.ones_like(bounds, dtype=torch.bool).triu(start - left + 1)
                bounds.masked_fill_(~above, -1.0)
            if float(bounds.max()) >= threshold - _SLACK:
                one, other = torch.nonzero(bounds >= threshold - _SLACK, as_tuple=True)
                pairs = np.stack([places[one.numpy() + start], places[other.numpy() + left]], 1)
                found.append(pairs[_cosines(vectors, pairs) >= threshold])
        if progress is not None:
            progress(min(start + _ROWS, len(places)), len(places))
    every = np.concatenate(found)
    return every[np.lexsort((every[:, 1], every[:, 0]))]


def _screen(vectors: NDArray[np.floating[Any]], places: NDArray[np.int64]) -> torch.Tensor:
    """Project each vector on the strongest directions, with the length of the rest: `[N, _SCREEN + 1]`."""
    import torch

    sample = torch.from_numpy(vectors[places[:: max(1, len(places) // 8192)]].astype(np.float32))
    directions = torch.linalg.eigh(sample.T @ sample)[1][:, -_SCREEN:]
    screen = torch.empty(len(places), directions.shape[1] + 1)
    for start in range(0, len(places), 8192):
        part = torch.from_numpy(vectors[places[start : start + 8192]].astype(np.float32))
        turned = part @ directions
        rest = (part.square().sum(1) - turned.square().sum(1)).clamp(min=0).sqrt()
        screen[start : start + len(part)] = torch.cat([turned, rest[:, None]], 1)
    return screen


def _cosines(vectors: NDArray[np.floating[Any]], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 8192):
        one, other = (vectors[side].astype(np.float32) for side in pairs[start : start + 8192].T)
        cosines[start : start + 8192] = np.einsum("nd,nd->n", one, other)
    return cosines


def split_draws(groups: NDArray[np.int64], item_ids: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for each item, equal within a group.

    It follows from the digest of the seed and the smallest item id.
    """
    smallest: dict[int, str] = {}
    for number, item_id in zip(groups.tolist(), item_ids, strict=True):
        smallest[number] = min(item_id, smallest.get(number, item_id))
    drawn = {
        number: int.from_bytes(blake2b(f"{seed} {item_id}".encode(), digest_size=8).digest()) / 2**64
        for number, item_id in smallest.items()
    }
    return np.array([drawn[number] for number in groups.tolist()], np.float64)


def split(
    groups: NDArray[np.int64], item_ids: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Split items by group.

    New items change no side of those before, unless they join groups or bring a group a smaller id.

    Args:
        groups: int64 `[I]`, as from `group`; item_ids: of the same items.
        shares: part -> its share of the groups; they add up to 1.

    Returns:
        part -> int64 places in order; every item is in one.
    """
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise ColdstartError(f"shares of a split add up to 1, and none is below 0; these are {dict(shares)}")
    ends = np.cumsum(list(shares.values()))
    side = np.minimum(np.searchsorted(ends, split_draws(groups, item_ids, seed), side="right"), len(ends) - 1)
    return {name: np.flatnonzero(side == number) for number, name in enumerate(shares)}


FEWEST_CLASSES = 10
"""Values of a field from which on some can be held out whole; with fewer, one is too large a part of a catalogue."""


FEWEST_VALID = 5
"""Groups in the validation part, where a catalogue has enough of them."""


def has_classes(labels: Sequence[str]) -> bool:
    """Tell whether labels of items are classes of which some can be held out: several, and most items have one."""
    given = [label for label in labels if label]
    return len(set(given)) >= FEWEST_CLASSES and len(given) * 2 >= len(labels)


def hold_out_classes(
    labels: Sequence[str], groups: NDArray[np.int64], share: float, seed: int = 0
) -> NDArray[np.bool_]:
    """Select whole classes, in the order of digests of the seed and the label, until a share of the items is reached.

    A class goes with all groups that it is in; one that would pass the share is left, and a smaller one may follow.

    Args:
        labels: of each item; empty where it has none.
        groups: int64 `[I]`, as from `group_items`.

    Returns:
        bool `[I]`: items of those classes, and of their groups.
    """
    members: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        if label:
            members.setdefault(label, []).append(place)
    drawn = sorted(members, key=lambda label: blake2b(f"{seed} class {label}".encode(), digest_size=8).digest())
    sizes = np.bincount(groups)
    taken = np.zeros(len(sizes), bool)
    room = int(share * len(labels))
    for label in drawn:
        own = np.unique(groups[members[label]])
        new = own[~taken[own]]
        if (cost := int(sizes[new].sum())) <= room:
            taken[new] = True
            room -= cost
    held: NDArray[np.bool_] = taken[groups]
    return held


def split_unseen(
    groups: NDArray[np.int64],
    copies: NDArray[np.int64],
    item_ids: Sequence[str],
    fields: Mapping[str, Sequence[str]],
    *,
    test_share: float,
    valid_share: float,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Split items so that groups, and classes of some fields, are unseen, and some items of seen groups are, too.

    Half of the test part are whole classes, in equal parts a field, the other half are groups by chance, as `split`
    draws them. Without fields, or where no class is small enough, all of it are groups by chance.

    Args:
        groups: int64 `[I]`, as from `group_items`; copies: the same of items that show the same picture.
        item_ids: of the same items; fields: field -> label of each item, empty where it has none.

    Returns:
        `train`, `valid`, `test` and `seen` -> int64 places in order; every item is in one. `valid`: of `FEWEST_VALID`
        groups at least, or empty. `seen`: items of groups that are also in `train`, a share of `test_share` of those
        that show other pictures than these.
    """
    shares = {"test": test_share, "valid": valid_share, "train": 1 - test_share - valid_share}
    parts = split(groups, item_ids, shares, seed)
    side = np.empty(len(item_ids), dtype="<U5")
    for name, places in parts.items():
        side[places] = name
    held = np.zeros(len(item_ids), bool)
    for labels in fields.values():
        held |= hold_out_classes(labels, groups, test_share / 2 / len(fields), seed)
    if held.any():
        side[(side == "test") & (split_draws(groups, item_ids, seed) >= test_share / 2)] = "train"
        side[held] = "test"
    _widen_valid(side, groups, split_draws(groups, item_ids, seed), valid_share)
    side[_seen_items(side == "train", groups, copies, split_draws(copies, item_ids, seed + 1), test_share)] = "seen"
    return {name: np.flatnonzero(side == name) for name in ("test", "valid", "train", "seen")}


def _widen_valid(
    side: NDArray[np.str_], groups: NDArray[np.int64], draws: NDArray[np.float64], valid_share: float
) -> None:
    """Give the validation part the next groups by their draws until it has `FEWEST_VALID`, or a fifth of few groups.

    In a part of one group every answer is right, so that a training would stop before its first step: where a fifth of
    the groups are not two, nothing is in it.
    """
    learnt = np.isin(side, ("train", "valid"))
    wanted = min(FEWEST_VALID, len(np.unique(groups[learnt])) // 5) if valid_share else 0
    have = np.unique(groups[side == "valid"])
    if wanted < 2:
        side[side == "valid"] = "train"
    elif len(have) < wanted:
        left = {int(group): draw for group, draw in zip(groups[side == "train"], draws[side == "train"], strict=True)}
        chosen = sorted(left, key=lambda group: left[group])[: wanted - len(have)]
        side[np.isin(groups, chosen)] = "valid"


def _seen_items(
    is_train: NDArray[np.bool_],
    groups: NDArray[np.int64],
    copies: NDArray[np.int64],
    draws: NDArray[np.float64],
    share: float,
) -> NDArray[np.bool_]:
    """Select items of trained groups to hold out, so that each group keeps the copy of its highest draw."""
    highest = np.zeros(int(groups.max()) + 1 if len(groups) else 0)
    np.maximum.at(highest, groups[is_train], draws[is_train])
    chosen: NDArray[np.bool_] = is_train & (draws < share) & (draws < highest[groups])
    return chosen
