"""Rows of recommendation: new items for users by its own evaluation, and what the fit of behaviour measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coldstart.core.pipeline import Pipeline
from coldstart.evaluate.capability import Context
from coldstart.evaluate.rows import Baseline, Row, interval_of, judged, not_fitted
from coldstart.metrics.intervals import FEWEST_COMPARED

if TYPE_CHECKING:
    from coldstart.recommend.evaluate import EvaluateSettings

METHODS = ("random", "content_mean", "chosen")
"""Methods of `evaluate recommend` that are compared: two baselines, and what `finetune behaviour` would choose."""
_FIT_S = 10.0  # of a fit of the chosen mapper on 1,000 interactions, up to its budget
DEFAULT_S = 600.0
"""Budget of a fit of behaviour in a pipeline without that stage, in processor seconds."""
QUICK_S = 60.0
"""Budget of it in a quick evaluation."""


# -- recommendation


def recommend_rows(context: Context) -> list[Row]:
    """Measure recommendations of new items as `evaluate recommend --methods` does."""
    from coldstart.recommend.evaluate import EvaluateSettings
    from coldstart.recommend.evaluate.splits import NothingToEvaluate
    from coldstart.recommend.evaluate.workspace import evaluate_store

    question = "New items that a user goes on to like are in his list"
    if not context.interactions:
        why = "the workspace has no interactions"
        command = context.command("ingest --interactions FILE")
        return [Row("recommend", question, why=f"{why}: `{command}`", command=command)]
    pipeline = _within(context.pipeline, QUICK_S) if context.quick else context.pipeline
    settings = EvaluateSettings(methods=METHODS, seeds=1 if context.quick else 5, check=False)
    split = _split(context, pipeline, settings)
    how = "" if split == "time" else f" --split {split}"
    command = context.command(f"evaluate recommend{how} --methods {','.join(METHODS)}")
    try:
        report = evaluate_store(context.store, pipeline, context.progress, split=split, settings=settings)
    except NothingToEvaluate as few:
        return [Row("recommend", question, verdict="few", why=str(few), command=command)]
    found = context.details["recommend"] = report.to_dict()
    return _recommend_rows(found, command)


def _split(context: Context, pipeline: Pipeline, settings: EvaluateSettings) -> str:
    """Choose the split: by time, as it happened; where too few likes are of new items, items drawn as if new."""
    from coldstart.core.progress import SilentProgress
    from coldstart.recommend.evaluate.splits import NothingToEvaluate
    from coldstart.recommend.evaluate.workspace import evaluate_store

    try:
        tried = evaluate_store(
            context.store, pipeline, SilentProgress(), settings=replace(settings, methods=METHODS[:1], seeds=1)
        )
    except NothingToEvaluate:  # no item came late enough
        return "items"
    new = tried.counts["sets"].get("cold", {"relevant": 0})
    return "items" if new["relevant"] < FEWEST_COMPARED else "time"


def _recommend_rows(found: Mapping[str, Any], command: str) -> list[Row]:
    question = "New items that a user goes on to like are in his list"
    methods, headline = found["methods"], found["headline"]
    if "chosen" not in methods:
        why = found["left_out"].get("chosen", "")
        return [Row("recommend", question, verdict="not_fitted", why=why, command=command)]
    name = "cold"
    if name not in found["counts"]["sets"]:
        why = "nobody with a history likes a new item"
        return [Row("recommend", question, verdict="few", why=why, command=command)]
    counts, own = found["counts"]["sets"][name], methods["chosen"]["sets"][name]
    size = int(headline[0].partition("@")[2])
    is_share = counts["candidates"] > size  # else a list has all of them
    measure = headline[0] if is_share else headline[1]
    statement = f"Of the new items that a user likes later, his list of {size} has"
    if not is_share:
        statement = "New items that a user likes later are ranked with"
    split = f"split by {found['split']['kind']}, digest {found['split']['digest']}"
    fits = f"{split}: fits see nothing of the {counts['candidates']:,} new items, which `evaluate recommend` checks too"
    traces = found["count_attributes"]["lines"] if found["count_attributes"] else []
    method = "; ".join((fits, *traces, *found["notes"]))
    rows = []
    for other in ("content_mean", "random"):
        if other not in methods:
            continue
        is_reference = other == found["reference"]
        rows.append(
            judged(
                Row(
                    "recommend",
                    f"{question}, of {counts['candidates']:,} new ones"
                    + ("" if is_reference else ", more often than by chance"),
                    statement,
                    measure,
                    counts["relevant"],
                    "likes",
                    None,
                    interval_of(own[measure]),
                    Baseline(
                        "by content alone" if other == "content_mean" else "in random order",
                        interval_of(methods[other]["sets"][name][measure]),
                    ),
                    interval_of(own[measure]["difference"]) if is_reference else None,
                    is_share=is_share,
                    method=method,
                    command=command,
                )
            )
        )
    return rows + _rest_rows(found, name, measure, statement, method, command)


def _rest_rows(
    found: Mapping[str, Any], name: str, measure: str, statement: str, method: str, command: str
) -> list[Row]:
    """Read the same without the few most liked items, which may carry most of the figure."""
    most = found["most_liked"].get(name)
    own, other = (
        (found["methods"].get(one) or {"rest": {}})["rest"].get(name, {}) for one in ("chosen", "content_mean")
    )
    if not most or not own.get(measure):
        return []
    value, baseline = own[measure], other.get(measure)
    difference = value.get("difference")
    return [
        judged(
            Row(
                "recommend",
                f"The same without the {len(most['items'])} most liked, which have {most['share']:.0%} of the likes",
                f"Without the most liked: {statement[0].lower()}{statement[1:]}",
                measure,
                most["relevant"],
                "likes",
                None,
                interval_of(value),
                Baseline("by content alone", interval_of(baseline)) if baseline else None,
                interval_of(difference) if difference and found["reference"] == "content_mean" else None,
                is_share=measure.startswith("recall"),
                method=method,
                command=command,
            )
        )
    ]


def _within(pipeline: Pipeline, budget_s: float) -> Pipeline:
    """Change the budget of the pipeline's fits of behaviour, in processor seconds."""
    from coldstart.recommend.inputs import FIT

    stages = [
        replace(spec, settings=spec.settings.model_copy(update={"budget_s": min(budget_s, spec.settings.budget_s)}))
        if spec.kind == FIT
        else spec
        for spec in pipeline.stages
    ]
    return replace(pipeline, stages=tuple(stages))


