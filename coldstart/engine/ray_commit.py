"""Commits of one stage on Ray: what parts came to, made part of the tables by the driver alone."""

from __future__ import annotations

import time
from collections import defaultdict
from types import TracebackType
from typing import Self

from coldstart.engine.local import Ran
from coldstart.engine.ray_actors import Outcome
from coldstart.pipeline import Engine
from coldstart.stage import MapStage
from coldstart.workspace import Store
from coldstart.workspace.fragments import Place, commit


class Committer:
    """Gathers outcomes and commits them every N rows or T seconds. Leaving the `with` block commits what is left, also
    after an error.

    Rows go first, with those that they replace and those of items turned away in one transaction, verdicts second: a
    kill in between leaves work undone, never a row without its item.
    """

    def __init__(self, workspace: Store, stage: MapStage, target: Place, settings: Engine) -> None:
        self._workspace = workspace
        self._stage = stage
        self._target = target
        self._settings = settings
        self._waiting: list[Outcome] = []
        self._since = self._began = time.monotonic()
        self._compute_s: dict[str, float] = defaultdict(float)
        self._start_s = 0.0
        self._done = self._lost = self._commits = 0
        self._cost = 0.0
        self.parts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.commit()

    def add(self, outcome: Outcome) -> None:
        """Take what became of one part, and commit if it is time."""
        if outcome.actor:
            self._start_s = self._start_s or time.monotonic() - self._began - outcome.compute_s
            self._compute_s[outcome.actor] += outcome.compute_s
            self.parts += 1
        self._done += outcome.done
        self._lost += len(outcome.verdicts)
        self._cost += outcome.cost
        self._waiting.append(outcome)
        rows = sum(one.done + len(one.verdicts) for one in self._waiting)
        if rows >= self._settings.commit_rows or time.monotonic() - self._since >= self._settings.commit_s:
            self.commit()

    def commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            gone = [address for one in waiting for address in one.gone]
            commit(self._target, [text for one in waiting for text in one.fragments], gone)
            self._workspace.delete_verdicts(self._stage.name, [item for one in waiting for item in one.settled])
            self._workspace.record([row for one in waiting for row in one.verdicts])
            self._commits += 1
        self._since = time.monotonic()

    def wait_share(self, seconds: float) -> float:
        """Share of the time that the models did not work, as a mean over the actors."""
        return max(0.0, 1.0 - self._mean_compute_s() / max(seconds, 1e-9))

    def ran(self, seconds: float) -> Ran:
        """The pass as `run_map` tells of it. Writing fragments counts as computing."""
        compute_s = self._mean_compute_s()
        wait_s = max(0.0, seconds - compute_s)
        return Ran(
            self._done,
            self._lost,
            seconds,
            wait_s,
            compute_s,
            self._commits,
            self._cost,
            start_s=min(wait_s, self._start_s),
        )

    def _mean_compute_s(self) -> float:
        return sum(self._compute_s.values()) / max(len(self._compute_s), 1)
