"""The stage `understand.speech`: transcribe what is said in an item's video, or in its sound file.

Silence and music have a row without segments; an item without any sound is filtered. Words that were dropped as
invented are stored in the row too, each with the gate that it failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field

from coldstart.core.keys import version
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.media.audio import LoadAudio
from coldstart.media.container import check_sound_track
from coldstart.media.limits import Limits
from coldstart.store import Store
from coldstart.understand.speech_loader import LoadSpeech, Speech

if TYPE_CHECKING:
    from coldstart.understand.speech import Transcriber

_SPOKEN = [("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())]
_FULL_S = 0.5  # sound so close to the limit was cut there


def _word_of(value: object) -> object:
    """Return the word for `off`, which YAML reads as no."""
    return "off" if value is False else value


class Settings(Section):
    """Settings of transcription."""

    model: str = "starter"
    """`starter` (whisper-base), the folder of a CTranslate2 Whisper model, or a name such as `large-v3`, which is
    fetched from the hub; `fake` hears tones in place of words, for tests."""
    language: str | None = None
    """ISO 639 code of the language of all items; detected in each by default."""
    beam_size: int = Field(default=5, ge=1, le=20)
    """Beams of the search: more make fewer errors and take longer; 1 is greedy."""
    max_s: float = Field(default=600.0, gt=0)
    """Seconds of sound that are transcribed of each item; what lies beyond is not read."""
    sound_track: Annotated[str | int | None, AfterValidator(check_sound_track)] = None
    """Sound track that is heard of a file with several: the code of its language by ISO 639-2, such as `deu`, or its
    number from 1 on. A file without it is heard as by default: the track that is marked as default, as players do."""
    voice_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which on sound counts as a voice; the rest never reaches the model."""
    min_confidence: float = Field(default=0.37, ge=0, le=1)
    """Least confidence of words; others are dropped."""
    min_language_confidence: float = Field(default=0.5, ge=0, le=1)
    """Least confidence of a detected language; otherwise it is left empty in the row."""
    hot_words: Annotated[Literal["auto", "off"] | tuple[str, ...], BeforeValidator(_word_of)] = "off"
    """Names that the model is told may be said, so that it spells them as the catalogue does: `auto` takes the rare
    words of the item's title; a list of words adds these for every item, such as brands; `off` takes none. Names
    that are said are found far more often; in loud noise some are also written where nobody said them."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the model; 0 for as many as there are cores. No result depends on it."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> SpeechStage:
    return SpeechStage(name, settings, pipeline)


class SpeechStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. Its cost is seconds of sound."""

    kind = "understand.speech"
    item_fields: tuple[str, ...] = ("media.audio", "media.video")
    batch_cost = 120.0
    isolated = True
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            ("language", pa.string()),
            ("language_confidence", pa.float32()),
            ("heard_s", pa.float64()),
            ("voiced_s", pa.float64()),
            ("segments", pa.list_(pa.struct([*_SPOKEN, ("confidence", pa.float32())]))),
            ("dropped", pa.list_(pa.struct([*_SPOKEN, ("reason", pa.string())]))),
        ]
    )

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self.settings = settings
        self._pipeline = pipeline
        if settings.hot_words != "off":
            self.item_fields = (*self.item_fields, "title")
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_along(settings.max_s)

    @cached_property
    def transcriber(self) -> Transcriber:
        """Build the transcriber; its weights are not loaded yet.

        Raises:
            ColdstartError: the device is unknown.
        """
        if self.settings.model == "fake":
            from coldstart.understand.speech import FakeTranscriber

            return FakeTranscriber()
        from coldstart.understand.speech import Gates
        from coldstart.understand.whisper import Whisper, WhisperSettings

        chosen = self.settings
        return Whisper(
            chosen.model,
            WhisperSettings(
                language=chosen.language,
                beam_size=chosen.beam_size,
                voice_threshold=chosen.voice_threshold,
                min_language_confidence=chosen.min_language_confidence,
            ),
            Gates(min_confidence=chosen.min_confidence),
            device=self._pipeline.engine.device,
            threads=chosen.threads,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        found = {"max_s": self.settings.max_s, "av": version("av"), "transcriber": self.transcriber.identity()}
        if self.settings.sound_track is not None:
            found["sound_track"] = self.settings.sound_track
        if self.settings.hot_words != "off":  # rows of earlier versions were made without
            found["hot_words"] = self.settings.hot_words
        return found

    def preparer(self) -> Prepare:
        load = LoadAudio(self._limits, self.settings.max_s, self.settings.sound_track)
        return LoadSpeech(load, self.settings.hot_words != "off")

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        # One by one: the encoder is bound by arithmetic and takes as long for eight windows as eight times for one.
        return [self._row(sample) for sample in batch]

    def _row(self, sample: Speech) -> Row:
        audio, hints = sample.audio, [sample.title] if sample.title else []
        if isinstance(self.settings.hot_words, tuple):
            hints += self.settings.hot_words
        found = self.transcriber.transcribe(audio.samples, hints)
        segments = [asdict(segment) for segment in found.segments]
        for segment in segments:
            del segment["no_speech"]  # it had its say at the gates
        dropped = [asdict(segment) for segment in found.dropped]
        for segment in (*segments, *dropped):
            segment["start_s"] = max(0.0, segment["start_s"] + audio.start_s)
            segment["end_s"] = max(0.0, segment["end_s"] + audio.start_s)
        return {
            "language": found.language,
            "language_confidence": found.language_confidence,
            "heard_s": audio.heard_s,
            "voiced_s": found.voiced_s,
            "segments": segments,
            "dropped": dropped,
        }

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        limit = self.settings.max_s
        full = len(workspace.read(self.table, ["heard_s"], where=f"heard_s > {limit - _FULL_S}"))
        if not full:
            return []
        return [
            f"{full} items have {limit:g} s of sound or more: what lies beyond is not heard; raise max_s to hear it"
        ]