def recommend_seconds(context: Context) -> float:
    """Estimate an evaluation of recommendations: a fit within its budget, and lists for all users."""
    from coldstart.recommend.inputs import FIT

    if not context.interactions:
        return 0.0
    specs = context.pipeline.of_kind(FIT)
    budget_s = specs[-1].settings.budget_s if specs else DEFAULT_S
    return 10.0 + min(QUICK_S if context.quick else budget_s, _FIT_S * context.interactions / 1000)


# -- behaviour


def behaviour_rows(context: Context) -> list[Row]:
    """Read what the last fit of behaviour measured on items that it held out as cold."""
    from coldstart.recommend.inputs import FIT

    question = "The mapper from content to behaviour ranks items that its folds held out as new"
    stages = context.pipeline.of_kind(FIT)
    fit = context.command("finetune behaviour")
    made = [one for one in (context.store.artifacts.newest(spec.name) for spec in stages) if one is not None]
    if not made and not context.interactions:
        return [Row("behaviour", question, why="the workspace has no interactions to learn from", command=fit)]
    if not made:
        return [not_fitted("behaviour", question, fit)]
    report = made[-1].report
    chosen, candidates = report["chosen"], report["candidates"]
    plain = next((name for name in candidates if name.startswith("knn")), None)
    other = plain if plain is not None and plain != chosen else next((n for n in candidates if n != chosen), None)
    measure = "ndcg@20" if "ndcg@20" in candidates[chosen] else next(iter(candidates[chosen]))
    held = report["judged"]
    method = (
        f"{held['items']:,} items held out as new in {held['folds']} folds of {held['users']:,} users; the mapper was "
        "chosen by the same items, so that the figure is a little too good: `evaluate recommend` measures on others"
    )
    return [
        judged(
            Row(
                "behaviour",
                question,
                f"The fitted mapper ({chosen}) ranks held-out items with",
                measure,
                held["items"],
                "items",
                None,
                interval_of(candidates[chosen][measure]),
                None if other is None else Baseline(f"mapper {other}", interval_of(candidates[other][measure])),
                is_share=False,
                method=method,
                command=fit,
            )
        )
    ]
