"""Claim: a search without `--space` finds no less than the best single space, by text and by picture.

    python -m benchmarks search_default [--full]

Three catalogues with queries that they do not hold: store photos of 65 groceries, and their descriptions; fashion by
the photo of a product (right: others of its type, colour and gender) and by the data set's own sentence on it; photos
of Flickr8k by captions other than the stored one, and by pictures (right: the photo with the nearest other captions).
Spaces: `image` (starter), `clip` (starter-clip), `text` (starter), and where there are enough pairs `aligned`, a ridge
from pictures to the stored texts, fitted on four fifths of the items. The catalogue is a real one with its indexes, the
candidates, scores and calibration are the program's own.

The constants of `coldstart.search.calibration` were chosen on one part of the queries (`chosen`); figures are of the
others. Intervals are 95 % bootstraps over queries, of one photo or product together.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.report import CACHE, Row
from coldstart import encoders
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.vectors import unit
from coldstart.encoders import Passport, Vectors
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.search.calibration import Calibration
from coldstart.search.pseudo_queries import calibrate, sample_catalog
from coldstart.search.scoring import FULL_TEXT, KIND_OF, Ranking, Scorer
from coldstart.search.search import DEPTH
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
ALIGNED = Passport("align:ridge", "none", "", 384)
CUTS = (1, 5)


@dataclass(frozen=True)
class Shop:
    """A catalogue with its queries.

    Attributes:
        rows: of each item `title`, `category`, `attributes`, `text`.
        pictures, texts: `starter:levels` [N, 2992] and MiniLM [N, 384] of the items.
        fitted: items that `aligned` is fitted on, bool [N]; none without it.
    """

    rows: Sequence[Mapping[str, Any]]
    pictures: Vectors
    texts: Vectors
    fitted: np.ndarray[Any, Any]


@dataclass(frozen=True)
class QuerySet:
    """Queries of one kind: pictures [Q, 2992] or texts, the right items of each, the item to leave out, a group."""

    name: str
    pictures: Vectors | None
    texts: Sequence[str] | None
    right: Sequence[frozenset[int]]
    out: Sequence[int]
    group: Sequence[str]


def run(short: bool) -> dict[str, Any]:
    """Every query of every catalogue by default and by each ranking alone: ranks of the first right item."""
    most = 150 if short else 1000
    made: dict[str, Callable[[], tuple[Shop, list[QuerySet]]]] = {
        "grocery": grocery,
        "fashion": fashion,
        "flickr8k": flickr,
    }
    found: dict[str, Any] = {}
    for name, make in made.items():
        shop, asked = make()
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(shop, asked, Path(folder), most)
    return found


def measure(shop: Shop, asked: Sequence[QuerySet], folder: Path, most: int) -> dict[str, Any]:
    starter, clip = encoders.load("starter"), encoders.load("starter-clip")
    dim = clip.base("image").dim  # type: ignore[attr-defined]
    look = Passport("starter", "pooled", "", 1280)

    def image_vectors(levels: Vectors) -> dict[str, Vectors]:
        made = {"image": unit(levels[:, :1280]), "clip": clip.project("image", unit(levels[:, :dim]))}  # type: ignore[attr-defined]
        return made | ({"aligned": project(levels)} if project is not None else {})

    project = ridge(shop.pictures[shop.fitted], shop.texts[shop.fitted]) if shop.fitted.any() else None
    passports = {"image": look, "clip": clip.passport("text"), "text": starter.passport("text")}
    if shop.fitted.any():
        passports["aligned"] = ALIGNED
    vectors = {**image_vectors(shop.pictures), "text": unit(shop.texts)}
    catalog = publish(shop, vectors, passports, folder)
    readers: dict[str, Any] = {
        passports["clip"].digest: clip, passports["text"].digest: starter, look.digest: Silent(),
        ALIGNED.digest: Renamed(starter),
    }  # fmt: skip
    inputs = dict.fromkeys(passports, "image") | {"text": "text"}
    held = frozenset(str(place) for place in np.flatnonzero(~shop.fitted)) if shop.fitted.any() else frozenset()
    sample = sample_catalog(catalog, inputs)
    calibration, notes = calibrate(sample, lambda passport: readers[passport.digest], held)
    scorer = Scorer(catalog, calibration, ("image", "clip", "aligned"))
    found: dict[str, Any] = {"items": len(shop.rows), "weights": notes, "queries": {}}
    for one in asked:
        chosen = np.sort(np.random.default_rng(0).permutation(len(one.right))[:most])
        if one.texts is not None:
            texts = [one.texts[place] for place in chosen]
            words = unit(starter.encode_queries(texts))
            queries = {"text": words, "clip": unit(clip.encode_queries(texts))}
            queries |= {"aligned": words} if shop.fitted.any() else {}
        else:
            assert one.pictures is not None
            texts, queries = [], image_vectors(one.pictures[chosen])
        by = "text" if one.texts is not None else "image"
        ranks: dict[str, list[float]] = {}
        for row, place in enumerate(chosen.tolist()):
            own = {space: vectors[row : row + 1] for space, vectors in queries.items()}
            answers = answer(catalog, scorer, by, own, texts[row] if texts else "", passports)
            for name, ids in answers.items():
                kept = [item for item in ids if item != one.out[place]]
                hits = [at for at, item in enumerate(kept, start=1) if item in one.right[place]]
                ranks.setdefault(name, []).append(min(hits, default=float("inf")))
        groups = [one.group[place] for place in chosen]
        found["queries"][one.name] = {
            "groups": groups,
            "ranks": {k: [min(r, 1e6) for r in v] for k, v in ranks.items()},
        }
    return found


def answer(
    catalog: Published,
    scorer: Scorer,
    by: Any,
    queries: Mapping[str, Vectors],
    text: str,
    passports: Mapping[str, Passport],
) -> dict[str, list[int]]:
    """Items by default, and by each ranking alone."""
    rankings: dict[str, Ranking] = {}
    for space, vectors in queries.items():
        found = catalog.vector_search(space, vectors, DEPTH)
        rankings[space] = list(zip(found["item_id"].to_pylist(), found["_distance"].to_pylist(), strict=True))
    if by == "text":
        found = catalog.text_search(text, DEPTH)
        rankings[FULL_TEXT] = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    usual = scorer.choose(by, {space: passports[space] for space in queries})
    if by == "text" and KIND_OF[by] not in (scorer.calibration or Calibration({}, {}, {})).kinds:
        usual = {"text": passports["text"]}
    some = {name: own for name, own in rankings.items() if name in usual or name == FULL_TEXT}
    fused = scorer.fuse(by, usual, some, queries, text, DEPTH)
    singles = {name: [int(item) for item, _ in ranking] for name, ranking in rankings.items()}
    return {"default": [int(item) for item, *_ in fused], **singles, "ranks": by_rank(rankings)}


def by_rank(rankings: Mapping[str, Ranking]) -> list[int]:
    """Join all rankings by reciprocal rank, as the program did before."""
    total: dict[int, float] = {}
    for ranking in rankings.values():
        for rank, (item, _) in enumerate(ranking, start=1):
            total[int(item)] = total.get(int(item), 0.0) + 1 / (60 + rank)
    return sorted(total, key=lambda item: (-total[item], item))


def publish(shop: Shop, vectors: Mapping[str, Vectors], passports: Mapping[str, Passport], folder: Path) -> Published:
    count = len(shop.rows)
    ids = [str(place) for place in range(count)]
    values: dict[str, Any] = {
        name: [row.get(name) for row in shop.rows] for name in ("title", "category", "attributes")
    }
    values["kind"], values["media"] = ["product"] * count, [[]] * count
    columns: dict[str, Any] = {"item_id": pa.array(ids)}
    for entry in CONTENT_FIELDS:
        columns[entry.name] = pa.array(values.get(entry.name, [None] * count), entry.type)
    for name in ("row_key", "index_key"):
        columns[name] = pa.array(ids)
    for name in ("transcript", "screen_text", "language", "duplicate_of"):
        columns[name] = pa.nulls(count, pa.string())
    columns["text"] = pa.array([row["text"] for row in shop.rows])
    for space, own in vectors.items():
        columns[f"vector_{space}"] = pa.array(list(own.astype(np.float32)), pa.list_(pa.float32(), own.shape[1]))
    writer = Catalog(lancedb.connect(str(folder)))
    writer.write(pa.table(columns), passports)
    writer.publish(writer.build_indexes())
    published = writer.published()
    assert published is not None
    return published


class Silent:
    """Encoder that takes no text."""

    modalities = frozenset({"image"})


class Renamed:
    """Encoder of texts whose space goes by another name."""

    modalities = frozenset({"text"})

    def __init__(self, encoder: Any) -> None:
        self.encode_queries = encoder.encode_queries

    def passport(self, modality: str) -> Passport:
        return ALIGNED


def ridge(pictures: Vectors, texts: Vectors) -> Callable[[Vectors], Vectors]:
    """Linear map from pictures to texts, both about their means."""
    mean, shift = pictures.mean(0), texts.mean(0)
    data = pictures - mean
    if len(data) < data.shape[1]:
        map_ = data.T @ np.linalg.solve(data @ data.T + np.eye(len(data)), texts - shift)
    else:
        map_ = np.linalg.solve(data.T @ data + np.eye(data.shape[1]), data.T @ (texts - shift))
    return lambda some: unit(((some - mean) @ map_ + shift).astype(np.float32))


# -- data


def grocery() -> tuple[Shop, list[QuerySet]]:
    """65 products with icons and names; photos of shelves (not those that starter-clip saw), and descriptions."""
    folder = DATA / "grocery"
    products, photos = read(folder / "products.jsonl"), read(folder / "images.jsonl")
    icons = pictures("grocery", [folder / row["file"] for row in products + photos])
    place = {row["id"]: at for at, row in enumerate(products)}
    rows = [
        {
            "title": row["title"], "category": row["coarse"], "text": f"{row['title']}\n{row['coarse']}",
            "attributes": json.dumps({"department": row["department"]}),
        }
        for row in products
    ]  # fmt: skip
    shop = Shop(rows, icons[:65], texts([f"{row['title']}. {row['coarse']}." for row in products]), none(65))
    kept = [at for at, row in enumerate(photos) if row["split"] != "train" and not part(row["id"] + "x", 0.5)]
    right = [place[photos[at]["product_id"]] for at in kept]
    return shop, [
        QuerySet(
            "a store photo", icons[[65 + at for at in kept]], None, [frozenset({one}) for one in right],
            [-1] * len(kept), [photos[at]["id"] for at in kept],
        ),
        QuerySet(
            "the description", None, [row["text"] for row in products], [frozenset({at}) for at in range(65)],
            [-1] * 65, [row["id"] for row in products],
        ),
    ]  # fmt: skip


def fashion() -> tuple[Shop, list[QuerySet]]:
    """4,183 products; photos of those that `aligned` did not see, and the data set's sentences."""
    folder = DATA / "fashion_products"
    products = read(folder / "products.jsonl")
    names = ("gender", "colour", "season", "usage")
    rows = [
        {
            "title": row["title"], "category": row["article_type"], "text": f"{row['title']}\n{row['article_type']}",
            "attributes": json.dumps({name: row[name] for name in names}),
        }
        for row in products
    ]  # fmt: skip
    looks = pictures("fashion", [folder / row["file"] for row in products])
    fitted = np.array([part(row["id"], 0.8) for row in products])
    shop = Shop(rows, looks, texts([f"{row['title']}. {row['article_type']}." for row in products]), fitted)
    sorts = [(row["article_type"], row["colour"], row["gender"]) for row in products]
    alike: dict[tuple[str, ...], set[int]] = {}
    for at, sort in enumerate(sorts):
        alike.setdefault(sort, set()).add(at)
    looked = set(np.random.default_rng(0).permutation(len(products))[2000:].tolist())  # constants were chosen on these
    held = [at for at in np.flatnonzero(~fitted).tolist() if at not in looked and len(alike[sorts[at]]) > 1]
    told = {row["text"]: sorts[at] for at, row in enumerate(products)}
    return shop, [
        QuerySet(
            "a photo of another", looks[held], None, [frozenset(alike[sorts[at]] - {at}) for at in held],
            held, [products[at]["id"] for at in held],
        ),
        QuerySet(
            "a sentence", None, list(told), [frozenset(alike[sort]) for sort in told.values()], [-1] * len(told),
            list(told),
        ),
    ]  # fmt: skip


