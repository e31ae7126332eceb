"""Define the protocols of stages, and find the module of each stage kind. Knows no engines, tables or commands.

A **map** stage makes one row an item: `prepare` runs on a CPU worker for one item and may turn it away with `Reject`;
`compute` runs on the device for one batch. A **source** stage is a map stage that brings its own rows. A **catalog**
stage reads the catalogue at once. Stages are built by their module's `build(name, settings, pipeline)` from plain
settings, so that any engine can build them again in another process or on another machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from coldstart.core.progress import Progress
from coldstart.errors import redact_urls

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import TypeIs


Row = dict[str, Any]
State = Literal["failed", "filtered", "duplicate"]


@dataclass(frozen=True)
class LedgerRow:
    """Verdict on one item that has no fresh row of one stage.

    Attributes:
        row_key: the key that was tried; the verdict holds for as long as the key does.
        state: `failed`, `filtered` or `duplicate`.
        reason: snake_case word; `detail`: the value and the limit, for a person.
    """

    stage: str
    item_id: str
    row_key: str
    state: State
    reason: str
    detail: str


class Reject(Exception):  # noqa: N818  (a verdict on one item, not a fault of the program)
    """Turn one item away, with the reason that its ledger row will carry.

    Args:
        reason: snake_case word that tests and filters rely on, such as `too_many_pixels`.
        detail: the value and the limit, for a person; secrets of URLs are left out of what is stored and shown.
        state: `failed`, `filtered` or `duplicate`.
    """

    def __init__(self, reason: str, detail: str = "", state: State = "failed") -> None:
        detail = redact_urls(detail)
        super().__init__(reason, detail, state)  # all three as args: the exception crosses process borders
        self.reason = reason
        self.detail = detail
        self.state = state

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Work:
    """One item of work.

    Attributes:
        item_id: the item.
        key: the key that its row will carry, and that its verdict is filed under if it is turned away.
        row: what `prepare` gets; or the verdict, where the item is turned away before that.
    """

    item_id: str
    key: str
    row: Row | Reject


Prepare = Callable[[Row], tuple[Any, float]]
"""Item row -> (data for `compute`, its cost in the stage's own unit such as images or tokens)."""


@runtime_checkable
class MapStage(Protocol):
    """A stage that makes one row an item.

    Attributes:
        name: the stage as the pipeline file names it.
        kind: the module that it is built by.
        version: raised by hand when the code's results change.
        reads: field -> name of the earlier stage whose row `prepare` finds under it (None where that stage turned the
            item away), besides the item's own fields.
        item_fields: fields of the item that `prepare` gets and that the key of its row rests on, as
            `coldstart.core.item_fields` names them; None for the whole record.
        table: the workspace table its rows go to.
        key_column: the column that holds the key by which a row is fresh or stale.
        schema: `pyarrow.Schema` of that table, with `item_id` and the key column.
        batch_cost: budget of cost for one batch.
        isolated: whether `prepare` may hang or crash, and so runs in worker processes with a deadline.
        deadline_s: processor seconds that one `prepare` may take there; ten times as long by the clock.
        on_device: whether `compute` uses a device; one that does not is not spread over several.
    """

    name: str
    kind: str
    version: int
    reads: Mapping[str, str]
    item_fields: Collection[str] | None
    table: str
    key_column: str
    schema: pa.Schema
    batch_cost: float
    isolated: bool
    deadline_s: float
    on_device: bool

    def fingerprint(self) -> Mapping[str, Any]:
        """Return everything besides the fields and rows read that changes results, as JSON values; loads no weights."""

    def preparer(self) -> Prepare:
        """Build a picklable function that prepares one item. Importing it must not import torch.

        It raises `Reject` for an item that cannot be used.
        """

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        """Compute the results of prepared data, in the same order. Loads the model on first use."""

    def notes(self, workspace: Any) -> list[str]:
        """List notes for a person on the stage's rows (texts over the model's limit, say), a line each."""


class MapStageDefaults:
    """Values of a map stage that states nothing else; holds no state."""

    version: int = 1
    key_column: str = "row_key"
    reads: Mapping[str, str] = MappingProxyType({})
    item_fields: Collection[str] | None = None
    isolated: bool = False
    on_device: bool = True

    def notes(self, workspace: Any) -> list[str]:
        """Return no notes."""
        return []


@runtime_checkable
class SourceStage(MapStage, Protocol):
    """A map stage that brings its own rows."""

    def entries(self) -> Iterator[Work]:
        """Read all rows of the source, in its order."""

    def check_source(self) -> None:
        """Open the source and read its first row.

        Raises:
            ColdstartError: that cannot be done.
        """

    def forgotten(self, item_ids: Iterable[str]) -> list[str]:
        """Select the ledger entries whose rows this source no longer has."""


@runtime_checkable
class KnowsRows(Protocol):
    """A source that need not check a row that it read before, where nothing it was made of has changed."""

    def entries_but(self, known: Any) -> Iterator[Work]:
        """Read all rows as `entries`; the work of one that is `known` holds no more than its item and key.

        Args:
            known: a `coldstart.store.known_rows.KnownRows`; rows that are checked now are added to it.
        """


@runtime_checkable
class Gate(Protocol):
    """A stage that blocks items for the stages after it, by its rows and its present settings."""

    def blocked(self, workspace: Any) -> Mapping[str, Reject]:
        """Find the blocked items and the reason of each. Other settings change them without any row made anew."""


@runtime_checkable
class CatalogStage(Protocol):
    """A stage that reads the whole catalogue and makes one result."""

    name: str
    kind: str

    def expected(self, workspace: Any) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items that it takes, and the verdict on each other item."""

    def present(self, workspace: Any) -> dict[str, str]:
        """Read the keys of the items in its last result."""

    def run(self, workspace: Any, progress: Progress) -> tuple[int, list[str]]:
        """Make the result. Returns the number of changed rows, and notes for a person.

        A terminal shows the first line of a note; JSON has further ones, too.

        Args:
            progress: its `meter(name, total)` counts items as they end, for a stage that takes long.
        """


@runtime_checkable
class FitStage(CatalogStage, Protocol):
    """A catalog stage that fits a model: it makes one artifact of many rows.

    `run` fits where nothing was fitted, or under other settings. Rows that came or changed since do not set it off by
    themselves, since all that was made with the artifact would have to be made anew: they are pending until `refit`.
    """

    def refit(self, workspace: Any, progress: Progress) -> tuple[int, list[str]]:
        """Run, and fit anew where rows came or changed since."""


@runtime_checkable
class Resolves(Protocol):
    """A catalog stage whose settings name models, prompts or other stages that are not found when it is built."""

    def resolve(self) -> None:
        """Find what the settings name; loads no weights.

        Raises:
            NotFitted: a fit is to come before it.
            ColdstartError: one of them is not found.
        """


@runtime_checkable
class Forecasts(Protocol):
    """A fit stage that can forecast the time of a fit."""

    def forecast(self, workspace: Any, rows: int, progress: Progress) -> tuple[float, float, float]:
        """Forecast the seconds of a fit on so many rows: at least, most likely, at most.

        Args:
            workspace: a temporary one with a few of the rows; what is fitted on them there, to find out, lets the
                stages after it be probed too.

        Raises:
            ColdstartError: there are too few rows to tell.
        """


def is_map(stage: object) -> TypeIs[MapStage]:
    """Tell whether a stage makes rows item by item, by its class: a property of the stage may wait for a fit."""
    return hasattr(type(stage), "preparer")


def is_source(stage: object) -> TypeIs[SourceStage]:
    """Tell whether a stage is a map stage that brings its own rows."""
    return is_map(stage) and hasattr(type(stage), "entries")


_MODULES = {
    "ingest": "coldstart.ingest.stage",
    "understand.fingerprint": "coldstart.understand.stages.fingerprint",
    "understand.duplicates": "coldstart.understand.stages.duplicates",
    "understand.quality": "coldstart.understand.stages.quality",
    "understand.shots": "coldstart.understand.stages.shots",
    "understand.speech": "coldstart.understand.stages.speech",
    "understand.screen": "coldstart.understand.stages.screen",
    "understand.evidence": "coldstart.understand.stages.evidence",
    "understand.safety": "coldstart.understand.stages.safety",
    "embed": "coldstart.embed.stage",
    "label": "coldstart.embed.label_stage",
    "align.text_image": "coldstart.align.stage",
    "align.behaviour": "coldstart.recommend.fit_stage",
    "align.sids": "coldstart.semantic_ids.fit_stage",
    "behaviour": "coldstart.recommend.vectors_stage",
    "sids": "coldstart.semantic_ids.ids_stage",
    "describe.grounds": "coldstart.describe.stages.grounds",
    "describe.attributes": "coldstart.describe.stages.attributes",
    "describe.write": "coldstart.describe.stages.write",
    "describe.check": "coldstart.describe.stages.check",
    "finetune.describe": "coldstart.describe.stages.finetune",
    "finetune.recall": "coldstart.semantic_ids.recall_stage",
    "finetune.union": "coldstart.rank.union_stage",
    "finetune.rank": "coldstart.rank.fit_stage",
    "finetune.rerank": "coldstart.rerank.fit_stage",
    "index": "coldstart.search.index",
}
"""Kind of a stage -> the module with its `Settings` and `build`. The kinds of a group stand in the order of running."""

SPACES = ("embed", "behaviour")
"""Kinds of stages whose rows are vectors of a space."""
GATES = ("understand.duplicates", "understand.quality", "understand.safety")
"""Kinds of stages that keep items from the stages after them; see `Gate`."""

_ON_DEMAND = frozenset(
    {
        "align.behaviour",
        "align.sids",
        "describe.attributes",
        "finetune.recall",
        "finetune.union",
        "finetune.rank",
        "finetune.rerank",
    }
)
"""Parts of a group that a pipeline has only where it names them: two need interactions, one stands after the spaces
that it codes, and with attributes on, a workspace from before they were would write all descriptions again."""


def kinds() -> list[str]:
    """List all stage kinds, sorted; those in a group are `group.part`."""
    return sorted(_MODULES)


def groups() -> list[str]:
    """List the groups of stages, sorted."""
    return sorted({kind.partition(".")[0] for kind in _MODULES if "." in kind})


def parts(group: str) -> list[str]:
    """List the parts of a group, in the order in which they run."""
    return [kind.partition(".")[2] for kind in _MODULES if kind.startswith(f"{group}.")]


def on_demand(kind: str) -> bool:
    """Tell whether this part of a group runs only in pipelines that name it."""
    return kind in _ON_DEMAND


def stage_module(kind: str) -> Any:
    """Import the module of one stage kind, with `Settings` (a pydantic model) and `build`.

    Raises:
        KeyError: there is no such kind.
    """
    return importlib.import_module(_MODULES[kind])
