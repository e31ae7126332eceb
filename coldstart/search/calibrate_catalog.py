"""Keep the calibration of searches of a workspace: made by `index` after it has published, read by each search."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.embed.spaces import encoder_of, spaces_of
from coldstart.encoders import Encoder, Passport, for_queries
from coldstart.errors import ColdstartError
from coldstart.search.calibration import Calibration
from coldstart.store import Store
from coldstart.store.published import Published

SEARCH, FILE = "search", "calibration.json"
"""Name of the artifact that keeps the calibration, and of its file."""

VERSION = 1
"""Version of how queries are made and weighed: another one calibrates anew."""

GROWTH = 0.25
"""Share of its items that a catalogue may gain or lose before it is calibrated anew."""


def inputs_of(pipeline: Pipeline, catalog: Published) -> dict[str, str]:
    """Find what each space of content holds vectors of, `image` or `text`; one that no stage makes is left out."""
    made = {
        spec.name: str(spec.settings.input) for spec in spaces_of(pipeline) if getattr(spec.settings, "input", None)
    }
    return {space: made[space] for space in catalog.passports if space in made}


def apart_of(pipeline: Pipeline) -> list[str]:
    """List the spaces that a text query searches by name only."""
    return [spec.name for spec in pipeline.of_kind("embed") if spec.settings.text_queries is False]


def stored_calibration(store: Store) -> Calibration | None:
    """Load the calibration in force; None where there is none.

    Raises:
        ColdstartError: it cannot be read.
    """
    newest = store.artifacts.newest(SEARCH)
    return None if newest is None else Calibration.from_bytes(newest.files().get(FILE, b""))


@dataclass(frozen=True)
class Calibrator:
    """Calibrator of the searches of one workspace."""

    store: Store
    pipeline: Pipeline

    def run(self, catalog: Published) -> list[str]:
        """Calibrate a catalogue that has changed since, and store the result.

        Returns:
            Lines for a reader; none where the stored calibration still holds.
        """
        inputs = inputs_of(self.pipeline, catalog)
        spaces = {space: Passport.from_json(catalog.passports[space]).digest for space in inputs}
        left_out = apart_of(self.pipeline)
        key = digest([VERSION, sorted(spaces.items()), left_out])
        newest = self.store.artifacts.newest(SEARCH)
        if newest is not None and newest.key == key and _near(newest.report.get("items"), len(catalog)):
            with suppress(ColdstartError):
                stored_calibration(self.store)
                return []
        if not spaces:
            return []
        from coldstart.search.pseudo_queries import calibrate, held_out_items, sample_catalog

        sample = sample_catalog(catalog, inputs)
        calibration, notes = calibrate(sample, self._loader(), held_out_items(self.store), left_out)
        if not calibration.kinds:
            return []
        report = {"items": len(catalog), "kinds": list(notes)}
        self.store.artifacts.save(SEARCH, key, {FILE: calibration.to_bytes()}, report)
        return [f"searches weigh spaces: {note}" for note in notes]

    def _loader(self) -> Callable[[Passport], Encoder]:
        loaded: dict[str, Encoder] = {}

        def load(passport: Passport) -> Encoder:
            if passport.digest not in loaded:
                loaded[passport.digest] = for_queries(encoder_of(passport, self.pipeline, self.store))
            return loaded[passport.digest]

        return load


def _near(before: object, now: int) -> bool:
    return isinstance(before, int) and abs(now - before) <= GROWTH * before