def flickr() -> tuple[Shop, list[QuerySet]]:
    """764 photos, each with its first caption; captions that are not stored, and photos of like captions."""
    folder = DATA / "flickr8k_1k"
    photos = read(folder / "images.jsonl")
    first = [row["captions"][0] for row in photos]
    rows = [{"title": None, "category": None, "attributes": None, "text": text} for text in first]
    rows = [{**row, "title": row["text"]} for row in rows]
    looks = pictures("flickr", [folder / row["file"] for row in photos])
    fitted = np.array([part(row["id"], 0.8) for row in photos])
    shop = Shop(rows, looks, texts(first), fitted)
    others = [(at, number) for at in range(len(photos)) for number in (2, 3, 4)]  # constants were chosen on the second
    about = unit(np.sum([texts([row["captions"][number] for row in photos]) for number in (2, 3, 4)], axis=0))
    cosines = about @ about.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(1).tolist()
    held = np.flatnonzero(~fitted).tolist()
    known = np.flatnonzero(fitted).tolist()
    asked = []
    for name, some in (("of photos that `aligned` saw", known), ("of photos that `aligned` did not see", held)):
        own = [(at, number) for at, number in others if at in set(some)]
        asked.append(
            QuerySet(
                f"another caption, {name}", None, [photos[at]["captions"][number] for at, number in own],
                [frozenset({at}) for at, _ in own], [-1] * len(own), [photos[at]["id"] for at, _ in own],
            )
        )  # fmt: skip
    asked.append(
        QuerySet(
            "a photo of the like", looks[held], None, [frozenset({nearest[at]}) for at in held], held,
            [photos[at]["id"] for at in held],
        )
    )  # fmt: skip
    return shop, asked


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def part(name: str, share: float) -> bool:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) / 2**64 < share


