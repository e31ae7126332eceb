"""Results of the tools that agents call. Texts of items stand in fields whose names begin with `untrusted_`.

Whoever reads an answer knows by the name of a field whether a person outside wrote it. Media and places on disk are
left out; an item is named by its id.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ToolResult(BaseModel):
    """Base of all results."""

    publication: str = Field(description="tag of the published version that this is from")
    notes: list[str] = Field(default_factory=list, description="remarks of the server, a line each")
    more: bool = Field(default=False, description="something was left out: ask for the next page, or for fewer items")


class Paged(ToolResult):
    """Base of results in pages."""

    next_cursor: str | None = Field(default=None, description="give it as `cursor` for the next page; null on the last")


class ItemLine(BaseModel):
    """Item in a list."""

    item_id: str
    kind: str | None = Field(default=None, description="product or video")
    untrusted_title: str | None = None
    untrusted_category: str | None = None
    untrusted_creator: str | None = None
    price: float | None = None
    untrusted_currency: str | None = Field(default=None, description="of the price, where the record has an attribute")
    created_at: str | None = Field(default=None, description="ISO 8601, UTC")
    cold: bool | None = Field(default=None, description="few or no interactions; null where that is not known")
    untrusted_match: dict[str, str] = Field(
        default_factory=dict, description="field -> where the words that were asked for stand"
    )


class FoundItem(ItemLine):
    """Item that was found, with what speaks for it."""

    score: float
    ranks: dict[str, int] = Field(default_factory=dict, description="space, or full_text -> place there, from 1")


class Found(Paged):
    """Items that a search found, best first."""

    items: list[FoundItem]


class Listed(Paged):
    """Items that meet conditions, in the order that was asked for."""

    items: list[ItemLine]
    total: int = Field(description="items that meet the conditions")


class CopyLine(BaseModel):
    """Item that shows the same as another one."""

    item_id: str
    kind: str | None = None
    untrusted_title: str | None = None
    duplicate_of: str = Field(description="id of its original")


class Copies(Paged):
    """Items that are copies of others."""

    items: list[CopyLine]
    total: int = Field(description="copies that there are, under these conditions")


class Claim(BaseModel):
    """Statement of a description that passed its checks."""

    name: str
    untrusted_value: str
    ground: str = Field(description="source that it rests on")


class Moment(BaseModel):
    """Words of a video at a time."""

    start_s: float
    end_s: float
    source: str = Field(description="speech, screen or shot")
    untrusted_text: str


class ItemFacts(ItemLine):
    """Fields of one item."""

    untrusted_description: str | None = None
    untrusted_tags: list[str] = Field(default_factory=list)
    untrusted_attributes: dict[str, str] = Field(default_factory=dict)
    untrusted_label: str | None = Field(default=None, description="class that was assigned to it")
    untrusted_summary: str | None = Field(
        default=None, description="written by the catalogue, and checked against the item"
    )
    untrusted_speech: str | None = Field(default=None, description="spoken in its video")
    untrusted_screen_text: str | None = Field(default=None, description="written on its pictures or frames")
    language: str | None = None
    duplicate_of: str | None = None
    copies: list[str] = Field(default_factory=list)


class ItemResult(ToolResult):
    """One item, with the parts that were asked for."""

    item: ItemFacts
    claims: list[Claim] | None = Field(default=None, description="null where `parts` did not ask for claims")
    timeline: list[Moment] | None = Field(default=None, description="null where `parts` did not ask for timeline")


class Matched(ItemLine):
    """Product that a video shows or names."""

    score: float
    frame_s: float | None = Field(default=None, description="second of the frame that is nearest to it")
    words_s: float | None = Field(default=None, description="second of the words that are nearest to it")
    untrusted_words: str | None = None


class Matches(ToolResult):
    """Products that a video shows or names, best first."""

    video: str
    items: list[Matched]


class Suggested(ItemLine):
    """Item of a list for a user."""

    rank: int
    score: float
    untrusted_reason: str | None = None
    sources: dict[str, int] = Field(default_factory=dict, description="channel that named it -> its place there")
    nearest: list[str] = Field(default_factory=list, description="ids of liked items because of which it is there")
    p: dict[str, float] = Field(default_factory=dict, description="outcome -> probability, or score if not calibrated")


class Ordered(BaseModel):
    """Order of a list by a model, or why it has none."""

    on: bool
    why: str


class Suggestions(ToolResult):
    """Items for one user or history, best first."""

    scored_by: str
    history: int = Field(description="liked items that it is computed from")
    ranked: Ordered | None = Field(default=None, description="by the ranker; null where none is fitted")
    reranked: Ordered | None = Field(default=None, description="by a reranker; null where `rerank` asked for none")
    calibrated: dict[str, bool] = Field(default_factory=dict, description="outcome -> whether p is a probability")
    items: list[Suggested]


class RankedLine(ItemLine):
    """Item of a ranking."""

    rank: int | None = Field(description="null for an unknown item")
    state: str = Field(
        description="known; new: without interactions and showings; unknown: in neither catalogue nor log"
    )
    score: float | None
    p: dict[str, float] = Field(description="outcome -> probability, or score if not calibrated")
    interval: dict[str, tuple[float, float]] = Field(description="outcome -> 95 % interval of its probability")


class RankedItems(Paged):
    """Items for one user, best first, unknown ones last."""

    at: str = Field(description="time of the request: give it with `cursor`")
    model: str
    calibrated: dict[str, bool] = Field(description="outcome -> whether p is a probability")
    known_user: bool = Field(description="met or shown anything before")
    total: int = Field(description="items ranked")
    items: list[RankedLine]


class Person(BaseModel):
    """User of an audience."""

    user_id: str
    rank: int
    score: float
    untrusted_reason: str | None = None


class Audience(ToolResult):
    """Users who are most likely to like an item, best first."""

    item_id: str
    scored_by: str
    users: int = Field(description="users scored")
    met: int = Field(description="users left out, who interacted with it")
    people: list[Person]


class StageLine(BaseModel):
    """Items in each state of one stage."""

    stage: str
    kind: str
    fresh: int
    failed: int
    filtered: int
    duplicate: int
    pending: int
    reasons: dict[str, int] = Field(default_factory=dict)


class StatusResult(ToolResult):
    """Counts of the workspace and its stages."""

    items: int
    served: int
    stages: list[StageLine]
    interactions: dict[str, Any] | None = None
    counted_at: str


class OutcomeLine(BaseModel):
    """Showings by one outcome."""

    stated: int = Field(description="showings that state it")
    above_zero: int


class ImpressionsResult(ToolResult):
    """Counts of the showings that were logged."""

    rows: int = Field(description="showings")
    days: int
    first: str | None
    last: str | None
    users: int
    items: int
    known_items: int = Field(description="of the items shown, those that the workspace has")
    catalogue_items: int = Field(description="items of the published catalogue")
    without_outcome: int
    with_propensity: int
    outcomes: dict[str, OutcomeLine] = Field(description="outcome -> counts")


class StageState(BaseModel):
    """State of an item in one stage."""

    stage: str
    kind: str
    state: str = Field(description="fresh, pending, failed, filtered or duplicate")
    reason: str = ""
    words: str = Field(default="", description="the reason in words")
    untrusted_detail: str = ""
    next: str = Field(default="", description="what would change it")


class Removed(BaseModel):
    """Claim of a description that did not pass its checks."""

    name: str
    untrusted_value: str
    reason: str


class Explained(ToolResult):
    """State of an item in every stage, with reasons."""

    item_id: str
    served: bool = Field(description="it is in the published catalogue, so that searches find it")
    why_not: str = Field(default="", description="what keeps it out")
    stages: list[StageState]
    removed_claims: list[Removed] = Field(default_factory=list)
    duplicate_of: str | None = None


class Difference(BaseModel):
    """Field in which items differ."""

    untrusted_field: str = Field(description="attributes as attributes.NAME")
    untrusted_values: dict[str, str | None] = Field(description="item -> its value")


class Compared(ToolResult):
    """Items side by side."""

    items: list[ItemLine]
    untrusted_same: list[str] = Field(description="fields with one value for all")
    differences: list[Difference]
    cosines: dict[str, float] = Field(description="space -> cosine of the first two items")


class Group(BaseModel):
    """One group of an aggregate."""

    untrusted_group: str | None = Field(description="value that its items have; null where they have none")
    value: float | int | str | None
    items: int


class Aggregate(ToolResult):
    """A number over items, or one for each group of them."""

    measure: str
    of: str | None = Field(description="field that is measured; null for a count")
    group_by: str | None
    items: int = Field(description="items that meet the conditions")
    value: float | int | str | None = Field(description="over all of them; a time in ISO 8601")
    groups: list[Group] = Field(description="the largest first")
    groups_total: int


class FieldInfo(BaseModel):
    """Field that `where`, `group_by` and `order_by` may name."""

    untrusted_name: str = Field(description="attributes as attributes.NAME")
    type: str
    filled: int = Field(description="items that have a value")
    distinct: int | None = None
    untrusted_values: list[str] = Field(default_factory=list, description="frequent values")
    least: str | None = None
    greatest: str | None = None


class About(ToolResult):
    """Counts, fields and spaces of the catalogue: read this first."""

    items: int
    kinds: dict[str, int]
    fields: list[FieldInfo]
    spaces: list[str]
    languages: dict[str, int]
    interactions: bool
    users: bool = Field(description="tools may answer about users")
    how_to_filter: str = (
        "where is a condition in SQL: price < 20 AND category = 'Fruit' AND attributes.colour IN ('blue', 'navy'); "
        "texts by title ILIKE '%milk%', times by created_at >= '2026-09-01', tags by array_has(tags, 'apple')"
    )


class JobState(ToolResult):
    """Write that was accepted, and how far it is."""

    job: str = Field(description="ask for it by the tool job")
    kind: str = Field(description="items, interactions, removal or decisions")
    state: str
    rows: int


class ReviewLine(BaseModel):
    """Item or claim that waits for a person."""

    item_id: str
    kind: str | None = None
    state: str = Field(description="failed, filtered, duplicate or claim")
    stage: str
    reason: str
    words: str = Field(description="the reason in words")
    untrusted_title: str | None = None
    untrusted_detail: str = ""
    claim: str | None = Field(default=None, description="name of a removed claim")
    untrusted_value: str | None = Field(default=None, description="its text")
    original: str | None = Field(default=None, description="item that it is a copy of")
    actions: list[str] = Field(description="actions of decide that apply")


class ReviewQueue(Paged):
    """Items and claims that wait for a person."""

    entries: list[ReviewLine]
    counts: dict[str, int] = Field(description="state -> entries, of all pages")


class LedgerLine(BaseModel):
    """Item without a row in one stage, and why."""

    stage: str
    item_id: str
    state: str
    reason: str
    words: str
    untrusted_detail: str = ""


class LedgerResult(Paged):
    """Items that were turned away, by stage and item."""

    entries: list[LedgerLine]
    total: int
