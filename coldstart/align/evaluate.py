"""Evaluation of a fit of alignment, before and after, on items that no fit has seen.

`evaluate_split` takes arrays and knows no tables; `evaluate_store` reads the last fit of a workspace, the items that it
held out and their categories. Measures are those of `coldstart.align.measures`. An item counts with one picture vector,
the mean of its pictures or frames, as an image space stores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.align.base_encoders import BEFORE
from coldstart.align.measures import SpaceReport, compare
from coldstart.align.queries import (
    PARTS,
    ClassTexts,
    ExampleHit,
    FeatureArrays,
    QueryVectors,
    SplitRows,
    count_splits,
    query_items,
    select_examples,
)
from coldstart.align.settings import KIND
from coldstart.align.unseen import evaluate_unseen
from coldstart.core import class_file
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.vectors import unit
from coldstart.embed.item_texts import is_field, labels_of
from coldstart.errors import ColdstartError
from coldstart.metrics import ranking
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import build

if TYPE_CHECKING:
    from coldstart.align.dataset import Features
    from coldstart.encoders._heads import AlignedHeads


_SEEN = {
    "train": "not held out: the fit was trained on these items",
    "valid": "not held out: the fit was stopped by these items",
    "seen": "held out, but the fit was trained on other items of their groups",
}

_SHOWN = ("title", "description", "category", "kind")


@dataclass(frozen=True)
class AlignReport:
    """Measures of fitted heads on one split, and of the heads before the fit.

    Attributes:
        split: its name; held_out: whether no fit has seen it; note: the same in words.
        view: kind of the texts: `title`, `description`, …
        counts: `asked` items, `groups` among them, `shared` items that have a group with another, `left_out` items
            that came after the fit and share a group with what it was trained on, `without_text` and
            `without_image`; and the items of the workspace by split.
        after: the fitted heads; before: what the fit started from, None where it started from nothing.
        difference: as `compare` gives it, None without a before.
        unseen: seen and unseen groups and classes among all items, as `evaluate_unseen` gives them; None for another
            split than `test`, or where nothing can be compared.
        views: other view -> the recalls with its texts, before and after.
        sheets: direction -> `worst`, `random`, `best` -> queries and their first results.
        items: item -> what a person reads of it, for those on the sheets; see `with_items`.
        towers: side -> name of the encoder below; about: as the heads have it.
        compared_with: what `before` is, in words; None without one.
    """

    split: str
    held_out: bool
    note: str
    view: str
    counts: Mapping[str, Any]
    after: SpaceReport
    before: SpaceReport | None
    difference: Mapping[str, Any] | None
    unseen: Mapping[str, Any] | None
    views: Mapping[str, Any]
    sheets: Mapping[str, Any]
    towers: Mapping[str, str]
    about: Mapping[str, Any]
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    compared_with: str | None = None

    def shown(self) -> list[str]:
        """Return the ids of the items among the examples, in alphabetical order."""
        sheets = [sheet for chosen in self.sheets.values() for some in chosen.values() for sheet in some]
        return sorted({one["item_id"] for sheet in sheets for one in (sheet, sheet["answer"], *sheet["hits"])})

    def with_items(self, items: Mapping[str, Mapping[str, Any]]) -> AlignReport:
        """Add titles, descriptions, media and further fields of items, for the page."""
        return replace(self, items=items)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        return {
            **{name: getattr(self, name) for name in ("split", "held_out", "note", "view", "counts", "views")},
            "after": self.after.to_dict(),
            "before": None if self.before is None else self.before.to_dict(),
            "difference": _plain(self.difference),
            "unseen": self.unseen,
            **{name: getattr(self, name) for name in ("sheets", "items", "towers", "about", "compared_with")},
        }


def evaluate_split(
    features: FeatureArrays,
    aligned: AlignedHeads,
    before: AlignedHeads | None = None,
    split: str = "test",
    classes: ClassTexts | None = None,
    *,
    view: str | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    features_before: FeatureArrays | None = None,
    classes_before: ClassTexts | None = None,
    base: FeatureArrays | None = None,
) -> AlignReport:
    """Evaluate heads on the items of one split.

    Items that came after the fit count as `test`, unless they share a group with an item that it was trained on.

    Args:
        before: evaluated on the same items, for comparison.
        labels: field of which classes were held out -> the class of each item.
        view: kind of the texts; by default titles, where there are none the most frequent kind.
        features_before, classes_before: where other encoders are below `before`, the same items, texts and classes by
            these.
        base: whose pictures the space is compared with from picture to picture; by default `features_before`.

    Raises:
        ColdstartError: there is no such split or view, or it has no item with a picture and a text.
    """
    if split not in PARTS:
        raise ColdstartError(f"there is no split {split!r}: choose one of {', '.join(PARTS)}")
    chosen, left_out = query_items(features, split)
    rows = SplitRows(features, chosen)
    rows_before = rows if features_before is None else SplitRows(features_before, chosen)
    if view is None:
        view = rows.default_view()
    elif view not in rows.views:
        raise ColdstartError(f"no item of split {split} has a text {view!r}: there is {', '.join(rows.views)}")
    if not rows.has(view):
        raise ColdstartError(
            f"split {split} has no item with both a picture and a text: "
            "choose another with --split, or fit on more items so that some are held out"
        )
    after, vectors = rows.evaluate(aligned, view, classes, seed)
    named = classes if features_before is None else classes_before
    first = None if before is None else rows_before.evaluate(before, view, named, seed)[0]
    others = {
        other: {
            name: {side: getattr(report, side).to_dict() for side in ("image_to_text", "text_to_image")}
            for name, heads, own in (("before", before, rows_before), ("after", aligned, rows))
            if heads is not None
            for report in (own.evaluate(heads, other, None, seed)[0],)
        }
        for other in rows.views
        if other != view and rows.has(other)
    }
    return AlignReport(
        split=split,
        held_out=split == "test",
        note=_SEEN.get(split, "held out: no fit has seen these items, nor others of their groups"),
        view=view,
        counts={**rows.counts(view), "left_out": left_out, "splits": count_splits(features)},
        after=after,
        before=first,
        difference=None if first is None else compare(first, after, seed=seed),
        unseen=None
        if split != "test"
        else evaluate_unseen(
            features,
            aligned,
            before,
            view=view,
            labels=labels,
            features_before=features_before,
            base=base,
            seed=seed,
        ),
        views=others,
        sheets=_sheets(features, after, vectors, seed),
        towers={side: tower.encoder for side, tower in aligned.towers.items()},
        about=dict(aligned.about),
    )


def _sheets(features: FeatureArrays, report: SpaceReport, vectors: QueryVectors, seed: int) -> dict[str, Any]:
    groups = np.asarray(features.groups)
    own = np.where(groups >= 0, groups, -1 - np.arange(len(groups)))
    sides = {
        "image_to_text": (vectors.images, vectors.image_items),
        "text_to_image": (vectors.words, vectors.word_items),
    }
    sheets: dict[str, Any] = {}
    for name, other in (("image_to_text", "text_to_image"), ("text_to_image", "image_to_text")):
        direction = getattr(report, name)
        (queries, query_items), (gallery, gallery_items) = sides[name], sides[other]
        rows = direction.queries
        right = ranking.right_places(own[query_items[rows]].tolist(), own[gallery_items].tolist())

        def hit(found: ExampleHit, items: NDArray[np.intp] = gallery_items) -> dict[str, Any]:
            return {"item_id": features.item_ids[int(items[found.place])], "score": found.score, "right": found.right}

        sheets[name] = {
            kind: [
                {
                    "item_id": features.item_ids[int(query_items[rows[sheet.query]])],
                    "rank": sheet.rank,
                    "answer": hit(sheet.answer),
                    "hits": [hit(one) for one in sheet.hits],
                }
                for sheet in chosen
            ]
            for kind, chosen in select_examples(queries[rows], gallery, right, direction.ranks, seed=seed).items()
        }
    return sheets


def _plain(value: Any) -> Any:
    if isinstance(value, ranking.Interval):
        return asdict(value)
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Progress,
    *,
    split: str = "test",
    classes: str | Path | None = None,
    view: str | None = None,
) -> AlignReport:
    """Evaluate the last fit of `align.text_image` in a workspace.

    Args:
        progress: as stages take it.
        split: `test`, `valid` or `train`; view: kind of the texts, by default titles.
        classes: a classes file, for telling pictures apart by name; by default the categories that items have.

    Raises:
        ColdstartError: nothing is fitted, or under other settings than those of now; or as for `evaluate_split`.
    """
    from coldstart.encoders._heads import AlignedHeads

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
    aligned = AlignedHeads.load(artifact.folder)
    before = AlignedHeads.load(artifact.folder / BEFORE) if (artifact.folder / BEFORE).is_dir() else None
    labels = _labels(store, features.item_ids)
    chosen = named or _categories(labels)
    texts = _class_texts(chosen, labels, aligned, artifact.folder, pipeline)
    first: dict[str, Any] = {}
    if before is not None and was is not features:  # the fit changed the encoders below the heads as well
        by_old = _class_texts(chosen, labels, before, artifact.folder / BEFORE, pipeline)
        first = {"features_before": was, "classes_before": by_old}
    compared = None if before is None else "the heads that the fit started from"
    if before is None and (found := _starter_clip(aligned, features)) is not None:
        before, features_of_it = found
        first = {"features_before": features_of_it, "classes_before": texts, "base": features}
        compared = "starter-clip, as the fit started from nothing"
    fields = artifact.report.get("hold_out")  # a workspace may be a stranger's
    held_out = filter(is_field, fields) if isinstance(fields, list) else ()
    held = {field: labels_of(store, features.item_ids, field) for field in held_out}
    report = evaluate_split(features, aligned, before, split, texts, view=view, labels=held, **first)
    return replace(report.with_items(_items(store, report.shown())), compared_with=compared)


def _starter_clip(aligned: AlignedHeads, features: Features) -> tuple[AlignedHeads, Features] | None:
    """Load the packaged heads for comparison, with the features that they read; None where they are for other encoders.

    Vectors of `starter:levels` begin with those of `starter`, up to their length.
    """
    from coldstart.encoders._heads import PACKAGED, AlignedHeads

    given = AlignedHeads.load(PACKAGED)
    if dict(given.towers["text"].passport) != dict(aligned.towers["text"].passport):
        return None
    if dict(given.towers["image"].passport) == dict(aligned.towers["image"].passport):
        return given, features
    if (given.towers["image"].encoder, aligned.towers["image"].encoder) != ("starter", "starter:levels"):
        return None
    pooled = features.images[:, : given.towers["image"].passport["dim"]].astype(np.float32)
    return given, replace(features, images=unit(pooled).astype(np.float16))


def _labels(store: Store, item_ids: Sequence[str]) -> list[str | None]:
    rows = store.read(ITEMS, ["item_id", "category"])
    known = dict(zip(rows["item_id"].to_pylist(), rows["category"].to_pylist(), strict=True))
    return [known.get(item) for item in item_ids]


def _categories(labels: Sequence[str | None]) -> class_file.Classes | None:
    """Build classes from the categories, each by its own name; None where there are fewer than two."""
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
    aligned: AlignedHeads,
    folder: Path,
    pipeline: Pipeline,
) -> ClassTexts | None:
    """Encode the prompts of classes by the encoder under the heads of a folder, without texts for no class.

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
