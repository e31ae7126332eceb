"""Split interactions into training, validation and test rows, and items into warm and cold. A split has a digest.

Three ways: by time, as an operator meets new items (train < `valid_at` <= valid < `test_at` <= test); by item, all rows
of some items held out as if they were new; and as ColdRec does, which holds out rows of warm items too. Leaving out
each user's last row is not offered: a fit would see what others did later. A split is stored as a folder of
`rows.parquet`, `items.parquet`, `users.parquet` and `split.json` with its digest; a changed one is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError
from coldstart.metrics.splits import split as split_groups

Mask = NDArray[np.bool_]
Groups = NDArray[np.int64]
OUT, TRAIN, VALID, TEST = -1, 0, 1, 2
PARTS = {"valid": VALID, "test": TEST}
WARM, COLD_VALID, COLD_TEST, COLD_BOTH = 0, 1, 2, 3
KINDS = ("time", "items", "coldrec")
SPLIT_FILE = "split.json"
_PART = {-1: "out", 0: "train", 1: "valid", 2: "test"}
_SIDE = {-1: "out", 0: "warm", 1: "cold_valid", 2: "cold_test", 3: "cold"}


class NothingToEvaluate(ColdstartError):  # noqa: N818  (a state of the data)
    """Interactions are too few, or of such times and items, that a side of a split or every list is empty."""


@dataclass(frozen=True)
class Split:
    """Split of rows and items into sides.

    Attributes:
        kind: `time`, `items`, `coldrec` or `given`.
        interactions: all rows, of every side.
        row_part: int8 [rows]: `TRAIN`, `VALID`, `TEST`, or `OUT` for unused rows.
        item_side: int8 [items]: `WARM`; cold in one part or in both; `OUT` for items that are no candidates.
        settings: of the split, as JSON values; `seed`, `warm_min`, `valid_at` and `test_at` (seconds) among them.
    """

    kind: str
    interactions: Interactions
    row_part: NDArray[np.int8]
    item_side: NDArray[np.int8]
    settings: Mapping[str, Any]

    def rows(self, part: int) -> Interactions:
        """Select the rows of one part, such as `TRAIN`."""
        return self.interactions.where(self.row_part == part)

    @property
    def warm(self) -> Mask:
        """Items that fits may learn from, bool [items]."""
        found: Mask = self.item_side == WARM
        return found

    def cold(self, part: str) -> Mask:
        """Mark the new items of `valid` or `test`, bool [items]."""
        found: Mask = (self.item_side == PARTS[part]) | (self.item_side == COLD_BOTH)
        return found

    def request_at(self, part: str) -> int | None:
        """Return the request time of a part, in seconds since 1970; None where the split is not by time."""
        found = self.settings.get(f"{part}_at")
        return None if found is None else int(found)

    def known_before(self, part: str) -> Mask:
        """Mark the rows known at the request, bool [rows]: earlier ones in a split by time, else the training rows."""
        found: Mask = self.row_part == TRAIN
        if self.kind == "time":
            known = (TRAIN, OUT) if part == "valid" else (TRAIN, VALID, OUT)
            found = np.isin(self.row_part, known) & (self.interactions.times < self.settings[f"{part}_at"])
        return found

    def digest(self) -> str:
        """Digest the split: equal if and only if rows, names, sides and settings are."""
        rows = self.interactions
        names = json.dumps([self.kind, dict(self.settings), rows.user_ids, rows.item_ids], sort_keys=True)
        found = blake2b(names.encode(), digest_size=16)
        for column in (rows.users, rows.items, rows.times, rows.weights, self.row_part, self.item_side):
            found.update(np.ascontiguousarray(column).data)
        return found.hexdigest()

    def counts(self) -> dict[str, int]:
        """Count users, and rows and items of every side."""
        rows, items = np.bincount(self.row_part + 1, minlength=4), self.item_side
        return {
            "users": len(self.interactions.user_ids),
            "rows_train": int(rows[1]),
            "rows_valid": int(rows[2]),
            "rows_test": int(rows[3]),
            "rows_left_out": int(rows[0]),
            "items_warm": int((items == WARM).sum()),
            "items_cold_valid": int(self.cold("valid").sum()),
            "items_cold_test": int(self.cold("test").sum()),
            "items_left_out": int((items == OUT).sum()),
        }


def split_by_time(
    interactions: Interactions,
    *,
    valid_at: int | None = None,
    test_at: int | None = None,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    warm_min: int = 5,
) -> Split:
    """Split by time: the same cuts for all users.

    An item with fewer than `warm_min` users in the training window is cold, as is one without any. Its few training
    rows are left out of all fits, so that cold means cold; users still count as having met it.

    Args:
        valid_at, test_at: seconds; by default where `shares` of the rows have passed.

    Raises:
        ColdstartError: all rows are of one time, or a side has no rows.
    """
    times = interactions.times
    if not len(times) or times.min() == times.max():
        raise NothingToEvaluate(
            f"{len(times)} interactions without times that differ cannot be split by time: use the split `items`"
        )
    _check_shares(shares)
    quantiles = np.quantile(times, np.cumsum(shares)[:2], method="higher")
    first = int(quantiles[0]) if valid_at is None else int(valid_at)
    second = int(quantiles[1]) if test_at is None else int(test_at)
    row_part = np.where(times < first, TRAIN, np.where(times < second, VALID, TEST)).astype(np.int8)
    side = np.where(interactions.where(row_part == TRAIN).counts() >= warm_min, WARM, COLD_BOTH).astype(np.int8)
    row_part[(row_part == TRAIN) & (side[interactions.items] != WARM)] = OUT
    settings = {"valid_at": first, "test_at": second, "warm_min": warm_min, "shares": list(shares)}
    return _check_sides(Split("time", interactions, row_part, side, settings))


def split_by_items(
    interactions: Interactions,
    *,
    groups: Groups | None = None,
    valid: float = 0.1,
    test: float = 0.2,
    warm_min: int = 1,
    seed: int = 0,
) -> Split:
    """Split by items: some are held out with all their rows, as if new; items of one group fall on one side.

    Args:
        groups: int64 [items], such as from `coldstart.metrics.splits.group_items`; by default each item is its own.
        valid, test: shares of the items (of the groups).
        warm_min: other items with fewer users are neither candidates nor training items.
    """
    side = _draw_items(interactions, groups, valid, test, seed)
    part = np.where(side == WARM, TRAIN, side)[interactions.items].astype(np.int8)
    settings = {"valid": valid, "test": test, "warm_min": warm_min, "seed": seed}
    return _check_sides(_without_rare(Split("items", interactions, part, side, settings), warm_min))


def split_coldrec(
    interactions: Interactions, *, groups: Groups | None = None, warm_min: int = 1, seed: int = 0
) -> Split:
    """Split as the benchmark ColdRec: a fifth of the items is cold, half of it for validation.

    Of the other items' pairs of user and item 80 % train, 10 % validate and 10 % test.
    """
    side = _draw_items(interactions, groups, 0.1, 0.1, seed)
    part = np.where(side == WARM, TRAIN, side)[interactions.items].astype(np.int8)
    warm = np.flatnonzero(part == TRAIN)
    pairs = interactions.users[warm].astype(np.int64) * len(interactions.item_ids) + interactions.items[warm]
    distinct, inverse = np.unique(pairs, return_inverse=True)
    drawn = np.random.default_rng(seed).random(len(distinct))
    part[warm] = np.select([drawn < 0.8, drawn < 0.9], [TRAIN, VALID], TEST)[inverse]
    settings = {"cold": 0.2, "warm_rows": [0.8, 0.1, 0.1], "warm_min": warm_min, "seed": seed}
    return _check_sides(_without_rare(Split("coldrec", interactions, part, side, settings), warm_min))


def split_by_item_ids(
    interactions: Interactions, test: Sequence[str], valid: Sequence[str] = (), *, warm_min: int = 1
) -> Split:
    """Split by item ids: the named items are held out with all their rows.

    Raises:
        ColdstartError: a name is not among the items, or given twice.
    """
    places = {name: place for place, name in enumerate(interactions.item_ids)}
    side = np.zeros(len(places), np.int8)
    for names, cold in ((valid, COLD_VALID), (test, COLD_TEST)):
        for name in names:
            if name not in places:
                raise ColdstartError(f"item {name!r} is to be held out, and is not among the {len(places)} items")
            if side[places[name]] != WARM:
                raise ColdstartError(f"item {name!r} is to be held out twice")
            side[places[name]] = cold
    part = np.where(side == WARM, TRAIN, side)[interactions.items].astype(np.int8)
    settings = {"valid": len(valid), "test": len(test), "warm_min": warm_min}
    return _check_sides(_without_rare(Split("given", interactions, part, side, settings), warm_min))


def exclude_items(split: Split, items: Mask, reason: str) -> Split:
    """Exclude items and their rows from a split; `settings[reason]` counts them.

    Raises:
        ColdstartError: a side has no rows left.
    """
    side = np.where(items, OUT, split.item_side).astype(np.int8)
    part = np.where(items[split.interactions.items], OUT, split.row_part).astype(np.int8)
    settings = {**split.settings, reason: int(items.sum())}
    return _check_sides(replace(split, row_part=part, item_side=side, settings=settings))


def _draw_items(
    interactions: Interactions, groups: Groups | None, valid: float, test: float, seed: int
) -> NDArray[np.int8]:
    """Draw the side of each item with an interaction; `OUT` for the others."""
    _check_shares((1 - valid - test, valid, test))
    met = np.flatnonzero(np.bincount(interactions.items, minlength=len(interactions.item_ids)))
    names = [interactions.item_ids[place] for place in met]
    own = np.arange(len(met), dtype=np.int64) if groups is None else groups[met]
    shares = {"train": 1 - valid - test, "valid": valid, "test": test}
    sides = split_groups(own, names, shares, seed)
    found = np.full(len(interactions.item_ids), OUT, np.int8)
    for name, side in (("train", WARM), ("valid", COLD_VALID), ("test", COLD_TEST)):
        found[met[sides[name]]] = side
    return found


def _without_rare(split: Split, warm_min: int) -> Split:
    counts = split.rows(TRAIN).counts()
    rare = split.warm & (counts < max(1, warm_min))
    side = np.where(rare, OUT, split.item_side).astype(np.int8)
    part = np.where(rare[split.interactions.items], OUT, split.row_part).astype(np.int8)
    return replace(split, item_side=side, row_part=part)


def _check_shares(shares: Sequence[float]) -> None:
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ColdstartError(f"shares of a split add up to 1, and none is below 0; these are {list(shares)}")


def _described(split: Split) -> str:
    counts = split.counts()
    return (
        f"of {counts['users']:,} users {counts['rows_train']:,} interactions are for training, "
        f"{counts['rows_valid']:,} for validation, {counts['rows_test']:,} for the test and "
        f"{counts['rows_left_out']:,} left out; of the items {counts['items_warm']:,} are warm, "
        f"{counts['items_cold_test']:,} cold in the test and {counts['items_left_out']:,} left out"
    )


def _check_sides(split: Split) -> Split:
    for part, name in ((TRAIN, "training"), (TEST, "test")):
        if not (split.row_part == part).any():
            raise NothingToEvaluate(
                f"split {split.kind} leaves no interactions for {name}: {_described(split)}; give more interactions, "
                "or other shares or dates"
            )
    if not split.cold("test").any():
        raise NothingToEvaluate(
            f"split {split.kind} has no cold items to test on: {_described(split)}; use the split `items`"
        )
    return split


def write_split(split: Split, folder: Path) -> str:
    """Write a split into a folder, created where missing, and return its digest.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    rows = split.interactions

    def named(places: np.ndarray, names: tuple[str, ...] | list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(names, pa.string()))

    columns = {
        "user_id": named(rows.users, rows.user_ids),
        "item_id": named(rows.items, rows.item_ids),
        "time": pa.array(rows.times),
        "weight": pa.array(rows.weights),
        "part": named(split.row_part + 1, list(_PART.values())),
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    side = named(split.item_side + 1, list(_SIDE.values()))
    pq.write_table(pa.table({"item_id": pa.array(rows.item_ids, pa.string()), "side": side}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": pa.array(rows.user_ids, pa.string())}), folder / "users.parquet")
    digest = split.digest()
    about = {"kind": split.kind, "digest": digest, "settings": dict(split.settings), "counts": split.counts()}
    (folder / SPLIT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return digest


def read_split(folder: Path) -> Split:
    """Read the split of a folder.

    Raises:
        ColdstartError: there is none, it cannot be read, or it was changed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / SPLIT_FILE
    if not path.is_file():
        raise ColdstartError(f"there is no split in {folder}: {SPLIT_FILE} is missing")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        user_ids = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
        items = pq.read_table(folder / "items.parquet")
        rows = pq.read_table(folder / "rows.parquet")
        item_ids = items["item_id"].to_pylist()
        interactions = Interactions(
            tuple(user_ids),
            tuple(item_ids),
            _places(rows["user_id"], user_ids).astype(np.int32),
            _places(rows["item_id"], item_ids).astype(np.int32),
            rows["time"].to_numpy(),
            rows["weight"].to_numpy(),
        )
        row_part = (_places(rows["part"], list(_PART.values())) - 1).astype(np.int8)
        side = (_places(items["side"], list(_SIDE.values())) - 1).astype(np.int8)
        split = Split(about["kind"], interactions, row_part, side, about["settings"])
        written = str(about["digest"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ColdstartError(f"the split in {folder} cannot be read: {why}") from error
    if split.digest() != written:
        raise ColdstartError(
            f"the split in {folder} was changed since it was written: its digest is {split.digest()}, and "
            f"{SPLIT_FILE} says {written}; write it anew"
        )
    return split


def _places(column: object, names: list[str]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    if found.null_count:
        raise ValueError("a row names what is not listed")
    return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.ChunkedArray) else found)
