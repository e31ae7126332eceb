"""Evaluate recall on the interactions and the content of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldstart.core.likes import find_likes
from coldstart.core.pipeline import Pipeline, content_space
from coldstart.core.progress import Progress
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.fit_stage import is_usable
from coldstart.semantic_ids.methods import fit_codebooks
from coldstart.semantic_ids.recall_evaluation import METHODS, RecallContent, RecallReport, evaluate_recall
from coldstart.semantic_ids.recall_settings import OWN_RECALL, RECALL, Settings, check_generator
from coldstart.semantic_ids.recall_split import parse_kind, split_histories
from coldstart.semantic_ids.settings import FIT
from coldstart.semantic_ids.train_sequence import Training
from coldstart.semantic_ids.workspace import read_records
from coldstart.store import Store
from coldstart.store.freshness import PipelineState
from coldstart.store.interactions import InteractionTable


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Progress,
    *,
    split: str = "last-out",
    methods: Sequence[str] | None = None,
    seeds: int = 1,
    users: int | None = None,
) -> RecallReport:
    """Evaluate every method on the data of a workspace, by the settings of its `finetune.recall` and `align.sids`.

    Args:
        split: `last-out`, `time` or `cold:SHARE`; users: judge so many, drawn by a hash of their ids.

    Raises:
        ColdstartError: there are no interactions with items that have content, or the split or a method is unknown.
    """
    parse_kind(split)
    stages = pipeline.of_kind(RECALL)
    settings: Any = stages[-1].settings if stages else Settings()
    name = stages[-1].name if stages else OWN_RECALL
    space = content_space(pipeline, name, settings.space)
    state = PipelineState(store, pipeline)
    stage: Any = state.stage(space)
    fresh = sorted(state.of(space).fresh)
    vectors = vectors_of(store, stage, fresh)
    usable = is_usable(vectors)
    items = [item for item, is_one in zip(fresh, usable.tolist(), strict=True) if is_one]
    every = InteractionTable(store).read()
    rows = every.over(items)
    if not len(rows):
        known = (
            f"{len(every)} interactions, none with its {len(items)} items with content"
            if len(every)
            else "no interactions"
        )
        raise ColdstartError(
            f"workspace {store.uri} has {known}: run `coldstart ingest --workspace {store.uri} --interactions FILE`"
        )
    likes = find_likes(every.weights, settings.min_weight)
    chosen = split_histories(rows.positive(likes.min_weight), split, users)
    records = read_records(store, items)
    content = RecallContent(vectors[usable], [records.get(item, {}).get("category") for item in items])
    coded: Any = pipeline.of_kind(FIT)[-1].settings if pipeline.of_kind(FIT) else None

    def code(own: Any) -> Any:
        if coded is None:
            return fit_codebooks(own)
        return fit_codebooks(own, coded.method, coded.levels, crowding=coded.crowding, seed=coded.seed)

    training = Training(**settings.training(pipeline.engine.device))
    if methods is None and settings.decoder == "llm":
        methods = list(METHODS)

    def language(histories: Any, codes: Any, seed: int) -> Any:
        from coldstart.semantic_ids.llm_recall import LanguageFit, texts_of
        from coldstart.semantic_ids.llm_train import LanguageData

        check_generator(name, settings.generator)
        known, sizes = LanguageData(codes, texts_of(store, items)), tuple(int(size) for size in codes.max(0) + 1)
        engine = pipeline.engine
        fit = LanguageFit(name, settings, known, sizes, engine.device, engine.dtype, progress, seed=seed)
        return fit.learn(histories)[0]

    found = evaluate_recall(
        chosen, content, training, progress, methods=methods, seeds=seeds, code=code, language=language
    )
    notes = [*likes.notes, f"content: {space}", *found.notes]
    if users is not None and users <= len(chosen.users):
        notes.append(f"{users:,} users are judged, drawn by a hash of their ids; fits read all")
    return replace(found, notes=notes)
