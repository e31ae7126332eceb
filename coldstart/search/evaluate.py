"""Evaluate searches on queries made from the catalogue's own items, by kind of query, against each space alone.

A digest of its id puts an item into one of two parts: queries of the one calibrate, and choose the best single space,
queries of the other are judged. Both are searched for among the same items, from all over the catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.encoders import Encoder, Passport
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.search.calibration import (
    FEWEST,
    KINDS,
    Calibration,
    PseudoQueries,
    QueryKind,
    centred,
    fuse_scores,
)
from coldstart.search.pseudo_queries import CatalogSample, calibrate, make_queries
from coldstart.search.scoring import FULL_TEXT
from coldstart.store.published import Published

DEFAULT = "default"
"""Name of the search without `--space`."""

CUTS = (1, 5, 10)

SMALL = 0.01
"""Difference of mean reciprocal ranks that no one would see, whatever its interval."""


def evaluate_search(
    catalog: Published,
    sample: CatalogSample,
    encoder_for: Callable[[Passport], Encoder],
    preferred: frozenset[str] = frozenset(),
    apart: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate the default search and each ranking alone.

    Args:
        sample: as `coldstart.search.pseudo_queries.sample_catalog` draws it.
        preferred: items that no fit has trained on, see `coldstart.search.pseudo_queries.held_out_items`.
        apart: spaces that a text query does not search by default.

    Returns:
        `gallery`, the number of items searched among, and `kinds`: of each kind of query `kind`, `queries`, `made_of`,
        `rankings` (name, `recall_1`, `recall_5`, `recall_10`, `mrr`, each with `value`, `low`, `high`), `baseline`, the
        single ranking that was best on the calibrating queries, `difference` of the default to it, and `verdict`:
        `better`, `worse`, `no difference shown` or `too few to judge`. A kind without queries has `why`.
    """
    calibration, notes = calibrate(sample, encoder_for, preferred, apart, lambda item_id: not _is_judged(item_id))
    kinds = []
    for kind, note in zip(KINDS, notes, strict=True):
        judged = make_queries(sample, kind, encoder_for, preferred, _is_judged)
        if kind not in calibration.kinds or judged is None:
            few = f"{kind}: fewer than {FEWEST} queries are left to judge by, besides those that weigh the spaces"
            why = few if kind in calibration.kinds else note
            kinds.append({"kind": kind, "queries": 0, "verdict": "too few to judge", "why": why})
            continue
        first = make_queries(sample, kind, encoder_for, preferred, lambda item_id: not _is_judged(item_id))
        assert first is not None, "the calibration rests on them"
        left_out = apart if kind == "text" else ()
        before = _ranks(catalog, sample, calibration, kind, first, left_out)
        after = _ranks(catalog, sample, calibration, kind, judged, left_out)
        kinds.append(_report(kind, judged[0].made_of, before, after, calibration, note))
    return {"gallery": len(sample), "kinds": kinds}


def _is_judged(item_id: str) -> bool:
    return hashlib.sha256(f"search {item_id}".encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0


def _ranks(
    catalog: Published,
    sample: CatalogSample,
    calibration: Calibration,
    kind: QueryKind,
    made: tuple[PseudoQueries, NDArray[np.intp], list[str]],
    apart: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Rank the first right item of each query: name of a ranking -> rank from 1, [Q]."""
    queries, _, texts = made
    fitted = calibration.kinds[kind]
    spaces = [space for space in fitted.spaces if space not in apart] or list(fitted.spaces)
    usable = np.asarray((queries.right & ~queries.out).any(1))
    right, out = queries.right[usable], queries.out[usable]
    standardised = {}
    for space in spaces:
        cosines = centred(queries.vectors[space][usable], sample.vectors[space], calibration.means[space])
        standardised[space] = cosines / fitted.deviation[fitted.places([space])[0]]
    words = None
    if texts:
        kept = [text for text, use in zip(texts, usable, strict=True) if use]
        words = np.stack([_word_scores(catalog, sample, text) for text in kept])
    weights, expected = fitted.weigh(spaces), fitted.expected[fitted.places(spaces)]
    reading = sum(weight for space, weight in zip(spaces, weights, strict=True) if space in sample.readers)
    fused = np.stack(
        [
            fuse_scores(
                np.stack([standardised[space][row] for space in spaces]),
                None if words is None else words[row],
                weights,
                expected,
                texts=reading,
            )
            for row in range(len(right))
        ]
    )
    every: dict[str, NDArray[Any]] = {DEFAULT: fused, **standardised}
    if words is not None:
        every[FULL_TEXT] = np.where(words > 0, words, -np.inf)
    return {name: _first_right(scores, right, out) for name, scores in every.items()}


def _word_scores(catalog: Published, sample: CatalogSample, text: str) -> NDArray[np.float64]:
    scores = catalog.word_scores(text, sample.item_ids)
    return np.array([scores.get(item_id, 0.0) for item_id in sample.item_ids])


def _first_right(scores: NDArray[Any], right: NDArray[np.bool_], out: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rank the best right item of each query, ties counted against it; infinite where none has a score: [Q]."""
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    best = np.where(right & ~out, scores, -np.inf).max(1)
    ranks = 1.0 + (~right & ~out & (scores >= best[:, None])).sum(1)
    return np.where(np.isfinite(best), ranks, np.inf)


def _report(
    kind: QueryKind,
    made_of: str,
    before: Mapping[str, NDArray[np.float64]],
    after: Mapping[str, NDArray[np.float64]],
    calibration: Calibration,
    note: str,
) -> dict[str, Any]:
    singles = [name for name in before if name != DEFAULT]
    baseline = max(singles, key=lambda name: (float((1 / before[name]).mean()), name))
    count = len(after[DEFAULT])
    difference = {
        name: asdict(paired(values, _measures(after[DEFAULT])[name]))
        for name, values in _measures(after[baseline]).items()
    }
    verdict = "no difference shown"
    if count < FEWEST_COMPARED:
        verdict = "too few to judge"
    elif difference["mrr"]["low"] > 0 and difference["mrr"]["value"] >= SMALL:
        verdict = "better"
    elif difference["mrr"]["high"] < 0 and difference["mrr"]["value"] <= -SMALL:
        verdict = "worse"
    return {
        "kind": kind,
        "queries": count,
        "made_of": made_of,
        "calibrated_on": calibration.kinds[kind].queries,
        "weights": note,
        "rankings": [
            {"name": name, **{measure: asdict(bootstrap(values)) for measure, values in _measures(ranks).items()}}
            for name, ranks in after.items()
        ],
        "baseline": baseline,
        "difference": difference,
        "verdict": verdict,
    }


def _measures(ranks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    found = {f"recall_{cut}": (ranks <= cut).astype(np.float64) for cut in CUTS}
    return {**found, "mrr": 1 / ranks}
