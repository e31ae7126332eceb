"""The stage `understand.screen`: read the text that an item's video or pictures show, each line with its times.

A video or picture without text has a row without lines; an item with neither is filtered. A line in a script that the
reader cannot write is no line of text: it is named under `unread`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from coldstart.core.item_fields import PICTURES
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.media.limits import Limits
from coldstart.media.video_loaders import SPARSE_S, LoadScreenFrames, ScreenFrames
from coldstart.store import Store
from coldstart.understand.ocr import TextBox, TextRules
from coldstart.understand.ocr_lines import Frame, ScreenLine, UnreadLine, picture_texts, track_texts

if TYPE_CHECKING:
    from coldstart.understand.ocr import Reader

_LINE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("text", pa.string()),
        ("confidence", pa.float32()),
        ("box", pa.list_(pa.float32(), 4)),
        ("frames", pa.int32()),
        ("medium", pa.int32()),
    ]
)
_UNREAD = pa.struct(
    [
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("script", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),
        ("frames", pa.int32()),
        ("medium", pa.int32()),
    ]
)
_SAME_S = 1e-6


class Settings(Section):
    """Settings of text recognition."""

    reader: Literal["starter", "fake"] = "starter"
    """Text recogniser: `starter` is PP-OCRv6; `fake` reads brightness in place of words, for tests."""
    detection: str | None = None
    """Path of another ONNX model that finds text, larger ones included; the packaged small one where none is given."""
    recognition: str | None = None
    """Path of another ONNX model that reads lines, its alphabet in its metadata; the packaged one by default."""
    fps: float = Field(default=2.0, gt=0, le=30)
    """Sampled frames a second: start and end of a line are this exact."""
    max_frames: int = Field(default=240, ge=1)
    """Sampled frames of a video, at most; a longer one is sampled less often, all along its length."""
    side: int = Field(default=736, ge=32)
    """Longer side in pixels at which lines are read: more reads smaller text, and takes longer."""
    detect_side: int = Field(default=512, ge=32)
    """Longer side in pixels at which text is detected, which takes most of the time."""
    still: float = Field(default=24.0, ge=0, le=256)
    """Change of 4 x 4 pixels, of 255, from which on a frame is read again; 0 reads every frame."""
    min_height: float = Field(default=0.02, ge=0, lt=1)
    """Least height of text, as a share of the picture's height."""
    min_letters: int = Field(default=2, ge=1)
    """Least letters and digits of a line: a lone sign is seldom one."""
    min_confidence: float = Field(default=0.8, ge=0, le=1)
    """Least mean confidence of a line's readings."""
    single_confidence: float = Field(default=0.9, ge=0, le=1)
    """Least confidence of a line in one sampled frame alone, and of every line of a picture."""
    pictures: int = Field(default=4, ge=1)
    """Pictures that are read of an item without a video, at most."""
    threads: int = Field(default=0, ge=0)
    """Pictures that are read side by side; 0 for as many as there are cores. No result depends on it."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> ScreenStage:
    return ScreenStage(name, settings, pipeline)


class ScreenStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. Its cost is images to read."""

    kind = "understand.screen"
    item_fields = PICTURES
    batch_cost = 24.0
    isolated = True
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            ("lines", pa.list_(_LINE)),
            ("unread", pa.list_(_UNREAD)),
            ("frames_read", pa.int32()),
            ("frames_skipped", pa.int32()),
            ("step_s", pa.float64()),
        ]
    )

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self.settings = settings
        self._device = pipeline.engine.device
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_along(settings.max_frames * SPARSE_S)
        self._rules = TextRules(
            settings.min_height, settings.min_letters, settings.min_confidence, settings.single_confidence
        )

    @cached_property
    def reader(self) -> Reader:
        """Build the reader; its weights are not loaded yet.

        Raises:
            ColdstartError: a model's file is not there.
        """
        if self.settings.reader == "fake":
            from coldstart.understand.ocr import FakeReader

            return FakeReader()
        from coldstart.understand.rapid_ocr import RapidReader, find_models

        models = find_models(self.settings.detection, self.settings.recognition)
        chosen = self.settings
        return RapidReader(
            models,
            detect_side=chosen.detect_side,
            min_height=chosen.min_height,
            device=self._device,
            threads=chosen.threads,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        unread = {"reader", "detection", "recognition", "threads"}
        limits = {"max_pixels": self._limits.max_pixels, "min_side": self._limits.min_side}
        return {**self.settings.model_dump(exclude=unread), **limits, "reader": self.reader.identity()}

    def preparer(self) -> Prepare:
        chosen = self.settings
        return LoadScreenFrames(self._limits, chosen.side, chosen.fps, chosen.max_frames, chosen.still, chosen.pictures)

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        boxes = iter(self.reader.read([image for screen in batch for image in screen.images]))
        return [self._row(screen, [next(boxes) for _ in screen.images]) for screen in batch]

    def _row(self, screen: ScreenFrames, boxes: Sequence[Sequence[TextBox]]) -> Row:
        found: list[tuple[int, ScreenLine]] = []
        unread: list[tuple[int, UnreadLine]] = []
        if screen.times_s is None:
            for place, (image, own) in enumerate(zip(screen.images, boxes, strict=True)):
                lines, away = picture_texts(own, image.shape[1] / image.shape[0], self._rules)
                found += [(place, line) for line in lines]
                unread += [(place, line) for line in away]
        else:
            lines, away = track_texts(_frames(screen, boxes), self._rules)
            found, unread = [(0, line) for line in lines], [(0, line) for line in away]
        return {
            "lines": [_entry(place, line) for place, line in found],
            "unread": [_entry(place, line) for place, line in unread],
            "frames_read": len(screen.images),
            "frames_skipped": len(screen.times_s or screen.images) - len(screen.images),
            "step_s": screen.step_s,
        }

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        return [*self._short_of_frames(workspace), *self._unread_scripts(workspace)]

    def _short_of_frames(self, workspace: Store) -> list[str]:
        rate = self.settings.fps
        full = len(workspace.read(self.table, ["step_s"], where=f"step_s > {1 / rate + _SAME_S}"))
        if not full:
            return []
        return [
            f"{full} videos are too long for {rate:g} frames a second and were looked at less often, in "
            f"{self.settings.max_frames} frames: text shown for a moment may be missing; raise {self.name}.max_frames"
        ]

    def _unread_scripts(self, workspace: Store) -> list[str]:
        """Say which scripts, not read, perhaps stand on the screen of how many items; patterns look like them too."""
        if "unread" not in workspace.columns(self.table):  # rows of an earlier release
            return []
        items: Counter[str] = Counter()
        for row in workspace.read(self.table, ["unread"]).to_pylist():
            items.update(sorted({line["script"] for line in row["unread"] or ()}))
        if not items:
            return []
        listed = ", ".join(
            f"{script} ({count} {'item' if count == 1 else 'items'})" for script, count in items.most_common()
        )
        return [
            f"perhaps text in a script that is not read: {listed}: `coldstart show ITEM` names the lines; where "
            f"they are text, give {self.name}.recognition a model that reads them"
        ]


def _frames(screen: ScreenFrames, boxes: Sequence[Sequence[TextBox]]) -> list[Frame]:
    times_s = screen.times_s or []
    aspects = [image.shape[1] / image.shape[0] for image in screen.images]  # a stream may be turned half way
    return [
        Frame(time_s, until_s, aspects[shown], boxes[shown], fresh=place == 0 or shown != screen.shown[place - 1])
        for place, (time_s, until_s, shown) in enumerate(
            zip(times_s, [*times_s[1:], screen.end_s or times_s[-1]], screen.shown, strict=True)
        )
    ]


def _entry(medium: int, line: ScreenLine | UnreadLine) -> Row:
    return {**asdict(line), "box": list(line.box), "medium": medium}
