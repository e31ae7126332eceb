"""embed: one vector an item, in a space with a passport.

A space of input `image` encodes an item's pictures, or frames sampled from its videos; a space of input `text` encodes
the item's own words, and the speech and text on screen that `understand` found, through a prompt file. An item without
such input is filtered, not filled with zeros. A space may be made over an earlier one, whose stored vectors the heads
of an aligned encoder take, so that after a new fit no picture is decoded again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core import prompts
from coldstart.core.item_fields import PICTURES
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.core.vectors import unit
from coldstart.embed.spaces import table_of
from coldstart.encoders import HeadEncoder
from coldstart.errors import ColdstartError
from coldstart.media.image import at_one_size
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures, Pictures
from coldstart.store import Store
from coldstart.store.fits import fitted_encoder

if TYPE_CHECKING:
    from coldstart.encoders import Encoder, Passport


_EVIDENCE = frozenset({"transcript", "screen_text", "language"})
"""Inputs of a prompt besides the item's own fields, where `understand` found them."""
_DESCRIBED = frozenset({"summary", "keywords", "queries"})
"""Inputs of a prompt from the checked description, and `attributes` with them: the values of the claims left in."""
_CUT = 2
"""Version of how a long text is cut to its budget."""


class Settings(Section):
    """Settings of one space."""

    encoder: str
    """`starter`, `starter-clip`, `open_clip:ARCH/PRETRAINED`, `sentence-transformers:NAME_OR_PATH`, …; `align:NAME` for
    what the fit stage of that name makes."""
    input: Literal["image", "text"] = "image"
    """Input that the encoder takes from an item."""
    over: str | None = None
    """An earlier space of the encoder under the heads: its vectors are taken, and nothing is decoded again; `frames`,
    `prompt` and the like are then those of that space. For `starter-clip` and `align:…`."""
    frames: int = Field(default=8, ge=1, le=256)
    """Frames sampled from each video."""
    frame_policy: Literal["uniform", "keyframe", "shots"] = "uniform"
    """Places of the frames: evenly over the length; at the nearest key frames, which is cheaper; or one a shot, as
    `understand` found them, so that a short shot counts as much as a long one."""
    video: Literal["frames", "native"] = "frames"
    """Vector of a video: the mean of its frames' vectors, or the encoder's own video input."""
    pictures: int = Field(default=4, ge=1)
    """Most pictures of an item that are encoded; their vectors are averaged."""
    prompt: str = "item_text"
    """Prompt that renders an item as the text that is encoded: a packaged prompt's name, or the path of a .md file."""
    budgets: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Input of the prompt -> tokens of it that are read, such as `{transcript: 96, screen_text: 48}`; the rest of a
    long text is left out, so that one source cannot crowd out the others."""
    text_queries: bool | None = None
    """Let text queries search this space without naming it. By default one of texts, and one of pictures as much as
    queries made from the catalogue's own titles find there; false leaves it out, true takes it in even before that is
    known."""
    batch_size: int = Field(default=64, ge=1)
    """Pictures or texts that the model takes at once; no result depends on it."""
    allow_random_weights: bool = False
    """Random weights, for tests and timing alone."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> EmbedStage:
    """Build the stage of one space."""
    return EmbedStage(name, settings, pipeline)


