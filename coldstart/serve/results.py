"""Results of the served catalogue: what HTTP answers hold as JSON, and tools of the Model Context Protocol return.

Fields have the names that `--json` of the command line gives them; `coldstart schema --of output` describes those.
Places on the disk of the server are left out: media have links to the server instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from coldstart.search.search import Hit


_FOLDERS = re.compile(r"(?:file://|(?<![\w:/.]))/(?:[^\s/:'\"`]+/)+(?=[^\s/:'\"`])")


def without_folders(text: str) -> str:
    """Leave of each file that a text names its name alone: where it is on this machine concerns no client."""
    return _FOLDERS.sub("", text)


def hide_folders(found: Any) -> Any:
    """Apply `without_folders` to all that is called `detail` in plain data, in place."""
    for name, value in found.items() if isinstance(found, dict) else ():
        if name == "detail" and isinstance(value, str):
            found[name] = without_folders(value)
        else:
            hide_folders(value)
    for value in found if isinstance(found, list | tuple) else ():
        hide_folders(value)
    return found


class Result(BaseModel):
    """Base of all results."""

    publication: str = Field(description="tag of the published version that this is from", examples=["pub-000012"])
    notes: list[str] = Field(default_factory=list, description="remarks, a line each")


class Medium(BaseModel):
    """One picture, video or sound of an item."""

    role: str = Field(description="image, video or audio")
    href: str = Field(description="link to it on this server", examples=["/v1/items/clip-7/media/0"])


class ItemSummary(BaseModel):
    """Item in a list."""

    item_id: str
    kind: str | None = Field(None, description="product or video")
    title: str | None = None
    category: str | None = None
    price: float | None = None
    creator: str | None = None
    cold: bool | None = Field(None, description="few or no interactions; null where that is not known")
    media: list[Medium] = Field(default_factory=list)


class SearchHit(ItemSummary):
    """Item that a search found."""

    score: float = Field(description="0: as near as the catalogue on average; 1: as near as right items are")
    ranks: dict[str, int] = Field(description="space, or full_text -> place there, from 1")
    distances: dict[str, float] = Field(description="space -> 1 - cosine")
    copies: list[str] = Field(description="items that are linked to it as copies")


class SearchResult(Result):
    """Items that a search found, best first."""

    hits: list[SearchHit]
    next_cursor: str | None = Field(None, description="give it as `cursor` for the next page; null on the last")


class ItemList(Result):
    """Items of the catalogue in order of their ids."""

    items: list[ItemSummary]
    total: int = Field(description="items that meet the conditions")
    next_cursor: str | None = None


class Item(Result):
    """One item as it is published."""

    item: dict[str, Any] = Field(description="its fields")
    media: list[Medium]
    cold: bool | None = None
    copies: list[str] = Field(default_factory=list, description="items that are linked to it as copies")


class ItemReport(Result):
    """All that is known of one item, as `coldstart show --json` gives it."""

    report: dict[str, Any]
    media: list[Medium]


class Explanation(BaseModel):
    """Frame or words of a video that speak for a product."""

    source: str = Field(description="frame, picture, title, speech, screen or text")
    second: float | None = Field(None, description="when; null where it has no time")
    text: str = ""
    cosine: float
    channel: str
    seconds: list[float] = Field(default_factory=list)


class MatchedProduct(ItemSummary):
    """Product that a video shows or names."""

    score: float
    frame: Explanation | None = None
    words: Explanation | None = None
    channels: dict[str, dict[str, Any]] = Field(default_factory=dict)
    copies: list[str] = Field(default_factory=list)


class MatchResult(Result):
    """Products that a video shows or names, best first."""

    used: list[str] = Field(description="what was compared, in words")
    matches: list[MatchedProduct]
    channels: list[dict[str, Any]]
    weights: str = Field(description="default or fitted")
    candidates: int
    exact: bool


class Source(BaseModel):
    """Channel that named an item."""

    channel: str
    rank: int = Field(description="place in the channel, from 1")


class Nearest(BaseModel):
    """Liked item because of which another is in a list."""

    item_id: str
    by: str = Field(description="how the two are near: by co-occurrence or by content")
    weight: float
    title: str | None = None


class RecommendedItem(ItemSummary):
    """Item of a list for a user."""

    rank: int
    score: float
    explored: bool = Field(description="drawn at random by `explore`")
    propensity: float = Field(description="probability of this slot")
    reason: str | None = Field(None, description="why, in words")
    evidence: dict[str, Any] | None = Field(
        None, description="liked item, shared facts and cosines that the reason is of"
    )
    sources: list[Source] | None = Field(None, description="channels that named it; of a ranked list")
    nearest: list[Nearest] | None = Field(None, description="liked items it follows from; of a ranked list")
    p: dict[str, float] | None = Field(None, description="event -> probability, or score where it is not calibrated")


class RankedBy(BaseModel):
    """Order of a list by a ranker, or why it has none."""

    model_config = ConfigDict(extra="allow")

    on: bool
    why: str = Field(description="why it did, or did not")
    summary: str | None = Field(None, description="`why` in one clause")
    calibrated: dict[str, bool] | None = Field(
        None, description="event -> whether its `p` is a probability; otherwise it is a score"
    )


class RerankedBy(BaseModel):
    """Order of the head of a list by a reranker, or why it has none."""

    model_config = ConfigDict(extra="allow")

    requested: str
    kind: str = Field(description="that ordered the list; none: nothing did")
    why: str | None = Field(None, description="why it is not the kind that was requested")
    fault: str | None = None
    ms: float | None = None


class Recommendations(Result):
    """Items for one user or history, best first."""

    user_id: str | None = None
    scored_by: str = Field(description="behaviour, or the spaces of content")
    history: int = Field(description="liked items that it is computed from")
    ranked: RankedBy | None = Field(None, description="null where no ranker is fitted")
    rerank: RerankedBy | None = Field(None, description="null where it was not asked for")
    items: list[RecommendedItem]


class RankedItem(ItemSummary):
    """Item of a ranking; one that only the log knows has no title."""

    rank: int | None = Field(description="place, from 1; null for an unknown item")
    state: str = Field(
        description="known; new: without interactions and showings; unknown: in neither catalogue nor log"
    )
    score: float | None = Field(description="weighted sum of log p; null for an unknown item")
    p: dict[str, float] = Field(description="event -> probability, or score where it is not calibrated")
    interval: dict[str, tuple[float, float]] = Field(
        description="event -> ends of the 95 % interval of its probability; of calibrated events alone"
    )


class Ranking(Result):
    """Items for one user, best first, unknown ones last."""

    user_id: str
    at: str = Field(description="time of the request, ISO 8601 in UTC: give it with `cursor`")
    model: str = Field(description="trees, attention or both")
    weights: dict[str, float] = Field(description="event -> weight of its log p in the score")
    calibrated: dict[str, bool] = Field(description="event -> whether its `p` is a probability")
    known_user: bool = Field(description="met or shown anything before")
    actions: int = Field(description="of the user, before the request")
    dropped: int = Field(description="actions of the user that are not before the request, and count for nothing")
    total: int = Field(description="items ranked")
    items: list[RankedItem]
    next_cursor: str | None = None


class AudienceMember(BaseModel):
    """User of an audience."""

    user_id: str
    rank: int
    score: float
    reason: str | None = None
    evidence: dict[str, Any] | None = None


class AudienceResult(Result):
    """Users who are most likely to like an item, best first."""

    item_id: str
    scored_by: str
    by: str
    cold: bool
    users: int = Field(description="users scored")
    met: int = Field(description="users left out, who interacted with it")
    people: list[AudienceMember]


class LabelledItem(BaseModel):
    """Label of one item."""

    item_id: str
    kind: str | None = None
    title: str | None = None
    category: str | None = None
    label: str | None = Field(None, description="its class; null where no score is sure enough, or it has no vector")
    best: str | None = Field(None, description="class that it is most like")
    score: float | None = Field(None, description="how likely that is, of all classes")
    second: str | None = None
    margin: float | None = Field(None, description="by how much less likely the second is")
    media: list[Medium] = Field(default_factory=list)


class LabelResult(Result):
    """Labels of items by classes of the request; nothing is stored."""

    classes: list[str]
    spaces: list[str] = Field(description="that the classes were compared in")
    threshold: float = Field(description="score that a label needs")
    labels: list[LabelledItem]
    counts: dict[str, int] = Field(description="class -> items with that label")


class Problem(BaseModel):
    """Fault of a request (RFC 9457), in the words of the command line."""

    type: str = Field("about:blank")
    title: str = Field(description="kind of the fault in words")
    status: int
    detail: str = Field(description="the value, the place and the next step")
    kind: str = Field(description="as in `--json` of the command line")
    where: str | None = None
    next: str | None = None
    request_id: str | None = None


def media_links(item_id: str, media: Sequence[Mapping[str, Any]] | None) -> list[Medium]:
    """Link the media of an item: its pictures and videos by their place in its row."""
    from urllib.parse import quote

    return [
        Medium(role=str(entry["role"]), href=f"/v1/items/{quote(item_id, safe='')}/media/{place}")
        for place, entry in enumerate(media or ())
    ]


def search_hit(hit: Hit, media: Sequence[Mapping[str, Any]] | None, cold: bool | None) -> SearchHit:
    """Convert a hit of a search."""
    return SearchHit(
        item_id=hit.item_id,
        kind=hit.kind,
        title=hit.title,
        category=hit.category,
        price=hit.price,
        creator=hit.creator,
        cold=cold,
        media=media_links(hit.item_id, media),
        score=hit.score,
        ranks=dict(hit.ranks),
        distances=dict(hit.distances),
        copies=list(hit.copies),
    )
