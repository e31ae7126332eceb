"""Hand the results of one pass over an item's video from the stage that runs to those that run after it.

The first stage of a run that decodes an item's video collects, on the way, what later stages need of the same frames
(`coldstart.media.one_pass`). Each of them finds its data here in its turn, under the key that its row will carry, and
makes its row as it would alone: gates, keys and verdicts are its own. Data are small rows, packed and bounded in
memory; what found no room, and what a run that was killed had collected, is decoded again.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coldstart.core.stage import CatalogStage, MapStage, Prepare, Reject, Work, is_map, is_source
from coldstart.media.guard import media_of_role
from coldstart.media.one_pass import OnePass, SharedData

if TYPE_CHECKING:
    from coldstart.store.freshness import Assessment

_MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class _Other:
    """Stage that takes part in the pass of an earlier one; `keys`: of the rows that it will make, by item."""

    prepare: Prepare
    deadline_s: float
    keys: Mapping[str, str]


class SharedPasses:
    """Plan of the passes of one run, and the data that later stages have not taken yet."""

    def __init__(self, stages: Iterable[MapStage | CatalogStage] = ()) -> None:
        """Share passes among these stages, in the order in which they run."""
        self.stages = {stage.name: stage for stage in stages}
        self._others: dict[str, dict[str, _Other]] = {}
        self._kept: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._bytes = 0

    def plan(self, stage: MapStage, chosen: Collection[str], assess: Callable[[MapStage], Assessment]) -> None:
        """Plan which later stages take part in the passes of a stage over the chosen items.

        Args:
            assess: computes the state of a later stage's items, those that gates will block included.
        """
        self._others[stage.name] = {}
        items = {item for item in chosen if (stage.name, item) not in self._kept}
        if not items or stage.name not in self.stages or not _takes_part(stage):
            return
        names = list(self.stages)
        for name in names[names.index(stage.name) + 1 :]:
            other = self.stages[name]
            if not is_map(other) or not _takes_part(other) or not _has_all(stage, other):
                continue
            found = assess(other)
            keys = {item: found.expected[item] for item in found.stale if item in items}
            if keys:
                self._others[stage.name][name] = _Other(other.preparer(), other.deadline_s, keys)

    def share(self, stage: str, prepare: Prepare, work: Work, deadline_s: float) -> tuple[OnePass, float] | None:
        """Return the preparer of one pass over an item, and its deadline in seconds; None where no other stage needs
        it."""
        named = self._others.get(stage, {})
        others = {name: other for name, other in named.items() if work.item_id in other.keys}
        if not others or isinstance(work.row, Reject) or not media_of_role(work.row, "video"):
            return None
        preparers = {name: other.prepare for name, other in others.items()}
        return OnePass(prepare, preparers), deadline_s + sum(other.deadline_s for other in others.values())

    def keep(self, stage: str, work: Work, shared: SharedData) -> None:
        """Keep what a pass found for other stages, while there is room."""
        for name, found in shared.others.items():
            packed = pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)
            if self._bytes + len(packed) <= _MOST_BYTES:
                self._bytes += len(packed)
                self._kept[name, work.item_id] = self._others[stage][name].keys[work.item_id], packed

    def take(self, stage: str, work: Work) -> tuple[Any, float] | None:
        """Take the data and cost that an earlier stage's pass found for an item, once; None where there are none."""
        key, packed = self._kept.pop((stage, work.item_id), ("", b""))
        self._bytes -= len(packed)
        if not packed or key != work.key:
            return None
        data, cost = pickle.loads(packed)
        return data, cost


def _takes_part(stage: MapStage | CatalogStage) -> bool:
    return is_map(stage) and not is_source(stage) and stage.isolated and hasattr(type(stage.preparer()), "collector")


def _has_all(stage: MapStage, other: MapStage) -> bool:
    """Tell whether a row that one stage prepares has every field that another one prepares."""
    if other.reads or other.item_fields is None:
        return not other.reads and stage.item_fields is None
    return stage.item_fields is None or set(other.item_fields) <= set(stage.item_fields)


_current: ContextVar[SharedPasses | None] = ContextVar("_current", default=None)


@contextmanager
def share_passes(stages: Iterable[MapStage | CatalogStage]) -> Iterator[None]:
    """Share passes over videos among these stages, which run within the block in this order."""
    token = _current.set(SharedPasses(stages))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> SharedPasses:
    """Return the passes of the block; outside of one, passes that no stage shares."""
    return _current.get() or SharedPasses()
