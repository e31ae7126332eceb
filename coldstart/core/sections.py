"""Define the settings of a pipeline that belong to no stage: where media come from, and how the engine works."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator


class Section(BaseModel):
    """Settings that refuse unknown names and do not change after they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Media(Section):
    """Settings of media: allowed sources and limits; null keeps the default of a limit."""

    roots: tuple[str, ...] = ()
    """Folders besides the manifest's own from which media may come; relative to the pipeline file."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that http(s) media may come from; none by default."""
    allowed_buckets: tuple[str, ...] = ()
    """Buckets that media may come from, such as `s3://photos`; none by default. They are read with this machine's
    credentials."""
    allowed_schemes: tuple[str, ...] = ()
    """Schemes of fsspec that media may come from, whatever the bucket or host; none by default."""
    max_image_bytes: int | None = Field(default=None, gt=0)
    """Bytes of a picture's file, at most."""
    max_video_bytes: int | None = Field(default=None, gt=0)
    """Bytes of a file of video or sound, at most."""
    max_pixels: int | None = Field(default=None, gt=0)
    """Width times height of a picture or a frame, at most."""
    min_side: int | None = Field(default=None, gt=0)
    """Least pixels of a picture's shorter side."""
    max_duration_s: float | None = Field(default=None, gt=0)
    """Seconds of a video, at most; a longer one is skipped."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Processor seconds one item may take before its worker is stopped; by the clock it may take ten times as long."""
    _folders: tuple[str, ...] | None = PrivateAttr(default=None)

    def with_folders(self, folders: Iterable[str]) -> Media:
        """Return the same settings with further folders that media may be read from."""
        media = self.model_copy()
        media._folders = tuple(dict.fromkeys((*(self._folders or ()), *folders)))
        return media

    def limits(self) -> dict[str, Any]:
        """Return the limits that the file states, by the names of `coldstart.media.guard.Limits`.

        `roots` are all folders that media may be read from, that of the manifest among them; None for settings that
        belong to no workspace and name none.
        """
        named = None if self._folders is None and not self.roots else (*self.roots, *(self._folders or ()))
        return {**self.model_dump(exclude_none=True), "roots": named}


class RayCluster(Section):
    """Settings of `engine: ray`; sizes are (least, most), between which Ray scales by the load."""

    address: str | None = None
    """A running cluster: `auto`, `HOST:PORT` or `ray://HOST:10001`; None starts one on this machine."""
    preparers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 8)
    """Actors that read and decode media."""
    computers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 8)
    """Actors that hold a model."""

    @field_validator("preparers", "computers")
    @classmethod
    def _ascending(cls, sizes: tuple[int, int]) -> tuple[int, int]:
        if sizes[0] > sizes[1]:
            raise ValueError("give the least, then the most")
        return sizes

    cpus: float = Field(default=1.0, gt=0)
    """Cores that Ray sets aside for each actor: threads of one that computes, worker processes of one that prepares."""
    gpus: float | None = Field(default=None, ge=0)
    """Share of a GPU for each actor that holds a model; None: one where the cluster has any, else none."""
    part: int = Field(default=128, ge=1)
    """Items of one part, which is done again as a whole where its actor dies."""
    restarts: int = Field(default=3, ge=0)
    """Number of times that a part whose actor died is done again, before its items are done one by one."""


WORKER_MEMORY_BYTES = 2 * 2**30
"""Enough for the largest picture and for video of eight thousand lines, within the default limits."""


class Engine(Section):
    """Settings of the engine; none changes results. `engine: ray` is short for `engine: {name: ray}`."""

    name: Literal["local", "ray"] = "local"
    """`local`: this machine. `ray`: actors of a Ray cluster, or of one that is started here (extra `ray`)."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes that read and decode media; on Ray, `ray.preparers` actors with `ray.cpus` each take their place."""
    worker_memory_bytes: int = Field(default=WORKER_MEMORY_BYTES, ge=2**28)
    """Memory at which one of these processes is stopped: a decompression bomb costs its item, not the machine."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    devices: Annotated[int, Field(ge=1)] | Literal["all"] | tuple[str, ...] = 1
    """Devices that compute at once, a process each: so many of the kind of `device`, all that there are, or those
    named, such as `[cuda:0, cuda:3]`. With `device: cpu`, so many processes that share out the cores."""

    @field_validator("devices", mode="before")
    @classmethod
    def _countable(cls, given: Any, others: ValidationInfo) -> Any:
        device = others.data.get("device", "auto")
        if given == "all" or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
            if given not in (1, "all") and (device == "mps" or ":" in device):
                raise ValueError(f"device {device} is one; give a kind of which there are several, as in device: cuda")
            return given
        named = isinstance(given, list | tuple) and all(
            isinstance(name, str) and re.fullmatch(r"cuda:\d+", name) for name in given
        )
        if not named or not given or len(set(given)) < len(given):
            raise ValueError("give all, a number from 1, or a list such as [cuda:0, cuda:1]")
        if device not in ("auto", "cuda"):
            raise ValueError(f"they are not of device {device}; leave device out")
        return given

    ray: RayCluster = Field(default_factory=RayCluster)
    """Settings of `name: ray`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the models; `auto` measures what the device does well."""
    commit_rows: int = Field(default=1000, ge=1)
    """Rows are written as soon as there are so many."""
    commit_s: float = Field(default=10.0, gt=0)
    """Rows are written after so many seconds, even where there are fewer than `commit_rows`."""
