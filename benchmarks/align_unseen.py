"""Alignment judged on what a fit has not seen: products, brands and classes that were held out whole, among all items.

    python -m benchmarks.align_unseen [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. Each set is split by digests
before any fit: groceries without 15 of 65 products (those that `starter-clip` is not trained on, either), and without
whole kinds (pear, cabbage, …); clothing without 3 of 10 labels; fashion without products, article types or brands (the
first word of a title), a tenth of the 4,183 each; flickr8k without 164 of 764 photographs. Then the fit of the
pipeline `aligned` by the recipe of version 0.1 and by that of now, through the same functions as `coldstart finetune
align` and `coldstart evaluate align`. Every setting was chosen on parts of the training side. Seen: photographs of
trained products that were not trained on (of fashion one of each title that has several); of flickr8k, which has one
of each, those that were. Vectors are kept under `.bench/`. `--short` takes clothing and flickr8k alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CACHE, Row
from coldstart import encoders
from coldstart.align.base_encoders import FitResult, PairEncoders
from coldstart.align.dataset import Features
from coldstart.align.fit_heads import fit_heads
from coldstart.align.settings import TRAINING_OF_0_1, HeadTraining, Settings
from coldstart.align.unseen import evaluate_unseen
from coldstart.core import pipeline
from coldstart.core.progress import SilentProgress
from coldstart.encoders import Encoder
from coldstart.encoders._heads import AlignedHeads
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.metrics.splits import group_items, near_pairs, split_unseen
from coldstart.store.freshness import build
from tools.starter_clip.data import held_out

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
WAYS = {"image_to_text": "picture to title", "text_to_image": "title to picture"}
PARTS = {"seen": "seen", "unseen": "unseen among all", "alone": "unseen among themselves", "harmonic": "harmonic mean"}
BY_CHANCE = "grocery products, photographs by chance"
GOALS = {(BY_CHANCE, "seen"): "at least 0.80", (BY_CHANCE, "harmonic"): "at least 0.45"}
"""Of R@1 from picture to title."""
TENTH = 0.1


@dataclass(frozen=True)
class Task:
    """Items of one set, and which of them no fit sees.

    Attributes:
        ids, files: of the I items and their pictures; texts: view -> text of each, by `title` in groups.
        unseen: bool [I]: held out whole; seen: bool [I]: not trained on, though others of their groups are.
    """

    ids: Sequence[str]
    files: Sequence[Path]
    texts: Mapping[str, Sequence[str]]
    unseen: NDArray[np.bool_]
    seen: NDArray[np.bool_]


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def by_digest(names: Sequence[str]) -> list[str]:
    """Names once each, in the order of their digests."""
    return sorted(set(names), key=lambda name: sha256(name.encode()).hexdigest())


def whole(labels: Sequence[str], items: int) -> NDArray[np.bool_]:
    """Items of the labels that are held out, in the order of digests up to so many items; too large ones stay."""
    counts = {label: labels.count(label) for label in set(labels)}
    taken: set[str] = set()
    for label in by_digest(labels):
        if sum(counts[one] for one in taken) + counts[label] <= items:
            taken.add(label)
    return np.array([label in taken for label in labels])


def tasks(short: bool) -> dict[str, Callable[[], Task]]:
    found: dict[str, Callable[[], Task]] = {"clothing labels": clothing, "flickr8k photographs": flickr}
    if not short:
        found |= {
            "grocery products": lambda: grocery("product"),
            BY_CHANCE: lambda: grocery("product", by_chance=True),
            "grocery kinds": lambda: grocery("coarse"),
            **{f"fashion {field}": lambda field=field: fashion(field) for field in FASHION},
        }
    return found


def grocery(by: str, *, by_chance: bool = False) -> Task:
    """Photographs and icons as items; 15 products held out, or kinds (`coarse`) that hold about as many.

    Args:
        by_chance: a fifth of all photographs by digest are not trained on, instead of the set's own test photographs:
            so photographs of one shelf are on both sides.
    """
    products, photos = lines_of("grocery/products.jsonl"), lines_of("grocery/images.jsonl")
    known = {product["id"]: product for product in products}
    own = [product["id"] for product in products] + [photo["product_id"] for photo in photos]
    if by == "product":
        out = held_out(known)
    else:
        kinds = [product["coarse"] for product in products]
        out = {product["id"] for product, is_out in zip(products, whole(kinds, 15), strict=True) if is_out}
    unseen = np.array([name in out for name in own])
    drawn = set(by_digest([photo["id"] for photo in photos])[: len(photos) // 5])
    tested = [photo["id"] in drawn if by_chance else photo["split"] == "test" for photo in photos]
    is_test = np.array([False] * len(products) + tested)
    return Task(
        ids=[product["id"] for product in products] + [photo["id"] for photo in photos],
        files=[DATA / "grocery" / row["file"] for row in (*products, *photos)],
        texts={"title": [known[name]["title"] for name in own], "description": [known[name]["text"] for name in own]},
        unseen=unseen,
        seen=is_test & ~unseen,
    )


def clothing() -> Task:
    rows = lines_of("clothing/images.jsonl")
    labels = [row["label"] for row in rows]
    unseen = np.isin(labels, by_digest(labels)[:3])
    return Task(
        ids=[row["id"] for row in rows],
        files=[DATA / "clothing" / row["file"] for row in rows],
        texts={"title": labels},
        unseen=unseen,
        seen=np.array([row["split"] == "test" for row in rows]) & ~unseen,
    )


FASHION: dict[str, Callable[[dict[str, Any]], str]] = {
    "products": lambda row: row["title"].lower(),
    "article types": lambda row: row["article_type"],
    "brands": lambda row: row["title"].split()[0].lower(),
}


def fashion(field: str) -> Task:
    rows = lines_of("fashion_products/products.jsonl")
    unseen = whole([FASHION[field](row) for row in rows], int(TENTH * len(rows)))
    return Task(
        ids=[row["id"] for row in rows],
        files=[DATA / "fashion_products" / row["file"] for row in rows],
        texts={"title": [row["title"] for row in rows], "description": [row["text"] for row in rows]},
        unseen=unseen,
        seen=last_of_several([row["id"] for row in rows], [row["title"].lower() for row in rows]) & ~unseen,
    )


def last_of_several(ids: Sequence[str], titles: Sequence[str]) -> NDArray[np.bool_]:
    """Items that are the last of their title in the order of digests, where a title has several."""
    last = {titles[ids.index(name)]: name for name in by_digest(ids)}
    return np.array([last[title] == name and titles.count(title) > 1 for name, title in zip(ids, titles, strict=True)])


def flickr() -> Task:
    """The first caption as the title, the others as descriptions in turn."""
    rows = lines_of("flickr8k_1k/images.jsonl")
    ids = [row["id"] for row in rows]
    return Task(
        ids=ids,
        files=[DATA / "flickr8k_1k" / row["file"] for row in rows],
        texts={"title": [row["captions"][0] for row in rows], "description": [row["captions"][1] for row in rows]},
        unseen=np.isin(ids, by_digest(ids)[:164]),
        seen=np.zeros(len(rows), bool),
    )


def kept(encoder: Encoder, side: str, names: Sequence[str], make: Callable[[int, int], Any]) -> NDArray[np.float32]:
    """Vectors by what made them, from `.bench/` or made some at a time."""
    told = json.dumps([encoder.passport("image" if side == "image" else "text").digest, *names])
    path = CACHE / f"align_unseen-{side}-{sha256(told.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        made = np.concatenate([make(start, start + 64) for start in range(0, len(names), 64)])
        CACHE.mkdir(exist_ok=True)
        np.save(path, made)
    return np.asarray(np.load(path), np.float32)


def features_of(task: Task, pictures: Encoder, words: Encoder, settings: Settings) -> Features:
    """As the stage reads them from a workspace."""
    limits = Limits(min_side=1)

    def load(start: int, end: int) -> Any:
        return pictures.encode_images(
            [load_image(file, limits, pictures.image_transform) for file in task.files[start:end]]
        )

    images = kept(pictures, "image", [f"{file.parent.name}/{file.name}" for file in task.files], load)
    texts = [text for own in task.texts.values() for text in own]
    every = list(dict.fromkeys(texts))
    vectors = kept(words, "text", every, lambda start, end: words.encode_documents(every[start:end]))
    rows = {text: row for row, text in enumerate(every)}
    count = len(task.ids)
    titles = [f"title {text.casefold()}" for text in task.texts["title"]]
    near = near_pairs(images, settings.near_duplicates or 1.0)
    return Features(
        item_ids=task.ids,
        keys=[""] * count,
        split=[""] * count,
        groups=group_items([[title] for title in titles], near),
        copies=group_items([[] for _ in titles], near),
        images=images.astype(np.float16),
        image_items=np.arange(count),
        texts=vectors[[rows[text] for text in texts]].astype(np.float16),
        text_items=np.tile(np.arange(count), len(task.texts)),
        text_views=[view for view in task.texts for _ in range(count)],
    )


def parts_of(task: Task, features: Features, settings: Settings) -> dict[str, NDArray[np.int64]]:
    """Split by the task, whole groups on one side; the part for stopping as the stage draws it."""
    test = np.isin(features.groups, features.groups[task.unseen])
    seen = task.seen & ~test & ~np.isin(features.copies, features.copies[~task.seen])
    rest = np.flatnonzero(~test & ~seen)
    drawn = split_unseen(
        features.groups[rest],
        features.copies[rest],
        [task.ids[place] for place in rest],
        {},
        test_share=0.0,
        valid_share=settings.valid_share,
        seed=settings.seed,
    )
    is_held = np.isin(features.groups, features.groups[rest[drawn["valid"]]])
    return {
        "train": rest[drawn["train"]],
        "valid": rest[drawn["valid"]],
        "test": np.flatnonzero(test),
        "seen": np.flatnonzero(seen & ~is_held),
    }


def fitted(
    features: Features,
    parts: Mapping[str, NDArray[np.int64]],
    settings: Settings,
    training: HeadTraining,
    under: PairEncoders,
    start: AlignedHeads | None,
) -> tuple[FitResult, float]:
    """A fit by the stage's own function, and the seconds of processor time."""
    began = time.process_time()
    result = fit_heads(
        features,
        parts,
        towers=under.towers,
        start=start,
        weights=settings.texts,
        training=training,
        classes=under.classes,
        device="cpu",
        checkpoint=CACHE / f"align_unseen-{os.getpid()}.safetensors",
        name="align_unseen",
        progress=SilentProgress(),
    )
    result.scratch.unlink(missing_ok=True)
    return result, time.process_time() - began


