"""The demo: run the packaged pipeline on the packaged sample catalogue and two copies of its videos, and write a page
of what was found.

Knows the ids and the truth of the sample catalogue, and shows the rows that are right by it, beside the measures over
all; it is no measure of other catalogues.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coldstart import api, sample
from coldstart.core.progress import Progress
from coldstart.pages import SheetRow, Tile, neighbours_html
from coldstart.pages.demo import demo_page
from coldstart.pages.item import format_span, item_page
from coldstart.sample.copies import COPIES, write_catalogue
from coldstart.search.item_report import Link
from coldstart.search.notebook import Hits, ItemView
from coldstart.search.queries import Query

TOP_K = 5
SHOWN = 6
"""Videos with their products on the page, at most."""

WORDS = {
    "a big handful of brown cap mushrooms": "clip-07",
    "beef tomato for the burgers": "clip-19",
    "granny smith or red delicious": "clip-15",
    "spot the difference": "clip-11",
    "pull a leaf": "clip-24",
    "2 for 50 kr this weekend": "clip-22",
}
"""Words that are spoken (the first three) or shown as captions -> the video; its title and tags do not have them."""

LIKED = ("grocery-product-69", "grocery-product-77")
"""Items that the made-up user liked: a pepper and a tomato."""

CARD = "clip-19"
"""Id of a video that has both speech and captions."""

DESCRIBED = (CARD, "clip-01", "clip-07", "grocery-product-01", "grocery-product-45", "grocery-product-37")
"""Items whose descriptions are shown, chosen for their kinds of evidence and not for being right."""


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
class CopyFound:
    """A copy that the demo made: its id, how it was changed, its original, and the item that it was linked to."""

    copy: str
    change: str
    original: str
    found: str | None


@dataclass(frozen=True)
class Result:
    """Results and files of the demo.

    Attributes:
        heard: searches by words that only the media have.
        recommended: titles for the made-up user who liked `liked`.
        recall: mean over the videos of found / shown, among the first `TOP_K`; `chance`: the same for a random order.
        seconds: of the run; `redone`: items that it worked on, 0 where a run before had done all.
        page: what was found, to look at; `neighbours`: all videos; `card`: all that is known of one video.
    """

    items: int
    answers: Sequence[VideoSearch]
    heard: Sequence[WordSearch]
    copies: Sequence[CopyFound]
    liked: Sequence[str]
    recommended: Sequence[str]
    recall: float
    chance: float
    seconds: float
    redone: int
    workspace: Path
    page: Path
    neighbours: Path
    card: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-serialisable values."""
        files = {name: str(getattr(self, name)) for name in ("workspace", "page", "neighbours", "card")}
        return {**asdict(self), **files}


def run_demo(out: Path, progress: Progress | None = None, commands: Sequence[str] = ()) -> Result:
    """Run the demo into a folder; a second time it has little left to do.

    Args:
        commands: for the page, to paste.

    Raises:
        ColdstartError: a starter model is missing, or the folder cannot be written.
    """
    began = time.monotonic()
    workspace = api.open(out / "workspace", create=True)
    manifest = write_catalogue(out / "catalogue")
    report = workspace.run("demo", manifest=manifest, media_roots=[sample.path()], progress=progress)
    found = _search(workspace)
    files = {"page": out / "index.html", "neighbours": out / "neighbours.html", "card": out / f"{CARD}.html"}
    limits = workspace.media_limits()
    item_page(workspace.dossier(CARD).to_dict(), files["card"], limits=limits)
    rows = [SheetRow(found.views[item].tile(), _tiles(found.hits[item], shown)) for item, shown in found.shown.items()]
    neighbours_html(rows, files["neighbours"], "Videos and the products found by their frames", limits=limits)
    described = _descriptions(workspace, found.views)
    seconds = time.monotonic() - began
    result = Result(
        items=len(found.views),
        answers=found.answers(),
        heard=found.heard(),
        copies=found.linked_copies(),
        liked=[found.views[item].title for item in LIKED],
        recommended=[one["title"] or one["item_id"] for one in found.recommended],
        recall=sum(found.shares.values()) / len(found.shares),
        chance=TOP_K / found.products,
        seconds=seconds,
        redone=sum(stage.ran.done for stage in report.stages),
        workspace=out / "workspace",
        **files,
    )
    page = _page_data(workspace, found, result) | {"described": described, "commands": commands}
    demo_page(page, files["page"], limits=limits)
    return result


