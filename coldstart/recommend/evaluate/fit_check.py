"""Check what the fits of an evaluation read: each is repeated in a fresh process that has the training window alone.

A fit gets no answers: they are not in its window. It may find them elsewhere: in data that it carries (arguments, a
closure), in the state of a module, in a file, in the memory of the process. So each method is pickled before any fit,
and its pickle is searched for data; a second process restores it, fits it on a copy of the window, and answers the same
queries. Another answer there, a file that is opened, or a method that cannot be restored is a leak. Not seen: data
within the code of a module, and files that a library of an unknown name opens outside of Python. The models of the
first seed are all in the memory of that process at once.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import spaced
from coldstart.recommend.evaluate.data import EvaluationData, TrainingWindow
from coldstart.recommend.evaluate.fresh_fit import FreshFit, Queries, answer
from coldstart.recommend.evaluate.leaks import Leak
from coldstart.recommend.evaluate.methods import Method, Model
from coldstart.recommend.evaluate.splits import Split
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content

_USERS, _COLD, _WARM = 200, 1000, 500  # most users and items whose answers are compared
_TOP = 20
_ALIKE = 0.99  # of the places in lists, or of scores, that agree
_TOLERANCE = 1e-3  # of the deviation of a user's scores: products of other sizes are rounded otherwise
_ROUNDING = 1e-5  # of a user's largest score
_FEW = 64  # most entries of a setting; more are data
_MOST_ENTRIES = 2000  # of all settings together
_LONG_TEXT = 10_000
_LONG_VALUE = 1000  # of a variable of the environment, which a fresh process does without
_FEW_NAMES = 5  # ids of items or users that are a coincidence with settings
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from coldstart.recommend.evaluate.fresh_fit import main; main()"
)


@dataclass
class FitCheck:
    """Check of the fits of one evaluation.

    Attributes:
        fits: method -> its pickled fit; found: leaks so far; answers: method -> scores of the queries.
    """

    data: EvaluationData
    seed: int = 0
    fits: dict[str, bytes] = field(default_factory=dict)
    found: list[Leak] = field(default_factory=list)
    answers: dict[str, Vectors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sample the queries, whose answers are compared."""
        data = self.data
        users, cold, warm = data.query_users(), np.flatnonzero(data.cold), data.warm_places
        items = np.concatenate([spaced(cold, _COLD), spaced(warm, _WARM)])
        self.queries = Queries(data.content.take(items), data.histories[spaced(users, _USERS)])

    def add(self, method: Method) -> None:
        """Pickle a method before any fit, and search what it carries."""
        if method.sees_test:
            return
        packed, found = pickled_fit(method, self.data)
        self.found += found
        if packed is not None and not found:
            self.fits[method.name] = packed

    def ask(self, method: Method, model: Model) -> None:
        """Keep the answers of a model that was fitted on the window, and compare them with those to other queries."""
        if method.sees_test:
            return
        asked = _taken(self.data.window)
        if asked:
            self.found.append(Leak("fit_reads_answers", method.name, _listed(asked)))
        own = answer(model, self.queries)
        self.answers[method.name] = own
        content, histories = self.queries.content, self.queries.histories
        rows, columns = np.arange(len(own))[::-2], np.arange(len(content))[::-2]
        again = answer(model, Queries(content.take(columns), histories[rows]))
        first = own[np.ix_(rows, columns)]
        deviation, size = own[rows].std(axis=1, keepdims=True), np.abs(own[rows]).max(axis=1, keepdims=True)
        near = np.abs(again - first) <= _TOLERANCE * deviation + _ROUNDING * size
        if not np.mean(near) >= _ALIKE:
            detail = f"{1 - np.mean(near):.0%} of the scores change when half of users and items are queried"
            self.found.append(Leak("answers_depend_on_queries", method.name, detail))

    def finish(self, step: Callable[[str], None] = lambda name: None) -> list[Leak]:
        """Repeat the fits in a fresh process and compare their answers; `step` is called after each fit there."""
        named = {one.where for one in self.found}
        fits = {name: packed for name, packed in self.fits.items() if name in self.answers and name not in named}
        results = _in_fresh_process(self.data.window, self.queries, fits, self.seed, step)
        other = []
        for name in fits:
            leak = _fault(name, results[name])
            if leak is not None:
                self.found.append(leak)
            elif not _alike(self.answers[name], results[name].scores):
                other.append(name)
        if other:
            again = _in_fresh_process(
                self.data.window, self.queries, {name: fits[name] for name in other}, self.seed, lambda name: None
            )
            for name in other:
                first, second = results[name].scores, again[name].scores
                repeats = first is not None and second is not None and _alike(first, second)
                kind = "fit_has_state" if repeats else "not_repeatable"
                detail = f"seed {self.seed} fitted twice in fresh processes gave two models"
                if repeats:
                    detail = f"{_differing(self.answers[name], results[name].scores)} of the compared lists"
                self.found.append(Leak(kind, name, detail))
        return self.found


def pickled_fit(method: Method, data: EvaluationData) -> tuple[bytes | None, list[Leak]]:
    """Pickle the fit of a method, and name what it carries besides settings."""
    carried = _CarriedData(data)
    try:
        packed = carried.packed(method.fit)
    except Exception as error:  # whatever an object's own code for pickling throws
        notes = carried.notes or _closure_notes(method.fit, data)
        if notes:
            return None, [Leak("fit_carries_data", method.name, _listed(notes))]
        return None, [Leak("fit_cannot_be_checked", method.name, f"it cannot be pickled: {error}")]
    if carried.in_main:
        return None, [Leak("fit_cannot_be_checked", method.name, f"{carried.in_main} is defined in __main__")]
    notes = carried.described()
    return packed, [Leak("fit_carries_data", method.name, _listed(notes))] if notes else []


