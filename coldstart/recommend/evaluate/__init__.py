"""Evaluate recommendations of new items: one split, every method fitted inside it, full rankings, intervals.

Works on plain data; `coldstart.recommend.evaluate.workspace` reads a workspace. Fits get training rows and training
items' content alone, and a check that repeats them in a fresh process tells whether they read anything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend import count_attributes
from coldstart.recommend.evaluate import leaks, splits
from coldstart.recommend.evaluate.data import (
    EvaluationData,
    HeldOutError,
    build_data,
    exclude_near_duplicates,
    near_duplicate_groups,
)
from coldstart.recommend.evaluate.fit_check import FitCheck
from coldstart.recommend.evaluate.measures import (
    ListInputs,
    ListRow,
    ListRows,
    MethodResult,
    Task,
    average_seeds,
    build_task,
    evaluate_lists,
    evaluate_model,
)
from coldstart.recommend.evaluate.methods import (
    CHOSEN,
    CLOSED,
    TRAINED,
    Method,
    Model,
    SelectedModel,
    select_methods,
)
from coldstart.recommend.evaluate.report import RecommendReport, build_report
from coldstart.recommend.evaluate.splits import Split
from coldstart.recommend.model.fitted import Behaviour
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.selection import SelectionSettings

__all__ = ["EvaluateSettings", "RecommendReport", "build_split", "count_steps", "evaluate"]


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of an evaluation.

    Attributes:
        methods: names of methods; None: all.
        part: evaluated part: `test`; or `valid`, which may be evaluated as often as needed.
        seeds: fits of each seeded method, whose mean is shown.
        ks: cuts of the lists.
        min_weight: least weight of a row that counts as a like; None: above 0.
        warm_min: least users of a warm item in the training window; None: 5 in a split by time, else 1.
        fusing: settings of `coldstart.recommend.model.fusion.fit_fusion` (`weights`, `power`, `labels`, `dims`) for all
            methods but the selected one, which selects its own.
        teacher: collaborative filtering that mappers are fitted to: `als`, `bpr` or `pure_svd`; dim: its dimensions.
        near: cosine from which on a new item is a near duplicate of a training item and left out; None: none is.
        early: number of first users of a new item that are its early audience; audience_k: length of an item's list of
            users, at most a tenth of them.
        draws: resamples of the bootstraps.
        check: fit every method once more, in a fresh process, to find leaks.
        count_attributes: fit on attributes that count interactions, too.
        mappers: method -> settings of its mapper; choice: settings of the selected method.
        seed: of the split and the resamples.
    """

    methods: tuple[str, ...] | None = None
    part: str = "test"
    seeds: int = 5
    ks: tuple[int, ...] = (10, 20, 50)
    min_weight: float | None = None
    warm_min: int | None = None
    fusing: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = "als"
    dim: int = 64
    near: float | None = 0.98
    early: int = 50
    audience_k: int = 100
    draws: int = 2000
    check: bool = True
    count_attributes: bool = False
    mappers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    choice: SelectionSettings | None = None
    device: str = "auto"
    seed: int = 0


def count_steps(settings: EvaluateSettings) -> int:
    """Count the calls of `step` by `evaluate`, if every method can be fitted."""
    given = select_methods(settings.methods, mappers=settings.mappers, choice=settings.choice, near=settings.near)
    fits = sum(settings.seeds if one.is_seeded else 1 for one in given)
    return fits + (sum(not one.sees_test for one in given) if settings.check else 0)


def build_split(
    interactions: Interactions, content: Content, kind: str, settings: EvaluateSettings | None = None
) -> Split:
    """Split interactions over the items of the content, without new items that are near duplicates of training items.

    Args:
        kind: `time`, `items` or `coldrec`.

    Raises:
        ColdstartError: there is no such kind, or a side is empty.
    """
    settings = settings or EvaluateSettings()
    rows = interactions.over(content.item_ids)
    warm: dict[str, Any] = {} if settings.warm_min is None else {"warm_min": settings.warm_min}
    if kind == "time":
        found = splits.split_by_time(rows, **warm)
    elif kind in ("items", "coldrec"):
        groups = None if settings.near is None else near_duplicate_groups(content, settings.near)
        make = splits.split_by_items if kind == "items" else splits.split_coldrec
        found = make(rows, groups=groups, seed=settings.seed, **warm)
    else:
        raise ColdstartError(f"there is no split {kind!r}: choose one of {', '.join(splits.KINDS)}")
    return found if settings.near is None else exclude_near_duplicates(found, content, settings.near)


