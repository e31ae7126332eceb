"""What `starter-clip` is worth on what it never saw, beside chance, plain ConSE and heads trained without the prior.

    python -m benchmarks starter_clip [--full]

Reads the sets of `COLDSTART_DATA` and says which of them are not there. Vectors of pictures are kept in `.bench`. At
full size the heads without the prior are trained here too, on the same material; in short form the shipped ones and
ConSE are compared. Intervals: 95 %, bootstrap over products, pictures
or clips with all that belongs to each (over photos for the ten labels of clothing).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from benchmarks.report import CACHE, Row
from coldstart import encoders, sample
from coldstart.encoders._heads import AlignedHeads, Heads
from coldstart.encoders.starter_clip import HEADS
from coldstart.metrics import ranking
from tools.starter_clip import conse, train
from tools.starter_clip.data import CLOTHES, first_half, held_out, sources, vectors_of_frames, vectors_of_pictures
from tools.starter_clip.data import rows as lines_of

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
KEPT = CACHE / "starter_clip"
PLAIN_TOP = 10

Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Task:
    """Pictures and texts, and which belong together.

    Attributes:
        name: what is asked.
        images, texts: unit vectors of the frozen encoders; a video is several rows of `images`.
        items: int `[N]`: which picture or video a row of `images` is of; rows of one stand together.
        image_groups, text_groups: of each picture or video and each text: equal ones belong together.
        back: whether the texts are asked too.
        at: the k of recall@k.
        whole: intervals draw whole groups, as photos of one product are no independent evidence of others.
        icons: what is asked for are pictures, in the place of texts.
    """

    name: str
    images: NDArray[np.float32]
    items: NDArray[np.int64]
    texts: NDArray[np.float32]
    image_groups: list[Any]
    text_groups: list[Any]
    back: bool = True
    at: tuple[int, ...] = (1, 5, 10)
    whole: bool = True
    icons: bool = False


def tasks(encoder: encoders.Encoder) -> Iterator[Task]:
    """Those whose set is there."""
    for name, make in (
        ("flickr8k_1k", _flickr),
        ("fashion_products", _fashion),
        ("clothing", _clothing),
        ("videos_real", _videos),
        ("grocery", _grocery),
    ):
        if (DATA / name).is_dir():
            yield from make(DATA / name, encoder)
        else:
            print(f"no {name} in {DATA}: left out (set COLDSTART_DATA)")


def _pictures(folder: Path, found: list[dict[str, Any]], encoder: encoders.Encoder) -> NDArray[np.float32]:
    return vectors_of_pictures([folder / row["file"] for row in found], encoder, KEPT)


def _flickr(folder: Path, encoder: encoders.Encoder) -> Iterator[Task]:
    found = lines_of(folder / "images.jsonl")
    images, ids = _pictures(folder, found, encoder), [row["id"] for row in found]
    captions = encoder.encode_documents([text for row in found for text in row["captions"]])
    count = len(found[0]["captions"])
    places = np.arange(len(found))
    yield Task("flickr8k, first caption", images, places, captions[::count], ids, ids)
    yield Task("flickr8k, any of five captions", images, places, captions, ids, [i for i in ids for _ in range(count)])


def _fashion(folder: Path, encoder: encoders.Encoder) -> Iterator[Task]:
    found = [row for row in lines_of(folder / "products.jsonl") if not first_half(row["id"])]
    titles = [row["title"] for row in found]
    names = [title.lower().strip() for title in titles]
    texts = encoder.encode_documents(titles)
    yield Task("fashion titles", _pictures(folder, found, encoder), np.arange(len(found)), texts, names, names)


def _clothing(folder: Path, encoder: encoders.Encoder) -> Iterator[Task]:
    found = [row for row in lines_of(folder / "images.jsonl") if row["split"] == "test"]
    labels = sorted({row["label"] for row in found})
    texts = encoder.encode_documents([f"a photo of a {CLOTHES.get(label, label)}" for label in labels])
    images, said = _pictures(folder, found, encoder), [row["label"] for row in found]
    yield Task(
        "clothing labels", images, np.arange(len(found)), texts, said, labels, back=False, at=(1, 3), whole=False
    )


def _videos(folder: Path, encoder: encoders.Encoder) -> Iterator[Task]:
    found = lines_of(folder / "videos.jsonl")
    every = [vectors_of_frames(folder / row["file"], encoder, KEPT) for row in found]
    texts = encoder.encode_documents([row["text"] for row in found])
    groups = [row["duplicate_of"] or row["id"] for row in found]
    closed = [place for place, row in enumerate(found) if row["licence_tier"] != "open"]
    for name, taken in (("real videos, all", list(range(len(found)))), ("real videos, not open", closed)):
        parts = [every[place] for place in taken]
        items = np.repeat(np.arange(len(taken)), [len(part) for part in parts])
        own = [groups[place] for place in taken]
        yield Task(name, np.concatenate(parts), items, texts[taken], own, own)


def _grocery(folder: Path, encoder: encoders.Encoder) -> Iterator[Task]:
    products, found = lines_of(folder / "products.jsonl"), lines_of(folder / "images.jsonl")
    ids = [product["id"] for product in products]
    hidden = held_out(ids)
    images = _pictures(folder, found, encoder)
    said = [row["product_id"] for row in found]
    seen = [place for place, row in enumerate(found) if row["split"] == "test" and said[place] not in hidden]
    unseen = [place for place in range(len(found)) if said[place] in hidden]
    only = [place for place, name in enumerate(ids) if name in hidden]
    sides = {
        "name": encoder.encode_documents([product["title"] for product in products]),
        "description": encoder.encode_documents([product["text"] for product in products]),
        "icon": _pictures(folder, products, encoder),
    }
    for word, texts in sides.items():
        for name, asked, among in (
            (f"grocery {word}, seen products, test photos", seen, range(len(ids))),
            (f"grocery {word}, held-out products", unseen, range(len(ids))),
            (f"grocery {word}, held-out products among themselves", unseen, only),
        ):
            yield Task(
                name,
                images[asked],
                np.arange(len(asked)),
                texts[list(among)],
                [said[place] for place in asked],
                [ids[place] for place in among],
                back=False,
                at=(1, 5),
                icons=word == "icon",
            )


def measure(task: Task, image: Map, text: Map) -> dict[str, Any]:
    """Recall at each k with its interval, both ways; the size of the gallery and of what asks."""
    mapped = image(task.images)
    pooled = np.zeros((len(task.image_groups), mapped.shape[1]), np.float32)
    np.add.at(pooled, task.items, mapped)
    pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    words = (image if task.icons else text)(task.texts)
    ways = {"to icon" if task.icons else "to text": (pooled, words, task.image_groups, task.text_groups)}
    if task.back:
        ways["to image"] = (words, pooled, task.text_groups, task.image_groups)
    return {
        way: {
            "queries": len(asks),
            "gallery": len(among),
            "median": ranking.median_rank(ranks := ranking.ranks(asks, among, ranking.right_places(own, theirs))),
            "recall": {k: _interval(ranks <= k, own if task.whole else None) for k in task.at},
            "chance": {
                k: ranking.chance_recall_at_k(
                    [len(places) for places in ranking.right_places(own, theirs)], len(among), k
                )
                for k in task.at
            },
        }
        for way, (asks, among, own, theirs) in ways.items()
    }


def _interval(hits: NDArray[np.bool_], groups: list[Any] | None) -> list[float]:
    found = ranking.bootstrap(hits, groups=groups, resamples=1000)
    return [found.value, found.low, found.high]


def maps(heads: Heads) -> tuple[Map, Map]:
    return heads.image.project, heads.text.project


def plain_conse(encoder: encoders.Encoder) -> tuple[Map, Map]:
    """The reference recipe: the ten likeliest classes' names, weighted by probability; texts as they are."""
    weight, bias = conse.classifier()
    names = torch.from_numpy(encoder.encode_documents([name for name, _ in conse.class_words()]))

    def image(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        shares = (torch.from_numpy(vectors) @ weight.T * conse.FEATURE_NORM + bias).softmax(1)
        best = shares.topk(PLAIN_TOP, dim=1)
        kept = torch.zeros_like(shares).scatter(1, best.indices, best.values)
        return normalize(kept @ names, dim=1).numpy()

    return image, lambda vectors: vectors


def contenders(encoder: encoders.Encoder, full: bool) -> dict[str, tuple[Map, Map]]:
    prior = conse.prior(encoder)
    found = {"plain ConSE": plain_conse(encoder), "ConSE prior": maps(prior)}
    if full:
        material = sources(DATA, sample.path() / "truth.jsonl")
        undressed = [source for source in material if source.kind != "clothing"]
        recipe = replace(train.Recipe(), keep=0.0)
        blank = train.without_prior(prior)
        every = train.gather(material, encoder, KEPT)
        found["trained, no prior"] = maps(
            train.train(every, blank, recipe)
        )  # nor imagined pictures: they are made from the classifier
        bare = train.gather(undressed, encoder, KEPT)
        found["shipped recipe without clothing"] = maps(train.train(bare, prior, world=train.imagined(bare, encoder)))
    found["shipped"] = maps(AlignedHeads.load(HEADS).heads)
    return found


def run(short: bool = False) -> dict[str, Any]:
    """Task -> contender -> what `measure` gives."""
    encoder = encoders.load("starter", device="cpu")
    asked = list(tasks(encoder))
    every = contenders(encoder, not short)
    plain: dict[str, tuple[Map, Map]] = {"no heads": (_as_it_is, _as_it_is)}
    return {
        task.name: {name: measure(task, *both) for name, both in ((plain if task.icons else {}) | every).items()}
        for task in asked
    }


def _as_it_is(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors


def rows(result: dict[str, Any]) -> list[Row]:
    """A line for each task, way and contender."""
    found = []
    for task, by_name in result.items():
        for way in next(iter(by_name.values())):
            for name, ways in by_name.items():
                one = ways[way]
                ks = list(one["recall"])
                figure = " / ".join(f"{one['recall'][k][0]:.3f}" for k in ks)
                spread = ", ".join("{:.3f} to {:.3f}".format(*one["recall"][k][1:]) for k in ks)
                chance = " / ".join(f"{one['chance'][k]:.3f}" for k in ks)
                found.append(
                    Row(
                        f"`starter-clip` {task} {way}: {name}",
                        f"{one['queries']} among {one['gallery']}, R@{'/'.join(map(str, ks))}, chance {chance}",
                        figure,
                        spread,
                    )
                )
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=True), indent=2))
