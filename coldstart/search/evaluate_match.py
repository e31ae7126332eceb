"""Evaluate matching: the products that are found in videos by default, against each space alone.

Two sorts of videos: those whose products are known, and clips that are made of the catalogue in the vectors. A made
clip shows two products, each with the views of a video laid over it, has a title that names nothing, and names one of
its products on screen in every second clip. Spaces are weighed by the products of one half of the ids, and the clips
are made of the other half. A made clip is easier than one that was filmed: read the difference to the best single
space rather than the level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.vectors import unit
from coldstart.encoders import Passport, Vectors
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.search.channel_weights import default_weights
from coldstart.search.channels import LINES, Channel, Moment, QuerySide, VideoQuery, catalog_channels, score_all
from coldstart.search.fusion import ChannelVotes, KnownVideo, Votes, evaluate_weights, keep_best
from coldstart.search.match import EXACT_BELOW
from coldstart.search.match_calibration import NEUTRAL, VIDEOS, MatchCalibration, calibrate_matching, sample_items
from coldstart.search.match_service import KEPT, KnownPairs, Matcher, Pairs, gather_pairs
from coldstart.search.query_vectors import QueryBuilder
from coldstart.store.published import Published

CLIPS = 100
"""Clips that are made at most."""

FRAMES, SHOWN = 4, 2
"""Frames of each product in a made clip, and products of it."""

COVER = 4.0
"""Weight of the view of the video that is laid over a product, less the mean of the products, where that has 1."""

DEFAULT = "default"

_AT_ONCE = 1 << 26  # votes in memory at a time: 256 MiB


def evaluate_match(matcher: Matcher, pairs: Pairs | None = None, *, clips: int = CLIPS) -> dict[str, Any]:
    """Evaluate matching of one workspace by its default weights.

    Args:
        pairs: item_id of a video -> the products that it shows; by default those of the packaged sample, where the
            workspace holds it.
        clips: how many are made at most.

    Returns:
        `products`, the number of products searched among, and `sets`: of each sort of videos `name` (`known` or
        `made`), `clips`, `shown`, `rankings` (`name`, `recall_1`, `recall_5`, each with `value`, `low`, `high`),
        `baseline`, the single space that is best on the same videos, `difference` of the default to it in `recall_5`
        and `difference_1` in `recall_1`, and `verdict`: `better`, `worse`, `no difference shown` or `too few to judge`.
        A sort without videos has `why`.

    Raises:
        ColdstartError: nothing is published, or nothing of a video can be compared with products.
    """
    builder = matcher.query_builder()
    catalog = builder.catalog
    products = catalog.count(catalog.condition(kind="product"))
    known = sample_pairs(catalog) if pairs is None else pairs
    found = [_known(matcher, builder, known), _made(matcher, builder, clips)]
    return {"products": products, "sets": found}


def sample_pairs(catalog: Published) -> dict[str, frozenset[str]]:
    """Read the pairs of the packaged sample, as far as the catalogue holds it under its own titles."""
    from coldstart import sample

    folder = Path(sample.path())
    rows = [json.loads(line) for line in (folder / "truth.jsonl").read_text("utf-8").splitlines()]
    titles = {
        entry["item_id"]: entry["title"]
        for entry in map(json.loads, (folder / "manifest.jsonl").read_text("utf-8").splitlines())
    }
    shown = {row["item_id"]: frozenset(row["product_ids"]) for row in rows if row["product_ids"]}
    ids = sorted({*shown, *(product for products in shown.values() for product in products)})
    same = {item for item, row in catalog.items(ids, ["title"]).items() if row["title"] == titles.get(item)}
    return {video: products for video, products in shown.items() if {video, *products} <= same}


def _known(matcher: Matcher, builder: QueryBuilder, pairs: Pairs) -> dict[str, Any]:
    if not pairs:
        return _without("known", "no videos are known to show certain products")
    return {"name": "known", **compare_spaces(gather_pairs(builder, matcher.calibration(builder), pairs))}


def _made(matcher: Matcher, builder: QueryBuilder, clips: int) -> dict[str, Any]:
    calibration = calibrate_matching(
        builder.catalog, builder.inputs, matcher.encoder_of_words, queried=lambda item_id: not _is_judged(item_id)
    )
    made = make_clips(matcher, builder, clips)
    if not made:
        return _without("made", "too few products have vectors of pictures to make clips of")
    catalog = builder.catalog
    channels = catalog_channels(catalog, [side for query, _ in made for side in query.sides], builder.inputs)
    condition = catalog.condition(kind="product")
    count = catalog.count(condition)
    step = max(1, _AT_ONCE // max(1, count * FRAMES * SHOWN * len(builder.inputs)))
    known = []
    for start in range(0, len(made), step):
        part = made[start : start + step]
        scored = score_all(
            catalog, [query for query, _ in part], channels, calibration, condition, exact=count <= EXACT_BELOW
        )
        known += [
            known_video(query.name, own.item_ids, own.votes, right)
            for (query, right), own in zip(part, scored, strict=True)
        ]
    gathered = KnownPairs(channels, calibration, known, [query.name for query, _ in made], 0, 0, True)
    return {"name": "made", **compare_spaces(gathered)}


def _without(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "clips": 0, "shown": 0, "verdict": "too few to judge", "why": why}


def compare_spaces(gathered: KnownPairs) -> dict[str, Any]:
    """Compare the default with each space alone, on the same videos."""
    scores = {DEFAULT: evaluate_weights(gathered.known, gathered.default)}
    for space in sorted({channel.space for channel in gathered.channels}):
        own = _alone(gathered.channels, gathered.calibration, space)
        if own.any():
            scores[space] = evaluate_weights(gathered.known, own)
    rankings = [
        {"name": name, "recall_1": asdict(bootstrap(one.recall_1)), "recall_5": asdict(bootstrap(one.recall_5))}
        for name, one in scores.items()
    ]
    singles = [name for name in scores if name != DEFAULT]
    found: dict[str, Any] = {
        "clips": len(gathered.known),
        "shown": int(scores[DEFAULT].shown.sum()),
        "rankings": rankings,
    }
    if not singles:
        return {**found, "verdict": "too few to judge", "why": "no space can be compared alone"}
    best = max(singles, key=lambda name: (scores[name].recall_5.mean(), scores[name].recall_1.mean()))
    five = paired(scores[best].recall_5, scores[DEFAULT].recall_5)
    first = paired(scores[best].recall_1, scores[DEFAULT].recall_1)
    verdict = "better" if five.low > 0 else "worse" if five.high < 0 else "no difference shown"
    if len(gathered.known) < FEWEST_COMPARED:
        verdict = "too few to judge"
    return {
        **found,
        "baseline": best,
        "difference": asdict(five),
        "difference_1": asdict(first),
        "verdict": verdict,
    }


def _alone(channels: Sequence[Channel], calibration: MatchCalibration, space: str) -> Any:
    """Weigh the channels of one space as `--space` does, the others nothing: float64 [C]."""
    own = [n for n, one in enumerate(channels) if one.space == space and one.side.removesuffix(LINES) == space]
    weights = np.zeros(len(channels))
    if own:
        weights[own] = default_weights([channels[n] for n in own], calibration)
    return weights


def make_clips(matcher: Matcher, builder: QueryBuilder, clips: int) -> list[tuple[VideoQuery, frozenset[str]]]:
    """Make clips of products, each of one clip, in the vectors of the catalogue: the query, and what is right."""
    catalog = builder.catalog
    spaces = sorted(builder.inputs)
    pictures = [space for space in spaces if builder.inputs[space] == "image"]
    ids, products = sample_items(catalog, spaces, 4 * SHOWN * clips, "product")
    video_ids, videos = sample_items(catalog, pictures, VIDEOS, "video")
    usable = [n for n, item in enumerate(ids) if _is_judged(item) and all(_whole(products[s][n]) for s in pictures)]
    seen = [n for n in range(len(video_ids)) if all(_whole(videos[s][n]) for s in pictures)]
    rng = np.random.default_rng(1)
    usable = rng.permutation(usable).astype(int).tolist()[: SHOWN * clips]
    count = len(usable) // SHOWN
    if not pictures or not count:
        return []
    titles = catalog.items([ids[n] for n in usable], ["title"])
    lines = _Lines(matcher, builder)
    made = []
    for number in range(count):
        shown = usable[number * SHOWN : (number + 1) * SHOWN]
        view, others = (seen, videos) if seen else (usable, products)
        laid = rng.choice(view, FRAMES * SHOWN)
        sides = []
        for space in pictures:
            mean = np.nanmean(products[space], axis=0)
            goods = np.repeat(products[space][shown], FRAMES, axis=0)
            frames = unit(goods + COVER * (others[space][laid] - mean))
            moments = [Moment("frame", float(second)) for second in range(len(frames))]
            sides.append(QuerySide(space, _digest(catalog, space), "image", frames, moments))
        title = NEUTRAL[number % len(NEUTRAL)]
        named = str(titles[ids[shown[0]]]["title"] or "") if number % 2 == 0 else ""
        sides += lines.sides(title, named)
        made.append((VideoQuery(f"clip-{number}", sides, [], []), frozenset(ids[n] for n in shown)))
    return made


class _Lines:
    """Writer of the words of made clips, in every space of texts that has an encoder."""

    def __init__(self, matcher: Matcher, builder: QueryBuilder) -> None:
        self._encoders = {}
        for space, way in builder.inputs.items():
            passport = Passport.from_json(builder.catalog.passports[space])
            encoder = matcher.encoder_of_words(passport) if way == "text" else None
            if encoder is not None:
                self._encoders[space] = passport.digest, encoder

    def sides(self, title: str, named: str) -> list[QuerySide]:
        """Encode a title, and a line on screen where there is one."""
        found = []
        for space, (passport, encoder) in self._encoders.items():
            texts = [title, named] if named else [title]
            vectors = encoder.encode_documents(texts)
            found.append(QuerySide(space, passport, "text", vectors[:1], [Moment("text", None, title)]))
            if named:
                moments = [Moment("title", None, title), Moment("screen", 0.0, named)]
                found.append(QuerySide(space + LINES, passport, "text", vectors, moments))
        return found


def known_video(name: str, item_ids: Sequence[str], votes: Votes, right: frozenset[str]) -> KnownVideo:
    """Keep the best candidates of a video whose products are known."""
    best = keep_best(votes, KEPT)
    places = [place for place, at in enumerate(best.tolist()) if item_ids[at] in right]
    kept = [None if one is None else ChannelVotes(one.values[:, best], one.in_turn) for one in votes]
    return KnownVideo(name, kept, np.asarray(places, np.intp), len(right))


def _digest(catalog: Published, space: str) -> str:
    return Passport.from_json(catalog.passports[space]).digest


def _whole(vector: Vectors) -> bool:
    return bool(np.isfinite(vector).all())


def _is_judged(item_id: str) -> bool:
    return hashlib.sha256(f"match {item_id}".encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0
