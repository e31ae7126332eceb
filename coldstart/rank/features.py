"""Make features of showings and of candidates: rates before them, age and numbers of the item, ties to the history.

All is as of a time before the row, in a fit as in use. Counts are of showings and actions of earlier periods alone (a
day, an hour in a short log). Histories end before the request: rows are grouped by user and second, or, where a log has
too many such groups to hold, by minute, hour or day, and a history ends before the first row of its group; where all
times of actions are whole minutes, hours or days, before the one of the row. So no outcome can reach its own feature.
What is not known is NaN, never 0.

The place in a list is no feature, since nobody knows it when a list is made. Its effect is taken out twice: a showing
counts in a rate as much as its place is looked at (clicks over expected clicks: Zhang and Jones 2007), and fits get
the logit of the place as an offset that predictions do without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coldstart.rank.counts import SHARED_POSITIONS, Counts, PositionBias, position_bias
from coldstart.rank.history_search import HistorySearch
from coldstart.rank.model import Features, FoundActions, Sequences, WholeHistories
from coldstart.rank.whole_history import BESIDE_FOUND, SIMILAR, ReadWhole, WholeFeatures

Places = NDArray[np.int64]
Floats = NDArray[np.float32]

ACTIONS_READ = 200
"""Latest actions of a history that features are made of."""
BINS = (-1.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.01)
"""Bounds of cosine between a candidate and the actions of a history, in the histogram of SimTier."""
MOST_EVENTS = 4
_DAY_S, _HOUR_S = 86_400, 3_600
_BLOCK = 8_192
MOST_SHOWINGS = 1_000_000
"""Showings that a fit reads, the newest ones; rates count all."""
_MOST_GROUPS = 200_000
"""Histories that are held at a time: 13 bytes an action, of `ACTIONS_READ` at most, half a gigabyte in all."""
_FEW_ACTIONS = 5.0
"""Actions of a user's usual kinds that are added to those with one creator or category."""


@dataclass(frozen=True)
class ItemTable:
    """Columns of I items that features are made of.

    Attributes:
        ids: names; created: seconds since 1970, float64 [I], NaN where not known.
        codes: column -> code of each item, int32 [I], 0 where not known: creator, category, n-grams of semantic IDs.
        tags: codes of up to T tags, int32 [I, T], 0 for none.
        numbers: name -> float32 [I], NaN where not known; vectors: float32 [I, D] of length 1, or 0 for none.
        names: column -> what its codes from 1 stand for.
    """

    ids: tuple[str, ...]
    codes: Mapping[str, NDArray[np.int32]]
    tags: NDArray[np.int32]
    created: NDArray[np.float64]
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    vectors: Floats | None = None
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def attributes(self) -> NDArray[np.int32]:
        """Stack the codes for target attention, the first tag too: int32 [I, C]."""
        first = self.tags[:, 0] if self.tags.shape[1] else np.zeros(len(self.ids), np.int32)
        return np.stack([*self.codes.values(), first], 1).astype(np.int32)


@dataclass(frozen=True)
class Rows:
    """Candidates or showings: numbers of users and places of items (-1: unknown to all tables), seconds of the request.

    Attributes:
        positions: int32 [N], -1 where not known; labels: event -> 0, 1 or NaN, float32 [N].
    """

    users: Places
    items: Places
    times: Places
    positions: NDArray[np.int32]
    labels: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def where(self, chosen: NDArray[np.bool_] | Places) -> Rows:
        labels = {event: own[chosen] for event, own in self.labels.items()}
        return Rows(self.users[chosen], self.items[chosen], self.times[chosen], self.positions[chosen], labels)


@dataclass(frozen=True)
class Actions:
    """Latest actions of G histories, padded in front: places of items int32 [G, L], -1 for none; kinds uint8 and
    seconds int64 of the same shape."""

    items: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    seconds: Places


ReadActions = Callable[[Places, Places, int], Actions]
"""Reads the latest actions of users (numbers), each before its own second."""
CountActions = Callable[[Places], Places]
"""Counts the actions of users (numbers) at any time."""


@dataclass(frozen=True)
class Met:
    """Actions of all users: places of items, kinds and seconds, int64 [A] each."""

    items: Places
    kinds: Places
    seconds: Places


