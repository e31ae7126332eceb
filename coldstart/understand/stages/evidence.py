"""The stage `understand.evidence`: join shots, speech and text on screen to one timeline an item, and its two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.errors import ColdstartError
from coldstart.understand.timeline import fuse, screen_text, transcript

_PARTS = ("shots", "speech", "screen")


class Settings(Section):
    """Settings of the timeline, of which there are none: it reads what the parts before it found."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> EvidenceStage:
    """Build the stage over the parts that the pipeline has.

    Raises:
        ColdstartError: it has none of them before this stage.
    """
    found = {part: pipeline.before(name, f"understand.{part}") for part in _PARTS}
    reads = {part: stage for part, stage in found.items() if stage is not None}
    if not reads:
        raise ColdstartError(
            f"{name}: no stage of kind {', '.join(f'understand.{part}' for part in _PARTS)} stands before it: turn one "
            "on, or turn this one off"
        )
    return EvidenceStage(name, reads)


class EvidenceStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. Items without media, or without words, have a row too."""

    kind = "understand.evidence"
    item_fields = ()
    batch_cost = 500.0
    on_device = False
    deadline_s = 60.0
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            (
                "timeline",
                pa.list_(
                    pa.struct(
                        [
                            ("start_s", pa.float64()),
                            ("end_s", pa.float64()),
                            ("source", pa.string()),
                            ("text", pa.string()),
                            ("confidence", pa.float32()),
                        ]
                    )
                ),
            ),
            ("transcript", pa.string()),
            ("screen_text", pa.string()),
            ("language", pa.string()),
        ]
    )

    def __init__(self, name: str, reads: Mapping[str, str]) -> None:
        self.name = name
        self.reads = reads
        self.table = f"stage.{name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"reads": sorted(self.reads)}

    def preparer(self) -> Prepare:
        return FuseEvidence()

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return list(batch)


@dataclass(frozen=True)
class FuseEvidence:
    """Join what the parts found of one item; a part that rejected it adds nothing."""

    def __call__(self, row: Row) -> tuple[Row, float]:
        shots, speech, screen = (row.get(part) or {} for part in _PARTS)
        timeline = fuse(shots.get("shots") or (), speech.get("segments") or (), screen.get("lines") or ())
        return {
            "timeline": [asdict(entry) for entry in timeline],
            "transcript": transcript(timeline),
            "screen_text": screen_text(timeline),
            "language": speech.get("language"),
        }, 1.0
