"""Predict attribute values of items from their pictures, brand and texts, as calibrated probabilities.

Each witness scores every value of an attribute: ridge regression on the vectors of a space of pictures (Hoerl & Kennard
1970; narrow spaces by random Fourier features of a Gaussian kernel, Rahimi & Recht 2007), cosines with texts of the
values, the shares of the values among a brand's items, and words of title and texts that name a value. A conditional
logit (McFadden 1974) over scores of items out of their fold weighs the witnesses, so that its softmax is a probability.
The lowest probability at which the likeliest values reach the set precision is the threshold from which one is stated.

Knows no encoders and no tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.attributes import Attributes, recorded_values
from coldstart.describe.attribute_values import PredictedValue
from coldstart.describe.checks.form import evidence_text
from coldstart.describe.checks.words import Lexicon, is_negated, tokens
from coldstart.embed.zero_shot import Flags, Numbers, Vectors, calibration_error, ensemble, lowest_threshold, wilson

MIN_ITEMS_PER_VALUE = 3
"""Least items that state a value of an open attribute for the value to count."""
PENALTY = 0.1
"""Penalty of the ridge regression, for features of mean squared length one; LOG.md compares others."""
NARROW = 512
"""Widest space that gets random Fourier features; wider ones are linear enough, and their weights stay small."""
FOURIER = 1024
"""Random frequencies, each a cosine and a sine."""
BRAND_ITEMS = 5.0
"""Items of the whole catalogue that stand beside those of a brand (additive smoothing)."""
MOST_WEIGHED = 4000
"""Most items that the weights of the witnesses are fitted on."""
LIKELIEST = 3
"""Values of an attribute that are kept."""
LEAST = 0.01
"""Least probability of a value that is kept."""
MODEL_FILE = "attributes.json"
ARRAYS_FILE = "attributes.npz"

PRIOR, BRAND, TITLE, TEXTS = "prior", "brand", "title", "texts"
_WORDS = (PRIOR, BRAND, TITLE, TEXTS)
"""Witnesses besides spaces of pictures, in the order of their weights."""
_TEXTS = ("description", "transcript", "screen_text")
_RELEVANT = 0.5  # of a logit by which a witness prefers a value to the mean of all


@dataclass(frozen=True)
class AttributeTruth:
    """Attribute with its values and the records that state it.

    Attributes:
        values: all possible ones; words: of each, value and aliases.
        truth: item -> number of the recorded value, -1 for another one.
        visual: True if pictures can be evidence; maker: True if the brand can, False where it is the attribute itself.
    """

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    truth: Mapping[str, int]
    visual: bool = True
    maker: bool = True


@dataclass(frozen=True)
class SpacePictures:
    """Picture vectors of the items of a fit in one space.

    Attributes:
        passport: digest of the encoder's passport.
        vectors: unit float32 [N, D], zero where an item has none.
        encode: texts -> unit vectors in the same space; None where it holds no texts.
    """

    name: str
    passport: str
    vectors: Vectors
    encode: Callable[[Sequence[str]], Vectors] | None = None


@dataclass(frozen=True)
class FitItems:
    """Items of a fit, N of them.

    Attributes:
        rows: with `item_id`, `kind`, `creator` and texts, `evidence` among them.
        folds: fold of each, int64 [N] from 0, like items in one; halves: bool [N], likewise.
    """

    rows: Sequence[Mapping[str, Any]]
    folds: Numbers
    halves: Flags


@dataclass(frozen=True)
class HeldOutScores:
    """Scores on items out of their fold, each half with weights and threshold of the other, titles and texts hidden.

    Attributes:
        items: number of evaluated items.
        accuracy: share whose likeliest value is true.
        stated: share whose likeliest value reaches the threshold.
        precision: share of the stated values that is true, None where there is none; with its Wilson interval at 95 %.
        coverage: share of all items whose true value is stated.
        calibration_error: expected difference of probability and accuracy, 0 to 1.
    """

    items: int
    accuracy: float
    stated: float
    precision: float | None
    precision_interval: tuple[float, float] | None
    coverage: float
    calibration_error: float


@dataclass(frozen=True)
class Weights:
    """Weights of the witnesses for items with pictures, or without.

    Attributes:
        witnesses: name -> weight, 0 or more.
        threshold: least probability of a value that is stated; None where none reaches the set precision.
    """

    witnesses: Mapping[str, float]
    threshold: float | None
    scores: HeldOutScores


@dataclass(frozen=True)
class Probe:
    """Linear scores of V values on the features of one space, and the cosine of its texts of the values.

    Attributes:
        weights: float32 [V, F]; offsets: float32 [V].
        words: unit vectors of the values, float32 [V, D], or None.
    """

    weights: Vectors
    offsets: Vectors
    words: Vectors | None = None


@dataclass(frozen=True)
class SpaceFeatures:
    """Map of a space's vectors float32 [N, D] to features of mean squared length one, float32 [N, F].

    Attributes:
        mean, deviation: float32 [D]; frequencies: float32 [D, FOURIER] or None for a wide space.
    """

    mean: Vectors
    deviation: Vectors
    frequencies: Vectors | None

    @classmethod
    def of(cls, vectors: Vectors) -> SpaceFeatures:
        """Fit the map to vectors float32 [N, D], none of them zero."""
        if vectors.shape[1] > NARROW:
            mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
            deviation[deviation < 1e-9] = 1.0
            return cls(mean.astype(np.float32), deviation.astype(np.float32), None)
        draws = np.random.default_rng(0)
        pairs = draws.integers(0, len(vectors), (2, 4096))
        apart = np.square(vectors[pairs[0]] - vectors[pairs[1]]).sum(axis=1)
        width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        frequencies = draws.normal(0, np.sqrt(2 / width), (vectors.shape[1], FOURIER)).astype(np.float32)
        none = np.zeros(vectors.shape[1], np.float32)
        return cls(none, none + 1, frequencies)

    def __call__(self, vectors: Vectors) -> Vectors:
        rows: Vectors = ((vectors - self.mean) / self.deviation).astype(np.float32)
        if self.frequencies is None:
            return rows / np.float32(np.sqrt(rows.shape[1]))
        phases = rows @ self.frequencies
        waves = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.float32(np.sqrt(FOURIER))
        return np.asarray(waves, np.float32)


@dataclass(frozen=True)
class AttributePredictor:
    """Predictor of one attribute of V values.

    Attributes:
        shares: share of each value among items of known value, float32 [V], sum one.
        kinds: kinds of items whose pictures it was fitted on; pictures of others are left out.
        brands: name in small letters -> counts of its items by value.
        probes: space -> scores of its pictures.
        with_pictures, without: weights where an item has pictures, and where it has none; None where too few had.
    """

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    shares: Vectors
    kinds: frozenset[str]
    brands: Mapping[str, Mapping[int, int]]
    probes: Mapping[str, Probe]
    with_pictures: Weights | None
    without: Weights | None
    lexicon: Lexicon[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        phrases = ((word, number) for number, words in enumerate(self.words) for word in words)
        object.__setattr__(self, "lexicon", Lexicon(phrases))

    def word_scores(self, rows: Sequence[Mapping[str, Any]], given: Collection[str] | None) -> dict[str, Vectors]:
        """Compute the scores of the witnesses of `_WORDS`, each float32 [N, V]."""
        shape = len(rows), len(self.values)
        prior = np.log(self.shares)
        scores = {name: np.zeros(shape, np.float32) for name in _WORDS}
        scores[PRIOR][:] = prior
        for place, row in enumerate(rows):
            maker = row.get("creator") if given is None or "creator" in given else None
            scores[BRAND][place] = _brand_shares(self.brands.get(_folded(maker), {}), self.shares) - prior
            for witness, texts in _texts(row, given).items():
                for number in named_values(texts, self.lexicon):
                    scores[witness][place, number] = 1
        return scores

    def picture_scores(self, features: Mapping[str, Vectors], vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
        """Compute the scores of the spaces, float32 [N, V] each; rows without a picture are zero."""
        scores: dict[str, Vectors] = {}
        for space, probe in self.probes.items():
            if space in features:
                has = vectors[space].any(axis=1, keepdims=True)
                scores[space] = (features[space] @ probe.weights.T + probe.offsets) * has
                if probe.words is not None:
                    scores[f"{space} words"] = (vectors[space] @ probe.words.T) * has
        return scores

    def predict(self, scores: Mapping[str, Vectors], pictured: Flags) -> list[list[PredictedValue]]:
        """Return the likeliest values of each item, falling.

        Args:
            scores: witness -> float32 [N, V]; pictured: bool [N].
        """
        found: list[list[PredictedValue]] = [[] for _ in pictured]
        for weights, chosen in ((self.with_pictures, pictured), (self.without, ~pictured)):
            places = np.flatnonzero(chosen)
            if weights is None or not len(places):
                continue
            used = {name: scores[name][places] * weight for name, weight in weights.witnesses.items() if name in scores}
            likely = softmax(np.sum(list(used.values()), axis=0))
            gains = {name: one - one.mean(axis=1, keepdims=True) for name, one in used.items() if name != PRIOR}
            order = np.argsort(-likely, axis=1, kind="stable")[:, :LIKELIEST]
            for row, place in enumerate(places):
                for rank, number in enumerate(order[row]):
                    probability = float(likely[row, number])
                    if probability < LEAST and rank:
                        break
                    stated = rank == 0 and weights.threshold is not None and probability >= weights.threshold
                    ranked = sorted(gains, key=lambda name: -gains[name][row, number])
                    heard = dict.fromkeys(n.removesuffix(" words") for n in ranked if gains[n][row, number] > _RELEVANT)
                    found[place].append(
                        PredictedValue(self.name, self.values[number], probability, stated, tuple(heard))
                    )
        return found


def _folded(name: str | None) -> str:
    return " ".join((name or "").casefold().split())


def _brand_shares(counts: Mapping[int, int], shares: Vectors) -> Vectors:
    """Compute the logarithm of a brand's shares, smoothed by those of the catalogue, float32 [V]."""
    sums = shares * BRAND_ITEMS
    for number, count in counts.items():
        sums[number] += count
    found: Vectors = np.log(sums / sums.sum()).astype(np.float32)
    return found


