"""Search: a text, picture, video or item in; items of the published catalog out, with their rank in each space.

Spaces are searched one by one. Where several are, their nearest are scored in all of them and joined by scores that
are calibrated on the catalog, see `coldstart.search.scoring`. Knows nothing of users or of past behaviour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from coldstart.core.spelling import existing_path
from coldstart.core.stage import Reject
from coldstart.encoders import Encoder, HeadEncoder, Modality, Passport, Pixels, Vectors
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform, at_one_size, load_image
from coldstart.media.limits import Limits
from coldstart.media.video import sample_frames
from coldstart.search.calibration import FEWEST, Calibration
from coldstart.search.queries import BY, SINGLE, By, FaultyQuery, Query, missing_file
from coldstart.search.scoring import FULL_TEXT, KIND_OF, Fused, Ranking, Scorer
from coldstart.store.published import Published, check_top_k
from coldstart.store.similar import similar_ids

_ADVISED = ("not_found", "not_a_file", "no_vector", "no_space")
"""Reasons whose detail says what to do."""

DEPTH = 50
"""Places of each ranking that become candidates, or three times the requested hits where that is more."""

_WEIGH_ALIKE = "the spaces weigh alike"

ALIKE = (
    f"{_WEIGH_ALIKE}: what each finds is not known yet; `coldstart index` finds out where the catalogue gives "
    f"{FEWEST} queries or more"
)
"""Note on an answer without a calibration."""

FEW = (
    f"{_WEIGH_ALIKE}: what each finds is learnt from {FEWEST} queries or more that are made of the items, and "
    "this catalogue gives fewer"
)
"""Note on one that no calibration can be had for."""

LEFT_OVER = _WEIGH_ALIKE + ": no stage of the pipeline makes {} any more: `coldstart index --drop-spaces` takes it out"
"""Note on one that searches a space of an earlier pipeline."""

Pool = Literal["mean", "max", "both"]

FramesOf = Callable[[str, Sequence[str]], Mapping[str, Vectors]]
"""(space, item ids) -> unit vectors `[T, D]` of the frames of those that are videos."""

DISPLAY = ("kind", "title", "category", "price", "media")


def pool(frames: Vectors, how: Pool) -> Vectors:
    """Pool the frames of a video into query vectors, of which an item's nearest counts.

    Args:
        frames: unit vectors of its frames, float32 `[T, D]`.
        how: `mean`: their mean, scaled to length one; `max`: each frame; `both`: the frames and their mean.

    Returns:
        float32 `[1, D]`, `[T, D]` or `[T + 1, D]`.
    """
    mean = frames.mean(axis=0, keepdims=True)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    queries: dict[Pool, Vectors] = {"mean": mean, "max": frames, "both": np.concatenate([frames, mean])}
    return queries[how]


@dataclass
class Ranker:
    """Ranks items for queries, space by space.

    Encoders and the spaces that fit a query are looked up once.

    Attributes:
        requested: the spaces to search, each of which must fit; None for all that fit.
        scorer: joins the rankings of a query, and chooses the spaces of one.
        apart: spaces that a text query searches only if they are requested, or where no other fits.
        notes: remarks on the answers, a line each.
        condition: SQL that items must meet, from `Published.condition`.
        is_strict: raise where no space answers a kind of query; else such queries are rejected.
        exact and others: as in `coldstart.search.search.search_many`.
    """

    catalog: Published
    encoder_for: Callable[[Passport], Encoder]
    requested: tuple[str, ...] | None
    condition: str | None
    top_k: int
    hybrid: bool
    video_pool: Pool
    frames: int
    limits: Limits
    batch_size: int
    is_strict: bool
    scorer: Scorer
    frames_of: FramesOf | None = None
    apart: frozenset[str] = frozenset()
    exact: bool = False
    notes: list[str] = field(default_factory=list)
    encoders: dict[str, Encoder] = field(default_factory=dict)
    fitting: dict[By, dict[str, Passport]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for space in self.requested or ():
            if space not in self.catalog.passports:
                raise self.catalog.no_space(space)

    def ranked(self, batch: Sequence[Query | FaultyQuery]) -> list[Fused | Reject]:
        """Rank items for each query, or give the reason why it cannot be answered."""
        found: list[Fused | Reject] = [q.reason if isinstance(q, FaultyQuery) else [] for q in batch]
        for by in BY:
            own = {
                place: query.value for place, query in enumerate(batch) if isinstance(query, Query) and query.by == by
            }
            if own:
                found_by = self._ranked(by, list(own.values()))
                for place, ranking in zip(own, found_by, strict=True):
                    found[place] = ranking
        return found

    def _ranked(self, by: By, values: Sequence[str]) -> list[Fused | Reject]:
        try:
            self._spaces(by)
        except ColdstartError as error:
            if self.is_strict:
                raise
            return [Reject("no_space", str(error)) for _ in values]
        return self._searched(by, values, self._stored(values) if by == "item" else self._encoded(by, values))

    def _searched(
        self, by: By, values: Sequence[str], query_vectors: Sequence[dict[str, Vectors] | Reject]
    ) -> list[Fused | Reject]:
        words = by == "text" and self.hybrid
        several = len(self._spaces(by)) + words > 1
        depth = max(DEPTH, 3 * self.top_k) if several else self.top_k
        rankings: list[dict[str, Ranking]] = [{} for _ in query_vectors]
        for space in self._spaces(by):
            owners = [
                (place, own[space])
                for place, own in enumerate(query_vectors)
                if not isinstance(own, Reject) and space in own
            ]
            if not owners:
                continue
            owner = np.repeat([place for place, _ in owners], [len(vectors) for _, vectors in owners])
            queries = np.concatenate([vectors for _, vectors in owners])
            result = self.catalog.vector_search(
                space, queries, depth + (by == "item"), where=self.condition, exact=self.exact
            )
            nearest: dict[int, dict[str, float]] = defaultdict(dict)
            for index, item_id, distance in zip(*(column.to_pylist() for column in result.columns), strict=True):
                seen = nearest[int(owner[index])]
                seen[item_id] = min(distance, seen.get(item_id, np.inf))
            for place, seen in nearest.items():
                if by == "item":
                    seen.pop(values[place], None)
                rankings[place][space] = sorted(seen.items(), key=lambda entry: (entry[1], entry[0]))[:depth]
        if words:
            self.catalog.prepare_words(values)
        for place, text in enumerate(values) if words else ():
            result = self.catalog.text_search(text, depth, where=self.condition)
            rankings[place][FULL_TEXT] = list(zip(*(column.to_pylist() for column in result.columns), strict=True))
        return [
            own
            if isinstance(own, Reject)
            else self.scorer.fuse(by, self._spaces(by), rankings[place], own, values[place], depth, self.top_k)
            for place, own in enumerate(query_vectors)
        ]

    def _stored(self, item_ids: Sequence[str]) -> list[dict[str, Vectors] | Reject]:
        """Read the items' own vectors a space: `[1, D]`, or those of its frames where they are known."""
        stored: dict[str, dict[str, Vectors]] = {}
        for space in self._spaces("item"):
            own = self.catalog.unit_vectors([space], item_ids)[space]
            stored[space] = {item: own[[at]] for at, item in enumerate(item_ids) if np.isfinite(own[at, 0])}
            frames = self.frames_of(space, list(stored[space])) if self.frames_of else {}
            stored[space].update({item: pool(vectors, self.video_pool) for item, vectors in frames.items()})
        known = self.catalog.items(item_ids, ())
        found: list[dict[str, Vectors] | Reject] = []
        for item_id in item_ids:
            vectors_of = {space: vectors[item_id] for space, vectors in stored.items() if item_id in vectors}
            if item_id not in known:
                found.append(
                    Reject("not_found", f"item {item_id!r} is not in the published catalog{self._similar(item_id)}")
                )
            else:
                found.append(
                    vectors_of or Reject("no_vector", f"item {item_id!r} has none in {', '.join(stored) or 'no space'}")
                )
        return found

    def _similar(self, item_id: str) -> str:
        return similar_ids(item_id, self.catalog.blocks([])) if self.is_strict else ""  # of many queries, too slow

    def _encoded(self, by: By, values: Sequence[str]) -> list[dict[str, Vectors] | Reject]:
        """Encode queries `[Q, D]` a space, once for all spaces of one passport."""
        found: list[dict[str, Vectors] | Reject] = [{} for _ in values]
        made: dict[str, list[Vectors | Reject]] = {}
        texts: dict[str, Vectors] = {}
        for space, passport in self._spaces(by).items():
            if passport.digest not in made:
                encoder = self.encoders[passport.digest]
                if by == "text":
                    made[passport.digest] = list(_encoded_texts(encoder, passport, values, texts)[:, None])
                else:
                    made[passport.digest] = self._encode_media(by, values, encoder, passport)
            for place, vectors in enumerate(made[passport.digest]):
                own = found[place]
                if isinstance(vectors, Reject):
                    found[place] = vectors
                elif not isinstance(own, Reject):
                    own[space] = vectors
        return found

    def _encode_media(
        self, by: By, paths: Sequence[str], encoder: Encoder, passport: Passport
    ) -> list[Vectors | Reject]:
        """Encode pictures or videos, or give the reason why one cannot be read."""
        transform = encoder.image_transform
        assert transform is not None, "an encoder that takes pictures states how it wants them"
        pictures: list[list[Pixels] | Reject] = []
        for path in paths:
            try:
                pictures.append(self._load_pixels(by, Path(path), transform))
            except Reject as reject:
                pictures.append(Reject(reject.reason, f"{by} {path}: {reject.detail}"))
        readable = [own for own in pictures if not isinstance(own, Reject)]
        if by == "video" and _passport(encoder, "image") != passport:
            vectors = [encoder.encode_videos([np.stack(at_one_size(own))]) for own in readable]
        else:
            flat = [image for own in readable for image in own]
            parts = [
                encoder.encode_images(flat[start : start + self.batch_size])
                for start in range(0, len(flat), self.batch_size)
            ]
            rows = np.concatenate(parts) if parts else np.empty((0, passport.dim), np.float32)
            ends = np.cumsum([len(own) for own in readable], dtype=int)
            split = [rows[end - len(own) : end] for own, end in zip(readable, ends, strict=True)]
            vectors = [pool(own, self.video_pool) if by == "video" else own for own in split]
        made = iter(vectors)
        return [own if isinstance(own, Reject) else next(made) for own in pictures]

    def _load_pixels(self, by: By, path: Path, transform: ImageTransform) -> list[Pixels]:
        path = existing_path(path)
        if reject := missing_file(path):
            raise reject
        if by == "image":
            return [load_image(path, self.limits, transform)]
        return sample_frames(path, self.limits, transform, self.frames).images

    def _spaces(self, by: By) -> dict[str, Passport]:
        """Return the spaces that answer such a query, with their passports.

        Raises:
            ColdstartError: a space that was named does not, or none does.
        """
        if by not in self.fitting:
            if self.requested == () and not (by == "text" and self.hybrid):
                raise ColdstartError(f"spaces is empty: only a hybrid text query works by words alone, not one by {by}")
            names = self.catalog.passports if self.requested is None else self.requested
            passports = {space: Passport.from_json(self.catalog.passports[space]) for space in names}
            if self.requested is None:  # a space of behaviour is searched only where it is named
                passports = {space: own for space, own in passports.items() if own.of_content}
            fitting = passports if by == "item" else self._fitting(by, passports)
            self.fitting[by] = fitting if self.requested is not None else self.scorer.choose(by, fitting)
        return self.fitting[by]

    def _fitting(self, modality: Modality, passports: Mapping[str, Passport]) -> dict[str, Passport]:
        fitting, unusable = {}, dict[str, str]()
        for space, passport in passports.items():
            if not passport.of_content:
                raise ColdstartError(
                    f"space {space!r} holds vectors of behaviour, and no {modality} has a vector there: search it by "
                    f"an item, or name a space that takes {modality}"
                )
            try:
                if passport.digest not in self.encoders:
                    self.encoders[passport.digest] = self.encoder_for(passport)
            except ColdstartError as error:  # a missing encoder concerns its own spaces alone
                if self.requested is not None:
                    raise
                unusable[space] = str(error)
                continue
            encoder = self.encoders[passport.digest]
            ways: list[Modality] = ["image", "video"] if modality == "video" else [modality]  # a video is its frames
            made = [own for own in (_passport(encoder, way) for way in ways) if own is not None]
            if passport in made:
                fitting[space] = passport
            elif self.requested is not None:
                other = f"{made[0].encoder} ({made[0].digest})" if made else f"{encoder.name}, which takes none"
                raise ColdstartError(
                    f"space {space!r} holds vectors of {passport.encoder} ({passport.digest}), but this {modality} "
                    f"query would be made by {other}: name a space that takes {modality}, or leave spaces out to use "
                    "all that do"
                )
        if modality == "text" and self.hybrid and FULL_TEXT in fitting:  # of a pipeline of an earlier version
            raise ColdstartError(
                f"space {FULL_TEXT!r} has the name of the ranking by words: call it something else in the pipeline and "
                "run that, or search without words (--no-hybrid)"
            )
        if modality == "text" and self.requested is None:
            fitting = {name: own for name, own in fitting.items() if name not in self.apart} or fitting
        self.notes += [f"space {space} is not searched: {why}" for space, why in unusable.items()]
        if unusable and not fitting and modality == "text" and self.hybrid:
            self.notes.append("found by words alone")
        elif not fitting and self.requested != ():
            have = ", ".join(f"{space} ({passport.encoder})" for space, passport in passports.items())
            raise ColdstartError(
                f"no space answers a {modality} query: the catalog has {have or 'no space'}; search by item, or embed "
                f"the items with an encoder that takes {modality}{''.join(f'; {why}' for why in self.notes)}"
            )
        return fitting


