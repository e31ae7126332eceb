"""The ladder over a workspace: what each stage of its pipeline tells of items, judged by its interactions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour.content import Content
from coldstart.errors import ColdstartError
from coldstart.evaluation.ablation import descriptions
from coldstart.evaluation.ablation.costs import needs_of, recorded
from coldstart.evaluation.ablation.descriptions import ADAPTER, BASE, Described
from coldstart.evaluation.ablation.report import Cost, LadderReport, report, seconds
from coldstart.evaluation.ablation.steps import LadderSettings, Missing, Step, judge
from coldstart.evaluation.ablation.texts import Parts, Texts, encoder_of, parts_of, shortened, text_of
from coldstart.evaluation.recommend.splits import Split, by_items, given
from coldstart.fitted import bound
from coldstart.freshness import Standing
from coldstart.interactions import Interactions
from coldstart.learning.behaviour_inputs import content_of
from coldstart.learning.behaviour_lesson import content_groups
from coldstart.learning.described_items import rows_of
from coldstart.pipeline import Pipeline
from coldstart.stage import Row
from coldstart.workspace import Store
from coldstart.workspace.interactions import InteractionTable

PICTURES, TITLE, WORDS, EVIDENCE, BEHAVIOUR = "pictures", "title", "words", "evidence", "behaviour"
ORDER = (PICTURES, TITLE, WORDS, EVIDENCE, BASE, ADAPTER, BEHAVIOUR)
_NEW_SHARE = 0.2
_SAME = 0.98  # mean cosine from which two items' pictures are one
_HEARD = ("transcript", "screen_text")


@dataclass
class _Ladder:
    """What is gathered on the way up."""

    blocks: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)
    pictures: tuple[str, ...] = ()
    below: frozenset[str] = frozenset()
    """Costs of pictures, and of what was heard and read: all steps after stand on them."""


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Any,
    *,
    seeds: int = 1,
    write: int | str | None = None,
    min_weight: float | None = None,
    warm_min: int = 5,
    labels: bool = False,
    held_out: Collection[str] | None = None,
    choice: Mapping[str, Any] | None = None,
    resamples: int = 2000,
) -> LadderReport:
    """Judge what each stage of a pipeline adds to the finding of new items, and what it takes.

    Args:
        progress: as stages take it.
        seeds: so many splits, each with other items held out as if they were new.
        write: `all`, or of so many items, what the writer that the workspace has no descriptions by would write.
        min_weight: rows of at least this weight speak for their item; None: above 0.
        warm_min: users that an item needs to be learnt from.
        labels: let every step have category, tags and attributes beside what it adds.
        held_out: ids of the items that are new, in place of items drawn at random.
        choice: what the last step tries, as `coldstart.behaviour.choose.ChoiceSettings`.

    Raises:
        ColdstartError: there are no interactions, too few to hold items out, or none of items of the catalogue.
    """
    pipeline = bound(pipeline, store)
    standing = Standing(store, pipeline)
    rows, content, groups = _met(store, pipeline, standing)
    with store.lock():
        ladder = _ladder(store, pipeline, standing, content, write, progress)
    content = replace(content, blocks=ladder.blocks)
    settings = LadderSettings(labels=labels, min_weight=min_weight, choice={"warm_min": warm_min, **(choice or {})})
    splits = list(_splits(rows, groups, seeds, warm_min, held_out))
    with progress.meter("evaluate stages: steps", len(splits) * len(ladder.steps)) as meter:
        judged = [
            judge(split, content, ladder.steps, replace(settings, seed=seed), meter)
            for seed, split in enumerate(splits)
        ]
    if labels:
        ladder.caveats.insert(0, "every step also has the items' category, tags and attributes")
    return report(
        judged,
        ladder.steps,
        settings,
        missing=ladder.missing,
        costs=ladder.costs,
        covered=ladder.covered,
        catalogue=len(content),
        order=ORDER,
        caveats=ladder.caveats,
        about={
            "split": splits[0].kind,
            "splits": [split.digest() for split in splits],
            "min_weight": min_weight,
            "warm_min": warm_min,
        },
        resamples=resamples,
    )


def _met(store: Store, pipeline: Pipeline, standing: Standing) -> tuple[Interactions, Content, NDArray[np.int64]]:
    """All interactions with items of the catalogue, those items with their pictures, and which of them are alike."""
    rows = InteractionTable(store).read()
    if not len(rows):
        raise ColdstartError(
            f"workspace {store.uri} has no interactions, so that nobody can be asked: `coldstart ingest --workspace "
            f"{store.uri} --interactions FILE`"
        )
    met = np.flatnonzero(np.bincount(rows.items, minlength=len(rows.item_ids)))
    names = [spec.name for spec in pipeline.of_kind("embed") if _is_picture(spec.settings)]
    content = content_of(store, pipeline, names, [rows.item_ids[place] for place in met], standing=standing)
    if not len(content):
        raise ColdstartError(
            f"none of the {len(met)} items that interactions name is in workspace {store.uri}: ids must be those of "
            "the manifest"
        )
    return rows.over(content.item_ids), content, content_groups(content, _SAME if content.blocks else None)


def _is_picture(settings: Any) -> bool:
    """Whether a space is of pictures alone: heads aligned with texts have learnt from more."""
    return settings.input == "image" and settings.over is None and not settings.encoder.startswith("align:")


def _splits(
    rows: Interactions, groups: NDArray[np.int64], seeds: int, warm_min: int, held_out: Collection[str] | None
) -> list[Split]:
    if held_out is not None:
        return [given(rows, sorted(held_out), warm_min=warm_min)]
    options = {"valid": 0.0, "test": _NEW_SHARE, "warm_min": warm_min}
    return [by_items(rows, groups=groups, seed=seed, **options) for seed in range(seeds)]  # type: ignore[arg-type]


def _ladder(
    store: Store, pipeline: Pipeline, standing: Standing, content: Content, write: int | str | None, progress: Any
) -> _Ladder:
    ladder = _Ladder()
    _add_pictures(ladder, store, pipeline, standing, content)
    spec = next((spec.name for spec in reversed(pipeline.stages) if spec.kind != "ingest"), None)
    every = rows_of(store, pipeline, spec, standing) if spec else {}
    items = [every[item] for item in content.item_ids]
    encoder, budgets = encoder_of(pipeline)
    parts = shortened([parts_of(row) for row in items], budgets, encoder)
    texts = Texts(store, encoder, progress)
    _add_text(ladder, texts, parts, TITLE, ("title",), "its title")
    _add_text(ladder, texts, parts, WORDS, ("title", "description"), "and what its seller wrote")
    _add_evidence(ladder, texts, parts, store, pipeline, standing)
    known = ("title", "description", *_HEARD)
    for one in _described(ladder, store, pipeline, standing, items, write, progress):
        told = [{**own, one.writer: one.texts.get(item, "")} for own, item in zip(parts, content.item_ids, strict=True)]
        about = f"and what {one.model} wrote of it"
        ladder.costs |= {cost.name: cost for cost in one.costs}
        names = sorted(one.needs - {cost.name for cost in one.costs})
        ladder.costs |= recorded([name for name in names if name not in ladder.costs], store, standing)
        _add_text(ladder, texts, told, one.writer, (*known, one.writer), about, one.needs)
        ladder.covered[one.writer] = len(one.texts.keys() & set(content.item_ids)) / len(content)
    if ladder.steps:
        last = ladder.steps[-1]
        about = "and whom it goes to, by the mapper that held-out items chose"
        ladder.steps.append(Step(BEHAVIOUR, about, last.blocks, last.needs, is_behaviour=True))
    else:
        raise ColdstartError(f"nothing is known of the items in workspace {store.uri}: run `coldstart run` first")
    return ladder


def _add_pictures(ladder: _Ladder, store: Store, pipeline: Pipeline, standing: Standing, content: Content) -> None:
    spaces = [name for name in content.blocks if content.present(name).any()]
    if not spaces:
        why = "holds no vectors yet: run `coldstart run`" if content.blocks else "is not there: embed pictures first"
        ladder.missing.append(Missing(PICTURES, f"a space of pictures {why}"))
        return
    ladder.blocks |= {name: content.blocks[name] for name in spaces}
    ladder.pictures = tuple(spaces)
    ladder.below = frozenset().union(*(needs_of(name, pipeline, standing) for name in spaces))
    ladder.costs |= recorded(sorted(ladder.below), store, standing)
    ladder.steps.append(Step(PICTURES, "what it looks like", ladder.pictures, ladder.below))
    ladder.covered[PICTURES] = float(np.any([content.present(name) for name in spaces], axis=0).mean())


def _add_text(
    ladder: _Ladder,
    texts: Texts,
    parts: Sequence[Parts],
    name: str,
    chosen: tuple[str, ...],
    about: str,
    needs: frozenset[str] = frozenset(),
) -> None:
    """A step whose text has the chosen parts; the last of them is what it adds."""
    told = [text_of(own, chosen) for own in parts]
    added = [bool(own.get(chosen[-1])) for own in parts]
    if not any(added):
        ladder.missing.append(Missing(name, f"no item has a {chosen[-1]}"))
        return
    ladder.blocks[name] = texts.vectors(name, told)
    cost = texts.cost(f"encoding texts of {name}", told)
    ladder.costs[cost.name] = cost
    own = ladder.below | needs | {cost.name}
    ladder.steps.append(Step(name, about, (*ladder.pictures, name), own))
    ladder.covered.setdefault(name, float(np.mean(added)))


def _add_evidence(
    ladder: _Ladder, texts: Texts, parts: Sequence[Parts], store: Store, pipeline: Pipeline, standing: Standing
) -> None:
    specs = pipeline.of_kind("understand.evidence")
    if not specs:
        why = "the pipeline does not listen or read: it has no stage of kind understand.evidence"
        ladder.missing.append(Missing(EVIDENCE, why))
        return
    heard = [any(own.get(name) for name in _HEARD) for own in parts]
    if not any(heard):
        ladder.missing.append(Missing(EVIDENCE, f"{specs[-1].name} heard and read nothing in any item"))
        return
    needs = needs_of(specs[-1].name, pipeline, standing)
    ladder.costs |= recorded([name for name in sorted(needs) if name not in ladder.costs], store, standing)
    ladder.below |= needs
    chosen = ("title", "description", *_HEARD)
    ladder.covered[EVIDENCE] = float(np.mean(heard))
    joined = [{**own, _HEARD[-1]: own.get(_HEARD[-1]) or ""} for own in parts]
    told = [text_of(own, chosen) for own in joined]
    ladder.blocks[EVIDENCE] = texts.vectors(EVIDENCE, told)
    cost = texts.cost(f"encoding texts of {EVIDENCE}", told)
    ladder.costs[cost.name] = cost
    about = "and what is said and written in its media"
    ladder.steps.append(Step(EVIDENCE, about, (*ladder.pictures, EVIDENCE), ladder.below | {cost.name}))


def _described(
    ladder: _Ladder,
    store: Store,
    pipeline: Pipeline,
    standing: Standing,
    items: Sequence[Row],
    write: int | str | None,
    progress: Any,
) -> list[Described]:
    """Base before adapter, both over the same items; those that are not there are missing, with what would help."""
    own = descriptions.held(store, pipeline, standing)
    if own is None:
        why = "nothing is described: `coldstart describe` writes, `coldstart finetune describe` tunes the writer"
        ladder.missing += [Missing(BASE, why), Missing(ADAPTER, why)]
        return []
    found = [own]
    other = BASE if own.writer == ADAPTER else ADAPTER
    asked = [row for row in items if row["item_id"] in own.texts]
    if write is None:
        ladder.missing.append(Missing(other, _offer(store, standing, own, other, len(asked))))
    else:
        count = None if write == "all" else int(write)
        try:
            name, writer, shown = descriptions.other_writer(store, pipeline, own.writer)
            told = descriptions.write(store, pipeline, name, writer, shown, asked, count, progress)
        except ColdstartError as error:
            ladder.missing.append(Missing(other, str(error)))
        else:
            same = {item: text for item, text in own.texts.items() if item in told.texts}
            found = sorted([replace(own, texts=same), told], key=lambda one: one.writer != BASE)
    for one in found:
        fields = "all that is known" if one.shown is None else ", ".join(one.shown)
        ladder.caveats.append(f"{one.model} ({one.writer}) was shown {fields}")
    reached = len(found[0].texts.keys() & {row["item_id"] for row in items})
    if reached < len(items):
        ladder.caveats.append(
            f"descriptions are of {reached:,} of {len(items):,} items; the others have the text of the step before, so "
            "that gains look smaller than they are where all are described"
        )
    return found


def _offer(store: Store, standing: Standing, own: Described, other: str, count: int) -> str:
    """What it would take to judge the writer that is not there."""
    names = [name for name in own.needs if standing.stage(name).kind == "describe.write"]
    per_item = [cost.per_item_s for cost in recorded(names, store, standing).values()]
    known = per_item[0] if per_item and per_item[0] is not None else None
    takes = "" if known is None else f", about {seconds(known * count)} s at the pace of {own.writer}"
    return f"the {other} has written nothing here: `--write all` lets it, {count:,} items{takes}"
