"""Run `describe.write`: generate a description of each item by the schema of its attributes. Nothing is checked here.

Generator, adapter and prompt are part of each row's key, and stand in the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from coldstart.core.item_fields import PICTURES
from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.describe.prompt_input import LoadPromptInput, PromptBuilder, PromptInput
from coldstart.describe.writing import generate_descriptions, given_fields, load_prompt_builder, load_prompts
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures
from coldstart.store import Store
from coldstart.store.fits import WriterConfig

if TYPE_CHECKING:
    from coldstart.generators import Generator


class Settings(Section):
    """Settings of the generation of descriptions."""

    generator: str = "starter"
    """`sentences` for plain sentences of the facts, without a model; `finetune:describe` for the fit of that stage;
    `starter`, `hf:NAME_OR_PATH`, `vllm:NAME`, `openai:MODEL@URL`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of that generator, such as `{concurrency: 8}` of an endpoint."""
    prompt: dict[str, str] | None = None
    """Kind of item -> a packaged prompt's name, or the path of a .md file; by default those of the fit, and
    without a fit `describe_product` and `describe_video`; of an endpoint (`openai:`) `describe_product_prose` and
    `describe_video_prose`."""
    given: tuple[str, ...] | None = None
    """Fields in the prompt, `picture` for pictures; by default those of the fit, and without a fit all. Hidden fields
    still support claims in the checks."""
    frames: int = Field(default=4, ge=1, le=64)
    """Frames of a video for a vision-language generator."""
    pictures: int = Field(default=1, ge=1)
    """Pictures of a product for a vision-language generator."""
    batch_size: int = Field(default=64, ge=1)
    """Items that the generator gets at once; it decides how many it computes together."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> WriteStage:
    """Build the stage and read its prompts.

    Raises:
        ColdstartError: a prompt that cannot be read or has no output fields, or an unknown field.
    """
    return WriteStage(name, settings, pipeline)


class WriteStage(MapStageDefaults):
    """Map stage that generates descriptions; see `coldstart.core.stage.MapStage`."""

    kind = "describe.write"
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            ("text", pa.string()),
            ("finish", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("new_tokens", pa.int32()),
            ("generator", pa.string()),
            ("adapter", pa.string()),
            ("prompt", pa.string()),
        ]
    )

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.settings = settings
        self.table = f"stage.{name}"
        self._pipeline = pipeline
        if settings.prompt is not None:
            load_prompts(name, settings.prompt)  # reports faults before anything runs
        given_fields(name, settings.given)
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_s
        self.batch_cost = float(settings.batch_size)
        evidence = pipeline.before(name, "understand.evidence")
        predicted = pipeline.before(name, "describe.attributes")
        # Places of lines on the screen are read by plain sentences alone: other generators' rows stay as they are.
        screen = pipeline.before(name, "understand.screen") if settings.generator == "sentences" else None
        self.reads = {
            **({"evidence": evidence} if evidence else {}),
            **({"screen": screen} if screen and evidence else {}),
            **({"predicted": predicted} if predicted else {}),
        }

    @cached_property
    def _writer_and_builder(self) -> tuple[WriterConfig, PromptBuilder]:
        return load_prompt_builder(StageSpec(self.name, self.kind, self.settings), self._pipeline)

    @cached_property
    def generator(self) -> Generator:
        """Generator, its weights not yet loaded.

        Raises:
            NotFitted: it is a `finetune:NAME` of a stage that has fitted nothing yet.
            ColdstartError: it is unknown, or its model is not on this machine.
        """
        from coldstart import generators

        engine, writing = self._pipeline.engine, self._writer_and_builder[0]
        return generators.load(
            writing.generator,
            device=engine.device,
            dtype=engine.dtype,
            adapter=writing.adapter,
            **self.settings.options,
        )

    @property
    def builder(self) -> PromptBuilder:
        """Prompt builder of the stage."""
        return self._writer_and_builder[1]

    @property
    def _takes_pictures(self) -> bool:
        given = self.builder.given
        return self.generator.image_transform is not None and (given is None or "picture" in given)

    @property
    def isolated(self) -> bool:  # type: ignore[override]  # known with the generator
        """True where media are decoded, for a vision-language generator."""
        return self._takes_pictures

    @property
    def on_device(self) -> bool:  # type: ignore[override]
        """True but for an endpoint, which has its own device."""
        return self._writer_and_builder[0].generator != "sentences" and not (
            self._writer_and_builder[0].generator.startswith("openai:")
        )

    @property
    def item_fields(self) -> Collection[str]:  # type: ignore[override]  # known with the prompts
        """Fields of the prompts, those of plain sentences where they are written, and pictures where they are taken."""
        builder = self.builder
        found = builder.item_fields | (PICTURES if self._takes_pictures else frozenset())
        return found | builder.sentence_fields if self._writer_and_builder[0].generator == "sentences" else found

    def fingerprint(self) -> Mapping[str, Any]:
        given = self.builder.given
        shown = {} if given is None else {"given": sorted(given)}
        media = self.settings.model_dump(include={"frames", "pictures"}) if self._takes_pictures else {}
        return {
            "generator": asdict(self.generator.passport()),
            "prompts": {kind: prompt.digest for kind, prompt in self.builder.prompts.items()},
            "attributes": self.builder.attributes.plain(),
            **shown,
            **media,
            **({"templates": dict(self.builder.templates)} if self.builder.templates else {}),
        }

    def preparer(self) -> Prepare:
        transform = self.generator.image_transform
        if not self._takes_pictures or transform is None:
            return LoadPromptInput(self.builder, None)
        load = LoadPictures(transform, self._limits, self.settings.frames, "uniform", self.settings.pictures)
        return LoadPromptInput(self.builder, load)

    def compute(self, batch: Sequence[PromptInput]) -> list[Row | Reject]:
        passport = self.generator.passport()
        rows: list[Row | Reject] = []
        for inputs, found in zip(batch, generate_descriptions(batch, self.generator), strict=True):
            if isinstance(found, Reject):
                rows.append(found)
                continue
            writer = {"generator": passport.model, "adapter": passport.adapter or None}
            prompt = f"{inputs.prompt.name} {inputs.prompt.version}"
            rows.append({**asdict(found), **writer, "prompt": prompt})
        return rows

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        rows = workspace.read(self.table, ["finish", "prompt_tokens", "new_tokens", "generator"])
        by = ", ".join(sorted(set(rows["generator"].to_pylist())))
        if by == "sentences":
            return [f"{len(rows)} items described by plain sentences of what is known of them"]
        cut = pc.sum(pc.equal(rows["finish"], "length")).as_py() or 0
        tokens = f"{_total(rows['prompt_tokens'])} tokens read and {_total(rows['new_tokens'])} written in all"
        own: Callable[[], list[str]] = getattr(self.generator, "notes", list)
        described = [f"{len(rows)} items described by {by}"] if len(rows) else []
        return [*described, f"{tokens}; {cut} texts ended at max_new_tokens" if cut else tokens, *own()]


def _total(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)