def evaluate(
    interactions: Interactions,
    content: Content,
    split: Split | str = "time",
    settings: EvaluateSettings | None = None,
    *,
    folder: Path | None = None,
    own: Sequence[Method] = (),
    listed: Callable[[ListInputs], ListRows] | None = None,
    step: Callable[[str], None] = lambda name: None,
) -> RecommendReport:
    """Fit and evaluate every method on one split.

    Args:
        split: over the content's items, whose rows are then evaluated; or a kind of split, see `build_split`.
        folder: where the split is written, and read again at the end; None: nowhere.
        own: methods of the caller, which follow those of the settings.
        listed: builds rows of lists, which stand last.
        step: called with a method's name after each fit, and each check.

    Raises:
        LeakError: training data or a fit has seen test data.
        ColdstartError: a side of the split is empty, no method can be fitted, or one of `own` has a name that is taken
            or wants to see the test.
    """
    settings = settings or EvaluateSettings()
    if isinstance(split, str):
        split = build_split(interactions, content, split, settings)
    if folder is not None:
        splits.write_split(split, folder)
    fitting: dict[str, Any] = {"teacher": settings.teacher, "dim": settings.dim, "fusing": settings.fusing}
    data = build_data(split, content, settings.part, min_weight=settings.min_weight, **fitting)
    traces = _count_attributes(data)
    counted = count_attributes.to_dict(traces, _gain_share(data, traces, settings), settings.count_attributes)
    if traces and not settings.count_attributes:
        bare = count_attributes.without_attributes(content, traces, settings.fusing.get("weights"))
        data = build_data(split, bare, settings.part, min_weight=settings.min_weight, **fitting)
    given = select_methods(settings.methods, mappers=settings.mappers, choice=settings.choice, near=settings.near)
    given = _with_own(given, own)
    found = leaks.check_data(data, threshold=settings.near)
    check = FitCheck(data) if settings.check else None
    if check is not None:
        for one in given:
            check.add(one)
        found += check.found
    if found:
        raise leaks.leak_error(found)
    task = build_task(
        data,
        _similarity_space(content),
        ks=settings.ks,
        audience_k=settings.audience_k,
        early=settings.early,
        device=settings.device,
    )
    results: dict[str, MethodResult] = {}
    chosen: Model | None = None
    left_out: dict[str, str] = {}
    for one in given:
        try:
            results[one.name], model = _evaluate_method(one, data, task, settings, check, step)
            chosen = model if one.name == CHOSEN else chosen
        except HeldOutError:
            found.append(leaks.Leak("fit_reads_answers", one.name, ", ".join(sorted(data.window.refused))))
        except ColdstartError as error:
            left_out[one.name] = str(error)
        data.window.refused.clear()
    if check is not None:
        found += check.found or ([] if found else check.finish(step))
    rows = ListRows([])
    if listed is not None and not found:
        rows = listed(ListInputs(data, task, partial(_chosen_behaviour, data, settings, chosen)))
        results |= {one.name: evaluate_lists(one.lists, data, task, one.fit_s) for one in rows.rows}
        left_out |= rows.left_out
        if data.window.refused:
            found.append(leaks.Leak("fit_reads_answers", "ranked", ", ".join(sorted(data.window.refused))))
    if folder is not None:
        found += leaks.check_data(data, threshold=None, folder=folder)
    if found:
        raise leaks.leak_error(found)
    if not results:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ColdstartError(f"no method could be fitted: {reasons}")
    kept: list[Method | ListRow] = [*(one for one in given if one.name in results), *rows.rows]
    checked = [kind for kind in leaks.KINDS if settings.check or kind not in leaks.FIT_KINDS]
    report = build_report(data, task, kept, results, left_out, checked, settings)
    return replace(report, count_attributes=counted, notes=list(rows.notes))


def _chosen_behaviour(data: EvaluationData, settings: EvaluateSettings, model: Model | None) -> Behaviour:
    """Fit the model that `finetune behaviour` would select, where no row has."""
    if model is None:
        (method,) = select_methods((CHOSEN,), choice=settings.choice, near=settings.near)
        model = method.fit_on(data, 0)
    assert isinstance(model, SelectedModel)
    return model.behaviour


def _count_attributes(data: EvaluationData) -> list[count_attributes.CountAttribute]:
    """Find attributes that count interactions, where fits read attributes."""
    if not data.fusing.get("labels", True):
        return []
    rows, content = data.window.training_data()
    return count_attributes.find_count_attributes(content, rows.counts(), data.fusing.get("weights"))


def _gain_share(
    data: EvaluationData, traces: Sequence[count_attributes.CountAttribute], settings: EvaluateSettings
) -> count_attributes.GainShare | None:
    """Measure what rests on such attributes."""
    if not traces:
        return None
    held = np.flatnonzero(data.cold)
    users = data.query_users()
    return count_attributes.gain_share(
        data.training,
        data.content,
        traces,
        held,
        data.histories[users],
        data.relevant[users][:, held],
        min_weight=data.min_weight,
        draws=settings.draws,
        seed=settings.seed,
    )


def _with_own(given: list[Method], own: Sequence[Method]) -> list[Method]:
    names = {one.name for one in given}
    for one in own:
        if one.name in names:
            raise ColdstartError(f"there is already a method {one.name!r}: name this one otherwise")
        if one.sees_test:
            raise ColdstartError(f"method {one.name!r} wants to see the test: only the ceiling may")
        names.add(one.name)
    return [*given, *own]


def _evaluate_method(
    one: Method,
    data: EvaluationData,
    task: Task,
    settings: EvaluateSettings,
    check: FitCheck | None,
    step: Callable[[str], None],
) -> tuple[MethodResult, Model]:
    """Fit and evaluate one method; the result is the mean of its seeds, the model that of the last."""
    found = []
    for seed in range(settings.seeds if one.is_seeded else 1):
        if one.role in (CLOSED, TRAINED):
            data.window.problem(seed)  # built once for all mappers, outside the timing of each
        started = time.perf_counter()
        model: Model = one.fit_on(data, seed)
        found.append(evaluate_model(model, data, task, time.perf_counter() - started))
        step(one.name)
        if check is not None and seed == check.seed:
            check.ask(one, model)
    return average_seeds(found), model


def _similarity_space(content: Content) -> np.ndarray:
    """Concatenate all spaces, each of length one: the space in which diversity of lists is measured."""
    return np.concatenate([unit(block) for block in content.blocks.values()], axis=1).astype(np.float32)
