"""Matching over an opened workspace: queries from its videos, its stored weights, and new ones fitted on known pairs.

Parts of the workspace that take time, or can be missing, are loaded when they are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.core.sanitize import check_text
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.search.channel_weights import FILE, MATCH, ChannelWeights, default_weights, weights_to_dict
from coldstart.search.channels import Channel, VideoQuery, catalog_channels, score_all
from coldstart.search.fusion import ChannelVotes, KnownVideo, WeightFit, Weights, fit_held_out, keep_best
from coldstart.search.match import Answer, match
from coldstart.search.match_calibration import (
    CALIBRATION,
    MatchCalibration,
    calibrate_matching,
    key_of_calibration,
)
from coldstart.search.match_calibration import FILE as CALIBRATION_FILE
from coldstart.search.query_vectors import QueryBuilder
from coldstart.store import Store
from coldstart.store.published import COPY_OF
from coldstart.store.similar import similar_ids

if TYPE_CHECKING:
    from coldstart.store.published import Published


LEAST = 10
"""Videos that a fit needs."""

MOST_SCORES = 1 << 28
"""Cosines that a fit holds, 1 GiB; with more, candidates are those of the indexes."""

KEPT = 200
"""Candidates that a fit keeps of each channel; those farther away are no matches by any weights."""

Pairs = Mapping[str, frozenset[str]]
"""item_id of a video -> the products that it shows."""


@dataclass(frozen=True)
class KnownPairs:
    """Known pairs of videos and products, with their cosines.

    Attributes:
        known: the videos that are in the catalog, in the order of the pairs; item_ids: theirs.
        missing_videos, missing_products: how many of the pairs the catalog does not have among its candidates.
    """

    channels: Sequence[Channel]
    calibration: MatchCalibration
    known: Sequence[KnownVideo]
    item_ids: Sequence[str]
    missing_videos: int
    missing_products: int
    exact: bool

    @property
    def default(self) -> Weights:
        """Default weights of the channels."""
        return default_weights(self.channels, self.calibration)


def gather_pairs(
    builder: QueryBuilder,
    calibration: MatchCalibration,
    pairs: Pairs,
    *,
    kind: str | None = "product",
    where: str | None = None,
) -> KnownPairs:
    """Compare every known video with all products.

    Raises:
        ColdstartError: nothing of the videos can be compared with products.
    """
    catalog = builder.catalog
    questions = builder.items(list(pairs))
    originals = {item: row[COPY_OF] for item, row in catalog.items(questions, [COPY_OF]).items()}
    channels = catalog_channels(
        catalog, [side for question in questions.values() for side in question.sides], builder.inputs
    )
    condition = catalog.condition(where=where, kind=kind)
    exact = catalog.count(condition) * _count_rows(questions.values(), channels) <= MOST_SCORES
    scored = score_all(catalog, list(questions.values()), channels, calibration, condition, exact=exact)
    known, missing = [], 0
    for item_id, own in zip(questions, scored, strict=True):
        others = np.asarray([candidate != item_id for candidate in own.item_ids], bool)
        best = [place for place in keep_best(own.votes, KEPT).tolist() if others[place]]
        right = [place for place, at in enumerate(best) if own.item_ids[at] in pairs[item_id]]
        there = sum(candidate in pairs[item_id] for candidate in own.item_ids if candidate != item_id)
        missing += len(pairs[item_id]) - there
        votes = [None if one is None else ChannelVotes(one.values[:, best], one.in_turn) for one in own.votes]
        group = originals[item_id] or item_id
        known.append(KnownVideo(group, votes, np.asarray(right, np.intp), len(pairs[item_id])))
    return KnownPairs(channels, calibration, known, list(questions), len(pairs) - len(questions), missing, exact)


def _count_rows(queries: Iterable[VideoQuery], channels: Sequence[Channel]) -> int:
    """Count the cosines that are held of one product: of each frame and line of each channel, and of the nearest."""
    used = Counter(channel.side for channel in channels)
    return sum(len(channels) + sum(used[side.name] * len(side.moments) for side in one.sides) for one in queries)


def fit_weights(gathered: KnownPairs) -> WeightFit:
    """Fit weights on a part of the videos and evaluate them on the rest.

    Raises:
        ColdstartError: there are fewer than `LEAST` videos, or all fall on one side of the split.
    """
    if len(gathered.known) < LEAST:
        raise ColdstartError(
            f"{len(gathered.known)} of the videos of the pairs are in the published catalog: weights need at least "
            f"{LEAST}, a part of which is held out to evaluate them"
        )
    try:
        return fit_held_out(gathered.known, gathered.default)
    except ValueError as error:
        raise ColdstartError(f"{error}; give pairs of more videos") from error


def key_of(gathered: KnownPairs, pairs: Pairs) -> str:
    """Compute the key of the inputs of a fit."""
    channels = [(channel.name, channel.passport) for channel in gathered.channels]
    return digest([channels, sorted((item, sorted(products)) for item, products in pairs.items())])


def weights_report(gathered: KnownPairs, fit: WeightFit) -> dict[str, Any]:
    """Convert a fit and its evaluation to JSON-serialisable values."""
    return {
        "channels": weights_to_dict(gathered.channels, fit.weights),
        "default": weights_to_dict(gathered.channels, gathered.default),
        "trained_on": fit.trained_on,
        "held_out": fit.held_out,
        "train": dict(fit.train),
        "before": dict(fit.before),
        "after": dict(fit.after),
        "gain": asdict(fit.gain),
        "kept": fit.helps,
        "missing_videos": gathered.missing_videos,
        "missing_products": gathered.missing_products,
        "exact": gathered.exact,
    }


@dataclass(frozen=True)
class Matcher:
    """Service that compares videos of one workspace with its products.

    Attributes:
        pipeline: gives the settings of the workspace; published: gives the catalog that it serves.
        encoder_for: gives the encoder that made the vectors of a space.
    """

    store: Store
    pipeline: Callable[[], Pipeline]
    published: Callable[[], Published]
    encoder_for: Callable[[Passport], Encoder]

    def query_builder(self, spaces: Iterable[str] | None = None) -> QueryBuilder:
        """Create a builder of queries from videos.

        Args:
            spaces: the spaces to compare in; by default all.

        Raises:
            ColdstartError: nothing is published, or not with such a space.
        """
        chosen = None if spaces is None else tuple(spaces)
        return QueryBuilder(self.store, self.pipeline(), self.published(), self.encoder_for, chosen)

    def fitted_weights(self) -> ChannelWeights | None:
        """Load the weights that were fitted last."""
        stored = self.store.artifacts.newest(MATCH)
        return None if stored is None else ChannelWeights.from_bytes(stored.files()[FILE])

    def calibration(self, builder: QueryBuilder, kind: str | None = "product") -> MatchCalibration:
        """Load the calibration of the published catalogue; made where there is none, and kept where nobody writes."""
        inputs = builder.inputs
        whole = builder if builder.spaces is None else self.query_builder()
        if kind != "product":
            return calibrate_matching(builder.catalog, inputs, self.encoder_of_words, kind)
        key = key_of_calibration(builder.catalog, whole.inputs)
        stored = self.store.artifacts.newest(CALIBRATION)
        if stored is not None and stored.key == key:
            found = MatchCalibration.from_bytes(stored.files().get(CALIBRATION_FILE, b""))
            if found.is_of(builder.catalog):
                return found
        made = calibrate_matching(builder.catalog, whole.inputs, self.encoder_of_words)
        with suppress(ColdstartError, OSError), self.store.lock():  # a run is going on, or the workspace is only read
            self.store.artifacts.save(CALIBRATION, key, {CALIBRATION_FILE: made.to_bytes()}, {"queries": made.queries})
        return made

    def encoder_of_words(self, passport: Passport) -> Encoder | None:
        """Load the encoder of texts of a space; None where there is none, or its weights are not on this machine."""
        try:
            encoder = self.encoder_for(passport)
        except ColdstartError:
            return None
        return encoder if "text" in encoder.modalities and encoder.passport("text") == passport else None

    def match(
        self,
        item: str | None,
        video: str | Path | None,
        title: str | None,
        listen: bool,
        spaces: Iterable[str] | None,
        **options: Any,
    ) -> Answer:
        """Match an item of the catalog, or a video file, to products; `options` as for `coldstart.search.match.match`.

        Raises:
            ColdstartError: not one of item and video is given, what goes with a file is given with an item, there is
                no such item or file, or nothing of it can be compared.
        """
        if (item is None) == (video is None):
            raise ColdstartError("match: give exactly one of item and video")
        if item is not None and (title is not None or listen):
            raise ColdstartError("match: title and listen are for a video file; an item has its own words")
        check_text(title or "")
        builder = self.query_builder(spaces)
        if item is not None:
            found = builder.items([item])
            if item not in found:
                hint = similar_ids(item, builder.catalog.blocks([]))
                raise ColdstartError(
                    f"item {item!r} is not in the published catalog{hint}: see `coldstart show {item}`"
                )
            question = found[item]
            options["exclude"] = [*options.get("exclude", ()), item]
        else:
            question = builder.file(Path(str(video)), title, listen)
        calibration = self.calibration(builder, options.get("kind", "product"))
        fitted = self.fitted_weights()
        return match(builder.catalog, question, builder.inputs, calibration, fitted_weights=fitted, **options)

    def fit(
        self, pairs: Mapping[str, Iterable[str]], spaces: Iterable[str] | None, kind: str | None, where: str | None
    ) -> dict[str, Any]:
        """Fit weights on known pairs, and store them where they help the videos that are held out.

        Returns:
            The report, as `weights_report` gives it.

        Raises:
            ColdstartError: too few of the videos are in the catalog, or nothing of them can be compared.
        """
        shown = {video: frozenset(products) for video, products in pairs.items() if products}
        builder = self.query_builder(spaces)
        gathered = gather_pairs(builder, self.calibration(builder, kind), shown, kind=kind, where=where)
        fit = fit_weights(gathered)
        report = weights_report(gathered, fit)
        if fit.helps:
            files = {FILE: ChannelWeights.of(gathered.channels, fit.weights).to_bytes()}
            with self.store.lock():
                self.store.artifacts.save(MATCH, key_of(gathered, shown), files, report)
        return report
