"""Calibrate matching on one catalogue: what its pictures and frames look like on average, what words reach by chance.

Nothing here needs known pairs. Frames differ from the shop's own pictures in light, background and hand, so each is
compared less the mean of its own kind. How much a space of pictures is worth is measured by queries that are made of
the catalogue: the picture of a product with the view of another video laid over it, in the vectors. Words are measured
against phrases that name nothing, and against the titles of products, which name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import digest
from coldstart.core.vectors import unit
from coldstart.encoders import Encoder, Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.search.stored_numbers import MOST, read_numbers, rounded

if TYPE_CHECKING:
    from coldstart.search.channels import Input
    from coldstart.store.published import Published

CALIBRATION, FILE = "match-calibration", "calibration.json"
"""Name of the artifact that keeps a calibration, and of its file."""

VERSION = 1
"""Version of the recipe: another one calibrates anew."""

PRODUCTS, VIDEOS, NAMED = 4096, 1024, 200
"""Products, videos and titles from all over the catalogue that a calibration reads at most."""

SHRINK = 5
"""Videos that the mean of the products counts for in that of the videos: with none it stands in for it."""

FEWEST_VIDEOS = 10
"""Videos from which on their views are laid over the queries; with fewer, those of other products."""

_ODDS = 0.02
"""Share of misses that nobody can tell from none on a few dozen queries."""
_QUERIES = 200

NEUTRAL = (
    "IMG_4821", "VID_20250608_154233", "DSC_0093.MOV", "untitled", "new video", "final cut v3", "test", "part 3",
    "my first video", "watch until the end", "like and subscribe", "link in bio", "follow for more",
    "you will not believe this", "which one would you pick?", "good morning everyone", "happy friday",
    "a day in my life", "a week in review", "weekend mood", "day 5 of 30", "random thoughts", "storytime",
    "thank you for a thousand followers", "questions and answers", "behind the scenes", "coming soon",
    "sale ends tonight", "only 19.99", "2 for 1", "12:45", "50% off", "45.90 kr each", "new in store",
    "back in stock", "best of the month", "top 3 this week", "honest review", "unboxing", "what do you think?",
    "tell me in the comments", "so excited", "love this so much", "feeling good today", "rainy day",
    "winter evening", "summer is here", "holiday plans", "family time", "something small for tonight",
    "quick and easy", "ready in ten minutes", "my favourite things", "things I bought this week",
    "how it started", "before and after", "okay so here we go", "let me show you", "that is all for today",
    "see you next time", "and then I said yes", "one two three", "hello", "wow",
)  # fmt: skip
"""Words of titles, captions and speech that name no product: what they reach is chance."""


@dataclass(frozen=True)
class MatchCalibration:
    """Calibration of matching for one catalogue and one kind of item to find.

    Attributes:
        products, videos: space -> mean of their unit vectors, float32 [D]; a space without any is left out.
        video_count: number of videos behind their mean.
        misses: space of pictures -> one less the mean reciprocal rank of the queries made of the catalogue.
        queries: number of these; views: what was laid over them, `videos` or `products`.
        bounds: space -> cosine that words which name nothing reach, and that of a product's own title; a space that
            tells the two apart too little is left out.
    """

    products: Mapping[str, Vectors] = field(default_factory=dict)
    videos: Mapping[str, Vectors] = field(default_factory=dict)
    video_count: int = 0
    misses: Mapping[str, float] = field(default_factory=dict)
    queries: int = 0
    views: str = ""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def mean_of_views(self, space: str, own: Vectors | None) -> Vectors:
        """Return the mean of the videos of a space, drawn to that of the products where they are few: float32 [D].

        Args:
            own: the vector of the video of the query, where it is one of them: it does not count.
        """
        total, count = self.videos[space] * self.video_count, self.video_count
        if own is not None and count:
            total, count = total - own, count - 1
        return np.asarray((total + SHRINK * self.products[space]) / (count + SHRINK), np.float32)

    def is_of(self, catalog: Published) -> bool:
        """Tell whether its vectors are of the catalogue's spaces; one from a stranger's workspace may not be."""
        dims = {space: Passport.from_json(text).dim for space, text in catalog.passports.items()}
        return all(dims.get(space) == len(mean) for space, mean in self.products.items())

    def to_bytes(self) -> bytes:
        """Serialise as JSON."""
        found = {
            "version": VERSION,
            "products": {space: rounded(mean) for space, mean in self.products.items()},
            "videos": {space: rounded(mean) for space, mean in self.videos.items()},
            "video_count": self.video_count,
            "misses": dict(self.misses),
            "queries": self.queries,
            "views": self.views,
            "bounds": {space: list(pair) for space, pair in self.bounds.items()},
        }
        return (json.dumps(found, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> MatchCalibration:
        """Read what `to_bytes` wrote.

        Raises:
            ColdstartError: it is no calibration; the bytes may come from a stranger's workspace.
        """
        try:
            found = json.loads(data)
            products = {str(space): read_numbers(mean).astype(np.float32) for space, mean in found["products"].items()}
            videos = {str(space): read_numbers(mean).astype(np.float32) for space, mean in found["videos"].items()}
            misses = {str(space): float(read_numbers([miss])[0]) for space, miss in found["misses"].items()}
            bounds = {str(space): tuple(read_numbers(pair).tolist()) for space, pair in found["bounds"].items()}
            if any(len(pair) != 2 or pair[0] >= pair[1] for pair in bounds.values()):
                raise ValueError("bounds of words do not rise")
            if products.keys() != videos.keys() or any(products[name].shape != videos[name].shape for name in products):
                raise ValueError("means of products and of videos are not of the same spaces")
            if any(not 0 <= miss <= 1 for miss in misses.values()) or not 0 <= int(found["video_count"]) <= MOST:
                raise ValueError("a share or a count is out of bounds")
            return cls(
                products, videos, int(found["video_count"]), misses, int(found["queries"]), str(found["views"]), bounds
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ColdstartError(f"the calibration of matching cannot be read: {error}") from error


def key_of_calibration(catalog: Published, inputs: Mapping[str, Input]) -> str:
    """Compute the key of what a calibration rests on: the publication, its spaces and the recipe."""
    passports = {space: Passport.from_json(catalog.passports[space]).digest for space in inputs}
    return digest([VERSION, catalog.publication.tag, sorted(passports.items())])


def calibrate_matching(
    catalog: Published,
    inputs: Mapping[str, Input],
    encoder_for: Callable[[Passport], Encoder | None],
    kind: str | None = "product",
    queried: Callable[[str], bool] | None = None,
) -> MatchCalibration:
    """Calibrate matching on a published catalogue.

    Args:
        inputs: what each space of the catalogue holds vectors of.
        encoder_for: gives the encoder of a space for words; None where there is none, so that words do not count.
        kind: of the items to find.
        queried: tells by its id of which items queries are made; by default of all.
    """
    spaces = sorted(inputs)
    ids, products = sample_items(catalog, spaces, PRODUCTS, kind)
    _, videos = sample_items(catalog, spaces, VIDEOS, "video")
    means = {space: _mean(products[space]) for space in spaces}
    counts = [len(_present(videos[space])) for space in spaces if inputs[space] == "image"]
    known = {space: mean for space, mean in means.items() if mean is not None}
    views = {space: _mean(videos[space]) for space in known}
    misses, queries, laid = _measure(
        {space: products[space] for space in known if inputs[space] == "image"},
        {space: videos[space] for space in known if inputs[space] == "image"},
        np.array([queried is None or queried(item) for item in ids], bool),
    )
    return MatchCalibration(
        known,
        {space: known[space] if mean is None else mean for space, mean in views.items()},
        max(counts, default=0),
        misses,
        queries,
        laid,
        _bounds(catalog, ids, products, encoder_for),
    )


def _measure(
    products: Mapping[str, Vectors], videos: Mapping[str, Vectors], queried: NDArray[np.bool_]
) -> tuple[dict[str, float], int, str]:
    """Find in each space how often products are missed with the view of something else laid over them.

    Args:
        queried: bool [N]: the products that queries are made of; they are searched for among all.
    """
    if not products:
        return {}, 0, ""
    whole = np.all([np.isfinite(vectors).all(1) for vectors in products.values()], axis=0)
    seen = np.all([np.isfinite(vectors).all(1) for vectors in videos.values()], axis=0)
    rng = np.random.default_rng(0)
    places = np.flatnonzero(whole)
    ours = np.flatnonzero(queried[places])
    if len(places) < 2 or not len(ours):
        return {}, 0, ""
    own = np.sort(rng.choice(ours, min(_QUERIES, len(ours)), replace=False))
    enough = int(seen.sum()) >= FEWEST_VIDEOS
    others = np.flatnonzero(seen) if enough else places
    laid = rng.choice(len(others), len(own))
    if not enough:  # another product, never the same
        laid = np.where(laid == own, (laid + 1) % len(others), laid)
    found = {}
    for space, vectors in products.items():
        gallery = vectors[places]
        mean = gallery.mean(0)
        cover = (videos[space] if enough else vectors)[others][laid]
        queries, centred = unit(gallery[own] + cover - 2 * mean), unit(gallery - mean)
        cosines = queries @ centred.T
        right = cosines[np.arange(len(own)), own]
        if not enough:  # what was laid over is there as well, and no mistake
            cosines[np.arange(len(own)), laid] = -np.inf
        ranks = (cosines >= right[:, None]).sum(1)
        found[space] = round(float(1 - (1 / np.maximum(ranks, 1)).mean()), 6)
    return found, len(own), "videos" if enough else "products"


def worth_of(misses: float) -> float:
    """Weigh a space of pictures by how seldom it misses: the inverse of the misses."""
    return 1 / (misses + _ODDS)


def _bounds(
    catalog: Published,
    ids: Sequence[str],
    products: Mapping[str, Vectors],
    encoder_for: Callable[[Passport], Encoder | None],
) -> dict[str, tuple[float, float]]:
    """Measure the words of each space that an encoder of texts reaches."""
    titles = catalog.items(ids, ["title"])
    named = [place for place, item in enumerate(ids) if titles.get(item, {}).get("title")]
    step = max(1, len(named) // NAMED)
    named = named[::step][:NAMED]
    texts = [str(titles[ids[place]]["title"]) for place in named]
    encoded: dict[str, tuple[Vectors, Vectors]] = {}
    found = {}
    for space, vectors in products.items():
        passport = Passport.from_json(catalog.passports[space])
        encoder = encoder_for(passport)
        if encoder is None or not texts:
            continue
        if passport.digest not in encoded:
            encoded[passport.digest] = encoder.encode_documents(list(NEUTRAL)), encoder.encode_documents(texts)
        neutral, own = encoded[passport.digest]
        there = _present(vectors)
        if not len(there):
            continue
        low = float((neutral @ there.T).max())
        cosines = (own * vectors[named]).sum(1)
        cosines = cosines[np.isfinite(cosines)]
        high = float(np.median(cosines)) if len(cosines) else -1.0
        if high > low:
            found[space] = (round(low, 6), round(high, 6))
    return found


def sample_items(
    catalog: Published, spaces: Sequence[str], rows: int, kind: str | None
) -> tuple[list[str], dict[str, Vectors]]:
    """Read items of a kind from all over the catalogue: ids, and unit vectors float32 [N, D] by space, NaN for none."""
    condition = catalog.condition(kind=kind)
    if not catalog.count(condition):
        return [], {
            space: np.zeros((0, Passport.from_json(catalog.passports[space]).dim), np.float32) for space in spaces
        }
    ids = sorted(item for block in catalog.spread([], rows, where=condition) for item in block["item_id"].to_pylist())
    return ids, catalog.unit_vectors(spaces, ids)


def _present(vectors: Vectors) -> Vectors:
    return vectors[np.isfinite(vectors).all(1)]


def _mean(vectors: Vectors) -> Vectors | None:
    there = _present(vectors)
    return np.asarray(there.mean(0, dtype=np.float64), np.float32) if len(there) else None
