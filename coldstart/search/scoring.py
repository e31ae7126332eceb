"""Score the candidates of a query in all spaces that are searched, and join the scores by the stored calibration.

The nearest of each space, and the items with most of the words, are candidates. Each is then scored in every space by
its stored vector, so that an item that one space finds far down counts as far there, and not as missing. See
`coldstart.search.calibration` for the scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from coldstart.encoders import Passport, Vectors
from coldstart.search.calibration import Calibration, KindCalibration, QueryKind, fallback, fuse_scores
from coldstart.search.queries import By
from coldstart.store.published import Published

FULL_TEXT = "full_text"
"""Name of the word ranking."""

SAMPLE = 256
"""Items from all over the catalog that give mean and deviation where nothing is calibrated."""

Ranking = list[tuple[str, float]]
"""(item_id, distance or score), best first."""

Fused = list[tuple[str, float, dict[str, int], dict[str, float]]]
"""(item_id, score, ranking -> place from 1, space -> distance), best first."""

KIND_OF: Mapping[By, QueryKind] = {"text": "text", "image": "image", "video": "image", "item": "item"}


@dataclass
class Scorer:
    """Scorer of candidates over one published catalog.

    Attributes:
        calibration: None where the catalog is not calibrated.
        always: of them, those that a text query searches without a calibration, too.
        requested: the user has named the spaces that are searched.
        weighed_alike: some query was answered by several spaces that are not calibrated.
        unknown: of these, spaces that the calibration leaves out, as no stage makes them any more.
        pictures: spaces of pictures; a text query searches them where a calibration shows that they find something.
    """

    catalog: Published
    calibration: Calibration | None
    pictures: Collection[str] = ()
    always: Collection[str] = ()
    requested: bool = False
    weighed_alike: bool = False
    unknown: set[str] = field(default_factory=set)

    def choose(self, by: By, passports: Mapping[str, Passport]) -> dict[str, Passport]:
        """Leave out spaces that a query of this kind need not search: those that weigh nothing, by the calibration.

        Without one, a text query leaves out spaces of pictures where others hold vectors.
        """
        known = self._calibrated(by, passports)
        if by == "item":  # it may lack those that weigh most
            return dict(passports)
        if known is not None:
            weights = known.weigh(list(passports))
            return {space: own for (space, own), weight in zip(passports.items(), weights, strict=True) if weight > 0}
        if by == "text":
            filled = {report.space for report in self.catalog.publication.indexes if report.rows}
            kept = filled - set(self.pictures) | set(self.always)
            usual = {space: own for space, own in passports.items() if space in kept}
            return usual or dict(passports)
        return dict(passports)

    def fuse(
        self,
        by: By,
        passports: Mapping[str, Passport],
        rankings: Mapping[str, Ranking],
        queries: Mapping[str, Vectors],
        value: str,
        depth: int,
        top_k: int | None = None,
    ) -> Fused:
        """Join the rankings of one query by score.

        Args:
            passports: of the spaces that are searched.
            rankings: space, or `full_text` -> items.
            queries: space -> unit vectors of the query, float32 [T, D], of which the nearest to an item counts.
            value: the text of a query by text.
            depth: places that were looked for in each ranking.
            top_k: items that are returned; all by default.
        """
        ranks = {
            name: {item_id: rank for rank, (item_id, _) in enumerate(ranking, start=1)}
            for name, ranking in rankings.items()
        }
        ids = sorted(set().union(*ranks.values()))
        if not ids:
            return []
        spaces = [space for space in passports if space in queries]
        found = self._distances(spaces, ids, rankings, queries)
        kind, means = self._kind(by, {space: passports[space] for space in spaces}, queries)
        if len(spaces) > 1 and not kind.queries:
            self.weighed_alike = True
            self.unknown |= set() if self.calibration is None else set(spaces) - self.calibration.passports.keys()
        places = kind.places(spaces)
        levels = np.array([float((queries[space] @ means[space]).mean()) for space in spaces])
        standardised = (1 - found - levels[:, None]) / kind.deviation[places][:, None]
        weights = kind.weigh(spaces, requested=self.requested)
        scores = fuse_scores(
            standardised,
            self._words(ids, rankings[FULL_TEXT], value, depth) if FULL_TEXT in rankings else None,
            weights,
            kind.expected[places],
            texts=sum(weight for space, weight in zip(spaces, weights, strict=True) if space not in self.pictures),
        )
        order = np.argsort(-scores, kind="stable")[:top_k].tolist()  # the ids are sorted, so ties stay in their order
        return [
            (
                ids[place],
                score,
                {name: own[ids[place]] for name, own in ranks.items() if ids[place] in own},
                {space: distance for space, distance in zip(spaces, distances, strict=True) if isfinite(distance)},
            )
            for place, score, distances in zip(order, scores[order].tolist(), found.T[order].tolist(), strict=True)
        ]

    def _distances(
        self,
        spaces: Sequence[str],
        ids: Sequence[str],
        rankings: Mapping[str, Ranking],
        queries: Mapping[str, Vectors],
    ) -> Vectors:
        """Complete the distances of candidates: float32 [S, N], NaN where an item has no vector."""
        found = np.full((len(spaces), len(ids)), np.nan, np.float32)
        place_of = {item_id: place for place, item_id in enumerate(ids)}
        for row, space in enumerate(spaces):
            for item_id, distance in rankings.get(space, ()):
                found[row, place_of[item_id]] = distance
        places = np.flatnonzero(np.isnan(found).any(0))
        if not len(places) or not spaces:
            return found
        vectors = self.catalog.unit_vectors(spaces, [ids[place] for place in places.tolist()])
        for row, space in enumerate(spaces):
            computed = 1 - (vectors[space] @ queries[space].T).max(1)
            found[row, places] = np.where(np.isnan(found[row, places]), computed, found[row, places])
        return found

    def _words(self, ids: Sequence[str], ranking: Ranking, text: str, depth: int) -> Vectors:
        """Look up BM25 of candidates, float32 [N]; those that a full ranking by words did not reach are looked up anew.

        A ranking that is shorter than it may be has every item with one of the words.
        """
        scores = dict(ranking)
        rest = [item for item in ids if item not in scores]
        if rest and len(scores) >= depth:
            scores |= self.catalog.word_scores(text, rest)
        return np.array([scores.get(item, 0.0) for item in ids], np.float32)

    def _calibrated(self, by: By, passports: Mapping[str, Passport]) -> KindCalibration | None:
        """Return the calibration of a kind of query where it covers all of these spaces as they are."""
        stored = self.calibration
        kind = None if stored is None else stored.kinds.get(KIND_OF[by])
        if stored is None or kind is None or not passports:
            return None
        fits = all(
            space in kind.spaces and stored.passports.get(space) == own.digest and len(stored.means[space]) == own.dim
            for space, own in passports.items()
        )
        return kind if fits else None

    def _kind(
        self, by: By, passports: Mapping[str, Passport], queries: Mapping[str, Vectors]
    ) -> tuple[KindCalibration, Mapping[str, Vectors]]:
        """Return the calibration and the means of spaces; by a sample of the catalog where there is none."""
        known = self._calibrated(by, passports)
        if known is not None and self.calibration is not None:
            return known, self.calibration.means
        means, deviation = {}, {}
        for space, vectors in self.catalog.sample_vectors(list(passports), SAMPLE).items():
            means[space] = vectors.mean(0) if len(vectors) else np.zeros(passports[space].dim, np.float32)
            spread = (vectors @ queries[space].T).max(1) if len(vectors) else np.zeros(1)
            deviation[space] = float(spread.std())
        return fallback(deviation), means
