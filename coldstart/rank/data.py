"""Read what a ranker learns from out of a workspace: items, showings with outcomes, and histories."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.impressions import NONE, STATED, WINDOW_S, Impressions
from coldstart.rank.counts import PositionBias, cooccurrence_vectors
from coldstart.rank.features import ACTIONS_READ, MOST_EVENTS, Actions, FeatureMaker, ItemTable, Met, Rows
from coldstart.rank.history_search import EXACT, HistorySearch
from coldstart.rank.model import WholeHistories
from coldstart.rank.settings import AGAINST, Settings
from coldstart.store import ITEMS, Store
from coldstart.store.history_build import open_histories
from coldstart.store.impressions import ImpressionTable
from coldstart.store.interactions import INTERACTIONS

if TYPE_CHECKING:
    from coldstart.store.histories import Histories

_GRAM = "sid_"
_COLUMNS = ("creator", "category", "tags", "created_at", "price", "attributes", "media")
_MOST_TAGS, _MOST_NUMBERS, _COVERED = 8, 12, 0.1
_USERS_PER_BLOCK = 50_000
_MEASURED = 20
"""Histories, and candidates of each, on which the shortcut of search is measured."""
FEWEST_ACTIONS = 2_000
"""Actions before the fit window below which items get no vectors of who met them."""


@dataclass(frozen=True)
class FitNames:
    """Numbering of a fit: its items; codes of each column of the item table, from 1; kinds of actions."""

    items: tuple[str, ...] = ()
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankData:
    """Items, showings and histories of one workspace, numbered alike.

    Attributes:
        items: of the catalogue, and those that were only shown or met; others: number of users
            with showings and without a history.
        rows: showings with outcomes, by time; left_out: reason -> showings that have no part.
        catalogue: items of the catalogue.
    """

    items: ItemTable
    others: Mapping[str, int]
    rows: Rows
    left_out: Mapping[str, int]
    catalogue: frozenset[str]
    _histories: Histories
    _item_places: NDArray[np.int64]
    _kind_of: NDArray[np.int64]
    kinds: tuple[str, ...]

    def actions(self, users: NDArray[np.int64], before: NDArray[np.int64], last: int) -> Actions:
        """Read the latest actions of users, each strictly before its own second; see `ReadActions`."""
        numbers = np.where(users < len(self._histories.users), users, -1)
        if not self.kinds or not len(users):
            shape = (len(users), 0)
            return Actions(np.zeros(shape, np.int32), np.zeros(shape, np.uint8), np.zeros(shape, np.int64))
        several = len(users) > _USERS_PER_BLOCK
        width = min(last, self._histories.summary().longest) if several else 0
        for start in range(0, len(users), _USERS_PER_BLOCK):
            block = slice(start, start + _USERS_PER_BLOCK)
            found = self._histories.read_numbers(numbers[block], before[block], last)
            counts = np.diff(found.starts)
            if start == 0:
                width = width or int(counts.max(initial=0))
                items = np.full((len(users), width), -1, np.int32)
                kinds = np.zeros((len(users), width), np.uint8)
                seconds = np.zeros((len(users), width), np.int64)
            rows = np.repeat(np.arange(len(counts)), counts)
            slots = width - counts[rows] + np.arange(len(rows)) - found.starts[rows]
            rows += start
            own = self._kind_of[found.events]
            usable = own >= 0
            items[rows[usable], slots[usable]] = self._item_places[found.items[usable]]
            kinds[rows[usable], slots[usable]] = own[usable]
            seconds[rows, slots] = found.seconds
        return Actions(items, kinds, seconds)

    def whole(self, users: NDArray[np.int64], before: NDArray[np.int64], last: int | None = None) -> WholeHistories:
        """Read whole histories, each before its own second, the `last` actions of each; see `ReadWhole`."""
        numbers = np.where(users < len(self._histories.users), users, -1)
        found = self._histories.read_numbers(numbers, before, last)
        kinds = self._kind_of[found.events]
        items = np.where(kinds >= 0, self._item_places[found.items], -1).astype(np.int32)
        return WholeHistories(found.starts, items, (kinds + 1).astype(np.int32), found.seconds.astype(np.int64))

    def lengths(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the actions of users at any time, int64 [N]."""
        counts = np.append(self._histories.counts(), 0)
        return np.asarray(counts[np.where((users >= 0) & (users < len(counts)), users, -1)], np.int64)

    def number_of(self, user: str) -> int:
        """Number a user: by his history, or by his showings where he has none; -1 for one without either."""
        number = int(self._histories.users.numbers([user])[0])
        return number if number >= 0 else self.others.get(user, -1)

    def history_length(self, user: str, before: int | None) -> int:
        """Count the actions of a user strictly before a second."""
        return len(self._histories.of(user, before))

    @property
    def names(self) -> FitNames:
        """Numbering of what is here."""
        return FitNames(self.items.ids, self.items.names, self.kinds)

    def met(self, before: int | None = None) -> tuple[NDArray[np.int64], Met]:
        """Read all actions, those before a second: users, int64 [A], and what they met."""
        parts: list[tuple[NDArray[np.int64], ...]] = []
        for start in range(0, len(self._histories.users), _USERS_PER_BLOCK):
            numbers = np.arange(start, min(start + _USERS_PER_BLOCK, len(self._histories.users)))
            found = self._histories.read_numbers(numbers, None if before is None else np.full(len(numbers), before))
            users, kinds = np.repeat(numbers, np.diff(found.starts)), self._kind_of[found.events]
            own = kinds >= 0
            seconds = found.seconds[own].astype(np.int64)
            parts.append((users[own], self._item_places[found.items[own]], kinds[own], seconds))
        if not parts:
            nothing = np.empty(0, np.int64)
            return nothing, Met(nothing, nothing, nothing)
        users, *own_columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return users, Met(*own_columns)

    def maker(
        self,
        past: Rows,
        settings: Settings,
        vectors: NDArray[np.float32] | None,
        bias: PositionBias | None = None,
    ) -> FeatureMaker:
        """Build the maker of features: rates of `past`, and actions of all users."""
        if vectors is not None and vectors.shape[1]:
            more = len(self.items.ids) - len(vectors)  # items that came after the vectors have none
            vectors = np.concatenate([vectors, np.zeros((more, vectors.shape[1]), np.float32)])
        else:
            vectors = None
        own = replace(self.items, vectors=vectors)
        return FeatureMaker(
            own, past, self.actions, self.kinds, self.met()[1], prior=settings.prior, length=settings.length,
            long_length=settings.long_length, whole=self.whole, lengths=self.lengths,
            searched=self.is_long, found=settings.found, bias=bias,
        )  # fmt: skip

    @property
    def longest(self) -> int:
        """Actions of the longest history."""
        return int(self._histories.summary().longest)

    @property
    def is_long(self) -> bool:
        """Some history is longer than what features read of each."""
        return self.longest > ACTIONS_READ

    def shortcut_recall(self, vectors: NDArray[np.float32], before: int, seed: int = 0) -> dict[str, Any] | None:
        """Measure how much of the exact answer the search by codes finds, on a few of the histories that it is for;
        None where there are none.

        Returns:
            `value`: the share; `actions`: those it is a share of; `users`.
        """
        codes = self.items.codes.get("sid_1")
        longest = np.argsort(-self._histories.counts())[:_MEASURED]
        found = [self.whole(np.array([user]), np.array([before])) for user in longest]
        found = [own for own in found if (own.events > 0).sum() > EXACT]
        if codes is None or not vectors.shape[1] or not found:
            return None
        draw = np.random.default_rng(seed)
        search = HistorySearch(vectors, codes - 1)
        requests = [(draw.integers(0, len(vectors), _MEASURED), own.items, own.events - 1) for own in found]
        value, actions = search.shortcut_recall(requests, group_count=len(self.kinds))
        return {"value": None if np.isnan(value) else value, "actions": actions, "users": len(found)}

    def is_similar_read(self, settings: Settings) -> bool:
        """Tell whether features by vectors are read: by the settings, else where some history is long."""
        return self.is_long if settings.similar is None else settings.similar

    def vectors(self, before: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
        """Compute vectors of items by who met them before a second; of no columns where too few did."""
        users, met = self.met(before)
        if len(users) < FEWEST_ACTIONS:
            return np.zeros((len(self.items.ids), 0), np.float32)
        return cooccurrence_vectors(users, met.items, len(self.items.ids), dim, seed)


def read_data(
    store: Store,
    settings: Settings,
    codes: Mapping[str, Sequence[int]] | None = None,
    *,
    events: Collection[str] = (),
    names: FitNames | None = None,
) -> RankData:
    """Read the showings of a workspace with their outcomes, its items and histories.

    Args:
        codes: semantic ID of each item; events: outcomes to read; by default those of the settings, or all that are 0
            or 1.
        names: of an earlier fit, which keep their numbers; what came since is numbered after them.
    """
    names = names or FitNames()
    shown = ImpressionTable(store).read(None, None, WINDOW_S)
    histories = open_histories(store, fresh=store.has(INTERACTIONS))
    wanted = tuple(events) or tuple(settings.events or ()) or binary_events(shown)
    labels, left_out = labels_of(shown, wanted)
    kept = np.any([~np.isnan(own) for own in labels.values()], 0) if labels else np.zeros(len(shown), bool)
    if settings.surface is not None:
        surface = np.array([*(one == settings.surface for one in shown.surface_ids), False])[shown.surfaces]
        left_out["another surface"] = int((kept & ~surface).sum())
        kept &= surface
    order = np.flatnonzero(kept)
    order = order[np.lexsort((order, shown.times[order]))]
    known = store.read(ITEMS, ["item_id", *(one for one in _COLUMNS if one in store.columns(ITEMS))]).to_pylist() if (
        store.has(ITEMS)) else []  # fmt: skip
    catalogue = [row["item_id"] for row in known]
    met = histories.items.ids(np.arange(len(histories.items))) if len(histories.items) else []
    item_ids = list(dict.fromkeys([*names.items, *catalogue, *shown.item_ids, *met]))
    place = {item: number for number, item in enumerate(item_ids)}
    numbers = np.asarray(histories.users.numbers(list(shown.user_ids)), np.int64)
    others = {shown.user_ids[one]: len(histories.users) + one for one in np.flatnonzero(numbers < 0).tolist()}
    numbers = np.where(numbers < 0, len(histories.users) + np.arange(len(numbers)), numbers)
    rows = Rows(
        numbers[shown.users[order]],
        np.array([place[item] for item in shown.item_ids], np.int64)[shown.items[order]],
        shown.times[order] // 1_000_000,
        shown.positions[order],
        {event: own[order] for event, own in labels.items()},
    )
    called = [event or "met" for event in histories.events]
    kinds = names.kinds if names.items else tuple(dict.fromkeys(called))[:MOST_EVENTS]
    return RankData(
        items=item_table(item_ids, known, codes or {}, names),
        others=others,
        rows=rows,
        left_out={why: count for why, count in left_out.items() if count},
        catalogue=frozenset(catalogue),
        _histories=histories,
        _item_places=np.array([place[item] for item in met], np.int64),
        _kind_of=np.array([kinds.index(one) if one in kinds else -1 for one in called], np.int64),
        kinds=kinds,
    )


def binary_events(shown: Impressions) -> tuple[str, ...]:
    """List the outcomes that are 0 or 1 wherever they are known, 1 somewhere, and not against an item."""
    found = []
    for name, values in shown.signals.items():
        own = values[~np.isnan(values)]
        if name not in AGAINST and len(own) and np.isin(own, (0, 1)).all() and (own > 0).any():
            found.append(name)
    return tuple(found)


def labels_of(shown: Impressions, events: Sequence[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
    """Read outcomes as 0, 1 or NaN. A showing without any outcome is one that nothing came of where outcomes are
    matched with the interaction log; in a log that states outcomes it is not known."""
    labels = {event: np.minimum(np.maximum(shown.signal(event), 0), 1) for event in events}
    labels = {event: np.where(np.isnan(own), own, (own > 0).astype(np.float32)) for event, own in labels.items()}
    without = shown.source == NONE
    states_nothing = any(((own == 0) & (shown.source == STATED)).any() for own in shown.signals.values())
    if (~without).any() and not states_nothing:
        labels = {event: np.where(np.isnan(own), np.float32(0), own) for event, own in labels.items()}
        return labels, {}
    return labels, {"no outcome": int(without.sum())}


def item_table(
    item_ids: Sequence[str],
    known: Sequence[Mapping[str, Any]],
    codes: Mapping[str, Sequence[int]],
    names: FitNames | None = None,
) -> ItemTable:
    """Build the table of items: codes from 1 of what is known, numbers of attributes, n-grams of semantic IDs."""
    names = names or FitNames()
    records = {row["item_id"]: row for row in known}
    own = [records.get(item, {}) for item in item_ids]
    columns: dict[str, list[str | None]] = {name: [row.get(name) for row in own] for name in ("creator", "category")}
    grams = sorted(name for name in names.codes if name.startswith(_GRAM)) if names.items else (
        [f"{_GRAM}{depth}" for depth in (1, 2, 3)] if codes else [])  # fmt: skip
    for name in grams:
        depth = int(name.removeprefix(_GRAM))
        listed = [codes.get(item, ()) for item in item_ids]
        columns[name] = [None if len(one) < depth else "-".join(map(str, one[:depth])) for one in listed]
    found, numbering = dict[str, NDArray[np.int32]](), dict[str, tuple[str, ...]]()
    for name, values in columns.items():
        numbers = {one: place + 1 for place, one in enumerate(names.codes.get(name, ()))}
        coded = [0 if one is None else numbers.setdefault(one, len(numbers) + 1) for one in values]
        found[name], numbering[name] = np.array(coded, np.int32), tuple(numbers)
    tags = {one: place + 1 for place, one in enumerate(names.codes.get("tag", ()))}
    tagged = [(row.get("tags") or [])[:_MOST_TAGS] for row in own]
    padded = np.zeros((len(item_ids), max(map(len, tagged), default=0)), np.int32)
    for place, some in enumerate(tagged):
        padded[place, : len(some)] = [tags.setdefault(one, len(tags) + 1) for one in some]
    numbering["tag"] = tuple(tags)
    created = np.array([np.nan if row.get("created_at") is None else row["created_at"].timestamp() for row in own])
    return ItemTable(tuple(item_ids), found, padded, created, _numbers(own), names=numbering)


def _numbers(records: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """Read price, duration and numeric attributes, those that a tenth of the items have."""
    columns: dict[str, NDArray[np.float32]] = {}

    def put(name: str, place: int, value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            columns.setdefault(name, np.full(len(records), np.nan, np.float32))[place] = value

    for place, row in enumerate(records):
        put("price", place, row.get("price"))
        put("duration_s", place, max((m.get("duration_s") or 0 for m in row.get("media") or []), default=0) or None)
        if row.get("attributes"):
            for name, value in sorted(json.loads(row["attributes"]).items()):
                if name in columns or len(columns) < 4 * _MOST_NUMBERS:
                    put(name, place, value)
    covered = {name: int((~np.isnan(own)).sum()) for name, own in columns.items()}
    kept = sorted(
        (name for name in covered if covered[name] >= _COVERED * max(1, len(records))), key=lambda n: (-covered[n], n)
    )
    return {name: columns[name] for name in sorted(kept[:_MOST_NUMBERS])}