class EmbedStage(MapStageDefaults):
    """Map stage of one space; see `coldstart.core.stage.MapStage`.

    Weights load when the first batch is computed.
    """

    kind = "embed"

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.settings = settings
        self._pipeline = pipeline
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_s
        self.batch_cost = float(settings.batch_size)
        self.isolated = settings.input == "image" and settings.over is None
        self.reads = self._sources()

    @property
    def item_fields(self) -> Collection[str]:  # type: ignore[override]  # a text's are those of its prompt
        """Fields that the vector of an item is made of."""
        if self.settings.over is not None:
            return ()
        if self.settings.input == "image":
            return PICTURES
        found = {field.name for field in CONTENT_FIELDS}.intersection(self._prompt.inputs)
        return found - {"attributes"} if "described" in self.reads else found  # then they are the description's

    def _sources(self) -> dict[str, str]:
        if self.settings.over is not None:
            return {"base": self._base_name}
        if self.settings.input == "text":
            return {**self._evidence(), **self._described()}
        if self.settings.frame_policy != "shots":
            return {}
        shots = self._pipeline.before(self.name, "understand.shots")
        if shots is None:
            raise ColdstartError(
                f"space {self.name!r}: frame_policy shots needs a stage of kind understand.shots before it"
            )
        return {"shots": shots}

    def _evidence(self) -> dict[str, str]:
        evidence = self._pipeline.before(self.name, "understand.evidence")
        return {"evidence": evidence} if evidence and not _EVIDENCE.isdisjoint(self._prompt.inputs) else {}

    def _described(self) -> dict[str, str]:
        read = sorted(_DESCRIBED.intersection(self._prompt.inputs))
        if not read:
            return {}
        described = self._pipeline.before(self.name, "describe.check")
        if described is None:
            raise ColdstartError(
                f"space {self.name!r}: prompt {self._prompt.name!r} reads {', '.join(read)}, which a stage of kind "
                "describe.check before it would give"
            )
        return {"described": described}

    @property
    def _base_name(self) -> str:
        """Name of the space that this one is over.

        Raises:
            ColdstartError: no space of that name and input stands before this one.
        """
        earlier = self._pipeline.earlier(self.name)
        fitting = [s.name for s in earlier if s.kind == "embed" and s.settings.input == self.settings.input]
        if self.settings.over not in fitting:
            raise ColdstartError(
                f"{self.name}.over={self.settings.over!r}: no space of input {self.settings.input} has that name "
                f"before it; there is {', '.join(fitting) or 'none'}"
            )
        return self.settings.over

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of the space, its weights not yet loaded.

        Raises:
            NotFitted: it is an `align:NAME` of a stage that has not fitted anything yet.
            ColdstartError: it does not take the space's input, or its heads do not fit the space that it is over.
        """
        from coldstart import encoders

        name, options = fitted_encoder(self.settings.encoder, self.name, self._pipeline)
        encoder = encoders.load(
            name,
            device=self._pipeline.engine.device,
            dtype=self._pipeline.engine.dtype,
            allow_random_weights=self.settings.allow_random_weights,
            **options,
        )
        if self.settings.over is not None:
            self._check_base(encoder)
        wanted = "video" if self.settings.video == "native" else self.settings.input
        if wanted not in encoder.modalities:
            takes = ", ".join(sorted(encoder.modalities))
            raise ColdstartError(f"space {self.name!r}: {encoder.name} takes {takes}, not {wanted}")
        if wanted == "video" and encoder.passport("video") != encoder.passport("image"):
            raise ColdstartError(
                f"space {self.name!r}: {encoder.name} keeps videos and pictures apart; use video: frames"
            )
        return encoder

    def _check_base(self, encoder: Encoder) -> None:
        name = self._base_name
        if not isinstance(encoder, HeadEncoder):
            raise ColdstartError(
                f"{self.name}.over={name!r}: {encoder.name} has no heads to put on stored vectors; leave `over` out"
            )
        found = EmbedStage(name, self._pipeline.stage(name).settings, self._pipeline).passport
        wanted = encoder.base(self.settings.input)
        if wanted.weights.startswith(f"{found.weights}+"):
            raise ColdstartError(
                f"{self.name}.over={name!r}: it holds vectors of {found.encoder} as it was before {encoder.name} "
                "trained it further: leave `over` out, so that its input is encoded anew"
            )
        if found != wanted:
            raise ColdstartError(
                f"{self.name}.over={name!r}: it holds vectors of {found.encoder} ({found.digest}), and the heads of "
                f"{encoder.name} take those of {wanted.encoder} ({wanted.digest}); leave `over` out to embed anew"
            )

    @cached_property
    def passport(self) -> Passport:
        """Passport of the vectors."""
        return self.encoder.passport(self.settings.input)

    @property
    def table(self) -> str:
        """Name of the table, one a passport."""
        return table_of(self.name, self.passport)

    @cached_property
    def schema(self) -> pa.Schema:
        """Schema of the rows, with the passport as metadata."""
        vector = pa.list_(pa.float32(), self.passport.dim)
        fields = [pa.field("item_id", pa.string()), pa.field("row_key", pa.string()), pa.field("vector", vector)]
        if self.settings.input == "text":
            fields.append(pa.field("tokens_cut", pa.int32()))
        else:
            fields.append(pa.field("frame_times_s", pa.list_(pa.float64())))
            fields.append(pa.field("frame_vectors", pa.list_(pa.list_(pa.float16(), self.passport.dim))))
        return pa.schema(fields, metadata={"passport": self.passport.to_json()})

    @cached_property
    def _prompt(self) -> prompts.Prompt:
        """Prompt that renders an item as text.

        Raises:
            ColdstartError: it cannot be read, or a budget is for something that it has not among its inputs.
        """
        prompt = prompts.load(self.settings.prompt)
        for name in self.settings.budgets:
            if name not in prompt.inputs:
                raise ColdstartError(
                    f"space {self.name!r}: budgets has {name!r}, and prompt {prompt.name!r} reads "
                    f"{', '.join(prompt.inputs)}"
                )
        return prompt

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the settings that change vectors."""
        shared = {"input": self.settings.input, "passport": asdict(self.passport)}
        if self.settings.over is not None:
            return {**shared, "over": True}  # the key of the row that it takes says the rest
        if self.settings.input == "text":
            budgets = {"budgets": self.settings.budgets, "cut": _CUT} if self.settings.budgets else {}
            return {**shared, "prompt": self._prompt.digest, **budgets}
        chosen = self.settings.model_dump(include={"frames", "frame_policy", "video", "pictures"})
        return {**shared, **chosen, "max_pixels": self._limits.max_pixels, "min_side": self._limits.min_side}

    def preparer(self) -> Prepare:
        """Return the function that reads the input of one item on a CPU worker."""
        if self.settings.over is not None:
            return ReadVectors(self.settings.over)
        if self.settings.input == "text":
            return ReadText(self._prompt)
        transform = self.encoder.image_transform
        assert transform is not None, "an encoder that takes images states how it wants them"
        return LoadPictures(
            transform, self._limits, self.settings.frames, self.settings.frame_policy, self.settings.pictures
        )

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        """Encode a batch; a vector that is not finite is turned away."""
        if self.settings.over is not None:
            rows = self._projected(batch)
        else:
            rows = self._texts(batch) if self.settings.input == "text" else self._pictures(batch)
        return [
            row if np.isfinite(row["vector"]).all() else Reject("bad_vector", "not a finite number") for row in rows
        ]

    def _projected(self, batch: Sequence[Row]) -> list[Row]:
        """Project rows of the space that this one is over through the heads: a video frame by frame."""
        encoder = self.encoder
        assert isinstance(encoder, HeadEncoder), "checked where it was loaded"
        frames = [row.get("frame_vectors") for row in batch]
        sets = [
            np.asarray([row["vector"]] if own is None else own, np.float32)
            for row, own in zip(batch, frames, strict=True)
        ]
        vectors = encoder.project(self.settings.input, unit(np.concatenate(sets)))
        parts = np.split(vectors, np.cumsum([len(one) for one in sets])[:-1])
        if self.settings.input == "text":
            return [
                {"vector": part[0], "tokens_cut": row["tokens_cut"]} for part, row in zip(parts, batch, strict=True)
            ]
        return [
            {
                "vector": pool(part),
                "frame_times_s": row["frame_times_s"],
                "frame_vectors": None if own is None else list(part.astype(np.float16)),
            }
            for part, row, own in zip(parts, batch, frames, strict=True)
        ]

    def _texts(self, batch: Sequence[Row]) -> list[Row]:
        values = [dict(row) for row in batch]
        for name, budget in self.settings.budgets.items():
            long = [row for row in values if isinstance(row[name], str)]
            short = prompts.cut_texts([row[name] for row in long], budget, self.encoder.count_tokens)
            for row, text in zip(long, short, strict=True):
                row[name] = text
        texts = [self._prompt.render(row) for row in values]
        vectors = self.encoder.encode_documents(texts)
        limit = self.encoder.max_tokens
        over = [max(0, count - limit) if limit else 0 for count in self.encoder.count_tokens(texts)]
        return [{"vector": vector, "tokens_cut": cut} for vector, cut in zip(vectors, over, strict=True)]

    def _pictures(self, batch: Sequence[Pictures]) -> list[Row]:
        flat = [image for pictures in batch for image in pictures.images]
        vectors = self.encoder.encode_images(flat)
        starts = np.cumsum([0, *(len(pictures.images) for pictures in batch)])
        rows: list[Row] = []
        for pictures, start, end in zip(batch, starts[:-1], starts[1:], strict=True):
            own = vectors[start:end]
            row: Row = {"vector": pool(own), "frame_times_s": pictures.times_s, "frame_vectors": None}
            if pictures.times_s is not None:
                row["frame_vectors"] = list(own.astype(np.float16))
            rows.append(row)
        if self.settings.video == "native":
            videos = [place for place, pictures in enumerate(batch) if pictures.times_s is not None]
            for place, vector in zip(
                videos,
                self.encoder.encode_videos([np.stack(at_one_size(batch[i].images)) for i in videos]),
                strict=True,
            ):
                rows[place]["vector"] = vector
        return rows

    def notes(self, workspace: Store) -> list[str]:
        """Note texts that are longer than the encoder reads."""
        if self.settings.input != "text" or not workspace.has(self.table):
            return []
        cut = workspace.read(self.table, ["tokens_cut"], where="tokens_cut > 0")["tokens_cut"]
        if not len(cut):
            return []
        reads = f"the {self.encoder.max_tokens} tokens that {self.encoder.name} reads"
        return [
            f"{len(cut)} texts are longer than {reads}, the longest by {pc.max(cut).as_py()}: their ends are not seen"
        ]


