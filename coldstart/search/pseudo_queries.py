"""Make queries from the catalogue's own items, and calibrate the scores of its spaces on them.

A text query is half of the words of an item's title, and that item is right. A picture query is the stored vector of an
item's picture, and a query by item its own vectors; right are those of the other items of its category that share most
of its attributes. Where few have a category, right for a picture are the three items whose texts are nearest to its
text. Half a title is easier for texts than what people type, so
that spaces of texts keep most of the weight of a text query. Items that a fit has trained on are left out where enough
others are there: what a fit was shown says nothing of what it finds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.core.item_fields import read_attributes
from coldstart.core.vectors import unit
from coldstart.encoders import Encoder, Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.search.calibration import (
    FEWEST,
    KINDS,
    Calibration,
    KindCalibration,
    PseudoQueries,
    QueryKind,
    catalogue_means,
    fit_kind,
)
from coldstart.store import Store
from coldstart.store.fits import ITEMS_FILE, read_fit_items
from coldstart.store.published import Published

SAMPLE = 2000
"""Items from all over the catalogue that queries are made of and searched among."""
MOST_TEXTS = 200
"""Queries by text: each is encoded."""
MOST = 500
"""Queries by picture and by item: their vectors are stored."""
NEAREST = 3
"""Items that count as right for a picture where categories say nothing, by their texts."""
_HALVED = 4
"""Words of a title from which on half of them make a query; of a shorter one all do."""
MOST_ATTRIBUTES = 12
"""Attributes by which items are compared, those that most items have."""
_REPEATED = 10
"""Items a value of an attribute at least, on average: else it is a number or a name."""
_BROAD = 0.5
"""Share of the sample that a category may cover and still say something."""


@dataclass(frozen=True)
class CatalogSample:
    """Items from all over the catalogue.

    Attributes:
        titles, categories: empty where an item has none.
        attributes: name -> values, empty where an item has none.
        vectors: space -> unit vectors float32 [N, D], NaN where an item has none.
        passports: of the spaces; readers: spaces that hold vectors of texts.
    """

    item_ids: Sequence[str]
    titles: Sequence[str]
    categories: Sequence[str]
    attributes: Mapping[str, Sequence[str]]
    vectors: Mapping[str, Vectors]
    passports: Mapping[str, Passport]
    readers: Collection[str]

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def pictures(self) -> list[str]:
        """Spaces that hold vectors of pictures."""
        return [space for space in self.vectors if space not in self.readers]


def sample_catalog(catalog: Published, inputs: Mapping[str, str], rows: int = SAMPLE) -> CatalogSample:
    """Read items from all over the catalogue, copies left out.

    Args:
        inputs: space -> `image` or `text`; spaces of the catalog that are not named are left out.
    """
    passports = {space: Passport.from_json(text) for space, text in catalog.passports.items() if space in inputs}
    passports = {space: own for space, own in passports.items() if own.of_content}
    item_ids: list[str] = []
    columns: dict[str, list[str]] = {"title": [], "category": [], "attributes": []}
    for block in catalog.spread(list(columns), rows, where=catalog.condition()):
        item_ids += block["item_id"].to_pylist()
        for name, values in columns.items():
            values += [(text or "").strip() for text in block[name].to_pylist()]
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[place] for place in order]
    return CatalogSample(
        ids,
        [columns["title"][place] for place in order],
        [columns["category"][place].casefold() for place in order],
        _attributes([read_attributes(columns["attributes"][place]) for place in order]),
        catalog.unit_vectors(list(passports), ids),
        passports,
        frozenset(space for space in passports if inputs[space] == "text"),
    )


def held_out_items(store: Store) -> frozenset[str]:
    """Find items that the stored fits of encoders have not trained on; empty where there is no such fit."""
    found: list[set[str]] = []
    for name in {artifact.name for artifact in store.artifacts.all()}:
        newest = store.artifacts.newest(name)
        if newest is not None and name.startswith("align.") and ITEMS_FILE in newest.files():
            found.append({item for item, (_, side) in read_fit_items(newest).items() if side != "train"})
    return frozenset(set.intersection(*found)) if found else frozenset()


def draw(sample: CatalogSample, usable: NDArray[np.bool_], preferred: Collection[str], most: int) -> NDArray[np.intp]:
    """Draw places of items to make queries of, by a digest of their ids; of the preferred ones where they are enough.

    Returns:
        Places in order.
    """
    places = np.flatnonzero(usable)
    better = [place for place in places.tolist() if sample.item_ids[place] in preferred]
    chosen = better if len(better) >= FEWEST else places.tolist()
    chosen.sort(key=lambda place: hashlib.sha256(sample.item_ids[place].encode("utf-8", "surrogatepass")).digest())
    return np.sort(np.asarray(chosen[:most], np.intp))


def half_title(title: str) -> str:
    """Keep half of the words of a title, by a digest of each with its place, in their order; all of a short one."""
    words = title.split()
    if len(words) < _HALVED:
        return title
    digests = [
        hashlib.sha256(f"{place} {title}".encode("utf-8", "surrogatepass")).digest() for place in range(len(words))
    ]
    kept = sorted(sorted(range(len(words)), key=digests.__getitem__)[: (len(words) + 1) // 2])
    return " ".join(words[place] for place in kept)


def text_queries(
    sample: CatalogSample, places: NDArray[np.intp], encoder_for: Callable[[Passport], Encoder]
) -> tuple[PseudoQueries, list[str]]:
    """Make queries by text of the titles of some items, in every space whose encoder takes texts.

    Raises:
        ColdstartError: an encoder is not on this machine.
    """
    texts = [half_title(sample.titles[place]) for place in places]
    made: dict[str, Vectors] = {}
    vectors = {}
    for space, passport in sample.passports.items():
        encoder = encoder_for(passport)
        if "text" in encoder.modalities and encoder.passport("text") == passport:
            if passport.digest not in made:
                made[passport.digest] = unit(encoder.encode_queries(texts))
            vectors[space] = made[passport.digest]
    titles = np.array([title.casefold() for title in sample.titles], object)
    right = titles[places][:, None] == titles[None]
    return PseudoQueries(vectors, right, np.zeros_like(right), "halves of titles"), texts


def picture_queries(sample: CatalogSample, places: NDArray[np.intp]) -> PseudoQueries:
    """Make queries by picture of the stored vectors of some items, in every space that such a vector fits."""
    by_passport = {sample.passports[space].digest: sample.vectors[space][places] for space in sample.pictures}
    vectors = {space: by_passport[own.digest] for space, own in sample.passports.items() if own.digest in by_passport}
    right, made_of = _right(sample, places)
    return PseudoQueries(vectors, right, _own(sample, places), f"pictures of items, {made_of}")


def item_queries(sample: CatalogSample, places: NDArray[np.intp]) -> PseudoQueries:
    """Make queries of items with all of their vectors; none is right where categories say nothing."""
    vectors = {space: own[places] for space, own in sample.vectors.items()}
    return PseudoQueries(vectors, similar_items(sample, places), _own(sample, places), f"items, for {_alike(sample)}")


def similar_items(sample: CatalogSample, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark, for some items, the others of their category that share most attributes with them: bool [Q, N]."""
    mates = category_mates(sample)[places] & ~_own(sample, places)
    shared = np.zeros(mates.shape, np.int16)
    for values in sample.attributes.values():
        column = np.array(values, object)
        shared += (column[places][:, None] == column[None]) & (column != "")[None]
    shared[~mates] = -1
    return np.asarray(mates & (shared == shared.max(1, keepdims=True)))


