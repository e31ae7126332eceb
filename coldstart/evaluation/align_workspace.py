"""The alignment of a workspace judged: its last fit, the items that it held out, and their categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.evaluation.align import AlignReport, evaluate_workspace
from coldstart.evaluation.asked import ClassTexts
from coldstart.freshness import build
from coldstart.learning.align_pipeline import KIND
from coldstart.perception import class_file
from coldstart.pipeline import Pipeline
from coldstart.workspace import ITEMS, Store

if TYPE_CHECKING:
    from coldstart.heads import Aligned

BEFORE = "before"
"""Folder of an artifact that holds the heads from which its fit started."""

_SHOWN = ("title", "description", "category", "kind")


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Any,
    *,
    split: str = "test",
    classes: str | Path | None = None,
    view: str | None = None,
) -> AlignReport:
    """Judge what `align.text_image` fitted last.

    Args:
        progress: as stages take it.
        split: `test`, `valid` or `train`; view: which texts are asked, by default titles.
        classes: a classes file, for telling pictures apart by name; by default the categories that items have.

    Raises:
        ColdstartError: nothing is fitted, or under other settings than those of now; or as for `evaluate_workspace`.
    """
    from coldstart.heads import Aligned

    named = class_file.load(Path(classes)) if classes is not None else None
    step = f"run `coldstart finetune align --workspace {store.uri}` first"
    fitted = [(spec, store.artifacts.newest(spec.name)) for spec in pipeline.of_kind(KIND)]
    spec, artifact = next(((spec, found) for spec, found in fitted if found is not None), (None, None))
    if spec is None or artifact is None:
        raise ColdstartError(f"nothing is aligned in workspace {store.uri}: {step}")
    stage: Any = build(spec, pipeline)
    was, features = stage.before_and_after(store, progress)
    if not any(features.split):
        raise ColdstartError(f"{spec.name} was fitted under other settings or on other items: {step}")
    aligned = Aligned.load(artifact.folder)
    before = Aligned.load(artifact.folder / BEFORE) if (artifact.folder / BEFORE).is_dir() else None
    labels = _labels(store, features.item_ids)
    told = named or _categories(labels)
    texts = _class_texts(told, labels, aligned, artifact.folder, pipeline)
    first: dict[str, Any] = {}
    if before is not None and was is not features:  # the fit changed the encoders below the heads as well
        by_old = _class_texts(told, labels, before, artifact.folder / BEFORE, pipeline)
        first = {"features_before": was, "classes_before": by_old}
    report = evaluate_workspace(features, aligned, before, split, texts, view=view, **first)
    return report.with_items(_items(store, report.shown()))


def _labels(store: Store, item_ids: Sequence[str]) -> list[str | None]:
    rows = store.read(ITEMS, ["item_id", "category"])
    known = dict(zip(rows["item_id"].to_pylist(), rows["category"].to_pylist(), strict=True))
    return [known.get(item) for item in item_ids]


def _categories(labels: Sequence[str | None]) -> class_file.Classes | None:
    """The categories as classes, each by its own name; None where there are not two to tell apart."""
    names: dict[str, str] = {}
    for label in sorted({label for label in labels if label and label.strip()}):
        names.setdefault(class_file.plain(label), " ".join(label.split()))
    if len(names) < 2:
        return None
    every = tuple(names.values())
    return class_file.Classes(every, tuple((name,) for name in every), (), class_file.TEMPLATES)


def _class_texts(
    classes: class_file.Classes | None,
    labels: Sequence[str | None],
    aligned: Aligned,
    folder: Path,
    pipeline: Pipeline,
) -> ClassTexts | None:
    """The prompts through the text encoder under heads from a folder; texts for what is of no class are left out.

    Raises:
        ColdstartError: the encoder is not the one that the heads were fitted on.
    """
    from coldstart import encoders

    if classes is None:
        return None
    tower = aligned.towers["text"]
    adapter: dict[str, Any] = {"adapter": str(folder / tower.adapter)} if tower.adapter else {}
    encoder = encoders.load(
        tower.encoder, device=pipeline.engine.device, dtype=pipeline.engine.dtype, allow_random_weights=True, **adapter
    )
    if asdict(encoder.passport("text")) != dict(tower.passport):
        raise ColdstartError(f"encoder {tower.encoder} is no longer the one that the heads were fitted on: fit anew")
    texts, numbers = classes.texts()
    texts = [text for text, number in zip(texts, numbers, strict=True) if number < len(classes.names)]
    own = np.asarray([number for number in numbers if number < len(classes.names)])
    return ClassTexts(classes.names, encoder.encode_documents(texts), own, labels)


def _items(store: Store, item_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    rows = store.read(ITEMS, ["item_id", "media", *_SHOWN], ids=item_ids).to_pylist() if item_ids else []
    return {
        row["item_id"]: {
            **{name: row[name] for name in _SHOWN},
            "uri": next((one["uri"] for one in row["media"] or () if one["role"] in ("image", "video")), None),
        }
        for row in rows
    }
