"""Fit the models that predict attribute values, on items whose records state them.

Ridge regression scores items out of their fold, and a conditional logit weighs these scores with the other witnesses
(`coldstart.describe.attribute_model`). Knows no encoders and no tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coldstart.core.attributes import Attributes, recorded_values
from coldstart.describe.attribute_features import JointFeatures, SpaceFeatures
from coldstart.describe.attribute_model import (
    BRAND,
    TEXTS,
    TITLE,
    WORD_WITNESSES,
    AttributeModel,
    AttributePredictor,
    HeldOutScores,
    Probe,
    Weights,
    brand_name,
    brand_shares,
    softmax,
)
from coldstart.embed.zero_shot import Flags, Numbers, Vectors, calibration_error, ensemble, lowest_threshold
from coldstart.metrics.intervals import wilson

MIN_ITEMS_PER_VALUE = 3
"""Least items that state a value of an open attribute for the value to count."""
PENALTY = 0.1
"""Penalty of the ridge regression, for features of mean squared length one; LOG.md compares others."""
MOST_WEIGHED = 4000
"""Most items that the weights of the witnesses are fitted on."""


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
        brand_folds, brand_halves: the same with all items of a brand in one, for the weights of new brands.
    """

    rows: Sequence[Mapping[str, Any]]
    folds: Numbers
    halves: Flags
    brand_folds: Numbers
    brand_halves: Flags


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
    joint = JointFeatures.of(features, {one.name: one.vectors for one in spaces if one.name in features})
    if joint is not None:
        mapped[joint.name] = joint(features, {name: one.vectors for one in spaces if (name := one.name) in features})
        spaces = [*spaces, SpacePictures(joint.name, "", mapped[joint.name])]
    solvers = {name: RidgeSolver(rows, items.folds, items.brand_folds) for name, rows in mapped.items()}
    predictors, reasons = {}, {}
    for attribute in attributes:
        places = np.array([place for place, item in enumerate(ids) if item in attribute.truth], np.int64)
        if len(places) < min_items or len(attribute.values) < 2 or len(np.unique(items.folds[places])) < 2:
            reasons[attribute.name] = _why(attribute, len(places), min_items)
        else:
            predictor = _fit_attribute(attribute, items, places, spaces, solvers, judge, template, precision)
            predictors[attribute.name] = predictor
            weighed = (predictor.with_pictures, predictor.new_brand, predictor.without)
            if all(one is None or one.threshold is None for one in weighed):
                reasons[attribute.name] = f"no probability reaches a precision of {precision:g} on {len(places)} items"
        meter()
    read = {space for one in predictors.values() for space in one.probes}
    joint = joint if joint is not None and joint.name in read else None
    read.update(joint.spaces if joint else ())
    passports = {one.name: one.passport for one in spaces if one.name in read and one.name in features}
    kept = {name: own for name, own in features.items() if name in read}
    return AttributeModel(predictors, kept, passports, reasons, joint)


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
        if attribute.maker and number >= 0 and brand_name(row.get("creator")):
            brands.setdefault(brand_name(row["creator"]), Counter())[number] += 1
    bare = AttributePredictor(
        attribute.name, attribute.values, attribute.words, shares, usual, brands, {}, None, None, None
    )
    scores = bare.word_scores(rows, None)
    if brands:
        makers = [brand_name(row.get("creator")) for row in rows]
        same = Counter(zip(makers, folds.tolist(), truth.tolist(), strict=True))
        for place, (maker, fold) in enumerate(zip(makers, folds.tolist(), strict=True)):
            rest = {number: count - same[maker, fold, number] for number, count in brands.get(maker, {}).items()}
            scores[BRAND][place] = brand_shares(rest, shares) - np.log(shares)  # without the items of its own fold
    probes: dict[str, Probe] = {}
    unbranded = {name: own for name, own in scores.items() if name != BRAND}
    unbranded[BRAND] = np.zeros_like(scores[BRAND])
    brand_halves = items.brand_halves[places]
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
            unbranded[f"{space.name} words"] = (space.vectors[places] @ words.T) * has[:, None]
            scores[f"{space.name} words"] = unbranded[f"{space.name} words"]
        values = len(attribute.values)
        if judge == "words":
            if words is None:
                continue
            width = solvers[space.name].features.shape[1]
            probe = Probe(np.zeros((values, width), np.float32), np.zeros(values, np.float32), words)
        else:
            (by_title, by_brand), weights, offsets = solvers[space.name].solve(places[has], truth[has], values)
            apart = len(np.unique(items.brand_folds[places[has]])) > 1
            for into, own_scores in ((scores, by_title), (unbranded, by_brand if apart else by_title)):
                into[space.name] = np.zeros((len(rows), values), np.float32)
                into[space.name][has] = own_scores
            probe = Probe(weights, offsets, words)
        probes[space.name] = probe
        pictured |= has
    with_pictures = _weigh(scores, truth, halves, pictured, precision) if pictured.sum() >= 10 else None
    if len(np.unique(brand_halves)) < 2:
        brand_halves = halves
    new_brand = _weigh(unbranded, truth, brand_halves, pictured, precision) if pictured.sum() >= 10 else None
    blind = {name: scores[name] for name in WORD_WITNESSES}
    without = _weigh(blind, truth, halves, np.ones(len(rows), np.bool_), precision, hide=False)
    return replace(bare, probes=probes, with_pictures=with_pictures, new_brand=new_brand, without=without)