@dataclass(frozen=True)
class _Findings:
    """Answers of a workspace to the questions of the demo.

    Attributes:
        views: item id -> item; truth: video -> what is known of it.
        shown: video -> ids of the products that it shows; hits: video -> nearest products, best first.
        by_words: words of `WORDS` -> best video for them.
        recommended: items for the made-up user, as `Workspace.recommend` lists them.
        links: copy -> its link to an original, None where none was found.
    """

    views: Mapping[str, ItemView]
    truth: Mapping[str, Any]
    shown: Mapping[str, set[str]]
    hits: Mapping[str, Hits]
    by_words: Mapping[str, Hits]
    recommended: Sequence[Mapping[str, Any]]
    links: Mapping[str, Link | None]

    @property
    def products(self) -> int:
        """Number of products of the catalogue."""
        return sum(view.kind == "product" for view in self.views.values())

    @property
    def shares(self) -> dict[str, float]:
        """Share of each video's products that are among its hits."""
        return {
            item: len(shown & {hit.item_id for hit in self.hits[item]}) / len(shown)
            for item, shown in self.shown.items()
        }

    def answers(self) -> list[VideoSearch]:
        """List the searches by video, in titles."""
        return [
            VideoSearch(
                self.views[item].title,
                sorted(self.views[product].title for product in shown),
                [hit.title or hit.item_id for hit in self.hits[item]],
            )
            for item, shown in self.shown.items()
        ]

    def heard(self) -> list[WordSearch]:
        """List the searches by words, in titles."""
        return [
            WordSearch(words, self.views[WORDS[words]].title, one[0].title or one[0].item_id)
            for words, one in self.by_words.items()
        ]

    def linked_copies(self) -> list[CopyFound]:
        """List the copies with the items that they were linked to."""
        return [
            CopyFound(item, change, original, link.item_id if (link := self.links[item]) else None)
            for item, (original, _, change) in COPIES.items()
        ]


def _search(workspace: api.Workspace) -> _Findings:
    """Search by every video that shows products and by all words, and recommend to the made-up user."""
    truth = _truth()
    shown = {item: set(row["product_ids"]) for item, row in truth.items() if row["product_ids"]}
    by_video = [Query(item, item=item) for item in shown]
    by_words = [Query(words, text=words) for words in WORDS]
    return _Findings(
        views={view.item_id: view for view in workspace.items()},
        truth=truth,
        shown=shown,
        hits=dict(workspace.search_many(by_video, top_k=TOP_K, kind="product", spaces=["image"])),
        by_words=dict(workspace.search_many(by_words, top_k=1, kind="video")),
        recommended=[
            one
            for kind, top_k in (("product", 4), ("video", 2))
            for one in workspace.recommend(history=list(LIKED), kind=kind, top_k=top_k).to_dict()["items"]
        ],
        links={item: workspace.dossier(item).duplicate_of for item in COPIES},
    )


def _page_data(workspace: api.Workspace, found: _Findings, result: Result) -> dict[str, Any]:
    """Gather the data of the page but for its descriptions and commands; see `coldstart.pages.demo`."""
    views = found.views
    whole = [item for item, share in found.shares.items() if share == 1]
    timelines = {row["item_id"]: row["timeline"] for row in workspace.table("stage.understand.evidence").to_pylist()}
    return {
        "items": len(views),
        "products": found.products,
        "videos": len(views) - found.products - len(COPIES),
        "queries": len(found.shown),
        "top_k": TOP_K,
        "recall": result.recall,
        "chance": result.chance,
        "took": _duration(result.seconds),
        "took_by": "from files to this page" if result.redone else "again: nothing was left to do",
        "all_page": result.neighbours.name,
        "card": result.card.name,
        "found": _video_rows(workspace, views, found.truth, whole),
        "words": [
            row
            for words, one in found.by_words.items()
            if one[0].item_id == WORDS[words] and (row := _moment(timelines, views[WORDS[words]], words))
        ],
        "copies": [
            _copy_row(views[item], views[link.item_id], link, change)
            for item, (original, _, change) in COPIES.items()
            if (link := found.links[item]) and link.item_id == original
        ],
        "liked": [_item(views[item]) for item in LIKED],
        "recommended": [{**_item(views[one["item_id"]]), "why": _reason(one, views)} for one in found.recommended],
    }


def _truth() -> dict[str, dict[str, Any]]:
    """Map each video to what is known of it: `product_ids`, and `shots` with their products and times."""
    rows = map(json.loads, (sample.path() / "truth.jsonl").read_text("utf-8").splitlines())
    return {row["item_id"]: row for row in rows}


def _tiles(hits: Hits, shown: set[str]) -> list[Tile]:
    """Convert hits to tiles; those that the video shows are marked."""
    return [
        Tile(
            hit.title or hit.item_id,
            hit.uri,
            hit.kind or "product",
            f"cosine {1 - hit.distances['image']:.2f}{', in the video' if hit.item_id in shown else ''}",
        )
        for hit in hits
    ]


def _item(view: ItemView, seconds: Sequence[float] = (1.0,)) -> dict[str, Any]:
    """Convert an item to the data that the page takes."""
    return {"title": view.title, "uri": view.uri, "kind": view.kind, "seconds": list(seconds)}