def run(short: bool) -> dict[str, Any]:
    """Task -> parts, processor seconds, and what `evaluate_unseen` gives: before, by the recipe of 0.1, and after."""
    aligned = pipeline.load("aligned")
    settings = aligned.stage("align.text_image").settings
    assert isinstance(settings, Settings)
    under = PairEncoders("align_unseen", build(aligned.stage(settings.image), aligned), settings.text, aligned.engine)
    pictures = encoders.load("starter:levels", device="cpu")
    old = HeadTraining(**{**TRAINING_OF_0_1, "regression": False})
    result: dict[str, Any] = {}
    for name, make in tasks(short).items():
        task = make()
        features = features_of(task, pictures, under.text, settings)
        parts = parts_of(task, features, settings)
        before, before_s = fitted(features, parts, settings, old, under, None)
        after, after_s = fitted(features, parts, settings, settings.training, under, under.start(settings.start))
        sides = np.empty(len(task.ids), dtype="<U5")
        for part, places in parts.items():
            sides[places] = part
        result[name] = {
            "parts": {part: len(places) for part, places in parts.items()},
            "processor_s": {"0.1": before_s, "now": after_s},
            "about": dict(after.about),
            "found": evaluate_unseen(
                replace(features, split=sides.tolist()), after.aligned, before.aligned, view="title"
            ),
        }
        print(f"{name}: {result[name]['parts']}, {before_s:.0f} and {after_s:.0f} s", file=sys.stderr, flush=True)
    return result