class _CarriedData(pickle.Pickler):
    """Pickler that notes data among what it pickles: tables, arrays, long texts, ids of items or users."""

    def __init__(self, data: EvaluationData) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file, protocol=4)  # buffers within the pickle
        rows = data.split.interactions
        self.known = {*rows.item_ids, *rows.user_ids}
        self.names: set[str] = set()
        self.notes: list[str] = []
        self.entries = 0
        self.in_main = ""

    def packed(self, value: Any) -> bytes:
        """Pickle a value."""
        self.dump(value)
        return self.file.getvalue()

    def persistent_id(self, obj: Any) -> None:
        """Note an object; each is pickled as usual."""
        if isinstance(obj, str):
            self.entries += 1
            if obj in self.known:
                self.names.add(obj)
            if len(obj) > _LONG_TEXT:
                self._note(f"a text of {len(obj):,} characters")
        elif isinstance(obj, int | float | complex):
            self.entries += 1
        elif isinstance(obj, bytes | bytearray):
            if len(obj) > _LONG_TEXT:
                self._note(f"{len(obj):,} bytes")
        elif isinstance(obj, Interactions | Split | EvaluationData | TrainingWindow | Content):
            count = len(obj) if isinstance(obj, Interactions | Content) else 0
            self._note(type(obj).__name__ + (f" of {count:,} rows" if count else ""))
        elif isinstance(obj, list | tuple | set | frozenset | dict):
            if len(obj) > _FEW:
                self._note(f"{type(obj).__name__} of {len(obj):,} entries")
        elif getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
            self.in_main = str(obj.__qualname__)
        elif (shape := _shape(obj)) and np.prod(shape) > _FEW:
            self._note(f"{type(obj).__name__} {' x '.join(map(str, shape))}")

    def described(self) -> list[str]:
        """List what is data."""
        found = list(self.notes)
        if len(self.names) >= _FEW_NAMES:
            found.append(f"the ids of {len(self.names):,} items or users, {min(self.names)!r} among them")
        if not found and self.entries > _MOST_ENTRIES:
            found.append(f"{self.entries:,} values")
        return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, a sparse matrix, a tensor or a table; () of anything else."""
    found = () if isinstance(value, type) else getattr(value, "shape", ())
    return tuple(found) if isinstance(found, tuple) and all(isinstance(side, int) for side in found) else ()


def _closure_notes(fit: Any, data: EvaluationData) -> list[str]:
    """Name data in the closure of a function that cannot be pickled."""
    while isinstance(fit, partial):
        fit = fit.func
    found = []
    if inspect.isfunction(fit):
        for name, value in inspect.getclosurevars(fit).nonlocals.items():
            carried = _CarriedData(data)
            with suppress(Exception):  # what was noted before counts
                carried.packed(value)
            found += [f"{one} in its closure as {name!r}" for one in carried.described()]
    return found


def _in_fresh_process(
    window: TrainingWindow, queries: Queries, fits: Mapping[str, bytes], seed: int, step: Callable[[str], None]
) -> dict[str, FreshFit]:
    """Fit methods in a fresh process, then ask their models there."""
    results = {name: FreshFit() for name in fits}
    if not fits:
        return results
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={name: value for name, value in os.environ.items() if len(value) <= _LONG_VALUE or "PATH" in name},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((window.fresh(), seed, dict(fits)), process.stdin, protocol=5)
            process.stdin.flush()
            for _ in fits:
                step(pickle.load(process.stdout))
            pickle.dump(queries, process.stdin, protocol=5)
            process.stdin.close()
            results.update(pickle.load(process.stdout))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            ended = f"the process ended with code {process.wait()}" + (f": {lines[-1]}" if lines else "")
            for result in results.values():
                result.fault = ended
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
    return results


def _fault(name: str, result: FreshFit) -> Leak | None:
    """Name what a fresh process tells by itself, without comparing answers."""
    if result.refused:
        return Leak("fit_reads_answers", name, _listed(result.refused))
    if result.reads:
        return Leak("fit_reads_files", name, _listed(result.reads))
    if result.fault is not None and not result.unpickled:
        return Leak("fit_cannot_be_checked", name, f"a fresh process could not restore it: {result.fault}")
    if result.fault is not None:
        return Leak("fit_has_state", name, f"a fresh process failed: {result.fault}")
    return None


def _taken(window: TrainingWindow) -> list[str]:
    """Return what a fit asked a window for in vain, and forget it for the next fit."""
    found = sorted(window.refused)
    window.refused.clear()
    return found


def _alike(first: Vectors, second: Vectors | None) -> bool:
    """Compare answers: to the bit, or else by the places in each user's list, as threads may round otherwise."""
    if second is None or first.shape != second.shape:
        return False
    return np.array_equal(first, second, equal_nan=True) or bool(_agreement(first, second) >= _ALIKE)


def _differing(first: Vectors, second: Vectors | None) -> str:
    return "all" if second is None or first.shape != second.shape else f"{1 - _agreement(first, second):.0%}"


def _agreement(first: Vectors, second: Vectors) -> float:
    count = min(_TOP, max(1, first.shape[1] // 4))
    lists = [np.argsort(-scores, axis=1, kind="stable")[:, :count] for scores in (first, second)]
    return float(np.mean(lists[0] == lists[1]))


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(found[:3])
    return shown if len(found) <= 3 else f"{shown} and {len(found) - 3} more"