def _encoded_texts(encoder: Encoder, passport: Passport, texts: Sequence[str], made: dict[str, Vectors]) -> Vectors:
    """Encode texts as queries, those of a head from the vectors of its base: one forward pass for all over one base.

    Args:
        made: passport -> vectors of the same texts, which this adds to.
    """
    if isinstance(encoder, HeadEncoder):
        return encoder.project("text", _encoded_texts(encoder.tower("text"), encoder.base("text"), texts, made))
    if passport.digest not in made:
        made[passport.digest] = encoder.encode_queries(texts)
    return made[passport.digest]


def _passport(encoder: Encoder, modality: Modality) -> Passport | None:
    return encoder.passport(modality) if modality in encoder.modalities else None


@dataclass(frozen=True)
class Hit:
    """One search result.

    Attributes:
        score: 0 for as near as the catalog on average, 1 for as near as right items are on average; the best first.
        uri: its first media file.
        ranks: space (or `full_text`) -> place there, from 1; a ranking that did not reach the item is left out.
        distances: space -> 1 - cosine, of the nearest query vector where a query has several; of every space that was
            searched and has a vector of it.
        copies: items that are linked to it as its copies, and so are not found beside it.
    """

    item_id: str
    score: float
    kind: str | None
    title: str | None
    category: str | None
    price: float | None
    uri: str | None
    ranks: Mapping[str, int]
    distances: Mapping[str, float]
    copies: Sequence[str] = ()
    creator: str | None = None