def category_mates(sample: CatalogSample) -> NDArray[np.bool_]:
    """Mark items of one category, bool [N, N]; a category of more than half of the items says nothing."""
    categories = np.array(sample.categories, object)
    same = (categories[:, None] == categories[None]) & (categories != "")[:, None]
    same &= (same.sum(1) <= max(1, _BROAD * len(sample)))[:, None]
    return np.asarray(same)


def _right(sample: CatalogSample, places: NDArray[np.intp]) -> tuple[NDArray[np.bool_], str]:
    similar = similar_items(sample, places)
    if int(similar.any(1).sum()) >= FEWEST or not sample.readers:
        return similar, f"for {_alike(sample)}"
    reader = sorted(sample.readers)[0]
    cosines = sample.vectors[reader][places] @ sample.vectors[reader].T
    cosines[_own(sample, places) | ~np.isfinite(cosines)] = -np.inf
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
    right = np.zeros(cosines.shape, bool)
    np.put_along_axis(right, nearest, True, 1)
    return right & np.isfinite(cosines), "for the items with the nearest texts"


def _alike(sample: CatalogSample) -> str:
    return "their category and attributes" if sample.attributes else "their category"


def _attributes(items: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """List the values of the attributes that say what sorts of items there are: few values, known of most items."""
    counts = Counter(name for own in items for name in own)
    found = {}
    for name, count in counts.most_common(MOST_ATTRIBUTES):
        values = [str(own.get(name, "")).strip().casefold() for own in items]
        if 2 * count >= len(items) and 1 < len(set(values) - {""}) <= max(2, len(items) // _REPEATED):
            found[name] = values
    return found


def _own(sample: CatalogSample, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    out = np.zeros((len(places), len(sample)), bool)
    out[np.arange(len(places)), places] = True
    return out


def make_queries(
    sample: CatalogSample,
    kind: QueryKind,
    encoder_for: Callable[[Passport], Encoder],
    preferred: Collection[str] = (),
    allowed: Callable[[str], bool] = lambda item_id: True,
) -> tuple[PseudoQueries, NDArray[np.intp], list[str]] | None:
    """Make the queries of one kind; None where there are fewer than `FEWEST`.

    Args:
        preferred: items that queries are made of where they are enough; see `held_out_items`.
        allowed: items that they may be made of at all.

    Returns:
        The queries, the places of their items, and their texts where they have any.
    """
    permitted = np.array([allowed(item_id) for item_id in sample.item_ids], bool)
    if kind == "text":
        usable = np.array([bool(title) for title in sample.titles], bool) & permitted
        places = draw(sample, usable, preferred, MOST_TEXTS)
        if len(places) < FEWEST:
            return None
        queries, texts = text_queries(sample, places, encoder_for)
        return queries, places, texts
    spaces = sample.pictures if kind == "image" else list(sample.vectors)
    if not spaces:
        return None
    present = np.any([np.isfinite(sample.vectors[space][:, 0]) for space in spaces], axis=0)
    if kind == "item":
        present &= category_mates(sample).sum(1) > 1
    places = draw(sample, present & permitted, preferred, MOST)
    if len(places) < FEWEST:
        return None
    return (picture_queries if kind == "image" else item_queries)(sample, places), places, []


def calibrate(
    sample: CatalogSample,
    encoder_for: Callable[[Passport], Encoder],
    preferred: Collection[str] = (),
    apart: Collection[str] = (),
    allowed: Callable[[str], bool] = lambda item_id: True,
) -> tuple[Calibration, list[str]]:
    """Calibrate every kind of query on queries made from a sample of the catalogue.

    Args:
        apart: spaces that a text query searches by name only; preferred, allowed: as for `make_queries`.

    Returns:
        The calibration, and a line for each kind: what it rests on, or why it has none.
    """
    means = catalogue_means(sample.vectors)
    kinds: dict[QueryKind, KindCalibration] = {}
    notes: list[str] = []
    for name in KINDS:
        try:
            made = make_queries(sample, name, encoder_for, preferred, allowed)
        except ColdstartError as error:
            notes.append(f"{name}: not calibrated: {error}")
            continue
        fitted = None if made is None else _fit(made[0], sample, means, name, apart)
        if fitted is None:
            notes.append(f"{name}: not calibrated: fewer than {FEWEST} queries can be made from the items")
            continue
        kinds[name] = fitted
        weights = fitted.weigh(fitted.spaces)
        shares = zip(fitted.spaces, weights / weights.sum(), strict=True)
        shown = ", ".join(f"{space} {share:.2f}" for space, share in shares)
        if not fitted.weights.any() and not fitted.alone.any():
            shown += " alike, since none tells right items from others"
        notes.append(f"{name}: {shown}, by {fitted.queries} {fitted.made_of}")
    digests = {space: passport.digest for space, passport in sample.passports.items()}
    return Calibration(digests, means, kinds), notes


def _fit(
    queries: PseudoQueries, sample: CatalogSample, means: Mapping[str, Vectors], kind: QueryKind, apart: Collection[str]
) -> KindCalibration | None:
    if kind == "text":  # halves of titles say little of what pictures find; texts are known to find words
        return fit_kind(queries, sample.vectors, means, apart, sample.readers)
    return fit_kind(queries, sample.vectors, means)
