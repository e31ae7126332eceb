"""The demo: run the packaged pipeline on the packaged sample catalogue, then search by every sample video and by words
that are only spoken or only shown in a video.

Knows the ids of the sample catalogue; it is no measure of other catalogues.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coldstart import api, sample
from coldstart.core.progress import Progress
from coldstart.pages import SheetRow, Tile, contact_sheet, neighbours_html
from coldstart.pages.item import item_page
from coldstart.search.notebook import Hits
from coldstart.search.queries import Query

TOP_K = 5
PICTURED = 12
"""Videos in the picture; the page shows all of them."""

DESCRIBED = 6
"""Descriptions in the result."""

WORDS = {
    "the foam is better with the first one": "clip-23",
    "trust me, salt it first": "clip-27",
    "can you tell them apart?": "clip-05",
    "spot the difference": "clip-11",
    "pull a leaf": "clip-24",
}
"""Words that are spoken (the first three) or shown as captions -> the video; its title and tags do not have them."""

CARD = "clip-19"
"""Id of a video that has both speech and captions."""


@dataclass(frozen=True)
class VideoSearch:
    """One video as a query: titles of the products that it shows, and of the results, best first."""

    video: str
    shown: Sequence[str]
    found: Sequence[str]


@dataclass(frozen=True)
class WordSearch:
    """Words as a query: the title of the video that speaks or shows them, and of the first result."""

    words: str
    video: str
    found: str


@dataclass(frozen=True)
class DescribedItem:
    """An item held out of the writer's fit: its title, the checked summary, its claims as `attribute: value (ground)`,
    and the claims that the checks cut."""

    title: str
    summary: str
    claims: Sequence[str]
    cut: Sequence[str]


@dataclass(frozen=True)
class Result:
    """Results and files of the demo.

    Attributes:
        heard: searches by words that only the media have.
        told: descriptions of items held out of the fit of the writer.
        card: page of all that is known of one video.
        recall: mean over the videos of found / shown, among the first `TOP_K`; `chance`: the same for a random order.
    """

    items: int
    answers: Sequence[VideoSearch]
    heard: Sequence[WordSearch]
    told: Sequence[DescribedItem]
    recall: float
    chance: float
    picture: Path
    page: Path
    card: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-serialisable values."""
        return {**asdict(self), "picture": str(self.picture), "page": str(self.page), "card": str(self.card)}


def run_demo(out: Path, progress: Progress | None = None) -> Result:
    """Run the demo into a folder; a second time it has little left to do.

    Raises:
        ColdstartError: a starter model is missing, or the folder cannot be written.
    """
    workspace = api.open(out / "workspace", create=True)
    workspace.run("demo", progress=progress)
    truth = _truth(sample.path() / "truth.jsonl")
    views = {view.item_id: view for view in workspace.items()}
    videos = [item for item in truth if truth[item]]
    answers = dict(
        workspace.search_many(
            [Query(item, item=item) for item in videos], top_k=TOP_K, kind="product", spaces=["image"]
        )
    )
    products = sum(view.kind == "product" for view in views.values())
    recalls = [len(truth[item] & {hit.item_id for hit in answers[item]}) / len(truth[item]) for item in videos]
    rows = [SheetRow(views[item].tile(), _tiles(answers[item], truth[item])) for item in videos]
    by_words = workspace.search_many([Query(words, text=words) for words in WORDS], top_k=1, kind="video")
    picture, page, card = out / "neighbours.png", out / "neighbours.html", out / f"{CARD}.html"
    item_page(workspace.dossier(CARD).to_dict(), card)
    contact_sheet(rows[:PICTURED], picture)
    neighbours_html(rows, page, "Videos and the products found by their frames")
    return Result(
        items=len(views),
        answers=[
            VideoSearch(
                views[item].title,
                sorted(views[shown].title for shown in truth[item]),
                [h.title or h.item_id for h in answers[item]],
            )
            for item in videos
        ],
        heard=[
            WordSearch(words, views[WORDS[words]].title, hits[0].title or hits[0].item_id) for words, hits in by_words
        ],
        told=[_described(workspace, item) for item in _held_out(workspace)[:DESCRIBED]],
        recall=sum(recalls) / len(recalls),
        chance=TOP_K / products,
        picture=picture,
        page=page,
        card=card,
    )


def _held_out(workspace: api.Workspace) -> list[str]:
    """Items held out of the newest fit of the writer."""
    sides = workspace.fitted("finetune.describe")
    return sorted(item for item, side in sides.items() if side == "test")


def _described(workspace: api.Workspace, item: str) -> DescribedItem:
    known = workspace.dossier(item)
    description = known.described
    return DescribedItem(
        title=known.item["title"] or item,
        summary=description.get("summary") or "",
        claims=[f"{one['name']}: {one['value']} ({one['ground']})" for one in description.get("attributes") or ()],
        cut=[f"{one['claim']}: {one['value']} ({one['reason']})" for one in description.get("cut") or ()],
    )


def _truth(path: Path) -> dict[str, set[str]]:
    """Map each video to the products that it shows."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["item_id"]: set(row["product_ids"]) for row in rows}


def _tiles(hits: Hits, shown: set[str]) -> list[Tile]:
    """Hits as tiles; those that the video shows are marked."""
    return [
        Tile(
            hit.title or hit.item_id,
            hit.uri,
            hit.kind or "product",
            f"cosine {1 - hit.distances['image']:.2f}{', in the video' if hit.item_id in shown else ''}",
        )
        for hit in hits
    ]