def none(count: int) -> np.ndarray[Any, Any]:
    return np.zeros(count, bool)


def texts(some: Sequence[str]) -> Vectors:
    """MiniLM of documents."""
    return encoders.load("starter").encode_documents(list(some))


def pictures(name: str, paths: Sequence[Path]) -> Vectors:
    """`starter:levels` of pictures, kept in the cache folder."""
    kept = CACHE / f"search_default_{name}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept))
    encoder = encoders.load("starter:levels")
    transform = encoder.image_transform
    assert transform is not None
    made = [
        encoder.encode_images([load_image(path, Limits(min_side=1), transform) for path in paths[start : start + 64]])
        for start in range(0, len(paths), 64)
    ]
    np.save(kept, np.concatenate(made))
    return np.concatenate(made)


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table: the default against the best single ranking of those queries."""
    found = []
    for name, shop in result.items():
        for what, queries in shop["queries"].items():
            ranks = {one: np.asarray(own) for one, own in queries["ranks"].items()}
            singles = [one for one in ranks if one not in ("default", "ranks")]
            best = max(singles, key=lambda one: float((1 / ranks[one]).mean()))
            groups = queries["groups"]
            by_cut = []
            for cut in CUTS:
                own, other, old = (
                    bootstrap((ranks[one] <= cut).astype(float), groups=groups) for one in ("default", best, "ranks")
                )
                gain = paired(
                    (ranks[best] <= cut).astype(float), (ranks["default"] <= cut).astype(float), groups=groups
                )
                by_cut.append(
                    f"R@{cut} {own.value:.3f} ({own.low:.3f} to {own.high:.3f}), {best} {other.value:.3f}, by ranks "
                    f"{old.value:.3f}, gain {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
                )
            gain = paired(1 / ranks[best], 1 / ranks["default"], groups=groups)
            found.append(
                Row(
                    f"{name}, {what}: mean reciprocal rank by default, less that of the best single ranking",
                    f"{len(groups):,} queries, {shop['items']:,} items; best: {best}",
                    f"{gain.value:+.3f}",
                    f"{gain.low:+.3f} to {gain.high:+.3f}; {'; '.join(by_cut)}",
                    "at least 0",
                )
            )
    return found
