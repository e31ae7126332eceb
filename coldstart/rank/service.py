"""Rank candidates of a user by the fitted ranker of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError
from coldstart.rank.data import read_data
from coldstart.rank.features import Rows
from coldstart.rank.fit_stage import load_ranker, rank_stage, sids_of
from coldstart.rank.model import score
from coldstart.store import Store

MOST_ITEMS = 10_000
"""Candidates of one request."""
_LATEST_S = 253_402_300_799


@dataclass(frozen=True)
class RankedItem:
    """One candidate.

    Attributes:
        state: `known`; `new`, without interactions and showings; or `unknown`, in neither catalogue nor log.
        p: event -> probability, or score where the event is not calibrated; empty for an unknown item.
        interval: event -> ends of the 95 % interval of its probability, of calibrated events: of the mean outcome of
            showings with that prediction on a day to come, see `coldstart.rank.calibration`.
        score: weighted sum of log p, by which the list is ordered; None for an unknown item.
    """

    item_id: str
    rank: int | None
    state: str
    score: float | None
    p: dict[str, float]
    interval: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Ranked:
    """Candidates of one request, best first, unknown ones last.

    Attributes:
        at: time of the request, seconds; known_user: met or shown anything before; actions: of his history that were
            read; dropped: those that are not before the request.
        calibrated: event -> whether its p is a probability; otherwise it is a score.
    """

    user: str
    at: int
    model: str
    items: tuple[RankedItem, ...]
    calibrated: dict[str, bool]
    weights: dict[str, float]
    known_user: bool
    actions: int
    dropped: int

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        at = datetime.fromtimestamp(self.at, UTC).isoformat()
        return {**asdict(self), "at": at, "items": [asdict(item) for item in self.items]}


class RankService:
    """Fitted ranker over the showings, items and histories of a workspace, read once.

    Holds the showings of the workspace as counts, and the item table; histories stay on disk.

    Raises:
        NotFitted: nothing is fitted.
        ColdstartError: the fit is broken, or of other semantic IDs.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        stage = rank_stage(pipeline)
        codes, version = sids_of(store, pipeline)
        self.fit = load_ranker(stage, store, version)
        self.data = read_data(store, stage.settings, codes, events=self.fit.model.events, names=self.fit.names)
        self._places = {item: place for place, item in enumerate(self.data.items.ids)}
        self._known = self.data.catalogue | {self.data.items.ids[one] for one in np.unique(self.data.rows.items)}
        self._maker = self.data.maker(self.data.rows, stage.settings, self.fit.vectors)

    def rank(self, user: str, items: Sequence[str], at: int) -> Ranked:
        """Rank items for a user at a time, in seconds; each item once.

        Raises:
            ColdstartError: there are no items, or too many, or the time is out of range.
        """
        wanted = list(dict.fromkeys(items))
        if not wanted or len(wanted) > MOST_ITEMS:
            raise ColdstartError(f"{len(wanted):,} items to rank: give 1 to {MOST_ITEMS:,}")
        if not 0 <= at <= _LATEST_S:
            raise ColdstartError(f"time {at} is out of range: give seconds since 1970")
        met = [item for item in wanted if item in self._known or (item in self._places and self._was_met(item))]
        rows = Rows(
            np.full(len(met), self.data.number_of(user), np.int64),
            np.array([self._places[item] for item in met], np.int64),
            np.full(len(met), at, np.int64),
            np.full(len(met), -1, np.int32),
        )
        model, found = self.fit.model, list[RankedItem]()
        if met:
            features = self._maker.make(rows, sequences=bool(model.networks)).over(model.names)
            cold = self._maker.cold(rows)
            p = model.predict(features, cold)
            own = score(p, self.fit.weights)
            ends = {event: model.calibration.interval(event, values, cold) for event, values in p.items()}
            for rank, place in enumerate(np.lexsort((np.arange(len(met)), -own)).tolist(), 1):
                chances = {event: float(values[place]) for event, values in p.items()}
                state = "new" if cold[place] else "known"
                intervals = {event: (float(two[0][place]), float(two[1][place])) for event, two in ends.items() if two}
                found.append(RankedItem(met[place], rank, state, float(own[place]), chances, intervals))
        there = set(met)
        found += [RankedItem(item, None, "unknown", None, {}, {}) for item in wanted if item not in there]
        every, before = self.data.history_length(user, None), self.data.history_length(user, at)
        return Ranked(
            user,
            at,
            model.kind,
            tuple(found),
            {event: model.calibration.calibrated(event) for event in model.events},
            dict(self.fit.weights),
            self.data.number_of(user) >= 0,
            before,
            every - before,
        )

    def _was_met(self, item: str) -> bool:
        return self._maker.met(self._places[item])
