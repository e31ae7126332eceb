"""Query vectors of a video: its frames, its text and its lines of speech and text on screen, space by space.

Of an item these are the vectors that its stages wrote; single lines are encoded now. A file that is no item yet is
decoded and encoded now, by the settings of the pipeline's spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.core import prompts
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.stage import Reject, Row
from coldstart.core.vectors import unit
from coldstart.embed.spaces import table_of
from coldstart.encoders import Encoder, Modality, Passport, Vectors
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures, ProbeMedia
from coldstart.search.channels import LINES, Input, Moment, QuerySide, Source, VideoQuery
from coldstart.search.queries import missing_file
from coldstart.store import Store
from coldstart.store.freshness import build
from coldstart.understand.timeline import Evidence, fuse, screen_text, transcript

if TYPE_CHECKING:
    from coldstart.store.published import Published

MOST_LINES = 256
"""Lines of one video that are compared; of a longer one so many, spread over its length."""


@dataclass
class QueryBuilder:
    """Builder of queries from videos, for one published catalog."""

    store: Store
    pipeline: Pipeline
    catalog: Published
    encoder_for: Callable[[Passport], Encoder]
    spaces: tuple[str, ...] | None = None
    """The spaces to compare in; None for all."""

    def __post_init__(self) -> None:
        for space in self.spaces or ():
            if space not in self.catalog.passports:
                raise self.catalog.no_space(space)
            if not Passport.from_json(self.catalog.passports[space]).of_content:
                raise ColdstartError(
                    f"space {space!r} holds vectors of behaviour, not of content: match in a space of an encoder"
                )

    @cached_property
    def inputs(self) -> dict[str, Input]:
        """Input of each space, `image` or `text`; a space whose table is gone is left out."""
        found: dict[str, Input] = {}
        for space, passport in self._passports.items():
            columns = self.store.columns(table_of(space, passport))
            if columns:
                found[space] = "image" if "frame_vectors" in columns else "text"
        return found

    @cached_property
    def _passports(self) -> dict[str, Passport]:
        return {
            space: passport
            for space, passport in ((name, Passport.from_json(text)) for name, text in self.catalog.passports.items())
            if (space in self.spaces if self.spaces is not None else passport.of_content)
        }

    def items(self, item_ids: Sequence[str]) -> dict[str, VideoQuery]:
        """Build queries from items of the catalog; one that is not in it is left out.

        Lines of all of them are encoded together.
        """
        known = self.catalog.items(item_ids, ["title", "kind"])
        ids = [item_id for item_id in dict.fromkeys(item_ids) if item_id in known]
        sides: dict[str, list[QuerySide]] = {item_id: [] for item_id in ids}
        moments = {
            item_id: _moments(known[item_id]["title"], timeline) for item_id, timeline in self._timelines(ids).items()
        }
        notes: list[str] = []
        for space, way in self.inputs.items():
            digest = self._passports[space].digest
            frames = self._frames(space, ids) if way == "image" else {}
            for item_id, vector in self.catalog.vectors(space, ids).items():
                own = (vector[None], [_whole(way, known[item_id]["title"])])
                vectors, seen = frames.get(item_id, own)
                sides[item_id].append(QuerySide(space, digest, way, vectors, seen))
            if way == "text":
                for item_id, side in self._lines(space, moments, notes).items():
                    sides[item_id].append(side)
        return {
            item_id: VideoQuery(
                item_id, sides[item_id], _used(sides[item_id]), notes, known[item_id]["kind"] == "video"
            )
            for item_id in ids
        }

    def file(self, path: Path, title: str | None, listen: bool) -> VideoQuery:
        """Build a query from a video file.

        Args:
            title: words that stand for its title.
            listen: find speech and text on screen as well, by the parts of `understand` that the pipeline has.

        Raises:
            ColdstartError: it cannot be read.
        """
        notes: list[str] = []
        media = self.pipeline.media.with_folders([str(path.resolve())])  # given now, wherever it lies
        self = replace(self, pipeline=replace(self.pipeline, media=media))
        try:
            if reject := missing_file(path):
                raise reject
            row, _ = ProbeMedia(self._limits)({"media": [{"role": "video", "uri": str(path.resolve())}], "record": {}})
            timeline = self._heard_and_read(row, notes) if listen else []
            sides = [
                side
                for space, way in self.inputs.items()
                for side in (
                    self._image_sides(space, row, notes)
                    if way == "image"
                    else self._text_sides(space, title, timeline, notes)
                )
            ]
        except Reject as reject:
            raise ColdstartError(f"video {path}: {reject}") from reject
        if not listen:
            notes.append("speech and text on screen were not read: `listen` has them read")
        if title is None:
            notes.append("no title was given: `title` lets its words be compared")
        return VideoQuery(str(path), sides, _used(sides), notes)

    # -- of items

    def _frames(self, space: str, ids: Sequence[str]) -> dict[str, tuple[Vectors, list[Moment]]]:
        table = table_of(space, self._passports[space])
        found = {}
        for row in self.store.read(table, ["item_id", "frame_times_s", "frame_vectors"], ids=ids).to_pylist():
            if row["frame_vectors"]:
                moments = [Moment("frame", second) for second in row["frame_times_s"]]
                found[row["item_id"]] = (unit(np.asarray(row["frame_vectors"], np.float32)), moments)
        return found

    def _timelines(self, ids: Sequence[str]) -> dict[str, Sequence[Evidence]]:
        """Read the timelines of those items that have speech or text on screen."""
        for spec in reversed(self.pipeline.of_kind("understand.evidence")):
            if self.store.has(f"stage.{spec.name}"):
                rows = self.store.read(f"stage.{spec.name}", ["item_id", "timeline"], ids=ids).to_pylist()
                return {row["item_id"]: [Evidence(**entry) for entry in row["timeline"] or []] for row in rows}
        return {}

    # -- of a file

    def _image_sides(self, space: str, row: Row, notes: list[str]) -> list[QuerySide]:
        encoder, spec = self._encoder(space, "image", notes), self._spec(space, notes)
        if encoder is None or spec is None:
            return []
        transform = encoder.image_transform
        assert transform is not None, "an encoder that takes pictures states how it wants them"
        chosen = spec.settings
        pictures, _ = LoadPictures(transform, self._limits, chosen.frames, chosen.frame_policy, chosen.pictures)(row)
        images = pictures.images
        vectors = np.concatenate(
            [encoder.encode_images(images[i : i + chosen.batch_size]) for i in range(0, len(images), chosen.batch_size)]
        )
        moments = [Moment("frame", second) for second in pictures.times_s or []]
        return [QuerySide(space, self._passports[space].digest, "image", vectors, moments)]

    def _text_sides(
        self, space: str, title: str | None, timeline: Sequence[Evidence], notes: list[str]
    ) -> list[QuerySide]:
        encoder, spec = self._encoder(space, "text", notes), self._spec(space, notes)
        if encoder is None or spec is None:
            return []
        prompt = prompts.load(spec.settings.prompt)
        values: dict[str, Any] = {
            "title": title, "transcript": transcript(timeline), "screen_text": screen_text(timeline)
        }  # fmt: skip
        for name, budget in spec.settings.budgets.items():
            if values.get(name):
                values[name] = prompts.cut_texts([values[name]], budget, encoder.count_tokens)[0]
        text = prompt.render(values)
        sides = []
        if text:
            vectors = encoder.encode_documents([text])
            sides.append(QuerySide(space, self._passports[space].digest, "text", vectors, [_whole("text", title)]))
        return sides + list(self._lines(space, {"": _moments(title, timeline)}, notes).values())

    def _heard_and_read(self, row: Row, notes: list[str]) -> Sequence[Evidence]:
        found: dict[str, Row] = {}
        for part in ("speech", "screen"):
            for spec in self.pipeline.of_kind(f"understand.{part}")[-1:]:
                stage: Any = build(spec, self.pipeline)
                try:
                    result = stage.compute([stage.preparer()(row)[0]])[0]
                except Reject as reject:
                    result = reject
                if isinstance(result, Reject):
                    notes.append(f"{part}: {result}")
                else:
                    found[part] = result
            if not self.pipeline.of_kind(f"understand.{part}"):
                notes.append(f"{part} was not read: the pipeline has no stage understand.{part}")
        return fuse((), found.get("speech", {}).get("segments", ()), found.get("screen", {}).get("lines", ()))

    # -- of both

    def _lines(self, space: str, moments: Mapping[str, Sequence[Moment]], notes: list[str]) -> dict[str, QuerySide]:
        """Encode the lines of each video as a side of their own; one whose only words are its title has none."""
        some = {name: own for name, own in moments.items() if any(one.source != "title" for one in own)}
        encoder = self._encoder(space, "text", notes) if some else None
        if encoder is None:
            return {}
        texts = list(dict.fromkeys(one.text for own in some.values() for one in own))
        vectors = dict(zip(texts, encoder.encode_documents(texts), strict=True))
        digest = self._passports[space].digest
        return {
            name: QuerySide(space + LINES, digest, "text", np.stack([vectors[one.text] for one in own]), own)
            for name, own in some.items()
        }

    def _encoder(self, space: str, modality: Modality, notes: list[str]) -> Encoder | None:
        encoder, passport = self.encoder_for(self._passports[space]), self._passports[space]
        if modality in encoder.modalities and encoder.passport(modality) == passport:
            return encoder
        self._note(
            notes, f"space {space}: the encoder that made it ({passport.encoder}) is not the pipeline's any more"
        )
        return None

    def _spec(self, space: str, notes: list[str]) -> StageSpec | None:
        specs = {spec.name: spec for spec in self.pipeline.of_kind("embed")}
        spec = specs.get(space)
        while spec is not None and spec.settings.over is not None:  # its frames and words are those of that space
            spec = specs.get(spec.settings.over)
        if spec is None:
            self._note(notes, f"space {space}: not in the pipeline any more, so a file cannot be brought into it")
        elif spec.name in self.pipeline.distrusted:
            self._note(notes, f"space {space}: {self.pipeline.distrusted[spec.name]}")
            return None
        return spec

    def _note(self, notes: list[str], text: str) -> None:
        if text not in notes:
            notes.append(text)

    @cached_property
    def _limits(self) -> Limits:
        return Limits(**self.pipeline.media.limits())


def _moments(title: str | None, timeline: Sequence[Evidence]) -> list[Moment]:
    """List title and lines, each text once."""
    entries: list[tuple[Source, float | None, str]] = [("title", None, (title or "").strip())]
    for entry in timeline:
        if entry.source != "shot" and entry.source != "unread":  # neither has words of the item
            entries.append((entry.source, entry.start_s, entry.text.strip()))
    first: dict[str, Moment] = {}
    for source, second, text in entries:
        if text:
            first.setdefault(text.casefold(), Moment(source, second, text))
    moments = list(first.values())
    if len(moments) <= MOST_LINES:
        return moments
    return [moments[round(place)] for place in np.linspace(0, len(moments) - 1, MOST_LINES)]


def _whole(way: Input, title: str | None) -> Moment:
    return Moment("picture") if way == "image" else Moment("text", None, (title or "").strip())


def _used(sides: Sequence[QuerySide]) -> list[str]:
    """Describe the sides in words, each once."""
    found = []
    for side in sides:
        sources = [moment.source for moment in side.moments]
        if "frame" in sources:
            found.append(f"{len(sources)} frames")
        elif "picture" in sources:
            found.append("its pictures")
        elif side.name.endswith(LINES):
            counts = ((sources.count("speech"), "speech"), (sources.count("screen"), "text on screen"))
            found += [f"{count} {'line' if count == 1 else 'lines'} of {what}" for count, what in counts if count]
        else:
            found.append("its text")
    return list(dict.fromkeys(found))
