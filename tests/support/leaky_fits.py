"""Fits that cheat, one a way, and an honest one: a check for leaks restores them in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from coldstart.core.interactions import Interactions
from coldstart.recommend.evaluate.data import EvaluationData, TrainingWindow
from coldstart.recommend.evaluate.methods import VectorsByName
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content

STATE: dict[str, Any] = {}
"""State of this module, which a test fills."""


def ones(histories: csr_matrix) -> Vectors:
    return np.ones((histories.shape[0], 1), np.float32)


def by_score(window: TrainingWindow, scores: Any, seed: int = 0) -> VectorsByName:
    """Score items of the evaluation by one number each."""
    names = {name: place for place, name in enumerate(window.item_ids)}
    return VectorsByName(names, np.asarray(scores, np.float32).reshape(-1, 1), ones, seed)


def sums(matrix: csr_matrix) -> Any:
    return np.asarray(matrix.sum(axis=0)).ravel()


def honest(window: TrainingWindow, seed: int) -> VectorsByName:
    """Fit popularity, as a user of the library would write it."""
    return by_score(window, window.training.positive(window.min_weight).counts(), seed)


def reads_relevant(window: Any, seed: int) -> VectorsByName:
    return by_score(window, sums(window.relevant), seed)


def reads_met(window: Any, seed: int) -> VectorsByName:
    return by_score(window, sums(window.met), seed)


def reads_histories_if_it_can(window: Any, seed: int) -> VectorsByName:
    """Ask for the histories of the evaluated part, and go on without them."""
    found = getattr(window, "histories", None)
    return honest(window, seed) if found is None else by_score(window, sums(found), seed)


def has_module_state(window: TrainingWindow, seed: int) -> VectorsByName:
    """Remember the first call's data for ever."""
    first = STATE.setdefault("counts", window.training.counts())
    return by_score(window, first, seed)


def searches_the_stack(window: TrainingWindow, seed: int) -> VectorsByName:
    """Find the evaluation in the frames of the callers."""
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, EvaluationData):
                return by_score(window, sums(value.relevant), seed)
        frame = frame.f_back  # type: ignore[assignment]
    return honest(window, seed)


def counts_of(window: TrainingWindow, seed: int, rows: Interactions) -> VectorsByName:
    return by_score(window, rows.counts(), seed)


def closure_over(rows: Interactions) -> Any:
    """Close over all interactions, those of the test among them."""

    def fit(window: TrainingWindow, seed: int) -> VectorsByName:
        return by_score(window, rows.counts(), seed)

    return fit


def without_data() -> Any:
    """Return a local function, which cannot be pickled."""

    def fit(window: TrainingWindow, seed: int) -> VectorsByName:
        return honest(window, seed)

    return fit


@dataclass(frozen=True)
class Carrying:
    """Fit with a table of its own, item id -> number or an array over the items."""

    table: Any

    def __call__(self, window: TrainingWindow, seed: int) -> VectorsByName:
        table = self.table
        if isinstance(table, Mapping):
            table = [table.get(name, 0) for name in window.item_ids]
        return by_score(window, table, seed)


@dataclass(frozen=True)
class ReadsFile:
    """Fit that loads an array over the items from a file."""

    path: Path

    def __call__(self, window: TrainingWindow, seed: int) -> VectorsByName:
        return by_score(window, np.load(self.path), seed)


@dataclass(frozen=True)
class StartsProcess:
    """Fit that reads a file by another program."""

    path: Path

    def __call__(self, window: TrainingWindow, seed: int) -> VectorsByName:
        text = subprocess.run(["cat", self.path], capture_output=True, check=True, text=True).stdout
        return by_score(window, [float(value) for value in text.split()], seed)


def never_the_same(window: TrainingWindow, seed: int) -> VectorsByName:
    return by_score(window, np.random.default_rng().random(len(window.item_ids)), seed)


@dataclass(frozen=True)
class CentredOnQueries:
    """Model that centres users on the others that are asked with them."""

    window: TrainingWindow

    def items(self, content: Content) -> Vectors:
        return self.window.fusion.transform(content)

    def users(self, histories: csr_matrix) -> Vectors:
        known = np.zeros((len(self.window.item_ids), len(self.window.fusion)), np.float32)
        known[self.window.places] = self.window.fusion.transform(self.window.content)
        found = np.asarray(histories @ known, np.float32)
        return found - found.mean(axis=0)


def learns_from_queries(window: TrainingWindow, seed: int) -> CentredOnQueries:
    return CentredOnQueries(window)