def search_many(
    catalog: Published,
    encoder_for: Callable[[Passport], Encoder],
    queries: Iterable[Query | FaultyQuery],
    *,
    spaces: Iterable[str] | None = None,
    kind: str | None = None,
    where: str | None = None,
    top_k: int = 10,
    hybrid: bool = True,
    exclude: Iterable[str] = (),
    copies: bool = False,
    exact: bool = False,
    video_pool: Pool = "max",
    frames: int = 8,
    limits: Limits | None = None,
    batch_size: int = 64,
    frames_of: FramesOf | None = None,
    apart: Iterable[str] = (),
    pictures: Iterable[str] = (),
    always: Iterable[str] = (),
    calibration: Calibration | None = None,
    on_error: Callable[[str | None, Reject], None] | None = None,
    notes: list[str] | None = None,
) -> Iterator[tuple[str, list[Hit]]]:
    """Search for many queries; yields (query_id, hits) in order.

    Queries are encoded and searched in batches.

    Args:
        encoder_for: gives the encoder that made the vectors of a space; called once a passport.
        spaces: the spaces to search, each of which must fit every query; by default all that fit. Empty for words
            alone.
        kind: `video` or `product`.
        where: an SQL condition over the columns of the catalog.
        hybrid: let a text query match words as well as vectors.
        exclude: ids to leave out; a query item never finds itself.
        copies: find items that are linked to an original beside it too.
        exact: compare each query with all vectors, whatever index there is.
        video_pool: see `pool`.
        frames: frames sampled from each query video.
        frames_of: (space, item ids) -> unit vectors `[T, D]` of the frames of those that are videos; with it, a query
            by the id of a video goes by its frames, as one by a video file does.
        apart: spaces that a text query searches only if `spaces` names them, or where no other fits.
        pictures: spaces of pictures, which a text query searches if the calibration shows that they find something;
            always: those of them that it searches without a calibration, too.
        calibration: how the scores of the spaces compare; without it all spaces that are searched weigh alike.
        on_error: takes the id of a query that cannot be answered, such as a picture that cannot be read, and why, in
            the place of its answer; the rest goes on. Without it, the first such query raises.
        notes: a list that remarks are added to, such as a space that is not searched since its encoder is missing.

    Raises:
        ColdstartError: there is no such space or kind, `top_k` is out of bounds, a faulty condition, or a query that
            cannot be answered.
    """
    check_top_k(top_k)
    condition = catalog.condition(where=where, kind=kind, exclude=exclude, copies=copies)
    ranker = Ranker(
        catalog=catalog,
        encoder_for=encoder_for,
        requested=None if spaces is None else tuple(spaces),
        condition=condition,
        top_k=top_k,
        hybrid=hybrid,
        video_pool=video_pool,
        frames=frames,
        limits=limits or Limits(),
        batch_size=batch_size,
        is_strict=on_error is None,
        scorer=Scorer(catalog, calibration, frozenset(pictures), frozenset(always), spaces is not None),
        frames_of=frames_of,
        apart=frozenset(apart),
        exact=exact,
        notes=[] if notes is None else notes,
    )
    pending = iter(queries)
    while batch := list(islice(pending, batch_size)):
        ranked = ranker.ranked(batch)
        if ranker.scorer.weighed_alike and not any(note.startswith(_WEIGH_ALIKE) for note in ranker.notes):
            asked = {KIND_OF[query.by] for query in batch if isinstance(query, Query)}
            tried = len(catalog) < FEWEST or (calibration is not None and asked - calibration.kinds.keys())
            left_over = ", ".join(sorted(ranker.scorer.unknown))
            ranker.notes.append(LEFT_OVER.format(left_over) if left_over else FEW if tried else ALIKE)
        hits = _hits(catalog, [own for own in ranked if not isinstance(own, Reject)])
        for query, own in zip(batch, ranked, strict=True):
            if not isinstance(own, Reject):
                yield str(query.query_id), next(hits)
            elif on_error is None:
                after = "" if own.reason in _ADVISED else ": give another one"
                shown = own.detail if query.query_id == SINGLE and own.detail else f"query {query.query_id!r}: {own}"
                unknown = own.reason == "not_found" and isinstance(query, Query) and query.by == "item"
                raise ColdstartError(f"{shown}{after}", kind="not_found" if unknown else "input")
            else:
                on_error(query.query_id, own)


def _hits(catalog: Published, answers: Sequence[Fused]) -> Iterator[list[Hit]]:
    """Read the display columns of the items of all answers at once."""
    found = {item_id for fused in answers for item_id, *_ in fused}
    shown, copies = catalog.items(found, (*DISPLAY, "creator")), catalog.copies(found)
    for fused in answers:
        hits = []
        for item_id, score, ranks, distances in fused:
            kind, title, category, price, media = (shown[item_id][column] for column in DISPLAY)
            uri = media[0]["uri"] if media else None
            own, creator = copies.get(item_id, ()), shown[item_id]["creator"]
            hits.append(Hit(item_id, score, kind, title, category, price, uri, ranks, distances, own, creator))
        yield hits
