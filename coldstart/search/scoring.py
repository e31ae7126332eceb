"""Score the candidates of a query in all spaces that are searched, and join the scores by the stored calibration.

The nearest of each space, and the items with most of the words, are candidates. Each is then scored in every space by
its stored vector, so that an item that one space finds far down counts as far there, and not as missing. See
`coldstart.search.calibration` for the scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
    ) -> Fused:
        """Join the rankings of one query by score.

        Args:
            passports: of the spaces that are searched.
            rankings: space, or `full_text` -> items.
            queries: space -> unit vectors of the query, float32 [T, D], of which the nearest to an item counts.
            value: the text of a query by text.
            depth: places that were looked for in each ranking.
        """
        ranks: dict[str, dict[str, int]] = {}
        distances: dict[str, dict[str, float]] = {}
        for name, ranking in rankings.items():
            for rank, (item_id, distance) in enumerate(ranking, start=1):
                ranks.setdefault(item_id, {})[name] = rank
                if name != FULL_TEXT:
                    distances.setdefault(item_id, {})[name] = distance
        ids = sorted(ranks)
        if not ids:
            return []
        spaces = [space for space in passports if space in queries]
        found = self._distances(spaces, ids, distances, queries)
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
        order = sorted(range(len(ids)), key=lambda place: (-scores[place], ids[place]))
        return [
            (
                ids[place],
                float(scores[place]),
                ranks[ids[place]],
                {space: float(found[row, place]) for row, space in enumerate(spaces) if np.isfinite(found[row, place])},
            )
            for place in order
        ]

    def _distances(
        self,
        spaces: Sequence[str],
        ids: Sequence[str],
        known: Mapping[str, Mapping[str, float]],
        queries: Mapping[str, Vectors],
    ) -> Vectors:
        """Complete the distances of candidates: float32 [S, N], NaN where an item has no vector."""
        found = np.array([[known.get(item, {}).get(space, np.nan) for item in ids] for space in spaces], np.float32)
        found = found.reshape(len(spaces), len(ids))
        missing = [item for place, item in enumerate(ids) if np.isnan(found[:, place]).any()]
        if not missing or not spaces:
            return found
        vectors = self.catalog.unit_vectors(spaces, missing)
        places = np.searchsorted(ids, missing)
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