class RidgeSolver:
    """Solver of ridge regressions onto values over the features of one space, out of folds and over all items.

    Residuals out of a fold follow from those of all items and the fold's block of the hat matrix (as PRESS does with
    single items, Allen 1974), so that one matrix is factored for any number of foldings, and once for all attributes
    that the same items state.
    """

    def __init__(self, features: Vectors, *foldings: Numbers) -> None:
        self.features = features
        self._foldings = foldings
        self._made: tuple[bytes, Any, list[dict[int, Any]]] | None = None

    def solve(self, places: Numbers, truth: Numbers, values: int) -> tuple[list[Vectors], Vectors, Vectors]:
        """Solve for some items; those of another value (-1) are negatives of all.

        Args:
            places: of N items with a vector; truth: int64 [N].

        Returns:
            Of each folding the out-of-fold scores float32 [N, values], as of all items where it has one fold; weights
            float32 [values, F] and offsets float32 [values].
        """
        from scipy.linalg import cho_solve

        rows = self.features[places]
        whole, blocks = self._factors(places, rows)
        targets = (truth[:, None] == np.arange(values)).astype(np.float32)
        ones = np.ones((len(places), 1), np.float32)
        toward, level = (cho_solve(whole, rows.T @ wanted) for wanted in (targets, ones))
        fitted, shift = rows @ toward, rows @ level
        centre = targets.mean(axis=0)
        scores = []
        for folding, factors in zip(self._foldings, blocks, strict=True):
            folds = folding[places]
            found = np.empty((len(places), values), np.float32)
            for fold, factor in factors.items():
                own = folds == fold
                rest = targets[~own].mean(axis=0) if not own.all() else centre
                residuals = targets[own] - rest - (fitted[own] - shift[own] * rest)
                found[own] = targets[own] - cho_solve(factor, residuals)
            scores.append(found)
        weights = (toward - level * centre).T
        return scores, np.ascontiguousarray(weights, np.float32), centre

    def _factors(self, places: Numbers, rows: Vectors) -> tuple[Any, list[dict[int, Any]]]:
        """Return the Cholesky factor of the penalised product of features, and of each folding those of the blocks of
        identity less hat matrix."""
        from scipy.linalg import cho_factor, solve_triangular

        if self._made is None or self._made[0] != places.tobytes():
            penalty = np.float32(PENALTY) * np.eye(rows.shape[1], dtype=np.float32)
            whole = cho_factor(rows.T @ rows + penalty, lower=True, overwrite_a=True, check_finite=False)
            half = solve_triangular(whole[0], rows.T, lower=True, check_finite=False)
            blocks = []
            for folding in self._foldings:
                folds, own = folding[places], {}
                for fold in np.unique(folds).tolist():
                    part = half[:, folds == fold]
                    block = np.eye(part.shape[1], dtype=np.float32) - part.T @ part
                    own[fold] = cho_factor(block, lower=True, overwrite_a=True, check_finite=False)
                blocks.append(own)
            self._made = places.tobytes(), whole, blocks
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