def pool(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average unit vectors [N, D], scaled to length one: float32 [D]."""
    mean: NDArray[np.float32] = vectors.mean(axis=0)
    return mean / np.float32(max(float(np.linalg.norm(mean)), 1e-12))


@dataclass(frozen=True)
class ReadText:
    """Reader of the prompt's inputs from one item; its cost is one text."""

    prompt: prompts.Prompt

    def __call__(self, row: Row) -> tuple[Row, float]:
        found = {**row, **{name: (row.get("evidence") or {}).get(name) for name in _EVIDENCE}}
        if "described" in row:
            description = row["described"] or {}
            found |= {name: description.get(name) for name in _DESCRIBED}
            found["attributes"] = [claim["value"] for claim in description.get("attributes") or ()]
        if not self.prompt.render(found):
            raise Reject("no_text", f"none of {', '.join(self.prompt.inputs)} is given", state="filtered")
        return {name: found.get(name) for name in self.prompt.inputs}, 1.0


@dataclass(frozen=True)
class ReadVectors:
    """Reader of the row of the space that another one is over; its cost is that of one picture or text."""

    space: str

    def __call__(self, row: Row) -> tuple[Row, float]:
        base = row.get("base")
        if base is None:
            raise Reject("no_vector", f"space {self.space!r} has none of it", state="filtered")
        return base, 1.0