def _video_rows(
    workspace: api.Workspace, views: Mapping[str, ItemView], truth: Mapping[str, Any], videos: Sequence[str]
) -> list[dict[str, Any]]:
    """List up to `SHOWN` videos, those of most products first, with the frame nearest to each of their products.

    Left out is a video of which such a frame shows another of its products.
    """
    rows = []
    for item in sorted(videos, key=lambda item: -len(truth[item]["product_ids"])):
        matches = workspace.match(item=item, spaces=["image"], top_k=2 * TOP_K).to_dict()["matches"]
        products = []
        for place, match in enumerate(matches, start=1):
            product = match["item_id"]
            second = (match["frame"] or {}).get("second")
            if second is not None and product in truth[item]["product_ids"]:
                shots = [shot for shot in truth[item]["shots"] if shot["product_id"] == product]
                if any(shot["start_s"] <= second < shot["end_s"] for shot in shots):
                    products.append({**_item(views[product]), "seconds": [second], "place": place})
        if len(products) == len(truth[item]["product_ids"]):
            rows.append({**_item(views[item]), "products": products})
        if len(rows) == SHOWN:
            break
    return rows


def _moment(timelines: Mapping[str, Sequence[Mapping[str, Any]]], view: ItemView, words: str) -> dict[str, Any] | None:
    """Find the entry of a video's timeline that has the words; None where none has all of them."""
    wanted = set(_words(words))
    for entry in timelines[view.item_id]:
        if entry["start_s"] is None or not wanted <= set(_words(entry["text"])):
            continue
        text = entry["text"]
        start, end = _shortest(text, wanted)
        quote = f"{'… ' if start else ''}{text[start:end]}{' …' if _words(text[end:]) else text[end:]}"
        end_s = entry["start_s"] if entry["end_s"] is None else entry["end_s"]
        return {
            **_item(view, [(entry["start_s"] + end_s) / 2]),
            "query": words,
            "source": entry["source"],
            "when": format_span(entry),
            "text": quote,
        }
    return None


def _shortest(text: str, wanted: set[str]) -> tuple[int, int]:
    """Find the shortest part of a text that has all of the words; it must have them."""
    found = [(one[0].casefold(), *one.span()) for one in re.finditer(r"\w+", text)]
    parts = [
        (found[last][2] - found[first][1], found[first][1], found[last][2])
        for first in range(len(found))
        for last in range(first, len(found))
        if wanted <= {word for word, _, _ in found[first : last + 1]}
    ]
    return min(parts)[1:]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in re.findall(r"\w+", text)]


def _copy_row(copy: ItemView, original: ItemView, link: Link, change: str) -> dict[str, Any]:
    """Describe a copy and its original, with pictures of both at three moments that match."""
    match = link.matches[0]
    places = (1 / 6, 1 / 2, 5 / 6)
    here, there = (
        [match[f"{side}start_s"] + place * (match[f"{side}end_s"] - match[f"{side}start_s"]) for place in places]
        for side in ("", "other_")
    )
    seen = ["mirrored"] if link.mirrored else []
    seen += [f"{link.speed:.3g} times as fast"] if link.speed not in (None, 1.0) else []
    return {
        "title": copy.title,
        "original": original.title,
        "copy": _item(copy, here),
        "of": _item(original, there),
        "change": " and ".join(seen) or change,
        "score": link.score,
    }


EVIDENCE = {
    "transcript": "heard",
    "screen_text": "on screen",
    "description": "of the seller",
    "record": "record",
    "predicted": "predicted",
    "title": "title",
}
"""Source of the evidence of a statement -> words for it; others by their name."""


def _descriptions(workspace: api.Workspace, views: Mapping[str, ItemView]) -> list[dict[str, Any]]:
    """List the descriptions of `DESCRIBED`, each statement with its evidence, whether right or not."""
    rows = {row["item_id"]: row for row in workspace.table("stage.describe.check").to_pylist()}
    return [
        {
            **_item(views[item]),
            "statements": [
                {"text": one["value"], "why": _why(one)} for one in rows[item]["grounds"] if one["claim"] == "summary"
            ],
            "claims": [{**one, "why": _why(one)} for one in rows[item]["attributes"]],
        }
        for item in DESCRIBED
        if item in rows and rows[item]["summary"]
    ]


def _reason(recommended: Mapping[str, Any], views: Mapping[str, ItemView]) -> str:
    """Explain a recommendation in few words: what the item shares with a liked one, or in which space it is near."""
    evidence = recommended["evidence"]
    if evidence["because"] is None:
        return str(recommended["reason"])
    shared = [one["value"] for one in evidence["shared"] if one["field"] in ("tags", "category")]
    nearest = max(evidence["cosines"], key=evidence["cosines"].get, default="")
    why = f"both {', '.join(reversed(shared))}" if shared else f"similar by {nearest}"
    return f"as {views[evidence['because']].title!r}: {why}"


def _why(claim: Mapping[str, Any]) -> str:
    """Name the evidence of a claim: where its words stand, or the facts it was made of."""
    if claim["ground"] == "facts":
        return str(claim["detail"])
    evidence = EVIDENCE.get(claim["ground"], claim["ground"].replace("_", " "))
    return evidence if claim["ground"] in ("description", "record") else f"{evidence}: {claim['detail']}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60} s"
