"""Results about the state of a served workspace: counts, ledger, review, runs, publications, maps, evaluations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from coldstart.serve.results import Medium, Result


class StageCounts(BaseModel):
    """Items in each state of one stage."""

    stage: str
    kind: str
    fresh: int
    failed: int
    filtered: int
    duplicate: int
    pending: int
    reasons: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    fault: str = ""


class Status(Result):
    """Counts of a workspace and its stages, at most as old as `counted_at` says."""

    items: int
    served: int
    stages: list[StageCounts]
    spaces: list[str]
    fields: dict[str, str] = Field(description="columns that `where` may name, with their types")
    languages: dict[str, int] = Field(default_factory=dict)
    interactions: dict[str, Any] | None = None
    counted_at: str = Field(description="ISO 8601, UTC")


class OutcomeCounts(BaseModel):
    """Showings by one outcome."""

    stated: int = Field(description="showings that state it")
    above_zero: int = Field(description="those of them where it is above 0")


class ImpressionCounts(Result):
    """Counts of the showings that were logged: what was shown to whom, and what came of it."""

    rows: int = Field(default=0, description="showings")
    days: int = Field(default=0, description="with a showing, in UTC")
    first: str | None = Field(default=None, description="time of the first showing, ISO 8601, UTC")
    last: str | None = None
    requests: int = Field(default=0, description="that are named")
    users: int = 0
    items: int = 0
    known_items: int = Field(default=0, description="those of `items` that the workspace has")
    catalogue_items: int = Field(description="items of the published catalogue, to compare with")
    without_outcome: int = Field(default=0, description="showings that state no outcome")
    with_propensity: int = Field(default=0, description="showings that state a propensity")
    outcomes: dict[str, OutcomeCounts] = Field(default_factory=dict, description="name -> counts")
    early: int = Field(default=0, description="outcomes that stand before their showing, and are kept apart")
    rejected: int = Field(default=0, description="rows that were turned away")


class LedgerEntry(BaseModel):
    """Item without a row in one stage, and why."""

    stage: str
    item_id: str
    state: str = Field(description="failed, filtered or duplicate")
    reason: str
    words: str = Field(description="the reason in words")
    detail: str
    at: str | None = None


class Ledger(Result):
    """Items that were turned away, by stage and item."""

    entries: list[LedgerEntry]
    total: int
    next_cursor: str | None = None


class Run(BaseModel):
    """One run of a stage."""

    stage: str
    started_at: str
    seconds: float
    report: dict[str, Any]


class Runs(Result):
    """Runs of stages, newest first."""

    runs: list[Run]


class SpaceIndex(BaseModel):
    """Index of one space."""

    space: str
    index_type: str
    rows: int
    dim: int
    recall: float = Field(description="share of the true nearest that the index finds")
    recall_filtered: float | None = None
    ok: bool


class PublicationInfo(BaseModel):
    """Published version of the catalogue."""

    tag: str
    published_at: str
    rows: int
    spaces: list[SpaceIndex]


class Publications(Result):
    """Published versions that are stored, newest first."""

    publications: list[PublicationInfo]


class ItemMap(Result):
    """Map of the catalogue: two coordinates an item, near where vectors are near; lists have one entry a point."""

    space: str
    spaces: list[str] = Field(description="spaces that can be shown")
    method: str = Field(description="pca: principal components of the space")
    total: int = Field(description="items with a vector in the space")
    shown: int = Field(description="points")
    explained: list[float] = Field(description="share of the variance that x and y have")
    item_id: list[str]
    x: list[float] = Field(description="-1 to 1, on the scale of y")
    y: list[float]
    kind: list[str | None]
    cold: list[bool | None]
    category: list[int | None] = Field(description="place in `categories`; null without one, or with a rare one")
    categories: list[str] = Field(description="most frequent first")


class CatalogueCounts(BaseModel):
    """Counts of one publication, or of the items that were created in one week."""

    name: str = Field(description="tag of the publication, or week", examples=["2026-W40"])
    at: str = Field(description="ISO 8601: when it was published, or the first day of the week")
    items: int
    kinds: dict[str, int]
    categories: dict[str, int] = Field(description="the most frequent, and `(other)`")
    languages: dict[str, int] = Field(description="code -> items; `und`: does not show")
    without_text: int = Field(description="items with neither title nor description")
    without_media: int
    copies: int = Field(description="items that are linked to an original")


class Counts(Result):
    """Counts of the catalogue over time, oldest first."""

    by: str
    rows: list[CatalogueCounts]


class Interval(BaseModel):
    """Value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Baseline(BaseModel):
    """Value that another is compared with, and its name."""

    name: str = Field(max_length=500)
    interval: Interval


