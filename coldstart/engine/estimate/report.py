"""Report an estimate, stage by stage, with its assumptions; store the last one to compare the run with it, once.

It is stored in the user's cache folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.core.uris import plain_uri
from coldstart.engine.estimate.forecast import Machine

KEEP_S = 24 * 3600.0
"""An older estimate is of another day's machine and manifest."""


_OTHER_ROWS = 0.1
"""Share by which the rows of the first stage may differ: beyond, it was another catalogue that was estimated."""


@dataclass(frozen=True)
class ComparedTimes:
    """Estimated and measured seconds; `rows` as estimated and as done."""

    stage: str
    estimated_s: float
    took_s: float
    estimated_rows: int
    rows: int

    @property
    def ratio(self) -> float | None:
        """Estimated over measured seconds; None where the run took no time."""
        return self.estimated_s / self.took_s if self.took_s else None


@dataclass(frozen=True)
class Comparison:
    """An estimate against the run that it was of.

    Attributes:
        estimated_s, took_s: of the whole run, less the stages that are `left_out`, of which nothing was estimated.
    """

    stages: Sequence[ComparedTimes]
    estimated_s: float
    took_s: float
    left_out: Sequence[str] = ()

    @property
    def ratio(self) -> float:
        """Estimated over measured seconds."""
        return self.estimated_s / max(self.took_s, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {
            "estimated_s": self.estimated_s,
            "took_s": self.took_s,
            "ratio": self.ratio,
            "left_out": list(self.left_out),
            "stages": [{**vars(stage), "ratio": stage.ratio} for stage in self.stages],
        }


@dataclass(frozen=True)
class EstimateRequest:
    """Request of a run, to which an estimate applies: an estimate of another request says nothing."""

    uri: str
    pipeline: Pipeline
    only: tuple[str, ...] = ()
    start: str | None = None
    limit: int | None = None

    @property
    def path(self) -> Path:
        """Path of the stored estimate."""
        uri = plain_uri(self.uri)
        uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())
        key = digest([uri, self.pipeline.raw, sorted(self.only), self.start, self.limit])
        return platformdirs.user_cache_path("coldstart") / "estimates" / f"{key}.json"


def save_estimate(request: EstimateRequest, estimated: Mapping[str, Any]) -> None:
    """Save an estimate as JSON; where the folder cannot be written, none is compared later."""
    try:
        request.path.parent.mkdir(parents=True, exist_ok=True)
        draft = request.path.with_suffix(".draft")
        draft.write_text(json.dumps({"at": time.time(), "estimate": estimated}), "utf-8")
        draft.replace(request.path)
    except OSError:
        pass


def compare_estimate(
    request: EstimateRequest, took: Mapping[str, tuple[int, float]], seconds: float
) -> Comparison | None:
    """Compare the stored estimate with the run, and delete it; None without one of these rows.

    Args:
        took: stage -> items that it did or turned away, and its seconds; seconds: of the whole run.
    """
    try:
        stored = json.loads(request.path.read_text("utf-8"))
        request.path.unlink()
    except (OSError, ValueError):
        return None
    if time.time() - stored["at"] > KEEP_S:
        return None
    stages = [stage for stage in stored["estimate"]["stages"] if stage["stage"] in took and stage["rows"]]
    first = stages[0] if stages else None
    if first is None or abs(took[first["stage"]][0] - first["rows"]) > _OTHER_ROWS * first["rows"]:
        return None
    left_out = [stage["stage"] for stage in stages if stage["seconds"] is None]
    compared = [
        ComparedTimes(s["stage"], s["seconds"], took[s["stage"]][1], s["rows"], took[s["stage"]][0])
        for s in stages
        if s["seconds"] is not None
    ]
    spared = sum(took[stage][1] for stage in left_out)
    return Comparison(compared, stored["estimate"]["seconds"], seconds - spared, left_out)


@dataclass(frozen=True)
class StageEstimate:
    """Estimate of one stage.

    Attributes:
        rows: items it would do.
        probed: items that were done to find out; `lost`: how many of those were turned away.
        seconds: time for all rows on this machine, None where it could not be estimated; `low`, `high`: its range by
            the spread of the probed items.
        gpu_hours: that GPUs of this machine are held.
        memory_bytes: of this process and its workers at most, while it was probed; `gpu_bytes`: of the GPU.
        bytes: disk for all rows, before compaction.
        bottleneck: `decode`, `model`, `wait` (for somebody else's machine), `commit`, `start` or `whole`: what most of
            the time goes into. `parts`: seconds by those words.
        note: reason for a missing figure, or the replacement that was probed.
        other: the same on the other machine.
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
    other: OtherMachine | None = None


@dataclass(frozen=True)
class OtherMachine:
    """Estimate of a stage on another machine; `fits` is false where its memory is too small for the model."""

    seconds: float
    low: float
    high: float
    gpu_hours: float
    bottleneck: str
    fits: bool = True


@dataclass(frozen=True)
class Assumption:
    """Assumption of an estimate: a figure and its source."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Estimate:
    """Estimate of a run, stage by stage.

    Attributes:
        upkeep_s: of the run besides its stages.
        left_out: stages whose time could not be estimated: no total contains them.
        on: the other machine.
    """

    stages: Sequence[StageEstimate]
    upkeep_s: float = 0.0
    left_out: Sequence[str] = ()
    assumptions: Sequence[Assumption] = ()
    on: Machine | None = None

    @property
    def seconds(self) -> float:
        """Seconds of all stages that could be estimated, and of what a run does besides."""
        return sum(stage.seconds or 0.0 for stage in self.stages) + self.upkeep_s

    @property
    def range(self) -> tuple[float, float]:
        """Range of `seconds`; the ranges of stages are added in squares, since they are drawn apart."""
        below = sum(((s.seconds or 0.0) - (s.low or 0.0)) ** 2 for s in self.stages if s.low is not None) ** 0.5
        above = sum(((s.high or 0.0) - (s.seconds or 0.0)) ** 2 for s in self.stages if s.high is not None) ** 0.5
        return self.seconds - below, self.seconds + above

    @property
    def seconds_there(self) -> float | None:
        """Seconds of all stages that could be estimated, on the other machine."""
        if self.on is None:
            return None
        return sum(stage.other.seconds for stage in self.stages if stage.other is not None) + self.upkeep_s

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {
            **asdict(self),
            "seconds": self.seconds,
            "range": list(self.range),
            "seconds_there": self.seconds_there,
        }
