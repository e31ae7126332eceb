"""A capability that can be evaluated: its name, what it costs, and the function that gives its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.encoders import Encoder, Passport
from coldstart.evaluate.rows import Row
from coldstart.media.limits import Limits
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState
from coldstart.store.interactions import InteractionTable

if TYPE_CHECKING:
    from coldstart.store.published import Published

QUICK = 100
"""Most queries, pictures or items of a kind that `quick` measures."""


@dataclass(frozen=True)
class Context:
    """A workspace under evaluation, and how thoroughly it is evaluated.

    Attributes:
        published: opens the catalog that is served; encoder_for: loads the encoder of queries in a space.
        frames_of: reads unit vectors [T, D] of the frames of videos in a space; limits: of media.
        quick: measure samples of `QUICK`, and leave out what takes minutes.
        limit: most items that are described; None: those that the fit held out, at most `DESCRIBED`.
        details: whole reports of capabilities that have a page of their own, by name, as plain values; filled as they
            are measured.
    """

    store: Store
    pipeline: Pipeline
    progress: Progress
    published: Callable[[], Published]
    encoder_for: Callable[[Passport], Encoder]
    frames_of: Callable[[str, Sequence[str]], Mapping[str, NDArray[Any]]]
    limits: Limits
    quick: bool = False
    limit: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """URI of the workspace, for commands."""
        return self.store.uri

    @cached_property
    def state(self) -> PipelineState:
        """State of the pipeline's stages."""
        return PipelineState(self.store, self.pipeline)

    @cached_property
    def kinds(self) -> Mapping[str, int]:
        """Number of items by kind, `product` or `video`."""
        if not self.store.has(ITEMS):
            return {}
        kinds = self.store.read(ITEMS, ["kind"])["kind"].to_pylist()
        return {kind: kinds.count(kind) for kind in sorted({kind for kind in kinds if kind})}

    @cached_property
    def interactions(self) -> int:
        """Number of interactions of the workspace."""
        return InteractionTable(self.store).count()

    def sample(self, most: int) -> int:
        """Return how many to measure of at most so many."""
        return min(most, QUICK) if self.quick else most

    def command(self, text: str) -> str:
        """Write a command over this workspace: `coldstart TEXT --workspace URI`."""
        return f"coldstart {text} --workspace {self.uri}"


@dataclass(frozen=True)
class Capability:
    """One capability.

    Attributes:
        name: as `--only` and `--skip` take it; title: on the page.
        measure: gives its rows; a fault that it raises becomes a row.
        seconds: estimates its processor time in seconds, of the workspace as it is.
    """

    name: str
    title: str
    measure: Callable[[Context], Sequence[Row]]
    seconds: Callable[[Context], float]
