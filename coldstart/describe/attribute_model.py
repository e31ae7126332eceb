"""Predict attribute values of items from their pictures, brand and texts, as calibrated probabilities.

Each witness scores every value of an attribute: ridge regression on the vectors of a space of pictures (Hoerl & Kennard
1970, by the features of `coldstart.describe.attribute_features`) and of all spaces together, cosines with texts of the
values, the shares of the values among a brand's items, and words of title and texts that name a value. A conditional
logit (McFadden 1974) over scores of items out of their fold weighs the witnesses, so that its softmax is a probability.
The lowest probability at which the likeliest values reach the set precision is the threshold from which one is stated.

Knows no encoders and no tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from coldstart.core.attributes import Attributes
from coldstart.describe.attribute_features import JointFeatures, SpaceFeatures
from coldstart.describe.attribute_values import PredictedValue
from coldstart.describe.checks.form import evidence_text
from coldstart.describe.checks.words import Lexicon, is_negated, tokens
from coldstart.embed.zero_shot import Flags, Vectors
from coldstart.errors import ColdstartError

BRAND_ITEMS = 5.0
"""Items of the whole catalogue that stand beside those of a brand (additive smoothing)."""
LIKELIEST = 3
"""Values of an attribute that are kept."""
LEAST = 0.01
"""Least probability of a value that is kept."""
MODEL_FILE = "attributes.json"
ARRAYS_FILE = "attributes.npz"

PRIOR, BRAND, TITLE, TEXTS = "prior", "brand", "title", "texts"
WORD_WITNESSES = (PRIOR, BRAND, TITLE, TEXTS)
"""Witnesses besides spaces of pictures, in the order of their weights."""
_TEXTS = ("description", "transcript", "screen_text")
_RELEVANT = 0.5  # of a logit by which a witness prefers a value to the mean of all


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
class AttributePredictor:
    """Predictor of one attribute of V values.

    Attributes:
        shares: share of each value among items of known value, float32 [V], sum one.
        kinds: kinds of items whose pictures it was fitted on; pictures of others are left out.
        brands: name in small letters -> counts of its items by value.
        probes: space -> scores of its pictures.
        with_pictures: weights where an item has pictures and a brand of `brands`; new_brand: where it has pictures, and
            its brand is another or not known; without: where it has no pictures. None where too few items were so.
    """

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    shares: Vectors
    kinds: frozenset[str]
    brands: Mapping[str, Mapping[int, int]]
    probes: Mapping[str, Probe]
    with_pictures: Weights | None
    new_brand: Weights | None
    without: Weights | None
    lexicon: Lexicon[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        phrases = ((word, number) for number, words in enumerate(self.words) for word in words)
        object.__setattr__(self, "lexicon", Lexicon(phrases))

    def word_scores(self, rows: Sequence[Mapping[str, Any]], given: Collection[str] | None) -> dict[str, Vectors]:
        """Compute the scores of the witnesses of `WORD_WITNESSES`, each float32 [N, V]."""
        shape = len(rows), len(self.values)
        prior = np.log(self.shares)
        scores = {name: np.zeros(shape, np.float32) for name in WORD_WITNESSES}
        scores[PRIOR][:] = prior
        for place, row in enumerate(rows):
            maker = row.get("creator") if given is None or "creator" in given else None
            scores[BRAND][place] = brand_shares(self.brands.get(brand_name(maker), {}), self.shares) - prior
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
        new = ~scores[BRAND].any(axis=1)
        cases = ((self.with_pictures, pictured & ~new), (self.new_brand, pictured & new), (self.without, ~pictured))
        for weights, chosen in cases:
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


def brand_name(name: str | None) -> str:
    """Return a brand in small letters without stray blanks, "" for none."""
    return " ".join((name or "").casefold().split())


def brand_shares(counts: Mapping[int, int], shares: Vectors) -> Vectors:
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
        joint: map of the vectors of all spaces; None for one space, and in fits of earlier versions.
    """

    predictors: Mapping[str, AttributePredictor]
    features: Mapping[str, SpaceFeatures]
    passports: Mapping[str, str]
    reasons: Mapping[str, str]
    joint: JointFeatures | None = None

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
        for space, own in vectors.items():
            if own.shape[1] != (width := len(self.features[space].mean)):
                raise ColdstartError(
                    f"the fit of attributes reads vectors of {width} numbers in space {space!r}, which has "
                    f"{own.shape[1]}: it is damaged: fit it anew in a workspace of your own",
                    kind="damaged",
                )
        features = {space: self.features[space](own) for space, own in vectors.items()}
        if self.joint is not None and set(self.joint.spaces) <= set(vectors):
            features[self.joint.name] = self.joint(self.features, vectors)
            vectors = {**vectors, self.joint.name: features[self.joint.name]}
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
        if self.joint is not None:
            arrays[f"{self.joint.name}|frequencies"] = self.joint.frequencies
            arrays |= {f"{space}|directions": own for space, own in self.joint.directions.items()}
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
                "new_brand": weights_json(one.new_brand),
                "without": weights_json(one.without),
            }
        about = {
            "attributes": plain,
            "spaces": self.spaces,
            "joint": list(self.joint.spaces) if self.joint else [],
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
    """Load `AttributeModel.files` from a folder, such as `Artifact.folder`; it may be of a stranger.

    Raises:
        ColdstartError: an array is of another shape than the rest, or not finite.
        OSError, KeyError, TypeError, ValueError: files of another version.
    """
    try:
        about = json.loads((folder / MODEL_FILE).read_text("utf-8"))
        model = _read_model(about, _read_arrays(folder / ARRAYS_FILE))
        fault = next(_faults(model), None)
    except (AttributeError, BadZipFile, MemoryError, OverflowError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"[:200]
    if fault is not None:
        raise ColdstartError(
            f"the fit of attributes in {folder} is damaged: {fault}: the next `coldstart run` fits it anew",
            kind="damaged",
        )
    return model


def _read_arrays(path: Path) -> dict[str, Vectors]:
    with ZipFile(path) as packed:
        if any(one.compress_type != ZIP_STORED for one in packed.infolist()):
            raise BadZipFile(f"{path.name} is compressed, and could be of any size")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _faults(model: AttributeModel) -> Iterator[str]:
    """List arrays that do not fit the rest."""
    widths = {space: one.mean.shape[-1] if one.mean.ndim else 0 for space, one in model.features.items()}
    outputs = dict(widths)
    for space, one in model.features.items():
        yield from _misfit(f"{space} mean", one.mean, (widths[space],))
        yield from _misfit(f"{space} deviation", one.deviation, (widths[space],), positive=True)
        if one.frequencies is not None:
            yield from _misfit(f"{space} frequencies", one.frequencies, (widths[space], None))
            outputs[space] = 2 * one.frequencies.shape[-1]
    if model.joint is not None:
        parts = {space: widths.get(space, -1) for space in model.joint.spaces}
        for space, directions in model.joint.directions.items():
            yield from _misfit(f"{space} directions", directions, (parts[space], None))
            parts[space] = directions.shape[-1]
        yield from _misfit("frequencies of all spaces", model.joint.frequencies, (sum(parts.values()), None))
        widths[model.joint.name] = outputs[model.joint.name] = 2 * model.joint.frequencies.shape[-1]
    for name, predictor in model.predictors.items():
        count = len(predictor.values)
        yield from _misfit(f"{name} shares", predictor.shares, (count,), positive=True)
        if len(predictor.words) != count or not count:
            yield f"{name}: words of {len(predictor.words)} of {count} values"
        for counts in predictor.brands.values():
            if not all(0 <= number < count and _is_finite(times) and times >= 0 for number, times in counts.items()):
                yield f"{name}: counts of brands"
        for space, probe in predictor.probes.items():
            yield from _misfit(f"{name} weights of {space}", probe.weights, (count, outputs.get(space)))
            yield from _misfit(f"{name} offsets of {space}", probe.offsets, (count,))
            if probe.words is not None:
                yield from _misfit(f"{name} words of {space}", probe.words, (count, widths.get(space)))
        for weights in (predictor.with_pictures, predictor.new_brand, predictor.without):
            if weights is not None and not all(map(_is_finite, [*weights.witnesses.values(), weights.threshold or 0])):
                yield f"{name}: weights of witnesses"


def _misfit(name: str, array: Vectors, shape: Sequence[int | None], *, positive: bool = False) -> Iterator[str]:
    """Describe an array of another shape than `shape`, in which None is any length, or with other than real numbers."""
    fits = array.ndim == len(shape) and all(want in (None, own) for want, own in zip(shape, array.shape, strict=False))
    if not fits or array.dtype.kind != "f" or not array.size:
        yield f"{name} is {array.dtype} {list(array.shape)}, expected {['any' if n is None else n for n in shape]}"
    elif not np.isfinite(array).all() or (positive and not (array > 0).all()):
        yield f"{name} has values that are not finite{' and above 0' if positive else ''}"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _read_model(about: Mapping[str, Any], own: Mapping[str, Vectors]) -> AttributeModel:
    """Build a model of the contents of its files."""
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
            _read_weights(one["new_brand"]),
            _read_weights(one["without"]),
        )
    joint = None
    if names := tuple(about.get("joint", ())):
        directions = {name: own[f"{name}|directions"] for name in names if f"{name}|directions" in own}
        joint = JointFeatures(names, directions, own[f"{'+'.join(names)}|frequencies"])
    return AttributeModel(predictors, features, about["passports"], about["reasons"], joint)


def _read_weights(plain: Mapping[str, Any] | None) -> Weights | None:
    if plain is None:
        return None
    scores = dict(plain["scores"])
    interval = scores.pop("precision_interval")
    known = HeldOutScores(**scores, precision_interval=None if interval is None else tuple(interval))
    return Weights(plain["witnesses"], plain["threshold"], known)
