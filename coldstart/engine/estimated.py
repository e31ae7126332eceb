"""What an estimate says: of each stage, of the whole run, of another machine, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from coldstart.engine.machines import Machine


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would take.

    Attributes:
        rows: items it would do.
        probed: items that were done to find out; `lost`: how many of those were turned away.
        seconds: time for all rows on this machine, None where it could not be told; `low`, `high`: its range by the
            spread of the probed items.
        gpu_hours: that GPUs of this machine are held.
        memory_bytes: of this process and its workers at most, while it was probed; `gpu_bytes`: of the GPU.
        bytes: disk for all rows, before compaction.
        bottleneck: `decode`, `model`, `wait` (for somebody else's machine), `commit`, `start` or `whole`: what most of
            the time goes into. `parts`: seconds by those words.
        note: why something could not be told, or what stood in for what.
        other: the same on the other machine that was asked about.
    """

    stage: str
    rows: int
    probed: int = 0
    lost: int = 0
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    gpu_hours: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    bytes: int | None = None
    bottleneck: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    other: Elsewhere | None = None


@dataclass(frozen=True)
class Elsewhere:
    """What a stage would take on another machine; `fits` is false where its memory is too small for the model."""

    seconds: float
    low: float
    high: float
    gpu_hours: float
    bottleneck: str
    fits: bool = True


@dataclass(frozen=True)
class Assumption:
    """A figure that an estimate rests on, and where it is from."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Estimate:
    """What a run would take, stage by stage.

    Attributes:
        upkeep_s: of the run besides its stages.
        left_out: stages whose time could not be told: no total holds them.
        on: the other machine that was asked about.
    """

    stages: Sequence[StageEstimate]
    upkeep_s: float = 0.0
    left_out: Sequence[str] = ()
    assumptions: Sequence[Assumption] = ()
    on: Machine | None = None

    @property
    def seconds(self) -> float:
        """Of all stages that could be told, and what a run does besides."""
        return sum(stage.seconds or 0.0 for stage in self.stages) + self.upkeep_s

    @property
    def range(self) -> tuple[float, float]:
        """Of `seconds`; the ranges of stages are added in squares, since they are drawn apart."""
        below = sum(((s.seconds or 0.0) - (s.low or 0.0)) ** 2 for s in self.stages if s.low is not None) ** 0.5
        above = sum(((s.high or 0.0) - (s.seconds or 0.0)) ** 2 for s in self.stages if s.high is not None) ** 0.5
        return self.seconds - below, self.seconds + above

    @property
    def seconds_there(self) -> float | None:
        """Of all stages that could be told, on the other machine."""
        if self.on is None:
            return None
        return sum(stage.other.seconds for stage in self.stages if stage.other is not None) + self.upkeep_s

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {
            **asdict(self),
            "seconds": self.seconds,
            "range": list(self.range),
            "seconds_there": self.seconds_there,
        }