class FeatureMaker:
    """Makes features from the showings and histories of a workspace.

    Attributes:
        reads_found: target attention reads actions that search found.

    Args:
        past: showings with outcomes, which rates are counted in; kinds: names of the kinds of actions.
        met: actions of all users at any time; those of periods before a row are counted.
        prior: showings with the mean rate that a rate is smoothed by.
        length: latest actions that target attention reads; long_length: those that long attention reads.
        whole: reads whole histories; lengths: counts their actions.
        searched: histories longer than `ACTIONS_READ` are searched; found: target attention reads what was found.
        bias: of places, by default that of `past`.
    """

    def __init__(
        self,
        items: ItemTable,
        past: Rows,
        actions: ReadActions,
        kinds: Sequence[str],
        met: Met,
        *,
        prior: float = 20.0,
        length: int = 100,
        long_length: int = 10_000,
        whole: ReadWhole,
        lengths: CountActions,
        searched: bool = False,
        found: bool = False,
        bias: PositionBias | None = None,
    ) -> None:
        self.items, self._actions, self._kinds = items, actions, tuple(kinds)[:MOST_EVENTS]
        self._read, self._lengths = whole, lengths
        self._whole = None
        if searched and items.vectors is not None and self._kinds:
            codes = items.codes.get("sid_1")
            search = HistorySearch(items.vectors, None if codes is None else codes - 1)
            self._whole = WholeFeatures(search, self._read_known, self._kinds, found=found)
        self.reads_found = found and self._whole is not None
        self._prior, self._long_length = prior, long_length
        self._length = min(length, BESIDE_FOUND) if self.reads_found else length
        self.events = tuple(past.labels)
        span = int(np.ptp(past.times)) if len(past) else 0
        self._period = _DAY_S if span >= 4 * _DAY_S else max(_HOUR_S, span // 8)
        self._first = int(past.times.min()) // self._period if len(past) else 0
        self._last = self._periods(past.times).max() + 1 if len(past) else 0
        self.bias = position_bias(past) if bias is None else bias
        self._rates = {name: self._count(past, keys) for name, keys in self._keys(past).items()}
        self._overall = self._count(past, np.zeros(len(past), np.int64)) if len(past) else None
        self._met_ever = np.bincount(met.items, minlength=len(items.ids)) > 0
        self._met_last, self._met = self._count_actions(met)
        newest = past.where(np.arange(len(past))[-MOST_SHOWINGS:])
        steps = (1, 60, _HOUR_S, _DAY_S)
        fitting = (step for step in steps if len(np.unique(_grouped(newest, step))) <= _MOST_GROUPS)
        self._step = next(fitting, _DAY_S)
        coarse = (unit for unit in (_DAY_S, _HOUR_S, 60) if (met.seconds % unit == met.seconds[:1] % unit).all())
        self._unit = next(coarse, 1) if len(met.seconds) else 1
        self._rest = int(met.seconds[0]) % self._unit if len(met.seconds) else 0

    def _count_actions(self, met: Met) -> tuple[int, dict[str, Counts]]:
        """Count actions by what they were of, and by period: 0 for all before the first showing, then one later."""
        chosen = met.kinds < len(self._kinds)
        periods = np.maximum(met.seconds[chosen] // self._period - self._first + 1, 0)
        last = int(periods.max(initial=0))
        codes = (met.items[chosen] * (last + 1) + periods) * max(1, len(self._kinds)) + met.kinds[chosen]
        cells, sums = np.unique(codes, return_counts=True)
        rest, kinds = np.divmod(cells, max(1, len(self._kinds)))
        own, periods = np.divmod(rest, last + 1)
        values = np.zeros((len(cells), len(self._kinds)))
        if len(cells):
            values[np.arange(len(cells)), kinds] = sums
        keys = {"item": own, "all": np.zeros(len(own), np.int64)}
        keys |= {name: self.items.codes[name][own].astype(np.int64) for name in ("creator", "category")}
        return last, {name: Counts(one, periods, values, last) for name, one in keys.items()}

    def _met_before(self, name: str, keys: Places, rows: Rows) -> NDArray[np.float64]:
        """Sum the actions of each kind that came before the period of each row, float64 [N, K]."""
        return self._met[name].before(keys, np.minimum(self._periods(rows.times) + 1, self._met_last + 1))

    def _periods(self, times: Places) -> Places:
        return np.maximum(times // self._period - self._first, 0)

    def period_of(self, times: Places) -> Places:
        """Number the period of each time; counts are as of its start."""
        return self._periods(times)

    def offsets(self, rows: Rows) -> dict[str, Floats]:
        """Logit that the place of each showing adds, 0 where it is not known: event -> float32 [N]."""
        found = {}
        for event, (shift, _) in self.bias.items():
            places = np.minimum(rows.positions, SHARED_POSITIONS)
            found[event] = np.where(places >= 0, shift[np.maximum(places, 0)], 0).astype(np.float32)
        return found

    def met(self, place: int) -> bool:
        """Tell whether any user met an item, at any time."""
        return bool(self._met_ever[place])

    def cold(self, rows: Rows) -> NDArray[np.bool_]:
        """Tell which rows are of items that no user met and that were not shown before the period of the row."""
        own = np.maximum(rows.items, 0)
        shown = self._rates["item"].before(own + 1, self._as_of(rows)).sum(1)
        met = self._met_before("item", own, rows).sum(1)
        return np.asarray((rows.items < 0) | ((met == 0) & (shown == 0)), np.bool_)

    def _as_of(self, rows: Rows) -> Places:
        return np.minimum(self._periods(rows.times), self._last)

    def _keys(self, rows: Rows) -> dict[str, Places]:
        """Number what a rate is of, 0 where it is not known."""
        own = np.maximum(rows.items, 0)
        known = rows.items >= 0
        found = {"item": rows.items + 1}
        for name, codes in self.items.codes.items():
            found[name] = np.where(known, codes[own], 0).astype(np.int64)
        if self.items.tags.shape[1]:
            found["tag"] = np.where(known, self.items.tags[own, 0], 0).astype(np.int64)
        users = rows.users + 1
        found["user"] = users
        for name in ("creator", "category"):
            codes = self.items.codes[name]
            pairs = users * (int(codes.max(initial=0)) + 1) + found[name]
            found[f"user_{name}"] = np.where((users > 0) & (found[name] > 0), pairs, 0)
        return found

    def _count(self, past: Rows, keys: Places) -> Counts:
        values = []
        for event, own in past.labels.items():
            known = ~np.isnan(own)
            places = np.minimum(past.positions, SHARED_POSITIONS)
            looked = np.where(places >= 0, self.bias[event][1][np.maximum(places, 0)], 1.0)
            values += [np.where(known, own, 0), known * looked]
        stacked = np.stack(values, 1) if values else np.zeros((len(past), 0))
        return Counts(keys, self._periods(past.times), stacked.astype(np.float64), int(self._last))

    def make(self, rows: Rows, *, sequences: bool = True) -> Features:
        """Make the features of rows, each as of its own time."""
        columns: dict[str, Floats] = {}
        as_of = self._as_of(rows)
        overall = None if self._overall is None else self._overall.before(np.zeros(len(rows), np.int64), as_of)
        for name, keys in self._keys(rows).items():
            sums = self._rates[name].before(keys, as_of)
            for place, event in enumerate(self.events):
                hits, shown = sums[:, 2 * place], sums[:, 2 * place + 1]
                shown = np.where(keys > 0, shown, 0)
                if overall is None:
                    continue
                total_hits, total_shown = overall[:, 2 * place], overall[:, 2 * place + 1]
                with np.errstate(invalid="ignore", divide="ignore"):
                    base = total_hits / total_shown
                    rate = (hits + self._prior * base) / (shown + self._prior)
                columns[f"{name}.{event}"] = np.where(shown > 0, rate, np.nan).astype(np.float32)
            if self.events:
                columns[f"{name}.shown"] = np.log1p(np.where(keys > 0, sums[:, 1], np.nan)).astype(np.float32)
        columns |= self._of_items(rows)
        columns["hour"] = (rows.times // _HOUR_S % 24).astype(np.float32)
        groups, first = self._groups(rows)
        actions = self._actions(first[0], first[1], ACTIONS_READ)
        columns |= self._of_histories(rows, groups, actions)
        nearest = None
        if self._whole is not None:
            full = actions.seconds.shape[1] == ACTIONS_READ
            longer = np.flatnonzero(actions.seconds[:, 0] > 0) if full else np.empty(0, np.int64)
            likeness, nearest = self._whole.make(rows.items, groups, first, longer)
            columns |= likeness
        found = Features(tuple(columns), np.stack(list(columns.values()), 1).astype(np.float32))
        if sequences and self._kinds:
            found = Features(found.names, found.values, self._sequences(rows, groups, first, actions, nearest))
        return found

    def _sequences(
        self,
        rows: Rows,
        groups: Places,
        first: tuple[Places, Places],
        actions: Actions,
        found: FoundActions | None,
    ) -> Sequences:
        users, ends = first
        events = np.where(actions.items >= 0, actions.kinds + 1, 0).astype(np.int32)
        vectors = self.items.vectors
        return Sequences(
            rows.items.astype(np.int32),
            groups.astype(np.int32),
            actions.items[:, -self._length :],
            events[:, -self._length :],
            self.items.attributes(),
            ends,
            np.minimum(self._lengths(users), self._long_length),
            lambda chosen: self._read_known(users[chosen], ends[chosen], self._long_length),
            np.zeros((len(self.items.ids), 0), np.float32) if vectors is None else vectors,
            found,
        )

    def _read_known(self, users: Places, ends: Places, last: int | None) -> WholeHistories:
        """Read whole histories without actions of kinds beyond the first ones."""
        read = self._read(users, ends, last)
        known = read.events <= len(self._kinds)
        return WholeHistories(
            read.starts, np.where(known, read.items, -1), np.where(known, read.events, 0), read.seconds
        )

    def _groups(self, rows: Rows) -> tuple[Places, tuple[Places, Places]]:
        """Group rows by user and request: group of each row; user of each group and the second of its first row."""
        _, one, groups = np.unique(_grouped(rows, self._step), return_index=True, return_inverse=True)
        earliest = np.full(len(one), np.iinfo(np.int64).max)
        np.minimum.at(earliest, groups, rows.times)
        # in a log whose times are rounded down, an action of this hour may stand before what it came of
        ends = (earliest - self._rest) // self._unit * self._unit + self._rest
        return groups, (rows.users[one], np.maximum(ends, 0))

    def _of_items(self, rows: Rows) -> dict[str, Floats]:
        own, known = np.maximum(rows.items, 0), rows.items >= 0
        found = {"age_days": np.where(known, (rows.times - self.items.created[own]) / _DAY_S, np.nan)}
        for name, numbers in self.items.numbers.items():
            found[f"number.{name}"] = np.where(known, numbers[own], np.nan)
        overall = self._met_before("all", np.zeros(len(rows), np.int64), rows)
        means = overall / np.maximum(1.0, overall.sum(1, keepdims=True))

        def shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            smoothed = (sums + self._prior * means) / (sums.sum(1, keepdims=True) + self._prior)
            return np.asarray(smoothed, np.float64)

        met = self._met_before("item", own, rows)
        share = shares(met)
        for place, kind in enumerate(self._kinds):
            found[f"met.{kind}"] = np.where(known, np.log1p(met[:, place]), np.nan)
            found[f"met_share.{kind}"] = np.where(known & (met.sum(1) > 0), share[:, place], np.nan)
        for name in ("creator", "category"):
            codes = self.items.codes[name][own].astype(np.int64)
            share = shares(self._met_before(name, codes, rows))
            usable = known & (codes > 0)
            for place, kind in enumerate(self._kinds):
                found[f"{name}_met_share.{kind}"] = np.where(usable, share[:, place], np.nan)
        found["cold"] = self.cold(rows)
        return {name: np.asarray(values, np.float32) for name, values in found.items()}

    def _of_histories(self, rows: Rows, groups: Places, actions: Actions) -> dict[str, Floats]:
        """Ties of each candidate to the history of its user: the same item, creator, category, and vectors near."""
        kinds, total = len(self._kinds), len(rows)
        found: dict[str, Floats] = {}
        if not kinds:
            return found
        by_kind = np.stack([((actions.kinds == one) & (actions.items >= 0)).sum(1) for one in range(kinds)], 1)
        for place, kind in enumerate(self._kinds):
            found[f"user_met.{kind}"] = np.log1p(by_kind[groups, place]).astype(np.float32)
        latest = np.where(actions.items >= 0, actions.seconds, 0).max(1, initial=0)
        idle = np.where(latest[groups] > 0, (rows.times - latest[groups]) / _DAY_S, np.nan)
        found["idle_days"] = idle.astype(np.float32)
        codes = {"creator": self.items.codes["creator"], "category": self.items.codes["category"]}
        names = [f"same_{what}.{kind}" for what in ("item", *codes) for kind in self._kinds]
        names += [f"same_{what}_share.{kind}" for what in codes for kind in self._kinds]
        numbers = {name: np.append(own, np.float32(np.nan)) for name, own in self.items.numbers.items()}
        names += [f"same_{name}_less.{kind}" for name in numbers for kind in self._kinds]
        vectors = self.items.vectors
        if vectors is not None:
            has_vector = np.any(vectors != 0, axis=1)
            names += [f"{SIMILAR}{kind}.{bin_}" for kind in self._kinds for bin_ in range(len(BINS) - 1)]
            names += [f"{SIMILAR}max", f"{SIMILAR}mean_of_5", *(f"{SIMILAR}mean.{kind}" for kind in self._kinds)]
        values = np.full((total, len(names)), np.nan, np.float32)
        for start in range(0, total, _BLOCK):
            block = slice(start, min(start + _BLOCK, total))
            own, items = rows.items[block], actions.items[groups[block]]
            present = items >= 0
            usable = present.any(1) & (own >= 0)
            kind_of = actions.kinds[groups[block]]
            masks = [present & (kind_of == one) for one in range(kinds)]
            column = 0
            all_of = np.stack([mask.sum(1) for mask in masks], 1).astype(np.float64)
            shares: list[NDArray[np.float64]] = []
            for what in ("item", *codes):
                if what == "item":
                    same, known = items == own[:, None], usable
                else:
                    wanted = np.where(own >= 0, codes[what][np.maximum(own, 0)], 0)
                    same = codes[what][np.maximum(items, 0)] == wanted[:, None]
                    known = usable & (wanted > 0)
                counts = np.stack([(same & mask).sum(1) for mask in masks], 1).astype(np.float64)
                values[block, column : column + kinds] = np.where(known[:, None], np.log1p(counts), np.nan)
                column += kinds
                if what != "item":
                    usual = all_of / np.maximum(all_of.sum(1, keepdims=True), 1)
                    own_share = (counts + _FEW_ACTIONS * usual) / (counts.sum(1, keepdims=True) + _FEW_ACTIONS)
                    shares.append(np.where(known[:, None], own_share - usual, np.nan))
            for share in shares:
                values[block, column : column + kinds] = share
                column += kinds
            for number in numbers.values():
                theirs = number[items]
                for mask in masks:
                    some = mask & ~np.isnan(theirs)
                    mean = np.where(some, theirs, 0).sum(1) / np.maximum(some.sum(1), 1)
                    values[block, column] = np.where(some.any(1) & (own >= 0), number[own] - mean, np.nan)
                    column += 1
            if vectors is not None:
                mine = vectors[np.maximum(own, 0)]
                near = np.einsum("nld,nd->nl", vectors[np.maximum(items, 0)], mine)
                seen = present & has_vector[np.maximum(items, 0)]
                known = usable & seen.any(1) & has_vector[np.maximum(own, 0)]
                bins = np.digitize(near, BINS[1:-1])
                for mask in masks:
                    for bin_ in range(len(BINS) - 1):
                        count = ((bins == bin_) & mask & seen).sum(1)
                        values[block, column] = np.where(known, np.log1p(count), np.nan)
                        column += 1
                top = np.sort(np.where(seen, near, -np.inf), 1)[:, -5:]
                values[block, column] = np.where(known, top[:, -1], np.nan)
                finite = np.isfinite(top)
                mean = np.where(finite, top, 0).sum(1) / np.maximum(finite.sum(1), 1)
                values[block, column + 1] = np.where(known, mean, np.nan)
                for place, mask in enumerate(masks):
                    some = mask & seen
                    mean = np.where(some, near, 0).sum(1) / np.maximum(some.sum(1), 1)
                    values[block, column + 2 + place] = np.where(known & some.any(1), mean, np.nan)
        return found | {name: values[:, place] for place, name in enumerate(names)}


def _grouped(rows: Rows, step: int) -> Places:
    """Number the user and the step of seconds of each row."""
    steps = rows.times // step
    return np.asarray((rows.users + 1) * (int(steps.max(initial=0)) + 1) + steps, np.int64)