def _texts(row: Mapping[str, Any], given: Collection[str] | None) -> dict[str, list[str]]:
    """Collect title and other texts of a view. Category and tags often are the attribute itself: they are left out."""
    evidence = row.get("evidence") or {}
    values = {name: row.get(name, evidence.get(name)) for name in ("title", *_TEXTS)}
    shown = {name: value for name, value in values.items() if value and (given is None or name in given)}
    return {
        TITLE: [shown["title"]] if "title" in shown else [],
        TEXTS: [shown[name] for name in _TEXTS if name in shown],
    }


def named_values(texts: Sequence[str], lexicon: Lexicon[int]) -> set[int]:
    """Find the numbers of the values that texts name, without negated ones."""
    found: set[int] = set()
    for text in texts:
        words = tokens(evidence_text(text))
        for start, end, numbers in lexicon.find(words):
            if not is_negated(words, start, end):
                found.update(numbers)
    return found


def softmax(logits: Vectors) -> Vectors:
    """Compute probabilities of rows float32 [N, V]."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Vectors = shares / shares.sum(axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class AttributeModel:
    """Predictors of the attributes of a catalogue.

    Attributes:
        predictors: attribute -> predictor; features: space -> map of its vectors.
        passports: space -> digest of the passport of its vectors.
        reasons: attribute that cannot be predicted -> reason in words.
    """

    predictors: Mapping[str, AttributePredictor]
    features: Mapping[str, SpaceFeatures]
    passports: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def spaces(self) -> list[str]:
        """Spaces of pictures that it reads."""
        return sorted(self.features)

    def predict(
        self,
        rows: Sequence[Mapping[str, Any]],
        vectors: Mapping[str, Vectors],
        attributes: Attributes | None = None,
        given: Collection[str] | None = None,
    ) -> list[dict[str, list[PredictedValue]]]:
        """Predict the attributes of items: attribute -> likeliest values, falling.

        What a record states of an attribute is not read; the probability of an item that the fit learnt from is too
        high, which does no harm where its record states the attribute.

        Args:
            rows: of N items.
            vectors: space -> float32 [N, D], zero where an item has none.
            attributes: those of each category; by default every predictor is used.
            given: fields of the view; None shows all.
        """
        if given is not None and "picture" not in given:
            vectors = {}
        vectors = {space: own for space, own in vectors.items() if space in self.features and own.shape[1]}
        features = {space: self.features[space](own) for space, own in vectors.items()}
        found: list[dict[str, list[PredictedValue]]] = [{} for _ in rows]
        allowed: list[Collection[str] | None] = [None] * len(rows)
        if attributes is not None:
            shown = given is None or "category" in given
            allowed = [attributes.of(row.get("category") if shown else None) for row in rows]
        for name, predictor in self.predictors.items():
            pictured = np.zeros(len(rows), np.bool_)
            for space, own in vectors.items():
                if space in predictor.probes:
                    pictured |= own.any(axis=1)
            pictured &= np.array([row.get("kind", "product") in predictor.kinds for row in rows], np.bool_)
            scores = predictor.word_scores(rows, given) | predictor.picture_scores(features, vectors)
            for place, values in enumerate(predictor.predict(scores, pictured)):
                own_names = allowed[place]
                if values and (own_names is None or name in own_names):
                    found[place][name] = values
        return found

    def files(self) -> dict[str, bytes]:
        """Return the files of `load_attribute_model`: path -> content."""
        arrays: dict[str, Any] = {}
        for space, own in self.features.items():
            arrays |= {f"{space}|mean": own.mean, f"{space}|deviation": own.deviation}
            if own.frequencies is not None:
                arrays[f"{space}|frequencies"] = own.frequencies
        plain: dict[str, Any] = {}
        for name, one in self.predictors.items():
            arrays[f"{name}|shares"] = one.shares
            for space, probe in one.probes.items():
                arrays |= {f"{name}|{space}|weights": probe.weights, f"{name}|{space}|offsets": probe.offsets}
                if probe.words is not None:
                    arrays[f"{name}|{space}|words"] = probe.words
            plain[name] = {
                "values": list(one.values),
                "words": [list(words) for words in one.words],
                "kinds": sorted(one.kinds),
                "brands": {brand: {str(n): count for n, count in own.items()} for brand, own in one.brands.items()},
                "spaces": list(one.probes),
                "with_pictures": weights_json(one.with_pictures),
                "without": weights_json(one.without),
            }
        about = {
            "attributes": plain,
            "spaces": self.spaces,
            "passports": dict(self.passports),
            "reasons": dict(self.reasons),
        }
        out = BytesIO()
        np.savez(out, **arrays)
        return {MODEL_FILE: json.dumps(about, ensure_ascii=False, indent=1).encode(), ARRAYS_FILE: out.getvalue()}


def weights_json(weights: Weights | None) -> dict[str, Any] | None:
    """Return weights, threshold and held-out scores as JSON values."""
    return None if weights is None else asdict(weights)


def load_attribute_model(folder: Path) -> AttributeModel:
    """Load `AttributeModel.files` from a folder, such as `Artifact.folder`."""
    about = json.loads((folder / MODEL_FILE).read_text("utf-8"))
    with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
        own = {name: arrays[name] for name in arrays.files}
    features = {
        space: SpaceFeatures(own[f"{space}|mean"], own[f"{space}|deviation"], own.get(f"{space}|frequencies"))
        for space in about["spaces"]
    }
    predictors = {}
    for name, one in about["attributes"].items():
        probes = {
            space: Probe(
                own[f"{name}|{space}|weights"], own[f"{name}|{space}|offsets"], own.get(f"{name}|{space}|words")
            )
            for space in one["spaces"]
        }
        predictors[name] = AttributePredictor(
            name,
            tuple(one["values"]),
            tuple(tuple(words) for words in one["words"]),
            own[f"{name}|shares"],
            frozenset(one["kinds"]),
            {brand: {int(n): count for n, count in counts.items()} for brand, counts in one["brands"].items()},
            probes,
            _read_weights(one["with_pictures"]),
            _read_weights(one["without"]),
        )
    return AttributeModel(predictors, features, about["passports"], about["reasons"])


def _read_weights(plain: Mapping[str, Any] | None) -> Weights | None:
    if plain is None:
        return None
    scores = dict(plain["scores"])
    interval = scores.pop("precision_interval")
    known = HeldOutScores(**scores, precision_interval=None if interval is None else tuple(interval))
    return Weights(plain["witnesses"], plain["threshold"], known)


def attribute_truths(attributes: Attributes, rows: Sequence[Mapping[str, Any]]) -> Iterator[AttributeTruth]:
    """Yield the attributes of all categories with what the records state, in the order of the pipeline file.

    An attribute of one name has the values of all categories that have it.

    Args:
        rows: items, with `item_id`, `category`, `creator`, `tags` and `attributes`.
    """
    stated: dict[str, dict[str, tuple[str, bool]]] = {}
    for row in rows:
        own = attributes.of(row["category"])
        anything = {name: one.model_copy(update={"values": ()}) for name, one in own.items() if one.values}
        for name, value in recorded_values(row, {**own, **anything}).items():
            listed = own[name].canonical(value)
            stated.setdefault(name, {})[row["item_id"]] = (value if listed is None else listed, listed is not None)
    names = dict.fromkeys(name for named in attributes.root.values() for name in named)
    for name in names:
        ones = [named[name] for named in attributes.root.values() if name in named]
        known = stated.get(name, {})
        counts = Counter(value.casefold() for value, listed in known.values() if listed)
        often = Counter(value for value, listed in known.values() if listed)
        closed = [value for one in ones for value in one.values]
        open_ = [value for value, _ in often.most_common() if counts[value.casefold()] >= MIN_ITEMS_PER_VALUE]
        values: dict[str, str] = {}
        for value in (*closed, *(open_ if any(not one.values for one in ones) else ())):
            values.setdefault(value.casefold(), value)
        numbers = {folded: number for number, folded in enumerate(values)}
        words = tuple(
            tuple(dict.fromkeys([value, *(word for one in ones for word in one.words_of(value)[1:])]))
            for value in values.values()
        )
        truth = {item: numbers.get(value.casefold(), -1) if listed else -1 for item, (value, listed) in known.items()}
        visual = any(one.visual for one in ones)
        yield AttributeTruth(
            name, tuple(values.values()), words, truth, visual, all(o.source != "creator" for o in ones)
        )


def fit_attribute_model(
    attributes: Sequence[AttributeTruth],
    items: FitItems,
    spaces: Sequence[SpacePictures],
    *,
    judge: str = "auto",
    template: str = "a photo of {}",
    precision: float = 0.9,
    min_items: int = 50,
    meter: Callable[[], None] = lambda: None,
) -> AttributeModel:
    """Fit the predictors of attributes on items whose records state them.

    Args:
        judge: witnesses of pictures: `words`, `probe`, or `auto` for both.
        template: text with one `{}`, for the words of a value.
        precision: share of stated values that should be right.
        min_items: items that must state an attribute.
        meter: called after each attribute.
    """
    ids = [row["item_id"] for row in items.rows]
    features = {one.name: SpaceFeatures.of(one.vectors[one.vectors.any(axis=1)]) for one in spaces if one.vectors.any()}
    mapped = {one.name: features[one.name](one.vectors) for one in spaces if one.name in features}
    solvers = {name: RidgeSolver(rows, items.folds) for name, rows in mapped.items()}
    predictors, reasons = {}, {}
    for attribute in attributes:
        places = np.array([place for place, item in enumerate(ids) if item in attribute.truth], np.int64)
        if len(places) < min_items or len(attribute.values) < 2 or len(np.unique(items.folds[places])) < 2:
            reasons[attribute.name] = _why(attribute, len(places), min_items)
        else:
            predictor = _fit_attribute(attribute, items, places, spaces, solvers, judge, template, precision)
            predictors[attribute.name] = predictor
            if all(one is None or one.threshold is None for one in (predictor.with_pictures, predictor.without)):
                reasons[attribute.name] = f"no probability reaches a precision of {precision:g} on {len(places)} items"
        meter()
    read = {space for one in predictors.values() for space in one.probes}
    passports = {one.name: one.passport for one in spaces if one.name in read}
    return AttributeModel(predictors, {name: own for name, own in features.items() if name in read}, passports, reasons)


def _why(attribute: AttributeTruth, items: int, min_items: int) -> str:
    if items < min_items:
        return f"{items} items with a usable record state it, and a fit needs {min_items} (min_items)"
    if len(attribute.values) < 2:
        return f"it has {len(attribute.values)} values that {MIN_ITEMS_PER_VALUE} items or more state"
    return "all items that state it are copies of each other"


def _fit_attribute(
    attribute: AttributeTruth,
    items: FitItems,
    places: Numbers,
    spaces: Sequence[SpacePictures],
    solvers: Mapping[str, RidgeSolver],
    judge: str,
    template: str,
    precision: float,
) -> AttributePredictor:
    truth = np.array([attribute.truth[items.rows[place]["item_id"]] for place in places], np.int64)
    rows = [items.rows[place] for place in places]
    folds, halves = items.folds[places], items.halves[places]
    known = truth[truth >= 0]
    counts = np.bincount(known, minlength=len(attribute.values))
    shares = ((counts + 1) / (counts.sum() + len(counts))).astype(np.float32)
    kinds = Counter(row.get("kind", "product") for row in rows)
    usual = frozenset(kind for kind, count in kinds.items() if 2 * count >= max(kinds.values()))
    brands: dict[str, Counter[int]] = {}
    for row, number in zip(rows, truth.tolist(), strict=True):
        if attribute.maker and number >= 0 and _folded(row.get("creator")):
            brands.setdefault(_folded(row["creator"]), Counter())[number] += 1
    bare = AttributePredictor(attribute.name, attribute.values, attribute.words, shares, usual, brands, {}, None, None)
    scores = bare.word_scores(rows, None)
    if brands:
        makers = [_folded(row.get("creator")) for row in rows]
        same = Counter(zip(makers, folds.tolist(), truth.tolist(), strict=True))
        for place, (maker, fold) in enumerate(zip(makers, folds.tolist(), strict=True)):
            rest = {number: count - same[maker, fold, number] for number, count in brands.get(maker, {}).items()}
            scores[BRAND][place] = _brand_shares(rest, shares) - np.log(shares)  # without the items of its own fold
    probes: dict[str, Probe] = {}
    pictured = np.zeros(len(rows), np.bool_)
    of_kind = np.array([row.get("kind", "product") in usual for row in rows])
    for space in spaces if attribute.visual else ():
        if space.name not in solvers:
            continue
        has = space.vectors[places].any(axis=1) & of_kind
        if len(np.unique(folds[has])) < 2:
            continue
        words = None
        if space.encode is not None and judge != "probe":
            texts = [template.format(word) for words_ in attribute.words for word in words_]
            owners = np.repeat(np.arange(len(attribute.words)), [len(words_) for words_ in attribute.words])
            words = ensemble(space.encode(texts), owners, len(attribute.words))
            scores[f"{space.name} words"] = (space.vectors[places] @ words.T) * has[:, None]
        values = len(attribute.values)
        if judge == "words":
            if words is None:
                continue
            width = solvers[space.name].features.shape[1]
            probe = Probe(np.zeros((values, width), np.float32), np.zeros(values, np.float32), words)
        else:
            own_scores, weights, offsets = solvers[space.name].solve(places[has], truth[has], values)
            scores[space.name] = np.zeros((len(rows), values), np.float32)
            scores[space.name][has] = own_scores
            probe = Probe(weights, offsets, words)
        probes[space.name] = probe
        pictured |= has
    with_pictures = _weigh(scores, truth, halves, pictured, precision) if pictured.sum() >= 10 else None
    blind = {name: scores[name] for name in _WORDS}
    without = _weigh(blind, truth, halves, np.ones(len(rows), np.bool_), precision, hide=False)
    return replace(bare, probes=probes, with_pictures=with_pictures, without=without)


class RidgeSolver:
    """Solver of ridge regressions onto values over the features of one space, out of fold and over all items.

    Solved by the normal equations, whose matrix is made once for attributes that the same items state.
    """

    def __init__(self, features: Vectors, folds: Numbers) -> None:
        self.features = features
        self._folds = folds
        self._made: tuple[bytes, dict[int, tuple[Vectors, Any]], Any] | None = None

    def solve(self, places: Numbers, truth: Numbers, values: int) -> tuple[Vectors, Vectors, Vectors]:
        """Solve for some items; those of another value (-1) are negatives of all.

        Args:
            places: of N items with a vector, of two folds at least; truth: int64 [N].

        Returns:
            Out-of-fold scores float32 [N, values]; weights float32 [values, F] and offsets float32 [values].
        """
        from scipy.linalg import cho_solve

        rows, folds = self.features[places], self._folds[places]
        parts, whole = self._factors(places, rows, folds)
        targets = (truth[:, None] == np.arange(values)).astype(np.float32)
        scores = np.empty((len(places), values), np.float32)
        for fold, factor in parts.items():
            own, rest = folds == fold, folds != fold
            centre = targets[rest].mean(axis=0)
            scores[own] = rows[own] @ cho_solve(factor, rows[rest].T @ (targets[rest] - centre)) + centre
        centre = targets.mean(axis=0)
        weights = cho_solve(whole, rows.T @ (targets - centre)).T
        return scores, np.ascontiguousarray(weights, np.float32), centre

    def _factors(self, places: Numbers, rows: Vectors, folds: Numbers) -> tuple[dict[int, Any], Any]:
        """Return Cholesky factors of the penalised products of features: without each fold, and of all items."""
        from scipy.linalg import cho_factor

        if self._made is None or self._made[0] != places.tobytes():
            penalty = np.float32(PENALTY) * np.eye(rows.shape[1], dtype=np.float32)
            whole = rows.T @ rows + penalty
            parts = {}
            for fold in np.unique(folds).tolist():
                own = rows[folds == fold]
                parts[fold] = cho_factor(whole - own.T @ own, lower=True, overwrite_a=True, check_finite=False)
            self._made = places.tobytes(), parts, cho_factor(whole, lower=True, overwrite_a=True, check_finite=False)
        return self._made[1], self._made[2]


def _weigh(
    scores: Mapping[str, Vectors], truth: Numbers, halves: Flags, usable: Flags, precision: float, *, hide: bool = True
) -> Weights | None:
    """Fit weights and threshold on items with and without their texts; score those of each half on the other.

    Args:
        hide: score with titles and texts hidden.
    """
    places = np.flatnonzero(usable)
    if len(places) > MOST_WEIGHED:
        places = np.sort(np.random.default_rng(0).choice(places, MOST_WEIGHED, replace=False))
    names = list(scores)
    shown = np.stack([scores[name][places] for name in names], axis=2)
    hidden = shown * np.array([name not in (TITLE, TEXTS) for name in names], np.float32)
    views = np.concatenate([shown, hidden])
    first = np.arange(len(views)) < len(places)
    twice, halved = np.tile(truth[places], 2), np.tile(halves[places], 2)
    if not (truth[places] >= 0).any():
        return None

    def fit(chosen: Flags) -> tuple[Vectors, float | None]:
        """Fit on the chosen views; the threshold holds with the texts and without them."""
        weights = _logit_weights(views[chosen], twice[chosen])
        likely = softmax(views @ weights)
        right = likely.argmax(axis=1) == twice
        thresholds = [
            lowest_threshold(likely[view & chosen].max(axis=1), right[view & chosen], precision)
            for view in (first, ~first)
        ]
        if thresholds[1] is None and thresholds[0] is not None:  # a value takes a text that names it
            return weights, max(thresholds[0], precision)
        return weights, max((one for one in thresholds if one is not None), default=None)

    scored = hidden if hide else shown
    true, likeliest, stated = truth[places], np.zeros((len(places), 2)), np.zeros(len(places), np.bool_)
    for half in (False, True):
        own = halves[places] == half
        if not own.any() or not (halved != half).any() or not (twice[halved != half] >= 0).any():
            continue
        weights, threshold = fit(halved != half)
        likely = softmax(scored[own] @ weights)
        likeliest[own] = np.stack([likely.argmax(axis=1), likely.max(axis=1)], axis=1)
        stated[own] = threshold is not None and likely.max(axis=1) >= (threshold or 0)
    right = likeliest[:, 0] == true
    claims, hits, count = int(stated.sum()), int((stated & right).sum()), len(true)
    report = HeldOutScores(
        count,
        float(right.mean()),
        claims / count,
        hits / claims if claims else None,
        wilson(hits, claims) if claims else None,
        hits / count,
        calibration_error(likeliest[:, 1].astype(np.float32), right),
    )
    weights, threshold = fit(np.ones(len(views), np.bool_))
    return Weights(dict(zip(names, map(float, weights), strict=True)), threshold, report)


def _logit_weights(features: Vectors, truth: Numbers) -> Vectors:
    """Fit the weights of a conditional logit by maximum likelihood, each 0 or more, float32 [F].

    Args:
        features: float32 [N, V, F]; truth: int64 [N]; items of -1 are left out.
    """
    from scipy.optimize import minimize

    known = truth >= 0
    rows, own = features[known], truth[known]
    spread = rows - rows[np.arange(len(own)), own][:, None]  # of each value over the true one

    def loss(weights: Any) -> tuple[float, Any]:
        logits = spread @ weights.astype(np.float32)
        top = logits.max(axis=1, keepdims=True)
        shares = np.exp(logits - top)
        sums = shares.sum(axis=1, keepdims=True)
        gradient = np.einsum("nv,nvf->f", shares / sums, spread, optimize=True) / len(own)
        penalty = 1e-4 * float(weights @ weights)
        return float((np.log(sums) + top).mean()) + penalty, gradient.astype(np.float64) + 2e-4 * weights

    start = np.ones(features.shape[2])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options={"maxiter": 200}
    )
    return np.asarray(found.x, np.float32)