class EvaluationRow(BaseModel):
    """One question of an evaluation and its answer; `coldstart schema --of output` describes the fields."""

    model_config = ConfigDict(extra="ignore")

    capability: str = Field(max_length=100)
    question: str = Field(max_length=1000)
    sentence: str = Field("", max_length=2000)
    statement: str = Field("", max_length=1000)
    measure: str = Field("", max_length=100)
    n: int = 0
    of: str = Field("", max_length=100)
    value: Interval | None = None
    baseline: Baseline | None = None
    difference: Interval | None = Field(None, description="paired, the value less the baseline")
    verdict: str = Field("", max_length=100)
    why: str = Field("", max_length=2000)
    is_share: bool = True
    fewer_is_better: bool = False
    method: str = Field("", max_length=2000)
    command: str = Field("", max_length=1000)
    headline: bool = False


class Evaluation(BaseModel):
    """Results of `coldstart evaluate all`."""

    model_config = ConfigDict(extra="ignore")

    made_at: str = Field(max_length=100, description="ISO 8601")
    publication: str | None = Field(None, max_length=100, description="tag of what was evaluated")
    is_current: bool = Field(False, description="that is served now")
    quick: bool = Field(False, description="samples were measured")
    settings: str = Field("", max_length=100, description="digest of the settings in force")
    items: dict[str, int] = Field(default_factory=dict, max_length=100)
    rows: list[EvaluationRow] = Field(max_length=1000)
    verdicts: dict[str, str] = Field(default_factory=dict, max_length=100, description="verdict -> words for it")


class Evaluations(Result):
    """Evaluations that were kept, newest first."""

    evaluations: list[Evaluation]


class ReviewEntry(BaseModel):
    """Item or claim that waits for a person."""

    item_id: str
    title: str | None = None
    kind: str | None = None
    state: str = Field(description="failed, filtered, duplicate or claim")
    stage: str
    reason: str = Field(description="its code")
    words: str = Field(description="the reason in words")
    detail: str
    claim: str | None = Field(None, description="name of a removed claim")
    value: str | None = Field(None, description="its text")
    original: str | None = Field(None, description="item that it is a copy of")
    media: list[Medium] = Field(default_factory=list)
    actions: list[str] = Field(description="decisions that apply: approve, reject, correct")


class ReviewQueue(Result):
    """Items and claims that wait for a person."""

    entries: list[ReviewEntry]
    counts: dict[str, int] = Field(description="state -> entries, of all pages")
    next_cursor: str | None = None


class Decision(BaseModel):
    """Decision of a person."""

    decision_id: str
    item_id: str
    action: str = Field(description="approve, reject or correct")
    subject: str = Field(description="item, stage:NAME, field:NAME or claim:NAME")
    value: Any = None
    before: Any = Field(None, description="value of the field before")
    reason: str
    by: str
    at: str = Field(description="ISO 8601, UTC")
    in_force: bool = Field(description="neither undone nor replaced by a later one")
    undone_at: str | None = None
    undone_by: str | None = None
    undone_reason: str | None = None


class Decisions(BaseModel):
    """Decisions, newest first."""

    decisions: list[Decision]
    next_cursor: str | None = None


class Me(BaseModel):
    """Rights of the sender of a request."""

    name: str
    scopes: list[str] = Field(description="of read, write and review")
    writable: bool = Field(description="the server takes in changes")