SHOWN = (
    *((part, "recall_at_1", "image_to_text") for part in PARTS),
    ("harmonic", "recall_at_10", "image_to_text"),
    ("harmonic", "recall_at_1", "text_to_image"),
    ("harmonic", "recall_at_10", "text_to_image"),
    ("alone", "recall_at_10", "image_to_text"),
    ("alone", "recall_at_10", "text_to_image"),
)
"""Parts, measures and ways in the table; `.bench/` keeps all of them."""


def rows(result: dict[str, Any]) -> list[Row]:
    """Lines of each task, the figure of 0.1 beside it; from picture to picture that of the vectors below the heads."""
    lines = []
    for task, known in result.items():
        found = known["found"]
        for part, measure, way in SHOWN:
            goal = GOALS.get((task, part), "") if (measure, way) == ("recall_at_1", "image_to_text") else ""
            claim = f"{task}, {WAYS[way]}, {PARTS[part]}"
            lines.append(_row(claim, found["directions"][way][part], measure, found, goal))
        between = (found["images"] or {}).get("unseen")
        if between:
            lines.append(_row(f"{task}, picture to picture, unseen", between, "recall_at_1", found, "", "image"))
    return lines


def _row(
    claim: str, part: Mapping[str, Any], measure: str, found: Mapping[str, Any], goal: str, earlier: str = "0.1"
) -> Row:
    value, was, change = (part[side][measure] for side in ("after", "before", "difference"))
    gallery = found["gallery"]
    learnt = ", trained on" if found["seen_trained_on"] and claim.endswith(", seen") else ""
    few = ", too few to judge" if part["n"] < found["fewest"] else ""
    queries = f"{part['n']} queries of {part['groups']} groups{learnt}{few}"
    return Row(
        f"{claim}, R@{measure.rpartition('_')[2]}",
        f"{queries}; {gallery['pictures']} pictures, {gallery['texts']} titles",
        f"{value['value']:.3f}",
        f"{value['low']:.3f} to {value['high']:.3f}; {earlier}: {was['value']:.3f} ({was['low']:.3f} to "
        f"{was['high']:.3f}), difference {change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})",
        goal,
    )


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
